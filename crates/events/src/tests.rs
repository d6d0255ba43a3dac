//! From a batch to a stream: routes, waiting endpoints, order, and what a crash in the middle leaves.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::outbound::{self, Delivery, Message, Outbound, OutboundError};
use base::tasks::Tasks;
use base::{Clock, ConnectionString, InstanceId, Meter, Secret, Throttle, Timestamp};
use bytes::Bytes;
use parking_lot::Mutex;
use store::{Batch, Durability, Location, Options, OutboxEntry, Position, StoreError};

use crate::headers::{self, SystemProperty};
use crate::outbox::{self, Destination, Envelope};
use crate::{
    Address, Context, Endpoint, EventHubs, EventStream, EventStreamSettings, Events, Route, Target, Way, Ways,
};
use crate::{backlog, relay};

fn twins() -> InstanceId {
    InstanceId::from_stored("adt-twins-1")
}

/// Another server: takes what it is given, when it is up.
#[derive(Default)]
struct Elsewhere {
    up: Mutex<bool>,
    taken: Mutex<Vec<(outbound::Address, Message)>>,
}

impl Outbound for Elsewhere {
    fn deliver<'a>(&'a self, address: &'a outbound::Address, messages: &'a [Message]) -> Delivery<'a> {
        Box::pin(async move {
            if !*self.up.lock() {
                return Err(OutboundError::Transient("down".into()));
            }
            let named = messages.iter().map(|message| (address.clone(), message.clone()));
            self.taken.lock().extend(named);
            Ok(())
        })
    }
}

/// The event hubs of `ns`, which let everybody in or nobody.
#[derive(Default)]
struct Ours {
    closed: Mutex<bool>,
    broken: Mutex<bool>,
}

impl EventHubs for Ours {
    fn way<'a>(&'a self, address: &'a Address) -> Ways<'a> {
        Box::pin(async move {
            if *self.broken.lock() {
                return Err(StoreError::Corrupt("as the test wants".into()));
            }
            Ok(match address.host_and_entity() {
                Some((host, _)) if !host.to_ascii_lowercase().starts_with("ns.servicebus.") => Way::Elsewhere,
                Some((_, entity)) if !*self.closed.lock() => Way::Open {
                    instance: InstanceId::from_stored("eventhubs-ns-1"),
                    event_hub: entity.to_ascii_lowercase(),
                },
                _ => Way::Closed("closed".into()),
            })
        })
    }
}

/// How long a test waits for others, so that a fault fails it and does not hang it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("what the test waits for comes")
}

struct Fixture {
    events: Events,
    ours: Arc<Ours>,
    clock: Clock,
    elsewhere: Arc<Elsewhere>,
    waiting: relay::Waiting,
}

impl Fixture {
    async fn open(options: &Options) -> Self {
        let (store, streams) = test_store::open_at(options);
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000_000));
        let ours = Arc::new(Ours::default());
        let elsewhere = Arc::new(Elsewhere::default());
        let events = Events::new(Context {
            store,
            streams,
            clock: clock.clone(),
            event_hubs: Arc::clone(&ours) as Arc<dyn EventHubs>,
            tasks: Tasks::new(),
            outbound: Arc::clone(&elsewhere) as Arc<dyn Outbound>,
        });
        // The loops are run by hand, so that every step is seen.
        events.load_streams().await.unwrap();
        let waiting = relay::Waiting::default();
        Self { events, ours, clock, elsewhere, waiting }
    }

    async fn new() -> Self {
        Self::open(&test_store::options()).await
    }

    async fn event_hub(&self, name: &str) {
        let settings = EventStreamSettings {
            instance: InstanceId::from_stored("eventhubs-ns-1"),
            name: name.into(),
            namespace: Some("ns".into()),
            partition_count: 4,
            retention_seconds: 3600,
        };
        self.events.ensure_stream(settings).await.unwrap();
    }

    async fn endpoint(&self, name: &str, host: &str, entity: &str) {
        let text =
            format!("Endpoint=sb://{host}/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath={entity}");
        let target = Target::EventHub(Address::ConnectionString(ConnectionString::new(text)));
        let endpoint = Endpoint { instance: twins(), name: name.into(), target };
        self.events.ensure_endpoint(&endpoint, Batch::default()).await.unwrap();
    }

    async fn route(&self, id: &str, endpoint: &str, filter: &str) {
        let (instance, id) = (twins(), id.to_owned());
        let mut batch = Batch::default();
        batch.add(crate::route::count(&instance), 1, i64::MAX);
        batch.put(&Route { instance, id, endpoint: endpoint.into(), filter: filter.into() });
        self.events.context().store.commit(batch).await.unwrap();
    }

    async fn raise(&self, twin: &str, kind: &str, body: &str) {
        let mut headers = headers::begin();
        headers::push_system(&mut headers, SystemProperty::ContentType, "application/json");
        headers::push_application(&mut headers, "cloudEvents:type", kind);
        let envelope = Envelope {
            instance: twins(),
            partition_key: twin.into(),
            time: self.clock.now(),
            destination: Destination::Routes,
            headers,
            body: body.as_bytes().to_vec(),
        };
        let mut batch = Batch::default();
        outbox::push(&mut batch, &envelope);
        self.events.context().store.commit(batch).await.unwrap();
    }

    async fn relay(&self) {
        within(async { while relay::pass(&self.events, &self.waiting).await.unwrap() > 0 {} }).await;
    }

    async fn deliver(&self) {
        relay::deliver(&self.events, &self.waiting).await;
    }

    /// What lies in an event hub: all partitions, each in order.
    async fn bodies(&self, name: &str) -> Vec<String> {
        let hub = self.events.event_hub("NS", name).unwrap();
        let mut bodies = Vec::new();
        for partition in 0..hub.partition_count() {
            for event in hub.read(partition, Position::Earliest, 1000).await.unwrap() {
                assert_eq!(hub.partition_of(&event.partition_key), partition);
                bodies.push(String::from_utf8(event.body.to_vec()).unwrap());
            }
        }
        bodies
    }

    async fn outbox_len(&self) -> usize {
        self.events.context().store.outbox(0, 1000).await.unwrap().len()
    }
}

#[tokio::test]
async fn an_event_reaches_the_event_hub_that_its_route_names() {
    let fixture = Fixture::new().await;
    fixture.event_hub("events").await;
    fixture.endpoint("e1", "ns.servicebus.localhost", "Events").await;
    fixture.route("r1", "e1", "type = 'Update' AND $body.modelId = 'dtmi:a;1'").await;
    fixture.raise("room1", "Update", r#"{"modelId":"dtmi:a;1"}"#).await;
    fixture.raise("room1", "Update", r#"{"modelId":"dtmi:b;1"}"#).await;
    fixture.raise("room1", "Create", r#"{"modelId":"dtmi:a;1"}"#).await;
    fixture.relay().await;
    assert_eq!(fixture.bodies("events").await, [r#"{"modelId":"dtmi:a;1"}"#]);
    assert_eq!(fixture.outbox_len().await, 0);
    let hub = fixture.events.event_hub("ns", "events").unwrap();
    let partition = hub.partition_of("room1");
    let event = hub.read(partition, Position::Earliest, 1).await.unwrap().remove(0);
    let expected = [
        headers::Property::System(SystemProperty::ContentType, "application/json"),
        headers::Property::Application("cloudEvents:type", "Update"),
    ];
    assert_eq!(event.properties().collect::<Vec<_>>(), expected);
    assert_eq!(event.enqueued_time, fixture.clock.now());
}

#[tokio::test]
async fn each_matching_route_brings_the_event_and_no_route_brings_none() {
    let fixture = Fixture::new().await;
    fixture.event_hub("a").await;
    fixture.event_hub("b").await;
    fixture.endpoint("e1", "ns.servicebus.localhost:5671", "a").await;
    fixture.endpoint("e2", "ns.servicebus.localhost", "b").await;
    fixture.raise("room1", "Update", "\"before any route\"").await;
    fixture.relay().await;
    fixture.route("r1", "e1", "true").await;
    fixture.route("r2", "e2", "true").await;
    fixture.route("r3", "e2", "false").await;
    fixture.route("r4", "gone", "true").await;
    fixture.raise("room1", "Update", "1").await;
    fixture.relay().await;
    assert_eq!((fixture.bodies("a").await, fixture.bodies("b").await), (vec!["1".into()], vec!["1".into()]));
}

#[tokio::test]
async fn events_of_a_key_keep_their_order() {
    let fixture = Fixture::new().await;
    fixture.event_hub("events").await;
    fixture.endpoint("e1", "ns.servicebus.localhost", "events").await;
    fixture.route("r1", "e1", "true").await;
    for number in 0..1200 {
        fixture.raise("room1", "Update", &number.to_string()).await;
    }
    fixture.relay().await;
    let expected: Vec<_> = (0..1200).map(|number| number.to_string()).collect();
    let hub = fixture.events.event_hub("ns", "events").unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < expected.len() {
        let from = Position::Sequence(bodies.len() as u64);
        let events = hub.read(hub.partition_of("room1"), from, 1000).await.unwrap();
        assert!(!events.is_empty());
        bodies.extend(events.into_iter().map(|event| String::from_utf8(event.body.to_vec()).unwrap()));
    }
    assert_eq!(bodies, expected);
}

#[tokio::test]
async fn a_relay_that_repeats_itself_after_a_crash_stores_nothing_twice() {
    if !test_store::runs_embedded("a database moves events in one transaction and keeps no ids of appends") {
        return;
    }
    let fixture = Fixture::new().await;
    fixture.event_hub("events").await;
    fixture.endpoint("e1", "ns.servicebus.localhost", "events").await;
    fixture.route("r1", "e1", "true").await;
    fixture.raise("room1", "Update", "1").await;
    fixture.raise("room2", "Update", "2").await;
    let rows = fixture.events.context().store.outbox(0, 10).await.unwrap();
    fixture.relay().await;
    let before = fixture.bodies("events").await;
    // The streams had been written, the outbox had not been cleared.
    for row in rows {
        let hub = fixture.events.event_hub("ns", "events").unwrap();
        let envelope = Envelope::decode(&row.instance, &row.partition_key, &row.payload).unwrap();
        let record = store::NewRecord {
            time: envelope.time,
            key: envelope.partition_key.clone(),
            headers: envelope.headers.into(),
            body: envelope.body.into(),
        };
        let source = relay::source_of(&twins(), "e1", "r1");
        let partition = hub.partition_of(&envelope.partition_key);
        let streams = &fixture.events.context().streams;
        streams.append_once(hub.id(), partition, source, vec![(row.id, record)]).await.unwrap();
    }
    assert_eq!(fixture.bodies("events").await, before);
    assert_eq!(before.len(), 2);
}

#[tokio::test]
async fn an_event_hub_that_comes_later_gets_what_waited_for_it_in_order() {
    let fixture = Fixture::new().await;
    fixture.endpoint("e1", "ns.servicebus.localhost", "later").await;
    fixture.route("r1", "e1", "true").await;
    for number in 0..3 {
        fixture.raise("room1", "Update", &number.to_string()).await;
    }
    fixture.relay().await;
    fixture.deliver().await;
    assert_eq!(fixture.outbox_len().await, 0);
    fixture.event_hub("later").await;
    // It waits behind the others although its way is free by now.
    fixture.raise("room1", "Update", "3").await;
    fixture.relay().await;
    assert_eq!(fixture.bodies("later").await, [""; 0]);
    fixture.clock.advance(Duration::from_mins(2));
    fixture.deliver().await;
    fixture.raise("room1", "Update", "4").await;
    fixture.relay().await;
    assert_eq!(fixture.bodies("later").await, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn an_endpoint_that_is_down_holds_up_no_other_and_is_tried_less_and_less_often() {
    let fixture = Fixture::new().await;
    fixture.event_hub("events").await;
    fixture.endpoint("own", "ns.servicebus.localhost", "events").await;
    fixture.endpoint("far", "far.servicebus.example.test", "topic").await;
    fixture.route("r1", "own", "true").await;
    fixture.route("r2", "far", "true").await;
    fixture.raise("room1", "Update", "1").await;
    fixture.relay().await;
    fixture.deliver().await;
    assert_eq!(fixture.bodies("events").await, ["1"]);
    *fixture.elsewhere.up.lock() = true;
    // Not due yet.
    fixture.deliver().await;
    assert!(fixture.elsewhere.taken.lock().is_empty());
    fixture.clock.advance(Duration::from_secs(2));
    fixture.deliver().await;
    let taken = fixture.elsewhere.taken.lock().clone();
    assert_eq!(taken.len(), 1);
    let (address, message) = &taken[0];
    let outbound::Address::EventHub(place) = address else { panic!("{address}") };
    assert_eq!(place.endpoint_host(), Some("far.servicebus.example.test"));
    assert!(place.expose().contains(";SharedAccessKey=k;"), "an adapter gets in");
    assert!(!format!("{address} {address:?}").contains("SharedAccessKey=k"), "a log does not");
    assert_eq!((&*message.partition_key, &*message.content_type), ("room1", "application/json"));
    assert_eq!(message.properties, [("cloudEvents:type".to_owned(), "Update".to_owned())]);
    fixture.raise("room1", "Update", "2").await;
    fixture.relay().await;
    fixture.deliver().await;
    assert_eq!(fixture.elsewhere.taken.lock().len(), 2);
}

#[tokio::test]
async fn what_no_endpoint_takes_for_a_day_is_given_up() {
    let fixture = Fixture::new().await;
    fixture.endpoint("far", "far.servicebus.example.test", "topic").await;
    fixture.route("r1", "far", "true").await;
    fixture.raise("room1", "Update", "old").await;
    fixture.relay().await;
    fixture.clock.advance(Duration::from_hours(25));
    fixture.raise("room1", "Update", "new").await;
    fixture.relay().await;
    fixture.deliver().await;
    *fixture.elsewhere.up.lock() = true;
    fixture.clock.advance(Duration::from_mins(2));
    fixture.deliver().await;
    let bodies: Vec<_> =
        fixture.elsewhere.taken.lock().iter().map(|(_, message)| message.body.clone()).collect();
    assert_eq!(bodies, [b"new"]);
}

#[tokio::test]
async fn removing_an_endpoint_forgets_what_waits_for_it() {
    let fixture = Fixture::new().await;
    fixture.endpoint("far", "far.servicebus.example.test", "topic").await;
    fixture.route("r1", "far", "true").await;
    fixture.raise("room1", "Update", "1").await;
    fixture.relay().await;
    fixture.events.remove_endpoint(&twins(), "far").await.unwrap();
    *fixture.elsewhere.up.lock() = true;
    fixture.clock.advance(Duration::from_mins(2));
    fixture.deliver().await;
    assert!(fixture.elsewhere.taken.lock().is_empty());
}

#[tokio::test]
async fn streams_and_waiting_events_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = test_store::options_in(directory.path());
    let fixture = Fixture::open(&options).await;
    fixture.event_hub("events").await;
    fixture.endpoint("own", "ns.servicebus.localhost", "events").await;
    fixture.endpoint("far", "far.servicebus.example.test", "topic").await;
    fixture.route("r1", "own", "true").await;
    fixture.route("r2", "far", "true").await;
    fixture.raise("room1", "Update", "1").await;
    fixture.relay().await;
    drop(fixture);
    let fixture = Fixture::open(&options).await;
    fixture.relay().await;
    assert_eq!(fixture.bodies("events").await, ["1"]);
    *fixture.elsewhere.up.lock() = true;
    fixture.deliver().await;
    assert_eq!(fixture.elsewhere.taken.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_over_finds_what_waits_and_keeps_its_order() {
    let Some(database) = test_postgres::database() else { return };
    let location = Location::Postgres(Secret::new(database.url()));
    let options = Options::new(location, Durability::Relaxed);
    let here = Fixture::open(&options).await;
    let there = Fixture::open(&options).await;
    *here.ours.closed.lock() = true;
    here.event_hub("events").await;
    here.endpoint("own", "ns.servicebus.localhost", "events").await;
    here.route("r", "own", "true").await;
    // The first who looks has the lanes.
    here.relay().await;
    for body in ["1", "2"] {
        here.raise("room1", "Update", body).await;
    }
    there.relay().await;
    assert_eq!(here.outbox_len().await, 2, "the lanes are the first one's");
    here.relay().await;
    assert_eq!(here.outbox_len().await, 0, "they are parked");
    here.raise("room1", "Update", "3").await;
    for fixture in [&here, &there] {
        backlog::measure(&fixture.events, &fixture.waiting).await.unwrap();
        assert_eq!(fixture.events.backlog().endpoints_waiting(), 1, "whoever relays, both know what waits");
    }

    database.query("UPDATE twinhub.lease SET node = -1, until = now() - interval '1 second'");
    // The first one has lost the lanes, and does not know it yet. Who comes now has parked nothing itself.
    let next = Fixture::open(&options).await;
    next.relay().await;
    assert_eq!(here.outbox_len().await, 0, "what comes behind events that wait waits too");
    here.deliver().await;
    next.deliver().await;
    assert_eq!(next.bodies("events").await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_asks_the_store_before_it_takes_a_stream_for_gone() {
    let Some(database) = test_postgres::database() else { return };
    let location = Location::Postgres(Secret::new(database.url()));
    let options = Options::new(location, Durability::Relaxed);
    let here = Fixture::open(&options).await;
    let there = Fixture::open(&options).await;
    there.events.ensure_stream(own_stream()).await.unwrap();
    let envelope = Envelope {
        instance: twins(),
        partition_key: "dev1".into(),
        time: there.clock.now(),
        destination: Destination::Stream("messages/events".into()),
        headers: headers::begin(),
        body: b"twin changed".to_vec(),
    };
    let mut batch = Batch::default();
    outbox::push(&mut batch, &envelope);
    there.events.context().store.commit(batch).await.unwrap();
    here.relay().await;
    let stream = there.events.stream(&twins(), "messages/events").unwrap();
    let partition = stream.partition_of("dev1");
    assert_eq!(stream.read(partition, Position::Earliest, 9).await.unwrap()[0].body, "twin changed");
}

#[tokio::test]
async fn an_event_for_a_stream_of_its_instance_needs_no_route() {
    let fixture = Fixture::new().await;
    let stream = fixture.events.ensure_stream(own_stream()).await.unwrap();
    let envelope = Envelope {
        instance: twins(),
        partition_key: "dev1".into(),
        time: fixture.clock.now(),
        destination: Destination::Stream("messages/events".into()),
        headers: headers::begin(),
        body: b"twin changed".to_vec(),
    };
    let mut batch = Batch::default();
    outbox::push(&mut batch, &envelope);
    // Something that is no envelope is in front of it.
    let broken = OutboxEntry { instance: twins(), partition_key: "x".into(), payload: b"broken".to_vec() };
    let mut first = Batch::default();
    first.outbox(broken);
    fixture.events.context().store.commit(first).await.unwrap();
    fixture.events.context().store.commit(batch).await.unwrap();
    fixture.relay().await;
    let partition = stream.partition_of("dev1");
    assert_eq!(stream.read(partition, Position::Earliest, 9).await.unwrap()[0].body, "twin changed");
    // Retention forgets it.
    fixture.clock.advance(Duration::from_secs(61));
    fixture.events.trim_streams().await;
    assert_eq!(stream.read(partition, Position::Earliest, 9).await.unwrap(), []);
    fixture.events.remove_instance(&twins()).await.unwrap();
    assert!(fixture.events.streams_of(&twins()).is_empty());
}

fn own_stream() -> EventStreamSettings {
    EventStreamSettings {
        instance: twins(),
        name: "messages/events".into(),
        namespace: None,
        partition_count: 2,
        retention_seconds: 60,
    }
}

/// Pushes an event for the instance's own stream, and one for whoever its routes name.
async fn raise_both(events: &Events, key: &str) {
    let mut batch = Batch::default();
    for destination in [Destination::Stream("messages/events".into()), Destination::Routes] {
        let envelope = Envelope {
            instance: twins(),
            partition_key: key.into(),
            time: Timestamp::from_unix_seconds(1_000_000),
            destination,
            headers: headers::begin(),
            body: b"busy".to_vec(),
        };
        outbox::push(&mut batch, &envelope);
    }
    events.context().store.commit(batch).await.unwrap();
}

/// Fifteen runs, each with another moment of removal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_removed_under_writers_leaves_no_stream_behind() {
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    for round in 0..15_u64 {
        let mixed = seed.wrapping_add(round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let fixture = Fixture::new().await;
        fixture.event_hub("events").await;
        fixture.endpoint("e1", "ns.servicebus.localhost", "events").await;
        fixture.route("r1", "e1", "true").await;
        let events = fixture.events.clone();
        let stream = events.ensure_stream(own_stream()).await.unwrap();
        events.start().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..3 {
            let (events, stream, stop) = (events.clone(), stream.clone(), Arc::clone(&stop));
            writers.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let record = store::NewRecord {
                        time: Timestamp::UNIX_EPOCH,
                        key: format!("dev{writer}"),
                        headers: headers::begin().into(),
                        body: "busy".into(),
                    };
                    // Refused once the stream is gone, and never bringing it back.
                    let _ = stream.append(record).await;
                    raise_both(&events, "room1").await;
                }
            });
        }
        for _ in 0..mixed >> 59 {
            raise_both(&events, "room2").await;
        }
        events.remove_instance(&twins()).await.unwrap();
        for _ in 0..5 {
            raise_both(&events, "room3").await;
        }
        stop.store(true, Ordering::SeqCst);
        within(writers.join_all()).await;
        events.context().store.remove_instance(&twins()).await.unwrap();
        let settled = async {
            while fixture.outbox_len().await > 0 {
                tokio::task::yield_now().await;
            }
        };
        within(settled).await;
        assert_eq!(events.context().streams.of_instance(&twins()).await.unwrap(), [], "round {round}");
        assert_eq!(events.context().tasks.drain(Duration::from_secs(5)).await, 0);
    }
}

#[tokio::test]
async fn an_event_for_a_stream_that_is_gone_is_settled() {
    let fixture = Fixture::new().await;
    fixture.events.ensure_stream(own_stream()).await.unwrap();
    raise_both(&fixture.events, "room1").await;
    fixture.events.remove_instance(&twins()).await.unwrap();
    fixture.relay().await;
    assert_eq!(fixture.outbox_len().await, 0);
    assert_eq!(fixture.events.context().streams.all().await.unwrap(), []);
}

#[tokio::test]
async fn a_start_ends_what_a_crash_left_of_a_creation_or_a_removal() {
    let directory = tempfile::tempdir().unwrap();
    let options = test_store::options_in(directory.path());
    let fixture = Fixture::open(&options).await;
    fixture.events.ensure_stream(own_stream()).await.unwrap();
    // A removal that came as far as the record, and a creation that did.
    let orphan = store::StreamId::new(&InstanceId::from_stored("hub-gone"), "messages/events");
    fixture.events.context().streams.ensure(&orphan, 4).await.unwrap();
    let promised = EventStreamSettings { name: "promised".into(), ..own_stream() };
    let mut batch = Batch::default();
    batch.put(&promised);
    fixture.events.context().store.commit(batch).await.unwrap();
    drop(fixture);
    let fixture = Fixture::open(&options).await;
    let names: Vec<_> =
        fixture.events.context().streams.all().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["adt-twins-1/messages/events", "adt-twins-1/promised"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_running_relay_needs_no_push() {
    let fixture = Fixture::new().await;
    fixture.event_hub("events").await;
    fixture.endpoint("e1", "ns.servicebus.localhost", "events").await;
    fixture.route("r1", "e1", "true").await;
    fixture.events.start().await.unwrap();
    let hub = fixture.events.event_hub("ns", "events").unwrap();
    let mut tail = hub.tail(hub.partition_of("room1")).await.unwrap();
    for number in 1..=3 {
        fixture.raise("room1", "Update", &number.to_string()).await;
        within(tail.wait_for(|next| *next == number)).await.unwrap();
    }
    assert_eq!(fixture.events.context().tasks.drain(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn events_wait_in_order_while_their_endpoint_is_kept_out() {
    let fixture = Fixture::new().await;
    fixture.event_hub("events").await;
    fixture.endpoint("e", "ns.servicebus.localhost", "events").await;
    fixture.route("r", "e", "true").await;
    fixture.raise("room", "kind", "1").await;
    fixture.relay().await;
    *fixture.ours.closed.lock() = true;
    fixture.raise("room", "kind", "2").await;
    fixture.relay().await;
    fixture.deliver().await;
    fixture.raise("room", "kind", "3").await;
    fixture.relay().await;
    assert_eq!(fixture.bodies("events").await, ["1"]);

    *fixture.ours.closed.lock() = false;
    fixture.raise("room", "kind", "4").await;
    fixture.relay().await;
    assert_eq!(fixture.bodies("events").await, ["1"], "behind those that wait");
    fixture.clock.advance(Duration::from_secs(60));
    fixture.deliver().await;
    assert_eq!(fixture.bodies("events").await, ["1", "2", "3", "4"]);
    assert_eq!(fixture.elsewhere.taken.lock().len(), 0, "what is refused here is not tried elsewhere");
}

#[tokio::test]
async fn a_wall_clock_that_is_wrong_for_a_minute_takes_no_event_and_gives_none_up() {
    let fixture = Fixture::new().await;
    fixture.event_hub("near").await;
    fixture.endpoint("near", "ns.servicebus.windows.net", "near").await;
    fixture.endpoint("far", "far.servicebus.example.test", "topic").await;
    fixture.route("r1", "near", "true").await;
    fixture.route("r2", "far", "true").await;
    fixture.raise("room1", "Update", "kept").await;
    fixture.relay().await;
    fixture.clock.step(3 * 24 * 3600);
    for _ in 0..3 {
        fixture.events.trim_streams().await;
        fixture.deliver().await;
        fixture.clock.advance(Duration::from_secs(30));
    }
    fixture.clock.step(-3 * 24 * 3600);
    fixture.events.trim_streams().await;
    assert_eq!(fixture.bodies("near").await, ["kept"]);
    *fixture.elsewhere.up.lock() = true;
    fixture.clock.advance(Duration::from_mins(2));
    fixture.deliver().await;
    assert_eq!(fixture.elsewhere.taken.lock().len(), 1);
    // An hour later what is old goes as ever.
    fixture.clock.advance(Duration::from_hours(2));
    fixture.events.trim_streams().await;
    assert_eq!(fixture.bodies("near").await, [""; 0]);
}

#[tokio::test]
async fn a_change_that_nobody_listens_to_costs_no_row_and_a_relayed_one_no_commit() {
    let fixture = Fixture::new().await;
    fixture.event_hub("h").await;
    fixture.endpoint("e", "ns.servicebus.localhost", "h").await;
    fixture.raise("a", "k", "unheard").await;
    assert_eq!(fixture.outbox_len().await, 0);
    fixture.route("r", "e", "true").await;
    fixture.raise("a", "k", "heard").await;
    assert_eq!(fixture.outbox_len().await, 1);
    let commits = fixture.events.context().store.commits_total();
    fixture.relay().await;
    assert_eq!(fixture.bodies("h").await, ["heard"]);
    assert_eq!(fixture.outbox_len().await, 0);
    assert_eq!(fixture.events.context().store.commits_total(), commits);
}

#[tokio::test]
async fn a_route_hears_of_everything_that_is_changed_after_it_was_made_whoever_is_writing_meanwhile() {
    let fixture = Fixture::new().await;
    fixture.event_hub("h").await;
    fixture.endpoint("e", "ns.servicebus.localhost", "h").await;
    let made = std::sync::atomic::AtomicBool::new(false);
    let after = parking_lot::Mutex::new(Vec::new());
    let write = async |writer: usize| {
        for number in 0..20 {
            let body = format!("{writer}-{number}");
            let must_be_heard = made.load(std::sync::atomic::Ordering::SeqCst);
            fixture.raise("a", "k", &body).await;
            if must_be_heard {
                after.lock().push(body);
            }
        }
    };
    let listen = async {
        fixture.raise("b", "k", "before").await;
        fixture.route("r", "e", "true").await;
        made.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    tokio::join!(write(0), write(1), write(2), write(3), listen);
    fixture.relay().await;
    let heard = fixture.bodies("h").await;
    let after = after.into_inner();
    assert!(!after.is_empty());
    assert!(after.iter().all(|body| heard.contains(body)), "{after:?}, heard {heard:?}");
}

/// An event of another instance, which goes to its own stream.
async fn raise_for_other(fixture: &Fixture, key: &str, body: &str) {
    let envelope = Envelope {
        instance: InstanceId::from_stored("hub-other"),
        partition_key: key.into(),
        time: fixture.clock.now(),
        destination: Destination::Stream("messages/events".into()),
        headers: headers::begin(),
        body: body.as_bytes().to_vec(),
    };
    let mut batch = Batch::default();
    outbox::push(&mut batch, &envelope);
    fixture.events.context().store.commit(batch).await.unwrap();
}

async fn other_stream(fixture: &Fixture) -> EventStream {
    let instance = InstanceId::from_stored("hub-other");
    let settings = EventStreamSettings { instance, partition_count: 1, ..own_stream() };
    fixture.events.ensure_stream(settings).await.unwrap()
}

async fn bodies_of(stream: &EventStream) -> Vec<Bytes> {
    let events = stream.read(0, Position::Earliest, 1000).await.unwrap();
    events.into_iter().map(|event| event.body).collect()
}

#[tokio::test]
async fn an_instance_whose_events_fail_holds_up_nobody_else_however_many_there_are() {
    let fixture = Fixture::new().await;
    let other = other_stream(&fixture).await;
    fixture.event_hub("h").await;
    fixture.endpoint("e", "ns.servicebus.localhost", "h").await;
    fixture.route("r", "e", "true").await;
    *fixture.ours.broken.lock() = true;
    // More than one pass looks at.
    let many = base::caps::OUTBOX_CLAIM_MAX + 20;
    for number in 0..many {
        fixture.raise("room1", "k", &number.to_string()).await;
    }
    raise_for_other(&fixture, "dev1", "first").await;
    for _ in 0..3 {
        fixture.relay().await;
    }
    assert_eq!(bodies_of(&other).await, ["first"]);
    raise_for_other(&fixture, "dev1", "second").await;
    fixture.relay().await;
    assert_eq!(bodies_of(&other).await, ["first", "second"]);
    assert_eq!(fixture.outbox_len().await, many, "what failed is kept");
    *fixture.ours.broken.lock() = false;
    fixture.clock.advance(Duration::from_secs(1));
    for _ in 0..3 {
        fixture.relay().await;
    }
    let expected: Vec<String> = (0..many).map(|number| number.to_string()).collect();
    assert_eq!(fixture.bodies("h").await, expected, "all of it, in order");
    assert_eq!(fixture.outbox_len().await, 0);
}

#[tokio::test]
async fn an_event_that_the_log_can_never_hold_goes_alone() {
    let fixture = Fixture::new().await;
    let other = other_stream(&fixture).await;
    raise_for_other(&fixture, "dev1", "before").await;
    raise_for_other(&fixture, &"k".repeat(base::caps::LOG_NAME_BYTES_MAX + 1), "too much").await;
    raise_for_other(&fixture, "dev1", "after").await;
    fixture.relay().await;
    assert_eq!(bodies_of(&other).await, ["before", "after"]);
    assert_eq!(fixture.outbox_len().await, 0);
}

#[tokio::test]
async fn an_instance_for_which_too_much_waits_is_throttled_until_it_goes() {
    let fixture = Fixture::new().await;
    fixture.endpoint("far", "far.servicebus.example.test", "topic").await;
    fixture.route("r", "far", "true").await;
    let throttle = Throttle::with(Arc::new(fixture.events.backlog().clone()));
    let charge = |meter, instance: &InstanceId| throttle.charge(meter, instance).is_ok();
    let half = "x".repeat(usize::try_from(base::caps::EVENTS_WAITING_BYTES_MAX / 2).unwrap());
    fixture.raise("room1", "k", &half).await;
    fixture.relay().await;
    // One half is parked for its endpoint, the other is still in the outbox.
    fixture.raise("room1", "k", &half).await;
    let measure = async || backlog::measure(&fixture.events, &fixture.waiting).await.unwrap();
    measure().await;
    assert!(fixture.events.backlog().bytes() >= base::caps::EVENTS_WAITING_BYTES_MAX);
    assert!(!charge(Meter::DigitalTwinWrite, &twins()), "what would raise more is throttled");
    assert!(charge(Meter::DigitalTwinRead, &twins()) && charge(Meter::EventRoute, &twins()));
    assert!(charge(Meter::DigitalTwinWrite, &InstanceId::from_stored("adt-other-1")));
    *fixture.elsewhere.up.lock() = true;
    fixture.relay().await;
    fixture.deliver().await;
    measure().await;
    assert_eq!(fixture.events.backlog().bytes(), 0);
    assert!(charge(Meter::DigitalTwinWrite, &twins()));
    assert_eq!(fixture.elsewhere.taken.lock().len(), 2, "and nothing was lost");
}
