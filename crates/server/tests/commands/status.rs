//! `twinhub status` of a running server, of none, and of one that is not well.

use serde_json::Value;

use super::logs::refused_device;
use crate::fixture::{Server, client, twinhub};

fn status(directory: &std::path::Path) -> Value {
    let (is_well, json, said) = twinhub(directory, &["status", "--json"]);
    assert!(is_well, "{said}");
    serde_json::from_str(&json).unwrap()
}

#[tokio::test]
async fn a_refused_device_shows_with_its_reason_and_no_secret() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    assert_eq!(status(data.path())["refused"], Value::Array(Vec::new()));
    for _ in 0..2 {
        refused_device(data.path(), &server.address, "pump-7").await;
    }
    let url = server.url("/devices/d?api-version=2021-04-12");
    let refused = client(data.path()).send("GET", &url, &[], "").await.unwrap();
    let told = status(data.path());
    let [caller, device] = &told["refused"].as_array().unwrap()[..] else { panic!("{told:#}") };
    assert_eq!((&device["who"], &device["door"]), (&"pump-7".into(), &"mqtt".into()));
    assert_eq!((&device["reason"], &device["peer"]), (&"it is not registered".into(), &"127.0.0.1".into()));
    assert_eq!(caller["reason"], "it presented no credentials");
    assert_eq!(caller["requestId"], refused.header("x-ms-request-id").unwrap());
    let (is_well, text, said) = twinhub(data.path(), &["status"]);
    assert!(is_well, "{said}");
    let line = text.lines().find(|line| line.contains("pump-7")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("it is not registered") && line.contains("from 127.0.0.1"), "{text}");
    assert!(!text.contains("c2VjcmV0") && !told.to_string().contains("c2VjcmV0"), "{text}");
}

#[tokio::test]
async fn what_serves_and_what_lies_on_the_disk_is_told() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let told = status(data.path());
    assert_eq!((&told["ready"], &told["version"]), (&true.into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(told["dataDirectory"], data.path().to_str().unwrap());
    assert_eq!(told["processId"], server.child.id());
    let addresses = told["addresses"].as_array().unwrap();
    assert!(addresses.contains(&format!("https://{}:8443", server.address).into()), "{addresses:?}");
    assert_eq!(told["durability"], "relaxed");
    let kinds: Vec<_> =
        told["instances"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    for kind in ["hub", "provisioning", "digitalTwins"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(told["hubs"][0]["devices"], 0);
    assert!(told["disk"]["freeBytes"].as_u64().unwrap() > 0);
    let has_records_here = told["disk"]["recordsBytes"].as_u64().unwrap() > 0;
    assert_ne!(has_records_here, test_postgres::is_asked_for(), "a database's bytes are not ours to count");
    assert_eq!((&told["events"]["parkedBytes"], &told["connections"]["mqtt"]), (&0.into(), &0.into()));
    let (_, text, _) = twinhub(data.path(), &["status"]);
    for part in ["ready         yes", "hub at ", ", 0 devices, 0 connected", "refused       nobody", " free"]
    {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[tokio::test]
async fn only_the_holder_of_the_admin_key_is_told() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let answer = client(data.path()).send("GET", &server.url("/_twinhub/status"), &[], "").await.unwrap();
    assert_eq!(answer.status, 401);
}

#[test]
fn without_a_server_it_fails_and_says_how_to_start_one() {
    let data = tempfile::tempdir().unwrap();
    let (is_well, out, said) = twinhub(data.path(), &["status"]);
    assert!(!is_well && out.is_empty());
    assert!(said.contains("no server runs on") && said.contains("twinhub serve --data-dir"), "{said}");
}
