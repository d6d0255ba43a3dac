//! Anything at all, sent by a device that has come in: it is answered in MQTT or the connection ends, and the next one works.
//! Anything at all, sent by a stranger: it is refused.
#![allow(clippy::unwrap_used, reason = "a test may panic at a surprise")]

mod fixture;

use base::caps;
use bytes::{Bytes, BytesMut};
use fixture::client::within;
use fixture::{Fixture, closed};
use mqtt::codec::{
    self, Connect, Delivery, Login, Packet, PacketId, Publish, Qos, Subscribe, Text, Unsubscribe, Will,
};
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
    let exchange = async { tokio::join!(write, reader.read_to_end(&mut heard)) };
    let ((), read) = within(exchange).await.unwrap();
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

/// A CONNECT that is nobody's, or bytes that are none.
fn stranger() -> impl Strategy<Value = Vec<u8>> {
    let known = |texts: &'static [&'static str]| {
        prop_oneof![3 => prop::sample::select(texts).prop_map(str::to_owned), 1 => "[a-z/?&=%.$#+-]{0,40}|.{0,40}"]
            .prop_filter("NUL", |text| !text.contains('\0'))
            .prop_map(|text| Text::try_from(text).unwrap())
    };
    let user_name = known(&[
        "hub.azure-devices.localhost/dev1/?api-version=2021-04-12",
        "hub.azure-devices.localhost/dev1/mod1/api-version=2021-04-12&model-id=dtmi:a;1",
        "other.azure-devices.localhost/dev1",
        "0ne00000001/registrations/dev1/api-version=2019-03-31",
        "//?",
    ]);
    let password = prop::sample::select(vec![
        "",
        "SharedAccessSignature sr=hub.azure-devices.localhost%2Fdevices%2Fdev1&sig=AAAA&se=4000000000",
        "SharedAccessSignature sr=%ff&sig=%ff&se=9223372036854775807&skn=iothubowner",
        "SharedAccessSignature sr=&sig=&se=-9223372036854775808&skn=",
        "SharedAccessSignature sr=a&sr=b&sig=AAAA&se=1",
        "secret",
    ]);
    let password = prop_oneof![
        3 => password.prop_map(|text| Bytes::from_static(text.as_bytes())),
        1 => vec(any::<u8>(), 0..60).prop_map(Bytes::from)
    ];
    let login = (user_name, proptest::option::of(password))
        .prop_map(|(user_name, password)| Login { user_name, password });
    let will = (known(&["devices/dev1/messages/events/", "devices/dev1/messages/events/a=b"]), payload());
    let will = will.prop_map(|(topic, payload)| Will { qos: Qos::AtLeastOnce, retain: true, topic, payload });
    let connect = (
        known(&["dev1", "dev1/mod1", ""]),
        any::<(bool, u16)>(),
        proptest::option::of(will),
        proptest::option::weighted(0.9, login),
    );
    let connect = connect.prop_map(|(client_id, (clean_session, keep_alive_seconds), will, login)| {
        let connect = Connect { client_id, clean_session, keep_alive_seconds, will, login };
        let mut bytes = BytesMut::new();
        Packet::Connect(Box::new(connect)).encode(&mut bytes).unwrap();
        bytes.to_vec()
    });
    let damaged =
        (connect, any::<(prop::sample::Index, u8)>(), 0..4).prop_map(|(mut bytes, (at, byte), kind)| {
            if kind == 0 {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    prop_oneof![4 => damaged, 1 => vec(any::<u8>(), 0..100)]
}

/// What the server answers to these bytes; nothing may have come of them.
async fn knock(bytes: &[u8]) -> Vec<u8> {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    fixture.module("dev1/mod1").await;
    let mut owner = device.connect().await;
    let (mut reader, mut writer) = tokio::io::split(fixture.stream());
    let mut heard = Vec::new();
    let write = async {
        // The server may close before everything is written.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let exchange = async { tokio::join!(write, reader.read_to_end(&mut heard)) };
    let ((), read) = within(exchange).await.unwrap();
    read.unwrap();
    assert!(fixture.messages().await.is_empty(), "no will of a stranger");
    owner.publish("devices/dev1/messages/events/", b"").await.unwrap();
    heard
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_stranger_says_gets_a_refusal_or_nothing_and_disturbs_nobody(bytes in stranger()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let heard = runtime.block_on(knock(&bytes));
        let is_refusal = matches!(heard[..], [0x20, 2, 0, 1..=5] | [0x20, 3, 0, 0x84, 0]);
        prop_assert!(heard.is_empty() || is_refusal, "{heard:?}");
    }
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
