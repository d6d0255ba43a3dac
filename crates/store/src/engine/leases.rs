//! Leases by name, which a node holds for a while under an epoch: R11. The engine's clock alone says when one is over.

use std::time::Duration;

use crate::error::StoreError;
use crate::leases::Lease;
use crate::sessions::Node;

pub(crate) trait Leases: Send + Sync {
    /// The lease under a greater epoch than ever before, unless somebody holds it.
    fn take(
        &self,
        name: &str,
        node: Node,
        length: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Prolongs it from now on; `false` when it is over or another's, and then for good.
    fn renew(&self, lease: &Lease, length: Duration)
    -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends it; nothing happens if it is over or another's.
    fn give_back(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;
}
