//! The contract of records, run over every engine: a file and memory. Each test takes a fresh store of each.

use std::path::PathBuf;

use base::InstanceId;
use serde::{Deserialize, Serialize};

use crate::{
    Batch, CommitError, Counter, Durability, Find, Key, Location, Options, OutboxEntry, Record, Scan, Store,
    StoreError, Stored, Table, retry_on_conflict, table,
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
}

fn options(directory: Option<PathBuf>) -> Options {
    let location = directory.map_or(Location::Memory, Location::File);
    Options { location, durability: Durability::Full }
}

fn engines() -> Vec<Engine> {
    let directory = tempfile::tempdir().unwrap();
    let file = Store::open(&options(Some(directory.path().to_owned()))).unwrap();
    let memory = Store::open(&options(None)).unwrap();
    vec![Engine { store: file, directory: Some(directory) }, Engine { store: memory, directory: None }]
}

impl Engine {
    async fn put(&self, things: &[Thing]) {
        let mut batch = Batch::default();
        things.iter().for_each(|thing| batch.put(thing));
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
        let directory = self.directory?;
        drop(self.store);
        let store = Store::open(&options(Some(directory.path().to_owned()))).unwrap();
        Some(Self { store, directory: Some(directory) })
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
