//! One round: a load generator on a thread of its own warms a server up, and what both do within a window is counted.
//! Every benchmark of throughput uses it, so both sides of a comparison are treated alike.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;
use crate::clock::now;
use crate::disk::Disk;
use crate::process::{Process, cpu_of};
use crate::statistics::Latencies;

/// How long clients may take to connect, and to end once told.
const CONNECT_SECONDS_MAX: u64 = 120;
const STOP_SECONDS_MAX: u64 = 60;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    WarmingUp,
    Measuring,
    Stopping,
}

/// Tells clients which phase it is. Reading it costs nothing.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<AtomicU8>);

impl Gate {
    pub(crate) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::WarmingUp,
            1 => Phase::Measuring,
            _ => Phase::Stopping,
        }
    }

    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
}

/// What a server did within the window, and what that cost.
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) latencies: Latencies,
    pub(crate) server_cpu: Duration,
    pub(crate) generator_cpu: Duration,
    /// What the disk wrote meanwhile, for whomever; `None` when nobody counts that.
    pub(crate) disk_bytes: Option<u64>,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn operations(&self) -> f64 {
        self.latencies.count() as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.operations() / self.seconds
    }

    pub(crate) fn per_server_cpu_second(&self) -> f64 {
        self.operations() / self.server_cpu.as_secs_f64()
    }

    /// Cores that the server kept busy.
    pub(crate) fn server_cores(&self) -> f64 {
        self.server_cpu.as_secs_f64() / self.seconds
    }

    /// Cores that the generator kept busy. It has one thread: near 1, it was the limit and not the server.
    pub(crate) fn generator_cores(&self) -> f64 {
        self.generator_cpu.as_secs_f64() / self.seconds
    }

    /// NaN when nobody counts what the disk writes.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn disk_bytes_per_operation(&self) -> f64 {
        self.disk_bytes.map_or(f64::NAN, |bytes| bytes as f64 / self.operations())
    }
}

/// Clients that are connected and work until the gate says stop; each hands back the latencies within the window.
pub(crate) type Clients = JoinSet<Result<Latencies, Failure>>;

/// Runs one round against `server`. `connect` runs on the generator's thread and hands back the working clients.
pub(crate) async fn round(
    server: &mut Process,
    window: Window,
    disk: &Disk,
    connect: impl AsyncFnOnce(Gate) -> Result<Clients, Failure> + Send + 'static,
) -> Result<Measured, Failure> {
    let gate = Gate::default();
    let (connected, is_connected) = oneshot::channel();
    let mut generator = generate(gate.clone(), connected, connect)?;
    let connecting = tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS_MAX), is_connected);
    match connecting.await {
        Ok(Ok(())) => {}
        // The generator ended first and says why.
        Ok(Err(_)) => return Err(unexpected_end(&mut generator).await),
        Err(_) => return Err(format!("not connected within {CONNECT_SECONDS_MAX} s").into()),
    }
    pass(&mut generator, window.warm_up).await?;
    let before = Reading::take(server, disk)?;
    gate.set(Phase::Measuring);
    pass(&mut generator, window.measured).await?;
    gate.set(Phase::Stopping);
    let after = Reading::take(server, disk)?;
    let ending = tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), generator);
    let latencies = ending.await.map_err(|_| "the clients do not come to an end")???;
    server.check()?;
    if latencies.count() == 0 {
        return Err("nothing was done within the window".into());
    }
    Ok(Measured {
        seconds: (after.at - before.at).as_secs_f64(),
        latencies,
        server_cpu: after.server_cpu.saturating_sub(before.server_cpu),
        generator_cpu: after.own_cpu.saturating_sub(before.own_cpu),
        disk_bytes: after.disk_bytes.zip(before.disk_bytes).map(|(after, before)| after - before),
    })
}

/// The counters at one end of a window.
struct Reading {
    at: Instant,
    server_cpu: Duration,
    own_cpu: Duration,
    disk_bytes: Option<u64>,
}

impl Reading {
    fn take(server: &Process, disk: &Disk) -> Result<Self, Failure> {
        Ok(Self {
            at: now(),
            server_cpu: server.cpu()?,
            own_cpu: cpu_of(std::process::id())?,
            disk_bytes: disk.written_bytes(),
        })
    }
}

type Generator = oneshot::Receiver<Result<Latencies, Failure>>;

/// Starts the generator's thread, with a runtime for it alone.
fn generate(
    gate: Gate,
    connected: oneshot::Sender<()>,
    connect: impl AsyncFnOnce(Gate) -> Result<Clients, Failure> + Send + 'static,
) -> Result<Generator, Failure> {
    let (done, result) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("generator".into()).spawn(move || {
        let local = Rc::new(LocalSet::new());
        let work = async {
            let mut clients = connect(gate).await?;
            let _ = connected.send(());
            let mut sum = Latencies::default();
            while let Some(ended) = clients.join_next().await {
                sum.merge(&ended??);
            }
            Ok(sum)
        };
        // Nobody listens any more when the round was given up.
        let _ = done.send(local.block_on(&runtime, work));
    })?;
    Ok(result)
}

/// Lets time pass while the generator works; clients that end before they are told have failed.
async fn pass(generator: &mut Generator, duration: Duration) -> Result<(), Failure> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        error = unexpected_end(generator) => Err(error),
    }
}

async fn unexpected_end(generator: &mut Generator) -> Failure {
    match generator.await {
        Ok(Err(error)) => error,
        Ok(Ok(_)) => "the clients ended before they were told".into(),
        Err(_) => "the generator's thread is gone".into(),
    }
}

/// One client that waits for each answer before it asks again.
pub(crate) async fn closed_loop(
    gate: Gate,
    mut operation: impl AsyncFnMut() -> Result<(), Failure>,
) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    while gate.phase() != Phase::Stopping {
        let start = now();
        operation().await?;
        if gate.phase() == Phase::Measuring {
            latencies.add(start.elapsed());
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use tokio::process::Command;

    use super::*;

    const WINDOW: Window =
        Window { warm_up: Duration::from_millis(20), measured: Duration::from_millis(200) };

    fn idle_server(directory: &tempfile::TempDir) -> Process {
        let mut command = Command::new("sleep");
        command.arg("60");
        Process::start(command, &directory.path().join("log")).unwrap().0
    }

    #[tokio::test]
    async fn only_what_is_done_within_the_window_counts() {
        let directory = tempfile::tempdir().unwrap();
        let mut server = idle_server(&directory);
        let connect = async |gate: Gate| {
            let mut clients: Clients = JoinSet::new();
            clients.spawn_local(closed_loop(gate, async || {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(())
            }));
            Ok(clients)
        };
        let measured = round(&mut server, WINDOW, &Disk::default(), connect).await.unwrap();
        assert!((1.0..=21.0).contains(&measured.operations()), "{}", measured.operations());
        assert!(measured.latencies.percentile_ms(0.0) >= 9.0);
    }

    #[tokio::test]
    async fn a_client_that_fails_fails_the_round_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        let mut server = idle_server(&directory);
        let connect = async |gate: Gate| {
            let mut clients: Clients = JoinSet::new();
            clients.spawn_local(closed_loop(gate, async || Err("refused".into())));
            Ok(clients)
        };
        let error = round(&mut server, WINDOW, &Disk::default(), connect).await.err().unwrap();
        assert_eq!(error.to_string(), "refused");
        let error = round(&mut server, WINDOW, &Disk::default(), async |_| Err("cannot connect".into()))
            .await
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "cannot connect");
    }
}
