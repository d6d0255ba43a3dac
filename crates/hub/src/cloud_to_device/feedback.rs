//! What senders are told of the ends of their messages (`iothub-service.md` §7.4): single records, which whoever asks for them gets by
//! the batch, holds for a while and settles. Kept for as long as the hub's setting says, whether anybody asks or not.

use std::time::Duration;

use access::{Caller, Permission};
use base::{DeviceId, InstanceId, Meter, Timestamp, caps};
use serde::{Deserialize, Serialize};
use store::{Batch, Counter, Key, Record, Scan, Stored, Table, retry_on_conflict, table};

use super::Settlement;
use super::lock::{Lock, LockToken};
use super::message::Outcome;
use super::record::QueuedMessage;
use crate::due::Work;
use crate::error::Error;
use crate::hub::Hub;

const COUNTER: &str = "feedback";

/// The end of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub original_message_id: Option<String>,
    pub enqueued: Timestamp,
    pub outcome: Outcome,
    pub device_id: DeviceId,
    pub device_generation_id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Feedback {
    instance: InstanceId,
    sequence: u64,
    told: Told,
    expires: Timestamp,
}

/// Records that were given out together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FeedbackBatch {
    instance: InstanceId,
    number: u64,
    told: Vec<Told>,
    enqueued: Timestamp,
    expires: Timestamp,
    delivery_count: u32,
    lock: Option<Lock>,
}

/// What somebody who asks for feedback gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedFeedback {
    pub told: Vec<Told>,
    pub enqueued: Timestamp,
    pub lock_token: LockToken,
}

impl Feedback {
    pub(super) fn of(message: &QueuedMessage, outcome: Outcome, now: Timestamp, ttl: Duration) -> Self {
        let told = Told {
            original_message_id: message.properties.message_id.clone(),
            enqueued: now,
            outcome,
            device_id: message.device_id.clone(),
            device_generation_id: message.generation_id.clone(),
        };
        let instance = message.instance.clone();
        Self { instance, sequence: message.sequence, told, expires: now.plus(ttl) }
    }

    pub(super) fn push(&self, hub: &Hub, batch: &mut Batch) {
        batch.insert(self);
        batch.add(hub.feedback_counter(), 1, i64::MAX);
        // One look for all that expires within the same while.
        let step = Duration::from_secs(caps::FEEDBACK_EXPIRY_STEP_SECONDS);
        let steps = self.expires.since(Timestamp::UNIX_EPOCH).as_secs() / step.as_secs() + 1;
        let at = Timestamp::UNIX_EPOCH.plus(Duration::from_secs(steps * step.as_secs()));
        batch.put(&hub.due(at, Work::Feedback));
    }
}

impl Record for Feedback {
    const TABLE: Table = table::FEEDBACK;

    /// In the order in which messages ended.
    fn key(&self) -> Key {
        let place = [
            self.instance.as_str(),
            &format!("{:020}", self.told.enqueued.ticks().max(0)),
            self.told.device_id.as_str(),
            &format!("{:020}", self.sequence),
        ];
        Key::new(place)
    }
}

impl FeedbackBatch {
    fn key_of(instance: &InstanceId, number: u64) -> Key {
        Key::instance(instance).child(format!("{number:020}"))
    }

    fn received(&self, lock: Lock) -> ReceivedFeedback {
        ReceivedFeedback { told: self.told.clone(), enqueued: self.enqueued, lock_token: lock.token }
    }
}

impl Record for FeedbackBatch {
    const TABLE: Table = table::FEEDBACK_BATCH;

    fn key(&self) -> Key {
        Self::key_of(&self.instance, self.number)
    }
}

impl Hub {
    fn feedback_counter(&self) -> Counter {
        Counter::new(self.instance(), COUNTER)
    }

    /// Whether more feedback is kept. Where nobody fetches it, new feedback is lost rather than messages not completed.
    pub(super) async fn has_room_for_feedback(&self) -> Result<bool, Error> {
        let has_room = self.store().counter(&self.feedback_counter()).await? < caps::FEEDBACK_WAITING_MAX;
        if !has_room {
            let max = caps::FEEDBACK_WAITING_MAX;
            tracing::warn!(
                hub = self.name(),
                max,
                "feedback is lost: as much as is kept waits for somebody who fetches it"
            );
        }
        Ok(has_room)
    }

    /// Feedback that nobody holds, in the order in which messages ended: what was given back first, then what is new.
    pub async fn receive_feedback(&self, caller: &Caller) -> Result<Option<ReceivedFeedback>, Error> {
        caller.require(Permission::CloudToDeviceFeedback, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        retry_on_conflict(async || match self.take_batch_again().await? {
            Some(taken) => Ok(Some(taken)),
            None => self.take_new_batch().await,
        })
        .await
    }

    async fn take_batch_again(&self) -> Result<Option<ReceivedFeedback>, Error> {
        let now = self.now();
        let scan = Scan::new(Key::instance(self.instance()), caps::SCAN_PAGE);
        let batches = self.store().scan::<FeedbackBatch>(scan).await?;
        let is_free =
            |batch: &FeedbackBatch| batch.lock.is_none_or(|lock| !lock.holds(now)) && batch.expires > now;
        let Some(free) = batches.into_iter().find(|batch| is_free(&batch.record)) else { return Ok(None) };
        let lock = Lock::new(free.record.number, now, self.settings().cloud_to_device.feedback.lock);
        let taken = FeedbackBatch { lock: Some(lock), ..free.record.clone() };
        let mut batch = Batch::default();
        batch.replace(&free, &taken);
        self.store().commit(batch).await?;
        Ok(Some(taken.received(lock)))
    }

    async fn take_new_batch(&self) -> Result<Option<ReceivedFeedback>, Error> {
        let now = self.now();
        let scan = Scan::new(Key::instance(self.instance()), caps::FEEDBACK_BATCH_MAX);
        let single = self.store().scan::<Feedback>(scan).await?;
        let Some(last) = single.last() else { return Ok(None) };
        let number = u64::try_from(now.ticks()).unwrap_or_default();
        let settings = self.settings().cloud_to_device.feedback;
        let lock = Lock::new(number, now, settings.lock);
        let taken = FeedbackBatch {
            instance: self.instance().clone(),
            number,
            told: single.iter().map(|stored| stored.record.told.clone()).collect(),
            enqueued: last.record.told.enqueued,
            expires: last.record.expires,
            delivery_count: 0,
            lock: Some(lock),
        };
        let mut batch = Batch::default();
        for stored in &single {
            batch.delete(stored);
        }
        batch.add(self.feedback_counter(), -count(single.len()), i64::MAX);
        batch.insert(&taken);
        self.store().commit(batch).await?;
        Ok(Some(taken.received(lock)))
    }

    /// What becomes of feedback that somebody holds. Given back too often it is dropped.
    pub async fn settle_feedback(
        &self,
        caller: &Caller,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), Error> {
        caller.require(Permission::CloudToDeviceFeedback, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let key = FeedbackBatch::key_of(self.instance(), token.number);
        retry_on_conflict(async || {
            let held = self.store().get::<FeedbackBatch>(&key).await?;
            let is_held = |held: &Stored<FeedbackBatch>| {
                held.record.lock.is_some_and(|lock| lock.is_held_by(token, self.now()))
            };
            let held = held.filter(is_held).ok_or(Error::DeviceMessageLockLost)?;
            let max = self.settings().cloud_to_device.feedback.max_delivery_count;
            let mut back = FeedbackBatch { lock: None, ..held.record.clone() };
            back.delivery_count += 1;
            let mut batch = Batch::default();
            if settlement == Settlement::Abandon && back.delivery_count < max {
                batch.replace(&held, &back);
            } else {
                batch.delete(&held);
            }
            self.store().commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// Drops feedback that was not fetched in time.
    pub(crate) async fn expire_feedback(&self, now: Timestamp) -> Result<(), Error> {
        let prefix = || Key::instance(self.instance());
        retry_on_conflict(async || {
            loop {
                let single = self.store().scan::<Feedback>(Scan::new(prefix(), caps::SCAN_PAGE)).await?;
                let old: Vec<_> = single.iter().filter(|stored| stored.record.expires <= now).collect();
                let mut batch = Batch::default();
                for stored in &old {
                    batch.delete(*stored);
                }
                batch.add(self.feedback_counter(), -count(old.len()), i64::MAX);
                let given = self.store().scan::<FeedbackBatch>(Scan::new(prefix(), caps::SCAN_PAGE)).await?;
                for given in given.iter().filter(|given| given.record.expires <= now) {
                    batch.delete(given);
                }
                self.store().commit(batch).await?;
                if old.len() < caps::SCAN_PAGE {
                    return Ok(());
                }
            }
        })
        .await
    }
}

fn count(records: usize) -> i64 {
    i64::try_from(records).unwrap_or(i64::MAX)
}
