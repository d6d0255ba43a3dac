//! Lives of instances, their ends above all: cut off at every step and finished by the next start.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use base::Timestamp;
use base::hosts::{Dialled, Host, NoMachine};
use parking_lot::Mutex as Lock;

use super::*;
use crate::memory::Database;
use crate::streams::{NewRecord, StreamId, Streams};
use crate::{Counter, Durability, Location, Options, OutboxEntry};

const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct House {
    instance: InstanceId,
    name: String,
    floors: u32,
    color: String,
    is_default: bool,
}

impl Record for House {
    const TABLE: Table = table::HUB;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

impl Settings for House {
    const SERVICE: Service = Service::Hub;

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> &'static str {
        "eastus"
    }

    fn is_default(&self) -> bool {
        self.is_default
    }

    fn set_default(&mut self, is_default: bool) {
        self.is_default = is_default;
    }

    fn keep(&mut self, old: &Self) {
        self.floors = old.floors;
    }
}

fn house(name: &str, floors: u32, color: &str) -> House {
    let instance = InstanceId::from_stored(format!("house-{name}"));
    House { instance, name: name.to_owned(), floors, color: color.to_owned(), is_default: false }
}

/// A window, which nobody may add to a house that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    instance: InstanceId,
    id: String,
}

impl Record for Window {
    const TABLE: Table = table::THING;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.id, ""])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![None, None]
    }
}

struct Builder {
    clock: Clock,
    store: Store,
    streams: Streams,
    /// How often the streams cannot be removed.
    failures: Lock<u32>,
    /// What came of a write while its house was drained.
    late_writes: Lock<Vec<Result<(), CommitError>>>,
    /// What happens elsewhere before anything is prepared here.
    elsewhere: Lock<Option<Elsewhere>>,
}

type Elsewhere = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Kind for Builder {
    type Settings = House;
    type Instance = Current<House>;

    fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn prepare(&self, settings: &House) -> Result<(), StoreError> {
        let elsewhere = self.elsewhere.lock().take();
        if let Some(happens) = elsewhere {
            happens.await;
        }
        self.streams.ensure(&StreamId::new(&settings.instance, "door"), 1).await
    }

    fn start(&self, settings: Current<House>) -> Current<House> {
        settings
    }

    async fn drain(&self, house: &Current<House>) {
        let written = add_window(&self.store, &house.get().instance, "late").await;
        self.late_writes.lock().push(written);
    }

    async fn remove_streams(&self, instance: &InstanceId) -> Result<(), StoreError> {
        assert_eq!(outbox_of(&self.store, instance).await, 0, "the relay would make the stream anew");
        if *self.failures.lock() > 0 {
            *self.failures.lock() -= 1;
            return Err(StoreError::Unavailable("as the test wants it".into()));
        }
        self.streams.remove(&StreamId::new(instance, "door")).await
    }
}

async fn add_window(store: &Store, instance: &InstanceId, id: &str) -> Result<(), CommitError> {
    let mut batch = Batch::default();
    batch.guard_exists::<House>(Key::instance(instance));
    batch.put(&Window { instance: instance.clone(), id: id.to_owned() });
    batch.add(Counter::new(instance, "windows"), 1, 1000);
    let entry = OutboxEntry { instance: instance.clone(), partition_key: id.to_owned(), payload: vec![1] };
    batch.outbox(entry);
    store.commit(batch).await.map(drop)
}

async fn outbox_of(store: &Store, instance: &InstanceId) -> usize {
    store.outbox(0, 1000).await.unwrap().iter().filter(|row| row.instance == *instance).count()
}

fn open(options: &Options) -> (Instances<Builder>, Hosts) {
    let hosts = Hosts::new("localhost", 443, NoMachine);
    let (store, streams) = (Store::open(options).unwrap(), Streams::open(options).unwrap());
    (over(&Clock::manual(START), &store, &streams, &hosts), hosts)
}

/// All houses as one process knows them.
fn over(clock: &Clock, store: &Store, streams: &Streams, hosts: &Hosts) -> Instances<Builder> {
    let (failures, late_writes, elsewhere) = (Lock::default(), Lock::default(), Lock::default());
    let (clock, store, streams) = (clock.clone(), store.clone(), streams.clone());
    let builder = Builder { clock, store: store.clone(), streams, failures, late_writes, elsewhere };
    Instances::new(builder, store, hosts.clone())
}

/// What was cut off may still be busy in a thread of its own, which a crash would have ended, and keeps the directory until it is done.
async fn open_after_cut(options: &Options) -> (Instances<Builder>, Hosts) {
    let released = async {
        let is_held = |opened: Result<(), StoreError>| matches!(opened, Err(StoreError::InUse(_)));
        while is_held(Store::open(options).map(drop)) || is_held(Streams::open(options).map(drop)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), released).await.expect("the directory is let go");
    open(options)
}

/// A house with something in every place that a house has.
async fn furnish(houses: &Instances<Builder>, name: &str) -> InstanceId {
    let house = houses.ensure(house(name, 2, "red")).await.unwrap().get();
    for id in ["north", "south"] {
        add_window(&houses.kind().store, &house.instance, id).await.unwrap();
    }
    let record = NewRecord {
        time: base::Timestamp::UNIX_EPOCH,
        key: "k".into(),
        headers: bytes::Bytes::new(),
        body: bytes::Bytes::from_static(b"knock"),
    };
    houses.kind().streams.append(&StreamId::new(&house.instance, "door"), 0, vec![record]).await.unwrap();
    house.instance.clone()
}

/// How many records, counts, waiting events and streams a house has.
async fn left_of(houses: &Instances<Builder>, instance: &InstanceId) -> [usize; 5] {
    let Builder { store, streams, .. } = houses.kind();
    let windows = store.count::<Window>(&Key::instance(instance)).await.unwrap();
    let counted = store.counter(&Counter::new(instance, "windows")).await.unwrap();
    [
        usize::from(store.get::<House>(&Key::instance(instance)).await.unwrap().is_some()),
        usize::try_from(windows).unwrap(),
        usize::try_from(counted).unwrap(),
        outbox_of(store, instance).await,
        streams.of_instance(instance).await.unwrap().len(),
    ]
}

/// Runs a future until it has waited so often, and drops it there, as a crash would.
async fn run_until_cut<T>(work: impl Future<Output = T>, waits: usize) -> Option<T> {
    let (mut work, mut waited) = (pin!(work), 0);
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_removal_that_was_cut_off_anywhere_is_finished_by_the_next_start() {
    for waits in 0.. {
        assert!(waits < 1000, "the removal never ended");
        let directory = tempfile::tempdir().unwrap();
        let location = Location::File(directory.path().to_owned());
        let options = Options::new(location, Durability::Relaxed);
        let (houses, _) = open(&options);
        let (gone, kept) = (furnish(&houses, "gone").await, furnish(&houses, "kept").await);
        let removed = run_until_cut(houses.remove(&gone), waits).await;
        drop(houses);

        let (houses, hosts) = open_after_cut(&options).await;
        houses.load().await.unwrap();
        if houses.find("gone").is_some() {
            assert_eq!(waits, 0, "only what was not written yet may be as before");
            houses.remove(&gone).await.unwrap();
        }
        assert_eq!(left_of(&houses, &gone).await, [0; 5], "cut after {waits} waits");
        assert_eq!(hosts.resolve("gone.azure-devices.localhost", None), Host::UnknownInstance(Service::Hub));
        assert_eq!(left_of(&houses, &kept).await, [1, 2, 2, 2, 1]);
        assert!(houses.find("KEPT").is_some() && houses.get(&kept).is_some());
        // Whoever asked for the removal asks again, for nobody told them that it was done.
        houses.remove(&gone).await.unwrap();
        if removed.is_some() {
            return;
        }
    }
}

#[tokio::test]
async fn a_removal_that_failed_half_way_can_be_repeated_and_forgets_the_host_in_the_end() {
    let (houses, hosts) = open(&Options::memory());
    let instance = furnish(&houses, "h").await;
    *houses.kind().failures.lock() = 1;
    assert!(houses.remove(&instance).await.is_err());
    assert!(houses.find("h").is_none() && houses.get(&instance).is_none() && houses.all().is_empty());
    houses.remove(&instance).await.unwrap();
    assert_eq!(left_of(&houses, &instance).await, [0; 5]);
    assert_eq!(hosts.all(&Dialled::here()), []);
}

#[tokio::test]
async fn nothing_is_written_any_more_into_an_instance_that_is_ending() {
    let (houses, _) = open(&Options::memory());
    let instance = furnish(&houses, "h").await;
    houses.remove(&instance).await.unwrap();
    assert_eq!(*houses.kind().late_writes.lock(), [Err(CommitError::Conflict)]);
    assert_eq!(left_of(&houses, &instance).await, [0; 5]);
}

#[tokio::test]
async fn nothing_is_left_of_an_instance_that_was_removed_elsewhere_while_it_was_made_here() {
    let (houses, _) = open(&Options::memory());
    let settings = house("h", 2, "red");
    houses.ensure(settings.clone()).await.unwrap();
    let Builder { clock, store, streams, elsewhere, .. } = houses.kind();
    let others = over(clock, store, streams, &Hosts::new("localhost", 443, NoMachine));
    others.load().await.unwrap();
    let id = settings.instance.clone();
    *elsewhere.lock() = Some(Box::pin(async move { others.remove(&id).await.unwrap() }));
    let made = houses.ensure(House { color: "blue".into(), ..settings.clone() }).await;
    assert_eq!(made.err(), Some(CommitError::Conflict));
    assert_eq!(left_of(&houses, &settings.instance).await, [0; 5]);
}

/// A server that hangs in the middle of making an instance goes on beside its successor, which knows of the end from a record.
#[tokio::test]
async fn an_instance_that_was_removed_elsewhere_is_not_made_again_after_a_start_there() {
    let clock = Clock::manual(START);
    let database = Database::new(clock.clone());
    let (store, hosts) = (Store::on_memory(&database), Hosts::new("localhost", 443, NoMachine));
    let streams = Streams::beside(&store, &Options::memory()).unwrap();
    let houses = over(&clock, &store, &streams, &hosts);
    let settings = house("h", 2, "red");
    houses.ensure(settings.clone()).await.unwrap();
    let others = over(&clock, &store, &streams, &Hosts::new("localhost", 443, NoMachine));
    let id = settings.instance.clone();
    *houses.kind().elsewhere.lock() = Some(Box::pin(async move {
        others.remove(&id).await.unwrap();
        others.load().await.unwrap();
    }));
    let made = houses.ensure(House { color: "blue".into(), ..settings.clone() }).await;
    assert_eq!(made.err(), Some(CommitError::Conflict));
    assert_eq!(left_of(&houses, &settings.instance).await, [0; 5]);

    let ended = async || store.count::<Ended>(&Key::all()).await.unwrap();
    clock.advance(Duration::from_secs(caps::ENDED_INSTANCE_KEPT_SECONDS.unsigned_abs()));
    houses.load().await.unwrap();
    assert_eq!(ended().await, 1);
    clock.advance(Duration::from_secs(1));
    houses.load().await.unwrap();
    assert_eq!(ended().await, 0);
}

#[tokio::test]
async fn an_instance_that_has_ended_is_never_made_again() {
    let (houses, hosts) = open(&Options::memory());
    let settings = house("h", 2, "red");
    houses.ensure(settings.clone()).await.unwrap();
    houses.remove(&settings.instance).await.unwrap();
    assert_eq!(houses.ensure(settings.clone()).await.err(), Some(CommitError::Conflict));
    assert_eq!(left_of(&houses, &settings.instance).await, [0; 5]);
    assert_eq!(hosts.all(&Dialled::here()), []);
    let other = House { instance: InstanceId::from_stored("house-h-2"), ..settings };
    houses.ensure(other.clone()).await.unwrap();
    assert_eq!(houses.find("h").unwrap().get().instance, other.instance);
}

#[tokio::test]
async fn an_existing_instance_gets_new_settings_but_keeps_what_never_changes() {
    let (houses, hosts) = open(&Options::memory());
    let before = houses.ensure(house("h", 2, "red")).await.unwrap();
    let after = houses.ensure(house("h", 9, "blue")).await.unwrap();
    assert_eq!(*after.get(), House { is_default: true, ..house("h", 2, "blue") });
    assert_eq!(*before.get(), *after.get(), "who holds the instance sees its new settings");
    assert_eq!((houses.all().len(), hosts.all(&Dialled::here()).len()), (1, 1));
    let stored = houses.kind().store.get::<House>(&after.get().key()).await.unwrap().unwrap();
    assert_eq!(stored.record, *after.get());
}

#[test]
fn settings_of_an_earlier_commit_never_replace_later_ones() {
    let at = |revision, color| Stored { record: house("h", 1, color), revision: Revision(revision) };
    let current = Current::new(at(5, "red"));
    current.offer(at(4, "older"));
    assert_eq!(current.get().color, "red");
    current.offer(at(6, "newer"));
    current.offer(at(5, "red"));
    assert_eq!(current.get().color, "newer");
}

#[tokio::test]
async fn whatever_is_made_while_there_is_no_default_is_the_default_until_its_end() {
    let (houses, hosts) = open(&Options::memory());
    let is_default = |name: &str| houses.find(name).unwrap().get().is_default;
    for name in ["first", "second"] {
        houses.ensure(house(name, 1, "red")).await.unwrap();
    }
    houses.ensure(house("first", 1, "blue")).await.unwrap();
    assert!(is_default("first") && !is_default("second"));
    let first_host = hosts.advertised(Service::Hub, "first", "", &Dialled::here());

    houses.remove(&houses.find("first").unwrap().get().instance).await.unwrap();
    assert_eq!(hosts.default_instance(Service::Hub), None);
    houses.ensure(house("second", 1, "blue")).await.unwrap();
    assert!(!is_default("second"), "what is there keeps its address");
    let again = House { instance: InstanceId::from_stored("house-first-2"), ..house("first", 1, "red") };
    houses.ensure(again).await.unwrap();
    assert!(is_default("first"));
    assert_eq!(hosts.advertised(Service::Hub, "first", "", &Dialled::here()), first_host);
}
