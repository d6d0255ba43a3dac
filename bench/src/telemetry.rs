//! Device messages acknowledged per second and per CPU second of the server, beside mosquitto, with and without TLS.
//! twinhub has each message on disk before it acknowledges; mosquitto keeps none, so it is a bound and not a peer.

use std::time::Duration;

use crate::load::{self, DeviceLogin, Listener, Pace, Shape};
use crate::measure::{self, Measured};
use crate::mosquitto::Mosquitto;
use crate::process::Process;
use crate::report::{Comparison, throughput_metrics};
use crate::twinhub::Twinhub;
use crate::{Bench, Failure, profile, profile_path, progress};

const CONNECTIONS: usize = 200;
const BODY_BYTES: usize = 256;
/// Full load, the wait of a device that sends one message after the other, and a load that does not wait.
const PACES: [Pace; 3] = [Pace::InFlight(8), Pace::InFlight(1), Pace::Every(Duration::from_millis(25))];

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let mut mosquitto = Mosquitto::start(&bench.directory("telemetry-mosquitto")?).await?;
    let mut twinhub = Twinhub::start(&bench.server, &bench.directory("telemetry-twinhub")?).await?;
    let logins = twinhub.hub.register(CONNECTIONS).await?;
    let listeners = [
        (twinhub.plain.clone(), mosquitto.plain.clone()),
        (twinhub.encrypted.clone(), mosquitto.encrypted.clone()),
    ];
    let mut comparisons = Vec::new();
    let paced = listeners.iter().flat_map(|pair| PACES.iter().map(move |pace| (pair.clone(), *pace)));
    for ((ours, theirs), pace) in paced {
        let (agreed, with_them) = (ours.negotiated().await?, theirs.negotiated().await?);
        if agreed != with_them {
            return Err(format!("TLS differs: {agreed:?} beside {with_them:?}").into());
        }
        let transport = agreed.as_deref().unwrap_or("plain TCP");
        let shape = Shape { pace, body_bytes: BODY_BYTES };
        let (mut subject, mut anchor) = (Vec::new(), Vec::new());
        for number in 1..=bench.rounds {
            progress(&format!("{transport}, {pace}, round {number} of {}", bench.rounds));
            subject.push(round(bench, &mut twinhub.process, ours.clone(), logins.clone(), shape).await?);
            let logins = Mosquitto::logins(CONNECTIONS);
            anchor.push(round(bench, &mut mosquitto.process, theirs.clone(), logins, shape).await?);
        }
        if bench.profile && matches!(pace, Pace::InFlight(8)) {
            profiled(bench, &mut twinhub.process, ours, logins.clone(), shape).await?;
        }
        comparisons.push(Comparison {
            title: format!(
                "Telemetry over {transport}: {CONNECTIONS} connections, {pace}, {BODY_BYTES} bytes"
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
    shape: Shape,
) -> Result<Measured, Failure> {
    measure::round(server, bench.window, &bench.disk, async move |gate| {
        load::publish(listener, logins, shape, gate).await
    })
    .await
}

async fn profiled(
    bench: &Bench,
    server: &mut Process,
    listener: Listener,
    logins: Vec<DeviceLogin>,
    shape: Shape,
) -> Result<(), Failure> {
    let transport = if listener.trust.is_some() { "tls" } else { "plain-tcp" };
    progress(&format!("{transport}, profiled"));
    let path = profile_path(&bench.results, &format!("telemetry-{transport}"));
    let watching = profile::watch(server.id(), bench.window.measured, &path);
    let (watched, measured) = tokio::join!(watching, round(bench, server, listener, logins, shape));
    measured?;
    watched
}

#[cfg(test)]
mod tests {
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
        let agreed = mosquitto.encrypted.negotiated().await.unwrap();
        assert_eq!(agreed.as_deref(), Some("TLSv1_3 TLS13_AES_128_GCM_SHA256"));
        for pace in [Pace::InFlight(1), Pace::InFlight(8), Pace::Every(Duration::from_millis(1))] {
            let shape = Shape { pace, body_bytes: BODY_BYTES };
            for listener in [mosquitto.plain.clone(), mosquitto.encrypted.clone()] {
                let connect =
                    async move |gate| load::publish(listener, Mosquitto::logins(5), shape, gate).await;
                let measured =
                    measure::round(&mut mosquitto.process, window, &Disk::default(), connect).await.unwrap();
                assert!(measured.operations() > 100.0, "{} acknowledgements", measured.operations());
                assert!(measured.latencies.percentile_ms(0.5) > 0.0);
            }
        }
        mosquitto.process.stop().await.unwrap();
    }
}
