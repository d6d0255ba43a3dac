//! Numbered steps from an empty file to today's schema, all in one transaction. Run once at open.
//! A step is never edited after a release; before the first release, step 1 is simply today's tables.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::sql;
use crate::error::StoreError;
use crate::table;

type Step = fn(&Transaction) -> Result<(), StoreError>;

/// Step `n` (counted from 1) takes version `n - 1` to `n`.
const STEPS: &[Step] = &[create_all];

pub(crate) fn run(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let current = STEPS.len();
    let version = version(&transaction)?;
    if version > current {
        return Err(StoreError::Version(format!(
            "the database has format {version}, this server knows up to {current}"
        )));
    }
    for step in &STEPS[version..] {
        step(&transaction)?;
    }
    transaction.execute("UPDATE meta SET value = ?1 WHERE name = 'format'", [current.to_string()])?;
    check_tables(&transaction)?;
    transaction.commit()?;
    Ok(())
}

fn version(transaction: &Transaction) -> Result<usize, StoreError> {
    let has_meta: i64 =
        transaction
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if has_meta == 0 {
        let foreign = Err(StoreError::Version("the database is not one of twinhub's".into()));
        return if tables == 0 { Ok(0) } else { foreign };
    }
    let format: Option<String> = transaction
        .query_row("SELECT value FROM meta WHERE name = 'format'", [], |row| row.get(0))
        .optional()?;
    format
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| StoreError::Corrupt("the database's format version is not a number".into()))
}

fn create_all(transaction: &Transaction) -> Result<(), StoreError> {
    transaction.execute_batch(
        "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT;
         INSERT INTO meta VALUES ('product', 'twinhub'), ('format', '0'), ('revisions_reserved', '1');
         CREATE TABLE counter (instance TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL,
             PRIMARY KEY (instance, name)) STRICT, WITHOUT ROWID;
         CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, instance TEXT NOT NULL,
             partition_key TEXT NOT NULL, payload BLOB NOT NULL) STRICT;",
    )?;
    for table in table::ALL {
        transaction.execute_batch(&sql::create(table))?;
    }
    Ok(())
}

/// A table that was added without a step fails here, at start, and not at its first use.
fn check_tables(transaction: &Transaction) -> Result<(), StoreError> {
    for table in table::ALL {
        let columns = sql::columns_of(table).join(", ");
        let probe = format!("SELECT {columns} FROM {} LIMIT 0", table.name);
        transaction.prepare(&probe).map_err(|error| {
            StoreError::Version(format!("table {} is not as this server expects it: {error}", table.name))
        })?;
    }
    Ok(())
}
