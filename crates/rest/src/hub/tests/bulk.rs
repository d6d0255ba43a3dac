//! Many identities in one request: every mode, what fails for itself, and what spoils the whole request.

use serde_json::{Value, json};

use super::fixture::*;

const OK: &str = r#"{"isSuccessful":true,"errors":[],"warnings":[]}"#;

async fn succeeds(test: &TestDoor, items: Value) {
    let answer = test.owner("POST", "/devices/", &items.to_string()).await;
    answer.status_is(200);
    assert_eq!(std::str::from_utf8(&answer.body_bytes()).unwrap(), OK);
}

/// Who fails, and with which code.
async fn failures(test: &TestDoor, items: Value) -> Vec<(String, Value)> {
    let answer = test.owner("POST", "/devices", &items.to_string()).await;
    answer.status_is(400);
    assert_eq!(answer.header_value("iothub-errorcode"), Some("BulkRegistryOperationFailure"));
    assert_eq!(answer.header_value("IotHubErrorCode"), Some("BulkRegistryOperationFailure"));
    let body = answer.body_json();
    assert_eq!((&body["isSuccessful"], &body["warnings"]), (&json!(false), &json!([])));
    let told = |error: &Value| {
        assert!(!error["errorStatus"].as_str().unwrap().is_empty());
        let module = error["moduleId"].as_str().map(|module| format!("/{module}")).unwrap_or_default();
        (format!("{}{module}", error["deviceId"].as_str().unwrap()), error["errorCode"].clone())
    };
    body["errors"].as_array().unwrap().iter().map(told).collect()
}

#[tokio::test]
async fn devices_and_modules_are_made_with_their_twins_updated_and_deleted() {
    let test = TestDoor::new().await;
    let twin = json!({"desired": {"interval": 30, "$version": 7}});
    let made = json!([
        {"id": "a", "importMode": "create", "statusReason": "new", "tags": {"floor": 1}, "properties": twin},
        {"id": "a", "moduleId": "m", "importMode": "Create", "tags": {"floor": 2}},
        {"id": "b", "status": "disabled"},
    ]);
    succeeds(&test, made).await;
    let a = test.owner("GET", "/twins/a", "").await.body_json();
    assert_eq!((&a["statusReason"], &a["tags"]), (&json!("new"), &json!({"floor": 1})));
    assert_eq!(a["properties"]["desired"]["interval"], 30);
    let identity = test.owner("GET", "/devices/b", "").await.body_json();
    assert_eq!(identity["status"], "disabled");
    succeeds(
        &test,
        json!([{"id": "a", "importMode": "update"}, {"id": "b", "importMode": "createOrUpdate"}]),
    )
    .await;
    let a = test.owner("GET", "/twins/a", "").await.body_json();
    assert_eq!(
        (&a["status"], &a["tags"]),
        (&json!("enabled"), &json!({"floor": 1})),
        "its twin is left alone"
    );
    let module = test.owner("GET", "/twins/a/modules/m", "").await.body_json();
    assert_eq!(module["tags"], json!({"floor": 2}));

    let stale = identity["etag"].clone();
    let failed = failures(
        &test,
        json!([
            {"id": "b", "importMode": "updateIfMatchETag", "eTag": stale},
            {"id": "a", "moduleId": "m", "importMode": "deleteIfMatchETag", "eTag": stale},
            {"id": "dev1", "importMode": "updateTwinIfMatchETag", "twinETag": "AAAAAAAAAAk=", "tags": {"x": 1}},
            {"id": "a", "importMode": "createOrUpdateIfMatchETag", "eTag": stale},
        ]),
    );
    let stale = ["b", "a/m", "dev1", "a"].map(|id| (id.to_owned(), json!(412_001)));
    assert_eq!(failed.await, stale);
    let current = test.owner("GET", "/devices/b", "").await.body_json()["etag"].clone();
    let twin_etag = test.owner("GET", "/twins/a", "").await.body_json()["etag"].clone();
    succeeds(
        &test,
        json!([
            {"id": "b", "importMode": "deleteIfMatchETag", "eTag": current},
            {"id": "a", "importMode": "updateTwinIfMatchETag", "twinETag": twin_etag, "tags": {"room": 2}},
            {"id": "a", "moduleId": "m", "importMode": "updateTwin", "tags": {"floor": null}},
        ]),
    )
    .await;
    test.owner("GET", "/devices/b", "").await.refused(404, "DeviceNotFound");
    let a = test.owner("GET", "/twins/a", "").await.body_json();
    assert_eq!(a["tags"], json!({"floor": 1, "room": 2}));
    assert_eq!(test.owner("GET", "/twins/a/modules/m", "").await.body_json()["tags"], json!({}));
    succeeds(&test, json!([{"id": "a", "importMode": "delete"}])).await;
    test.owner("GET", "/devices/a", "").await.refused(404, "DeviceNotFound");
}

#[tokio::test]
async fn each_item_fails_for_itself_and_those_beside_it_are_done() {
    let test = TestDoor::new().await;
    let failed = failures(
        &test,
        json!([
            {"id": "new", "importMode": "create"},
            {"id": "dev1", "importMode": "create"},
            {"id": "gone", "importMode": "update"},
            {"id": "new", "importMode": "delete"},
            {"id": "a b", "importMode": "create"},
            {"id": "dev1", "moduleId": "mod1", "importMode": "create"},
            {"id": "x", "importMode": "create", "authentication": {"type": "none"}},
            {"id": "y", "importMode": "create", "tags": {"a.b": 1}},
            {"id": "z", "importMode": "deleteIfMatchETag"},
            {"id": "gone2", "importMode": "updateTwin", "tags": {}},
            {"id": "w", "importMode": "create", "tags": {"k": 1}, "properties": 7},
            {"id": "last", "importMode": "create"},
        ]),
    )
    .await;
    let codes = [
        ("dev1", 409_001),
        ("gone", 404_001),
        ("new", 400_011),
        ("a b", 400_004),
        ("dev1/mod1", 409_301),
        ("x", 400_004),
        ("y", 400_004),
        ("z", 400_005),
        ("gone2", 404_001),
        ("w", 400_004),
    ];
    assert_eq!(failed, codes.map(|(id, code)| (id.to_owned(), json!(code))));
    test.owner("GET", "/devices/new", "").await.status_is(200);
    test.owner("GET", "/devices/last", "").await.status_is(200);
    for refused in ["x", "y", "w"] {
        test.owner("GET", &format!("/devices/{refused}"), "").await.refused(404, "DeviceNotFound");
    }
}

#[tokio::test]
async fn what_names_nobody_and_what_is_too_much_spoils_the_whole_request() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    for body in [
        "[]",
        "{}",
        r#"[{"importMode":"create"}]"#,
        r#"[{"id":"x"},7]"#,
        r#"[{"id":"x","importMode":"burn"}]"#,
    ] {
        test.owner("POST", "/devices", body).await.refused(400, "ArgumentInvalid");
    }
    let many = |count: usize| {
        (0..count).map(|at| json!({"id": format!("d{at}"), "importMode": "create"})).collect::<Value>()
    };
    test.owner("POST", "/devices", &many(101).to_string()).await.refused(413, "TooManyDevices");
    assert_eq!(test.state().await, before);
    succeeds(&test, many(100)).await;
}

#[tokio::test]
async fn a_twin_is_changed_only_by_who_may_write_twins() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let body = json!([{"id": "dev1", "importMode": "updateTwin", "tags": {"a": 1}}]).to_string();
    let ask = || test.ask("POST", "/devices", &body);
    let answer = ask().with(test.token_of("registryReadWrite")).send().await;
    answer.status_is(400);
    assert_eq!(answer.body_json()["errors"][0]["errorCode"], 401_002);
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn the_modules_of_the_system_cannot_be_deleted() {
    let test = TestDoor::new().await;
    test.owner("PUT", "/devices/edge", r#"{"capabilities":{"iotEdge":true}}"#).await.status_is(200);
    for module in ["$edgeAgent", "$edgeHub"] {
        let path = format!("/devices/edge/modules/{module}");
        let alone = test.ask("DELETE", &path, "").by_owner().if_match("*").send().await;
        alone.refused(401, "SystemModuleModifyUnauthorizedAccess");
        let failed =
            failures(&test, json!([{"id": "edge", "moduleId": module, "importMode": "delete"}])).await;
        assert_eq!(failed, [(format!("edge/{module}"), json!(401_100))]);
        test.owner("GET", &path, "").await.status_is(200);
    }
    succeeds(&test, json!([{"id": "edge", "importMode": "delete"}])).await;
}
