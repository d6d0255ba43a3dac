//! What the appender publishes and readers see: durable lanes, segments and positions. One lock, never held over I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::caps;
use base::measure::{Histogram, SYNC_MICROS};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::index::Index;
use super::lane::{Lane, Lanes, Partition};
use super::medium::Medium;
use super::segment::Segment;
use super::{LogDamage, Lost, PartitionState};
use crate::error::StoreError;
use crate::health::Health;

pub(crate) struct Log {
    pub(crate) medium: Medium,
    pub(crate) state: RwLock<State>,
    /// Sealed segments whose index is in memory, the least recently made first.
    indexed: Mutex<VecDeque<Arc<Segment>>>,
    /// By their base, the segments in which damage was seen, and how many records it took at most.
    damaged: Mutex<BTreeMap<u64, u64>>,
    pub(crate) health: Health,
    /// How long groups took to be written and synced.
    pub(crate) syncs: Histogram,
}

pub(crate) struct State {
    pub(crate) lanes: Lanes,
    /// In order; the last one is appended to. Never empty.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The index of the last segment.
    pub(crate) active: Index,
    /// What lies before this position of the log is durable.
    pub(crate) end: u64,
    pub(crate) tails: HashMap<Partition, watch::Sender<u64>>,
}

/// Events of one lane that lie in one segment.
pub(crate) struct Part {
    pub(crate) segment: Arc<Segment>,
    pub(crate) lane: u32,
    pub(crate) first_sequence: u64,
    pub(crate) positions: Vec<u32>,
}

/// The segment that has, or had, a record.
struct Place {
    segment: Arc<Segment>,
    lane: u32,
    sequence: u64,
    /// Where the lane goes on in the segment that follows.
    end: u64,
}

impl Log {
    pub(crate) fn new(medium: Medium, lanes: Lanes, segments: Vec<Arc<Segment>>, active: Index) -> Self {
        let state = State { lanes, segments, active, end: 0, tails: HashMap::new() };
        let (indexed, damaged) = (Mutex::default(), Mutex::default());
        let (health, syncs) = (Health::default(), Histogram::new(SYNC_MICROS));
        Self { medium, state: RwLock::new(state), indexed, damaged, health, syncs }
    }

    pub(crate) fn partition(&self, partition: &Partition) -> Option<PartitionState> {
        self.state.read().lanes.get(partition).map(Lane::state)
    }

    /// Events from `sequence` (or the first that is kept) on, at most `count` and only up to the end of their segment or to the next
    /// damaged place.
    pub(crate) fn part(
        &self,
        partition: &Partition,
        sequence: u64,
        count: usize,
    ) -> Result<Option<Part>, StoreError> {
        let place = {
            let state = self.state.read();
            let Some(place) = state.find(partition, sequence)? else { return Ok(None) };
            if place.segment.sealed.get().is_none() {
                return place.part(&state.active, partition, count).map(Some);
            }
            place
        };
        let index = self.index(&place.segment)?;
        place.part(&index, partition, count).map(Some)
    }

    /// The index of a sealed segment; the oldest ones make room.
    pub(crate) fn index(&self, segment: &Arc<Segment>) -> Result<Arc<Index>, StoreError> {
        let index = segment.index()?;
        if self.remember(segment) && !index.places.is_empty() {
            self.note_damage(segment, &index);
        }
        Ok(index)
    }

    /// What is known to be damaged: every segment that is appended to when the log is opened, the others once they are read.
    pub(crate) fn damage(&self) -> LogDamage {
        let damaged = self.damaged.lock();
        LogDamage { segments: damaged.len() as u64, records_lost: damaged.values().sum() }
    }

    fn note_damage(&self, segment: &Segment, index: &Index) {
        let lost = self.state.read().lost_in(segment, index);
        if self.damaged.lock().insert(segment.base, lost).is_none() {
            for place in &index.places {
                let (from, to, why) = (place.from, place.to, place.why);
                tracing::error!(segment = segment.name, from, to, why, "a log segment is damaged");
            }
            tracing::error!(
                segment = segment.name,
                records_lost_max = lost,
                "records behind and before the damage can be read; `twinhub log check` tells what is lost"
            );
        }
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
        state.end = new.base + u64::from(new.begin);
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
        self.damaged.lock().retain(|base, _| !forgotten.iter().any(|gone| gone.base == *base));
        forgotten
    }
}

impl Log {
    /// A sealed segment of which at least half is forgotten since it was last asked for, and something is kept.
    pub(crate) fn next_to_condense(&self) -> Option<Arc<Segment>> {
        let state = self.state.read();
        let worth = |pair: &[Arc<Segment>]| {
            let (kept, all) = state.events_in(&pair[0], &pair[1]);
            let before = all.min(pair[0].condensed_to.load(Ordering::Relaxed));
            (kept > 0 && kept <= before / 2).then(|| (Arc::clone(&pair[0]), kept))
        };
        let (segment, kept) = state.segments.windows(2).find_map(worth)?;
        segment.condensed_to.store(kept, Ordering::Relaxed);
        Some(segment)
    }

    /// The first sequence number that each lane keeps, by its number; `None` once the segment is not in the log any more.
    pub(crate) fn kept_of(&self, segment: &Arc<Segment>) -> Option<HashMap<u32, u64>> {
        let state = self.state.read();
        let is_there = state.segments.iter().any(|known| Arc::ptr_eq(known, segment));
        is_there.then(|| state.lanes.iter().map(|lane| (lane.number, lane.first_sequence)).collect())
    }

    /// Reads go to `new` from now on, which holds what is kept of `old`.
    pub(crate) fn replace(&self, old: &Arc<Segment>, new: Arc<Segment>) {
        let mut state = self.state.write();
        if let Some(place) = state.segments.iter_mut().find(|known| Arc::ptr_eq(known, old)) {
            *place = new;
        }
        drop(state);
        self.indexed.lock().retain(|known| !Arc::ptr_eq(known, old));
    }
}

impl Place {
    fn part(self, index: &Index, partition: &Partition, count: usize) -> Result<Part, StoreError> {
        let lane = index.lanes.get(&self.lane);
        let found = lane.and_then(|lane| lane.from(self.sequence, count));
        if let Some((first_sequence, positions)) = found.filter(|(first, _)| *first == self.sequence) {
            let positions = positions.to_vec();
            return Ok(Part { segment: self.segment, lane: self.lane, first_sequence, positions });
        }
        let next = found.map_or(self.end, |(first, _)| first);
        let before = lane.and_then(|lane| lane.before(self.sequence)).unwrap_or(self.segment.begin);
        let position = index.place_behind(before);
        Err(StoreError::Lost(Lost::boxed(
            partition,
            self.sequence,
            next,
            self.segment.name.clone(),
            position,
        )))
    }
}

impl State {
    fn find(&self, partition: &Partition, sequence: u64) -> Result<Option<Place>, StoreError> {
        let Some(lane) = self.lanes.get(partition) else { return Ok(None) };
        let sequence = sequence.max(lane.first_sequence);
        if sequence >= lane.next_sequence {
            return Ok(None);
        }
        // A lane that a segment does not know at its start begins within it.
        let start =
            |segment: &Segment| segment.start.get(&lane.number).map_or(0, |start| start.next_sequence);
        let at = self.segments.iter().rposition(|segment| start(segment) <= sequence);
        let following = at.map_or(0, |at| at + 1);
        let end = self.segments.get(following).map_or(lane.next_sequence, |next| start(next));
        let Some(at) = at else {
            let why = format!("{} follows a segment that is gone", self.segments[0].name);
            return Err(StoreError::Lost(Lost::boxed(partition, sequence, end, why, 0)));
        };
        Ok(Some(Place { segment: Arc::clone(&self.segments[at]), lane: lane.number, sequence, end }))
    }

    /// How many records that are still kept the damage of a segment took at most.
    fn lost_in(&self, segment: &Segment, index: &Index) -> u64 {
        let Some(following) = self.segments.iter().find(|next| next.base > segment.base) else { return 0 };
        let lost = self.lanes.iter().filter_map(|lane| {
            let end = following.start.get(&lane.number)?.next_sequence;
            let start = segment.start.get(&lane.number).map_or(0, |start| start.next_sequence);
            let gaps = index.gaps(lane.number, start.max(lane.first_sequence), end);
            Some(gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>())
        });
        lost.sum()
    }

    /// How many events of `segment`, which `next` follows, are kept, and how many it had.
    fn events_in(&self, segment: &Segment, next: &Segment) -> (u64, u64) {
        let start = |number: u32| segment.start.get(&number).map_or(0, |start| start.next_sequence);
        let had = next.start.iter().map(|(number, end)| end.next_sequence.saturating_sub(start(*number)));
        let kept = self.lanes.iter().filter_map(|lane| {
            let end = next.start.get(&lane.number)?.next_sequence;
            Some(end.saturating_sub(start(lane.number).max(lane.first_sequence)))
        });
        (kept.sum(), had.sum())
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
