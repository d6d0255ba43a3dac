//! Chunks as rows, each written by one statement and its commit.

use std::ops::Range;
use std::time::Duration;

use base::{InstanceId, caps};
use bytes::Bytes;
use tokio_postgres::Row;

use super::{Postgres, document};
use crate::chunks::ChunkId;
use crate::engine::Chunks;
use crate::error::StoreError;

const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);

impl Chunks for Postgres {
    async fn write_chunk(&self, instance: &InstanceId, id: &ChunkId, bytes: Bytes) -> Result<(), StoreError> {
        let text = "INSERT INTO chunk (instance, id, bytes) VALUES ($1, $2, $3) ON CONFLICT (instance, id) DO NOTHING";
        let instance = document::text(instance.as_str());
        self.write(text, &[&instance, &id.as_str(), &bytes.as_ref()]).await.map(drop)
    }

    async fn read_chunk(
        &self,
        instance: &InstanceId,
        id: &ChunkId,
        range: Range<usize>,
    ) -> Result<Option<Bytes>, StoreError> {
        let text = "SELECT substring(bytes FROM $3 FOR $4) FROM chunk WHERE instance = $1 AND id = $2";
        let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let (from, count) = (number(range.start + 1), number(range.len()));
        let instance = document::text(instance.as_str());
        let rows = self.rows(text, &[&instance, &id.as_str(), &from, &count], ANSWER).await?;
        Ok(rows.first().map(|row: &Row| row.get::<_, Vec<u8>>(0).into()))
    }

    async fn remove_chunk(&self, instance: &InstanceId, id: &ChunkId) -> Result<(), StoreError> {
        let text = "DELETE FROM chunk WHERE instance = $1 AND id = $2 RETURNING true";
        let instance = document::text(instance.as_str());
        self.write(text, &[&instance, &id.as_str()]).await.map(drop)
    }

    async fn remove_chunks(&self, instance: &InstanceId) -> Result<(), StoreError> {
        let text = "DELETE FROM chunk WHERE instance = $1 AND id IN \
                    (SELECT id FROM chunk WHERE instance = $1 ORDER BY id LIMIT $2 FOR UPDATE) RETURNING true";
        let instance = document::text(instance.as_str());
        while !self.write(text, &[&instance, &caps::CHUNKS_PURGED_MAX]).await?.is_empty() {}
        Ok(())
    }
}
