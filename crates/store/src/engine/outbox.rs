//! The outbox as its relay works it: R7 and R9. What an engine tells it tells exactly once, whoever is killed and when.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base::InstanceId;
use tokio::sync::watch;

use crate::batch::OutboxRow;
use crate::error::StoreError;
use crate::outbox::{Claim, Errand};

pub(crate) trait Outbox: Send + Sync {
    /// What this server may empty now: taken where nobody has it, prolonged where it has it already. `None` when all is others'.
    fn claim(&self) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send;

    /// The oldest rows of each claimed lane, in order within it, but for those of `held`.
    fn rows(
        &self,
        claim: &Claim,
        held: &HashSet<InstanceId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// Runs errands, by instance: exactly once, however often the same rows are read again, and each whole or not at all; gives those that
    /// failed. Fails as a whole, and does nothing, when the claim is another's by now.
    fn run(
        &self,
        claim: &Claim,
        errands: HashMap<InstanceId, Errand>,
    ) -> impl Future<Output = Result<HashMap<InstanceId, StoreError>, StoreError>> + Send;

    /// Bytes of what waits, by instance.
    fn bytes(&self) -> impl Future<Output = Result<Vec<(InstanceId, u64)>, StoreError>> + Send;

    /// Changes with every commit of this server that wrote to the outbox.
    fn written(&self) -> watch::Receiver<u64>;

    /// How often to look for what other servers wrote; `None` where there are none.
    fn pause(&self) -> Option<Duration>;
}
