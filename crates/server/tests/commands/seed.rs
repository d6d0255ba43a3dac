//! `--seed` and `--well-known-keys`, as those see it who use what was seeded.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base::{Clock, Key, sas};
use serde_json::{Value, json};
use server::client::{Https, Login, MqttClient, Trust};

use crate::fixture::{Server, client, deadline, environment, own_address, token_for, twinhub};

const HUB: &str = "https://iothubs.azure.net";
const DIGITAL_TWINS: &str = "https://digitaltwins.azure.net";
const PROVISIONING: &str = "https://azure-devices-provisioning.net";

/// The example of `docs/seed.md`.
fn example() -> String {
    format!("{}/../../samples/seed/building.toml", env!("CARGO_MANIFEST_DIR"))
}

fn start(directory: &Path, options: &[&str]) -> Server {
    let address = own_address();
    let mut command = Server::command(directory, &address);
    command.args(options);
    let server = Server::spawn(command, address);
    assert!(server.ready_line.starts_with("twinhub is ready"), "{:?}", server.ready_line);
    server
}

/// A start that is refused, and why.
fn refused(directory: &Path, options: &[&str]) -> String {
    let mut command = Server::command(directory, &own_address());
    let output = deadline::output(command.args(options));
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "it never was ready");
    String::from_utf8(output.stderr).unwrap()
}

fn written(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

/// Reads what a running server has, as the first principal.
struct Reader {
    https: Https,
    variables: BTreeMap<String, String>,
    tokens: BTreeMap<&'static str, String>,
}

impl Reader {
    async fn of(directory: &Path) -> Self {
        let variables = environment(directory);
        let mut tokens = BTreeMap::new();
        for audience in [HUB, DIGITAL_TWINS, PROVISIONING] {
            tokens.insert(audience, token_for(directory, &variables, audience).await);
        }
        let management = &variables["AZURE_RESOURCE_MANAGER_AUDIENCE"];
        tokens.insert("management", token_for(directory, &variables, management).await);
        Self { https: client(directory), variables, tokens }
    }

    async fn at(&self, base: &str, audience: &str, path: &str) -> Value {
        let headers = [("authorization", self.tokens[audience].as_str())];
        let answer = self.https.send("GET", &format!("{base}{path}"), &headers, "").await.unwrap();
        if answer.status.is_success() { answer.json() } else { json!(answer.status.as_u16()) }
    }

    async fn get(&self, audience: &str, path: &str) -> Value {
        self.at(&self.variables["AZURE_AUTHORITY_HOST"], audience, path).await
    }

    async fn hub(&self, path: &str) -> Value {
        self.get(HUB, &format!("{path}?api-version=2021-04-12")).await
    }

    async fn twins(&self, path: &str) -> Value {
        self.get(DIGITAL_TWINS, &format!("{path}?api-version=2023-10-31")).await
    }

    async fn enrollment(&self, path: &str) -> Value {
        self.get(PROVISIONING, &format!("{path}?api-version=2021-10-01")).await
    }

    async fn resource(&self, rest: &str) -> Value {
        let group = &self.variables["AZURE_SUBSCRIPTION_ID"];
        let path = format!("/subscriptions/{group}/resourceGroups/twinhub/providers/{rest}");
        self.get("management", &path).await
    }

    /// Everything that the example makes, with etags and versions.
    async fn everything(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for id in ["thermostat-1", "gateway", "sensor"] {
            all.push(without_connection(self.hub(&format!("/devices/{id}")).await));
            all.push(without_connection(self.hub(&format!("/twins/{id}")).await));
        }
        for path in ["/models/dtmi:com:example:Room;1", "/digitaltwins/floor-1", "/digitaltwins/room-11"] {
            all.push(self.twins(path).await);
        }
        all.push(self.twins("/digitaltwins/floor-1/relationships/floor-1-contains-room-11").await);
        all.push(self.twins("/eventroutes/all-changes").await);
        all.push(self.enrollment("/enrollments/thermostat-2").await);
        all.push(self.enrollment("/enrollmentGroups/thermostats").await);
        for rest in [
            "Microsoft.Devices/IotHubs/plant?api-version=2023-06-30",
            "Microsoft.Devices/provisioningServices/dps?api-version=2022-12-12",
            "Microsoft.EventHub/namespaces/plant-events/eventhubs/changes?api-version=2024-01-01",
            "Microsoft.DigitalTwins/digitalTwinsInstances/twins/endpoints/changes?api-version=2023-01-31",
        ] {
            all.push(self.resource(rest).await);
        }
        for one in &all {
            assert!(one.is_object(), "{one}");
        }
        all
    }
}

fn without_connection(mut value: Value) -> Value {
    value.as_object_mut().expect("it is there").remove("connectionStateUpdatedTime");
    value
}

/// Without loopback addresses: the server's own, and those of instances, which are others while another server of this machine has
/// an instance of that name.
fn steady(all: &[Value]) -> String {
    let text = serde_json::to_string_pretty(all).unwrap();
    let mut parts = text.split("127.");
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        steady.push_str("ADDRESS");
        steady.push_str(part.trim_start_matches(|letter: char| letter == '.' || letter.is_ascii_digit()));
    }
    steady
}

#[tokio::test]
async fn the_example_makes_everything_that_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let _server = start(directory.path(), &["--seed", &example()]);
    let reader = Reader::of(directory.path()).await;
    let device = reader.hub("/devices/thermostat-1").await;
    let key = &device["authentication"]["symmetricKey"]["primaryKey"];
    assert_eq!(key, "c2VlZCBzYW1wbGUga2V5LCBub3QgYSBzZWNyZXQgMDE=");
    let twin = reader.hub("/twins/thermostat-1").await;
    assert_eq!(
        (&twin["tags"], &twin["properties"]["desired"]["interval"]),
        (&json!({"floor": 1}), &json!(30))
    );
    let (gateway, sensor) = (reader.hub("/devices/gateway").await, reader.hub("/devices/sensor").await);
    assert_eq!(gateway["capabilities"]["iotEdge"], true);
    assert_eq!(sensor["deviceScope"], gateway["deviceScope"]);
    assert_eq!((&sensor["status"], &sensor["statusReason"]), (&json!("disabled"), &json!("not mounted yet")));
    let room = reader.twins("/digitaltwins/room-11").await;
    assert_eq!((&room["temperature"], &room["thermostat"]["target"]), (&json!(21.5), &json!(22.0)));
    let service = reader.resource("Microsoft.Devices/provisioningServices/dps?api-version=2022-12-12").await;
    assert_eq!(service["properties"]["iotHubs"].as_array().unwrap().len(), 2);
    let plant = reader.resource("Microsoft.Devices/IotHubs/plant?api-version=2023-06-30").await;
    let base = format!("https://{}:8443", plant["properties"]["hostName"].as_str().unwrap());
    let module = reader.at(&base, HUB, "/twins/press/modules/vision?api-version=2021-04-12").await;
    assert_eq!(module["properties"]["desired"]["camera"], "left");
    assert_eq!((&plant["location"], &plant["tags"]["stage"]), (&json!("westeurope"), &json!("test")));
}

#[tokio::test]
async fn a_seeded_principal_logs_in_with_its_own_secret_and_may_do_what_its_role_says() {
    let directory = tempfile::tempdir().unwrap();
    let _server = start(directory.path(), &["--seed", &example()]);
    let mut variables = environment(directory.path());
    variables.insert("AZURE_CLIENT_ID".into(), "6b1f0d5e-8f0c-4b5e-9a43-2f1f3d0c7a11".into());
    variables.insert("AZURE_CLIENT_SECRET".into(), "a-secret-for-tests-only".into());
    let token = token_for(directory.path(), &variables, DIGITAL_TWINS).await;
    let url = format!("{}/digitaltwins/room-11?api-version=2023-10-31", variables["AZURE_DIGITALTWINS_URL"]);
    let https = client(directory.path());
    let headers = [("authorization", token.as_str())];
    assert_eq!(https.send("GET", &url, &headers, "").await.unwrap().status, 200);
    assert_eq!(https.send("DELETE", &url, &headers, "").await.unwrap().status, 403);
}

#[tokio::test]
async fn applied_again_a_seed_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let server = start(directory.path(), &["--seed", &example()]);
        let reader = Reader::of(directory.path()).await;
        seen.push(steady(&reader.everything().await));
        let (_, events, _) = twinhub(directory.path(), &["events", "--from", "earliest", "--json"]);
        seen.push(events);
        assert!(server.terminate().success());
    }
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[1], seen[3], "no event is sent a second time");
}

#[tokio::test]
async fn what_differs_is_changed_and_what_is_not_named_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (_one, first) = written(
        "[[devices]]\nid = 'd'\ntags = { a = 1, b = 2 }\ndesired = { x = 1 }\n[[devices]]\nid = 'other'\n\
         [[enrollments]]\nid = 'e'\n[[hubs]]\nname = 'plant'\ntags = { a = 'b' }\n",
    );
    let server = start(directory.path(), &["--seed", &first]);
    let before = Reader::of(directory.path()).await;
    let key = before.hub("/devices/d").await["authentication"].clone();
    let other = before.hub("/twins/other").await["etag"].clone();
    assert!(server.terminate().success());
    let (_two, second) = written(
        "[[devices]]\nid = 'd'\nstatus = 'disabled'\ntags = { a = 3 }\n\
         [[enrollments]]\nid = 'e'\nenabled = false\n[[hubs]]\nname = 'plant'\nunits = 3\n",
    );
    let _server = start(directory.path(), &["--seed", &second]);
    let after = Reader::of(directory.path()).await;
    let (device, twin) = (after.hub("/devices/d").await, after.hub("/twins/d").await);
    assert_eq!(device["status"], "disabled");
    assert_eq!(device["authentication"], key, "keys that were made once are kept");
    assert_eq!(twin["tags"], json!({"a": 3}), "a section is exactly what the seed says");
    assert_eq!(twin["properties"]["desired"]["x"], 1, "one that it does not name stays");
    assert_eq!(after.hub("/twins/other").await["etag"], other);
    assert_eq!(after.enrollment("/enrollments/e").await["provisioningStatus"], "disabled");
    let plant = after.resource("Microsoft.Devices/IotHubs/plant?api-version=2023-06-30").await;
    assert_eq!((&plant["sku"]["capacity"], &plant["tags"]), (&json!(3), &json!({"a": "b"})));
}

#[test]
fn a_seed_that_is_wrong_keeps_the_server_from_starting_and_nothing_of_it_is_applied() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (_seed, path) = written("[[devices]]\nid = 'good'\n\n[[devices]]\nid = 'not good'\nmodel = 'x'\n");
    let said = refused(&data, &["--seed", &path]);
    assert!(said.contains("nothing of it is applied"), "{said}");
    assert!(said.contains(&format!("{path}:5: device: `id`")), "{said}");
    assert!(
        said.contains(&format!("{path}:6: device: there is no `model`, did you mean `modules`?")),
        "{said}"
    );
    assert!(!data.exists(), "there is not even a directory");
}

#[tokio::test]
async fn an_entry_that_cannot_be_applied_is_named_and_a_seed_that_is_right_goes_on_from_there() {
    let directory = tempfile::tempdir().unwrap();
    let model = "[[models]]\n[models.definition]\n'@context' = 'dtmi:dtdl:context;3'\n'@id' = 'dtmi:x:Room;1'\n\
                 '@type' = 'Interface'\ncontents = [{ '@type' = 'Property', name = 't', schema = 'double' }]\n";
    let twin = |value: &str| {
        written(&format!(
            "{model}[[digital_twins]]\nid = 'room'\nmodel = 'dtmi:x:Room;1'\nproperties = {{ t = {value} }}\n"
        ))
    };
    let (_wrong, path) = twin("'warm'");
    let said = refused(directory.path(), &["--seed", &path]);
    assert!(said.contains(&format!("{path}:7: digital twin \"room\": ")), "{said}");
    let (_right, path) = twin("21.5");
    let _server = start(directory.path(), &["--seed", &path]);
    let reader = Reader::of(directory.path()).await;
    assert_eq!(reader.twins("/digitaltwins/room").await["t"], 21.5);
}

#[test]
fn what_stands_in_the_way_is_said_by_name() {
    for (text, wanted) in [
        ("[[devices]]\nid = 'd'\nhub = 'nowhere'\n", "device \"d\": there is no hub \"nowhere\""),
        ("[[devices]]\nid = 'd'\nparent = 'p'\n", "device \"d\": the parent \"p\" is no IoT Edge device"),
        (
            "[[hubs]]\nname = 'hub'\npartitions = 8\n",
            "hub \"hub\": The property 'partitionCount' cannot be changed",
        ),
        (
            "[[hubs]]\nname = 'hub'\nlocation = 'westus'\n",
            "hub \"hub\": The resource 'hub' already exists in location",
        ),
        ("[[event_routes]]\nid = 'r'\nendpoint = 'none'\n", "event route \"r\": "),
        ("[[endpoints]]\nname = 'end'\nnamespace = 'none'\nevent_hub = 'x'\n", "there is no event hub \"x\""),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (_seed, path) = written(text);
        let said = refused(directory.path(), &["--seed", &path]);
        assert!(said.contains(&format!("{path}:1: ")) && said.contains(wanted), "{said}");
    }
}

#[test]
fn demo_and_run_take_a_seed_too() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
        command.args(arguments).env("TWINHUB_LOG", "info").env("TMPDIR", directory.path());
        let output = deadline::output(&mut command);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (ok, said) = run(&["run", "--seed", &example(), "--", "true"]);
    assert!(ok && said.contains("the seed is applied"), "{said}");
    let (ok, said) = run(&["run", "--seed", "/nowhere/seed.toml", "--", "true"]);
    assert!(!ok && said.contains("/nowhere/seed.toml:1: "), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let mut demo = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let address = own_address();
    demo.args(["demo", "--exit", "--seed", &example(), "--data-dir"]).arg(directory.path().join("demo"));
    let output = deadline::output(demo.env("TWINHUB_LISTEN", &address).env("TWINHUB_DURABILITY", "relaxed"));
    // Another hub is linked, and the demo's devices come to the one that it looks at.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// As it stands in `docs/seed.md`, and so in repositories.
const OWNER_KEY: &str = "TlUWBr3QFpgYPKJhD58+UZBHUArRbUZ0AyErXW48xTU=";
const SERVICE_OWNER_KEY: &str = "xAyzYCBE4RZaAooKoxpzpjNXekW/j8tZNUSLK7axoIw=";
const DEVICE_KEY: &str = "sksj2skdV9NZ949IRQ6n5OwzcT46WA3BkQMf/nZem28=";

#[tokio::test]
async fn keys_that_everybody_knows_open_the_policies_and_devices_that_were_seeded_without_any() {
    let directory = tempfile::tempdir().unwrap();
    let (_seed, path) = written("[[devices]]\nid = 'thermostat-1'\n");
    let address = own_address();
    let mut command = Server::command(directory.path(), &address);
    command.args(["--seed", &path, "--well-known-keys"]).stderr(Stdio::piped());
    let server = Server::spawn(command, address.clone());
    let variables = environment(directory.path());
    assert!(variables["IOTHUB_CONNECTION_STRING"].ends_with(&format!("SharedAccessKey={OWNER_KEY}")));
    let service = format!("SharedAccessKey={SERVICE_OWNER_KEY}");
    assert!(variables["PROVISIONING_CONNECTION_STRING"].ends_with(&service));
    let soon = Clock::system().now().plus(Duration::from_mins(10));
    let key: Key = DEVICE_KEY.parse().unwrap();
    let password = sas::build(&format!("{address}/devices/thermostat-1"), &key, soon, None);
    let user_name = format!("{address}/thermostat-1/?api-version=2021-04-12");
    let login =
        Login { client_id: "thermostat-1", user_name: &user_name, password: &password, clean_session: true };
    let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let device = MqttClient::connect(&Trust::only(&pem).unwrap(), &address, 8883, &login).await;
    device.expect("the device logs in").disconnect().await.unwrap();
    let said = server.said();
    assert_eq!(said.matches("everybody knows the keys").count(), 1, "{said}");
}

#[tokio::test]
async fn a_device_registers_where_hub_and_service_have_keys_that_everybody_knows() {
    let directory = tempfile::tempdir().unwrap();
    let key = "c2VlZCBzYW1wbGUga2V5LCBub3QgYSBzZWNyZXQgMDE=";
    let (_seed, path) = written(&format!("[[enrollments]]\nid = 'd'\nprimary_key = '{key}'\n"));
    let server = start(directory.path(), &["--seed", &path, "--well-known-keys"]);
    let (https, scope) =
        (client(directory.path()), environment(directory.path())["PROVISIONING_IDSCOPE"].clone());
    let soon = Clock::system().now().plus(Duration::from_mins(10));
    let token =
        sas::build(&format!("{scope}/registrations/d"), &key.parse().unwrap(), soon, Some("registration"));
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let url = server.url(&format!("/{scope}/registrations/d/register?api-version=2021-06-01"));
    let begun = https.ask("PUT", &url, &headers, "{\"registrationId\": \"d\"}").await.unwrap().json();
    let operation = begun["operationId"].as_str().unwrap();
    let url = server.url(&format!("/{scope}/registrations/d/operations/{operation}?api-version=2021-06-01"));
    let state = loop {
        let answer = https.send("GET", &url, &headers, "").await.unwrap().json();
        if answer["status"].is_string() && answer["status"] != "assigning" {
            break answer;
        }
        // Another process's clock: only waiting moves it.
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(state["status"], "assigned", "{state}");
}

#[test]
fn nothing_else_is_known_to_everybody() {
    let known = |variables: &BTreeMap<String, String>| {
        let secrets =
            ["AZURE_CLIENT_SECRET", "AZURE_CLIENT_ID", "AZURE_SUBSCRIPTION_ID", "PROVISIONING_IDSCOPE"];
        secrets.map(|name| variables[name].clone())
    };
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _servers = [start(one.path(), &["--well-known-keys"]), start(other.path(), &["--well-known-keys"])];
    for (a, b) in known(&environment(one.path())).iter().zip(&known(&environment(other.path()))) {
        assert_ne!(a, b);
    }
    if !test_postgres::runs_embedded("secrets lie in files") {
        return;
    }
    for file in ["admin.key", "ca.pem", "ca-key.pem"] {
        let read = |directory: &tempfile::TempDir| std::fs::read(directory.path().join(file)).unwrap();
        assert_ne!(read(&one), read(&other), "{file}");
    }
}

#[test]
fn a_default_start_has_none_of_them_and_neither_kind_of_server_becomes_the_other() {
    let (own, known) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (start(own.path(), &[]), start(known.path(), &["--well-known-keys"]));
    let text = serde_json::to_string(&environment(own.path())).unwrap();
    assert!(!text.contains(OWNER_KEY) && !text.contains(SERVICE_OWNER_KEY));
    first.terminate();
    second.terminate();
    let said = refused(own.path(), &["--well-known-keys"]);
    assert!(said.contains("made without --well-known-keys"), "{said}");
    let said = refused(known.path(), &[]);
    assert!(said.contains("keys that everybody knows"), "{said}");
    let again = start(known.path(), &["--well-known-keys"]);
    assert!(again.terminate().success());
}

#[test]
fn they_are_refused_where_anybody_else_could_come_in() {
    for options in [["--listen", "0.0.0.0"], ["--advertise", "iot.example.com"], ["--advertise", "192.0.2.1"]]
    {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
        command
            .args(["serve", "--well-known-keys", "--data-dir"])
            .arg(directory.path().join("data"))
            .args(options);
        let output = deadline::output(&mut command);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(
            said.contains("--well-known-keys is for clients on this machine") && said.contains(options[1]),
            "{said}"
        );
        assert!(!directory.path().join("data").exists());
    }
}
