//! What only a file can do: be opened twice, be of another version, run out of room, need checkpoints, be damaged.

mod damage;
mod migration;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::InstanceId;
use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::hooks::Action;
use serde::{Deserialize, Serialize};

use super::checkpoint::{LOG_BYTES_MAX, STEP_BYTES};
use crate::engine::Range;
use crate::{
    Batch, CommitError, Counter, Durability, Key, Location, Options, Record, Store, StoreError, Table, table,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Blob(String, String);

impl Record for Blob {
    const TABLE: Table = table::THING;

    fn key(&self) -> Key {
        Key::new(["i", &self.0, ""])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![None, None]
    }
}

fn open(directory: &std::path::Path) -> Result<Store, StoreError> {
    let location = Location::File(directory.to_owned());
    Store::open(&Options::new(location, Durability::Full))
}

async fn put(store: &Store, id: &str, bytes: usize) -> Result<(), CommitError> {
    let mut batch = Batch::default();
    batch.put(&Blob(id.into(), "x".repeat(bytes)));
    store.commit(batch).await.map(drop)
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused_until_the_first_ends() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(StoreError::InUse(_))));
    put(&first, "a", 10).await.unwrap();
    drop(first);
    assert!(open(directory.path()).is_ok());
}

#[tokio::test]
async fn a_clean_end_leaves_the_database_complete_without_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    put(&store, "a", 10).await.unwrap();
    // A server's tasks may hold clones beyond its end.
    let clone = store.clone();
    store.close();
    assert!(matches!(put(&clone, "b", 10).await, Err(CommitError::Store(StoreError::Closed))));
    assert_eq!(clone.count::<Blob>(&Key::all()).await.unwrap(), 1, "reads go on");
    let copied = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("records.db"), copied.path().join("records.db")).unwrap();
    assert_eq!(open(copied.path()).unwrap().count::<Blob>(&Key::all()).await.unwrap(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_data_directory_is_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let _store = open(&directory).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&directory).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_database_of_a_later_version_or_of_another_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let path = directory.path().join("records.db");
    let sql = "UPDATE meta SET value = '999' WHERE name = 'format'";
    Connection::open(&path).unwrap().execute(sql, []).unwrap();
    assert!(matches!(open(directory.path()), Err(StoreError::Version(_))));
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute("CREATE TABLE theirs (a)", []).unwrap();
    assert!(matches!(open(directory.path()), Err(StoreError::Version(_))));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "this is not a database, but long enough to be taken for one".repeat(100)).unwrap();
    assert!(matches!(open(directory.path()), Err(StoreError::Corrupt(_))));
}

/// The same table, read as what is not in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Numbers(u32, u32);

impl Record for Numbers {
    const TABLE: Table = table::THING;

    fn key(&self) -> Key {
        Key::new(["i", &self.0.to_string(), ""])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![None, None]
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_told_of_without_what_stands_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    put(&store, "hidden", 10).await.unwrap();
    let error = store.get::<Numbers>(&Key::new(["i", "hidden", ""])).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(table::THING.name) && !said.contains("hidden"), "{said}");
}

#[tokio::test]
async fn a_full_disk_fails_commits_whole_and_the_store_recovers_with_room() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    put(&store, "before", 10).await.unwrap();
    let limit = |pages: u32| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        store.sqlite().writer_for_test().lock().query_row(&sql, [], |_| Ok(())).unwrap();
    };
    limit(1);
    let mut batch = Batch::default();
    batch.add(Counter::new(&InstanceId::from_stored("i"), "n"), 1, 10);
    batch.put(&Blob("big".into(), "x".repeat(1_000_000)));
    let refused = store.commit(batch).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    assert_eq!(store.get::<Blob>(&Key::new(["i", "big", ""])).await.unwrap(), None);
    assert_eq!(store.counter(&Counter::new(&InstanceId::from_stored("i"), "n")).await.unwrap(), 0);
    limit(1_000_000);
    put(&store, "after", 1_000_000).await.unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!(store.count::<Blob>(&Key::all()).await.unwrap(), 2);
}

#[tokio::test]
async fn readers_cannot_write_and_a_read_whose_asker_has_gone_is_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let write = store.sqlite().read(|connection| Ok(connection.execute("DELETE FROM outbox", [])?)).await;
    assert!(write.is_err());
    let (started, ran) = std::sync::mpsc::sync_channel::<()>(1);
    drop(store.sqlite().read(move |_| {
        let _ = started.send(());
        Ok(())
    }));
    put(&store, "a", 10).await.unwrap();
    assert!(ran.recv_timeout(Duration::from_secs(5)).is_err());
}

#[tokio::test]
async fn a_checkpoint_runs_off_the_commit_path_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for number in 0..20 {
        put(&store, &format!("{number}"), 100_000).await.unwrap();
    }
    let connection = super::connect(&directory.path().join("records.db")).unwrap();
    // The store's own may be at it, and two cannot move pages at once.
    let mut is_moved = false;
    for _ in 0..100 {
        put(&store, "last", 10).await.unwrap();
        is_moved = super::checkpoint::checkpoint(&connection, "RESTART").is_ok_and(|log_bytes| log_bytes > 0);
        if is_moved {
            break;
        }
    }
    assert!(is_moved);
    assert_eq!(store.count::<Blob>(&Key::all()).await.unwrap(), 21);
    let column = Some(("color", "red".to_owned()));
    let after = Some(Key::new(["i", "a"]));
    let range = Range { table: table::THING, prefix: Key::new(["i"]), column, after, limit: 1 };
    let plan = store.sqlite().read(move |connection| {
        let sql = format!("EXPLAIN QUERY PLAN {}", super::sql::scan(&range, 1));
        Ok(connection.query_row(&sql, ["i", "red", "a", "1"], |row| row.get::<_, String>("detail"))?)
    });
    let plan = plan.await.unwrap();
    assert!(plan.contains("thing_by_color (instance=? AND color=? AND id>?"), "{plan}");
}

/// Every index of a database, by the name that its statistics go by.
fn indexes(connection: &Connection) -> BTreeSet<(String, String)> {
    let sql = "SELECT m.name, CASE WHEN i.origin = 'pk' AND m.sql LIKE '%WITHOUT ROWID%' THEN m.name ELSE i.name END
        FROM sqlite_schema m, pragma_index_list(m.name) i WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'";
    let mut select = connection.prepare(sql).unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn every_index_has_its_row_of_statistics_and_nothing_else_has_one() {
    let declared = |paths: &[&str]| paths.iter().map(|path| path.parse().unwrap()).collect();
    let directory = tempfile::tempdir().unwrap();
    let location = Location::File(directory.path().to_owned());
    let path = directory.path().join("records.db");
    for paths in
        [&[][..], &["DIGITALTWINS.a", "RELATIONSHIPS.a.b"], &["DIGITALTWINS.A", "DIGITALTWINS.a"], &[]]
    {
        let declared_paths: Vec<_> = declared(paths);
        let options = Options { declared_paths, ..Options::new(location.clone(), Durability::Full) };
        drop(Store::open(&options).unwrap());
        let connection = Connection::open(&path).unwrap();
        let mut select =
            connection.prepare("SELECT tbl, idx FROM sqlite_stat1 WHERE idx IS NOT NULL").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: BTreeSet<(String, String)> = rows.collect::<Result<_, _>>().unwrap();
        let there = indexes(&connection);
        assert_eq!(rows, there);
        assert_eq!(there.iter().filter(|(_, name)| name.contains("_at_")).count(), paths.len());
        let sampled: u64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat4'", [], |row| row.get(0))
            .unwrap();
        if sampled > 0 {
            let samples: u64 =
                connection.query_row("SELECT count(*) FROM sqlite_stat4", [], |row| row.get(0)).unwrap();
            assert_eq!(samples, 0);
        }
    }
}

#[tokio::test]
async fn too_many_declared_paths_are_refused() {
    let path = |n: usize| format!("DIGITALTWINS.p{n}").parse().unwrap();
    let declared_paths = (0..=base::caps::DECLARED_PATHS_MAX).map(path).collect();
    let refused = Store::open(&Options { declared_paths, ..Options::memory() }).map(drop);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_snapshot_is_of_one_moment_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    put(&store, "before", 5000).await.unwrap();
    let snapshot = store.snapshot().unwrap();
    put(&store, "after", 10).await.unwrap();
    let copied = tempfile::tempdir().unwrap();
    snapshot.write_to(&copied.path().join("records.db")).unwrap();
    put(&store, "later", 10).await.unwrap();
    drop(snapshot);
    assert!(crate::check_records(copied.path()).unwrap().is_sound);
    let copy = open(copied.path()).unwrap();
    assert!(copy.get::<Blob>(&Key::new(["i", "before", ""])).await.unwrap().is_some());
    assert_eq!(copy.count::<Blob>(&Key::all()).await.unwrap(), 1);
    assert_eq!(store.count::<Blob>(&Key::all()).await.unwrap(), 3);
    let memory = Store::open(&Options::memory()).unwrap();
    assert!(matches!(memory.snapshot().map(drop), Err(StoreError::Refused(_))));
}

/// Several write without a pause until the log could have had four times its length; gives the most that it had.
async fn fill(store: &Store, directory: &std::path::Path) -> u64 {
    const WRITERS: u64 = 8;
    const BYTES: u64 = 20_000;
    let path = directory.join("records.db-wal");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, path) = (store.clone(), path.clone());
        writers.spawn(async move {
            let mut longest = 0;
            for number in 0..LOG_BYTES_MAX * 4 / WRITERS / BYTES {
                put(&store, &format!("{writer}-{}", number % 50), usize::try_from(BYTES).unwrap())
                    .await
                    .unwrap();
                longest = longest.max(std::fs::metadata(&path).unwrap().len());
            }
            longest
        });
    }
    writers.join_all().await.into_iter().max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_to_its_length_under_load_although_others_read_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = store.clone();
        readers.spawn(async move {
            loop {
                store.get::<Blob>(&Key::new(["i", "1", ""])).await.unwrap();
                store.scan::<Blob>(crate::Scan::new(Key::new(["i"]), 3)).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    let longest = fill(&store, directory.path()).await;
    assert!(longest <= LOG_BYTES_MAX + STEP_BYTES, "{longest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_holds_the_log_gives_way_and_the_log_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    put(&store, "1", 10).await.unwrap();
    let holding = store.clone();
    let mut query = tokio::task::JoinSet::new();
    query.spawn(async move { holding.sqlite().hold_the_log_for_test().await });
    let longest = fill(&store, directory.path()).await;
    assert!(longest <= LOG_BYTES_MAX + 3 * STEP_BYTES, "{longest}");
    let ended = tokio::time::timeout(Duration::from_secs(60), query.join_next()).await;
    assert_eq!(ended.expect("the query ends").unwrap().unwrap(), Err(StoreError::Busy));
}

/// As digital twins are kept: found by a column, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Colored(String, String, u64);

impl Record for Colored {
    const TABLE: Table = table::THING;

    fn key(&self) -> Key {
        Key::new(["i", &self.0, ""])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(self.1.clone()), None]
    }
}

#[tokio::test]
async fn a_change_that_nobody_listens_to_writes_one_page_and_touches_no_index() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let mut batch = Batch::default();
    (0..1000).for_each(|number| batch.put(&Colored(format!("{number:04}"), "red".into(), 100)));
    store.commit(batch).await.unwrap();
    let written = async |color: &str| {
        let old = store.get::<Colored>(&Key::new(["i", "0500", ""])).await.unwrap().unwrap();
        let before = store.sqlite().write_ahead_log().unwrap().bytes();
        let mut batch = Batch::default();
        batch.replace(&old, &Colored("0500".into(), color.into(), old.record.2 + 1));
        let instance = InstanceId::from_stored("i");
        let payload = vec![0; 500];
        let entry = crate::OutboxEntry { instance: instance.clone(), partition_key: "k".into(), payload };
        batch.outbox_for(Counter::new(&instance, "listeners"), entry);
        store.commit(batch).await.unwrap();
        store.sqlite().write_ahead_log().unwrap().bytes() - before
    };
    let page = written("red").await;
    assert!((2048..2100).contains(&page), "{page} bytes");
    assert!(written("blue").await > page, "a column that changes moves its entry");
}

/// Nothing in the engine tells, but whoever forgets it pays with a second write at each commit.
#[cfg(unix)]
#[test]
fn the_engine_is_compiled_to_sync_data_alone() {
    let flags = option_env!("LIBSQLITE3_FLAGS").unwrap_or_default();
    assert!(flags.contains("-DHAVE_FDATASYNC=1"), "see .cargo/config.toml: {flags:?}");
}

/// The threads that change records, in their order.
fn changing_threads(store: &Store) -> Arc<Mutex<Vec<String>>> {
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let note = move |_: Action, _: &str, _: &str, _: i64| {
        seen.lock().push(std::thread::current().name().unwrap_or_default().to_owned());
    };
    store.sqlite().writer_for_test().lock().update_hook(Some(note)).unwrap();
    names
}

/// A commit on the caller's thread needs the writer's own to be asleep, which it is soon.
async fn until_committed_at_once(store: &Store, threads: &Mutex<Vec<String>>) {
    let tried = async {
        while threads.lock().last().is_none_or(|last| last == WRITER) {
            put(store, "a", 10).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), tried).await.expect("in time");
    threads.lock().clear();
}

const WRITER: &str = "records-write";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_alone_commits_by_himself_and_all_who_come_meanwhile_share_the_next_commit() {
    const OTHERS: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let threads = changing_threads(&store);
    until_committed_at_once(&store, &threads).await;
    let before = store.syncs().count;
    let connection = store.sqlite().writer_for_test();
    let held = Arc::new(AtomicBool::new(true));
    let (holding, let_go) = (Arc::clone(&held), Arc::clone(&held));
    let (says, hears) = tokio::sync::oneshot::channel();
    let holder = std::thread::spawn(move || {
        let _held = connection.lock();
        says.send(()).unwrap();
        while holding.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    });
    hears.await.unwrap();
    let mut commits = tokio::task::JoinSet::new();
    for number in 0..=OTHERS {
        let store = store.clone();
        commits.spawn(async move { put(&store, &format!("b{number}"), 10).await.unwrap() });
    }
    // The first one waits for the connection and holds up nobody: the others come in behind it.
    let come = async {
        while store.sqlite().commits_waiting_for_test() < OTHERS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), come).await.expect("in time");
    let_go.store(false, Ordering::Release);
    commits.join_all().await;
    holder.join().unwrap();
    assert_eq!(store.syncs().count, before + 2);
    let threads = threads.lock().clone();
    assert_eq!(threads.len(), 1 + OTHERS);
    assert!(threads[0] != WRITER && threads[1..].iter().all(|name| name == WRITER), "{threads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_refused_on_its_askers_thread_leaves_nothing_and_the_next_one_stands() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let threads = changing_threads(&store);
    until_committed_at_once(&store, &threads).await;
    let mut batch = Batch::default();
    batch.insert(&Blob("new".into(), String::new()));
    batch.insert(&Blob("a".into(), String::new()));
    assert_eq!(store.commit(batch).await.unwrap_err(), CommitError::Conflict);
    assert_eq!(store.get::<Blob>(&Key::new(["i", "new", ""])).await.unwrap(), None);
    until_committed_at_once(&store, &threads).await;
    store.close();
    assert!(matches!(put(&store, "b", 10).await, Err(CommitError::Store(StoreError::Closed))));
    assert_eq!(store.count::<Blob>(&Key::all()).await.unwrap(), 1);
}
