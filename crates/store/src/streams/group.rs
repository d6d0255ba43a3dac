//! What the appender writes in one piece: bytes, and the lanes as they will be once the bytes are durable.
//! Staging touches neither the file nor what readers see; a group that fails is simply dropped.

use std::collections::HashMap;

use base::caps;

use super::appender::Callback;
use super::format::{Frame, Kind, Origin};
use super::lane::{Lane, Partition};
use super::log::{Log, State};
use super::{Appended, NewRecord, StreamId};
use crate::error::StoreError;

#[derive(Default)]
pub(crate) struct Group {
    /// Where the segment begins in the log, and where in the segment the group begins.
    pub(crate) base: u64,
    pub(crate) end: u32,
    pub(crate) bytes: Vec<u8>,
    lanes: Vec<Staged>,
    by_partition: HashMap<Partition, usize>,
    next_number: Option<u32>,
    /// Lane number, sequence number and position of each event.
    events: Vec<(u32, u64, u32)>,
    pub(crate) answers: Vec<(Callback, Appended)>,
    /// Whether something was forgotten, so that old segments may be free to go.
    pub(crate) forgets: bool,
}

enum Staged {
    Kept(Lane),
    Removed(Partition),
}

impl Group {
    pub(crate) fn position(&self) -> u32 {
        self.end + u32::try_from(self.bytes.len()).expect("a group fits a segment")
    }

    pub(crate) fn ensure(&mut self, log: &Log, stream: &StreamId, partition_count: u32) {
        let mut made = Vec::new();
        for partition in (0..partition_count).map(|partition| (stream.clone(), partition)) {
            if self.lane(log, &partition).is_none() {
                made.push(self.new_lane(log, &partition));
            }
        }
        // Once would do, until the disk damages the one place that tells a lane's name.
        for _ in 0..2 {
            for at in &made {
                self.declare(*at);
            }
        }
    }

    /// The sequence number of the first record.
    pub(crate) fn append(
        &mut self,
        log: &Log,
        partition: &Partition,
        records: &[NewRecord],
        origins: Option<&[Origin]>,
    ) -> Result<u64, StoreError> {
        let no_stream = || StoreError::NoStream(partition.0.to_string());
        let at = self.lane(log, partition).ok_or_else(no_stream)?;
        let first_sequence = self.kept(at).next_sequence;
        for (number, record) in records.iter().enumerate() {
            let origin = origins.map(|origins| origins[number]);
            let known =
                |origin: Origin| self.kept(at).last_id(origin.source).is_some_and(|id| id >= origin.id);
            if !origin.is_some_and(known) {
                self.event(at, record, origin);
            }
        }
        Ok(first_sequence)
    }

    pub(crate) fn trim(&mut self, log: &Log, partition: &Partition, first_sequence: u64) {
        let Some(at) = self.lane(log, partition) else { return };
        let (known, next) = (self.kept(at).first_sequence, self.kept(at).next_sequence);
        let first_sequence = first_sequence.min(next);
        if first_sequence > known {
            self.control(at, Kind::Trim, first_sequence);
            self.kept(at).first_sequence = first_sequence;
            self.forgets = true;
        }
    }

    pub(crate) fn remove(&mut self, log: &Log, stream: &StreamId) {
        let mut partitions: Vec<Partition> = self.by_partition.keys().cloned().collect();
        partitions.extend(log.state.read().lanes.iter().map(|lane| (lane.stream.clone(), lane.partition)));
        for partition in partitions.into_iter().filter(|(id, _)| id == stream) {
            if let Some(at) = self.lane(log, &partition) {
                self.control(at, Kind::Remove, 0);
                self.lanes[at] = Staged::Removed(partition);
                self.forgets = true;
            }
        }
    }

    fn event(&mut self, at: usize, record: &NewRecord, origin: Option<Origin>) {
        let position = self.position();
        let Staged::Kept(lane) = &mut self.lanes[at] else { unreachable!("a removed lane gets no events") };
        let frame = Frame {
            kind: Kind::Event,
            lane: lane.number,
            sequence: lane.next_sequence,
            time: record.time.max(lane.last_time),
            origin,
            key: record.key.as_bytes(),
            headers: &record.headers,
            body: &record.body,
        };
        let offset = self.base + u64::from(position);
        frame.encode(offset, &mut self.bytes);
        self.events.push((lane.number, frame.sequence, position));
        lane.count(offset, frame.time, origin);
    }

    fn control(&mut self, at: usize, kind: Kind, sequence: u64) {
        let offset = self.base + u64::from(self.position());
        let Staged::Kept(lane) = &self.lanes[at] else { return };
        Frame { kind, sequence, key: &[], ..lane.frame(&[]) }.encode(offset, &mut self.bytes);
    }

    /// Where the lane is staged; it is copied from the published ones on first touch.
    fn lane(&mut self, log: &Log, partition: &Partition) -> Option<usize> {
        if let Some(at) = self.by_partition.get(partition) {
            return matches!(self.lanes[*at], Staged::Kept(_)).then_some(*at);
        }
        let lane = log.state.read().lanes.get(partition).cloned()?;
        Some(self.stage(partition, lane))
    }

    fn new_lane(&mut self, log: &Log, partition: &Partition) -> usize {
        let (next_number, floor) = {
            let lanes = &log.state.read().lanes;
            (lanes.next_number, lanes.sequence_floor)
        };
        let number = self.next_number.unwrap_or(next_number);
        self.next_number = Some(number + 1);
        self.stage(partition, Lane::new(number, partition, floor))
    }

    fn declare(&mut self, at: usize) {
        let offset = self.base + u64::from(self.position());
        let Staged::Kept(lane) = &self.lanes[at] else { return };
        lane.frame(&lane.encode()).encode(offset, &mut self.bytes);
    }

    fn stage(&mut self, partition: &Partition, lane: Lane) -> usize {
        self.lanes.push(Staged::Kept(lane));
        self.by_partition.insert(partition.clone(), self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    fn kept(&mut self, at: usize) -> &mut Lane {
        match &mut self.lanes[at] {
            Staged::Kept(lane) => lane,
            Staged::Removed(_) => unreachable!("a removed lane is not looked at"),
        }
    }

    /// Makes the group visible, once its bytes are durable.
    pub(crate) fn publish(&mut self, state: &mut State) {
        state.end = self.base + u64::from(self.position());
        for (lane, sequence, position) in self.events.drain(..) {
            state.active.add(lane, sequence, position);
        }
        for staged in self.lanes.drain(..) {
            match staged {
                Staged::Kept(lane) => state.put_lane(lane),
                Staged::Removed(partition) => state.remove_lane(&partition),
            }
        }
        if let Some(number) = self.next_number {
            state.lanes.next_number = state.lanes.next_number.max(number);
        }
    }

    /// Empties the group for the next one, which begins at `end`; its buffers stay.
    pub(crate) fn clear(&mut self, base: u64, end: u32) {
        self.bytes.clear();
        self.bytes.shrink_to(caps::LOG_GROUP_BYTES_MAX);
        self.lanes.clear();
        self.by_partition.clear();
        self.events.clear();
        self.answers.clear();
        (self.base, self.end, self.next_number, self.forgets) = (base, end, None, false);
    }

    pub(crate) fn fail(&mut self, error: &StoreError) {
        for (callback, _) in self.answers.drain(..) {
            callback(Err(error.clone()));
        }
    }
}
