//! What the appender publishes and readers see: durable lanes, segments and positions. One lock, never held over I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base::caps;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::PartitionState;
use super::lane::{Lane, Lanes, Partition};
use super::medium::Medium;
use super::segment::{Index, Segment};
use crate::error::StoreError;

pub(crate) struct Log {
    pub(crate) medium: Medium,
    pub(crate) state: RwLock<State>,
    /// Sealed segments whose index is in memory, the least recently made first.
    indexed: Mutex<VecDeque<Arc<Segment>>>,
}

pub(crate) struct State {
    pub(crate) lanes: Lanes,
    /// In order; the last one is appended to. Never empty.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The index of the last segment.
    pub(crate) active: Index,
    pub(crate) tails: HashMap<Partition, watch::Sender<u64>>,
}

/// Events of one lane that lie in one segment.
pub(crate) struct Part {
    pub(crate) segment: Arc<Segment>,
    pub(crate) lane: u32,
    pub(crate) first_sequence: u64,
    pub(crate) positions: Vec<u32>,
}

/// A segment, and where the search goes on: its own index, or the positions already copied from the active one.
enum Found {
    Active(Part),
    Sealed { segment: Arc<Segment>, lane: u32, sequence: u64 },
}

impl Log {
    pub(crate) fn new(medium: Medium, lanes: Lanes, segments: Vec<Arc<Segment>>, active: Index) -> Self {
        let state = State { lanes, segments, active, tails: HashMap::new() };
        Self { medium, state: RwLock::new(state), indexed: Mutex::default() }
    }

    pub(crate) fn partition(&self, partition: &Partition) -> Option<PartitionState> {
        self.state.read().lanes.get(partition).map(Lane::state)
    }

    /// Events from `sequence` (or the first that is kept) on, at most `count` and only up to the end of their segment.
    pub(crate) fn part(
        &self,
        partition: &Partition,
        sequence: u64,
        count: usize,
    ) -> Result<Option<Part>, StoreError> {
        let found = self.state.read().find(partition, sequence, count);
        let (segment, lane, first_sequence) = match found? {
            None => return Ok(None),
            Some(Found::Active(part)) => return Ok(Some(part)),
            Some(Found::Sealed { segment, lane, sequence }) => (segment, lane, sequence),
        };
        let index = self.index(&segment)?;
        let positions = index.lanes.get(&lane).map(|lane| lane.from(first_sequence, count).to_vec());
        match positions {
            Some(positions) if !positions.is_empty() => {
                Ok(Some(Part { segment, lane, first_sequence, positions }))
            }
            _ => {
                let why = index.damage.clone().unwrap_or_else(|| format!("{} lacks records", segment.name));
                Err(StoreError::Corrupt(format!("log segment {why}")))
            }
        }
    }

    /// The index of a sealed segment; the oldest ones make room.
    pub(crate) fn index(&self, segment: &Arc<Segment>) -> Result<Arc<Index>, StoreError> {
        let index = segment.index()?;
        if self.remember(segment)
            && let Some(damage) = &index.damage
        {
            tracing::error!(%damage, "a sealed log segment is damaged; records behind that point cannot be read");
        }
        Ok(index)
    }

    /// Notes that a segment's index is in memory; whether that is news.
    fn remember(&self, segment: &Arc<Segment>) -> bool {
        let mut indexed = self.indexed.lock();
        if indexed.iter().any(|known| Arc::ptr_eq(known, segment)) {
            return false;
        }
        indexed.push_back(Arc::clone(segment));
        if indexed.len() > caps::LOG_INDEXES_MAX
            && let Some(oldest) = indexed.pop_front()
        {
            oldest.drop_index();
        }
        true
    }

    /// Ends the last segment at `end` and goes on with `new`.
    pub(crate) fn seal(&self, end: u32, new: &Arc<Segment>) {
        let mut state = self.state.write();
        let index = std::mem::take(&mut state.active);
        let old = Arc::clone(state.active_segment());
        old.seal(end, index);
        state.segments.push(Arc::clone(new));
        drop(state);
        self.remember(&old);
    }

    /// Takes the oldest segments off the log as long as nothing in them is kept any more.
    pub(crate) fn take_forgotten(&self) -> Vec<Arc<Segment>> {
        let mut state = self.state.write();
        let mut forgotten = Vec::new();
        while state.segments.len() > 1 && state.is_forgotten(&state.segments[0], &state.segments[1]) {
            forgotten.push(state.segments.remove(0));
        }
        drop(state);
        self.indexed.lock().retain(|known| !forgotten.iter().any(|gone| Arc::ptr_eq(known, gone)));
        forgotten
    }
}

impl State {
    fn find(&self, partition: &Partition, sequence: u64, count: usize) -> Result<Option<Found>, StoreError> {
        let Some(lane) = self.lanes.get(partition) else { return Ok(None) };
        let sequence = sequence.max(lane.first_sequence);
        if sequence >= lane.next_sequence {
            return Ok(None);
        }
        // A lane that a segment does not know at its start begins within it.
        let holds = |segment: &&Arc<Segment>| {
            segment.start.get(&lane.number).is_none_or(|start| start.next_sequence <= sequence)
        };
        let lost = || {
            StoreError::Corrupt(format!("the log segment with record {sequence} of {} is gone", partition.0))
        };
        let segment = self.segments.iter().rfind(holds).ok_or_else(lost)?;
        if segment.sealed.get().is_some() {
            return Ok(Some(Found::Sealed { segment: Arc::clone(segment), lane: lane.number, sequence }));
        }
        let known = self.active.lanes.get(&lane.number).ok_or_else(lost)?;
        Ok(Some(Found::Active(Part {
            segment: Arc::clone(segment),
            lane: lane.number,
            first_sequence: sequence,
            positions: known.from(sequence, count).to_vec(),
        })))
    }

    /// Whether every lane that is left keeps nothing of `segment`, which `next` follows.
    fn is_forgotten(&self, segment: &Segment, next: &Segment) -> bool {
        self.lanes.iter().all(|lane| match next.start.get(&lane.number) {
            // The lane began later.
            None => true,
            Some(end) => {
                let start = segment.start.get(&lane.number).map_or(0, |start| start.next_sequence);
                start == end.next_sequence || lane.first_sequence >= end.next_sequence
            }
        })
    }

    pub(crate) fn put_lane(&mut self, lane: Lane) {
        let partition = (lane.stream.clone(), lane.partition);
        if let Some(tail) = self.tails.get(&partition) {
            tail.send_replace(lane.next_sequence);
            if tail.is_closed() {
                self.tails.remove(&partition);
            }
        }
        self.lanes.put(lane);
    }

    pub(crate) fn remove_lane(&mut self, partition: &Partition) {
        self.lanes.remove(partition);
        self.tails.remove(partition);
    }

    pub(crate) fn active_segment(&self) -> &Arc<Segment> {
        self.segments.last().expect("a log always has a segment")
    }
}
