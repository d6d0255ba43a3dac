//! A block: records of one partition that were appended together, in one row. Pure: records in, bytes out, and back. Numbers, offsets
//! and times are relative to what the row says, since they are known only when the database has given the block its place.
//!
//! ```text
//! block    count u32 · crc32c u32 over the records · records
//! record   what its number, its offset and its time are more than the record's before, which for the first is nothing ·
//!          lengths of key, headers and body · key · headers · body; numbers in groups of seven bits, the lowest first, the
//!          highest bit of a byte says that another follows
//! ```

use base::{Timestamp, caps};
use bytes::Bytes;

use crate::streams::format::Reader;
use crate::streams::{LogRecord, NewRecord};

const HEAD_BYTES: usize = 8;
/// A number of 64 bits, in groups of seven.
const NUMBER_BYTES: usize = 10;
/// Before the key of a record.
const NUMBERS: usize = 6;
/// By so much more than its parts a record moves the offset, as one without parts must move it too.
const OFFSET_STEP_MIN: u64 = 16;

/// Number, offset and time of a record, relative to its block.
#[derive(Clone, Copy, Default)]
struct At {
    sequence: u64,
    offset: u64,
    ticks: i64,
}

/// The parts of a record.
#[derive(Clone, Copy)]
struct Parts<'a> {
    key: &'a [u8],
    headers: &'a [u8],
    body: &'a [u8],
}

impl Parts<'_> {
    fn len(self) -> usize {
        self.key.len() + self.headers.len() + self.body.len()
    }
}

/// The block that is being filled.
#[derive(Default)]
struct Open {
    bytes: Vec<u8>,
    count: u32,
    last: At,
}

impl Open {
    /// The first record goes in however long it is.
    fn has_room(&self, parts: Parts<'_>) -> bool {
        let end = self.bytes.len() + NUMBERS * NUMBER_BYTES + parts.len();
        self.count == 0
            || (end <= caps::STREAM_BLOCK_BYTES_MAX && self.count < caps::STREAM_BLOCK_RECORDS_MAX)
    }

    fn push(&mut self, at: At, parts: Parts<'_>) {
        let Parts { key, headers, body } = parts;
        let Self { bytes, count, last } = self;
        put(bytes, at.sequence.wrapping_sub(last.sequence));
        put(bytes, at.offset.wrapping_sub(last.offset));
        put(bytes, zigzag(at.ticks.wrapping_sub(last.ticks)));
        for part in [key, headers, body] {
            put(bytes, part.len() as u64);
        }
        for part in [key, headers, body] {
            bytes.extend_from_slice(part);
        }
        *last = at;
        *count += 1;
    }

    fn sealed(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.bytes.len());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&self.bytes).to_le_bytes());
        bytes.extend_from_slice(&self.bytes);
        bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.last) = (0, At::default());
    }
}

/// What is appended to one partition in one go, in blocks.
#[derive(Default)]
pub(super) struct Blocks {
    pub(super) closed: Vec<Block>,
    open: Open,
    count: u64,
    /// How far offsets have come, behind the partition's last one.
    offset: u64,
    last_time: Option<Timestamp>,
}

/// Everything relative to where the partition ended before.
pub(super) struct Block {
    pub(super) sequence: u64,
    pub(super) count: u32,
    pub(super) last_offset: u64,
    pub(super) last_time: Timestamp,
    pub(super) bytes: Vec<u8>,
}

impl Blocks {
    /// How many records came before.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn push(&mut self, record: &NewRecord) {
        let parts = Parts { key: record.key.as_bytes(), headers: &record.headers, body: &record.body };
        if !self.open.has_room(parts) {
            self.close();
        }
        let time = self.last_time.map_or(record.time, |last| last.max(record.time));
        let at = At {
            sequence: u64::from(self.open.count),
            offset: self.open.last.offset + OFFSET_STEP_MIN + parts.len() as u64,
            ticks: time.ticks(),
        };
        self.open.push(at, parts);
        self.last_time = Some(time);
        self.count += 1;
    }

    /// Ends the block that is being filled.
    pub(super) fn close(&mut self) {
        let Some(last_time) = self.last_time.filter(|_| self.open.count > 0) else { return };
        self.offset += self.open.last.offset;
        self.closed.push(Block {
            sequence: self.count - u64::from(self.open.count),
            count: self.open.count,
            last_offset: self.offset,
            last_time,
            bytes: self.open.sealed(),
        });
        self.open.clear();
    }
}

/// Blocks of records that come with a place and keep it, as those of a move do.
#[derive(Default)]
pub(in crate::postgres) struct Kept {
    open: Open,
    /// Number, offset and time of the first record of the block that is being filled.
    first: Option<(u64, u64, Timestamp)>,
    /// Of the last one.
    last: Option<(u64, Timestamp)>,
}

/// A block and everything that its row says of it.
pub(in crate::postgres) struct PlacedBlock {
    pub(in crate::postgres) first_sequence: u64,
    pub(in crate::postgres) count: u32,
    pub(in crate::postgres) last_offset: u64,
    pub(in crate::postgres) last_time: Timestamp,
    pub(in crate::postgres) time_floor: Timestamp,
    pub(in crate::postgres) bytes: Vec<u8>,
}

impl Kept {
    /// Gives the block before, when the record begins another.
    pub(in crate::postgres) fn push(&mut self, record: &LogRecord) -> Option<PlacedBlock> {
        let parts = Parts { key: record.key.as_bytes(), headers: &record.headers, body: &record.body };
        let closed = if self.open.has_room(parts) { None } else { self.close() };
        let place = (record.sequence, record.offset, record.time);
        let (sequence, offset, _) = *self.first.get_or_insert(place);
        let at = At {
            sequence: record.sequence - sequence,
            offset: record.offset - offset,
            ticks: record.time.ticks(),
        };
        self.open.push(at, parts);
        self.last = Some((record.offset, record.time));
        closed
    }

    /// Ends the block that is being filled.
    pub(in crate::postgres) fn close(&mut self) -> Option<PlacedBlock> {
        let Self { open, first, last } = std::mem::take(self);
        let ((first_sequence, _, time_floor), (last_offset, last_time)) = (first?, last?);
        let (count, bytes) = (open.count, open.sealed());
        Some(PlacedBlock { first_sequence, count, last_offset, last_time, time_floor, bytes })
    }
}

/// A block's place, as its row says it.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) first_sequence: u64,
    pub(super) last_offset: u64,
    /// Nothing in it is earlier: it was the partition's last time before.
    pub(super) time_floor: Timestamp,
}

/// `None` for bytes that are not the block that was written.
pub(super) fn decode(place: Place, bytes: &[u8]) -> Option<Vec<LogRecord>> {
    let mut rest = Reader(bytes);
    let (count, checksum) = (rest.u32()?, rest.u32()?);
    if crc32c::crc32c(rest.0) != checksum {
        return None;
    }
    let (mut found, mut at) = (Vec::new(), At::default());
    while !rest.0.is_empty() {
        let parts;
        (at, parts) = next(&mut rest, at)?;
        found.push((at, parts));
    }
    if found.is_empty() || found.len() != count as usize {
        return None;
    }
    let base = place.last_offset.checked_sub(at.offset)?;
    found.into_iter().map(|(at, parts)| record(place, base, at, parts)).collect()
}

fn next<'a>(rest: &mut Reader<'a>, last: At) -> Option<(At, Parts<'a>)> {
    let at = At {
        sequence: last.sequence.wrapping_add(number(rest)?),
        offset: last.offset.wrapping_add(number(rest)?),
        ticks: last.ticks.wrapping_add(unzigzag(number(rest)?)),
    };
    let mut length = || usize::try_from(number(rest)?).ok();
    let (key, headers, body) = (length()?, length()?, length()?);
    Some((at, Parts { key: rest.take(key)?, headers: rest.take(headers)?, body: rest.take(body)? }))
}

fn record(place: Place, base: u64, at: At, parts: Parts<'_>) -> Option<LogRecord> {
    // One allocation for both, so that a record holds on to no more than itself.
    let payload = Bytes::from([parts.headers, parts.body].concat());
    Some(LogRecord {
        sequence: place.first_sequence.checked_add(at.sequence)?,
        offset: base.checked_add(at.offset)?,
        time: Timestamp::from_ticks(at.ticks).max(place.time_floor),
        key: String::from_utf8_lossy(parts.key).into_owned(),
        headers: payload.slice(..parts.headers.len()),
        body: payload.slice(parts.headers.len()..),
    })
}

/// Small numbers of either sign become small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn number(rest: &mut Reader<'_>) -> Option<u64> {
    let mut number = 0;
    for place in 0..NUMBER_BYTES {
        let byte = rest.take(1)?[0];
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(given: &[(i64, String, usize)]) -> Vec<NewRecord> {
        let record = |(ticks, key, length): &(i64, String, usize)| NewRecord {
            time: Timestamp::from_ticks(*ticks),
            key: key.clone(),
            headers: Bytes::from_static(b"h"),
            body: vec![b'x'; *length].into(),
        };
        given.iter().map(record).collect()
    }

    #[test]
    fn a_message_costs_its_block_some_ten_bytes_more_than_itself() {
        let mut blocks = Blocks::default();
        let time = 638_000_000_000_000_000;
        for number in 0..100 {
            let mut record = records(&[(time + number * 10_000, "device-123".into(), 256)]).remove(0);
            record.headers = Bytes::new();
            blocks.push(&record);
        }
        blocks.close();
        let more = blocks.closed[0].bytes.len() - 100 * (256 + 10);
        assert!(more <= 11 * 100, "{more}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn records_come_out_of_blocks_as_they_went_in_with_numbers_offsets_and_times_that_rise(
            given in proptest::collection::vec((0_i64..1000, "[a-z]{0,5}", 0_usize..300_000), 1..12),
            before: u32, floor in 0_i64..1000,
        ) {
            let given = records(&given);
            let mut blocks = Blocks::default();
            for record in &given {
                blocks.push(record);
            }
            blocks.close();
            let mut found = Vec::new();
            for block in &blocks.closed {
                prop_assert!(block.bytes.len() <= caps::STREAM_BLOCK_BYTES_MAX + HEAD_BYTES || block.count == 1);
                let place = Place {
                    first_sequence: 7 + block.sequence,
                    last_offset: u64::from(before) + block.last_offset,
                    time_floor: Timestamp::from_ticks(floor),
                };
                let decoded = decode(place, &block.bytes).unwrap();
                prop_assert_eq!(decoded.len(), block.count as usize);
                prop_assert_eq!(decoded.last().unwrap().offset, place.last_offset);
                prop_assert_eq!(decoded.last().unwrap().time, block.last_time.max(place.time_floor));
                found.extend(decoded);
            }
            prop_assert_eq!(found.len(), given.len());
            let (mut last_offset, mut last_time) = (u64::from(before), Timestamp::from_ticks(floor));
            for (sequence, (found, given)) in (7..).zip(found.iter().zip(&given)) {
                prop_assert_eq!(found.sequence, sequence);
                prop_assert!(found.offset > last_offset && found.time >= last_time && found.time >= given.time);
                prop_assert_eq!((&found.key, &found.headers, &found.body), (&given.key, &given.headers, &given.body));
                (last_offset, last_time) = (found.offset, found.time);
            }
        }

        #[test]
        fn numbers_of_any_size_come_out_as_they_went_in(unsigned: u64, signed: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, unsigned);
            put(&mut bytes, zigzag(signed));
            prop_assert!(bytes.len() <= 2 * NUMBER_BYTES);
            let mut rest = Reader(&bytes);
            prop_assert_eq!((number(&mut rest), number(&mut rest).map(unzigzag)), (Some(unsigned), Some(signed)));
            prop_assert!(rest.0.is_empty());
        }

        #[test]
        fn bytes_that_are_no_records_are_refused_though_their_checksum_holds(noise: Vec<u8>, count: u32) {
            let mut bytes = count.to_le_bytes().to_vec();
            bytes.extend_from_slice(&crc32c::crc32c(&noise).to_le_bytes());
            bytes.extend_from_slice(&noise);
            let place = Place { first_sequence: u64::MAX, last_offset: 1000, time_floor: Timestamp::NEVER };
            if let Some(found) = decode(place, &bytes) {
                prop_assert_eq!(found.len(), count as usize);
            }
        }

        #[test]
        fn a_changed_byte_is_noticed(length in 0_usize..100, at: usize, by in 1_u8..) {
            let mut blocks = Blocks::default();
            blocks.push(&records(&[(1, "k".into(), length)])[0]);
            blocks.close();
            let mut bytes = std::mem::take(&mut blocks.closed[0].bytes);
            let at = at % bytes.len();
            bytes[at] ^= by;
            let place = Place { first_sequence: 0, last_offset: 1000, time_floor: Timestamp::NEVER };
            prop_assert_eq!(decode(place, &bytes), None);
        }
    }
}
