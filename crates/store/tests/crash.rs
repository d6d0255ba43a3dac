//! Kills a process that writes, again and again, and checks that everything it was told is durable is there afterwards.
//! The parent starts this same program as its child; `harness = false`, for a test harness would capture the child's lines.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use base::{InstanceId, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{
    Batch, Counter, Durability, Key, Location, NewRecord, Options, OutboxEntry, Position, Record, Store,
    StoreError, StreamId, Streams, Table, table,
};

const DIRECTORY: &str = "TWINHUB_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 8;
/// How long the child may say nothing: a child that hangs fails the test and does not hang it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bits of the write-ahead log that are flipped after each kill, each in a copy of its own.
const FLIPS: u64 = 12;
const WRITERS: u64 = 6;
const PARTITIONS: u32 = 2;

/// How far one writer has come.
#[derive(Clone, Serialize, Deserialize)]
struct Progress {
    writer: u64,
    commits: u64,
}

impl Record for Progress {
    const TABLE: Table = table::ENDPOINT;

    fn key(&self) -> Key {
        Key::new(["i", &self.writer.to_string()])
    }
}

fn instance() -> InstanceId {
    InstanceId::from_stored("i")
}

fn stream() -> StreamId {
    StreamId::new(&instance(), "events")
}

fn options(directory: &Path) -> Options {
    Options::new(Location::File(directory.to_owned()), Durability::Full)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    match std::env::var_os(DIRECTORY) {
        Some(directory) => runtime.block_on(write_for_ever(Path::new(&directory))),
        None => runtime.block_on(kill_and_check()),
    }
}

/// The child: tells each durable write on a line of its own.
async fn write_for_ever(directory: &Path) {
    let store = Store::open(&options(directory)).expect("the store opens after a crash");
    let streams = Streams::open(&options(directory)).expect("the log opens after a crash");
    streams.ensure(&stream(), PARTITIONS).await.expect("a stream can be made");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(store.clone(), streams.clone(), writer));
    }
    writers.join_all().await;
}

async fn write(store: Store, streams: Streams, writer: u64) {
    let key = Progress { writer, commits: 0 }.key();
    let mut commits =
        store.get::<Progress>(&key).await.expect("reads work").map_or(0, |old| old.record.commits);
    loop {
        let name = format!("{writer}:{}:{commits}", std::process::id());
        let record = NewRecord {
            time: Timestamp::from_unix_seconds(0),
            key: name.clone(),
            headers: Bytes::new(),
            body: Bytes::from(name.repeat(20)),
        };
        let partition = u32::try_from(writer).expect("few writers") % PARTITIONS;
        streams.append(&stream(), partition, vec![record]).await.expect("appends work");
        tell(&format!("appended {name}"));
        commits += 1;
        let mut batch = Batch::default();
        batch.put(&Progress { writer, commits });
        batch.add(Counter::new(&instance(), "commits"), 1, i64::MAX);
        batch.outbox(OutboxEntry { instance: instance(), partition_key: name.clone(), payload: vec![1] });
        store.commit(batch).await.expect("commits work");
        tell(&format!("committed {writer} {commits}"));
    }
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// What the child was told is durable.
#[derive(Default)]
struct Acknowledged {
    appended: BTreeSet<String>,
    commits: BTreeMap<u64, u64>,
}

async fn kill_and_check() {
    let seed = RandomState::new().hash_one(0);
    println!("crash: {ROUNDS} rounds, seed {seed}");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut acknowledged = Acknowledged::default();
    let mut refused = 0;
    // Ended cleanly once: a log that still holds the making of the tables has nothing before it to go back to.
    drop(Store::open(&options(directory.path())).expect("a store can be made"));
    for round in 0..ROUNDS {
        let mixed = mix(seed.wrapping_add(round));
        run_and_kill(directory.path(), mixed >> 56, &mut acknowledged);
        for flip in 0..FLIPS {
            refused += u64::from(flip_and_check(directory.path(), &acknowledged, mix(mixed ^ flip)).await);
        }
        check(directory.path(), &acknowledged).await;
    }
    println!("crash: {refused} of {} flipped bits were refused, the others harmed nothing", ROUNDS * FLIPS);
    assert!(refused > 0, "no flip met anything");
    assert!(!acknowledged.appended.is_empty(), "no round wrote anything");
    println!("crash: {} acknowledged records survived", acknowledged.appended.len());
}

fn mix(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Starts on a copy with one bit of the write-ahead log flipped: either it is refused, or all that was acknowledged is there.
/// Gives whether it was refused; then a repair makes it start, and nothing is missing where it says so.
async fn flip_and_check(directory: &Path, acknowledged: &Acknowledged, random: u64) -> bool {
    let copied = tempfile::tempdir().expect("a directory can be made");
    std::fs::copy(directory.join("records.db"), copied.path().join("records.db")).expect("it is there");
    let mut log = std::fs::read(directory.join("records.db-wal")).expect("it was not ended cleanly");
    if log.is_empty() {
        return false;
    }
    let at = usize::try_from(random >> 8).expect("64 bits") % log.len();
    log[at] ^= 1 << (random % 8);
    std::fs::write(copied.path().join("records.db-wal"), &log).expect("there is room");
    match Store::open(&options(copied.path())) {
        Ok(store) => {
            check_records(&store, acknowledged).await;
            false
        }
        Err(StoreError::Corrupt(_)) => {
            let report = store::repair_records(copied.path()).expect("it can be repaired");
            assert!(report.is_sound, "byte {at}: {:?}", report.lines);
            let store = Store::open(&options(copied.path())).expect("it starts when it was repaired");
            if report.lines.iter().any(|line| line.starts_with("Nothing is lost")) {
                check_records(&store, acknowledged).await;
            }
            true
        }
        Err(other) => panic!("byte {at}: {other}"),
    }
}

/// A child that does not outlive its test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines_of(stdout: ChildStdout) -> impl Iterator<Item = String> {
    let (sender, lines) = mpsc::sync_channel(0);
    std::thread::spawn(move || {
        let mut read = BufReader::new(stdout).lines().map_while(Result::ok);
        while read.next().is_some_and(|line| sender.send(line).is_ok()) {}
    });
    std::iter::from_fn(move || match lines.recv_timeout(PATIENCE) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("the child says nothing any more"),
    })
}

fn run_and_kill(directory: &Path, after_lines: u64, acknowledged: &mut Acknowledged) {
    let program = std::env::current_exe().expect("a program knows itself");
    let child = Command::new(program).env(DIRECTORY, directory).stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.expect("the child starts"));
    let stdout = child.0.stdout.take().expect("it is piped");
    for (number, line) in lines_of(stdout).enumerate() {
        if number as u64 == after_lines {
            child.0.kill().expect("the child can be killed");
        }
        // Lines that were under way when it died count too: it had been told.
        let parts: Vec<&str> = line.split(' ').collect();
        match parts[..] {
            ["appended", name] => drop(acknowledged.appended.insert(name.to_owned())),
            ["committed", writer, commits] => {
                let (writer, commits) = (writer.parse(), commits.parse());
                acknowledged.commits.insert(writer.expect("a number"), commits.expect("a number"));
            }
            _ => panic!("the child says {line}"),
        }
    }
    let status = child.0.wait().expect("the child ends");
    assert!(!status.success(), "the child ended by itself");
}

async fn check(directory: &Path, acknowledged: &Acknowledged) {
    let store = Store::open(&options(directory)).expect("the store opens after a crash");
    let streams = Streams::open(&options(directory)).expect("the log opens after a crash");
    let mut found = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let records = streams.read(&stream(), partition, Position::Sequence(next), 1000).await;
            let records = records.expect("the log can be read");
            if records.is_empty() {
                break;
            }
            for record in records {
                assert_eq!(record.sequence, next, "a sequence number is missing");
                assert_eq!(record.body, record.key.repeat(20), "a record is not what was written");
                assert!(found.insert(record.key), "a record is there twice");
                next += 1;
            }
        }
    }
    let lost: Vec<_> = acknowledged.appended.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged records are gone: {lost:?}");
    check_records(&store, acknowledged).await;
}

async fn check_records(store: &Store, acknowledged: &Acknowledged) {
    let mut total = 0;
    for writer in 0..WRITERS {
        let key = Progress { writer, commits: 0 }.key();
        let stored = store.get::<Progress>(&key).await.expect("reads work");
        let commits = stored.map_or(0, |stored| stored.record.commits);
        let told = acknowledged.commits.get(&writer).copied().unwrap_or(0);
        assert!(commits >= told, "writer {writer} was told of {told} commits and has {commits}");
        total += commits;
    }
    // A batch is whole or not there: counter and outbox say the same as the records.
    let counter = store.counter(&Counter::new(&instance(), "commits")).await.expect("reads work");
    assert_eq!(u64::try_from(counter), Ok(total));
    let outbox = store.outbox(0, usize::MAX).await.expect("reads work");
    assert_eq!(outbox.len() as u64, total);
}
