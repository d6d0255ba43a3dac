//! Devices over HTTPS: who may register, what they are told, what they may send.

use std::sync::Arc;
use std::time::Duration;

use base::meter::{Limits, Throttled};
use base::{InstanceId, Key, Meter, Throttle, caps, sas};
use serde_json::{Value, json};

use super::super::ProvisioningDoor;
use super::access::MALFORMED;
use super::fixture::*;
use crate::router::{Door, RouteInfo};

#[tokio::test]
async fn a_device_registers_polls_and_is_told_its_hub() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    let body = json!({"registrationId": "dev-1", "payload": {"any": ["thing"]}});
    let begun = fixture.device("PUT", "dev-1", "/register", &key).json(&body).send().await.is(202);
    assert_eq!(members(&begun.json()), ["operationId", "status"]);
    assert_eq!(begun.json()["status"], "assigning");
    assert_eq!(begun.header("retry-after"), Some("3"));
    let location =
        format!("https://{GLOBAL_HOST}/{}/registrations/dev-1/register", fixture.service.id_scope());
    assert_eq!(begun.header("location"), Some(location.as_str()));
    let operation = begun.json()["operationId"].as_str().unwrap().to_owned();
    assert!(operation.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')), "{operation}");

    let done = fixture.device("GET", "dev-1", &format!("/operations/{operation}"), &key).send().await.is(200);
    assert_eq!(done.header("retry-after"), None);
    let (status, state) = (done.json()["status"].clone(), done.json()["registrationState"].clone());
    assert_eq!(
        (&status, &state["status"], &state["substatus"]),
        (&json!("assigned"), &json!("assigned"), &json!("initialAssignment"))
    );
    assert_eq!(state["deviceId"], "dev-1");
    assert!(state["assignedHub"].as_str().unwrap().ends_with(".azure-devices.example.test"), "{state}");
    assert!(state.get("symmetricKey").is_none(), "no group let it in");
    assert!(state.get("payload").is_none(), "only webhooks answer payloads");

    let looked_up = fixture.device("POST", "dev-1", "", &key).json(&json!({"registrationId": "DEV-1"}));
    assert_eq!(looked_up.send().await.is(200).json(), state);
}

#[tokio::test]
async fn a_device_that_polls_too_often_is_told_how_long_to_wait() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    let begun = fixture.device("PUT", "dev-1", "/register", &key).send().await.is(202).json();
    let poll = format!("/operations/{}", begun["operationId"].as_str().unwrap());
    for _ in 0..caps::REGISTRATION_POLLS_MAX {
        fixture.device("GET", "dev-1", &poll, &key).send().await.is(200);
    }
    let refused = fixture.device("GET", "dev-1", &poll, &key).send().await.refused(429_001);
    assert_eq!(refused.header("retry-after"), Some("10"));
}

#[tokio::test]
async fn a_device_of_a_group_is_told_which() {
    let fixture = Fixture::new().await;
    let key = fixture.put_group("Group").await;
    let told = fixture.register("member", &key.derive("member")).await;
    assert_eq!(told["registrationState"]["symmetricKey"], json!({"enrollmentGroupId": "Group"}));
}

#[tokio::test]
async fn every_body_of_every_client_is_taken() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    for body in [
        "",
        " ",
        "{}",
        r#"{"payload":null,"registrationId":"dev-1"}"#,
        r#"{"payload":"text"}"#,
        r#"{"payload":[1,2]}"#,
        r#"{"payload":7.5}"#,
        r#"{"payload":true,"unknown":{}}"#,
    ] {
        let ask =
            fixture.device("PUT", "dev-1", "/register?forceRegistration=true&api-version=2019-03-31", &key);
        ask.bytes(body).header("content-encoding", "utf-8").send().await.is(202);
    }
    for body in ["{", "[]", "7", r#"{"registrationId":"dev-2"}"#, r#"{"registrationId":7}"#] {
        for (method, path) in [("PUT", "/register"), ("POST", "")] {
            fixture.device(method, "dev-1", path, &key).bytes(body).send().await.refused(400_004);
        }
    }
}

/// Every operation of devices, with what follows the registration in its path.
fn operations(operation_id: &str) -> Vec<(RouteInfo, String)> {
    let routes = ProvisioningDoor::routes();
    let of_devices = routes.describe().filter(|route| route.operation.starts_with("RuntimeRegistration_"));
    let path = |route: RouteInfo| {
        let below = route.template.strip_prefix("/{id_scope}/registrations/{id}").unwrap();
        (route, below.replace("{operation}", operation_id))
    };
    of_devices.map(path).collect()
}

#[tokio::test]
async fn a_malformed_oversized_or_foreign_body_of_a_device_is_refused_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    let operation = fixture.register("dev-1", &key).await["operationId"].as_str().unwrap().to_owned();
    let before = fixture.state().await;
    for (route, path) in operations(&operation) {
        let ask = || fixture.device(route.method, "dev-1", &path, &key);
        assert_eq!(route.body_bytes_max, caps::PROVISIONING_MESSAGE_BYTES_MAX, "{}", route.operation);
        ask().bytes(" ".repeat(route.body_bytes_max + 1)).send().await.refused(413_000);
        if route.method != "GET" {
            for malformed in MALFORMED {
                eprintln!("{} with {}", route.operation, String::from_utf8_lossy(malformed));
                ask().bytes(malformed).send().await.refused(400_004);
            }
            ask().bytes("{}").header("content-type", "text/plain").send().await.refused(415_000);
        }
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn no_device_gets_in_with_anything_but_its_own_key() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    let other_key = primary_key(&fixture.put_individual("dev-2").await);
    let group_key = fixture.put_group("group").await;
    let operation = fixture.device("PUT", "dev-1", "/register", &key).send().await.is(202).json();
    let operations = operations(operation["operationId"].as_str().unwrap());
    let resource = format!("{}/registrations/dev-1", fixture.service.id_scope());
    let signed =
        |resource: &str, seconds, name| sas::build(resource, &key, fixture.in_seconds(seconds), name);
    let credentials = [
        ("none", None),
        ("no token", Some("SharedAccessSignature sr=x".to_owned())),
        ("a wrong key", Some(fixture.device_token("dev-1", &Key::generate(64)))),
        ("an expired token", Some(signed(&resource, -301, Some("registration")))),
        ("a policy's name", Some(signed(&resource, 60, Some("provisioningserviceowner")))),
        ("another device's token", Some(fixture.device_token("dev-2", &other_key))),
        ("another device's key", Some(fixture.device_token("dev-1", &other_key))),
        ("the group's own key", Some(fixture.device_token("dev-1", &group_key))),
        (
            "the group's key for a device that has an enrollment",
            Some(fixture.device_token("dev-1", &group_key.derive("dev-1"))),
        ),
        (
            "another service's scope",
            Some(signed(&format!("{}/registrations/dev-1", fixture.other.id_scope()), 60, None)),
        ),
        ("a hub's resource", Some(signed("hub1.azure-devices.example.test/devices/dev-1", 60, None))),
        ("the service's owner", Some(fixture.policy("provisioningserviceowner"))),
        ("a bearer token", Some(fixture.contributor().await)),
    ];
    let before = fixture.state().await;
    for (what, credential) in credentials {
        for (route, path) in &operations {
            eprintln!("{} with {what}", route.operation);
            let ask = fixture.device(route.method, "dev-1", path, &key).authorization(credential.as_deref());
            ask.json(&json!({})).send().await.refused(401_002);
        }
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn unknown_scopes_devices_and_operations_are_told_apart_as_little_as_can_be() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    let token = fixture.device_token("dev-1", &key);
    fixture
        .ask("PUT", "/0ne00000000/registrations/dev-1/register")
        .with(&token)
        .send()
        .await
        .refused(401_002);
    let other = format!("/{}/registrations/dev-1/register", fixture.other.id_scope());
    fixture.ask("PUT", &other).with(&token).send().await.refused(401_002);
    fixture.device("PUT", "dev-9", "/register", &key).send().await.refused(401_002);
    fixture.device("PUT", "a%20b", "/register", &key).send().await.refused(400_004);
    fixture.device("POST", "dev-1", "", &key).send().await.refused(404_201);
    fixture.register("dev-1", &key).await;
    let before = fixture.get("/registrations/dev-1").await;
    for operation in ["5.0.0", "x", "%20", "..", "a%2Fb", "%00", &"9".repeat(4000)] {
        let path = format!("/operations/{operation}");
        fixture.device("GET", "dev-1", &path, &key).send().await.refused(404_203);
    }
    assert_eq!(fixture.get("/registrations/dev-1").await, before);
    fixture.device("PUT", "dev-1", "/register?no-version", &key).send().await.refused(400_001);
    fixture.device("DELETE", "dev-1", "/register", &key).send().await.refused(405_000);
}

#[tokio::test]
async fn the_scope_finds_the_service_at_any_host_and_in_any_case() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    for host in [HOST, GLOBAL_HOST, "localhost:8443", OTHER_HOST] {
        fixture.device("PUT", "dev-1", "/register", &key).host(host).send().await.is(202);
    }
    let path = format!("/{}/Registrations/DEV-1/Register", fixture.service.id_scope().to_ascii_lowercase());
    fixture.ask("PUT", &path).with(&fixture.device_token("dev-1", &key)).send().await.is(202);
}

#[tokio::test]
async fn only_newer_devices_are_told_that_they_were_reprovisioned() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    fixture.register("dev-1", &key).await;
    for (version, substatus) in [
        ("2018-11-01", "initialAssignment"),
        ("2019-03-31", "initialAssignment"),
        ("2019-04-15", "reprovisionedToInitialAssignment"),
        ("2021-06-01", "reprovisionedToInitialAssignment"),
    ] {
        let told = fixture.register_as("dev-1", &key, version).await;
        assert_eq!(told["registrationState"]["substatus"], substatus, "{version}");
    }
}

async fn put_changed(fixture: &Fixture, change: impl Fn(&mut Value)) -> Key {
    let mut body = individual("dev-1");
    change(&mut body);
    primary_key(&fixture.ask("PUT", "/enrollments/dev-1").json(&body).send().await.is(200).json())
}

#[tokio::test]
async fn a_disabled_enrollment_ends_at_once_and_leaves_its_mark() {
    let fixture = Fixture::new().await;
    let key = put_changed(&fixture, |body| body["provisioningStatus"] = json!("disabled")).await;
    let told = fixture.device("PUT", "dev-1", "/register", &key).send().await.is(200);
    assert_eq!((told.header("retry-after"), told.header("location")), (None, None));
    let told = told.json();
    assert_eq!(
        (&told["status"], &told["registrationState"]["status"]),
        (&json!("disabled"), &json!("disabled"))
    );
    let seen = fixture.get("/registrations/dev-1").await;
    assert_eq!(seen["status"], "disabled");
    assert!(seen.get("assignedHub").is_none());
}

#[tokio::test]
async fn a_failed_assignment_is_told_with_a_200() {
    let fixture = Fixture::new().await;
    let key = put_changed(&fixture, |body| {
        body["allocationPolicy"] = json!("custom");
        body["customAllocationDefinition"] =
            json!({"webhookUrl": "https://www.test.test", "apiVersion": "2021-10-01"});
    })
    .await;
    let told = fixture.register("dev-1", &key).await;
    assert_eq!(told["status"], "failed");
    assert_eq!(told["registrationState"]["errorCode"], 400_207);
    assert!(told["registrationState"]["errorMessage"].is_string());
    assert_eq!(fixture.get("/registrations/dev-1").await["status"], "failed");
}

#[tokio::test]
async fn a_static_enrollment_gets_its_hub_its_device_id_and_its_twin() {
    let fixture = Fixture::new().await;
    let key = put_changed(&fixture, |body| {
        body["deviceId"] = json!("Pump-7");
        body["allocationPolicy"] = json!("Static");
        body["iotHubs"] = json!(["hub2.azure-devices.example.test"]);
        body["capabilities"] = json!({"iotEdge": true});
        body["initialTwin"] = json!({"tags": {"floor": 3}, "properties": {"desired": {"rate": 5}}});
    })
    .await;
    let told = fixture.register("dev-1", &key).await["registrationState"].clone();
    assert_eq!(
        (&told["assignedHub"], &told["deviceId"]),
        (&json!("hub2.azure-devices.example.test"), &json!("Pump-7"))
    );
    let hub = fixture.hubs.find("hub2").unwrap();
    let (caller, id) = (::access::Caller::system(), "Pump-7".parse().unwrap());
    let device = hub.get_device(&caller, &id).await.unwrap();
    assert!(device.identity.iot_edge);
    let twin = hub.get_twin(&caller, &base::ids::IdentityId::device(id)).await.unwrap().twin;
    assert_eq!(twin.tags["floor"], 3);
    assert_eq!(twin.properties.desired.with_metadata()["rate"], 5);
}

struct Never;

impl Limits for Never {
    fn charge(&self, meter: Meter, _: &InstanceId) -> Result<(), Throttled> {
        match meter {
            Meter::DeviceRegistration => Err(Throttled { retry_after: Duration::from_secs(7) }),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_throttled_device_is_told_when_to_come_back() {
    let fixture = Fixture::throttled(Throttle::with(Arc::new(Never))).await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    let refused = fixture.device("PUT", "dev-1", "/register", &key).send().await.refused(429_001);
    assert_eq!(refused.header("retry-after"), Some("7"));
    fixture.ask("GET", "/registrations/dev-1").send().await.refused(404_201);
}
