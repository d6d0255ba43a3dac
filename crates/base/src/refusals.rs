//! Who was kept out or cut off, and why: told to the log once per identity, reason and minute, for as many as there is room to
//! remember, counted by reason, and the last of them kept for whoever asks. Every door tells it here, so that the log, `/metrics` and
//! `twinhub status` say the same. It must never be given anything that was presented but an id that could be somebody's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{Clock, Elapsed, Timestamp, caps};

/// Who was turned away.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A device or module, a registration, or what was taken for one.
    Device(String),
    /// A principal, a policy, an application.
    Caller(String),
    /// Somebody of whom nothing but the address is known.
    Stranger,
}

/// The permission that somebody known does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacks {
    /// Azure's name of it, as roles list it.
    pub action: &'static str,
    /// The right that a shared access policy would need for it; `None`: no policy can have it.
    pub right: Option<&'static str>,
    /// Where it is wanted.
    pub scope: String,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dismissal {
    /// `mqtt`, or the service whose face over HTTPS it was.
    pub door: &'static str,
    /// The name of a hub or another instance, or what was taken for one.
    pub service: String,
    pub who: Who,
    /// `None`: this machine.
    pub peer: Option<IpAddr>,
    pub why: &'static str,
    pub lacks: Option<Lacks>,
    /// As the answer tells it.
    pub request_id: Option<String>,
    /// What the caller calls the work that the request belongs to.
    pub correlation_id: Option<String>,
}

impl Dismissal {
    pub fn of_device(door: &'static str, service: String, device: String, why: &'static str) -> Self {
        Self { who: Who::Device(device), ..Self::of_stranger(door, service, None, why) }
    }

    pub fn of_stranger(door: &'static str, service: String, peer: Option<IpAddr>, why: &'static str) -> Self {
        Self {
            door,
            service,
            who: Who::Stranger,
            peer,
            why,
            lacks: None,
            request_id: None,
            correlation_id: None,
        }
    }

    /// The identity, or the address of somebody who has none.
    pub fn name(&self) -> String {
        match &self.who {
            Who::Device(name) | Who::Caller(name) => name.clone(),
            Who::Stranger => self.peer_text(),
        }
    }

    pub fn peer_text(&self) -> String {
        self.peer.map_or_else(|| "this machine".to_owned(), |at| at.to_canonical().to_string())
    }
}

/// The memory of one server. Clones share it.
#[derive(Clone)]
pub struct Refusals(Arc<Shared>);

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    hashes: RandomState,
}

#[derive(Default)]
struct State {
    /// By the hash of an identity and a reason: strangers choose their ids and how long they are.
    told_at: HashMap<u64, Elapsed>,
    overflow_at: Option<Elapsed>,
    /// Reasons are texts of ours, so there are as many as the code has.
    totals: BTreeMap<(&'static str, &'static str), u64>,
    recent: VecDeque<(Timestamp, Dismissal)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Tell,
    /// Nothing more can be remembered; said itself once a minute.
    TellOverflow,
    Silence,
}

impl Refusals {
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { clock, state: Mutex::default(), hashes: RandomState::new() }))
    }

    pub fn tell(&self, dismissal: &Dismissal) {
        match self.note(dismissal) {
            Telling::Tell => log(dismissal),
            Telling::TellOverflow => {
                tracing::info!("more are refused than can be told apart; the log tells of some");
            }
            Telling::Silence => {}
        }
    }

    /// How many were refused since the start, by door and reason.
    pub fn totals(&self) -> Vec<(&'static str, &'static str, u64)> {
        let state = self.0.state.lock();
        state.totals.iter().map(|((door, why), count)| (*door, *why, *count)).collect()
    }

    /// The last refusals that were told, the newest first, with their times.
    pub fn recent(&self) -> Vec<(Timestamp, Dismissal)> {
        self.0.state.lock().recent.iter().rev().cloned().collect()
    }

    fn note(&self, dismissal: &Dismissal) -> Telling {
        let now = self.0.clock.elapsed();
        let Dismissal { door, service, who, peer, why, lacks, .. } = dismissal;
        let minute = Duration::from_secs(caps::REFUSAL_TOLD_SECONDS);
        let is_recent = |at: &Elapsed| now.since(*at) < minute;
        // Whoever has a name is one, wherever it calls from.
        let address = (*who == Who::Stranger).then_some(peer);
        let identity =
            self.0.hashes.hash_one((service, who, address, why, lacks.as_ref().map(|lacks| lacks.action)));
        let mut state = self.0.state.lock();
        if state.totals.len() < caps::REFUSAL_REASONS_MAX || state.totals.contains_key(&(*door, *why)) {
            *state.totals.entry((*door, *why)).or_default() += 1;
        }
        if state.told_at.get(&identity).is_some_and(is_recent) {
            return Telling::Silence;
        }
        if state.told_at.len() >= caps::REFUSALS_TOLD_MAX {
            state.told_at.retain(|_, at| is_recent(at));
        }
        if state.told_at.len() < caps::REFUSALS_TOLD_MAX {
            state.told_at.insert(identity, now);
            if state.recent.len() >= caps::REFUSALS_KEPT_MAX {
                state.recent.pop_front();
            }
            state.recent.push_back((self.0.clock.now(), dismissal.clone()));
            return Telling::Tell;
        }
        if state.overflow_at.as_ref().is_some_and(is_recent) {
            return Telling::Silence;
        }
        state.overflow_at = Some(now);
        Telling::TellOverflow
    }
}

fn log(dismissal: &Dismissal) {
    let Dismissal { door, service, why, lacks, request_id, .. } = dismissal;
    let lacks = lacks.as_ref();
    let (name, peer) = (dismissal.name(), dismissal.peer_text());
    let (request_id, correlation_id) = (request_id.as_deref(), dismissal.correlation_id.as_deref());
    match dismissal.who {
        Who::Device(_) => tracing::info!(
            door,
            service,
            device = name,
            peer,
            DisconnectReason = why,
            request_id,
            "a device was refused"
        ),
        Who::Stranger if *door == "mqtt" => {
            tracing::info!(
                door,
                service,
                device = name,
                peer,
                DisconnectReason = why,
                "a device was refused"
            );
        }
        Who::Caller(_) | Who::Stranger => tracing::info!(
            door,
            service,
            caller = name,
            peer,
            reason = why,
            action = lacks.map(|lacks| lacks.action),
            right = lacks.and_then(|lacks| lacks.right),
            scope = lacks.map(|lacks| lacks.scope.as_str()),
            request_id,
            correlation_id,
            "a caller was refused"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals() -> (Refusals, Clock) {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_700_000_000));
        (Refusals::new(clock.clone()), clock)
    }

    fn dismissal(service: &str, device: &str, why: &'static str) -> Dismissal {
        Dismissal::of_device("mqtt", service.to_owned(), device.to_owned(), why)
    }

    #[test]
    fn each_device_is_told_of_once_a_minute_and_reason() {
        let (refusals, clock) = refusals();
        let telling = |service, device, why| refusals.note(&dismissal(service, device, why));
        assert_eq!(telling("hub", "d", "it has expired"), Telling::Tell);
        assert_eq!(telling("hub", "d", "it has expired"), Telling::Silence);
        assert_eq!(telling("hub", "d", "it is disabled"), Telling::Tell);
        assert_eq!(telling("hub", "e", "it has expired"), Telling::Tell);
        assert_eq!(telling("other", "d", "it has expired"), Telling::Tell);
        clock.advance(Duration::from_secs(59));
        assert_eq!(telling("hub", "d", "it has expired"), Telling::Silence);
        clock.advance(Duration::from_secs(1));
        assert_eq!(telling("hub", "d", "it has expired"), Telling::Tell);
        assert_eq!(refusals.totals(), [("mqtt", "it has expired", 6), ("mqtt", "it is disabled", 1)]);
        let recent = refusals.recent();
        assert_eq!(recent.len(), 5, "what the log tells");
        assert_eq!((recent[0].0, recent[0].1.name()), (clock.now(), "d".to_owned()), "the newest first");
    }

    #[test]
    fn strangers_are_told_apart_by_their_addresses_and_others_are_not() {
        let (refusals, _) = refusals();
        let from = |who: Who, last: u8| {
            let peer = Some(IpAddr::from([10, 0, 0, last]));
            refusals.note(&Dismissal { who, peer, ..dismissal("hub", "", "no token") })
        };
        assert_eq!(from(Who::Stranger, 1), Telling::Tell);
        assert_eq!(from(Who::Stranger, 2), Telling::Tell);
        assert_eq!(from(Who::Stranger, 1), Telling::Silence);
        assert_eq!(from(Who::Caller("a".into()), 1), Telling::Tell);
        assert_eq!(from(Who::Caller("a".into()), 2), Telling::Silence);
    }

    #[test]
    fn strangers_with_many_ids_take_no_more_room_and_no_more_of_the_log() {
        let (refusals, clock) = refusals();
        let tellings = |count: usize| {
            let all = (0..count).map(|number| refusals.note(&dismissal("hub", &number.to_string(), "no")));
            let all: Vec<_> = all.filter(|telling| *telling != Telling::Silence).collect();
            (all.len(), all.last().copied())
        };
        let max = caps::REFUSALS_TOLD_MAX;
        assert_eq!(tellings(max * 3), (max + 1, Some(Telling::TellOverflow)));
        assert_eq!(refusals.0.state.lock().told_at.len(), max);
        assert_eq!(refusals.recent().len(), caps::REFUSALS_KEPT_MAX);
        clock.advance(Duration::from_mins(1));
        assert_eq!(tellings(5), (5, Some(Telling::Tell)), "what was told is forgotten");
        assert_eq!(refusals.0.state.lock().told_at.len(), 5);
    }
}
