//! Moves committed pages from the write-ahead log into the database, off the commit path, and all of them at the end. Started by
//! `store.rs`, told by the writer. A page that is written often is moved once in a while and not each time.
//!
//! The log starts anew when everything in it has been moved and no reader looks at it. Under load that moment never comes by
//! itself, so the writer makes it: between two commits, when the thread says that nearly all has been moved, and in any case
//! once the log has its full length. A query that holds it beyond that gives way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::caps;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::wal::FRAME_HEADER_BYTES;
use crate::error::StoreError;

/// How long pages that few commits wrote stay in the log alone.
const PAUSE: Duration = Duration::from_secs(5);
/// So much is moved at once under load.
pub(crate) const STEP_BYTES: u64 = LOG_BYTES_MAX / 2;
/// The length that the log has at most while no query holds it.
#[cfg(not(test))]
pub(crate) const LOG_BYTES_MAX: u64 = caps::WAL_CHECKPOINT_BYTES;
/// The same rules sooner.
#[cfg(test)]
pub(crate) const LOG_BYTES_MAX: u64 = caps::WAL_CHECKPOINT_BYTES / 16;

/// What writer, checkpoint thread and queries know of the log.
#[derive(Default)]
pub(crate) struct Log {
    bytes: AtomicU64,
    /// Nearly all has been moved: starting anew costs little.
    is_ripe: AtomicBool,
    /// How often queries were told to let the log go.
    given_way: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    dirty: bool,
    /// The thread is moving pages.
    moving: bool,
    stopping: bool,
    /// How much of the log has been moved.
    moved_bytes: u64,
}

impl Log {
    /// The engine says after each commit how many pages the log has.
    pub(crate) fn watch(self: &Arc<Self>, writer: &mut Connection) -> rusqlite::Result<()> {
        let log = Arc::clone(self);
        let page: u64 = writer.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let frame = page + FRAME_HEADER_BYTES as u64;
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            log.bytes.store(u64::try_from(pages).unwrap_or(0) * frame, Ordering::Relaxed);
            Ok(())
        }))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// For the writer, after a commit.
    fn committed(&self) {
        let mut state = self.state.lock();
        let bytes = self.bytes();
        if bytes < state.moved_bytes {
            state.moved_bytes = 0;
        }
        if !state.dirty || bytes - state.moved_bytes >= STEP_BYTES {
            state.dirty = true;
            self.changed.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Waits until much was committed, or a little and some time ago. False at the end.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.dirty && !state.stopping {
            self.changed.wait(&mut state);
        }
        while !state.stopping && self.bytes().saturating_sub(state.moved_bytes) < STEP_BYTES {
            if self.changed.wait_for(&mut state, PAUSE).timed_out() {
                break;
            }
        }
        state.dirty = false;
        state.moving = !state.stopping;
        !state.stopping
    }

    fn moved(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.moving = false;
        state.moved_bytes = bytes;
        self.is_ripe.store(bytes >= STEP_BYTES, Ordering::Relaxed);
        self.changed.notify_all();
    }

    fn wait_until_moved(&self) {
        let mut state = self.state.lock();
        while state.moving && !state.stopping {
            self.changed.wait(&mut state);
        }
    }

    /// A number that changes when queries that run now must let the log go.
    pub(crate) fn given_way(&self) -> u64 {
        self.given_way.load(Ordering::Relaxed)
    }
}

/// The writer's part: keeps the log from growing without end.
pub(crate) struct Keeper {
    log: Arc<Log>,
    /// When it is that long, a new start is tried whether it is ripe or not.
    try_at_bytes: u64,
}

impl Keeper {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log, try_at_bytes: LOG_BYTES_MAX }
    }

    /// After a commit.
    pub(crate) fn committed(&self) {
        self.log.committed();
    }

    /// Whether `keep` has something to do, which may take long.
    pub(crate) fn is_due(&self) -> bool {
        self.log.bytes() >= self.try_at_bytes || self.log.is_ripe.load(Ordering::Relaxed)
    }

    /// Starts the log anew if it is time, between two commits.
    pub(crate) fn keep(&mut self, writer: &Connection) {
        let bytes = self.log.bytes();
        let is_full = bytes >= self.try_at_bytes;
        if !is_full && !self.log.is_ripe.swap(false, Ordering::Relaxed) {
            return;
        }
        if is_full {
            // Two cannot move pages at once, and this one must not be let grow until the other is done.
            self.log.wait_until_moved();
        }
        match start_anew(writer) {
            Ok(true) => self.try_at_bytes = LOG_BYTES_MAX,
            Ok(false) => {
                self.try_at_bytes = bytes.max(LOG_BYTES_MAX) + STEP_BYTES;
                if bytes >= LOG_BYTES_MAX {
                    self.log.given_way.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                self.try_at_bytes = bytes.max(LOG_BYTES_MAX) + STEP_BYTES;
                tracing::warn!(%error, "the write-ahead log did not start anew and grows until it does");
            }
        }
    }
}

/// Whether the next commit begins at the log's start.
fn start_anew(writer: &Connection) -> rusqlite::Result<bool> {
    writer.busy_timeout(Duration::from_millis(caps::WAL_READERS_WAIT_MILLIS_MAX))?;
    let is_held = writer.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0));
    writer.busy_timeout(Duration::from_secs(caps::WAL_WRITER_WAITS_SECONDS_MAX))?;
    Ok(!is_held?)
}

pub(crate) fn run(connection: &Connection, log: &Log) {
    while log.wait() {
        let bytes = log.bytes();
        if let Err(error) = checkpoint(connection, "PASSIVE") {
            tracing::warn!(%error, "a checkpoint failed; the write-ahead log grows until one succeeds");
        }
        log.moved(bytes);
    }
    if let Err(error) = empty(connection) {
        tracing::warn!(%error, "the last checkpoint failed; records.db is complete only together with its log");
    }
}

/// Leaves nothing in the log, so that the database is complete by itself.
fn empty(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(Duration::from_secs(caps::WAL_END_WAIT_SECONDS_MAX))?;
    let is_held: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_held { Err(StoreError::Unavailable("a read takes too long".into())) } else { Ok(()) }
}

/// Gives the length of the log in bytes.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<u64> {
    let page_bytes: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages: i64 = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))?;
    Ok(u64::try_from(pages).unwrap_or(0).saturating_mul(page_bytes))
}
