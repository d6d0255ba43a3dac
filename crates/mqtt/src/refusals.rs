//! Tells the log which devices are kept out or cut off, and why: once per device and minute, for as many devices as there is
//! room to remember. Called by the door; it must never print anything that a device presented but its id.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use base::{Clock, Elapsed, caps};
use parking_lot::Mutex;

/// Whose connection is over, and why. `service` is the name of a hub or provisioning service, or what was taken for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dismissal {
    pub(crate) service: String,
    pub(crate) device: String,
    pub(crate) why: &'static str,
}

pub(crate) struct Refusals {
    clock: Clock,
    told: Mutex<Told>,
    hashes: RandomState,
}

#[derive(Default)]
struct Told {
    /// By the hash of a device: strangers choose their ids and how long they are.
    at: HashMap<u64, Elapsed>,
    overflow_at: Option<Elapsed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Tell,
    /// Nothing more can be remembered; said itself once a minute.
    TellOverflow,
    Silence,
}

impl Refusals {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, told: Mutex::default(), hashes: RandomState::new() }
    }

    pub(crate) fn tell(&self, dismissal: &Dismissal) {
        let Dismissal { service, device, why } = dismissal;
        match self.telling(service, device) {
            Telling::Tell => tracing::info!(service, device, DisconnectReason = why, "a device was refused"),
            Telling::TellOverflow => {
                tracing::info!("more devices are refused than can be told apart; the log tells of some");
            }
            Telling::Silence => {}
        }
    }

    fn telling(&self, service: &str, device: &str) -> Telling {
        let now = self.clock.elapsed();
        let minute = Duration::from_secs(caps::REFUSAL_TOLD_SECONDS);
        let is_recent = |at: &Elapsed| now.since(*at) < minute;
        let device = self.hashes.hash_one((service, device));
        let mut told = self.told.lock();
        if told.at.get(&device).is_some_and(is_recent) {
            return Telling::Silence;
        }
        if told.at.len() >= caps::REFUSALS_TOLD_MAX {
            told.at.retain(|_, at| is_recent(at));
        }
        if told.at.len() < caps::REFUSALS_TOLD_MAX {
            told.at.insert(device, now);
            return Telling::Tell;
        }
        if told.overflow_at.as_ref().is_some_and(is_recent) {
            return Telling::Silence;
        }
        told.overflow_at = Some(now);
        Telling::TellOverflow
    }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;

    fn refusals() -> (Refusals, Clock) {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_700_000_000));
        (Refusals::new(clock.clone()), clock)
    }

    #[test]
    fn each_device_is_told_of_once_a_minute() {
        let (refusals, clock) = refusals();
        assert_eq!(refusals.telling("hub", "d"), Telling::Tell);
        assert_eq!(refusals.telling("hub", "d"), Telling::Silence);
        assert_eq!(refusals.telling("hub", "e"), Telling::Tell);
        assert_eq!(refusals.telling("other", "d"), Telling::Tell);
        clock.advance(Duration::from_secs(59));
        assert_eq!(refusals.telling("hub", "d"), Telling::Silence);
        clock.advance(Duration::from_secs(1));
        assert_eq!(refusals.telling("hub", "d"), Telling::Tell);
    }

    #[test]
    fn strangers_with_many_ids_take_no_more_room_and_no_more_of_the_log() {
        let (refusals, clock) = refusals();
        let tellings = |count: usize| {
            let all = (0..count).map(|number| refusals.telling("hub", &number.to_string()));
            let all: Vec<_> = all.filter(|telling| *telling != Telling::Silence).collect();
            (all.len(), all.last().copied())
        };
        let max = caps::REFUSALS_TOLD_MAX;
        assert_eq!(tellings(max * 3), (max + 1, Some(Telling::TellOverflow)));
        assert_eq!(refusals.told.lock().at.len(), max);
        clock.advance(Duration::from_mins(1));
        assert_eq!(tellings(5), (5, Some(Telling::Tell)), "what was told is forgotten");
        assert_eq!(refusals.told.lock().at.len(), 5);
    }
}
