//! Watches the system calls of commits and appends: whatever is acknowledged was synced after it was written. Killing a process
//! cannot tell, for what it wrote outlives it in the page cache. The parent starts this same program as its child, with
//! `syncs.c` between it and the C library; `harness = false`, for the child's lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base::{InstanceId, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{
    Batch, Durability, Key, Location, NewRecord, Options, Record, Store, StreamId, Streams, Table, table,
};

const DIRECTORY: &str = "TWINHUB_SYNCS_TEST_DIRECTORY";
const DURABILITY: &str = "TWINHUB_SYNCS_TEST_DURABILITY";
/// A commit is done on the thread of whoever brings it where the runtime has others, else on the writer's own.
const THREADS: &str = "TWINHUB_SYNCS_TEST_THREADS";
const ONE: &str = "one";
const ROUNDS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Serialize, Deserialize)]
struct Number(usize);

impl Record for Number {
    const TABLE: Table = table::ENDPOINT;

    fn key(&self) -> Key {
        Key::new(["i", &self.0.to_string()])
    }
}

fn main() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let mut runtime = match std::env::var(THREADS).as_deref() {
            Ok(ONE) => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime.enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let work = async { tokio::time::timeout(PATIENCE, write(Path::new(&directory))).await };
        return runtime.block_on(work).expect("writes end in time");
    }
    let folder = tempfile::tempdir().expect("a directory can be made");
    let watcher = folder.path().join("syncs.so");
    if let Err(why) = compile(&watcher) {
        return test_data::did_not_run(&format!("syncs: {why}"));
    }
    for kind in ["records.db-wal", ".log"] {
        for threads in [ONE, "several"] {
            let watched = |durability: &str| {
                let directory = folder.path().join(format!("{durability}-{threads}{kind}"));
                Watched::run(&directory, [durability, threads], &watcher, kind)
            };
            let (full, relaxed) = (watched("full"), watched("relaxed"));
            assert_eq!(full.acknowledged, ROUNDS, "{kind}: {full:?}");
            assert_eq!(full.unsynced, 0, "{kind}: acknowledged before it was synced: {full:?}");
            assert!(
                relaxed.unsynced > 0,
                "{kind}: relaxed waits for the disk, or nothing is seen: {relaxed:?}"
            );
            println!("syncs: {kind}, {threads} thread(s): {full:?}, relaxed {relaxed:?}");
        }
    }
}

fn compile(watcher: &Path) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("only Linux is watched".into());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/syncs.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(watcher).arg(source).arg("-ldl");
    match compiler.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => panic!("syncs.c does not compile: {status}"),
        Err(error) => Err(format!("there is no C compiler: {error}")),
    }
}

/// The child: one write after another to each engine, telling when it begins and when it was acknowledged.
async fn write(directory: &Path) {
    let durability = if std::env::var(DURABILITY).as_deref() == Ok("full") {
        Durability::Full
    } else {
        Durability::Relaxed
    };
    let options = Options::new(Location::File(directory.to_owned()), durability);
    let store = Store::open(&options).expect("the store opens");
    let streams = Streams::open(&options).expect("the log opens");
    let stream = StreamId::new(&InstanceId::from_stored("i"), "events");
    streams.ensure(&stream, 1).await.expect("a stream can be made");
    for number in 0..ROUNDS {
        eprintln!("begin records.db-wal");
        let mut batch = Batch::default();
        batch.put(&Number(number));
        store.commit(batch).await.expect("commits work");
        eprintln!("acknowledged records.db-wal");
        eprintln!("begin .log");
        let (headers, body) = (Bytes::new(), Bytes::from(number.to_string()));
        let record = NewRecord { time: Timestamp::UNIX_EPOCH, key: "device".into(), headers, body };
        streams.append(&stream, 0, vec![record]).await.expect("appends work");
        eprintln!("acknowledged .log");
    }
}

/// What was seen of the files of one engine.
#[derive(Debug, Default)]
struct Watched {
    acknowledged: usize,
    /// Of those, how many were not written and then synced in between.
    unsynced: usize,
    calls: BTreeMap<String, usize>,
}

impl Watched {
    fn run(directory: &Path, [durability, threads]: [&str; 2], watcher: &Path, kind: &str) -> Self {
        let program = std::env::current_exe().expect("a program knows itself");
        let mut child = Command::new(program);
        child
            .env(DIRECTORY, directory)
            .env(DURABILITY, durability)
            .env(THREADS, threads)
            .env("LD_PRELOAD", watcher);
        let output = child.output().expect("the child starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Self::read(&said, kind)
    }

    fn read(said: &str, kind: &str) -> Self {
        let mut seen = Self::default();
        let (mut dirty, mut synced) = (BTreeSet::new(), false);
        for line in said.lines() {
            let Some((what, path)) = line.split_once(' ').filter(|(_, path)| path.ends_with(kind)) else {
                continue;
            };
            match what {
                "begin" => synced = false,
                "write" => drop(dirty.insert(path)),
                "sync" => synced |= dirty.remove(path),
                "acknowledged" => {
                    seen.acknowledged += 1;
                    seen.unsynced += usize::from(!dirty.is_empty() || !synced);
                }
                _ => continue,
            }
            *seen.calls.entry(what.to_owned()).or_default() += 1;
        }
        seen
    }
}
