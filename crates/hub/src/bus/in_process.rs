//! The bus between the houses of one process, of which a server has one.

use std::collections::HashMap;
use std::sync::Arc;

use base::InstanceId;
use parking_lot::RwLock;

use super::{Address, Answering, Bus, CloseReason, Delivery, Recipient, Reply, Unreachable};

#[derive(Default)]
pub struct InProcess(RwLock<HashMap<(u32, InstanceId), Arc<dyn Recipient>>>);

impl InProcess {
    fn recipient(&self, address: &Address) -> Option<Arc<dyn Recipient>> {
        self.0.read().get(&(address.node.number, address.instance.clone())).cloned()
    }
}

impl Bus for InProcess {
    fn deliver(&self, to: Address, delivery: Delivery) -> Answering<'_, Result<Reply, Unreachable>> {
        Box::pin(async move {
            match self.recipient(&to) {
                Some(recipient) => Ok(recipient.take(to, delivery).await),
                None => Ok(Reply::NotMine),
            }
        })
    }

    fn close(&self, session: Address, reason: CloseReason) -> Answering<'_, Result<(), Unreachable>> {
        Box::pin(async move {
            // Where the instance has gone, its sessions went before it.
            if let Some(recipient) = self.recipient(&session) {
                recipient.close(session, reason).await;
            }
            Ok(())
        })
    }

    fn attach(&self, node: u32, instance: &InstanceId, recipient: Arc<dyn Recipient>) {
        self.0.write().insert((node, instance.clone()), recipient);
    }

    fn detach(&self, node: u32, instance: &InstanceId) {
        self.0.write().remove(&(node, instance.clone()));
    }
}
