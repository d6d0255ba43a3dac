//! How often an application may be wrong about its secret before it has to wait. The directory asks before it compares a secret
//! and tells of every wrong one. Known to this process alone: a limit of each server, not of the tenant.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use base::{Elapsed, caps};
use parking_lot::Mutex;

/// Each wrong secret is a debt that is paid off by waiting.
const PAID_OFF_IN: Duration = Duration::from_secs(60 / caps::WRONG_SECRETS_PER_MINUTE_MAX);
/// With more debt than this, one wrong secret more would be over the limit.
const DEBT_MAX: Duration = Duration::from_secs(60 - 60 / caps::WRONG_SECRETS_PER_MINUTE_MAX);

/// Who guesses: an application's id, from one address. Those who know the secret are held up at the guesser's address alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Guesser {
    app_id: String,
    from: Option<IpAddr>,
}

impl Guesser {
    /// An IPv6 host has a whole /64 to call from, so that is what counts as one address.
    pub(super) fn new(app_id: &str, from: Option<IpAddr>) -> Self {
        let network = |ip| match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        };
        Self { app_id: app_id.to_owned(), from: from.map(network) }
    }
}

#[derive(Default)]
pub(super) struct Patience(Mutex<HashMap<Guesser, Elapsed>>);

impl Patience {
    /// How long `guesser` has to wait before a secret of it is looked at; `None`: not at all.
    pub(super) fn wait(&self, guesser: &Guesser, now: Elapsed) -> Option<Duration> {
        let debt = self.0.lock().get(guesser)?.since(now);
        debt.checked_sub(DEBT_MAX).filter(|wait| !wait.is_zero())
    }

    pub(super) fn was_wrong(&self, guesser: Guesser, now: Elapsed) {
        let mut debts = self.0.lock();
        if debts.len() >= caps::WRONG_SECRETS_GUESSERS_MAX {
            debts.retain(|_, until| *until > now);
        }
        if debts.len() >= caps::WRONG_SECRETS_GUESSERS_MAX {
            let least = debts.iter().min_by_key(|(_, until)| **until).map(|(guesser, _)| guesser.clone());
            least.and_then(|guesser| debts.remove(&guesser));
        }
        let until = debts.entry(guesser).or_insert(now);
        *until = (*until).max(now).plus(PAID_OFF_IN);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const NOW: Elapsed = Elapsed::from_ticks(1_750_000_000);

    fn guesser(number: u32) -> Guesser {
        Guesser::new("app", Some(Ipv4Addr::from_bits(number).into()))
    }

    #[test]
    fn a_guesser_has_so_many_tries_a_minute_and_gets_one_back_at_a_time() {
        let (patience, me) = (Patience::default(), guesser(1));
        for _ in 0..caps::WRONG_SECRETS_PER_MINUTE_MAX {
            assert_eq!(patience.wait(&me, NOW), None);
            patience.was_wrong(me.clone(), NOW);
        }
        assert_eq!(patience.wait(&me, NOW), Some(PAID_OFF_IN));
        assert_eq!(patience.wait(&me, NOW.plus(PAID_OFF_IN)), None);
        patience.was_wrong(me.clone(), NOW.plus(PAID_OFF_IN));
        assert_eq!(patience.wait(&me, NOW.plus(PAID_OFF_IN)), Some(PAID_OFF_IN));
    }

    #[test]
    fn others_are_not_held_up_and_a_network_of_ipv6_is_one_address() {
        let patience = Patience::default();
        let at = |host: u128| IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + host));
        for host in 0..u128::from(caps::WRONG_SECRETS_PER_MINUTE_MAX) {
            patience.was_wrong(Guesser::new("app", Some(at(host))), NOW);
        }
        assert!(patience.wait(&Guesser::new("app", Some(at(99))), NOW).is_some());
        assert!(patience.wait(&Guesser::new("app", Some(at(1 << 64))), NOW).is_none());
        assert!(patience.wait(&Guesser::new("other", Some(at(99))), NOW).is_none());
    }

    #[test]
    fn the_number_of_guessers_is_bounded_and_the_worst_are_kept() {
        let (patience, worst) = (Patience::default(), guesser(u32::MAX));
        (0..caps::WRONG_SECRETS_PER_MINUTE_MAX).for_each(|_| patience.was_wrong(worst.clone(), NOW));
        for number in 0..u32::try_from(caps::WRONG_SECRETS_GUESSERS_MAX).unwrap() + 10 {
            patience.was_wrong(guesser(number), NOW);
        }
        assert_eq!(patience.0.lock().len(), caps::WRONG_SECRETS_GUESSERS_MAX);
        assert!(patience.wait(&worst, NOW).is_some());
    }
}
