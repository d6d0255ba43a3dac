//! Twins: the exchanges of the specification to the byte.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::*;

#[tokio::test]
async fn the_patch_of_a_module_twin_is_answered_to_the_byte() {
    let test = TestDoor::new().await;
    let body = r#"{"tags":{"env":"test"},"properties":{"desired":{"interval":30,"old":null}}}"#;
    let identity = test.owner("GET", "/devices/dev1/modules/mod1", "").await.body_json();
    let path = "/twins/dev1/modules/mod1";
    test.clock.advance(Duration::from_mins(1));
    let response = test.ask("PATCH", path, body).by_owner().if_match("\"AAAAAAAAAAE=\"").send().await;
    response.status_is(200);
    assert_eq!(response.header_value("etag"), Some("\"AAAAAAAAAAI=\""));
    assert_eq!(response.header_value("content-type"), Some("application/json; charset=utf-8"));
    let expected = concat!(
        r#"{"deviceId":"dev1","moduleId":"mod1","etag":"AAAAAAAAAAI=","deviceEtag":"@","status":"enabled","#,
        r#""statusReason":null,"statusUpdateTime":"0001-01-01T00:00:00Z","connectionState":"Disconnected","#,
        r#""lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authenticationType":"sas","#,
        r#""x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"modelId":"","version":3,"#,
        r#""tags":{"env":"test"},"properties":{"desired":{"interval":30,"$metadata":{"#,
        r#""$lastUpdated":"2026-01-02T03:05:05.1234567Z","$lastUpdatedVersion":2,"interval":{"#,
        r#""$lastUpdated":"2026-01-02T03:05:05.1234567Z","$lastUpdatedVersion":2}},"$version":2},"#,
        r#""reported":{"$metadata":{"$lastUpdated":"2026-01-02T03:04:05.1234567Z"},"$version":1}},"#,
        r#""capabilities":{"iotEdge":false}}"#,
    );
    let expected = expected.replace('@', identity["etag"].as_str().unwrap());
    assert_eq!(String::from_utf8(response.body_bytes().to_vec()).unwrap(), expected);

    let stale = test.ask("PATCH", path, body).by_owner().if_match("\"AAAAAAAAAAE=\"").send().await;
    stale.refused(412, "PreconditionFailed");
    let read = test.owner("GET", path, "").await;
    // A database keeps members in an order of its own.
    assert_eq!(read.body_json(), serde_json::from_str::<Value>(&expected).unwrap(), "nothing changed");
    for unknown in ["/twins/dev1/modules/other", "/twins/other/modules/mod1"] {
        test.owner("PATCH", unknown, body).await.refused(404, "DeviceNotFound");
    }
}

#[tokio::test]
async fn a_twin_that_is_sent_back_whole_changes_only_what_may_change() {
    let test = TestDoor::new().await;
    let mut twin = test.owner("GET", "/twins/dev1", "").await.body_json();
    twin["tags"]["a"] = json!(1);
    twin["properties"]["desired"]["b"] = json!(1.0);
    twin["properties"]["reported"]["c"] = json!(1);
    twin["status"] = json!("disabled");
    let patched = test.owner("PATCH", "/twins/dev1", &twin.to_string()).await;
    patched.status_is(200);
    assert!(
        String::from_utf8(patched.body_bytes().to_vec()).unwrap().contains(r#""b":1.0"#),
        "numbers are kept verbatim"
    );
    let patched = patched.body_json();
    assert_eq!((&patched["tags"], &patched["status"]), (&json!({"a": 1}), &json!("enabled")));
    assert_eq!(patched["properties"]["reported"]["c"], Value::Null);
    let replaced =
        test.owner("PUT", "/twins/dev1", r#"{"properties":{"desired":{"d":1}}}"#).await.body_json();
    assert_eq!((&replaced["tags"], &replaced["properties"]["desired"]["b"]), (&json!({}), &Value::Null));
    assert_eq!(replaced["etag"], "AAAAAAAAAAM=");
}

#[tokio::test]
async fn a_twins_own_members_are_read_in_any_case_and_what_is_in_them_keeps_its_own() {
    let test = TestDoor::new().await;
    let body =
        r#"{"Tags":{"Site":"30"},"PROPERTIES":{"Desired":{"Status":{"on":"TRUE"}}},"DeviceId":"dev1"}"#;
    for method in ["PATCH", "PUT"] {
        let twin = test.owner(method, "/twins/dev1", body).await.body_json();
        assert_eq!(twin["tags"], json!({"Site": "30"}), "{method}");
        assert_eq!(twin["properties"]["desired"]["Status"], json!({"on": "TRUE"}), "{method}");
    }
}

#[tokio::test]
async fn a_patch_comes_as_a_post_from_clients_that_can_send_none() {
    let test = TestDoor::new().await;
    let override_with = |method| [("x-http-method-override", method)];
    for (path, tag) in [("/twins/dev1", "a"), ("/twins/dev1/modules/mod1", "b")] {
        let body = json!({ "tags": { "by": tag } }).to_string();
        let patched = test.ask("POST", path, &body).by_owner().headers(&override_with("PATCH")).send().await;
        patched.status_is(200);
        assert_eq!(test.owner("GET", path, "").await.body_json()["tags"], json!({ "by": tag }));
        let before = test.state().await;
        for (method, meant) in [("POST", "PUT"), ("POST", "DELETE"), ("DELETE", "PATCH")] {
            let ask = test.ask(method, path, r#"{"tags":null}"#).by_owner().headers(&override_with(meant));
            assert_eq!(ask.send().await.status, 405, "{method} that means {meant}");
        }
        test.owner("POST", path, &body).await.status_is(405);
        assert_eq!(test.ask("POST", path, &body).headers(&override_with("PATCH")).send().await.status, 401);
        assert_eq!(test.state().await, before);
    }
}

#[tokio::test]
async fn members_that_a_twin_has_in_the_client_of_java_alone_are_passed_over() {
    let test = TestDoor::new().await;
    let body = r#"{"deviceId":null,"moduleId":null,"generationId":null,"etag":null,"version":null,"status":null,"statusReason":null,
        "statusUpdatedTime":null,"connectionState":null,"connectionStateUpdatedTime":null,"cloudToDeviceMessageCount":null,
        "lastActivityTime":null,"capabilities":null,"modelId":null,"tags":{"floor":2},"properties":{"desired":{"x":{"a":1}},
        "reported":{}},"configurations":null}"#;
    let patched = test.owner("PATCH", "/twins/dev1", body).await;
    patched.status_is(200);
    let patched = patched.body_json();
    assert_eq!(patched["tags"], json!({ "floor": 2 }));
    assert_eq!(patched["properties"]["desired"]["x"], json!({ "a": 1 }));
}

#[tokio::test]
async fn a_member_that_no_twin_has_is_refused_and_nothing_changes() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    for body in [
        r#"{"tags":{"a":1},"desiredProperties":{}}"#,
        r#"{"tag":{"a":1}}"#,
        r#"{"properties":{"desired":{"a":1},"wanted":{}}}"#,
        r#"{"$version":1}"#,
    ] {
        for path in ["/twins/dev1", "/twins/dev1/modules/mod1"] {
            for method in ["PATCH", "PUT"] {
                let response = test.owner(method, path, body).await;
                response.refused(400, "GenericBadRequest");
                assert_eq!(response.body_json()["Message"], "ErrorCode:GenericBadRequest;BadRequest");
            }
        }
    }
    test.owner("PATCH", "/twins/dev1", r#"{"tags":{"a":1},"Tags":{"b":1}}"#)
        .await
        .refused(400, "ArgumentInvalid");
    assert_eq!(test.state().await, before);
}
