//! Moves committed pages from the write-ahead log into the database, off the commit path, and all of them at the end.
//! Started by `store.rs`, poked by the writer; it must never make a commit wait longer than [`BUSY_MAX`].

use std::time::Duration;

use base::caps;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use crate::error::StoreError;

/// Between two checkpoints under load.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a restart may hold the writer back while it waits for readers.
const BUSY_MAX: Duration = Duration::from_millis(50);
/// How long the last checkpoint waits for readers; nobody writes any more.
const END_BUSY_MAX: Duration = Duration::from_secs(5);

/// Tells the checkpoint thread that something was committed, or that it must end.
#[derive(Default)]
pub(crate) struct Poke {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    dirty: bool,
    stopping: bool,
}

impl Poke {
    pub(crate) fn poke(&self) {
        let mut state = self.state.lock();
        if !state.dirty {
            state.dirty = true;
            self.changed.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Waits for a commit, then a little longer so that one checkpoint serves many. False at the end.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.dirty && !state.stopping {
            self.changed.wait(&mut state);
        }
        while !state.stopping {
            if self.changed.wait_for(&mut state, PAUSE).timed_out() {
                break;
            }
        }
        state.dirty = false;
        !state.stopping
    }
}

pub(crate) fn run(connection: &Connection, poke: &Poke) {
    if let Err(error) = connection.busy_timeout(BUSY_MAX) {
        tracing::error!(%error, "the checkpoint thread could not start");
    }
    while poke.wait() {
        let result = checkpoint(connection, "PASSIVE").and_then(|log_bytes| {
            if log_bytes > caps::WAL_CHECKPOINT_BYTES {
                checkpoint(connection, "RESTART")
            } else {
                Ok(log_bytes)
            }
        });
        if let Err(error) = result {
            tracing::warn!(%error, "a checkpoint failed; the write-ahead log grows until one succeeds");
        }
    }
    if let Err(error) = empty(connection) {
        tracing::warn!(%error, "the last checkpoint failed; records.db is complete only together with its log");
    }
}

/// Leaves nothing in the log, so that the database is complete by itself.
fn empty(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(END_BUSY_MAX)?;
    let is_held: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_held { Err(StoreError::Unavailable("a read takes too long".into())) } else { Ok(()) }
}

/// Gives the length of the log in bytes.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<u64> {
    let page_bytes: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages: i64 = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))?;
    Ok(u64::try_from(pages).unwrap_or(0).saturating_mul(page_bytes))
}
