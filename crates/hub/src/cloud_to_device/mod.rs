//! Messages from the cloud to a device: a queue per device in the store, from which the device takes them over whatever protocol
//! (`iothub-device.md` §4). Whatever is acknowledged to a sender survives a crash, and nothing is delivered once it was completed.

mod change;
mod feedback;
mod message;
mod record;
mod session;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use access::{Caller, Permission};
use base::ids::IdentityId;
use base::{DeviceId, Meter, caps};
use bytes::Bytes;
use store::{Batch, Key, Scan, Stored, retry_on_conflict};

use self::change::Change;
pub use self::feedback::Told;
pub use self::message::{Ack, Outcome, Properties, Received};
use self::record::queue_key;
pub(crate) use self::record::{DeviceQueue, QueuedMessage};
use crate::bus::{Delivery, Reply};
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::lock::{Lock, LockToken, Settlement};

const LOCK: Duration = Duration::from_secs(caps::CLOUD_TO_DEVICE_LOCK_SECONDS);

impl Hub {
    /// Puts a message to a device's queue, whether the device is connected or not. Durable when it returns; gives its number.
    pub async fn send_to_device(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
        properties: Properties,
        body: Bytes,
    ) -> Result<u64, Error> {
        caller.require(Permission::CloudToDeviceSend, self.scope())?;
        self.charge(Meter::CloudToDevice)?;
        message::check(&properties, &body)?;
        let (hub, device_id) = (self.clone(), device_id.clone());
        self.to_the_end(async move {
            let (properties, body) = (&properties, &body);
            let sent =
                retry_on_conflict(async || hub.enqueue(&device_id, properties.clone(), body.clone()).await);
            let sequence = sent.await?;
            hub.tell_of_messages(&device_id).await;
            Ok(sequence)
        })
        .await
    }

    async fn enqueue(&self, device_id: &DeviceId, properties: Properties, body: Bytes) -> Result<u64, Error> {
        let device = self.device(device_id).await?;
        let mut change = Change::of(self, device_id).await?;
        let depth = self.context().queue_depth;
        if change.queue.count >= depth {
            // Some may have had their time.
            let waiting = self.stored_messages(device_id).await?;
            end_expired(&mut change, &waiting);
        }
        if change.queue.count >= depth {
            return Err(Error::DeviceMaximumQueueDepthExceeded(depth));
        }
        let ttl = self.settings().cloud_to_device.default_ttl;
        let expires = message::expiry(properties.absolute_expiry_time, ttl, change.now)?;
        change.queue.last_sequence += 1;
        let message = QueuedMessage {
            instance: self.instance().clone(),
            device_id: device_id.clone(),
            sequence: change.queue.last_sequence,
            generation_id: device.record.generation_id.clone(),
            properties,
            body,
            enqueued: change.now,
            expires,
            delivery_count: 0,
            lock: None,
        };
        change.batch.guard_exists::<Identity>(store::Record::key(&device.record));
        change.add(&message);
        change.commit().await?;
        Ok(message.sequence)
    }

    /// A device that listens looks into its queue. That nobody hears of it is no fault: whoever comes looks too.
    async fn tell_of_messages(&self, device_id: &DeviceId) -> bool {
        let id = IdentityId::device(device_id.clone());
        matches!(self.deliver(&id, Delivery::CloudToDevice).await, Ok(Reply::Taken))
    }

    /// The first message that nobody holds, for a caller that says later what became of it. While the device has a connection that
    /// listens to messages, they are all for that one.
    pub async fn receive_message(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
    ) -> Result<Option<Received>, Error> {
        caller.require_identity(&IdentityId::device(device_id.clone()), self.scope())?;
        self.charge(Meter::CloudToDevice)?;
        if self.tell_of_messages(device_id).await {
            return Ok(None);
        }
        retry_on_conflict(async || {
            let now = self.now();
            let Some(free) = self.free_messages(device_id, 1, |_| true).await?.pop() else { return Ok(None) };
            let lock = Some(Lock::new(free.record.sequence, now, LOCK));
            let taken = QueuedMessage { lock, ..free.record.clone() };
            let mut batch = Batch::default();
            batch.replace(&free, &taken);
            self.store().commit(batch).await?;
            Ok(Some(Received::of(&taken)))
        })
        .await
    }

    /// What became of a message that was received.
    pub async fn settle_message(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), Error> {
        caller.require_identity(&IdentityId::device(device_id.clone()), self.scope())?;
        self.charge(Meter::CloudToDevice)?;
        let (hub, device_id) = (self.clone(), device_id.clone());
        self.to_the_end(async move {
            retry_on_conflict(async || hub.settle(&device_id, token, settlement).await).await?;
            if settlement == Settlement::Abandon {
                hub.tell_of_messages(&device_id).await;
            }
            Ok(())
        })
        .await
    }

    async fn settle(
        &self,
        device_id: &DeviceId,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), Error> {
        let mut change = Change::of(self, device_id).await?;
        let key = QueuedMessage::key_of(self.instance(), device_id, token.number);
        let held = self.store().get::<QueuedMessage>(&key).await?;
        let is_held = |held: &Stored<QueuedMessage>| {
            held.record.lock.is_some_and(|lock| lock.is_held_by(token, change.now))
        };
        let held = held.filter(is_held).ok_or(Error::DeviceMessageLockLost)?;
        match settlement {
            Settlement::Complete => change.end(&held, Outcome::Success),
            Settlement::Reject => change.end(&held, Outcome::Rejected),
            Settlement::Abandon => {
                let mut back = QueuedMessage { lock: None, ..held.record.clone() };
                back.delivery_count += 1;
                if back.delivery_count >= self.settings().cloud_to_device.max_delivery_count {
                    change.end(&held, Outcome::DeliveryCountExceeded);
                } else {
                    change.batch.replace(&held, &back);
                }
            }
        }
        change.commit().await
    }

    /// Takes every message out of a device's queue, whoever holds it; gives how many there were.
    pub async fn purge_messages(&self, caller: &Caller, device_id: &DeviceId) -> Result<u32, Error> {
        caller.require(Permission::CloudToDevicePurge, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        retry_on_conflict(async || {
            self.device(device_id).await?;
            let mut change = Change::of(self, device_id).await?;
            let waiting = self.stored_messages(device_id).await?;
            if waiting.is_empty() {
                return Ok(0);
            }
            for message in &waiting {
                change.end(message, Outcome::Purged);
            }
            change.look_again_at(None);
            change.commit().await?;
            Ok(u32::try_from(waiting.len()).unwrap_or(u32::MAX))
        })
        .await
    }

    /// Ends the messages whose time is over, and notes when the next ones follow.
    pub(crate) async fn expire_messages(&self, device_id: &DeviceId) -> Result<(), Error> {
        retry_on_conflict(async || {
            let mut change = Change::of(self, device_id).await?;
            if change.queue.due.is_none_or(|due| due > change.now) {
                return Ok(());
            }
            let waiting = self.stored_messages(device_id).await?;
            end_expired(&mut change, &waiting);
            change.commit().await
        })
        .await
    }

    /// As many as a queue may hold, in their order.
    async fn stored_messages(&self, device_id: &DeviceId) -> Result<Vec<Stored<QueuedMessage>>, Error> {
        let scan = Scan::new(queue_key(self.instance(), device_id), caps::CLOUD_TO_DEVICE_QUEUE_MAX);
        Ok(self.store().scan(scan).await?)
    }

    /// Up to `count` messages that nobody holds and whose time is not over, in their order.
    async fn free_messages(
        &self,
        device_id: &DeviceId,
        count: usize,
        is_wanted: impl Fn(&QueuedMessage) -> bool,
    ) -> Result<Vec<Stored<QueuedMessage>>, Error> {
        let (now, mut found, mut after) = (self.now(), Vec::new(), None);
        loop {
            // Bodies are large: no more of them than can be under way are in memory at once.
            let scan = Scan::new(queue_key(self.instance(), device_id), caps::CLOUD_TO_DEVICE_WINDOW);
            let page = self.store().scan::<QueuedMessage>(scan.after(after)).await?;
            let is_last = page.len() < caps::CLOUD_TO_DEVICE_WINDOW;
            after = page.last().map(|last| store::Record::key(&last.record));
            let is_free = |message: &QueuedMessage| !message.is_locked(now) && message.expires > now;
            found.extend(page.into_iter().filter(|one| is_free(&one.record) && is_wanted(&one.record)));
            if is_last || found.len() >= count {
                found.truncate(count);
                return Ok(found);
            }
        }
    }

    /// How many messages wait for a device; none ever waits for a module.
    pub(crate) async fn message_count(&self, id: &IdentityId) -> Result<u32, Error> {
        if id.module_id.is_some() {
            return Ok(0);
        }
        let queue = self.store().get::<DeviceQueue>(&queue_key(self.instance(), &id.device_id)).await?;
        Ok(queue.map_or(0, |queue| queue.record.count))
    }

    /// The same of the first devices that have a queue.
    pub(crate) async fn message_counts(&self, limit: usize) -> Result<HashMap<IdentityId, u32>, Error> {
        let scan = Scan::new(Key::instance(self.instance()), limit);
        let queues = self.store().scan::<DeviceQueue>(scan).await?;
        let counted = |queue: DeviceQueue| (IdentityId::device(queue.device_id), queue.count);
        Ok(queues.into_iter().map(|stored| counted(stored.record)).collect())
    }

    /// The queue goes with its device. A message that comes meanwhile makes the batch fail.
    pub(crate) async fn remove_queue(&self, batch: &mut Batch, device_id: &DeviceId) -> Result<(), Error> {
        let key = queue_key(self.instance(), device_id);
        let Some(queue) = self.store().get::<DeviceQueue>(&key).await? else {
            batch.guard_absent::<DeviceQueue>(key);
            return Ok(());
        };
        batch.delete(&queue);
        for message in self.stored_messages(device_id).await? {
            batch.remove::<QueuedMessage>(store::Record::key(&message.record));
        }
        Ok(())
    }
}

fn end_expired(change: &mut Change, waiting: &[Stored<QueuedMessage>]) {
    let (expired, left): (Vec<_>, Vec<_>) =
        waiting.iter().partition(|message| message.record.expires <= change.now);
    for message in expired {
        change.end(message, Outcome::Expired);
    }
    change.look_again_at(left.iter().map(|message| message.record.expires).min());
}
