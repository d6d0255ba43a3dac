//! Records: a device twin of 816 bytes under its revision and an event of 400 beside it, in one batch, by many at once.

use std::rc::Rc;

use base::InstanceId;
use serde::{Deserialize, Serialize};
use store::{Batch, CommitError, Key, OutboxEntry, Record, Store, Stored, Table, table};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{Database, metric};
use crate::measure::{Clients, Measured, closed_loop, round};
use crate::postgres::Postgres;
use crate::report::{Better, Comparison, throughput_metrics};
use crate::statistics::{Latencies, Series};
use crate::{Bench, Failure, disk};

const AT_ONCE: usize = 256;
/// What the bare statement takes at once, and over how many connections: the store's committers are as many.
const SET: usize = 64;
const CONNECTIONS: usize = 2;
/// Of the twins that everybody wants.
const HOT: usize = 200;
const HOT_CLIENTS: usize = 64;
const PROPERTIES_BYTES: usize = 760;
const EVENT_BYTES: usize = 400;
/// A page of PostgreSQL's log.
const PAGE_BYTES: usize = 8 * 1024;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Twin {
    pub(super) id: String,
    version: u64,
    properties: String,
}

impl Twin {
    pub(super) fn new(id: String) -> Self {
        Self { id, version: 0, properties: "p".repeat(PROPERTIES_BYTES) }
    }
}

impl Record for Twin {
    const TABLE: Table = table::DEVICE_TWIN;

    fn key(&self) -> Key {
        key(&self.id)
    }
}

fn key(id: &str) -> Key {
    Key::new(["bench", "device", id, ""])
}

pub(super) async fn compare(bench: &Bench, postgres: &mut Postgres) -> Result<Vec<Comparison>, Failure> {
    let database = Rc::new(Database::create(postgres, "commits").await?);
    let stores = [database.open()?, database.open()?];
    fill(&stores[0]).await?;
    let (mut many, mut bare, mut one, mut synced) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut own, mut hot, mut with_event) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        many.push(own_twins(bench, postgres, &stores, AT_ONCE).await?);
        bare.push(bare_sets(bench, postgres, UPDATE).await?);
        with_event.push(bare_sets(bench, postgres, UPDATE_AND_EVENT).await?);
        one.push(own_twins(bench, postgres, &stores[..1], 1).await?);
        synced.push(disk::probe_with(&bench.scratch.path().join("probe"), PAGE_BYTES)?);
        own.push(own_twins(bench, postgres, &stores, HOT_CLIENTS).await?);
        hot.push(hot_twins(bench, postgres, &stores).await?);
    }
    drop(stores);
    let deadlocks =
        database.count("SELECT deadlocks FROM pg_stat_database WHERE datname = 'commits'").await?;
    if deadlocks > 0 {
        return Err(format!("{deadlocks} deadlocks").into());
    }
    Ok(vec![
        against_sets(&many, &bare, "UPDATE … FROM unnest of 64, two connections"),
        against_sets(&many, &with_event, "the same with an INSERT of the events"),
        one_client(&one, &synced),
        Comparison {
            title: format!("Commits of {HOT_CLIENTS} clients of two stores to {HOT} twins, no deadlock"),
            subject: "the same twins",
            anchor: Some("a twin each"),
            metrics: throughput_metrics(["commits", "commits per server CPU"], &hot, &own),
        },
    ])
}

fn against_sets(many: &[Measured], bare: &[Measured], anchor: &'static str) -> Comparison {
    #[expect(clippy::cast_precision_loss, reason = "64")]
    let set = SET as f64;
    let commits = many.iter().map(Measured::per_second).collect();
    let documents = bare.iter().map(|measured| measured.per_second() * set).collect();
    let quantile = |share| many.iter().map(|measured| measured.latencies.percentile_ms(share)).collect();
    Comparison {
        title: format!("Commits by {AT_ONCE} at once of two stores: a twin under its revision, and an event"),
        subject: "the store",
        anchor: Some(anchor),
        metrics: vec![
            metric("twins", "/s", Better::Higher, commits, Some(documents)),
            metric("latency p50", "ms", Better::Lower, quantile(0.5), None),
            metric("latency p99", "ms", Better::Lower, quantile(0.99), None),
        ],
    }
}

fn one_client(one: &[Measured], synced: &[Latencies]) -> Comparison {
    let commit: Series = one.iter().map(|measured| measured.latencies.percentile_ms(0.5)).collect();
    let sync = synced.iter().map(|latencies| latencies.percentile_ms(0.5)).collect();
    Comparison {
        title: "A commit of one client".into(),
        subject: "the store",
        anchor: Some("8 kB and fdatasync"),
        metrics: vec![metric("latency p50", "ms", Better::Lower, commit, Some(sync))],
    }
}

async fn fill(store: &Store) -> Result<(), Failure> {
    for first in (0..AT_ONCE.max(HOT)).step_by(SET) {
        let mut batch = Batch::default();
        for number in first..first + SET {
            batch.put(&Twin::new(format!("own-{number}")));
            batch.put(&Twin::new(format!("hot-{number}")));
        }
        store.commit(batch).await?;
    }
    Ok(())
}

/// Everybody changes a twin that nobody else wants.
async fn own_twins(
    bench: &Bench,
    postgres: &mut Postgres,
    stores: &[Store],
    clients: usize,
) -> Result<Measured, Failure> {
    let stores = stores.to_vec();
    let connect = async move |gate: crate::measure::Gate| {
        let mut set: Clients = JoinSet::new();
        for client in 0..clients {
            let (gate, store) = (gate.clone(), stores[client % stores.len()].clone());
            let mut twin = read(&store, &format!("own-{client}")).await?;
            set.spawn_local(closed_loop(gate, async move || {
                twin = change(&store, &twin).await?;
                Ok(())
            }));
        }
        Ok(set)
    };
    round(&mut postgres.process, bench.window, &bench.disk, connect).await
}

/// Everybody changes any of a few, and reads again when another was faster.
async fn hot_twins(bench: &Bench, postgres: &mut Postgres, stores: &[Store]) -> Result<Measured, Failure> {
    let stores = stores.to_vec();
    let connect = async move |gate: crate::measure::Gate| {
        let mut set: Clients = JoinSet::new();
        for client in 0..HOT_CLIENTS {
            let (gate, store) = (gate.clone(), stores[client % stores.len()].clone());
            let mut number = client;
            set.spawn_local(closed_loop(gate, async move || {
                number = (number * 31 + 17) % HOT;
                let id = format!("hot-{number}");
                loop {
                    match change(&store, &read(&store, &id).await?).await {
                        Err(CommitError::Conflict) => {}
                        done => return Ok(done.map(drop)?),
                    }
                }
            }));
        }
        Ok(set)
    };
    round(&mut postgres.process, bench.window, &bench.disk, connect).await
}

async fn read(store: &Store, id: &str) -> Result<Stored<Twin>, Failure> {
    Ok(store.get(&key(id)).await?.ok_or("a twin is gone")?)
}

async fn change(store: &Store, old: &Stored<Twin>) -> Result<Stored<Twin>, CommitError> {
    let new = Twin { version: old.record.version + 1, ..old.record.clone() };
    let mut batch = Batch::default();
    batch.replace(old, &new);
    batch.outbox(OutboxEntry {
        instance: InstanceId::from_stored("bench"),
        partition_key: new.id.clone(),
        payload: vec![b'e'; EVENT_BYTES],
    });
    Ok(store.commit(batch).await?.stored(new))
}

const UPDATE: &str = "UPDATE bare SET doc = new.doc::jsonb FROM unnest($1::text[], $2::text[]) AS new(id, doc) \
                      WHERE bare.instance = 'bench' AND bare.id = new.id";
/// And an event of 400 bytes for each, in a table with the indexes of the outbox.
const UPDATE_AND_EVENT: &str = "WITH changed AS (UPDATE bare SET doc = new.doc::jsonb FROM unnest($1::text[], $2::text[]) AS new(id, doc) \
                      WHERE bare.instance = 'bench' AND bare.id = new.id RETURNING bare.id) \
                      INSERT INTO told (lane, instance, payload) SELECT length(id) % 64, 'bench', decode(repeat('65', 400), 'hex') FROM changed";

/// The same documents in a table with the same key, as fast as one knows how to write them where nothing is judged.
async fn bare_sets(bench: &Bench, postgres: &mut Postgres, text: &'static str) -> Result<Measured, Failure> {
    let at = postgres.at.at;
    let connect = async move |gate: crate::measure::Gate| {
        let database = Database { at, name: "commits" };
        let mut set: Clients = JoinSet::new();
        make_bare(&database.connect().await?).await?;
        for connection in 0..CONNECTIONS {
            let client = database.connect().await?;
            let update = client.prepare(text).await?;
            let mut version = 0;
            set.spawn_local(closed_loop(gate.clone(), async move || {
                version += 1;
                let twins = (0..SET).map(|number| Twin {
                    version,
                    ..Twin::new(format!("own-{}", connection * SET + number))
                });
                let (ids, documents): (Vec<_>, Vec<_>) = twins
                    .map(|twin| (twin.id.clone(), serde_json::to_string(&twin).expect("it is plain data")))
                    .unzip();
                Ok(client.execute(&update, &[&ids, &documents]).await.map(drop)?)
            }));
        }
        Ok(set)
    };
    round(&mut postgres.process, bench.window, &bench.disk, connect).await
}

async fn make_bare(client: &Client) -> Result<(), Failure> {
    let rows = SET * CONNECTIONS;
    let text = format!(
        "DROP TABLE IF EXISTS bare; \
         DROP TABLE IF EXISTS told; \
         CREATE TABLE told (lane smallint, id bigint GENERATED ALWAYS AS IDENTITY, instance text, payload bytea, PRIMARY KEY (lane, id)); \
         CREATE INDEX ON told (instance, id); \
         CREATE TABLE bare (instance text, id text, doc jsonb NOT NULL, PRIMARY KEY (instance, id)) WITH (fillfactor = 80); \
         INSERT INTO bare SELECT 'bench', 'own-' || n, '{{}}' FROM generate_series(0, {rows} - 1) AS n"
    );
    Ok(client.batch_execute(&text).await?)
}
