//! Frames and the headers with which a layer begins (part 2 of the standard, 2.2 and 2.3).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::decode::{Decode, Decoder, Malformed};
use crate::encode::Encode;
use crate::performative::{Performative, Sasl};

/// What is spoken from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Amqp,
    Sasl,
}

/// How a layer begins.
const HEADER_BYTES: usize = 8;
/// Size, offset of the data, type and channel.
const FRAME_HEADER_BYTES: usize = 8;
/// What every side must take, and all that it may be sent before the other has said more.
pub const FRAME_BYTES_MIN: u32 = 512;

impl Protocol {
    pub fn header(self) -> [u8; HEADER_BYTES] {
        let id = match self {
            Self::Amqp => 0,
            Self::Sasl => 3,
        };
        [b'A', b'M', b'Q', b'P', id, 1, 0, 0]
    }

    /// Takes a header off `buffer` once it is there whole; fails at its first byte that is wrong.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let known = [Self::Amqp, Self::Sasl];
        let seen = buffer.len().min(HEADER_BYTES);
        let Some(protocol) = known.into_iter().find(|known| known.header()[..seen] == buffer[..seen]) else {
            return Err(Malformed::FrameHeader);
        };
        if seen < HEADER_BYTES {
            return Ok(None);
        }
        buffer.advance(HEADER_BYTES);
        Ok(Some(protocol))
    }

    fn kind(self) -> u8 {
        match self {
            Self::Amqp => 0,
            Self::Sasl => 1,
        }
    }
}

/// A frame as it came; an empty one says only that its sender is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub channel: u16,
    pub body: Bytes,
}

impl Frame {
    /// Takes the first frame off `buffer`, if it is there whole. Its size is judged before it is.
    pub fn take(
        buffer: &mut BytesMut,
        protocol: Protocol,
        bytes_max: u32,
    ) -> Result<Option<Self>, Malformed> {
        let Some(header) = buffer.get(..FRAME_HEADER_BYTES) else { return Ok(None) };
        let size = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let offset = usize::from(header[4]) * 4;
        let channel = u16::from_be_bytes([header[6], header[7]]);
        if size > bytes_max {
            return Err(Malformed::FrameSize);
        }
        let size = size as usize;
        if offset < FRAME_HEADER_BYTES || size < offset || header[5] != protocol.kind() {
            return Err(Malformed::FrameHeader);
        }
        if buffer.len() < size {
            return Ok(None);
        }
        let mut frame = buffer.split_to(size).freeze();
        frame.advance(offset);
        Ok(Some(Self { channel, body: frame }))
    }

    /// What it says, and what follows that.
    pub fn performative(self) -> Result<(Performative, Bytes), Malformed> {
        let mut decoder = Decoder::new(self.body);
        let performative = Performative::decode(&mut decoder)?;
        Ok((performative, decoder.rest()))
    }

    pub fn sasl(self) -> Result<Sasl, Malformed> {
        let mut decoder = Decoder::new(self.body);
        let said = Sasl::decode(&mut decoder)?;
        if decoder.is_at_end() { Ok(said) } else { Err(Malformed::Long) }
    }
}

/// Writes a frame; gives how large it is.
pub fn put(
    out: &mut BytesMut,
    protocol: Protocol,
    channel: u16,
    body: &impl Encode,
    payload: &[u8],
) -> usize {
    let at = out.len();
    out.put_bytes(0, 4);
    out.put_slice(&[2, protocol.kind()]);
    out.put_u16(channel);
    body.encode(out);
    out.put_slice(payload);
    let size = out.len() - at;
    out[at..at + 4].copy_from_slice(&u32::try_from(size).expect("frames are far smaller").to_be_bytes());
    size
}

/// Says only that its sender is there.
pub fn put_empty(out: &mut BytesMut) {
    out.put_slice(&[0, 0, 0, 8, 2, 0, 0, 0]);
}
