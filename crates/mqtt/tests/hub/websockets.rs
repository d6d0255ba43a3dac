//! MQTT inside of a WebSocket: the same door, the same limits.

use fixture::frames::{BINARY, CLOSE, PING, TEXT, frame, next_frame};

use super::*;

fn encoded(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    for packet in packets {
        packet.encode(&mut bytes).unwrap();
    }
    bytes.to_vec()
}

/// A CONNECT in one frame, and its CONNACK.
async fn enter(stream: &mut DuplexStream, connect: Connect) {
    let connect = encoded(&[Packet::Connect(Box::new(connect))]);
    stream.write_all(&frame(BINARY, true, &connect)).await.unwrap();
    assert_eq!(within(next_frame(stream)).await.unwrap(), Some((BINARY, vec![0x20, 2, 0, 0])));
}

/// The code of the goodbye, which is the last that is heard.
async fn goodbye(stream: &mut DuplexStream) -> u16 {
    let (opcode, payload) = within(next_frame(stream)).await.unwrap().expect("it says goodbye");
    assert_eq!(opcode, CLOSE);
    let _ = stream.write_all(&frame(CLOSE, true, &payload)).await;
    assert_eq!(within(next_frame(stream)).await.unwrap(), None);
    u16::from_be_bytes(payload[..].try_into().unwrap())
}

#[tokio::test]
async fn a_device_and_a_module_do_over_a_websocket_what_they_do_without() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let module = fixture.module("dev1/mod1").await;
    let mut client = Client::connect(fixture.websocket(), device.connect_packet()).await.unwrap();
    let large = vec![7; 256 * 1024 - 1024];
    client.publish(TELEMETRY, &large).await.unwrap();
    for filter in [TWIN_RESPONSES, DESIRED, METHODS] {
        client.subscribe(filter, Qos::AtMostOnce).await.unwrap();
    }
    let (status, _, twin) = twin_request(&mut client, "$iothub/twin/GET/?$rid=r1", b" ").await;
    assert_eq!((status, &twin["desired"]["$version"]), (200, &json!(1)));
    let (status, version, _) =
        twin_request(&mut client, "$iothub/twin/PATCH/properties/reported/?$rid=r1", b"{\"a\":1}").await;
    assert_eq!((status, version), (204, Some(2)));
    fixture.patch_desired("dev1", json!({"target": 21})).await;
    let changed = client.next_publish().await.unwrap();
    assert_eq!(&*changed.topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    let mut other = Client::connect(fixture.websocket(), module.connect_packet()).await.unwrap();
    other.publish(MODULE_TELEMETRY, b"module").await.unwrap();
    let messages = fixture.messages().await;
    assert!(messages.iter().any(|message| message.body == large));
    assert!(messages.iter().any(|message| message.body == b"module"));
}

#[tokio::test]
async fn packets_share_a_frame_and_what_came_with_the_request_counts() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let at_least_once = |number| Delivery::AtLeastOnce { packet_id: id(number), is_duplicate: false };
    let all = encoded(&[
        Packet::Connect(Box::new(device.connect_packet())),
        publish(TELEMETRY, at_least_once(1), b"first"),
        publish(TELEMETRY, at_least_once(2), b"second"),
    ]);
    let all = frame(BINARY, true, &all);
    let mut stream = fixture.websocket_behind(Bytes::copy_from_slice(&all[..40]), Peer::default());
    stream.write_all(&all[40..]).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 12 {
        let (opcode, payload) = within(next_frame(&mut stream)).await.unwrap().unwrap();
        assert_eq!(opcode, BINARY);
        heard.extend(payload);
    }
    assert_eq!(heard, [0x20, 2, 0, 0, 0x40, 2, 0, 1, 0x40, 2, 0, 2]);
    assert_eq!(fixture.messages().await.len(), 2);
}

#[tokio::test]
async fn connections_with_and_without_a_websocket_take_over_from_each_other() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut bare = device.connect().await;
    let mut stream = fixture.websocket_behind(Bytes::new(), Peer::default());
    enter(&mut stream, device.connect_packet()).await;
    assert!(closed(&mut bare).await.is_empty());
    let mut bare = device.connect().await;
    assert_eq!(goodbye(&mut stream).await, 1000);
    bare.publish(TELEMETRY, b"here").await.unwrap();
}

#[tokio::test]
async fn a_device_that_closes_its_websocket_is_gone_and_leaves_its_will() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut stream = fixture.websocket_behind(Bytes::new(), Peer::default());
    enter(&mut stream, with_will(device.connect_packet())).await;
    stream.write_all(&frame(CLOSE, true, &1001_u16.to_be_bytes())).await.unwrap();
    assert_eq!(goodbye(&mut stream).await, 1001);
    fixture.disconnected(&device.identity).await;
    assert!(has_one_will(&fixture).await);
}

#[tokio::test]
async fn text_and_what_no_packet_could_need_end_the_connection_with_the_reason() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let too_large = frame(BINARY, true, &vec![0; base::caps::MQTT_PACKET_BYTES_MAX + 1]);
    for (sent, code) in [(frame(TEXT, true, b"\xc0\0"), 1003), (too_large, 1009)] {
        let mut stream = fixture.websocket_behind(Bytes::new(), Peer::default());
        enter(&mut stream, device.connect_packet()).await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let heard = async {
            let heard = next_frame(&mut reader).await;
            assert_eq!(next_frame(&mut reader).await, None);
            heard
        };
        let send = async {
            // The server may close before everything is written.
            let _ = writer.write_all(&sent).await;
            let _ = writer.shutdown().await;
        };
        let (heard, ()) = within(async { tokio::join!(heard, send) }).await.unwrap();
        assert_eq!(heard, Some((CLOSE, u16::to_be_bytes(code).to_vec())));
        fixture.disconnected(&device.identity).await;
    }
}

#[tokio::test]
async fn a_stranger_has_ten_seconds_and_sixteen_kilobytes_whatever_he_wraps_them_in() {
    let fixture = Fixture::new().await;
    let mut stream = fixture.websocket_behind(Bytes::new(), Peer::default());
    fixture.advance(base::caps::UNAUTHENTICATED_SECONDS_MAX - 1).await;
    stream.write_all(&frame(PING, true, b"?")).await.unwrap();
    assert_eq!(within(next_frame(&mut stream)).await.unwrap().unwrap().1, b"?");
    fixture.advance(1).await;
    assert_eq!(goodbye(&mut stream).await, 1000);

    // A CONNECT of twenty kilobytes, which would be taken of somebody known.
    let mut stream = fixture.websocket_behind(Bytes::new(), Peer::default());
    let connect = [&[0x10, 0xa0, 0x9c, 0x01][..], &vec![0; 20_000]].concat();
    stream.write_all(&frame(BINARY, true, &connect)).await.unwrap();
    assert_eq!(goodbye(&mut stream).await, 1000);
}

#[tokio::test]
async fn pings_of_a_websocket_do_not_stand_for_those_of_mqtt() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut stream = fixture.websocket_behind(Bytes::new(), Peer::default());
    enter(&mut stream, Connect { keep_alive_seconds: 60, ..device.connect_packet() }).await;
    fixture.advance(89).await;
    stream.write_all(&frame(PING, true, b"")).await.unwrap();
    assert_eq!(within(next_frame(&mut stream)).await.unwrap().unwrap().1, b"");
    assert!(fixture.is_connected(&device.identity).await);
    fixture.advance(1).await;
    assert_eq!(goodbye(&mut stream).await, 1000);
}

#[tokio::test]
async fn shutdown_says_goodbye() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut stream = fixture.websocket_behind(Bytes::new(), Peer::default());
    enter(&mut stream, device.connect_packet()).await;
    let drain = fixture.tasks.drain(fixture::client::PATIENCE);
    let (_, code) = tokio::join!(drain, goodbye(&mut stream));
    assert_eq!(code, 1000);
}
