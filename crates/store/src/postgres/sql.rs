//! SQL over records and counters, made from the table constants. Every statement leads with the instance, which is the first key
//! column of each table. Sets go in as one array per column.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::document;
use super::tables::{columns_of, is_binary};
use crate::batch::{Counted, Counter};
use crate::engine::Range;
use crate::error::StoreError;
use crate::judge::Strength;
use crate::table::{self, Table};

/// The fixed statements of one table.
pub(super) struct Statements {
    locks: [String; 4],
    /// Fails, where a key is there: by itself.
    pub(super) insert: String,
    /// Fails unless it touched as many rows as its last parameter says, and so does `delete`.
    pub(super) update: String,
    pub(super) delete: String,
    pub(super) get: String,
    /// Deletes up to so many rows of an instance.
    pub(super) purge: String,
}

static STATEMENTS: LazyLock<HashMap<&'static str, Statements>> =
    LazyLock::new(|| table::ALL.iter().map(|table| (table.name, Statements::of(table))).collect());

pub(super) fn of(table: &str) -> &'static Statements {
    STATEMENTS.get(table).expect("every table is listed in table::ALL")
}

impl Statements {
    /// Gives the place of each row that is there among the keys (from 1) and its revision, and holds it. In key order, which is
    /// everybody's: so none waits for one who waits for it.
    pub(super) fn lock(&self, strength: Strength) -> &str {
        &self.locks[strength as usize]
    }

    fn of(table: &Table) -> Self {
        let (name, keys) = (table.name, table.keys);
        let same = keys.iter().map(|key| format!("t.{key} = u.{key}")).collect::<Vec<_>>().join(" AND ");
        let given = arrays(keys.len(), "text", 1);
        let lock = |how: &str| {
            format!(
                "SELECT u.n, t.revision FROM unnest({given}) WITH ORDINALITY AS u({}, n) JOIN {name} AS t ON {same} \
                 ORDER BY {} FOR {how} OF t",
                list(keys),
                prefixed(keys, "t")
            )
        };
        let columns = columns_of(table);
        let rows = row_arrays(table);
        let values: Vec<_> = columns.iter().map(|column| value(table, column)).collect();
        let insert = format!(
            "INSERT INTO {name} ({}) SELECT {} FROM unnest({rows}) AS u({}) ORDER BY {}",
            list(&columns),
            values.join(", "),
            list(&columns),
            prefixed(keys, "u")
        );
        let set = columns[keys.len()..].iter().map(|column| format!("{column} = {}", value(table, column)));
        let update = format!(
            "WITH touched AS (UPDATE {name} AS t SET {} FROM unnest({rows}) AS u({}) WHERE {same} RETURNING 1) {}",
            set.collect::<Vec<_>>().join(", "),
            list(&columns),
            as_many("touched", columns.len() + 1)
        );
        let delete = format!(
            "WITH touched AS (DELETE FROM {name} AS t USING unnest({given}) AS u({}) WHERE {same} RETURNING 1) {}",
            list(keys),
            as_many("touched", keys.len() + 1)
        );
        Self {
            locks: ["KEY SHARE", "SHARE", "NO KEY UPDATE", "UPDATE"].map(lock),
            insert,
            update,
            delete,
            get: format!("SELECT {}, revision FROM {name} WHERE {}", document(table), equal(keys, 1)),
            purge: purge(name, keys),
        }
    }
}

/// The mark of a group moves from the number before its own, or the group fails.
pub(super) static MARK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH touched AS (UPDATE commit_mark SET group_no = $3::bigint WHERE node = $1 AND slot = $2 AND group_no = $3::bigint - 1 \
         RETURNING 1) {}",
        as_many("touched", 4)
    )
});

pub(super) const REVISION: &str = "SELECT nextval('revision')";

pub(super) fn lock_counters(are_written: bool) -> &'static str {
    if are_written {
        "SELECT u.n, t.value FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(instance, name, n) \
         JOIN counter AS t ON t.instance = u.instance AND t.name = u.name \
         ORDER BY t.instance, t.name FOR NO KEY UPDATE OF t"
    } else {
        "SELECT u.n, t.value FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(instance, name, n) \
         JOIN counter AS t ON t.instance = u.instance AND t.name = u.name \
         ORDER BY t.instance, t.name FOR SHARE OF t"
    }
}

pub(super) const INSERT_COUNTERS: &str = "INSERT INTO counter (instance, name, value) \
    SELECT u.instance, u.name, u.value FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u(instance, name, value) \
    ORDER BY u.instance, u.name";

pub(super) static UPDATE_COUNTERS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH touched AS (UPDATE counter AS t SET value = u.value \
         FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u(instance, name, value) \
         WHERE t.instance = u.instance AND t.name = u.name RETURNING 1) {}",
        as_many("touched", 4)
    )
});

/// Under which a counter's number is kept. One that counts records is known by what it counts, and starts with a sign that no other
/// does.
pub(super) fn counter_name(counter: &Counter) -> Cow<'_, str> {
    match &counter.counted {
        None => document::text(&counter.name),
        Some(Counted { table, column: None }) => Cow::Owned(format!("#{table}")),
        Some(Counted { table, column: Some((column, value)) }) => {
            Cow::Owned(format!("#{table}.{column}={}", document::text(value)))
        }
    }
}

/// Whether a column may be counted by.
pub(super) fn check(counted: &Counted) -> Result<(), StoreError> {
    let table = table::named(counted.table);
    let is_of = |(column, _): &(&str, String)| table.keys.contains(column) || table.columns.contains(column);
    if counted.column.as_ref().is_none_or(is_of) {
        return Ok(());
    }
    Err(StoreError::Refused(format!("a column of {} that is not declared is counted", table.name)))
}

/// Begins to keep the number of records that a counter counts. Whoever makes or deletes one adds to it in the same commit, holding
/// this row, so no record can come between the counting and the row.
pub(super) fn begin_to_count(counted: &Counted) -> String {
    format!(
        "INSERT INTO counter (instance, name, value) SELECT $1, $2, ({}) ON CONFLICT DO NOTHING",
        count_of(counted, 1, 3)
    )
}

/// How many records a counter counts: parameters are the instance, at `instance`, and the value of the column if there is one.
pub(super) fn count_of(counted: &Counted, instance: usize, value: usize) -> String {
    let table = table::named(counted.table);
    let first = table.keys[0];
    let column = counted.column.as_ref().map(|(column, _)| format!(" AND {column} = ${value}"));
    format!("SELECT count(*) FROM {} WHERE {first} = ${instance}{}", table.name, column.unwrap_or_default())
}

pub(super) const COUNTER: &str = "SELECT value FROM counter WHERE instance = $1 AND name = $2";

/// New rows get their ids in the order given. Gives the last.
pub(super) const INSERT_OUTBOX: &str = "WITH written AS (INSERT INTO outbox (lane, instance, partition_key, payload) \
    SELECT u.lane, u.instance, u.partition_key, u.payload \
    FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bytea[]) WITH ORDINALITY \
    AS u(lane, instance, partition_key, payload, n) ORDER BY u.n RETURNING id) SELECT max(id) FROM written";

/// Whoever took a row out before did the same.
pub(super) const DELETE_OUTBOX: &str =
    "DELETE FROM outbox WHERE lane = ANY($1::smallint[]) AND id = ANY($2::bigint[])";

/// Each place where records of an instance are, the outbox last. Parameters: the instance, and how many rows at most.
pub(super) fn purges() -> Vec<String> {
    let records = table::ALL.iter().map(|table| of(table.name).purge.clone());
    let others = [purge("counter", &["instance", "name"]), purge("outbox", &["instance", "id"])];
    records.chain(others).collect()
}

/// Rows are held in key order before they go, so that commits and this never wait for each other in a circle.
fn purge(name: &str, keys: &[&str]) -> String {
    let same = keys.iter().map(|key| format!("t.{key} = u.{key}")).collect::<Vec<_>>().join(" AND ");
    let (keys_of, first) = (list(keys), keys[0]);
    format!(
        "WITH u AS MATERIALIZED (SELECT {keys_of} FROM {name} WHERE {first} = $1 ORDER BY {keys_of} LIMIT $2 FOR UPDATE) \
         DELETE FROM {name} AS t USING u WHERE t.{first} = $1 AND {same}"
    )
}

/// A range read. Parameters in order: the prefix parts, the found value if any, the parts of `after`, the limit.
pub(super) fn range(range: &Range) -> String {
    let (table, prefix) = (&range.table, range.prefix.parts().len());
    let mut conditions: Vec<String> = Vec::new();
    if prefix > 0 {
        conditions.push(equal(&table.keys[..prefix], 1));
    }
    let mut next = prefix + 1;
    if let Some((column, _)) = &range.column {
        conditions.push(format!("{column} = ${next}"));
        next += 1;
    }
    let (order, after) = (range.order(), range.after_parts().len());
    if after > 0 {
        let behind = order.get(..after).unwrap_or(&order);
        let marks: Vec<_> = (next..next + after).map(|at| format!("${at}")).collect();
        conditions.push(format!("({}) > ({})", list(behind), marks.join(", ")));
        next += after;
    }
    let (name, document, filter) = (table.name, document(table), filter(&conditions));
    format!("SELECT {document}, revision FROM {name}{filter} ORDER BY {} LIMIT ${next}", list(&order))
}

pub(super) fn count(table: &Table, prefix: usize) -> String {
    format!("SELECT count(*) FROM {}{}", table.name, under(table, prefix))
}

/// Bytes of the documents under a prefix.
pub(super) fn bytes(table: &Table, prefix: usize) -> String {
    let length = if is_binary(table) { "pg_column_size(doc)" } else { "octet_length(doc)" };
    format!("SELECT coalesce(sum({length}), 0)::bigint FROM {}{}", table.name, under(table, prefix))
}

fn under(table: &Table, prefix: usize) -> String {
    let conditions: Vec<String> =
        if prefix == 0 { Vec::new() } else { vec![equal(&table.keys[..prefix], 1)] };
    filter(&conditions)
}

fn filter(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// A document as text.
fn document(table: &Table) -> &'static str {
    if is_binary(table) { "doc::text" } else { "doc" }
}

/// A column of a given row, which lies in `u`.
fn value(table: &Table, column: &str) -> String {
    if column == "doc" && is_binary(table) { "u.doc::jsonb".to_owned() } else { format!("u.{column}") }
}

/// Ends a statement that fails unless a set has as many rows as the parameter says: so it ends the group with it.
fn as_many(set: &str, parameter: usize) -> String {
    format!("SELECT 1 / (CASE WHEN count(*) = ${parameter}::bigint THEN 1 ELSE 0 END) FROM {set}")
}

/// One array per column of a row.
fn row_arrays(table: &Table) -> String {
    let texts = table.keys.len() + table.columns.len() + 1;
    format!("{}, ${}::bigint[]", arrays(texts, "text", 1), texts + 1)
}

fn arrays(count: usize, of: &str, first: usize) -> String {
    (first..first + count).map(|at| format!("${at}::{of}[]")).collect::<Vec<_>>().join(", ")
}

fn list(names: &[&str]) -> String {
    names.join(", ")
}

fn prefixed(names: &[&str], with: &str) -> String {
    names.iter().map(|name| format!("{with}.{name}")).collect::<Vec<_>>().join(", ")
}

fn equal(names: &[&str], first: usize) -> String {
    let equals = names.iter().enumerate().map(|(at, name)| format!("{name} = ${}", first + at));
    equals.collect::<Vec<_>>().join(" AND ")
}
