//! The engine of records: one `SQLite` database in WAL mode. Opens connections and gives each its pragmas.
//! Called by `store.rs`; nothing outside this crate may see a connection.

mod checkpoint;
pub mod chunks;
mod counts;
mod declared;
pub(crate) mod export;
mod migrate;
mod query;
mod read;
mod records;
pub(crate) mod repair;
pub(crate) mod sessions;
pub(crate) mod snapshot;
mod sql;
mod statistics;
#[cfg(test)]
mod tests;
mod wal;
mod write;
mod writer;

pub(crate) use records::Sqlite;
use write::{Purge, purges};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::caps;
use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::declared::DeclaredPath;
use crate::error::StoreError;
use crate::store::Durability;
use crate::transfer;

/// A connection that more than one thread may use in turn. The writer holds it for a whole transaction, so that a reader
/// of the same connection (in memory there is only one) never sees half a commit.
pub(crate) type Shared = Arc<Mutex<Connection>>;

/// Every connection of one open database.
pub(crate) struct Connections {
    pub(crate) writer: Shared,
    /// For point reads on the caller's own thread.
    pub(crate) points: Vec<Shared>,
    /// For scans and queries, one per reader thread.
    pub(crate) readers: Vec<Shared>,
    /// None in memory, where there is no write-ahead log.
    pub(crate) checkpointer: Option<Connection>,
}

pub(crate) const DATABASE: &str = "records.db";
/// `SQLite` keeps it beside the database.
pub(crate) const LOG: &str = "records.db-wal";
/// A changed record of about 1 KB costs one page in the log. Databases of earlier versions keep their pages of 4096 bytes.
const PAGE_BYTES: usize = 2048;
const STATEMENTS_CACHED: usize = 256;
/// Page caches grow to this; the operating system's cache is behind them.
const WRITER_CACHE_KIB: i64 = 64 * 1024;
const READER_CACHE_KIB: i64 = 8 * 1024;

pub(crate) fn open_memory(paths: &[DeclaredPath]) -> Result<Connections, StoreError> {
    let connection = Connection::open_in_memory()?;
    prepare_once(&connection)?;
    let writer = Arc::new(Mutex::new(connection));
    migrate::run(&mut writer.lock(), paths)?;
    let same = || vec![Arc::clone(&writer)];
    Ok(Connections { points: same(), readers: same(), checkpointer: None, writer })
}

pub(crate) fn open_file(
    directory: &Path,
    durability: Durability,
    paths: &[DeclaredPath],
) -> Result<Connections, StoreError> {
    transfer::refuse_moved(directory)?;
    // Not later: once it is open, what lies behind a bad frame is overwritten.
    repair::refuse_damage(directory)?;
    let path = &directory.join(DATABASE);
    let mut writer = connect(path)?;
    writer.pragma_update(None, "page_size", PAGE_BYTES)?;
    writer.pragma_update(None, "journal_mode", "WAL")?;
    writer.pragma_update(
        None,
        "synchronous",
        match durability {
            Durability::Full => "FULL",
            Durability::Relaxed => "NORMAL",
        },
    )?;
    // On macOS a plain fsync leaves data in the drive's cache.
    writer.pragma_update(None, "fullfsync", true)?;
    // A checkpoint inside a commit is what makes SQLite's slowest commits: it runs on a thread of its own instead.
    writer.pragma_update(None, "wal_autocheckpoint", 0)?;
    writer.pragma_update(None, "journal_size_limit", caps::WAL_CHECKPOINT_BYTES)?;
    writer.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    migrate::run(&mut writer, paths)?;
    let readers = || (0..caps::READERS).map(|_| reader(path)).collect::<Result<Vec<_>, _>>();
    let checkpointer = connect(path)?;
    checkpointer.pragma_update(None, "wal_autocheckpoint", 0)?;
    checkpointer.pragma_update(None, "checkpoint_fullfsync", true)?;
    Ok(Connections {
        points: readers()?,
        readers: readers()?,
        checkpointer: Some(checkpointer),
        writer: Arc::new(Mutex::new(writer)),
    })
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(caps::WAL_WRITER_WAITS_SECONDS_MAX))?;
    prepare_once(&connection)?;
    Ok(connection)
}

/// A statement is compiled once and kept. Without the guarantee that plans do not look at bound values, one that compares with
/// expressions of indexes would be compiled again each time that a value is bound.
fn prepare_once(connection: &Connection) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn reader(path: &Path) -> Result<Shared, StoreError> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(Arc::new(Mutex::new(connection)))
}
