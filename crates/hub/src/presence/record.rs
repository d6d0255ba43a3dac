//! The stored shape of an identity's activity: written now and then, never needed to be exact.

use base::ids::IdentityId;
use base::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

use crate::identity::identity_key;

/// When an identity was last heard of. Tied to a generation, so that a late flush never shows on a successor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Activity {
    pub(crate) instance: InstanceId,
    #[serde(flatten, with = "crate::identity::flat_identity")]
    pub(crate) id: IdentityId,
    pub(crate) generation_id: String,
    /// Of the session that tells it. Those before it have no say any more.
    #[serde(default)]
    pub(crate) session_epoch: u64,
    pub(crate) connected: bool,
    pub(crate) connection_state_updated_time: Timestamp,
    pub(crate) last_activity_time: Timestamp,
}

impl Activity {
    /// What lies in the store once this is told too: the later session says how it stands, and of one session its end does. `None`:
    /// as it was, because a later session has spoken already or nothing is new.
    pub(crate) fn over(&self, old: &Self) -> Option<Self> {
        if self.session_epoch < old.session_epoch {
            return None;
        }
        let mut merged = self.clone();
        if self.generation_id == old.generation_id {
            merged.last_activity_time = self.last_activity_time.max(old.last_activity_time);
        }
        if self.session_epoch == old.session_epoch && !old.connected {
            merged.connected = false;
            merged.connection_state_updated_time = old.connection_state_updated_time;
        }
        (merged != *old).then_some(merged)
    }
}

impl Record for Activity {
    const TABLE: Table = table::ACTIVITY;

    fn key(&self) -> Key {
        identity_key(&self.instance, &self.id)
    }
}
