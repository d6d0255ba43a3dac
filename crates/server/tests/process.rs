//! The built binary as an operator meets it: starts, says so, refuses a second one, answers, drains.

#![allow(clippy::unwrap_used, reason = "helpers of a test end it like the test itself")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fixture::{Server, client, deadline, environment, log_in, own_address, token_for, twinhub};
use server::client::{Https, Login, MqttClient, Trust};

#[path = "process/certificates.rs"]
mod certificates;
mod fixture;
#[path = "process/moving.rs"]
mod moving;
#[cfg(target_os = "linux")]
#[path = "process/network.rs"]
mod network;
#[path = "process/roles.rs"]
mod roles;
#[path = "process/sealed.rs"]
mod sealed;
#[path = "process/secrets.rs"]
mod secrets;
#[path = "process/stress.rs"]
mod stress;
#[path = "process/tls.rs"]
mod tls;
#[path = "process/websockets.rs"]
mod websockets;

#[tokio::test]
async fn it_says_when_it_is_ready_and_answers_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    assert!(server.ready_line.starts_with("twinhub is ready "), "{:?}", server.ready_line);
    let https = client(directory.path());
    for path in ["/healthz", "/readyz", "/metrics", "/common/v2.0/.well-known/openid-configuration"] {
        let answer = https.send("GET", &server.url(path), &[], "").await.unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    let answer = https.send("GET", &server.url("/_twinhub/instances"), &[], "").await.unwrap();
    assert_eq!(answer.status, 401, "live control wants the admin key");
}

#[tokio::test]
async fn what_env_prints_logs_a_client_in() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let (variables, token) = log_in(directory.path()).await;
    assert_eq!(token.matches('.').count(), 2);
    for name in ["SSL_CERT_FILE", "TWINHUB_CA_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
        assert!(Path::new(&variables[name]).is_file(), "{name}");
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused_wherever_its_records_are() {
    if !test_postgres::runs_embedded("it names a store of its own") {
        return;
    }
    for store in ["sqlite://", "sqlite::memory:"] {
        let directory = tempfile::tempdir().unwrap();
        let command = |address: &str| {
            let mut command = Server::command(directory.path(), address);
            command.args(["--store", store]);
            command
        };
        let address = own_address();
        let _server = Server::spawn(command(&address), address.clone());
        let second = deadline::output(&mut command(&own_address()));
        assert!(!second.status.success(), "{store}");
        let said = String::from_utf8(second.stderr).unwrap();
        assert!(said.contains("another server uses"), "{said}");
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_database_is_refused_and_the_first_goes_on() {
    let Some(database) = test_postgres::database() else { return };
    let command = |directory: &Path, address: &str| {
        let mut command = Server::command(directory, address);
        command.env("TWINHUB_STORE", database.url());
        command
    };
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let address = own_address();
    let server = Server::spawn(command(one.path(), &address), address.clone());
    let second = deadline::output(&mut command(other.path(), &own_address()));
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another server uses this database"), "{said}");
    let answer = client(one.path()).send("GET", &server.url("/readyz"), &[], "").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(server.terminate().success());
    let address = own_address();
    let next = Server::spawn(command(other.path(), &address), address.clone());
    assert!(next.ready_line.starts_with("twinhub is ready "), "{:?}", next.ready_line);
    let waited = "SELECT count(*) FROM twinhub.lease WHERE name = 'sole_server' AND until > now()";
    assert_eq!(database.query(waited), "1");
}

#[tokio::test]
async fn a_port_that_cannot_be_had_is_named_with_the_setting_that_helps() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    for (port, setting) in [(8443, "ports.https"), (8883, "ports.mqtt")] {
        let _taken = std::net::TcpListener::bind((address.as_str(), port)).unwrap();
        let refused = deadline::output(&mut Server::command(directory.path(), &address));
        assert!(!refused.status.success());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(&format!("cannot listen on {address}:{port}: ")), "{said}");
        assert!(said.contains(&format!("another port with {setting}")), "{said}");
    }
}

#[tokio::test]
async fn without_443_it_says_so_once_and_advertises_8443() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    // Whoever may not take ports below 1024 meets the other reason, and the same consequence.
    let _taken = std::net::TcpListener::bind((address.as_str(), 443));
    let mut command = Server::command(directory.path(), &address);
    command.env_remove("TWINHUB_PORTS__HTTPS_STANDARD").stderr(Stdio::piped());
    let server = Server::spawn(command, address.clone());
    assert!(server.ready_line.contains(&format!("https://{address}:8443, ")), "{}", server.ready_line);
    let (variables, _) = log_in(directory.path()).await;
    for name in ["AZURE_AUTHORITY_HOST", "AZURE_RESOURCE_MANAGER_ENDPOINT", "AZURE_DIGITALTWINS_URL"] {
        assert_eq!(variables[name], format!("https://{address}:8443"), "{name}");
    }
    // Devices' clients take no port here.
    assert_eq!(variables["IOTHUB_HOSTNAME"], address);
    let said = server.said();
    assert_eq!(said.matches(&format!("cannot listen on {address}:443: ")).count(), 1, "{said}");
    assert!(said.contains("HTTPS is on port 8443 instead"), "{said}");
}

#[tokio::test]
async fn a_relative_data_directory_is_told_to_clients_in_full() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Server::command(Path::new("data"), &address);
    command.current_dir(directory.path());
    let _server = Server::spawn(command, address);
    let (variables, _) = log_in(&directory.path().join("data")).await;
    assert!(Path::new(&variables["SSL_CERT_FILE"]).is_absolute(), "{}", variables["SSL_CERT_FILE"]);
}

#[tokio::test]
async fn it_drains_when_told_and_its_directory_can_be_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let https = client(directory.path());
    // A kept connection must not hold the end up.
    assert_eq!(https.send("GET", &server.url("/healthz"), &[], "").await.unwrap().status, 200);
    assert!(server.terminate().success());
    let (ok, _, said) = twinhub(directory.path(), &["env"]);
    assert!(!ok && said.contains("no server runs on"), "{said}");
    let root = std::fs::read(directory.path().join("ca.pem")).unwrap();
    let again = Server::start(directory.path());
    assert_eq!(std::fs::read(directory.path().join("ca.pem")).unwrap(), root, "clients keep their trust");
    drop(again);
}

#[tokio::test]
async fn a_demo_that_is_told_to_end_in_the_middle_drains_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command.args(["demo", "--exit", "--data-dir"]).arg(directory.path()).stdin(Stdio::null());
    let address = own_address();
    command.env("TWINHUB_LISTEN", &address).env("TWINHUB_PORTS__HTTPS_STANDARD", "0").stderr(Stdio::piped());
    let mut demo = Server::spawn(command, address);
    let mut stderr = demo.child.stderr.take().unwrap();
    assert_eq!(demo.terminate().code(), Some(1));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(said.contains("told to end before"), "{said}");
    assert!(!directory.path().join("run.json").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn everything_in_the_data_directory_is_for_its_owner_alone_but_what_clients_trust() {
    use std::os::unix::fs::PermissionsExt;
    /// Every path below a directory with its mode.
    fn modes(directory: &Path, found: &mut BTreeMap<String, u32>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let (path, metadata) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
            found.insert(path.display().to_string(), metadata.permissions().mode() & 0o777);
            if metadata.is_dir() {
                modes(&path, found);
            }
        }
    }
    if !test_postgres::runs_embedded("it looks at files of the log") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for _ in 0..2 {
        let server = Server::start(&data);
        let mut found = BTreeMap::new();
        modes(directory.path(), &mut found);
        assert!(found.keys().any(|path| path.ends_with("00000.log")), "{found:?}");
        for (path, mode) in found {
            // Certificates are no secret, and others' clients may need them.
            let is_certificate =
                ["/ca.pem", "-bundle.pem", "/ca-rsa.pem"].iter().any(|name| path.ends_with(name));
            if !is_certificate {
                assert_eq!(mode & 0o077, 0, "{path} is {mode:o}");
            }
        }
        // As an earlier version left it.
        let segment = data.join("log/00000000000000000000.log");
        assert!(server.terminate().success());
        std::fs::set_permissions(segment, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[tokio::test]
async fn the_clock_moves_for_tests_that_asked_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let https = client(directory.path());
    let key = std::fs::read_to_string(directory.path().join("admin.key")).unwrap();
    let authorization = format!("Bearer {}", key.trim());
    let headers = [("authorization", authorization.as_str())];
    let ask = async |method: &str, body: &'static str| -> base::Timestamp {
        let answer = https.ask(method, &server.url("/_twinhub/clock"), &headers, body).await.unwrap();
        answer.json()["now"].as_str().unwrap().parse().unwrap()
    };
    let before = ask("GET", "").await;
    let after = ask("POST", "{\"advanceSeconds\": 3600}").await;
    assert!(after.since(before) >= Duration::from_hours(1));
}

#[tokio::test]
async fn what_a_device_sends_is_what_events_prints() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let https = client(directory.path());
    let (_, json, _) = twinhub(directory.path(), &["env", "--format", "json"]);
    let variables: serde_json::Value = serde_json::from_str(&json).unwrap();
    let owner = variables["IOTHUB_CONNECTION_STRING"].as_str().unwrap().to_owned();
    let key: base::Key = owner.rsplit_once("SharedAccessKey=").unwrap().1.parse().unwrap();
    let soon = base::Clock::system().now().plus(Duration::from_hours(1));
    let token = base::sas::build(&server.address, &key, soon, Some("iothubowner"));
    let url = server.url("/devices/dev1?api-version=2021-04-12");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    https.ask("PUT", &url, &headers, "{\"deviceId\": \"dev1\"}").await.unwrap();

    let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let user_name = format!("{}/dev1/?api-version=2021-04-12", server.address);
    let device_token =
        base::sas::build(&format!("{}/devices/dev1", server.address), &key, soon, Some("iothubowner"));
    let login =
        Login { client_id: "dev1", user_name: &user_name, password: &device_token, clean_session: true };
    let mut device =
        MqttClient::connect(&Trust::only(&pem).unwrap(), &server.address, 8883, &login).await.unwrap();
    device.publish("devices/dev1/messages/events/unit=C", "{\"t\": 21.5}").await.unwrap();
    device.disconnect().await.unwrap();

    let (ok, printed, said) = twinhub(directory.path(), &["events", "--json", "--from", "earliest"]);
    assert!(ok, "{said}");
    let telemetry = printed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|event| event["source"] == "Telemetry")
        .unwrap();
    assert_eq!(telemetry["deviceId"], "dev1");
    assert_eq!(telemetry["body"], serde_json::json!({"t": 21.5}));
    assert_eq!(telemetry["properties"], serde_json::json!({"unit": "C"}));
    let (ok, _, said) = twinhub(directory.path(), &["events", "--hub", "nobody"]);
    assert!(!ok && said.contains("no such hub"), "{said}");
}

#[tokio::test]
async fn an_operators_own_certificate_is_shown_and_believed_by_our_own_commands() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["iot.plant.example".to_owned()]).unwrap();
    // As `openssl req -x509` makes it.
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (certificate_path, key_path) =
        (directory.path().join("own.pem"), directory.path().join("own-key.pem"));
    let pem = params.self_signed(&key).unwrap().pem();
    std::fs::write(&certificate_path, &pem).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    let data = directory.path().join("data");
    let address = own_address();
    let mut command = Server::command(&data, &address);
    command.env("TWINHUB_TLS__CERTIFICATE", &certificate_path).env("TWINHUB_TLS__KEY", &key_path);
    let server = Server::spawn(command, address);
    let https = Https::new(Trust::only(&pem).unwrap());
    assert_eq!(https.send("GET", &server.url("/healthz"), &[], "").await.unwrap().status, 200);
    let (ok, _, said) = twinhub(&data, &["events", "--json"]);
    assert!(ok, "{said}");
    // Another certificate, however alike, is not believed.
    let other = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let stranger = Https::new(Trust::only(&other).unwrap());
    assert!(stranger.send("GET", &server.url("/healthz"), &[], "").await.is_err());
}

#[tokio::test]
async fn the_hosts_file_holds_our_names_while_we_serve() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let address = own_address();
    let mut command = Server::command(directory.path(), &address);
    command.arg("--manage-hosts").env("TWINHUB_HOSTS_FILE", &hosts);
    let server = Server::spawn(command, address.clone());
    let text = std::fs::read_to_string(&hosts).unwrap();
    assert!(text.contains(&format!("{address}\thub.azure-devices.localhost\n")), "{text}");
    assert!(text.contains(&format!("{address}\tglobal.azure-devices-provisioning.localhost\n")), "{text}");
    let (_, printed, _) = twinhub(directory.path(), &["hosts"]);
    assert!(printed.contains("hub.azure-devices.localhost"), "{printed}");
    server.terminate();
    assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "127.0.0.1 localhost\n");
}

/// The stream of the only hub, with twenty messages in it, of a server that has ended.
async fn write_messages(directory: &Path) {
    let location = store::Location::File(directory.to_owned());
    let options = store::Options::new(location, store::Durability::Relaxed);
    let streams = store::Streams::open(&options).unwrap();
    let stream = streams
        .all()
        .await
        .unwrap()
        .into_iter()
        .find(|stream| stream.as_str().ends_with("messages/events"))
        .unwrap();
    for number in 0..20_i64 {
        let record = store::NewRecord {
            time: base::Timestamp::from_unix_seconds(4_000_000_000 + number),
            key: "dev1".into(),
            headers: vec![1].into(),
            body: format!("{{\"number\": {number}}}").into_bytes().into(),
        };
        streams.append(&stream, 0, vec![record]).await.unwrap();
    }
}

#[tokio::test]
async fn damage_to_the_log_is_told_and_costs_no_other_event() {
    if !test_postgres::runs_embedded("it damages a file of the log") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    Server::start(directory.path()).terminate();
    write_messages(directory.path()).await;
    let segment = directory.path().join("log/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(12).position(|bytes| bytes == b"{\"number\": 7").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let server = Server::start(directory.path());
    for json in [&["events", "--json"][..], &["events"]] {
        let (succeeded, out, err) = twinhub(directory.path(), json);
        assert!(!succeeded, "{err}");
        assert!(err.contains("records 7 to 7") && err.contains("00000000000000000000.log"), "{err}");
        let found: Vec<_> =
            (0..20).filter(|number| out.contains(&format!("\"number\":{number}}}"))).collect();
        assert_eq!(found.len(), 19, "{out}");
        assert_eq!(out.lines().count(), 19, "stdout holds events alone");
    }
    let https = client(directory.path());
    let answer = https.send("GET", &server.url("/readyz"), &[], "").await.unwrap();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.starts_with("ready\n") && text.contains("damaged log segments: 1"), "{text}");
    let answer = https.send("GET", &server.url("/metrics"), &[], "").await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("\ntwinhub_log_damaged_segments 1\n"), "{text}");

    for verb in ["check", "repair"] {
        let (succeeded, _, err) = twinhub(directory.path(), &["log", verb]);
        assert!(!succeeded && err.contains("a server uses"), "{err}");
    }
    server.terminate();
    let (succeeded, out, _) = twinhub(directory.path(), &["log", "check"]);
    assert!(!succeeded && out.contains("cannot read records 7 to 7 of "), "{out}");
    // What is gone cannot be mended, and hinders no start.
    let (_, out, err) = twinhub(directory.path(), &["log", "repair"]);
    assert!(out.starts_with("There is nothing to repair.\n"), "{out}{err}");
    Server::start(directory.path()).terminate();
    let (succeeded, _, err) = twinhub(&directory.path().join("elsewhere"), &["log", "check"]);
    assert!(!succeeded && err.contains("there is no log in"), "{err}");
    assert!(!directory.path().join("elsewhere").exists(), "a check makes nothing");
}
