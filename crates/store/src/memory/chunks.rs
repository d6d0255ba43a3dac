//! Chunks in a map.

use std::ops::Range;

use base::InstanceId;
use bytes::Bytes;

use super::Memory;
use crate::chunks::ChunkId;
use crate::engine::Chunks;
use crate::error::StoreError;

fn key(instance: &InstanceId, id: &ChunkId) -> (String, ChunkId) {
    (instance.as_str().to_owned(), id.clone())
}

impl Chunks for Memory {
    async fn write_chunk(&self, instance: &InstanceId, id: &ChunkId, bytes: Bytes) -> Result<(), StoreError> {
        let write = |state: &mut super::State| drop(state.chunks.insert(key(instance, id), bytes));
        self.part().change(write).await
    }

    async fn read_chunk(
        &self,
        instance: &InstanceId,
        id: &ChunkId,
        range: Range<usize>,
    ) -> Result<Option<Bytes>, StoreError> {
        let read = self.part().step(|state| {
            let bytes = state.chunks.get(&key(instance, id))?;
            Some(bytes.slice(range.start.min(bytes.len())..range.end.min(bytes.len())))
        });
        read.await
    }

    async fn remove_chunk(&self, instance: &InstanceId, id: &ChunkId) -> Result<(), StoreError> {
        self.part().change(|state| drop(state.chunks.remove(&key(instance, id)))).await
    }

    async fn remove_chunks(&self, instance: &InstanceId) -> Result<(), StoreError> {
        self.part().change(|state| state.chunks.retain(|(of, _), _| of != instance.as_str())).await
    }
}
