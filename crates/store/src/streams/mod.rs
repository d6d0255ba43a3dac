//! Streams: ordered records per stream and partition, appended durably, read by position, trimmed by time.
//! Called by `events`, `hub` and the doors that read event streams.

mod appender;
mod condense;
pub mod copy;
pub(crate) mod format;
mod group;
mod housekeeper;
mod index;
mod lane;
mod log;
mod medium;
mod open;
mod reader;
pub(crate) mod repair;
mod scan;
mod segment;
pub(crate) mod segmented;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use base::measure::Distribution;
use base::{InstanceId, Timestamp, caps};
use bytes::Bytes;
use tokio::sync::watch;

use self::appender::Settings;
pub(crate) use self::appender::{Callback, shielded};
use self::lane::Partition;
use self::medium::Medium;
pub(crate) use self::segmented::SegmentedLog;
use crate::directory_lock::DirectoryLock;
use crate::engine::{self, Streams as _};
use crate::error::StoreError;
use crate::postgres::{Postgres, PostgresStreams};
use crate::store::{Durability, Location, Options, Store};

/// The name of a stream. Leads with its instance, so that instances never share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// `StreamId::new(&hub, "messages/events")`.
    pub fn new(instance: &InstanceId, name: &str) -> Self {
        Self(format!("{instance}/{name}").into())
    }

    pub(crate) fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The instance, which has no slash in it, and the name.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or((&self.0, ""))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record on its way in. `headers` and `body` are the caller's own encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// When it was accepted. A time before the partition's last one is raised to it, so that time never runs backwards.
    pub time: Timestamp,
    pub key: String,
    pub headers: Bytes,
    pub body: Bytes,
}

/// A record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// 0, 1, 2, … per stream and partition.
    pub sequence: u64,
    /// Greater for every later record of the partition, with gaps; stable for the record's life.
    pub offset: u64,
    pub time: Timestamp,
    pub key: String,
    pub headers: Bytes,
    pub body: Bytes,
}

/// Where a read begins. All are inclusive; what was trimmed is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Earliest,
    /// Behind the present end.
    Latest,
    Sequence(u64),
    /// At the first record with this or a greater offset.
    Offset(u64),
    /// At the first record of this or a later time.
    Time(Timestamp),
}

/// A durable append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The sequence number of the first record; the others follow without a gap.
    pub first_sequence: u64,
}

/// What is known of one partition without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The sequence number of the oldest record that is kept; equals `next_sequence` when there is none.
    pub first_sequence: u64,
    pub next_sequence: u64,
    /// Offset and time of the last record ever appended.
    pub last_offset: u64,
    pub last_time: Timestamp,
}

impl PartitionState {
    pub(crate) const NOTHING: Self =
        Self { first_sequence: 0, next_sequence: 0, last_offset: 0, last_time: Timestamp::NEVER };
}

/// Records that damage took, as a reader comes to them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read records {first_sequence} to {} of {stream}, partition {partition}: log segment {segment} is damaged at {position}",
    next_sequence - 1
)]
pub struct Lost {
    pub stream: StreamId,
    pub partition: u32,
    /// The first that is lost.
    pub first_sequence: u64,
    /// Where a reader goes on. What is told as lost before it may be more than there was, never less.
    pub next_sequence: u64,
    /// The file, and the place in it.
    pub segment: String,
    pub position: u32,
}

impl Lost {
    pub(crate) fn boxed(
        (stream, partition): &Partition,
        first_sequence: u64,
        next_sequence: u64,
        segment: String,
        position: u32,
    ) -> Box<Self> {
        Box::new(Self {
            stream: stream.clone(),
            partition: *partition,
            first_sequence,
            next_sequence,
            segment,
            position,
        })
    }
}

/// What is known to be damaged of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogDamage {
    pub segments: u64,
    /// At most.
    pub records_lost: u64,
}

/// All streams of one server. Clones share them; the last one to go finishes what was begun.
#[derive(Clone)]
pub struct Streams(Arc<Engine>);

/// A closed set: who adds an engine adds an arm, and the compiler lists what it must give.
enum Engine {
    Log(SegmentedLog),
    Postgres(PostgresStreams),
    #[cfg(any(test, feature = "memory"))]
    Memory(crate::memory::Memory),
}

/// The same call on whichever engine it is. What is not on the way of every message is boxed, so that its callers' futures stay
/// small.
macro_rules! on_engine {
    ($streams:expr, $name:ident => $call:expr) => {
        match &*$streams.0 {
            Engine::Log($name) => $call,
            Engine::Postgres($name) => $call,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory($name) => $call,
        }
    };
}

impl Streams {
    /// Opens or creates the log in `log/` of the data directory and recovers what a crash left.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let settings = settings(options.durability == Durability::Full);
        match &options.location {
            Location::Postgres(_) => {
                Err(StoreError::Refused("streams in a database are opened with its records".into()))
            }
            Location::Memory => Self::open_at(Medium::memory(), settings, None),
            Location::File(directory) => {
                let directory = directory.join("log");
                let lock = DirectoryLock::take(&directory)?;
                Self::open_at(Medium::directory(directory), settings, Some(lock))
            }
        }
    }

    /// Those of an opened store: in its database, or in a log of their own beside it.
    pub fn beside(store: &Store, options: &Options) -> Result<Self, StoreError> {
        match store.engine() {
            engine::Engine::Postgres(postgres) => Ok(Self::of_database(postgres)),
            engine::Engine::Sqlite(_) => Self::open(options),
            #[cfg(any(test, feature = "memory"))]
            engine::Engine::Memory(memory) => Ok(Self::of_memory(memory)),
        }
    }

    pub(crate) fn of_database(postgres: &Postgres) -> Self {
        Self(Arc::new(Engine::Postgres(PostgresStreams::open(postgres))))
    }

    #[cfg(any(test, feature = "memory"))]
    pub(crate) fn of_memory(memory: &crate::memory::Memory) -> Self {
        Self(Arc::new(Engine::Memory(memory.clone())))
    }

    /// Creates a stream, or gives an existing one the partitions that it lacks. Safe to repeat. Only this makes a stream, so that
    /// an append that comes behind a removal cannot bring one back.
    pub async fn ensure(&self, stream: &StreamId, partition_count: u32) -> Result<(), StoreError> {
        check(stream, [].into_iter())?;
        on_engine!(self, engine => Box::pin(engine.ensure(stream, partition_count)).await)
    }

    /// Appends in order; durable, and seen by readers, when it returns. All of the records or none.
    pub async fn append(
        &self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
    ) -> Result<Appended, StoreError> {
        check(stream, records.iter())?;
        on_engine!(self, engine => engine.append(stream, partition, records).await)
    }

    /// Appends without a task: `callback` runs on a thread of the engine once the records are durable (or refused), and must
    /// not block. When the queue is full it gets `Busy` at once; wait on [`Self::room`] first to avoid that.
    pub fn append_with(
        &self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
        callback: impl FnOnce(Result<Appended, StoreError>) + Send + 'static,
    ) {
        if let Err(error) = check(stream, records.iter()) {
            return callback(Err(error));
        }
        on_engine!(self, engine => engine.append_with(stream, partition, records, Box::new(callback)));
    }

    /// Whether [`Self::append_with`] would be taken now.
    pub fn has_room(&self) -> bool {
        on_engine!(self, engine => engine.has_room())
    }

    /// Resolves when [`Self::append_with`] would be taken: await it before reading more from a peer.
    pub async fn room(&self) {
        on_engine!(self, engine => engine.room().await);
    }

    /// At most `count_max` records and about `caps::LOG_READ_BYTES_MAX` bytes, but at least one when there is one.
    /// Damage is never a silent gap: where it took records, the read that begins there fails with [`StoreError::Lost`], which says
    /// where to go on.
    pub async fn read(
        &self,
        stream: &StreamId,
        partition: u32,
        from: Position,
        count_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        on_engine!(self, engine => Box::pin(engine.read(stream, partition, from, count_max)).await)
    }

    /// What is known of a partition; all zero before its first record, and where there is none.
    pub async fn partition(&self, stream: &StreamId, partition: u32) -> Result<PartitionState, StoreError> {
        let state = on_engine!(self, engine => Box::pin(engine.partition(stream, partition)).await)?;
        Ok(state.unwrap_or(PartitionState::NOTHING))
    }

    /// The next sequence number of a partition, changing with every durable append, by whichever server. Closed when the stream is
    /// removed, or was not there.
    pub async fn tail(&self, stream: &StreamId, partition: u32) -> Result<watch::Receiver<u64>, StoreError> {
        on_engine!(self, engine => Box::pin(engine.tail(stream, partition)).await)
    }

    /// Forgets records of a stream that are older than `before`. Disk space comes back by whole segments, once no stream
    /// keeps anything in the oldest.
    pub async fn trim(&self, stream: &StreamId, before: Timestamp) -> Result<(), StoreError> {
        on_engine!(self, engine => Box::pin(engine.trim(stream, before)).await)
    }

    /// Forgets a stream. One of the same name starts again at sequence number 0.
    pub async fn remove(&self, stream: &StreamId) -> Result<(), StoreError> {
        on_engine!(self, engine => Box::pin(engine.remove(stream)).await)
    }

    /// Every stream there is, by name.
    pub async fn all(&self) -> Result<Vec<StreamId>, StoreError> {
        on_engine!(self, engine => Box::pin(engine.list(None)).await)
    }

    /// Every stream of an instance, by name.
    pub async fn of_instance(&self, instance: &InstanceId) -> Result<Vec<StreamId>, StoreError> {
        on_engine!(self, engine => Box::pin(engine.list(Some(instance))).await)
    }

    /// Records that are known to have been appended to the streams that there are; for metrics.
    pub fn appended_total(&self) -> u64 {
        on_engine!(self, engine => engine.appended_total())
    }

    /// How long it took to make durable what was appended together.
    pub fn syncs(&self) -> Distribution {
        on_engine!(self, engine => engine.syncs())
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        on_engine!(self, engine => engine.is_failing())
    }

    /// Writes that were refused since the streams were opened, each for all that were written together.
    pub fn failures_total(&self) -> u64 {
        on_engine!(self, engine => engine.failures_total())
    }

    /// After a failure: sees whether an append would be taken.
    pub async fn try_to_write(&self) -> Result<(), StoreError> {
        on_engine!(self, engine => Box::pin(engine.try_to_write()).await)
    }
}

/// Of the embedded engine: what only files have, and appending once, which leans on ids that rise.
impl Streams {
    fn open_at(medium: Medium, settings: Settings, lock: Option<DirectoryLock>) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Engine::Log(SegmentedLog::open(medium, settings, lock)?))))
    }

    /// The log, where streams are kept in one.
    pub(crate) fn embedded(&self) -> Option<&SegmentedLog> {
        match &*self.0 {
            Engine::Log(log) => Some(log),
            Engine::Postgres(_) => None,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => None,
        }
    }

    /// The database, where streams are kept in one.
    pub(crate) fn database(&self) -> Option<&PostgresStreams> {
        match &*self.0 {
            Engine::Postgres(streams) => Some(streams),
            Engine::Log(_) => None,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(_) => None,
        }
    }

    /// The memory, where streams are kept there.
    #[cfg(any(test, feature = "memory"))]
    pub(crate) fn memory(&self) -> Option<&crate::memory::Memory> {
        match &*self.0 {
            Engine::Memory(memory) => Some(memory),
            _ => None,
        }
    }

    #[cfg(test)]
    fn log(&self) -> &Arc<log::Log> {
        &self.embedded().expect("a test of the log opens one").log
    }

    /// Appends what was not appended before from the same source: records whose id is not above the last one of `source`
    /// in this partition are skipped. Ids must rise.
    pub async fn append_once(
        &self,
        stream: &StreamId,
        partition: u32,
        source: u64,
        records: Vec<(u64, NewRecord)>,
    ) -> Result<(), StoreError> {
        let refuse = || StoreError::Refused("an append by ids to streams that keep none".into());
        self.embedded().ok_or_else(refuse)?.append_once(stream, partition, source, records).await
    }

    /// The damage that was seen so far.
    pub fn damage(&self) -> LogDamage {
        let none = LogDamage { segments: 0, records_lost: 0 };
        self.embedded().map_or(none, SegmentedLog::damage)
    }

    /// Files that the log holds open.
    pub fn open_files(&self) -> u64 {
        self.embedded().map_or(0, SegmentedLog::open_files)
    }
}

fn settings(sync: bool) -> Settings {
    let segment_bytes = u32::try_from(caps::LOG_SEGMENT_BYTES).expect("a segment is below 4 GiB");
    Settings { segment_bytes, sync }
}

/// Refuses what the format cannot hold, before it is queued.
pub(crate) fn check<'a>(
    stream: &StreamId,
    records: impl Iterator<Item = &'a NewRecord>,
) -> Result<(), StoreError> {
    let refuse = |what: &str| Err(StoreError::Refused(format!("a {what} that is too long, in {stream}")));
    if stream.as_str().len() > caps::LOG_NAME_BYTES_MAX {
        return refuse("stream name");
    }
    for record in records {
        let bytes = record.key.len() + record.headers.len() + record.body.len();
        if bytes > caps::LOG_RECORD_BYTES_MAX || record.key.len() > caps::LOG_NAME_BYTES_MAX {
            return refuse("record");
        }
    }
    Ok(())
}
