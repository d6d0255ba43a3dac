//! An empty file gets today's tables; an older database gets there by numbered steps, all in one transaction. Run once at open,
//! which also settles the indexes of declared paths and the planner's statistics. A step is never edited after a release.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::{declared, sql, statistics};
use crate::declared::DeclaredPath;
use crate::error::StoreError;
use crate::table::{self, Table};

type Step = fn(&Transaction) -> Result<(), StoreError>;

/// Step `n` (counted from 0) takes version `n + 1` to `n + 2`.
const STEPS: &[Step] = &[
    keep_documents_in_binary,
    count_instead_of_keeping,
    create_missing,
    keep_device_twins_in_binary,
    create_missing,
];

pub(crate) fn run(connection: &mut Connection, paths: &[DeclaredPath]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let current = STEPS.len() + 1;
    let version = version(&transaction)?;
    if version > current {
        return Err(StoreError::Version(format!(
            "the database has format {version}, this server knows up to {current}"
        )));
    }
    match version.checked_sub(1) {
        None => create_all(&transaction)?,
        Some(done) => {
            for step in &STEPS[done..] {
                step(&transaction)?;
            }
        }
    }
    transaction.execute("UPDATE meta SET value = ?1 WHERE name = 'format'", [current.to_string()])?;
    check_tables(&transaction)?;
    declared::settle(&transaction, paths)?;
    let is_new = statistics::settle(&transaction, paths)?;
    transaction.commit()?;
    if is_new { statistics::reload(connection) } else { Ok(()) }
}

/// Whether there is nothing left to do.
pub(super) fn is_current(connection: &Connection) -> Result<bool, StoreError> {
    let text = "SELECT value FROM meta WHERE name = 'format'";
    let format: Option<String> = connection.query_row(text, [], |row| row.get(0)).optional()?;
    Ok(format == Some((STEPS.len() + 1).to_string()))
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
    create_missing(transaction)
}

/// Also version 4, which has a table more, `server_secret`, and version 6, which has those of messages to devices, jobs and blobs.
fn create_missing(transaction: &Transaction) -> Result<(), StoreError> {
    for table in table::ALL {
        transaction.execute_batch(&sql::create(table))?;
    }
    Ok(())
}

/// Version 2: what queries reach is kept in the engine's binary JSON, and the indexes of relationships hold all that a walk over
/// the graph needs.
fn keep_documents_in_binary(transaction: &Transaction) -> Result<(), StoreError> {
    for table in [&table::DIGITAL_TWIN, &table::RELATIONSHIP] {
        make_anew(transaction, table, "jsonb(doc)")?;
    }
    create_missing(transaction)
}

/// Version 3: relationships lie beside their keys, and numbers that can be counted are not kept.
fn count_instead_of_keeping(transaction: &Transaction) -> Result<(), StoreError> {
    make_anew(transaction, &table::RELATIONSHIP, "doc")?;
    transaction.execute_batch(
        "DELETE FROM counter WHERE instance IN (SELECT DISTINCT instance FROM digital_twin)
            AND (name = 'digital_twins' OR name LIKE 'outgoing/%' OR name LIKE 'incoming/%')",
    )?;
    create_missing(transaction)
}

/// Version 5: queries reach device twins. Each has a model id, if only an empty one, as it is shown with one.
fn keep_device_twins_in_binary(transaction: &Transaction) -> Result<(), StoreError> {
    make_anew(transaction, &table::DEVICE_TWIN, "jsonb_insert(doc, '$.modelId', '')")?;
    create_missing(transaction)
}

/// Makes a table as it is defined now, of the rows of the one that is there.
fn make_anew(transaction: &Transaction, table: &Table, doc: &str) -> Result<(), StoreError> {
    let name = table.name;
    for column in table.columns {
        let index = sql::index_name(table, column);
        transaction.execute_batch(&format!("DROP INDEX {index}"))?;
    }
    transaction.execute_batch(&format!("ALTER TABLE {name} RENAME TO {name}_before"))?;
    let (create, indexes) = sql::create_in_two(table);
    transaction.execute_batch(&create)?;
    let columns = sql::columns_of(table).join(", ");
    let (values, order) = (columns.replace("doc", doc), sql::order_when_copied(table));
    transaction.execute_batch(&format!(
        "INSERT INTO {name} ({columns}) SELECT {values} FROM {name}_before ORDER BY {order};
         DROP TABLE {name}_before;
         {indexes}"
    ))?;
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
