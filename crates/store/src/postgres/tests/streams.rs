//! Streams and outbox of several stores on one database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, Timestamp};
use bytes::Bytes;
use test_postgres::Database;
use tokio::task::JoinSet;

use super::super::faults::Fault;
use super::super::{Config, Postgres, PostgresOutbox};
use super::open;
use crate::batch::{Batch, OutboxEntry};
use crate::engine::{Outbox as _, Records as _};
use crate::error::StoreError;
use crate::outbox::{Append, Claim, Errand};
use crate::store::Durability;
use crate::streams::{LogRecord, NewRecord, Position, StreamId, Streams};

const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("what the test waits for comes")
}

fn hub() -> InstanceId {
    InstanceId::from_stored("hub")
}

fn id() -> StreamId {
    StreamId::new(&hub(), "messages/events")
}

fn record(body: &str) -> NewRecord {
    let body = Bytes::copy_from_slice(body.as_bytes());
    NewRecord { time: Timestamp::from_unix_seconds(1), key: "dev1".into(), headers: Bytes::new(), body }
}

fn faulty(database: &Database, fault: Fault) -> Postgres {
    let mut config = Config::parse(&database.url(), Durability::Relaxed).unwrap();
    config.fault = Some(fault);
    Postgres::open(config).unwrap()
}

/// All records of a partition, which have no gap in their numbers and whose offsets and times rise.
async fn all(streams: &Streams, partition: u32) -> Vec<LogRecord> {
    let mut found = Vec::<LogRecord>::new();
    loop {
        let from = Position::Sequence(found.len() as u64);
        let records = streams.read(&id(), partition, from, 1000).await.unwrap();
        if records.is_empty() {
            break;
        }
        found.extend(records);
    }
    for (sequence, record) in found.iter().enumerate() {
        assert_eq!(record.sequence, sequence as u64, "partition {partition}");
    }
    let rises = |pair: &[LogRecord]| pair[0].offset < pair[1].offset && pair[0].time <= pair[1].time;
    assert!(found.windows(2).all(rises), "partition {partition}");
    found
}

fn body(record: &LogRecord) -> String {
    String::from_utf8(record.body.to_vec()).unwrap()
}

/// Several writers of several stores, each with numbers that rise; gives what was acknowledged, by partition and writer.
async fn write(stores: &[Streams], partitions: u32, count: usize) -> Vec<String> {
    let mut writers = JoinSet::new();
    for (store, streams) in stores.iter().enumerate() {
        for writer in 0..8 {
            let streams = streams.clone();
            writers.spawn(async move {
                let mut told = Vec::new();
                for number in 0..count {
                    let partition = (writer + u32::try_from(number).unwrap()) % partitions;
                    let body = format!("{store}-{writer}-{number}");
                    // Tried until it is known to be kept; one whose fate is not known is not tried again.
                    loop {
                        match streams.append(&id(), partition, vec![record(&body)]).await {
                            Ok(_) => break told.push(body),
                            Err(StoreError::Unknown(_)) => break,
                            Err(_) => tokio::task::yield_now().await,
                        }
                    }
                }
                told
            });
        }
    }
    within(writers.join_all()).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_two_stores_to_the_same_partitions_are_dense_and_in_each_writers_order() {
    let Some(database) = test_postgres::database() else { return };
    let stores: Vec<_> = (0..2).map(|_| Streams::of_database(&open(&database).unwrap())).collect();
    stores[0].ensure(&id(), 4).await.unwrap();
    let told = write(&stores, 4, 60).await;
    let mut found = Vec::new();
    for partition in 0..4 {
        let bodies: Vec<_> = all(&stores[1], partition).await.iter().map(body).collect();
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        for body in &bodies {
            let (writer, number) = body.rsplit_once('-').unwrap();
            let number = number.parse().unwrap();
            assert!(last.insert(writer.to_owned(), number).is_none_or(|before| before < number), "{body}");
        }
        found.extend(bodies);
    }
    assert_eq!(found.len(), told.len(), "each once");
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), told.into_iter().collect());
    assert_eq!(deadlocks(&database), 0);
}

fn deadlocks(database: &Database) -> u64 {
    let asked = format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{}'", database.name());
    database.query(&asked).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_locked_in_two_orders_deadlock_and_the_test_above_would_see_it() {
    let Some(database) = test_postgres::database() else { return };
    let stores: Vec<_> =
        (0..2).map(|_| Streams::of_database(&faulty(&database, Fault::PartitionsUnordered))).collect();
    stores[0].ensure(&id(), 16).await.unwrap();
    let seen = async {
        while deadlocks(&database) == 0 {
            write(&stores, 16, 20).await;
        }
    };
    within(seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_killed_loses_nothing_that_was_acknowledged_and_doubles_nothing() {
    let Some(database) = test_postgres::database() else { return };
    let stores: Vec<_> = (0..2).map(|_| Streams::of_database(&open(&database).unwrap())).collect();
    stores[0].ensure(&id(), 4).await.unwrap();
    let mut writing = JoinSet::new();
    let writers = stores.clone();
    writing.spawn(async move { write(&writers, 4, 60).await });
    let told = loop {
        kill(&database);
        if let Some(told) = writing.try_join_next() {
            break told.unwrap();
        }
        tokio::task::yield_now().await;
    };
    let mut found = Vec::new();
    for partition in 0..4 {
        found.extend(all(&stores[0], partition).await.iter().map(body));
    }
    let different: HashSet<_> = found.iter().cloned().collect();
    assert_eq!(different.len(), found.len(), "something is there twice");
    assert!(told.iter().all(|body| different.contains(body)), "something that was acknowledged is lost");
}

/// Ends what serves the connections that write.
fn kill(database: &Database) {
    let asked = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid() \
         AND state <> 'idle'",
        database.name()
    );
    database.query(&asked);
}

#[tokio::test]
async fn who_waits_at_the_end_of_a_stream_hears_of_other_stores_and_of_its_removal() {
    let Some(database) = test_postgres::database() else { return };
    let (one, other) =
        (Streams::of_database(&open(&database).unwrap()), Streams::of_database(&open(&database).unwrap()));
    one.ensure(&id(), 1).await.unwrap();
    let mut tail = other.tail(&id(), 0).await.unwrap();
    one.append(&id(), 0, vec![record("a"), record("b")]).await.unwrap();
    within(tail.wait_for(|next| *next == 2)).await.unwrap();
    one.remove(&id()).await.unwrap();
    one.ensure(&id(), 1).await.unwrap();
    assert!(within(tail.changed()).await.is_err(), "it is another stream");
    assert_eq!(all(&other, 0).await, []);
}

#[tokio::test]
async fn an_append_of_many_and_large_records_is_kept_whole_in_blocks() {
    let Some(database) = test_postgres::database() else { return };
    let streams = Streams::of_database(&open(&database).unwrap());
    streams.ensure(&id(), 1).await.unwrap();
    let large: Vec<_> = (0..6).map(|number| record(&format!("{number}").repeat(700_000))).collect();
    streams.append(&id(), 0, large.clone()).await.unwrap();
    let many: Vec<_> = (0..5000).map(|number| record(&format!("{number}"))).collect();
    assert_eq!(streams.append(&id(), 0, many).await.unwrap().first_sequence, 6);
    let found = all(&streams, 0).await;
    assert_eq!(found.len(), 5006);
    assert!(found.iter().zip(&large).all(|(found, given)| found.body == given.body));
    let blocks =
        database.query("SELECT count(*), max(count), max(length(block)) < 1100000 FROM twinhub.stream_block");
    assert_eq!(blocks, "8|4096|t");
    // An hour of which nothing is kept is given back.
    database.query(
        "CREATE TABLE twinhub.stream_block_1 PARTITION OF twinhub.stream_block FOR VALUES FROM (1) TO (2)",
    );
    streams.trim(&id(), Timestamp::from_unix_seconds(100)).await.unwrap();
    assert_eq!(streams.read(&id(), 0, Position::Earliest, 9).await.unwrap(), []);
    assert_eq!(database.query("SELECT to_regclass('twinhub.stream_block_1') IS NULL"), "t");
}

/// A store with its streams and its outbox.
struct Node {
    postgres: Postgres,
    streams: Streams,
    outbox: PostgresOutbox,
}

impl Node {
    fn of(postgres: Postgres) -> Self {
        let (streams, outbox) = (Streams::of_database(&postgres), PostgresOutbox::new(&postgres));
        Self { postgres, streams, outbox }
    }

    async fn raise(&self, key: &str, number: usize) {
        let mut batch = Batch::default();
        let payload = number.to_string().into_bytes();
        batch.outbox(OutboxEntry { instance: hub(), partition_key: key.into(), payload });
        self.postgres.commit(batch).await.unwrap();
    }

    /// One pass of a relay that brings everything to one stream; gives how many rows.
    async fn pass(&self) -> Result<usize, StoreError> {
        let Some(claim) = self.outbox.claim().await? else { return Ok(0) };
        self.pass_under(&claim).await
    }

    async fn pass_under(&self, claim: &Claim) -> Result<usize, StoreError> {
        let rows = self.outbox.rows(claim, &HashSet::new(), 50).await?;
        let mut errand = Errand::default();
        for row in &rows {
            let body = format!("{}:{}", row.partition_key, String::from_utf8(row.payload.clone()).unwrap());
            let records = vec![(row.id, record(&body))];
            errand.appends.push(Append { stream: id(), partition: 0, source: 1, records });
            errand.done.push(row.id);
        }
        self.outbox.run(claim, HashMap::from([(hub(), errand)])).await?;
        Ok(rows.len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_told_once_and_in_order_of_its_key_while_two_stores_relay_and_connections_are_killed() {
    let Some(database) = test_postgres::database() else { return };
    let nodes: Vec<_> = (0..2).map(|_| Arc::new(Node::of(open(&database).unwrap()))).collect();
    nodes[0].streams.ensure(&id(), 1).await.unwrap();
    let (keys, count) = (6, 40);
    let mut raising = JoinSet::new();
    for key in 0..keys {
        let node = Arc::clone(&nodes[key % 2]);
        raising.spawn(async move {
            for number in 0..count {
                node.raise(&format!("key{key}"), number).await;
            }
        });
    }
    within(raising.join_all()).await;
    let relaying = async {
        while database.query("SELECT count(*) FROM twinhub.outbox") != "0" {
            let (one, other, ()) = tokio::join!(nodes[0].pass(), nodes[1].pass(), async { kill(&database) });
            // Failures of killed connections are expected; what was claimed in vain is claimed again later.
            drop((one, other));
        }
    };
    within(Box::pin(relaying)).await;
    let found: Vec<_> = all(&nodes[1].streams, 0).await.iter().map(body).collect();
    assert_eq!(found.len(), keys * count, "each once");
    for key in 0..keys {
        let of_key: Vec<_> =
            found.iter().filter(|body| body.starts_with(&format!("key{key}:"))).cloned().collect();
        let expected: Vec<_> = (0..count).map(|number| format!("key{key}:{number}")).collect();
        assert_eq!(of_key, expected);
    }
}

/// What a store that lost its lanes brings all the same.
async fn relayed_without_lease(
    database: &Database,
    postgres: Postgres,
) -> (Result<usize, StoreError>, usize) {
    let node = Node::of(postgres);
    node.streams.ensure(&id(), 1).await.unwrap();
    node.raise("key", 1).await;
    let claim = node.outbox.claim().await.unwrap().expect("nobody else is there");
    assert_eq!(claim.leases.len(), 64);
    database.query("UPDATE twinhub.lease SET until = now() - interval '1 second'");
    let other = Node::of(open(database).unwrap());
    let taken = other.outbox.claim().await.unwrap().expect("they were over");
    assert!(
        taken.leases.iter().zip(&claim.leases).all(|(now, before)| now.0 == before.0 && now.1 > before.1)
    );
    let brought = within(node.pass_under(&claim)).await;
    let told = all(&other.streams, 0).await.len();
    if told == 0 {
        assert_eq!(other.pass_under(&taken).await, Ok(1), "whoever holds the lane brings it");
    }
    (brought, told)
}

#[tokio::test]
async fn a_store_that_lost_its_lanes_relays_nothing() {
    let Some(database) = test_postgres::database() else { return };
    let (brought, told) = relayed_without_lease(&database, open(&database).unwrap()).await;
    assert!(brought.is_err(), "{brought:?}");
    assert_eq!(told, 0);
}

#[tokio::test]
async fn without_its_epoch_it_would_and_the_test_above_would_see_it() {
    let Some(database) = test_postgres::database() else { return };
    let (brought, told) = relayed_without_lease(&database, faulty(&database, Fault::EpochUnchecked)).await;
    assert_eq!((brought, told), (Ok(1), 1));
}

/// What the embedded engine may do and a database may not: an event whose id is below one that was told is taken for told.
#[tokio::test]
async fn an_id_that_comes_late_is_told_here_and_would_be_lost_where_ids_must_rise() {
    let Some(database) = test_postgres::database() else { return };
    let node = Node::of(open(&database).unwrap());
    node.streams.ensure(&id(), 1).await.unwrap();
    let log = Streams::open(&crate::store::Options::memory()).unwrap();
    log.ensure(&id(), 1).await.unwrap();
    // Two ids in the order in which a slow commit lets them be seen.
    for late in [2, 1] {
        let insert = format!(
            "INSERT INTO twinhub.outbox (lane, id, instance, partition_key, payload) OVERRIDING SYSTEM VALUE \
             VALUES (0, {late}, 'hub', 'key{late}', '{late}')"
        );
        database.query(&insert);
        assert_eq!(node.pass().await, Ok(1));
        log.append_once(&id(), 0, 1, vec![(late, record("x"))]).await.unwrap();
    }
    let found: Vec<_> = all(&node.streams, 0).await.iter().map(body).collect();
    assert_eq!(found, ["key2:2", "key1:1"]);
    assert_eq!(all(&log, 0).await.len(), 1, "the fault that this engine must not have");
}
