//! The codec beside another implementation, on random values, and against bytes that are wrong.

mod random;

use amqp_protocol::frame::{self, Frame, Protocol};
use amqp_protocol::message::Message;
use amqp_protocol::performative::{Performative, Sasl};
use amqp_protocol::{Decode, Decoder, Encode, Malformed, Value};
use base::caps;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn written(value: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    value.encode(&mut out);
    out.freeze()
}

fn read<T: Decode>(bytes: &[u8]) -> Result<T, Malformed> {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(bytes));
    let read = T::decode(&mut decoder)?;
    if decoder.is_at_end() { Ok(read) } else { Err(Malformed::Long) }
}

/// Read and written once by the other implementation.
fn by_the_other<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Vec<u8> {
    let value: T = serde_amqp::from_slice(bytes).expect("the other one reads it");
    serde_amqp::to_vec(&value).expect("the other one writes it")
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_as_it_was(value in random::value()) {
        prop_assert_eq!(read::<Value>(&written(&value)), Ok(value));
    }

    #[test]
    fn another_implementation_reads_values_and_we_read_what_it_writes(value in random::value()) {
        let theirs = by_the_other::<serde_amqp::Value>(&written(&value));
        prop_assert_eq!(read::<Value>(&theirs), Ok(value));
    }

    #[test]
    fn another_implementation_reads_performatives_and_we_read_what_it_writes(
        performative in random::performative()
    ) {
        let ours = written(&performative);
        prop_assert_eq!(&read::<Performative>(&ours), &Ok(performative.clone()));
        let theirs = by_the_other::<fe2o3_amqp_types::performatives::Performative>(&ours);
        prop_assert_eq!(read::<Performative>(&theirs), Ok(performative));
    }

    #[test]
    fn messages_are_read_as_they_were_written(message in random::message()) {
        prop_assert_eq!(Message::parse(written(&message)), Ok(message));
    }

    #[test]
    fn another_implementation_reads_properties(properties in random::properties()) {
        let theirs = by_the_other::<fe2o3_amqp_types::messaging::Properties>(&written(&properties));
        let message = Message::parse(theirs.into()).unwrap();
        prop_assert_eq!(message.properties, Some(properties));
    }

    #[test]
    fn a_performative_that_ends_too_early_is_refused(performative in random::performative(), cut in any::<prop::sample::Index>()) {
        let bytes = written(&performative);
        prop_assert!(read::<Performative>(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop((read::<Value>(&bytes), read::<Performative>(&bytes), read::<Sasl>(&bytes)));
        drop(Message::parse(bytes.clone().into()));
        let mut buffer = BytesMut::from(&bytes[..]);
        drop(Frame::take(&mut buffer, Protocol::Amqp, 65536));
    }

    #[test]
    fn a_performative_with_a_byte_changed_is_read_or_refused(
        performative in random::performative(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = written(&performative).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = self::read::<Performative>(&bytes) {
            drop(written(&read));
        }
    }
}

#[test]
fn composites_are_written_with_all_of_their_fields() {
    let fields = |performative: &Performative| match read::<Value>(&written(performative)) {
        Ok(Value::Described(described)) => match described.1 {
            Value::List(fields) => fields.len(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    for (performative, count) in random::one_of_each().iter().zip([10, 8, 14, 11, 11, 6, 3, 1, 1]) {
        assert_eq!(fields(performative), count, "{performative:?}");
    }
}

#[test]
fn defaults_are_written_as_values() {
    let performatives = random::one_of_each();
    let field = |performative: &Performative, at: usize| match read::<Value>(&written(performative)) {
        Ok(Value::Described(described)) => match described.1 {
            Value::List(mut fields) => fields.swap_remove(at),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    // max-frame-size and channel-max of open, handle-max of begin, the settle modes of attach.
    assert_eq!(field(&performatives[0], 2), Value::Uint(u32::MAX));
    assert_eq!(field(&performatives[0], 3), Value::Ushort(u16::MAX));
    assert_eq!(field(&performatives[1], 4), Value::Uint(u32::MAX));
    assert_eq!(
        (field(&performatives[2], 3), field(&performatives[2], 4)),
        (Value::Ubyte(2), Value::Ubyte(0))
    );
}

#[test]
fn descriptors_may_be_names() {
    let mut out = BytesMut::new();
    out.extend_from_slice(&[0x00, 0xa3, 15]);
    out.extend_from_slice(b"amqp:close:list");
    out.extend_from_slice(&[0x45]);
    assert_eq!(read::<Performative>(&out), Ok(Performative::Close(None)));
}

#[test]
fn a_single_symbol_stands_for_several() {
    let mechanisms = [0x00, 0x53, 0x40, 0xc0, 0x05, 0x01, 0xa3, 0x02, b'A', b'B'];
    assert_eq!(read::<Sasl>(&mechanisms), Ok(Sasl::Mechanisms(vec!["AB".into()])));
}

#[test]
fn elements_are_counted_before_there_is_room_for_them() {
    // Four thousand million nulls, which have no bytes of their own.
    let nulls = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40];
    assert_eq!(read::<Value>(&nulls), Err(Malformed::Short));
    let list = [0xd0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(read::<Value>(&list), Err(Malformed::Short));
}

#[test]
fn a_list_holds_as_many_bytes_as_its_elements_have() {
    assert_eq!(read::<Value>(&[0xc0, 4, 1, 0x40, 0x40, 0x40]), Err(Malformed::Long));
    assert_eq!(read::<Value>(&[0xc0, 2, 2, 0x40, 0x40]), Err(Malformed::Short));
    assert_eq!(read::<Performative>(&[0x00, 0x53, 0x18, 0xc0, 3, 1, 0x40, 0x40]), Err(Malformed::Long));
}

#[test]
fn depth_and_number_of_values_have_caps() {
    let nested = |levels| (0..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert!(read::<Value>(&written(&nested(caps::AMQP_DEPTH_MAX))).is_ok());
    assert_eq!(read::<Value>(&written(&nested(caps::AMQP_DEPTH_MAX + 1))), Err(Malformed::Depth));
    let described = |levels| {
        (0..levels).fold(Value::Null, |inner, _| Value::Described(Box::new((Value::Ulong(1), inner))))
    };
    assert_eq!(read::<Value>(&written(&described(10_000))), Err(Malformed::Depth));
    let many = |count| Value::List(vec![Value::Null; count]);
    assert!(read::<Value>(&written(&many(caps::AMQP_VALUES_MAX - 1))).is_ok());
    assert_eq!(read::<Value>(&written(&many(caps::AMQP_VALUES_MAX))), Err(Malformed::Values));
}

#[test]
fn a_field_of_another_type_is_refused() {
    // An open whose container-id is a number.
    let open = [0x00, 0x53, 0x10, 0xc0, 0x03, 0x01, 0x52, 0x07];
    assert_eq!(read::<Performative>(&open), Err(Malformed::Type(0x52)));
    // One that has none.
    assert_eq!(read::<Performative>(&[0x00, 0x53, 0x10, 0x45]), Err(Malformed::Missing));
    // A role that is no truth value, a settle mode that there is not.
    assert_eq!(
        read::<Performative>(&[0x00, 0x53, 0x15, 0xc0, 0x03, 0x02, 0x43, 0x43]),
        Err(Malformed::Type(0x43))
    );
}

#[test]
fn a_frame_is_judged_before_it_is_there() {
    let take = |bytes: &[u8]| Frame::take(&mut BytesMut::from(bytes), Protocol::Amqp, 1024);
    assert_eq!(take(&[0, 0, 4, 1, 2, 0, 0, 0]), Err(Malformed::FrameSize));
    assert_eq!(take(&[0, 0, 0, 7, 2, 0, 0, 0]), Err(Malformed::FrameHeader));
    assert_eq!(take(&[0, 0, 0, 8, 1, 0, 0, 0]), Err(Malformed::FrameHeader));
    assert_eq!(take(&[0, 0, 0, 8, 3, 0, 0, 0]), Err(Malformed::FrameHeader));
    // A frame of SASL where AMQP is spoken.
    assert_eq!(take(&[0, 0, 0, 8, 2, 1, 0, 0]), Err(Malformed::FrameHeader));
    assert_eq!(take(&[0, 0, 0, 9, 2, 0, 0, 0]), Ok(None));
    assert_eq!(take(&[0, 0, 0, 8, 2, 0, 0, 3]), Ok(Some(Frame { channel: 3, body: Bytes::new() })));
    // An extended header is skipped.
    let extended = [0, 0, 0, 13, 3, 0, 0, 1, 9, 9, 9, 9, 0x45];
    assert_eq!(take(&extended), Ok(Some(Frame { channel: 1, body: Bytes::from_static(&[0x45]) })));
}

#[test]
fn a_header_is_refused_at_its_first_wrong_byte() {
    let take = |bytes: &[u8]| Protocol::take(&mut BytesMut::from(bytes));
    assert_eq!(take(b"AMQP\x00\x01\x00\x00"), Ok(Some(Protocol::Amqp)));
    assert_eq!(take(b"AMQP\x03\x01\x00\x00"), Ok(Some(Protocol::Sasl)));
    assert_eq!(take(b"AMQ"), Ok(None));
    assert_eq!(take(b""), Ok(None));
    for wrong in [&b"G"[..], b"AMQP\x02", b"AMQP\x00\x00", b"AMQP\x00\x01\x01"] {
        assert_eq!(take(wrong), Err(Malformed::FrameHeader), "{wrong:?}");
    }
}

#[test]
fn what_is_put_into_a_frame_is_taken_out_of_it() {
    let mut out = BytesMut::new();
    let size = frame::put(&mut out, Protocol::Amqp, 7, &Performative::Close(None), b"payload");
    assert_eq!(size, out.len());
    let frame = Frame::take(&mut out, Protocol::Amqp, 512).unwrap().unwrap();
    assert_eq!((frame.channel, out.len()), (7, 0));
    assert_eq!(frame.performative(), Ok((Performative::Close(None), Bytes::from_static(b"payload"))));
}
