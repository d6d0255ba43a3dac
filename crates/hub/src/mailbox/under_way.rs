//! What of an identity's sessions is under way on this node and could still land in the store: sessions that are being opened, and
//! filters that are being written. Whoever closes a session waits until nothing of it is.

use std::collections::HashMap;

use base::Timestamp;
use base::ids::IdentityId;
use tokio::sync::oneshot;

use crate::bus::CloseReason;

/// Not known yet: the session's row is being written.
const NO_EPOCH: u64 = 0;

#[derive(Default)]
pub(super) struct AllUnderWay(HashMap<IdentityId, OfIdentity>);

#[derive(Default)]
struct OfIdentity {
    last_number: u64,
    /// Since when the last one that was opened is connected.
    last_since: Option<Timestamp>,
    /// Numbers, and epochs of the sessions.
    works: Vec<(u64, u64)>,
    /// Sessions up to this epoch were closed while one was being opened, which may be one of them.
    closed: Option<(u64, CloseReason)>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl OfIdentity {
    /// Whoever waits looks again as its sender goes.
    fn wake(&mut self) {
        self.waiting.clear();
    }
}

impl AllUnderWay {
    pub(super) fn begin(&mut self, id: &IdentityId, epoch: Option<u64>) -> u64 {
        let of = self.0.entry(id.clone()).or_default();
        of.last_number += 1;
        of.works.push((of.last_number, epoch.unwrap_or(NO_EPOCH)));
        of.last_number
    }

    /// A time from which a session that is being opened may say to be connected: no other one of the identity that is being opened has
    /// it, nor one from `before`.
    pub(super) fn since(&mut self, id: &IdentityId, now: Timestamp, before: Option<Timestamp>) -> Timestamp {
        let of = self.0.entry(id.clone()).or_default();
        let after = |other: Timestamp| Timestamp::from_ticks(other.ticks().saturating_add(1));
        let since = [before, of.last_since].into_iter().flatten().map(after).fold(now, Timestamp::max);
        of.last_since = Some(since);
        since
    }

    /// Gives a session that is being opened its epoch; and the reason, if it was closed already.
    pub(super) fn enter(&mut self, id: &IdentityId, number: u64, epoch: u64) -> Option<CloseReason> {
        let of = self.0.get_mut(id)?;
        if let Some(work) = of.works.iter_mut().find(|work| work.0 == number) {
            work.1 = epoch;
        }
        of.wake();
        of.closed.filter(|(closed, _)| epoch <= *closed).map(|(_, reason)| reason)
    }

    /// Notes that sessions up to this epoch are closed, for those that are still to be entered.
    pub(super) fn close(&mut self, id: &IdentityId, epoch: u64, reason: CloseReason) {
        if let Some(of) = self.0.get_mut(id) {
            of.closed = of.closed.filter(|(closed, _)| *closed > epoch).or(Some((epoch, reason)));
        }
    }

    /// `None`: nothing is under way of sessions up to this epoch. Else look again once it resolves.
    pub(super) fn wait(&mut self, id: &IdentityId, epoch: u64) -> Option<oneshot::Receiver<()>> {
        let of = self.0.get_mut(id)?;
        // One without an epoch may turn out to be of those.
        of.works.iter().find(|(_, of)| *of <= epoch)?;
        let (wake, woken) = oneshot::channel();
        of.waiting.push(wake);
        Some(woken)
    }

    pub(super) fn end(&mut self, id: &IdentityId, number: u64) {
        if let Some(of) = self.0.get_mut(id) {
            of.works.retain(|work| work.0 != number);
            of.wake();
            if of.works.is_empty() {
                self.0.remove(id);
            }
        }
    }
}
