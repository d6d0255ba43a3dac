//! Commits whose answer does not count: what became of them is learned, and nothing is told before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base::InstanceId;
use test_postgres::{Database, Server};
use tokio::task::{JoinHandle, JoinSet};

use super::super::faults::Fault;
use super::super::{Connection, Postgres};
use super::commits::{Thing, commit, get, key, store, thing};
use crate::batch::{Committed, Counter};
use crate::engine::Records as _;
use crate::error::{CommitError, StoreError};
use crate::table;

type Asked = JoinHandle<Result<Committed, CommitError>>;

fn insert(store: &Postgres, id: &'static str) -> Asked {
    let (handle, store) = (store.database().handle.clone(), store.clone());
    handle.spawn(async move { commit(&store, |batch| batch.insert(&thing(id, 1))).await })
}

/// Waits until the database tells it, which it must within half a minute.
async fn until(database: &Database, sql: &str, expected: &str) {
    for _ in 0..1500 {
        if database.query(sql) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{sql} does not become {expected}");
}

/// A commit that waits for another transaction longer than we do, and then for its fate.
async fn commit_that_is_given_up(database: &Database, store: &Postgres) -> (Connection, Asked) {
    let other = store.connect().await.unwrap();
    let make = "BEGIN; INSERT INTO thing (instance, id, part, doc, revision) VALUES ('i', 'x', '', '{\"id\":\"x\",\"value\":9}', 1)";
    other.batch_execute("SET idle_in_transaction_session_timeout = 0").await.unwrap();
    other.batch_execute(make).await.unwrap();
    let asked = insert(store, "x");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(database, waiting, "1").await;
    // The second that waits is the one that asks for the mark.
    until(database, waiting, "2").await;
    assert!(!asked.is_finished());
    (other, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_given_up_and_made_it_is_acknowledged() {
    let Some(database) = test_postgres::database() else { return };
    let store = store(&database, None);
    let (other, asked) = commit_that_is_given_up(&database, &store).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    let committed = asked.await.unwrap().unwrap();
    assert_eq!(get(&store, "x").await, Some(committed.stored(thing("x", 1))));
    assert!(insert(&store, "y").await.unwrap().is_ok(), "the next one goes on from there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_given_up_and_failed_is_judged_again() {
    let Some(database) = test_postgres::database() else { return };
    let store = store(&database, None);
    let (other, asked) = commit_that_is_given_up(&database, &store).await;
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(asked.await.unwrap(), Err(CommitError::Conflict));
    assert_eq!(get(&store, "x").await.unwrap().record.value, 9);
    assert!(insert(&store, "y").await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_mark_was_moved_can_never_commit() {
    let Some(database) = test_postgres::database() else { return };
    let store = store(&database, None);
    insert(&store, "a").await.unwrap().unwrap();
    // As a server that was frozen before it heard of the group: it is resolved without it, and then it wakes up.
    for slot in [0, 1] {
        let mark = format!("SELECT group_no FROM twinhub.commit_mark WHERE slot = {slot}");
        let last: i64 = database.query(&mark).parse().unwrap_or(0);
        database
            .query(&format!("UPDATE twinhub.commit_mark SET group_no = {} WHERE slot = {slot}", last + 2));
    }
    // The store finds that out at its next group, which begins behind the mark.
    for id in ["b", "c", "d"] {
        insert(&store, id).await.unwrap().unwrap();
    }
    assert_eq!(store.count(table::THING, &crate::Key::all()).await, Ok(4));
}

/// Sessions whose commit waits for a standby.
const WAITING: &str = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";

fn set_standby(database: &Database, setting: &str) {
    database.query(setting);
    database.query("SELECT pg_reload_conf()");
}

/// Until each committer has its line, whose opening would wait for a standby too.
async fn open_lines(database: &Database, store: &Postgres) {
    for _ in 0..100 {
        let (one, other) = (insert(store, "x"), insert(store, "y"));
        let _ = (one.await, other.await);
        if database.query("SELECT count(*) FROM twinhub.commit_mark") == "2" {
            break;
        }
    }
}

/// A commit that waits for a standby which does not come, and is cancelled by an operator. With its session.
async fn cancelled_commit(fault: Option<Fault>) -> Option<(Database, Postgres, Asked, String)> {
    let server = Server::start(&[])?;
    let database = server.database();
    let store = store(&database, fault);
    open_lines(&database, &store).await;
    set_standby(&database, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    // The server may take a moment to hear of its standby.
    for id in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] {
        let asked = insert(&store, id);
        for _ in 0..100 {
            let session = database.query(&format!("SELECT pid {WAITING}"));
            if !session.is_empty() {
                assert_eq!(database.query(&format!("SELECT pg_cancel_backend({session})")), "t");
                return Some((database, store, asked, session));
            }
            if asked.is_finished() {
                break;
            }
        }
    }
    panic!("no commit waits for a standby");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_with_a_warning_is_no_yes_until_a_standby_has_it() {
    let Some((database, store, asked, session)) = cancelled_commit(None).await else { return };
    // What asks for its fate waits for the standby too.
    until(&database, &format!("SELECT count(*) {WAITING} AND pid <> {session}"), "1").await;
    assert!(!asked.is_finished(), "{:?}", asked.await);
    set_standby(&database, "ALTER SYSTEM RESET synchronous_standby_names");
    assert!(asked.await.unwrap().is_ok());
    insert(&store, "after").await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_a_standby_that_hangs() {
    let Some(server) = Server::start(&[]) else { return };
    let (database, standby) = (server.database(), server.synchronous_standby());
    let store = store(&database, None);
    open_lines(&database, &store).await;
    standby.signal_all(test_postgres::Signal::STOP);
    let asked = insert(&store, "during");
    until(&database, &format!("SELECT count(*) {WAITING}"), "1").await;
    assert!(!asked.is_finished(), "{:?}", asked.await);
    standby.signal_all(test_postgres::Signal::CONT);
    assert!(asked.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warning_that_is_taken_for_success_is_noticed() {
    let fault = Some(Fault::WarningsTrusted);
    let Some((database, _store, asked, _)) = cancelled_commit(fault).await else { return };
    let told = tokio::time::timeout(Duration::from_secs(10), asked).await;
    set_standby(&database, "ALTER SYSTEM RESET synchronous_standby_names");
    assert!(told.expect("it is told at once").unwrap().is_ok(), "the test above could not fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_when_the_database_is_killed() {
    let Some(server) = Server::start(&[]) else { return };
    let database = server.database();
    let store = store(&database, None);
    let (acknowledged, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (store, acknowledged, is_over) = (store.clone(), Arc::clone(&acknowledged), Arc::clone(&is_over));
        tasks.spawn(async move {
            let (mut kept, mut unclear) = (Vec::new(), 0);
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("{task}-{number}");
                let made = commit(&store, |batch| {
                    batch.insert(&thing(id.clone(), 1));
                    batch.add(Counter::new(&InstanceId::from_stored("i"), "made"), 1, i64::MAX);
                });
                match made.await {
                    Ok(_) => {
                        kept.push(id);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(CommitError::Store(StoreError::Unavailable(_) | StoreError::Unknown(_))) => {
                        unclear += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            (kept, unclear)
        });
    }
    for _ in 0..3 {
        let goal = acknowledged.load(Ordering::Relaxed) + 500;
        let more = async {
            while acknowledged.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), more).await.expect("commits go on");
        server.kill();
        server.start_again();
    }
    is_over.store(true, Ordering::Relaxed);
    let (mut kept, mut unclear) = (Vec::new(), 0);
    for (ids, count) in tasks.join_all().await {
        kept.extend(ids);
        unclear += count;
    }
    for id in &kept {
        assert!(get(&store, id).await.is_some(), "{id} was acknowledged");
    }
    let made = store.counter(&Counter::new(&InstanceId::from_stored("i"), "made")).await.unwrap();
    assert_eq!(Ok(u64::try_from(made).unwrap()), store.count(table::THING, &crate::Key::all()).await);
    println!("{} acknowledged, {unclear} refused or unknown, {made} there", kept.len());
    assert!(kept.len() >= 1500 && usize::try_from(made).unwrap() >= kept.len());
    assert!(commit(&store, |batch| batch.remove::<Thing>(key(&kept[0]))).await.is_ok());
}
