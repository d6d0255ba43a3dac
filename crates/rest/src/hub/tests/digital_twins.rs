//! Digital twins of devices on the wire, and commands.

use std::time::Duration;

use base::sas::SasToken;
use bytes::Bytes;
use hub::Command;
use serde_json::json;

use super::fixture::*;

/// How long a test waits for both sides, so that a fault fails it and does not hang it.
const PATIENCE: Duration = Duration::from_secs(30);
const PATH: &str = "/digitaltwins/dev1";

#[tokio::test]
async fn a_digital_twin_carries_the_tag_of_its_device_twin_in_the_header() {
    let test = TestDoor::new().await;
    let response = test.owner("GET", PATH, "").await;
    response.status_is(200);
    assert_eq!(response.body_bytes(), r#"{"$dtId":"dev1","$metadata":{"$model":""}}"#);
    assert_eq!(response.header_value("etag"), Some("\"AAAAAAAAAAE=\""));
    test.owner("GET", "/digitaltwins/other", "").await.refused(404, "DeviceNotFound");
}

#[tokio::test]
async fn a_patch_is_accepted_with_the_new_tag_and_the_place_to_read() {
    let test = TestDoor::new().await;
    let body = r#"[{"op":"add","path":"/interval","value":5}]"#;
    let response = test.ask("PATCH", PATH, body).by_owner().if_match("\"AAAAAAAAAAE=\"").send().await;
    response.status_is(202);
    assert_eq!(response.header_value("etag"), Some("\"AAAAAAAAAAI=\""));
    let location = format!("https://{HOST}{PATH}?{VERSION}");
    assert_eq!(response.header_value("location"), Some(location.as_str()));
    assert!(response.body_bytes().is_empty());
    let shown = test.owner("GET", PATH, "").await.body_json();
    assert_eq!(shown["$metadata"]["interval"], json!({"desiredValue": 5, "desiredVersion": 2}));
}

#[tokio::test]
async fn a_patch_that_is_none_changes_nothing() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let move_it = r#"[{"op":"move","path":"/a","from":"/b"}]"#;
    for body in ["", "{", "{}", "1", "null", "[null]", r#"[{"op":"add","path":"a","value":1}]"#, move_it] {
        test.owner("PATCH", PATH, body).await.refused(400, "InvalidDigitalTwinJsonPatch");
    }
    let array = r#"[{"op":"add","path":"/a","value":[1]}]"#;
    test.owner("PATCH", PATH, array).await.refused(400, "InvalidDigitalTwinPatch");
    let path = r#"[{"op":"add","path":"/$metadata","value":1}]"#;
    test.owner("PATCH", PATH, path).await.refused(400, "InvalidDigitalTwinPatchPath");
    test.owner("PATCH", PATH, "[]").await.status_is(202);
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn a_command_reaches_the_device_and_its_answer_comes_back_as_it_is() {
    let test = TestDoor::new().await;
    let policy = test.policy("device");
    let token = SasToken::parse(&test.token(HOST, &policy.primary_key, Some("device"), 60)).unwrap();
    let authentication = test.hub.authenticate_device(HOST, &"dev1".parse().unwrap(), &token).await;
    let session = test.hub.open_session(authentication.unwrap(), None).await.unwrap();
    session.listen_to_methods(true);
    let cases = [
        (
            "/digitaltwins/dev1/commands/reboot",
            "reboot",
            r#"{"a":[1, 2.0]}"#,
            r#"{"b":1.50}"#,
            r#"{"b":1.50}"#,
        ),
        (
            "/digitaltwins/dev1/Components/thermostat1/commands/getReport",
            "thermostat1*getReport",
            "",
            "",
            "null",
        ),
    ];
    for (path, name, asked, answered, shown) in cases {
        let device = async {
            let Command::InvokeMethod { request_id, name, payload } = session.next_command().await else {
                panic!("no method")
            };
            test.hub.complete_method(&session, request_id, 299, Bytes::from(answered));
            (name, payload)
        };
        let query = format!("{VERSION}&connectTimeoutInSeconds=5&responseTimeoutInSeconds=20");
        let call = test.ask("POST", path, asked).by_owner().query(&query).send();
        let both = tokio::time::timeout(PATIENCE, async { tokio::join!(call, device) });
        let (response, heard) = both.await.expect("the command is called and answered");
        response.status_is(200);
        assert_eq!(response.header_value("x-ms-command-statuscode"), Some("299"));
        assert!(response.header_value("x-ms-request-id").is_some());
        assert_eq!(response.body_bytes(), shown);
        assert_eq!((heard.0.as_str(), heard.1), (name, Bytes::from(asked)));
    }
}

#[tokio::test]
async fn refusals_of_commands_are_nested() {
    let test = TestDoor::new().await;
    for path in
        ["/digitaltwins/dev1/commands/reboot", "/digitaltwins/dev1/components/thermostat1/commands/reboot"]
    {
        let ask = async |path: &str, query: &str, body: &str| {
            test.ask("POST", path, body).by_owner().query(&format!("{VERSION}{query}")).send().await
        };
        ask(path, "", "").await.refused_nested(404_103, "DeviceNotOnline");
        ask(&path.replace("dev1", "other"), "", "").await.refused_nested(404_001, "DeviceNotFound");
        ask(path, "", "{").await.refused_nested(400_506, "InvalidDigitalTwinPayload");
        for seconds in ["x", "-1", "", "4", "1000"] {
            let query = format!("&responseTimeoutInSeconds={seconds}");
            ask(path, &query, "").await.refused_nested(400_004, "ArgumentInvalid");
        }
    }
}

#[tokio::test]
async fn a_principal_reads_digital_twins_and_invokes_no_command_whatever_its_roles() {
    let test = TestDoor::new().await;
    let contributor = "4fc6c259-987e-4a07-842e-c321cc9d413f";
    let bearer = test.bearer(&[contributor], "https://iothubs.azure.net").await;
    test.ask("GET", "/digitaltwins/dev1", "").with(bearer.clone()).send().await.status_is(200);
    let method =
        test.ask("POST", "/twins/dev1/methods", r#"{"methodName":"x"}"#).with(bearer.clone()).send().await;
    method.refused_nested(404_103, "DeviceNotOnline");
    for path in ["/digitaltwins/dev1/commands/x", "/digitaltwins/dev1/components/c/commands/x"] {
        let command = test.ask("POST", path, "{}").with(bearer.clone()).send().await;
        command.refused_nested(401_002, "IotHubUnauthorizedAccess");
    }
}
