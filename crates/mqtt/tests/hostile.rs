//! Anything at all, sent by a device that has come in: it is answered in MQTT or the connection ends, and the next one works.
#![allow(clippy::unwrap_used, reason = "a test may panic at a surprise")]

mod fixture;

use base::caps;
use bytes::{Bytes, BytesMut};
use fixture::{Fixture, closed};
use mqtt::codec::{self, Delivery, Packet, PacketId, Publish, Qos, Subscribe, Text, Unsubscribe};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn topic() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "devices/dev1/messages/events/",
        "devices/dev1/messages/events/$.ct=a&b=c",
        "$iothub/twin/GET/?$rid=1",
        "$iothub/twin/PATCH/properties/reported/?$rid=2",
        "$iothub/twin/PATCH/properties/reported/?$rid=2&$version=1",
        "$iothub/methods/res/200/?$rid=1",
        "$iothub/twin/res/#",
        "$iothub/methods/POST/#",
        "$iothub/twin/PATCH/properties/desired/#",
        "devices/dev1/messages/devicebound/#",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => ".{1,30}".prop_filter("NUL", |text| !text.contains('\0'))]
}

fn payload() -> impl Strategy<Value = Bytes> {
    let json =
        prop::sample::select(vec![r#"{"a":1}"#, r#"{"a":null}"#, r#"{"$version":3}"#, "[[[", "{}", " ", ""]);
    prop_oneof![
        json.prop_map(|text| Bytes::from_static(text.as_bytes())),
        vec(any::<u8>(), 0..64).prop_map(Bytes::from)
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let delivery = (any::<PacketId>(), 0..20).prop_map(|(packet_id, kind)| match kind {
        0 => Delivery::ExactlyOnce { packet_id, is_duplicate: false },
        1..6 => Delivery::AtMostOnce,
        _ => Delivery::AtLeastOnce { packet_id, is_duplicate: kind % 2 == 0 },
    });
    let publish =
        (delivery, any::<bool>(), topic(), payload()).prop_map(|(delivery, retain, topic, payload)| {
            Packet::Publish(Publish { delivery, retain, topic: Text::try_from(topic).unwrap(), payload })
        });
    let text = || topic().prop_map(|topic| Text::try_from(topic).unwrap());
    let qos = prop::sample::select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]);
    prop_oneof![
        10 => publish,
        4 => (any::<PacketId>(), vec((text(), qos), 1..4))
            .prop_map(|(packet_id, filters)| Packet::Subscribe(Subscribe { packet_id, filters })),
        1 => (any::<PacketId>(), vec(text(), 1..3))
            .prop_map(|(packet_id, filters)| Packet::Unsubscribe(Unsubscribe { packet_id, filters })),
        1 => any::<PacketId>().prop_map(Packet::PubAck),
        1 => Just(Packet::PingReq),
    ]
}

fn said() -> impl Strategy<Value = Vec<u8>> {
    let packets = vec(packet(), 0..30).prop_map(|packets| {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.encode(&mut bytes).unwrap();
        }
        bytes.to_vec()
    });
    (packets, prop_oneof![2 => Just(Vec::new()), 1 => vec(any::<u8>(), 1..40)])
        .prop_map(|(packets, rest)| [packets, rest].concat())
}

/// What the server answers to these bytes behind a CONNECT; it must have answered whole packets, and still be there.
async fn converse(bytes: &[u8]) -> Vec<Packet> {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let (mut reader, mut writer) = tokio::io::split(fixture.stream());
    let mut all = BytesMut::new();
    Packet::Connect(Box::new(device.connect_packet())).encode(&mut all).unwrap();
    all.extend_from_slice(bytes);
    let write = async {
        // The server may close before everything is written.
        let _ = writer.write_all(&all).await;
        let _ = writer.shutdown().await;
    };
    let mut heard = Vec::new();
    let ((), read) = tokio::join!(write, reader.read_to_end(&mut heard));
    read.unwrap();
    let (mut heard, mut packets) = (BytesMut::from(&heard[..]), Vec::new());
    while let Some(packet) = codec::decode(&mut heard, caps::MQTT_PACKET_BYTES_MAX).unwrap() {
        packets.push(packet);
    }
    assert!(heard.is_empty(), "the server ends with a whole packet");
    let mut again = device.connect().await;
    again.publish("devices/dev1/messages/events/", b"").await.unwrap();
    again.send(&Packet::Disconnect).await.unwrap();
    closed(&mut again).await;
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_device_says_is_answered_in_mqtt_or_ends_its_connection(bytes in said()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let packets = runtime.block_on(converse(&bytes));
        prop_assert!(matches!(packets.first(), Some(Packet::ConnAck(_))));
    }
}
