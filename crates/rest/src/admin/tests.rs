//! The admin door alone.

use ::events::headers::{self, SystemProperty};
use base::Timestamp;
use base::hosts::NoMachine;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use store::NewRecord;
use test_house::{Ground, House};

use super::*;
use crate::front::{AnyDoor, mount};
use crate::test_wire;
use crate::wire::Body;
use entrance::Peer;

struct TestAdmin {
    door: Arc<dyn AnyDoor>,
    events: Events,
    hub: hub::Hub,
    clock: Clock,
    is_ready: Arc<AtomicBool>,
}

/// Two pieces, and then the disk is full.
fn backup() -> Pieces {
    let (sender, pieces) = tokio::sync::mpsc::channel(3);
    for piece in [Ok(Bytes::from("one")), Ok(Bytes::from("two")), Err("the disk is full".to_owned())] {
        sender.try_send(piece).unwrap();
    }
    pieces
}

impl TestAdmin {
    async fn new(allow_clock_control: bool) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000));
        let hosts = Hosts::new("localhost", 8443, NoMachine);
        let house = House::on(Ground::new(clock.clone(), "localhost", hosts)).await;
        let hub = house.hub("hub").await;
        let House { hosts, hubs, events, tasks, .. } = house;
        let is_ready = Arc::new(AtomicBool::new(false));
        let metrics = vec![
            Family::new(Kind::Gauge, "twinhub_connections", "Open connections.", |samples| {
                samples.add(&[("protocol", "https")], 2.0);
                samples.add(&[("protocol", "mqtt")], 3.0);
            }),
            Family::one(Kind::Counter, "twinhub_commits_total", "Durable commits.", || 7.0),
        ];
        let key = Secret::new("key");
        let (ready, time) = (is_ready.clone(), clock.clone());
        let context = Context {
            key,
            clock: time,
            allow_clock_control,
            hosts,
            hubs,
            events: events.clone(),
            tasks,
            metrics,
            backup: Box::new(|| Ok(backup())),
            is_ready: ready,
            troubles: Box::new(Vec::new),
            remarks: Box::new(|| vec!["one disk".to_owned()]),
            report: Box::new(|| Box::pin(async { serde_json::json!({"version": "1"}) })),
        };
        Self { door: mount(Admin::new(context)), events, hub, clock, is_ready }
    }

    async fn ask(&self, method: &str, path: &str, key: &str, body: &'static str) -> Response {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {key}"));
        test_wire::answer(&*self.door, request, body, Peer::default()).await
    }
}

#[tokio::test]
async fn health_needs_no_key_and_live_control_does() {
    let test = TestAdmin::new(false).await;
    assert_eq!(test.ask("GET", "/healthz", "", "").await.status, 200);
    assert_eq!(test.ask("GET", "/readyz", "", "").await.status, 503);
    test.is_ready.store(true, Ordering::Relaxed);
    let ready = test.ask("GET", "/readyz", "", "").await;
    assert_eq!(ready.status, 200);
    assert_eq!(&ready.body_bytes()[..], b"ready\none disk\n");
    assert_eq!(test.ask("GET", "/_twinhub/instances", "wrong", "").await.status, 401);
    let answer = test.ask("GET", "/_twinhub/instances", "key", "").await.body_json();
    assert_eq!(answer["instances"][0]["host"], "hub.azure-devices.localhost");
    assert_eq!(answer["instances"][0]["advertisedHost"], "127.0.0.1");
}

#[tokio::test]
async fn the_clock_moves_only_on_a_server_that_was_started_for_it() {
    let refused = TestAdmin::new(false).await;
    let body = "{\"advanceSeconds\": 60}";
    assert_eq!(refused.ask("POST", "/_twinhub/clock", "key", body).await.status, 403);
    assert_eq!(refused.clock.now().unix_seconds(), 1_000);
    let test = TestAdmin::new(true).await;
    assert_eq!(test.ask("POST", "/_twinhub/clock", "key", "nonsense").await.status, 400);
    let answer: Value = test.ask("POST", "/_twinhub/clock", "key", body).await.body_json();
    assert_eq!(answer["now"], "1970-01-01T00:17:40.0000000Z");
}

#[tokio::test]
async fn a_message_to_a_device_waits_in_its_queue() {
    let test = TestAdmin::new(false).await;
    let (system, device) = (access::Caller::system(), "dev1".parse().unwrap());
    let spec = hub::device::DeviceSpec::new(device);
    test.hub.put_device(&system, &spec, &base::IfMatch::Absent).await.unwrap();
    let at = |hub: &str| format!("/_twinhub/hubs/{hub}/devices/dev1/messages");
    let body = r#"{"body": "on", "messageId": "m", "ack": "full", "contentType": null, "properties": {"a": "b"},
        "expiryTimeUtc": "1970-01-01T01:00:00Z"}"#;
    assert_eq!(test.ask("POST", &at("hub"), "key", body).await.body_json()["sequenceNumber"], 1);
    assert_eq!(test.ask("POST", &at("$default"), "key", r#"{"bodyBase64": "/w=="}"#).await.status, 200);
    let received = test.hub.receive_message(&system, &spec.device_id).await.unwrap().unwrap();
    let properties = &received.properties;
    assert_eq!((&received.body[..], properties.message_id.as_deref()), (&b"on"[..], Some("m")));
    assert_eq!(properties.to.as_deref(), Some("/devices/dev1/messages/devicebound"));
    assert_eq!(properties.application, [("a".to_owned(), "b".to_owned())]);
    assert_eq!(received.expires, Timestamp::from_unix_seconds(3600));
    for (body, code) in [
        (r#"{"body": "x", "bodyBase64": "eA=="}"#, "InvalidMessage"),
        (r#"{"ack": "all"}"#, "InvalidMessage"),
        (r#"{"expiryTimeUtc": "soon"}"#, "InvalidMessage"),
        (r#"{"expiryTimeUtc": "1970-01-01T00:00:00Z"}"#, "InvalidMessageExpiryTime"),
        (r#"{"text": "x"}"#, "InvalidMessage"),
    ] {
        assert_eq!(
            test.ask("POST", &at("hub"), "key", body).await.body_json()["error"]["code"],
            code,
            "{body}"
        );
    }
    assert_eq!(test.ask("POST", &at("other"), "key", "{}").await.status, 404);
    assert_eq!(test.ask("POST", &at("hub"), "wrong", "{}").await.status, 401);
}

#[tokio::test]
async fn metrics_of_one_name_share_their_help() {
    let answer = TestAdmin::new(false).await.ask("GET", "/metrics", "", "").await;
    let text = String::from_utf8(answer.body_bytes().to_vec()).unwrap();
    assert_eq!(
        text,
        "# HELP twinhub_connections Open connections.\n# TYPE twinhub_connections gauge\n\
         twinhub_connections{protocol=\"https\"} 2\ntwinhub_connections{protocol=\"mqtt\"} 3\n\
         # HELP twinhub_commits_total Durable commits.\n# TYPE twinhub_commits_total counter\ntwinhub_commits_total 7\n"
    );
}

#[tokio::test]
async fn events_are_told_as_lines_with_their_body_parsed_or_in_base64() {
    let test = TestAdmin::new(false).await;
    let stream = test.events.stream(test.hub.instance(), hub::EVENT_STREAM).unwrap();
    for (at, body) in [(2, &b"{\"t\": 21.5}"[..]), (1, &b"\xff\x00"[..])] {
        let mut bytes = headers::begin();
        headers::push_system(&mut bytes, SystemProperty::ConnectionDeviceId, "dev1");
        headers::push_system(&mut bytes, SystemProperty::MessageSource, "Telemetry");
        headers::push_application(&mut bytes, "unit", "C");
        let record = NewRecord {
            time: Timestamp::from_unix_seconds(at),
            key: format!("dev{at}"),
            headers: bytes.into(),
            body: Bytes::copy_from_slice(body),
        };
        stream.append(record).await.unwrap();
    }
    let answer = test.ask("GET", "/_twinhub/events?hub=HUB&from=earliest", "key", "").await;
    let Body::Stream(pieces) = answer.body else { panic!("a stream") };
    let text = pieces.map(|piece| piece.to_vec()).collect::<Vec<_>>().await.concat();
    let lines: Vec<Value> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["body"], &lines[0]["bodyEncoding"]), (&json!("/wA="), &json!("base64")));
    assert_eq!(lines[1]["body"], json!({"t": 21.5}));
    assert_eq!((&lines[1]["deviceId"], &lines[1]["moduleId"]), (&json!("dev1"), &Value::Null));
    assert_eq!((&lines[1]["source"], &lines[1]["properties"]), (&json!("Telemetry"), &json!({"unit": "C"})));
    assert_eq!(lines[1]["systemProperties"]["iothub-connection-device-id"], "dev1");
    assert_eq!(lines[1]["enqueuedTime"], "1970-01-01T00:00:02.0000000Z");
    for (path, status) in [("?hub=nobody", 404), ("?from=yesterday", 400), ("?namespace=n&event-hub=e", 404)]
    {
        assert_eq!(
            test.ask("GET", &format!("/_twinhub/events{path}"), "key", "").await.status,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_backup_wants_the_key_and_ends_where_it_fails() {
    let test = TestAdmin::new(false).await;
    assert_eq!(test.ask("POST", "/_twinhub/backup", "wrong", "").await.status, 401);
    let answer = test.ask("POST", "/_twinhub/backup", "key", "").await;
    let Body::Stream(pieces) = answer.body else { panic!("a stream") };
    assert_eq!(pieces.collect::<Vec<_>>().await.concat(), b"onetwo");
}
