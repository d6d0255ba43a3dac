//! The uploads of a device as they lie in the store, in one record: a second one that begins at the same time writes it too, so that
//! there are never more than may be.

use base::{DeviceId, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileUploads {
    pub(super) instance: InstanceId,
    pub(super) device_id: DeviceId,
    /// In the order in which they began.
    pub(super) uploads: Vec<Upload>,
}

/// One that began, and whose end its device has not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Upload {
    pub(super) correlation_id: String,
    pub(super) blob_name: String,
    pub(super) blob_uri: String,
    pub(super) expires: Timestamp,
}

pub(super) fn key_of(instance: &InstanceId, device_id: &DeviceId) -> Key {
    Key::instance(instance).child(device_id.as_str())
}

impl Record for FileUploads {
    const TABLE: Table = table::FILE_UPLOADS;

    fn key(&self) -> Key {
        key_of(&self.instance, &self.device_id)
    }
}
