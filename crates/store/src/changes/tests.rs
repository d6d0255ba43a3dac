//! Who is told of what, on one database with two stores; and that an embedded store pays nothing for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base::Secret;
use serde::{Deserialize, Serialize};

use super::*;
use crate::record::Stored;
use crate::{Durability, Key, Location, Options, Table, table};

/// Kept by whoever tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rule(String);

impl Record for Rule {
    const TABLE: Table = table::HUB;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::new([self.0.as_str()])
    }
}

/// Kept by nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Leaf(String);

impl Record for Leaf {
    const TABLE: Table = table::PROVISIONING_SERVICE;

    fn key(&self) -> Key {
        Key::new([self.0.as_str()])
    }
}

#[derive(Clone, Default)]
struct Counting(Arc<(AtomicUsize, AtomicBool)>);

impl Keeper for Counting {
    fn kept(&self) -> Vec<Kept> {
        vec![Kept::of::<Rule>()]
    }

    fn read_again(&self) -> Reading<'_> {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        let fails = self.0.1.load(Ordering::Relaxed);
        Box::pin(async move { if fails { Err(StoreError::Busy) } else { Ok(()) } })
    }
}

impl Counting {
    /// How often it was told since it was last asked.
    fn told(&self) -> usize {
        self.0.0.swap(0, Ordering::Relaxed)
    }

    fn fails(&self, fails: bool) {
        self.0.1.store(fails, Ordering::Relaxed);
    }
}

/// A store that changes records, and one that looks.
async fn two_stores() -> Option<(Store, Changes, Counting, test_postgres::Database)> {
    let database = test_postgres::database()?;
    let location = Location::Postgres(Secret::new(database.url()));
    let options = Options::new(location, Durability::Relaxed);
    let (writer, reader) = (Store::open(&options).unwrap(), Store::open(&options).unwrap());
    let keeper = Counting::default();
    let mut changes = Changes::new(&reader, vec![Box::new(keeper.clone())]);
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "at the first look everything is new");
    Some((writer, changes, keeper, database))
}

async fn commit(store: &Store, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    fill(&mut batch);
    store.commit(batch).await.unwrap();
}

async fn stored(store: &Store, name: &str) -> Stored<Rule> {
    store.get(&Key::new([name])).await.unwrap().unwrap()
}

#[tokio::test]
async fn every_way_to_write_what_is_kept_is_told_once_to_the_other_store() {
    let Some((writer, mut changes, keeper, _database)) = two_stores().await else { return };
    let (a, b) = (Rule("a".into()), Rule("b".into()));
    commit(&writer, |batch| batch.insert(&a)).await;
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "inserted");
    let old = stored(&writer, "a").await;
    commit(&writer, |batch| batch.replace(&old, &a)).await;
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "replaced");
    commit(&writer, |batch| batch.put(&b)).await;
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "put");
    let old = stored(&writer, "a").await;
    commit(&writer, |batch| batch.delete(&old)).await;
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "deleted");
    commit(&writer, |batch| batch.remove::<Rule>(b.key())).await;
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "removed");
    let mut merged = Batch::default();
    merged.put(&a);
    commit(&writer, |batch| batch.merge(merged)).await;
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "merged");
    writer.remove_instance(&InstanceId::from_stored("a")).await.unwrap();
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1, "purged with its instance");
}

#[tokio::test]
async fn nobody_is_told_of_what_is_not_kept_was_not_committed_or_was_told_before() {
    let Some((writer, mut changes, keeper, database)) = two_stores().await else { return };
    commit(&writer, |batch| batch.put(&Leaf("a".into()))).await;
    commit(&writer, |batch| batch.put(&Rule("a".into()))).await;
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 1);
    let mut again = Batch::default();
    again.insert(&Rule("a".into()));
    assert_eq!(writer.commit(again).await, Err(CommitError::Conflict));
    commit(&writer, |batch| batch.guard_exists::<Rule>(Key::new(["a"]))).await;
    commit(&writer, |batch| batch.put(&Leaf("b".into()))).await;
    for _ in 0..3 {
        changes.look().await.unwrap();
    }
    assert_eq!(keeper.told(), 0);
    let counters = "SELECT name, value FROM twinhub.counter ORDER BY name";
    assert_eq!(database.query(counters), "hub|1", "one row per table that is kept, and none for others");
}

#[tokio::test]
async fn who_could_not_read_is_told_again_until_it_can() {
    let Some((writer, mut changes, keeper, _database)) = two_stores().await else { return };
    commit(&writer, |batch| batch.put(&Rule("a".into()))).await;
    keeper.fails(true);
    for _ in 0..2 {
        assert_eq!(changes.look().await, Err(StoreError::Busy));
    }
    keeper.fails(false);
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 3);
    changes.look().await.unwrap();
    assert_eq!(keeper.told(), 0);
}

#[tokio::test]
async fn an_embedded_store_counts_nothing_and_looks_at_nothing() {
    let store = Store::open(&Options::memory()).unwrap();
    let keeper = Counting::default();
    let changes = Changes::new(&store, vec![Box::new(keeper.clone())]);
    commit(&store, |batch| batch.put(&Rule("a".into()))).await;
    store.remove_instance(&InstanceId::from_stored("a")).await.unwrap();
    let counter = Counter::new(&InstanceId::from_stored(COUNTED), table::HUB.name);
    assert_eq!(store.counter(&counter).await.unwrap(), 0);
    assert_eq!(store.commits_total(), 1, "nothing is committed to tell of a purge");
    let clock = Clock::manual(base::Timestamp::from_unix_seconds(0));
    changes.keep_looking(clock, base::tasks::Tasks::new().stopping()).await;
    assert_eq!(keeper.told(), 0);
}
