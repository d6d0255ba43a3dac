//! Instances whose events could not be relayed: they are passed over, so that nobody else's wait with them, and tried again after a
//! pause that grows.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base::{Elapsed, InstanceId, caps};

use super::parked::Retry;

#[derive(Default)]
pub(crate) struct Held {
    instances: HashMap<InstanceId, Retry>,
}

impl Held {
    /// Whose events the next pass leaves alone. Who is due is tried.
    pub(super) fn begin(&mut self, now: Elapsed) -> HashSet<InstanceId> {
        for retry in self.instances.values_mut().filter(|retry| is_due(retry, now)) {
            // Being tried, until it fails once more or nothing of it is left.
            retry.at = Elapsed::START;
        }
        let held = self.instances.iter().filter(|(_, retry)| retry.at != Elapsed::START);
        held.map(|(instance, _)| instance.clone()).collect()
    }

    /// Gives how often it has failed in a row.
    pub(super) fn fails(&mut self, instance: &InstanceId, now: Elapsed) -> u32 {
        let retry = self.instances.entry(instance.clone()).or_insert(Retry { failures: 0, at: now });
        retry.failures = retry.failures.saturating_add(1);
        let pause =
            1_u64.checked_shl(retry.failures - 1).unwrap_or(u64::MAX).min(caps::RELAY_RETRY_SECONDS_MAX);
        retry.at = now.plus(Duration::from_secs(pause));
        retry.failures
    }

    /// The pass has come to the end of the outbox.
    pub(super) fn ends(&mut self) {
        self.instances.retain(|_, retry| retry.at != Elapsed::START);
    }

    pub(super) fn next_at(&self) -> Option<Elapsed> {
        self.instances.values().map(|retry| retry.at).min()
    }
}

fn is_due(retry: &Retry, now: Elapsed) -> bool {
    retry.at != Elapsed::START && retry.at <= now
}
