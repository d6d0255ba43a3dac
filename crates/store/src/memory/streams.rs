//! Streams: a vector for each partition. Appends of a store go through one line, so that those of a partition keep their order.

use std::collections::BTreeMap;
use std::time::Duration;

use base::measure::{Distribution, Histogram, SYNC_MICROS};
use base::{InstanceId, Timestamp, caps};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::state::State;
use super::{Database, Memory, Part};
use crate::engine::Streams;
use crate::error::StoreError;
use crate::queue::Rejected;
use crate::streams::{
    Appended, Callback, LogRecord, NewRecord, PartitionState, Position, StreamId, shielded,
};

pub(super) struct Stream {
    /// One that was made anew under the same name has another.
    generation: u64,
    partitions: Vec<Partition>,
}

struct Partition {
    state: PartitionState,
    records: Vec<LogRecord>,
}

pub(super) struct Request {
    stream: StreamId,
    partition: u32,
    records: Vec<NewRecord>,
    callback: Callback,
}

/// Who waits at a store for the ends of partitions, with the generations that they wait at.
#[derive(Default)]
pub(super) struct Tails(Mutex<BTreeMap<(StreamId, u32), Tail>>);

type Tail = (u64, watch::Sender<u64>);

impl Tails {
    /// Tells what there is now, and lets those go who wait for what is no more.
    fn tell(&self, state: &State) {
        self.0.lock().retain(|(stream, partition), (generation, next)| {
            let found = state.streams.get(stream).filter(|found| found.generation == *generation);
            let Some(there) = found.and_then(|found| found.partitions.get(*partition as usize)) else {
                return false;
            };
            next.send_if_modified(|known| std::mem::replace(known, there.state.next_sequence) != *known);
            true
        });
    }
}

impl Stream {
    pub(super) fn ends(&self) -> Vec<u64> {
        self.partitions.iter().map(|partition| partition.state.next_sequence).collect()
    }
}

impl Partition {
    fn append(&mut self, records: Vec<NewRecord>) -> Appended {
        let first_sequence = self.state.next_sequence;
        for NewRecord { time, key, headers, body } in records {
            let state = &mut self.state;
            let (sequence, time) = (state.next_sequence, time.max(state.last_time));
            // Any gap will do.
            let offset = state.last_offset + 1 + body.len() as u64 % 7;
            (state.next_sequence, state.last_offset, state.last_time) = (sequence + 1, offset, time);
            self.records.push(LogRecord { sequence, offset, time, key, headers, body });
        }
        Appended { first_sequence }
    }

    fn read(&self, from: Position, count_max: usize) -> Vec<LogRecord> {
        let is_wanted = |record: &&LogRecord| match from {
            Position::Earliest => true,
            Position::Latest => false,
            Position::Sequence(sequence) => record.sequence >= sequence,
            Position::Offset(offset) => record.offset >= offset,
            Position::Time(time) => record.time >= time,
        };
        let (mut bytes, mut found) = (0, Vec::new());
        for record in self.records.iter().filter(is_wanted).take(count_max) {
            bytes += record.body.len() + record.headers.len() + record.key.len();
            if bytes > caps::LOG_READ_BYTES_MAX && !found.is_empty() {
                break;
            }
            found.push(record.clone());
        }
        found
    }

    fn trim(&mut self, before: Timestamp) {
        self.records.retain(|record| record.time >= before);
        self.state.first_sequence =
            self.records.first().map_or(self.state.next_sequence, |record| record.sequence);
    }
}

impl State {
    fn partition(&mut self, stream: &StreamId, partition: u32) -> Option<&mut Partition> {
        self.streams.get_mut(stream)?.partitions.get_mut(partition as usize)
    }

    pub(super) fn append(
        &mut self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
    ) -> Result<Appended, StoreError> {
        let found = self.partition(stream, partition);
        Ok(found.ok_or_else(|| StoreError::NoStream(stream.to_string()))?.append(records))
    }

    pub(super) fn has_partition(&self, stream: &StreamId, partition: u32) -> bool {
        self.streams.get(stream).is_some_and(|found| (partition as usize) < found.partitions.len())
    }
}

impl Database {
    /// Tells this store of what has changed, and the others if it pleases: they look for themselves soon.
    pub(super) fn tell(&self, own: &Tails) {
        let state = self.0.state.lock();
        for tails in self.0.tails.lock().iter() {
            if std::ptr::eq(&raw const **tails, own) || self.0.faults.tells() {
                tails.tell(&state);
            }
        }
    }
}

/// Appends what waits, for as long as the store is open.
pub(super) async fn work(part: Part) {
    loop {
        let count = part.faults().count(caps::COMMIT_BATCHES_MAX);
        let Some(requests) = part.queue.taken(count, usize::MAX).await else { return };
        part.faults().after().await;
        let mut answers: BTreeMap<(StreamId, u32), Vec<_>> = BTreeMap::new();
        for Request { stream, partition, records, callback } in requests {
            let appended = part.change(|state| state.append(&stream, partition, records)).await;
            let answer = (callback, appended.and_then(|appended| appended));
            answers.entry((stream, partition)).or_default().push(answer);
        }
        part.database.tell(&part.tails);
        // Within a partition they are told in the order of the calls.
        let mut answers: Vec<_> = answers.into_values().collect();
        part.faults().shuffle(&mut answers);
        for (callback, answer) in answers.into_iter().flatten() {
            shielded(callback)(answer);
            part.faults().after().await;
        }
    }
}

/// What others append is seen by looking.
pub(super) async fn keep_looking(part: Part) {
    loop {
        part.database.0.clock.sleep(Duration::from_millis(caps::STREAM_POLL_MILLIS)).await;
        if part.now(|state| part.tails.tell(state)).is_err() {
            return;
        }
    }
}

impl Streams for Memory {
    async fn ensure(&self, stream: &StreamId, partition_count: u32) -> Result<(), StoreError> {
        let ensured = self.part().change(|state| {
            state.generation += 1;
            let made = || Stream { generation: state.generation, partitions: Vec::new() };
            let found = state.streams.entry(stream.clone()).or_insert_with(made);
            let empty = || Partition { state: PartitionState::NOTHING, records: Vec::new() };
            let count = found.partitions.len().max(partition_count as usize);
            found.partitions.resize_with(count, empty);
        });
        ensured.await
    }

    fn append_with(&self, stream: &StreamId, partition: u32, records: Vec<NewRecord>, callback: Callback) {
        if self.part().faults().is_busy() {
            return callback(Err(StoreError::Busy));
        }
        let request = Request { stream: stream.clone(), partition, records, callback };
        if let Err(Rejected(request, error)) = self.part().queue.push(request) {
            (request.callback)(Err(error));
        }
    }

    async fn append(
        &self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
    ) -> Result<Appended, StoreError> {
        let (answer, answered) = oneshot::channel();
        let callback: Callback = Box::new(move |result| drop(answer.send(result)));
        let request = Request { stream: stream.clone(), partition, records, callback };
        self.part().queue.push_when_room(request).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn has_room(&self) -> bool {
        self.part().queue.has_room()
    }

    async fn room(&self) {
        self.part().queue.wait_for_room().await;
    }

    async fn read(
        &self,
        stream: &StreamId,
        partition: u32,
        from: Position,
        count_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        let found = self.part().step(|state| {
            state.partition(stream, partition).map(|found| found.read(from, count_max)).unwrap_or_default()
        });
        found.await
    }

    async fn partition(
        &self,
        stream: &StreamId,
        partition: u32,
    ) -> Result<Option<PartitionState>, StoreError> {
        self.part().step(|state| state.partition(stream, partition).map(|found| found.state)).await
    }

    async fn tail(&self, stream: &StreamId, partition: u32) -> Result<watch::Receiver<u64>, StoreError> {
        let tails = &self.part().tails;
        let tail = self.part().step(|state| {
            let found = state.streams.get(stream)?;
            let (generation, next) =
                (found.generation, found.partitions.get(partition as usize)?.state.next_sequence);
            tails.tell(state);
            let mut waited = tails.0.lock();
            let tail = waited.entry((stream.clone(), partition));
            Some(tail.or_insert_with(|| (generation, watch::channel(next).0)).1.subscribe())
        });
        Ok(tail.await?.unwrap_or_else(|| watch::channel(0).1))
    }

    async fn trim(&self, stream: &StreamId, before: Timestamp) -> Result<(), StoreError> {
        let trimmed = self.part().change(|state| {
            let found = state.streams.get_mut(stream);
            found.into_iter().flat_map(|found| &mut found.partitions).for_each(|of| of.trim(before));
        });
        trimmed.await
    }

    async fn remove(&self, stream: &StreamId) -> Result<(), StoreError> {
        self.part().change(|state| drop(state.streams.remove(stream))).await?;
        self.part().database.tell(&self.part().tails);
        Ok(())
    }

    async fn list(&self, instance: Option<&InstanceId>) -> Result<Vec<StreamId>, StoreError> {
        let is_of =
            |stream: &&StreamId| instance.is_none_or(|instance| stream.parts().0 == instance.as_str());
        self.part().step(|state| state.streams.keys().filter(is_of).cloned().collect()).await
    }

    fn appended_total(&self) -> u64 {
        self.part().now(|state| state.streams.values().flat_map(Stream::ends).sum()).unwrap_or_default()
    }

    fn syncs(&self) -> Distribution {
        Histogram::new(SYNC_MICROS).read()
    }

    fn is_failing(&self) -> bool {
        false
    }

    fn failures_total(&self) -> u64 {
        0
    }

    async fn try_to_write(&self) -> Result<(), StoreError> {
        self.part().change(|_| ()).await
    }
}
