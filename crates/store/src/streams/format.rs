//! The bytes of a segment file, exactly as `docs/log-format.md` describes them. Pure: bytes in, values out, no I/O.
//! Whatever bytes come in, decoding never panics and never gives a record whose checksum does not hold.
//!
//! A segment is a header and records, all integers little-endian:
//!
//! ```text
//! header   magic "TWINLOG1" · base u64 · crc32c u32 over the 16 bytes before          20 bytes
//! record   len u32 · crc32c u32 · rest (len bytes)
//! rest     kind u8 · flags u8 · key_len u16 · lane u32 · sequence u64 · time i64 · headers_len u32
//!          · [source u64 · id u64 when flag 1] · key · headers · body
//! ```
//!
//! The checksum covers the record's position in the whole log, `len` and `rest`. A `len` of 0 ends the segment.

use base::{Timestamp, caps};

pub(crate) const MAGIC: [u8; 8] = *b"TWINLOG1";
pub(crate) const HEADER_BYTES: usize = 20;
pub(crate) const FRAME_BYTES: usize = 8;
const FIXED_BYTES: usize = 28;
/// No record is shorter, so damage of so many bytes took at most one.
pub(crate) const RECORD_BYTES_MIN: usize = FRAME_BYTES + FIXED_BYTES;
const ORIGIN_BYTES: usize = 16;
const FLAG_ORIGIN: u8 = 1;
/// A record's `len` is at most this.
const LEN_MAX: usize = caps::LOG_RECORD_BYTES_MAX + FIXED_BYTES + ORIGIN_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A record of a stream.
    Event = 1,
    /// Declares a lane and its state: one per lane at the start of a segment, one where a new lane begins.
    Lane = 2,
    /// Ends the states at the start of a segment; body: the next free lane number, u32.
    Begin = 3,
    /// `sequence` is the lane's new first sequence number.
    Trim = 4,
    /// The lane is gone.
    Remove = 5,
    /// Records were forgotten here. `sequence`: how many bytes from here on are skipped, this record among them.
    Skip = 6,
}

/// Where an appended-once record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) source: u64,
    pub(crate) id: u64,
}

/// One record, borrowing its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) lane: u32,
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) origin: Option<Origin>,
    pub(crate) key: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) body: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded<'a> {
    /// A record and its length in bytes.
    Record(Frame<'a>, usize),
    /// Zeros, or nothing at all: the end.
    Nothing,
    /// This many bytes are needed to tell.
    Incomplete(usize),
    Bad(&'static str),
}

pub(crate) fn header(base: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&base.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The base position of a segment, if the bytes are its header.
pub(crate) fn parse_header(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader(bytes.get(..HEADER_BYTES)?);
    let magic = reader.take(MAGIC.len())?;
    let base = reader.u64()?;
    (magic == MAGIC && reader.u32()? == crc32c::crc32c(&bytes[..16])).then_some(base)
}

impl Frame<'_> {
    pub(crate) fn encoded_len(&self) -> usize {
        let origin = if self.origin.is_some() { ORIGIN_BYTES } else { 0 };
        FRAME_BYTES + FIXED_BYTES + origin + self.key.len() + self.headers.len() + self.body.len()
    }

    /// Appends the record for `position` in the log. The caller has held its parts against the limits.
    pub(crate) fn encode(&self, position: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let len = u32::try_from(self.encoded_len() - FRAME_BYTES).expect("limits keep a record below 4 GiB");
        let key_len = u16::try_from(self.key.len()).expect("limits keep a key below 64 KiB");
        let headers_len = u32::try_from(self.headers.len()).expect("limits keep headers below 4 GiB");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[self.kind as u8, if self.origin.is_some() { FLAG_ORIGIN } else { 0 }]);
        out.extend_from_slice(&key_len.to_le_bytes());
        out.extend_from_slice(&self.lane.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.time.ticks().to_le_bytes());
        out.extend_from_slice(&headers_len.to_le_bytes());
        if let Some(origin) = self.origin {
            out.extend_from_slice(&origin.source.to_le_bytes());
            out.extend_from_slice(&origin.id.to_le_bytes());
        }
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.headers);
        out.extend_from_slice(self.body);
        let crc = checksum(position, len, &out[start + FRAME_BYTES..]);
        out[start + 4..start + FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The length that the record at the start of `bytes` claims to have, if it is a possible one.
pub(crate) fn record_len(bytes: &[u8]) -> Option<usize> {
    let size = Reader(bytes).u32()? as usize;
    (FIXED_BYTES..=LEN_MAX).contains(&size).then_some(FRAME_BYTES + size)
}

/// Whether a record may begin here, judged without its checksum: cheap, and wrong for next to no other bytes.
pub(crate) fn may_begin_record(bytes: &[u8]) -> bool {
    let mut reader = Reader(bytes);
    let mut parts = || {
        let (len, _checksum) = (reader.u32()? as usize, reader.u32()?);
        let (kind, flags, key_len) = (reader.u8()?, reader.u8()?, usize::from(reader.u16()?));
        reader.take(20)?;
        let headers_len = reader.u32()? as usize;
        let needed = FIXED_BYTES + ORIGIN_BYTES * usize::from(flags) + key_len + headers_len;
        let is_possible = (1..=6).contains(&kind) && flags <= FLAG_ORIGIN;
        Some(is_possible && (needed..=LEN_MAX).contains(&len))
    };
    parts().unwrap_or(false)
}

/// Reads the record at the start of `bytes`, which lie at `position` in the log.
pub(crate) fn decode(bytes: &[u8], position: u64) -> Decoded<'_> {
    let mut reader = Reader(bytes);
    let Some(len) = reader.u32() else {
        return if bytes.iter().all(|byte| *byte == 0) { Decoded::Nothing } else { Decoded::Incomplete(4) };
    };
    let size = len as usize;
    if size == 0 {
        return Decoded::Nothing;
    }
    if !(FIXED_BYTES..=LEN_MAX).contains(&size) {
        return Decoded::Bad("a record's length is impossible");
    }
    let (Some(crc), Some(rest)) = (reader.u32(), reader.take(size)) else {
        return Decoded::Incomplete(FRAME_BYTES + size);
    };
    if checksum(position, len, rest) != crc {
        return Decoded::Bad("a record's checksum does not hold");
    }
    match decode_rest(rest) {
        Some(frame) => Decoded::Record(frame, FRAME_BYTES + size),
        None => Decoded::Bad("a record's parts do not fit its length"),
    }
}

fn decode_rest(rest: &[u8]) -> Option<Frame<'_>> {
    let mut reader = Reader(rest);
    let kind = match reader.u8()? {
        1 => Kind::Event,
        2 => Kind::Lane,
        3 => Kind::Begin,
        4 => Kind::Trim,
        5 => Kind::Remove,
        6 => Kind::Skip,
        _ => return None,
    };
    let flags = reader.u8()?;
    let key_len = usize::from(reader.u16()?);
    let lane = reader.u32()?;
    let sequence = reader.u64()?;
    let time = Timestamp::from_ticks(reader.u64()?.cast_signed());
    let headers_len = reader.u32()? as usize;
    let origin = match flags {
        0 => None,
        FLAG_ORIGIN => Some(Origin { source: reader.u64()?, id: reader.u64()? }),
        _ => return None,
    };
    let (key, headers) = (reader.take(key_len)?, reader.take(headers_len)?);
    Some(Frame { kind, lane, sequence, time, origin, key, headers, body: reader.0 })
}

fn checksum(position: u64, len: u32, rest: &[u8]) -> u32 {
    let mut seed = [0; 12];
    seed[..8].copy_from_slice(&position.to_le_bytes());
    seed[8..].copy_from_slice(&len.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), rest)
}

/// Takes values off the front of bytes.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> Frame<'static> {
        Frame {
            kind: Kind::Event,
            lane: 7,
            sequence: 9,
            time: Timestamp::from_unix_millis(1_700_000_000_123),
            origin: Some(Origin { source: 3, id: 4 }),
            key: b"dev1",
            headers: b"h",
            body: b"body",
        }
    }

    #[test]
    fn a_record_lies_in_the_file_byte_by_byte_as_documented() {
        let plain = Frame { origin: None, ..frame() };
        let mut bytes = Vec::new();
        plain.encode(20, &mut bytes);
        let (head, rest) = bytes.split_at(8);
        assert_eq!(head[..4], 37_u32.to_le_bytes());
        assert_eq!(rest[..8], [1, 0, 4, 0, 7, 0, 0, 0]);
        assert_eq!(rest[8..16], 9_u64.to_le_bytes());
        assert_eq!(rest[16..24], 17_000_000_001_230_000_i64.to_le_bytes());
        assert_eq!(rest[24..], *b"\x01\0\0\0dev1hbody");
        let mut covered = 20_u64.to_le_bytes().to_vec();
        covered.extend_from_slice(&head[..4]);
        covered.extend_from_slice(rest);
        assert_eq!(head[4..], crc32c::crc32c(&covered).to_le_bytes());
        assert_eq!(decode(&bytes, 20), Decoded::Record(plain, bytes.len()));
    }

    #[test]
    fn a_record_at_another_position_is_not_taken() {
        let mut bytes = Vec::new();
        frame().encode(20, &mut bytes);
        assert_eq!(decode(&bytes, 21), Decoded::Bad("a record's checksum does not hold"));
        assert_eq!(parse_header(&header(77)), Some(77));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>, position: u64) {
            let _ = decode(&bytes, position);
            let _ = parse_header(&bytes);
        }

        #[test]
        fn any_rest_with_a_right_checksum_decodes_without_panic(
            rest in proptest::collection::vec(any::<u8>(), 28..200), position: u64,
        ) {
            let len = u32::try_from(rest.len()).unwrap();
            let mut bytes = len.to_le_bytes().to_vec();
            bytes.extend_from_slice(&checksum(position, len, &rest).to_le_bytes());
            bytes.extend_from_slice(&rest);
            if let Decoded::Record(frame, length) = decode(&bytes, position) {
                let mut again = Vec::new();
                frame.encode(position, &mut again);
                prop_assert_eq!(&again[..], &bytes[..length]);
            }
        }

        #[test]
        fn what_is_encoded_decodes_to_itself(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            headers: Vec<u8>, body: Vec<u8>, lane: u32, sequence: u64, ticks: i64, position: u64,
            origin: Option<(u64, u64)>, tail: Vec<u8>,
        ) {
            let origin = origin.map(|(source, id)| Origin { source, id });
            let time = Timestamp::from_ticks(ticks);
            let frame = Frame {
                kind: Kind::Event, lane, sequence, time, origin, key: &key, headers: &headers, body: &body,
            };
            let mut bytes = Vec::new();
            frame.encode(position, &mut bytes);
            prop_assert_eq!(bytes.len(), frame.encoded_len());
            let length = bytes.len();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(decode(&bytes, position), Decoded::Record(frame, length));
            for cut in 1..length {
                prop_assert!(!matches!(decode(&bytes[..cut], position), Decoded::Record(..)));
            }
        }
    }
}
