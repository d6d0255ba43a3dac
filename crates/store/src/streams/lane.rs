//! A lane: one partition of one stream, as the log counts it. Pure bookkeeping: what a record of the log does to the lanes.
//! Used by the appender before it writes and by the replay of a segment; both must come to the same.

use std::collections::HashMap;

use base::{Timestamp, caps};

use super::format::{Frame, Kind, Origin, RECORD_BYTES_MIN, Reader};
use super::{PartitionState, StreamId};

/// A stream and the number of one of its partitions.
pub(crate) type Partition = (StreamId, u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Stands for the lane in records. Never given to another lane of the same log, not even after a removal.
    pub(crate) number: u32,
    pub(crate) stream: StreamId,
    pub(crate) partition: u32,
    pub(crate) first_sequence: u64,
    pub(crate) next_sequence: u64,
    pub(crate) last_offset: u64,
    pub(crate) last_time: Timestamp,
    /// The last id of each source that appends once.
    pub(crate) origins: Vec<Origin>,
}

impl Lane {
    /// A lane that begins, with `sequence` as its first number.
    pub(crate) fn new(number: u32, partition: &Partition, sequence: u64) -> Self {
        Self {
            number,
            stream: partition.0.clone(),
            partition: partition.1,
            first_sequence: sequence,
            next_sequence: sequence,
            last_offset: 0,
            last_time: Timestamp::NEVER,
            origins: Vec::new(),
        }
    }

    pub(crate) fn last_id(&self, source: u64) -> Option<u64> {
        self.origins.iter().find(|origin| origin.source == source).map(|origin| origin.id)
    }

    pub(crate) fn state(&self) -> PartitionState {
        PartitionState {
            first_sequence: self.first_sequence,
            next_sequence: self.next_sequence,
            last_offset: self.last_offset,
            last_time: self.last_time,
        }
    }

    /// Counts an event that was, or is about to be, written at `position`.
    pub(crate) fn count(&mut self, position: u64, time: Timestamp, origin: Option<Origin>) {
        self.next_sequence += 1;
        self.last_offset = position;
        self.last_time = time;
        let Some(origin) = origin else { return };
        self.origins.retain(|known| known.source != origin.source);
        if self.origins.len() >= caps::LOG_ORIGINS_MAX {
            self.origins.remove(0);
        }
        self.origins.push(origin);
    }

    /// The body of the record that declares this lane; its key is the stream's name.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(22 + 16 * self.origins.len());
        body.extend_from_slice(&self.first_sequence.to_le_bytes());
        body.extend_from_slice(&self.last_offset.to_le_bytes());
        body.extend_from_slice(&self.partition.to_le_bytes());
        for origin in &self.origins {
            body.extend_from_slice(&origin.source.to_le_bytes());
            body.extend_from_slice(&origin.id.to_le_bytes());
        }
        body
    }

    pub(crate) fn frame<'a>(&'a self, body: &'a [u8]) -> Frame<'a> {
        Frame {
            kind: Kind::Lane,
            lane: self.number,
            sequence: self.next_sequence,
            time: self.last_time,
            origin: None,
            key: self.stream.as_str().as_bytes(),
            headers: &[],
            body,
        }
    }

    pub(crate) fn decode(frame: &Frame) -> Option<Self> {
        let mut reader = Reader(frame.body);
        let stream = StreamId::from_stored(std::str::from_utf8(frame.key).ok()?);
        let (first_sequence, last_offset, partition) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let mut origins = Vec::new();
        while !reader.0.is_empty() {
            origins.push(Origin { source: reader.u64()?, id: reader.u64()? });
        }
        let sane = first_sequence <= frame.sequence && origins.len() <= caps::LOG_ORIGINS_MAX;
        sane.then_some(Self {
            number: frame.lane,
            stream,
            partition,
            first_sequence,
            next_sequence: frame.sequence,
            last_offset,
            last_time: frame.time,
            origins,
        })
    }
}

/// Every lane of the log at one point of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lanes {
    by_partition: HashMap<Partition, Lane>,
    /// The next number that no lane ever had.
    pub(crate) next_number: u32,
    /// Where the sequence numbers of a new lane begin: 0 until damage took a lane's name along, whose numbers must not be given
    /// out again under the same name.
    pub(crate) sequence_floor: u64,
}

impl Lanes {
    pub(crate) fn get(&self, partition: &Partition) -> Option<&Lane> {
        self.by_partition.get(partition)
    }

    pub(crate) fn put(&mut self, lane: Lane) {
        self.next_number = self.next_number.max(lane.number.saturating_add(1));
        self.by_partition.insert((lane.stream.clone(), lane.partition), lane);
    }

    pub(crate) fn remove(&mut self, partition: &Partition) {
        self.by_partition.remove(partition);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.by_partition.values()
    }
}

/// The lanes while a segment is read from its start: by number, as its records name them. Behind damage a record may tell of
/// what was lost; before any, each must follow exactly.
#[derive(Default)]
pub(crate) struct Replay {
    by_number: HashMap<u32, Replayed>,
    pub(crate) next_number: u32,
    sequence_floor: u64,
    /// Whether the record that ends the opening states was seen.
    pub(crate) begun: bool,
    /// Bytes that could not be read so far, or were forgotten.
    lost_bytes: u64,
}

struct Replayed {
    lane: Lane,
    /// How many bytes had been lost when the lane was last heard of.
    lost_bytes: u64,
}

impl Replay {
    /// Applies one record. `Err` for one that cannot follow what came before.
    pub(crate) fn apply(&mut self, frame: &Frame, position: u64) -> Result<(), &'static str> {
        match frame.kind {
            Kind::Lane if self.begun => self.declare_new(frame),
            Kind::Lane => self.declare(frame),
            Kind::Begin => self.begin(frame),
            _ if !self.begun => Err("a record comes before the end of the opening states"),
            Kind::Skip => {
                self.lose(frame.sequence);
                Ok(())
            }
            _ if !self.by_number.contains_key(&frame.lane) => self.unknown(frame),
            Kind::Event => self.event(frame, position),
            Kind::Trim => self.trim(frame),
            Kind::Remove => {
                self.by_number.remove(&frame.lane);
                Ok(())
            }
        }
    }

    /// Whether everything from the start on was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.lost_bytes == 0
    }

    /// Notes that so many bytes, which come next, cannot be read.
    pub(crate) fn lose(&mut self, bytes: u64) {
        self.lost_bytes = self.lost_bytes.saturating_add(bytes);
    }

    fn declare(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let lane = Lane::decode(frame).ok_or("a lane's state cannot be read")?;
        self.next_number = self.next_number.max(lane.number.saturating_add(1));
        let declared = Replayed { lost_bytes: self.lost_bytes, lane };
        let twice = self.by_number.insert(frame.lane, declared).is_some();
        if twice { Err("a lane is declared twice") } else { Ok(()) }
    }

    /// Behind the opening a lane is declared two times, so that damage in one place does not take its name along.
    fn declare_new(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let lane = Lane::decode(frame).ok_or("a lane's state cannot be read")?;
        if let Some(known) = self.by_number.get(&lane.number) {
            let is_same = (&known.lane.stream, known.lane.partition) == (&lane.stream, lane.partition);
            return if is_same { Ok(()) } else { Err("a lane is declared twice") };
        }
        if lane.number < self.next_number && self.lost_bytes == 0 {
            return Err("a lane's number was taken");
        }
        // Its predecessor was removed; should that be lost, it must not come back.
        self.by_number
            .retain(|_, known| (&known.lane.stream, known.lane.partition) != (&lane.stream, lane.partition));
        self.declare(frame)
    }

    fn begin(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let mut body = Reader(frame.body);
        let next_number = body.u32().ok_or("the opening states end without a number")?;
        if self.begun || frame.sequence != self.by_number.len() as u64 {
            return Err("the opening states are not complete");
        }
        self.next_number = self.next_number.max(next_number);
        self.sequence_floor = body.u64().unwrap_or(0);
        self.begun = true;
        Ok(())
    }

    fn event(&mut self, frame: &Frame, position: u64) -> Result<(), &'static str> {
        let (lane, missing) = self.known(frame);
        if !(lane.next_sequence..=lane.next_sequence.saturating_add(missing)).contains(&frame.sequence) {
            return Err("a sequence number does not follow the one before");
        }
        lane.next_sequence = frame.sequence;
        lane.count(position, frame.time, frame.origin);
        self.heard(frame.lane);
        Ok(())
    }

    fn trim(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let (lane, missing) = self.known(frame);
        if !(lane.first_sequence..=lane.next_sequence.saturating_add(missing)).contains(&frame.sequence) {
            return Err("a trim goes outside of its lane");
        }
        lane.first_sequence = frame.sequence;
        lane.next_sequence = lane.next_sequence.max(frame.sequence);
        Ok(())
    }

    /// A record of a lane whose declaration was lost: its stream is not known any more, and its numbers are taken.
    fn unknown(&mut self, frame: &Frame) -> Result<(), &'static str> {
        if self.lost_bytes == 0 {
            return Err("a record names an unknown lane");
        }
        self.next_number = self.next_number.max(frame.lane.saturating_add(1));
        self.sequence_floor = self.sequence_floor.max(frame.sequence.saturating_add(1));
        Ok(())
    }

    /// The lane of a record, and how many of its events may be among the lost bytes since it was last heard of.
    fn known(&mut self, frame: &Frame) -> (&mut Lane, u64) {
        let known = self.by_number.get_mut(&frame.lane).expect("the caller looked");
        (&mut known.lane, records_in(self.lost_bytes - known.lost_bytes))
    }

    fn heard(&mut self, number: u32) {
        if let Some(known) = self.by_number.get_mut(&number) {
            known.lost_bytes = self.lost_bytes;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.by_number.values().map(|known| &known.lane)
    }

    /// The lanes to go on with. A number that may have been given to a record among the lost bytes is not given again: no record
    /// is shorter than [`RECORD_BYTES_MIN`], which bounds how many there were.
    pub(crate) fn into_lanes(self) -> Lanes {
        let mut lanes = Lanes::default();
        for Replayed { mut lane, lost_bytes } in self.by_number.into_values() {
            let missing = records_in(self.lost_bytes - lost_bytes);
            lane.next_sequence = lane.next_sequence.saturating_add(missing);
            lanes.put(lane);
        }
        let lost = records_in(self.lost_bytes);
        let lost_numbers = u32::try_from(lost).unwrap_or(u32::MAX);
        lanes.next_number = lanes.next_number.max(self.next_number).saturating_add(lost_numbers);
        lanes.sequence_floor = self.sequence_floor.saturating_add(lost);
        lanes
    }
}

/// How many records lost bytes held at most.
fn records_in(lost_bytes: u64) -> u64 {
    // Damage may begin and end within a record.
    lost_bytes.div_ceil(RECORD_BYTES_MIN as u64)
}
