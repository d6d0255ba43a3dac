//! The way between the houses: it takes its time, loses an answer now and then, and whoever is out of reach cannot be asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, InstanceId};
use fastrand::Rng;
use hub::bus::{Address, Answering, Bus, CloseReason, Delivery, InProcess, Recipient, Reply, Unreachable};
use parking_lot::Mutex;

/// So long at the most, where it takes any time.
const LONGEST_MS: u64 = 100;
/// Of so many answers one is lost: what was asked was done, and nobody hears of it.
const LOST_OF: u32 = 16;

pub(crate) struct Way {
    ends: InProcess,
    clock: Clock,
    state: Mutex<(Rng, BTreeSet<u32>)>,
}

impl Way {
    pub(crate) fn new(clock: Clock, rng: Rng) -> Self {
        Self { ends: InProcess::default(), clock, state: Mutex::new((rng, BTreeSet::new())) }
    }

    /// From now on nobody reaches this node.
    pub(crate) fn cut(&self, node: u32) {
        self.state.lock().1.insert(node);
    }

    async fn reach(&self, address: &Address) -> Result<(), Unreachable> {
        let milliseconds = {
            let rng = &mut self.state.lock().0;
            if rng.bool() { rng.u64(1..=LONGEST_MS) } else { 0 }
        };
        if milliseconds > 0 {
            self.clock.sleep(Duration::from_millis(milliseconds)).await;
        }
        if self.state.lock().1.contains(&address.node.number) { Err(Unreachable) } else { Ok(()) }
    }

    fn loses(&self) -> bool {
        self.state.lock().0.u32(..LOST_OF) == 0
    }
}

impl Bus for Way {
    fn deliver(&self, to: Address, delivery: Delivery) -> Answering<'_, Result<Reply, Unreachable>> {
        Box::pin(async move {
            self.reach(&to).await?;
            let timeout_ms = match &delivery {
                Delivery::Method { timeout_ms, .. } => *timeout_ms,
                Delivery::Desired { .. } | Delivery::CloudToDevice => 0,
            };
            let reply = self.ends.deliver(to, delivery).await?;
            if self.loses() {
                self.clock.sleep(Duration::from_millis(timeout_ms)).await;
                return Ok(Reply::TimedOut);
            }
            Ok(reply)
        })
    }

    fn close(&self, session: Address, reason: CloseReason) -> Answering<'_, Result<(), Unreachable>> {
        Box::pin(async move {
            self.reach(&session).await?;
            self.ends.close(session, reason).await?;
            if self.loses() { Err(Unreachable) } else { Ok(()) }
        })
    }

    fn attach(&self, node: u32, instance: &InstanceId, recipient: Arc<dyn Recipient>) {
        self.ends.attach(node, instance, recipient);
    }

    fn detach(&self, node: u32, instance: &InstanceId) {
        self.ends.detach(node, instance);
    }
}
