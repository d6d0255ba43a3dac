//! `twinhub device` against a server of its own: what it prints is used as it is printed, and what it does is seen elsewhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base::sas::SasToken;
use base::{Clock, ConnectionString, Timestamp};
use mqtt::codec::Qos;
use mqtt::topic::ToDevice;
use serde_json::{Value, json};
use server::client::{Login, MqttClient, ServiceApi, Trust};

use crate::fixture::deadline::{self, Deadline};
use crate::fixture::{Server, client, log_in, twinhub};

struct Desk {
    directory: tempfile::TempDir,
    server: Server,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(directory.path());
        Self { directory, server }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `twinhub device …`, which must succeed.
    fn device(&self, arguments: &[&str]) -> String {
        let (worked, said, complaint) = twinhub(self.path(), &[&["device"], arguments].concat());
        assert!(worked, "{arguments:?}: {complaint}");
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.device(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// `twinhub device …`, which must fail and print nothing but why.
    fn refused(&self, arguments: &[&str]) -> String {
        let (worked, said, complaint) = twinhub(self.path(), &[&["device"], arguments].concat());
        assert!(!worked && said.is_empty(), "{arguments:?}: {said}");
        complaint
    }

    /// The telemetry of the hub, as `twinhub events` tells it.
    fn telemetry(&self, arguments: &[&str]) -> Vec<Value> {
        let (worked, lines, complaint) = twinhub(self.path(), &[&["events", "--json"], arguments].concat());
        assert!(worked, "{complaint}");
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["source"] == "Telemetry").collect()
    }

    /// The registry of the default hub, for what the commands do not do.
    async fn registry(&self) -> ServiceApi {
        let (variables, _) = log_in(self.path()).await;
        let connection = ConnectionString::new(&variables["IOTHUB_CONNECTION_STRING"]);
        ServiceApi::new(&connection, client(self.path()), Clock::system()).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::only(&std::fs::read_to_string(self.path().join("ca.pem")).unwrap()).unwrap()
    }

    /// Connects with what `device create --json` or `keys` told.
    async fn connect(&self, made: &Value) -> MqttClient {
        let text = |name: &str| made["mqtt"][name].as_str().unwrap();
        let login = Login {
            client_id: text("clientId"),
            user_name: text("userName"),
            password: text("password"),
            clean_session: true,
        };
        let port = u16::try_from(made["mqtt"]["port"].as_u64().unwrap()).unwrap();
        MqttClient::connect(&self.trust(), text("host"), port, &login).await.unwrap()
    }

    /// The URL of a hub at Resource Manager, and a token for it.
    async fn hub(&self, name: &str) -> (String, String) {
        let (variables, token) = log_in(self.path()).await;
        let path = format!(
            "/subscriptions/{}/resourceGroups/twinhub/providers/Microsoft.Devices/IotHubs/{name}?api-version=2023-06-30",
            variables["AZURE_SUBSCRIPTION_ID"]
        );
        (self.server.url(&path), token)
    }

    /// Puts a hub of the server and waits until it is there.
    async fn put_hub(&self, name: &str, properties: Value) {
        let (url, token) = self.hub(name).await;
        let body =
            json!({"location": "eastus", "sku": {"name": "S1", "capacity": 1}, "properties": properties});
        let https = client(self.path());
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        https.ask("PUT", &url, &headers, body.to_string()).await.unwrap();
        let settled = async {
            while https.ask("GET", &url, &headers, "").await.unwrap().json()["properties"]["provisioningState"]
                != "Succeeded"
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled).await.unwrap();
    }
}

/// The path of a device in the registry.
fn path_of(name: &str) -> String {
    format!("/devices/{name}?api-version=2021-04-12")
}

/// The words of a printed command, as the shell itself takes them apart.
fn words(line: &str) -> Vec<String> {
    let (program, _) = line.split_once(' ').unwrap();
    let script = format!("{program}() {{ printf '%s\\n' \"$@\"; }}\n{line}");
    let output = deadline::output(Command::new("sh").arg("-c").arg(script));
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The options of a printed command, by name. Each has one value.
fn options(line: &str) -> BTreeMap<String, String> {
    words(line).chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// The line of a text that begins with `beginning`.
fn line_of<'a>(text: &'a str, beginning: &str) -> &'a str {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with(beginning)).unwrap_or_else(|| panic!("no {beginning} in {text}"))
}

/// Runs a printed command where its program is installed.
fn run_if_installed(line: &str) -> bool {
    let (program, _) = line.split_once(' ').unwrap();
    let there = deadline::output(Command::new("sh").arg("-c").arg(format!("command -v {program}")));
    if !there.status.success() {
        eprintln!("not run, for {program} is not installed: {line}");
        return false;
    }
    let output = deadline::output(Command::new("sh").arg("-c").arg(line));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

#[tokio::test]
async fn the_mosquitto_line_of_a_new_device_works_as_it_is_printed() {
    let desk = Desk::new();
    // A name with everything that a shell might take for its own.
    for name in ["thermostat-1", "it's;$HOME*(!)"] {
        let said = desk.device(&["create", name]);
        let line = line_of(&said, "mosquitto_pub ");
        let given = options(line);
        let login = Login {
            client_id: &given["-i"],
            user_name: &given["-u"],
            password: &given["-P"],
            clean_session: true,
        };
        let trust = Trust::only(&std::fs::read_to_string(&given["--cafile"]).unwrap()).unwrap();
        let port = given["-p"].parse().unwrap();
        let mut device = MqttClient::connect(&trust, &given["-h"], port, &login).await.unwrap();
        device.publish(&given["-t"], given["-m"].clone()).await.unwrap();
        let runs = 1 + usize::from(run_if_installed(line));
        let mut seen = desk.telemetry(&[]);
        seen.retain(|event| event["deviceId"] == name);
        assert_eq!(seen.len(), runs);
        assert!(seen.iter().all(|event| event["body"] == json!({"temperature": 21.5})), "{seen:?}");
        assert_eq!(words(line_of(&said, "mosquitto_sub "))[..12], words(line)[..12]);
    }
    let said = desk.device(&["create", "a+b#"]);
    assert!(
        said.contains("mosquitto takes no + or # in a topic") && !said.contains("mosquitto_pub "),
        "{said}"
    );
    assert!(desk.json(&["create", "a#"])["mosquittoPub"].is_null());
}

#[tokio::test]
async fn create_tells_programs_all_that_it_tells_people() {
    let desk = Desk::new();
    let made = desk.json(&["create", "dev1", "--edge"]);
    let module = desk.json(&["create", "dev1", "--module", "mod1"]);
    for (made, who, rest) in [(&made, "dev1", ""), (&module, "dev1/mod1", ";ModuleId=mod1")] {
        let key = made["primaryKey"].as_str().unwrap();
        let connection =
            format!("HostName={};DeviceId=dev1{rest};SharedAccessKey={key}", desk.server.address);
        assert_eq!(made["connectionString"], connection.as_str());
        assert_eq!(made["mqtt"]["clientId"], who);
        assert_eq!(made["mqtt"]["password"], made["sasToken"]);
        let line = made["mosquittoPub"].as_str().unwrap();
        assert_eq!(options(line)["-P"], made["sasToken"].as_str().unwrap());
        let mut connected = desk.connect(made).await;
        connected.publish(made["mqtt"]["publishTopic"].as_str().unwrap(), "{}").await.unwrap();
    }
    assert_eq!(made["moduleId"], Value::Null);
    assert_eq!(desk.json(&["show", "dev1"])["capabilities"]["iotEdge"], true);
    let people = desk.device(&["create", "dev2"]);
    for member in ["connectionString", "sasToken", "mosquittoSub"] {
        let wanted = desk.json(&["keys", "dev2"])["primaryConnectionString"].clone();
        let beginning = made[member].as_str().unwrap().split(['=', ' ']).next().unwrap();
        assert!(
            people.contains(wanted.as_str().unwrap()) && people.contains(beginning),
            "{member}: {people}"
        );
    }
}

#[test]
fn what_a_device_sends_is_among_the_events() {
    let desk = Desk::new();
    desk.device(&["create", "dev1"]);
    desk.device(&["create", "dev1", "--module", "mod1"]);
    let said =
        desk.device(&["send", "dev1", "--count", "3", "--property", "unit=C & F", "--property", "empty="]);
    assert!(said.starts_with("3 messages of device dev1 acknowledged"), "{said}");
    desk.device(&["send", "dev1", "--module", "mod1", "--body", "warm", "--content-type", "text/plain"]);
    let told = desk.json(&["send", "dev1", "--body", "[1]"]);
    assert_eq!(told, json!({"deviceId": "dev1", "moduleId": null, "acknowledged": 1}));

    let seen = desk.telemetry(&[]);
    let bodies: Vec<&Value> = seen.iter().map(|event| &event["body"]).collect();
    assert_eq!(bodies[..3], [&json!({"number": 1}), &json!({"number": 2}), &json!({"number": 3})]);
    for event in &seen[..3] {
        assert_eq!(event["properties"], json!({"unit": "C & F", "empty": ""}));
        assert_eq!(event["systemProperties"]["content-type"], "application/json");
        assert_eq!(event["moduleId"], Value::Null);
    }
    assert_eq!(seen[3]["moduleId"], "mod1");
    assert_eq!(seen[3]["systemProperties"]["content-type"], "text/plain");
    assert_eq!(seen[4]["body"], json!([1]));
}

/// Runs with this on standard input.
fn fed(desk: &Desk, arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twinhub"))
        .arg("device")
        .args(arguments)
        .arg("--data-dir")
        .arg(desk.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _deadline = Deadline::of(&child);
    // Whoever has read enough closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_body_comes_from_standard_input_and_has_an_end() {
    let desk = Desk::new();
    desk.device(&["create", "dev1"]);
    assert!(fed(&desk, &["send", "dev1", "--body", "-"], b"{\"from\": \"stdin\"}").0);
    assert!(fed(&desk, &["send", "dev1", "--body", "-"], &[0xff, 0xfe]).0);
    let seen = desk.telemetry(&[]);
    assert_eq!(seen[0]["body"], json!({"from": "stdin"}));
    assert_eq!((&seen[1]["body"], &seen[1]["bodyEncoding"]), (&json!("//4="), &json!("base64")));
    assert_eq!(seen[1]["systemProperties"]["content-encoding"], Value::Null);
    let (worked, complaint) = fed(&desk, &["send", "dev1", "--body", "-"], &vec![b'x'; 300_000]);
    assert!(!worked && complaint.contains("larger than a message may be (256 KiB"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_device_waits_until_it_takes_it() {
    let desk = Desk::new();
    let made = desk.json(&["create", "lamp"]);
    let said = desk.device(&["send", "lamp", "--to-device", "--body", "on", "--property", "a=b"]);
    assert_eq!(said, "1 message waits in the queue of device lamp\n");
    assert_eq!(desk.json(&["send", "lamp", "--to-device", "--count", "2"])["enqueued"], 2);
    let complaint = desk.refused(&["send", "other", "--to-device"]);
    assert!(complaint.contains("Device other not registered"), "{complaint}");
    let mut lamp = desk.connect(&made).await;
    lamp.subscribe("devices/lamp/messages/devicebound/#", Qos::AtLeastOnce).await.unwrap();
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let message = lamp.next_publish().await.unwrap();
        bodies.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    assert_eq!(bodies, ["on", "{\"number\":1}", "{\"number\":2}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_is_answered_by_the_device_and_its_absence_is_told() {
    let desk = std::sync::Arc::new(Desk::new());
    let made = desk.json(&["create", "dev1"]);
    assert!(
        desk.refused(&["invoke", "dev1", "blink"]).contains("device dev1 is not connected: start its client")
    );

    let mut device = desk.connect(&made).await;
    assert!(desk.refused(&["invoke", "dev1", "blink"]).contains("does not listen to direct methods"));

    device.subscribe("$iothub/methods/POST/#", Qos::AtMostOnce).await.unwrap();
    let caller = desk.clone();
    let arguments = ["invoke", "dev1", "blink", "--payload", "{\"times\": 3}"];
    let call = tokio::task::spawn_blocking(move || (caller.json(&arguments), caller.device(&arguments)));
    for _ in 0..2 {
        let (topic, asked) = asked(&mut device).await;
        assert_eq!(asked, json!({"times": 3}));
        device.publish(&topic, "{\"done\": true}").await.unwrap();
    }
    let (as_json, as_text) = call.await.unwrap();
    assert_eq!(as_json, json!({"status": 207, "payload": {"done": true}}));
    assert_eq!(as_text, "status 207\n{\n  \"done\": true\n}\n");

    let late = desk.refused(&["invoke", "dev1", "blink", "--timeout", "5"]);
    assert!(late.contains("did not answer within 5 s") && late.contains("--timeout SECONDS"), "{late}");
    assert!(desk.refused(&["invoke", "dev1", "blink", "--payload", "text"]).contains("--payload '\"text\"'"));
}

/// The next method: the topic of its answer, and what it was asked.
async fn asked(device: &mut MqttClient) -> (String, Value) {
    let method = device.expect(|publish| match ToDevice::parse(publish.topic.as_str()) {
        Ok(ToDevice::Method { request_id, .. }) => Some((
            format!("$iothub/methods/res/207/?$rid={request_id}"),
            serde_json::from_slice(&publish.payload).unwrap(),
        )),
        _ => None,
    });
    method.await.unwrap()
}

#[tokio::test]
async fn a_twin_is_set_and_read_and_the_device_hears_of_it() {
    let desk = Desk::new();
    let made = desk.json(&["create", "dev1"]);
    let mut device = desk.connect(&made).await;
    device.subscribe("$iothub/twin/PATCH/properties/desired/#", Qos::AtMostOnce).await.unwrap();
    let twin = desk.json(&["twin", "dev1", "set", "interval=30", "fan.speed=high"]);
    let desired = &twin["properties"]["desired"];
    assert_eq!((&desired["interval"], &desired["fan"]["speed"]), (&json!(30), &json!("high")));
    let heard: Value = serde_json::from_slice(&device.next_publish().await.unwrap().payload).unwrap();
    assert_eq!((&heard["interval"], &heard["fan"]), (&json!(30), &json!({"speed": "high"})));

    desk.device(&["twin", "dev1", "set", "{\"interval\": null, \"mode\": \"eco\"}"]);
    desk.device(&["twin", "dev1", "set", "--tags", "floor=2"]);
    let twin: Value = serde_json::from_str(&desk.device(&["twin", "dev1"])).unwrap();
    let desired = &twin["properties"]["desired"];
    assert_eq!((&desired["interval"], &desired["mode"]), (&Value::Null, &json!("eco")));
    assert_eq!(twin["tags"], json!({"floor": 2}));

    desk.device(&["create", "dev1", "--module", "mod1"]);
    desk.device(&["twin", "dev1", "set", "--module", "mod1", "own=1"]);
    assert_eq!(desk.json(&["twin", "dev1", "--module", "mod1"])["properties"]["desired"]["own"], 1);
    assert_eq!(desk.json(&["twin", "dev1"])["properties"]["desired"]["own"], Value::Null);

    assert!(desk.refused(&["twin", "dev1", "set", "mode"]).contains("write temperature=21"));
    assert!(desk.refused(&["twin", "dev1", "set", "$a=1"]).contains("the default hub refused: "));
    assert!(
        desk.refused(&["twin", "dev1", "--module", "other"]).contains("has no module other: it has mod1")
    );
}

#[tokio::test]
async fn keys_are_shown_and_made_anew_and_the_old_one_opens_nothing() {
    let desk = Desk::new();
    let mut made = desk.json(&["create", "dev1"]);
    let before = desk.json(&["keys", "dev1"]);
    assert_eq!(before["primaryKey"], made["primaryKey"]);
    assert_eq!(before["primaryConnectionString"], made["connectionString"]);
    assert!(desk.device(&["keys", "dev1"]).contains(before["secondaryConnectionString"].as_str().unwrap()));

    let after = desk.json(&["keys", "dev1", "--regenerate", "primary"]);
    assert_ne!(after["primaryKey"], before["primaryKey"]);
    assert_eq!(after["secondaryKey"], before["secondaryKey"]);
    assert_eq!(desk.json(&["keys", "dev1"]), after);
    let password = made["sasToken"].clone();
    let text = |name: &str| made["mqtt"][name].as_str().unwrap().to_owned();
    let (client_id, user_name) = (text("clientId"), text("userName"));
    let login = Login {
        client_id: &client_id,
        user_name: &user_name,
        password: password.as_str().unwrap(),
        clean_session: true,
    };
    let refused = MqttClient::connect(&desk.trust(), &desk.server.address, 8883, &login).await;
    assert!(refused.is_err(), "the old key still opens the hub");

    // The token, and nothing else.
    let token = desk.device(&["sas", "dev1"]);
    assert!(token.starts_with("SharedAccessSignature sr=") && token.lines().count() == 1, "{token}");
    made["mqtt"]["password"] = json!(token.trim_end());
    drop(desk.connect(&made).await);
}

#[test]
fn a_token_holds_as_long_as_it_was_asked_to() {
    let desk = Desk::new();
    desk.device(&["create", "dev1"]);
    let now = Clock::system().now().unix_seconds();
    for (arguments, seconds) in [(&["sas", "dev1"][..], 24 * 3600), (&["sas", "dev1", "--ttl", "60"][..], 60)]
    {
        let told = desk.json(arguments);
        let token = SasToken::parse(told["sasToken"].as_str().unwrap()).unwrap();
        let holds = token.expires_at().unix_seconds() - now;
        assert!((seconds..seconds + 60).contains(&holds), "{holds}");
        let ends_at = format!("{}Z", Timestamp::from_unix_seconds(now + holds).iso_seconds());
        assert_eq!(told["sasTokenEndsAt"], ends_at.as_str());
    }
    assert!(desk.refused(&["sas", "dev1", "--ttl", "0"]).contains("0 is not in 1..="));
}

#[test]
fn devices_and_modules_are_listed_shown_and_removed() {
    let desk = Desk::new();
    assert!(desk.device(&["list"]).contains("has no devices yet: make one with twinhub device create NAME"));
    desk.device(&["create", "dev1"]);
    desk.device(&["create", "dev2"]);
    assert!(desk.device(&["list", "dev1"]).contains("device dev1 has no modules: make one with"));
    desk.device(&["create", "dev1", "--module", "mod1"]);
    let ids = |list: &Value, member: &str| {
        let all = list.as_array().unwrap().iter();
        all.map(|one| one[member].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&desk.json(&["list"]), "deviceId"), ["dev1", "dev2"]);
    assert_eq!(ids(&desk.json(&["list", "dev1"]), "moduleId"), ["mod1"]);
    let list = desk.device(&["list"]);
    assert!(list.lines().nth(1).unwrap().starts_with("dev1    enabled  Disconnected  sas"), "{list}");
    let shown = desk.device(&["show", "dev1"]);
    assert!(shown.contains("\nmodules         mod1\n") && !shown.contains("IoT Edge"), "{shown}");
    assert!(!shown.contains(desk.json(&["keys", "dev1"])["primaryKey"].as_str().unwrap()));

    assert_eq!(desk.device(&["delete", "dev1", "--module", "mod1"]), "module mod1 of device dev1 is gone\n");
    assert_eq!(desk.json(&["list", "dev1"]), json!([]));
    assert_eq!(
        desk.json(&["delete", "dev1"]),
        json!({"deviceId": "dev1", "moduleId": null, "deleted": true})
    );
    assert_eq!(ids(&desk.json(&["list"]), "deviceId"), ["dev2"]);
}

#[test]
fn what_is_missing_is_told_with_what_is_there_and_how_to_make_it() {
    let desk = Desk::new();
    let place = format!("--data-dir {}", desk.path().display());
    for name in ["a", "b", "c", "d", "e", "f"] {
        desk.device(&["create", name]);
    }
    desk.device(&["create", "a", "--module", "m"]);
    let no_device = format!(
        "the default hub has no device x: it has a, b, c, d, e and more. Make it with: twinhub device create x {place}\n"
    );
    let no_module = format!(
        "device a has no module x: it has m. Make it with: twinhub device create a --module x {place}\n"
    );
    for arguments in [
        &["show", "x"][..],
        &["keys", "x"],
        &["sas", "x"],
        &["send", "x"],
        &["invoke", "x", "m"],
        &["twin", "x"],
        &["list", "x"],
    ] {
        assert!(desk.refused(arguments).ends_with(&no_device), "{arguments:?}");
        if arguments[0] != "list" {
            let of_module = [&[arguments[0], "a"], &arguments[2..], &["--module", "x"]].concat();
            assert!(
                desk.refused(&of_module).ends_with(&no_module),
                "{of_module:?}: {}",
                desk.refused(&of_module)
            );
        }
    }
    assert!(desk.refused(&["create", "x", "--module", "m"]).ends_with(&no_device));
    assert!(desk.refused(&["delete", "x"]).ends_with("no device x: it has a, b, c, d, e and more\n"));
    assert!(
        desk.refused(&["delete", "a", "--module", "x"]).ends_with("device a has no module x: it has m\n")
    );
    let again = desk.refused(&["create", "a"]);
    assert!(
        again.contains(&format!("device a is there already: see it with twinhub device show a {place}")),
        "{again}"
    );
    assert!(
        desk.refused(&["create", "a", "--module", "m"]).contains("module m of device a is there already")
    );
    assert!(desk.refused(&["create", "no/slash"]).contains("'no/slash' is not valid: 1 to 128 characters"));
    let three = ["--thumbprint"; 3].map(|flag| [flag, "AA"]).concat();
    assert!(
        desk.refused(&[&["create", "x"], &three[..]].concat()).contains("give --thumbprint once or twice")
    );
    let short = desk.refused(&["create", "x", "--thumbprint", "AA"]);
    assert!(short.contains("40 or 64 hexadecimal digits"), "{short}");
    assert!(desk.refused(&["list", "--hub", "other"]).contains("this server has no hub other: it has hub"));
}

#[test]
fn without_a_server_the_command_says_how_to_start_one() {
    let directory = tempfile::tempdir().unwrap();
    let (worked, _, complaint) = twinhub(directory.path(), &["device", "list"]);
    let remedy = format!("start one with twinhub serve --data-dir {}", directory.path().display());
    assert!(!worked && complaint.contains(&remedy), "{complaint}");
}

#[tokio::test]
async fn another_hub_is_chosen_by_its_name() {
    let desk = Desk::new();
    desk.put_hub("second", json!({})).await;
    let made = desk.json(&["create", "dev1", "--hub", "second"]);
    assert_eq!(desk.json(&["list"]), json!([]));
    assert_eq!(desk.json(&["list", "--hub", "SECOND"])[0]["deviceId"], "dev1");
    desk.device(&["send", "dev1", "--hub", "second"]);
    drop(desk.connect(&made).await);
    assert_eq!(desk.telemetry(&["--hub", "second"])[0]["deviceId"], "dev1");
    assert!(desk.telemetry(&[]).is_empty());
    let missing = desk.refused(&["show", "dev1"]);
    assert!(missing.contains("the default hub has no device dev1: it has none."), "{missing}");
    let missing = desk.refused(&["show", "dev2", "--hub", "second"]);
    assert!(
        missing.contains("second has no device dev2") && missing.contains(" --hub second\n"),
        "{missing}"
    );
}

#[tokio::test]
async fn who_may_not_is_told_which_right_is_missing() {
    let desk = Desk::new();
    desk.device(&["create", "dev1"]);
    let limited =
        |rights: &str| json!({"authorizationPolicies": [{"keyName": "iothubowner", "rights": rights}]});
    desk.put_hub("hub", limited("RegistryRead")).await;
    // The policy has another key now, which the server writes down for its commands within seconds.
    let told = |arguments: &[&str], right: &str| {
        let refused = desk.refused(arguments);
        refused.contains(&format!("does not let its policy iothubowner do this: it wants the right {right}."))
    };
    soon(&desk, &["show", "dev1"], |worked, _| worked).await;
    assert!(told(&["create", "dev2"], "RegistryWrite"));
    assert!(told(&["delete", "dev1"], "RegistryWrite"));
    assert!(told(&["create", "dev1", "--module", "m"], "RegistryWrite"));
    assert!(told(&["keys", "dev1", "--regenerate", "primary"], "RegistryWrite"));
    assert!(told(&["twin", "dev1"], "ServiceConnect"));
    assert!(told(&["invoke", "dev1", "blink"], "ServiceConnect"));
    let named = desk.refused(&["list", "--hub", "hub"]);
    assert!(
        named.contains(
            "hub hub has no policy with the rights RegistryWrite, ServiceConnect and DeviceConnect"
        ),
        "{named}"
    );
}

#[tokio::test]
async fn a_connected_device_is_taken_over_with_a_word_and_a_disabled_one_stays_out() {
    let desk = Desk::new();
    let made = desk.json(&["create", "dev1"]);
    let device = desk.connect(&made).await;
    let (worked, _, note) = twinhub(desk.path(), &["device", "send", "dev1"]);
    assert!(
        worked && note.contains("device dev1 was connected; a device has one connection at a time"),
        "{note}"
    );
    drop(device);

    let mut body = desk.json(&["show", "dev1"]);
    body["status"] = json!("disabled");
    desk.registry().await.call("PUT", &path_of("dev1"), &[("if-match", "*")], &body).await.unwrap();
    assert!(desk.refused(&["send", "dev1"]).contains("device dev1 is disabled and may not connect"));
}

/// Waits for what a command is going to say: the server writes changes down for its commands within seconds.
async fn soon(desk: &Desk, arguments: &[&str], wanted: impl Fn(bool, &str) -> bool) {
    let all = [&["device"], arguments].concat();
    let in_time = async {
        loop {
            let (worked, _, complaint) = twinhub(desk.path(), &all);
            if wanted(worked, &complaint) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), in_time).await.unwrap();
}

#[tokio::test]
async fn without_a_default_hub_another_is_asked_for() {
    let desk = Desk::new();
    let (url, token) = desk.hub("hub").await;
    client(desk.path()).ask("DELETE", &url, &[("authorization", &token)], "").await.unwrap();
    soon(&desk, &["list"], |_, complaint| {
        complaint.contains("this server has no default hub any more") && complaint.contains("--hub NAME")
    })
    .await;
}

#[tokio::test]
async fn a_device_without_keys_says_what_it_has_instead() {
    let desk = Desk::new();
    let thumbprint = "A".repeat(40);
    let thumbprints = json!({"primaryThumbprint": thumbprint, "secondaryThumbprint": thumbprint});
    let body =
        json!({"deviceId": "dev1", "authentication": {"type": "selfSigned", "x509Thumbprint": thumbprints}});
    desk.registry().await.call("PUT", &path_of("dev1"), &[], &body).await.unwrap();
    for arguments in [
        &["keys", "dev1"][..],
        &["sas", "dev1"],
        &["send", "dev1"],
        &["keys", "dev1", "--regenerate", "primary"],
    ] {
        let refused = desk.refused(arguments);
        assert!(refused.contains("device dev1 has no keys: it authenticates by selfSigned"), "{refused}");
    }
    assert!(desk.device(&["list"]).contains("selfSigned"));
}

#[test]
fn a_device_with_thumbprints_is_told_how_it_connects_and_has_no_keys() {
    let desk = Desk::new();
    let (first, second) = ("AB".repeat(20), ["CD"; 32].join(":"));
    let made = desk.device(&["create", "dev1", "--thumbprint", &first, "--thumbprint", &second]);
    assert!(made.contains("DeviceId=dev1;x509=true") && made.contains("--cert certificate.pem"), "{made}");
    assert!(!made.contains("SharedAccess"), "{made}");
    let json = desk.device(&["create", "dev1", "--module", "mod1", "--thumbprint", &first, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["mqtt"]["clientId"], "dev1/mod1");
    assert_eq!(json["x509Thumbprint"]["primaryThumbprint"], first);
    let shown = desk.device(&["show", "dev1", "--json"]);
    assert!(shown.contains(&second.replace(':', "")) && shown.contains("selfSigned"), "{shown}");
}

#[tokio::test]
async fn a_list_that_is_cut_says_so() {
    let desk = Desk::new();
    let registry = desk.registry().await;
    let put = |worker: usize| {
        let registry = registry.clone();
        async move {
            for number in (worker..1003).step_by(8) {
                let name = format!("dev{number}");
                let body = json!({"deviceId": name, "authentication": {"type": "sas"}});
                registry.call("PUT", &path_of(&name), &[], &body).await.unwrap();
            }
        }
    };
    futures_util::future::join_all((0..8).map(put)).await;
    let (worked, list, note) = twinhub(desk.path(), &["device", "list"]);
    assert!(worked && list.lines().count() == 1001);
    assert_eq!(note, "twinhub: these are 1000 of 1003 devices, as many as the service lists\n");
}

/// A shell that finds the program that is tested.
fn shell(script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_twinhub")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).env("PATH", path);
    shell
}

#[tokio::test]
async fn every_next_step_that_is_printed_works() {
    let desk = Desk::new();
    desk.put_hub("second", json!({})).await;
    for (arguments, steps) in [
        (&["create", "it's"][..], 3),
        (&["create", "it's", "--module", "m"], 2),
        (&["create", "dev1", "--hub", "second"], 2),
    ] {
        let said = desk.device(arguments);
        let (_, next) = said.split_once("\nNext:\n").unwrap();
        assert_eq!(next.lines().count(), steps, "{said}");
        let output = deadline::output(&mut shell(next));
        assert!(output.status.success(), "{next}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The README's minute, as it stands there.
#[test]
fn the_minute_of_the_readme_is_as_it_says() {
    let desk = Desk::new();
    let readme = include_str!("../../../../README.md");
    let (_, section) = readme.split_once("## A device in a minute\n\n```sh\n").unwrap();
    let (script, _) = section.split_once("```").unwrap();
    let output = deadline::output(shell(script).env("TWINHUB_DATA_DIR", desk.path()));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for wanted in [
        "mosquitto_pub ",
        "1 message of device thermostat-1",
        "thermostat-1  Telemetry  {\"temperature\":21.5}",
        "\"interval\": 30",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}
