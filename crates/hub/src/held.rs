//! Work of a hub that one house does at a time: under a lease, which lasts as long as the work asks whether it may go on.

use std::time::Duration;

use base::Elapsed;
use store::StoreError;
use store::leases::Lease;

use crate::error::Error;
use crate::hub::Hub;

/// A lease of this house.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    lease: Lease,
    length: Duration,
    renewed: Elapsed,
}

impl Held {
    /// What the work is called.
    pub(crate) fn name(&self) -> &str {
        &self.lease.name
    }
}

impl Hub {
    /// `None`: another house is at it.
    pub(crate) async fn hold(&self, name: &str, length: Duration) -> Result<Option<Held>, StoreError> {
        let renewed = self.clock().elapsed();
        let lease = self.store().leases().take(name, self.node(), length).await?;
        Ok(lease.map(|lease| Held { lease, length, renewed }))
    }

    /// Prolongs it where that is time. Fails where it is lost.
    pub(crate) async fn keep(&self, held: &mut Held) -> Result<(), Error> {
        let now = self.clock().elapsed();
        if now.since(held.renewed) >= held.length / 3 {
            if !self.store().leases().renew(&held.lease, held.length).await? {
                return Err(Error::ServerBusy);
            }
            held.renewed = now;
        }
        Ok(())
    }

    /// For whoever comes next.
    pub(crate) async fn give_back(&self, held: &Held) {
        if let Err(error) = self.store().leases().give_back(&held.lease).await {
            tracing::debug!(%error, work = held.name(), "its lease ends by itself");
        }
    }

    /// Whether nothing new may be begun here.
    pub(crate) fn is_ending(&self) -> bool {
        self.context().tasks.stopping().has_begun() || self.is_closed()
    }

    /// One that nobody gave: as a house believes it has that lost it and does not know.
    #[cfg(test)]
    pub(crate) fn stolen(&self, length: Duration) -> Held {
        let lease = Lease { name: "stolen".into(), node: self.node(), epoch: 0 };
        Held { lease, length, renewed: self.clock().elapsed() }
    }
}
