//! Judges batches without an engine: what they would find, what they would leave, and which of them are refused. Pure: an engine loads
//! (and holds) what [`Needs`] names into a [`State`], judges batches in their order of arrival, each over what those before it left,
//! and writes the final values alone. A refused batch leaves nothing behind.

use std::collections::{BTreeMap, HashMap};

use crate::batch::{Batch, Check, Counter, OutboxEntry, Row, Write};
use crate::error::CommitError;
use crate::key::Key;
use crate::table::Table;

#[cfg(test)]
mod tests;

/// How strongly a record must be held from its loading to the end of the commit, so that what is judged stays true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strength {
    /// It must not go.
    Exists,
    /// It must not change.
    Unchanged,
    /// It will be written.
    Write,
    /// It may be deleted.
    Delete,
}

/// What must be loaded for some batches.
#[derive(Default)]
pub(crate) struct Needs<'b> {
    /// By table, in key order.
    pub(crate) records: BTreeMap<&'static str, BTreeMap<&'b Key, Strength>>,
    /// With whether one may be written.
    pub(crate) counters: BTreeMap<&'b Counter, bool>,
}

impl<'b> Needs<'b> {
    pub(crate) fn of(batches: impl IntoIterator<Item = &'b Batch>) -> Self {
        let mut needs = Self::default();
        for batch in batches {
            batch.checks.iter().for_each(|check| needs.check(check));
            batch.writes.iter().for_each(|write| needs.write(write));
        }
        needs
    }

    fn check(&mut self, check: &'b Check) {
        match check {
            Check::Revision { table, key, .. } => self.record(table, key, Strength::Unchanged),
            Check::Exists { table, key } | Check::Absent { table, key } => {
                self.record(table, key, Strength::Exists);
            }
            Check::Zero(counter) => self.counter(counter, false),
        }
    }

    fn write(&mut self, write: &'b Write) {
        match write {
            Write::Insert(row) | Write::Replace(row, _) | Write::Rewrite(row, _) | Write::Put(row) => {
                self.record(&row.table, &row.key, Strength::Write);
            }
            Write::Delete { table, key, .. } | Write::Remove { table, key } => {
                self.record(table, key, Strength::Delete);
            }
            Write::Add { counter, .. } => self.counter(counter, true),
            Write::Outbox(_, Some(listeners)) => self.counter(listeners, false),
            Write::Outbox(_, None) | Write::OutboxDone(_) | Write::OutboxAbove(_) => {}
        }
    }

    fn record(&mut self, table: &Table, key: &'b Key, strength: Strength) {
        let held = self.records.entry(table.name).or_default().entry(key).or_insert(strength);
        *held = strength.max(*held);
    }

    fn counter(&mut self, counter: &'b Counter, is_written: bool) {
        *self.counters.entry(counter).or_default() |= is_written;
    }
}

type Place<'b> = (&'static str, &'b Key);

#[derive(Clone, Copy, Default)]
struct Slot<'b> {
    found: Option<u64>,
    now: Option<u64>,
    /// What was written last, if anything.
    row: Option<&'b Row>,
    /// Whether a batch relies on nothing having been here, whoever else may write.
    is_held: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Number {
    /// None where no number is kept yet.
    found: Option<i64>,
    now: i64,
    is_judged: bool,
    is_added_to: bool,
}

/// What becomes of a record when all that was judged is written.
#[derive(Clone, Copy)]
pub(crate) enum Change<'b> {
    /// There was none.
    Insert(&'b Row, u64),
    Update(&'b Row, u64),
    Delete,
    /// There was none and will be none, and no other may have made one meanwhile.
    Hold,
}

/// A counter that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judged<'b> {
    pub(crate) counter: &'b Counter,
    /// None where no number is kept yet.
    pub(crate) found: Option<i64>,
    pub(crate) now: i64,
    /// Whether a batch added to it, though it may be what it was.
    pub(crate) is_added_to: bool,
}

/// Records and counters as the batches so far leave them.
#[derive(Default)]
pub(crate) struct State<'b> {
    records: HashMap<Place<'b>, Slot<'b>>,
    counters: HashMap<&'b Counter, Number>,
    outbox: Vec<&'b OutboxEntry>,
    outbox_done: Vec<u64>,
    outbox_above: u64,
}

/// What one batch changes, until it is accepted.
struct Attempt<'s, 'b> {
    state: &'s mut State<'b>,
    revision: u64,
    records: Vec<(Place<'b>, Slot<'b>)>,
    counters: Vec<(&'b Counter, Number)>,
    /// What it adds to counters that count records, which are judged when its writes are done.
    counted: Vec<(&'b Counter, i64, i64)>,
    outbox: usize,
    outbox_done: usize,
    outbox_above: u64,
}

impl<'b> State<'b> {
    /// With none of what is needed there.
    pub(crate) fn empty(needs: &Needs<'b>) -> Self {
        let places = needs.records.iter().flat_map(|(table, keys)| keys.keys().map(|key| (*table, *key)));
        Self {
            records: places.map(|place| (place, Slot::default())).collect(),
            counters: needs.counters.keys().map(|counter| (*counter, Number::default())).collect(),
            ..Self::default()
        }
    }

    /// A record that is there.
    pub(crate) fn found(&mut self, table: &'static str, key: &'b Key, revision: u64) {
        let slot = Slot { found: Some(revision), now: Some(revision), ..Slot::default() };
        self.records.insert((table, key), slot);
    }

    /// A counter whose number is known.
    pub(crate) fn counted(&mut self, counter: &'b Counter, value: i64) {
        self.counters.insert(counter, Number { found: Some(value), now: value, ..Number::default() });
    }

    /// Judges a batch, whose records get this revision. Refused, it has changed nothing.
    pub(crate) fn judge(&mut self, batch: &'b Batch, revision: u64) -> Result<(), CommitError> {
        let mut attempt = Attempt {
            outbox: self.outbox.len(),
            outbox_done: self.outbox_done.len(),
            outbox_above: self.outbox_above,
            state: self,
            revision,
            records: Vec::new(),
            counters: Vec::new(),
            counted: Vec::new(),
        };
        let judged = attempt.run(batch);
        if judged.is_err() {
            attempt.undo();
        }
        judged
    }

    /// What is to be written, by table and in key order.
    pub(crate) fn changes(&self) -> BTreeMap<&'static str, BTreeMap<&'b Key, Change<'b>>> {
        let mut changes: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for ((table, key), slot) in &self.records {
            let change = match (slot.found, slot.now, slot.row) {
                (None, Some(revision), Some(row)) => Change::Insert(row, revision),
                (Some(_), Some(revision), Some(row)) => Change::Update(row, revision),
                (Some(_), None, _) => Change::Delete,
                (None, None, _) if slot.is_held => Change::Hold,
                _ => continue,
            };
            changes.entry(*table).or_default().insert(*key, change);
        }
        changes
    }

    /// Every counter that an accepted batch looked at or added to.
    pub(crate) fn counters(&self) -> BTreeMap<&'b Counter, Judged<'b>> {
        let judged = self.counters.iter().filter(|(_, number)| number.is_judged);
        let judged = judged.map(|(counter, number)| {
            let Number { found, now, is_added_to, .. } = *number;
            (*counter, Judged { counter, found, now, is_added_to })
        });
        judged.collect()
    }

    /// New rows of the outbox, in commit order.
    pub(crate) fn outbox(&self) -> &[&'b OutboxEntry] {
        &self.outbox
    }

    /// Rows of the outbox that go.
    pub(crate) fn outbox_done(&self) -> &[u64] {
        &self.outbox_done
    }

    /// What new ids of the outbox must be greater than; 0 for anything.
    #[allow(dead_code, reason = "for an engine that has a log beside it")]
    pub(crate) fn outbox_above(&self) -> u64 {
        self.outbox_above
    }
}

impl<'b> Attempt<'_, 'b> {
    fn run(&mut self, batch: &'b Batch) -> Result<(), CommitError> {
        for check in &batch.checks {
            require(self.holds(check))?;
        }
        for write in &batch.writes {
            self.write(write)?;
        }
        for (counter, delta, max) in std::mem::take(&mut self.counted) {
            self.add(counter, delta, max)?;
        }
        Ok(())
    }

    fn undo(self) {
        let Self { state, records, counters, .. } = self;
        // The oldest values last: a place may have changed more than once.
        state.records.extend(records.into_iter().rev());
        state.counters.extend(counters.into_iter().rev());
        state.outbox.truncate(self.outbox);
        state.outbox_done.truncate(self.outbox_done);
        state.outbox_above = self.outbox_above;
    }

    fn holds(&mut self, check: &'b Check) -> bool {
        match check {
            Check::Revision { table, key, revision } => {
                self.slot(table, key, |_| ()).now == Some(revision.get())
            }
            Check::Exists { table, key } => self.slot(table, key, |_| ()).now.is_some(),
            Check::Absent { table, key } => self.slot(table, key, |slot| slot.is_held = true).now.is_none(),
            Check::Zero(counter) => self.number(counter, |_| ()).now == 0,
        }
    }

    fn write(&mut self, write: &'b Write) -> Result<(), CommitError> {
        match write {
            Write::Insert(row) => {
                let before = self.put(row);
                require(before.is_none())
            }
            Write::Replace(row, old) | Write::Rewrite(row, old) => {
                let before = self.put(row);
                require(before == Some(old.get()))
            }
            Write::Put(row) => {
                self.put(row);
                Ok(())
            }
            Write::Delete { table, key, revision } => {
                let before = self.slot(table, key, |slot| slot.now = None);
                require(before.now == Some(revision.get()))
            }
            Write::Remove { table, key } => {
                self.slot(table, key, |slot| slot.now = None);
                Ok(())
            }
            Write::Add { counter, delta, max } if counter.counted.is_some() => {
                self.add_when_done(counter, *delta, *max);
                Ok(())
            }
            Write::Add { counter, delta, max } => self.add(counter, *delta, *max),
            Write::Outbox(entry, listeners) => {
                if listeners.as_ref().is_none_or(|listeners| self.has_listeners(listeners)) {
                    self.state.outbox.push(entry);
                }
                Ok(())
            }
            Write::OutboxDone(id) => {
                self.state.outbox_done.push(*id);
                Ok(())
            }
            Write::OutboxAbove(id) => {
                self.state.outbox_above = self.state.outbox_above.max(*id);
                Ok(())
            }
        }
    }

    /// Gives the revision before.
    fn put(&mut self, row: &'b Row) -> Option<u64> {
        let revision = self.revision;
        let before = self.slot(&row.table, &row.key, |slot| {
            // An insertion that a later batch of the group deletes again was there all the same.
            slot.is_held |= slot.now.is_none();
            (slot.now, slot.row) = (Some(revision), Some(row));
        });
        before.now
    }

    fn has_listeners(&mut self, listeners: &'b Counter) -> bool {
        let own = self.counted.iter().find(|(counter, ..)| *counter == listeners);
        let own = own.map_or(0, |(_, delta, _)| *delta);
        self.number(listeners, |_| ()).now.saturating_add(own) != 0
    }

    fn add_when_done(&mut self, counter: &'b Counter, delta: i64, max: i64) {
        match self.counted.iter_mut().find(|(other, ..)| *other == counter) {
            Some((_, sum, least)) => {
                *sum = sum.saturating_add(delta);
                *least = max.min(*least);
            }
            None => self.counted.push((counter, delta, max)),
        }
    }

    fn add(&mut self, counter: &'b Counter, delta: i64, max: i64) -> Result<(), CommitError> {
        let sum = self.number(counter, |_| ()).now.saturating_add(delta);
        if delta > 0 && sum > max {
            return Err(CommitError::CounterLimit { counter: counter.name.clone(), max });
        }
        if sum < 0 {
            // Refusing would keep its record from ever being deleted, so the count is mended and the defect told.
            let (instance, name) = (&counter.instance, &counter.name);
            tracing::error!(instance, counter = name, sum, "a counter fell below zero");
        }
        self.number(counter, |number| (number.now, number.is_added_to) = (sum.max(0), true));
        Ok(())
    }

    /// Changes a slot and gives what it was.
    fn slot(&mut self, table: &Table, key: &'b Key, change: impl FnOnce(&mut Slot<'b>)) -> Slot<'b> {
        let place = (table.name, key);
        let slot = self.state.records.get_mut(&place).expect("what a batch needs was loaded");
        let before = *slot;
        change(slot);
        self.records.push((place, before));
        before
    }

    /// Changes a number and gives what it was.
    fn number(&mut self, counter: &'b Counter, change: impl FnOnce(&mut Number)) -> Number {
        let number = self.state.counters.get_mut(counter).expect("what a batch needs was loaded");
        let before = *number;
        number.is_judged = true;
        change(number);
        self.counters.push((counter, before));
        before
    }
}

fn require(holds: bool) -> Result<(), CommitError> {
    if holds { Ok(()) } else { Err(CommitError::Conflict) }
}
