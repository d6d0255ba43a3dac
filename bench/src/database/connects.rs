//! Sessions: the epochs of identities that connect, by many at once.

use std::rc::Rc;

use base::ids::IdentityId;
use base::{Clock, DeviceId, InstanceId};
use store::Store;
use tokio::task::JoinSet;

use super::Database;
use crate::measure::{Clients, Gate, Measured, closed_loop, round};
use crate::postgres::Postgres;
use crate::report::{Comparison, throughput_metrics};
use crate::{Bench, Failure};

const AT_ONCE: usize = 256;
const CONNECTIONS: usize = 8;
const UPSERT: &str = "INSERT INTO session VALUES ('bench', $1, 1, 1) \
    ON CONFLICT (instance, identity) DO UPDATE SET node = 1, epoch = session.epoch + 1 RETURNING epoch";

pub(super) async fn compare(bench: &Bench, postgres: &mut Postgres) -> Result<Comparison, Failure> {
    let database = Database::create(postgres, "connects").await?;
    let store = database.open()?;
    let (mut ours, mut single) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        ours.push(begin(bench, postgres, &store).await?);
        single.push(upsert(bench, postgres).await?);
    }
    Ok(Comparison {
        title: format!("Sessions begun by {AT_ONCE} at once"),
        subject: "the store",
        anchor: Some("an upsert each, 8 connections pipelined"),
        metrics: throughput_metrics(["connects", "connects per server CPU"], &ours, &single),
    })
}

async fn begin(bench: &Bench, postgres: &mut Postgres, store: &Store) -> Result<Measured, Failure> {
    let store = store.clone();
    let connect = async move |gate: Gate| {
        let mut clients: Clients = JoinSet::new();
        for number in 0..AT_ONCE {
            let (store, clock) = (store.clone(), Clock::system());
            let instance = InstanceId::from_stored("bench");
            let device: DeviceId = format!("device-{number}").parse()?;
            let identity = IdentityId::device(device);
            clients.spawn_local(closed_loop(gate.clone(), async move || {
                let begun = store.sessions().begin(store.node(), &instance, &identity, clock.now()).await;
                Ok(begun.map(drop)?)
            }));
        }
        Ok(clients)
    };
    round(&mut postgres.process, bench.window, &bench.disk, connect).await
}

async fn upsert(bench: &Bench, postgres: &mut Postgres) -> Result<Measured, Failure> {
    let at = postgres.at.at;
    let connect = async move |gate: Gate| {
        let database = Database { at, name: "connects" };
        let table = "DROP TABLE IF EXISTS session; CREATE TABLE session \
                     (instance text, identity text, node int, epoch bigint, PRIMARY KEY (instance, identity))";
        database.connect().await?.batch_execute(table).await?;
        let mut clients: Clients = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let client = database.connect().await?;
            let statement = client.prepare(UPSERT).await?;
            let shared = Rc::new((client, statement));
            for number in (connection..AT_ONCE).step_by(CONNECTIONS) {
                let (shared, identity) = (Rc::clone(&shared), format!("device-{number}"));
                clients.spawn_local(closed_loop(gate.clone(), async move || {
                    let (client, statement) = &*shared;
                    Ok(client.query_one(statement, &[&identity]).await.map(drop)?)
                }));
            }
        }
        Ok(clients)
    };
    round(&mut postgres.process, bench.window, &bench.disk, connect).await
}
