//! Sessions: takeover, order, cuts, activity.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base::IfMatch;
use serde_json::json;

use super::activity::activity_batch;
use super::mailbox::Mailbox;
use super::{CloseReason, Command, Delivery};
use crate::device::{DeviceSpec, Status};
use crate::subscription::Subscription;
use crate::testing::{TestHub, next_command, start, system};

fn mailbox() -> Mailbox {
    Mailbox::new("dev1".parse().unwrap(), "1", 1, start())
}

fn desired(version: u64) -> Delivery {
    Delivery::Desired { version, patch: version.to_string().into() }
}

fn versions(mailbox: &Mailbox) -> Vec<u64> {
    let next = || match mailbox.try_next() {
        Some(Command::DesiredChanged { version, .. }) => Some(version),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn desired_properties_fall_into_line_however_they_arrive() {
    let mailbox = mailbox();
    assert!(mailbox.offer(desired(5)).is_err(), "nobody has subscribed");
    mailbox.begin_desired();
    for version in [9, 7, 5] {
        mailbox.offer(desired(version)).unwrap();
    }
    assert_eq!(versions(&mailbox), [] as [u64; 0], "where to begin is not known yet");
    mailbox.start_desired(6);
    assert_eq!(versions(&mailbox), [7]);
    mailbox.offer(desired(8)).unwrap();
    mailbox.offer(desired(8)).unwrap();
    assert_eq!(versions(&mailbox), [8, 9]);
    mailbox.stop_desired();
    assert!(mailbox.offer(desired(10)).is_err());
}

#[test]
fn a_connection_that_takes_nothing_is_cut_instead_of_filling_memory() {
    let mailbox = mailbox();
    mailbox.begin_desired();
    mailbox.start_desired(0);
    for version in 1..=base::caps::SESSION_QUEUE_MAX as u64 {
        mailbox.offer(desired(version)).unwrap();
    }
    assert_eq!(mailbox.closed(), None);
    mailbox.offer(desired(base::caps::SESSION_QUEUE_MAX as u64 + 1)).unwrap();
    assert_eq!(mailbox.try_next(), Some(Command::Close(CloseReason::QueueFull)));
    assert!(mailbox.offer(desired(100)).is_err());
}

#[test]
fn who_takes_nothing_now_is_told_of_the_end_and_of_nothing_else() {
    let mailbox = mailbox();
    let mut context = Context::from_waker(Waker::noop());
    mailbox.begin_desired();
    mailbox.start_desired(0);
    mailbox.offer(desired(1)).unwrap();
    assert_eq!(mailbox.poll_next(&mut context, false), Poll::Pending);
    assert!(matches!(mailbox.poll_next(&mut context, true), Poll::Ready(Command::DesiredChanged { .. })));
    mailbox.close(CloseReason::DeviceDeleted);
    assert_eq!(
        mailbox.poll_next(&mut context, false),
        Poll::Ready(Command::Close(CloseReason::DeviceDeleted))
    );
}

#[test]
fn a_gap_that_never_closes_is_bounded_too() {
    let mailbox = mailbox();
    mailbox.begin_desired();
    for version in 2..=base::caps::SESSION_QUEUE_MAX as u64 + 2 {
        let _ = mailbox.offer(desired(version));
    }
    assert_eq!(mailbox.closed(), Some(CloseReason::QueueFull));
}

#[tokio::test]
async fn a_newer_connection_takes_over() {
    let hub = TestHub::with_device("dev1").await;
    let first = hub.connect("dev1").await;
    let second = hub.connect("dev1").await;
    assert!(second.epoch() > first.epoch());
    assert_eq!(next_command(&first).await, Command::Close(CloseReason::TakenOver));
    drop(first);
    assert!(
        hub.sessions().is_connected(&"dev1".parse().unwrap()),
        "the end of the old one is not the end of the new"
    );
    assert_eq!(second.try_next_command(), None);
    drop(second);
    assert!(!hub.sessions().is_connected(&"dev1".parse().unwrap()));
}

#[tokio::test]
async fn a_device_and_its_modules_are_connected_apart() {
    let hub = TestHub::with_module().await;
    let (device, module) = (hub.connect("dev1").await, hub.connect("dev1/mod1").await);
    assert_eq!((device.try_next_command(), module.try_next_command()), (None, None));
    assert_eq!(hub.sessions().connected_devices(), 1);
}

#[tokio::test]
async fn disabling_or_deleting_a_device_cuts_it_and_its_modules() {
    let hub = TestHub::with_module().await;
    let sessions = [hub.connect("dev1").await, hub.connect("dev1/mod1").await];
    let spec = DeviceSpec { status: Status::Disabled, ..DeviceSpec::new("dev1".parse().unwrap()) };
    hub.put_device(&system(), &spec, &IfMatch::Any).await.unwrap();
    for session in sessions {
        assert_eq!(next_command(&session).await, Command::Close(CloseReason::DeviceDisabled));
    }
    assert!(hub.authenticate("dev1").await.is_err());

    let hub = TestHub::with_module().await;
    let sessions = [hub.connect("dev1").await, hub.connect("dev1/mod1").await];
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    for session in sessions {
        assert_eq!(next_command(&session).await, Command::Close(CloseReason::DeviceDeleted));
    }
}

#[tokio::test]
async fn a_device_that_was_removed_since_it_proved_itself_gets_no_session() {
    let hub = TestHub::with_device("dev1").await;
    let authentication = hub.authenticate("dev1").await.unwrap();
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    assert!(hub.open_session(authentication.clone(), None).await.is_err());
    hub.clock.advance(Duration::from_secs(1));
    hub.create_device("dev1").await;
    assert!(hub.open_session(authentication, None).await.is_err(), "its successor is another device");
    assert!(!hub.sessions().is_connected(&"dev1".parse().unwrap()));
}

#[tokio::test]
async fn connection_and_activity_are_shown_at_once_and_outlive_a_restart() {
    let hub = TestHub::with_device("dev1").await;
    let never = hub.twin("dev1").await.connection;
    assert_eq!(never, super::Connection::NEVER);
    let session = hub.connect("dev1").await;
    hub.clock.advance(Duration::from_secs(10));
    session.touch();
    let connected = hub.twin("dev1").await.connection;
    assert!(connected.connected);
    assert_eq!(connected.state_updated_time, start());
    assert_eq!(connected.last_activity_time, start().plus(Duration::from_secs(10)));
    drop(session);
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
    let on_its_way = activity_batch(&hub.sessions().unflushed(&hub));
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
    assert_eq!(hub.twin("dev1").await.connection, super::Connection::NEVER);
    assert_eq!(hub.twin("dev2").await.connection.last_activity_time, start());
}

#[tokio::test]
async fn filters_are_kept_for_the_next_connection_and_go_with_the_device() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    assert_eq!(hub.stored_filters(&session).await, Ok(None));
    let filters = vec![("$iothub/twin/res/#".to_owned(), 1)];
    hub.store_filters(&session, filters.clone()).await.unwrap();
    drop(session);
    let session = hub.connect("dev1").await;
    assert_eq!(hub.stored_filters(&session).await, Ok(Some(filters.clone())));
    hub.remove_filters(&session).await.unwrap();
    assert_eq!(hub.stored_filters(&session).await, Ok(None));
    hub.store_filters(&session, filters.clone()).await.unwrap();
    let too_long = vec![("x".repeat(base::caps::SUBSCRIPTION_BYTES_MAX + 1), 0)];
    assert!(hub.store_filters(&session, too_long).await.is_err());
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    hub.create_device("dev1").await;
    assert_eq!(hub.store_filters(&session, filters).await.unwrap_err().code(), 404_104, "of the old one");
    let session = hub.connect("dev1").await;
    assert_eq!(hub.stored_filters(&session).await, Ok(None));
}

#[tokio::test]
async fn a_displaced_connection_does_not_change_the_filters_of_its_successor() {
    let filters = |filter: &str| vec![(filter.to_owned(), 1)];
    let hub = TestHub::with_device("dev1").await;
    let old = hub.connect("dev1").await;
    hub.store_filters(&old, filters("before")).await.unwrap();
    let new = hub.connect("dev1").await;
    assert_eq!(hub.store_filters(&old, filters("late")).await.unwrap_err().code(), 404_104);
    assert_eq!(hub.remove_filters(&old).await.unwrap_err().code(), 404_104);
    assert_eq!(hub.stored_filters(&new).await, Ok(Some(filters("before"))));
    hub.store_filters(&new, filters("new")).await.unwrap();
    drop(old);
    assert_eq!(hub.stored_filters(&new).await, Ok(Some(filters("new"))));
}

#[tokio::test]
async fn a_successor_reads_the_filters_behind_what_was_being_stored_when_it_came() {
    let hub = TestHub::with_device("dev1").await;
    let old = hub.connect("dev1").await;
    let under_way = hub.sessions().store_filters(&old).unwrap();
    let (second, third) = (hub.connect("dev1").await, hub.connect("dev1").await);
    let mut read = Box::pin(async { tokio::join!(hub.stored_filters(&second), hub.stored_filters(&third)) });
    assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let (instance, filters) = (hub.instance().clone(), vec![("in flight".to_owned(), 1)]);
    let mut batch = store::Batch::default();
    batch.put(&Subscription { instance, id: "dev1".parse().unwrap(), filters: filters.clone() });
    hub.store().commit(batch).await.unwrap();
    drop(under_way);
    let expected = Ok(Some(filters));
    assert_eq!(read.await, (expected.clone(), expected));
}

#[tokio::test]
async fn removing_a_hub_cuts_everyone_and_forgets_everything() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    hub.hubs.remove(hub.instance()).await.unwrap();
    assert_eq!(next_command(&session).await, Command::Close(CloseReason::HubRemoved));
    assert!(hub.hubs.find("hub").is_none());
    let refusal = hub.patch("dev1", json!({"tags": {"a": 1}})).await.unwrap_err();
    assert_eq!(refusal.code(), 401_001);
    let instance = base::InstanceId::from_stored("hub-hub-2");
    let again = crate::HubSettings { instance, ..crate::testing::settings("hub") };
    let again = hub.hubs.ensure(again).await.unwrap();
    assert_eq!(again.list_devices(&system(), None).await.unwrap(), []);
}
