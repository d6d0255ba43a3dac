//! Who holds the connection of an identity, and which nodes live: R12. One row per identity, whose epoch rises with every session.

use std::time::Duration;

use base::ids::IdentityId;
use base::{DeviceId, InstanceId, Timestamp};

use crate::error::StoreError;
use crate::sessions::{Begun, Node, Owner};

/// Every answer is judged by the engine's clock, and takes sessions of nodes whose lease is over for none.
pub(crate) trait Sessions: Send + Sync {
    /// Takes a number that no living node has, under a new epoch.
    fn join(&self, lease: Duration) -> impl Future<Output = Result<Node, StoreError>> + Send;

    /// Prolongs the lease from now on; `false` when it is over already, and then for good.
    fn keep(&self, node: Node, lease: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends the lease, and with it every session of the node.
    fn leave(&self, node: Node) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn lives(&self, node: Node) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Raises the identity's epoch, makes the node its owner and tells who was it before, in one step.
    fn begin(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> impl Future<Output = Result<Begun, StoreError>> + Send;

    /// What [`Self::begin`] answered, or would have if its answer had not been lost, while that session stands. An engine that loses no
    /// answer names nobody before it.
    fn begun(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> impl Future<Output = Result<Option<Begun>, StoreError>> + Send;

    /// Only if the epoch still stands; gives whether it did.
    fn end(
        &self,
        instance: &InstanceId,
        identity: &IdentityId,
        epoch: u64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// In the order of the identities.
    fn owners(
        &self,
        instance: &InstanceId,
        identities: &[IdentityId],
    ) -> impl Future<Output = Result<Vec<Option<Owner>>, StoreError>> + Send;

    /// The sessions of a device and of its modules.
    fn of_device(
        &self,
        instance: &InstanceId,
        device_id: &DeviceId,
    ) -> impl Future<Output = Result<Vec<(IdentityId, Owner)>, StoreError>> + Send;

    /// Sessions of an instance behind `after`, in a fixed order.
    fn list(
        &self,
        instance: &InstanceId,
        after: Option<&IdentityId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(IdentityId, Owner)>, StoreError>> + Send;

    /// Devices with a session, without their modules.
    fn connected_devices(
        &self,
        instance: &InstanceId,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Forgets every session of an instance, whose id is never used again.
    fn remove_instance(&self, instance: &InstanceId) -> impl Future<Output = Result<(), StoreError>> + Send;
}
