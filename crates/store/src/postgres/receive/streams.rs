//! Streams of a move: each partition in one transaction, its records in blocks as an append would make them, but each with the
//! number, offset and time that it had.

use std::pin::Pin;

use bytes::Bytes;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::super::streams::{Kept, PlacedBlock, make_buckets};
use super::Receiver;
use crate::error::StoreError;
use crate::streams::{PartitionState, StreamId, Streams};
use crate::transfer::{Pages, Sum, name_of};

const COPY: &str = "COPY stream_block (bucket, stream, partition, first_sequence, count, last_offset, last_time, time_floor, block) \
    FROM STDIN (FORMAT binary)";
const TYPES: [Type; 9] = [
    Type::INT4,
    Type::INT4,
    Type::INT2,
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::BYTEA,
];
const BUCKET: &str = "SELECT floor(extract(epoch FROM now()) / 3600)::int";

/// Where the blocks of a partition go.
struct Target {
    bucket: i32,
    stream: i32,
    partition: i16,
}

impl Receiver {
    /// Reads what has arrived.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// All of a partition or nothing.
    pub(crate) async fn receive_partition(
        &self,
        from: &Streams,
        stream: &StreamId,
        partition: u32,
    ) -> Result<Sum, StoreError> {
        make_buckets(&self.postgres).await?;
        let state = from.partition(stream, partition).await?;
        let pages = Pages::new(from, stream, partition, state);
        self.begin_part().await?;
        let copied = async {
            let target = self.make_partition(stream, partition, state).await?;
            let sum = self.copy_blocks(pages, &target, Sum::of_state(state)).await?;
            self.arrive(&name_of(stream, partition), sum).await
        };
        let copied = copied.await;
        self.end_part(copied).await
    }

    async fn make_partition(
        &self,
        stream: &StreamId,
        partition: u32,
        state: PartitionState,
    ) -> Result<Target, StoreError> {
        let ((instance, name), connection) = (stream.parts(), &self.connection);
        let partition = i16::try_from(partition)
            .map_err(|_| StoreError::Refused(format!("{stream} has a partition {partition}")))?;
        let make = "INSERT INTO stream (instance, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        connection.execute(make, &[&instance, &name]).await?;
        let find = "SELECT id FROM stream WHERE instance = $1 AND name = $2";
        let stream: i32 = connection.query_one(find, &[&instance, &name]).await?.get(0);
        let numbers = [state.first_sequence, state.next_sequence, state.last_offset].map(u64::cast_signed);
        let make = "INSERT INTO stream_partition VALUES ($1, $2, $3, $4, $5, $6)";
        let [first, next, offset] = numbers;
        let time = state.last_time.ticks();
        connection.execute(make, &[&stream, &partition, &first, &next, &offset, &time]).await?;
        let bucket = connection.query_one(BUCKET, &[]).await?.get(0);
        Ok(Target { bucket, stream, partition })
    }

    async fn copy_blocks(
        &self,
        mut pages: Pages<'_>,
        target: &Target,
        mut sum: Sum,
    ) -> Result<Sum, StoreError> {
        let sink = self.connection.copy_in::<_, Bytes>(COPY).await?;
        let mut writer = Box::pin(BinaryCopyInWriter::new(sink, &TYPES));
        let mut blocks = Kept::default();
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                break;
            }
            for record in &page {
                sum.add_record(record);
                if let Some(block) = blocks.push(record) {
                    write(writer.as_mut(), target, &block).await?;
                }
            }
        }
        if let Some(block) = blocks.close() {
            write(writer.as_mut(), target, &block).await?;
        }
        writer.as_mut().finish().await?;
        Ok(sum)
    }
}

async fn write(
    writer: Pin<&mut BinaryCopyInWriter>,
    target: &Target,
    block: &PlacedBlock,
) -> Result<(), StoreError> {
    let (first, offset) = (block.first_sequence.cast_signed(), block.last_offset.cast_signed());
    let (count, time) = (block.count.cast_signed(), block.last_time.ticks());
    let floor = block.time_floor.ticks();
    let Target { bucket, stream, partition } = target;
    writer
        .write(&[bucket, stream, partition, &first, &count, &offset, &time, &floor, &block.bytes])
        .await
        .map_err(StoreError::from)
}
