//! Whose turn it is to finish operations. Of several servers on one database one finishes at a time, under a lease that it asks for
//! when something is due and gives back behind it: two that bring an instance to what its resource says would undo each other's work.
//! A server that is alone asks nobody.

use std::time::Duration;

use base::caps;
use store::StoreError;
use store::leases::Lease;

use crate::ResourceManager;
use crate::error::Error;

const NAME: &str = "reconciler";
const LENGTH: Duration = Duration::from_secs(caps::RECONCILER_LEASE_SECONDS);
/// Often enough that one answer may be lost.
const RENEWED_EVERY: Duration = Duration::from_secs(caps::RECONCILER_LEASE_SECONDS / 4);
pub(crate) const LOOKED_EVERY: Duration = Duration::from_millis(caps::RECONCILER_LOOK_MILLIS);
/// A request waits for no longer; a server that was killed has lost its turn before.
const TRIES_MAX: u64 = 2 * caps::RECONCILER_LEASE_SECONDS * 1000 / caps::RECONCILER_LOOK_MILLIS;

/// Given back when it is dropped.
pub(crate) struct Turn {
    manager: ResourceManager,
    /// None for a server that is alone.
    lease: Option<Lease>,
}

impl ResourceManager {
    /// None while another finishes operations, here or elsewhere.
    pub(crate) async fn turn(&self) -> Result<Option<Turn>, StoreError> {
        if !self.store.is_shared() {
            return Ok(Some(Turn { manager: self.clone(), lease: None }));
        }
        let lease = self.store.leases().take(NAME, self.store.node(), LENGTH).await?;
        Ok(lease.map(|lease| Turn { manager: self.clone(), lease: Some(lease) }))
    }

    /// Waits for it.
    pub(crate) async fn next_turn(&self) -> Result<Turn, StoreError> {
        for _ in 0..TRIES_MAX {
            if let Some(turn) = self.turn().await? {
                return Ok(turn);
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
        Err(StoreError::Busy)
    }
}

impl Turn {
    /// Stops where it stands when the turn is lost: the next one does it once more.
    pub(crate) async fn run<T>(mut self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Some(lease) = self.lease.clone() else { return work.await };
        let done = tokio::select! {
            done = work => done,
            () = self.lose(&lease) => {
                self.lease = None;
                Err(StoreError::Unavailable("another server finishes operations".into()).into())
            }
        };
        if let Some(lease) = self.lease.take() {
            self.manager.store.leases().give_back(&lease).await?;
        }
        done
    }

    /// Returns once it may be another's.
    async fn lose(&self, lease: &Lease) {
        let mut unanswered = Duration::ZERO;
        while unanswered + RENEWED_EVERY < LENGTH {
            tokio::time::sleep(RENEWED_EVERY).await;
            match self.manager.store.leases().renew(lease, LENGTH).await {
                Ok(true) => unanswered = Duration::ZERO,
                Ok(false) => return,
                Err(_) => unanswered += RENEWED_EVERY,
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Whoever waited for the work has gone.
        let Some(lease) = self.lease.take() else { return };
        let manager = self.manager.clone();
        self.manager.tasks.spawn(async move { drop(manager.store.leases().give_back(&lease).await) });
    }
}
