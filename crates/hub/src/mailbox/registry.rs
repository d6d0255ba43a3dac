//! All mailboxes of one hub on this node. Clones share them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::ids::IdentityId;
use base::{Clock, Timestamp, caps};
use parking_lot::Mutex;
use store::Revision;
use store::sessions::{Node, Owner};
use tokio::sync::oneshot;

use super::one::{Mailbox, MethodAnswer, Offered, Refused};
use super::under_way::AllUnderWay;
use crate::bus::{Address, Answering, CloseReason, Delivery, Recipient, Reply};

#[derive(Clone)]
pub(crate) struct Mailboxes(Arc<Shared>);

struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: HashMap<IdentityId, Arc<Mailbox>>,
    /// Sessions that ended and whose last activity is not in the store yet.
    ended: HashMap<IdentityId, Known>,
    under_way: AllUnderWay,
    /// Direct methods that wait for a device to come.
    waiting: HashMap<IdentityId, Vec<oneshot::Sender<()>>>,
    methods_in_flight: HashMap<IdentityId, usize>,
}

/// What this node knows of the latest session of an identity that it held.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) generation_id: String,
    pub(crate) epoch: u64,
    pub(crate) connected: bool,
    /// Since when it is connected, or not.
    pub(crate) at: Timestamp,
    pub(crate) last_activity: Timestamp,
    /// Of the record that holds what the session wrote last, if that is known.
    pub(crate) revision: Option<Revision>,
}

impl Known {
    fn live(mailbox: &Mailbox) -> Self {
        let revision = mailbox.activity_revision.load(Ordering::Relaxed);
        Self {
            generation_id: mailbox.generation_id.clone(),
            epoch: mailbox.epoch,
            connected: true,
            at: mailbox.connected_at,
            last_activity: mailbox.last_activity(),
            revision: (revision > 0).then(|| Revision::from_u64(revision)),
        }
    }
}

impl Mailboxes {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { clock, state: Mutex::default() }))
    }

    /// Now, or as soon after as makes it the time of one session of the identity alone, which the store tells it by.
    pub(crate) fn since(&self, opening: &UnderWay, now: Timestamp) -> Timestamp {
        let mut state = self.0.state.lock();
        let before = state.live.get(&opening.id).map(|live| live.connected_at);
        state.under_way.since(&opening.id, now, before)
    }

    /// Announces a session before it has an epoch, so that whoever closes it meanwhile is heard.
    pub(crate) fn announce(&self, id: &IdentityId) -> UnderWay {
        let number = self.under_way(|all| all.begin(id, None));
        UnderWay { mailboxes: self.clone(), id: id.clone(), number }
    }

    /// The mailbox of an announced session. It takes the place of an older one; where a newer one is there already, it is closed.
    pub(crate) fn enter(&self, opening: &UnderWay, generation_id: &str, owner: Owner) -> Arc<Mailbox> {
        let id = &opening.id;
        let Owner { node, epoch, since } = owner;
        let mailbox = Arc::new(Mailbox::new(id.clone(), generation_id, node, epoch, since));
        let mut state = self.0.state.lock();
        if let Some(reason) = state.under_way.enter(id, opening.number, epoch) {
            mailbox.close(reason);
        }
        if state.live.get(id).is_some_and(|live| live.epoch > epoch) {
            mailbox.close(CloseReason::TakenOver);
            return mailbox;
        }
        state.ended.remove(id);
        if let Some(displaced) = state.live.insert(id.clone(), Arc::clone(&mailbox)) {
            displaced.close(CloseReason::TakenOver);
        }
        mailbox
    }

    /// Ends a session, unless a newer one has taken its place already.
    pub(crate) fn end(&self, mailbox: &Mailbox) {
        mailbox.close(CloseReason::Ended);
        let mut state = self.0.state.lock();
        if state.live.get(&mailbox.id).is_some_and(|live| live.epoch == mailbox.epoch) {
            state.live.remove(&mailbox.id);
            let ended = Known { connected: false, at: self.0.clock.stamp(), ..Known::live(mailbox) };
            state.ended.insert(mailbox.id.clone(), ended);
        }
    }

    pub(crate) fn close_all(&self, reason: CloseReason) {
        self.0.state.lock().live.values().for_each(|mailbox| mailbox.close(reason));
    }

    /// Closes what was opened in another life of this node: nobody finds it any more.
    pub(crate) fn close_other_lives(&self, node: Node) {
        let state = self.0.state.lock();
        let of_others = state.live.values().filter(|mailbox| mailbox.node != node);
        of_others.for_each(|mailbox| mailbox.close(CloseReason::NodeLost));
    }

    /// Devices that are connected to this node, without their modules.
    pub(crate) fn devices(&self) -> u64 {
        let state = self.0.state.lock();
        state.live.keys().filter(|id| id.module_id.is_none()).count() as u64
    }

    /// Of the session here, or of one that ended here moments ago.
    pub(crate) fn known(&self, id: &IdentityId, generation_id: &str) -> Option<Known> {
        let state = self.0.state.lock();
        let live = state.live.get(id).map(|live| Known::live(live));
        live.or_else(|| state.ended.get(id).cloned()).filter(|known| known.generation_id == generation_id)
    }

    /// What no flush has seen yet. Ended sessions stay until [`Self::flushed`].
    pub(crate) fn unflushed(&self) -> Vec<(IdentityId, Known)> {
        let state = self.0.state.lock();
        let live = state.live.iter().filter(|(_, live)| live.take_unflushed());
        let live = live.map(|(id, live)| (id.clone(), Known::live(live)));
        live.chain(state.ended.iter().map(|(id, ended)| (id.clone(), ended.clone()))).collect()
    }

    /// The record of activity holds what is known now, under this revision if it is known.
    pub(crate) fn flushed(&self, id: &IdentityId, known: &Known, revision: Option<Revision>) {
        let mut state = self.0.state.lock();
        if let Some(live) = state.live.get(id).filter(|live| live.epoch == known.epoch) {
            let revision = revision.map_or(0, Revision::get);
            live.activity_revision.store(revision, Ordering::Relaxed);
        }
        if state.ended.get(id).is_some_and(|ended| ended == known) {
            state.ended.remove(id);
        }
    }

    /// Resolves when the identity next comes here to listen to methods.
    pub(crate) fn line(&self, id: &IdentityId) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.0.state.lock();
        let waiting = state.waiting.entry(id.clone()).or_default();
        waiting.retain(|other| !other.is_closed());
        waiting.push(wake);
        woken
    }

    #[cfg(test)]
    pub(crate) fn is_waited_for(&self, id: &IdentityId) -> bool {
        let state = self.0.state.lock();
        state.waiting.get(id).is_some_and(|line| line.iter().any(|waiting| !waiting.is_closed()))
    }

    pub(crate) fn wake(&self, id: &IdentityId) {
        let waiting = self.0.state.lock().waiting.remove(id);
        for wake in waiting.into_iter().flatten() {
            // Nobody waits any more: fine.
            let _ = wake.send(());
        }
    }

    /// Leave to do something of a session that must be over before a successor begins. `None`: it is not, or no longer, the one in place.
    /// Whoever takes over waits until the leave is given back.
    pub(crate) fn leave_to_work(&self, mailbox: &Mailbox) -> Option<UnderWay> {
        let id = &mailbox.id;
        let mut state = self.0.state.lock();
        let is_in_place = state.live.get(id).is_some_and(|live| live.epoch == mailbox.epoch);
        if !is_in_place || mailbox.closed().is_some() {
            return None;
        }
        let number = state.under_way.begin(id, Some(mailbox.epoch));
        Some(UnderWay { mailboxes: self.clone(), id: id.clone(), number })
    }

    fn under_way<T>(&self, work: impl FnOnce(&mut AllUnderWay) -> T) -> T {
        work(&mut self.0.state.lock().under_way)
    }

    /// Takes one of the places for direct methods of an identity. `None`: all are taken.
    pub(crate) fn method_place(&self, id: &IdentityId) -> Option<MethodPlace> {
        let mut state = self.0.state.lock();
        let in_flight = state.methods_in_flight.entry(id.clone()).or_insert(0);
        if *in_flight >= caps::METHODS_IN_FLIGHT_PER_DEVICE_MAX {
            return None;
        }
        *in_flight += 1;
        Some(MethodPlace { mailboxes: self.clone(), id: id.clone() })
    }

    /// The mailbox under exactly this epoch. One under an older epoch learns here that it was taken over.
    fn addressed(&self, to: &Address) -> Option<Arc<Mailbox>> {
        let live = self.0.state.lock().live.get(&to.identity).cloned()?;
        if live.epoch < to.epoch {
            live.close(CloseReason::TakenOver);
        }
        (live.epoch == to.epoch && live.closed().is_none()).then_some(live)
    }

    async fn answer(
        &self,
        mailbox: &Mailbox,
        answered: oneshot::Receiver<MethodAnswer>,
        timeout_ms: u64,
    ) -> Reply {
        tokio::select! {
            biased;
            answer = answered => match answer {
                Ok(MethodAnswer::Sent { status, payload }) => Reply::Answered { status, payload },
                Ok(MethodAnswer::Declined) => Reply::Declined,
                Err(_) => Reply::Closed(mailbox.closed().unwrap_or(CloseReason::Ended)),
            },
            () = self.0.clock.sleep(Duration::from_millis(timeout_ms)) => Reply::TimedOut,
        }
    }
}

impl Recipient for Mailboxes {
    fn take(&self, to: Address, delivery: Delivery) -> Answering<'_, Reply> {
        Box::pin(async move {
            let Some(mailbox) = self.addressed(&to) else { return Reply::NotMine };
            let timeout_ms = match &delivery {
                Delivery::Method { timeout_ms, .. } => *timeout_ms,
                Delivery::Desired { .. } | Delivery::CloudToDevice => 0,
            };
            match mailbox.offer(delivery) {
                Err(Refused) => Reply::NotListening,
                Ok(Offered::Taken) => Reply::Taken,
                Ok(Offered::Awaits(answered)) => self.answer(&mailbox, answered, timeout_ms).await,
            }
        })
    }

    fn close(&self, session: Address, reason: CloseReason) -> Answering<'_, ()> {
        Box::pin(async move {
            let (id, epoch) = (&session.identity, session.epoch);
            {
                let mut state = self.0.state.lock();
                state.under_way.close(id, epoch, reason);
                if let Some(live) = state.live.get(id).filter(|live| live.epoch <= epoch) {
                    live.close(reason);
                }
            }
            while let Some(over) = self.under_way(|all| all.wait(id, epoch)) {
                // An error means the same: something is over.
                let _ = over.await;
            }
        })
    }
}

/// Something under way, until it is dropped.
pub(crate) struct UnderWay {
    mailboxes: Mailboxes,
    id: IdentityId,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.mailboxes.under_way(|all| all.end(&self.id, self.number));
    }
}

/// One of the places for direct methods of an identity, given back when dropped.
pub(crate) struct MethodPlace {
    mailboxes: Mailboxes,
    id: IdentityId,
}

impl Drop for MethodPlace {
    fn drop(&mut self) {
        let mut state = self.mailboxes.0.state.lock();
        let left = state.methods_in_flight.get(&self.id).map_or(0, |count| count - 1);
        if left > 0 {
            state.methods_in_flight.insert(self.id.clone(), left);
            return;
        }
        // The last one takes the line of those who waited with it.
        state.methods_in_flight.remove(&self.id);
        state.waiting.remove(&self.id);
    }
}
