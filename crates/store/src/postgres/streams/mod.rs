//! Streams in the database: a row per partition, which orders appends of all servers, and rows of blocks, which hold the records.
//! Any server appends to any partition; nobody owns one.

mod appender;
mod block;
mod reader;
mod sql;
mod tails;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::measure::{Distribution, Histogram, SYNC_MICROS};
use base::{InstanceId, Timestamp, caps};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub(in crate::postgres) use self::appender::Group;
use self::appender::{Appender, Request};
pub(in crate::postgres) use self::block::{Kept, PlacedBlock};
use self::tails::Tails;
pub(in crate::postgres) use self::upkeep::make_buckets;
use super::Postgres;
use crate::engine::Streams;
use crate::error::StoreError;
use crate::health::Health;
use crate::queue::{Queue, Rejected};
use crate::streams::{Appended, Callback, LogRecord, NewRecord, PartitionState, Position, StreamId};

const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);

pub(crate) struct PostgresStreams(Arc<Shared>, Vec<Arc<Queue<Request>>>, Mutex<Vec<JoinHandle<()>>>);

/// What the connections that append share with who asks.
struct Shared {
    postgres: Postgres,
    tails: Arc<Tails>,
    health: Health,
    syncs: Histogram,
    appended_total: AtomicU64,
}

impl Shared {
    /// What was appended: stream, partition, next sequence number, and how many.
    fn appended(&self, ends: &[(&StreamId, u32, u64, u64)]) {
        for (stream, partition, next, count) in ends {
            self.appended_total.fetch_add(*count, Ordering::Relaxed);
            self.tails.moved(stream, *partition, *next);
        }
    }
}

impl PostgresStreams {
    pub(crate) fn open(postgres: &Postgres) -> Self {
        let shared = Arc::new(Shared {
            postgres: postgres.clone(),
            tails: Arc::default(),
            health: Health::default(),
            syncs: Histogram::new(SYNC_MICROS),
            appended_total: AtomicU64::new(0),
        });
        let (count_max, bytes_max) = (caps::LOG_APPEND_QUEUE_MAX, caps::LOG_APPEND_QUEUE_BYTES_MAX);
        let queue = |_| {
            let share = caps::STREAM_CONNECTIONS;
            Arc::new(Queue::weighing(count_max / share, bytes_max / share, appender::bytes))
        };
        let queues: Vec<_> = (0..caps::STREAM_CONNECTIONS).map(queue).collect();
        let handle = postgres.handle();
        let appender = |(number, queue): (usize, &Arc<Queue<Request>>)| {
            handle.spawn(Appender::new(Arc::clone(&shared), Arc::clone(queue), number).run())
        };
        let appenders = queues.iter().enumerate().map(appender).collect();
        handle.spawn(tails::poll(Arc::downgrade(&shared)));
        Self(shared, queues, Mutex::new(appenders))
    }

    pub(crate) fn postgres(&self) -> &Postgres {
        &self.0.postgres
    }

    /// The connection that all appends to a partition go over, so that they are made in order.
    fn queue(&self, partition: u32) -> &Queue<Request> {
        &self.1[partition as usize % self.1.len()]
    }

    /// The state of a partition and the number of its stream.
    async fn state(
        &self,
        stream: &StreamId,
        partition: u32,
    ) -> Result<Option<(PartitionState, i32)>, StoreError> {
        let ((instance, name), partition) = (stream.parts(), i64::from(partition));
        let rows = self.0.postgres.rows(sql::STATE, &[&instance, &name, &partition], ANSWER).await?;
        Ok(rows.first().map(|row| {
            let state = PartitionState {
                first_sequence: unsigned(row.get(0)),
                next_sequence: unsigned(row.get(1)),
                last_offset: unsigned(row.get(2)),
                last_time: Timestamp::from_ticks(row.get(3)),
            };
            (state, row.get(4))
        }))
    }
}

impl Streams for PostgresStreams {
    async fn ensure(&self, stream: &StreamId, partition_count: u32) -> Result<(), StoreError> {
        let ((instance, name), count) = (stream.parts(), i64::from(partition_count));
        let never = Timestamp::NEVER.ticks();
        upkeep::make_buckets(&self.0.postgres).await?;
        upkeep::change(
            &self.0.postgres,
            &[(sql::MAKE, &[&instance, &name]), (sql::MAKE_PARTITIONS, &[&instance, &name, &count, &never])],
        )
        .await
    }

    fn append_with(&self, stream: &StreamId, partition: u32, records: Vec<NewRecord>, callback: Callback) {
        let request = Request { stream: stream.clone(), partition, records, callback };
        if let Err(Rejected(request, error)) = self.queue(partition).push(request) {
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
        self.queue(partition).push_when_room(request).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn has_room(&self) -> bool {
        self.1.iter().all(|queue| queue.has_room())
    }

    async fn room(&self) {
        for queue in &self.1 {
            queue.wait_for_room().await;
        }
    }

    async fn read(
        &self,
        stream: &StreamId,
        partition: u32,
        from: Position,
        count_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        reader::read(self, stream, partition, from, count_max).await
    }

    async fn partition(
        &self,
        stream: &StreamId,
        partition: u32,
    ) -> Result<Option<PartitionState>, StoreError> {
        Ok(self.state(stream, partition).await?.map(|(state, _)| state))
    }

    async fn tail(&self, stream: &StreamId, partition: u32) -> Result<watch::Receiver<u64>, StoreError> {
        let Some((state, number)) = self.state(stream, partition).await? else {
            return Ok(watch::channel(0).1);
        };
        Ok(self.0.tails.wait(stream, partition, number, state.next_sequence))
    }

    async fn trim(&self, stream: &StreamId, before: Timestamp) -> Result<(), StoreError> {
        upkeep::trim(self, stream, before).await
    }

    async fn remove(&self, stream: &StreamId) -> Result<(), StoreError> {
        let (instance, name) = stream.parts();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&instance, &name];
        let statements = [sql::HOLD_STREAM, sql::HOLD_PARTITIONS, sql::REMOVE_PARTITIONS, sql::REMOVE];
        upkeep::change(&self.0.postgres, &statements.map(|text| (text, &parameters[..]))).await?;
        self.0.tails.removed(stream);
        Ok(())
    }

    async fn list(&self, instance: Option<&InstanceId>) -> Result<Vec<StreamId>, StoreError> {
        let rows = match instance {
            Some(instance) => self.0.postgres.rows(sql::LIST_OF, &[&instance.as_str()], ANSWER).await?,
            None => self.0.postgres.rows(sql::LIST, &[], ANSWER).await?,
        };
        let id = |row: &tokio_postgres::Row| {
            StreamId::from_stored(&format!("{}/{}", row.get::<_, &str>(0), row.get::<_, &str>(1)))
        };
        Ok(rows.iter().map(id).collect())
    }

    fn appended_total(&self) -> u64 {
        self.0.appended_total.load(Ordering::Relaxed)
    }

    fn syncs(&self) -> Distribution {
        self.0.syncs.read()
    }

    fn is_failing(&self) -> bool {
        self.0.health.is_failing()
    }

    fn failures_total(&self) -> u64 {
        self.0.health.failures_total()
    }

    async fn try_to_write(&self) -> Result<(), StoreError> {
        upkeep::change(&self.0.postgres, &[]).await?;
        self.0.health.note(Ok(()));
        Ok(())
    }
}

impl Drop for PostgresStreams {
    fn drop(&mut self) {
        self.1.iter().for_each(|queue| queue.close());
        let appenders = std::mem::take(&mut *self.2.lock());
        self.0.postgres.0.finish(appenders);
    }
}

/// Whether there is such a partition.
pub(in crate::postgres) async fn is_there(
    postgres: &Postgres,
    stream: &StreamId,
    partition: u32,
) -> Result<bool, StoreError> {
    let ((instance, name), partition) = (stream.parts(), i64::from(partition));
    Ok(!postgres.rows(sql::STATE, &[&instance, &name, &partition], ANSWER).await?.is_empty())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
