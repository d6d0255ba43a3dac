//! Device messages acknowledged per second and per CPU second of the server, beside mosquitto, with and without TLS.
//! twinhub has each message on disk before it acknowledges; mosquitto keeps none, so it is a bound and not a peer.

use crate::load::{self, DeviceLogin, Listener, Shape};
use crate::measure::{self, Measured};
use crate::mosquitto::Mosquitto;
use crate::process::Process;
use crate::report::{Comparison, throughput_metrics};
use crate::twinhub::Twinhub;
use crate::{Bench, Failure, profile, profile_path, progress};

const CONNECTIONS: usize = 200;
const SHAPE: Shape = Shape { in_flight: 8, body_bytes: 256 };

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let mut mosquitto = Mosquitto::start(&bench.directory("telemetry-mosquitto")?).await?;
    let mut twinhub = Twinhub::start(&bench.server, &bench.directory("telemetry-twinhub")?).await?;
    let logins = twinhub.hub.register(CONNECTIONS).await?;
    let listeners = [
        ("plain TCP", twinhub.plain.clone(), mosquitto.plain.clone()),
        ("TLS", twinhub.encrypted.clone(), mosquitto.encrypted.clone()),
    ];
    let mut comparisons = Vec::new();
    for (transport, ours, theirs) in listeners {
        let (mut subject, mut anchor) = (Vec::new(), Vec::new());
        for number in 1..=bench.rounds {
            progress(&format!("{transport}, round {number} of {}", bench.rounds));
            subject.push(round(bench, &mut twinhub.process, ours.clone(), logins.clone()).await?);
            let logins = Mosquitto::logins(CONNECTIONS);
            anchor.push(round(bench, &mut mosquitto.process, theirs.clone(), logins).await?);
        }
        if bench.profile {
            profiled(bench, &mut twinhub.process, ours, logins.clone(), transport).await?;
        }
        comparisons.push(Comparison {
            title: format!(
                "Telemetry over {transport}: {CONNECTIONS} connections, {} in flight on each, {} bytes",
                SHAPE.in_flight, SHAPE.body_bytes
            ),
            subject: "twinhub (durable)",
            anchor: Some("mosquitto (keeps nothing)"),
            metrics: throughput_metrics(["acknowledged", "acknowledged per server CPU"], &subject, &anchor),
        });
    }
    twinhub.process.stop().await?;
    mosquitto.process.stop().await?;
    Ok(comparisons)
}

async fn round(
    bench: &Bench,
    server: &mut Process,
    listener: Listener,
    logins: Vec<DeviceLogin>,
) -> Result<Measured, Failure> {
    measure::round(server, bench.window, &bench.disk, async move |gate| {
        load::publish(listener, logins, SHAPE, gate).await
    })
    .await
}

async fn profiled(
    bench: &Bench,
    server: &mut Process,
    listener: Listener,
    logins: Vec<DeviceLogin>,
    transport: &str,
) -> Result<(), Failure> {
    progress(&format!("{transport}, profiled"));
    let path =
        profile_path(&bench.results, &format!("telemetry-{}", transport.to_lowercase().replace(' ', "-")));
    let watching = profile::watch(server.id(), bench.window.measured, &path);
    let (watched, measured) = tokio::join!(watching, round(bench, server, listener, logins));
    measured?;
    watched
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::disk::Disk;
    use crate::measure::Window;

    /// Also the proof that the generator speaks MQTT as a broker that is not ours understands it.
    #[tokio::test]
    async fn mosquitto_acknowledges_what_the_generator_sends_with_and_without_tls() {
        if Mosquitto::version().is_none() {
            return test_data::did_not_run("mosquitto is missing");
        }
        let directory = tempfile::tempdir().unwrap();
        let mut mosquitto = Mosquitto::start(directory.path()).await.unwrap();
        let window = Window { warm_up: Duration::from_millis(50), measured: Duration::from_millis(300) };
        for listener in [mosquitto.plain.clone(), mosquitto.encrypted.clone()] {
            let connect = async move |gate| load::publish(listener, Mosquitto::logins(5), SHAPE, gate).await;
            let measured =
                measure::round(&mut mosquitto.process, window, &Disk::default(), connect).await.unwrap();
            assert!(measured.operations() > 100.0, "{} acknowledgements", measured.operations());
            assert!(measured.latencies.percentile_ms(0.5) > 0.0);
        }
        mosquitto.process.stop().await.unwrap();
    }
}
