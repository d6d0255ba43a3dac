//! A model as it is stored, and the one row that stands for all models of an instance.
//! Read by the snapshot and by GET; the definition is kept exactly as it was uploaded.

use base::{InstanceId, Timestamp};
use dtdl::Dtmi;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Key, Record, Table, table};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub instance: InstanceId,
    pub id: Dtmi,
    /// Strictly rising within an instance: it also gives the order of lists.
    pub upload_time: Timestamp,
    pub decommissioned: bool,
    pub definition: Value,
}

impl Record for Model {
    const TABLE: Table = table::MODEL;

    fn key(&self) -> Key {
        key(&self.instance, &self.id)
    }
}

pub(crate) fn key(instance: &InstanceId, id: &Dtmi) -> Key {
    Key::new([instance.as_str(), id.as_str()])
}

/// Replaced by every change of any model, so that rules over the whole set hold and a cached snapshot knows when it is old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelSet {
    pub instance: InstanceId,
    pub last_upload_time: Timestamp,
    pub count: usize,
}

impl Record for ModelSet {
    const TABLE: Table = table::MODEL_SET;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}
