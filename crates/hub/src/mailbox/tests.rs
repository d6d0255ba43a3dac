//! One mailbox: order, bounds, ends. And what closes a session that is still being opened.

use std::task::{Context, Poll, Waker};

use base::Clock;
use base::ids::IdentityId;
use store::sessions::{Node, Owner};

use super::{Command, Mailbox, Mailboxes};
use crate::bus::{Address, CloseReason, Delivery, Recipient, Reply};
use crate::testing::{start, within};

fn mailbox() -> Mailbox {
    Mailbox::new("dev1".parse().unwrap(), "1", Node { number: 0, epoch: 1 }, 1, start())
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

const NODE: Node = Node { number: 0, epoch: 1 };

fn id() -> IdentityId {
    "dev1".parse().unwrap()
}

fn owner(epoch: u64) -> Owner {
    Owner { node: NODE, epoch, since: start() }
}

fn address(epoch: u64) -> Address {
    Address { node: NODE, instance: base::InstanceId::from_stored("hub-1"), identity: id(), epoch }
}

fn is_pending(future: std::pin::Pin<&mut (impl Future + ?Sized)>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[tokio::test]
async fn a_session_that_is_closed_before_it_is_there_is_closed_when_it_comes() {
    let mailboxes = Mailboxes::new(Clock::manual(start()));
    let opening = mailboxes.announce(&id());
    let mut close = mailboxes.close(address(7), CloseReason::TakenOver);
    assert!(is_pending(close.as_mut()), "the session that is being opened may be the one");
    let mailbox = mailboxes.enter(&opening, "1", owner(7));
    assert_eq!(mailbox.closed(), Some(CloseReason::TakenOver));
    assert!(is_pending(close.as_mut()), "what it has under way may still land");
    drop(opening);
    within(close).await;
    assert_eq!(within(mailboxes.take(address(7), desired(1))).await, Reply::NotMine);
}

#[tokio::test]
async fn a_session_that_is_newer_than_the_one_closed_goes_on() {
    let mailboxes = Mailboxes::new(Clock::manual(start()));
    let opening = mailboxes.announce(&id());
    let mut close = mailboxes.close(address(7), CloseReason::TakenOver);
    assert!(is_pending(close.as_mut()));
    let mailbox = mailboxes.enter(&opening, "1", owner(8));
    within(close).await;
    assert_eq!(mailbox.closed(), None);
    drop(opening);
    assert_eq!(within(mailboxes.take(address(7), desired(1))).await, Reply::NotMine, "of another epoch");
    assert_eq!(within(mailboxes.take(address(8), desired(1))).await, Reply::NotListening);
    assert_eq!(mailbox.closed(), None);
    assert_eq!(within(mailboxes.take(address(9), desired(1))).await, Reply::NotMine);
    assert_eq!(mailbox.closed(), Some(CloseReason::TakenOver), "it hears so that there is a newer one");
}

#[test]
fn of_two_sessions_the_greater_epoch_stays_whichever_comes_first() {
    let mailboxes = Mailboxes::new(Clock::manual(start()));
    let openings = [mailboxes.announce(&id()), mailboxes.announce(&id())];
    let newer = mailboxes.enter(&openings[1], "1", owner(8));
    let older = mailboxes.enter(&openings[0], "1", owner(7));
    assert_eq!((older.closed(), newer.closed()), (Some(CloseReason::TakenOver), None));
    drop(openings);
    mailboxes.end(&older);
    assert_eq!(mailboxes.known(&id(), "1").map(|known| (known.epoch, known.connected)), Some((8, true)));
}

#[test]
fn sessions_of_another_life_of_the_node_are_closed() {
    let mailboxes = Mailboxes::new(Clock::manual(start()));
    let opening = mailboxes.announce(&id());
    let mailbox = mailboxes.enter(&opening, "1", owner(7));
    mailboxes.close_other_lives(NODE);
    assert_eq!(mailbox.closed(), None);
    mailboxes.close_other_lives(Node { epoch: 2, ..NODE });
    assert_eq!(mailbox.closed(), Some(CloseReason::NodeLost));
}

/// The row of one identity, as a store keeps it.
#[derive(Default)]
struct Row(std::sync::Mutex<(u64, Option<Address>)>);

impl Row {
    fn begin(&self, node: u32) -> (u64, Option<Address>) {
        let mut row = self.0.lock().unwrap();
        row.0 += 1;
        let node = Node { number: node, epoch: 1 };
        let begun = Address { node, ..address(row.0) };
        (row.0, row.1.replace(begun))
    }
}

/// Lets others go first, a few times.
async fn dawdle(random: u64, step: u32) {
    for _ in 0..(random >> (4 * step)) & 7 {
        tokio::task::yield_now().await;
    }
}

async fn connect(nodes: [Mailboxes; 2], row: std::sync::Arc<Row>, random: u64) -> std::sync::Arc<Mailbox> {
    let number = u32::from(random & 8 > 0);
    let here = &nodes[number as usize];
    dawdle(random, 1).await;
    let opening = here.announce(&id());
    dawdle(random, 2).await;
    let (epoch, previous) = row.begin(number);
    dawdle(random, 3).await;
    let mailbox = here.enter(&opening, "1", owner(epoch));
    dawdle(random, 4).await;
    if let Some(previous) = previous {
        within(nodes[previous.node.number as usize].close(previous, CloseReason::TakenOver)).await;
    }
    dawdle(random, 5).await;
    mailbox
}

#[tokio::test]
async fn however_connections_come_between_each_other_one_is_left() {
    for seed in 0..300_u64 {
        let nodes = [Mailboxes::new(Clock::manual(start())), Mailboxes::new(Clock::manual(start()))];
        let (row, mut tasks) = (std::sync::Arc::new(Row::default()), tokio::task::JoinSet::new());
        let mut random = seed;
        for _ in 0..6 {
            // Knuth's numbers: any that mix well do.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tasks.spawn(connect(nodes.clone(), std::sync::Arc::clone(&row), random >> 16));
        }
        let mailboxes = tasks.join_all().await;
        let open = mailboxes.iter().filter(|mailbox| mailbox.closed().is_none());
        let open: Vec<_> = open.map(|mailbox| mailbox.epoch).collect();
        assert_eq!(open, [6], "seed {seed}");
    }
}
