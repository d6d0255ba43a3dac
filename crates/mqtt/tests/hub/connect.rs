//! CONNECT: who comes in, as whom, and what everybody else is told.

use super::*;

#[tokio::test]
async fn a_device_with_its_own_token_comes_in() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await.connect().await;
    assert!(!device.session_present());
    assert!(fixture.is_connected(&"dev1".parse().unwrap()).await);
    device.disconnect().await.unwrap();
    fixture.disconnected(&"dev1".parse().unwrap()).await;
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
    assert_eq!(fixture.hub.connected_devices().await.unwrap(), 0);
    assert!(!fixture.is_connected(&module.identity).await);
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
async fn older_clients_user_names_and_passwords_come_in() {
    let fixture = Fixture::new().await;
    let (device, module) = (fixture.device("dev1").await, fixture.module("dev1/mod1").await);
    let expires_at = fixture.clock.now().plus(std::time::Duration::from_mins(5));
    for (device, path) in [(&device, "dev1"), (&module, "dev1/modules/mod1")] {
        let versioned = format!("{HOST}/devices/{path}/api-version=2016-11-14");
        for token in [device.token(60), sas::build(&versioned, &device.key, expires_at, None)] {
            for query in
                ["", "/", "/DeviceClientType=azure-iot-device%2F1.0.14", "/a=b", "/api-version=2016-11-14"]
            {
                let mut connect = hub_connect(HOST, &device.identity, Some(&token)).unwrap();
                let user_name = format!("{HOST}/{}{query}", device.identity);
                connect.login.as_mut().unwrap().user_name = Text::try_from(user_name).unwrap();
                assert!(fixture.connect(connect).await.is_ok(), "{path}{query}");
            }
        }
    }
}

#[tokio::test]
async fn a_will_on_a_foreign_topic_is_dropped_and_the_device_comes_in() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    fixture.device("dev2").await;
    for topic in ["tele/plug/LWT", "devices/dev2/messages/events/", "devices/+/messages/events/"] {
        let mut connect = with_will(device.connect_packet());
        connect.will.as_mut().unwrap().topic = Text::try_from(topic).unwrap();
        let client = fixture.connect(connect).await.unwrap();
        drop(client);
        fixture.disconnected(&device.identity).await;
    }
    assert_eq!(fixture.messages().await, []);
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
async fn a_hub_that_is_not_there_lets_nobody_in_whoever_answers_at_other_names() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let expires_at = fixture.clock.now().plus(std::time::Duration::from_mins(5));
    let at = |host: &str| {
        let token = sas::build(&format!("{host}/devices/dev1"), &device.key, expires_at, None);
        hub_connect(host, &device.identity, Some(&token)).unwrap()
    };
    for host in ["localhost", "127.0.0.1", "myhub.azure-devices.net"] {
        assert!(fixture.connect(at(host)).await.is_ok(), "{host}");
    }
    fixture.hubs.remove(fixture.other_hub.instance()).await.unwrap();
    for host in ["typo.azure-devices.localhost", OTHER_HOST] {
        assert_eq!(fixture.refusal(at(host)).await, ConnectReturnCode::NotAuthorized, "{host}");
        let peer = Peer { sni: Some(host.to_owned()), ..Peer::default() };
        let refused = Client::connect(fixture.stream_from(peer), at("localhost")).await;
        assert!(matches!(refused, Err(ClientError::Refused(ConnectReturnCode::NotAuthorized))), "{host}");
    }
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
    within(v5.read_to_end(&mut answer)).await.unwrap().unwrap();
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
