//! The contract of nodes, sessions and leases, run over every engine. Each case takes a fresh one, opened twice where two processes
//! may share it.

use std::sync::Arc;
use std::time::Duration;

use base::ids::IdentityId;
use base::{Clock, InstanceId, Timestamp};
use tokio::task::JoinSet;

use crate::engine::{Leases, Sessions};
use crate::sessions::{Begun, Node, Owner};
use crate::{Durability, Location, Options, Store, memory, postgres, sqlite};

const LEASE: Duration = Duration::from_secs(10);

trait Live: Sessions + Leases + 'static {}

impl<T: Sessions + Leases + 'static> Live for T {}

/// One engine under test, as two processes see it.
struct Engine<L> {
    processes: [Arc<L>; 2],
    /// Lets time pass by the engine's clock.
    pass: Box<dyn Fn(Duration)>,
}

fn embedded() -> Engine<sqlite::sessions::Live> {
    let clock = Clock::system();
    let live = Arc::new(sqlite::sessions::Live::new(clock.clone(), 0));
    Engine { processes: [Arc::clone(&live), live], pass: Box::new(move |time| clock.advance(time)) }
}

fn in_memory() -> Engine<memory::Memory> {
    let clock = Clock::manual(since());
    let database = memory::Database::new(clock.clone());
    let open = || Arc::new(memory::Memory::open(&database));
    Engine { processes: [open(), open()], pass: Box::new(move |time| clock.advance(time)) }
}

fn postgres() -> Option<Engine<postgres::sessions::Live>> {
    let database = test_postgres::database()?;
    let open = || {
        let config = postgres::Config::parse(&database.url(), Durability::Relaxed).unwrap();
        Arc::new(postgres::Postgres::open(config).unwrap().live())
    };
    let processes = [open(), open()];
    let pass = move |time: Duration| {
        let time = format!("interval '{} ms'", time.as_millis());
        let not_ever = "WHERE until > '-infinity'";
        database.query(&format!("UPDATE twinhub.node SET until = until - {time} {not_ever}"));
        database.query(&format!("UPDATE twinhub.lease SET until = until - {time} {not_ever}"));
    };
    Some(Engine { processes, pass: Box::new(pass) })
}

/// Runs each case on every engine.
macro_rules! on_every_engine {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(super::embedded()).await;
                }
            )*
        }

        mod in_memory {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(super::in_memory()).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test]
                async fn $case() {
                    let Some(engine) = super::postgres() else { return };
                    super::$case(engine).await;
                }
            )*
        }
    };
}

on_every_engine!(
    a_session_that_begins_takes_over_and_names_the_one_before,
    a_beginning_whose_answer_was_lost_is_known_while_its_session_stands,
    a_late_end_of_an_older_session_changes_nothing,
    sessions_of_a_node_whose_lease_is_over_do_not_count,
    a_device_is_counted_and_found_with_its_modules_and_in_its_instance,
    an_instance_that_is_removed_has_no_session_left,
    of_many_that_begin_at_once_one_stands_and_the_others_form_a_line,
    a_lease_has_one_holder_and_a_greater_epoch_with_each,
    of_many_who_want_a_lease_one_has_it,
);

impl<L: Live> Engine<L> {
    fn pass(&self, time: Duration) {
        (self.pass)(time);
    }

    async fn nodes(&self) -> [Node; 2] {
        let [first, second] = &self.processes;
        [first.join(LEASE).await.unwrap(), second.join(LEASE).await.unwrap()]
    }

    async fn begin(&self, process: usize, node: Node, identity: &str) -> Begun {
        self.begin_at(process, node, identity, since()).await
    }

    async fn begin_at(&self, process: usize, node: Node, identity: &str, since: Timestamp) -> Begun {
        self.processes[process].begin(node, &instance("i"), &id(identity), since).await.unwrap()
    }

    /// The epoch of a beginning whose answer was lost.
    async fn begun(&self, node: Node, since: Timestamp) -> Option<u64> {
        let begun = self.processes[0].begun(node, &instance("i"), &id("dev1"), since).await.unwrap();
        begun.map(|begun| begun.epoch)
    }

    /// What both processes see, which must be the same.
    async fn owner(&self, identity: &str) -> Option<(Node, u64)> {
        let mut seen = Vec::new();
        for process in &self.processes {
            let owners = process.owners(&instance("i"), &[id(identity)]).await.unwrap();
            seen.push(owners[0].map(|owner| (owner.node, owner.epoch)));
        }
        assert_eq!(seen[0], seen[1]);
        seen[0]
    }

    async fn connected(&self) -> u64 {
        let [first, second] = &self.processes;
        let first = first.connected_devices(&instance("i")).await.unwrap();
        assert_eq!(second.connected_devices(&instance("i")).await.unwrap(), first);
        first
    }

    async fn end(&self, identity: &str, epoch: u64) -> bool {
        self.processes[0].end(&instance("i"), &id(identity), epoch).await.unwrap()
    }
}

fn id(text: &str) -> IdentityId {
    text.parse().unwrap()
}

fn instance(text: &str) -> InstanceId {
    InstanceId::from_stored(text)
}

fn since() -> Timestamp {
    "2026-01-02T03:04:05.123456Z".parse().unwrap()
}

async fn a_session_that_begins_takes_over_and_names_the_one_before<L: Live>(engine: Engine<L>) {
    let [one, two] = engine.nodes().await;
    assert_ne!(one.number, two.number);
    assert_eq!(engine.owner("dev1").await, None);
    let first = engine.begin(0, one, "dev1").await;
    assert_eq!(first.previous, None);
    assert_eq!(engine.owner("dev1").await, Some((one, first.epoch)));
    let second = engine.begin(1, two, "dev1").await;
    assert!(second.epoch > first.epoch);
    let previous = Owner { node: one, epoch: first.epoch, since: since() };
    assert_eq!(second.previous, Some(previous));
    assert_eq!(engine.owner("dev1").await, Some((two, second.epoch)));
    let third = engine.begin(1, two, "dev1").await;
    assert_eq!(third.previous.map(|owner| owner.epoch), Some(second.epoch));
    assert_eq!(engine.begin(0, one, "dev2").await.previous, None, "an identity of its own");
}

async fn a_beginning_whose_answer_was_lost_is_known_while_its_session_stands<L: Live>(engine: Engine<L>) {
    let [one, two] = engine.nodes().await;
    let [early, late] = [since(), since().plus(Duration::from_micros(1))];
    assert_eq!(engine.begun(one, early).await, None);
    let first = engine.begin_at(0, one, "dev1", early).await;
    assert_eq!(engine.begun(one, early).await, Some(first.epoch));
    assert_eq!((engine.begun(one, late).await, engine.begun(two, early).await), (None, None));
    let second = engine.begin_at(0, one, "dev1", late).await;
    assert_eq!(engine.begun(one, early).await, None, "it was taken over");
    assert_eq!(engine.begun(one, late).await, Some(second.epoch));
    engine.end("dev1", second.epoch).await;
    assert_eq!(engine.begun(one, late).await, None, "it has ended");
    engine.begin_at(0, one, "dev1", early).await;
    engine.pass(LEASE);
    assert_eq!(engine.begun(one, early).await, None, "its node is gone");
}

async fn a_late_end_of_an_older_session_changes_nothing<L: Live>(engine: Engine<L>) {
    let [one, two] = engine.nodes().await;
    let first = engine.begin(0, one, "dev1").await;
    let second = engine.begin(1, two, "dev1").await;
    assert!(!engine.end("dev1", first.epoch).await);
    assert_eq!(engine.owner("dev1").await, Some((two, second.epoch)));
    assert!(engine.end("dev1", second.epoch).await);
    assert!(!engine.end("dev1", second.epoch).await, "it has ended");
    assert_eq!(engine.owner("dev1").await, None);
    let third = engine.begin(0, one, "dev1").await;
    assert!(third.epoch > second.epoch, "an epoch never goes back");
    assert_eq!(third.previous, None);
}

async fn sessions_of_a_node_whose_lease_is_over_do_not_count<L: Live>(engine: Engine<L>) {
    let [one, two] = engine.nodes().await;
    engine.begin(0, one, "dev1").await;
    engine.begin(1, two, "dev2").await;
    assert_eq!(engine.connected().await, 2);
    engine.pass(LEASE / 2);
    assert!(engine.processes[1].keep(two, LEASE).await.unwrap());
    engine.pass(LEASE * 3 / 4);
    assert_eq!(engine.owner("dev1").await, None);
    assert!(engine.owner("dev2").await.is_some());
    assert_eq!(engine.connected().await, 1);
    assert!(!engine.processes[0].keep(one, LEASE).await.unwrap(), "it is over for good");
    for (node, lives) in [(one, false), (two, true)] {
        assert_eq!(engine.processes[0].lives(node).await.unwrap(), lives);
    }
    let taken_over = engine.begin(1, two, "dev1").await;
    assert_eq!(taken_over.previous, None, "nobody is there to be told");
    let again = engine.processes[0].join(LEASE).await.unwrap();
    assert_ne!(again, one);
    assert_ne!(again.number, two.number);
    engine.begin(0, one, "dev3").await;
    assert_eq!(engine.owner("dev3").await, None, "of a life that is over");
    engine.processes[1].leave(two).await.unwrap();
    assert_eq!(engine.connected().await, 0);
}

async fn a_device_is_counted_and_found_with_its_modules_and_in_its_instance<L: Live>(engine: Engine<L>) {
    let [one, two] = engine.nodes().await;
    for (store, node, identity) in
        [(0, one, "a"), (1, two, "a/m1"), (0, one, "a/m2"), (0, one, "ab"), (1, two, "a!"), (0, one, "b")]
    {
        engine.begin(store, node, identity).await;
    }
    let sessions = &engine.processes[0];
    sessions.begin(one, &instance("other"), &id("a"), since()).await.unwrap();
    assert_eq!(engine.connected().await, 4);
    let names = |found: Vec<(IdentityId, Owner)>| {
        let mut names: Vec<_> = found.into_iter().map(|(identity, _)| identity.to_string()).collect();
        names.sort();
        names
    };
    let of_device = sessions.of_device(&instance("i"), &"a".parse().unwrap()).await.unwrap();
    assert_eq!(names(of_device), ["a", "a/m1", "a/m2"]);
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = sessions.list(&instance("i"), after.as_ref(), 4).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        pages.extend(page);
    }
    assert_eq!(names(pages), ["a", "a!", "a/m1", "a/m2", "ab", "b"]);
    let asked = [id("b"), id("nobody"), id("a/m1")];
    let owners = sessions.owners(&instance("i"), &asked).await.unwrap();
    let nodes: Vec<_> = owners.iter().map(|owner| owner.map(|owner| owner.node)).collect();
    assert_eq!(nodes, [Some(one), None, Some(two)]);
}

async fn an_instance_that_is_removed_has_no_session_left<L: Live>(engine: Engine<L>) {
    let [one, _] = engine.nodes().await;
    engine.begin(0, one, "dev1").await;
    let sessions = &engine.processes[0];
    sessions.begin(one, &instance("other"), &id("dev1"), since()).await.unwrap();
    engine.processes[0].remove_instance(&instance("i")).await.unwrap();
    assert_eq!(engine.connected().await, 0);
    assert_eq!(sessions.connected_devices(&instance("other")).await.unwrap(), 1);
}

async fn of_many_that_begin_at_once_one_stands_and_the_others_form_a_line<L: Live>(engine: Engine<L>) {
    let [one, two] = engine.nodes().await;
    let mut tasks = JoinSet::new();
    for turn in 0..60 {
        let (store, node) = if turn % 2 == 0 { (0, one) } else { (1, two) };
        let (store, identity) =
            (Arc::clone(&engine.processes[store]), id(["dev1", "dev2", "dev2"][turn % 3]));
        tasks.spawn(async move {
            let begun = store.begin(node, &instance("i"), &identity, since()).await.unwrap();
            (identity, begun)
        });
    }
    let begun = tasks.join_all().await;
    for identity in ["dev1", "dev2"] {
        let of_one = begun.iter().filter(|(of, _)| *of == id(identity));
        let mut line: Vec<_> = of_one.map(|(_, begun)| *begun).collect();
        line.sort_by_key(|begun| begun.epoch);
        let previous: Vec<_> = line.iter().map(|begun| begun.previous.map(|owner| owner.epoch)).collect();
        let expected: Vec<_> = std::iter::once(None).chain(line.iter().map(|b| Some(b.epoch))).collect();
        assert_eq!(previous, expected[..line.len()], "each took over from the one before it");
        let last = line.last().unwrap().epoch;
        assert_eq!(engine.owner(identity).await.map(|(_, epoch)| epoch), Some(last));
    }
}

async fn a_lease_has_one_holder_and_a_greater_epoch_with_each<L: Live>(engine: Engine<L>) {
    let [one, two] = engine.nodes().await;
    let [first, second] = &engine.processes;
    let lease = first.take("lane/7", one, LEASE).await.unwrap().unwrap();
    assert_eq!((lease.name.as_str(), lease.node), ("lane/7", one));
    assert_eq!(second.take("lane/7", two, LEASE).await.unwrap(), None);
    assert_eq!(first.take("lane/7", one, LEASE).await.unwrap(), None, "not even the holder");
    assert!(second.take("lane/8", two, LEASE).await.unwrap().is_some());
    engine.pass(LEASE / 2);
    assert!(first.renew(&lease, LEASE).await.unwrap());
    engine.pass(LEASE * 3 / 4);
    assert_eq!(second.take("lane/7", two, LEASE).await.unwrap(), None, "it was renewed");
    engine.pass(LEASE / 2);
    assert!(!first.renew(&lease, LEASE).await.unwrap(), "nobody took it, but it is over");
    let taken = second.take("lane/7", two, LEASE).await.unwrap().unwrap();
    assert!(taken.epoch > lease.epoch);
    assert!(!first.renew(&lease, LEASE).await.unwrap());
    first.give_back(&lease).await.unwrap();
    assert_eq!(first.take("lane/7", one, LEASE).await.unwrap(), None, "it was another's to give");
    second.give_back(&taken).await.unwrap();
    assert!(!second.renew(&taken, LEASE).await.unwrap());
    let again = first.take("lane/7", one, LEASE).await.unwrap().unwrap();
    assert!(again.epoch > taken.epoch);
}

async fn of_many_who_want_a_lease_one_has_it<L: Live>(engine: Engine<L>) {
    let nodes = engine.nodes().await;
    let mut tasks = JoinSet::new();
    for turn in 0..16 {
        let (store, node) = (Arc::clone(&engine.processes[turn % 2]), nodes[turn % 2]);
        tasks.spawn(async move { store.take("reconciler", node, LEASE).await.unwrap() });
    }
    let holders = tasks.join_all().await.into_iter().flatten().count();
    assert_eq!(holders, 1);
}

#[tokio::test]
async fn a_restart_of_the_embedded_store_ends_every_session_and_no_epoch_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut greatest = 0;
    for _ in 0..3 {
        let options = Options::new(Location::File(directory.path().to_owned()), Durability::Full);
        let store = Store::open(&options).unwrap();
        let sessions = store.sessions();
        assert_eq!(sessions.owner(&instance("i"), &id("dev1")).await.unwrap(), None);
        let lease = store.leases().take("lane/1", store.node(), LEASE).await.unwrap().unwrap();
        let begun = sessions.begin(store.node(), &instance("i"), &id("dev1"), since()).await.unwrap();
        for epoch in [store.node().epoch, lease.epoch, begun.epoch] {
            assert!(epoch > greatest, "{epoch} after {greatest}");
            greatest = epoch;
        }
    }
}

#[tokio::test]
async fn a_store_that_removes_an_instance_removes_its_sessions() {
    let store = Store::open(&Options::memory()).unwrap();
    store.sessions().begin(store.node(), &instance("i"), &id("dev1"), since()).await.unwrap();
    assert_eq!(store.sessions().connected_devices(&instance("i")).await.unwrap(), 1);
    store.remove_instance(&instance("i")).await.unwrap();
    assert_eq!(store.sessions().connected_devices(&instance("i")).await.unwrap(), 0);
}
