//! The contract of streams, run over a log in a directory, one in memory, and a database. What only a log has is tested on logs.

mod damage;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::oneshot;

use super::medium::Memory;
use super::*;
use crate::postgres::Postgres;

fn id() -> StreamId {
    StreamId::new(&InstanceId::from_stored("hub"), "messages/events")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

fn record(seconds: i64, body: &str) -> NewRecord {
    let (headers, body) = (Bytes::from_static(b"h"), Bytes::copy_from_slice(body.as_bytes()));
    NewRecord { time: at(seconds), key: "dev1".into(), headers, body }
}

const PARTITIONS: u32 = 2;

/// Small enough that a few records fill a segment.
const SETTINGS: Settings = Settings { segment_bytes: 6000, sync: true };

/// One engine under test, which can be closed and opened again.
struct Engine {
    streams: Streams,
    reopen: Box<dyn Fn() -> Result<Streams, StoreError>>,
    directory: Option<tempfile::TempDir>,
}

impl Engine {
    fn reopened(self) -> Self {
        let Self { streams, reopen, directory } = self;
        drop(streams);
        Self { streams: reopen().unwrap(), reopen, directory }
    }

    /// On a database of its own, where PostgreSQL is there.
    fn on_database() -> Option<Self> {
        let database = test_postgres::database()?;
        let reopen = move || {
            let config = crate::postgres::Config::parse(&database.url(), Durability::Relaxed)?;
            Ok(Streams::of_database(&Postgres::open(config)?))
        };
        Some(Self { streams: reopen().unwrap(), reopen: Box::new(reopen), directory: None })
    }

    /// In memory, with others going first wherever they may.
    fn hostile() -> Self {
        let seed = RandomState::new().hash_one(0);
        println!("seed {seed}");
        let clock = base::Clock::system();
        let database = crate::memory::Database::hostile(clock, seed, crate::memory::Odds::DISORDER);
        let reopen = move || Ok(Streams::of_memory(&crate::memory::Memory::open(&database)));
        Self { streams: reopen().unwrap(), reopen: Box::new(reopen), directory: None }
    }

    async fn append(&self, partition: u32, seconds: i64, bodies: &[&str]) -> u64 {
        let records = bodies.iter().map(|body| record(seconds, body)).collect();
        self.streams.append(&id(), partition, records).await.unwrap().first_sequence
    }

    async fn bodies(&self, partition: u32, from: Position) -> Vec<String> {
        bodies(&self.streams, partition, from).await.unwrap()
    }
}

/// Everything from a position on, in as many reads as it takes, checked for gaps.
async fn bodies(streams: &Streams, partition: u32, from: Position) -> Result<Vec<String>, StoreError> {
    let (mut bodies, mut from, mut last) = (Vec::new(), from, None::<LogRecord>);
    loop {
        let records = streams.read(&id(), partition, from, 7).await?;
        for record in records {
            if let Some(last) = last {
                assert_eq!(record.sequence, last.sequence + 1);
                assert!(record.offset > last.offset && record.time >= last.time);
            }
            assert_eq!((&*record.key, &*record.headers), ("dev1", &b"h"[..]));
            bodies.push(String::from_utf8(record.body.to_vec()).unwrap());
            last = Some(record);
        }
        let next = last.as_ref().map(|last| Position::Sequence(last.sequence + 1));
        if next.is_none_or(|next| next == from) {
            return Ok(bodies);
        }
        from = next.unwrap();
    }
}

/// Every engine that there is.
async fn engines() -> Vec<Engine> {
    let mut engines = logs().await;
    let hostile = Engine::hostile();
    hostile.streams.ensure(&id(), PARTITIONS).await.unwrap();
    engines.push(hostile);
    if let Some(engine) = Engine::on_database() {
        engine.streams.ensure(&id(), PARTITIONS).await.unwrap();
        engines.push(engine);
    }
    engines
}

async fn logs() -> Vec<Engine> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let file = move || {
        let lock = DirectoryLock::take(&path)?;
        Streams::open_at(Medium::directory(path.clone()), SETTINGS, Some(lock))
    };
    let shared = Arc::new(Memory::default());
    let memory = move || Streams::open_at(Medium::Memory(Arc::clone(&shared)), SETTINGS, None);
    let engines = vec![
        Engine { streams: file().unwrap(), reopen: Box::new(file), directory: Some(directory) },
        Engine { streams: memory().unwrap(), reopen: Box::new(memory), directory: None },
    ];
    for engine in &engines {
        engine.streams.ensure(&id(), PARTITIONS).await.unwrap();
    }
    engines
}

/// A log with the stream of these tests in it.
async fn opened(medium: Medium, settings: Settings) -> Streams {
    let streams = Streams::open_at(medium, settings, None).unwrap();
    streams.ensure(&id(), PARTITIONS).await.unwrap();
    streams
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:060}")).collect()
}

/// 200 records, one a second, over several segments, alternating with another partition.
async fn filled() -> Vec<Engine> {
    filled_with(engines().await).await
}

async fn filled_with(engines: Vec<Engine>) -> Vec<Engine> {
    for engine in &engines {
        for (second, body) in numbered(0..200).iter().enumerate() {
            engine.append(0, i64::try_from(second).unwrap(), &[body]).await;
            engine.append(1, i64::try_from(second).unwrap(), &["other"]).await;
        }
        let log = engine.streams.embedded();
        assert!(log.is_none_or(|log| log.log.state.read().segments.len() > 3));
    }
    engines
}

#[tokio::test]
async fn records_come_back_in_order_with_numbers_that_have_no_gap() {
    for engine in engines().await {
        assert_eq!(engine.append(0, 1, &["a", "b"]).await, 0);
        assert_eq!(engine.append(1, 1, &["x"]).await, 0);
        assert_eq!(engine.append(0, 2, &["c"]).await, 2);
        assert_eq!(engine.bodies(0, Position::Earliest).await, ["a", "b", "c"]);
        assert_eq!(engine.bodies(1, Position::Earliest).await, ["x"]);
        assert_eq!(engine.bodies(2, Position::Earliest).await, [""; 0]);
        let other = StreamId::new(&InstanceId::from_stored("hub2"), "messages/events");
        assert_eq!(engine.streams.read(&other, 0, Position::Earliest, 9).await.unwrap(), []);
    }
}

#[tokio::test]
async fn every_position_finds_its_record_across_segments_and_restarts() {
    for engine in filled().await {
        let before = engine.streams.read(&id(), 0, Position::Earliest, 1000).await.unwrap();
        let state = engine.streams.partition(&id(), 0).await.unwrap();
        let engine = engine.reopened();
        assert_eq!(engine.streams.partition(&id(), 0).await.unwrap(), state);
        let all = engine.streams.read(&id(), 0, Position::Earliest, 1000).await.unwrap();
        assert_eq!(all, before);
        assert_eq!(all.len(), 200);
        for record in all.iter().step_by(13) {
            let second = record.time.unix_seconds();
            for from in [
                Position::Sequence(record.sequence),
                Position::Offset(record.offset),
                Position::Offset(record.offset - 1),
                Position::Time(record.time),
                Position::Time(at(second).minus(Duration::from_millis(500))),
            ] {
                let found = engine.streams.read(&id(), 0, from, 2).await.unwrap();
                assert_eq!(found.first(), Some(record), "{from:?}");
            }
        }
        let (last, end) = (all.last().unwrap(), Vec::<LogRecord>::new());
        for from in [
            Position::Latest,
            Position::Sequence(200),
            Position::Offset(last.offset + 1),
            Position::Time(at(200)),
        ] {
            assert_eq!(engine.streams.read(&id(), 0, from, 9).await.unwrap(), end, "{from:?}");
        }
        assert_eq!(engine.append(0, 300, &["next"]).await, 200);
        assert_eq!(engine.bodies(0, Position::Time(at(200))).await, ["next"]);
    }
}

#[tokio::test]
async fn a_read_is_bounded_by_count_and_by_bytes() {
    let settings = Settings { segment_bytes: 64 * 1024 * 1024, sync: false };
    let streams = opened(Medium::memory(), settings).await;
    let large = "x".repeat(1024 * 1024);
    for _ in 0..10 {
        streams.append(&id(), 0, vec![record(0, &large)]).await.unwrap();
    }
    assert_eq!(streams.read(&id(), 0, Position::Earliest, 2).await.unwrap().len(), 2);
    assert_eq!(streams.read(&id(), 0, Position::Earliest, 100).await.unwrap().len(), 4);
}

#[tokio::test]
async fn time_never_runs_backwards_within_a_partition() {
    for engine in engines().await {
        engine.append(0, 100, &["a"]).await;
        engine.append(0, 50, &["b"]).await;
        let records = engine.streams.read(&id(), 0, Position::Earliest, 9).await.unwrap();
        assert_eq!(records[1].time, at(100));
    }
}

#[tokio::test]
async fn a_tail_tells_of_each_durable_append() {
    for engine in engines().await {
        let mut tail = engine.streams.tail(&id(), 0).await.unwrap();
        assert_eq!(*tail.borrow_and_update(), 0);
        engine.append(0, 1, &["a", "b"]).await;
        assert!(tail.has_changed().unwrap());
        assert_eq!(*tail.borrow_and_update(), 2);
        engine.append(1, 1, &["elsewhere"]).await;
        assert!(!tail.has_changed().unwrap());
    }
}

#[tokio::test]
async fn a_callback_gets_its_answer_after_readers_can_see_the_record() {
    for engine in engines().await {
        let (told, answer) = oneshot::channel();
        engine.streams.append_with(&id(), 0, vec![record(1, "a")], move |result| told.send(result).unwrap());
        assert_eq!(answer.await.unwrap(), Ok(Appended { first_sequence: 0 }));
        assert_eq!(engine.streams.partition(&id(), 0).await.unwrap().next_sequence, 1);
        engine.streams.append_with(&id(), 0, vec![record(1, "b")], |_| panic!("a door's mistake"));
        assert_eq!(engine.append(0, 1, &["c"]).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_each_get_their_own_numbers() {
    for engine in engines().await {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16 {
            let streams = engine.streams.clone();
            tasks.spawn(async move {
                let mut mine = Vec::new();
                for number in 0..20 {
                    let body = format!("{task}-{number}");
                    let appended = streams.append(&id(), 0, vec![record(0, &body)]).await.unwrap();
                    mine.push((appended.first_sequence, body));
                }
                mine
            });
        }
        let all = tokio::time::timeout(Duration::from_secs(20), tasks.join_all()).await;
        let mut expected: Vec<_> = all.expect("every append is answered").into_iter().flatten().collect();
        expected.sort();
        let engine = engine.reopened();
        let bodies = engine.bodies(0, Position::Earliest).await;
        assert_eq!(bodies, expected.into_iter().map(|(_, body)| body).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_replayed_append_is_stored_once_per_source_even_after_a_restart() {
    for mut engine in filled_with(logs().await).await {
        let once = async |engine: &Engine, source, ids: &[u64]| {
            let records = ids.iter().map(|id| (*id, record(900, &format!("{source}:{id}")))).collect();
            engine.streams.append_once(&id(), 0, source, records).await.unwrap();
        };
        once(&engine, 7, &[1, 2]).await;
        once(&engine, 7, &[1, 2, 3]).await;
        once(&engine, 8, &[1]).await;
        engine = engine.reopened();
        assert_eq!(engine.streams.embedded().unwrap().last_origin(&id(), 0, 7), Some(3));
        once(&engine, 7, &[2, 3, 5]).await;
        // Many segments later the last ids are still known.
        for body in numbered(0..100) {
            engine.append(1, 901, &[&body]).await;
        }
        engine = engine.reopened();
        once(&engine, 7, &[5]).await;
        assert_eq!(engine.bodies(0, Position::Time(at(900))).await, ["7:1", "7:2", "7:3", "8:1", "7:5"]);
    }
}

#[tokio::test]
async fn a_trim_forgets_by_time_and_numbers_go_on_behind_it() {
    for mut engine in filled().await {
        engine.streams.trim(&id(), at(100)).await.unwrap();
        assert_eq!(engine.bodies(0, Position::Earliest).await, numbered(100..200));
        assert_eq!(engine.bodies(0, Position::Sequence(0)).await, numbered(100..200));
        assert_eq!(engine.bodies(0, Position::Offset(0)).await, numbered(100..200));
        assert_eq!(engine.bodies(0, Position::Time(at(0))).await, numbered(100..200));
        engine = engine.reopened();
        assert_eq!(engine.bodies(0, Position::Earliest).await, numbered(100..200));
        assert_eq!(engine.streams.partition(&id(), 0).await.unwrap().first_sequence, 100);
        // All of it: numbers go on all the same.
        engine.streams.trim(&id(), at(1000)).await.unwrap();
        engine = engine.reopened();
        assert_eq!(engine.bodies(0, Position::Earliest).await, [""; 0]);
        assert_eq!(engine.append(0, 2000, &["next"]).await, 200);
        assert_eq!(engine.bodies(0, Position::Earliest).await, ["next"]);
    }
}

#[tokio::test]
async fn a_trim_gives_whole_segments_back() {
    for engine in filled_with(logs().await).await {
        let count = |engine: &Engine| {
            let names = engine.streams.log().medium.list().unwrap();
            names.iter().filter(|name| segment::base_of(name).is_some()).count()
        };
        let files = count(&engine);
        engine.streams.trim(&id(), at(100)).await.unwrap();
        let in_use = engine.streams.log().state.read().segments.len();
        assert!(in_use < files, "no segment was given back");
        let engine = engine.reopened();
        assert_eq!(count(&engine), in_use);
    }
}

#[tokio::test]
async fn a_segment_stays_while_any_stream_keeps_something_of_it() {
    for engine in logs().await {
        let other = StreamId::new(&InstanceId::from_stored("hub"), "other");
        engine.streams.ensure(&other, 1).await.unwrap();
        engine.streams.append(&other, 0, vec![record(0, "kept")]).await.unwrap();
        for (second, body) in numbered(0..200).iter().enumerate() {
            engine.append(0, i64::try_from(second).unwrap(), &[body]).await;
        }
        engine.streams.trim(&id(), at(1000)).await.unwrap();
        let engine = engine.reopened();
        assert_eq!(engine.streams.read(&other, 0, Position::Earliest, 9).await.unwrap()[0].body, "kept");
        assert_eq!(
            engine.streams.of_instance(&InstanceId::from_stored("hub")).await.unwrap(),
            [id(), other.clone()]
        );
        engine.streams.remove(&other).await.unwrap();
        assert_eq!(engine.streams.log().state.read().segments.len(), 1);
    }
}

#[tokio::test]
async fn a_removed_stream_is_gone_and_one_of_its_name_begins_anew() {
    for mut engine in filled().await {
        engine.streams.remove(&id()).await.unwrap();
        assert_eq!(engine.bodies(0, Position::Earliest).await, [""; 0]);
        engine.streams.ensure(&id(), PARTITIONS).await.unwrap();
        assert_eq!(engine.append(0, 5, &["new"]).await, 0);
        for _ in 0..2 {
            engine = engine.reopened();
            assert_eq!(engine.bodies(0, Position::Earliest).await, ["new"]);
            assert_eq!(engine.bodies(0, Position::Time(at(0))).await, ["new"]);
            assert_eq!(engine.bodies(0, Position::Offset(0)).await, ["new"]);
            assert_eq!(engine.bodies(1, Position::Earliest).await, [""; 0]);
        }
    }
}

#[tokio::test]
async fn only_ensure_makes_a_stream() {
    for mut engine in engines().await {
        let other = StreamId::new(&InstanceId::from_stored("hub2"), "messages/events");
        let missing = Err(StoreError::NoStream(other.to_string()));
        for _ in 0..2 {
            let appended = engine.streams.append(&other, 0, vec![record(1, "a")]).await;
            assert_eq!(appended.map(drop), missing);
            if let Some(log) = engine.streams.embedded() {
                assert_eq!(log.append_once(&other, 0, 7, vec![(1, record(1, "a"))]).await, missing);
            }
            let (told, answer) = oneshot::channel();
            engine.streams.append_with(&other, 0, vec![record(1, "a")], |result| told.send(result).unwrap());
            assert_eq!(answer.await.unwrap().map(drop), missing);
            let mut tail = engine.streams.tail(&other, 0).await.unwrap();
            let told = tokio::time::timeout(Duration::from_secs(20), tail.changed()).await;
            assert!(told.is_ok_and(|told| told.is_err()), "and a follower need not wait");
            assert_eq!(engine.streams.all().await.unwrap(), [id()]);
            engine = engine.reopened();
        }
        engine.streams.ensure(&other, 1).await.unwrap();
        engine.streams.ensure(&other, 3).await.unwrap();
        engine.streams.ensure(&other, 3).await.unwrap();
        engine = engine.reopened();
        assert_eq!(engine.streams.all().await.unwrap(), [id(), other.clone()]);
        assert!(engine.streams.append(&other, 2, vec![record(1, "a")]).await.is_ok());
        let fourth = engine.streams.append(&other, 3, vec![record(1, "a")]).await;
        assert_eq!(fourth.map(drop), missing);
    }
}

/// Fifteen runs, each with another moment of removal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_under_writers_leaves_nothing_that_keeps_segments() {
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    for round in 0..15_u64 {
        let mixed = seed.wrapping_add(round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let memory = Arc::new(Memory::default());
        let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
        let other = StreamId::new(&InstanceId::from_stored("hub2"), "messages/events");
        streams.ensure(&other, 1).await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4_u32 {
            let streams = streams.clone();
            writers.spawn(async move {
                loop {
                    let appended = streams.append(&id(), writer % 2, vec![record(1, "busy")]).await;
                    if let Err(error) = appended {
                        return error;
                    }
                }
            });
        }
        for _ in 0..mixed >> 57 {
            streams.append(&other, 0, vec![record(1, "other")]).await.unwrap();
        }
        streams.remove(&id()).await.unwrap();
        let ends = tokio::time::timeout(Duration::from_secs(20), writers.join_all()).await;
        let ends = ends.expect("a writer went on behind the removal");
        assert_eq!(ends, vec![StoreError::NoStream(id().to_string()); 4], "round {round}");
        assert_eq!(streams.all().await.unwrap(), std::slice::from_ref(&other));
        streams.trim(&other, at(1000)).await.unwrap();
        drop(streams);
        let streams = Streams::open_at(Medium::Memory(Arc::clone(&memory)), SETTINGS, None).unwrap();
        assert_eq!(streams.all().await.unwrap(), [other]);
        assert_eq!(memory.image().len(), 1, "round {round}: old segments are kept");
    }
}

#[tokio::test]
async fn what_the_format_cannot_hold_is_refused() {
    for engine in logs().await {
        let long = NewRecord { key: "k".repeat(70_000), ..record(1, "a") };
        let refused = engine.streams.append(&id(), 0, vec![long]).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        let large = record(1, &"x".repeat(5000));
        let refused = engine.streams.append(&id(), 0, vec![large]).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        assert_eq!(engine.append(0, 1, &["a"]).await, 0);
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::File(directory.path().to_owned());
    let options = Options::new(location, Durability::Full);
    let first = Streams::open(&options).unwrap();
    assert!(matches!(Streams::open(&options), Err(StoreError::InUse(_))));
    drop(first);
    assert!(Streams::open(&options).is_ok());
}

#[tokio::test]
async fn little_traffic_takes_little_of_the_disk_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 64 * 1024 * 1024, sync: true };
    let streams = opened(Medium::directory(directory.path().to_owned()), settings).await;
    let body = "x".repeat(100_000);
    let mut appended = 0;
    while streams.log().state.read().segments.len() == 1 {
        streams.append(&id(), 0, vec![record(0, &body)]).await.unwrap();
        appended += 100_000;
        assert!(appended < 50_000_000, "no segment was made ahead");
    }
    let ahead = streams.log().state.read().active_segment().file.len().unwrap();
    assert!((1024 * 1024..=4 * (appended + 100_000)).contains(&ahead), "{ahead} for {appended}");
    // One append that is larger than what was made ahead has room all the same.
    let large: Vec<_> = (0..16).map(|_| record(0, &"x".repeat(1_000_000))).collect();
    streams.append(&id(), 0, large).await.unwrap();
    let number = streams.append(&id(), 0, vec![record(0, "after")]).await.unwrap().first_sequence;
    drop(streams);
    let streams = opened(Medium::directory(directory.path().to_owned()), settings).await;
    assert_eq!(streams.partition(&id(), 0).await.unwrap().next_sequence, number + 1);
    assert_eq!(bodies(&streams, 0, Position::Sequence(number)).await.unwrap(), ["after"]);
}

#[tokio::test]
async fn traffic_gets_a_segment_that_was_filled_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 1024 * 1024, sync: true };
    let open = || Streams::open_at(Medium::directory(directory.path().to_owned()), settings, None).unwrap();
    let mut streams = open();
    streams.ensure(&id(), PARTITIONS).await.unwrap();
    let body = "x".repeat(10_000);
    let mut appended = 0;
    while streams.log().state.read().active_segment().file.len().unwrap() != 1024 * 1024 {
        streams.append(&id(), 0, vec![record(0, &body)]).await.unwrap();
        appended += 1;
        assert!(appended < 10_000, "no segment was made ahead");
    }
    for _ in 0..150 {
        streams.append(&id(), 0, vec![record(0, &body)]).await.unwrap();
    }
    drop(streams);
    streams = open();
    assert_eq!(streams.partition(&id(), 0).await.unwrap().next_sequence, appended + 150);
    assert_eq!(bodies(&streams, 0, Position::Earliest).await.unwrap().len() as u64, appended + 150);
}
