//! Frames as a client writes them, split anywhere, against what a door reads; and what a door writes against what a client reads.

use std::io::Cursor;
use std::sync::Arc;

use base::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader, FrameSocket};

use super::*;

const MESSAGE_BYTES_MAX: usize = 70_000;

fn data(kind: Data) -> OpCode {
    OpCode::Data(kind)
}

fn control(kind: Control) -> OpCode {
    OpCode::Control(kind)
}

fn header(opcode: OpCode, is_final: bool) -> FrameHeader {
    FrameHeader { is_final, opcode, mask: Some([1, 2, 3, 4]), ..FrameHeader::default() }
}

/// A frame with this header, as it goes over the wire.
fn written(header: FrameHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::from_payload(header, Bytes::copy_from_slice(payload)).format(&mut bytes).unwrap();
    bytes
}

fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    written(header(opcode, is_final), payload)
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(data(Data::Binary), true, payload)
}

fn close(code: u16, words: &[u8]) -> Vec<u8> {
    frame(control(Control::Close), true, &[&code.to_be_bytes(), words].concat())
}

/// The server's frames in these bytes, which have to be whole.
fn frames_in(bytes: &[u8]) -> Vec<(OpCode, Vec<u8>)> {
    let mut socket = FrameSocket::new(Cursor::new(bytes));
    let mut frames = Vec::new();
    while let Some(frame) = socket.read(None).unwrap() {
        assert!(frame.header().is_final && frame.header().mask.is_none(), "{frame}");
        frames.push((frame.header().opcode, frame.payload().to_vec()));
    }
    assert!(socket.into_inner().1.is_empty(), "the last frame is whole");
    frames
}

struct Pair {
    ours: WebSocket<DuplexStream>,
    theirs: DuplexStream,
    clock: Clock,
}

impl Pair {
    fn with_room(bytes: usize) -> Self {
        let (theirs, ours) = tokio::io::duplex(bytes);
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let ours = WebSocket::new(ours, Bytes::new(), MESSAGE_BYTES_MAX, clock.clone());
        Self { ours, theirs, clock }
    }

    fn new() -> Self {
        Self::with_room(1024 * 1024)
    }

    /// What the door reads until no more comes, and what the client hears of it when the door closes then.
    async fn converse(mut self, sent: &[u8]) -> (io::Result<Vec<u8>>, Vec<(OpCode, Vec<u8>)>) {
        self.theirs.write_all(sent).await.unwrap();
        self.theirs.shutdown().await.unwrap();
        let mut read = Vec::new();
        let outcome = self.ours.read_to_end(&mut read).await;
        self.ours.shutdown().await.unwrap();
        drop(self.ours);
        let mut heard = Vec::new();
        self.theirs.read_to_end(&mut heard).await.unwrap();
        (outcome.map(|_| read), frames_in(&heard))
    }
}

fn goodbye(code: u16) -> (OpCode, Vec<u8>) {
    (control(Control::Close), code.to_be_bytes().to_vec())
}

#[tokio::test]
async fn a_ping_is_answered_with_what_it_held_between_the_frames_of_a_message_too() {
    let sent = [
        frame(data(Data::Binary), false, b"ab"),
        frame(control(Control::Ping), true, b"are you there"),
        frame(control(Control::Pong), true, b"nobody asked"),
        frame(data(Data::Continue), false, b""),
        frame(data(Data::Continue), true, b"c"),
        close(1000, b""),
    ];
    let (read, heard) = Pair::new().converse(&sent.concat()).await;
    assert_eq!(read.unwrap(), b"abc");
    assert_eq!(heard, [(control(Control::Pong), b"are you there".to_vec()), goodbye(1000)]);
}

#[tokio::test]
async fn the_answer_to_a_ping_leaves_at_once_although_the_door_writes_nothing() {
    let (mut theirs, ours) = tokio::io::duplex(1024);
    let ours = tokio::io::BufWriter::new(ours);
    let mut ours = WebSocket::new(ours, Bytes::new(), MESSAGE_BYTES_MAX, Clock::system());
    theirs.write_all(&frame(control(Control::Ping), true, b"?")).await.unwrap();
    let (mut heard, mut byte) = ([0; 3], [0; 1]);
    tokio::select! {
        read = theirs.read_exact(&mut heard) => assert_eq!(read.unwrap(), 3),
        _ = ours.read(&mut byte) => panic!("there is nothing to read"),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("no answer"),
    }
    assert_eq!(heard, *b"\x8a\x01?");
}

#[tokio::test]
async fn pings_that_the_peer_does_not_take_the_answers_of_cost_one_answer() {
    let mut pair = Pair::with_room(64);
    let (mut reader, mut writer) = tokio::io::split(pair.theirs);
    let send = async {
        for number in 0..1000_u16 {
            writer.write_all(&frame(control(Control::Ping), true, &number.to_be_bytes())).await.unwrap();
        }
        writer.write_all(&binary(b"!")).await.unwrap();
    };
    let mut byte = [0; 1];
    let ((), read) = tokio::join!(send, pair.ours.read_exact(&mut byte));
    assert_eq!((read.unwrap(), byte), (1, *b"!"));
    let (mut heard, ours) = (Vec::new(), &mut pair.ours);
    let flush = async {
        ours.flush().await.unwrap();
        ours.get_mut().shutdown().await.unwrap();
    };
    let ((), read) = tokio::join!(flush, reader.read_to_end(&mut heard));
    read.unwrap();
    let answered = frames_in(&heard);
    assert!(answered.len() < 30, "{} answers", answered.len());
    assert_eq!(answered.last(), Some(&(control(Control::Pong), 999_u16.to_be_bytes().to_vec())));
}

#[tokio::test]
async fn a_goodbye_is_answered_with_its_code_and_nothing_behind_it_is_read() {
    for (sent, code) in [
        (close(1001, b"leaving"), 1001),
        (close(4000, b""), 4000),
        (frame(control(Control::Close), true, b""), 1000),
    ] {
        let (read, heard) = Pair::new().converse(&[binary(b"last"), sent, binary(b"more")].concat()).await;
        assert_eq!(read.unwrap(), b"last");
        assert_eq!(heard, [goodbye(code)]);
    }
}

#[tokio::test]
async fn whoever_breaks_the_rules_hears_which() {
    let extended = FrameHeader { rsv1: true, ..header(data(Data::Binary), true) };
    let bare = FrameHeader { mask: None, ..header(data(Data::Binary), true) };
    let too_long = vec![0; MESSAGE_BYTES_MAX + 1];
    let half = vec![0; MESSAGE_BYTES_MAX / 2 + 1];
    let fragments = [frame(data(Data::Binary), false, &half), frame(data(Data::Continue), true, &half)];
    let begun = frame(data(Data::Binary), false, b"");
    for (what, sent, code) in [
        ("text", frame(data(Data::Text), true, b"hello"), 1003),
        ("an extension", written(extended, b"x"), 1002),
        ("no mask", written(bare, b"x"), 1002),
        ("an opcode that is none", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ("the rest of no message", frame(data(Data::Continue), true, b"x"), 1002),
        ("a message in a message", [begun, binary(b"x")].concat(), 1002),
        ("half a ping", frame(control(Control::Ping), false, b"x"), 1002),
        ("a long ping", frame(control(Control::Ping), true, &[0; 126]), 1002),
        ("a frame that is too large", binary(&too_long), 1009),
        ("a length that nobody has", [&[0x82, 0xff][..], &[0xff; 8], &[0; 4]].concat(), 1009),
        ("a message that is too large", fragments.concat(), 1009),
        ("half a code", frame(control(Control::Close), true, b"x"), 1002),
        ("a code that nobody sends", close(1005, b""), 1002),
        ("words that are none", close(1000, b"\xff"), 1007),
    ] {
        let (read, heard) = Pair::new().converse(&sent).await;
        let error = read.expect_err(what);
        assert!(error.get_ref().unwrap().is::<Violation>(), "{what}: {error}");
        assert_eq!(heard, [goodbye(code)], "{what}");
    }
    let largest =
        [frame(data(Data::Binary), false, &half[1..]), frame(data(Data::Continue), true, &half[1..])];
    let (read, _) = Pair::new().converse(&[largest.concat(), binary(&too_long[1..])].concat()).await;
    assert_eq!(read.unwrap().len(), 2 * MESSAGE_BYTES_MAX);
}

#[tokio::test]
async fn what_came_before_a_fault_is_read() {
    let mut pair = Pair::new();
    let sent = [binary(b"good"), frame(data(Data::Text), true, b"bad")].concat();
    pair.theirs.write_all(&sent).await.unwrap();
    let mut read = [0; 64];
    assert_eq!(pair.ours.read(&mut read).await.unwrap(), 4);
    assert!(pair.ours.read(&mut read).await.is_err());
}

#[tokio::test]
async fn a_peer_that_does_not_say_goodbye_is_waited_for_two_seconds() {
    let mut pair = Pair::new();
    let parting = {
        let mut ours = pair.ours;
        async move { ours.shutdown().await.map(|()| ours) }
    };
    let mut parting = Box::pin(parting);
    let mut heard = [0; 4];
    tokio::select! {
        biased;
        _ = &mut parting => panic!("it did not wait"),
        read = pair.theirs.read_exact(&mut heard) => assert_eq!(read.unwrap(), 4),
    }
    assert_eq!(frames_in(&heard), [goodbye(1000)]);
    pair.theirs.write_all(&binary(b"still talking")).await.unwrap();
    pair.clock.advance(Duration::from_millis(1999));
    tokio::select! {
        biased;
        _ = &mut parting => panic!("it did not wait long enough"),
        () = tokio::task::yield_now() => {}
    }
    pair.clock.advance(Duration::from_millis(1));
    parting.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_answers_the_goodbye_is_not_kept_waiting() {
    let mut pair = Pair::new();
    pair.theirs.write_all(&[binary(b"unread"), close(1000, b"")].concat()).await.unwrap();
    pair.ours.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_peer_that_only_talks_is_left() {
    let mut pair = Pair::new();
    let (mut reader, mut writer) = tokio::io::split(pair.theirs);
    let flood = async {
        let sent = binary(&vec![0; 60_000]);
        while writer.write_all(&sent).await.is_ok() {}
    };
    let leave = async {
        pair.ours.shutdown().await.unwrap();
        drop(pair.ours);
    };
    let mut heard = Vec::new();
    let ((), (), read) = tokio::join!(leave, flood, reader.read_to_end(&mut heard));
    read.unwrap();
    assert_eq!(frames_in(&heard), [goodbye(1000)]);
}

/// A buffer that tells whether anybody holds it.
struct Told {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test]
async fn the_buffer_of_what_came_early_is_given_back_once_it_is_read_and_at_once_where_nothing_did() {
    for payload in [&b""[..], b"early"] {
        let held = Arc::new(());
        let raw = if payload.is_empty() { Vec::new() } else { binary(payload) };
        let early = Bytes::from_owner(Told { bytes: raw, _held: held.clone() });
        let (_theirs, ours) = tokio::io::duplex(64);
        let mut ours = WebSocket::new(ours, early, MESSAGE_BYTES_MAX, Clock::system());
        let mut read = vec![0; payload.len()];
        ours.read_exact(&mut read).await.unwrap();
        assert_eq!((&read[..], Arc::strong_count(&held)), (payload, 1));
        drop(ours);
    }
}

#[test]
fn one_that_waits_is_small() {
    assert!(size_of::<WebSocket<()>>() <= 320, "{}", size_of::<WebSocket<()>>());
}

/// What a client does, one after another.
#[derive(Clone, Debug)]
enum Act {
    /// A message in so many frames.
    Message(Vec<Vec<u8>>, [u8; 4]),
    Ping(Vec<u8>),
    Pong,
}

fn act() -> impl Strategy<Value = Act> {
    let short = || vec(any::<u8>(), 0..6);
    let part = prop_oneof![6 => short(), 1 => vec(any::<u8>(), 100..140), 1 => (any::<u8>(), 65_530_usize..65_540).prop_map(|(byte, count)| vec![byte; count])];
    prop_oneof![
        6 => (vec(part, 1..4).prop_filter("too large", |parts| parts.concat().len() <= MESSAGE_BYTES_MAX), any::<[u8; 4]>())
            .prop_map(|(parts, mask)| Act::Message(parts, mask)),
        1 => vec(any::<u8>(), 0..126).prop_map(Act::Ping),
        1 => Just(Act::Pong),
    ]
}

/// The frames, the payload in them, and what the last ping holds.
fn spoken(acts: &[Act]) -> (Vec<u8>, Vec<u8>, Option<Vec<u8>>) {
    let (mut raw, mut payload, mut ping) = (Vec::new(), Vec::new(), None);
    for act in acts {
        match act {
            Act::Message(parts, mask) => {
                for (index, part) in parts.iter().enumerate() {
                    let kind = if index == 0 { Data::Binary } else { Data::Continue };
                    let header = header(data(kind), index + 1 == parts.len());
                    raw.extend(written(FrameHeader { mask: Some(*mask), ..header }, part));
                    payload.extend_from_slice(part);
                }
            }
            Act::Ping(held) => {
                raw.extend(frame(control(Control::Ping), true, held));
                ping = Some(held.clone());
            }
            Act::Pong => raw.extend(frame(control(Control::Pong), true, b"?")),
        }
    }
    (raw, payload, ping)
}

proptest! {
    #[test]
    fn frames_split_anywhere_carry_the_same(acts in vec(act(), 0..8), lengths in vec(1_usize..40, 1..20)) {
        let (mut raw, expected, ping) = spoken(&acts);
        let (mut frames, mut payload) = (Frames::new(MESSAGE_BYTES_MAX), Vec::new());
        let (mut rest, mut lengths) = (&mut raw[..], lengths.into_iter().cycle());
        while !rest.is_empty() {
            // Short pieces where headers are, long ones so that large frames do not take forever.
            let length = lengths.next().unwrap();
            let (piece, after) = rest.split_at_mut(rest.len().min(if length % 5 == 0 { length * 300 } else { length }));
            let laid = frames.take(piece);
            payload.extend_from_slice(&piece[..laid]);
            rest = after;
        }
        prop_assert_eq!(frames.end(), None);
        prop_assert!(payload == expected);
        prop_assert_eq!(frames.take_ping().map(|held| held.to_vec()), ping);
    }

    #[test]
    fn no_bytes_panic_and_none_make_more_than_there_were(mut raw in vec(any::<u8>(), 0..200), at in 0_usize..200) {
        let mut frames = Frames::new(64);
        let at = at.min(raw.len());
        let (first, second) = raw.split_at_mut(at);
        prop_assert!(frames.take(first) <= first.len());
        prop_assert!(frames.take(second) <= second.len());
    }

    #[test]
    fn what_a_door_writes_arrives_whole_however_little_the_socket_takes(
        writes in vec(vec(any::<u8>(), 1..300), 1..6), room in 1_usize..64, pings in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (heard, read) = runtime.block_on(async {
            let pair = Pair::with_room(room);
            let (mut reader, mut writer) = tokio::io::split(pair.theirs);
            let (mut door_reads, mut door_writes) = tokio::io::split(pair.ours);
            let client = async {
                if pings {
                    writer.write_all(&frame(control(Control::Ping), true, b"1")).await.unwrap();
                }
                writer.write_all(&[binary(b"sent"), close(1000, b"")].concat()).await.unwrap();
            };
            let (mut sent, mut heard, mut all) = (Vec::new(), Vec::new(), Vec::new());
            let door = async {
                let write = async {
                    for bytes in &writes {
                        door_writes.write_all(bytes).await.unwrap();
                        door_writes.flush().await.unwrap();
                    }
                };
                let ((), read) = tokio::join!(write, door_reads.read_to_end(&mut sent));
                read.unwrap();
                door_writes.shutdown().await.unwrap();
                drop((door_reads, door_writes));
            };
            let ((), (), read) = tokio::join!(client, door, reader.read_to_end(&mut heard));
            read.unwrap();
            for (opcode, payload) in frames_in(&heard) {
                if opcode == data(Data::Binary) {
                    all.extend(payload);
                }
            }
            (all, sent)
        });
        prop_assert_eq!(heard, writes.concat());
        prop_assert_eq!(read, b"sent");
    }
}
