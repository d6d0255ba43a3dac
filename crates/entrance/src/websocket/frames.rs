//! What comes in over a WebSocket, without the socket (RFC 6455 §5): the payload of binary messages is laid bare in the place
//! where the frames were read to, so that nothing is copied elsewhere and a connection that waits holds no buffer.
//! Headers are read by `tungstenite`; what may follow what, and how much, is judged here. It does no I/O.

use std::io::Cursor;

use bytes::BytesMut;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The longest header of a frame.
const HEADER_ROOM: usize = 14;
/// The longest payload of a control frame.
const LONGEST_CONTROL: u64 = 125;

/// What a peer may not do. Its WebSocket ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Frames that break RFC 6455.
    Frames,
    /// Text, where only bytes are spoken.
    Text,
    /// More in one message than a door takes in one packet.
    TooLarge,
    /// A goodbye whose words are not UTF-8.
    Words,
}

impl Violation {
    pub fn why(self) -> &'static str {
        match self {
            Self::Frames => "it sent frames that WebSockets do not have",
            Self::Text => "it sent text over a WebSocket that carries bytes",
            Self::TooLarge => "it sent a WebSocket message that is too large",
            Self::Words => "it closed its WebSocket with words that are not UTF-8",
        }
    }

    pub(super) fn code(self) -> CloseCode {
        match self {
            Self::Frames => CloseCode::Protocol,
            Self::Text => CloseCode::Unsupported,
            Self::TooLarge => CloseCode::Size,
            Self::Words => CloseCode::Invalid,
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.why())
    }
}

impl std::error::Error for Violation {}

/// Why nothing more comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer said goodbye, and is owed the same word.
    Closed(CloseCode),
    Violation(Violation),
}

/// The frames of one peer.
pub(super) struct Frames {
    message_bytes_max: usize,
    /// A header of which the rest has not come.
    header: [u8; HEADER_ROOM],
    header_bytes: usize,
    at: At,
    /// Of the message whose frames are coming, and whether more of them are to come.
    message_bytes: usize,
    is_fragmented: bool,
    /// What the last ping held, until it is answered; an answer to an earlier one is owed no more.
    ping: Option<BytesMut>,
    end: Option<End>,
}

/// In which part of a frame the next byte is.
enum At {
    Header,
    Data { left: usize, mask: [u8; 4] },
    Control { kind: Control, left: usize, mask: [u8; 4], payload: BytesMut },
}

impl Frames {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            header: [0; HEADER_ROOM],
            header_bytes: 0,
            at: At::Header,
            message_bytes: 0,
            is_fragmented: false,
            ping: None,
            end: None,
        }
    }

    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// What is to be sent back to a ping.
    pub(super) fn take_ping(&mut self) -> Option<BytesMut> {
        self.ping.take()
    }

    pub(super) fn owes_pong(&self) -> bool {
        self.ping.is_some()
    }

    /// Takes all of `raw`, and leaves the payload that was in it at its front. Gives the length of that.
    pub(super) fn take(&mut self, raw: &mut [u8]) -> usize {
        let (mut read, mut laid) = (0, 0);
        while read < raw.len() && self.end.is_none() {
            match &mut self.at {
                At::Header => read += self.take_header(&raw[read..]),
                At::Data { left, mask } => {
                    let count = (*left).min(raw.len() - read);
                    unmask(&mut raw[read..read + count], mask);
                    raw.copy_within(read..read + count, laid);
                    (read, laid, *left) = (read + count, laid + count, *left - count);
                    if *left == 0 {
                        self.at = At::Header;
                    }
                }
                At::Control { left, mask, payload, .. } => {
                    let count = (*left).min(raw.len() - read);
                    let part = &mut raw[read..read + count];
                    unmask(part, mask);
                    payload.extend_from_slice(part);
                    (read, *left) = (read + count, *left - count);
                    if *left == 0 {
                        self.finish_control();
                    }
                }
            }
        }
        laid
    }

    /// Takes what belongs to a header, which may have come in parts; gives how much that was.
    fn take_header(&mut self, raw: &[u8]) -> usize {
        let before = self.header_bytes;
        let count = raw.len().min(HEADER_ROOM - before);
        self.header[before..before + count].copy_from_slice(&raw[..count]);
        let mut cursor = Cursor::new(&self.header[..before + count]);
        match FrameHeader::parse(&mut cursor) {
            Ok(None) => {
                self.header_bytes = before + count;
                count
            }
            Ok(Some((header, payload_bytes))) => {
                let length = usize::try_from(cursor.position()).expect("no longer than a header");
                self.header_bytes = 0;
                if let Err(violation) = self.begin(&header, payload_bytes) {
                    self.end = Some(End::Violation(violation));
                }
                length - before
            }
            Err(_) => {
                self.end = Some(End::Violation(Violation::Frames));
                count
            }
        }
    }

    fn begin(&mut self, header: &FrameHeader, payload_bytes: u64) -> Result<(), Violation> {
        // No extension was agreed on that could give these bits a meaning, and what comes from a client is masked.
        let is_extended = header.rsv1 || header.rsv2 || header.rsv3;
        let mask = header.mask.filter(|_| !is_extended).ok_or(Violation::Frames)?;
        match header.opcode {
            OpCode::Data(kind) => {
                let left = self.begin_data(kind, header.is_final, payload_bytes)?;
                self.at = if left == 0 { At::Header } else { At::Data { left, mask } };
            }
            OpCode::Control(kind) => {
                if !header.is_final || payload_bytes > LONGEST_CONTROL {
                    return Err(Violation::Frames);
                }
                let left = usize::try_from(payload_bytes).expect("it was just compared");
                self.at = At::Control { kind, left, mask, payload: BytesMut::with_capacity(left) };
                if left == 0 {
                    self.finish_control();
                }
            }
        }
        Ok(())
    }

    fn begin_data(&mut self, kind: Data, is_final: bool, payload_bytes: u64) -> Result<usize, Violation> {
        let before = match (kind, self.is_fragmented) {
            (Data::Text, _) => return Err(Violation::Text),
            (Data::Binary, false) => 0,
            (Data::Continue, true) => self.message_bytes,
            (Data::Binary, true) | (Data::Continue, false) | (Data::Reserved(_), _) => {
                return Err(Violation::Frames);
            }
        };
        let left = usize::try_from(payload_bytes).ok();
        let left = left.filter(|bytes| *bytes <= self.message_bytes_max - before);
        let left = left.ok_or(Violation::TooLarge)?;
        self.message_bytes = before + left;
        self.is_fragmented = !is_final;
        Ok(left)
    }

    fn finish_control(&mut self) {
        let At::Control { kind, payload, .. } = std::mem::replace(&mut self.at, At::Header) else { return };
        match kind {
            Control::Ping => self.ping = Some(payload),
            Control::Close => self.end = Some(goodbye(&payload)),
            // A pong answers nothing, since we ask nothing. The header's reader has refused the others.
            Control::Pong | Control::Reserved(_) => {}
        }
    }
}

/// The code of a goodbye, which is answered with the same.
fn goodbye(payload: &[u8]) -> End {
    let Some((code, words)) = payload.split_first_chunk() else {
        let is_empty = payload.is_empty();
        return if is_empty { End::Closed(CloseCode::Normal) } else { End::Violation(Violation::Frames) };
    };
    let code = CloseCode::from(u16::from_be_bytes(*code));
    if !code.is_allowed() {
        return End::Violation(Violation::Frames);
    }
    if std::str::from_utf8(words).is_err() {
        return End::Violation(Violation::Words);
    }
    End::Closed(code)
}

/// Takes the mask off, and turns it so that it fits what comes next.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
    mask.rotate_left(bytes.len() % 4);
}

/// Writes one whole frame of ours; a server masks nothing.
pub(super) fn write_control(out: &mut BytesMut, kind: Control, payload: &[u8]) {
    write_header(out, OpCode::Control(kind), payload.len());
    out.extend_from_slice(payload);
}

/// Writes the header of a whole binary message whose payload follows.
pub(super) fn write_binary_header(out: &mut BytesMut, payload_bytes: usize) {
    write_header(out, OpCode::Data(Data::Binary), payload_bytes);
}

fn write_header(out: &mut BytesMut, opcode: OpCode, payload_bytes: usize) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut room = [0; HEADER_ROOM];
    let mut cursor = Cursor::new(&mut room[..]);
    header.format(payload_bytes as u64, &mut cursor).expect("a header fits into the longest one's room");
    let length = usize::try_from(cursor.position()).expect("no longer than a header");
    out.extend_from_slice(&room[..length]);
}
