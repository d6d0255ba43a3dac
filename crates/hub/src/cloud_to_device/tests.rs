//! Queues of messages to devices: order, limits, locks, ends and what senders hear of them. A plain model stands beside the store in
//! the last test, and every step of a random walk must leave both alike.

use std::collections::BTreeMap;
use std::time::Duration;

use access::Caller;
use base::ids::IdentityId;
use base::{DeviceId, IfMatch, Timestamp, caps};
use bytes::Bytes;

use super::*;
use crate::Command;
use crate::testing::{TestHub, next_command, random_walk, system};

fn dev1() -> DeviceId {
    "dev1".parse().unwrap()
}

fn asks(ack: Ack, id: &str) -> Properties {
    Properties { ack: Some(ack), message_id: Some(id.to_owned()), ..Properties::default() }
}

impl TestHub {
    fn device(&self) -> Caller {
        Caller::identity(self.scope().clone(), IdentityId::device(dev1()))
    }

    async fn sends(&self, properties: Properties, body: &'static str) -> Result<u64, Error> {
        self.send_to_device(&system(), &dev1(), properties, Bytes::from_static(body.as_bytes())).await
    }

    async fn receives(&self) -> Option<Received> {
        self.receive_message(&self.device(), &dev1()).await.unwrap()
    }

    async fn settles(&self, received: &Received, settlement: Settlement) -> Result<(), Error> {
        let token = received.lock_token.expect("it was taken by a request");
        self.settle_message(&self.device(), &dev1(), token, settlement).await
    }

    async fn waiting(&self) -> u32 {
        self.get_device(&system(), &dev1()).await.unwrap().messages
    }

    /// Everything that senders were told, in order; it is settled.
    async fn told(&self) -> Vec<(String, Outcome)> {
        let mut told = Vec::new();
        while let Some(batch) = self.receive_feedback(&system()).await.unwrap() {
            let one = |one: &Told| (one.original_message_id.clone().unwrap_or_default(), one.outcome);
            told.extend(batch.told.iter().map(one));
            self.settle_feedback(&system(), batch.lock_token, Settlement::Complete).await.unwrap();
        }
        told
    }
}

fn told(expected: &[(&str, Outcome)]) -> Vec<(String, Outcome)> {
    expected.iter().map(|(id, outcome)| ((*id).to_owned(), *outcome)).collect()
}

#[tokio::test]
async fn messages_come_in_order_with_what_their_sender_said_and_leave_when_completed() {
    let hub = TestHub::with_device("dev1").await;
    let properties = Properties {
        to: Some("/devices/dev1/messages/deviceBound".into()),
        application: vec![("b".into(), "2".into()), ("a".into(), String::new())],
        ..asks(Ack::Full, "m1")
    };
    assert_eq!(hub.sends(properties.clone(), "one").await, Ok(1));
    assert_eq!(hub.sends(Properties::default(), "two").await, Ok(2));
    assert_eq!(hub.waiting().await, 2);
    let first = hub.receives().await.unwrap();
    assert_eq!((&first.properties, &first.body[..], first.delivery_count), (&properties, &b"one"[..], 0));
    assert_eq!(first.expires.since(first.enqueued), Duration::from_hours(1));
    let second = hub.receives().await.unwrap();
    assert_eq!((second.sequence, hub.receives().await), (2, None));
    hub.settles(&second, Settlement::Complete).await.unwrap();
    hub.settles(&first, Settlement::Complete).await.unwrap();
    assert_eq!(hub.settles(&first, Settlement::Complete).await, Err(Error::DeviceMessageLockLost));
    assert_eq!((hub.waiting().await, hub.receives().await), (0, None));
    assert_eq!(hub.told().await, told(&[("m1", Outcome::Success)]));
}

#[tokio::test]
async fn a_full_queue_refuses_until_a_message_leaves_or_expires() {
    let hub = TestHub::with_device("dev1").await;
    let soon = hub.now().plus(Duration::from_secs(90));
    let first = Properties { absolute_expiry_time: Some(soon), ..asks(Ack::Negative, "first") };
    hub.sends(first, "x").await.unwrap();
    for _ in 1..caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT {
        hub.sends(Properties::default(), "x").await.unwrap();
    }
    let full = Err(Error::DeviceMaximumQueueDepthExceeded(caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT));
    assert_eq!(hub.sends(Properties::default(), "x").await, full);
    hub.clock.advance(Duration::from_secs(90));
    assert_eq!(hub.sends(Properties::default(), "x").await, Ok(51));
    assert_eq!(hub.sends(Properties::default(), "x").await, full);
    assert_eq!(hub.told().await, told(&[("first", Outcome::Expired)]));
    assert_eq!(hub.purge_messages(&system(), &dev1()).await, Ok(caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT));
    assert_eq!(hub.waiting().await, 0);
    assert_eq!(hub.sends(Properties::default(), "x").await, Ok(52), "a number never comes back");
}

#[tokio::test]
async fn a_lock_is_over_after_a_minute_and_only_giving_back_on_purpose_counts() {
    let hub = TestHub::with_device("dev1").await;
    hub.sends(asks(Ack::Full, "m"), "x").await.unwrap();
    let first = hub.receives().await.unwrap();
    hub.clock.advance(Duration::from_secs(caps::CLOUD_TO_DEVICE_LOCK_SECONDS));
    assert_eq!(hub.settles(&first, Settlement::Complete).await, Err(Error::DeviceMessageLockLost));
    for count in 0..10 {
        let received = hub.receives().await.unwrap();
        assert_eq!(received.delivery_count, count);
        hub.settles(&received, Settlement::Abandon).await.unwrap();
    }
    assert_eq!((hub.receives().await, hub.waiting().await), (None, 0));
    assert_eq!(hub.told().await, told(&[("m", Outcome::DeliveryCountExceeded)]));
}

#[tokio::test]
async fn what_expires_is_told_when_its_time_comes_whoever_holds_it() {
    let hub = TestHub::with_device("dev1").await;
    let at = |seconds| Some(hub.now().plus(Duration::from_secs(seconds)));
    for (id, seconds) in [("late", 200), ("soon", 70), ("held", 80)] {
        let properties = Properties { absolute_expiry_time: at(seconds), ..asks(Ack::Full, id) };
        hub.sends(properties, "x").await.unwrap();
    }
    let held = hub.receives().await.unwrap();
    hub.settles(&held, Settlement::Reject).await.unwrap();
    hub.receives().await.unwrap();
    hub.clock.advance(Duration::from_secs(69));
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.told().await, told(&[("late", Outcome::Rejected)]));
    hub.clock.advance(Duration::from_secs(11));
    assert_eq!(hub.receives().await, None, "nothing is delivered behind its time");
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.told().await, told(&[("soon", Outcome::Expired), ("held", Outcome::Expired)]));
    assert_eq!(hub.waiting().await, 0);
    let past = Properties { absolute_expiry_time: Some(hub.now()), ..Properties::default() };
    assert_eq!(hub.sends(past, "x").await, Err(Error::InvalidMessageExpiryTime));
}

#[tokio::test]
async fn feedback_is_held_given_back_and_kept_for_an_hour() {
    let hub = TestHub::with_device("dev1").await;
    assert_eq!(hub.receive_feedback(&system()).await, Ok(None));
    for _ in 0..2 {
        hub.sends(asks(Ack::Positive, "m"), "x").await.unwrap();
        let received = hub.receives().await.unwrap();
        hub.settles(&received, Settlement::Complete).await.unwrap();
    }
    let first = hub.receive_feedback(&system()).await.unwrap().unwrap();
    assert_eq!(first.told.len(), 2);
    assert_eq!(hub.receive_feedback(&system()).await, Ok(None), "somebody holds it");
    hub.clock.advance(Duration::from_mins(1));
    let settled = hub.settle_feedback(&system(), first.lock_token, Settlement::Complete).await;
    assert_eq!(settled, Err(Error::DeviceMessageLockLost));
    let again = hub.receive_feedback(&system()).await.unwrap().unwrap();
    assert_eq!(again.told, first.told);
    hub.settle_feedback(&system(), again.lock_token, Settlement::Abandon).await.unwrap();
    let third = hub.receive_feedback(&system()).await.unwrap().unwrap();
    hub.settle_feedback(&system(), third.lock_token, Settlement::Abandon).await.unwrap();
    hub.sends(asks(Ack::Positive, "n"), "x").await.unwrap();
    hub.clock.advance(Duration::from_mins(58));
    let received = hub.receives().await.unwrap();
    hub.settles(&received, Settlement::Complete).await.unwrap();
    hub.clock.advance(Duration::from_mins(2));
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.told().await, told(&[("n", Outcome::Success)]), "the first was kept for an hour");
}

#[tokio::test]
async fn a_queue_goes_with_its_device_and_a_successor_begins_with_none() {
    let hub = TestHub::with_device("dev1").await;
    hub.sends(asks(Ack::Full, "m"), "x").await.unwrap();
    hub.delete_device(&system(), &dev1(), &IfMatch::Any).await.unwrap();
    assert!(matches!(hub.sends(Properties::default(), "x").await, Err(Error::DeviceNotFound(_))));
    hub.create_device("dev1").await;
    assert_eq!((hub.waiting().await, hub.receives().await), (0, None));
    hub.clock.advance(Duration::from_hours(2));
    hub.hubs.do_what_is_due().await.unwrap();
    assert_eq!(hub.told().await, []);
}

#[tokio::test]
async fn a_connection_that_listens_has_the_queue_and_its_successor_has_anew_what_it_did_not_complete() {
    let hub = TestHub::with_device("dev1").await;
    hub.sends(Properties::default(), "one").await.unwrap();
    let session = hub.connect("dev1").await;
    assert_eq!(session.try_next_command(), None, "it does not listen yet");
    session.listen_to_messages(true);
    assert_eq!(next_command(&session).await, Command::MessagesWaiting);
    let sequences =
        |messages: Vec<Received>| messages.iter().map(|message| message.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(session.waiting_messages(vec![]).await.unwrap()), [1]);
    hub.sends(Properties::default(), "two").await.unwrap();
    assert_eq!(next_command(&session).await, Command::MessagesWaiting);
    assert_eq!(sequences(session.waiting_messages(vec![1]).await.unwrap()), [2]);
    assert_eq!(hub.receives().await, None, "they are all for the connection");
    session.complete_messages(vec![2]).await.unwrap();
    let successor = hub.connect("dev1").await;
    assert_eq!(
        session.complete_messages(vec![1]).await,
        Err(Error::DeviceConnectionClosedRemotely),
        "the successor has it already"
    );
    let displaced = session.waiting_messages(vec![]).await;
    assert_eq!(displaced, Err(Error::DeviceConnectionClosedRemotely), "it may be completed by now");
    successor.listen_to_messages(true);
    assert_eq!(sequences(successor.waiting_messages(vec![]).await.unwrap()), [1]);
    successor.listen_to_messages(false);
    assert_eq!(hub.receives().await.map(|message| message.sequence), Some(1));
    successor.listen_to_messages(true);
    assert_eq!(successor.waiting_messages(vec![]).await, Ok(vec![]), "a request holds it");
}

#[tokio::test]
async fn no_more_messages_are_under_way_than_the_window_holds() {
    let hub = TestHub::with_device("dev1").await;
    for _ in 0..20 {
        hub.sends(Properties::default(), "x").await.unwrap();
    }
    let session = hub.connect("dev1").await;
    let first = session.waiting_messages(vec![]).await.unwrap();
    assert_eq!(first.len(), caps::CLOUD_TO_DEVICE_WINDOW);
    let under_way: Vec<_> = first.iter().skip(3).map(|message| message.sequence).collect();
    session.complete_messages(vec![1, 2, 3]).await.unwrap();
    let next = session.waiting_messages(under_way).await.unwrap();
    assert_eq!(next.iter().map(|message| message.sequence).collect::<Vec<_>>(), [17, 18, 19]);
}

/// The same queue, plain and slow.
#[derive(Default)]
struct Model {
    last: u64,
    /// Number: id, ack, expiry, delivery count, until when it is held.
    messages: BTreeMap<u64, (String, Ack, Timestamp, u32, Option<Timestamp>)>,
    told: Vec<(String, Outcome)>,
}

impl Model {
    fn end(&mut self, sequence: u64, outcome: Outcome) {
        let (id, ack, ..) = self.messages.remove(&sequence).unwrap();
        if ack.wants(outcome) {
            self.told.push((id, outcome));
        }
    }

    fn expire(&mut self, now: Timestamp) {
        let over = self.messages.iter().filter(|(_, message)| message.2 <= now);
        for sequence in over.map(|(sequence, _)| *sequence).collect::<Vec<_>>() {
            self.end(sequence, Outcome::Expired);
        }
    }

    fn free(&self, now: Timestamp) -> Option<u64> {
        let is_free = |message: &(String, Ack, Timestamp, u32, Option<Timestamp>)| {
            message.2 > now && message.4.is_none_or(|until| until <= now)
        };
        self.messages.iter().find(|(_, message)| is_free(message)).map(|(sequence, _)| *sequence)
    }

    fn holds(&self, sequence: u64, now: Timestamp) -> bool {
        self.messages.get(&sequence).is_some_and(|message| message.4.is_some_and(|until| until > now))
    }
}

#[tokio::test]
async fn a_random_walk_leaves_the_queue_as_a_plain_model_has_it() {
    let (mut rng, steps) = random_walk(3000);
    let hub = TestHub::with_device("dev1").await;
    let mut model = Model::default();
    // What was taken last, whether it is still held or not.
    let mut taken: Vec<Received> = Vec::new();
    for step in 0..steps {
        let now = hub.now();
        match rng.u8(0..10) {
            0..=3 => {
                let ack = Ack::ALL[rng.usize(0..4)];
                let expires = now.plus(Duration::from_secs(rng.u64(1..200)));
                let id = format!("m{step}");
                let properties = Properties { absolute_expiry_time: Some(expires), ..asks(ack, &id) };
                let sent = hub.sends(properties, "x").await;
                if model.messages.len() >= 50 {
                    model.expire(now);
                }
                if model.messages.len() >= 50 {
                    assert_eq!(sent, Err(Error::DeviceMaximumQueueDepthExceeded(50)));
                } else {
                    model.last += 1;
                    assert_eq!(sent, Ok(model.last));
                    model.messages.insert(model.last, (id, ack, expires, 0, None));
                }
            }
            4..=5 => {
                let received = hub.receives().await;
                assert_eq!(received.as_ref().map(|message| message.sequence), model.free(now));
                if let Some(received) = received {
                    let message = model.messages.get_mut(&received.sequence).unwrap();
                    assert_eq!(message.3, received.delivery_count);
                    message.4 = Some(now.plus(LOCK));
                    taken.retain(|other| other.sequence != received.sequence);
                    taken.push(received);
                }
            }
            6..=7 if !taken.is_empty() => {
                let received = taken.swap_remove(rng.usize(0..taken.len()));
                let sequence = received.sequence;
                let settlement =
                    [Settlement::Complete, Settlement::Reject, Settlement::Abandon][rng.usize(0..3)];
                let settled = hub.settles(&received, settlement).await;
                if !model.holds(sequence, now) {
                    assert_eq!(settled, Err(Error::DeviceMessageLockLost));
                    continue;
                }
                settled.unwrap();
                let count = model.messages[&sequence].3 + 1;
                match settlement {
                    Settlement::Complete => model.end(sequence, Outcome::Success),
                    Settlement::Reject => model.end(sequence, Outcome::Rejected),
                    Settlement::Abandon if count >= 10 => {
                        model.end(sequence, Outcome::DeliveryCountExceeded);
                    }
                    Settlement::Abandon => {
                        let message = model.messages.get_mut(&sequence).unwrap();
                        (message.3, message.4) = (count, None);
                    }
                }
            }
            8 => hub.clock.advance(Duration::from_secs(rng.u64(0..40))),
            9 if rng.u8(0..20) == 0 => {
                let purged = hub.purge_messages(&system(), &dev1()).await.unwrap();
                assert_eq!(purged as usize, model.messages.len());
                let all: Vec<_> = model.messages.keys().copied().collect();
                for sequence in all {
                    model.end(sequence, Outcome::Purged);
                }
            }
            _ => {
                hub.hubs.do_what_is_due().await.unwrap();
                model.expire(hub.now());
                assert_eq!(hub.waiting().await as usize, model.messages.len());
                // What ends in the same moment is told by number.
                let in_any_order = |mut told: Vec<(String, Outcome)>| {
                    told.sort_by(|one, other| one.0.cmp(&other.0));
                    told
                };
                let expected = in_any_order(std::mem::take(&mut model.told));
                assert_eq!(in_any_order(hub.told().await), expected, "step {step}");
            }
        }
    }
}
