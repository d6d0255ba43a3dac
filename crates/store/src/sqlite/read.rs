//! Reads over one connection. Every function sees one committed state; none may write.

use std::collections::BTreeSet;

use base::InstanceId;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::Value};

use super::sql;
use crate::batch::{Counted, Counter, OutboxRow};
use crate::engine::{Range, Raw};
use crate::error::StoreError;
use crate::key::Key;
use crate::table::{self, Table};

fn raw(row: &Row) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?))
}

pub(crate) fn get(connection: &Connection, table: &Table, key: &Key) -> Result<Option<Raw>, StoreError> {
    let mut statement = connection.prepare_cached(&sql::of(table).get)?;
    Ok(statement.query_row(params_from_iter(key.parts()), raw).optional()?)
}

pub(crate) fn scan(connection: &Connection, range: &Range) -> Result<Vec<Raw>, StoreError> {
    let prefix = range.prefix.parts();
    let after = range.after_parts();
    let text = sql::scan(range, after.len());
    let mut values: Vec<Value> = prefix.iter().cloned().map(Value::from).collect();
    values.extend(range.column.iter().map(|(_, value)| Value::from(value.clone())));
    values.extend(after.iter().cloned().map(Value::from));
    values.push(i64::try_from(range.limit).unwrap_or(i64::MAX).into());
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement.query_map(params_from_iter(values), raw)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn count(connection: &Connection, table: &Table, prefix: &Key) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(&sql::count(table, prefix.parts().len()))?;
    Ok(statement.query_row(params_from_iter(prefix.parts()), |row| row.get(0))?)
}

pub(crate) fn bytes(connection: &Connection, table: &Table, prefix: &Key) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(&sql::bytes(table, prefix.parts().len()))?;
    Ok(statement.query_row(params_from_iter(prefix.parts()), |row| row.get(0))?)
}

/// Rows that are `done` count no more, though they are still there.
pub(crate) fn outbox_bytes(
    connection: &Connection,
    done: &BTreeSet<u64>,
) -> Result<Vec<(InstanceId, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT instance, SUM(LENGTH(payload)) FROM outbox
         WHERE id NOT IN (SELECT value FROM json_each(?1)) GROUP BY instance",
    )?;
    let done: serde_json::Value = done.iter().copied().collect();
    let row = |row: &Row| Ok((InstanceId::from_stored(row.get::<_, String>(0)?), row.get(1)?));
    Ok(statement.query_map([done.to_string()], row)?.collect::<Result<_, _>>()?)
}

pub(crate) fn counter(connection: &Connection, counter: &Counter) -> Result<i64, StoreError> {
    if let Some(counted) = &counter.counted {
        return count_of(connection, &counter.instance, counted, i64::MAX);
    }
    let mut statement =
        connection.prepare_cached("SELECT value FROM counter WHERE instance = ?1 AND name = ?2")?;
    let value = statement.query_row([&counter.instance, &counter.name], |row| row.get(0)).optional()?;
    Ok(value.unwrap_or(0))
}

/// How many of these records there are; at most `limit`.
pub(crate) fn count_of(
    connection: &Connection,
    instance: &str,
    counted: &Counted,
    limit: i64,
) -> Result<i64, StoreError> {
    let table = table::named(counted.table);
    let column = counted.column.as_ref().map(|(column, _)| *column);
    if column.is_some_and(|column| !table.keys.contains(&column) && !table.columns.contains(&column)) {
        return Err(StoreError::Refused(format!(
            "a column of {} that is not declared is counted",
            table.name
        )));
    }
    let mut statement = connection.prepare_cached(&sql::count_of(table, column))?;
    let count = match &counted.column {
        Some((_, value)) => statement.query_row((instance, value, limit), |row| row.get(0)),
        None => statement.query_row((instance, limit), |row| row.get(0)),
    };
    Ok(count?)
}

pub(crate) fn outbox(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<OutboxRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, instance, partition_key, payload FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let entry = |row: &Row| {
        let instance = InstanceId::from_stored(row.get::<_, String>(1)?);
        Ok(OutboxRow { id: row.get(0)?, instance, partition_key: row.get(2)?, payload: row.get(3)? })
    };
    let rows = statement.query_map((after, i64::try_from(limit).unwrap_or(i64::MAX)), entry)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The greatest outbox id ever given, 0 at first.
pub(crate) fn outbox_last(connection: &Connection) -> Result<u64, StoreError> {
    let last = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'", [], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}
