//! Devices that connect, take over from each other, send telemetry and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use access::Caller;
use bytes::Bytes;
use hub::{Command, DeviceAuthentication, Session};
use parking_lot::Mutex;

use crate::registry::identity;
use crate::world::{Outcome, World};

/// What devices were told.
#[derive(Default)]
pub(crate) struct Told {
    /// The greatest epoch of each identity.
    epochs: BTreeMap<String, u64>,
    /// Messages that the hub took, and those of which nobody knows.
    taken: BTreeSet<String>,
    unknown: BTreeSet<String>,
    sent: u64,
    /// Sessions that are still open at the end.
    open: Vec<(String, Connection)>,
}

pub(crate) type Shared = Arc<Mutex<Told>>;

/// A session, and the house that holds it.
struct Connection {
    session: Session,
    house: u32,
}

impl Connection {
    /// Because it was told so, or because its house has gone.
    fn is_over(&self, world: &World) -> bool {
        let mut commands = std::iter::from_fn(|| self.session.try_next_command());
        world.node() != Some(self.house) || commands.any(|command| matches!(command, Command::Close(_)))
    }
}

/// One who connects under a name that others use too.
pub(crate) async fn connect(world: Arc<World>, name: String, told: Shared) {
    let mut rng = world.fork();
    while !world.is_over() {
        world.pause(&mut rng, 3_000).await;
        let Some(connection) = open(&world, &name, &told).await else { continue };
        for _ in 0..rng.u8(0..6) {
            world.pause(&mut rng, 500).await;
            send(&world, &name, &connection.session, &told).await;
            if connection.is_over(&world) {
                break;
            }
        }
        if world.is_over() {
            told.lock().open.push((name.clone(), connection));
        }
    }
}

async fn open(world: &World, name: &str, told: &Shared) -> Option<Connection> {
    let floor = told.lock().epochs.get(name).copied().unwrap_or_default();
    let opened = world.ask(format!("connect {name}"), async |house| {
        let (hub, id) = (house.hub(), identity(name));
        let device = hub.get_device(&Caller::system(), &id.device_id).await?;
        let authentication = DeviceAuthentication {
            caller: Caller::identity(hub.scope().clone(), id.clone()),
            identity: id,
            generation_id: device.identity.generation_id.clone(),
            expires_at: None,
            auth_method: "simulated".to_owned(),
        };
        let session = hub.open_session(authentication, None).await?;
        Ok::<_, hub::Error>(Connection { session, house: house.store.node().number })
    });
    let connection = opened.await.ok()?;
    let session = &connection.session;
    let epoch = session.epoch();
    if epoch <= floor {
        world.fail(format!("{name} connected under epoch {epoch} behind {floor}"));
    }
    let mut told = told.lock();
    let greatest = told.epochs.entry(name.to_owned()).or_default();
    *greatest = epoch.max(*greatest);
    drop(told);
    Some(connection)
}

async fn send(world: &World, name: &str, session: &Session, told: &Shared) {
    let body = {
        let mut told = told.lock();
        told.sent += 1;
        format!("telemetry {name} {}", told.sent)
    };
    let sent = world.ask(format!("send {body}"), async |_| {
        let bytes = Bytes::from(body.clone().into_bytes());
        session.hub().send_telemetry(session, session.message(), bytes).await
    });
    let outcome = sent.await;
    let mut told = told.lock();
    match outcome {
        Outcome::Answered(Ok(())) => told.taken.insert(body),
        Outcome::Answered(Err(_)) | Outcome::Cut => told.unknown.insert(body),
    };
}

/// What was taken lies in the stream once, and what nobody knows of at most once.
pub(crate) fn check_telemetry(world: &World, told: &Shared, bodies: &[String]) {
    let told = told.lock();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for body in bodies.iter().filter(|body| body.starts_with("telemetry ")) {
        *times.entry(body).or_default() += 1;
    }
    for body in &told.taken {
        if times.get(body.as_str()) != Some(&1) {
            let times = times.get(body.as_str()).copied().unwrap_or_default();
            world.fail(format!("'{body}' was acknowledged and is there {times} times"));
        }
    }
    for (body, times) in times {
        if times > 1 || !(told.taken.contains(body) || told.unknown.contains(body)) {
            world.fail(format!("'{body}' is there {times} times"));
        }
    }
    world.note(&format!("{} messages were taken, of {} nobody knew", told.taken.len(), told.unknown.len()));
}

/// At rest each identity has one session at the most, and it is the one that the store names.
pub(crate) async fn check_sessions(world: &World, told: &Shared) {
    let open = std::mem::take(&mut told.lock().open);
    let mut alive: BTreeMap<String, u64> = BTreeMap::new();
    for (name, connection) in &open {
        if connection.is_over(world) {
            continue;
        }
        let session = &connection.session;
        if let Some(other) = alive.insert(name.clone(), session.epoch()) {
            world.fail(format!("{name} has sessions of the epochs {other} and {}", session.epoch()));
        }
    }
    for (name, epoch) in alive {
        let owner = world.insist(format!("owner of {name}"), async |house| {
            house.store.sessions().owner(house.hub().instance(), &identity(&name)).await
        });
        let owner = owner.await;
        if owner.map(|owner| owner.epoch) != Some(epoch) {
            world.fail(format!("{name} is connected under epoch {epoch}, and its owner is {owner:?}"));
        }
    }
}
