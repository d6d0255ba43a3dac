//! The contract of chunks, run over every engine: a file, memory, the plain one and a database.

use base::{Clock, InstanceId, caps};
use bytes::Bytes;

use crate::chunks::ChunkId;
use crate::{Durability, Location, Options, Store, StoreError, memory};

struct Engine {
    name: &'static str,
    store: Option<Store>,
    again: Box<dyn Fn() -> Option<Store>>,
}

fn engines() -> Vec<Engine> {
    let directory = tempfile::tempdir().unwrap();
    let open = move || {
        let location = Location::File(directory.path().to_owned());
        Some(Store::open(&Options::new(location, Durability::Full)).unwrap())
    };
    let file = Engine { name: "file", store: open(), again: Box::new(open) };
    let memory = Store::open(&Options::memory()).unwrap();
    let memory = Engine { name: "memory", store: Some(memory), again: Box::new(|| None) };
    let plain = memory::Database::new(Clock::system());
    let open = move || Some(Store::on_memory(&plain));
    let plain = Engine { name: "plain", store: open(), again: Box::new(open) };
    let database = test_postgres::database().map(|database| {
        let open = move || {
            let location = Location::Postgres(base::Secret::new(database.url()));
            Some(Store::open(&Options::new(location, Durability::Relaxed)).unwrap())
        };
        Engine { name: "postgres", store: open(), again: Box::new(open) }
    });
    [file, memory, plain].into_iter().chain(database).collect()
}

impl Engine {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Closes and opens again what outlives a process; gives whether this does.
    fn reopen(&mut self) -> bool {
        // Closed before it is opened: a directory has one owner.
        self.store = None;
        self.store = (self.again)();
        self.store.is_some()
    }

    async fn write(&self, instance: &InstanceId, bytes: impl Into<Bytes>) -> ChunkId {
        let id = ChunkId::generate();
        self.store().chunks().write(instance, &id, bytes.into()).await.unwrap();
        id
    }

    async fn is_there(&self, instance: &InstanceId, id: &ChunkId) -> bool {
        match self.store().chunks().read(instance, id, 0..1).await {
            Ok(_) => true,
            Err(StoreError::Corrupt(_)) => false,
            Err(other) => panic!("{}: {other}", self.name),
        }
    }
}

fn instance(name: &str) -> InstanceId {
    InstanceId::from_stored(name)
}

#[tokio::test]
async fn what_was_written_is_read_in_whole_and_in_part_and_outlives_the_process() {
    let bytes: Vec<u8> = (0..caps::CHUNK_BYTES_MAX).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for mut engine in engines() {
        let a = instance("a");
        let (id, empty) = (engine.write(&a, bytes.clone()).await, engine.write(&a, Bytes::new()).await);
        for opened in 1..=2 {
            let chunks = engine.store().chunks();
            for range in [0..bytes.len(), 0..1, 1_000_000..1_000_077, bytes.len() - 1..bytes.len(), 9..9] {
                let read = chunks.read(&a, &id, range.clone()).await.unwrap();
                assert!(read == bytes[range.clone()], "{} {range:?}", engine.name);
            }
            assert!(chunks.read(&a, &empty, 0..0).await.unwrap().is_empty(), "{}", engine.name);
            // Less than was asked for is never given.
            let beyond = chunks.read(&a, &id, bytes.len() - 1..bytes.len() + 1).await;
            assert!(matches!(beyond, Err(StoreError::Corrupt(_))), "{}", engine.name);
            if opened == 1 && !engine.reopen() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_chunk_is_one_instances_own_and_goes_when_it_is_removed() {
    for engine in engines() {
        let (a, b) = (instance("a"), instance("b"));
        let (one, other) = (engine.write(&a, "one").await, engine.write(&a, "other").await);
        assert!(!engine.is_there(&b, &one).await, "{}", engine.name);
        for _ in 0..2 {
            engine.store().chunks().remove(&a, &one).await.unwrap();
            assert!(!engine.is_there(&a, &one).await, "{}", engine.name);
        }
        assert!(engine.is_there(&a, &other).await, "{}", engine.name);
    }
}

#[tokio::test]
async fn an_instance_that_ends_takes_its_chunks_along_and_no_others() {
    for engine in engines() {
        let (a, longer) = (instance("a"), instance("a-1"));
        let mut of_a = Vec::new();
        for number in 0..caps::CHUNKS_PURGED_MAX + 3 {
            of_a.push(engine.write(&a, number.to_string()).await);
        }
        let kept = engine.write(&longer, "kept").await;
        for _ in 0..2 {
            engine.store().chunks().remove_instance(&a).await.unwrap();
        }
        for id in &of_a {
            assert!(!engine.is_there(&a, id).await, "{}", engine.name);
        }
        assert!(engine.is_there(&longer, &kept).await, "{}", engine.name);
    }
}

#[tokio::test]
async fn no_name_leads_out_of_the_folder_and_no_chunk_is_too_large() {
    for engine in engines() {
        let chunks = engine.store().chunks();
        let id = ChunkId::generate();
        for name in ["..", "a/b", "", "A", "a.b", "a\\b"] {
            let refused = chunks.write(&instance(name), &id, Bytes::new()).await;
            assert!(matches!(refused, Err(StoreError::Refused(_))), "{} {name}", engine.name);
            assert!(chunks.remove_instance(&instance(name)).await.is_err(), "{} {name}", engine.name);
        }
        for wrong in ["\"..\"", "\"../../../../records.db\"", "\"\"", "\"0123456789ABCDEF0123456789abcdef\""]
        {
            let id: ChunkId = serde_json::from_str(wrong).unwrap();
            let refused = chunks.remove(&instance("a"), &id).await;
            assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{} {wrong}", engine.name);
        }
        let large = Bytes::from(vec![0; caps::CHUNK_BYTES_MAX + 1]);
        assert!(chunks.write(&instance("a"), &id, large).await.is_err(), "{}", engine.name);
    }
}

/// A write that was cut off leaves nothing that can be read, and goes with the chunk that it was to become.
#[tokio::test]
async fn half_of_a_file_is_no_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::File(directory.path().to_owned());
    let store = Store::open(&Options::new(location, Durability::Full)).unwrap();
    let (a, id) = (instance("a"), ChunkId::generate());
    let folder = directory.path().join("blobs").join("a").join(id.folder());
    std::fs::create_dir_all(&folder).unwrap();
    let unfinished = folder.join(format!("{id}.unfinished"));
    std::fs::write(&unfinished, "half").unwrap();
    assert!(store.chunks().read(&a, &id, 0..4).await.is_err());
    assert!(crate::sqlite::chunks::list(directory.path()).unwrap().is_empty());
    store.chunks().remove(&a, &id).await.unwrap();
    assert!(!unfinished.exists());
    store.chunks().write(&a, &id, "whole".into()).await.unwrap();
    let names = crate::sqlite::chunks::list(directory.path()).unwrap();
    assert_eq!(names, [format!("a/{}/{id}", id.folder())]);
}
