//! Messages for devices as they lie in the store, and the queue that each device has of them once it was sent one.

use base::{DeviceId, InstanceId, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use store::{Key, Record, Table, table};

use super::message::Properties;
use crate::lock::Lock;

/// How many messages wait for a device, and under which number the last one came. Every change of one of its messages writes it too,
/// so that two changes at once are seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceQueue {
    pub(crate) instance: InstanceId,
    pub(crate) device_id: DeviceId,
    /// Of the last message. A number never comes back while the device is there.
    pub(crate) last_sequence: u64,
    pub(crate) count: u32,
    /// When the queue is looked at for messages that have expired: [`crate::due::Due`] says the same.
    pub(crate) due: Option<Timestamp>,
}

/// A message that waits, or that somebody holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QueuedMessage {
    pub(crate) instance: InstanceId,
    pub(crate) device_id: DeviceId,
    pub(crate) sequence: u64,
    /// Of the device that it was sent to.
    pub(crate) generation_id: String,
    pub(crate) properties: Properties,
    #[serde(serialize_with = "as_base64", deserialize_with = "from_base64")]
    pub(crate) body: Bytes,
    pub(crate) enqueued: Timestamp,
    pub(crate) expires: Timestamp,
    /// How often it was given back on purpose.
    pub(crate) delivery_count: u32,
    /// Of whoever took it by a request of its own. A session that holds it is not written down: the next one has it anew.
    pub(crate) lock: Option<Lock>,
}

impl QueuedMessage {
    pub(crate) fn key_of(instance: &InstanceId, device_id: &DeviceId, sequence: u64) -> Key {
        queue_key(instance, device_id).child(format!("{sequence:020}"))
    }

    /// Whether somebody holds it.
    pub(crate) fn is_locked(&self, now: Timestamp) -> bool {
        self.lock.is_some_and(|lock| lock.holds(now))
    }
}

/// Of a queue, and before all of its messages.
pub(crate) fn queue_key(instance: &InstanceId, device_id: &DeviceId) -> Key {
    Key::instance(instance).child(device_id.as_str())
}

impl Record for DeviceQueue {
    const TABLE: Table = table::DEVICE_QUEUE;

    fn key(&self) -> Key {
        queue_key(&self.instance, &self.device_id)
    }
}

impl Record for QueuedMessage {
    const TABLE: Table = table::QUEUED_MESSAGE;

    fn key(&self) -> Key {
        Self::key_of(&self.instance, &self.device_id, self.sequence)
    }
}

fn as_base64<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Bytes::from).map_err(|_| de::Error::custom("a body is base64"))
}
