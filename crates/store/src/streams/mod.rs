//! Streams: ordered records per stream and partition, appended durably, read by position, trimmed by time.
//! Called by `events`, `hub` and the doors that read event streams.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base::{InstanceId, Timestamp};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::error::StoreError;
use crate::store::Options;

/// The name of a stream. Leads with its instance, so that instances never share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// `StreamId::new(&hub, "messages/events")`.
    pub fn new(instance: &InstanceId, name: &str) -> Self {
        Self(format!("{instance}/{name}").into())
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

type Partition = (StreamId, u32);

/// All streams of one server. Clones share them.
#[derive(Clone)]
pub struct Streams(Arc<Mutex<HashMap<Partition, Lane>>>);

struct Lane {
    records: Vec<LogRecord>,
    origins: HashMap<u64, u64>,
    next: watch::Sender<u64>,
}

impl Default for Lane {
    fn default() -> Self {
        Self { records: Vec::new(), origins: HashMap::new(), next: watch::channel(0).0 }
    }
}

impl Streams {
    pub fn open(_options: &Options) -> Result<Self, StoreError> {
        Ok(Self(Arc::default()))
    }

    /// Appends in order; durable when it returns.
    pub async fn append(
        &self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
    ) -> Result<Appended, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.append_with(stream, partition, records, move |result| drop(answer.send(result)));
        answered.await.unwrap_or(Err(StoreError::Closed))
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
        let mut lanes = self.0.lock();
        let lane = lanes.entry((stream.clone(), partition)).or_default();
        let first_sequence = lane.records.len() as u64;
        for NewRecord { time, key, headers, body } in records {
            let sequence = lane.records.len() as u64;
            lane.records.push(LogRecord { sequence, offset: sequence * 64, time, key, headers, body });
        }
        lane.next.send_replace(lane.records.len() as u64);
        drop(lanes);
        callback(Ok(Appended { first_sequence }));
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
        let mut new = Vec::new();
        {
            let mut lanes = self.0.lock();
            let lane = lanes.entry((stream.clone(), partition)).or_default();
            for (id, record) in records {
                if lane.origins.get(&source).is_none_or(|last| *last < id) {
                    lane.origins.insert(source, id);
                    new.push(record);
                }
            }
        }
        self.append(stream, partition, new).await.map(drop)
    }

    /// The last id that [`Self::append_once`] stored from `source`.
    pub fn last_origin(&self, stream: &StreamId, partition: u32, source: u64) -> Option<u64> {
        self.0.lock().get(&(stream.clone(), partition)).and_then(|lane| lane.origins.get(&source).copied())
    }

    /// Whether [`Self::append_with`] would be taken now.
    pub fn has_room(&self) -> bool {
        true
    }

    /// Resolves when [`Self::append_with`] would be taken: await it before reading more from a peer.
    pub async fn room(&self) {}

    /// At most `count_max` records and `caps::LOG_READ_BYTES_MAX` bytes, but at least one when there is one.
    pub async fn read(
        &self,
        stream: &StreamId,
        partition: u32,
        from: Position,
        count_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        let lanes = self.0.lock();
        let Some(lane) = lanes.get(&(stream.clone(), partition)) else { return Ok(Vec::new()) };
        let wanted = |record: &&LogRecord| match from {
            Position::Earliest => true,
            Position::Latest => false,
            Position::Sequence(sequence) => record.sequence >= sequence,
            Position::Offset(offset) => record.offset >= offset,
            Position::Time(time) => record.time >= time,
        };
        Ok(lane.records.iter().filter(wanted).take(count_max).cloned().collect())
    }

    pub fn partition(&self, stream: &StreamId, partition: u32) -> PartitionState {
        let lanes = self.0.lock();
        let last = lanes.get(&(stream.clone(), partition)).and_then(|lane| lane.records.last());
        PartitionState {
            first_sequence: 0,
            next_sequence: last.map_or(0, |last| last.sequence + 1),
            last_offset: last.map_or(0, |last| last.offset),
            last_time: last.map_or(Timestamp::NEVER, |last| last.time),
        }
    }

    /// The next sequence number of a partition, changing with every durable append.
    pub fn tail(&self, stream: &StreamId, partition: u32) -> watch::Receiver<u64> {
        self.0.lock().entry((stream.clone(), partition)).or_default().next.subscribe()
    }

    /// Forgets records of a stream that are older than `before`. Disk space comes back by whole segments.
    pub async fn trim(&self, stream: &StreamId, before: Timestamp) -> Result<(), StoreError> {
        for ((id, _), lane) in self.0.lock().iter_mut() {
            if id == stream {
                lane.records.retain(|record| record.time >= before);
            }
        }
        Ok(())
    }

    /// Forgets a stream. One of the same name starts again at sequence number 0.
    pub async fn remove(&self, stream: &StreamId) -> Result<(), StoreError> {
        self.0.lock().retain(|(id, _), _| id != stream);
        Ok(())
    }
}
