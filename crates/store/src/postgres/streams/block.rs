//! A block: records of one partition that were appended together, in one row. Pure: records in, bytes out, and back. Records are
//! encoded as in the log; number, offset and time are relative to what the row says, since they are known only when the database
//! has given the block its place.
//!
//! ```text
//! block    count u32 · crc32c u32 over the records · records, as in `docs/log-format.md`, each at its position among them
//! record   sequence: its place in the block · lane: where it ends among them, which is its offset · time: as it was given
//! ```

use base::{Timestamp, caps};
use bytes::Bytes;

use crate::streams::format::{self, Decoded, Frame, Kind, Reader};
use crate::streams::{LogRecord, NewRecord};

const HEAD_BYTES: usize = 8;

/// What is appended to one partition in one go, in blocks.
#[derive(Default)]
pub(super) struct Blocks {
    pub(super) closed: Vec<Block>,
    open: Vec<u8>,
    open_count: u32,
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
        let mut frame = Frame {
            kind: Kind::Event,
            lane: 0,
            sequence: u64::from(self.open_count),
            time: self.last_time.map_or(record.time, |last| last.max(record.time)),
            origin: None,
            key: record.key.as_bytes(),
            headers: &record.headers,
            body: &record.body,
        };
        let (start, end) = (self.open.len(), self.open.len() + frame.encoded_len());
        let is_full = end > caps::STREAM_BLOCK_BYTES_MAX || self.open_count >= caps::STREAM_BLOCK_RECORDS_MAX;
        if is_full && self.open_count > 0 {
            self.close();
            return self.push(record);
        }
        frame.lane = u32::try_from(end).expect("a block is far below 4 GiB");
        self.last_time = Some(frame.time);
        frame.encode(start as u64, &mut self.open);
        self.open_count += 1;
        self.count += 1;
    }

    /// Ends the block that is being filled.
    pub(super) fn close(&mut self) {
        let Some(last_time) = self.last_time.filter(|_| self.open_count > 0) else { return };
        let bytes = sealed(self.open_count, &self.open);
        self.offset += self.open.len() as u64;
        let last_offset = self.offset;
        let (sequence, count) = (self.count - u64::from(self.open_count), self.open_count);
        self.closed.push(Block { sequence, count, last_offset, last_time, bytes });
        self.open.clear();
        self.open_count = 0;
    }
}

fn sealed(count: u32, records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + records.len());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(records).to_le_bytes());
    bytes.extend_from_slice(records);
    bytes
}

/// Blocks of records that come with a place and keep it, as those of a move do.
#[derive(Default)]
pub(in crate::postgres) struct Kept {
    open: Vec<u8>,
    /// Number, offset and time of the first record of the block that is being filled.
    first: Option<(u64, u64, Timestamp)>,
    count: u32,
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
        let begin = self.first.map_or(record.offset, |(_, offset, _)| offset);
        let distance = u32::try_from(record.offset - begin);
        let frame = |lane, sequence| Frame {
            kind: Kind::Event,
            lane,
            sequence,
            time: record.time,
            origin: None,
            key: record.key.as_bytes(),
            headers: &record.headers,
            body: &record.body,
        };
        let end = self.open.len() + frame(0, 0).encoded_len();
        let has_room = end <= caps::STREAM_BLOCK_BYTES_MAX && self.count < caps::STREAM_BLOCK_RECORDS_MAX;
        let (closed, lane) = match distance {
            Ok(lane) if has_room || self.count == 0 => (None, lane),
            _ => (self.close(), 0),
        };
        let (sequence, ..) = *self.first.get_or_insert((record.sequence, record.offset, record.time));
        frame(lane, record.sequence - sequence).encode(self.open.len() as u64, &mut self.open);
        self.count += 1;
        self.last = Some((record.offset, record.time));
        closed
    }

    /// Ends the block that is being filled.
    pub(in crate::postgres) fn close(&mut self) -> Option<PlacedBlock> {
        let Self { open, first, count, last } = std::mem::take(self);
        let ((first_sequence, _, time_floor), (last_offset, last_time)) = (first?, last?);
        let bytes = sealed(count, &open);
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
    let mut head = Reader(bytes);
    let (count, checksum) = (head.u32()?, head.u32()?);
    let mut rest = head.0;
    if crc32c::crc32c(rest) != checksum {
        return None;
    }
    let mut frames = Vec::new();
    let mut position = 0;
    while !rest.is_empty() {
        let Decoded::Record(frame, length) = format::decode(rest, position) else { return None };
        frames.push(frame);
        position += length as u64;
        rest = &rest[length..];
    }
    let last = frames.last()?;
    if frames.len() != count as usize {
        return None;
    }
    let base = place.last_offset.checked_sub(u64::from(last.lane))?;
    Some(frames.iter().map(|frame| record(place, base, frame)).collect())
}

fn record(place: Place, base: u64, frame: &Frame) -> LogRecord {
    // One allocation for both, so that a record holds on to no more than itself.
    let payload = Bytes::from([frame.headers, frame.body].concat());
    LogRecord {
        sequence: place.first_sequence + frame.sequence,
        offset: base + u64::from(frame.lane),
        time: frame.time.max(place.time_floor),
        key: String::from_utf8_lossy(frame.key).into_owned(),
        headers: payload.slice(..frame.headers.len()),
        body: payload.slice(frame.headers.len()..),
    }
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
