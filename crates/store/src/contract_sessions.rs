//! The contract of nodes, sessions and leases, run over every engine. Each test takes a fresh store of each, opened twice where an
//! engine lets two processes share it.

use std::time::Duration;

use base::ids::IdentityId;
use base::{InstanceId, Timestamp};
use tokio::task::JoinSet;

use crate::sessions::{Begun, Node, Owner};
use crate::{Durability, Location, Options, Store};

const LEASE: Duration = Duration::from_secs(10);

/// One engine under test, as two processes see it.
struct Engine {
    stores: [Store; 2],
    directory: Option<tempfile::TempDir>,
}

fn engines() -> Vec<Engine> {
    let directory = tempfile::tempdir().unwrap();
    let embedded = |location, directory| {
        let store = Store::open(&Options::new(location, Durability::Full)).unwrap();
        Engine { stores: [store.clone(), store], directory }
    };
    let file = Location::File(directory.path().to_owned());
    vec![embedded(file, Some(directory)), embedded(Location::Memory, None)]
}

impl Engine {
    /// Lets time pass by the engine's clock.
    fn pass(&self, time: Duration) {
        self.stores[0].sqlite().live().clock().advance(time);
    }

    async fn nodes(&self) -> [Node; 2] {
        let [first, second] = &self.stores;
        [first.sessions().join(LEASE).await.unwrap(), second.sessions().join(LEASE).await.unwrap()]
    }

    async fn begin(&self, store: usize, node: Node, identity: &str) -> Begun {
        let sessions = self.stores[store].sessions();
        sessions.begin(node, &instance("i"), &id(identity), since()).await.unwrap()
    }

    /// What both processes see, which must be the same.
    async fn owner(&self, identity: &str) -> Option<(Node, u64)> {
        let mut seen = Vec::new();
        for store in &self.stores {
            let owner = store.sessions().owner(&instance("i"), &id(identity)).await.unwrap();
            seen.push(owner.map(|owner| (owner.node, owner.epoch)));
        }
        assert_eq!(seen[0], seen[1]);
        seen[0]
    }

    async fn connected(&self) -> u64 {
        let [first, second] = &self.stores;
        let first = first.sessions().connected_devices(&instance("i")).await.unwrap();
        assert_eq!(second.sessions().connected_devices(&instance("i")).await.unwrap(), first);
        first
    }

    async fn end(&self, identity: &str, epoch: u64) -> bool {
        self.stores[0].sessions().end(&instance("i"), &id(identity), epoch).await.unwrap()
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

#[tokio::test]
async fn a_session_that_begins_takes_over_and_names_the_one_before() {
    for engine in engines() {
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
}

#[tokio::test]
async fn a_late_end_of_an_older_session_changes_nothing() {
    for engine in engines() {
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
}

#[tokio::test]
async fn sessions_of_a_node_whose_lease_is_over_do_not_count() {
    for engine in engines() {
        let [one, two] = engine.nodes().await;
        engine.begin(0, one, "dev1").await;
        engine.begin(1, two, "dev2").await;
        assert_eq!(engine.connected().await, 2);
        engine.pass(LEASE / 2);
        assert!(engine.stores[1].sessions().keep(two, LEASE).await.unwrap());
        engine.pass(LEASE * 3 / 4);
        assert_eq!(engine.owner("dev1").await, None);
        assert!(engine.owner("dev2").await.is_some());
        assert_eq!(engine.connected().await, 1);
        assert!(!engine.stores[0].sessions().keep(one, LEASE).await.unwrap(), "it is over for good");
        for (node, lives) in [(one, false), (two, true)] {
            assert_eq!(engine.stores[0].sessions().lives(node).await.unwrap(), lives);
        }
        let taken_over = engine.begin(1, two, "dev1").await;
        assert_eq!(taken_over.previous, None, "nobody is there to be told");
        let again = engine.stores[0].sessions().join(LEASE).await.unwrap();
        assert_ne!(again, one);
        assert_ne!(again.number, two.number);
        engine.begin(0, one, "dev3").await;
        assert_eq!(engine.owner("dev3").await, None, "of a life that is over");
        engine.stores[1].sessions().leave(two).await.unwrap();
        assert_eq!(engine.connected().await, 0);
    }
}

#[tokio::test]
async fn a_device_is_counted_and_found_with_its_modules_and_in_its_instance() {
    for engine in engines() {
        let [one, two] = engine.nodes().await;
        for (store, node, identity) in
            [(0, one, "a"), (1, two, "a/m1"), (0, one, "a/m2"), (0, one, "ab"), (1, two, "a!"), (0, one, "b")]
        {
            engine.begin(store, node, identity).await;
        }
        let sessions = engine.stores[0].sessions();
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
}

#[tokio::test]
async fn an_instance_that_is_removed_has_no_session_left() {
    for engine in engines() {
        let [one, _] = engine.nodes().await;
        engine.begin(0, one, "dev1").await;
        let sessions = engine.stores[0].sessions();
        sessions.begin(one, &instance("other"), &id("dev1"), since()).await.unwrap();
        engine.stores[0].remove_instance(&instance("i")).await.unwrap();
        assert_eq!(engine.connected().await, 0);
        assert_eq!(sessions.connected_devices(&instance("other")).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn of_many_that_begin_at_once_one_stands_and_the_others_form_a_line() {
    for engine in engines() {
        let [one, two] = engine.nodes().await;
        let mut tasks = JoinSet::new();
        for turn in 0..60 {
            let (store, node) = if turn % 2 == 0 { (0, one) } else { (1, two) };
            let (store, identity) = (engine.stores[store].clone(), id(["dev1", "dev2", "dev2"][turn % 3]));
            tasks.spawn(async move {
                let begun = store.sessions().begin(node, &instance("i"), &identity, since()).await.unwrap();
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
}

#[tokio::test]
async fn a_lease_has_one_holder_and_a_greater_epoch_with_each() {
    for engine in engines() {
        let [one, two] = engine.nodes().await;
        let [first, second] = &engine.stores;
        let lease = first.leases().take("lane/7", one, LEASE).await.unwrap().unwrap();
        assert_eq!((lease.name.as_str(), lease.node), ("lane/7", one));
        assert_eq!(second.leases().take("lane/7", two, LEASE).await.unwrap(), None);
        assert_eq!(first.leases().take("lane/7", one, LEASE).await.unwrap(), None, "not even the holder");
        assert!(second.leases().take("lane/8", two, LEASE).await.unwrap().is_some());
        engine.pass(LEASE / 2);
        assert!(first.leases().renew(&lease, LEASE).await.unwrap());
        engine.pass(LEASE * 3 / 4);
        assert_eq!(second.leases().take("lane/7", two, LEASE).await.unwrap(), None, "it was renewed");
        engine.pass(LEASE / 2);
        assert!(!first.leases().renew(&lease, LEASE).await.unwrap(), "nobody took it, but it is over");
        let taken = second.leases().take("lane/7", two, LEASE).await.unwrap().unwrap();
        assert!(taken.epoch > lease.epoch);
        assert!(!first.leases().renew(&lease, LEASE).await.unwrap());
        first.leases().give_back(&lease).await.unwrap();
        assert_eq!(
            first.leases().take("lane/7", one, LEASE).await.unwrap(),
            None,
            "it was another's to give"
        );
        second.leases().give_back(&taken).await.unwrap();
        assert!(!second.leases().renew(&taken, LEASE).await.unwrap());
        let again = first.leases().take("lane/7", one, LEASE).await.unwrap().unwrap();
        assert!(again.epoch > taken.epoch);
    }
}

#[tokio::test]
async fn of_many_who_want_a_lease_one_has_it() {
    for engine in engines() {
        let nodes = engine.nodes().await;
        let mut tasks = JoinSet::new();
        for turn in 0..16 {
            let (store, node) = (engine.stores[turn % 2].clone(), nodes[turn % 2]);
            tasks.spawn(async move { store.leases().take("reconciler", node, LEASE).await.unwrap() });
        }
        let holders = tasks.join_all().await.into_iter().flatten().count();
        assert_eq!(holders, 1);
    }
}

#[tokio::test]
async fn a_restart_of_the_embedded_store_ends_every_session_and_no_epoch_comes_again() {
    let mut greatest = 0;
    for engine in engines() {
        let Engine { stores, directory } = engine;
        let Some(directory) = directory else { continue };
        drop(stores);
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
    assert!(greatest > 0);
}
