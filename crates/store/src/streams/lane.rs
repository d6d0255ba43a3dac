//! A lane: one partition of one stream, as the log counts it. Pure bookkeeping: what a record of the log does to the lanes.
//! Used by the appender before it writes and by the replay of a segment; both must come to the same.

use std::collections::HashMap;

use base::{Timestamp, caps};

use super::format::{Frame, Kind, Origin, Reader};
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
    pub(crate) fn new(number: u32, partition: &Partition) -> Self {
        Self {
            number,
            stream: partition.0.clone(),
            partition: partition.1,
            first_sequence: 0,
            next_sequence: 0,
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

    fn decode(frame: &Frame) -> Option<Self> {
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

/// The lanes while a segment is read from its start: by number, as its records name them.
#[derive(Default)]
pub(crate) struct Replay {
    by_number: HashMap<u32, Lane>,
    pub(crate) next_number: u32,
    /// Whether the record that ends the opening states was seen.
    pub(crate) begun: bool,
}

impl Replay {
    /// Applies one record. `Err` for one that cannot follow what came before.
    pub(crate) fn apply(&mut self, frame: &Frame, position: u64) -> Result<(), &'static str> {
        match frame.kind {
            Kind::Lane => self.declare(frame),
            Kind::Begin => self.begin(frame),
            _ if !self.begun => Err("a record comes before the end of the opening states"),
            Kind::Event => self.event(frame, position),
            Kind::Trim => {
                let lane = self.lane(frame)?;
                if !(lane.first_sequence..=lane.next_sequence).contains(&frame.sequence) {
                    return Err("a trim goes outside of its lane");
                }
                lane.first_sequence = frame.sequence;
                Ok(())
            }
            Kind::Remove => {
                self.by_number.remove(&frame.lane).map(drop).ok_or("a lane that is unknown is removed")
            }
        }
    }

    fn declare(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let lane = Lane::decode(frame).ok_or("a lane's state cannot be read")?;
        if self.begun && lane.number < self.next_number {
            return Err("a lane's number was taken");
        }
        self.next_number = self.next_number.max(lane.number.saturating_add(1));
        let twice = self.by_number.insert(lane.number, lane).is_some();
        if twice { Err("a lane is declared twice") } else { Ok(()) }
    }

    fn begin(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let next_number = Reader(frame.body).u32().ok_or("the opening states end without a number")?;
        if self.begun || frame.sequence != self.by_number.len() as u64 {
            return Err("the opening states are not complete");
        }
        self.next_number = self.next_number.max(next_number);
        self.begun = true;
        Ok(())
    }

    fn event(&mut self, frame: &Frame, position: u64) -> Result<(), &'static str> {
        let lane = self.lane(frame)?;
        if lane.next_sequence != frame.sequence {
            return Err("a sequence number does not follow the one before");
        }
        lane.count(position, frame.time, frame.origin);
        Ok(())
    }

    fn lane(&mut self, frame: &Frame) -> Result<&mut Lane, &'static str> {
        self.by_number.get_mut(&frame.lane).ok_or("a record names an unknown lane")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.by_number.values()
    }

    pub(crate) fn into_lanes(self) -> Lanes {
        let mut lanes = Lanes::default();
        self.by_number.into_values().for_each(|lane| lanes.put(lane));
        lanes.next_number = lanes.next_number.max(self.next_number);
        lanes
    }
}
