//! The two trips of a group, each sent at once. The first holds and loads, tables in the order of `table::ALL`, keys in their own
//! order, counters last: one order for everybody, so that no two wait for each other. The second writes and commits.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tokio_postgres::{Error, Row};

use super::super::document;
use super::super::failure::text;
use super::super::faults::Fault;
use super::super::lane;
use super::super::line::{Answer, Line, Parameter, Step};
use super::super::sql;
use crate::batch::{Counter, OutboxEntry};
use crate::judge::{Change, Judged, Needs, State, Strength};
use crate::key::Key;
use crate::table::{self, Table};

/// What the first trip found.
pub(super) struct Held {
    /// By table: places in key order, from 0, and revisions.
    records: BTreeMap<&'static str, Vec<(usize, u64)>>,
    /// By place among the counters.
    counters: BTreeMap<usize, i64>,
    /// That of the group's first batch. Taken after the locks, so that it rises with every change of a record.
    pub(super) revision: u64,
}

impl Held {
    /// Counters of records for which no number is kept yet.
    pub(super) fn uncounted<'b>(&self, needs: &Needs<'b>) -> Option<Vec<&'b Counter>> {
        let counters = needs.counters.keys().enumerate();
        let missing =
            counters.filter(|(at, counter)| counter.counted.is_some() && !self.counters.contains_key(at));
        let missing: Vec<_> = missing.map(|(_, counter)| *counter).collect();
        (!missing.is_empty()).then_some(missing)
    }

    pub(super) fn state<'b>(&self, needs: &Needs<'b>) -> State<'b> {
        let mut state = State::empty(needs);
        for (table, found) in &self.records {
            let keys: Vec<&'b Key> = needs.records[table].keys().copied().collect();
            for (at, revision) in found {
                state.found(table, keys[*at], *revision);
            }
        }
        for (at, counter) in needs.counters.keys().enumerate() {
            if let Some(value) = self.counters.get(&at) {
                state.counted(counter, *value);
            }
        }
        state
    }
}

/// What a step of the first trip asks for.
enum Asked {
    Records(&'static str),
    Counters,
    Revision,
    Nothing,
}

pub(super) async fn hold(
    line: &mut Line,
    node: i32,
    slot: i32,
    needs: &Needs<'_>,
    fault: Option<Fault>,
) -> Result<Held, Error> {
    let mark = vec![
        Parameter::Small(node),
        Parameter::Small(slot),
        Parameter::Number(line.group_no + 1),
        Parameter::Number(1),
    ];
    let mut steps = vec![
        (Asked::Nothing, Step::Plain("BEGIN")),
        (Asked::Nothing, Step::Prepared(Cow::Borrowed(&sql::MARK), mark)),
    ];
    let revision = || (Asked::Revision, Step::Prepared(Cow::Borrowed(sql::REVISION), Vec::new()));
    if fault == Some(Fault::RevisionFirst) {
        steps.push(revision());
    }
    let tables = table::ALL.iter().filter_map(|table| needs.records.get_key_value(table.name));
    steps.extend(tables.map(|(table, keys)| (Asked::Records(table), lock(table, keys, slot, fault))));
    if !needs.counters.is_empty() {
        steps.push((Asked::Counters, lock_counters(needs)));
    }
    if fault != Some(Fault::RevisionFirst) {
        steps.push(revision());
    }
    let (asked, steps): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let answers = line.send(&steps).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut held = Held { records: BTreeMap::new(), counters: BTreeMap::new(), revision: 0 };
    for (asked, rows) in asked.iter().zip(answers) {
        match asked {
            Asked::Records(table) => drop(held.records.insert(table, rows.iter().map(revision_at).collect())),
            Asked::Counters => held.counters = rows.iter().map(|row| (place(row), row.get(1))).collect(),
            Asked::Revision => held.revision = rows.first().map_or(0, |row| unsigned(row.get(0))),
            Asked::Nothing => {}
        }
    }
    Ok(held)
}

/// The strongest hold that any of the keys needs, so that one statement holds them all in order.
fn lock<'a>(
    table: &'static str,
    keys: &BTreeMap<&'a Key, Strength>,
    slot: i32,
    fault: Option<Fault>,
) -> Step<'a> {
    let strongest = keys.values().max().copied().unwrap_or(Strength::Exists);
    let statement = sql::of(table).lock(strongest);
    let parameters = key_columns(table, &keys.keys().copied().collect::<Vec<_>>());
    if fault == Some(Fault::LocksUnordered) {
        let statement = statement
            .replace(" ORDER BY ", if slot % 2 == 0 { " ORDER BY -u.n, " } else { " ORDER BY u.n, " });
        return Step::Prepared(Cow::Owned(statement), parameters);
    }
    Step::Prepared(Cow::Borrowed(statement), parameters)
}

fn lock_counters<'a>(needs: &Needs<'a>) -> Step<'a> {
    let are_written = needs.counters.values().any(|is_written| *is_written);
    let parameters = counter_columns(&needs.counters.keys().copied().collect::<Vec<_>>());
    Step::Prepared(Cow::Borrowed(sql::lock_counters(are_written)), parameters.into())
}

/// Places come from 1.
fn place(row: &Row) -> usize {
    usize::try_from(row.get::<_, i64>(0)).unwrap_or_default().saturating_sub(1)
}

fn revision_at(row: &Row) -> (usize, u64) {
    (place(row), unsigned(row.get(1)))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What became of the second trip.
pub(super) enum Fate {
    /// With the last new id of the outbox.
    Kept(Option<u64>),
    /// A statement before the `COMMIT` failed for certain, so that was a rollback.
    Refused(Error),
    Unknown(String),
}

/// None when nothing is to be written.
pub(super) fn writes<'s>(state: &'s State<'_>) -> Option<Vec<Step<'s>>> {
    let mut steps = Vec::new();
    let changes = state.changes();
    for table in table::ALL {
        if let Some(changes) = changes.get(table.name) {
            records(table, changes, &mut steps);
        }
    }
    counters(&state.counters(), &mut steps);
    outbox(state, &mut steps);
    (!steps.is_empty()).then_some(steps)
}

/// What is new goes first, in key order, with what must not come into being: it is made and taken away again, and whoever wants
/// to make the same waits for our end.
fn records<'s>(table: &Table, changes: &BTreeMap<&'s Key, Change<'s>>, steps: &mut Vec<Step<'s>>) {
    let (mut inserted, mut updated, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for (key, change) in changes {
        match change {
            Change::Insert(row, revision) => inserted.push(New { key, row: Some(*row), revision: *revision }),
            Change::Update(row, revision) => updated.push(New { key, row: Some(*row), revision: *revision }),
            Change::Delete => deleted.push(*key),
            Change::Hold => {
                inserted.push(New { key, row: None, revision: 0 });
                deleted.push(*key);
            }
        }
    }
    let statements = sql::of(table.name);
    if !inserted.is_empty() {
        steps.push(Step::Prepared(Cow::Borrowed(&statements.insert), rows(table, &inserted)));
    }
    if !updated.is_empty() {
        let mut parameters = rows(table, &updated);
        parameters.push(count(updated.len()));
        steps.push(Step::Prepared(Cow::Borrowed(&statements.update), parameters));
    }
    if !deleted.is_empty() {
        let number = deleted.len();
        let mut parameters = key_columns(table.name, &deleted);
        parameters.push(count(number));
        steps.push(Step::Prepared(Cow::Borrowed(&statements.delete), parameters));
    }
}

/// A row to write; without one of its own it only holds the place of its key.
struct New<'s> {
    key: &'s Key,
    row: Option<&'s crate::batch::Row>,
    revision: u64,
}

fn rows<'s>(table: &Table, new: &[New<'s>]) -> Vec<Parameter<'s>> {
    let mut parameters = key_columns(table.name, &new.iter().map(|new| new.key).collect::<Vec<_>>());
    for at in 0..table.columns.len() {
        let value = |new: &New<'s>| new.row.and_then(|row| row.columns.get(at)).and_then(Option::as_deref);
        parameters
            .push(Parameter::Nullable(new.iter().map(value).map(|text| text.map(document::text)).collect()));
    }
    let held = || Cow::Borrowed("null");
    let doc = |new: &New<'s>| new.row.map_or_else(held, |row| document::into_column(table, &row.doc));
    parameters.push(Parameter::Texts(new.iter().map(doc).collect()));
    parameters.push(Parameter::Numbers(new.iter().map(|new| signed(new.revision)).collect()));
    parameters
}

/// One parameter per key column.
fn key_columns<'a>(table: &str, keys: &[&'a Key]) -> Vec<Parameter<'a>> {
    let columns = 0..table::named(table).keys.len();
    columns
        .map(|at| Parameter::Texts(keys.iter().map(|key| document::text(&key.parts()[at])).collect()))
        .collect()
}

fn counter_columns<'a>(counters: &[&'a Counter]) -> [Parameter<'a>; 2] {
    let instances = counters.iter().map(|counter| document::text(&counter.instance)).collect();
    [
        Parameter::Texts(instances),
        Parameter::Texts(counters.iter().map(|counter| sql::counter_name(counter)).collect()),
    ]
}

fn count(number: usize) -> Parameter<'static> {
    Parameter::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A counter that was looked at gets its row, so that there is one to hold from then on.
fn counters<'s>(judged: &BTreeMap<&'s Counter, Judged<'s>>, steps: &mut Vec<Step<'s>>) {
    let new: Vec<&Judged> = judged.values().filter(|judged| judged.found.is_none()).collect();
    let is_changed = |judged: &&Judged| judged.found.is_some() && judged.is_added_to;
    let changed: Vec<&Judged> = judged.values().filter(is_changed).collect();
    let columns = |judged: &[&Judged<'s>]| {
        let [instances, names] =
            counter_columns(&judged.iter().map(|judged| judged.counter).collect::<Vec<_>>());
        vec![instances, names, Parameter::Numbers(judged.iter().map(|judged| judged.now).collect())]
    };
    if !new.is_empty() {
        steps.push(Step::Prepared(Cow::Borrowed(sql::INSERT_COUNTERS), columns(&new)));
    }
    if !changed.is_empty() {
        let mut parameters = columns(&changed);
        parameters.push(count(changed.len()));
        steps.push(Step::Prepared(Cow::Borrowed(&sql::UPDATE_COUNTERS), parameters));
    }
}

fn outbox<'s>(state: &'s State<'_>, steps: &mut Vec<Step<'s>>) {
    let entries = state.outbox();
    if !entries.is_empty() {
        let texts = |of: fn(&OutboxEntry) -> &str| {
            Parameter::Texts(entries.iter().map(|entry| document::text(of(entry))).collect())
        };
        let lanes = entries.iter().map(|entry| lane::of(entry.instance.as_str(), &entry.partition_key));
        let parameters = vec![
            Parameter::Lanes(lanes.collect()),
            texts(|entry| entry.instance.as_str()),
            texts(|entry| &entry.partition_key),
            Parameter::Bytes(entries.iter().map(|entry| entry.payload.as_slice()).collect()),
        ];
        steps.push(Step::Prepared(Cow::Borrowed(sql::INSERT_OUTBOX), parameters));
    }
    if !state.outbox_done().is_empty() {
        let ids = state.outbox_done().iter().map(|id| signed(*id)).collect();
        let parameters = vec![Parameter::Lanes(lane::all()), Parameter::Numbers(ids)];
        steps.push(Step::Prepared(Cow::Borrowed(sql::DELETE_OUTBOX), parameters));
    }
}

/// Writes and commits. The driver does not tell the tag of a commit, but it is `ROLLBACK` only after a statement that failed, and
/// each is looked at.
pub(super) async fn keep(line: &mut Line, writes: &mut Vec<Step<'_>>, fault: Option<Fault>) -> Fate {
    let notices = line.notices();
    writes.push(Step::Plain("COMMIT"));
    let answers = match line.send(writes).await {
        Ok(answers) => answers,
        // A statement could not be prepared, so none was sent.
        Err(error) => return Fate::Refused(error),
    };
    let outbox =
        writes.iter().position(|step| matches!(step, Step::Prepared(text, _) if text == sql::INSERT_OUTBOX));
    let outbox = outbox.and_then(|at| last_id(&answers[at]));
    let last = answers.len() - 1;
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(error) if at < last && error.as_db_error().is_some() => return Fate::Refused(error),
            // No answer, or one to the commit itself: it may have been kept all the same.
            Err(error) => return Fate::Unknown(text(&error)),
            Ok(_) => {}
        }
    }
    if line.notices() != notices && fault != Some(Fault::WarningsTrusted) {
        return Fate::Unknown("the commit came with a warning".into());
    }
    Fate::Kept(outbox)
}

fn last_id(answer: &Answer) -> Option<u64> {
    answer.as_ref().ok()?.first()?.get::<_, Option<i64>>(0).map(unsigned)
}

/// Each by a commit of its own, before the group.
pub(super) async fn begin_to_count(line: &mut Line, missing: &[&Counter]) -> Result<(), Error> {
    for counter in missing {
        let Some(counted) = &counter.counted else { continue };
        let mut parameters = vec![
            Parameter::Text(document::text(&counter.instance)),
            Parameter::Text(sql::counter_name(counter)),
        ];
        parameters.extend(counted.column.iter().map(|(_, value)| Parameter::Text(document::text(value))));
        let text = Cow::Owned(sql::begin_to_count(counted));
        line.send(&[Step::Prepared(text, parameters)]).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    Ok(())
}
