//! The contract of records, run over every engine: a file, memory, the hostile one and a database. Each test takes a fresh store of each.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use base::{Clock, InstanceId};
use serde::{Deserialize, Serialize};

use crate::{
    Batch, CommitError, Counter, Durability, Find, Key, Location, Options, OutboxEntry, Record, Scan, Store,
    StoreError, Stored, Table, memory, retry_on_conflict, table,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Thing {
    instance: String,
    id: String,
    part: String,
    color: Option<String>,
    value: i64,
}

impl Record for Thing {
    const TABLE: Table = table::THING;

    fn key(&self) -> Key {
        Key::new([&self.instance, &self.id, &self.part])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![self.color.clone(), None]
    }
}

fn thing(id: &str, value: i64) -> Thing {
    part(id, "", value)
}

fn part(id: &str, part: &str, value: i64) -> Thing {
    Thing { instance: "i".into(), id: id.into(), part: part.into(), color: None, value }
}

fn key(id: &str) -> Key {
    Key::new(["i", id, ""])
}

fn instance() -> InstanceId {
    InstanceId::from_stored("i")
}

/// One engine under test. A file can be closed and opened again.
struct Engine {
    store: Store,
    directory: Option<tempfile::TempDir>,
    database: Option<test_postgres::Database>,
    hostile: Option<memory::Database>,
}

fn options(directory: Option<PathBuf>) -> Options {
    let location = directory.map_or(Location::Memory, Location::File);
    Options::new(location, Durability::Full)
}

fn open(database: &test_postgres::Database) -> Store {
    let location = Location::Postgres(base::Secret::new(database.url()));
    Store::open(&Options::new(location, Durability::Relaxed)).unwrap()
}

/// The engine in memory, which lets others go first wherever it may.
fn hostile() -> Engine {
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    let hostile = memory::Database::hostile(Clock::system(), seed, memory::Odds::DISORDER);
    let store = Store::on_memory(&hostile);
    Engine { store, directory: None, database: None, hostile: Some(hostile) }
}

fn engines() -> Vec<Engine> {
    let directory = tempfile::tempdir().unwrap();
    let file = Store::open(&options(Some(directory.path().to_owned()))).unwrap();
    let memory = Store::open(&options(None)).unwrap();
    let file = Engine { store: file, directory: Some(directory), database: None, hostile: None };
    let memory = Engine { store: memory, directory: None, database: None, hostile: None };
    let database = test_postgres::database().map(|database| Engine {
        store: open(&database),
        directory: None,
        database: Some(database),
        hostile: None,
    });
    [file, memory, hostile()].into_iter().chain(database).collect()
}

impl Engine {
    async fn put(&self, things: &[Thing]) {
        let mut batch = Batch::default();
        for thing in things {
            batch.put(thing);
        }
        self.store.commit(batch).await.unwrap();
    }

    async fn get(&self, id: &str) -> Option<Stored<Thing>> {
        self.store.get(&key(id)).await.unwrap()
    }

    async fn value(&self, id: &str) -> Option<i64> {
        self.get(id).await.map(|stored| stored.record.value)
    }

    async fn counter(&self, name: &str) -> i64 {
        self.store.counter(&Counter::new(&instance(), name)).await.unwrap()
    }

    async fn commit(&self, build: impl FnOnce(&mut Batch)) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        build(&mut batch);
        self.store.commit(batch).await.map(drop)
    }

    /// Closes and opens again what outlives a process.
    fn reopened(self) -> Option<Self> {
        let Self { store, directory, database, hostile } = self;
        drop(store);
        let store = match (&directory, &database) {
            _ if hostile.is_some() => Store::on_memory(hostile.as_ref()?),
            (Some(directory), _) => Store::open(&options(Some(directory.path().to_owned()))).unwrap(),
            (None, Some(database)) => open(database),
            (None, None) => return None,
        };
        Some(Self { store, directory, database, hostile })
    }
}

#[tokio::test]
async fn a_record_is_read_as_it_was_written() {
    for engine in engines() {
        assert_eq!(engine.get("a").await, None);
        let mut batch = Batch::default();
        batch.insert(&thing("a", 1));
        let committed = engine.store.commit(batch).await.unwrap();
        assert_eq!(engine.get("a").await, Some(committed.stored(thing("a", 1))));
    }
}

#[tokio::test]
async fn an_insert_over_an_existing_record_conflicts_and_changes_nothing() {
    for engine in engines() {
        engine.put(&[thing("a", 1)]).await;
        let refused = engine.commit(|batch| batch.insert(&thing("a", 2))).await;
        assert_eq!(refused, Err(CommitError::Conflict));
        assert_eq!(engine.value("a").await, Some(1));
    }
}

#[tokio::test]
async fn a_stale_replacement_conflicts_and_changes_nothing() {
    for engine in engines() {
        engine.put(&[thing("a", 1)]).await;
        let stale = engine.get("a").await.unwrap();
        engine.commit(|batch| batch.replace(&stale, &thing("a", 2))).await.unwrap();
        let refused = engine.commit(|batch| batch.replace(&stale, &thing("a", 3))).await;
        assert_eq!(refused, Err(CommitError::Conflict));
        let refused = engine.commit(|batch| batch.delete(&stale)).await;
        assert_eq!(refused, Err(CommitError::Conflict));
        assert_eq!(engine.value("a").await, Some(2));
    }
}

#[tokio::test]
async fn a_record_that_was_deleted_and_made_again_is_another_one() {
    for engine in engines() {
        engine.put(&[thing("a", 1)]).await;
        let first = engine.get("a").await.unwrap();
        engine.commit(|batch| batch.delete(&first)).await.unwrap();
        assert_eq!(engine.get("a").await, None);
        engine.put(&[thing("a", 1)]).await;
        let refused = engine.commit(|batch| batch.replace(&first, &thing("a", 2))).await;
        assert_eq!(refused, Err(CommitError::Conflict));
    }
}

#[tokio::test]
async fn removing_what_is_not_there_is_no_conflict() {
    for engine in engines() {
        engine.put(&[thing("a", 1)]).await;
        engine.commit(|batch| batch.remove::<Thing>(key("a"))).await.unwrap();
        engine.commit(|batch| batch.remove::<Thing>(key("a"))).await.unwrap();
        assert_eq!(engine.get("a").await, None);
    }
}

#[tokio::test]
async fn a_batch_that_fails_in_the_middle_leaves_nothing_behind() {
    for engine in engines() {
        engine.put(&[thing("taken", 1)]).await;
        let refused = engine
            .commit(|batch| {
                batch.put(&thing("taken", 9));
                batch.put(&thing("new", 9));
                batch.add(Counter::new(&instance(), "things"), 1, 10);
                batch.outbox(entry("dev1", b"never"));
                batch.insert(&thing("taken", 9));
            })
            .await;
        assert_eq!(refused, Err(CommitError::Conflict));
        assert_eq!((engine.value("taken").await, engine.value("new").await), (Some(1), None));
        assert_eq!(engine.counter("things").await, 0);
        assert_eq!(engine.store.outbox(0, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn guards_judge_records_that_the_batch_does_not_write() {
    for engine in engines() {
        engine.put(&[thing("a", 1)]).await;
        let read = engine.get("a").await.unwrap();
        engine
            .commit(|batch| {
                batch.guard(&read);
                batch.guard_exists::<Thing>(key("a"));
                batch.guard_absent::<Thing>(key("b"));
                batch.put(&thing("c", 1));
            })
            .await
            .unwrap();
        engine.put(&[thing("a", 2)]).await;
        let stale = engine.commit(|batch| {
            batch.guard(&read);
            batch.put(&thing("c", 2));
        });
        assert_eq!(stale.await, Err(CommitError::Conflict));
        let missing = engine.commit(|batch| {
            batch.guard_exists::<Thing>(key("b"));
            batch.put(&thing("c", 2));
        });
        assert_eq!(missing.await, Err(CommitError::Conflict));
        let present = engine.commit(|batch| {
            batch.guard_absent::<Thing>(key("a"));
            batch.put(&thing("c", 2));
        });
        assert_eq!(present.await, Err(CommitError::Conflict));
        assert_eq!(engine.value("c").await, Some(1));
    }
}

#[tokio::test]
async fn checks_are_judged_before_the_batchs_own_writes() {
    for engine in engines() {
        let both = |batch: &mut Batch| {
            batch.put(&thing("a", 1));
            batch.guard_absent::<Thing>(key("a"));
            batch.add(Counter::new(&instance(), "n"), 1, 10);
            batch.expect_zero(Counter::new(&instance(), "n"));
        };
        engine.commit(both).await.unwrap();
        assert_eq!(engine.commit(both).await, Err(CommitError::Conflict));
    }
}

#[tokio::test]
async fn a_counter_is_judged_when_it_is_committed() {
    for engine in engines() {
        let counter = || Counter::new(&instance(), "modules/dev1");
        for _ in 0..3 {
            engine.commit(|batch| batch.add(counter(), 1, 3)).await.unwrap();
        }
        let refused = engine
            .commit(|batch| {
                batch.put(&thing("fourth", 1));
                batch.add(counter(), 1, 3);
            })
            .await;
        assert_eq!(refused, Err(CommitError::CounterLimit { counter: "modules/dev1".into(), max: 3 }));
        assert_eq!((engine.counter("modules/dev1").await, engine.get("fourth").await), (3, None));
        let busy = engine.commit(|batch| batch.expect_zero(counter())).await;
        assert_eq!(busy, Err(CommitError::Conflict));
        engine.commit(|batch| batch.add(counter(), -3, 0)).await.unwrap();
        engine.commit(|batch| batch.expect_zero(counter())).await.unwrap();
        assert_eq!(engine.counter("modules/dev1").await, 0);
    }
}

fn red(id: &str) -> Thing {
    Thing { color: Some("red".into()), ..thing(id, 1) }
}

/// How many red things there are.
fn reds() -> Counter {
    Counter::of::<Thing>(&instance(), "reds", Some(("color", "red")))
}

#[tokio::test]
async fn a_counter_of_records_says_how_many_there_are_and_is_judged_as_any_other() {
    for engine in engines() {
        let all = || Counter::of::<Thing>(&instance(), "all", None);
        engine.put(&[thing("grey", 1), Thing { instance: "j".into(), ..red("another's") }]).await;
        engine.commit(|batch| batch.expect_zero(reds())).await.unwrap();
        for id in ["1", "2"] {
            let add = |batch: &mut Batch| {
                batch.insert(&red(id));
                batch.add(reds(), 1, 2);
                batch.add(all(), 1, 10);
            };
            engine.commit(add).await.unwrap();
        }
        // One that stays out of the store stays out of the count.
        let again = engine.commit(|batch| {
            batch.add(reds(), 1, 10);
            batch.insert(&red("1"));
        });
        assert_eq!(again.await, Err(CommitError::Conflict));
        let third = engine.commit(|batch| {
            batch.insert(&red("3"));
            batch.add(reds(), 1, 2);
        });
        assert_eq!(third.await, Err(CommitError::CounterLimit { counter: "reds".into(), max: 2 }));
        assert_eq!(engine.get("3").await, None);
        assert_eq!(engine.commit(|batch| batch.expect_zero(reds())).await, Err(CommitError::Conflict));
        let count = async |engine: &Engine| {
            (engine.store.counter(&reds()).await.unwrap(), engine.store.counter(&all()).await.unwrap())
        };
        assert_eq!(count(&engine).await, (2, 3));
        for id in ["1", "2"] {
            let old = engine.get(id).await.unwrap();
            let remove = |batch: &mut Batch| {
                batch.delete(&old);
                batch.add(reds(), -1, 0);
                batch.add(all(), -1, 0);
            };
            engine.commit(remove).await.unwrap();
        }
        engine.commit(|batch| batch.expect_zero(reds())).await.unwrap();
        assert_eq!(count(&engine).await, (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_inserts_never_pass_the_limit_of_what_is_counted() {
    for engine in engines() {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..100 {
            let store = engine.store.clone();
            tasks.spawn(async move {
                let mut batch = Batch::default();
                batch.insert(&red(&number.to_string()));
                batch.add(reds(), 1, 60);
                store.commit(batch).await
            });
        }
        let results = tasks.join_all().await;
        let limit = CommitError::CounterLimit { counter: "reds".into(), max: 60 };
        assert_eq!(results.iter().filter(|result| result.as_ref() == Err(&limit)).count(), 40);
        assert_eq!(engine.store.counter(&reds()).await, Ok(60));
        // What is counted after a start is what was there before it.
        let Some(engine) = engine.reopened() else { continue };
        let more = engine.commit(|batch| {
            batch.insert(&red("more"));
            batch.add(reds(), 1, 60);
        });
        assert_eq!(more.await, Err(limit));
    }
}

#[tokio::test]
async fn what_a_removed_instance_had_is_not_counted_any_more() {
    for engine in engines() {
        let add = |batch: &mut Batch| {
            batch.insert(&red("1"));
            batch.add(reds(), 1, 1);
        };
        engine.commit(add).await.unwrap();
        engine.store.remove_instance(&instance()).await.unwrap();
        engine.commit(|batch| batch.expect_zero(reds())).await.unwrap();
        engine.commit(add).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_adds_never_pass_the_limit_and_never_conflict() {
    for engine in engines() {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let store = engine.store.clone();
            tasks.spawn(async move {
                let mut batch = Batch::default();
                batch.add(Counter::new(&instance(), "n"), 1, 60);
                store.commit(batch).await
            });
        }
        let results = tasks.join_all().await;
        let limit = CommitError::CounterLimit { counter: "n".into(), max: 60 };
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 60);
        assert_eq!(results.iter().filter(|result| result.as_ref() == Err(&limit)).count(), 40);
        assert_eq!(engine.counter("n").await, 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_batch_fails_alone_among_those_that_share_its_commit() {
    for engine in engines() {
        engine.put(&[thing("shared", 0)]).await;
        let stale = engine.get("shared").await.unwrap();
        engine.put(&[thing("shared", 1)]).await;
        // While one commit syncs the others queue up, so most of these share a commit with stale ones.
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200 {
            let (store, stale) = (engine.store.clone(), stale.clone());
            tasks.spawn(async move {
                let mut batch = Batch::default();
                batch.put(&thing(&format!("n{number}"), number));
                if number % 3 == 0 {
                    batch.replace(&stale, &thing("shared", 9));
                }
                (number, store.commit(batch).await.map(drop))
            });
        }
        for (number, result) in tasks.join_all().await {
            let (expected, kept) =
                if number % 3 == 0 { (Err(CommitError::Conflict), None) } else { (Ok(()), Some(number)) };
            assert_eq!(result, expected);
            assert_eq!(engine.value(&format!("n{number}")).await, kept);
        }
        assert_eq!(engine.value("shared").await, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_with_retries_lose_nothing() {
    for engine in engines() {
        engine.put(&[thing("sum", 0)]).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = engine.store.clone();
            tasks.spawn(async move {
                for _ in 0..20 {
                    retry_on_conflict(async || {
                        let old = store.get::<Thing>(&key("sum")).await?.unwrap();
                        let mut batch = Batch::default();
                        batch.replace(&old, &thing("sum", old.record.value + 1));
                        store.commit(batch).await
                    })
                    .await
                    .unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(engine.value("sum").await, Some(160));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_rise_and_are_never_given_twice() {
    for engine in engines() {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..50 {
            let store = engine.store.clone();
            tasks.spawn(async move {
                let mut batch = Batch::default();
                batch.put(&thing(&format!("n{number}"), number));
                store.commit(batch).await.unwrap().revision
            });
        }
        let mut seen = tasks.join_all().await;
        let greatest = *seen.iter().max().unwrap();
        let mut batch = Batch::default();
        batch.put(&thing("later", 1));
        assert!(engine.store.commit(batch).await.unwrap().revision > greatest);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 50);
        if let Some(engine) = engine.reopened() {
            let mut batch = Batch::default();
            batch.put(&thing("after", 1));
            assert!(engine.store.commit(batch).await.unwrap().revision > greatest);
        }
    }
}

#[tokio::test]
async fn every_commit_is_seen_by_the_reads_that_follow_it() {
    for engine in engines() {
        for value in 0..200 {
            engine.put(&[thing("a", value)]).await;
            assert_eq!(engine.value("a").await, Some(value));
            let scanned = engine.store.scan::<Thing>(Scan::new(Key::new(["i"]), 10)).await.unwrap();
            assert_eq!(scanned[0].record.value, value);
        }
    }
}

#[tokio::test]
async fn a_scan_pages_through_a_prefix_in_key_order() {
    for engine in engines() {
        let ids = ["a", "b", "b%", "c", "ä"];
        let things: Vec<_> = ids.iter().flat_map(|id| [part(id, "", 0), part(id, "x", 1)]).collect();
        engine.put(&things).await;
        let other = Thing { instance: "j".into(), ..thing("a", 7) };
        engine.put(&[other]).await;
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = engine.store.scan::<Thing>(Scan::new(Key::new(["i"]), 3).after(after)).await.unwrap();
            seen.extend(page.iter().map(|stored| stored.record.clone()));
            let Some(last) = page.last() else { break };
            after = Some(last.record.key());
        }
        assert_eq!(seen, things);
        let one = engine.store.scan::<Thing>(Scan::new(Key::new(["i", "b"]), 10)).await.unwrap();
        assert_eq!(one.len(), 2);
        let beyond = Scan::new(Key::new(["i"]), 1).after(Some(Key::new(["i", "b"])));
        assert_eq!(engine.store.scan::<Thing>(beyond).await.unwrap()[0].record.id, "b%");
        assert_eq!(engine.store.scan::<Thing>(Scan::new(Key::all(), 100)).await.unwrap().len(), 11);
        assert_eq!(engine.store.count::<Thing>(&Key::new(["i"])).await.unwrap(), 10);
        assert_eq!(engine.store.count::<Thing>(&Key::all()).await.unwrap(), 11);
    }
}

#[tokio::test]
async fn a_find_goes_by_a_declared_column_within_its_prefix() {
    for engine in engines() {
        let red = |id: &str| Thing { color: Some("red".into()), ..thing(id, 0) };
        engine.put(&[red("a"), thing("b", 0), red("c"), red("d")]).await;
        engine.put(&[Thing { instance: "j".into(), ..red("a") }]).await;
        let find = |after| Find::new(Key::new(["i"]), "color", "red", 2).after(after);
        let first = engine.store.find::<Thing>(find(None)).await.unwrap();
        assert_eq!(first.iter().map(|stored| &*stored.record.id).collect::<Vec<_>>(), ["a", "c"]);
        let rest = engine.store.find::<Thing>(find(Some(first[1].record.key()))).await.unwrap();
        assert_eq!(rest.iter().map(|stored| &*stored.record.id).collect::<Vec<_>>(), ["d"]);
        let recolored = Thing { color: Some("blue".into()), ..thing("a", 0) };
        engine.put(&[recolored]).await;
        assert_eq!(engine.store.find::<Thing>(find(None)).await.unwrap()[0].record.id, "c");
        let undeclared = Find::new(Key::new(["i"]), "doc", "x", 2);
        assert!(matches!(engine.store.find::<Thing>(undeclared).await, Err(StoreError::Refused(_))));
    }
}

fn entry(partition_key: &str, payload: &[u8]) -> OutboxEntry {
    OutboxEntry { instance: instance(), partition_key: partition_key.into(), payload: payload.to_vec() }
}

#[tokio::test]
async fn outbox_rows_come_with_their_batch_in_order_and_go_when_removed() {
    for engine in engines() {
        let written = engine.store.outbox_written();
        for number in 0..5_u8 {
            engine.commit(|batch| batch.outbox(entry("dev1", &[number]))).await.unwrap();
        }
        let rows = engine.store.outbox(0, 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.payload[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(*written.borrow(), rows[4].id);
        assert_eq!(engine.store.outbox(rows[1].id, 2).await.unwrap(), rows[2..4]);
        engine.store.outbox_done(rows.iter().map(|row| row.id)).await.unwrap();
        assert_eq!(engine.store.outbox(0, 10).await.unwrap(), []);
        let last = rows[4].id;
        let outlives = engine.directory.is_some() || engine.database.is_some() || engine.hostile.is_some();
        let store = if outlives { engine.reopened().unwrap() } else { engine };
        store.commit(|batch| batch.outbox(entry("dev1", b"x"))).await.unwrap();
        assert!(store.store.outbox(0, 10).await.unwrap()[0].id > last, "an outbox id was given twice");
    }
}

#[tokio::test]
async fn an_outbox_row_for_listeners_is_written_only_while_there_are_some() {
    for engine in engines() {
        let listeners = Counter::new(&instance(), "listeners");
        let tell = async |batch: &mut Batch| batch.outbox_for(listeners.clone(), entry("dev1", b"x"));
        let mut unheard = Batch::default();
        tell(&mut unheard).await;
        unheard.put(&thing("a", 1));
        engine.store.commit(unheard).await.unwrap();
        assert_eq!(engine.store.outbox(0, 10).await.unwrap(), []);
        assert_eq!(engine.value("a").await, Some(1), "the rest of the batch is there");
        // Judged when it is committed, not when it is built.
        let mut heard = Batch::default();
        tell(&mut heard).await;
        engine.commit(|batch| batch.add(listeners.clone(), 1, 10)).await.unwrap();
        engine.store.commit(heard).await.unwrap();
        assert_eq!(engine.store.outbox(0, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn rows_that_are_done_come_once_more_after_a_crash_only_until_the_next_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&options(Some(directory.path().to_owned()))).unwrap();
    let mut batch = Batch::default();
    (0..3).for_each(|number| batch.outbox(entry("dev1", &[number])));
    store.commit(batch).await.unwrap();
    let rows = store.outbox(0, 10).await.unwrap();
    // What another connection finds is what a server would find after a crash.
    let left = || -> u64 {
        let connection = rusqlite::Connection::open(directory.path().join("records.db")).unwrap();
        connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap()
    };
    store.outbox_done([rows[0].id, rows[1].id]).await.unwrap();
    assert_eq!(left(), 3);
    assert_eq!(store.outbox(0, 10).await.unwrap(), rows[2..]);
    assert_eq!(store.outbox_bytes().await.unwrap(), [(instance(), 1)], "what is done waits no more");
    let mut batch = Batch::default();
    batch.put(&thing("a", 1));
    store.commit(batch).await.unwrap();
    assert_eq!(left(), 1);
    store.outbox_done([rows[2].id]).await.unwrap();
    store.close();
    assert_eq!(left(), 0, "a clean end leaves nothing to be done again");
}

#[tokio::test]
async fn rows_that_are_done_do_not_gather_without_end() {
    let store = Store::open(&Options::memory()).unwrap();
    let count = u64::try_from(base::caps::OUTBOX_DONE_MAX).unwrap();
    let before = store.commits_total();
    store.outbox_done(1..count).await.unwrap();
    assert_eq!(store.commits_total(), before);
    store.outbox_done([count]).await.unwrap();
    assert_eq!(store.commits_total(), before + 1);
    store.outbox_done([count + 1]).await.unwrap();
    assert_eq!(store.commits_total(), before + 1);
}

#[tokio::test]
async fn outbox_ids_can_be_raised_above_what_a_log_has_seen_and_never_fall() {
    for engine in engines() {
        assert!(!engine.store.raise_outbox(0).await.unwrap());
        if engine.database.is_some() || engine.hostile.is_some() {
            assert!(!engine.store.raise_outbox(41).await.unwrap(), "no log is beside it");
            continue;
        }
        assert!(engine.store.raise_outbox(41).await.unwrap());
        engine.commit(|batch| batch.outbox(entry("dev1", b"x"))).await.unwrap();
        assert_eq!(engine.store.outbox(0, 10).await.unwrap()[0].id, 42);
        assert!(!engine.store.raise_outbox(30).await.unwrap());
        assert!(engine.store.raise_outbox(99).await.unwrap());
        engine.commit(|batch| batch.outbox(entry("dev1", b"y"))).await.unwrap();
        assert_eq!(engine.store.outbox(42, 10).await.unwrap()[0].id, 100);
    }
}

#[tokio::test]
async fn removing_an_instance_leaves_its_neighbours() {
    for engine in engines() {
        let things: Vec<_> = (0..2500).map(|number| thing(&format!("{number:04}"), number)).collect();
        engine.put(&things).await;
        let neighbour = Thing { instance: "j".into(), ..thing("a", 7) };
        engine.put(std::slice::from_ref(&neighbour)).await;
        engine
            .commit(|batch| {
                batch.add(Counter::new(&instance(), "n"), 1, 10);
                batch.add(Counter::new(&InstanceId::from_stored("j"), "n"), 1, 10);
                batch.outbox(entry("a", b"x"));
            })
            .await
            .unwrap();
        engine.store.remove_instance(&instance()).await.unwrap();
        assert_eq!(engine.store.count::<Thing>(&Key::new(["i"])).await.unwrap(), 0);
        assert_eq!(engine.store.count::<Thing>(&Key::all()).await.unwrap(), 1);
        assert_eq!(engine.counter("n").await, 0);
        let counter = Counter::new(&InstanceId::from_stored("j"), "n");
        assert_eq!(engine.store.counter(&counter).await.unwrap(), 1);
        assert_eq!(engine.store.outbox(0, 10).await.unwrap(), []);
    }
}

/// A record of a table in which documents lie beside their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Edge {
    instance: String,
    source: String,
    target: String,
    document: serde_json::Map<String, serde_json::Value>,
}

impl Record for Edge {
    const TABLE: Table = table::RELATIONSHIP;

    fn key(&self) -> Key {
        Key::new([&self.instance, &self.source, &self.target])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(self.target.clone()), Some("feeds".to_owned())]
    }
}

#[tokio::test]
async fn records_beside_their_keys_are_written_replaced_and_removed_like_others() {
    for engine in engines() {
        let edge = |instance: &str, target: String| Edge {
            instance: instance.to_owned(),
            source: "s".to_owned(),
            target,
            document: serde_json::Map::from_iter([("note".to_owned(), "n".repeat(3000).into())]),
        };
        for chunk in 0..3 {
            let targets = (chunk * 500..(chunk + 1) * 500).map(|number| format!("{number:04}"));
            engine.commit(|batch| targets.for_each(|to| batch.insert(&edge("i", to)))).await.unwrap();
        }
        engine.commit(|batch| batch.put(&edge("j", "0000".into()))).await.unwrap();
        let key = Key::new(["i", "s", "0007"]);
        let old = engine.store.get::<Edge>(&key).await.unwrap().unwrap();
        assert_eq!(old.record, edge("i", "0007".into()));
        let new = Edge { document: serde_json::Map::new(), ..old.record.clone() };
        engine.commit(|batch| batch.replace(&old, &new)).await.unwrap();
        assert_eq!(engine.commit(|batch| batch.replace(&old, &new)).await, Err(CommitError::Conflict));
        assert_eq!(engine.store.get::<Edge>(&key).await.unwrap().unwrap().record, new);
        engine.store.remove_instance(&instance()).await.unwrap();
        assert_eq!(engine.store.count::<Edge>(&Key::all()).await, Ok(1));
    }
}

#[tokio::test]
async fn closing_and_opening_again_keeps_everything() {
    for engine in engines() {
        engine.put(&[thing("a", 1), part("a", "x", 2)]).await;
        engine
            .commit(|batch| {
                batch.add(Counter::new(&instance(), "n"), 2, 10);
                batch.outbox(entry("a", b"event"));
            })
            .await
            .unwrap();
        let before = engine.get("a").await;
        let Some(engine) = engine.reopened() else { continue };
        assert_eq!(engine.get("a").await, before);
        assert_eq!(engine.store.count::<Thing>(&Key::all()).await.unwrap(), 2);
        assert_eq!(engine.counter("n").await, 2);
        assert_eq!(engine.store.outbox(0, 10).await.unwrap()[0].payload, b"event");
    }
}

#[tokio::test]
async fn mistakes_of_the_caller_are_refused_and_reach_no_table() {
    for engine in engines() {
        let short = engine.commit(|batch| batch.remove::<Thing>(Key::new(["i"]))).await;
        assert!(matches!(short, Err(CommitError::Store(StoreError::Refused(_)))), "{short:?}");
        engine.put(&[thing("a", 1)]).await;
        let old = engine.get("a").await.unwrap();
        let moved = engine.commit(|batch| batch.replace(&old, &thing("b", 1))).await;
        assert!(matches!(moved, Err(CommitError::Store(StoreError::Refused(_)))), "{moved:?}");
        let huge = engine.commit(|batch| (0..20_000).for_each(|_| batch.put(&thing("b", 1)))).await;
        assert!(matches!(huge, Err(CommitError::Store(StoreError::Refused(_)))), "{huge:?}");
        assert!(engine.store.get::<Thing>(&Key::new(["i"])).await.is_err());
        assert_eq!(engine.get("b").await, None);
    }
}
