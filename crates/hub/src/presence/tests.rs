//! Presence: what is shown of a connection, and what of its activity is kept.

use std::time::Duration;

use base::{IfMatch, Timestamp};
use store::sessions::{Node, Owner};
use store::{Batch, Record};

use super::activity::{Before, Connection, shown};
use super::record::Activity;
use crate::testing::{TestHub, start, system};

#[tokio::test]
async fn connection_and_activity_are_shown_at_once_and_outlive_a_restart() {
    let hub = TestHub::with_device("dev1").await;
    let never = hub.twin("dev1").await.connection;
    assert_eq!(never, Connection::NEVER);
    let session = hub.connect("dev1").await;
    hub.clock.advance(Duration::from_secs(10));
    session.touch();
    let connected = hub.twin("dev1").await.connection;
    assert!(connected.connected);
    assert_eq!(connected.state_updated_time, start());
    assert_eq!(connected.last_activity_time, start().plus(Duration::from_secs(10)));
    drop(session);
    hub.disconnected("dev1").await;
    let ended = hub.twin("dev1").await.connection;
    assert!(!ended.connected);
    hub.flush_activity().await;
    let restarted = crate::Hubs::new(hub.context.clone());
    restarted.load().await.unwrap();
    let restarted = restarted.find("hub").unwrap();
    let view = restarted.get_twin(&system(), &"dev1".parse().unwrap()).await.unwrap();
    assert_eq!(view.connection, ended);
    let listed = restarted.list_devices(&system(), None).await.unwrap();
    assert_eq!(listed[0].connection, ended);
}

#[tokio::test]
async fn a_device_that_is_deleted_while_its_activity_is_on_the_way_leaves_none() {
    let hub = TestHub::with_device("dev1").await;
    drop(hub.connect("dev1").await);
    let mut on_its_way = Batch::default();
    for flush in hub.unflushed() {
        hub.add_flush(&mut on_its_way, &flush, Before::AsKnown).await.unwrap();
    }
    assert!(!on_its_way.is_empty());
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    assert_eq!(hub.store().commit(on_its_way).await.unwrap_err(), store::CommitError::Conflict);
}

#[tokio::test]
async fn a_late_flush_does_not_bring_a_deleted_device_back() {
    let hub = TestHub::with_device("dev1").await;
    hub.create_device("dev2").await;
    drop(hub.connect("dev1").await);
    drop(hub.connect("dev2").await);
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    hub.flush_activity().await;
    hub.clock.advance(Duration::from_secs(1));
    hub.create_device("dev1").await;
    assert_eq!(hub.twin("dev1").await.connection, Connection::NEVER);
    assert_eq!(hub.twin("dev2").await.connection.last_activity_time, start());
}

fn at(seconds: u64) -> Timestamp {
    start().plus(Duration::from_secs(seconds))
}

async fn activity(hub: &TestHub, epoch: u64, connected: bool, since: u64, last: u64) -> Activity {
    let identity = hub.stored("dev1").await;
    Activity {
        instance: identity.instance,
        id: identity.id,
        generation_id: identity.generation_id,
        session_epoch: epoch,
        connected,
        connection_state_updated_time: at(since),
        last_activity_time: at(last),
    }
}

#[tokio::test]
async fn an_older_session_that_is_told_late_changes_nothing() {
    let hub = TestHub::with_device("dev1").await;
    let newer = activity(&hub, 8, true, 10, 20).await;
    let older = activity(&hub, 7, false, 30, 40).await;
    assert_eq!(older.over(&newer), None);
    let expected = Activity { last_activity_time: at(40), ..newer.clone() };
    assert_eq!(newer.over(&older), Some(expected), "the later activity counts");
    let another_life = Activity { generation_id: "1".into(), ..older };
    assert_eq!(newer.over(&another_life), Some(newer.clone()), "but not a namesake's");
    assert_eq!(newer.over(&newer), None, "nothing is new");
}

#[tokio::test]
async fn of_one_session_its_end_stands_and_the_greatest_activity() {
    let hub = TestHub::with_device("dev1").await;
    let ended = activity(&hub, 8, false, 30, 30).await;
    let late = activity(&hub, 8, true, 10, 20).await;
    assert_eq!(late.over(&ended), None);
    assert_eq!(ended.over(&late), Some(ended.clone()));
}

#[tokio::test]
async fn that_a_device_is_connected_says_its_owner_and_nobody_else() {
    let hub = TestHub::with_device("dev1").await;
    let identity = hub.stored("dev1").await;
    let stored = activity(&hub, 8, true, 10, 20).await;
    let gone = shown(&identity, None, None, Some(&stored));
    assert_eq!((gone.connected, gone.last_activity_time), (false, at(20)));
    let owner = Owner { node: Node { number: 3, epoch: 1 }, epoch: 9, since: at(30) };
    let elsewhere = shown(&identity, Some(owner), None, Some(&stored));
    assert_eq!(
        (elsewhere.connected, elsewhere.state_updated_time, elsewhere.last_activity_time),
        (true, at(30), at(30))
    );
}

#[tokio::test]
async fn a_flush_writes_over_its_own_record_and_not_over_a_newer_session() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    let key = activity(&hub, 0, true, 0, 0).await.key();
    let stored = async || hub.store().get::<Activity>(&key).await.unwrap().unwrap();
    hub.flush_activity().await;
    let first = stored().await;
    assert_eq!(first.record.session_epoch, session.epoch());
    hub.flush_activity().await;
    assert_eq!(stored().await, first, "nothing was heard since");
    hub.clock.advance(Duration::from_secs(10));
    session.touch();
    hub.flush_activity().await;
    assert_eq!(stored().await.record.last_activity_time, at(10));
    let newer = activity(&hub, session.epoch() + 1, true, 11, 11).await;
    let mut batch = Batch::default();
    batch.put(&newer);
    hub.store().commit(batch).await.unwrap();
    hub.clock.advance(Duration::from_secs(10));
    session.touch();
    drop(session);
    hub.flush_activity().await;
    assert_eq!(stored().await.record, newer);
    assert!(hub.unflushed().is_empty());
}
