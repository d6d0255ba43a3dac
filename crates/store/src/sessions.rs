//! Sessions as the domain sees them: which node holds the connection of an identity, under which epoch. `connected` is a question
//! to this and to no map of a process. What a session does is no affair of the store.

use std::time::Duration;

use base::ids::IdentityId;
use base::{DeviceId, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::{Sessions as _, ask_engine, on_engine};
use crate::error::StoreError;
use crate::store::Store;

/// A process that holds connections: its number among those that live, and which of the lives under that number it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    pub number: u32,
    pub epoch: u64,
}

/// Who holds the connection of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub node: Node,
    /// Of the session: greater than that of every session of the identity before it.
    pub epoch: u64,
    pub since: Timestamp,
}

/// A session that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    pub epoch: u64,
    /// Whose session it took over, which knows nothing of it yet.
    pub previous: Option<Owner>,
}

/// The sessions of all instances.
pub struct Sessions<'a>(&'a Store);

impl Store {
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions(self)
    }

    /// This process.
    pub fn node(&self) -> Node {
        on_engine!(self.engine(), engine => engine.live().node())
    }
}

impl Sessions<'_> {
    /// Another node beside the one that the store is: it lives for as long as its lease.
    pub async fn join(&self, lease: Duration) -> Result<Node, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().join(lease))
    }

    /// Prolongs a node's lease from now on. `false`: it is over, and every session of the node with it.
    pub async fn keep(&self, node: Node, lease: Duration) -> Result<bool, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().keep(node, lease))
    }

    /// Ends every session of a node.
    pub async fn leave(&self, node: Node) -> Result<(), StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().leave(node))
    }

    /// Whether a node's lease stands.
    pub async fn lives(&self, node: Node) -> Result<bool, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().lives(node))
    }

    /// Begins a session: the identity's epoch rises, the node is its owner, and whoever was it before is named, in one step.
    pub async fn begin(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Begun, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().begin(node, instance, identity, since))
    }

    /// What became of [`Self::begin`] where that is [`StoreError::Unknown`]: its answer, or `None` where it did nothing, where the
    /// session has been taken over since, or where the node's lease is over. `since` must be of that one beginning alone.
    pub async fn begun(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Option<Begun>, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().begun(node, instance, identity, since))
    }

    /// Ends a session, provided that it has not been taken over; gives whether that was so.
    pub async fn end(
        &self,
        instance: &InstanceId,
        identity: &IdentityId,
        epoch: u64,
    ) -> Result<bool, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().end(instance, identity, epoch))
    }

    pub async fn owner(
        &self,
        instance: &InstanceId,
        identity: &IdentityId,
    ) -> Result<Option<Owner>, StoreError> {
        let owners = self.owners(instance, std::slice::from_ref(identity)).await?;
        Ok(owners.into_iter().next().flatten())
    }

    /// One for each identity, in their order.
    pub async fn owners(
        &self,
        instance: &InstanceId,
        identities: &[IdentityId],
    ) -> Result<Vec<Option<Owner>>, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().owners(instance, identities))
    }

    /// The sessions of a device and of its modules.
    pub async fn of_device(
        &self,
        instance: &InstanceId,
        device_id: &DeviceId,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().of_device(instance, device_id))
    }

    /// At most `limit` sessions of an instance behind `after`, in a fixed order.
    pub async fn list(
        &self,
        instance: &InstanceId,
        after: Option<&IdentityId>,
        limit: usize,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().list(instance, after, limit))
    }

    /// Devices that are connected, without their modules.
    pub async fn connected_devices(&self, instance: &InstanceId) -> Result<u64, StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().connected_devices(instance))
    }

    pub(crate) async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        ask_engine!(self.0.engine(), engine => engine.live().remove_instance(instance))
    }
}
