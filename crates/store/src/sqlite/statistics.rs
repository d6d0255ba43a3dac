//! What the engine's planner believes of the tables: constants, so that a statement has the same plan on every server and at
//! every size. Written by `migrate`. `ANALYZE` must never run: measured rows changed good plans into ones a hundred times slower,
//! and an index without a row beside others that have one is never chosen rightly.

use rusqlite::Transaction;

use super::declared;
use super::sql;
use crate::declared::DeclaredPath;
use crate::error::StoreError;
use crate::table::{self, Table};

/// Rows of a table that no compiled query reaches. Its statements have one good plan each, which this only has to allow.
const ROWS: u64 = 100_000;

/// Table, index if it is not of the table itself, and numbers: all rows, then how many share the first columns of the index.
type Row = (String, Option<String>, String);

/// Brings the engine's table of statistics to what [`rows`] says; tells whether that changed anything.
pub(super) fn settle(transaction: &Transaction, paths: &[DeclaredPath]) -> rusqlite::Result<bool> {
    let wanted = rows(paths);
    if has_table(transaction)? && stored(transaction)? == wanted {
        return Ok(false);
    }
    // The engine makes its tables of statistics itself, and only so.
    transaction.execute_batch("ANALYZE meta; DELETE FROM sqlite_stat1")?;
    if has(transaction, "sqlite_stat4")? {
        transaction.execute("DELETE FROM sqlite_stat4", [])?;
    }
    let mut insert = transaction.prepare("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?1, ?2, ?3)")?;
    for row in &wanted {
        insert.execute((&row.0, &row.1, &row.2))?;
    }
    Ok(true)
}

/// Makes a connection that had the database open before believe what is stored now.
pub(super) fn reload(connection: &rusqlite::Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch("ANALYZE sqlite_schema")?)
}

fn has_table(transaction: &Transaction) -> rusqlite::Result<bool> {
    has(transaction, "sqlite_stat1")
}

fn has(transaction: &Transaction, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    transaction.query_row(sql, [name], |row| row.get::<_, u64>(0)).map(|count| count > 0)
}

fn stored(transaction: &Transaction) -> rusqlite::Result<Vec<Row>> {
    let mut select = transaction.prepare("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY rowid")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

fn rows(paths: &[DeclaredPath]) -> Vec<Row> {
    let mut rows = vec![
        row("meta", Some("sqlite_autoindex_meta_1".to_owned()), 10, &[1]),
        // Without a rowid a table is its own index.
        row("counter", Some("counter".to_owned()), 3_000_000, &[3_000_000, 1]),
        row("outbox", None, 1000, &[]),
    ];
    for table in table::ALL {
        let all = table.queried().map_or(ROWS, |queried| queried.rows);
        let key = if sql::is_clustered(table) {
            table.name.to_owned()
        } else {
            format!("sqlite_autoindex_{}_1", table.name)
        };
        let shared =
            table.queried().map_or_else(|| of_key(table, all), |queried| queried.key_shared.to_vec());
        rows.push(row(table.name, Some(key), all, &shared));
        for index in table.indexes() {
            let shared = if index.shared.is_empty() {
                of_column(all, index.columns.len())
            } else {
                index.shared.to_vec()
            };
            rows.push(row(table.name, Some(sql::index_name(table, index.column)), all, &shared));
        }
    }
    for path in paths {
        let all = path.table().queried().map_or(ROWS, |queried| queried.rows);
        // A value that is worth an index is shared by few.
        let shared = [all, all / 2, 10].into_iter().chain(path.table().keys[1..].iter().map(|_| 1));
        let shared: Vec<u64> = shared.collect();
        rows.push(row(path.table().name, Some(declared::index_name(path)), all, &shared));
    }
    rows
}

fn row(table: &str, index: Option<String>, all: u64, shared: &[u64]) -> Row {
    let numbers: Vec<String> = [all].iter().chain(shared).map(u64::to_string).collect();
    (table.to_owned(), index, numbers.join(" "))
}

/// Everything is in one instance, and each further part divides the rest. A relationship's source has few.
fn of_key(table: &Table, all: u64) -> Vec<u64> {
    let parts = table.keys.len();
    let of_part = |at: usize| match parts - 1 - at {
        0 => 1,
        _ if at == 0 => all,
        left => 10_u64.saturating_pow(u32::try_from(left).unwrap_or(u32::MAX)),
    };
    (0..parts).map(of_part).collect()
}

/// Few records share a value of an extra column.
fn of_column(all: u64, columns: usize) -> Vec<u64> {
    (0..columns)
        .map(|at| {
            if at == 0 {
                all
            } else if at + 1 == columns {
                1
            } else {
                10
            }
        })
        .collect()
}
