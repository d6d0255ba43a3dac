//! Where the events of one segment lie, and which places of it are damaged. Made by reading the segment, never stored.

use std::collections::HashMap;
use std::ops::Range;

/// Where each lane's events lie within the segment: 4 bytes an event.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) lanes: HashMap<u32, LaneIndex>,
    /// In order. Empty for a segment that is whole.
    pub(crate) places: Vec<Place>,
}

/// A place where no record could be read.
pub(crate) struct Place {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) why: &'static str,
}

/// Events of one lane: one run, and one more behind each damaged place that took some of them.
#[derive(Default)]
pub(crate) struct LaneIndex {
    pub(crate) runs: Vec<Run>,
}

/// Events whose sequence numbers have no gap.
pub(crate) struct Run {
    pub(crate) first_sequence: u64,
    pub(crate) positions: Vec<u32>,
}

impl Index {
    pub(crate) fn add(&mut self, lane: u32, sequence: u64, position: u32) {
        self.lanes.entry(lane).or_default().add(sequence, position);
    }

    pub(crate) fn damaged(&mut self, from: u32, to: u32, why: &'static str) {
        self.places.push(Place { from, to, why });
    }

    /// Sequence numbers of a lane from `start` to `end` that no event here has.
    pub(crate) fn gaps(&self, lane: u32, start: u64, end: u64) -> Vec<Range<u64>> {
        let (mut gaps, mut next) = (Vec::new(), start);
        for run in self.lanes.get(&lane).iter().flat_map(|lane| &lane.runs) {
            gaps.push(next..run.first_sequence.min(end));
            next = next.max(run.end());
        }
        gaps.push(next..end);
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }

    /// The place that took the records behind `position`.
    pub(crate) fn place_behind(&self, position: u32) -> u32 {
        self.places.iter().map(|place| place.from).find(|from| *from >= position).unwrap_or(position)
    }
}

impl LaneIndex {
    fn add(&mut self, sequence: u64, position: u32) {
        if let Some(run) = self.runs.last_mut().filter(|run| run.end() == sequence) {
            run.positions.push(position);
        } else {
            self.runs.push(Run { first_sequence: sequence, positions: vec![position] });
        }
    }

    /// The first event at or behind `sequence`: its number, its position and those of the ones that follow without a gap, at
    /// most `count`.
    pub(crate) fn from(&self, sequence: u64, count: usize) -> Option<(u64, &[u32])> {
        let run = &self.runs[self.runs.partition_point(|run| run.end() <= sequence)..].first()?;
        let skipped = usize::try_from(sequence.saturating_sub(run.first_sequence)).unwrap_or(usize::MAX);
        let rest = run.positions.get(skipped..)?;
        Some((run.first_sequence.max(sequence), &rest[..rest.len().min(count)]))
    }

    /// The position of the last event before `sequence`.
    pub(crate) fn before(&self, sequence: u64) -> Option<u32> {
        let behind = self.runs.partition_point(|run| run.first_sequence < sequence);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        let count = usize::try_from(sequence - run.first_sequence).unwrap_or(usize::MAX);
        run.positions.get(count.min(run.positions.len()) - 1).copied()
    }
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        self.first_sequence + self.positions.len() as u64
    }
}
