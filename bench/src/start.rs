//! From the start of a process to its first answer, and the memory it holds when it then does nothing.

use std::path::Path;
use std::time::Duration;

use crate::azurite::Azurite;
use crate::mosquitto::Mosquitto;
use crate::postgres::Cluster;
use crate::process::Process;
use crate::report::{Better, Comparison, Metric};
use crate::statistics::Series;
use crate::twinhub::Twinhub;
use crate::{Bench, Failure, progress};

/// Idle is what a server is this long after its start.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(crate) struct Seen {
    ready_ms: Series,
    proportional_mb: Series,
    resident_mb: Series,
}

impl Seen {
    async fn add(&mut self, ready_after: Duration, process: Process) -> Result<(), Failure> {
        tokio::time::sleep(SETTLE).await;
        let memory = process.memory()?;
        self.ready_ms.0.push(ready_after.as_secs_f64() * 1000.0);
        self.proportional_mb.0.push(megabytes(memory.proportional_bytes));
        self.resident_mb.0.push(megabytes(memory.resident_bytes));
        process.stop().await
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a process are far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let (mut first, mut again) = (Seen::default(), Seen::default());
    let (mut mosquitto, mut postgres, mut azurite) = (Seen::default(), Seen::default(), Seen::default());
    let cluster = Cluster::create(&bench.directory("start-postgres")?).await?;
    let directory = bench.directory("start-mosquitto")?;
    for number in 1..=bench.rounds {
        progress(&format!("round {number} of {}", bench.rounds));
        let data_dir = bench.scratch.path().join(format!("start-twinhub-{number}"));
        start_twinhub(bench, &data_dir, &mut first).await?;
        start_twinhub(bench, &data_dir, &mut again).await?;
        let server = Mosquitto::start(&directory).await?;
        mosquitto.add(server.ready_after, server.process).await?;
        let server = cluster.start().await?;
        postgres.add(server.ready_after, server.process).await?;
        if let Some(program) = &bench.azurite {
            let directory = bench.directory("start-azurite")?;
            let Azurite { process, ready_after, said } = Azurite::start(program, &directory).await?;
            azurite.add(ready_after, process).await?;
            drop(said);
        }
    }
    let beside_azurite = comparison("Start beside Azurite", &again, Some(("Azurite (blobs)", &azurite)));
    Ok([
        comparison("First start, in an empty data directory", &first, None),
        comparison("Start beside mosquitto", &again, Some(("mosquitto", &mosquitto))),
        comparison("Start beside PostgreSQL", &again, Some(("PostgreSQL", &postgres))),
    ]
    .into_iter()
    .chain(bench.azurite.is_some().then_some(beside_azurite))
    .collect())
}

pub(crate) async fn start_twinhub(bench: &Bench, data_dir: &Path, seen: &mut Seen) -> Result<(), Failure> {
    let server = Twinhub::start(&bench.server, data_dir).await?;
    seen.add(server.ready_after, server.process).await
}

pub(crate) fn comparison(title: &str, subject: &Seen, anchor: Option<(&'static str, &Seen)>) -> Comparison {
    let metric = |name, unit, of: &dyn Fn(&Seen) -> Series| Metric {
        name,
        unit,
        better: Better::Lower,
        subject: of(subject),
        anchor: anchor.map(|(_, seen)| of(seen)),
    };
    Comparison {
        title: title.to_owned(),
        subject: "twinhub",
        anchor: anchor.map(|(name, _)| name),
        metrics: vec![
            metric("start to ready", "ms", &|seen| seen.ready_ms.clone()),
            metric("idle memory, shared pages divided", "MB", &|seen| seen.proportional_mb.clone()),
            metric("idle memory, resident", "MB", &|seen| seen.resident_mb.clone()),
        ],
    }
}
