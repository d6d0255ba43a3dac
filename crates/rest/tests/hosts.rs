//! Hosts over HTTPS: who answers at which name, and which host an answer carries.

#![allow(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod cloud;

use base::hosts::NoMachine;
use base::{Key, Secret, sas};
use cloud::{Cloud, GROUP, SUBSCRIPTION};
use entrance::Peer;
use provisioning::{EnrollmentDraft, EnrollmentKind, attestation::AttestationDraft};
use rest::Response;
use serde_json::{Value, json};

const HUB_VERSION: &str = "api-version=2021-04-12";
const DPS_VERSION: &str = "api-version=2021-10-01";

/// Two hubs, a provisioning service and a Digital Twins instance; the first of each kind answers where no instance is named.
async fn cloud() -> Cloud {
    let cloud = Cloud::on(NoMachine).await;
    let twins = "/providers/Microsoft.DigitalTwins/digitalTwinsInstances/twins";
    cloud.manage("PUT", twins, json!({"location": "eastus"})).await;
    cloud
}

/// A request of the default hub's owner, who calls it `host`.
async fn list_devices(cloud: &Cloud, host: &str) -> Response {
    let hub = cloud.hubs.find("hub1").unwrap();
    let key = hub.settings().policy("iothubowner").unwrap().primary_key.clone();
    let token = sas::build(host, &key, cloud.in_an_hour(), Some("iothubowner"));
    let path = format!("/statistics/devices?{HUB_VERSION}");
    cloud.send("GET", host, &path, &[("authorization", &token)], &Value::Null).await
}

async fn get_enrollment(cloud: &Cloud, host: &str) -> Response {
    let service = cloud.service();
    let key = service.settings().policy("provisioningserviceowner").unwrap().primary_key.clone();
    let token = sas::build(host, &key, cloud.in_an_hour(), Some("provisioningserviceowner"));
    let path = format!("/enrollments/nobody?{DPS_VERSION}");
    cloud.send("GET", host, &path, &[("authorization", &token)], &Value::Null).await
}

async fn list_models(cloud: &Cloud, host: &str) -> Response {
    cloud.send("GET", host, "/models?api-version=2023-10-31", &[], &Value::Null).await
}

#[tokio::test]
async fn at_a_name_of_no_instance_nobody_answers_and_at_every_other_name_the_default_one_does() {
    let cloud = cloud().await;
    for host in ["127.0.0.1", "localhost:8443", "example.test", "myhub.azure-devices.net"] {
        assert_eq!(list_devices(&cloud, host).await.status, 200, "{host}");
        assert_eq!(get_enrollment(&cloud, host).await.body_json()["errorCode"], 404_201, "{host}");
        assert_eq!(list_models(&cloud, host).await.status, 401, "{host}: it wants a token");
    }
    let hub = list_devices(&cloud, "typo.azure-devices.example.test").await;
    assert_eq!(hub.status, 404);
    assert_eq!(hub.header_value("iothub-errorcode"), Some("IotHubNotFound"));
    assert!(hub.body_json()["Message"].as_str().unwrap().starts_with("ErrorCode:IotHubNotFound;"));
    let service = get_enrollment(&cloud, "typo.azure-devices-provisioning.example.test").await;
    assert_eq!((service.status.as_u16(), &service.body_json()["errorCode"]), (404, &json!(404_000)));
    for host in ["typo.api.wus2.digitaltwins.example.test", "twins.api.wus.digitaltwins.example.test"] {
        let twins = list_models(&cloud, host).await;
        assert_eq!(twins.status, 404, "{host}");
        assert_eq!(twins.body_json()["error"]["message"], "Sub-Domain not found.");
    }
    let bearer = format!("Bearer {}", cloud.token);
    let headers = [("authorization", bearer.as_str())];
    let path = "/subscriptions?api-version=2020-01-01";
    for (host, status) in [("management.example.test", 200), ("typo.servicebus.example.test", 404)] {
        assert_eq!(cloud.send("GET", host, path, &headers, &Value::Null).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_envelope_of_the_service_that_would_have_it() {
    let cloud = cloud().await;
    let bearer = format!("Bearer {}", cloud.token);
    let ask = async |method: &str, path: &str| {
        let headers = [("authorization", bearer.as_str())];
        cloud.send(method, "localhost", path, &headers, &Value::Null).await
    };
    let hub = async |method, path: &str, status, name| {
        let answer = ask(method, &format!("{path}?{HUB_VERSION}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header_value("iothub-errorcode")),
            (status, Some(name)),
            "{path}"
        );
        let text = answer.body_json()["Message"].as_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("ErrorCode:{name};")), "{text}");
    };
    for path in ["/devices/dev1/modules/mod1/more", "/twins/dev1/what", "/messages/nowhere"] {
        hub("GET", path, 404, "GenericNotFound").await;
    }
    let service = ask("GET", &format!("/enrollments/a/b/c?{DPS_VERSION}")).await;
    assert_eq!((service.status.as_u16(), &service.body_json()["errorCode"]), (404, &json!(404_000)));
    for (path, code) in [("/models/a/b", "NotFound"), ("/jobs/imports", "NotSupported")] {
        let twins = ask("GET", &format!("{path}?api-version=2023-10-31")).await;
        assert_eq!(
            (twins.status.as_u16(), &twins.body_json()["error"]["code"]),
            (404, &json!(code)),
            "{path}"
        );
    }
    let path = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.DigitalTwins/digitalTwinsInstances/twins1/timeSeriesDatabaseConnections?api-version=2023-01-31"
    );
    let management = ask("GET", &path).await.body_json();
    assert_eq!(management["error"]["code"], "NotSupported", "{management}");
    assert!(
        management["error"]["message"].as_str().unwrap().contains("'TimeSeriesDatabaseConnections_List'")
    );
    assert_eq!(ask("GET", "/nowhere").await.body_json()["error"]["code"], "NotFound");
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_by_the_door_that_it_came_to() {
    let cloud = cloud().await;
    let (encoding, escape) = ("UTF-8", "two hexadecimal digits");
    for (path, member, why) in [
        ("/twins/%ff?api-version=2021-04-12", "Message", encoding),
        ("/twins/dev1?api-version=%ff", "Message", encoding),
        ("/twins/dev%zz?api-version=2021-04-12", "Message", escape),
        ("/twins/%?api-version=2021-04-12", "Message", escape),
        ("/enrollments/%c3%28?api-version=2021-10-01", "errorCode", encoding),
        ("/digitaltwins/%ff?api-version=2023-10-31", "error", encoding),
        ("/models/dev%4?api-version=2023-10-31", "error", escape),
        ("/subscriptions/%ff?api-version=2021-04-01", "error", encoding),
        ("/v1.0/servicePrincipals/%ff", "error", encoding),
        ("/common/oauth2/v2.0/token?%ff", "error_description", encoding),
    ] {
        let answer = cloud.send("GET", "localhost", path, &[], &Value::Null).await;
        assert_eq!(answer.status, 400, "{path}");
        let body = answer.body_json();
        assert!(!body[member].is_null() && body.to_string().contains(why), "{path}: {body}");
    }
    let path = "/twins/dev1?api-version=2021-04-12";
    let two = cloud.send("GET", "localhost", path, &[("host", "other")], &Value::Null).await;
    assert_eq!(two.status, 400);
    assert!(two.body_json()["Message"].as_str().unwrap().contains("one Host header"));
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_told_which_ones_it_has() {
    let cloud = cloud().await;
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}?api-version=2021-04-01");
    for (path, allowed) in [
        ("/twins/dev1?api-version=2021-04-12", "GET, PUT, PATCH"),
        ("/enrollments/one?api-version=2021-10-01", "GET, PUT, DELETE"),
        ("/models/one?api-version=2023-10-31", "GET, PATCH, DELETE"),
        (&group, "GET, HEAD, PUT, PATCH, DELETE"),
        ("/common/oauth2/v2.0/token", "POST"),
        ("/v1.0/servicePrincipals", "GET"),
    ] {
        let answer = cloud.send("OPTIONS", "localhost", path, &[], &Value::Null).await;
        let mut methods: Vec<_> = answer.header_value("allow").unwrap_or_default().split(", ").collect();
        let mut wanted: Vec<_> = allowed.split(", ").collect();
        methods.sort_unstable();
        wanted.sort_unstable();
        assert_eq!((answer.status.as_u16(), methods), (405, wanted), "{path}");
    }
}

#[tokio::test]
async fn browsers_are_told_to_insist_on_tls_at_names_of_our_own_alone() {
    let cloud = cloud().await;
    let told = async |host: &str| {
        list_models(&cloud, host).await.header_value("strict-transport-security").is_some()
    };
    for host in ["twins.api.wus2.digitaltwins.example.test", "example.test:8443"] {
        assert!(told(host).await, "{host}");
    }
    for host in [
        "localhost",
        "LOCALHOST:8443",
        "twins.localhost",
        "127.3.2.1",
        "10.1.2.3:443",
        "[::1]:8443",
        "[fd00::1]",
    ] {
        assert!(!told(host).await, "{host}");
    }
}

#[tokio::test]
async fn a_device_registers_at_the_global_name_and_not_at_one_of_no_service() {
    let cloud = cloud().await;
    let (scope, key) = (cloud.service().id_scope().to_owned(), Key::generate(64));
    for (host, status) in [
        ("global.azure-devices-provisioning.example.test", 401),
        ("typo.azure-devices-provisioning.example.test", 404),
    ] {
        let answer = register(&cloud, host, Peer::default(), &scope, &key).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn the_name_of_a_removed_hub_is_not_answered_by_the_default_one() {
    let cloud = cloud().await;
    let host = "hub2.azure-devices.example.test";
    assert_eq!(list_devices(&cloud, host).await.status, 401, "the key is another hub's");
    cloud.manage("DELETE", "/providers/Microsoft.Devices/IotHubs/hub2", Value::Null).await;
    assert_eq!(list_devices(&cloud, host).await.status, 404);
}

async fn register(cloud: &Cloud, host: &str, peer: Peer, scope: &str, key: &Key) -> Response {
    let resource = format!("{scope}/registrations/dev-1");
    let token = sas::build(&resource, key, cloud.in_an_hour(), Some("registration"));
    let path = format!("/{resource}/register?api-version=2021-06-01");
    let headers = [("authorization", token.as_str())];
    cloud.send_to(peer, "PUT", host, &path, &headers, &json!({"registrationId": "dev-1"})).await
}

fn at(local: &str) -> Peer {
    Peer { local: Some(format!("{local}:8443").parse().unwrap()), ..Peer::default() }
}

/// How a client that dialled `host` at the address `local` sees a resource.
async fn seen(cloud: &Cloud, (host, local): (&str, &str), path: &str) -> Value {
    let version = if path.contains("DigitalTwins") { "2023-01-31" } else { "2021-07-02" };
    let version = if path.contains("provisioningServices") { "2021-10-15" } else { version };
    let url = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{path}?api-version={version}"
    );
    let bearer = format!("Bearer {}", cloud.token);
    let headers = [("authorization", bearer.as_str())];
    cloud.send_to(at(local), "GET", host, &url, &headers, &Value::Null).await.body_json()["properties"]
        .clone()
}

#[tokio::test]
async fn every_answer_about_a_default_instance_carries_what_its_reader_dialled() {
    let cloud = cloud().await;
    for (dialled, wanted) in [
        (("192.168.1.5:8443", "192.168.1.5"), "192.168.1.5"),
        (("plant.example.com", "192.168.1.5"), "plant.example.com"),
        (("localhost", "127.0.0.1"), "127.0.0.1"),
    ] {
        let hub = seen(&cloud, dialled, "Microsoft.Devices/IotHubs/hub1").await;
        assert_eq!(hub["hostName"], wanted);
        assert_eq!(hub["eventHubEndpoints"]["events"]["endpoint"], format!("sb://{wanted}/"));
        let service = seen(&cloud, dialled, "Microsoft.Devices/provisioningServices/mydps").await;
        assert_eq!(service["serviceOperationsHostName"], wanted);
        assert_eq!(service["deviceProvisioningHostName"], wanted);
        let twins = seen(&cloud, dialled, "Microsoft.DigitalTwins/digitalTwinsInstances/twins").await;
        assert_eq!(twins["hostName"], wanted);
        assert_eq!(list_devices(&cloud, wanted).await.status, 200, "a token for that host is good");
    }
    let further = seen(&cloud, ("192.168.1.5", "192.168.1.5"), "Microsoft.Devices/IotHubs/hub2").await;
    assert_eq!(further["hostName"], "hub2.azure-devices.example.test");
}

#[tokio::test]
async fn an_assigned_hub_is_told_to_each_as_he_reaches_it_and_may_be_named_so_in_an_enrollment() {
    let cloud = cloud().await;
    let (service, key) = (cloud.service(), Key::generate(64));
    let draft = EnrollmentDraft {
        kind: EnrollmentKind::Individual,
        id: "dev-1".parse().unwrap(),
        device_id: None,
        optional_device_information: None,
        attestation: AttestationDraft::SymmetricKey {
            primary_key: Some(Secret::new(key.text())),
            secondary_key: Some(Secret::new(Key::generate(64).text())),
        },
        iot_edge: false,
        iot_hub_host_name: None,
        initial_twin: None,
        is_enabled: true,
        reprovision_policy: None,
        allocation_policy: Some(provisioning::AllocationPolicy::Static),
        iot_hubs: vec!["192.168.1.5".to_owned()],
        custom_allocation: None,
        credential_policy_name: None,
    };
    let (system, absent) = (access::Caller::system(), base::IfMatch::Absent);
    service.put_enrollment(&system, &draft, &absent).await.unwrap();
    let elsewhere = EnrollmentDraft {
        id: "dev-2".parse().unwrap(),
        iot_hubs: vec!["hub9.azure-devices.net".to_owned()],
        ..draft
    };
    assert!(service.put_enrollment(&system, &elsewhere, &absent).await.is_err(), "that hub is not linked");

    let scope = service.id_scope();
    let begun = register(&cloud, "192.168.1.5", at("192.168.1.5"), scope, &key).await.body_json();
    let operation = begun["operationId"].as_str().unwrap();
    let resource = format!("{scope}/registrations/dev-1");
    let token = sas::build(&resource, &key, cloud.in_an_hour(), Some("registration"));
    let path = format!("/{resource}/operations/{operation}?api-version=2021-06-01");
    for (host, local, wanted) in [
        ("192.168.1.5", "192.168.1.5", "192.168.1.5"),
        ("plant.example.com:8443", "192.168.1.5", "plant.example.com"),
        ("global.azure-devices-provisioning.example.test", "192.168.1.5", "hub1.azure-devices.example.test"),
        ("localhost", "127.0.0.5", "127.0.0.5"),
    ] {
        let headers = [("authorization", token.as_str())];
        let told = cloud.send_to(at(local), "GET", host, &path, &headers, &Value::Null).await.body_json();
        assert_eq!(told["registrationState"]["assignedHub"], wanted, "{host} at {local}: {told}");
    }
}

/// The answer to a good request for a WebSocket, but for `protocol`.
async fn websocket(cloud: &Cloud, host: &str, path: &str, protocol: &str) -> Response {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    cloud.send("GET", host, path, &headers, &Value::Null).await
}

#[tokio::test]
async fn a_websocket_is_had_at_every_host_of_devices_and_every_path_that_clients_take() {
    let cloud = cloud().await;
    for host in [
        "hub1.azure-devices.example.test",
        "mydps.azure-devices-provisioning.example.test",
        "global.azure-devices-provisioning.example.test",
        "localhost:8443",
        "127.0.0.1",
        "gateway.example.com:443",
    ] {
        for path in [
            "/$iothub/websocket",
            "/%24iothub/websocket",
            "/$iothub/websocket?iothub-no-client-cert=true",
            "/",
        ] {
            let answer = websocket(&cloud, host, path, "mqtt").await;
            assert_eq!(answer.status, 101, "{host}{path}: {answer:?}");
        }
        let elsewhere = websocket(&cloud, host, "/$iothub/websockets", "mqtt").await;
        assert_ne!(elsewhere.status, 101, "{host}");
    }
    for host in ["typo.azure-devices.example.test", "twins.api.wus2.digitaltwins.example.test"] {
        assert_eq!(websocket(&cloud, host, "/$iothub/websocket", "mqtt").await.status, 404, "{host}");
    }
}

#[tokio::test]
async fn a_websocket_that_cannot_be_had_is_refused_in_the_envelope_of_the_service() {
    let cloud = cloud().await;
    let path = "/$iothub/websocket";
    let hub = "hub1.azure-devices.example.test";
    let refused = websocket(&cloud, hub, path, "soap").await;
    assert_eq!((refused.status.as_u16(), refused.header_value("sec-websocket-version")), (400, Some("13")));
    let text = refused.body_json()["Message"].as_str().unwrap().to_owned();
    assert!(text.starts_with("ErrorCode:") && text.contains("'mqtt'"), "{text}");
    let amqp = websocket(&cloud, hub, path, "AMQPWSB10").await;
    let text = amqp.body_json()["Message"].as_str().unwrap().to_owned();
    assert!(amqp.status == 404 && text.contains("'AMQP over WebSockets'"), "{text}");
    let plain = cloud.send("GET", hub, path, &[], &Value::Null).await;
    let text = plain.body_json()["Message"].as_str().unwrap().to_owned();
    assert!(plain.status == 400 && text.contains("Upgrade: websocket"), "{text}");
    let global = "global.azure-devices-provisioning.example.test";
    let refused = websocket(&cloud, global, "/", "soap").await;
    assert_eq!((refused.status.as_u16(), &refused.body_json()["errorCode"]), (400, &json!(400_004)));
    // Without an upgrade the root is nobody's.
    assert_eq!(cloud.send("GET", hub, "/", &[], &Value::Null).await.status, 404);
}
