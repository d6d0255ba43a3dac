//! Notices as they lie in the store: each for itself until somebody asks, and then with those that were given out with it.

use base::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table};

use super::Notice;
use crate::lock::Lock;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waiting<N> {
    pub(super) instance: InstanceId,
    /// Tells notices of one device and moment apart.
    pub(super) sequence: u64,
    pub(super) told: N,
    pub(super) expires: Timestamp,
}

/// Notices that were given out together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Taken<N> {
    pub(super) instance: InstanceId,
    pub(super) number: u64,
    pub(super) told: Vec<N>,
    pub(super) enqueued: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) delivery_count: u32,
    pub(super) lock: Option<Lock>,
}

impl<N: Notice> Taken<N> {
    pub(super) fn key_of(instance: &InstanceId, number: u64) -> Key {
        Key::instance(instance).child(format!("{number:020}"))
    }

    /// Whether somebody may have it.
    pub(super) fn is_free(&self, now: Timestamp) -> bool {
        self.lock.is_none_or(|lock| !lock.holds(now)) && self.expires > now
    }
}

impl<N: Notice> Record for Waiting<N> {
    const TABLE: Table = N::WAITING;

    /// In the order in which they came.
    fn key(&self) -> Key {
        let place = [
            self.instance.as_str(),
            &format!("{:020}", self.told.enqueued().ticks().max(0)),
            self.told.device_id().as_str(),
            &format!("{:020}", self.sequence),
        ];
        Key::new(place)
    }
}

impl<N: Notice> Record for Taken<N> {
    const TABLE: Table = N::GIVEN;

    fn key(&self) -> Key {
        Self::key_of(&self.instance, self.number)
    }
}
