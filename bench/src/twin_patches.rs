//! Durable changes of twins per second: desired properties by PATCH over HTTPS, and reported properties by devices over MQTT,
//! beside an UPDATE of a PostgreSQL table with the same document as JSONB, over TLS too. Each client waits for its answer, which
//! over HTTPS and from PostgreSQL carries the whole new document. twinhub checks a token, keeps metadata with every property and
//! writes an event with every change; PostgreSQL trusts its clients and keeps the document alone.

use std::rc::Rc;

use mqtt::codec::{Delivery, Packet, Publish, Qos, Text};
use mqtt::topic::ToDevice;
use serde_json::{Value, json};
use server::client::MqttClient;
use tokio::task::JoinSet;

use crate::disk::Disk;
use crate::load::DeviceLogin;
use crate::measure::{self, Clients, Gate, Measured, Window, closed_loop};
use crate::postgres::{self, Cluster, Postgres};
use crate::report::{Comparison, throughput_metrics};
use crate::twinhub::{Hub, Twinhub, device_id};
use crate::{Bench, Failure, profile, profile_path, progress};

const CLIENTS: usize = 32;
const TWINS: usize = 1000;

const TABLE: &str =
    "CREATE TABLE twin (device_id text PRIMARY KEY, version bigint NOT NULL, doc jsonb NOT NULL)";
const INSERT: &str = "INSERT INTO twin VALUES ($1, 1, $2)";
const UPDATE: &str = "UPDATE twin SET version = version + 1, \
    doc = jsonb_set(doc, '{properties,desired}', (doc #> '{properties,desired}') || $2) \
    WHERE device_id = $1 RETURNING version, doc::text";

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let mut twinhub = Twinhub::start(&bench.server, &bench.directory("patches-twinhub")?).await?;
    let logins = twinhub.hub.register(TWINS).await?;
    fill_twinhub(&twinhub.hub).await?;
    let document = twinhub.hub.client().twin(&device_id(0)).await?;
    let cluster = Cluster::create(&bench.directory("patches-postgres")?).await?;
    let mut postgres = cluster.start().await?;
    fill_postgres(&postgres.at, &document).await?;
    let (mut desired, mut reported, mut anchor) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=bench.rounds {
        progress(&format!("round {number} of {}", bench.rounds));
        desired.push(patch_twinhub(bench.window, &bench.disk, &mut twinhub).await?);
        anchor.push(patch_postgres(bench.window, &bench.disk, &mut postgres).await?);
        reported.push(report_twinhub(bench.window, &bench.disk, &mut twinhub, &logins).await?);
    }
    if bench.profile {
        progress("profiled");
        let path = profile_path(&bench.results, "twin_patches");
        let watching = profile::watch(twinhub.process.id(), bench.window.measured, &path);
        let (watched, measured) =
            tokio::join!(watching, patch_twinhub(bench.window, &bench.disk, &mut twinhub));
        measured.and(Ok(watched?))?;
    }
    twinhub.process.stop().await?;
    postgres.process.stop().await?;
    let bytes = document.to_string().len();
    let comparison = |what, twins: usize, subject, measured: &[Measured]| Comparison {
        title: format!("{what}: {CLIENTS} clients, {twins} twins of {bytes} bytes"),
        subject,
        anchor: Some("PostgreSQL (TLS)"),
        metrics: throughput_metrics(["patched", "patched per server CPU"], measured, &anchor),
    };
    Ok(vec![
        comparison("Desired properties patched by services", TWINS, "twinhub (HTTPS)", &desired),
        // Each client is a device and patches its own twin.
        comparison("Reported properties patched by devices", CLIENTS, "twinhub (MQTT over TLS)", &reported),
    ])
}

/// What a patch changes, different each time.
fn change(number: u64) -> Value {
    json!({"setpoint": number % 1000, "reason": format!("schedule-{}", number % 77)})
}

/// A twin as a device of a building has it, about a kilobyte with its metadata.
fn filling() -> Value {
    json!({
        "tags": {"building": "b-17", "floor": 4, "room": "4.117", "kind": "thermostat", "owner": "facilities"},
        "properties": {"desired": {
            "setpoint": 0,
            "reason": "installation",
            "interval": 30,
            "mode": "eco",
            "schedule": {"from": "06:30", "to": "19:00"},
        }},
    })
}

/// Every client takes twins in an order of its own, so that clients seldom meet.
fn pick(client: usize, number: u64) -> usize {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) ^ (client as u64 * 7919);
    usize::try_from(mixed % TWINS as u64).expect("there are not so many twins")
}

async fn fill_twinhub(hub: &Hub) -> Result<(), Failure> {
    let mut filling_clients = JoinSet::new();
    for first in 0..CLIENTS {
        let client = hub.client();
        filling_clients.spawn(async move {
            for index in (first..TWINS).step_by(CLIENTS) {
                client.patch_twin(&device_id(index), &filling()).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(filled) = filling_clients.join_next().await {
        filled??;
    }
    Ok(())
}

async fn patch_twinhub(window: Window, disk: &Disk, twinhub: &mut Twinhub) -> Result<Measured, Failure> {
    let hub = twinhub.hub.clone();
    let connect = async move |gate: Gate| {
        let mut clients: Clients = JoinSet::new();
        for index in 0..CLIENTS {
            let client = hub.client();
            // The handshake belongs to the warm-up at the latest, the first answer shows that it works.
            client.twin(&device_id(index)).await?;
            let mut number = 0;
            clients.spawn_local(closed_loop(gate.clone(), async move || {
                number += 1;
                let patch = json!({"properties": {"desired": change(number)}});
                client.patch_twin(&device_id(pick(index, number)), &patch).await
            }));
        }
        Ok(clients)
    };
    measure::round(&mut twinhub.process, window, disk, connect).await
}

/// The first devices report, each with a connection of its own.
async fn report_twinhub(
    window: Window,
    disk: &Disk,
    twinhub: &mut Twinhub,
    logins: &[DeviceLogin],
) -> Result<Measured, Failure> {
    let (listener, logins) = (twinhub.encrypted.clone(), logins[..CLIENTS].to_vec());
    let connect = async move |gate: Gate| {
        let mut clients: Clients = JoinSet::new();
        for login in logins {
            let mut client = listener.connect(&login).await?;
            client.subscribe("$iothub/twin/res/#", Qos::AtMostOnce).await?;
            let mut number = 0;
            clients.spawn_local(closed_loop(gate.clone(), async move || {
                number += 1;
                report(&mut client, number).await
            }));
        }
        Ok(clients)
    };
    measure::round(&mut twinhub.process, window, disk, connect).await
}

async fn report(client: &mut MqttClient, number: u64) -> Result<(), Failure> {
    let request_id = number.to_string();
    let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={request_id}");
    let publish = Publish {
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic: Text::try_from(topic)?,
        payload: change(number).to_string().into(),
    };
    client.send(&Packet::Publish(publish)).await?;
    let answer = client.next_publish().await?;
    match ToDevice::parse(answer.topic.as_str()) {
        Ok(ToDevice::TwinResponse { status: 204, request_id: answered, .. }) if answered == request_id => {
            Ok(())
        }
        _ => Err(format!("a report was answered with {}", answer.topic).into()),
    }
}

/// Gives every row the document that twinhub holds, so that both sides change and return the same bytes.
async fn fill_postgres(at: &postgres::Listener, document: &Value) -> Result<(), Failure> {
    let (client, connection) = postgres::connect(at).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    client.execute(TABLE, &[]).await?;
    let insert = client.prepare(INSERT).await?;
    for index in 0..TWINS {
        client.execute(&insert, &[&device_id(index), document]).await?;
    }
    Ok(())
}

async fn patch_postgres(window: Window, disk: &Disk, postgres: &mut Postgres) -> Result<Measured, Failure> {
    let at = postgres.at.clone();
    let connect = async move |gate: Gate| {
        let mut clients: Clients = JoinSet::new();
        for index in 0..CLIENTS {
            let (client, connection) = postgres::connect(&at).await?;
            // It ends when its client is dropped; what goes wrong with it shows at the client.
            tokio::task::spawn_local(connection);
            let update = client.prepare(UPDATE).await?;
            let shared = Rc::new((client, update));
            let mut number = 0;
            clients.spawn_local(closed_loop(gate.clone(), async move || {
                number += 1;
                let (client, update) = &*shared;
                let id = device_id(pick(index, number));
                let row = client.query_one(update, &[&id, &change(number)]).await?;
                let document: &str = row.try_get(1)?;
                if document.is_empty() { Err("an empty document".into()) } else { Ok(()) }
            }));
        }
        Ok(clients)
    };
    measure::round(&mut postgres.process, window, disk, connect).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn postgres_is_patched_and_keeps_what_was_patched() {
        if postgres::version().is_none() {
            return test_data::did_not_run("PostgreSQL is missing");
        }
        let directory = tempfile::tempdir().unwrap();
        postgres::open_to_all(directory.path()).unwrap();
        let cluster = Cluster::create(&directory.path().join("data")).await.unwrap();
        let mut postgres = cluster.start().await.unwrap();
        fill_postgres(&postgres.at, &filling()).await.unwrap();
        let window = Window { warm_up: Duration::from_millis(50), measured: Duration::from_millis(300) };
        let measured = patch_postgres(window, &Disk::default(), &mut postgres).await.unwrap();
        let (client, connection) = postgres::connect(&postgres.at).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let query = "SELECT sum(version - 1)::float8, count(*) FILTER (WHERE version > 1 \
            AND doc #>> '{properties,desired,reason}' LIKE 'schedule-%' AND doc #>> '{tags,floor}' = '4') \
            - count(*) FILTER (WHERE version > 1) FROM twin";
        let row = client.query_one(query, &[]).await.unwrap();
        assert!(row.get::<_, f64>(0) >= measured.operations() && measured.operations() > 10.0);
        assert_eq!(row.get::<_, i64>(1), 0, "every patched row has the patch and its other members");
        drop(client);
        postgres.process.stop().await.unwrap();
    }

    #[test]
    fn clients_spread_over_all_twins() {
        let mut seen = [0u32; TWINS];
        (0..CLIENTS).for_each(|client| (0..1000).for_each(|number| seen[pick(client, number)] += 1));
        assert!(seen.iter().all(|count| (5..80).contains(count)), "{seen:?}");
    }
}
