//! Counters over records: the writer sees them all when it judges, so it counts them instead of keeping a number on the disk, and
//! remembers what it counted. Used by `writer` and `write` inside the writer's transaction.

use std::collections::HashMap;

use base::caps;
use rusqlite::Connection;

use super::read;
use crate::batch::{Counted, Counter};
use crate::error::{CommitError, StoreError};

/// How many records there are by the transaction's present state, as far as they were counted.
#[derive(Default)]
pub(super) struct Counts(HashMap<Counter, i64>);

/// What one batch adds to a counter, which may be more than one record.
pub(super) struct Change<'b> {
    counter: &'b Counter,
    counted: &'b Counted,
    delta: i64,
    max: i64,
}

/// The changes of one batch.
#[derive(Default)]
pub(super) struct Changes<'b>(Vec<Change<'b>>);

impl<'b> Changes<'b> {
    pub(super) fn add(&mut self, counter: &'b Counter, counted: &'b Counted, delta: i64, max: i64) {
        match self.0.iter_mut().find(|change| change.counter == counter) {
            Some(change) => {
                change.delta += delta;
                change.max = change.max.min(max);
            }
            None => self.0.push(Change { counter, counted, delta, max }),
        }
    }
}

impl Counts {
    /// Whether there is no such record.
    pub(super) fn is_zero(
        &self,
        connection: &Connection,
        counter: &Counter,
        counted: &Counted,
    ) -> Result<bool, StoreError> {
        match self.0.get(counter) {
            Some(count) => Ok(*count == 0),
            None => Ok(read::count_of(connection, &counter.instance, counted, 1)? == 0),
        }
    }

    /// Judges the changes of a batch whose writes are done, and gives what will be true if it stays.
    pub(super) fn judge(
        &self,
        connection: &Connection,
        changes: &Changes,
    ) -> Result<Vec<(Counter, i64)>, CommitError> {
        let mut judged = Vec::with_capacity(changes.0.len());
        for Change { counter, counted, delta, max } in &changes.0 {
            let count = match self.0.get(*counter) {
                Some(before) => before + delta,
                None => read::count_of(connection, &counter.instance, counted, i64::MAX)?,
            };
            if *delta > 0 && count > *max {
                return Err(CommitError::CounterLimit { counter: counter.name.clone(), max: *max });
            }
            judged.push(((*counter).clone(), count));
        }
        Ok(judged)
    }

    /// Remembers what is true now.
    pub(super) fn set(&mut self, judged: Vec<(Counter, i64)>) {
        if self.0.len() + judged.len() > caps::COUNTS_KEPT_MAX {
            self.0.clear();
        }
        self.0.extend(judged);
    }

    /// After a transaction that failed, or a change that is no batch's.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use base::InstanceId;

    use super::*;

    #[test]
    fn no_more_counts_are_remembered_than_the_cap_allows() {
        let instance = InstanceId::from_stored("i");
        let mut counts = Counts::default();
        for number in 0..=caps::COUNTS_KEPT_MAX {
            counts.set(vec![(Counter::new(&instance, number.to_string()), 1)]);
            assert!(counts.0.len() <= caps::COUNTS_KEPT_MAX);
        }
        assert!(counts.0.contains_key(&Counter::new(&instance, caps::COUNTS_KEPT_MAX.to_string())));
    }
}
