//! What may stand in a log: of a run with the log at its loudest, every secret that the run made, was given or refused is looked
//! for in every form that a line could hold it in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Key, sas};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use server::client::{Answer, Https, Login, MqttClient, Trust};
use tokio_rustls::TlsConnector;

use super::{Server, client, log_in, own_address};

const HUBS: &str = "2023-06-30";
const SERVICES: &str = "2022-12-12";
const EVENT_HUBS: &str = "2024-01-01";
const TWINS: &str = "2023-01-31";
const TWINS_DATA: &str = "2023-10-31";

/// Every secret of a run, with where it came from.
#[derive(Default)]
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// A secret, or the secret part of a connection string or token.
    fn add(&mut self, from: &str, text: &str) {
        // Resource Manager shows masks, or nothing yet.
        if text.is_empty() || text.contains("***") {
            return;
        }
        for part in text.split([';', '&', ' ']) {
            let part = ["SharedAccessKey=", "sig="].iter().find_map(|name| part.strip_prefix(name));
            if let Some(secret) = part {
                self.0.insert(secret.to_owned(), from.to_owned());
                self.0
                    .insert(percent_decode_str(secret).decode_utf8().unwrap().into_owned(), from.to_owned());
            }
        }
        if !text.contains(['=', ' ']) || text.ends_with('=') && !text.contains(';') {
            self.0.insert(text.to_owned(), from.to_owned());
        }
    }

    /// Whatever a body calls a key or a connection string.
    fn add_all(&mut self, from: &str, body: &Value) {
        match body {
            Value::Array(items) => items.iter().for_each(|item| self.add_all(from, item)),
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        Value::String(text) if is_secret(name) => self.add(&format!("{from} {name}"), text),
                        value => self.add_all(from, value),
                    }
                }
            }
            _ => {}
        }
    }

    /// Where each secret that stands in `log` came from.
    fn found_in(&self, log: &str) -> Vec<&str> {
        let is_there = |secret: &str| forms(secret).iter().any(|form| log.contains(form.as_str()));
        self.0.iter().filter(|(secret, _)| is_there(secret)).map(|(_, from)| from.as_str()).collect()
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["primarykey", "secondarykey", "connectionstring", "access_token", "accesskey1"]
        .iter()
        .any(|known| name.ends_with(known))
}

/// As text, escaped for a URL, and as `Debug` prints bytes; and all of that for the bytes that a key stands for.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()];
    for bytes in [Some(secret.as_bytes().to_vec()), STANDARD.decode(secret).ok()].into_iter().flatten() {
        let listed: Vec<String> = bytes.iter().map(u8::to_string).collect();
        forms.push(listed.join(", "));
        forms.push(bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }));
    }
    forms
}

struct Run {
    server: Server,
    https: Https,
    trust: Trust,
    variables: BTreeMap<String, String>,
    token: String,
    secrets: Secrets,
}

impl Run {
    async fn start(directory: &Path, log: &Path) -> Self {
        let address = own_address();
        let mut command = Server::command(directory, &address);
        command.env("TWINHUB_LOG", "trace").stderr(std::fs::File::create(log).unwrap());
        let server = Server::spawn(command, address);
        let (variables, token) = log_in(directory).await;
        let mut secrets = Secrets::default();
        for (name, value) in &variables {
            if name.contains("SECRET") || name.contains("CONNECTION_STRING") {
                secrets.add(name, value);
            }
        }
        secrets.add("a token of Resource Manager", token.trim_start_matches("Bearer "));
        let admin = std::fs::read_to_string(directory.join("admin.key")).unwrap();
        secrets.add("admin.key", admin.trim());
        let pem = std::fs::read_to_string(directory.join("ca-key.pem")).unwrap();
        pem.lines().filter(|line| !line.starts_with('-')).for_each(|line| {
            secrets.0.insert(line.to_owned(), "ca-key.pem".to_owned());
        });
        let trust = Trust::only(&std::fs::read_to_string(directory.join("ca.pem")).unwrap()).unwrap();
        Self { server, https: client(directory), trust, variables, token, secrets }
    }

    async fn send(&self, method: &str, path: &str, authorization: &str, body: &str) -> Answer {
        let kind = if path.starts_with("/digitaltwins/") && method == "PATCH" {
            "application/json-patch+json"
        } else {
            "application/json"
        };
        let headers = [("authorization", authorization), ("content-type", kind)];
        self.https.send(method, &self.server.url(path), &headers, body.to_owned()).await.unwrap()
    }

    fn provider(&self, rest: &str) -> String {
        let subscription = &self.variables["AZURE_SUBSCRIPTION_ID"];
        format!("/subscriptions/{subscription}/resourceGroups/twinhub/providers/{rest}")
    }

    /// A call to Resource Manager, repeated until its resource is made. Every key in the answer is remembered.
    async fn manage(&mut self, method: &str, rest: &str, version: &str, body: &Value) -> Value {
        let path = format!("{}?api-version={version}", self.provider(rest));
        let answer = self.send(method, &path, &self.token, &body.to_string()).await;
        assert!(answer.status.is_success(), "{method} {rest}: {} {}", answer.status, answer.json());
        let answer = answer.json();
        self.secrets.add_all(rest, &answer);
        if method == "PUT" {
            wait_until(rest, async || {
                let now = self.send("GET", &path, &self.token, "").await.json();
                // A resource that is its own state has none.
                now["properties"].get("provisioningState").is_none_or(|state| state == "Succeeded")
            })
            .await;
        }
        answer
    }

    /// A token signed with `key`, remembered.
    fn sign(&mut self, resource: &str, key: &Key, policy: Option<&str>) -> String {
        let soon = Clock::system().now().plus(Duration::from_hours(1));
        let token = sas::build(resource, key, soon, policy);
        self.secrets.add("a token", &token);
        token
    }

    fn policy_token(&mut self, variable: &str) -> String {
        let string = self.variables[variable].clone();
        let field = |name: &str| {
            let field = string.split(';').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            field.unwrap().to_owned()
        };
        let key = field("SharedAccessKey").parse().unwrap();
        self.sign(&field("HostName"), &key, Some(&field("SharedAccessKeyName")))
    }

    async fn entra(&mut self, headers: &[(&str, &str)], secret: Option<&str>, audience: &str) -> Value {
        let url = self.server.url("/adfs/oauth2/token");
        let mut form = format!("grant_type=client_credentials&resource={audience}");
        if let Some(secret) = secret {
            let client_id = &self.variables["AZURE_CLIENT_ID"];
            let _ = write!(form, "&client_id={client_id}&client_secret={secret}");
        }
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        let answer = self.https.send("POST", &url, &all, form).await.unwrap().json();
        self.secrets.add_all("Entra", &answer);
        answer
    }
}

/// Endpoints with keys, of which one is reached by no adapter, and a change that is routed there.
async fn deliver_to_nobody(run: &mut Run, log: &Path) {
    let twins = "Microsoft.DigitalTwins/digitalTwinsInstances/twins";
    let namespace = "Microsoft.EventHub/namespaces/secrets";
    let place = json!({"location": "eastus", "sku": {"name": "Standard"}});
    run.manage("PUT", namespace, EVENT_HUBS, &place).await;
    run.manage("PUT", &format!("{namespace}/eventhubs/hub"), EVENT_HUBS, &json!({"properties": {}})).await;
    let keys = format!("{namespace}/authorizationRules/RootManageSharedAccessKey/listKeys");
    run.manage("POST", &keys, EVENT_HUBS, &Value::Null).await;
    let far = Key::generate(32);
    let string = format!(
        "Endpoint=sb://far.servicebus.example.test/;SharedAccessKeyName=n;SharedAccessKey={};EntityPath=e",
        far.text()
    );
    run.secrets.add("the key of an endpoint", &string);
    run.secrets.add("the signature of a dead letter container", "sv=1&sig=c2lnbmF0dXJlIG9mIGEgYmxvYg%3D%3D");
    let bus = json!({"properties": {"endpointType": "ServiceBus", "authenticationType": "KeyBased",
        "primaryConnectionString": string,
        "deadLetterSecret": "https://a.blob.example.test/c?sv=1&sig=c2lnbmF0dXJlIG9mIGEgYmxvYg%3D%3D"}});
    run.manage("PUT", &format!("{twins}/endpoints/far"), TWINS, &bus).await;
    let topic = json!({"properties": {"endpointType": "EventGrid", "authenticationType": "KeyBased",
        "TopicEndpoint": "https://topic.example.test/api/events?code=dG9waWMgY29kZSBoaWRkZW4=",
        "accessKey1": "dG9waWMga2V5IGhpZGRlbiBoZXJl", "accessKey2": "dG9waWMga2V5IGhpZGRlbiB0b28h"}});
    for hidden in ["dG9waWMgY29kZSBoaWRkZW4=", "dG9waWMga2V5IGhpZGRlbiBoZXJl", "dG9waWMga2V5IGhpZGRlbiB0b28h"]
    {
        run.secrets.add("the key of a topic", hidden);
    }
    run.manage("PUT", &format!("{twins}/endpoints/topic"), TWINS, &topic).await;

    let secret = run.variables["AZURE_CLIENT_SECRET"].clone();
    let token = run.entra(&[], Some(&secret), "https://digitaltwins.azure.net").await;
    let token = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let model = json!([{"@id": "dtmi:test:Pump;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2"}]);
    let twin = json!({"$metadata": {"$model": "dtmi:test:Pump;1"}});
    let route = |endpoint: &str| json!({"endpointName": endpoint, "filter": "true"});
    for (method, path, body) in [
        ("POST", "/models", model),
        ("PUT", "/eventroutes/far", route("far")),
        ("PUT", "/eventroutes/topic", route("topic")),
        ("PUT", "/digitaltwins/pump", twin),
    ] {
        let path = format!("{path}?api-version={TWINS_DATA}");
        let answer = run.send(method, &path, &token, &body.to_string()).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.json());
    }
    for words in ["no adapter reaches the Service Bus topic", "no adapter reaches the Event Grid topic"] {
        wait_until(words, async || std::fs::read_to_string(log).unwrap().contains(words)).await;
    }
}

/// Looks again and again: another process's clock moves by waiting alone.
async fn wait_until(what: &str, holds: impl AsyncFn() -> bool) {
    let looks = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), looks).await.unwrap_or_else(|_| panic!("not seen: {what}"));
}

/// Devices that come in and devices that are refused, over both doors; registrations too.
async fn devices_come_and_are_refused(run: &mut Run) {
    for (resource, version) in [("IotHubs/hub", HUBS), ("provisioningServices/dps", SERVICES)] {
        let keys = format!("Microsoft.Devices/{resource}/listkeys");
        let keys = run.manage("POST", &keys, version, &Value::Null).await;
        assert!(keys["value"].as_array().is_some_and(|keys| !keys.is_empty()), "{keys}");
    }
    let owner = run.policy_token("IOTHUB_CONNECTION_STRING");
    let made = run.send("PUT", "/devices/dev1?api-version=2021-04-12", &owner, r#"{"deviceId": "dev1"}"#);
    let made = made.await.json();
    run.secrets.add_all("dev1", &made);
    let key: Key = made["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap().parse().unwrap();
    let resource = format!("{}/devices/dev1", run.server.address);
    let user_name = format!("{}/dev1/?api-version=2021-04-12", run.server.address);
    for (key, is_let_in) in [(key, true), (Key::generate(32), false)] {
        let password = run.sign(&resource, &key, None);
        let login =
            Login { client_id: "dev1", user_name: &user_name, password: &password, clean_session: true };
        let device = MqttClient::connect(&run.trust, &run.server.address, 8883, &login).await;
        assert_eq!(device.is_ok(), is_let_in);
        run.send("POST", "/devices/dev1/messages/events?api-version=2021-04-12", &password, "{}").await;
        // Some clients write the token into the address.
        let token = utf8_percent_encode(&password, NON_ALPHANUMERIC).to_string();
        run.send("GET", &format!("/twins/dev1?api-version=2021-04-12&authorization={token}"), "", "").await;
    }
    let stranger = run.sign(&run.server.address.clone(), &Key::generate(32), Some("iothubowner"));
    assert_eq!(run.send("GET", "/devices/dev1?api-version=2021-04-12", &stranger, "").await.status, 401);

    let service = run.policy_token("PROVISIONING_CONNECTION_STRING");
    let body = r#"{"registrationId": "dev2", "attestation": {"type": "symmetricKey"}}"#;
    let made = run.send("PUT", "/enrollments/dev2?api-version=2021-10-01", &service, body).await;
    assert!(made.status.is_success(), "{}", made.json());
    let details = "/enrollments/dev2/attestationmechanism?api-version=2021-10-01";
    let details = run.send("POST", details, &service, "").await.json();
    run.secrets.add_all("dev2", &details);
    let key: Key = details["symmetricKey"]["primaryKey"].as_str().unwrap().parse().unwrap();
    let scope = run.variables["PROVISIONING_IDSCOPE"].clone();
    let path = format!("/{scope}/registrations/dev2/register?api-version=2021-06-01");
    for (key, status) in [(Key::generate(64), 401), (key, 202)] {
        let token = run.sign(&format!("{scope}/registrations/dev2"), &key, Some("registration"));
        let answer = run.send("PUT", &path, &token, r#"{"registrationId": "dev2"}"#).await;
        assert_eq!(answer.status, status, "{}", answer.json());
    }
}

/// Logins that are refused and bodies that are broken, with secrets in them.
async fn mistakes_are_made(run: &mut Run) {
    for (n, refused) in ["d3JvbmcgY2xpZW50IHNlY3JldA==", "not-the-secret-of-anybody"].iter().enumerate() {
        run.secrets.add("a refused client secret", refused);
        let audience = run.variables["AZURE_RESOURCE_MANAGER_AUDIENCE"].clone();
        let basic = STANDARD.encode(format!("{}:{refused}{n}", run.variables["AZURE_CLIENT_ID"]));
        run.secrets.add("a refused basic header", &basic);
        assert!(run.entra(&[], Some(refused), &audience).await["error"].is_string());
        let header = format!("Basic {basic}");
        assert!(run.entra(&[("authorization", &header)], None, &audience).await["error"].is_string());
    }
    let broken = "YnJva2VuIGJvZHkgd2l0aCBhIGtleSBpbiBpdA==";
    run.secrets.add("a broken body", broken);
    let owner = run.policy_token("IOTHUB_CONNECTION_STRING");
    let service = run.policy_token("PROVISIONING_CONNECTION_STRING");
    let manager = run.token.clone();
    let endpoint = run.provider("Microsoft.DigitalTwins/digitalTwinsInstances/twins/endpoints/broken");
    let hub = run.provider("Microsoft.Devices/IotHubs/broken");
    let (endpoint, hub) = (format!("{endpoint}?api-version={TWINS}"), format!("{hub}?api-version={HUBS}"));
    for (path, authorization) in [
        ("/devices/broken?api-version=2021-04-12", &owner),
        ("/enrollments/broken?api-version=2021-10-01", &service),
        (endpoint.as_str(), &manager),
        (hub.as_str(), &manager),
    ] {
        for body in [
            format!(r#"{{"primaryKey": "{broken}""#),
            format!(r#""{broken}""#),
            format!(
                r#"{{"properties": "{broken}", "authentication": "{broken}", "attestation": "{broken}"}}"#
            ),
            format!(
                r#"{{"deviceId": "broken", "registrationId": "broken", "location": "eastus",
                "authentication": {{"symmetricKey": {{"primaryKey": "{broken}"}}}},
                "attestation": {{"type": "symmetricKey", "symmetricKey": {{"primaryKey": "!{broken}"}}}},
                "properties": {{"endpointType": "ServiceBus", "primaryConnectionString": "SharedAccessKey={broken}",
                    "authorizationPolicies": [{{"keyName": "a b", "rights": "{broken}", "primaryKey": "{broken}"}}]}}}}"#
            ),
        ] {
            let answer = run.send("PUT", path, authorization, &body).await;
            assert!(answer.status.is_client_error(), "{path}: {} to {body}", answer.status);
        }
    }
}

/// A request over HTTP/2, whose library has much to say about the headers it decodes.
async fn ask_over_http2(run: &Run) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&run.variables["TWINHUB_CA_FILE"]).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = tokio::net::TcpStream::connect((run.server.address.as_str(), 8443)).await.unwrap();
    let name = ServerName::try_from(run.server.address.clone()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, hyper_util::rt::TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let request = http::Request::get(run.server.url("/subscriptions?api-version=2022-12-01"))
        .header("authorization", &run.token)
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_mins(1), sender.send_request(request)).await;
    assert_eq!(answer.unwrap().unwrap().status(), 200);
}

/// No answer holds it, so it is read where a server that has ended leaves it.
async fn signing_key(data: &Path) -> String {
    let location = store::Location::File(data.to_owned());
    let store = store::Store::open(&store::Options::new(location, store::Durability::Relaxed)).unwrap();
    let tenants = store.scan::<Tenant>(store::Scan::new(store::Key::all(), 10)).await.unwrap();
    let text = tenants[0].record.0.to_string();
    let key = text.split(r#""pkcs8":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(STANDARD.decode(key).unwrap().len() > 1000, "the whole of an RSA key");
    key.to_owned()
}

/// The tenant as it is stored, unread.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Tenant(Value);

impl store::Record for Tenant {
    const TABLE: store::Table = store::table::TENANT;

    fn key(&self) -> store::Key {
        store::Key::new(["tenant"])
    }
}

#[tokio::test]
async fn no_secret_of_a_run_stands_in_its_log_at_any_level() {
    if !test_postgres::runs_embedded("it opens the file of records beside the server") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("stderr.log");
    let mut run = Run::start(&directory.path().join("data"), &log).await;
    deliver_to_nobody(&mut run, &log).await;
    devices_come_and_are_refused(&mut run).await;
    mistakes_are_made(&mut run).await;
    ask_over_http2(&run).await;
    let Run { server, mut secrets, .. } = run;
    // Not on this thread, which the client of HTTP/2 needs to take its leave.
    assert!(tokio::task::spawn_blocking(|| server.terminate()).await.unwrap().success());
    secrets.0.insert(signing_key(&directory.path().join("data")).await, "token signing key".to_owned());
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(
        log.contains("DEBUG") && log.contains("signed with another key"),
        "the log was not at its loudest"
    );
    assert!(secrets.0.len() > 40, "only {} secrets were made", secrets.0.len());
    assert_eq!(secrets.found_in(&log), Vec::<&str>::new());
}
