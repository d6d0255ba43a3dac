//! The store of records as the domain sees it: open, read, commit. Owns the threads and ends them when the last clone goes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use base::measure::{Distribution, Histogram, SYNC_MICROS};
use base::{InstanceId, caps};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::batch::{Batch, Committed, Counter, OutboxRow, Write};
use crate::declared::DeclaredPath;
use crate::error::{CommitError, StoreError};
use crate::health::Health;
use crate::key::{Find, Key, Scan};
use crate::queue::Queue;
use crate::record::{Record, Revision, Stored};
use crate::sqlite::checkpoint::{self, Keeper, Log};
use crate::sqlite::read::{self, Range, Raw};
use crate::sqlite::sessions::Live;
use crate::sqlite::snapshot::Snapshot;
use crate::sqlite::writer::{Done, Request, Writer};
use crate::sqlite::{self, Connections, Shared};
use crate::turns::Turns;
use crate::workers::{self, Workers};

/// Where the data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Gone when the last clone is.
    Memory,
    /// A data directory: `records.db` and `log/`.
    File(PathBuf),
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
    points: Vec<Shared>,
    next_point: AtomicUsize,
    readers: Workers<Shared>,
    /// One place less than readers: queries may take long, and lists must not wait behind them.
    queries: Turns,
    live: Live,
    commits: Arc<Queue<Request>>,
    outbox_done: Arc<Done>,
    /// None in memory.
    log: Option<Arc<Log>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    checkpointer: Mutex<Option<JoinHandle<()>>>,
    outbox: watch::Receiver<u64>,
    commits_total: AtomicU64,
    syncs: Arc<Histogram>,
    health: Health,
    #[cfg(test)]
    writer_for_test: Shared,
    /// None in memory.
    directory: Option<PathBuf>,
    /// Dropped last, after every thread has ended.
    _lock: Option<File>,
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
            Location::Memory => Self::start(sqlite::open_memory(paths)?, None),
            Location::File(directory) => {
                let lock = lock_directory(directory)?;
                let connections = sqlite::open_file(directory, options.durability, paths)?;
                Self::start(connections, Some((directory.clone(), lock)))
            }
        }
    }

    fn start(connections: Connections, place: Option<(PathBuf, File)>) -> Result<Self, StoreError> {
        let (directory, lock) = place.unzip();
        let Connections { writer, points, readers, checkpointer } = connections;
        let (outbox_written, outbox) = watch::channel(read::outbox_last(&writer.lock())?);
        let live = Live::open(&writer.lock())?;
        #[cfg(test)]
        let writer_for_test = Arc::clone(&writer);
        let commits = Arc::new(Queue::new(caps::COMMIT_QUEUE_MAX));
        let log = checkpointer.is_some().then(|| Arc::new(Log::default()));
        if let Some(log) = &log {
            log.watch(&mut writer.lock())?;
        }
        let outbox_done = Arc::new(Done::default());
        let syncs = Arc::new(Histogram::new(SYNC_MICROS));
        let writer = Writer::new(
            writer,
            Arc::clone(&commits),
            Arc::clone(&outbox_done),
            outbox_written,
            log.clone().map(Keeper::new),
            Arc::clone(&syncs),
        )?;
        let queries = Turns::new(readers.len().saturating_sub(1).max(1));
        let readers = Workers::start("records-read", readers, caps::READ_QUEUE_MAX)?;
        let writer = workers::spawn("records-write", move || writer.run())?;
        let checkpointer = match (checkpointer, log.clone()) {
            (Some(connection), Some(log)) => {
                Some(workers::spawn("records-checkpoint", move || checkpoint::run(&connection, &log))?)
            }
            _ => None,
        };
        let next_point = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner {
            points,
            next_point,
            readers,
            queries,
            live,
            commits,
            outbox_done,
            log,
            writer: Mutex::new(Some(writer)),
            checkpointer: Mutex::new(checkpointer),
            outbox,
            commits_total: AtomicU64::new(0),
            syncs,
            health: Health::default(),
            #[cfg(test)]
            writer_for_test,
            directory,
            _lock: lock,
        })))
    }

    #[expect(clippy::unused_async, reason = "an engine over the network will wait here")]
    pub async fn get<R: Record>(&self, key: &Key) -> Result<Option<Stored<R>>, StoreError> {
        check_key(&R::TABLE, key)?;
        let raw = self.point(|connection| read::get(connection, &R::TABLE, key))?;
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
        let rows = self.read(move |connection| read::scan(connection, &range)).await?;
        rows.iter().map(parse).collect()
    }

    pub async fn count<R: Record>(&self, prefix: &Key) -> Result<u64, StoreError> {
        let prefix = prefix.clone();
        self.read(move |connection| read::count(connection, &R::TABLE, &prefix)).await
    }

    /// Whether a counter is 0: a point read, however many records it would count.
    #[expect(clippy::unused_async, reason = "an engine over the network will wait here")]
    pub async fn is_zero(&self, counter: &Counter) -> Result<bool, StoreError> {
        self.point(|connection| match &counter.counted {
            Some(counted) => Ok(read::count_of(connection, &counter.instance, counted, 1)? == 0),
            None => Ok(read::counter(connection, counter)? == 0),
        })
    }

    /// A number that is kept is a point read; records that are counted may be millions, which is a reader's work.
    pub async fn counter(&self, counter: &Counter) -> Result<i64, StoreError> {
        if counter.counted.is_none() {
            return self.point(|connection| read::counter(connection, counter));
        }
        let counter = counter.clone();
        self.read(move |connection| read::counter(connection, &counter)).await
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
        let (answer, answered) = oneshot::channel();
        self.0.commits.push_when_room(Request::Commit { batch, answer }).await?;
        let answer = answered.await.unwrap_or(Err(StoreError::Closed.into()));
        self.0.health.note(match &answer {
            Err(CommitError::Store(error)) => Err(error),
            _ => Ok(()),
        });
        let committed = answer?;
        self.0.commits_total.fetch_add(1, Ordering::Relaxed);
        Ok(committed)
    }

    /// Takes no commit any more, finishes those that wait, and leaves `records.db` complete without its write-ahead log. Reads
    /// go on. For the end of a server, where clones of the store may outlive it; the last clone to go does the same.
    pub fn close(&self) {
        self.0.close();
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
        self.0.syncs.read()
    }

    /// Queries that run, and those that wait for their turn.
    pub fn queries(&self) -> (usize, usize) {
        self.0.queries.counts()
    }

    /// Deletes every record, counter and outbox row of an instance, in batches that let other commits pass in between.
    /// Safe to repeat after a crash in the middle.
    pub async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        for place in sqlite::purges() {
            loop {
                let (answer, answered) = oneshot::channel();
                let (place, instance) = (place.clone(), instance.as_str().to_owned());
                let limit = caps::PURGE_ROWS_MAX;
                let request = Request::Purge { place, instance, limit, answer };
                self.0.commits.push_when_room(request).await?;
                if answered.await.unwrap_or(Err(StoreError::Closed))? < limit {
                    break;
                }
            }
        }
        self.sessions().remove_instance(instance).await
    }

    /// Outbox rows with greater ids than `after` that nobody is done with, in order.
    pub async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let done = self.0.outbox_done.all();
        let found = limit.saturating_add(done.len());
        let mut rows = self.read(move |connection| read::outbox(connection, after, found)).await?;
        rows.retain(|row| !done.contains(&row.id));
        rows.truncate(limit);
        Ok(rows)
    }

    /// Bytes of what waits in the outbox, by instance.
    pub async fn outbox_bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        let done = self.0.outbox_done.all();
        self.read(move |connection| read::outbox_bytes(connection, &done)).await
    }

    /// Bytes of the documents under a prefix.
    pub async fn bytes<R: Record>(&self, prefix: &Key) -> Result<u64, StoreError> {
        let prefix = prefix.clone();
        self.read(move |connection| read::bytes(connection, &R::TABLE, &prefix)).await
    }

    /// Takes rows out of the outbox. They are not read again, and deleted with the next commit, whoever makes it; after a crash
    /// before that they come once more.
    pub async fn outbox_done(&self, ids: impl IntoIterator<Item = u64>) -> Result<(), StoreError> {
        if self.0.outbox_done.add(ids) < caps::OUTBOX_DONE_MAX {
            return Ok(());
        }
        match self.commit(Batch::default()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.unconditional()),
        }
    }

    /// Makes every later outbox id greater than `above`, which the log has seen; gives whether that was needed. It is when the
    /// records are older than the log, as after an older copy was put back: the log would take their events for repeated ones.
    pub async fn raise_outbox(&self, above: u64) -> Result<bool, StoreError> {
        if *self.0.outbox.borrow() >= above {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.writes.push(Write::OutboxAbove(above));
        match self.commit(batch).await {
            Ok(_) => Ok(true),
            Err(CommitError::Store(error)) => Err(error),
            Err(other) => unreachable!("raising the outbox has no condition: {other}"),
        }
    }

    /// All records as they are now, to be copied while others go on writing.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        match &self.0.directory {
            Some(directory) => Snapshot::take(directory),
            None => Err(StoreError::Refused("records in memory are not copied".into())),
        }
    }

    /// The greatest outbox id that is committed; changes with every commit that wrote one.
    pub fn outbox_written(&self) -> watch::Receiver<u64> {
        self.0.outbox.clone()
    }

    #[cfg(test)]
    pub(crate) fn writer_for_test(&self) -> Shared {
        Arc::clone(&self.0.writer_for_test)
    }

    /// Runs a read on a reader thread, over one connection that refuses to write. For compiled queries.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.readers.run(move |shared: &Shared| work(&mut shared.lock())).await
    }

    /// Whose compiled query runs next.
    pub(crate) fn turns(&self) -> &Turns {
        &self.0.queries
    }

    /// Nodes, sessions and leases.
    pub(crate) fn live(&self) -> &Live {
        &self.0.live
    }

    /// None in memory.
    pub(crate) fn write_ahead_log(&self) -> Option<&Arc<Log>> {
        self.0.log.as_ref()
    }

    /// A connection for reads on the caller's thread, unless all are in use.
    pub(crate) fn free_point(&self) -> Option<MutexGuard<'_, Connection>> {
        self.0.points.iter().find_map(|point| point.try_lock())
    }

    /// A read of a few microseconds on the caller's thread: handing it to another thread would cost more than the read.
    fn point<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let points = &self.0.points;
        if let Some(free) = self.free_point() {
            return work(&free);
        }
        let turn = self.0.next_point.fetch_add(1, Ordering::Relaxed) % points.len();
        work(&points[turn].lock())
    }
}

impl Inner {
    fn close(&self) {
        self.commits.close();
        workers::join(self.writer.lock().take());
        // Only now: the last checkpoint must see the last commit.
        if let Some(log) = &self.log {
            log.stop();
        }
        workers::join(self.checkpointer.lock().take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
        self.readers.stop();
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
fn create_private(directory: &Path) -> Result<(), StoreError> {
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

/// Creates the data directory and takes its lock, which the operating system gives back when the process dies.
pub(crate) fn lock_directory(directory: &Path) -> Result<File, StoreError> {
    create_private(directory)?;
    let path = directory.join("lock");
    let file = private_file().create(true).write(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(directory.display().to_string())),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}
