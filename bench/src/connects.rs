//! Devices that connect over TLS and prove who they are, beside mosquitto, which takes any password: a few that come and go without
//! pause, and all of a fleet at once, as after a cut of the power.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::now;
use crate::load::{DeviceLogin, Listener};
use crate::measure::{self, Clients, Gate, Measured};
use crate::mosquitto::Mosquitto;
use crate::process::Process;
use crate::report::{Better, Comparison, Metric, throughput_metrics};
use crate::statistics::Series;
use crate::twinhub::Twinhub;
use crate::{Bench, Failure, progress};

/// Devices that come and go.
const COMING: usize = 64;
/// Devices that come at once.
const FLEET: usize = 5000;
/// Of a fleet, those who wait for the generator's one thread meanwhile; the rest are where their packets would be.
const DIALLING: usize = 256;
const FLEET_SECONDS_MAX: u64 = 120;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let mut mosquitto = Mosquitto::start(&bench.directory("connects-mosquitto")?).await?;
    let mut twinhub = Twinhub::start(&bench.server, &bench.directory("connects-twinhub")?).await?;
    let ours = twinhub.hub.register(FLEET).await?;
    let theirs = Mosquitto::logins(FLEET);
    let (mut coming, mut fleet) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for number in 1..=bench.rounds {
        progress(&format!("round {number} of {}", bench.rounds));
        let sides = [
            (&mut twinhub.process, &twinhub.encrypted, &ours),
            (&mut mosquitto.process, &mosquitto.encrypted, &theirs),
        ];
        for (side, (server, listener, logins)) in sides.into_iter().enumerate() {
            coming[side].push(come_and_go(bench, server, listener, &logins[..COMING]).await?);
            fleet[side].push(Storm::of(server, listener, logins).await?);
        }
    }
    twinhub.process.stop().await?;
    mosquitto.process.stop().await?;
    let (subject, anchor) = ("twinhub", Some("mosquitto"));
    let storm = |name, unit, better, of: &dyn Fn(&Storm) -> f64| {
        let [subject, anchor] = [0, 1].map(|side: usize| fleet[side].iter().map(of).collect::<Series>());
        Metric { name, unit, better, subject, anchor: Some(anchor) }
    };
    Ok(vec![
        Comparison {
            title: format!("{COMING} devices that connect over TLS and go, again and again"),
            subject,
            anchor,
            metrics: throughput_metrics(["connects", "connects per server CPU"], &coming[0], &coming[1]),
        },
        Comparison {
            title: format!("{FLEET} devices that connect over TLS at once"),
            subject,
            anchor,
            metrics: vec![
                storm("until the last is back", "s", Better::Lower, &|storm| storm.seconds),
                storm("connects per server CPU", "/CPU s", Better::Higher, &Storm::per_server_cpu_second),
            ],
        },
    ])
}

async fn come_and_go(
    bench: &Bench,
    server: &mut Process,
    listener: &Listener,
    logins: &[DeviceLogin],
) -> Result<Measured, Failure> {
    let (listener, logins) = (listener.clone(), logins.to_vec());
    measure::round(server, bench.window, &bench.disk, async move |gate: Gate| {
        let mut clients: Clients = JoinSet::new();
        for login in logins {
            let (listener, gate) = (listener.clone(), gate.clone());
            clients.spawn_local(measure::closed_loop(gate, async move || {
                listener.connect(&login).await.map(drop)
            }));
        }
        Ok(clients)
    })
    .await
}

/// What a fleet that came at once cost.
struct Storm {
    seconds: f64,
    server_cpu: Duration,
}

impl Storm {
    async fn of(server: &mut Process, listener: &Listener, logins: &[DeviceLogin]) -> Result<Self, Failure> {
        let (start, before) = (now(), server.cpu()?);
        let connecting = async {
            let (mut dialling, mut connected) = (JoinSet::new(), Vec::with_capacity(logins.len()));
            for login in logins {
                if dialling.len() >= DIALLING {
                    connected.extend(dialling.join_next().await);
                }
                let (listener, login) = (listener.clone(), login.clone());
                dialling.spawn(async move { listener.connect(&login).await });
            }
            connected.extend(dialling.join_all().await.into_iter().map(Ok));
            connected.into_iter().map(|one| one?).collect::<Result<Vec<_>, Failure>>()
        };
        let connected = tokio::time::timeout(Duration::from_secs(FLEET_SECONDS_MAX), connecting).await??;
        let (seconds, server_cpu) = (start.elapsed().as_secs_f64(), server.cpu()?.saturating_sub(before));
        server.check()?;
        drop(connected);
        Ok(Self { seconds, server_cpu })
    }

    #[expect(clippy::cast_precision_loss, reason = "a fleet is far below 2^52")]
    fn per_server_cpu_second(&self) -> f64 {
        FLEET as f64 / self.server_cpu.as_secs_f64()
    }
}
