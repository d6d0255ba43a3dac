//! What a connected device that does nothing costs in memory: TLS, with twin and direct-method subscriptions, beside
//! mosquitto with the same filters. Every round has servers of its own, since memory once taken is not given back.

use std::time::Duration;

use mqtt::codec::Qos;
use server::client::MqttClient;

use crate::load::{DeviceLogin, Listener};
use crate::mosquitto::Mosquitto;
use crate::process::Process;
use crate::report::{Better, Comparison, Metric};
use crate::statistics::Series;
use crate::twinhub::Twinhub;
use crate::{Bench, Failure, progress};

const DEVICES: usize = 2000;
/// Connected before the first look, so that what a server makes once is not charged to its devices.
const FIRST_DEVICES: usize = 100;
/// What subscribing through an official SDK to twins and methods comes to.
const FILTERS: [&str; 3] =
    ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"];
const SETTLE: Duration = Duration::from_secs(2);

/// Rounds cost minutes and differ little.
const ROUNDS_MAX: u32 = 3;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let data_dir = bench.directory("idle-twinhub")?;
    let directory = bench.directory("idle-mosquitto")?;
    let first = Twinhub::start(&bench.server, &data_dir).await?;
    let logins = first.hub.register(DEVICES).await?;
    first.process.stop().await?;
    let (mut subject, mut anchor) = (Series::default(), Series::default());
    let rounds = bench.rounds.min(ROUNDS_MAX);
    for number in 1..=rounds {
        progress(&format!("{DEVICES} devices, round {number} of {rounds}"));
        let mut twinhub = Twinhub::start(&bench.server, &data_dir).await?;
        subject.0.push(cost(&mut twinhub.process, &twinhub.encrypted, &logins).await?);
        twinhub.process.stop().await?;
        let mut mosquitto = Mosquitto::start(&directory).await?;
        let logins = Mosquitto::logins(DEVICES);
        anchor.0.push(cost(&mut mosquitto.process, &mosquitto.encrypted, &logins).await?);
        mosquitto.process.stop().await?;
    }
    Ok(vec![Comparison {
        title: format!(
            "Memory of an idle device over TLS with twin and methods subscribed, {DEVICES} of them"
        ),
        subject: "twinhub",
        anchor: Some("mosquitto"),
        metrics: vec![Metric {
            name: "memory per device",
            unit: "kB",
            better: Better::Lower,
            subject,
            anchor: Some(anchor),
        }],
    }])
}

/// Kilobytes that each device after the first ones adds.
#[expect(clippy::cast_precision_loss, reason = "bytes of a process are far below 2^52")]
async fn cost(server: &mut Process, listener: &Listener, logins: &[DeviceLogin]) -> Result<f64, Failure> {
    let (first, rest) = logins.split_at(FIRST_DEVICES);
    let mut connected = connect(listener, first).await?;
    let before = settled(server).await?;
    connected.extend(connect(listener, rest).await?);
    let after = settled(server).await?;
    server.check()?;
    // Only devices that are still served count.
    for client in &mut connected {
        client.ping().await?;
    }
    Ok((after - before) as f64 / rest.len() as f64 / 1000.0)
}

async fn connect(listener: &Listener, logins: &[DeviceLogin]) -> Result<Vec<MqttClient>, Failure> {
    let mut clients = Vec::with_capacity(logins.len());
    for login in logins {
        let mut client = listener.connect(login).await?;
        for filter in FILTERS {
            client.subscribe(filter, Qos::AtMostOnce).await?;
        }
        clients.push(client);
    }
    Ok(clients)
}

async fn settled(server: &Process) -> Result<i64, Failure> {
    tokio::time::sleep(SETTLE).await;
    Ok(i64::try_from(server.memory()?.proportional_bytes)?)
}
