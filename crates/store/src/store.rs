//! The store of records as the domain sees it: open, read, commit. What is true on every engine stands here; the rest is theirs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::measure::Distribution;
use base::{InstanceId, Secret, caps};
use tokio::sync::watch;

use crate::batch::{Batch, Committed, Counter, OutboxRow};
use crate::declared::DeclaredPath;
use crate::engine::{Engine, Range, Raw, Records, ask_engine, on_engine};
use crate::error::{CommitError, StoreError};
use crate::health::Health;
use crate::key::{Find, Key, Scan};
use crate::postgres::{self, Postgres};
use crate::record::{Record, Revision, Stored};
use crate::sqlite::Sqlite;
use crate::sqlite::snapshot::Snapshot;

/// Where the data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Gone when the last clone is.
    Memory,
    /// A data directory: `records.db` and `log/`.
    File(PathBuf),
    /// A database of PostgreSQL, by its connection string: `postgres://user:password@host/database`.
    Postgres(Secret),
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The bytes are synced.
    Full,
    /// The operating system has them: a power cut may lose the last moments, never damage the rest, though the next start may
    /// ask for a repair that cuts them off. For CI.
    Relaxed,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub location: Location,
    pub durability: Durability,
    /// Paths into documents by which queries find fast. Their indexes are made at the start, which then takes longer.
    pub declared_paths: Vec<DeclaredPath>,
}

impl Options {
    pub fn memory() -> Self {
        Self::new(Location::Memory, Durability::Relaxed)
    }

    pub fn new(location: Location, durability: Durability) -> Self {
        Self { location, durability, declared_paths: Vec::new() }
    }
}

/// All records of one server. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Engine,
    commits_total: AtomicU64,
    health: Health,
}

impl Store {
    /// Opens or creates, migrates, and holds the data directory until the last clone is dropped.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let paths = &options.declared_paths;
        if paths.len() > caps::DECLARED_PATHS_MAX {
            return Err(StoreError::Refused(format!(
                "more than {} declared paths",
                caps::DECLARED_PATHS_MAX
            )));
        }
        match &options.location {
            Location::Postgres(url) => {
                let config = postgres::Config::parse(url.expose(), options.durability)?;
                let postgres = Postgres::open_with(config, paths.clone())?;
                postgres.refuse_unfinished_move()?;
                Ok(Self::of(Engine::Postgres(postgres)))
            }
            location => {
                let sqlite = Sqlite::open(location, options.durability, paths)?;
                Ok(Self::of(Engine::Sqlite(Box::new(sqlite))))
            }
        }
    }

    pub(crate) fn of(engine: Engine) -> Self {
        Self(Arc::new(Inner { engine, commits_total: AtomicU64::new(0), health: Health::default() }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub async fn get<R: Record>(&self, key: &Key) -> Result<Option<Stored<R>>, StoreError> {
        check_key(&R::TABLE, key)?;
        let raw = ask_engine!(self.engine(), engine => engine.get(R::TABLE, key))?;
        raw.map(|raw| parse(&raw)).transpose()
    }

    /// Records under a prefix, in key order, at most `limit`.
    pub async fn scan<R: Record>(&self, scan: Scan) -> Result<Vec<Stored<R>>, StoreError> {
        let Scan { prefix, after, limit } = scan;
        self.range(Range { table: R::TABLE, prefix, column: None, after, limit }).await
    }

    /// Records under a prefix whose declared column equals a value, in key order, at most `limit`.
    pub async fn find<R: Record>(&self, find: Find) -> Result<Vec<Stored<R>>, StoreError> {
        let Find { prefix, column, value, after, limit } = find;
        self.range(Range { table: R::TABLE, prefix, column: Some((column, value)), after, limit }).await
    }

    async fn range<R: Record>(&self, range: Range) -> Result<Vec<Stored<R>>, StoreError> {
        range.check()?;
        let rows = ask_engine!(self.engine(), engine => engine.range(range))?;
        rows.iter().map(parse).collect()
    }

    pub async fn count<R: Record>(&self, prefix: &Key) -> Result<u64, StoreError> {
        ask_engine!(self.engine(), engine => engine.count(R::TABLE, prefix))
    }

    /// Bytes of the documents under a prefix.
    pub async fn bytes<R: Record>(&self, prefix: &Key) -> Result<u64, StoreError> {
        ask_engine!(self.engine(), engine => engine.bytes(R::TABLE, prefix))
    }

    /// Whether a counter is 0: cheap, however many records it would count.
    pub async fn is_zero(&self, counter: &Counter) -> Result<bool, StoreError> {
        ask_engine!(self.engine(), engine => engine.is_zero(counter))
    }

    pub async fn counter(&self, counter: &Counter) -> Result<i64, StoreError> {
        ask_engine!(self.engine(), engine => engine.counter(counter))
    }

    /// Applies a batch. When it returns `Ok`, the change and its outbox rows are durable and every later read sees them.
    pub async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        if let Some(mistake) = batch.mistake {
            return Err(mistake.into());
        }
        if batch.len() > caps::BATCH_OPERATIONS_MAX {
            let why = format!("a batch of {} operations", batch.len());
            return Err(StoreError::Refused(why).into());
        }
        let answer = ask_engine!(self.engine(), engine => engine.commit(batch));
        self.0.health.note(match &answer {
            Err(CommitError::Store(error)) => Err(error),
            _ => Ok(()),
        });
        let committed = answer?;
        self.0.commits_total.fetch_add(1, Ordering::Relaxed);
        Ok(committed)
    }

    /// Takes no commit any more and finishes those that wait; an embedded engine then leaves `records.db` complete without its
    /// write-ahead log. Reads go on. For the end of a server, where clones of the store may outlive it; the last clone to go does
    /// the same.
    pub fn close(&self) {
        on_engine!(self.engine(), engine => engine.close());
    }

    /// Whether the last write failed of the disk.
    pub fn is_failing(&self) -> bool {
        self.0.health.is_failing()
    }

    /// Writes that the disk refused since the store was opened.
    pub fn failures_total(&self) -> u64 {
        self.0.health.failures_total()
    }

    /// Writes something that changes nothing, to see whether the disk takes it.
    pub async fn try_to_write(&self) -> Result<(), CommitError> {
        let counter = Counter::new(&InstanceId::from_stored("health"), "tries");
        let mut batch = Batch::default();
        batch.add(counter.clone(), 1, i64::MAX);
        batch.add(counter, -1, i64::MAX);
        self.commit(batch).await.map(drop)
    }

    /// Batches made durable since the store was opened; for metrics.
    pub fn commits_total(&self) -> u64 {
        self.0.commits_total.load(Ordering::Relaxed)
    }

    /// How long it took what was committed together to become durable.
    pub fn syncs(&self) -> Distribution {
        on_engine!(self.engine(), engine => engine.syncs())
    }

    /// Whether what is acknowledged is on a second machine too; `None` of an embedded engine.
    pub fn has_standby(&self) -> Option<bool> {
        self.condition().map(|condition| condition.has_standby)
    }

    /// Why a database that was as it must be is so no more; nothing is promised on such a one.
    pub fn fault(&self) -> Option<String> {
        self.condition()?.fault
    }

    fn condition(&self) -> Option<postgres::Condition> {
        match self.engine() {
            Engine::Sqlite(_) => None,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => None,
            Engine::Postgres(postgres) => Some(postgres.condition()),
        }
    }

    /// Queries that run, and those that wait for their turn.
    pub fn queries(&self) -> (usize, usize) {
        on_engine!(self.engine(), engine => engine.queries())
    }

    /// Deletes every record, counter and outbox row of an instance, in batches that let other commits pass in between.
    /// Safe to repeat after a crash in the middle.
    pub async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        ask_engine!(self.engine(), engine => engine.remove_instance(instance))?;
        self.sessions().remove_instance(instance).await?;
        self.everything_changed().await
    }

    /// Outbox rows with greater ids than `after` that nobody is done with, in order.
    pub async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        ask_engine!(self.engine(), engine => engine.outbox(after, limit))
    }

    /// Bytes of what waits in the outbox, by instance.
    pub(crate) async fn outbox_bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        ask_engine!(self.engine(), engine => engine.outbox_bytes())
    }

    /// Takes rows out of the outbox. They are not read again, and deleted with the next commit, whoever makes it; after a crash
    /// before that they come once more.
    pub(crate) async fn outbox_done(&self, ids: impl IntoIterator<Item = u64>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        match self.engine() {
            Engine::Sqlite(sqlite) => {
                if sqlite.outbox_done(ids) < caps::OUTBOX_DONE_MAX {
                    return Ok(());
                }
            }
            Engine::Postgres(_) => ids.into_iter().for_each(|id| batch.outbox_done(id)),
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => ids.into_iter().for_each(|id| batch.outbox_done(id)),
        }
        self.commit(batch).await.map(drop).map_err(CommitError::unconditional)
    }

    /// Makes every later outbox id greater than `above`, which the log has seen; gives whether that was needed. It is when the
    /// records are older than the log, as after an older copy was put back: the log would take their events for repeated ones.
    pub async fn raise_outbox(&self, above: u64) -> Result<bool, StoreError> {
        ask_engine!(self.engine(), engine => engine.raise_outbox(above))
    }

    /// The greatest outbox id that is committed; changes with every commit that wrote one.
    pub(crate) fn outbox_written(&self) -> watch::Receiver<u64> {
        on_engine!(self.engine(), engine => engine.outbox_written())
    }

    /// All records as they are now, to be copied while others go on writing. Of the embedded engine.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        match self.engine() {
            Engine::Sqlite(sqlite) => sqlite.snapshot(),
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => Err(StoreError::Refused("it is in memory".into())),
            Engine::Postgres(_) => {
                Err(StoreError::Refused("a database is copied with the database's own tools".into()))
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn sqlite(&self) -> &Sqlite {
        match self.engine() {
            Engine::Sqlite(sqlite) => sqlite,
            _ => panic!("this test is of the embedded engine"),
        }
    }
}

fn parse<R: Record>((doc, revision): &Raw) -> Result<Stored<R>, StoreError> {
    let record = serde_json::from_str(doc).map_err(|error| damaged(R::TABLE.name, &error))?;
    Ok(Stored { record, revision: Revision(*revision) })
}

/// Says where a document breaks, not what stands there: it may be a key.
fn damaged(table: &str, error: &serde_json::Error) -> StoreError {
    let (kind, at) = (error.classify(), error.column());
    StoreError::Corrupt(format!("a record of {table}: {kind:?} error at column {at}"))
}

fn check_key(table: &crate::Table, key: &Key) -> Result<(), StoreError> {
    if key.parts().len() == table.keys.len() {
        return Ok(());
    }
    Err(StoreError::Refused(format!("a key of {} has {} parts", table.name, table.keys.len())))
}

/// The data holds keys: nobody else on the machine may read it. A directory that is there keeps its mode.
pub(crate) fn create_private(directory: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    Ok(builder.create(directory)?)
}

/// How files of the data directory are made: their owner alone may read them.
pub(crate) fn private_file() -> std::fs::OpenOptions {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
