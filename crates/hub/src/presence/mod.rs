//! Whether a device is connected, and to which node: a question to the store. Whatever an operation has for a device, and whatever
//! ends its sessions, goes from here over the bus to the node that holds the connection. It must never look into a mailbox for it.

mod activity;
mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use base::ids::IdentityId;
use base::{DeviceId, caps};
use store::StoreError;
use store::sessions::Owner;

pub use self::activity::Connection;
pub(crate) use self::activity::shown;
pub(crate) use self::record::Activity;
use crate::bus::{Address, CloseReason, Delivery, Reply};
use crate::error::Error;
use crate::hub::Hub;

impl Hub {
    pub async fn is_connected(&self, id: &IdentityId) -> Result<bool, Error> {
        Ok(self.owner(id).await?.is_some())
    }

    /// Devices with a session on whatever node, without their modules.
    pub async fn connected_devices(&self) -> Result<u64, Error> {
        Ok(self.store().sessions().connected_devices(self.instance()).await?)
    }

    /// Devices whose connections this process holds: for its metrics.
    pub fn devices_here(&self) -> u64 {
        self.mailboxes().devices()
    }

    pub(crate) async fn owner(&self, id: &IdentityId) -> Result<Option<Owner>, Error> {
        Ok(self.store().sessions().owner(self.instance(), id).await?)
    }

    /// Sends to a device: the one way to do so. A session that was taken over on the way is looked for once more.
    pub(crate) async fn deliver(&self, id: &IdentityId, delivery: Delivery) -> Result<Reply, Error> {
        for _ in 0..caps::DELIVERY_TRIES_MAX {
            let Some(owner) = self.owner(id).await? else { break };
            let address = self.address(id, owner);
            match self.bus().deliver(address, delivery.clone()).await {
                Ok(Reply::NotMine) => {}
                Ok(reply) => return Ok(reply),
                Err(unreachable) => {
                    tracing::debug!(identity = %id, node = owner.node.number, %unreachable, "nothing was delivered");
                    break;
                }
            }
        }
        Ok(Reply::NotListening)
    }

    /// Ends the session of one identity, if there is one, and waits until its node confirms it.
    pub(crate) async fn close_session(&self, id: &IdentityId, reason: CloseReason) -> Result<(), Error> {
        match self.owner(id).await? {
            Some(owner) => self.close(id, owner, reason).await,
            None => Ok(()),
        }
    }

    /// Ends the sessions of a device and of all its modules, and waits until their nodes confirm it.
    pub(crate) async fn close_device(&self, device_id: &DeviceId, reason: CloseReason) -> Result<(), Error> {
        for (id, owner) in self.store().sessions().of_device(self.instance(), device_id).await? {
            self.close(&id, owner, reason).await?;
        }
        Ok(())
    }

    /// Cuts the sessions of this process of a hub that refuses whatever is new.
    pub(crate) fn close_sessions_here(&self) {
        self.mailboxes().close_all(CloseReason::HubRemoved);
    }

    /// Cuts every other session of it, if the store can say which there are.
    pub(crate) async fn close_all_sessions(&self) {
        if let Err(error) = self.close_all_elsewhere().await {
            tracing::warn!(hub = self.name(), %error, "not every session of a removed hub was closed");
        }
    }

    async fn close_all_elsewhere(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let sessions = self.store().sessions();
            let page = sessions.list(self.instance(), after.as_ref(), caps::SCAN_PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (id, owner) in page {
                self.close(&id, owner, CloseReason::HubRemoved).await?;
            }
        }
    }

    async fn close(&self, id: &IdentityId, owner: Owner, reason: CloseReason) -> Result<(), Error> {
        self.close_confirmed(id, owner, reason).await?;
        self.store().sessions().end(self.instance(), id, owner.epoch).await?;
        Ok(())
    }

    /// A node that cannot be reached is told again, until its lease is over; then its sessions are over too.
    pub(crate) async fn close_confirmed(
        &self,
        id: &IdentityId,
        owner: Owner,
        reason: CloseReason,
    ) -> Result<(), Error> {
        for _ in 0..caps::CLOSE_TRIES_MAX {
            if self.bus().close(self.address(id, owner), reason).await.is_ok() || !self.lives(owner).await? {
                return Ok(());
            }
            self.clock().sleep(Duration::from_millis(caps::CLOSE_RETRY_MS)).await;
        }
        tracing::warn!(identity = %id, node = owner.node.number, "a node did not confirm the end of a session");
        Err(Error::ServerBusy)
    }

    async fn lives(&self, owner: Owner) -> Result<bool, StoreError> {
        self.store().sessions().lives(owner.node).await
    }

    pub(crate) fn address(&self, id: &IdentityId, owner: Owner) -> Address {
        let (instance, identity) = (self.instance().clone(), id.clone());
        Address { node: owner.node, instance, identity, epoch: owner.epoch }
    }
}
