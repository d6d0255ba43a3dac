//! Instances whose events could not be relayed: they are passed over, so that nobody else's wait with them, and tried again after a
//! pause that grows. Where the relay goes on behind what is passed over.

use std::collections::HashMap;
use std::time::Duration;

use base::{Elapsed, InstanceId, caps};

use super::parked::Retry;

#[derive(Default)]
pub(crate) struct Held {
    instances: HashMap<InstanceId, Retry>,
    /// Up to this id of the outbox nothing is left but events of instances that are held.
    passed: u64,
}

impl Held {
    /// Where the next pass begins: from the first event, once an instance is due.
    pub(super) fn begin(&mut self, now: Elapsed) -> u64 {
        let begins_again = self.instances.values().any(|retry| is_due(retry, now));
        if begins_again || self.instances.is_empty() {
            self.passed = 0;
        }
        for retry in self.instances.values_mut().filter(|retry| is_due(retry, now)) {
            // Being tried, until it fails once more or nothing of it is left.
            retry.at = Elapsed::START;
        }
        self.passed
    }

    pub(super) fn passes_over(&self, instance: &InstanceId) -> bool {
        self.instances.get(instance).is_some_and(|retry| retry.at != Elapsed::START)
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

    /// Everything up to this id is relayed but for what is held.
    pub(super) fn passed(&mut self, id: u64) {
        self.passed = id;
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
