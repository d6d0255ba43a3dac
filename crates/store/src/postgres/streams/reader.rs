//! Reads: from a position to blocks, from there to records.

use std::time::Duration;

use base::{Timestamp, caps};
use tokio_postgres::Row;

use super::block::{self, Place};
use super::{PostgresStreams, signed, sql, unsigned};
use crate::error::StoreError;
use crate::streams::{LogRecord, Lost, Position, StreamId};

/// One answer of the database.
struct Page {
    next_sequence: u64,
    records: Vec<LogRecord>,
    /// Damage behind them.
    lost: Option<Box<Lost>>,
}

pub(super) async fn read(
    streams: &PostgresStreams,
    stream: &StreamId,
    partition: u32,
    from: Position,
    count_max: usize,
) -> Result<Vec<LogRecord>, StoreError> {
    let (mut found, mut bytes, mut from) = (Vec::<LogRecord>::new(), 0, from);
    if from == Position::Latest {
        return Ok(found);
    }
    loop {
        let Some(page) = page(streams, stream, partition, from, bytes).await? else { return Ok(found) };
        let is_empty = page.records.is_empty();
        for record in page.records {
            if found.len() >= count_max || bytes >= caps::LOG_READ_BYTES_MAX {
                return Ok(found);
            }
            bytes += record.key.len() + record.headers.len() + record.body.len();
            found.push(record);
        }
        match page.lost {
            // What lies before the damage is still given; the next read tells.
            Some(lost) if found.is_empty() => return Err(StoreError::Lost(lost)),
            Some(_) => return Ok(found),
            None => {}
        }
        let next = found.last().map_or(page.next_sequence, |last| last.sequence + 1);
        if is_empty || next >= page.next_sequence {
            return Ok(found);
        }
        from = Position::Sequence(next);
    }
}

/// `None` where there is no such partition.
async fn page(
    streams: &PostgresStreams,
    stream: &StreamId,
    partition: u32,
    from: Position,
    bytes: usize,
) -> Result<Option<Page>, StoreError> {
    let ((instance, name), number) = (stream.parts(), i64::from(partition));
    let at = match from {
        Position::Earliest | Position::Latest => 0,
        Position::Sequence(sequence) => signed(sequence),
        Position::Offset(offset) => signed(offset),
        Position::Time(time) => time.ticks(),
    };
    let room = i64::try_from(caps::LOG_READ_BYTES_MAX.saturating_sub(bytes)).unwrap_or(i64::MAX);
    let wait = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [&instance, &name, &number, &at, &room];
    let rows = streams.0.postgres.rows(sql::read(from), &parameters, wait).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (first_sequence, next_sequence) = (unsigned(first.get(0)), unsigned(first.get(1)));
    let mut page = Page { next_sequence, records: Vec::new(), lost: None };
    for row in &rows {
        let Some(block_sequence) = row.get::<_, Option<i64>>(2).map(unsigned) else { break };
        let Some(mut records) = decode(block_sequence, row) else {
            let end = block_sequence + unsigned(i64::from(row.get::<_, i32>(3)));
            let segment = format!("the block of {block_sequence}");
            let begin = block_sequence.max(first_sequence);
            page.lost = Some(Lost::boxed(&(stream.clone(), partition), begin, end, segment, 0));
            break;
        };
        records.retain(|record| record.sequence >= first_sequence && is_at(record, from));
        page.records.append(&mut records);
    }
    Ok(Some(page))
}

fn decode(first_sequence: u64, row: &Row) -> Option<Vec<LogRecord>> {
    let place = Place {
        first_sequence,
        last_offset: unsigned(row.get(4)),
        time_floor: Timestamp::from_ticks(row.get(5)),
    };
    let bytes: &[u8] = row.get(6);
    block::decode(place, bytes)
}

fn is_at(record: &LogRecord, from: Position) -> bool {
    match from {
        Position::Earliest | Position::Latest => true,
        Position::Sequence(sequence) => record.sequence >= sequence,
        Position::Offset(offset) => record.offset >= offset,
        Position::Time(time) => record.time >= time,
    }
}
