//! Chunks: bytes beside the records, written once under an id of their own and never changed (ADR 17). Which of them are still
//! wanted is the affair of records, and of whoever writes those.

use std::ops::Range;

use base::InstanceId;
use bytes::Bytes;

use crate::chunks::ChunkId;
use crate::error::StoreError;

pub(crate) trait Chunks: Send + Sync {
    /// Durable when it returns. Whether it was done may stay unknown.
    fn write_chunk(
        &self,
        instance: &InstanceId,
        id: &ChunkId,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What of the range there is. `None` where there is no such chunk.
    fn read_chunk(
        &self,
        instance: &InstanceId,
        id: &ChunkId,
        range: Range<usize>,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// With what a write that was cut off has left. Nothing happens where there is none.
    fn remove_chunk(
        &self,
        instance: &InstanceId,
        id: &ChunkId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All of an instance, whose id is never used again.
    fn remove_chunks(&self, instance: &InstanceId) -> impl Future<Output = Result<(), StoreError>> + Send;
}
