//! One change of a device's queue, put together and committed as a whole: the messages, their number, when the next one expires, and
//! what senders are told.

use base::{DeviceId, Timestamp};
use store::{Batch, Stored};

use super::feedback::Told;
use super::message::Outcome;
use super::record::{DeviceQueue, QueuedMessage, queue_key};
use crate::due::{Due, Work};
use crate::error::Error;
use crate::hub::Hub;

pub(super) struct Change {
    hub: Hub,
    pub(super) now: Timestamp,
    pub(super) batch: Batch,
    old: Option<Stored<DeviceQueue>>,
    pub(super) queue: DeviceQueue,
    /// With the numbers of their messages.
    feedback: Vec<(u64, Told)>,
}

impl Change {
    pub(super) async fn of(hub: &Hub, device_id: &DeviceId) -> Result<Self, Error> {
        let key = queue_key(hub.instance(), device_id);
        let old = hub.store().get::<DeviceQueue>(&key).await?;
        let new = || DeviceQueue {
            instance: hub.instance().clone(),
            device_id: device_id.clone(),
            last_sequence: 0,
            count: 0,
            due: None,
        };
        let queue = old.as_ref().map_or_else(new, |old| old.record.clone());
        Ok(Self {
            hub: hub.clone(),
            now: hub.now(),
            batch: Batch::default(),
            old,
            queue,
            feedback: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, message: &QueuedMessage) {
        self.queue.count += 1;
        self.batch.insert(message);
        if self.queue.due.is_none_or(|due| message.expires < due) {
            self.look_again_at(Some(message.expires));
        }
    }

    /// When messages expire next. Earlier than needed does no harm.
    pub(super) fn look_again_at(&mut self, due: Option<Timestamp>) {
        let note = |at| self.hub.due(at, Work::Queue(self.queue.device_id.clone()));
        if let Some(before) = self.queue.due.filter(|before| Some(*before) != due) {
            self.batch.remove::<Due>(store::Record::key(&note(before)));
        }
        if let Some(at) = due {
            self.batch.put(&note(at));
        }
        self.queue.due = due;
    }

    /// A message has come to its end, and leaves the queue.
    pub(super) fn end(&mut self, message: &Stored<QueuedMessage>, outcome: Outcome) {
        self.batch.delete(message);
        self.queue.count = self.queue.count.saturating_sub(1);
        if message.record.properties.ack.is_some_and(|ack| ack.wants(outcome)) {
            self.feedback.push((message.record.sequence, Told::of(&message.record, outcome, self.now)));
        }
    }

    pub(super) async fn commit(mut self) -> Result<(), Error> {
        match &self.old {
            Some(old) => self.batch.replace(old, &self.queue),
            None => self.batch.insert(&self.queue),
        }
        if !self.feedback.is_empty() && self.hub.has_room_for::<Told>().await? {
            for (sequence, told) in self.feedback {
                self.hub.push_notice(&mut self.batch, sequence, told);
            }
        }
        self.hub.store().commit(self.batch).await?;
        Ok(())
    }
}
