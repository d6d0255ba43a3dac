//! Direct methods, and the envelope of their refusals.

use std::time::Duration;

use base::sas::SasToken;
use bytes::Bytes;
use hub::Command;
use serde_json::json;

use super::fixture::*;

/// How long a test waits for both sides, so that a fault fails it and does not hang it.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_method_reaches_the_device_and_its_answer_comes_back_however_its_request_is_spelled() {
    let test = TestDoor::new().await;
    let policy = test.policy("device");
    let token = test.token(HOST, &policy.primary_key, Some("device"), 60);
    let token = SasToken::parse(&token).unwrap();
    let authentication = test.hub.authenticate_device(HOST, &"dev1".parse().unwrap(), &token).await.unwrap();
    let session = test.hub.open_session(authentication, None).await.unwrap();
    session.listen_to_methods(true);
    let body = r#"{"MethodName":"reboot","responseTimeoutInSeconds":"30","connectTimeoutInSeconds":" 0","Payload":{"a":[1, 2.0]}}"#;
    let device = async {
        let Command::InvokeMethod { request_id, name, payload } = session.next_command().await else {
            panic!("no method")
        };
        assert_eq!((name.as_str(), &payload[..]), ("reboot", &br#"{"a":[1, 2.0]}"#[..]));
        test.hub.complete_method(&session, request_id, 299, Bytes::from_static(br#"{"b":1.50}"#));
    };
    let call = async { tokio::join!(test.owner("POST", "/twins/dev1/methods", body), device) };
    let (response, ()) =
        tokio::time::timeout(PATIENCE, call).await.expect("the method is called and answered");
    response.status_is(200);
    assert_eq!(response.body_bytes(), r#"{"status":299,"payload":{"b":1.50}}"#);
    assert_eq!(test.owner("GET", "/twins/dev1", "").await.body_json()["connectionState"], "Connected");
    let service = test.owner("GET", "/statistics/service", "").await.body_json();
    assert_eq!(service, json!({"connectedDeviceCount": 1}));
}

#[tokio::test]
async fn refusals_of_methods_are_nested() {
    let test = TestDoor::new().await;
    let body =
        r#"{"methodName":"reboot","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0,"payload":null}"#;
    test.owner("POST", "/twins/dev1/methods", body).await.refused_nested(404_103, "DeviceNotOnline");
    test.owner("POST", "/twins/other/methods", body).await.refused_nested(404_001, "DeviceNotFound");
    test.owner("POST", "/twins/dev1/modules/other/methods", body)
        .await
        .refused_nested(404_010, "ModuleNotFound");
    for nameless in ["{}", r#"{"methodName":null}"#, r#"{"methodName":""}"#] {
        test.owner("POST", "/twins/dev1/methods", nameless).await.refused_nested(400_005, "ArgumentNull");
    }
    for times in [
        r#""responseTimeoutInSeconds":-1"#,
        r#""responseTimeoutInSeconds":4"#,
        r#""responseTimeoutInSeconds":"4""#,
        r#""connectTimeoutInSeconds":"soon""#,
    ] {
        let body = format!(r#"{{"methodName":"x",{times}}}"#);
        test.owner("POST", "/twins/dev1/methods", &body).await.refused_nested(400_004, "ArgumentInvalid");
    }
    let deep = format!(r#"{{"methodName":"x","payload":{}{}}}"#, "[".repeat(60_000), "]".repeat(60_000));
    test.owner("POST", "/twins/dev1/methods", &deep).await.refused_nested(404_103, "DeviceNotOnline");
    test.owner("POST", "/twins/dev1/methods", "[").await.refused_nested(400_004, "ArgumentInvalid");
    let late = r#"{"methodName":"x","responseTimeoutInSeconds":10,"connectTimeoutInSeconds":20}"#;
    test.owner("POST", "/twins/dev1/methods", late).await.refused_nested(400_004, "ArgumentInvalid");
    let large = format!(r#"{{"methodName":"x","payload":"{}"}}"#, "x".repeat(128 * 1024));
    test.owner("POST", "/twins/dev1/methods", &large).await.refused_nested(413_001, "MessageTooLarge");
}
