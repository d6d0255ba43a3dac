//! Sessions: takeover, order, cuts, activity.

use std::task::{Context, Waker};
use std::time::Duration;

use base::IfMatch;
use serde_json::json;

use crate::device::{DeviceSpec, Status};
use crate::subscription::Subscription;
use crate::testing::{TestHub, next_command, system};
use crate::{CloseReason, Command};

#[tokio::test]
async fn a_newer_connection_takes_over() {
    let hub = TestHub::with_device("dev1").await;
    let first = hub.connect("dev1").await;
    let second = hub.connect("dev1").await;
    assert!(second.epoch() > first.epoch());
    assert_eq!(next_command(&first).await, Command::Close(CloseReason::TakenOver));
    drop(first);
    assert!(
        hub.is_connected(&"dev1".parse().unwrap()).await.unwrap(),
        "the end of the old one is not the end of the new"
    );
    assert_eq!(second.try_next_command(), None);
    drop(second);
    hub.disconnected("dev1").await;
}

#[tokio::test]
async fn a_device_and_its_modules_are_connected_apart() {
    let hub = TestHub::with_module().await;
    let (device, module) = (hub.connect("dev1").await, hub.connect("dev1/mod1").await);
    assert_eq!((device.try_next_command(), module.try_next_command()), (None, None));
    assert_eq!(hub.connected_devices().await.unwrap(), 1);
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
async fn a_connection_that_goes_away_while_it_opens_leaves_nobody_connected_and_the_one_before_told() {
    let hub = TestHub::with_device("dev1").await;
    for waits in 0.. {
        let earlier = hub.connect("dev1").await;
        let authentication = hub.authenticate("dev1").await.unwrap();
        // The embedded engine makes it wait for nothing.
        if hub.is_answered_in(waits, hub.open_session(authentication, None)).await {
            break;
        }
        assert_eq!(next_command(&earlier).await, Command::Close(CloseReason::TakenOver));
        hub.disconnected("dev1").await;
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
    hub.disconnected("dev1").await;
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
async fn a_successor_comes_in_behind_what_was_being_stored_when_it_came() {
    let hub = TestHub::with_device("dev1").await;
    let old = hub.connect("dev1").await;
    let under_way = old.leave_to_work().unwrap();
    let mut successors = Box::pin(async { tokio::join!(hub.connect("dev1"), hub.connect("dev1")) });
    for _ in 0..3 {
        assert!(successors.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let (instance, filters) = (hub.instance().clone(), vec![("in flight".to_owned(), 1)]);
    let mut batch = store::Batch::default();
    batch.put(&Subscription { instance, id: "dev1".parse().unwrap(), filters: filters.clone() });
    hub.store().commit(batch).await.unwrap();
    drop(under_way);
    let (second, third) = crate::testing::within(successors).await;
    assert_eq!(hub.stored_filters(&third).await, Ok(Some(filters)));
    assert_eq!(next_command(&second).await, Command::Close(CloseReason::TakenOver));
    assert!(old.leave_to_work().is_none());
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

#[tokio::test]
async fn a_session_lasts_as_long_as_the_latest_proof_of_its_own_identity() {
    let hub = TestHub::with_module().await;
    let mut session = hub.connect("dev1").await;
    let first = session.authentication().expires_at.unwrap();
    hub.clock.advance(Duration::from_mins(30));
    session.renew(hub.authenticate("dev1").await.unwrap()).unwrap();
    assert_eq!(session.authentication().expires_at, Some(first.plus(Duration::from_mins(30))));
    let renewed = session.authentication().expires_at;
    hub.clock.advance(Duration::from_mins(30));
    assert!(session.renew(hub.authenticate("dev1/mod1").await.unwrap()).is_err(), "another identity");
    let before = hub.authenticate("dev1").await.unwrap();
    hub.hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    hub.create_device("dev1").await;
    let mut made_again = hub.connect("dev1").await;
    assert!(made_again.renew(before).is_err(), "a device of the same name that is gone");
    assert_eq!(session.authentication().expires_at, renewed);
}
