//! Streams: R8 and R10. Records appended in order per stream and partition, from any server, read by position and trimmed by time.

use base::measure::Distribution;
use base::{InstanceId, Timestamp};
use tokio::sync::watch;

use crate::error::StoreError;
use crate::streams::{Appended, Callback, LogRecord, NewRecord, PartitionState, Position, StreamId};

/// Every read sees all that was acknowledged before it began, by whichever process.
pub(crate) trait Streams: Send + Sync {
    /// Creates a stream, or what an existing one lacks of this many partitions. Nothing else makes a stream.
    fn ensure(
        &self,
        stream: &StreamId,
        partition_count: u32,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All of the records or none. The callback runs once they are durable and seen by readers, or refused, on a thread that it must
    /// not block. At once with `Busy` when there is no room. Appends to one partition are made in the order of the calls.
    fn append_with(&self, stream: &StreamId, partition: u32, records: Vec<NewRecord>, callback: Callback);

    /// The same for who can wait for room.
    fn append(
        &self,
        stream: &StreamId,
        partition: u32,
        records: Vec<NewRecord>,
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    fn has_room(&self) -> bool;

    fn room(&self) -> impl Future<Output = ()> + Send;

    /// At most `count_max` records and about `caps::LOG_READ_BYTES_MAX` bytes, but at least one when there is one.
    fn read(
        &self,
        stream: &StreamId,
        partition: u32,
        from: Position,
        count_max: usize,
    ) -> impl Future<Output = Result<Vec<LogRecord>, StoreError>> + Send;

    /// `None` where there is no such partition.
    fn partition(
        &self,
        stream: &StreamId,
        partition: u32,
    ) -> impl Future<Output = Result<Option<PartitionState>, StoreError>> + Send;

    /// The next sequence number, changing with every durable append by whichever process; an append of another one may be told a
    /// moment later. Closed when the stream is removed, or was not there.
    fn tail(
        &self,
        stream: &StreamId,
        partition: u32,
    ) -> impl Future<Output = Result<watch::Receiver<u64>, StoreError>> + Send;

    fn trim(
        &self,
        stream: &StreamId,
        before: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn remove(&self, stream: &StreamId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// By name; of one instance, or of all.
    fn list(
        &self,
        instance: Option<&InstanceId>,
    ) -> impl Future<Output = Result<Vec<StreamId>, StoreError>> + Send;

    /// Records that are known to have been appended; for metrics, which may not wait.
    fn appended_total(&self) -> u64;

    /// How long it took what was appended together to become durable.
    fn syncs(&self) -> Distribution;

    fn is_failing(&self) -> bool;

    fn failures_total(&self) -> u64;

    /// After a failure: sees whether it would be taken now.
    fn try_to_write(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
