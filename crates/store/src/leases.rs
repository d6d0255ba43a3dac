//! Leases as the domain sees them: work that one node does at a time, under an epoch that rises with every holder. The epoch goes
//! into what is written under a lease: whoever lost it is refused there, whatever it believes.

use std::time::Duration;

use crate::engine::{Leases as _, ask_engine};
use crate::error::StoreError;
use crate::sessions::Node;
use crate::store::Store;

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub node: Node,
    pub epoch: u64,
}

pub struct Leases<'a>(&'a Store);

impl Store {
    pub fn leases(&self) -> Leases<'_> {
        Leases(self)
    }
}

impl Leases<'_> {
    /// `None` while somebody holds it, the asker included.
    pub async fn take(&self, name: &str, node: Node, length: Duration) -> Result<Option<Lease>, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().take(name, node, length))
    }

    /// Prolongs it from now on. `false`: it is over or another's, and stays so.
    pub async fn renew(&self, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().renew(lease, length))
    }

    /// For whoever comes next; nothing happens if it is over or another's.
    pub async fn give_back(&self, lease: &Lease) -> Result<(), StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().give_back(lease))
    }
}
