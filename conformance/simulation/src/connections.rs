//! Devices that connect to either house, take over from each other, send telemetry, answer direct methods and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use access::Caller;
use bytes::Bytes;
use fastrand::Rng;
use hub::direct_method::MethodRequest;
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
    /// Direct methods by number: under which epochs devices were given them.
    methods: BTreeMap<u64, Vec<u64>>,
    /// How many calls were answered by a device.
    answered: u64,
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
    /// Because it was told so, or because its house has gone. Does what it is asked for until then.
    fn is_over(&self, world: &World, told: &Shared) -> bool {
        while let Some(command) = self.session.try_next_command() {
            if matches!(command, Command::Close(_)) {
                return true;
            }
            self.obey(world, command, told);
        }
        world.house_on(self.house).is_none()
    }

    fn obey(&self, world: &World, command: Command, told: &Shared) {
        let Command::InvokeMethod { request_id, payload, .. } = command else { return };
        let (session, epoch) = (&self.session, self.session.epoch());
        let number = serde_json::from_slice(&payload).unwrap_or_default();
        let mut told = told.lock();
        let given = told.methods.entry(number).or_default();
        given.push(epoch);
        if given.len() > 1 {
            world.fail(format!("method {number} was given to sessions of the epochs {given:?}"));
        }
        drop(told);
        let answer = Bytes::from(format!("[{number},{epoch}]"));
        session.hub().complete_method(session, request_id, 200, answer);
    }

    /// Waits, and does what it is asked for meanwhile.
    async fn listen(&self, world: &World, rng: &mut Rng, told: &Shared) {
        let pause = world.pause(rng, 500);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = &mut pause => return,
                command = self.session.next_command() => match command {
                    Command::Close(_) => return,
                    command => self.obey(world, command, told),
                },
            }
        }
    }
}

/// Calls a direct method, which reaches the newest session once, on whatever house.
pub(crate) async fn call(world: Arc<World>, name: String, told: Shared) {
    let mut rng = world.fork();
    let mut number = rng.u64(..) >> 32 << 16;
    while !world.is_over() {
        world.pause(&mut rng, 1_500).await;
        number += 1;
        let floor = told.lock().epochs.get(&name).copied().unwrap_or_default();
        let request = MethodRequest {
            name: "count".to_owned(),
            payload: serde_json::from_str(&number.to_string()).ok(),
            connect_timeout_seconds: Some(rng.u64(0..3)),
            response_timeout_seconds: Some(5),
        };
        let called = world.ask(format!("call {number} of {name}"), async |house| {
            house.hub().invoke_method(&Caller::system(), &identity(&name), request).await
        });
        let Some(response) = called.await.ok() else { continue };
        let answer = response.payload.and_then(|payload| serde_json::from_str(payload.get()).ok());
        let (answered, epoch): (u64, u64) = answer.unwrap_or_default();
        let mut told = told.lock();
        told.answered += 1;
        if answered != number || told.methods.get(&number) != Some(&vec![epoch]) {
            world.fail(format!("method {number} of {name} was answered with {answered} of epoch {epoch}"));
        }
        if epoch < floor {
            world.fail(format!("method {number} went to epoch {epoch} of {name}, behind {floor}"));
        }
    }
}

/// One who connects under a name that others use too.
pub(crate) async fn connect(world: Arc<World>, name: String, told: Shared) {
    let mut rng = world.fork();
    while !world.is_over() {
        world.pause(&mut rng, 3_000).await;
        let Some(connection) = open(&world, &name, &told).await else { continue };
        for _ in 0..rng.u8(0..6) {
            connection.listen(&world, &mut rng, &told).await;
            send(&world, &name, &connection, &told).await;
            if connection.is_over(&world, &told) {
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
        session.listen_to_methods(true);
        Ok::<_, hub::Error>(Connection { session, house: house.number() })
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

async fn send(world: &World, name: &str, connection: &Connection, told: &Shared) {
    let session = &connection.session;
    let Some(house) = world.house_on(connection.house) else { return };
    let body = {
        let mut told = told.lock();
        told.sent += 1;
        format!("telemetry {name} {}", told.sent)
    };
    let sent = world.ask_this(&house, format!("send {body}"), async |_| {
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
    world.note(&format!("{} calls of {} were answered", told.answered, told.methods.len()));
    world.note(&format!("{} messages were taken, of {} nobody knew", told.taken.len(), told.unknown.len()));
}

/// At rest each identity has one session at the most, and it is the one that the store names.
pub(crate) async fn check_sessions(world: &World, told: &Shared) {
    let open = std::mem::take(&mut told.lock().open);
    let mut alive: BTreeMap<String, u64> = BTreeMap::new();
    for (name, connection) in &open {
        if connection.is_over(world, told) {
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
