//! Reads on a reader thread: from a position to sequence numbers, from there to positions in files, and their records.

use base::{Timestamp, caps};
use bytes::Bytes;

use super::format::{Decoded, Frame};
use super::lane::Partition;
use super::log::{Log, Part};
use super::scan::Window;
use super::segment::WINDOW_BYTES;
use super::{LogRecord, Lost, Position};
use crate::error::StoreError;

pub(crate) fn read(
    log: &Log,
    partition: &Partition,
    from: Position,
    count_max: usize,
) -> Result<Vec<LogRecord>, StoreError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    let mut sequence = first_sequence(log, partition, from)?;
    while records.len() < count_max && bytes < caps::LOG_READ_BYTES_MAX {
        match read_part(log, partition, sequence, count_max, &mut records, &mut bytes) {
            Ok(Some(next)) => sequence = next,
            Ok(None) => break,
            // What lies before the damage is still given; the next read tells.
            Err(_) if !records.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// Reads on within one segment; gives the next sequence number, or nothing at the end.
fn read_part(
    log: &Log,
    partition: &Partition,
    sequence: u64,
    count_max: usize,
    records: &mut Vec<LogRecord>,
    bytes: &mut usize,
) -> Result<Option<u64>, StoreError> {
    let count = (count_max - records.len()).min(caps::LOG_READ_RECORDS_MAX);
    let Some(part) = log.part(partition, sequence, count)? else { return Ok(None) };
    let mut window = part.window(&part.positions);
    let mut next = part.first_sequence;
    for position in &part.positions {
        if *bytes >= caps::LOG_READ_BYTES_MAX {
            break;
        }
        let Some(frame) = part.event(&mut window, *position, next)? else {
            let segment = part.segment.name.clone();
            return Err(StoreError::Lost(Lost::boxed(partition, next, next + 1, segment, *position)));
        };
        let record = record_of(&frame, part.offset(*position));
        *bytes += record.key.len() + record.headers.len() + record.body.len();
        records.push(record);
        next += 1;
    }
    Ok(Some(next))
}

fn record_of(frame: &Frame, offset: u64) -> LogRecord {
    // One allocation for both, so that a record holds on to no more than itself.
    let payload = Bytes::from([frame.headers, frame.body].concat());
    LogRecord {
        sequence: frame.sequence,
        offset,
        time: frame.time,
        key: String::from_utf8_lossy(frame.key).into_owned(),
        headers: payload.slice(..frame.headers.len()),
        body: payload.slice(frame.headers.len()..),
    }
}

impl Part {
    fn offset(&self, position: u32) -> u64 {
        self.segment.base + u64::from(position)
    }

    fn window(&self, positions: &[u32]) -> Window<'_> {
        // A read of one record should not pull in a whole window.
        let span = match positions {
            [first, .., last] => (last - first) as usize + 4096,
            _ => 4096,
        };
        Window::new(&self.segment.file, self.segment.base, u32::MAX, span.min(WINDOW_BYTES))
    }

    /// The event at a position, held against what the index says of it. `None` when it was damaged since.
    fn event<'a>(
        &self,
        window: &'a mut Window,
        position: u32,
        sequence: u64,
    ) -> Result<Option<Frame<'a>>, StoreError> {
        match window.decode(position)? {
            Decoded::Record(frame, _) => {
                Ok((frame.lane == self.lane && frame.sequence == sequence).then_some(frame))
            }
            _ => Ok(None),
        }
    }
}

/// The sequence number of the first record at or behind a position.
pub(crate) fn first_sequence(log: &Log, partition: &Partition, from: Position) -> Result<u64, StoreError> {
    let Some(state) = log.partition(partition) else { return Ok(0) };
    match from {
        Position::Earliest => Ok(state.first_sequence),
        Position::Latest => Ok(state.next_sequence),
        Position::Sequence(sequence) => Ok(sequence.max(state.first_sequence)),
        Position::Offset(offset) if offset > state.last_offset => Ok(state.next_sequence),
        Position::Offset(offset) => by_offset(log, partition, offset),
        Position::Time(time) if time > state.last_time => Ok(state.next_sequence),
        Position::Time(time) => by_time(log, partition, time),
    }
}

fn by_offset(log: &Log, partition: &Partition, offset: u64) -> Result<u64, StoreError> {
    // The first segment whose successor begins behind the offset; its start tells where the search begins.
    let start = {
        let state = log.state.read();
        let Some(lane) = state.lanes.get(partition) else { return Ok(0) };
        let segment = state.segments.iter().rfind(|segment| segment.base <= offset);
        let segment = segment.unwrap_or(&state.segments[0]);
        segment.start.get(&lane.number).map_or(0, |start| start.next_sequence)
    };
    search(log, partition, start, |part, at| Ok(part.offset(part.positions[at]) < offset))
}

fn by_time(log: &Log, partition: &Partition, time: Timestamp) -> Result<u64, StoreError> {
    // Times never run backwards within a lane, so the last segment that began before the time holds the record.
    let start = {
        let state = log.state.read();
        let Some(lane) = state.lanes.get(partition) else { return Ok(0) };
        let starts = state.segments.iter().rev().filter_map(|segment| segment.start.get(&lane.number));
        starts.into_iter().find(|start| start.last_time < time).map_or(0, |start| start.next_sequence)
    };
    search(log, partition, start, |part, at| {
        let mut window = Window::new(&part.segment.file, part.segment.base, u32::MAX, 4096);
        let event = part.event(&mut window, part.positions[at], part.first_sequence + at as u64)?;
        // One that is damaged is not passed over: whoever reads on from there is told.
        Ok(event.is_some_and(|frame| frame.time < time))
    })
}

/// The first event from `start` on that is not before what is searched. Lost ones that may be it come first.
fn search(
    log: &Log,
    partition: &Partition,
    start: u64,
    is_before: impl Fn(&Part, usize) -> Result<bool, StoreError>,
) -> Result<u64, StoreError> {
    let (mut sequence, mut lost_from) = (start, None);
    loop {
        let part = match log.part(partition, sequence, usize::MAX) {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(lost_from.unwrap_or(sequence)),
            Err(StoreError::Lost(lost)) => {
                lost_from = lost_from.or(Some(lost.first_sequence));
                sequence = lost.next_sequence;
                continue;
            }
            Err(error) => return Err(error),
        };
        let (mut low, mut high) = (0, part.positions.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if is_before(&part, middle)? { low = middle + 1 } else { high = middle }
        }
        match lost_from {
            Some(lost_from) if low == 0 => return Ok(lost_from),
            _ if low < part.positions.len() => return Ok(part.first_sequence + low as u64),
            _ => (sequence, lost_from) = (part.first_sequence + low as u64, None),
        }
    }
}
