//! What is special to sessions as rows: lost answers, connections that are cut, and the life of the server's own node.

use std::time::Duration;

use base::ids::IdentityId;
use base::{InstanceId, Timestamp};

use super::{Live, group};
use crate::engine::{Leases as _, Sessions};
use crate::postgres::{Config, Postgres};
use crate::store::Durability;

const PATIENCE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_mins(1);

fn open(database: &test_postgres::Database) -> Postgres {
    Postgres::open(Config::parse(&database.url(), Durability::Relaxed).unwrap()).unwrap()
}

fn instance() -> InstanceId {
    InstanceId::from_stored("i")
}

fn id(text: &str) -> IdentityId {
    text.parse().unwrap()
}

fn since() -> Timestamp {
    "2026-01-02T03:04:05.1234567Z".parse().unwrap()
}

async fn connected(live: &Live) -> u64 {
    live.connected_devices(&instance()).await.unwrap()
}

#[tokio::test]
async fn what_a_beginning_answers_is_read_again_when_the_answer_is_lost() {
    let Some(database) = test_postgres::database() else { return };
    let postgres = open(&database);
    let live = postgres.live();
    let (first, second) = (live.node(), live.join(LEASE).await.unwrap());
    let key = |identity: &str| ("i".to_owned(), identity.to_owned());
    for node in [first, second] {
        let asked = [(key("dev1"), node, since()), (key("dev2/mod1"), node, since())];
        let [answered, read] = group::begin_and_read_again(postgres.database(), &asked).await;
        assert_eq!(answered.len(), 2);
        assert_eq!(answered, read);
        let previous = answered[&key("dev1")].previous.map(|owner| (owner.node, owner.epoch, owner.since));
        assert_eq!(previous, (node == second).then_some((first, 1, since())));
    }
}

#[tokio::test]
async fn whoever_ends_a_session_at_once_with_another_is_answered_and_it_ends_for_one() {
    let Some(database) = test_postgres::database() else { return };
    let postgres = open(&database);
    let live = postgres.live();
    let begun = live.begin(live.node(), &instance(), &id("dev1"), since()).await.unwrap();
    let key = || ("i".to_owned(), "dev1".to_owned());
    let (requests, answers): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let (answer, answered) = tokio::sync::oneshot::channel();
            (group::Request::End { key: key(), epoch: begun.epoch, answer }, answered)
        })
        .unzip();
    group::Group::new(postgres.database().clone()).work(requests).await;
    let mut told = Vec::new();
    for answered in answers {
        told.push(answered.await.expect("nobody is left without an answer").unwrap());
    }
    assert_eq!(told, [true, false, false]);
    assert_eq!(connected(&live).await, 0);
}

#[tokio::test]
async fn a_connection_that_was_cut_loses_no_session() {
    let Some(database) = test_postgres::database() else { return };
    let postgres = open(&database);
    let live = postgres.live();
    for round in 1..=3_u64 {
        let begun = live.begin(live.node(), &instance(), &id("dev1"), since()).await.unwrap();
        assert_eq!(begun.epoch, round);
        database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }
    assert_eq!(connected(&live).await, 1);
}

#[tokio::test]
async fn a_node_that_lost_its_lease_begins_another_life_without_its_sessions() {
    begins_another_life("UPDATE twinhub.node SET until = '-infinity'").await;
}

#[tokio::test]
async fn so_does_one_that_others_have_forgotten_while_it_slept() {
    begins_another_life("DELETE FROM twinhub.node").await;
}

async fn begins_another_life(ends: &str) {
    let Some(database) = test_postgres::database() else { return };
    let postgres = open(&database);
    let live = postgres.live();
    let before = live.node();
    live.begin(before, &instance(), &id("dev1"), since()).await.unwrap();
    assert_eq!(connected(&live).await, 1);
    database.query(&format!("{ends} WHERE id = {}", before.number));
    assert_eq!(connected(&live).await, 0);
    let lives_anew = async {
        while live.node() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, lives_anew).await.expect("the lease is looked after");
    let after = live.node();
    assert_eq!((after.number, after.epoch > before.epoch), (before.number, true));
    assert_eq!(connected(&live).await, 0, "of the life before");
    live.begin(after, &instance(), &id("dev2"), since()).await.unwrap();
    assert_eq!(connected(&live).await, 1);
}

#[tokio::test]
async fn a_server_that_ends_leaves_nobody_connected_and_its_leases_to_the_next() {
    let Some(database) = test_postgres::database() else { return };
    let (ends, stays) = (open(&database), open(&database));
    ends.live().begin(ends.live().node(), &instance(), &id("dev1"), since()).await.unwrap();
    assert_eq!(connected(&stays.live()).await, 1);
    let node = ends.live().node();
    assert!(ends.live().take("lane/1", node, LEASE).await.unwrap().is_some());
    assert_eq!(stays.live().take("lane/1", stays.live().node(), LEASE).await.unwrap(), None);
    tokio::task::spawn_blocking(move || drop(ends)).await.unwrap();
    assert!(!stays.live().lives(node).await.unwrap());
    assert_eq!(connected(&stays.live()).await, 0);
    let next = stays.live().take("lane/1", stays.live().node(), LEASE).await.unwrap().unwrap();
    assert_eq!(next.epoch, 2, "it is another's, so what the first wrote under it is over");
}

#[tokio::test]
async fn a_node_that_is_long_gone_is_forgotten_by_the_next_that_begins_with_the_marks_of_its_commits() {
    let Some(database) = test_postgres::database() else { return };
    let first = open(&database);
    for (id, gone) in [(1001, "2 hours"), (1002, "10 minutes"), (1003, "-1 second")] {
        database.query(&format!(
            "INSERT INTO twinhub.node (id, until) VALUES ({id}, now() - interval '{gone}'); \
             INSERT INTO twinhub.commit_mark VALUES ({id}, 0, 7)"
        ));
    }
    let second = open(&database);
    let left = |table: &str, column: &str| {
        database.query(&format!("SELECT {column} FROM twinhub.{table} WHERE {column} > 1000 ORDER BY 1"))
    };
    assert_eq!(left("node", "id").lines().collect::<Vec<_>>(), ["1002", "1003"]);
    assert_eq!(left("commit_mark", "node").lines().collect::<Vec<_>>(), ["1002", "1003"]);
    for store in [first, second] {
        let live = store.live();
        assert!(live.lives(live.node()).await.unwrap());
    }
}
