//! Messages of devices and modules over HTTPS, by token and by certificate.

use access::Caller;
use base::Key;
use hub::cloud_to_device::{Ack, Outcome, Properties};
use hub::telemetry::headers::{self, Property};
use serde_json::{Value, json};
use store::Position;
use test_certificates::{Certified, leaf};

use super::fixture::*;

const DEVICE: &str = "/devices/dev1/messages/events";
const MODULE: &str = "/devices/dev1/modules/mod1/messages/events";
const BATCH: (&str, &str) = ("content-type", "application/vnd.microsoft.iothub.json");

/// What devices sent: bodies, and properties as `name=value`.
async fn messages(test: &TestDoor) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for partition in 0..test.hub.partition_count() {
        let stream = test.hub.event_stream();
        let records = test.streams.read(stream, partition, Position::Earliest, 1000).await.unwrap();
        for record in &records {
            let write = |property| match property {
                Property::System(property, value) => format!("{}={value}", property.name()),
                Property::Application(name, value) => format!("{name}={value}"),
            };
            let properties: Vec<_> = headers::read(&record.headers).map(write).collect();
            if properties.iter().any(|property| property == "iothub-message-source=Telemetry") {
                all.push((String::from_utf8(record.body.to_vec()).unwrap(), properties));
            }
        }
    }
    all
}

async fn token(test: &TestDoor, path: &str) -> String {
    let shown = test.owner("GET", path, "").await.body_json();
    let key = shown["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    test.token(&format!("{HOST}{path}"), &key.parse::<Key>().unwrap(), None, 3600)
}

#[tokio::test]
async fn a_device_and_a_module_send_with_their_own_tokens() {
    let test = TestDoor::new().await;
    let (device, module) =
        (token(&test, "/devices/dev1").await, token(&test, "/devices/dev1/modules/mod1").await);
    let sent = test.ask("POST", DEVICE, "21").with(device.clone()).headers(&[
        ("IoTHub-MessageId", "m1"),
        ("iothub-contenttype", "application/json"),
        ("iothub-app-room", "north"),
        ("iothub-app-iothub-connection-device-id", "dev2"),
        ("x-other", "passed over"),
    ]);
    sent.send().await.status_is(204);
    let [(body, properties)] = &messages(&test).await[..] else { panic!("one message") };
    assert_eq!(body, "21");
    for expected in [
        "message-id=m1",
        "content-type=application/json",
        "room=north",
        "iothub-connection-device-id=dev1",
        r#"iothub-connection-auth-method={"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#,
    ] {
        assert!(properties.iter().any(|property| property == expected), "{expected}: {properties:?}");
    }
    assert!(!properties.iter().any(|property| property.contains("passed over") || property.contains("dev2")));
    test.ask("POST", MODULE, "22").with(module.clone()).send().await.status_is(204);
    let all = messages(&test).await;
    let of_module = &all.iter().find(|(body, _)| body == "22").unwrap().1;
    assert!(of_module.iter().any(|property| property == "iothub-connection-module-id=mod1"), "{of_module:?}");
    for (path, authorization) in [
        (DEVICE, module),
        (MODULE, device.clone()),
        ("/devices/dev2/messages/events", device),
        (DEVICE, test.token_of("service")),
        (DEVICE, test.bearer(&["4fc6c259-987e-4a07-842e-c321cc9d413f"], "https://iothubs.azure.net").await),
    ] {
        let refused = test.ask("POST", path, "no").with(authorization).send().await;
        refused.refused(401, "IotHubUnauthorizedAccess");
    }
    test.ask("POST", DEVICE, "no").send().await.refused(401, "IotHubUnauthorizedAccess");
    assert_eq!(messages(&test).await.len(), 2);
    test.ask("POST", DEVICE, "by policy").by_owner().send().await.status_is(204);
}

#[tokio::test]
async fn a_certificate_of_the_connection_speaks_for_the_device_that_it_is_registered_for_alone() {
    let test = TestDoor::new().await;
    let (own, other) = (Certified::own(leaf("x")), Certified::own(leaf("x")));
    let thumbprint = access::certificates::describe(&own.der).unwrap().sha1_thumbprint;
    let registered = json!({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint}}});
    test.owner("PUT", "/devices/dev2", &registered.to_string()).await.status_is(200);
    let path = "/devices/dev2/messages/events";
    test.ask("POST", path, "21").presenting(&own.der).send().await.status_is(204);
    let [(_, properties)] = &messages(&test).await[..] else { panic!("one message") };
    let method = r#"iothub-connection-auth-method={"scope":"device","type":"x509","issuer":"external","acceptingIpFilterRule":null}"#;
    assert!(properties.iter().any(|property| property == method), "{properties:?}");
    let refused = [
        test.ask("POST", path, "no").presenting(&other.der),
        test.ask("POST", path, "no").presenting(&other.der).presenting(&own.der),
        test.ask("POST", path, "no"),
        test.ask("POST", path, "no").presenting(&own.der).by_owner(),
        test.ask("POST", DEVICE, "no").presenting(&own.der),
        test.ask("GET", "/devices/dev2", "").presenting(&own.der),
    ];
    for ask in refused {
        ask.send().await.refused(401, "IotHubUnauthorizedAccess");
    }
    assert_eq!(messages(&test).await.len(), 1);
}

#[tokio::test]
async fn a_batch_arrives_as_a_whole_or_not_at_all() {
    let test = TestDoor::new().await;
    let token = token(&test, "/devices/dev1").await;
    let send = async |items: Value| {
        test.ask("POST", DEVICE, &items.to_string()).with(token.clone()).headers(&[BATCH]).send().await
    };
    let good = json!({"body": "eA==", "properties": {"iothub-app-p": "v", "IoTHub-MessageId": "1", "iothub-messageid": "2"}});
    send(json!([good, {"body": "plain", "base64Encoded": false}])).await.status_is(204);
    let sent = messages(&test).await;
    assert_eq!(sent.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>(), ["x", "plain"]);
    let properties = &sent[0].1;
    assert!(properties.iter().any(|property| property == "p=v"), "{properties:?}");
    assert_eq!(properties.iter().filter(|property| property.starts_with("message-id=")).count(), 1);
    let large = json!({"body": "x".repeat(base::caps::TELEMETRY_BYTES_MAX / 2 + 1), "base64Encoded": false});
    send(json!([large])).await.status_is(204);
    let before = messages(&test).await.len();
    send(json!([large, large])).await.refused(413, "MessageTooLarge");
    for items in [json!([good, {"body": "?"}]), json!([good, {}]), json!({"body": "eA=="})] {
        send(items).await.refused(400, "ArgumentInvalid");
    }
    test.limiter.0.store(true, std::sync::atomic::Ordering::Relaxed);
    send(json!([good])).await.refused(429, "ThrottlingException");
    test.limiter.0.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(messages(&test).await.len(), before);
}

#[tokio::test]
async fn a_device_fetches_its_messages_one_by_one_and_says_what_became_of_each() {
    let test = TestDoor::new().await;
    let (device, module) =
        (token(&test, "/devices/dev1").await, token(&test, "/devices/dev1/modules/mod1").await);
    let ask = async |method: &str, path: &str| {
        let path = format!("/devices/dev1/messages/deviceBound{path}");
        test.ask(method, &path, "").with(device.clone()).send().await
    };
    ask("GET", "").await.status_is(204);
    for body in ["one", "two"] {
        let properties = Properties {
            message_id: Some("m ü".into()),
            content_type: Some("text/plain".into()),
            ack: Some(Ack::Full),
            application: vec![("room".into(), "north".into()), ("a b".into(), "x".into())],
            ..Properties::default()
        };
        let (system, dev1) = (Caller::system(), "dev1".parse().unwrap());
        test.hub.send_to_device(&system, &dev1, properties, body.into()).await.unwrap();
    }
    let first = ask("GET", "").await;
    first.status_is(200);
    assert_eq!(first.body_bytes(), "one");
    for (name, value) in [
        ("iothub-messageid", "m %C3%BC"),
        ("iothub-sequencenumber", "1"),
        ("iothub-enqueuedtime", "2026-01-02T03:04:05.1234567Z"),
        ("iothub-expiry", "2026-01-02T04:04:05.1234567Z"),
        ("iothub-deliverycount", "0"),
        ("iothub-ack", "full"),
        ("contenttype", "text/plain"),
        ("iothub-app-room", "north"),
    ] {
        assert_eq!(first.header_value(name), Some(value), "{name}");
    }
    let held = |response: &crate::wire::Response| {
        response.header_value("etag").unwrap().trim_matches('"').to_owned()
    };
    let second = ask("GET", "").await;
    assert_eq!(second.body_bytes(), "two");
    ask("GET", "").await.status_is(204);
    ask("POST", &format!("/{}/abandon", held(&first))).await.status_is(204);
    ask("DELETE", &format!("/{}", held(&first))).await.refused(412, "DeviceMessageLockLost");
    let again = ask("GET", "").await;
    assert_eq!(
        (again.body_bytes().as_ref(), again.header_value("iothub-deliverycount")),
        (&b"one"[..], Some("1"))
    );
    ask("DELETE", &format!("/{}", held(&again))).await.status_is(204);
    let rejected = format!("/devices/dev1/messages/devicebound/{}", held(&second));
    test.ask("DELETE", &rejected, "")
        .with(device.clone())
        .query("reject=true&api-version=2021-04-12")
        .send()
        .await
        .status_is(204);
    let told = test.hub.receive_feedback(&Caller::system()).await.unwrap().unwrap().told;
    let outcomes: Vec<_> = told.iter().map(|told| told.outcome).collect();
    assert_eq!(outcomes, [Outcome::Success, Outcome::Rejected]);
    let stranger = test.ask("GET", "/devices/dev1/messages/devicebound", "").with(module);
    stranger.send().await.refused(401, "IotHubUnauthorizedAccess");
}
