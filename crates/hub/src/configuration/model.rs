//! Configurations against a plain model: after every step of a random walk each twin is what somebody slow would have made of it by
//! looking at everything. Two houses share a store; either does any step, and walks are cut off anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::tasks::Tasks;
use base::{Clock, IfMatch, Timestamp};
use serde_json::{Value, json};
use store::memory::Database;
use store::{Store, Streams};

use super::walk::{Run, Step};
use super::*;
use crate::bus::InProcess;
use crate::device::DeviceSpec;
use crate::testing::{TestHub, context_on, next_command, random_walk, settings, system, within};
use crate::twin::rules::Applied;
use crate::twin::{DeviceTwin, TwinReplacement};
use crate::{Command, Context, Hubs, Session};

/// Names below the desired properties; some lie below others.
type Path = Vec<String>;
type Leaves = BTreeMap<Path, i64>;

const PATHS: [&str; 6] = ["a", "a.x", "a.y", "a.y.z", "b", "b.x"];

fn path(text: &str) -> Path {
    text.split('.').map(str::to_owned).collect()
}

fn is_related(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn set(leaves: &mut Leaves, path: &Path, value: i64) {
    leaves.retain(|other, _| !is_related(other, path));
    leaves.insert(path.clone(), value);
}

#[derive(Clone, Debug)]
enum Target {
    Nobody,
    All,
    Tag(u8),
    Reported(u8),
    Device(String),
}

impl Target {
    fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(0..8) {
            0 => Self::Nobody,
            1 => Self::All,
            2 | 3 => Self::Tag(rng.u8(0..3)),
            4 | 5 => Self::Reported(rng.u8(0..3)),
            _ => Self::Device(format!("d{}", rng.u8(0..5))),
        }
    }

    fn clause(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::All => "*".into(),
            Self::Tag(tag) => format!("tags.t = {tag}"),
            Self::Reported(reported) => format!("properties.reported.r = {reported}"),
            Self::Device(id) => format!("deviceId = '{id}'"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Device,
    Module,
    Deployment,
}

#[derive(Clone, Debug)]
struct Made {
    created: Timestamp,
    priority: i32,
    target: Target,
    kind: Kind,
    leaves: Leaves,
}

impl Made {
    fn spec(&self, id: &str) -> ConfigurationSpec {
        let keys: Object = self
            .leaves
            .iter()
            .map(|(path, value)| (format!("properties.desired.{}", path.join(".")), json!(value)))
            .collect();
        let content = match self.kind {
            Kind::Device => ContentSpec { device: Some(keys), ..ContentSpec::default() },
            Kind::Module => ContentSpec { module: Some(keys), ..ContentSpec::default() },
            Kind::Deployment => {
                let agent = json!({"$edgeAgent": {"properties.desired": {}}});
                ContentSpec { modules: agent.as_object().cloned(), ..ContentSpec::default() }
            }
        };
        let clause = self.target.clause();
        let is_plain = self.kind != Kind::Module || clause.is_empty() || clause == "*";
        let condition = if is_plain { clause } else { format!("FROM devices.modules WHERE {clause}") };
        ConfigurationSpec {
            id: id.parse().unwrap(),
            schema_version: None,
            labels: None,
            content,
            target_condition: Some(condition),
            priority: self.priority,
            metrics: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Twin {
    is_edge: bool,
    tag: Option<u8>,
    reported: Option<u8>,
    desired: Leaves,
    held: BTreeMap<Path, (String, Timestamp)>,
    standings: BTreeMap<String, &'static str>,
}

#[derive(Default)]
struct Model {
    configurations: BTreeMap<String, Made>,
    /// By `device` or `device/module`.
    twins: BTreeMap<String, Twin>,
}

impl Model {
    fn settle(&mut self) {
        let Self { configurations, twins } = self;
        for (name, twin) in twins {
            let (device, is_module) = match name.split_once('/') {
                Some((device, _)) => (device, true),
                None => (name.as_str(), false),
            };
            let is_for = |made: &Made| {
                let is_meant = match made.kind {
                    Kind::Device => !is_module,
                    Kind::Module => is_module,
                    Kind::Deployment => !is_module && twin.is_edge,
                };
                is_meant
                    && match &made.target {
                        Target::Nobody => false,
                        Target::All => true,
                        Target::Tag(tag) => twin.tag == Some(*tag),
                        Target::Reported(reported) => twin.reported == Some(*reported),
                        Target::Device(id) => id == device,
                    }
            };
            let mut targeting: Vec<(&String, &Made)> =
                configurations.iter().filter(|(_, made)| is_for(made)).collect();
            targeting.sort_by_key(|(id, made)| (made.priority, made.created, (*id).clone()));
            let mut wins: BTreeMap<Path, (i64, String, Timestamp)> = BTreeMap::new();
            for (id, made) in &targeting {
                for (path, value) in &made.leaves {
                    wins.retain(|other, _| !is_related(other, path));
                    wins.insert(path.clone(), (*value, (*id).clone(), made.created));
                }
            }
            for (path, (by, created)) in &twin.held {
                let lives = configurations.get(by).is_some_and(|made| made.created == *created);
                if lives && !wins.contains_key(path) {
                    twin.desired.remove(path);
                }
            }
            for (path, (value, ..)) in &wins {
                set(&mut twin.desired, path, *value);
            }
            twin.standings = targeting.iter().map(|(id, _)| ((*id).clone(), "Targeted")).collect();
            for (_, by, _) in wins.values() {
                twin.standings.insert(by.clone(), "Applied");
            }
            twin.held = wins.into_iter().map(|(path, (_, by, created))| (path, (by, created))).collect();
        }
    }
}

/// What is set, without objects that are empty.
fn leaves_of(members: &Object, above: &mut Path, leaves: &mut Leaves) {
    for (name, value) in members {
        above.push(name.clone());
        match value {
            Value::Object(inner) => leaves_of(inner, above, leaves),
            leaf => drop(leaves.insert(above.clone(), leaf.as_i64().unwrap())),
        }
        above.pop();
    }
}

fn shown(twin: &DeviceTwin) -> (Leaves, BTreeMap<String, &'static str>) {
    let mut leaves = Leaves::new();
    leaves_of(&twin.properties.desired.values, &mut Path::new(), &mut leaves);
    let standings = twin.configurations.iter().map(|(id, standing)| {
        let status = match standing.status {
            Status::Targeted => "Targeted",
            Status::Applied => "Applied",
        };
        (id.to_string(), status)
    });
    (leaves, standings.collect())
}

/// Two houses of one store that others share too.
async fn two_houses(clock: &Clock) -> [TestHub; 2] {
    let (options, bus) = (test_store::options(), Arc::new(InProcess::default()));
    // By another clock, which stands: nobody loses a lease here.
    let database = Database::new(self::clock());
    let mut houses = Vec::new();
    for _ in 0..2 {
        let is_embedded = test_store::is_embedded();
        let store = if is_embedded { Store::on_memory(&database) } else { Store::open(&options).unwrap() };
        let streams = Streams::beside(&store, &options).unwrap();
        let context = context_on(store.clone());
        let context = Context { streams, clock: clock.clone(), tasks: Tasks::new(), ..context };
        let hubs = Hubs::on_bus(context.clone(), None, bus.clone());
        hubs.load().await.unwrap();
        let hub = match hubs.find("hub") {
            Some(hub) => hub,
            None => hubs.ensure(settings("hub")).await.unwrap(),
        };
        houses.push(TestHub { hub, hubs, clock: clock.clone(), context });
    }
    houses.try_into().ok().expect("there are two")
}

fn clock() -> Clock {
    Clock::manual(crate::testing::start())
}

impl TestHub {
    /// Until the last change of a configuration has come to every twin.
    pub(super) async fn walked(&self) {
        let over = async {
            while self.walk().await.unwrap().is_some_and(|walk| !walk.record.is_over) {
                tokio::task::yield_now().await;
            }
        };
        within(over).await;
    }

    /// A house that begins a walk and is cut off behind so many of its steps.
    async fn walks_a_little(&self, steps: usize) {
        let held = self.stolen(Duration::from_secs(caps::CONFIGURATION_LEASE_SECONDS));
        let begun = within(Run::begin(&self.hub, held)).await.unwrap();
        let Some(mut run) = begun else { return };
        for _ in 0..steps {
            if matches!(run.step(2).await.unwrap(), Step::Over | Step::Anew) {
                return;
            }
        }
    }

    async fn is_as(&self, model: &Model, step: usize) {
        for (id, expected) in &model.twins {
            let twin = self.twin(id).await.twin;
            let (leaves, standings) = shown(&twin);
            assert_eq!(leaves, expected.desired, "{id} in step {step}");
            assert_eq!(standings, expected.standings, "{id} in step {step}");
        }
    }
}

/// What a device knows of its twin by what it was told.
struct Listener {
    session: Session,
    version: u64,
    desired: Value,
}

impl Listener {
    async fn on(hub: &TestHub, id: &str) -> Self {
        let session = hub.connect(id).await;
        session.subscribe_desired().await.unwrap();
        let section = hub.twin(id).await.twin.properties.desired;
        Self { session, version: section.version, desired: Value::Object(section.values) }
    }

    async fn has_heard_all(&mut self, hub: &TestHub, step: usize) {
        let section = hub.twin("d0").await.twin.properties.desired;
        while self.version < section.version {
            let command = next_command(&self.session).await;
            let Command::DesiredChanged { version, patch } = command else {
                panic!("{command:?} in step {step}")
            };
            assert_eq!(version, self.version + 1, "in step {step}");
            let mut patch: Value = serde_json::from_slice(&patch).unwrap();
            patch.as_object_mut().unwrap().remove("$version");
            base::json::merge_patch(&mut self.desired, &patch);
            self.version = version;
        }
        assert_eq!(self.desired, Value::Object(section.values), "in step {step}");
    }
}

/// A patch of one path, or of its deletion.
fn patch_of(path: &Path, value: Value) -> Value {
    path.iter().rev().fold(value, |inner, name| json!({name: inner}))
}

/// A change of configurations, or of twins.
async fn random_step(rng: &mut fastrand::Rng, houses: &[TestHub; 2], model: &mut Model, step: usize) {
    let hub = &houses[rng.usize(0..2)];
    match rng.u8(0..12) {
        kind @ 0..=4 => change_a_configuration(rng, hub, model, kind).await,
        kind => change_a_twin(rng, hub, model, (kind, step)).await,
    }
}

async fn change_a_configuration(rng: &mut fastrand::Rng, hub: &TestHub, model: &mut Model, kind: u8) {
    let id = format!("c{}", rng.u8(0..5));
    match kind {
        0 | 1 => {
            let is_there = model.configurations.contains_key(&id);
            let kind = [Kind::Device, Kind::Device, Kind::Module, Kind::Deployment][rng.usize(0..4)];
            let mut leaves = Leaves::new();
            for _ in 0..rng.usize(0..3) {
                set(&mut leaves, &path(PATHS[rng.usize(0..PATHS.len())]), rng.i64(0..100));
            }
            if kind == Kind::Deployment {
                leaves.clear();
            }
            let (priority, target) = (rng.i32(0..3), Target::random(rng));
            let made = Made { created: hub.now(), priority, target, kind, leaves };
            let created = hub.put_configuration(&system(), &made.spec(&id), &IfMatch::Absent).await;
            assert_eq!(created.is_ok(), !is_there, "{created:?}");
            if !is_there {
                model.configurations.insert(id, made);
            }
        }
        2 | 3 => {
            let Some(made) = model.configurations.get_mut(&id) else { return };
            (made.priority, made.target) = (rng.i32(0..3), Target::random(rng));
            hub.put_configuration(&system(), &made.spec(&id), &IfMatch::Any).await.unwrap();
        }
        _ => {
            let is_there = model.configurations.remove(&id).is_some();
            let deleted = hub.delete_configuration(&system(), &id.parse().unwrap(), &IfMatch::Absent).await;
            assert_eq!(deleted.is_ok(), is_there);
        }
    }
}

async fn change_a_twin(rng: &mut fastrand::Rng, hub: &TestHub, model: &mut Model, (kind, step): (u8, usize)) {
    let any = |rng: &mut fastrand::Rng, model: &Model| {
        let at = rng.usize(0..model.twins.len());
        model.twins.keys().nth(at).unwrap().clone()
    };
    match kind {
        5 => {
            let id = any(rng, model);
            let twin = model.twins.get_mut(&id).unwrap();
            twin.tag = Some(rng.u8(0..3));
            hub.patch(&id, json!({"tags": {"t": twin.tag}})).await.unwrap();
        }
        6 | 7 => {
            let id = any(rng, model);
            let twin = model.twins.get_mut(&id).unwrap();
            twin.reported = Some(rng.u8(0..3));
            hub.reported(&id, json!({"r": twin.reported})).await.unwrap();
        }
        8 => {
            let (id, path) = (any(rng, model), path(PATHS[rng.usize(0..PATHS.len())]));
            let twin = model.twins.get_mut(&id).unwrap();
            let value = rng.bool().then(|| rng.i64(0..100));
            match value {
                Some(value) => set(&mut twin.desired, &path, value),
                None => twin.desired.retain(|other, _| !is_related(other, &path)),
            }
            hub.patch(&id, json!({"properties": {"desired": patch_of(&path, json!(value))}})).await.unwrap();
        }
        9 => {
            let device = format!("d{}", rng.u8(1..5));
            if model.twins.contains_key(&device) {
                hub.delete_device(&system(), &device.parse().unwrap(), &IfMatch::Any).await.unwrap();
                model.twins.retain(|id, _| id.split('/').next() != Some(&device));
            } else {
                hub.create_device(&device).await;
                model.twins.insert(device.clone(), Twin::default());
                if rng.bool() {
                    hub.create_module(&format!("{device}/m")).await;
                    model.twins.insert(format!("{device}/m"), Twin::default());
                }
            }
        }
        10 => {
            let device = format!("d{}", rng.u8(0..5));
            let Some(twin) = model.twins.get_mut(&device) else { return };
            twin.is_edge = !twin.is_edge;
            let spec = DeviceSpec { iot_edge: twin.is_edge, ..DeviceSpec::new(device.parse().unwrap()) };
            hub.put_device(&system(), &spec, &IfMatch::Any).await.unwrap();
            for module in ["$edgeAgent", "$edgeHub"] {
                if model.twins[&device].is_edge {
                    model.twins.insert(format!("{device}/{module}"), Twin::default());
                } else {
                    model.twins.remove(&format!("{device}/{module}"));
                }
            }
        }
        _ => {
            let replaced: Leaves = [(path(PATHS[rng.usize(0..PATHS.len())]), rng.i64(0..100))].into();
            let id = any(rng, model);
            let (at, value) = replaced.first_key_value().unwrap();
            let desired = patch_of(at, json!(value));
            let tags = json!({"t": step % 3}).as_object().unwrap().clone();
            let replacement = TwinReplacement { tags, desired: desired.as_object().unwrap().clone() };
            let done =
                hub.replace_twin(&system(), &id.parse().unwrap(), &replacement, &IfMatch::Absent).await;
            done.unwrap();
            let twin = model.twins.get_mut(&id).unwrap();
            (twin.tag, twin.desired) = (Some(u8::try_from(step % 3).unwrap()), replaced);
        }
    }
}

#[tokio::test]
async fn a_random_walk_leaves_every_twin_as_a_plain_model_has_it() {
    let (mut rng, steps) = random_walk(1000);
    let clock = clock();
    let houses = two_houses(&clock).await;
    let mut model = Model::default();
    houses[0].create_device("d0").await;
    model.twins.insert("d0".into(), Twin::default());
    let mut listener = Listener::on(&houses[0], "d0").await;
    for step in 0..steps {
        clock.advance(Duration::from_secs(1));
        random_step(&mut rng, &houses, &mut model, step).await;
        if rng.bool() {
            houses[rng.usize(0..2)].walks_a_little(rng.usize(0..3)).await;
        }
        houses[rng.usize(0..2)].walked().await;
        model.settle();
        houses[rng.usize(0..2)].is_as(&model, step).await;
        listener.has_heard_all(&houses[0], step).await;
    }
}

#[tokio::test]
async fn a_walk_that_is_cut_off_behind_any_of_its_steps_is_brought_to_its_end_by_another_house() {
    for steps in 0..6 {
        let clock = clock();
        let [one, two] = two_houses(&clock).await;
        for number in 0..10 {
            one.create_device(&format!("d{number}")).await;
        }
        let held = one.take_walk().await.unwrap().unwrap();
        let spec = Made {
            created: one.now(),
            priority: 0,
            target: Target::All,
            kind: Kind::Device,
            leaves: [(path("a.x"), 1)].into(),
        };
        one.put_configuration(&system(), &spec.spec("c1"), &IfMatch::Absent).await.unwrap();
        one.walks_a_little(steps).await;
        let applied = async || {
            let mut count = 0;
            for number in 0..10 {
                count += usize::from(!two.twin(&format!("d{number}")).await.twin.configurations.is_empty());
            }
            count
        };
        assert_eq!(applied().await, (steps * 2).min(10));
        // The first house is gone, and its lease with it.
        one.give_back(&held).await;
        two.hubs.do_what_is_due().await.unwrap();
        two.walked().await;
        for number in 0..10 {
            let twin = two.twin(&format!("d{number}")).await.twin;
            // Once each, whoever did it.
            assert_eq!((twin.version, twin.properties.desired.version), (3, 2), "{number}, {steps} steps");
            assert_eq!(shown(&twin).0, [(path("a.x"), 1)].into());
        }
    }
}

/// Twins are written and configurations change at the same time.
async fn meet(one: &TestHub, two: &TestHub, clock: &Clock) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for number in 0..6 {
        one.create_device(&format!("d{number}")).await;
    }
    let twins = async |hub: &TestHub, mut rng: fastrand::Rng| {
        for _ in 0..10 {
            let id = format!("d{}", rng.u8(0..6));
            if rng.bool() {
                hub.patch(&id, json!({"tags": {"t": rng.u8(0..3)}})).await.unwrap();
            } else {
                hub.reported(&id, json!({"r": rng.u8(0..3)})).await.unwrap();
            }
        }
    };
    let changes = async |hub: &TestHub, mut rng: fastrand::Rng| {
        for _ in 0..3 {
            let id = format!("c{}", rng.u8(0..4));
            let leaves = [(path(PATHS[rng.usize(0..PATHS.len())]), rng.i64(0..100))].into();
            let (priority, target) = (rng.i32(0..3), Target::random(&mut rng));
            let made = Made { created: hub.now(), priority, target, kind: Kind::Device, leaves };
            let made = made.spec(&id);
            // Whichever of them fits.
            drop(hub.put_configuration(&system(), &made, &IfMatch::Absent).await);
            drop(hub.put_configuration(&system(), &made, &IfMatch::Any).await);
        }
    };
    for round in 0..30 {
        clock.advance(Duration::from_secs(1));
        let [a, b, c, d] = [rng.fork(), rng.fork(), rng.fork(), rng.fork()];
        let together = async { tokio::join!(twins(one, a), twins(two, b), changes(one, c), changes(two, d)) };
        within(Box::pin(together)).await;
        one.walked().await;
        let all = one.stored_configurations().await.unwrap();
        let set = targets::Set::new(all.iter().map(|stored| &stored.record));
        for number in 0..6 {
            let twin = one.twin(&format!("d{number}")).await.twin;
            let mut applied = Applied::unchanged(twin.clone());
            set.settle(&mut applied, &twin.properties.desired, false, one.now());
            assert_eq!(applied.twin, twin, "in round {round}");
        }
    }
}

#[tokio::test]
async fn writes_of_twins_and_changes_of_configurations_that_meet_at_two_houses_miss_nothing() {
    let clock = clock();
    let [one, two] = two_houses(&clock).await;
    meet(&one, &two, &clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_twins_and_changes_of_configurations_that_meet_in_one_house_miss_nothing() {
    let hub = TestHub::new().await;
    meet(&hub, &hub, &hub.clock).await;
}

#[tokio::test]
async fn a_walk_waits_for_writes_that_were_judged_by_what_was_before() {
    let hub = TestHub::with_device("dev1").await;
    // A write that has judged and not committed yet.
    let fence = hub.fence().await.unwrap();
    let made = Made {
        created: hub.now(),
        priority: 0,
        target: Target::All,
        kind: Kind::Device,
        leaves: [(path("a"), 1)].into(),
    };
    hub.put_configuration(&system(), &made.spec("c"), &IfMatch::Absent).await.unwrap();
    let mut walked = Box::pin(hub.walked());
    for _ in 0..100 {
        let is_over = is_done(&mut walked).await;
        assert!(!is_over, "it walked past a write");
    }
    drop(fence);
    walked.await;
    assert_eq!(shown(&hub.twin("dev1").await.twin).0, [(path("a"), 1)].into());
}

/// Whether it is done when it is looked at once more, and others have had their turn.
async fn is_done(work: &mut std::pin::Pin<Box<impl Future<Output = ()>>>) -> bool {
    tokio::task::yield_now().await;
    std::future::poll_fn(|context| std::task::Poll::Ready(work.as_mut().poll(context).is_ready())).await
}
