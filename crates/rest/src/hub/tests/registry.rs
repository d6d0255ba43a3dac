//! Devices and modules: made, read, replaced, removed, listed and counted, with the members that Azure writes.

use serde_json::{Value, json};

use super::fixture::*;

#[tokio::test]
async fn a_device_is_created_read_replaced_and_deleted() {
    let test = TestDoor::new().await;
    let spec = r#"{"deviceId":"a#b%c","status":"disabled","statusReason":"new","authentication":null,"etag":"x","unknown":1}"#;
    let created = test.owner("PUT", "/devices/a%23b%25c", spec).await;
    created.status_is(200);
    let body = created.body_json();
    let etag = body["etag"].as_str().unwrap();
    assert_eq!(created.header_value("etag"), Some(format!("\"{etag}\"").as_str()));
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    let expected = [
        "deviceId",
        "generationId",
        "etag",
        "connectionState",
        "status",
        "statusReason",
        "connectionStateUpdatedTime",
        "statusUpdatedTime",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authentication",
        "capabilities",
    ];
    assert_eq!(members, expected);
    assert_eq!((&body["status"], &body["statusReason"]), (&json!("disabled"), &json!("new")));
    assert_eq!(body["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    assert_eq!(body["authentication"]["type"], "sas");
    assert!(body["authentication"]["symmetricKey"]["primaryKey"].is_string());
    assert_eq!(body["generationId"].as_str().unwrap().len(), 18);
    let read = test.owner("GET", "/Devices/a%23b%25c/", "").await;
    assert_eq!(read.body_json(), body);

    test.owner("PUT", "/devices/a%23b%25c", spec).await.refused(409, "DeviceAlreadyExists");
    let replaced = test.ask("PUT", "/devices/a%23b%25c", "{}").by_owner().if_match(etag).send().await;
    assert_eq!(replaced.body_json()["status"], "enabled");
    assert_ne!(replaced.body_json()["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    test.owner("DELETE", "/devices/a%23b%25c", "").await.refused(412, "PreconditionFailed");
    test.ask("DELETE", "/devices/a%23b%25c", "")
        .by_owner()
        .if_match(etag)
        .send()
        .await
        .refused(412, "PreconditionFailed");
    let deleted = test.ask("DELETE", "/devices/a%23b%25c", "").by_owner().if_match("\"*\"").send().await;
    assert_eq!((deleted.status.as_u16(), deleted.body_bytes().len()), (204, 0));
    test.owner("GET", "/devices/a%23b%25c", "").await.refused(404, "DeviceNotFound");
}

#[tokio::test]
async fn a_module_is_created_read_replaced_and_deleted() {
    let test = TestDoor::new().await;
    let spec = r#"{"deviceId":"dev1","moduleId":"m","managedBy":"me","authentication":{"type":"none"}}"#;
    let created = test.owner("PUT", "/devices/dev1/modules/m", spec).await;
    created.status_is(200);
    let body = created.body_json();
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    let expected = [
        "moduleId",
        "managedBy",
        "deviceId",
        "generationId",
        "etag",
        "connectionState",
        "connectionStateUpdatedTime",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authentication",
    ];
    assert_eq!(members, expected);
    assert_eq!((&body["managedBy"], &body["authentication"]["type"]), (&json!("me"), &json!("sas")));
    test.owner("PUT", "/devices/dev1/modules/m", spec).await.refused(409, "ModuleAlreadyExistsOnDevice");
    let etag = body["etag"].as_str().unwrap();
    let replaced = test.ask("PUT", "/devices/dev1/modules/m", "{}").by_owner().if_match(etag).send().await;
    assert_eq!(replaced.body_json()["managedBy"], Value::Null);
    let listed = test.owner("GET", "/devices/dev1/modules/", "").await.body_json();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|module| module["moduleId"].clone()).collect();
    assert_eq!(ids, ["m", "mod1"]);
    test.ask("DELETE", "/devices/dev1/modules/m", "").by_owner().if_match("*").send().await.status_is(204);
    test.owner("GET", "/devices/dev1/modules/m", "").await.refused(404, "ModuleNotFound");
}

#[tokio::test]
async fn authentications_are_written_as_azure_writes_them() {
    let test = TestDoor::new().await;
    let thumbprint = "AB".repeat(20);
    let spec = json!({"authentication": {
        "symmetricKey": {"primaryKey": null, "secondaryKey": null},
        "x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": null},
    }});
    let created = test.owner("PUT", "/devices/x", &spec.to_string()).await.body_json();
    let expected = json!({
        "symmetricKey": {"primaryKey": null, "secondaryKey": null},
        "x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": null},
        "type": "selfSigned",
    });
    assert_eq!(created["authentication"], expected);
    let twin = test.owner("GET", "/twins/x", "").await.body_json();
    assert_eq!(
        (&twin["authenticationType"], &twin["x509Thumbprint"]),
        (&json!("selfSigned"), &expected["x509Thumbprint"])
    );
    assert_eq!(twin["deviceEtag"], created["etag"]);
    let ca = test.owner("PUT", "/devices/ca", r#"{"authentication":{"type":"certificateAuthority"}}"#).await;
    assert_eq!(ca.body_json()["authentication"]["type"], "certificateAuthority");
}

#[tokio::test]
async fn an_iot_edge_device_shows_its_scope_and_its_parent() {
    let test = TestDoor::new().await;
    let edge = test.owner("PUT", "/devices/edge", r#"{"capabilities":{"iotEdge":true}}"#).await.body_json();
    let scope = edge["deviceScope"].as_str().unwrap();
    assert!(scope.starts_with("ms-azure-iot-edge://edge-"));
    assert_eq!(edge["capabilities"], json!({"iotEdge": true}));
    let leaf =
        test.owner("PUT", "/devices/leaf", &json!({ "deviceScope": scope }).to_string()).await.body_json();
    assert_eq!(leaf["parentScopes"], json!([scope]));
    let twin = test.owner("GET", "/twins/leaf", "").await.body_json();
    assert_eq!((&twin["deviceScope"], &twin["parentScopes"]), (&json!(scope), &json!([scope])));
    let stray = r#"{"deviceScope":"5f0e0c4e-0000-0000-0000-000000000000"}"#;
    test.owner("PUT", "/devices/stray", stray).await.refused(400, "InvalidDeviceScope");
}

#[tokio::test]
async fn lists_and_statistics_count_what_is_there() {
    let test = TestDoor::new().await;
    test.owner("PUT", "/devices/dev0", r#"{"status":"disabled"}"#).await.status_is(200);
    let top = async |query: &str| {
        let response =
            test.ask("GET", "/devices/", "").by_owner().query(&format!("{query}&{VERSION}")).send().await;
        response.status_is(200);
        response.body_json().as_array().unwrap().len()
    };
    assert_eq!((top("").await, top("top=1").await, top("top=1000").await), (2, 1, 2));
    for bad in ["top=0", "top=1001", "top=-1", "top=x"] {
        let response =
            test.ask("GET", "/devices", "").by_owner().query(&format!("{bad}&{VERSION}")).send().await;
        response.refused(400, "ArgumentInvalid");
    }
    let devices = test.owner("GET", "/statistics/devices", "").await.body_json();
    assert_eq!(devices, json!({"totalDeviceCount": 2, "enabledDeviceCount": 1, "disabledDeviceCount": 1}));
    let service = test.owner("GET", "/statistics/service", "").await.body_json();
    assert_eq!(service, json!({"connectedDeviceCount": 0}));
}

#[tokio::test]
async fn names_that_are_spelled_in_another_case_are_the_same_names() {
    let test = TestDoor::new().await;
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let spec = format!(
        r#"{{"DeviceId":"pascal","Status":"Disabled","StatusReason":"new","Capabilities":{{"IotEdge":"true"}},
            "Authentication":{{"Type":"SAS","SymmetricKey":{{"PrimaryKey":"{key}","SECONDARYKEY":"{key}"}}}}}}"#
    );
    let made = test.owner("PUT", "/devices/pascal", &spec).await;
    made.status_is(200);
    let made = made.body_json();
    assert_eq!((&made["status"], &made["statusReason"]), (&json!("disabled"), &json!("new")));
    assert_eq!(made["capabilities"]["iotEdge"], true);
    let keys = json!({"primaryKey": key, "secondaryKey": key});
    assert_eq!(made["authentication"]["symmetricKey"], keys, "no key is made up for one that was given");
    let module = format!(
        r#"{{"ManagedBy":"me","authentication":{{"SymmetricKey":{{"primarykey":"{key}","secondarykey":"{key}"}}}}}}"#
    );
    let made = test.owner("PUT", "/devices/dev1/modules/pascal", &module).await.body_json();
    assert_eq!((&made["managedBy"], &made["authentication"]["symmetricKey"]), (&json!("me"), &keys));
    test.owner("PUT", "/devices/other", r#"{"DeviceID":"pascal"}"#).await.refused(400, "ArgumentInvalid");
}

#[tokio::test]
async fn what_cannot_be_read_is_told_by_its_place_and_in_plain_words() {
    let test = TestDoor::new().await;
    for (body, says) in [
        (r#"{"deviceId":"x""#, "the JSON text ends too early"),
        ("{\n  status: 1}", "it is not JSON at line 2, column 3"),
        (
            r#"{"authentication":{"symmetricKey":{"primaryKey":7}}}"#,
            "'authentication.symmetricKey.primaryKey' must be a text",
        ),
        (r#"["x"]"#, "the body must be an object"),
    ] {
        let response = test.owner("PUT", "/devices/x", body).await;
        response.refused(400, "ArgumentInvalid");
        assert_eq!(response.body_json()["Message"], format!("ErrorCode:ArgumentInvalid;BadRequest: {says}"));
    }
}
