//! One partition of a stream on its way: read page by page, on either side, and summed with everything that a reader sees of it.

use base::caps;

use super::Sum;
use crate::error::StoreError;
use crate::streams::{LogRecord, PartitionState, Position, StreamId, Streams};

/// What is kept of a partition, from its first record to its last.
pub(crate) struct Pages<'a> {
    streams: &'a Streams,
    stream: &'a StreamId,
    partition: u32,
    next: u64,
    end: u64,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(
        streams: &'a Streams,
        stream: &'a StreamId,
        partition: u32,
        state: PartitionState,
    ) -> Self {
        Self { streams, stream, partition, next: state.first_sequence, end: state.next_sequence }
    }

    /// Empty at the end. A record that is not there is never passed over.
    pub(crate) async fn next(&mut self) -> Result<Vec<LogRecord>, StoreError> {
        if self.next >= self.end {
            return Ok(Vec::new());
        }
        let from = Position::Sequence(self.next);
        let page = self.streams.read(self.stream, self.partition, from, caps::LOG_READ_RECORDS_MAX).await?;
        let expected = self.next..self.next + page.len() as u64;
        if page.is_empty() || !page.iter().map(|record| record.sequence).eq(expected) {
            return Err(StoreError::Corrupt(format!(
                "{}, partition {}, has no record {}",
                self.stream, self.partition, self.next
            )));
        }
        self.next += page.len() as u64;
        Ok(page)
    }
}

impl Sum {
    /// What a partition is without its records.
    pub(crate) fn of_state(state: PartitionState) -> Self {
        let mut sum = Self::default();
        let (offset, time) = (state.last_offset, state.last_time.ticks().cast_unsigned());
        sum.add_numbers(&[state.first_sequence, state.next_sequence, offset, time]);
        sum
    }

    pub(crate) async fn of_partition(
        streams: &Streams,
        stream: &StreamId,
        partition: u32,
    ) -> Result<Self, StoreError> {
        let state = streams.partition(stream, partition).await?;
        let mut sum = Self::of_state(state);
        let mut pages = Pages::new(streams, stream, partition, state);
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                return Ok(sum);
            }
            for record in &page {
                sum.add_record(record);
            }
        }
    }
}
