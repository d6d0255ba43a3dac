//! Devices at their provisioning service, through the door: registered, told of their hub, and then at that hub.
#![allow(clippy::unwrap_used, reason = "a test may panic at a surprise")]

mod fixture;

use access::{IpFilter, IpRule, IpRuleScope};
use base::{Key, Timestamp};
use entrance::Peer;
use fixture::client::{Client, ClientError, hub_connect, provisioning_connect};
use fixture::{Fixture, closed};
use mqtt::codec::{Connect, ConnectReturnCode, Delivery, Packet, PacketId, Publish, Qos, Text, Will};
use mqtt::topic::ToDevice;
use provisioning::EnrollmentKind;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::DuplexStream;

const RESPONSES: &str = "$dps/registrations/res/#";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=r1";

type Device = Client<DuplexStream>;

async fn connected(fixture: &Fixture, connect: Connect) -> Device {
    let mut device = fixture.connect(connect).await.unwrap();
    assert!(!device.session_present());
    assert_eq!(device.subscribe(RESPONSES, Qos::AtLeastOnce).await.unwrap(), Some(Qos::AtLeastOnce));
    device
}

/// Publishes and reads the response: status, seconds to wait, body.
async fn ask(device: &mut Device, topic: &str, body: &str) -> (u16, Option<u64>, Value) {
    device.publish(topic, body.as_bytes()).await.unwrap();
    let response = device.next_publish().await.unwrap();
    assert!(matches!(response.delivery, Delivery::AtLeastOnce { is_duplicate: false, .. }));
    match ToDevice::parse(&response.topic).unwrap() {
        ToDevice::ProvisioningResponse { status, request_id: "r1", retry_after_seconds } => {
            (status, retry_after_seconds, serde_json::from_slice(&response.payload).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

async fn poll(device: &mut Device, operation_id: &str) -> (u16, Option<u64>, Value) {
    let topic =
        format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r1&operationId={operation_id}");
    ask(device, &topic, " ").await
}

#[tokio::test]
async fn a_device_of_a_group_is_assigned_and_comes_in_at_its_hub() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let mut device = connected(&fixture, fixture.registration("dev-01", &key)).await;
    let (status, retry_after, body) =
        ask(&mut device, REGISTER, r#"{"payload": null, "registrationId": "dev-01"}"#).await;
    assert_eq!((status, retry_after), (202, Some(3)));
    assert_eq!(body["status"], "assigning");
    assert!(body.get("registrationState").is_none());
    let (status, retry_after, body) = poll(&mut device, body["operationId"].as_str().unwrap()).await;
    assert_eq!((status, retry_after), (200, None));
    assert_eq!(body["status"], "assigned");
    let state = &body["registrationState"];
    assert_eq!(state["status"], "assigned");
    assert_eq!(state["substatus"], "initialAssignment");
    assert_eq!(state["registrationId"], "dev-01");
    assert_eq!(state["symmetricKey"], json!({"enrollmentGroupId": "group1"}));
    for member in ["createdDateTimeUtc", "lastUpdatedDateTimeUtc", "etag"] {
        assert!(state[member].is_string(), "{member}");
    }
    device.disconnect().await.unwrap();
    // The device key is derived: the device goes on with what it has.
    let (host, device_id) = (state["assignedHub"].as_str().unwrap(), state["deviceId"].as_str().unwrap());
    let expires_at = fixture.clock.now().plus(std::time::Duration::from_mins(1));
    let token = base::sas::build(&format!("{host}/devices/{device_id}"), &key, expires_at, None);
    let connect = hub_connect(host, &device_id.parse().unwrap(), Some(&token)).unwrap();
    assert!(fixture.connect(connect).await.is_ok());
}

#[tokio::test]
async fn a_device_is_told_its_hub_where_it_reached_us_and_at_a_name_of_no_service_nothing() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let from = async |sni: Option<&str>, local: &str| {
        let local = Some(SocketAddr::new(local.parse().unwrap(), 8883));
        let peer = Peer { sni: sni.map(str::to_owned), local, ..Peer::default() };
        Client::connect(fixture.stream_from(peer), fixture.registration("dev-01", &key)).await
    };
    for (sni, local, wanted) in [
        (None, "127.0.0.5", "127.0.0.5"),
        (None, "192.168.1.5", "192.168.1.5"),
        (Some("plant.example.com"), "192.168.1.5", "plant.example.com"),
        (Some("global.azure-devices-provisioning.localhost"), "127.0.0.1", "127.0.0.1"),
        (Some("global.azure-devices-provisioning.localhost"), "192.168.1.5", "hub.azure-devices.localhost"),
    ] {
        let mut device = from(sni, local).await.unwrap();
        device.subscribe(RESPONSES, Qos::AtLeastOnce).await.unwrap();
        let (_, _, body) = ask(&mut device, REGISTER, "").await;
        let (_, _, body) = poll(&mut device, body["operationId"].as_str().unwrap()).await;
        assert_eq!(body["registrationState"]["assignedHub"], wanted, "{sni:?} at {local}");
    }
    let refused = from(Some("typo.azure-devices-provisioning.localhost"), "127.0.0.1").await;
    assert!(matches!(refused, Err(ClientError::Refused(ConnectReturnCode::NotAuthorized))));
}

#[tokio::test]
async fn an_older_device_is_not_told_that_it_was_reprovisioned() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    for (api_version, expected) in [
        ("2019-03-31", "initialAssignment"),
        ("2019-03-31", "initialAssignment"),
        ("2021-06-01", "reprovisionedToInitialAssignment"),
    ] {
        let mut connect = fixture.registration("dev-01", &key);
        let login = connect.login.as_mut().unwrap();
        login.user_name = Text::try_from(login.user_name.replace("2019-03-31", api_version)).unwrap();
        let mut device = connected(&fixture, connect).await;
        let (_, _, body) = ask(&mut device, REGISTER, "").await;
        let (_, _, body) = poll(&mut device, body["operationId"].as_str().unwrap()).await;
        assert_eq!(body["registrationState"]["substatus"], expected, "{api_version}");
    }
}

#[tokio::test]
async fn a_device_of_its_own_enrollment_is_assigned_in_any_spelling_and_told_no_group() {
    let fixture = Fixture::new().await;
    let key = fixture.enroll(EnrollmentKind::Individual, "Dev-01", true).await;
    for id in ["Dev-01", "dev-01"] {
        let mut device = connected(&fixture, fixture.registration(id, &key)).await;
        let (_, _, body) = ask(&mut device, REGISTER, "").await;
        let (status, _, body) = poll(&mut device, body["operationId"].as_str().unwrap()).await;
        let state = &body["registrationState"];
        assert_eq!(
            (status, &state["status"], &state["deviceId"]),
            (200, &json!("assigned"), &json!("Dev-01"))
        );
        assert!(state.get("symmetricKey").is_none());
    }
}

#[tokio::test]
async fn a_wrong_credential_is_told_with_every_request() {
    let fixture = Fixture::new().await;
    let group_key = fixture.enrollment_group(true).await;
    let key = group_key.derive("dev-01");
    let scope = fixture.service.id_scope();
    let mut good = connected(&fixture, fixture.registration("dev-01", &key)).await;
    let (_, _, begun) = ask(&mut good, REGISTER, "").await;
    let operation = begun["operationId"].as_str().unwrap();
    let before = fixture.registration_state("dev-01").await;
    let signed = |resource: String, key: &Key, seconds: i64, name| {
        let expires_at = Timestamp::from_unix_seconds(fixture.clock.now().unix_seconds() + seconds);
        let token = base::sas::build(&resource, key, expires_at, name);
        provisioning_connect(scope, "dev-01", Some(&token)).unwrap()
    };
    let own = || format!("{scope}/registrations/dev-01");
    for (what, connect) in [
        ("none", provisioning_connect(scope, "dev-01", None).unwrap()),
        ("a random key", fixture.registration("dev-01", &Key::generate(64))),
        ("the group's own key", fixture.registration("dev-01", &group_key)),
        ("another device's key", fixture.registration("dev-01", &group_key.derive("dev-02"))),
        (
            "another device's token",
            signed(format!("{scope}/registrations/dev-02"), &group_key.derive("dev-02"), 60, None),
        ),
        ("another scope's token", signed("0ne00000000/registrations/dev-01".into(), &key, 60, None)),
        ("an expired token", signed(own(), &key, -301, None)),
        ("a policy's name", signed(own(), &key, 60, Some("provisioningserviceowner"))),
    ] {
        let mut device = connected(&fixture, connect).await;
        for request in ["register", "poll"] {
            let (status, retry_after, body) = match request {
                "register" => ask(&mut device, REGISTER, "").await,
                _ => poll(&mut device, operation).await,
            };
            assert_eq!((status, retry_after), (401, None), "{request} with {what}");
            assert_eq!((&body["errorCode"], &body["message"]), (&json!(401_000), &json!("Unauthorized")));
            for member in ["trackingId", "timestampUtc"] {
                assert!(body[member].is_string(), "{member}");
            }
        }
    }
    assert_eq!(fixture.registration_state("dev-01").await, before);
}

#[tokio::test]
async fn a_message_of_96_kilobytes_is_taken_and_one_byte_more_is_not() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let mut device = connected(&fixture, fixture.registration("dev-01", &key)).await;
    let max = base::caps::PROVISIONING_MESSAGE_BYTES_MAX;
    let body = |bytes: usize| {
        let empty = json!({"payload": ""}).to_string().len();
        json!({"payload": "x".repeat(bytes - empty)}).to_string()
    };
    let poll = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r1&operationId=x";
    for topic in [REGISTER, poll] {
        let (status, retry_after, answer) = ask(&mut device, topic, &body(max + 1)).await;
        assert_eq!((status, retry_after, &answer["errorCode"]), (413, None, &json!(413_000)));
    }
    assert_eq!(fixture.registration_state("dev-01").await, None);
    assert_eq!(ask(&mut device, poll, &body(max)).await.0, 404);
    assert_eq!(ask(&mut device, REGISTER, &body(max)).await.0, 202);
    // What is too large to be read at all ends the connection.
    device.send_bytes(&[0x30, 0x80, 0x80, 0x07]).await.unwrap();
    assert!(closed(&mut device).await.is_empty());
}

#[tokio::test]
async fn who_is_not_attested_stays_ten_seconds() {
    let fixture = Fixture::new().await;
    let mut device = connected(&fixture, fixture.registration("dev-01", &Key::generate(64))).await;
    fixture.advance(5).await;
    device.send(&Packet::PingReq).await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PingResp);
    fixture.advance(5).await;
    assert!(closed(&mut device).await.is_empty());
    let mut large = connected(&fixture, fixture.registration("dev-01", &Key::generate(64))).await;
    // More than anybody may send before a CONNECT.
    large.send_bytes(&[0x30, 0xff, 0xff, 0x01]).await.unwrap();
    assert!(closed(&mut large).await.is_empty());
}

#[tokio::test]
async fn an_unknown_scope_or_a_missing_version_is_refused_at_once() {
    let fixture = Fixture::new().await;
    let unknown = provisioning_connect("0ne00000000", "dev-01", None).unwrap();
    assert_eq!(fixture.refusal(unknown).await, ConnectReturnCode::NotAuthorized);
    for version in ["", "api-version=&", "api-version=latest&", "api-version=2019-3-31&"] {
        let mut connect = provisioning_connect(fixture.service.id_scope(), "dev-01", None).unwrap();
        let login = connect.login.as_mut().unwrap();
        login.user_name =
            Text::try_from(login.user_name.replace("api-version=2019-03-31&", version)).unwrap();
        assert_eq!(fixture.refusal(connect).await, ConnectReturnCode::BadUserNameOrPassword, "{version}");
    }
    let bad_id = provisioning_connect(fixture.service.id_scope(), "dev 01", None).unwrap();
    assert_eq!(fixture.refusal(bad_id).await, ConnectReturnCode::IdentifierRejected);
}

#[tokio::test]
async fn a_will_that_nobody_would_hear_keeps_no_device_from_its_hub() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let topic = Text::try_from("tele/plug/LWT").unwrap();
    let will = Will { qos: Qos::AtLeastOnce, retain: true, topic, payload: "Offline".into() };
    let connect = Connect { will: Some(will), ..fixture.registration("dev-01", &key) };
    let mut device = connected(&fixture, connect).await;
    assert_eq!(ask(&mut device, REGISTER, r#"{"registrationId": "dev-01"}"#).await.0, 202);
}

#[tokio::test]
async fn an_instance_that_is_closed_to_the_network_takes_local_callers_only() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    fixture.close_to_the_network().await;
    for connect in [device.connect_packet(), fixture.registration("dev-01", &key)] {
        for (remote, comes_in) in [("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("192.0.2.7", false)] {
            let remote_address = SocketAddr::new(remote.parse().unwrap(), 50_000);
            let peer = Peer { remote: Some(remote_address), ..Peer::default() };
            let attempt = Client::connect(fixture.stream_from(peer), connect.clone()).await;
            assert_eq!(attempt.is_ok(), comes_in, "{remote}");
        }
    }
}

#[tokio::test]
async fn a_disabled_enrollment_is_an_answer_and_not_an_error() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(false).await.derive("dev-01");
    let mut device = connected(&fixture, fixture.registration("dev-01", &key)).await;
    let (status, _, body) = ask(&mut device, REGISTER, "{}").await;
    assert_eq!((status, body["status"].clone()), (200, json!("disabled")));
    assert_eq!(body["registrationState"]["status"], "disabled");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_and_registers_nobody() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let mut device = connected(&fixture, fixture.registration("dev-01", &key)).await;
    for body in ["no json", "[1]", "3", r#"{"registrationId": "dev-02"}"#, r#"{"registrationId": 1}"#] {
        let (status, _, answer) = ask(&mut device, REGISTER, body).await;
        assert_eq!((status, answer["errorCode"].clone()), (400, json!(400_004)), "{body}");
    }
    let (status, _, _) = poll(&mut device, "5.0.0").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn the_acknowledgement_comes_before_the_response_and_qos_follows_the_subscription() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let mut device = fixture.connect(fixture.registration("dev-01", &key)).await.unwrap();
    // Not subscribed: acknowledged, not answered.
    device.publish(REGISTER, b"").await.unwrap();
    device.send(&Packet::PingReq).await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PingResp);
    device.subscribe(RESPONSES, Qos::AtMostOnce).await.unwrap();
    let packet_id = device.publish_unacknowledged(REGISTER, b"").await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PubAck(packet_id));
    let Packet::Publish(response) = device.receive().await.unwrap() else { panic!("a response") };
    assert_eq!(response.delivery, Delivery::AtMostOnce);
    assert_eq!(
        device.subscribe("devices/dev-01/messages/devicebound/#", Qos::AtMostOnce).await.unwrap(),
        None
    );
    assert_eq!(device.subscribe("$dps/#", Qos::AtMostOnce).await.unwrap(), None);
    assert_eq!(device.subscribe(RESPONSES, Qos::ExactlyOnce).await.unwrap(), Some(Qos::AtLeastOnce));
}

#[tokio::test]
async fn what_is_not_allowed_ends_the_connection() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let publish = |topic: &str, delivery| {
        let (topic, payload) = (Text::try_from(topic).unwrap(), bytes::Bytes::new());
        Packet::Publish(Publish { delivery, retain: false, topic, payload })
    };
    let exactly_once = Delivery::ExactlyOnce { packet_id: PacketId::MIN, is_duplicate: false };
    for packet in [
        publish("devices/dev-01/messages/events/", Delivery::AtMostOnce),
        publish("$dps/registrations/PUT/iotdps-register/", Delivery::AtMostOnce),
        publish(REGISTER, exactly_once),
        Packet::Connect(Box::new(fixture.registration("dev-01", &key))),
        Packet::PubRel(PacketId::MIN),
        Packet::PingResp,
    ] {
        let mut device = connected(&fixture, fixture.registration("dev-01", &key)).await;
        device.send(&packet).await.unwrap();
        assert!(closed(&mut device).await.is_empty(), "{packet:?}");
    }
}

#[tokio::test]
async fn responses_that_nobody_acknowledges_do_not_pile_up() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let mut device = connected(&fixture, fixture.registration("dev-01", &key)).await;
    let topic = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r1&operationId=x";
    for _ in 0..17 {
        let (topic, payload) = (Text::try_from(topic).unwrap(), bytes::Bytes::new());
        let publish = Publish { delivery: Delivery::AtMostOnce, retain: false, topic, payload };
        device.send(&Packet::Publish(publish)).await.unwrap();
    }
    assert_eq!(closed(&mut device).await.len(), 16);
}

#[tokio::test]
async fn a_model_id_in_the_payload_of_a_registration_is_in_the_twin() {
    let fixture = Fixture::new().await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let mut device = connected(&fixture, fixture.registration("dev-01", &key)).await;
    let body = r#"{"registrationId": "dev-01", "payload": {"modelId": "dtmi:com:example:Thermostat;1"}}"#;
    assert_eq!(ask(&mut device, REGISTER, body).await.0, 202);
    let id = "dev-01".parse().unwrap();
    let twin = fixture.hub.get_twin(&access::Caller::system(), &id).await.unwrap().document();
    assert_eq!(twin["modelId"], "dtmi:com:example:Thermostat;1");
}

#[tokio::test]
async fn ip_rules_keep_addresses_out_of_both_services_and_cut_nobody() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let key = fixture.enrollment_group(true).await.derive("dev-01");
    let from = |remote: &str| {
        let remote = Some(SocketAddr::new(remote.parse().unwrap(), 50_000));
        fixture.stream_from(Peer { remote, ..Peer::default() })
    };
    let mut inside = Client::connect(from("127.0.0.9"), device.connect_packet()).await.unwrap();
    let rule = |accepts: bool, mask: &str, scope: Option<IpRuleScope>| IpRule {
        accepts,
        mask: mask.parse().unwrap(),
        scope,
    };
    let rules = vec![
        rule(true, "127.0.0.8/32", None),
        rule(false, "10.0.0.0/8", Some(IpRuleScope::ServiceApi)),
        rule(false, "127.0.0.8/30", None),
        rule(false, "192.0.2.0/24", Some(IpRuleScope::DeviceApi)),
    ];
    fixture.filter(IpFilter { rules, ..IpFilter::default() }).await;
    inside.publish("devices/dev1/messages/events/", b"still here").await.unwrap();
    for connect in [device.connect_packet(), fixture.registration("dev-01", &key)] {
        for (remote, comes_in) in [
            ("127.0.0.8", true),
            ("127.0.0.9", false),
            ("::ffff:127.0.0.9", false),
            ("127.0.0.12", true),
            ("10.1.1.1", true),
            ("192.0.2.7", false),
        ] {
            match Client::connect(from(remote), connect.clone()).await {
                Ok(_) => assert!(comes_in, "{remote}"),
                Err(ClientError::Refused(code)) => {
                    assert_eq!((code, comes_in), (ConnectReturnCode::NotAuthorized, false), "{remote}");
                }
                Err(other) => panic!("{remote}: {other}"),
            }
        }
    }
    fixture.filter(IpFilter { rejects_others: true, ..IpFilter::default() }).await;
    assert!(Client::connect(from("127.0.0.8"), device.connect_packet()).await.is_err(), "nobody is named");
}
