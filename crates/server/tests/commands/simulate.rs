//! `twinhub simulate`: a fleet whose messages, answers and end are seen from outside.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use dtdl::{Dtmi, Model, Options, Resolved};
use serde_json::Value;

use crate::fixture::deadline::Deadline;
use crate::fixture::{Server, own_address, twinhub};

const BOILER: &str = r#"[
  {"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:Pump;1", "@type": "Interface", "contents": [
    {"@type": "Telemetry", "name": "flow", "schema": "integer"},
    {"@type": "Property", "name": "speed", "schema": "integer", "writable": true},
    {"@type": "Command", "name": "prime", "response": {"name": "primed", "schema": "boolean"}}]},
  {"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:Boiler;1", "@type": "Interface", "extends": "dtmi:test:Base;1", "contents": [
    {"@type": "Telemetry", "name": "heat", "schema": "double"},
    {"@type": "Telemetry", "name": "pressure", "schema": "float"},
    {"@type": "Telemetry", "name": "burning", "schema": "boolean"},
    {"@type": "Telemetry", "name": "at", "schema": "dateTime"},
    {"@type": "Telemetry", "name": "place", "schema": "point"},
    {"@type": "Telemetry", "name": "state", "schema": {"@type": "Enum", "valueSchema": "string", "enumValues": [
      {"name": "cold", "enumValue": "c"}, {"name": "hot", "enumValue": "h"}]}},
    {"@type": "Telemetry", "name": "phases", "schema": {"@type": "Array", "elementSchema": "double"}},
    {"@type": "Telemetry", "name": "valves", "schema": {"@type": "Map",
      "mapKey": {"name": "valve", "schema": "string"}, "mapValue": {"name": "open", "schema": "boolean"}}},
    {"@type": "Telemetry", "name": "flame", "schema": {"@type": "Object", "fields": [
      {"name": "length", "schema": "double"}, {"name": "since", "schema": "duration"}]}},
    {"@type": "Property", "name": "target", "schema": "double", "writable": true},
    {"@type": "Component", "name": "pump", "schema": "dtmi:test:Pump;1"},
    {"@type": "Command", "name": "reboot", "request": {"name": "delay", "schema": "integer"},
     "response": {"name": "again", "schema": "dateTime"}}]},
  {"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:Base;1", "@type": "Interface", "contents": [
    {"@type": "Property", "name": "serial", "schema": "string"},
    {"@type": "Telemetry", "name": "uptime", "schema": "long"}]}
]"#;

fn models() -> Vec<Arc<Model>> {
    let read = dtdl::parse_text(BOILER, &|_| None, &Options::language()).unwrap();
    read.into_iter().map(Arc::new).collect()
}

fn resolved(id: &str) -> Resolved {
    let models = models();
    let known = |id: &Dtmi| models.iter().find(|model| model.id == *id).cloned();
    Resolved::new(&id.parse().unwrap(), &known).unwrap()
}

/// Telemetry in the default hub's stream.
fn telemetry(directory: &Path) -> Vec<Value> {
    let (ok, printed, said) = twinhub(directory, &["events", "--json", "--from", "earliest"]);
    assert!(ok, "{said}");
    let events = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["source"] == "Telemetry").collect()
}

fn boiler_file(directory: &Path) -> String {
    let path = directory.join("boiler.json");
    std::fs::write(&path, BOILER).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn what_a_fleet_sends_fits_its_model_and_nothing_of_the_model_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let model = boiler_file(directory.path());
    let arguments =
        ["simulate", "--devices", "5", "--seconds", "3", "--rate", "10", "--model", &model, "--json"];
    let (ok, printed, said) = twinhub(directory.path(), &arguments);
    assert!(ok, "{said}");
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&summary["devices"], &summary["errors"]), (&5.into(), &serde_json::json!({})), "{summary}");

    let (mut seen, mut devices) = (BTreeSet::new(), BTreeSet::new());
    let messages = telemetry(directory.path());
    for message in &messages {
        let component = message["systemProperties"]["dt-subject"].as_str();
        let interface =
            resolved(if component == Some("pump") { "dtmi:test:Pump;1" } else { "dtmi:test:Boiler;1" });
        let elements = message["body"].as_object().unwrap();
        assert!(!elements.is_empty());
        for (name, value) in elements {
            let telemetry =
                interface.telemetry(name).unwrap_or_else(|| panic!("no such telemetry: {message}"));
            assert_eq!(telemetry.schema.validate(value, &Options::language()), Ok(()), "{name}: {value}");
            seen.insert(format!("{}{name}", component.map(|c| format!("{c}.")).unwrap_or_default()));
        }
        devices.insert(message["deviceId"].as_str().unwrap().to_owned());
    }
    let wanted = [
        "at",
        "burning",
        "flame",
        "heat",
        "phases",
        "place",
        "pressure",
        "pump.flow",
        "state",
        "uptime",
        "valves",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    assert_eq!(devices.len(), 5);
    // Three seconds of ten messages each, and what was sent before the last one came up.
    assert!(messages.len() >= 140, "{}", messages.len());
    assert_eq!(summary["sent"], messages.len());
    for step in ["register", "connect", "report"] {
        assert_eq!(summary["latencies"][step]["count"], 5, "{summary}");
    }
    assert_eq!(summary["latencies"]["publish"]["count"], messages.len());
}

/// A fleet that is under way, and the stream of its hub.
struct Fleet {
    simulate: Child,
    follow: Child,
    events: BufReader<ChildStdout>,
    _deadlines: [Deadline; 2],
}

impl Fleet {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let spawn = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
            command.args(arguments).arg("--data-dir").arg(directory).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut follow = spawn(&["events", "--follow", "--json", "--from", "latest"]);
        let simulate = spawn(&[&["simulate"], arguments].concat());
        let events = BufReader::new(follow.stdout.take().unwrap());
        let deadlines = [Deadline::of(&simulate), Deadline::of(&follow)];
        Self { simulate, follow, events, _deadlines: deadlines }
    }

    /// The device of the next message.
    fn next_device(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.events.read_line(&mut line).unwrap() > 0, "the stream of events ended");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["source"] == "Telemetry" {
                return event["deviceId"].as_str().unwrap().to_owned();
            }
        }
    }

    /// Exit code, and what was said on stdout and stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let code = self.simulate.wait().unwrap().code();
        let (mut printed, mut said) = (String::new(), String::new());
        self.simulate.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        self.simulate.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, printed, said)
    }

    fn interrupt(self) -> (Option<i32>, String, String) {
        let id = self.simulate.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.end()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in [&mut self.simulate, &mut self.follow] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The reported properties of a device, once `wanted` finds what it looks for.
fn reported(directory: &Path, device: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..100 {
        let (ok, printed, said) = twinhub(directory, &["device", "twin", device, "--json"]);
        assert!(ok, "{said}");
        last = serde_json::from_str::<Value>(&printed).unwrap()["properties"]["reported"].clone();
        if wanted(&last) {
            return last;
        }
    }
    panic!("the twin of {device} shows {last}");
}

#[tokio::test]
async fn a_simulated_device_answers_commands_and_acknowledges_what_is_desired_until_it_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let model = boiler_file(directory.path());
    let mut fleet = Fleet::start(directory.path(), &["--devices", "2", "--rate", "5", "--model", &model]);
    let device = fleet.next_device();
    let invoke = |method: &str, payload: &str| {
        let (_, printed, said) =
            twinhub(directory.path(), &["device", "invoke", &device, method, "--payload", payload, "--json"]);
        serde_json::from_str::<Value>(&printed).unwrap_or_else(|_| panic!("{method}: {printed}{said}"))
    };
    let reboot = invoke("reboot", "3");
    assert_eq!(reboot["status"], 200, "{reboot}");
    let boiler = resolved("dtmi:test:Boiler;1");
    let response = boiler.command("reboot").unwrap().response.clone().unwrap();
    assert_eq!(response.schema.validate(&reboot["payload"], &Options::language()), Ok(()), "{reboot}");
    let prime = invoke("pump*prime", "null");
    assert!(prime["status"] == 200 && prime["payload"].is_boolean(), "{prime}");
    assert_eq!(invoke("fly", "null")["status"], 404);

    let first = reported(directory.path(), &device, |reported| reported["target"].is_object());
    assert!(first["serial"].is_string() && first["pump"]["__t"] == "c", "{first}");
    let set =
        ["device", "twin", &device, "set", "{\"target\": 21.5, \"pump\": {\"__t\": \"c\", \"speed\": 7}}"];
    let (ok, _, said) = twinhub(directory.path(), &set);
    assert!(ok, "{said}");
    let taken = reported(directory.path(), &device, |reported| reported["target"]["value"] == 21.5);
    assert_eq!((&taken["target"]["ac"], &taken["target"]["av"]), (&200.into(), &2.into()), "{taken}");
    assert_eq!(taken["pump"]["speed"]["value"], 7, "{taken}");

    let (code, printed, said) = fleet.interrupt();
    assert_eq!(code, Some(0), "{said}");
    assert!(printed.contains("2 devices came up"), "{printed}");
    assert!(printed.contains("3 methods answered") && printed.contains("1 desired changes"), "{printed}");
    assert!(printed.contains("telemetry, durable acknowledgement"), "{printed}");
}

#[tokio::test]
async fn a_fleet_comes_again_when_its_server_does_and_ends_when_it_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let server = Server::spawn(Server::command(directory.path(), &address), address.clone());
    let mut fleet =
        Fleet::start(directory.path(), &["--devices", "3", "--rate", "5", "--json", "--patience", "60"]);
    fleet.next_device();
    assert!(server.terminate().success());
    let server = Server::spawn(Server::command(directory.path(), &address), address);
    let seen = telemetry(directory.path()).len();
    while telemetry(directory.path()).len() < seen + 3 {}
    let (code, printed, said) = fleet.interrupt();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the server has gone") && said.contains("the server is back"), "{said}");
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert!(summary["reconnected"].as_u64().unwrap() >= 1, "{summary}");
    assert!(!summary["errors"].as_object().unwrap().is_empty(), "{summary}");

    let mut fleet = Fleet::start(directory.path(), &["--devices", "2", "--rate", "5", "--patience", "1"]);
    fleet.next_device();
    assert!(server.terminate().success());
    let (code, printed, said) = fleet.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("did not come back within 1 s"), "{said}");
    assert!(printed.contains("2 devices came up") && printed.contains("errors:"), "{printed}");
}

#[tokio::test]
async fn the_same_seed_number_sends_the_same_values_and_a_group_that_is_there_has_the_same_devices() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let run = |more: &[&str]| {
        let arguments = ["simulate", "--devices", "1", "--seconds", "1", "--rate", "5", "--seed-number", "7"];
        let (ok, _, said) = twinhub(directory.path(), &[&arguments, more].concat());
        assert!(ok, "{said}");
        let group = said.split("enrollment group ").nth(1).unwrap().split(',').next().unwrap();
        group.to_owned()
    };
    let group = run(&[]);
    assert_eq!(run(&["--group", &group]), group);
    let messages = telemetry(directory.path());
    assert!(messages.iter().all(|message| message["deviceId"] == format!("{group}-00000")), "{messages:?}");
    let first = &messages[0]["body"];
    assert!(first["temperature"].is_f64() && first["humidity"].is_f64(), "{first}");
    assert_eq!(messages.iter().filter(|message| message["body"] == *first).count(), 2, "once a run");
}

#[tokio::test]
async fn what_cannot_be_simulated_is_told_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let said = |arguments: &[&str]| {
        let (ok, printed, said) = twinhub(directory.path(), &[&["simulate"], arguments].concat());
        assert!(!ok && printed.is_empty(), "{arguments:?}: {printed}");
        said
    };
    let group = said(&["--group", "boilers"]);
    assert!(group.contains("there is no enrollment group boilers"), "{group}");
    let missing = directory.path().join("missing.json").display().to_string();
    assert!(said(&["--model", &missing]).contains(&missing));
    let broken = directory.path().join("broken.json");
    std::fs::write(&broken, BOILER.replace("\"integer\"", "\"whole\"")).unwrap();
    let broken = broken.display().to_string();
    let model = said(&["--model", &broken]);
    assert!(model.contains(&broken) && model.contains("whole") && model.contains("models check"), "{model}");
    let other = said(&["--model", &boiler_file(directory.path()), "--model-id", "dtmi:test:Door;1"]);
    assert!(other.contains("there is no interface dtmi:test:Door;1"), "{other}");
    for rate in ["0", "-1", "fast", "NaN"] {
        let rate = said(&[&format!("--rate={rate}")]);
        assert!(rate.contains("--rate"), "{rate}");
    }
    assert!(said(&["--devices", "0"]).contains("--devices"));
    let (ok, listed, _) = twinhub(directory.path(), &["device", "list", "--json"]);
    assert!(ok && listed.trim() == "[]", "no device was made: {listed}");
    let nowhere = tempfile::tempdir().unwrap();
    let (ok, _, said) = twinhub(nowhere.path(), &["simulate"]);
    assert!(!ok && said.contains("no server runs on"), "{said}");
}
