//! Two houses without doors on one hostile engine: devices and services use both, they are killed and come up again, everything goes
//! wrong that may, and what was acknowledged is held against what is there. All of it by a seed, which replays.

mod blobs;
pub mod chance;
mod connections;
mod counters;
mod files;
mod graph;
mod house;
mod registrations;
mod registry;
mod relationships;
mod resources;
mod way;
mod world;

use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use base::{ConnectionString, IfMatch, Key};
use digital_twins::NewEventRoute;
use events::{Address, Endpoint, Event, Target};
use fastrand::Rng;
use hub::device::DeviceSpec;
use resource_manager::Defaults;
use store::memory::Odds;
use store::{Batch, Position};
use tokio::task::JoinSet;

use self::house::{CHANGES, event_hubs_instance, text};
use self::world::{PLACES, World};

/// Simulated time in which everybody acts.
const LENGTH: Duration = Duration::from_secs(60);
/// And in which everything comes to rest: leases end, what waits is told.
const REST: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    /// The same of the same run.
    pub sum: u64,
    pub fault: Option<String>,
    /// What happened.
    pub notes: Vec<String>,
}

/// Runs one seed, on a thread of its own, so that nothing of an earlier run is left in it.
pub fn run(seed: u64) -> Report {
    let run = move || {
        chance::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let set = tokio::task::LocalSet::new();
        set.block_on(&runtime.expect("a runtime"), simulate(seed))
    };
    let thread = std::thread::Builder::new().stack_size(32 * 1024 * 1024).spawn(run);
    thread.expect("a thread").join().unwrap_or_else(|_| Report {
        seed,
        sum: 0,
        fault: Some("it panicked".to_owned()),
        notes: Vec::new(),
    })
}

async fn simulate(seed: u64) -> Report {
    let world = World::new(seed, LENGTH);
    let key = Key::generate(64);
    world.open_house(0).await;
    let committed = graph::Committed::default();
    let furnished = furnish(&world, &key, &committed).await;
    let at_first = furnished.unwrap_or_else(|why| {
        world.fail(format!("it could not begin: {why}"));
        Vec::new()
    });
    let time = Arc::clone(&world);
    let mut clock = JoinSet::new();
    clock.spawn_local(async move { time.pass_time().await });
    for place in 1..PLACES {
        world.open_house(place).await;
    }
    act(&world, &key, committed, &at_first).await;
    Report { seed, sum: world.sum(), fault: world.fault(), notes: world.notes() }
}

/// What is there from the beginning, made while nothing goes wrong. Gives what is kept of an account without containers.
async fn furnish(world: &World, key: &Key, committed: &graph::Committed) -> Result<Vec<String>, String> {
    let (house, caller) = (world.house().await, Caller::system());
    let defaults = Defaults::new(house.directory.subscription_id(), house.directory.tenant_id());
    house.manager.ensure_defaults(&defaults).await.map_err(text)?;
    house.ensure_changes().await?;
    for name in TWINS.iter().chain(&IDENTITIES).chain(&[files::DEVICE]) {
        let spec = DeviceSpec::new(name.parse().map_err(text)?);
        house.hub().put_device(&caller, &spec, &IfMatch::Absent).await.map_err(text)?;
    }
    let at_first = world.database.left_of(blobs::STORAGE);
    files::furnish(&house).await?;
    let twins = graph::instance(&house);
    twins.create_models(&caller, graph::model().to_string().into()).await.map_err(text)?;
    let address = ConnectionString::new(format!(
        "Endpoint=sb://simulated.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath={CHANGES}"
    ));
    let target = Target::EventHub(Address::ConnectionString(address));
    let endpoint = Endpoint { instance: twins.id().clone(), name: CHANGES.to_owned(), target };
    house.events.ensure_endpoint(&endpoint, Batch::default()).await.map_err(text)?;
    let route = NewEventRoute { endpoint_name: CHANGES.to_owned(), filter: "true".to_owned() };
    twins.put_event_route(&caller, &CHANGES.parse().map_err(text)?, &route).await.map_err(text)?;
    relationships::make_ends(&house, committed).await.map_err(text)?;
    registrations::enroll(&house, key).await?;
    Ok(at_first)
}

const TWINS: [&str; 2] = ["twin1", "twin2"];
const IDENTITIES: [&str; 3] = ["line1", "line2", "line3"];

async fn act(world: &Arc<World>, key: &Key, committed: graph::Committed, at_first: &[String]) {
    let (mut actors, w) = (JoinSet::new(), || Arc::clone(world));
    let registers: Vec<_> =
        TWINS.iter().map(|name| ((*name).to_owned(), registry::Shared::default())).collect();
    let (told, added) = (connections::Shared::default(), counters::Shared::default());
    for (name, register) in &registers {
        for _ in 0..3 {
            actors.spawn_local(registry::write_twin(w(), name.clone(), Arc::clone(register)));
        }
    }
    for name in ["passer1", "passer2", "line1/module1", "line2/module2"] {
        actors.spawn_local(registry::come_and_go(w(), name.to_owned()));
    }
    for name in IDENTITIES {
        for _ in 0..2 {
            actors.spawn_local(connections::connect(w(), name.to_owned(), Arc::clone(&told)));
        }
        actors.spawn_local(connections::call(w(), name.to_owned(), Arc::clone(&told)));
        actors.spawn_local(connections::mail(w(), name.to_owned(), Arc::clone(&told)));
    }
    for number in 0..6 {
        actors.spawn_local(graph::change_twin(w(), format!("room{number}"), Arc::clone(&committed)));
    }
    for number in 0..4 {
        actors.spawn_local(relationships::change(w(), number, Arc::clone(&committed)));
    }
    for _ in 0..2 {
        actors.spawn_local(counters::add(w(), Arc::clone(&added)));
    }
    let registering: Vec<String> = (0..4).map(|number| format!("newcomer{number}")).collect();
    for name in &registering {
        actors.spawn_local(registrations::register(w(), name.clone(), key.clone()));
    }
    for place in resources::places() {
        actors.spawn_local(resources::come_and_go(w(), place));
    }
    let (mut writers, uploaded) = (JoinSet::new(), files::Shared::default());
    for name in blobs::NAMES {
        writers.spawn_local(blobs::write(w(), name));
    }
    actors.spawn_local(blobs::keep_reading(w()));
    actors.spawn_local(files::upload(w(), Arc::clone(&uploaded)));
    for _ in 0..2 {
        actors.spawn_local(files::listen(w(), Arc::clone(&uploaded)));
    }
    actors.spawn_local(disturb(w()));
    while let Some(ended) = actors.join_next().await {
        if let Err(error) = ended {
            world.fail(format!("one who acts panicked: {error}"));
        }
    }
    let mut written = Vec::new();
    while let Some(ended) = writers.join_next().await {
        match ended {
            Ok(believed) => written.push(believed),
            Err(error) => world.fail(format!("one who writes blobs panicked: {error}")),
        }
    }
    world.database.set_odds(Odds::DISORDER);
    world.clock.sleep(REST).await;
    for (name, register) in &registers {
        registry::read(world, name, register).await;
    }
    connections::check_sessions(world, &told).await;
    connections::check_mail(world, &told, &IDENTITIES).await;
    connections::check_telemetry(world, &told, &telemetry(world).await);
    graph::check(world, &committed, &changes(world).await);
    counters::check(world, &added).await;
    registrations::check(world, &registering, key).await;
    resources::check(world).await;
    files::check(world, &uploaded).await;
    blobs::check(world, written, at_first).await;
    for wrong in world.database.miscounted() {
        world.fail(wrong);
    }
}

/// Faults that come and go, and deaths.
async fn disturb(world: Arc<World>) {
    let mut rng = world.fork();
    while !world.is_over() {
        let odds = [Odds::DISORDER, Odds::HOSTILE, Odds::HOSTILE][rng.usize(0..3)];
        world.database.set_odds(odds);
        world.pause(&mut rng, 15_000).await;
        // None, either, or both.
        let ending: Vec<usize> = (0..PLACES).filter(|_| rng.bool()).collect();
        if !ending.is_empty() {
            end_and_begin(&world, &mut rng, &ending).await;
        }
    }
}

async fn end_and_begin(world: &World, rng: &mut Rng, places: &[usize]) {
    let mut hanging = Vec::new();
    for left in places.iter().filter_map(|place| world.leave_house(*place)) {
        // One that hangs goes on for a while beside its successor: nothing but leases and revisions keeps them apart.
        if rng.bool() {
            hanging.push(left);
        } else {
            left.kill().await;
        }
    }
    world.pause(rng, 2_000).await;
    for place in places {
        world.open_house(*place).await;
    }
    if !hanging.is_empty() {
        world.pause(rng, 15_000).await;
    }
    for left in hanging {
        left.kill().await;
    }
}

/// Bodies of the hub's event stream; numbers have no gap.
async fn telemetry(world: &World) -> Vec<String> {
    let house = world.house().await;
    let hub = house.hub();
    let mut bodies = Vec::new();
    for partition in 0..hub.partition_count() {
        let records = world.insist("read the hub's stream", async |house| {
            house.streams.read(hub.event_stream(), partition, Position::Earliest, usize::MAX).await
        });
        for (number, record) in (0..).zip(records.await) {
            if record.sequence != number {
                world.fail(format!("record {number} of partition {partition} is {}", record.sequence));
            }
            bodies.push(String::from_utf8_lossy(&record.body).into_owned());
        }
    }
    bodies
}

async fn changes(world: &World) -> Vec<Event> {
    let mut all = Vec::new();
    for partition in 0..4 {
        let events = world.insist("read the changes", async |house| {
            let stream =
                house.events.stream(&event_hubs_instance(), CHANGES).ok_or("no stream".to_owned())?;
            stream.read(partition, Position::Earliest, usize::MAX).await.map_err(text)
        });
        all.extend(events.await);
    }
    all
}
