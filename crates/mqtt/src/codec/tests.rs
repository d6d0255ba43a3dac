//! The codec against itself, against arbitrary bytes in arbitrary pieces, and against another codec.

use base::caps;
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4 as other;

use super::*;

const MAX: usize = caps::MQTT_PACKET_BYTES_MAX;

fn read(bytes: &[u8]) -> Result<Option<Packet>, Malformed> {
    decode(&mut BytesMut::from(bytes), MAX)
}

/// Every packet in `pieces`, fed one after the other, and the error that ended the stream, if one did.
fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Packet>, Option<Malformed>) {
    let (mut buffer, mut packets) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer, MAX) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fn text(minimum: usize) -> impl Strategy<Value = Text> {
    let characters = vec(any::<char>().prop_filter("NUL", |c| *c != '\0'), minimum..20);
    characters.prop_map(|characters| Text::try_from(characters.into_iter().collect::<String>()).unwrap())
}

fn bytes(maximum: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..maximum).prop_map(Bytes::from)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<PacketId>()
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        Just(Delivery::AtMostOnce),
        (packet_id(), any::<bool>())
            .prop_map(|(packet_id, is_duplicate)| Delivery::AtLeastOnce { packet_id, is_duplicate }),
        (packet_id(), any::<bool>())
            .prop_map(|(packet_id, is_duplicate)| Delivery::ExactlyOnce { packet_id, is_duplicate }),
    ]
}

fn connect() -> impl Strategy<Value = Connect> {
    let will = (qos(), any::<bool>(), text(1), bytes(40)).prop_map(|(qos, retain, topic, payload)| Will {
        qos,
        retain,
        topic,
        payload,
    });
    let login = (text(0), proptest::option::of(bytes(40)))
        .prop_map(|(user_name, password)| Login { user_name, password });
    (text(0), any::<bool>(), any::<u16>(), proptest::option::of(will), proptest::option::of(login)).prop_map(
        |(client_id, clean_session, keep_alive_seconds, will, login)| Connect {
            client_id,
            clean_session,
            keep_alive_seconds,
            will,
            login,
        },
    )
}

fn connack() -> impl Strategy<Value = ConnAck> {
    (any::<bool>(), 0_u8..6).prop_map(|(session_present, code)| ConnAck {
        session_present: session_present && code == 0,
        return_code: packet::ConnectReturnCode::from_byte(code).unwrap(),
    })
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let publish = (delivery(), any::<bool>(), text(1), bytes(300))
        .prop_map(|(delivery, retain, topic, payload)| Publish { delivery, retain, topic, payload });
    prop_oneof![
        connect().prop_map(|connect| Packet::Connect(Box::new(connect))),
        prop_oneof![Just(3_u8), Just(5)].prop_map(|level| Packet::ForeignConnect { level }),
        connack().prop_map(Packet::ConnAck),
        publish.prop_map(Packet::Publish),
        packet_id().prop_map(Packet::PubAck),
        packet_id().prop_map(Packet::PubRec),
        packet_id().prop_map(Packet::PubRel),
        packet_id().prop_map(Packet::PubComp),
        (packet_id(), vec((text(1), qos()), 1..6))
            .prop_map(|(packet_id, filters)| Packet::Subscribe(Subscribe { packet_id, filters })),
        (packet_id(), vec(proptest::option::of(qos()), 1..6))
            .prop_map(|(packet_id, granted)| Packet::SubAck(SubAck { packet_id, granted })),
        (packet_id(), vec(text(1), 1..6))
            .prop_map(|(packet_id, filters)| Packet::Unsubscribe(Unsubscribe { packet_id, filters })),
        packet_id().prop_map(Packet::UnsubAck),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
        Just(Packet::Disconnect),
    ]
}

fn encoded(packets: &[Packet]) -> BytesMut {
    let mut out = BytesMut::new();
    for packet in packets {
        packet.encode(&mut out).unwrap();
    }
    out
}

/// Bytes that look enough like packets to reach every parser: a true packet with some bytes changed, or anything.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let damaged = (any_packet(), vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(
        |(packet, changes)| {
            let mut bytes = encoded(&[packet]).to_vec();
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            bytes
        },
    );
    prop_oneof![3 => damaged, 1 => vec(any::<u8>(), 0..64)]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_again(packet in any_packet()) {
        let mut buffer = encoded(std::slice::from_ref(&packet));
        prop_assert_eq!(decode(&mut buffer, MAX), Ok(Some(packet)));
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn any_bytes_in_any_pieces_give_the_same_packets(
        chunks in vec(hostile_bytes(), 1..5),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = chunks.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]);
        prop_assert_eq!(read_pieces(pieces), read_pieces([&whole[..]]));
    }

    #[test]
    fn what_we_accept_another_codec_reads_alike(bytes in hostile_bytes()) {
        if let Ok(Some(ours)) = read(&bytes) {
            check_alike(&ours, &bytes)?;
        }
    }

    #[test]
    fn what_we_write_another_codec_reads_alike(packet in any_packet()) {
        check_alike(&packet, &encoded(std::slice::from_ref(&packet)))?;
    }

    #[test]
    fn what_another_codec_writes_we_read(
        topic in text(1), payload in bytes(300), pkid in packet_id(), retain: bool, level in 0_u8..3,
    ) {
        let level = rumqttc::mqttbytes::qos(level).unwrap();
        let mut theirs = other::Publish::from_bytes(topic.as_str(), level, payload.clone());
        theirs.retain = retain;
        theirs.pkid = if level == rumqttc::QoS::AtMostOnce { 0 } else { pkid.get() };
        let mut out = BytesMut::new();
        theirs.write(&mut out).unwrap();
        let delivery = match level {
            rumqttc::QoS::AtMostOnce => Delivery::AtMostOnce,
            rumqttc::QoS::AtLeastOnce => Delivery::AtLeastOnce { packet_id: pkid, is_duplicate: false },
            rumqttc::QoS::ExactlyOnce => Delivery::ExactlyOnce { packet_id: pkid, is_duplicate: false },
        };
        prop_assert_eq!(decode(&mut out, MAX), Ok(Some(Packet::Publish(Publish { delivery, retain, topic, payload }))));
    }
}

/// Reads `bytes` with the other codec and holds its packet against ours, field by field.
fn check_alike(ours: &Packet, bytes: &[u8]) -> Result<(), TestCaseError> {
    if !other_can_read(ours) {
        return Ok(());
    }
    let theirs = other::Packet::read(&mut BytesMut::from(bytes), MAX);
    let theirs = theirs.map_err(|error| TestCaseError::fail(format!("{ours:?}: {error}")))?;
    let code = |qos: Qos| rumqttc::mqttbytes::qos(qos.bits()).unwrap();
    match (ours, theirs) {
        (Packet::Connect(a), other::Packet::Connect(b)) => {
            prop_assert_eq!(a.client_id.as_str(), b.client_id);
            prop_assert_eq!((a.keep_alive_seconds, a.clean_session), (b.keep_alive, b.clean_session));
            let will = a.will.as_ref();
            let will =
                will.map(|will| (will.topic.to_string(), will.payload.clone(), code(will.qos), will.retain));
            prop_assert_eq!(will, b.last_will.map(|will| (will.topic, will.message, will.qos, will.retain)));
            let user_name = a.login.as_ref().map(|login| login.user_name.to_string()).unwrap_or_default();
            prop_assert_eq!(user_name, b.login.map(|login| login.username).unwrap_or_default());
        }
        (Packet::ConnAck(a), other::Packet::ConnAck(b)) => {
            prop_assert_eq!((a.session_present, a.return_code as u8), (b.session_present, b.code as u8));
        }
        (Packet::Publish(a), other::Packet::Publish(b)) => {
            let delivery = match a.delivery {
                Delivery::AtMostOnce => (0, 0, false),
                Delivery::AtLeastOnce { packet_id, is_duplicate } => (1, packet_id.get(), is_duplicate),
                Delivery::ExactlyOnce { packet_id, is_duplicate } => (2, packet_id.get(), is_duplicate),
            };
            prop_assert_eq!(delivery, (b.qos as u8, b.pkid, b.dup));
            prop_assert_eq!(
                (a.topic.as_str(), &a.payload, a.retain),
                (b.topic.as_str(), &b.payload, b.retain)
            );
        }
        (Packet::Subscribe(a), other::Packet::Subscribe(b)) => {
            prop_assert_eq!(a.packet_id.get(), b.pkid);
            let ours: Vec<_> =
                a.filters.iter().map(|(filter, qos)| (filter.to_string(), code(*qos))).collect();
            prop_assert_eq!(ours, b.filters.into_iter().map(|f| (f.path, f.qos)).collect::<Vec<_>>());
        }
        (Packet::SubAck(a), other::Packet::SubAck(b)) => {
            let theirs = b.return_codes.iter().map(|granted| match granted {
                other::SubscribeReasonCode::Success(qos) => *qos as u8,
                other::SubscribeReasonCode::Failure => 0x80,
            });
            prop_assert_eq!(a.packet_id.get(), b.pkid);
            prop_assert!(a.granted.iter().map(|granted| granted.map_or(0x80, Qos::bits)).eq(theirs));
        }
        (Packet::Unsubscribe(a), other::Packet::Unsubscribe(b)) => {
            prop_assert_eq!(a.packet_id.get(), b.pkid);
            prop_assert_eq!(a.filters.iter().map(ToString::to_string).collect::<Vec<_>>(), b.topics);
        }
        (Packet::PubAck(a), other::Packet::PubAck(b)) => prop_assert_eq!(a.get(), b.pkid),
        (Packet::PubRec(a), other::Packet::PubRec(b)) => prop_assert_eq!(a.get(), b.pkid),
        (Packet::PubRel(a), other::Packet::PubRel(b)) => prop_assert_eq!(a.get(), b.pkid),
        (Packet::PubComp(a), other::Packet::PubComp(b)) => prop_assert_eq!(a.get(), b.pkid),
        (Packet::UnsubAck(a), other::Packet::UnsubAck(b)) => prop_assert_eq!(a.get(), b.pkid),
        (Packet::PingReq, other::Packet::PingReq)
        | (Packet::PingResp, other::Packet::PingResp)
        | (Packet::Disconnect, other::Packet::Disconnect) => {}
        (ours, theirs) => prop_assert!(false, "{ours:?} was read as {theirs:?}"),
    }
    Ok(())
}

/// The other codec takes no foreign level and only passwords that are UTF-8.
fn other_can_read(packet: &Packet) -> bool {
    match packet {
        Packet::ForeignConnect { .. } => false,
        Packet::Connect(connect) => {
            let password = connect.login.as_ref().and_then(|login| login.password.as_ref());
            password.is_none_or(|password| std::str::from_utf8(password).is_ok())
        }
        _ => true,
    }
}

#[test]
fn the_length_is_refused_before_the_body_arrives() {
    let limit = Err(Malformed::TooLarge { limit_bytes: 100 });
    assert_eq!(decode(&mut BytesMut::from(&[0x30, 99][..]), 100), limit);
    assert_eq!(decode(&mut BytesMut::from(&[0x30, 98][..]), 100), Ok(None));
    assert_eq!(read(&[0x30, 0xff, 0xff, 0xff, 0xff]), Err(Malformed::RemainingLength));
}

#[test]
fn every_violation_of_one_packet_is_named() {
    let cases: &[(&[u8], Malformed)] = &[
        (&[0x00, 0], Malformed::Type(0)),
        (&[0xf0, 0], Malformed::Type(15)),
        (&[0x80, 0], Malformed::Flags),
        (&[0xc1, 0], Malformed::Flags),
        (&[0xc0, 1, 0], Malformed::Long),
        (&[0x36, 5, 0, 1, b'a', 0, 1], Malformed::Qos),
        (&[0x38, 3, 0, 1, b'a'], Malformed::Flags),
        (&[0x32, 5, 0, 1, b'a', 0, 0], Malformed::PacketId),
        (&[0x30, 2, 0, 0], Malformed::Text),
        (&[0x30, 3, 0, 1, 0], Malformed::Text),
        (&[0x30, 3, 0, 1, 0xff], Malformed::Text),
        (&[0x30, 3, 0, 2, b'a'], Malformed::Short),
        (&[0x82, 2, 0, 1], Malformed::NoFilters),
        (&[0x82, 6, 0, 1, 0, 1, b'a', 3], Malformed::Qos),
        (&[0xa2, 2, 0, 1], Malformed::NoFilters),
        (&[0x20, 2, 1, 5], Malformed::Flags),
        (&[0x20, 2, 0, 6], Malformed::ReturnCode),
        (&[0x10, 7, 0, 4, b'M', b'Q', b'T', b'X', 4], Malformed::ProtocolName),
        // Reserved bit; password without user name; will QoS without will.
        (&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x01, 0, 0, 0, 0], Malformed::Flags),
        (&[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x40, 0, 0, 0, 0, 0, 0], Malformed::Flags),
        (&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x08, 0, 0, 0, 0], Malformed::Flags),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read(bytes), Err(*expected), "{bytes:02x?}");
    }
}

#[test]
fn other_versions_are_told_apart_by_their_level() {
    let v5 = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0];
    assert_eq!(read(&v5), Ok(Some(Packet::ForeignConnect { level: 5 })));
    let v3 = [0x10, 14, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 60, 0, 0];
    assert_eq!(read(&v3), Ok(Some(Packet::ForeignConnect { level: 3 })));
}

#[test]
fn a_payload_is_a_slice_of_the_read_buffer() {
    let mut buffer = BytesMut::with_capacity(1024);
    write_publish(&mut buffer, Delivery::AtMostOnce, false, "t", &[7; 100]).unwrap();
    let inside = buffer.as_ptr_range();
    let Ok(Some(Packet::Publish(publish))) = decode(&mut buffer, MAX) else { panic!("a publish") };
    assert!(inside.contains(&publish.payload.as_ptr()));
}

#[test]
fn a_packet_that_does_not_fit_the_wire_is_not_begun() {
    let mut out = BytesMut::new();
    let long = "x".repeat(65_536);
    assert!(Text::try_from(long.as_str()).is_err());
    assert_eq!(write_publish(&mut out, Delivery::AtMostOnce, false, &long, b""), Err(PacketTooLarge));
    assert!(out.is_empty());
}

#[test]
fn passwords_do_not_print_themselves() {
    let login = Login { user_name: "u".try_into().unwrap(), password: Some(Bytes::from_static(b"secret")) };
    assert!(!format!("{login:?}").contains("115"));
    assert!(!format!("{login:?}").contains("secret"));
}
