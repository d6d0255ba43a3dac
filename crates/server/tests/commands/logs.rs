//! What the log says, seen from outside: who was refused and why, in text and in JSON, with the id that the answer carries.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use server::client::{Https, Login, MqttClient, Trust};

use crate::fixture::{Server, client, own_address};

/// Where whoever dials a loopback address comes from.
const HERE: &str = "127.0.0.1";
const VERSION: &str = "api-version=2021-04-12";

/// A server whose log is read when it ends.
fn serve(directory: &Path, arguments: &[&str]) -> Server {
    let address = own_address();
    let mut command = Server::command(directory, &address);
    command.args(arguments).env_remove("TWINHUB_LOG").stderr(Stdio::piped());
    Server::spawn(command, address)
}

/// A CONNECT with a token that nobody signed.
pub(crate) async fn refused_device(directory: &Path, address: &str, device: &str) {
    let trust = Trust::only(&std::fs::read_to_string(directory.join("ca.pem")).unwrap()).unwrap();
    let sr = format!("{address}%2Fdevices%2F{device}");
    let login = Login {
        client_id: device,
        user_name: &format!("{address}/{device}/?{VERSION}"),
        password: &format!("SharedAccessSignature sr={sr}&sig=c2VjcmV0&se=4102444800"),
        clean_session: true,
    };
    assert!(MqttClient::connect(&trust, address, 8883, &login).await.is_err());
}

fn objects(said: &str) -> Vec<Value> {
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

fn with<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn every_refused_caller_is_in_the_log_once_with_the_id_that_its_answer_carries() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &["--log-format", "json"]);
    let https = client(data.path());
    let refused = async |path: &str, authorization: &str| {
        let headers = [("authorization", authorization)];
        let headers = if authorization.is_empty() { &[][..] } else { &headers[..] };
        let answer = https.send("GET", &server.url(path), headers, "").await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
        answer
    };
    let id = |answer: &server::client::Answer, name: &str| answer.header(name).unwrap().to_owned();
    let device_path = format!("/devices/d?{VERSION}");
    let signature = "SharedAccessSignature sr=h&skn=iothubowner&sig=c2VjcmV0LXNpZw%3D%3D&se=4102444800";
    let first = refused(&device_path, signature).await;
    refused(&device_path, signature).await;
    let stranger = refused(&device_path, "").await;
    let manager = refused("/subscriptions?api-version=2022-12-01", "Bearer c2VjcmV0.c2VjcmV0.c2VjcmV0").await;
    let twins = refused("/models?api-version=2023-10-31", "Bearer c2VjcmV0.c2VjcmV0.c2VjcmV0").await;
    let provisioning = refused("/enrollments/e?api-version=2021-10-01", "").await;
    let registering = https
        .send(
            "PUT",
            &server.url("/0ne0000/registrations/reg-7/register?api-version=2021-06-01"),
            &[("authorization", "SharedAccessSignature sr=x&sig=c2VjcmV0&se=4102444800")],
            "{}",
        )
        .await
        .unwrap();
    let token = https
        .send(
            "POST",
            &server.url("/adfs/oauth2/token"),
            &[("content-type", "application/x-www-form-urlencoded")],
            "grant_type=client_credentials&client_id=c2VjcmV0&client_secret=c2VjcmV0&scope=x/.default",
        )
        .await
        .unwrap();
    let admin = refused("/_twinhub/instances", "Bearer c2VjcmV0").await;
    refused_device(data.path(), &server.address, "nobody").await;
    refused_device(data.path(), &server.address, "nobody").await;
    let said = server.said();
    assert!(!said.contains("c2VjcmV0"), "a secret: {said}");
    let lines = objects(&said);
    let callers = with(&lines, "a caller was refused");
    let expected = [
        (id(&first, "x-ms-request-id"), "hub", "iothubowner", "the token is signed with another key"),
        (id(&stranger, "x-ms-request-id"), "hub", "", "it presented no credentials"),
        (id(&manager, "x-ms-request-id"), "resource_manager", "", "its bearer token is none of ours"),
        (id(&twins, "mise-correlation-id"), "digital_twins", "", "its bearer token is none of ours"),
        (id(&provisioning, "x-ms-request-id"), "provisioning", "", "it presented no credentials"),
        (id(&token, "x-ms-request-id"), "entra", "", "no application has its client id"),
        (id(&admin, "x-request-id"), "admin", "", "it did not present the admin key"),
    ];
    for (request_id, door, caller, reason) in &expected {
        let told: Vec<_> = callers.iter().filter(|line| line["request_id"] == **request_id).collect();
        let [line] = &told[..] else { panic!("{door} {request_id}: {said}") };
        assert_eq!((&line["door"], &line["reason"]), (&Value::from(*door), &Value::from(*reason)), "{line}");
        assert_eq!((&line["level"], &line["peer"]), (&"INFO".into(), &HERE.into()), "{line}");
        let name = if caller.is_empty() { HERE } else { *caller };
        assert_eq!(line["caller"], name, "{line}");
    }
    assert_eq!(callers.len(), expected.len(), "{callers:#?}");
    let devices = with(&lines, "a device was refused");
    let [over_https, over_mqtt] = &devices[..] else { panic!("{devices:#?}") };
    assert_eq!((&over_https["door"], &over_https["device"]), (&"provisioning".into(), &"reg-7".into()));
    assert_eq!(over_https["request_id"], id(&registering, "x-ms-request-id"));
    assert_eq!((&over_mqtt["door"], &over_mqtt["device"]), (&"mqtt".into(), &"nobody".into()));
    assert_eq!(over_mqtt["DisconnectReason"], "it is not registered");
    assert_eq!(over_mqtt["peer"], HERE);
}

#[tokio::test]
async fn a_caller_that_lacks_permissions_is_told_with_each_the_right_that_gives_it_and_where() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &["--log-format", "json"]);
    let (variables, token) = crate::fixture::log_in(data.path()).await;
    let hub = format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Devices/IotHubs/hub",
        variables["AZURE_SUBSCRIPTION_ID"], variables["AZURE_RESOURCE_GROUP"]
    );
    // Scopes are compared without case, and kept so.
    let scope = hub.to_ascii_lowercase();
    let https = client(data.path());
    let keys = server.url(&format!("{hub}/IotHubKeys/service/listkeys?api-version=2023-06-30"));
    let keys = https.ask("POST", &keys, &[("authorization", &token)], "").await.unwrap().json();
    let key: base::Key = keys["primaryKey"].as_str().unwrap().parse().unwrap();
    let soon = base::Clock::system().now().plus(std::time::Duration::from_hours(1));
    let service = base::sas::build(&server.address, &key, soon, Some("service"));
    for (method, body) in [("GET", ""), ("PUT", "{\"deviceId\": \"d\"}"), ("GET", "")] {
        let url = server.url(&format!("/devices/d?{VERSION}"));
        let headers = [("authorization", service.as_str()), ("content-type", "application/json")];
        assert_eq!(https.send(method, &url, &headers, body).await.unwrap().status, 401, "{method}");
    }
    let lines = objects(&server.said());
    let told: Vec<_> = with(&lines, "a caller was refused")
        .into_iter()
        .map(|line| {
            ["caller", "reason", "action", "right", "scope"].map(|name| line[name].as_str().unwrap_or("-"))
        })
        .collect();
    let lacks = "it lacks the permission";
    let wanted = [
        ["service", lacks, "Microsoft.Devices/IotHubs/devices/read", "RegistryRead", scope.as_str()],
        ["service", lacks, "Microsoft.Devices/IotHubs/devices/write", "RegistryWrite", scope.as_str()],
    ];
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn the_body_of_a_refusal_names_the_request_too() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &[]);
    let https = client(data.path());
    let answer = https.send("GET", &server.url(&format!("/devices/d?{VERSION}")), &[], "").await.unwrap();
    let id = answer.header("x-ms-request-id").unwrap().replace('-', "").to_uppercase();
    let tracking = answer.json()["ExceptionMessage"].to_string();
    assert!(tracking.contains(&format!("Tracking ID:{id}-G2")), "{id}: {tracking}");
    let headers = [("x-ms-correlation-request-id", "my-deployment")];
    let url = server.url("/subscriptions?api-version=2022-12-01");
    let answer = https.send("GET", &url, &headers, "").await.unwrap();
    let id = answer.header("x-ms-request-id").unwrap().to_owned();
    let said = server.said();
    let line = said.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(r#"correlation_id="my-deployment""#), "{line}");
}

#[tokio::test]
async fn whoever_does_not_trust_the_server_is_in_the_log_and_whoever_only_looks_is_not() {
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &["--log-format", "json"]);
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let distrustful = Https::new(Trust::only(&other.cert.pem()).unwrap());
    assert!(distrustful.send("GET", &server.url("/healthz"), &[], "").await.is_err());
    drop(std::net::TcpStream::connect((server.address.as_str(), 8443)).unwrap());
    let spoken = std::net::TcpStream::connect((server.address.as_str(), 8443)).unwrap();
    std::io::Write::write_all(&mut &spoken, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    std::io::Read::read_to_end(&mut &spoken, &mut Vec::new()).ok();
    client(data.path()).send("GET", &server.url("/healthz"), &[], "").await.unwrap();
    let lines = objects(&server.said());
    let told = with(&lines, "a caller was refused");
    let mut reasons: Vec<_> = told.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["it does not trust the server's certificate", "it spoke no TLS"], "{told:#?}");
}

#[test]
fn one_line_at_the_start_says_what_runs_where() {
    let data = tempfile::tempdir().unwrap();
    for (format, arguments) in [("text", &[][..]), ("json", &["--log-format", "json"][..])] {
        let server = serve(data.path(), arguments);
        let address = server.address.clone();
        let said = server.said();
        let told: Vec<_> = said.lines().filter(|line| line.contains("twinhub serves")).collect();
        let [line] = &told[..] else { panic!("{said}") };
        for part in [
            env!("CARGO_PKG_VERSION"),
            data.path().to_str().unwrap(),
            &format!("https://{address}:8443"),
            &format!("mqtts://{address}:8883"),
            "relaxed",
        ] {
            assert!(line.contains(part), "{format}: no {part} in {line}");
        }
        assert_eq!(serde_json::from_str::<Value>(line).is_ok(), format == "json", "{line}");
    }
}

#[test]
fn a_format_that_there_is_not_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Server::command(data.path(), "127.0.0.1");
    let output = crate::fixture::deadline::output(command.args(["--log-format", "xml"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("use text or json"), "{said}");
}
