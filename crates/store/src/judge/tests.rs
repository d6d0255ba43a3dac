//! The judge against a plain reference that copies everything before each batch.

use std::collections::BTreeMap;

use base::InstanceId;
use proptest::prelude::*;

use super::*;
use crate::record::Revision;
use crate::table::{RELATIONSHIP, THING};

const TABLES: [Table; 2] = [THING, RELATIONSHIP];

fn key(number: usize) -> Key {
    Key::new(["i", &number.to_string(), ""])
}

fn row(table: usize, number: usize) -> Row {
    Row { table: TABLES[table], key: key(number), columns: vec![None, None], doc: "{}".into() }
}

fn instance() -> InstanceId {
    InstanceId::from_stored("i")
}

/// Two that are kept, and one that counts records.
fn counter(number: usize) -> Counter {
    let mut counter = Counter::new(&instance(), number.to_string());
    if number == 2 {
        counter.counted = Some(crate::batch::Counted { table: THING.name, column: None });
    }
    counter
}

fn entry(number: usize) -> OutboxEntry {
    OutboxEntry { instance: instance(), partition_key: "k".into(), payload: number.to_string().into_bytes() }
}

type Records = BTreeMap<(&'static str, Key), u64>;

/// What there is, and what was sent.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    records: Records,
    counters: BTreeMap<Counter, i64>,
    outbox: Vec<OutboxEntry>,
    done: Vec<u64>,
}

impl Model {
    fn revision(&self, table: &Table, key: &Key) -> Option<u64> {
        self.records.get(&(table.name, key.clone())).copied()
    }

    fn number(&self, counter: &Counter) -> i64 {
        self.counters.get(counter).copied().unwrap_or(0)
    }

    fn apply(&mut self, batch: &Batch, revision: u64) -> Result<(), CommitError> {
        let mut next = self.clone();
        for check in &batch.checks {
            require(match check {
                Check::Revision { table, key, revision } => self.revision(table, key) == Some(revision.get()),
                Check::Exists { table, key } => self.revision(table, key).is_some(),
                Check::Absent { table, key } => self.revision(table, key).is_none(),
                Check::Zero(counter) => self.number(counter) == 0,
            })?;
        }
        let mut late: BTreeMap<&Counter, (i64, i64)> = BTreeMap::new();
        for write in &batch.writes {
            match write {
                Write::Insert(row) => {
                    require(next.records.insert((row.table.name, row.key.clone()), revision).is_none())?;
                }
                Write::Replace(row, old) | Write::Rewrite(row, old) => {
                    let before = next.records.insert((row.table.name, row.key.clone()), revision);
                    require(before == Some(old.get()))?;
                }
                Write::Put(row) => drop(next.records.insert((row.table.name, row.key.clone()), revision)),
                Write::Delete { table, key, revision } => {
                    require(next.records.remove(&(table.name, key.clone())) == Some(revision.get()))?;
                }
                Write::Remove { table, key } => drop(next.records.remove(&(table.name, key.clone()))),
                Write::Add { counter, delta, max } if counter.counted.is_some() => {
                    let (sum, least) = late.entry(counter).or_insert((0, i64::MAX));
                    (*sum, *least) = (*sum + delta, (*least).min(*max));
                }
                Write::Add { counter, delta, max } => next.add(counter, *delta, *max)?,
                Write::Outbox(entry, listeners) => {
                    let heard = |counter: &Counter| {
                        next.number(counter) + late.get(counter).map_or(0, |(sum, _)| *sum) != 0
                    };
                    if listeners.as_ref().is_none_or(heard) {
                        next.outbox.push(entry.clone());
                    }
                }
                Write::OutboxDone(id) => next.done.push(*id),
                Write::OutboxAbove(_) => {}
            }
        }
        for (counter, (delta, max)) in late {
            next.add(counter, delta, max)?;
        }
        *self = next;
        Ok(())
    }

    fn add(&mut self, counter: &Counter, delta: i64, max: i64) -> Result<(), CommitError> {
        let sum = self.number(counter) + delta;
        if delta > 0 && sum > max {
            return Err(CommitError::CounterLimit { counter: counter.name.clone(), max });
        }
        self.counters.insert(counter.clone(), sum.max(0));
        Ok(())
    }

    /// Judges a group over what is here and writes what the judge says.
    fn judged(&mut self, batches: &[Batch], first_revision: u64) -> Vec<Result<(), CommitError>> {
        let needs = Needs::of(batches);
        let mut state = State::empty(&needs);
        for (table, keys) in &needs.records {
            for key in keys.keys() {
                if let Some(revision) = self.records.get(&(*table, (*key).clone())) {
                    state.found(table, key, *revision);
                }
            }
        }
        for counter in needs.counters.keys() {
            if let Some(value) = self.counters.get(*counter) {
                state.counted(counter, *value);
            }
        }
        let judge = |(batch, revision)| state.judge(batch, revision);
        let results = batches.iter().zip(first_revision..).map(judge).collect();
        for (table, changes) in state.changes() {
            for (key, change) in changes {
                let place = (table, key.clone());
                let found = self.records.contains_key(&place);
                match change {
                    Change::Insert(row, revision) => {
                        assert!(!found && row.key == *key && row.table.name == table);
                        self.records.insert(place, revision);
                    }
                    Change::Update(row, revision) => {
                        assert!(found && row.key == *key && needs.records[table][key] >= Strength::Write);
                        self.records.insert(place, revision);
                    }
                    Change::Delete => {
                        assert!(found && needs.records[table][key] == Strength::Delete);
                        self.records.remove(&place);
                    }
                    Change::Hold => assert!(!found),
                }
            }
        }
        for (counter, judged) in state.counters() {
            assert!(judged.counter == counter && judged.found == self.counters.get(counter).copied());
            assert!(needs.counters[counter] || !judged.is_added_to);
            if judged.is_added_to {
                self.counters.insert(counter.clone(), judged.now);
            } else {
                assert_eq!(judged.now, self.number(counter));
            }
        }
        self.outbox.extend(state.outbox().iter().map(|entry| (*entry).clone()));
        self.done.extend(state.outbox_done());
        results
    }
}

/// One check or write, by numbers: what, where, and which revision or amount.
type Step = (u8, usize, usize, u64);

fn batch(steps: &[Step]) -> Batch {
    let mut batch = Batch::default();
    for &(what, table, place, number) in steps {
        let (key, counter) = (key(place), counter(place % 3));
        let (revision, table_of) = (Revision::from_u64(number), TABLES[table]);
        let delta = i64::try_from(number).unwrap() - 4;
        match what {
            0 => batch.checks.push(Check::Revision { table: table_of, key, revision }),
            1 => batch.checks.push(Check::Exists { table: table_of, key }),
            2 => batch.checks.push(Check::Absent { table: table_of, key }),
            3 => batch.checks.push(Check::Zero(counter)),
            4 => batch.writes.push(Write::Insert(row(table, place))),
            5 => batch.writes.push(Write::Replace(row(table, place), revision)),
            6 => batch.writes.push(Write::Rewrite(row(table, place), revision)),
            7 => batch.writes.push(Write::Put(row(table, place))),
            8 => batch.writes.push(Write::Delete { table: table_of, key, revision }),
            9 => batch.writes.push(Write::Remove { table: table_of, key }),
            10 => batch.writes.push(Write::Add { counter, delta, max: 5 }),
            11 => batch.writes.push(Write::Outbox(entry(place), None)),
            12 => batch.writes.push(Write::Outbox(entry(place), Some(counter))),
            _ => batch.writes.push(Write::OutboxDone(number)),
        }
    }
    batch
}

fn groups() -> impl Strategy<Value = Vec<Vec<Vec<Step>>>> {
    let step = (0_u8..14, 0_usize..2, 0_usize..4, 0_u64..12);
    let batch = prop::collection::vec(step, 1..5);
    prop::collection::vec(prop::collection::vec(batch, 1..6), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn groups_are_judged_as_if_each_batch_had_come_alone(groups in groups()) {
        let (mut model, mut judged, mut revision) = (Model::default(), Model::default(), 1);
        for group in groups {
            let batches: Vec<Batch> = group.iter().map(|steps| batch(steps)).collect();
            let expected: Vec<_> =
                batches.iter().zip(revision..).map(|(batch, revision)| model.apply(batch, revision)).collect();
            prop_assert_eq!(judged.judged(&batches, revision), expected);
            // A counter of 0 is one that is not kept.
            model.counters.retain(|_, value| *value != 0);
            judged.counters.retain(|_, value| *value != 0);
            prop_assert_eq!(&judged, &model);
            revision += u64::try_from(batches.len()).unwrap();
        }
    }
}

#[test]
fn what_a_batch_relied_on_not_being_there_is_held() {
    let (absent, removed) = (key(1), key(2));
    let mut one = Batch::default();
    one.checks.push(Check::Absent { table: THING, key: absent.clone() });
    one.writes.push(Write::Remove { table: THING, key: removed });
    let mut other = Batch::default();
    other.writes.push(Write::Insert(row(0, 3)));
    let mut last = Batch::default();
    last.writes.push(Write::Remove { table: THING, key: key(3) });
    let batches = [one, other, last];
    let needs = Needs::of(&batches);
    let mut state = State::empty(&needs);
    batches.iter().zip(1..).for_each(|(batch, revision)| state.judge(batch, revision).unwrap());
    let changes = state.changes();
    let held: Vec<_> = changes[THING.name]
        .iter()
        .filter(|(_, change)| matches!(change, Change::Hold))
        .map(|(key, _)| (*key).clone())
        .collect();
    assert_eq!((held, changes[THING.name].len()), (vec![absent, key(3)], 2));
}

#[test]
fn a_refused_batch_asks_for_nothing_to_be_held() {
    let mut refused = Batch::default();
    refused.checks.push(Check::Absent { table: THING, key: key(1) });
    refused.checks.push(Check::Exists { table: THING, key: key(2) });
    refused.checks.push(Check::Zero(counter(0)));
    let batches = [refused];
    let needs = Needs::of(&batches);
    let mut state = State::empty(&needs);
    assert_eq!(state.judge(&batches[0], 1), Err(CommitError::Conflict));
    assert!(state.changes().is_empty() && state.counters().is_empty());
}
