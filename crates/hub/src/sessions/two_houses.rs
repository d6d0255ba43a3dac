//! Two houses on one store, joined by a bus that carries everything between them as text: what one does the other sees.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base::ids::IdentityId;
use base::tasks::Tasks;
use base::{DeviceId, Elapsed, IfMatch, InstanceId, Secret, caps};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use store::sessions::Node;
use store::{Durability, Location, Options, Store};

use crate::bus::{Address, Answering, Bus, CloseReason, Delivery, InProcess, Recipient, Reply, Unreachable};
use crate::cloud_to_device::{Ack, Outcome, Properties};
use crate::device::{DeviceSpec, Status};
use crate::direct_method::MethodRequest;
use crate::testing::{TestHub, context_on, next_command, settings, system, within};
use crate::{Command, Context, Error, Hubs, Session};

const LEASE: Duration = Duration::from_hours(1);

/// A way between processes: nothing but text passes, and it can be cut.
#[derive(Default)]
struct Wire {
    ends: InProcess,
    cut: Mutex<HashSet<u32>>,
    carried: Mutex<Vec<String>>,
}

impl Wire {
    fn carry<T: Serialize + DeserializeOwned>(&self, value: &T) -> T {
        let text = serde_json::to_string(value).unwrap();
        let carried = serde_json::from_str(&text).unwrap();
        self.carried.lock().push(text);
        carried
    }

    fn reach(&self, address: &Address) -> Result<(), Unreachable> {
        if self.cut.lock().contains(&address.node.number) { Err(Unreachable) } else { Ok(()) }
    }

    fn cut(&self, node: Node, is_cut: bool) {
        let mut cut = self.cut.lock();
        if is_cut {
            cut.insert(node.number)
        } else {
            cut.remove(&node.number)
        };
    }
}

impl Bus for Wire {
    fn deliver(&self, to: Address, delivery: Delivery) -> Answering<'_, Result<Reply, Unreachable>> {
        Box::pin(async move {
            self.reach(&to)?;
            let (to, delivery) = (self.carry(&to), self.carry(&delivery));
            Ok(self.carry(&self.ends.deliver(to, delivery).await?))
        })
    }

    fn close(&self, session: Address, reason: CloseReason) -> Answering<'_, Result<(), Unreachable>> {
        Box::pin(async move {
            self.reach(&session)?;
            self.ends.close(self.carry(&session), self.carry(&reason)).await
        })
    }

    fn attach(&self, node: u32, instance: &InstanceId, recipient: Arc<dyn Recipient>) {
        self.ends.attach(node, instance, recipient);
    }

    fn detach(&self, node: u32, instance: &InstanceId) {
        self.ends.detach(node, instance);
    }
}

struct Houses {
    both: [TestHub; 2],
    nodes: [Node; 2],
    wire: Arc<Wire>,
    /// Dropped last, after those who use it.
    _database: Option<test_postgres::Database>,
}

/// The stores under test, as two processes hold each: one embedded that both share, and two on one database.
fn stores() -> Vec<([Store; 2], Option<test_postgres::Database>)> {
    let embedded = Store::open(&Options::memory()).unwrap();
    let mut all = vec![([embedded.clone(), embedded], None)];
    if let Some(database) = test_postgres::database() {
        let location = Location::Postgres(Secret::new(database.url()));
        let options = Options::new(location, Durability::Relaxed);
        let both = [Store::open(&options).unwrap(), Store::open(&options).unwrap()];
        all.push((both, Some(database)));
    }
    all
}

impl Houses {
    /// On every engine, with the device `dev1` and its module `mod1`.
    async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (stores, database) in stores() {
            all.push(Self::on(stores, database).await);
        }
        all
    }

    async fn on([first, second]: [Store; 2], database: Option<test_postgres::Database>) -> Self {
        let wire = Arc::new(Wire::default());
        let nodes =
            [first.sessions().join(LEASE).await.unwrap(), second.sessions().join(LEASE).await.unwrap()];
        let first = context_on(first);
        let second = Context { store: second, tasks: Tasks::new(), ..first.clone() };
        let houses = [house(first, nodes[0], &wire).await, house(second, nodes[1], &wire).await];
        houses[0].create_device("dev1").await;
        houses[0].create_module("dev1/mod1").await;
        Self { both: houses, nodes, wire, _database: database }
    }

    /// What both houses say, which must be the same.
    async fn connected(&self, identity: &str) -> bool {
        let mut seen = Vec::new();
        for house in &self.both {
            let is_connected = house.is_connected(&id(identity)).await.unwrap();
            assert_eq!(house.twin(identity).await.connection.connected, is_connected);
            seen.push(is_connected);
        }
        assert_eq!(seen[0], seen[1]);
        seen[0]
    }

    /// A session's end is stored behind its connection's.
    async fn ends(&self, identity: &str) {
        let ended = async {
            while self.both[0].is_connected(&id(identity)).await.unwrap() {
                tokio::task::yield_now().await;
            }
        };
        within(ended).await;
        assert!(!self.connected(identity).await);
    }

    async fn count(&self) -> u64 {
        let mut seen = Vec::new();
        for house in &self.both {
            let listed = house.list_devices(&system(), None).await.unwrap();
            let connected = house.service_statistics(&system()).await.unwrap().connected_devices;
            assert_eq!(listed.iter().filter(|view| view.connection.connected).count() as u64, connected);
            seen.push(connected);
        }
        assert_eq!(seen[0], seen[1]);
        seen[0]
    }

    async fn connect(&self, house: usize, id: &str) -> Session {
        within(self.both[house].connect(id)).await
    }
}

async fn house(context: Context, node: Node, wire: &Arc<Wire>) -> TestHub {
    let hubs = Hubs::on_bus(context.clone(), Some(node), Arc::clone(wire) as Arc<dyn Bus>);
    hubs.load().await.unwrap();
    let hub = match hubs.find("hub") {
        Some(hub) => hub,
        None => hubs.ensure(settings("hub")).await.unwrap(),
    };
    TestHub { hub, hubs, clock: context.clock.clone(), context }
}

fn id(text: &str) -> IdentityId {
    text.parse().unwrap()
}

fn reboot(connect_timeout_seconds: Option<u64>) -> MethodRequest {
    MethodRequest {
        name: "reboot".into(),
        payload: None,
        connect_timeout_seconds,
        response_timeout_seconds: None,
    }
}

async fn invoke(hub: &TestHub, request: MethodRequest) -> Result<i32, u32> {
    let answered = within(hub.invoke_method(&system(), &id("dev1"), request)).await;
    answered.map(|response| response.status).map_err(|error| error.code())
}

async fn answer(session: &Session, status: i32) {
    let Command::InvokeMethod { request_id, .. } = next_command(session).await else { panic!("no method") };
    assert!(session.hub().complete_method(session, request_id, status, Bytes::new()));
}

async fn disable(hub: &TestHub) -> Result<(), Error> {
    let spec = DeviceSpec { status: Status::Disabled, ..DeviceSpec::new("dev1".parse().unwrap()) };
    hub.put_device(&system(), &spec, &IfMatch::Any).await.map(drop)
}

#[tokio::test]
async fn a_connection_to_one_house_takes_over_from_the_other() {
    for houses in Houses::all().await {
        assert!(!houses.connected("dev1").await);
        let first = houses.connect(0, "dev1").await;
        let module = houses.connect(1, "dev1/mod1").await;
        assert!(houses.connected("dev1").await);
        assert_eq!(houses.count().await, 1);
        let second = houses.connect(1, "dev1").await;
        assert!(second.epoch() > first.epoch());
        assert_eq!(first.try_next_command(), Some(Command::Close(CloseReason::TakenOver)), "before CONNACK");
        drop(first);
        assert!(houses.connected("dev1").await, "the end of the old one is not the end of the new");
        assert_eq!((second.try_next_command(), module.try_next_command()), (None, None));
        drop(second);
        houses.ends("dev1").await;
        assert!(houses.connected("dev1/mod1").await);
        assert_eq!(houses.count().await, 0);
    }
}

#[tokio::test]
async fn many_connections_to_both_houses_leave_one() {
    for houses in Houses::all().await {
        let connect = async |house: usize| houses.connect(house, "dev1").await;
        let comes = async || tokio::join!(connect(0), connect(1), connect(1), connect(0));
        let (one, other) = tokio::join!(comes(), comes());
        let sessions = [one, other].map(|(a, b, c, d)| [a, b, c, d]).into_iter().flatten();
        let sessions: Vec<_> = sessions.collect();
        let open = sessions.iter().filter(|session| session.try_next_command().is_none());
        let open: Vec<_> = open.map(Session::epoch).collect();
        assert_eq!(open, [sessions.iter().map(Session::epoch).max().unwrap()]);
        assert!(houses.connected("dev1").await);
    }
}

#[tokio::test]
async fn a_message_reaches_the_device_whichever_house_it_is_sent_to_and_ends_once() {
    for houses in Houses::all().await {
        let [one, two] = &houses.both;
        let dev1: DeviceId = "dev1".parse().unwrap();
        let send = async |hub: &TestHub| {
            let properties = Properties { ack: Some(Ack::Full), ..Properties::default() };
            within(hub.send_to_device(&system(), &dev1, properties, Bytes::from("x"))).await.unwrap()
        };
        let waiting = async |session: &Session, under_way: Vec<u64>| {
            let found = within(session.waiting_messages(under_way)).await.unwrap();
            found.iter().map(|message| message.sequence).collect::<Vec<_>>()
        };
        let first = houses.connect(1, "dev1").await;
        first.listen_to_messages(true);
        assert_eq!(next_command(&first).await, Command::MessagesWaiting);
        for (hub, sequence) in [(one, 1), (two, 2)] {
            assert_eq!(send(hub).await, sequence);
            assert_eq!(next_command(&first).await, Command::MessagesWaiting);
        }
        assert_eq!(waiting(&first, vec![]).await, [1, 2]);
        within(first.complete_messages(vec![1])).await.unwrap();
        let second = houses.connect(0, "dev1").await;
        assert!(within(first.complete_messages(vec![2])).await.is_err(), "its successor has it");
        second.listen_to_messages(true);
        assert_eq!(waiting(&second, vec![]).await, [2]);
        send(two).await;
        one.clock.advance(Duration::from_hours(1));
        let (a, b) =
            within(async { tokio::join!(one.hubs.do_what_is_due(), two.hubs.do_what_is_due()) }).await;
        assert_eq!((a, b), (Ok(()), Ok(())));
        assert_eq!(waiting(&second, vec![]).await, Vec::<u64>::new());
        let told = two.receive_feedback(&system()).await.unwrap().unwrap().told;
        let outcomes: Vec<_> = told.iter().map(|told| told.outcome).collect();
        // That of the first is an hour old by now.
        assert!(
            outcomes.ends_with(&[Outcome::Expired, Outcome::Expired]) && outcomes.len() <= 3,
            "{outcomes:?}"
        );
        assert_eq!(one.get_device(&system(), &dev1).await.unwrap().messages, 0);
    }
}

#[tokio::test]
async fn a_method_reaches_the_device_whichever_house_is_asked() {
    for houses in Houses::all().await {
        let [one, two] = &houses.both;
        let session = houses.connect(1, "dev1").await;
        assert_eq!(invoke(one, reboot(None)).await, Err(404_103), "it does not listen");
        session.listen_to_methods(true);
        for (asked, status) in [(one, 200), (two, 201)] {
            let (result, ()) = tokio::join!(invoke(asked, reboot(None)), answer(&session, status));
            assert_eq!(result, Ok(status));
        }
        let declines = async {
            let Command::InvokeMethod { request_id, .. } = next_command(&session).await else { panic!() };
            two.decline_method(&session, request_id);
        };
        let (result, ()) = tokio::join!(invoke(one, reboot(None)), declines);
        assert_eq!(result, Err(404_103));
        let (result, ()) = tokio::join!(invoke(one, reboot(None)), async {
            next_command(&session).await;
            one.clock.advance(Duration::from_secs(caps::METHOD_RESPONSE_SECONDS_DEFAULT));
        });
        assert_eq!(result, Err(504_101));
        let (result, ()) = tokio::join!(invoke(one, reboot(None)), async {
            next_command(&session).await;
            let _newer = houses.connect(0, "dev1").await;
        });
        assert_eq!(result, Err(400_027));
        assert!(houses.wire.carried.lock().iter().any(|text| text.contains("reboot")));
    }
}

#[tokio::test]
async fn a_device_that_comes_to_the_other_house_is_waited_for() {
    for houses in Houses::all().await {
        let [one, _] = &houses.both;
        let comes = async {
            tokio::task::yield_now().await;
            let session = houses.connect(1, "dev1").await;
            session.listen_to_methods(true);
            let mut method = std::pin::pin!(session.next_command());
            let until = one.clock.elapsed().plus(Duration::from_secs(20));
            while one.clock.elapsed() < until {
                one.clock.advance(Duration::from_millis(caps::LISTENER_LOOK_MS));
                let command = tokio::time::timeout(Duration::from_millis(20), method.as_mut()).await;
                if let Ok(Command::InvokeMethod { request_id, .. }) = command {
                    assert!(session.hub().complete_method(&session, request_id, 200, Bytes::new()));
                    return one.clock.elapsed();
                }
            }
            panic!("the method has not come")
        };
        let (result, came_at): (_, Elapsed) = tokio::join!(invoke(one, reboot(Some(20))), comes);
        assert_eq!(result, Ok(200));
        assert!(came_at < Elapsed::START.plus(Duration::from_secs(5)), "not only at the end");
    }
}

#[tokio::test]
async fn changed_desired_properties_reach_the_device_at_the_other_house() {
    for houses in Houses::all().await {
        let session = houses.connect(1, "dev1").await;
        session.subscribe_desired().await.unwrap();
        houses.both[0].patch("dev1", json!({"properties": {"desired": {"a": 1}}})).await.unwrap();
        let Command::DesiredChanged { version, patch } = next_command(&session).await else { panic!() };
        assert_eq!((version, &patch[..]), (2, &br#"{"a":1,"$version":2}"#[..]));
    }
}

#[tokio::test]
async fn disabling_a_device_at_one_house_closes_it_at_the_other_before_the_answer() {
    for houses in Houses::all().await {
        let [one, two] = &houses.both;
        let sessions = [houses.connect(1, "dev1").await, houses.connect(0, "dev1/mod1").await];
        disable(one).await.unwrap();
        for session in &sessions {
            let command = session.try_next_command();
            assert_eq!(command, Some(Command::Close(CloseReason::DeviceDisabled)));
        }
        assert!(!houses.connected("dev1").await);
        assert!(!houses.connected("dev1/mod1").await);
        let authentication = one.authenticate("dev1").await;
        assert!(authentication.is_err());
        let enabled = DeviceSpec::new("dev1".parse().unwrap());
        two.put_device(&system(), &enabled, &IfMatch::Any).await.unwrap();
        let module = houses.connect(1, "dev1/mod1").await;
        one.delete_module(&system(), &id("dev1/mod1"), &IfMatch::Any).await.unwrap();
        assert_eq!(module.try_next_command(), Some(Command::Close(CloseReason::DeviceDeleted)));
        let device = houses.connect(1, "dev1").await;
        one.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
        assert_eq!(device.try_next_command(), Some(Command::Close(CloseReason::DeviceDeleted)));
    }
}

#[tokio::test]
async fn removing_a_hub_at_one_house_closes_its_sessions_at_the_other() {
    for houses in Houses::all().await {
        let [one, _] = &houses.both;
        let sessions = [houses.connect(0, "dev1").await, houses.connect(1, "dev1/mod1").await];
        one.hubs.remove(one.instance()).await.unwrap();
        for session in &sessions {
            assert_eq!(session.try_next_command(), Some(Command::Close(CloseReason::HubRemoved)));
        }
        assert_eq!(one.connected_devices().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_house_that_cannot_be_reached_keeps_nobody_out_and_is_told_later() {
    for houses in Houses::all().await {
        let [_, two] = &houses.both;
        let first = houses.connect(0, "dev1").await;
        houses.wire.cut(houses.nodes[0], true);
        let second = houses.connect(1, "dev1").await;
        second.listen_to_methods(true);
        assert_eq!(first.try_next_command(), None, "it knows of nothing");
        let (result, ()) = tokio::join!(invoke(two, reboot(None)), answer(&second, 200));
        assert_eq!(result, Ok(200), "but nobody finds it any more");
        houses.wire.cut(houses.nodes[0], false);
        let told = async {
            loop {
                if let Some(command) = first.try_next_command() {
                    return command;
                }
                two.clock.advance(Duration::from_millis(caps::CLOSE_RETRY_MS));
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(within(told).await, Command::Close(CloseReason::TakenOver));
        assert_eq!(second.try_next_command(), None);
    }
}

#[tokio::test]
async fn who_disables_a_device_waits_for_its_house_or_for_the_end_of_its_lease() {
    for houses in Houses::all().await {
        let [one, two] = &houses.both;
        let session = houses.connect(1, "dev1").await;
        houses.wire.cut(houses.nodes[1], true);
        let mut disabling = std::pin::pin!(disable(one));
        for _ in 0..100 {
            let polled = std::future::poll_fn(|cx| Poll::Ready(disabling.as_mut().poll(cx))).await;
            assert!(polled.is_pending(), "it waits");
            tokio::task::yield_now().await;
        }
        two.store().sessions().leave(houses.nodes[1]).await.unwrap();
        let passes = async {
            loop {
                one.clock.advance(Duration::from_millis(caps::CLOSE_RETRY_MS));
                tokio::task::yield_now().await;
            }
        };
        let disabled = within(async {
            tokio::select! { done = disabling => done, () = passes => Ok(()) }
        });
        disabled.await.unwrap();
        assert!(!houses.connected("dev1").await);
        assert_eq!(session.try_next_command(), None, "that node has yet to hear of it");
    }
}

#[tokio::test]
async fn a_late_flush_of_the_house_that_was_left_changes_nothing() {
    for houses in Houses::all().await {
        let [one, two] = &houses.both;
        let first = houses.connect(0, "dev1").await;
        let second = houses.connect(1, "dev1").await;
        one.clock.advance(Duration::from_secs(10));
        second.touch();
        two.flush_activity().await;
        let before = one.twin("dev1").await.connection;
        one.clock.advance(Duration::from_secs(10));
        first.touch();
        drop(first);
        one.flush_activity().await;
        let after = two.twin("dev1").await.connection;
        assert!(after.connected);
        assert_eq!(after, before);
        drop(second);
        houses.ends("dev1").await;
        two.flush_activity().await;
        let (seen, own) = (one.twin("dev1").await.connection, two.twin("dev1").await.connection);
        assert_eq!(seen, own);
        assert!(!seen.connected);
        assert_eq!(seen.state_updated_time, one.now());
    }
}
