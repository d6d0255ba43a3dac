//! Applies one batch inside the writer's transaction. Judges checks and counters; never begins or ends a transaction.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, params_from_iter};

use super::counts::{Changes, Counts};
use super::{read, sql};
use crate::batch::{Batch, Check, Counter, OutboxEntry, Row, Write};
use crate::error::{CommitError, StoreError};
use crate::key::Key;
use crate::table::Table;

/// What a batch left behind.
#[derive(Default)]
pub(super) struct Applied {
    /// The id of the last outbox row it wrote.
    pub(super) outbox_id: Option<u64>,
    /// How many records there are of those that it made or deleted.
    pub(super) counts: Vec<(Counter, i64)>,
}

pub(super) fn apply(
    connection: &Connection,
    batch: &Batch,
    revision: u64,
    counts: &Counts,
) -> Result<Applied, CommitError> {
    for check in &batch.checks {
        require(holds(connection, check, counts)?)?;
    }
    let (mut applied, mut changes) = (Applied::default(), Changes::default());
    for write in &batch.writes {
        match write {
            Write::Add { counter: counter @ Counter { counted: Some(counted), .. }, delta, max } => {
                changes.add(counter, counted, *delta, *max);
            }
            write => one(connection, write, revision, &mut applied)?,
        }
    }
    applied.counts = counts.judge(connection, &changes)?;
    Ok(applied)
}

fn require(holds: bool) -> Result<(), CommitError> {
    if holds { Ok(()) } else { Err(CommitError::Conflict) }
}

fn holds(connection: &Connection, check: &Check, counts: &Counts) -> Result<bool, StoreError> {
    Ok(match check {
        Check::Revision { table, key, revision } => {
            revision_of(connection, table, key)? == Some(revision.get())
        }
        Check::Exists { table, key } => revision_of(connection, table, key)?.is_some(),
        Check::Absent { table, key } => revision_of(connection, table, key)?.is_none(),
        Check::Zero(counter) => match &counter.counted {
            Some(counted) => counts.is_zero(connection, counter, counted)?,
            None => read::counter(connection, counter)? == 0,
        },
    })
}

fn revision_of(connection: &Connection, table: &Table, key: &Key) -> Result<Option<u64>, StoreError> {
    let mut statement = connection.prepare_cached(&sql::of(table).revision)?;
    Ok(statement.query_row(params_from_iter(key.parts()), |row| row.get(0)).optional()?)
}

fn one(
    connection: &Connection,
    write: &Write,
    revision: u64,
    applied: &mut Applied,
) -> Result<(), CommitError> {
    match write {
        Write::Insert(row) => require(store(connection, &sql::of(&row.table).insert, row, revision, None)?),
        Write::Replace(row, old) => {
            require(store(connection, &sql::of(&row.table).replace, row, revision, Some(old.get()))?)
        }
        Write::Rewrite(row, old) => require(rewrite(connection, row, revision, old.get())?),
        Write::Put(row) => store(connection, &sql::of(&row.table).put, row, revision, None).map(drop),
        Write::Delete { table, key, revision } => {
            require(erase(connection, &sql::of(table).delete, key, Some(revision.get()))?)
        }
        Write::Remove { table, key } => erase(connection, &sql::of(table).remove, key, None).map(drop),
        Write::Add { counter, delta, max } => add(connection, counter, *delta, *max),
        Write::Outbox(entry, listeners) => {
            if let Some(listeners) = listeners
                && read::counter(connection, listeners)? == 0
            {
                return Ok(());
            }
            applied.outbox_id = Some(enqueue(connection, entry)?);
            Ok(())
        }
        Write::OutboxDone(id) => Ok(outbox_done(connection, *id)?),
        Write::OutboxAbove(id) => raise_outbox(connection, *id).map_err(sql_error),
    }
}

fn sql_error(error: rusqlite::Error) -> CommitError {
    CommitError::Store(error.into())
}

/// A parameter that borrows its text, so that documents are not copied once more.
enum Parameter<'a> {
    Text(&'a str),
    Null,
    Number(u64),
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Null => ValueRef::Null,
            Self::Number(number) => {
                let number = i64::try_from(*number);
                ValueRef::Integer(
                    number.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
                )
            }
        }))
    }
}

/// Whether a row was written.
fn store(
    connection: &Connection,
    text: &str,
    row: &Row,
    revision: u64,
    old: Option<u64>,
) -> Result<bool, CommitError> {
    let keys = row.key.parts().iter().map(|part| Parameter::Text(part));
    let columns = row.columns.iter().map(|column| column.as_deref().map_or(Parameter::Null, Parameter::Text));
    let rest = [Parameter::Text(&row.doc), Parameter::Number(revision)];
    let parameters = keys.chain(columns).chain(rest).chain(old.map(Parameter::Number));
    let mut statement = connection.prepare_cached(text).map_err(sql_error)?;
    let changed = statement.execute(params_from_iter(parameters)).map_err(sql_error)?;
    Ok(changed > 0)
}

/// Whether a row was written.
fn rewrite(connection: &Connection, row: &Row, revision: u64, old: u64) -> Result<bool, CommitError> {
    let keys = row.key.parts().iter().map(|part| Parameter::Text(part));
    let rest = [Parameter::Text(&row.doc), Parameter::Number(revision), Parameter::Number(old)];
    let mut statement = connection.prepare_cached(&sql::of(&row.table).rewrite).map_err(sql_error)?;
    let changed = statement.execute(params_from_iter(keys.chain(rest))).map_err(sql_error)?;
    Ok(changed > 0)
}

/// Whether a row was deleted.
fn erase(connection: &Connection, text: &str, key: &Key, revision: Option<u64>) -> Result<bool, CommitError> {
    let keys = key.parts().iter().map(|part| Parameter::Text(part));
    let mut statement = connection.prepare_cached(text).map_err(sql_error)?;
    let changed = statement
        .execute(params_from_iter(keys.chain(revision.map(Parameter::Number))))
        .map_err(sql_error)?;
    Ok(changed > 0)
}

fn add(connection: &Connection, counter: &Counter, delta: i64, max: i64) -> Result<(), CommitError> {
    let value = read::counter(connection, counter)?;
    let sum = value.saturating_add(delta);
    if delta > 0 && sum > max {
        return Err(CommitError::CounterLimit { counter: counter.name.clone(), max });
    }
    if sum < 0 {
        // Refusing would keep its record from ever being deleted, so the count is mended and the defect told.
        tracing::error!(
            instance = counter.instance,
            counter = counter.name,
            sum,
            "a counter fell below zero"
        );
    }
    if sum <= 0 {
        let text = "DELETE FROM counter WHERE instance = ?1 AND name = ?2";
        let mut statement = connection.prepare_cached(text).map_err(sql_error)?;
        return statement.execute([&counter.instance, &counter.name]).map(drop).map_err(sql_error);
    }
    let text = "INSERT INTO counter VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = excluded.value";
    let mut statement = connection.prepare_cached(text).map_err(sql_error)?;
    statement.execute((&counter.instance, &counter.name, sum)).map(drop).map_err(sql_error)
}

fn enqueue(connection: &Connection, entry: &OutboxEntry) -> Result<u64, CommitError> {
    let text = "INSERT INTO outbox (instance, partition_key, payload) VALUES (?1, ?2, ?3)";
    let mut statement = connection.prepare_cached(text).map_err(sql_error)?;
    let id = statement
        .insert((entry.instance.as_str(), &entry.partition_key, &entry.payload))
        .map_err(sql_error)?;
    u64::try_from(id).map_err(|_| CommitError::Store(StoreError::Corrupt("an outbox id is negative".into())))
}

pub(crate) fn outbox_done(connection: &Connection, id: u64) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// The engine's own table of the greatest id ever given has no row before the first one.
fn raise_outbox(connection: &Connection, above: u64) -> rusqlite::Result<()> {
    let raise = "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'outbox'";
    if connection.execute(raise, [above])? == 0 {
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?1)", [above])?;
    }
    Ok(())
}

/// Deletes up to `limit` rows of an instance from one table; gives how many.
pub(crate) fn purge(
    connection: &Connection,
    Purge(text): &Purge,
    instance: &str,
    limit: usize,
) -> Result<usize, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(connection.prepare_cached(text)?.execute((instance, limit))?)
}

/// Where [`purge`] deletes. Only this engine sees the text.
#[derive(Clone)]
pub(crate) struct Purge(String);

/// Each table that belongs to instances, the outbox last.
pub(crate) fn purges() -> Vec<Purge> {
    let mut texts: Vec<String> = crate::table::ALL.iter().map(|table| sql::of(table).purge.clone()).collect();
    texts.push(
        "DELETE FROM counter WHERE (instance, name) IN \
         (SELECT instance, name FROM counter WHERE instance = ?1 LIMIT ?2)"
            .to_owned(),
    );
    texts.push(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE instance = ?1 LIMIT ?2)".to_owned(),
    );
    texts.into_iter().map(Purge).collect()
}
