//! A directory with a bit of everything moves to a database, in one go or in several.

mod streams;

use std::path::Path;

use base::InstanceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use test_postgres::Database;

use super::{Arrived, Move, Part};
use crate::chunks::ChunkId;
use crate::engine::Records as _;
use crate::postgres::{Config, Postgres};
use crate::{
    Batch, Counter, Durability, Key, Location, Options, OutboxEntry, Record, Store, StoreError, Table, table,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Thing {
    id: String,
    color: Option<String>,
    text: String,
}

impl Record for Thing {
    const TABLE: Table = table::THING;

    fn key(&self) -> Key {
        Key::new(["i", &self.id, ""])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![self.color.clone(), None]
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Twin {
    document: Json,
}

impl Record for Twin {
    const TABLE: Table = table::DIGITAL_TWIN;

    fn key(&self) -> Key {
        Key::new(["i", self.document["$dtId"].as_str().unwrap()])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some("m".to_owned())]
    }
}

const ODD: &[&str] = &["plain", "\0", "tab\tnew\nline\r\\N \\", "\u{1}\u{f8ff}é😀", "", "\\."];

fn things() -> Vec<Thing> {
    let odd = ODD.iter().enumerate().map(|(at, text)| Thing {
        id: format!("{at}{text}"),
        color: (at % 2 == 0).then(|| (*text).to_owned()),
        text: (*text).to_owned(),
    });
    // More than one piece of them.
    let many = (0..2000).map(|n| Thing { id: format!("n{n}"), color: None, text: "x".repeat(200) });
    odd.chain(many).collect()
}

fn twins() -> Vec<Twin> {
    let values =
        [json!(-0.0), json!(u64::MAX), json!(1e300), json!({"z": 1, "a": ["\0", null]}), json!("\u{1}")];
    let twin = |(at, value): (usize, &Json)| Twin { document: json!({"$dtId": at.to_string(), "v": value}) };
    values.iter().enumerate().map(twin).collect()
}

fn open(directory: &Path) -> Result<Store, StoreError> {
    Store::open(&Options::new(Location::File(directory.to_owned()), Durability::Relaxed))
}

fn jobs() -> Counter {
    Counter::new(&InstanceId::from_stored("i"), "jobs")
}

/// The greatest revision, and the directory.
async fn filled() -> (u64, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let mut batch = Batch::default();
    for thing in &things() {
        batch.put(thing);
    }
    for twin in &twins() {
        batch.put(twin);
    }
    batch.add(jobs(), 7, 10);
    store.commit(batch).await.unwrap();
    let last = store.get::<Thing>(&things()[0].key()).await.unwrap().unwrap();
    (last.revision.get(), directory)
}

async fn begin(directory: &Path, database: &Database) -> Result<Move, StoreError> {
    Move::begin(directory, &database.url(), Durability::Relaxed).await
}

/// What a server opens there.
fn on(database: &Database) -> Options {
    Options::new(Location::Postgres(base::Secret::new(database.url())), Durability::Relaxed)
}

async fn end(to: Move) {
    to.finish().unwrap();
    to.forget().await.unwrap();
}

async fn refused(directory: &Path, database: &Database) -> String {
    match begin(directory, database).await.map(drop) {
        Err(StoreError::Refused(why)) => why,
        begun => panic!("{begun:?}"),
    }
}

async fn moved(to: &Move) -> Result<Vec<Arrived>, StoreError> {
    let mut all = Vec::new();
    to.records(|arrived| all.push(arrived)).await?;
    Ok(all)
}

fn rows(all: &[Arrived], part: &str) -> u64 {
    all.iter().find(|arrived| arrived.part == part).unwrap().rows
}

async fn check(database: &Database, revision: u64) {
    let postgres = Postgres::open(Config::parse(&database.url(), Durability::Relaxed).unwrap()).unwrap();
    for thing in things() {
        let (document, _) = postgres.get(Thing::TABLE, &thing.key()).await.unwrap().expect("it was moved");
        assert_eq!(serde_json::from_str::<Thing>(&document).unwrap(), thing);
    }
    for twin in twins() {
        let (document, _) = postgres.get(Twin::TABLE, &twin.key()).await.unwrap().expect("it was moved");
        let found: Twin = serde_json::from_str(&document).unwrap();
        assert_eq!(found, twin);
        assert_eq!(found.document["v"].to_string().len(), twin.document["v"].to_string().len());
    }
    assert_eq!(postgres.counter(&jobs()).await, Ok(7));
    let mut batch = Batch::default();
    batch.put(&things()[0]);
    let committed = postgres.commit(batch).await.unwrap();
    assert!(committed.revision.get() > revision, "no revision is given twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_as_it_was_and_the_directory_says_where_it_is() {
    let Some(database) = test_postgres::database() else { return };
    let (revision, directory) = filled().await;
    let to = begin(directory.path(), &database).await.unwrap();
    let all = moved(&to).await.unwrap();
    assert_eq!(rows(&all, "thing"), things().len() as u64);
    assert_eq!(rows(&all, "counter"), 1);
    assert!(all.iter().all(|arrived| !arrived.was_there));
    end(to).await;
    check(&database, revision).await;
    for refused in [open(directory.path()).map(drop), begin(directory.path(), &database).await.map(drop)] {
        let Err(StoreError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("has moved"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_blobs_arrive_too_and_those_that_are_there_are_not_sent_again() {
    let Some(database) = test_postgres::database() else { return };
    let (_, directory) = filled().await;
    let account = InstanceId::from_stored("storage-a-1");
    let wanted = [("one", ChunkId::generate()), ("", ChunkId::generate())];
    let store = open(directory.path()).unwrap();
    for (bytes, id) in &wanted {
        store.chunks().write(&account, id, (*bytes).into()).await.unwrap();
    }
    drop(store);
    let to = begin(directory.path(), &database).await.unwrap();
    moved(&to).await.unwrap();
    for was_there in [false, true] {
        let mut all = Vec::new();
        to.chunks(|arrived| all.push(arrived)).await.unwrap();
        assert_eq!((rows(&all, "chunk"), all[0].was_there), (2, was_there));
    }
    // What is there is not what was sent: never taken for arrived.
    let (_, id) = &wanted[0];
    database.query(&format!("UPDATE twinhub.chunk SET bytes = 'one more' WHERE id = '{id}'"));
    let Err(StoreError::Corrupt(why)) = to.chunks(drop).await else { panic!("it was taken") };
    assert!(why.contains(id.as_str()), "{why}");
    database.query(&format!("UPDATE twinhub.chunk SET bytes = 'one' WHERE id = '{id}'"));
    end(to).await;
    let store = Store::open(&on(&database)).unwrap();
    for (bytes, id) in &wanted {
        assert_eq!(store.chunks().read(&account, id, 0..bytes.len()).await.unwrap(), *bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_cut_off_goes_on_behind_what_has_arrived_and_nobody_serves_meanwhile() {
    let Some(database) = test_postgres::database() else { return };
    let (revision, directory) = filled().await;
    let to = begin(directory.path(), &database).await.unwrap();
    to.copy(Part::Records(table::named("thing"))).await.unwrap();
    // Cut off in the middle of another.
    let (sender, chunks) = tokio::sync::mpsc::channel(1);
    sender.send(vec![vec![Some("i".to_owned())]]).await.unwrap();
    drop(sender);
    assert!(to.receiver.receive(Part::Counters, chunks).await.is_err(), "a row without its columns");
    drop(to);
    let Err(StoreError::Refused(why)) = open(directory.path()).map(drop) else { panic!("it is served") };
    assert!(why.contains("is being moved"), "{why}");
    let to = begin(directory.path(), &database).await.unwrap();
    let all = moved(&to).await.unwrap();
    let were_there: Vec<_> =
        all.iter().filter(|arrived| arrived.was_there).map(|arrived| arrived.part.as_str()).collect();
    assert_eq!(were_there, ["thing"]);
    end(to).await;
    check(&database, revision).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrived_otherwise_than_it_was_sent_is_noticed() {
    for change in [
        "UPDATE twinhub.thing SET doc = replace(doc, 'xx', 'xy') WHERE id = 'n7'",
        "UPDATE twinhub.digital_twin SET doc = doc || '{\"more\": 1}' WHERE id = '0'",
        "DELETE FROM twinhub.counter",
    ] {
        let Some(database) = test_postgres::database() else { return };
        let (_, directory) = filled().await;
        let to = begin(directory.path(), &database).await.unwrap();
        moved(&to).await.unwrap();
        database.query(change);
        assert!(matches!(moved(&to).await, Err(StoreError::Corrupt(_))), "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_anything_in_it_that_came_from_elsewhere_is_refused() {
    let Some(database) = test_postgres::database() else { return };
    let (_, directory) = filled().await;
    let (_, other) = filled().await;
    let first = begin(directory.path(), &database).await.unwrap();
    assert!(matches!(begin(directory.path(), &database).await, Err(StoreError::InUse(_))));
    moved(&first).await.unwrap();
    let why = refused(other.path(), &database).await;
    assert!(why.contains("another directory"), "{why}");
    end(first).await;
    let why = refused(other.path(), &database).await;
    assert!(why.contains("not empty"), "{why}");
    // It was refused before anything was said in the directory.
    assert!(open(other.path()).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_a_server_uses_is_refused() {
    let Some(database) = test_postgres::database() else { return };
    let (_, directory) = filled().await;
    let store = Store::open(&on(&database)).unwrap();
    let length = std::time::Duration::from_secs(60);
    assert!(store.leases().take("sole_server", store.node(), length).await.unwrap().is_some());
    let why = refused(directory.path(), &database).await;
    assert!(why.contains("a server uses the database"), "{why}");
    assert!(open(directory.path()).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_which_events_wait_to_be_told_is_refused() {
    let Some(database) = test_postgres::database() else { return };
    let (_, directory) = filled().await;
    let store = open(directory.path()).unwrap();
    let mut batch = Batch::default();
    let instance = InstanceId::from_stored("i");
    batch.outbox(OutboxEntry { instance, partition_key: "p".to_owned(), payload: vec![1] });
    store.commit(batch).await.unwrap();
    let id = store.outbox(0, 10).await.unwrap()[0].id;
    drop(store);
    let why = refused(directory.path(), &database).await;
    assert!(why.contains("1 events wait"), "{why}");
    let store = open(directory.path()).unwrap();
    store.outbox_done([id]).await.unwrap();
    // What was told is deleted with the next commit, whatever that is of.
    store.commit(Batch::default()).await.unwrap();
    drop(store);
    let begun = begin(directory.path(), &database).await;
    assert!(begun.is_ok(), "{:?}", begun.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_starts_on_either_side_before_the_end_and_a_move_that_was_cut_off_there_is_ended_by_the_next_call()
 {
    let Some(database) = test_postgres::database() else { return };
    let (revision, directory) = filled().await;
    let not_served = || match Store::open(&on(&database)) {
        Err(StoreError::Refused(why)) => why,
        opened => panic!("{:?}", opened.map(drop)),
    };
    let to = begin(directory.path(), &database).await.unwrap();
    assert!(not_served().contains("twinhub move"));
    moved(&to).await.unwrap();
    to.finish().unwrap();
    drop(to);
    assert!(not_served().contains("twinhub move"));
    let Err(StoreError::Refused(why)) = open(directory.path()).map(drop) else { panic!("it is served") };
    assert!(why.contains("has moved") && why.contains(database.name()), "{why}");
    // Another database that looks as if a move to it had been cut off is not the one.
    let other = test_postgres::database().unwrap();
    drop(Store::open(&on(&other)).unwrap());
    for rows in ["", "INSERT INTO twinhub.transfer VALUES ('another', '', 0, 0)"] {
        let table =
            "CREATE TABLE IF NOT EXISTS twinhub.transfer (source text, part text, rows bigint, sum bigint)";
        other.query(&format!("{table}; {rows}"));
        refused(directory.path(), &other).await;
    }
    let to = begin(directory.path(), &database).await.unwrap();
    assert!(to.is_over());
    to.forget().await.unwrap();
    assert!(Store::open(&on(&database)).is_ok());
    check(&database, revision).await;
    refused(directory.path(), &database).await;
}
