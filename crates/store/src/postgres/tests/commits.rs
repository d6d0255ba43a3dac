//! Commits of several stores on one database: what each is promised holds against the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::InstanceId;
use serde::{Deserialize, Serialize};
use test_postgres::Database;
use tokio::task::JoinSet;

use super::super::faults::Fault;
use super::super::{Config, Postgres};
use crate::batch::{Batch, Committed, Counter};
use crate::engine::Records as _;
use crate::error::CommitError;
use crate::key::Key;
use crate::record::{Record, Revision, Stored};
use crate::store::Durability;
use crate::table::{self, Table};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Thing {
    pub(super) id: String,
    pub(super) value: u64,
}

impl Record for Thing {
    const TABLE: Table = table::THING;

    fn key(&self) -> Key {
        key(&self.id)
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![None, None]
    }
}

pub(super) fn thing(id: impl Into<String>, value: u64) -> Thing {
    Thing { id: id.into(), value }
}

pub(super) fn key(id: &str) -> Key {
    Key::new(["i", id, ""])
}

fn counter(name: &str) -> Counter {
    Counter::new(&InstanceId::from_stored("i"), name)
}

pub(super) fn store(database: &Database, fault: Option<Fault>) -> Postgres {
    let mut config = Config::parse(&database.url(), Durability::Relaxed).unwrap();
    config.fault = fault;
    Postgres::open(config).unwrap()
}

pub(super) async fn commit(
    store: &Postgres,
    build: impl FnOnce(&mut Batch),
) -> Result<Committed, CommitError> {
    let mut batch = Batch::default();
    build(&mut batch);
    store.commit(batch).await
}

pub(super) async fn get(store: &Postgres, id: &str) -> Option<Stored<Thing>> {
    let (document, revision) = store.get(table::THING, &key(id)).await.unwrap()?;
    Some(Stored { record: serde_json::from_str(&document).unwrap(), revision: Revision(revision) })
}

/// Once no store is open any more: a session tells what it counted when it ends, and not before a second is over while it works.
fn deadlocks(database: &Database) -> u64 {
    let name = database.name();
    let open = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'twinhub'"
    );
    let is_over = (0..1000).any(|_| database.query(&open) == "0");
    assert!(is_over, "sessions stay open");
    database
        .query(&format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'"))
        .parse()
        .unwrap()
}

/// Two stores, each with many tasks that change a few of 200 records at a time, in any order, and a counter.
async fn hot_rows(database: &Database, fault: Option<Fault>, seed: u64) -> u64 {
    let stores = [store(database, fault), store(database, fault)];
    let mut tasks = JoinSet::new();
    let records = 200;
    for task in 0..64_u64 {
        let store = stores[usize::try_from(task % 2).unwrap()].clone();
        tasks.spawn(async move {
            let mut random = seed.wrapping_add(task) | 1;
            let mut next = move || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let mut added = 0;
            for _ in 0..30 {
                let ids: Vec<u64> = (0..3).map(|_| next() % records).collect();
                loop {
                    let mut batch = Batch::default();
                    for id in &ids {
                        match get(&store, &id.to_string()).await {
                            Some(old) => batch.replace(&old, &thing(id.to_string(), old.record.value + 1)),
                            None => batch.insert(&thing(id.to_string(), 1)),
                        }
                    }
                    batch.add(counter(&format!("c{}", next() % 5)), 1, i64::MAX);
                    match store.commit(batch).await {
                        Ok(_) => break,
                        Err(CommitError::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                    // A batch that names a record twice can never succeed.
                    if ids[0] == ids[1] || ids[1] == ids[2] || ids[0] == ids[2] {
                        return added;
                    }
                }
                added += 1;
            }
            added
        });
    }
    let added = tasks.join_all().await.into_iter().sum();
    let mut counted = 0;
    for number in 0..5 {
        counted += stores[0].counter(&counter(&format!("c{number}"))).await.unwrap();
    }
    assert_eq!(u64::try_from(counted).unwrap(), added, "counters lose nothing");
    let mut values = 0;
    for id in 0..records {
        values += get(&stores[1], &id.to_string()).await.map_or(0, |stored| stored.record.value);
    }
    assert_eq!(values, added * 3, "records lose nothing");
    added
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_rows_from_two_stores_never_lock_in_a_circle() {
    let Some(database) = test_postgres::database() else { return };
    let added = hot_rows(&database, None, 20_261_127).await;
    assert!(added > 1000, "{added}");
    assert_eq!(deadlocks(&database), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_without_an_order_are_noticed() {
    let fault = Some(Fault::LocksUnordered);
    for seed in 1..=10 {
        let Some(database) = test_postgres::database() else { return };
        // The server looks for circles at once, so that they do not hold the test up.
        database.query(&format!("ALTER DATABASE {} SET deadlock_timeout = '20ms'", database.name()));
        hot_rows(&database, fault, seed).await;
        if deadlocks(&database) > 0 {
            return;
        }
    }
    panic!("ten runs without an order and no deadlock: the test above could not fail");
}

/// Puts one record over both stores at once, and gives whether the last to write had the greatest revision each time.
async fn revisions_rise(database: &Database, fault: Option<Fault>, rounds: usize) -> bool {
    let stores = [store(database, fault), store(database, fault)];
    let mut last = 0;
    for _ in 0..rounds {
        let mut tasks = JoinSet::new();
        for number in 0..8 {
            let store = stores[number % 2].clone();
            tasks.spawn(async move {
                commit(&store, |batch| batch.put(&thing("hot", 1))).await.unwrap().revision.get()
            });
        }
        let given = tasks.join_all().await;
        let kept = get(&stores[0], "hot").await.unwrap().revision.get();
        if given.iter().any(|revision| *revision <= last || *revision > kept) {
            return false;
        }
        last = kept;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_records_revision_rises_whichever_store_writes_it() {
    let Some(database) = test_postgres::database() else { return };
    assert!(revisions_rise(&database, None, 50).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_is_taken_before_the_locks_is_noticed() {
    let Some(database) = test_postgres::database() else { return };
    let fault = Some(Fault::RevisionFirst);
    assert!(!revisions_rise(&database, fault, 500).await, "the test above could not fail");
}

type Build = Arc<dyn Fn(&mut Batch, &str) + Send + Sync>;

/// What two batches that exclude each other do, one over each store, many times; both must never succeed, one must each time.
async fn exclude(
    one: impl Fn(&mut Batch, &str) + Send + Sync + 'static,
    other: impl Fn(&mut Batch, &str) + Send + Sync + 'static,
) {
    let Some(database) = test_postgres::database() else { return };
    let stores = [store(&database, None), store(&database, None)];
    let builds: [Build; 2] = [Arc::new(one), Arc::new(other)];
    let mut won = BTreeMap::new();
    for round in 0..60 {
        let mut tasks = JoinSet::new();
        for (number, build) in builds.iter().enumerate() {
            // Both may begin first.
            let number = if round % 2 == 0 { number } else { 1 - number };
            let (store, build) = (stores[number].clone(), Arc::clone(build));
            tasks
                .spawn(async move { commit(&store, |batch| build(batch, &round.to_string())).await.is_ok() });
        }
        let succeeded = tasks.join_all().await.into_iter().filter(|is_ok| *is_ok).count();
        *won.entry(succeeded).or_insert(0) += 1;
    }
    drop(stores);
    assert_eq!(won, BTreeMap::from([(1, 60)]), "rounds by how many of the two succeeded");
    assert_eq!(deadlocks(&database), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_inserts_of_one_key_one_succeeds() {
    exclude(|batch, round| batch.insert(&thing(round, 1)), |batch, round| batch.insert(&thing(round, 2)))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_guarded_as_absent_stays_so_until_the_commit() {
    exclude(
        |batch, round| {
            batch.guard_absent::<Thing>(key(&format!("x{round}")));
            batch.insert(&thing(format!("y{round}"), 1));
        },
        |batch, round| {
            batch.guard_absent::<Thing>(key(&format!("y{round}")));
            batch.insert(&thing(format!("x{round}"), 1));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_must_be_zero_stays_so_until_the_commit() {
    exclude(
        |batch, round| {
            batch.expect_zero(counter(round));
            batch.insert(&thing(round, 1));
        },
        |batch, round| {
            batch.guard_absent::<Thing>(key(round));
            batch.add(counter(round), 1, 10);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_counted_never_pass_the_limit_from_two_stores() {
    let Some(database) = test_postgres::database() else { return };
    let stores = [store(&database, None), store(&database, None)];
    let all = || Counter::of::<Thing>(&InstanceId::from_stored("i"), "all", None);
    // Five are there before anybody counts.
    for number in 0..5 {
        commit(&stores[0], |batch| batch.put(&thing(format!("before{number}"), 1))).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let store = stores[number % 2].clone();
        tasks.spawn(async move {
            let add = |batch: &mut Batch| {
                batch.insert(&thing(number.to_string(), 1));
                batch.add(all(), 1, 60);
            };
            commit(&store, add).await
        });
    }
    let results = tasks.join_all().await;
    let limit = CommitError::CounterLimit { counter: "all".into(), max: 60 };
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 55);
    assert_eq!(results.iter().filter(|result| result.as_ref().err() == Some(&limit)).count(), 45);
    assert_eq!(stores[0].counter(&all()).await, Ok(60));
    assert_eq!(stores[1].count(table::THING, &Key::all()).await, Ok(60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_one_key_lie_in_one_lane_in_commit_order() {
    let Some(database) = test_postgres::database() else { return };
    let stores = [store(&database, None), store(&database, None)];
    commit(&stores[0], |batch| batch.put(&thing("a", 0))).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let store = stores[number % 2].clone();
        tasks.spawn(async move {
            loop {
                let old = get(&store, "a").await.unwrap();
                let new = thing("a", old.record.value + 1);
                let changed = commit(&store, |batch| {
                    batch.replace(&old, &new);
                    batch.outbox(crate::OutboxEntry {
                        instance: InstanceId::from_stored("i"),
                        partition_key: "a".into(),
                        payload: new.value.to_string().into_bytes(),
                    });
                });
                if changed.await.is_ok() {
                    return;
                }
            }
        });
    }
    tasks.join_all().await;
    let told = "SELECT string_agg(convert_from(payload, 'UTF8'), ',' ORDER BY id) FROM twinhub.outbox";
    let expected: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
    assert_eq!(database.query(told), expected.join(","));
    assert_eq!(database.query("SELECT count(DISTINCT lane) FROM twinhub.outbox"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_cannot_hold_fails_alone() {
    let Some(database) = test_postgres::database() else { return };
    let store = store(&database, None);
    // A key that no index holds, and that does not become short by compression.
    let mut random = 7_u64;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + u8::try_from(random >> 33 & 63).unwrap())
    };
    let huge: String = (0..20_000).map(|_| letter()).collect();
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let (store, huge) = (store.clone(), huge.clone());
        tasks.spawn(async move {
            let id = if number == 20 { huge } else { number.to_string() };
            (number, commit(&store, |batch| batch.insert(&thing(id, 1))).await)
        });
    }
    for (number, result) in tasks.join_all().await {
        let is_refused = matches!(result, Err(CommitError::Store(crate::StoreError::Refused(_))));
        assert!(if number == 20 { is_refused } else { result.is_ok() }, "{number}: {result:?}");
    }
    assert_eq!(store.count(table::THING, &Key::all()).await, Ok(39));
}

#[tokio::test]
async fn an_instance_is_removed_in_pieces_with_its_counters() {
    let Some(database) = test_postgres::database() else { return };
    let store = store(&database, None);
    let all = || Counter::of::<Thing>(&InstanceId::from_stored("i"), "all", None);
    for part in 0..3 {
        let add = |batch: &mut Batch| {
            (0..800).for_each(|number| batch.insert(&thing(format!("{part}-{number}"), 1)));
            batch.add(all(), 800, i64::MAX);
            batch.add(counter("n"), 1, 10);
        };
        commit(&store, add).await.unwrap();
    }
    assert_eq!(store.counter(&all()).await, Ok(2400));
    store.remove_instance(&InstanceId::from_stored("i")).await.unwrap();
    assert_eq!(store.count(table::THING, &Key::all()).await, Ok(0));
    assert_eq!((store.counter(&all()).await, store.counter(&counter("n")).await), (Ok(0), Ok(0)));
    assert_eq!(database.query("SELECT count(*) FROM twinhub.counter"), "0");
}
