//! Streams of a directory are the same in the database: records, numbers, offsets, times, and what was forgotten.

use base::Timestamp;
use bytes::Bytes;

use super::*;
use crate::{LogRecord, NewRecord, Position, StreamId, Streams};

const LARGE: u32 = 0;
const MANY: u32 = 1;
const EMPTY: u32 = 2;

fn events() -> StreamId {
    StreamId::new(&InstanceId::from_stored("i"), "messages/events")
}

fn record(ticks: i64, body: Vec<u8>) -> NewRecord {
    let (key, headers) = (format!("device-{}", ticks % 7), Bytes::from_static(b"\0headers"));
    NewRecord { time: Timestamp::from_ticks(ticks), key, headers, body: body.into() }
}

/// Large records, more small ones than a block takes, a beginning that is forgotten, and a partition without any.
async fn with_streams() -> tempfile::TempDir {
    let (_, directory) = filled().await;
    let location = Location::File(directory.path().to_owned());
    let streams = Streams::open(&Options::new(location, Durability::Relaxed)).unwrap();
    streams.ensure(&events(), 3).await.unwrap();
    for n in 0..9 {
        streams.append(&events(), LARGE, vec![record(n, vec![b'l'; 200_000])]).await.unwrap();
    }
    for n in 0..50 {
        let records = (0..100).map(|m| record(100 + n, format!("{n} {m}").into_bytes()));
        streams.append(&events(), MANY, records.collect()).await.unwrap();
    }
    streams.trim(&events(), Timestamp::from_ticks(3)).await.unwrap();
    directory
}

async fn all(streams: &Streams, partition: u32) -> Vec<LogRecord> {
    let end = streams.partition(&events(), partition).await.unwrap().next_sequence;
    let mut found = streams.read(&events(), partition, Position::Earliest, 100_000).await.unwrap();
    while let Some(next) = found.last().map(|last| last.sequence + 1).filter(|next| *next < end) {
        found.extend(streams.read(&events(), partition, Position::Sequence(next), 100_000).await.unwrap());
    }
    found
}

async fn everything_moved(directory: &Path, database: &Database) -> Move {
    let to = begin(directory, database).await.unwrap();
    moved(&to).await.unwrap();
    to.streams(|_| ()).await.unwrap();
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_arrive_with_their_numbers_offsets_and_times_and_go_on_behind_them() {
    let Some(database) = test_postgres::database() else { return };
    let directory = with_streams().await;
    let to = everything_moved(directory.path(), &database).await;
    let there = to.receiver.streams();
    for partition in [LARGE, MANY, EMPTY] {
        let before = to.log.partition(&events(), partition).await.unwrap();
        assert_eq!(there.partition(&events(), partition).await.unwrap(), before);
        let records = all(&to.log, partition).await;
        assert_eq!(records.len() as u64, before.next_sequence - before.first_sequence);
        assert_eq!(all(there, partition).await, records);
        for at in [0, records.len() / 3, records.len().saturating_sub(1)] {
            let Some(record) = records.get(at) else { continue };
            let positions = [
                Position::Offset(record.offset),
                Position::Offset(record.offset - 1),
                Position::Time(record.time),
                Position::Sequence(record.sequence),
            ];
            for from in positions {
                let expected = to.log.read(&events(), partition, from, 1).await.unwrap();
                assert_eq!(there.read(&events(), partition, from, 1).await.unwrap(), expected, "{from:?}");
            }
        }
        // Its time is raised to that of the last one.
        let appended = there.append(&events(), partition, vec![record(1, b"new".to_vec())]).await.unwrap();
        assert_eq!(appended.first_sequence, before.next_sequence);
        let after = there.partition(&events(), partition).await.unwrap();
        assert!(after.last_offset > before.last_offset && after.last_time >= before.last_time);
    }
    assert_eq!(all(&to.log, LARGE).await[0].sequence, 3, "what was forgotten is not moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_have_arrived_are_not_sent_twice_and_are_read_again() {
    let Some(database) = test_postgres::database() else { return };
    let directory = with_streams().await;
    drop(everything_moved(directory.path(), &database).await);
    let to = begin(directory.path(), &database).await.unwrap();
    let mut again = Vec::new();
    to.streams(|arrived| again.push(arrived)).await.unwrap();
    let rows: Vec<_> = again.iter().map(|arrived| (arrived.rows, arrived.was_there)).collect();
    assert_eq!(rows, [(6, true), (5000, true), (0, true)]);
    let largest =
        database.query("SELECT max(count), max(octet_length(block)) <= 1048584 FROM twinhub.stream_block");
    assert_eq!(largest.trim(), "4096|t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_arrived_otherwise_than_it_was_sent_is_noticed() {
    for change in [
        "UPDATE twinhub.stream_block SET block = set_byte(block, 900, get_byte(block, 900) # 1) WHERE partition = 1",
        "UPDATE twinhub.stream_block SET last_offset = last_offset + 1 WHERE partition = 0 AND first_sequence = 3",
        "UPDATE twinhub.stream_partition SET last_time = last_time + 1 WHERE partition = 2",
        "DELETE FROM twinhub.stream_block WHERE partition = 1 AND first_sequence > 0",
    ] {
        let Some(database) = test_postgres::database() else { return };
        let directory = with_streams().await;
        let to = everything_moved(directory.path(), &database).await;
        database.query(change);
        let noticed = to.streams(|_| ()).await;
        assert!(
            matches!(noticed, Err(StoreError::Corrupt(_) | StoreError::Lost(_))),
            "{change}: {noticed:?}"
        );
    }
}
