//! Devices that connect to either house, take over from each other, send telemetry, answer direct methods and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use access::Caller;
use bytes::Bytes;
use fastrand::Rng;
use hub::Settlement;
use hub::cloud_to_device::Properties;
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
    mail: Mail,
    /// Sessions that are still open at the end.
    open: Vec<(String, Connection)>,
}

/// Cloud-to-device messages by number, each to whom it went.
#[derive(Default)]
struct Mail {
    sent: BTreeMap<u64, String>,
    /// Nobody knows whether they were taken.
    perhaps_sent: BTreeSet<u64>,
    completed: BTreeSet<u64>,
    perhaps_completed: BTreeSet<u64>,
}

pub(crate) type Shared = Arc<Mutex<Told>>;

/// A session, and the house that holds it.
struct Connection {
    session: Session,
    house: u32,
    /// Messages that it was given and has not completed: by their place in the queue, their numbers.
    under_way: Mutex<BTreeMap<u64, u64>>,
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

    /// Takes messages, none of which was completed before; completes what it has, or leaves it.
    async fn receive(&self, world: &World, completes: bool, told: &Shared) {
        let Some(house) = world.house_on(self.house) else { return };
        let epoch = self.session.epoch();
        let known: Vec<u64> = self.under_way.lock().keys().copied().collect();
        let looking = self.session.waiting_messages(known);
        let found = world.ask_this(&house, format!("look for messages as {epoch}"), async |_| looking.await);
        for message in found.await.ok().unwrap_or_default() {
            let number = serde_json::from_slice(&message.body).unwrap_or_default();
            if told.lock().mail.completed.contains(&number) {
                world.fail(format!("message {number} came to epoch {epoch} after it was completed"));
            }
            if self.under_way.lock().insert(message.sequence, number).is_some() {
                world.fail(format!("message {number} came to epoch {epoch} twice"));
            }
        }
        if completes {
            self.complete(world, &house, told).await;
        }
    }

    async fn complete(&self, world: &World, house: &Arc<crate::house::House>, told: &Shared) {
        let under_way = std::mem::take(&mut *self.under_way.lock());
        if under_way.is_empty() {
            return;
        }
        let (sequences, numbers): (Vec<u64>, Vec<u64>) = under_way.into_iter().unzip();
        told.lock().mail.perhaps_completed.extend(&numbers);
        let completing = self.session.complete_messages(sequences);
        let what = format!("complete {numbers:?}");
        if world.ask_this(house, what, async |_| completing.await).await.ok().is_some() {
            told.lock().mail.completed.extend(numbers);
        }
    }

    /// Waits, and does what it is asked for meanwhile.
    async fn listen(&self, world: &World, rng: &mut Rng, told: &Shared) {
        let completes = rng.u8(0..3) > 0;
        let pause = world.pause(rng, 500);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                () = &mut pause => return,
                command = self.session.next_command() => match command {
                    Command::Close(_) => return,
                    Command::MessagesWaiting => self.receive(world, completes, told).await,
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

/// Sends numbered messages to a device, whether it is there or not.
pub(crate) async fn mail(world: Arc<World>, name: String, told: Shared) {
    let mut rng = world.fork();
    let mut number = rng.u64(..) >> 32 << 16;
    while !world.is_over() {
        world.pause(&mut rng, 2_000).await;
        number += 1;
        let sent = world.ask(format!("mail {number} to {name}"), async |house| {
            let device = identity(&name).device_id;
            let body = Bytes::from(number.to_string());
            house.hub().send_to_device(&Caller::system(), &device, Properties::default(), body).await
        });
        let outcome = sent.await;
        let mail = &mut told.lock().mail;
        match outcome {
            Outcome::Answered(Ok(_)) => drop(mail.sent.insert(number, name.clone())),
            Outcome::Answered(Err(hub::Error::DeviceMaximumQueueDepthExceeded(_))) => {}
            Outcome::Answered(Err(_)) | Outcome::Cut => drop(mail.perhaps_sent.insert(number)),
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
        session.listen_to_messages(true);
        let under_way = Mutex::default();
        Ok::<_, hub::Error>(Connection { session, house: house.number(), under_way })
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

/// At rest every message that was taken is in its device's queue, or was completed; once it was, it is not.
pub(crate) async fn check_mail(world: &World, told: &Shared, names: &[&str]) {
    let mail = std::mem::take(&mut told.lock().mail);
    let mut left = BTreeMap::new();
    for name in names {
        let numbers = take_the_rest(world, name).await;
        let device = world.insist(format!("read {name}"), async |house| {
            house.hub().get_device(&Caller::system(), &identity(name).device_id).await
        });
        let counted = device.await.messages;
        if counted > 0 {
            world.fail(format!("{counted} messages are counted in the empty queue of {name}"));
        }
        left.extend(numbers.into_iter().map(|number| (number, (*name).to_owned())));
    }
    for (number, name) in &mail.sent {
        let is_done = mail.completed.contains(number) || mail.perhaps_completed.contains(number);
        if left.get(number) != Some(name) && !is_done {
            world.fail(format!("message {number} to {name} was taken and is nowhere"));
        }
    }
    for number in left.keys() {
        if mail.completed.contains(number) {
            world.fail(format!("message {number} was completed and is there"));
        }
        if !mail.sent.contains_key(number) && !mail.perhaps_sent.contains(number) {
            world.fail(format!("message {number} was never sent"));
        }
    }
    world.note(&format!(
        "{} messages to devices, {} completed, {} left",
        mail.sent.len(),
        mail.completed.len(),
        left.len()
    ));
}

/// Completes what is in a queue, and gives the numbers.
async fn take_the_rest(world: &World, name: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let received = world.insist(format!("receive for {name}"), async |house| {
            house.hub().receive_message(&Caller::system(), &identity(name).device_id).await
        });
        let Some(received) = received.await else { return numbers };
        numbers.push(serde_json::from_slice(&received.body).unwrap_or_default());
        let Some(token) = received.lock_token else { return numbers };
        world
            .insist(format!("settle for {name}"), async |house| {
                let device = identity(name).device_id;
                let settled =
                    house.hub().settle_message(&Caller::system(), &device, token, Settlement::Complete).await;
                // By a try of which nobody knew.
                if settled == Err(hub::Error::DeviceMessageLockLost) { Ok(()) } else { settled }
            })
            .await;
    }
}
