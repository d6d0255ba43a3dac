//! Many devices at once: each a task of its own that registers, connects, lives, and comes again when its connection breaks.

use std::sync::Arc;
use std::time::Duration;

use base::{Elapsed, caps};
use fastrand::Rng;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::firmware::Firmware;
use super::session::{Ended, Session};
use super::tally::{Step, Tally};
use super::{Device, DeviceModel, Fault, Group, Site};
use crate::client::MqttClient;

/// What is wanted.
pub struct Plan {
    pub site: Site,
    pub group: Group,
    pub model: DeviceModel,
    pub devices: usize,
    /// Between two messages of a device.
    pub every: Duration,
    /// How long devices send, from when all have come up or failed to; `None`: until told.
    pub duration: Option<Duration>,
    /// How long the server may be gone.
    pub patience: Duration,
    pub seed: u64,
}

/// How it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The time is up.
    Done,
    Told,
    ServerGone,
    /// Every device has given up.
    NobodyLeft,
}

pub(super) struct Context {
    pub(super) site: Site,
    group: Group,
    model: Arc<DeviceModel>,
    pub(super) every: Duration,
    pub(super) tally: Arc<Tally>,
    /// Keeps handshakes apart that would only slow each other down.
    handshakes: Semaphore,
    seed: u64,
}

pub struct Simulation {
    context: Arc<Context>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    devices: u64,
    duration: Option<Duration>,
    patience: Duration,
    begun_at: Elapsed,
    /// When all had come up or failed to.
    settled_at: Option<Elapsed>,
    seen_at: Elapsed,
}

impl Simulation {
    /// Begins; the devices' tasks end with it.
    pub fn start(plan: Plan) -> Self {
        let begun_at = plan.site.clock.elapsed();
        let context = Arc::new(Context {
            site: plan.site,
            group: plan.group,
            model: Arc::new(plan.model),
            every: plan.every,
            tally: Arc::default(),
            handshakes: Semaphore::new(caps::SIMULATED_HANDSHAKES_MAX),
            seed: plan.seed,
        });
        let (stop, told) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for index in 0..plan.devices {
            tasks.spawn(live(index, context.clone(), told.clone()));
        }
        let devices = u64::try_from(plan.devices).unwrap_or(u64::MAX);
        let (duration, patience) = (plan.duration, plan.patience);
        Self {
            context,
            tasks,
            stop,
            devices,
            duration,
            patience,
            begun_at,
            settled_at: None,
            seen_at: begun_at,
        }
    }

    pub fn tally(&self) -> &Tally {
        &self.context.tally
    }

    pub fn ran_for(&self) -> Duration {
        self.context.site.clock.elapsed().since(self.begun_at)
    }

    /// How long the server has been gone, if it is.
    pub fn gone_for(&self) -> Option<Duration> {
        let tally = self.tally();
        let is_gone = tally.connected.get() == 0 && tally.came_up.get() > 0;
        is_gone.then(|| self.context.site.clock.elapsed().since(self.seen_at))
    }

    /// Looks whether it is time to end; to be asked again and again.
    pub fn look(&mut self) -> Option<Outcome> {
        let now = self.context.site.clock.elapsed();
        let tally = &self.context.tally;
        if tally.given_up.get() == self.devices {
            return Some(Outcome::NobodyLeft);
        }
        if tally.connected.get() > 0 {
            self.seen_at = now;
        } else if tally.came_up.get() > 0 && now.since(self.seen_at) >= self.patience {
            return Some(Outcome::ServerGone);
        }
        if self.settled_at.is_none() && tally.settled.get() == self.devices {
            self.settled_at = Some(now);
        }
        let (begun, duration) = (self.settled_at?, self.duration?);
        (now.since(begun) >= duration).then_some(Outcome::Done)
    }

    /// Whether every device came up and none has given up since.
    pub fn is_whole(&self) -> bool {
        self.tally().came_up.get() == self.devices && self.tally().given_up.get() == 0
    }

    /// Lets every device finish what it has in hand.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Resolves once the simulation is to end.
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    // Without its sender it has ended.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// `simulated-1f2e3d-00042`: sorted as it was counted.
fn device_id(group: &Group, index: usize) -> String {
    format!("{}-{index:05}", group.id)
}

async fn live(index: usize, context: Arc<Context>, mut stop: watch::Receiver<bool>) {
    let seed = context.seed.wrapping_add(index as u64);
    let mut rng = Rng::with_seed(seed);
    let mut also = stop.clone();
    let id = device_id(&context.group, index);
    let device = tokio::select! {
        device = register(&id, &context, &mut rng) => device,
        () = told(&mut also) => return,
    };
    let tally = &context.tally;
    let Some(device) = device else {
        tally.settled.up();
        tally.given_up.up();
        return;
    };
    let mut firmware = Firmware::new(context.model.clone(), seed, context.site.clock.now());
    let (mut failures, mut came_up, mut settled) = (0, false, false);
    loop {
        let opened = tokio::select! {
            opened = open(&device, &context) => opened,
            () = told(&mut also) => return,
        };
        if !settled {
            settled = true;
            tally.settled.up();
        }
        let ended = match opened {
            Err(fault) => Err(("connect", fault)),
            Ok(client) => {
                failures = 0;
                (if came_up { &tally.reconnected } else { &tally.came_up }).up();
                came_up = true;
                tally.connected.up();
                let session = Session::new(&context, &device, &mut firmware, client);
                let ended = session.run(rng.f64(), &mut stop).await;
                tally.connected.down();
                ended.map_err(|fault| ("connection lost", fault))
            }
        };
        match ended {
            Ok(Ended::Told) => return,
            Ok(Ended::ToRenew) => {}
            Err((what, fault)) => {
                tally.failed(what, &fault);
                failures += 1;
                tokio::select! {
                    () = tokio::time::sleep(pause(failures, &mut rng)) => {}
                    () = told(&mut also) => return,
                }
            }
        }
    }
}

/// `None` when it has been tried often enough, or cannot work.
async fn register(id: &str, context: &Context, rng: &mut Rng) -> Option<Device> {
    let (clock, tally) = (&context.site.clock, &context.tally);
    for attempt in 1..=caps::SIMULATED_REGISTRATIONS_MAX {
        let registered = {
            let _turn = context.handshakes.acquire().await;
            let begun_at = clock.elapsed();
            let registered = Device::register(id, &context.group, &context.site, context.model.id()).await;
            registered.map(|device| (device, clock.elapsed().since(begun_at)))
        };
        match registered {
            Ok((device, time)) => {
                tally.took(Step::Register, time);
                tally.registered.up();
                return Some(device);
            }
            Err(fault) => {
                tally.failed("register", &fault);
                if is_hopeless(&fault) {
                    return None;
                }
            }
        }
        tokio::time::sleep(pause(attempt, rng)).await;
    }
    None
}

/// Refused for what it is, not for when it came.
fn is_hopeless(fault: &Fault) -> bool {
    fault.is_final() || matches!(fault, Fault::Client(crate::client::ClientError::Refused(_)))
}

async fn open(device: &Device, context: &Context) -> Result<MqttClient, Fault> {
    let _turn = context.handshakes.acquire().await;
    let begun_at = context.site.clock.elapsed();
    let client = device.open(&context.site, context.model.id()).await?;
    context.tally.took(Step::Connect, context.site.clock.elapsed().since(begun_at));
    Ok(client)
}

/// Twice as long each time, up to a cap, and never the same for all.
fn pause(attempt: u32, rng: &mut Rng) -> Duration {
    let longest = Duration::from_secs(caps::SIMULATED_PAUSE_SECONDS_MAX);
    let full = Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(attempt.min(10) - 1)).min(longest);
    full.mul_f64(0.5 + 0.5 * rng.f64())
}
