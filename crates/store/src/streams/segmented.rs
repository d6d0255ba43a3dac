//! Streams in a segmented log of our own: the embedded engine. Holds the log's threads, and ends them when it goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use base::measure::Distribution;
use base::{InstanceId, Timestamp, caps};
use tokio::sync::{oneshot, watch};

use super::appender::{self, Appender, Callback, Change, Request, Settings};
use super::format::Origin;
use super::housekeeper::Housekeeper;
use super::lane::Partition;
use super::log::Log;
use super::medium::Medium;
use super::{Appended, LogDamage, LogRecord, NewRecord, PartitionState, Position, StreamId, open, reader};
use crate::directory_lock::DirectoryLock;
use crate::engine::Streams;
use crate::error::StoreError;
use crate::queue::{Queue, Rejected};
use crate::workers::{self, Workers};

pub(crate) struct SegmentedLog {
    pub(super) log: Arc<Log>,
    pub(super) queue: Arc<Queue<Request>>,
    readers: Workers<()>,
    appender: Option<JoinHandle<()>>,
    /// Dropped last, after the threads have ended.
    _lock: Option<DirectoryLock>,
}

impl SegmentedLog {
    pub(super) fn open(
        medium: Medium,
        settings: Settings,
        lock: Option<DirectoryLock>,
    ) -> Result<Self, StoreError> {
        let housekeeper = Housekeeper::start(&medium)?;
        let (log, end) = open::open(medium)?;
        let (count_max, bytes_max) = (caps::LOG_APPEND_QUEUE_MAX, caps::LOG_APPEND_QUEUE_BYTES_MAX);
        let queue = Queue::weighing(count_max, bytes_max, appender::request_bytes);
        let (log, queue) = (Arc::new(log), Arc::new(queue));
        housekeeper.remove_all(log.take_forgotten());
        let appender = Appender::new(Arc::clone(&log), Arc::clone(&queue), settings, housekeeper, end);
        let readers = Workers::start("log-read", vec![(); caps::READERS], caps::READ_QUEUE_MAX)?;
        let appender = workers::spawn("log-write", move || appender.run())?;
        Ok(Self { log, queue, readers, appender: Some(appender), _lock: lock })
    }

    /// Appends what was not appended before from the same source: records whose id is not above the last one of `source`
    /// in this partition are skipped. Ids must rise, as those of the embedded outbox do; never give it those of a database with
    /// several writers, where one that comes late would be lost. For the relay, which repeats itself after a crash.
    pub(crate) async fn append_once(
        &self,
        stream: &StreamId,
        partition: u32,
        source: u64,
        records: Vec<(u64, NewRecord)>,
    ) -> Result<(), StoreError> {
        super::check(stream, records.iter().map(|(_, record)| record))?;
        let (ids, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        let origins = Some(ids.into_iter().map(|id| Origin { source, id }).collect());
        self.change(Change::Append { partition: (stream.clone(), partition), records, origins })
            .await
            .map(drop)
    }

    /// The last id that [`Self::append_once`] stored from `source`.
    #[cfg(test)]
    pub(crate) fn last_origin(&self, stream: &StreamId, partition: u32, source: u64) -> Option<u64> {
        let state = self.log.state.read();
        state.lanes.get(&(stream.clone(), partition)).and_then(|lane| lane.last_id(source))
    }

    /// Every partition of every stream, in the order of their names.
    pub(crate) fn partitions(&self) -> Vec<Partition> {
        let state = self.log.state.read();
        let all: BTreeSet<_> = state.lanes.iter().map(|lane| (lane.stream.clone(), lane.partition)).collect();
        all.into_iter().collect()
    }

    pub(super) fn damage(&self) -> LogDamage {
        self.log.damage()
    }

    pub(super) fn open_files(&self) -> u64 {
        self.log.state.read().segments.len() as u64
    }

    /// A reader that has caught up costs no other thread's time.
    fn is_at_end(&self, partition: &Partition, from: Position) -> bool {
        let Some(state) = self.log.partition(partition) else { return true };
        match from {
            Position::Latest => true,
            Position::Earliest => state.first_sequence == state.next_sequence,
            Position::Sequence(sequence) => sequence >= state.next_sequence,
            Position::Offset(offset) => offset > state.last_offset,
            Position::Time(time) => time > state.last_time,
        }
    }

    fn partitions_of(&self, stream: &StreamId) -> Vec<Partition> {
        let state = self.log.state.read();
        let lanes = state.lanes.iter().filter(|lane| lane.stream == *stream);
        lanes.map(|lane| (lane.stream.clone(), lane.partition)).collect()
    }

    async fn change(&self, change: Change) -> Result<Appended, StoreError> {
        let (answer, answered) = oneshot::channel();
        let callback: Callback = Box::new(move |result| drop(answer.send(result)));
        self.queue.push_when_room(Request { change, callback }).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Streams for SegmentedLog {
    async fn ensure(&self, stream: &StreamId, partition_count: u32) -> Result<(), StoreError> {
        let lacks = |partition: u32| self.log.partition(&(stream.clone(), partition)).is_none();
        if !(0..partition_count).any(lacks) {
            return Ok(());
        }
        self.change(Change::Ensure { stream: stream.clone(), partition_count }).await.map(drop)
    }

    fn append_with(&self, stream: &StreamId, partition: u32, records: Vec<NewRecord>, callback: Callback) {
        let change = Change::Append { partition: (stream.clone(), partition), records, origins: None };
        if let Err(Rejected(request, error)) = self.queue.push(Request { change, callback }) {
            (request.callback)(Err(error));
        }
    }

    async fn append(
        &self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
    ) -> Result<Appended, StoreError> {
        let partition = (stream.clone(), partition);
        self.change(Change::Append { partition, records, origins: None }).await
    }

    fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    async fn room(&self) {
        self.queue.wait_for_room().await;
    }

    async fn read(
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
        let log = Arc::clone(&self.log);
        self.readers.run(move |()| reader::read(&log, &partition, from, count_max)).await
    }

    async fn partition(
        &self,
        stream: &StreamId,
        partition: u32,
    ) -> Result<Option<PartitionState>, StoreError> {
        Ok(self.log.partition(&(stream.clone(), partition)))
    }

    async fn tail(&self, stream: &StreamId, partition: u32) -> Result<watch::Receiver<u64>, StoreError> {
        let partition = (stream.clone(), partition);
        let mut state = self.log.state.write();
        let Some(next) = state.lanes.get(&partition).map(|lane| lane.next_sequence) else {
            return Ok(watch::channel(0).1);
        };
        Ok(state.tails.entry(partition).or_insert_with(|| watch::channel(next).0).subscribe())
    }

    async fn trim(&self, stream: &StreamId, before: Timestamp) -> Result<(), StoreError> {
        for partition in self.partitions_of(stream) {
            let (log, wanted) = (Arc::clone(&self.log), partition.clone());
            let find = move |(): &()| reader::first_sequence(&log, &wanted, Position::Time(before));
            let first_sequence = self.readers.run(find).await?;
            if self.log.partition(&partition).is_some_and(|state| state.first_sequence < first_sequence) {
                self.change(Change::Trim { partition, first_sequence }).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, stream: &StreamId) -> Result<(), StoreError> {
        self.change(Change::Remove { stream: stream.clone() }).await.map(drop)
    }

    async fn list(&self, instance: Option<&InstanceId>) -> Result<Vec<StreamId>, StoreError> {
        let lead = instance.map(|instance| StreamId::new(instance, ""));
        let state = self.log.state.read();
        let streams: BTreeSet<_> = state.lanes.iter().map(|lane| lane.stream.clone()).collect();
        let is_of = |id: &StreamId| lead.as_ref().is_none_or(|lead| id.as_str().starts_with(lead.as_str()));
        Ok(streams.into_iter().filter(is_of).collect())
    }

    fn appended_total(&self) -> u64 {
        self.log.state.read().lanes.iter().map(|lane| lane.next_sequence).sum()
    }

    fn syncs(&self) -> Distribution {
        self.log.syncs.read()
    }

    fn is_failing(&self) -> bool {
        self.log.health.is_failing()
    }

    fn failures_total(&self) -> u64 {
        self.log.health.failures_total()
    }

    /// Begins another segment.
    async fn try_to_write(&self) -> Result<(), StoreError> {
        self.change(Change::Nothing).await.map(drop)
    }
}

impl Drop for SegmentedLog {
    fn drop(&mut self) {
        self.queue.close();
        workers::join(self.appender.take());
        self.readers.stop();
    }
}
