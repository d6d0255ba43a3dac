//! Records on `SQLite`: owns its connections and threads, and ends them when it goes.
//! One thread writes; readers see committed states only.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use base::measure::{Distribution, Histogram, SYNC_MICROS};
use base::{InstanceId, caps};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use tokio::sync::watch;

use super::checkpoint::{self, Keeper, Log};
use super::chunks::ChunkFiles;
use super::read;
use super::sessions::Live;
use super::snapshot::Snapshot;
use super::writer::{Commits, Done, Writer};
use super::{Connections, Shared};
use crate::batch::{Batch, Committed, Counter, OutboxRow, Write};
use crate::compiled::Rows;
use crate::declared::DeclaredPath;
use crate::directory_lock::DirectoryLock;
use crate::engine::{Range, Raw, Records};
use crate::error::{CommitError, StoreError};
use crate::key::Key;
use crate::store::{Durability, Location};
use crate::table::Table;
use crate::turns::{Asker, Turns};
use crate::workers::{self, Workers};
use query::Plan;
use query::plan::Position;

pub(crate) struct Sqlite {
    points: Vec<Shared>,
    next_point: AtomicUsize,
    readers: Workers<Shared>,
    /// One place less than readers: queries may take long, and lists must not wait behind them.
    queries: Turns,
    live: Live,
    chunks: ChunkFiles,
    commits: Arc<Commits>,
    outbox_done: Arc<Done>,
    /// None in memory.
    log: Option<Arc<Log>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    checkpointer: Mutex<Option<JoinHandle<()>>>,
    outbox: watch::Receiver<u64>,
    syncs: Arc<Histogram>,
    #[cfg(test)]
    writer_for_test: Shared,
    /// None in memory.
    directory: Option<PathBuf>,
    /// Dropped last, after every thread has ended.
    _lock: Option<DirectoryLock>,
}

impl Sqlite {
    /// Opens or creates, migrates, and holds the data directory.
    pub(crate) fn open(
        location: &Location,
        durability: Durability,
        paths: &[DeclaredPath],
    ) -> Result<Self, StoreError> {
        match location {
            Location::Postgres(_) => Err(StoreError::Refused("that is a database of PostgreSQL".into())),
            Location::Memory => Self::start(super::open_memory(paths)?, ChunkFiles::in_memory()?, None),
            Location::File(directory) => {
                let lock = DirectoryLock::take(directory)?;
                let connections = super::open_file(directory, durability, paths)?;
                let chunks = ChunkFiles::in_directory(directory, durability)?;
                Self::start(connections, chunks, Some((directory.clone(), lock)))
            }
        }
    }

    fn start(
        connections: Connections,
        chunks: ChunkFiles,
        place: Option<(PathBuf, DirectoryLock)>,
    ) -> Result<Self, StoreError> {
        let (directory, lock) = place.unzip();
        let Connections { writer, points, readers, checkpointer } = connections;
        let (outbox_written, outbox) = watch::channel(read::outbox_last(&writer.lock())?);
        let live = Live::open(&writer.lock())?;
        #[cfg(test)]
        let writer_for_test = Arc::clone(&writer);
        let log = checkpointer.is_some().then(|| Arc::new(Log::default()));
        if let Some(log) = &log {
            log.watch(&mut writer.lock())?;
        }
        let outbox_done = Arc::new(Done::default());
        let syncs = Arc::new(Histogram::new(SYNC_MICROS));
        let writer = Writer::new(
            writer,
            Arc::clone(&outbox_done),
            outbox_written,
            log.clone().map(Keeper::new),
            Arc::clone(&syncs),
        )?;
        let queries = Turns::new(readers.len().saturating_sub(1).max(1));
        let readers = Workers::start("records-read", readers, caps::READ_QUEUE_MAX)?;
        let commits = Arc::new(Commits::new(writer));
        let writing = Arc::clone(&commits);
        let writer = workers::spawn("records-write", move || writing.run())?;
        let checkpointer = match (checkpointer, log.clone()) {
            (Some(connection), Some(log)) => {
                Some(workers::spawn("records-checkpoint", move || checkpoint::run(&connection, &log))?)
            }
            _ => None,
        };
        let next_point = AtomicUsize::new(0);
        Ok(Self {
            points,
            next_point,
            readers,
            queries,
            live,
            chunks,
            commits,
            outbox_done,
            log,
            writer: Mutex::new(Some(writer)),
            checkpointer: Mutex::new(checkpointer),
            outbox,
            syncs,
            #[cfg(test)]
            writer_for_test,
            directory,
            _lock: lock,
        })
    }

    /// Outbox rows with greater ids than `after` that nobody is done with, in order.
    pub(crate) async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let done = self.outbox_done.all();
        let found = limit.saturating_add(done.len());
        let mut rows = self.read(move |connection| read::outbox(connection, after, found)).await?;
        rows.retain(|row| !done.contains(&row.id));
        rows.truncate(limit);
        Ok(rows)
    }

    /// Bytes of what waits in the outbox, by instance.
    pub(crate) async fn outbox_bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        let done = self.outbox_done.all();
        self.read(move |connection| read::outbox_bytes(connection, &done)).await
    }

    /// Takes rows out of the outbox, to be deleted with the next commit; gives how many wait for that.
    pub(crate) fn outbox_done(&self, ids: impl IntoIterator<Item = u64>) -> usize {
        self.outbox_done.add(ids)
    }

    /// Makes every later outbox id greater than `above`; gives whether that was needed.
    pub(crate) async fn raise_outbox(&self, above: u64) -> Result<bool, StoreError> {
        if *self.outbox.borrow() >= above {
            return Ok(false);
        }
        let mut batch = Batch::default();
        batch.writes.push(Write::OutboxAbove(above));
        self.commit(batch).await.map(|_| true).map_err(CommitError::unconditional)
    }

    pub(crate) fn outbox_written(&self) -> watch::Receiver<u64> {
        self.outbox.clone()
    }

    /// All records as they are now, to be copied while others go on writing.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        match &self.directory {
            Some(directory) => Snapshot::take(directory),
            None => Err(StoreError::Refused("records in memory are not copied".into())),
        }
    }

    #[cfg(test)]
    pub(crate) fn writer_for_test(&self) -> Shared {
        Arc::clone(&self.writer_for_test)
    }

    #[cfg(test)]
    pub(crate) fn commits_waiting_for_test(&self) -> usize {
        self.commits.waiting_for_test()
    }

    /// Runs a read on a reader thread, over one connection that refuses to write.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(move |shared: &Shared| work(&mut shared.lock())).await
    }

    /// Whose compiled query runs next.
    pub(super) fn turns(&self) -> &Turns {
        &self.queries
    }

    /// Nodes, sessions and leases.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    pub(crate) fn chunks(&self) -> &ChunkFiles {
        &self.chunks
    }

    /// None in memory.
    pub(super) fn write_ahead_log(&self) -> Option<&Arc<Log>> {
        self.log.as_ref()
    }

    /// A connection for reads on the caller's thread, unless all are in use.
    pub(super) fn free_point(&self) -> Option<MutexGuard<'_, Connection>> {
        self.points.iter().find_map(|point| point.try_lock())
    }

    /// A read of a few microseconds on the caller's thread: handing it to another thread would cost more than the read.
    fn point<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(free) = self.free_point() {
            return work(&free);
        }
        let turn = self.next_point.fetch_add(1, Ordering::Relaxed) % self.points.len();
        work(&self.points[turn].lock())
    }
}

impl Records for Sqlite {
    async fn get(&self, table: Table, key: &Key) -> Result<Option<Raw>, StoreError> {
        self.point(|connection| read::get(connection, &table, key))
    }

    async fn range(&self, range: Range) -> Result<Vec<Raw>, StoreError> {
        self.read(move |connection| read::scan(connection, &range)).await
    }

    async fn count(&self, table: Table, prefix: &Key) -> Result<u64, StoreError> {
        let prefix = prefix.clone();
        self.read(move |connection| read::count(connection, &table, &prefix)).await
    }

    async fn bytes(&self, table: Table, prefix: &Key) -> Result<u64, StoreError> {
        let prefix = prefix.clone();
        self.read(move |connection| read::bytes(connection, &table, &prefix)).await
    }

    /// A number that is kept is a point read; records that are counted may be millions, which is a reader's work.
    async fn counter(&self, counter: &Counter) -> Result<i64, StoreError> {
        if counter.counted.is_none() {
            return self.point(|connection| read::counter(connection, counter));
        }
        let counter = counter.clone();
        self.read(move |connection| read::counter(connection, &counter)).await
    }

    async fn is_zero(&self, counter: &Counter) -> Result<bool, StoreError> {
        self.point(|connection| match &counter.counted {
            Some(counted) => Ok(read::count_of(connection, &counter.instance, counted, 1)? == 0),
            None => Ok(read::counter(connection, counter)? == 0),
        })
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        self.commits.commit(batch).await
    }

    async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        for place in super::purges() {
            loop {
                let (place, instance) = (place.clone(), instance.as_str().to_owned());
                let limit = caps::PURGE_ROWS_MAX;
                if self.commits.purge(place, instance, limit).await? < limit {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn query(
        &self,
        asker: &Asker,
        plan: &Plan,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        super::query::page(self, asker, plan, after, limit).await
    }

    fn queries(&self) -> (usize, usize) {
        self.queries.counts()
    }

    fn syncs(&self) -> Distribution {
        self.syncs.read()
    }

    /// Leaves `records.db` complete without its write-ahead log.
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

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.close();
        self.readers.stop();
    }
}
