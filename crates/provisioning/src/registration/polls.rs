//! How often a device may ask what became of its registration (`dps.md` §7). Kept in memory for as long as it matters; called by
//! the operation that answers polls. It must never hold more than a bounded number of devices.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base::caps;
use base::clock::Elapsed;
use base::meter::Throttled;
use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_secs(caps::REGISTRATION_POLLS_SECONDS);

/// When each device polled lately, by its folded id.
#[derive(Default)]
pub(crate) struct Polls(Mutex<HashMap<String, VecDeque<Elapsed>>>);

impl Polls {
    /// Counts a poll, or says when the next one may come. One that is refused does not count.
    pub(crate) fn charge(&self, id: String, now: Elapsed) -> Result<(), Throttled> {
        let mut devices = self.0.lock();
        if devices.len() >= caps::REGISTRATION_POLLING_DEVICES_MAX && !devices.contains_key(&id) {
            devices.retain(|_, polls| polls.back().is_some_and(|last| now.since(*last) < WINDOW));
            if devices.len() >= caps::REGISTRATION_POLLING_DEVICES_MAX {
                // So many at once are no single device's doing.
                return Ok(());
            }
        }
        let polls = devices.entry(id).or_default();
        polls.retain(|poll| now.since(*poll) < WINDOW);
        match polls.front() {
            Some(first) if polls.len() >= caps::REGISTRATION_POLLS_MAX => {
                let left = WINDOW.saturating_sub(now.since(*first));
                // Clients are told whole seconds, and must not come too early.
                let begun_second = u64::from(left.subsec_nanos() > 0);
                Err(Throttled { retry_after: Duration::from_secs(left.as_secs() + begun_second) })
            }
            _ => {
                polls.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Elapsed {
        Elapsed::START.plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_device_may_poll_five_times_in_ten_seconds() {
        let polls = Polls::default();
        let poll = |id: &str, millis| polls.charge(id.to_owned(), at(millis)).map_err(|no| no.retry_after);
        for millis in [0, 0, 2_000, 2_500, 3_000] {
            assert_eq!(poll("dev-1", millis), Ok(()));
        }
        assert_eq!(poll("dev-1", 3_500), Err(Duration::from_secs(7)));
        assert_eq!(poll("dev-2", 3_500), Ok(()));
        assert_eq!(poll("dev-1", 9_999), Err(Duration::from_secs(1)));
        for millis in [10_000, 10_000] {
            assert_eq!(poll("dev-1", millis), Ok(()));
        }
        assert_eq!(poll("dev-1", 10_000), Err(Duration::from_secs(2)));
    }

    #[test]
    fn devices_that_poll_no_more_are_forgotten_when_there_are_many() {
        let polls = Polls::default();
        for n in 0..caps::REGISTRATION_POLLING_DEVICES_MAX {
            polls.charge(n.to_string(), at(0)).unwrap();
        }
        for n in 0..10 {
            polls.charge(format!("more-{n}"), at(1)).unwrap();
        }
        assert_eq!(polls.0.lock().len(), caps::REGISTRATION_POLLING_DEVICES_MAX);
        polls.charge("later".to_owned(), at(10_000)).unwrap();
        assert_eq!(polls.0.lock().len(), 1);
    }
}
