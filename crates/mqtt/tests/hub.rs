//! Devices at their hub, through the door: what they may do, what they get, and what ends a connection.
#![allow(clippy::unwrap_used, reason = "a test may panic at a surprise")]

mod fixture;

use access::Caller;
use base::{IfMatch, Key, Meter, sas};
use bytes::Bytes;
use fixture::client::{Client, ClientError, hub_connect};
use fixture::{Fixture, HOST, OTHER_HOST, add_device, closed};
use hub::device::{DeviceSpec, Status};
use hub::direct_method::MethodRequest;
use mqtt::Peer;
use mqtt::codec::{
    Connect, ConnectReturnCode, Delivery, Packet, PacketId, Publish, Qos, SubAck, Subscribe, Text, Will,
};
use mqtt::topic::ToDevice;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const TELEMETRY: &str = "devices/dev1/messages/events/";
const TWIN_RESPONSES: &str = "$iothub/twin/res/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
const METHODS: &str = "$iothub/methods/POST/#";

type Device = Client<DuplexStream>;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn publish(topic: &str, delivery: Delivery, payload: &[u8]) -> Packet {
    let topic = Text::try_from(topic).unwrap();
    Packet::Publish(Publish { delivery, retain: false, topic, payload: Bytes::copy_from_slice(payload) })
}

/// Asks for the twin and gives back status, version and body of the answer.
async fn twin_request(device: &mut Device, topic: &str, payload: &[u8]) -> (u16, Option<u64>, Value) {
    device.publish(topic, payload).await.unwrap();
    let answer = device.next_publish().await.unwrap();
    assert_eq!(answer.delivery, Delivery::AtMostOnce);
    match ToDevice::parse(&answer.topic).unwrap() {
        ToDevice::TwinResponse { status, request_id: "r1", version } => {
            (status, version, serde_json::from_slice(&answer.payload).unwrap_or(Value::Null))
        }
        other => panic!("{other:?}"),
    }
}

// CONNECT.

#[tokio::test]
async fn a_device_with_its_own_token_comes_in() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await.connect().await;
    assert!(!device.session_present());
    assert!(fixture.hub.sessions().is_connected(&"dev1".parse().unwrap()));
    device.disconnect().await.unwrap();
    assert!(!fixture.hub.sessions().is_connected(&"dev1".parse().unwrap()));
}

#[tokio::test]
async fn a_wrong_credential_of_any_kind_is_not_authorized() {
    let fixture = Fixture::new().await;
    let (device, other) = (fixture.device("dev1").await, fixture.device("dev2").await);
    let module = fixture.module("dev1/mod1").await;
    let same_id_elsewhere = add_device(&fixture.other_hub, "dev1").await;
    let connect = |token: Option<&str>| hub_connect(HOST, &device.identity, token).unwrap();
    let now = fixture.clock.now();
    let expired = device.token_until(now.minus(std::time::Duration::from_secs(301)));
    let mut forged = device.token(3600);
    forged = forged.replace("sig=", "sig=AAAA");
    let signed = |resource: &str, key: &Key, policy: Option<&str>| {
        sas::build(resource, key, now.plus(std::time::Duration::from_mins(5)), policy)
    };
    let (own, foreign) = (format!("{HOST}/devices/dev1"), format!("{OTHER_HOST}/devices/dev1"));
    let policy = |hub: &hub::Hub, name: &str| hub.settings().policy(name).unwrap().primary_key.clone();
    let owner = policy(&fixture.hub, "iothubowner");
    for (what, token) in [
        ("none", None),
        ("another device's", Some(other.token(3600))),
        ("expired", Some(expired)),
        ("forged", Some(forged)),
        ("its module's", Some(module.token(3600))),
        ("its module's key on its own resource", Some(signed(&own, &module.key, None))),
        ("its own key on another hub's resource", Some(signed(&foreign, &device.key, None))),
        ("its namesake's of another hub", Some(signed(&own, &same_id_elsewhere, None))),
        ("its own key with a policy's name", Some(signed(&own, &device.key, Some("device")))),
        ("a part of its resource", Some(signed(&format!("{own}/messages/events"), &device.key, None))),
        ("a policy's key without its name", Some(signed(HOST, &owner, None))),
        (
            "a policy that may not connect",
            Some(signed(HOST, &policy(&fixture.hub, "service"), Some("service"))),
        ),
        ("no policy", Some(signed(HOST, &owner, Some("nobody")))),
        ("another hub's policy", Some(signed(HOST, &policy(&fixture.other_hub, "device"), Some("device")))),
        (
            "a policy on another device",
            Some(signed(&format!("{HOST}/devices/dev2"), &owner, Some("iothubowner"))),
        ),
    ] {
        let refusal = fixture.refusal(connect(token.as_deref())).await;
        assert_eq!(refusal, ConnectReturnCode::NotAuthorized, "{what}");
    }
    let at_other_hub = hub_connect(OTHER_HOST, &device.identity, Some(&device.token(3600))).unwrap();
    assert_eq!(fixture.refusal(at_other_hub).await, ConnectReturnCode::NotAuthorized);
    let unknown = hub_connect(HOST, &"nobody".parse().unwrap(), Some(&device.token(3600))).unwrap();
    assert_eq!(fixture.refusal(unknown).await, ConnectReturnCode::NotAuthorized);
    let no_token = connect(Some("secret"));
    assert_eq!(fixture.refusal(no_token).await, ConnectReturnCode::BadUserNameOrPassword);
    let device_as_module = hub_connect(HOST, &module.identity, Some(&device.token(3600))).unwrap();
    assert_eq!(fixture.refusal(device_as_module).await, ConnectReturnCode::NotAuthorized);
    assert_eq!(fixture.hub.sessions().connected_devices(), 0);
    assert!(!fixture.hub.sessions().is_connected(&module.identity));
}

#[tokio::test]
async fn the_key_of_a_policy_that_may_connect_opens_a_device_and_a_module() {
    let fixture = Fixture::new().await;
    let (device, module) = (fixture.device("dev1").await, fixture.module("dev1/mod1").await);
    let key = fixture.hub.settings().policy("device").unwrap().secondary_key.clone();
    let token =
        sas::build(HOST, &key, fixture.clock.now().plus(std::time::Duration::from_mins(5)), Some("device"));
    for identity in [&device.identity, &module.identity] {
        let connect = hub_connect(HOST, identity, Some(&token)).unwrap();
        let mut client = fixture.connect(connect).await.unwrap();
        client.subscribe(TWIN_RESPONSES, Qos::AtMostOnce).await.unwrap();
        assert_eq!(twin_request(&mut client, "$iothub/twin/GET/?$rid=r1", b"").await.0, 200);
    }
}

#[tokio::test]
async fn a_client_id_names_the_device_of_the_user_name() {
    use ConnectReturnCode::{IdentifierRejected, NotAuthorized};
    let fixture = Fixture::new().await;
    let (longest, device) = (fixture.device(&"x".repeat(128)).await, fixture.device("dev1").await);
    assert!(fixture.connect(longest.connect_packet()).await.is_ok());
    let with_id = |id: &str| Connect { client_id: Text::try_from(id).unwrap(), ..device.connect_packet() };
    for (client_id, code) in [
        ("", IdentifierRejected),
        (&*"x".repeat(129), IdentifierRejected),
        (&*"x".repeat(15_000), IdentifierRejected),
        ("dev1/", IdentifierRejected),
        ("dev1/a/b", IdentifierRejected),
        ("dév1", IdentifierRejected),
        ("DEV1", NotAuthorized),
        ("dev2", NotAuthorized),
        ("dev1/mod1", NotAuthorized),
    ] {
        assert_eq!(fixture.refusal(with_id(client_id)).await, code, "{client_id}");
    }
}

#[tokio::test]
async fn a_model_id_is_kept_and_what_is_none_is_not() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let long = |length: usize| format!("dtmi:{}", "x".repeat(length - 5));
    for (announced, kept) in [
        ("dtmi:com:ex:T;1", "dtmi:com:ex:T;1"),
        ("thermostat", "dtmi:com:ex:T;1"),
        (&long(2049), "dtmi:com:ex:T;1"),
        (&long(2048), &long(2048)),
    ] {
        let mut connect = device.connect_packet();
        let user_name = format!("{HOST}/dev1/?api-version=2021-04-12&model-id={announced}");
        connect.login.as_mut().unwrap().user_name = Text::try_from(user_name).unwrap();
        fixture.connect(connect).await.unwrap().disconnect().await.unwrap();
        let id = "dev1".parse().unwrap();
        assert_eq!(fixture.hub.get_twin(&Caller::system(), &id).await.unwrap().twin.model_id, kept);
    }
}

#[tokio::test]
async fn a_token_within_the_clock_skew_is_still_good() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let token = device.token_until(fixture.clock.now().minus(std::time::Duration::from_secs(299)));
    assert!(fixture.connect(hub_connect(HOST, &device.identity, Some(&token)).unwrap()).await.is_ok());
}

#[tokio::test]
async fn two_hubs_in_one_connect_are_one_too_many() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let attempt = async |sni: &str| {
        let peer = Peer { sni: Some(sni.to_owned()), ..Peer::default() };
        Client::connect(fixture.stream_from(peer), device.connect_packet()).await
    };
    assert!(matches!(attempt(OTHER_HOST).await, Err(ClientError::Refused(ConnectReturnCode::NotAuthorized))));
    assert!(attempt("gateway.example.test").await.is_ok());
    assert!(attempt(HOST).await.is_ok());
}

#[tokio::test]
async fn a_device_of_another_hub_is_another_device() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let key = add_device(&fixture.other_hub, "dev1").await;
    let expires_at = fixture.clock.now().plus(std::time::Duration::from_mins(5));
    let token = sas::build(&format!("{OTHER_HOST}/devices/dev1"), &key, expires_at, None);
    let mut here = device.connect().await;
    let mut there =
        fixture.connect(hub_connect(OTHER_HOST, &device.identity, Some(&token)).unwrap()).await.unwrap();
    there.subscribe(TWIN_RESPONSES, Qos::AtMostOnce).await.unwrap();
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=r1";
    assert_eq!(twin_request(&mut there, patch, b"{\"a\":1}").await.0, 204);
    there.publish(TELEMETRY, b"there").await.unwrap();
    here.publish(TELEMETRY, b"here").await.unwrap();
    let bodies: Vec<_> = fixture.messages().await.into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"here"]);
    assert_eq!(fixture.reported("dev1").await, json!({"$version": 1}));
}

#[tokio::test]
async fn what_comes_behind_connect_is_handled_after_connack() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut client = fixture.unconnected();
    let mut bytes = bytes::BytesMut::new();
    Packet::Connect(Box::new(device.connect_packet())).encode(&mut bytes).unwrap();
    let filters = vec![(Text::try_from(METHODS).unwrap(), Qos::AtLeastOnce)];
    Packet::Subscribe(Subscribe { packet_id: id(1), filters }).encode(&mut bytes).unwrap();
    publish(TELEMETRY, Delivery::AtLeastOnce { packet_id: id(2), is_duplicate: false }, b"{}")
        .encode(&mut bytes)
        .unwrap();
    client.send_bytes(&bytes).await.unwrap();
    assert!(matches!(client.receive().await.unwrap(), Packet::ConnAck(_)));
    let suback = SubAck { packet_id: id(1), granted: vec![Some(Qos::AtLeastOnce)] };
    assert_eq!(client.receive().await.unwrap(), Packet::SubAck(suback));
    assert_eq!(client.receive().await.unwrap(), Packet::PubAck(id(2)));
}

#[tokio::test]
async fn other_versions_of_the_protocol_are_told_so() {
    let fixture = Fixture::new().await;
    let mut v3 = fixture.unconnected();
    v3.send_bytes(&[0x10, 14, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 60, 0, 0]).await.unwrap();
    match &closed(&mut v3).await[..] {
        [Packet::ConnAck(connack)] => {
            assert_eq!(connack.return_code, ConnectReturnCode::UnacceptableProtocolVersion);
        }
        other => panic!("{other:?}"),
    }
    let mut v5 = fixture.stream();
    v5.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0]).await.unwrap();
    let mut answer = Vec::new();
    v5.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 3, 0, 0x84, 0]);
}

#[tokio::test]
async fn a_peer_that_has_not_connected_costs_little_and_not_for_long() {
    let fixture = Fixture::new().await;
    let mut silent = fixture.unconnected();
    silent.send_bytes(&[0x10]).await.unwrap();
    fixture.advance(9).await;
    assert!(matches!(silent.send_bytes(&[0xff]).await, Ok(())));
    fixture.advance(1).await;
    assert!(closed(&mut silent).await.is_empty());
    // A length above 16 kB is refused before the body comes.
    let mut large = fixture.unconnected();
    large.send_bytes(&[0x10, 0xff, 0xff, 0x01]).await.unwrap();
    assert!(closed(&mut large).await.is_empty());
    // 16 kB to the byte are read, and judged.
    let device = fixture.device("dev1").await;
    let connect = |bytes: usize| {
        let mut connect = with_will(device.connect_packet());
        let mut encoded = bytes::BytesMut::new();
        Packet::Connect(Box::new(connect.clone())).encode(&mut encoded).unwrap();
        let will = connect.will.as_mut().unwrap();
        will.payload = vec![0; will.payload.len() + bytes - encoded.len()].into();
        connect
    };
    assert!(fixture.connect(connect(16 * 1024)).await.is_ok());
    let mut too_large = fixture.unconnected();
    // The server may close before everything is written.
    let _ = too_large.send(&Packet::Connect(Box::new(connect(16 * 1024 + 1)))).await;
    assert!(closed(&mut too_large).await.is_empty());
    // One byte at a time does not stretch the time.
    let mut slow = fixture.unconnected();
    for byte in [0x10, 0x7f, 0, 4, b'M', b'Q', b'T', b'T', 4, 2] {
        assert!(slow.send_bytes(&[byte]).await.is_ok());
        fixture.advance(1).await;
    }
    assert!(closed(&mut slow).await.is_empty());
    let mut out_of_order = fixture.unconnected();
    out_of_order.send(&Packet::PingReq).await.unwrap();
    assert!(closed(&mut out_of_order).await.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let fixture = Fixture::new().await;
    let (client, server) = tokio::io::duplex(16);
    let connection = fixture.door.serve(server, Peer::default());
    // A product number (design.md §4): what the task itself takes, without the stream, which is boxed once.
    assert!(size_of_val(&connection) <= 640, "{} bytes", size_of_val(&connection));
    drop(client);
}

// Telemetry.

#[tokio::test]
async fn telemetry_is_durable_before_it_is_acknowledged() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let topic = "devices/dev1/messages/events/%24.mid=m%201&%24.ct=application%2Fjson&%24.ce=utf-8&a%20b=c%2Bd%26e&%24.xyz=1/";
    device.publish(topic, b"{\"t\":21}").await.unwrap();
    let messages = fixture.messages().await;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(message.body, b"{\"t\":21}");
    assert_eq!(message.system("message-id"), Some("m 1"));
    assert_eq!(message.system("content-type"), Some("application/json"));
    assert_eq!(message.system("content-encoding"), Some("utf-8"));
    assert_eq!(message.system("iothub-connection-device-id"), Some("dev1"));
    assert_eq!(message.system("iothub-message-source"), Some("Telemetry"));
    assert_eq!(message.application, [("a b".to_owned(), "c+d&e".to_owned())]);
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_receipt() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let mut bytes = bytes::BytesMut::new();
    for number in 1..=300 {
        let delivery = Delivery::AtLeastOnce { packet_id: id(number), is_duplicate: false };
        publish(TELEMETRY, delivery, b"x").encode(&mut bytes).unwrap();
    }
    device.send_bytes(&bytes).await.unwrap();
    for number in 1..=300 {
        assert_eq!(device.receive().await.unwrap(), Packet::PubAck(id(number)));
    }
    assert_eq!(fixture.messages().await.len(), 300);
}

#[tokio::test]
async fn retain_and_duplicate_show_as_properties_and_stamps_cannot_be_faked() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let topic = format!("{TELEMETRY}iothub-connection-device-id=dev2&%24.cdid=dev2&mqtt-retain=no");
    let topic = Text::try_from(topic).unwrap();
    let delivery = Delivery::AtLeastOnce { packet_id: id(1), is_duplicate: true };
    device
        .send(&Packet::Publish(Publish { delivery, retain: true, topic, payload: Bytes::new() }))
        .await
        .unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PubAck(id(1)));
    let messages = fixture.messages().await;
    assert_eq!(
        messages[0].application,
        [("mqtt-retain".into(), "true".into()), ("mqtt-dup".into(), "true".into())]
    );
    assert_eq!(messages[0].system("iothub-connection-device-id"), Some("dev1"));
}

#[tokio::test]
async fn telemetry_at_qos_0_arrives_without_a_word() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.send(&publish(TELEMETRY, Delivery::AtMostOnce, b"x")).await.unwrap();
    device.publish(TELEMETRY, b"y").await.unwrap();
    let bodies: Vec<_> = fixture.messages().await.into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"x", b"y"]);
}

#[tokio::test]
async fn a_module_sends_as_itself() {
    let fixture = Fixture::new().await;
    fixture.device("dev1").await;
    let module = fixture.module("dev1/mod1").await;
    let mut client = module.connect().await;
    client.publish("devices/dev1/modules/mod1/messages/events/%24.on=out", b"x").await.unwrap();
    let messages = fixture.messages().await;
    let message = messages.last().unwrap();
    assert_eq!(message.system("iothub-connection-module-id"), Some("mod1"));
    assert_eq!(message.system("iothub-outputname"), Some("out"));
    // The device's own topic is not the module's.
    client.send(&publish(TELEMETRY, Delivery::AtMostOnce, b"x")).await.unwrap();
    closed(&mut client).await;
    assert_eq!(fixture.messages().await.len(), messages.len());
}

#[tokio::test]
async fn what_is_not_allowed_ends_the_connection_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let at_least_once = |number| Delivery::AtLeastOnce { packet_id: id(number), is_duplicate: false };
    let oversized = vec![0; 256 * 1024 + 1];
    let second_connect = Packet::Connect(Box::new(device.connect_packet()));
    let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();
    for (what, packet) in [
        ("QoS 2", publish(TELEMETRY, Delivery::ExactlyOnce { packet_id: id(1), is_duplicate: false }, b"x")),
        ("another device's topic", publish("devices/dev2/messages/events/", at_least_once(1), b"x")),
        ("an unknown topic", publish("hello", at_least_once(1), b"x")),
        ("a wildcard", publish("devices/+/messages/events/", at_least_once(1), b"x")),
        ("its module's topic", publish("devices/dev1/modules/mod1/messages/events/", at_least_once(1), b"x")),
        ("a topic of the server", publish("$iothub/twin/res/200/?$rid=1", at_least_once(1), b"x")),
        ("a topic in lower case", publish("$iothub/twin/get/?$rid=1", at_least_once(1), b"")),
        (
            "a topic of provisioning",
            publish("$dps/registrations/PUT/iotdps-register/?$rid=1", at_least_once(1), b""),
        ),
        ("a malformed bag", publish("devices/dev1/messages/events/&a=b", at_least_once(1), b"x")),
        (
            "a long message id",
            publish(&format!("{TELEMETRY}$.mid={}", "x".repeat(129)), at_least_once(1), b"x"),
        ),
        ("an oversized message", publish(TELEMETRY, at_least_once(1), &oversized)),
        ("an oversized message at QoS 0", publish(TELEMETRY, Delivery::AtMostOnce, &oversized)),
        ("a twin request without id", publish("$iothub/twin/GET/?$rid=", at_least_once(1), b"")),
        ("a second CONNECT", second_connect),
        ("a server's packet", Packet::PingResp),
        ("a QoS 2 packet", Packet::PubRel(id(1))),
    ] {
        let mut bytes = bytes::BytesMut::new();
        packet.encode(&mut bytes).unwrap();
        cases.push((what, bytes.to_vec()));
    }
    cases.push(("a packet beyond the limit", vec![0x30, 0xff, 0xff, 0x7f]));
    cases.push(("no MQTT at all", b"GET / HTTP/1.1\r\n\r\n".to_vec()));
    for (what, bytes) in [
        ("a packet id of zero", &b"\x32\x07\0\x03a/b\0\0"[..]),
        ("a topic that is no UTF-8", b"\x30\x04\0\x02\xc3\x28"),
        ("a topic with a NUL", b"\x30\x04\0\x02a\0"),
        ("an empty topic", b"\x30\x02\0\0"),
        ("a topic longer than its packet", b"\x30\x04\xff\xffab"),
        ("QoS 3", b"\x36\x07\0\x03a/b\0\x01"),
        ("a duplicate at QoS 0", b"\x38\x05\0\x03a/b"),
        ("a SUBSCRIBE to nothing", b"\x82\x02\0\x01"),
        ("a SUBSCRIBE at QoS 3", b"\x82\x06\0\x01\0\x01#\x03"),
        ("a SUBSCRIBE to an empty filter", b"\x82\x05\0\x01\0\0\x01"),
        ("a SUBSCRIBE with the wrong flags", b"\x80\x06\0\x01\0\x01#\x01"),
        ("an UNSUBSCRIBE from nothing", b"\xa2\x02\0\x01"),
        ("a PINGREQ with a body", b"\xc0\x01\0"),
        ("a type that does not exist", b"\xf0\0"),
    ] {
        cases.push((what, bytes.to_vec()));
    }
    for (what, bytes) in cases {
        let mut client = device.connect().await;
        // The server may close before everything is written.
        let _ = client.send_bytes(&bytes).await;
        assert!(closed(&mut client).await.is_empty(), "{what}");
        assert!(fixture.messages().await.is_empty(), "{what}");
        assert!(!fixture.hub.sessions().is_connected(&device.identity), "{what}");
    }
}

// Subscriptions.

#[tokio::test]
async fn known_filters_are_granted_and_others_are_refused() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    assert_eq!(device.subscribe(TWIN_RESPONSES, Qos::AtMostOnce).await.unwrap(), Some(Qos::AtMostOnce));
    assert_eq!(device.subscribe(METHODS, Qos::ExactlyOnce).await.unwrap(), Some(Qos::AtLeastOnce));
    for filter in ["devices/dev2/messages/devicebound/#", "$iothub/streams/#", "whatever"] {
        assert_eq!(device.subscribe(filter, Qos::AtLeastOnce).await.unwrap(), None, "{filter}");
    }
    for filter in ["devices/dev1/messages/devicebound/#", DESIRED, "#"] {
        assert_eq!(device.subscribe(filter, Qos::AtLeastOnce).await.unwrap(), Some(Qos::AtLeastOnce));
    }
    assert_eq!(
        device.subscribe("devices/dev1/messages/#", Qos::AtLeastOnce).await.unwrap(),
        None,
        "the sixth"
    );
}

#[tokio::test]
async fn a_stored_session_is_in_effect_at_once_and_a_clean_one_ends_it() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut first = device.connect().await;
    first.subscribe(DESIRED, Qos::AtLeastOnce).await.unwrap();
    first.disconnect().await.unwrap();
    let mut second = device.connect().await;
    assert!(second.session_present());
    fixture.patch_desired("dev1", json!({"a": 1})).await;
    assert_eq!(
        &*second.next_publish().await.unwrap().topic,
        "$iothub/twin/PATCH/properties/desired/?$version=2"
    );
    second.disconnect().await.unwrap();
    let clean = Connect { clean_session: true, ..device.connect_packet() };
    let mut third = fixture.connect(clean.clone()).await.unwrap();
    assert!(!third.session_present());
    third.subscribe(METHODS, Qos::AtLeastOnce).await.unwrap();
    third.disconnect().await.unwrap();
    // What a clean session subscribed to went with it.
    assert!(!device.connect().await.session_present());
}

// Twins.

#[tokio::test]
async fn a_device_reads_and_reports_its_twin() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.subscribe(TWIN_RESPONSES, Qos::AtLeastOnce).await.unwrap();
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=r1";
    let (status, version, body) = twin_request(&mut device, patch, b"{\"fw\":\"1.0\"}").await;
    assert_eq!((status, version, body), (204, Some(2), Value::Null));
    let (status, version, body) = twin_request(&mut device, "$iothub/twin/GET/?$rid=r1", b" ").await;
    let expected = json!({"desired": {"$version": 1}, "reported": {"fw": "1.0", "$version": 2}});
    assert_eq!((status, version, body), (200, None, expected));
}

#[tokio::test]
async fn a_refused_patch_is_answered_with_an_error_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.subscribe(TWIN_RESPONSES, Qos::AtLeastOnce).await.unwrap();
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=r1";
    for (topic, payload, expected_status, expected_code) in [
        (patch.to_owned(), "no json", 400, 400_004),
        (patch.to_owned(), "[]", 400, 400_004),
        (patch.to_owned(), "", 400, 400_004),
        (patch.to_owned(), "{\"$version\":1}", 400, 400_004),
        (format!("{patch}&$version=7"), "{\"a\":1}", 412, 412_001),
        (format!("{patch}&$version=x"), "{\"a\":1}", 400, 400_004),
        (format!("{patch}&$version=-1"), "{\"a\":1}", 400, 400_004),
        (format!("{patch}&$version=18446744073709551616"), "{\"a\":1}", 400, 400_004),
        (patch.to_owned(), "{\"a.b\":1}", 400, 400_004),
        (patch.to_owned(), "{\"a\":[null]}", 400, 400_004),
        (patch.to_owned(), "{\"a\":4503599627370496}", 400, 400_004),
        (patch.to_owned(), "{\"a\":18446744073709551616}", 400, 400_004),
        (patch.to_owned(), &format!("{{\"a\":{}1{}}}", "[".repeat(11), "]".repeat(11)), 400, 400_004),
        (patch.to_owned(), &"[".repeat(60_000), 400, 400_004),
        (patch.to_owned(), &format!("{{\"a\":[{}]}}", vec!["1"; 4096].join(",")), 400, 400_004),
    ] {
        let (status, version, body) = twin_request(&mut device, &topic, payload.as_bytes()).await;
        assert_eq!((status, version), (expected_status, None), "{topic} {payload:.60}");
        assert_eq!(body["errorCode"], expected_code, "{topic} {payload:.60}");
        for member in ["trackingId", "message", "timestampUtc"] {
            assert!(body[member].is_string(), "{member}");
        }
    }
    assert_eq!(fixture.reported("dev1").await, json!({"$version": 1}));
    let largest = format!("{{\"k\":[{},\"1234567\"]}}", vec!["1"; 4095].join(","));
    assert_eq!(twin_request(&mut device, patch, largest.as_bytes()).await.0, 204);
}

#[tokio::test]
async fn without_a_subscription_nothing_is_answered() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.publish("$iothub/twin/GET/?$rid=1", b"").await.unwrap();
    device.publish("$iothub/twin/PATCH/properties/reported/", b"{\"a\":1}").await.unwrap();
    device.send(&Packet::PingReq).await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PingResp);
    assert_eq!(fixture.reported("dev1").await, json!({"a": 1, "$version": 2}));
}

#[tokio::test]
async fn a_throttled_device_is_told_where_mqtt_can_tell_it() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut client = device.connect().await;
    client.subscribe(TWIN_RESPONSES, Qos::AtLeastOnce).await.unwrap();
    fixture.limiter.refuse(&[Meter::DeviceConnect, Meter::TwinRead, Meter::TwinUpdate, Meter::DeviceToCloud]);
    assert_eq!(fixture.refusal(device.connect_packet()).await, ConnectReturnCode::ServerUnavailable);
    for topic in ["$iothub/twin/GET/?$rid=r1", "$iothub/twin/PATCH/properties/reported/?$rid=r1"] {
        let (status, version, body) = twin_request(&mut client, topic, b"{\"a\":1}").await;
        assert_eq!((status, version, &body["errorCode"]), (429, None, &json!(429_001)));
    }
    client.send(&publish(TELEMETRY, Delivery::AtMostOnce, b"x")).await.unwrap();
    assert!(closed(&mut client).await.is_empty());
    assert!(fixture.messages().await.is_empty());
    fixture.limiter.refuse(&[]);
    assert_eq!(fixture.reported("dev1").await, json!({"$version": 1}));
    device.connect().await;
}

#[tokio::test]
async fn a_subscriber_hears_of_every_desired_change_in_order() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    fixture.patch_desired("dev1", json!({"before": true})).await;
    device.subscribe(DESIRED, Qos::AtLeastOnce).await.unwrap();
    for n in 1..=5 {
        fixture.patch_desired("dev1", json!({"n": n})).await;
    }
    for n in 1..=5 {
        let change = device.next_publish().await.unwrap();
        assert_eq!(*change.topic, format!("$iothub/twin/PATCH/properties/desired/?$version={}", n + 2));
        let body: Value = serde_json::from_slice(&change.payload).unwrap();
        assert_eq!(body, json!({"n": n, "$version": n + 2}));
    }
}

#[tokio::test]
async fn a_module_has_a_twin_and_methods_of_its_own() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let mut module = fixture.module("dev1/mod1").await.connect().await;
    for client in [&mut device, &mut module] {
        for filter in [TWIN_RESPONSES, DESIRED, METHODS] {
            client.subscribe(filter, Qos::AtLeastOnce).await.unwrap();
        }
    }
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=r1";
    assert_eq!(twin_request(&mut module, patch, b"{\"fw\":2}").await, (204, Some(2), Value::Null));
    fixture.patch_desired("dev1/mod1", json!({"interval": 30, "old": null})).await;
    let told = module.next_publish().await.unwrap();
    assert_eq!(&*told.topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    let body: Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(body, json!({"interval": 30, "old": null, "$version": 2}));
    let twin = twin_request(&mut module, "$iothub/twin/GET/?$rid=r1", b"").await;
    let expected = json!({"desired": {"interval": 30, "$version": 2}, "reported": {"fw": 2, "$version": 2}});
    assert_eq!(twin, (200, None, expected));
    let (service, id) = (Caller::system(), "dev1/mod1".parse().unwrap());
    let asked = async {
        assert_eq!(&*module.next_publish().await.unwrap().topic, "$iothub/methods/POST/reboot/?$rid=1");
        module.publish("$iothub/methods/res/200/?$rid=1", b"").await.unwrap();
    };
    let (response, ()) = tokio::join!(fixture.hub.invoke_method(&service, &id, request("reboot")), asked);
    assert_eq!(response.unwrap().status, 200);
    let untouched = json!({"desired": {"$version": 1}, "reported": {"$version": 1}});
    assert_eq!(twin_request(&mut device, "$iothub/twin/GET/?$rid=r1", b"").await, (200, None, untouched));
}

// Direct methods.

fn request(name: &str) -> MethodRequest {
    let payload = serde_json::value::RawValue::from_string("{\"seconds\":3}".into()).unwrap();
    let (connect_timeout_seconds, response_timeout_seconds) = (None, None);
    MethodRequest {
        name: name.into(),
        payload: Some(payload),
        connect_timeout_seconds,
        response_timeout_seconds,
    }
}

#[tokio::test]
async fn a_direct_method_is_asked_and_answered() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.subscribe(METHODS, Qos::AtMostOnce).await.unwrap();
    let (service, id) = (Caller::system(), "dev1".parse().unwrap());
    for number in 1..=17 {
        let service = fixture.hub.invoke_method(&service, &id, request("reboot"));
        let asked = async {
            let asked = device.next_publish().await.unwrap();
            assert_eq!(*asked.topic, format!("$iothub/methods/POST/reboot/?$rid={number:x}"));
            assert_eq!(&asked.payload[..], b"{\"seconds\":3}");
            let answer = format!("$iothub/methods/res/-5/?$rid={number:X}");
            device.publish(&answer, b"{\"ok\": 1}").await.unwrap();
        };
        let (response, ()) = tokio::join!(service, asked);
        let response = response.unwrap();
        assert_eq!(response.status, -5);
        assert_eq!(response.payload.unwrap().get(), "{\"ok\": 1}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_acknowledged_and_forgotten() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    for topic in [
        "$iothub/methods/res/200/?$rid=9",
        "$iothub/methods/res/ok/?$rid=1",
        "$iothub/methods/res/200/?$rid=zz",
    ] {
        device.publish(topic, b"").await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_does_not_listen_to_methods_is_not_online_for_them() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let identity = "dev1".parse().unwrap();
    let refused = fixture.hub.invoke_method(&Caller::system(), &identity, request("reboot")).await;
    assert_eq!(refused.unwrap_err().code(), 404_103);
    device.subscribe("$iothub/methods/POST/stop/#", Qos::AtLeastOnce).await.unwrap();
    let other = fixture.hub.invoke_method(&Caller::system(), &identity, request("reboot")).await;
    assert_eq!(other.unwrap_err().code(), 404_103, "it listens to another method");
    device.subscribe(METHODS, Qos::AtLeastOnce).await.unwrap();
    let filters =
        ["$iothub/methods/POST/stop/#", METHODS].map(|filter| Text::try_from(filter).unwrap()).to_vec();
    device.send(&Packet::Unsubscribe(mqtt::codec::Unsubscribe { packet_id: id(9), filters })).await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::UnsubAck(id(9)));
    let refused = fixture.hub.invoke_method(&Caller::system(), &identity, request("reboot")).await;
    assert_eq!(refused.unwrap_err().code(), 404_103);
}

// What ends a connection, and the will.

fn with_will(connect: Connect) -> Connect {
    let topic = Text::try_from("devices/dev1/messages/events/why=gone").unwrap();
    let will = Will { qos: Qos::AtLeastOnce, retain: true, topic, payload: Bytes::from_static(b"bye") };
    Connect { will: Some(will), ..connect }
}

/// Whether exactly one will has arrived, with everything that makes it one.
async fn has_one_will(fixture: &Fixture) -> bool {
    let messages = fixture.messages().await;
    let wills: Vec<_> =
        messages.iter().filter(|m| m.application("iothub-MessageType") == Some("Will")).collect();
    wills.len() == 1
        && wills[0].body == b"bye"
        && wills[0].application("why") == Some("gone")
        && wills[0].application("mqtt-retain") == Some("true")
}

#[tokio::test]
async fn a_newer_connection_takes_over_and_a_failed_one_does_not() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut old = fixture.connect(with_will(device.connect_packet())).await.unwrap();
    let stranger = hub_connect(HOST, &device.identity, None).unwrap();
    assert_eq!(fixture.refusal(stranger).await, ConnectReturnCode::NotAuthorized);
    old.publish(TELEMETRY, b"still here").await.unwrap();
    let mut new = device.connect().await;
    assert!(closed(&mut old).await.is_empty(), "without a packet");
    assert!(has_one_will(&fixture).await);
    new.publish(TELEMETRY, b"here").await.unwrap();
    assert!(fixture.hub.sessions().is_connected(&device.identity));
}

#[tokio::test]
async fn a_module_does_not_take_over_from_its_device() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let mut module = fixture.module("dev1/mod1").await.connect().await;
    device.publish(TELEMETRY, b"x").await.unwrap();
    module.publish("devices/dev1/modules/mod1/messages/events/", b"x").await.unwrap();
}

#[tokio::test]
async fn a_silent_connection_ends_after_one_and_a_half_keep_alives() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let connect = Connect { keep_alive_seconds: 60, ..with_will(device.connect_packet()) };
    let mut client = fixture.connect(connect).await.unwrap();
    fixture.advance(89).await;
    client.send(&Packet::PingReq).await.unwrap();
    assert_eq!(client.receive().await.unwrap(), Packet::PingResp);
    fixture.advance(89).await;
    assert!(fixture.hub.sessions().is_connected(&device.identity));
    fixture.advance(1).await;
    assert!(closed(&mut client).await.is_empty());
    assert!(has_one_will(&fixture).await);
}

#[tokio::test]
async fn a_packet_from_the_server_keeps_a_connection_alive_too() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut client = device.connect().await;
    client.subscribe(DESIRED, Qos::AtLeastOnce).await.unwrap();
    fixture.advance(89).await;
    fixture.patch_desired("dev1", json!({"a": 1})).await;
    client.next_publish().await.unwrap();
    fixture.advance(89).await;
    assert!(fixture.hub.sessions().is_connected(&device.identity));
    fixture.advance(1).await;
    closed(&mut client).await;
}

#[tokio::test]
async fn no_keep_alive_and_a_very_long_one_mean_the_longest() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    for keep_alive_seconds in [0, 1178, u16::MAX] {
        let connect = Connect { keep_alive_seconds, ..device.connect_packet() };
        let mut client = fixture.connect(connect).await.unwrap();
        fixture.advance(1766).await;
        assert!(fixture.hub.sessions().is_connected(&device.identity));
        fixture.advance(1).await;
        closed(&mut client).await;
    }
}

#[tokio::test]
async fn a_live_connection_is_cut_ten_minutes_after_its_token_expired() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let connect = hub_connect(HOST, &device.identity, Some(&device.token(300))).unwrap();
    let connect = Connect { keep_alive_seconds: 0, ..with_will(connect) };
    let mut client = fixture.connect(connect).await.unwrap();
    for _ in 0..8 {
        fixture.advance(100).await;
        client.publish(TELEMETRY, b"x").await.unwrap();
    }
    fixture.advance(99).await;
    assert!(fixture.hub.sessions().is_connected(&device.identity));
    fixture.advance(1).await;
    closed(&mut client).await;
    assert!(has_one_will(&fixture).await);
}

#[tokio::test]
async fn a_goodbye_leaves_no_will_and_a_broken_stream_does() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let client = fixture.connect(with_will(device.connect_packet())).await.unwrap();
    client.disconnect().await.unwrap();
    assert!(fixture.messages().await.is_empty());
    drop(fixture.connect(with_will(device.connect_packet())).await.unwrap());
    while fixture.hub.sessions().is_connected(&device.identity) {
        tokio::task::yield_now().await;
    }
    assert!(has_one_will(&fixture).await);
}

#[tokio::test]
async fn a_deleted_device_is_cut() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut client = device.connect().await;
    fixture.hub.delete_device(&Caller::system(), &device.identity.device_id, &IfMatch::Any).await.unwrap();
    assert!(closed(&mut client).await.is_empty());
    assert_eq!(fixture.refusal(device.connect_packet()).await, ConnectReturnCode::NotAuthorized);
}

#[tokio::test]
async fn a_disabled_device_is_cut_with_its_modules_and_comes_in_no_more() {
    let fixture = Fixture::new().await;
    let (device, module) = (fixture.device("dev1").await, fixture.module("dev1/mod1").await);
    let (mut client, mut module_client) = (device.connect().await, module.connect().await);
    let mut spec = DeviceSpec { status: Status::Disabled, ..DeviceSpec::new("dev1".parse().unwrap()) };
    spec.authentication.primary_key = Some(device.key.text().to_owned());
    spec.authentication.secondary_key = Some(device.key.text().to_owned());
    fixture.hub.put_device(&Caller::system(), &spec, &IfMatch::Any).await.unwrap();
    for (client, connect) in
        [(&mut client, device.connect_packet()), (&mut module_client, module.connect_packet())]
    {
        assert!(closed(client).await.is_empty());
        assert_eq!(fixture.refusal(connect).await, ConnectReturnCode::NotAuthorized);
    }
    spec.status = Status::Enabled;
    fixture.hub.put_device(&Caller::system(), &spec, &IfMatch::Any).await.unwrap();
    device.connect().await;
    module.connect().await;
}

#[tokio::test]
async fn a_device_that_reads_nothing_is_cut_like_any_other() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut deaf = fixture.connect(with_will(device.connect_packet())).await.unwrap();
    let pings = [0xc0, 0].repeat(45_000);
    deaf.send_bytes(&pings).await.unwrap();
    fixture.settle().await;
    let _new = device.connect().await;
    // The log has a thread of its own, which nobody can hurry.
    for _ in 0..1_000_000 {
        if has_one_will(&fixture).await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the old connection lives on because it has read nothing");
}

#[tokio::test]
async fn shutdown_pays_what_is_owed_and_closes() {
    let fixture = Fixture::new().await;
    let mut client = fixture.device("dev1").await.connect().await;
    client.publish_unacknowledged(TELEMETRY, b"x").await.unwrap();
    fixture.settle().await;
    assert_eq!(fixture.tasks.drain(std::time::Duration::from_secs(5)).await, 0);
    assert_eq!(closed(&mut client).await, [Packet::PubAck(id(1))]);
}

#[tokio::test]
async fn a_device_that_reads_nothing_is_not_read_from_without_end() {
    let fixture = Fixture::new().await;
    let mut client = fixture.device("dev1").await.connect().await;
    let mut bytes = bytes::BytesMut::new();
    for _ in 0..100_000 {
        Packet::PingReq.encode(&mut bytes).unwrap();
    }
    let all = bytes.len();
    let sent = async {
        for chunk in bytes.chunks(1024) {
            client.send_bytes(chunk).await?;
        }
        Ok::<_, ClientError>(())
    };
    let clogged = async {
        fixture.settle().await;
        fixture.settle().await;
    };
    // It is still sending when everything has come to rest: the server has stopped to read.
    tokio::select! {
        biased;
        sent = sent => panic!("{all} bytes were taken: {sent:?}"),
        () = clogged => {}
    }
}
