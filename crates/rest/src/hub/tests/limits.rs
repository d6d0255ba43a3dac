//! Malformed bodies, ids that are none, sizes just under and just over their limits, throttling.

use std::sync::atomic::Ordering;

use base::Key;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::*;

#[tokio::test]
async fn malformed_bodies_change_nothing() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    // Those of digital twins take other bodies than objects.
    let takes_an_object = |method: &str, path: &str| {
        !matches!(method, "GET" | "DELETE")
            && !path.starts_with("/digitaltwins")
            && !is_of_messages(path)
            && !path.ends_with("/cancel")
    };
    for (method, path, _) in OPERATIONS.iter().filter(|(method, path, _)| takes_an_object(method, path)) {
        for body in
            ["", "{", "[]", "1", "null", "\u{0}", deep.as_str(), "[null,null,null,null,null,null,null]"]
        {
            let response = test.ask(method, path, body).by_owner().if_match("*").send().await;
            refused(path, &response, 400_004, "ArgumentInvalid");
        }
    }
    let wrong: &[(&str, &str, &str)] = &[
        ("PUT", "/devices/dev1", r#"{"deviceId":"other"}"#),
        ("PUT", "/devices/dev1", r#"{"status":"maybe"}"#),
        ("PUT", "/devices/dev1", r#"{"authentication":{"type":"magic"}}"#),
        ("PUT", "/devices/dev1", r#"{"authentication":{"type":"none"}}"#),
        (
            "PUT",
            "/devices/dev1",
            r#"{"authentication":{"symmetricKey":{"primaryKey":"AAAA","secondaryKey":"AAAA"}}}"#,
        ),
        ("PUT", "/devices/dev1", r#"{"authentication":["sas"]}"#),
        ("PUT", "/devices/dev1", r#"{"authentication":{"symmetricKey":[null,null]}}"#),
        ("PUT", "/devices/dev1", r#"{"capabilities":[true]}"#),
        ("PUT", "/devices/dev1/modules/mod1", r#"{"authentication":[null,null,null]}"#),
        ("PUT", "/devices/a%20b", "{}"),
        ("PUT", "/devices/dev1/modules/mod1", r#"{"moduleId":"other"}"#),
        ("PUT", "/devices/dev1/modules/mod1", r#"{"deviceId":"other"}"#),
        ("PATCH", "/twins/dev1", r#"{"tags":{"a.b":1}}"#),
        ("PATCH", "/twins/dev1", r#"{"tags":{"ok":1},"properties":{"desired":{"a":[null]}}}"#),
        ("PUT", "/twins/dev1/modules/mod1", r#"{"tags":7}"#),
        ("PATCH", "/twins/dev1", r#"{"tags":{"a":1e999}}"#),
    ];
    for (method, path, body) in wrong {
        let response = test.ask(method, path, body).by_owner().if_match("*").send().await;
        response.refused(400, "ArgumentInvalid");
    }
    let huge = format!(r#"{{"tags":{{"a":"{}"}}}}"#, "x".repeat(base::caps::HTTP_BODY_BYTES_MAX));
    for (method, path, _) in OPERATIONS {
        let response = test.ask(method, path, &huge).by_owner().if_match("*").send().await;
        refused(path, &response, 413_001, "MessageTooLarge");
    }
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn a_throttled_operation_says_which_and_changes_nothing() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    test.limiter.0.store(true, Ordering::Relaxed);
    for (method, path, body) in OPERATIONS {
        let response = test.ask(method, path, body).by_owner().if_match("*").send().await;
        refused(path, &response, 429_001, "ThrottlingException");
        assert_eq!(response.header_value("connection"), Some("close"), "{method} {path}");
        assert_eq!(response.header_value("retry-after"), None);
    }
    let message = test.owner("GET", "/devices", "").await.body_json()["Message"].clone();
    let expected =
        "The request has been throttled. Wait 10 seconds and try again. Operation type: RegistryRead";
    assert_eq!(message, format!("ErrorCode:ThrottlingException;{expected}"));
    test.limiter.0.store(false, Ordering::Relaxed);
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn ids_that_are_none_are_refused_by_every_operation() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    for (method, path, body) in OPERATIONS.iter().filter(|(_, path, _)| path.contains("dev1")) {
        for bad in ["a%20b", "%C3%A4", "a%2Fb", "%00", &"x".repeat(129)] {
            for id in ["dev1", "mod1"].into_iter().filter(|id| path.contains(id)) {
                let path = path.replace(id, bad);
                let response = test.ask(method, &path, body).by_owner().if_match("*").send().await;
                refused(&path, &response, 400_004, "ArgumentInvalid");
            }
        }
    }
    assert_eq!(test.state().await, before);
    let longest = "x".repeat(128);
    test.owner("PUT", &format!("/devices/{longest}"), "{}").await.status_is(200);
    test.owner("PUT", &format!("/devices/{longest}/modules/{longest}"), "{}").await.status_is(200);
    test.owner("PATCH", &format!("/twins/{longest}/modules/{longest}"), "{}").await.status_is(200);
    test.owner("PUT", "/devices/DEV1", "{}").await.status_is(200);
    assert_ne!(test.state().await, before, "ids keep their case");
}

#[tokio::test]
async fn limits_are_held_on_the_wire_just_under_and_just_over() {
    use base::caps;
    let test = TestDoor::new().await;
    let key = |bytes: usize| {
        let key = Key::from_bytes(vec![7; bytes]).text().to_owned();
        json!({"authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}}})
    };
    let tags = |tags: Value| json!({ "tags": tags });
    let desired = |desired: Value| json!({"properties": {"desired": desired}});
    // Keys of one byte, and strings that fill the rest.
    let filled = |bytes: usize| {
        let lengths = std::iter::successors(Some(bytes), |left| Some(left.saturating_sub(4096)));
        let lengths = lengths.take_while(|left| *left > 0).map(|left| left.min(4096) - 1);
        ('a'..).map(String::from).zip(lengths.map(|length| json!("v".repeat(length)))).collect::<Value>()
    };
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "k": inner }));
    let (device, twin, module_twin) = ("/devices/dev1", "/twins/dev1", "/twins/dev1/modules/mod1");
    let table = [
        ("PUT", device, json!({"statusReason": "é".repeat(128)}), json!({"statusReason": "é".repeat(129)})),
        ("PUT", device, key(16), key(15)),
        ("PUT", device, key(64), key(65)),
        ("PATCH", twin, tags(filled(8 * 1024)), tags(filled(8 * 1024 + 1))),
        ("PUT", module_twin, tags(filled(8 * 1024)), tags(filled(8 * 1024 + 1))),
        ("PATCH", module_twin, desired(filled(32 * 1024)), desired(filled(32 * 1024 + 1))),
        ("PUT", twin, desired(filled(32 * 1024)), desired(filled(32 * 1024 + 1))),
        ("PATCH", twin, tags(json!({"k".repeat(1024): 1})), tags(json!({"k".repeat(1025): 1}))),
        ("PUT", twin, tags(json!({"k": "v".repeat(4096)})), tags(json!({"k": "v".repeat(4097)}))),
        ("PUT", twin, desired(nested(10)), desired(nested(11))),
        (
            "PUT",
            twin,
            desired(json!({"k": caps::TWIN_INTEGER_MAX})),
            desired(json!({"k": caps::TWIN_INTEGER_MAX + 1})),
        ),
    ];
    for (method, path, under, over) in table {
        let send = async |body: &Value| {
            test.ask(method, path, &body.to_string()).by_owner().if_match("*").send().await
        };
        send(&under).await.status_is(200);
        let before = test.state().await;
        send(&over).await.refused(400, "ArgumentInvalid");
        assert_eq!(test.state().await, before, "{method} {path}");
    }
    let beyond = r#"{"tags":{"k":100000000000000000000}}"#;
    test.owner("PATCH", twin, beyond).await.refused(400, "ArgumentInvalid");
}

#[test]
fn no_body_and_no_etag_makes_the_door_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = runtime.block_on(TestDoor::new());
    let body = ".{0,80}|\\{\"(tags|properties|deviceId)\":.{0,40}\\}";
    let requests = (body, "[ -~]{0,30}", prop::sample::select(OPERATIONS));
    let mut runner = proptest::test_runner::TestRunner::default();
    let outcome = runner.run(&requests, |(body, etag, (method, path, _))| {
        let response = runtime.block_on(test.ask(method, path, &body).by_owner().if_match(&etag).send());
        prop_assert!(response.status.as_u16() < 500, "{method} {path}: {response:?}");
        Ok(())
    });
    outcome.unwrap();
}
