//! Streams: ordered records per stream and partition, appended durably, read by position, trimmed by time.
//! Called by `events`, `hub` and the doors that read event streams.

mod appender;
mod condense;
pub mod copy;
mod format;
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
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;

use base::measure::Distribution;
use base::{InstanceId, Timestamp, caps};
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use self::appender::{Appender, Callback, Change, Request, Settings};
use self::format::Origin;
use self::housekeeper::Housekeeper;
use self::lane::Partition;
use self::log::Log;
use self::medium::Medium;
use crate::error::StoreError;
use crate::queue::{Queue, Rejected};
use crate::store::{Durability, Location, Options, lock_directory};
use crate::workers::{self, Workers};

/// The name of a stream. Leads with its instance, so that instances never share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// `StreamId::new(&hub, "messages/events")`.
    pub fn new(instance: &InstanceId, name: &str) -> Self {
        Self(format!("{instance}/{name}").into())
    }

    fn from_stored(text: &str) -> Self {
        Self(text.into())
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
    fn boxed(
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

/// All streams of one server. Clones share them; the last one to go syncs and closes the log.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    log: Arc<Log>,
    queue: Arc<Queue<Request>>,
    readers: Workers<()>,
    appender: Option<JoinHandle<()>>,
    /// Dropped last, after the threads have ended.
    _lock: Option<File>,
}

impl Streams {
    /// Opens or creates the log in `log/` of the data directory and recovers what a crash left.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let settings = settings(options.durability == Durability::Full);
        match &options.location {
            Location::Memory => Self::open_at(Medium::memory(), settings, None),
            Location::File(directory) => {
                let directory = directory.join("log");
                let lock = lock_directory(&directory)?;
                Self::open_at(Medium::directory(directory), settings, Some(lock))
            }
        }
    }

    fn open_at(medium: Medium, settings: Settings, lock: Option<File>) -> Result<Self, StoreError> {
        let housekeeper = Housekeeper::start(&medium)?;
        let (log, end) = open::open(medium)?;
        let (count_max, bytes_max) = (caps::LOG_APPEND_QUEUE_MAX, caps::LOG_APPEND_QUEUE_BYTES_MAX);
        let queue = Queue::weighing(count_max, bytes_max, appender::request_bytes);
        let (log, queue) = (Arc::new(log), Arc::new(queue));
        housekeeper.remove_all(log.take_forgotten());
        let appender = Appender::new(Arc::clone(&log), Arc::clone(&queue), settings, housekeeper, end);
        let readers = Workers::start("log-read", vec![(); caps::READERS], caps::READ_QUEUE_MAX)?;
        let appender = workers::spawn("log-write", move || appender.run())?;
        Ok(Self(Arc::new(Inner { log, queue, readers, appender: Some(appender), _lock: lock })))
    }

    /// Creates a stream, or gives an existing one the partitions that it lacks. Safe to repeat. Only this makes a stream, so that
    /// an append that comes behind a removal cannot bring one back.
    pub async fn ensure(&self, stream: &StreamId, partition_count: u32) -> Result<(), StoreError> {
        check(stream, [].into_iter())?;
        let lacks = |partition: u32| self.0.log.partition(&(stream.clone(), partition)).is_none();
        if !(0..partition_count).any(lacks) {
            return Ok(());
        }
        self.change(Change::Ensure { stream: stream.clone(), partition_count }).await.map(drop)
    }

    /// Appends in order; durable, and seen by readers, when it returns. All of the records or none.
    pub async fn append(
        &self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
    ) -> Result<Appended, StoreError> {
        check(stream, records.iter())?;
        let partition = (stream.clone(), partition);
        self.change(Change::Append { partition, records, origins: None }).await
    }

    /// Appends without a task: `callback` runs on the log's thread once the records are durable (or refused), and must
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
        let change = Change::Append { partition: (stream.clone(), partition), records, origins: None };
        let request = Request { change, callback: Box::new(callback) };
        if let Err(Rejected(request, error)) = self.0.queue.push(request) {
            (request.callback)(Err(error));
        }
    }

    /// Appends what was not appended before from the same source: records whose id is not above the last one of `source`
    /// in this partition are skipped. Ids must rise. For the relay, which repeats itself after a crash.
    pub async fn append_once(
        &self,
        stream: &StreamId,
        partition: u32,
        source: u64,
        records: Vec<(u64, NewRecord)>,
    ) -> Result<(), StoreError> {
        check(stream, records.iter().map(|(_, record)| record))?;
        let (ids, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        let origins = Some(ids.into_iter().map(|id| Origin { source, id }).collect());
        self.change(Change::Append { partition: (stream.clone(), partition), records, origins })
            .await
            .map(drop)
    }

    /// The last id that [`Self::append_once`] stored from `source`.
    pub fn last_origin(&self, stream: &StreamId, partition: u32, source: u64) -> Option<u64> {
        let state = self.0.log.state.read();
        state.lanes.get(&(stream.clone(), partition)).and_then(|lane| lane.last_id(source))
    }

    /// The damage that was seen so far.
    pub fn damage(&self) -> LogDamage {
        self.0.log.damage()
    }

    /// Files that the log holds open.
    pub fn open_files(&self) -> u64 {
        self.0.log.state.read().segments.len() as u64
    }

    /// How long it took to write and sync what was appended together.
    pub fn syncs(&self) -> Distribution {
        self.0.log.syncs.read()
    }

    /// Whether the last write failed of the disk.
    pub fn is_failing(&self) -> bool {
        self.0.log.health.is_failing()
    }

    /// Writes that the disk refused since the log was opened, each for all that were written together.
    pub fn failures_total(&self) -> u64 {
        self.0.log.health.failures_total()
    }

    /// After a failure: begins another segment, to see whether the disk takes it.
    pub async fn try_to_write(&self) -> Result<(), StoreError> {
        self.change(Change::Nothing).await.map(drop)
    }

    /// Whether [`Self::append_with`] would be taken now.
    pub fn has_room(&self) -> bool {
        self.0.queue.has_room()
    }

    /// Resolves when [`Self::append_with`] would be taken: await it before reading more from a peer.
    pub async fn room(&self) {
        self.0.queue.wait_for_room().await;
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
        let partition = (stream.clone(), partition);
        if self.is_at_end(&partition, from) {
            return Ok(Vec::new());
        }
        let log = Arc::clone(&self.0.log);
        self.0.readers.run(move |()| reader::read(&log, &partition, from, count_max)).await
    }

    /// A reader that has caught up costs no other thread's time.
    fn is_at_end(&self, partition: &Partition, from: Position) -> bool {
        let Some(state) = self.0.log.partition(partition) else { return true };
        match from {
            Position::Latest => true,
            Position::Earliest => state.first_sequence == state.next_sequence,
            Position::Sequence(sequence) => sequence >= state.next_sequence,
            Position::Offset(offset) => offset > state.last_offset,
            Position::Time(time) => time > state.last_time,
        }
    }

    /// What is known of a partition; all zero before its first record, and where there is none.
    pub fn partition(&self, stream: &StreamId, partition: u32) -> PartitionState {
        let nothing = PartitionState {
            first_sequence: 0,
            next_sequence: 0,
            last_offset: 0,
            last_time: Timestamp::NEVER,
        };
        self.0.log.partition(&(stream.clone(), partition)).unwrap_or(nothing)
    }

    /// The next sequence number of a partition, changing with every durable append. Closed when the stream is removed, or was
    /// not there.
    pub fn tail(&self, stream: &StreamId, partition: u32) -> watch::Receiver<u64> {
        let partition = (stream.clone(), partition);
        let mut state = self.0.log.state.write();
        let Some(next) = state.lanes.get(&partition).map(|lane| lane.next_sequence) else {
            return watch::channel(0).1;
        };
        state.tails.entry(partition).or_insert_with(|| watch::channel(next).0).subscribe()
    }

    /// Forgets records of a stream that are older than `before`. Disk space comes back by whole segments, once no stream
    /// keeps anything in the oldest.
    pub async fn trim(&self, stream: &StreamId, before: Timestamp) -> Result<(), StoreError> {
        for partition in self.partitions_of(stream) {
            let (log, wanted) = (Arc::clone(&self.0.log), partition.clone());
            let find = move |(): &()| reader::first_sequence(&log, &wanted, Position::Time(before));
            let first_sequence = self.0.readers.run(find).await?;
            if self.0.log.partition(&partition).is_some_and(|state| state.first_sequence < first_sequence) {
                self.change(Change::Trim { partition, first_sequence }).await?;
            }
        }
        Ok(())
    }

    /// Forgets a stream. One of the same name starts again at sequence number 0.
    pub async fn remove(&self, stream: &StreamId) -> Result<(), StoreError> {
        self.change(Change::Remove { stream: stream.clone() }).await.map(drop)
    }

    /// Every stream there is, by name.
    pub fn all(&self) -> Vec<StreamId> {
        let state = self.0.log.state.read();
        let streams: BTreeSet<_> = state.lanes.iter().map(|lane| lane.stream.clone()).collect();
        streams.into_iter().collect()
    }

    /// Every stream of an instance, by name.
    pub fn of_instance(&self, instance: &InstanceId) -> Vec<StreamId> {
        let lead = StreamId::new(instance, "");
        let mut streams = self.all();
        streams.retain(|id| id.as_str().starts_with(lead.as_str()));
        streams
    }

    fn partitions_of(&self, stream: &StreamId) -> Vec<Partition> {
        let state = self.0.log.state.read();
        let lanes = state.lanes.iter().filter(|lane| lane.stream == *stream);
        lanes.map(|lane| (lane.stream.clone(), lane.partition)).collect()
    }

    async fn change(&self, change: Change) -> Result<Appended, StoreError> {
        let (answer, answered) = oneshot::channel();
        let callback: Callback = Box::new(move |result| drop(answer.send(result)));
        self.0.queue.push_when_room(Request { change, callback }).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        workers::join(self.appender.take());
        self.readers.stop();
    }
}

fn settings(sync: bool) -> Settings {
    let segment_bytes = u32::try_from(caps::LOG_SEGMENT_BYTES).expect("a segment is below 4 GiB");
    Settings { segment_bytes, sync }
}

/// Refuses what the format cannot hold, before it is queued.
fn check<'a>(stream: &StreamId, records: impl Iterator<Item = &'a NewRecord>) -> Result<(), StoreError> {
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
