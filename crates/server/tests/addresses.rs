//! The built binary at its addresses, over real sockets: which host its answers carry, and what becomes of an instance's own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of a test end it like the test itself")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use base::{Key, Timestamp, sas};
use mqtt::codec::Qos;
use serde_json::{Value, json};
use server::client::{Answer, Https, Login, MqttClient, Trust};

/// Waits on another process's clock, which only waiting moves.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until there is an answer.
async fn in_time<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A loopback address that no other test has.
fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{}.{}", 100 + high % 100, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Ports that are free on every address.
fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

struct Server {
    directory: tempfile::TempDir,
    child: Child,
    https_port: u16,
    variables: BTreeMap<String, String>,
    https: Https,
    trust: Trust,
}

impl Server {
    fn start(arguments: &[&str], [https_port, mqtt_port]: [u16; 2]) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), arguments, [https_port, mqtt_port])
    }

    fn start_on(directory: tempfile::TempDir, arguments: &[&str], [https_port, mqtt_port]: [u16; 2]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_twinhub"))
            .args(["serve", "--durability", "relaxed", "--data-dir"])
            .arg(directory.path())
            .args(arguments)
            .env("TWINHUB_PORTS__HTTPS", https_port.to_string())
            .env("TWINHUB_PORTS__HTTPS_STANDARD", "0")
            .env("TWINHUB_PORTS__MQTT", mqtt_port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready_line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready_line).unwrap();
        assert!(ready_line.starts_with("twinhub is ready "), "{ready_line:?}");
        let variables = environment(directory.path());
        let pem = std::fs::read_to_string(&variables["TWINHUB_CA_FILE"]).unwrap();
        let trust = || Trust::only(&pem).unwrap();
        let https = Https::new(trust());
        Self { trust: trust(), directory, child, https_port, variables, https }
    }

    /// The token of the principal for Resource Manager.
    async fn log_in(&self) -> String {
        let value = |name: &str| self.variables[name].as_str();
        let url = format!("{}/{}/oauth2/token", value("AZURE_AUTHORITY_HOST"), value("AZURE_TENANT_ID"));
        let body = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope={}/.default",
            value("AZURE_CLIENT_ID"),
            value("AZURE_CLIENT_SECRET"),
            value("AZURE_RESOURCE_MANAGER_AUDIENCE"),
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.https.ask("POST", &url, &headers, body).await.unwrap();
        format!("Bearer {}", answer.json()["access_token"].as_str().unwrap())
    }

    /// A request about a hub to Resource Manager at `address`.
    async fn manage(&self, token: &str, method: &str, address: &str, hub: &str) -> Answer {
        let url = format!(
            "https://{address}:{}/subscriptions/{}/resourceGroups/twinhub/providers/Microsoft.Devices/IotHubs/{hub}?api-version=2023-06-30",
            self.https_port, self.variables["AZURE_SUBSCRIPTION_ID"]
        );
        let body = if method == "PUT" {
            "{\"location\": \"eastus\", \"sku\": {\"name\": \"S1\", \"capacity\": 1}}"
        } else {
            ""
        };
        let headers = [("authorization", token), ("content-type", "application/json")];
        self.https.send(method, &url, &headers, body).await.unwrap()
    }

    /// Makes a hub and gives the host that it is told to be at.
    async fn make_hub(&self, token: &str, address: &str, hub: &str) -> String {
        let made = self.manage(token, "PUT", address, hub).await;
        assert_eq!(made.status, 201, "{}", made.json());
        in_time("a new hub", async || {
            let properties = self.manage(token, "GET", address, hub).await.json()["properties"].clone();
            let is_made = properties["state"] == "Active";
            is_made.then(|| properties["hostName"].as_str().unwrap().to_owned())
        })
        .await
    }

    async fn remove_hub(&self, token: &str, address: &str, hub: &str) {
        self.manage(token, "DELETE", address, hub).await;
        in_time("a removed hub", async || {
            (self.manage(token, "GET", address, hub).await.status == 404).then_some(())
        })
        .await;
    }

    /// The key in a connection string.
    fn key_of(&self, variable: &str) -> Key {
        self.variables[variable].rsplit_once("SharedAccessKey=").unwrap().1.parse().unwrap()
    }

    /// Ends it and gives its log.
    fn said(mut self) -> String {
        let mut stderr = self.child.stderr.take().unwrap();
        self.child.kill().unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn environment(directory: &Path) -> BTreeMap<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let output = command.args(["env", "--format", "json", "--data-dir"]).arg(directory).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn soon() -> Timestamp {
    base::Clock::system().now().plus(Duration::from_hours(1))
}

fn is_refused(address: &str, port: u16) -> bool {
    matches!(TcpStream::connect((address, port)), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn a_further_hub_has_an_address_of_its_own_as_long_as_it_lives() {
    let address = own_address();
    let server = Server::start(&["--listen", &address], [8443, 8883]);
    let token = server.log_in().await;
    let mut first = None;
    for _ in 0..2 {
        let own = server.make_hub(&token, &address, "second").await;
        assert!(own.starts_with("127.0.") && own != address, "{own}");
        assert_eq!(*first.get_or_insert_with(|| own.clone()), own, "made again, it is where it was");
        // The certificate that trust is checked against must name that address too.
        let url = format!("https://{own}:8443/devices/x?api-version=2021-04-12");
        assert_eq!(server.https.send("GET", &url, &[], "").await.unwrap().status, 401);
        server.remove_hub(&token, &address, "second").await;
        for port in [8443, 8883] {
            assert!(is_refused(&own, port), "{own}:{port}");
        }
    }
}

#[tokio::test]
async fn no_hub_is_given_the_servers_own_address() {
    let address = own_address();
    let first = Server::start(&["--listen", &address], [8443, 8883]);
    let hub_host = first.make_hub(&first.log_in().await, &address, "third").await;
    drop(first);
    let server = Server::start(&["--listen", &hub_host], [8443, 8883]);
    let token = server.log_in().await;
    let moved = server.make_hub(&token, &hub_host, "third").await;
    assert_ne!(moved, hub_host);
    let default = server.manage(&token, "GET", &hub_host, "hub").await;
    assert_eq!(default.json()["properties"]["hostName"], *hub_host, "the server still answers for itself");
}

#[tokio::test]
async fn two_servers_on_one_address_are_told_apart_by_their_ports() {
    let (address, [https_port, mqtt_port]) = (own_address(), free_ports());
    let usual = Server::start(&["--listen", &address], [8443, 8883]);
    let other = Server::start(&["--listen", &address], [https_port, mqtt_port]);
    for (server, mqtt_port) in [(&usual, 8883), (&other, mqtt_port)] {
        assert_eq!(server.variables["TWINHUB_MQTT_PORT"], mqtt_port.to_string());
        let host = format!("{address}:{}", server.https_port);
        for name in ["IOTHUB_CONNECTION_STRING", "PROVISIONING_CONNECTION_STRING"] {
            assert!(server.variables[name].starts_with(&format!("HostName={host};")), "{name}");
        }
        assert_eq!(server.variables["AZURE_DIGITALTWINS_URL"], format!("https://{host}"));
        assert_eq!(server.variables["IOTHUB_HOSTNAME"], address, "devices' clients take no port");
        // As the SDKs do: host and audience are what the connection string says.
        let token =
            sas::build(&host, &server.key_of("IOTHUB_CONNECTION_STRING"), soon(), Some("iothubowner"));
        let url = format!("https://{host}/statistics/devices?api-version=2021-04-12");
        let answer = server.https.send("GET", &url, &[("authorization", &token)], "").await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let said = other.said();
    assert!(
        said.contains(&format!("MQTT is on port {mqtt_port}. SDKs for devices cannot be told")),
        "{said}"
    );
    assert!(!usual.said().contains("MQTT is on port"));
}

/// Registers `dev-1` over HTTPS and gives the hub that it is told.
async fn register_over_https(server: &Server, address: &str, token: &str, scope: &str) -> String {
    let headers = [("authorization", token), ("content-type", "application/json")];
    let base = format!("https://{address}:{}/{scope}/registrations/dev-1", server.https_port);
    let url = format!("{base}/register?api-version=2021-06-01");
    let begun =
        server.https.ask("PUT", &url, &headers, "{\"registrationId\": \"dev-1\"}").await.unwrap().json();
    let url = format!("{base}/operations/{}?api-version=2021-06-01", begun["operationId"].as_str().unwrap());
    in_time("an assignment", async || {
        let told = server.https.ask("GET", &url, &headers, "").await.unwrap().json();
        told["registrationState"]["assignedHub"].as_str().map(str::to_owned)
    })
    .await
}

/// The same over MQTT.
async fn register_over_mqtt(server: &Server, address: &str, token: &str, scope: &str) -> String {
    let user_name = format!("{scope}/registrations/dev-1/api-version=2019-03-31");
    let login = Login { client_id: "dev-1", user_name: &user_name, password: token, clean_session: true };
    let port = server.variables["TWINHUB_MQTT_PORT"].parse().unwrap();
    let mut device = MqttClient::connect(&server.trust, address, port, &login).await.unwrap();
    device.subscribe("$dps/registrations/res/#", Qos::AtLeastOnce).await.unwrap();
    let register = "$dps/registrations/PUT/iotdps-register/?$rid=1";
    device.publish(register, "{\"registrationId\": \"dev-1\"}").await.unwrap();
    in_time("an assignment", async || {
        let answer = device.next_publish().await.unwrap();
        let told: Value = serde_json::from_slice(&answer.payload).unwrap();
        let hub = told["registrationState"]["assignedHub"].as_str();
        if hub.is_none() {
            let operation = told["operationId"].as_str().unwrap();
            let poll =
                format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId={operation}");
            device.publish(&poll, "").await.unwrap();
        }
        hub.map(str::to_owned)
    })
    .await
}

async fn enroll(server: &Server, address: &str, key: &Key) {
    let host = format!("{address}:{}", server.https_port);
    let owner = server.key_of("PROVISIONING_CONNECTION_STRING");
    let token = sas::build(&host, &owner, soon(), Some("provisioningserviceowner"));
    let keys = json!({"primaryKey": key.text(), "secondaryKey": key.text()});
    let attestation = json!({"type": "symmetricKey", "symmetricKey": keys});
    let body = json!({"registrationId": "dev-1", "attestation": attestation}).to_string();
    let headers = [("authorization", token.as_str()), ("content-type", "application/json; charset=utf-8")];
    let url = format!("https://{host}/enrollments/dev-1?api-version=2021-10-01");
    server.https.ask("PUT", &url, &headers, body).await.unwrap();
}

#[tokio::test]
async fn on_all_addresses_each_client_is_told_the_one_that_it_dialled() {
    let server = Server::start(&["--listen", "0.0.0.0"], free_ports());
    let (token, key) = (server.log_in().await, Key::generate(64));
    enroll(&server, "127.0.0.5", &key).await;
    let scope = server.variables["PROVISIONING_IDSCOPE"].clone();
    let resource = format!("{scope}/registrations/dev-1");
    let registration = sas::build(&resource, &key, soon(), Some("registration"));
    for address in ["127.0.0.5", "127.0.0.6"] {
        let hub = server.manage(&token, "GET", address, "hub").await.json();
        assert_eq!(hub["properties"]["hostName"], address);
        assert_eq!(register_over_https(&server, address, &registration, &scope).await, address);
        let hub = register_over_mqtt(&server, address, &registration, &scope).await;
        assert_eq!(hub, address);
        // And there the device comes in, with a token for what it was told and a certificate that it believes.
        let password = sas::build(&format!("{hub}/devices/dev-1"), &key, soon(), None);
        let user_name = format!("{hub}/dev-1/?api-version=2021-04-12");
        let login =
            Login { client_id: "dev-1", user_name: &user_name, password: &password, clean_session: true };
        let port = server.variables["TWINHUB_MQTT_PORT"].parse().unwrap();
        let device = MqttClient::connect(&server.trust, &hub, port, &login).await.unwrap();
        device.disconnect().await.unwrap();
    }
    let further = server.make_hub(&token, "127.0.0.5", "second").await;
    assert_eq!(further, "second.azure-devices.localhost", "not an address that nobody elsewhere can reach");
    let said = server.said();
    assert!(said.contains("--advertise") && said.contains("twinhub hosts"), "{said}");
}

#[tokio::test]
async fn what_is_advertised_is_told_to_everybody() {
    let server = Server::start(&["--listen", "0.0.0.0", "--advertise", "127.0.0.9"], free_ports());
    let host = format!("127.0.0.9:{}", server.https_port);
    assert_eq!(server.variables["IOTHUB_HOSTNAME"], "127.0.0.9");
    assert_eq!(server.variables["PROVISIONING_HOST"], "127.0.0.9");
    assert_eq!(server.variables["AZURE_DIGITALTWINS_URL"], format!("https://{host}"));
    assert_eq!(server.variables["AZURE_RESOURCE_MANAGER_ENDPOINT"], format!("https://{host}"));
    let token = server.log_in().await;
    let hub = server.manage(&token, "GET", "127.0.0.5", "hub").await.json();
    assert_eq!(hub["properties"]["hostName"], "127.0.0.9");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let lines = command.args(["hosts", "--data-dir"]).arg(server.directory.path()).output().unwrap().stdout;
    let lines = String::from_utf8(lines).unwrap();
    assert!(lines.contains("127.0.0.9\thub.azure-devices.localhost\n"), "{lines}");
}
