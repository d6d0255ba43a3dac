//! What ends a connection, and the will that it leaves.

use super::*;

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
        fixture.disconnected(&device.identity).await;
    }
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
    assert!(fixture.is_connected(&device.identity).await);
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
    assert!(fixture.is_connected(&device.identity).await);
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
    assert!(fixture.is_connected(&device.identity).await);
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
        assert!(fixture.is_connected(&device.identity).await);
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
    assert!(fixture.is_connected(&device.identity).await);
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
    fixture.disconnected(&device.identity).await;
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
    spec.authentication.primary_key = Some((&device.key).into());
    spec.authentication.secondary_key = Some((&device.key).into());
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

#[tokio::test]
async fn a_wall_clock_that_is_set_keeps_no_stranger_and_cuts_no_device() {
    for step in [-2 * 3600, 400 * 24 * 3600] {
        let fixture = Fixture::new().await;
        let device = fixture.device("dev1").await;
        let mut client = device.connect().await;
        let mut stranger = fixture.unconnected();
        fixture.advance(1).await;
        fixture.clock.step(step);
        fixture.advance(9).await;
        assert!(closed(&mut stranger).await.is_empty(), "a step of {step} s");
        client.publish(TELEMETRY, b"still here").await.unwrap();
        fixture.clock.step(-step);
        fixture.advance(1).await;
        client.publish(TELEMETRY, b"and here").await.unwrap();
        assert!(fixture.is_connected(&device.identity).await);
    }
}
