//! A model as it is stored: what lists and rules over the whole set need, apart from its definition, which is read when it is
//! asked for. What a model extends and contains is kept as its upload told it: no later reading of the definition decides that.

use base::{InstanceId, Timestamp};
use dtdl::{Dtmi, LanguageMap};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use store::{Key, Record, StoreError, Table, table};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub instance: InstanceId,
    pub id: Dtmi,
    /// Strictly rising within an instance: it also gives the order of lists.
    pub upload_time: Timestamp,
    pub decommissioned: bool,
    #[serde(default)]
    pub display_name: LanguageMap,
    #[serde(default)]
    pub description: LanguageMap,
    #[serde(default)]
    pub extends: Vec<Dtmi>,
    /// The models of its own components.
    #[serde(default)]
    pub components: Vec<Dtmi>,
}

impl Model {
    /// The models that must be there as long as this one is. Relationship targets are not among them.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = &Dtmi> {
        self.extends.iter().chain(&self.components)
    }
}

impl Record for Model {
    const TABLE: Table = table::MODEL;

    fn key(&self) -> Key {
        key(&self.instance, &self.id)
    }
}

/// Of the model with the same key, as it came in: no member of it is ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub instance: InstanceId,
    pub id: Dtmi,
    /// Of its model: a model that was deleted and uploaded again is another one.
    pub upload_time: Timestamp,
    pub text: Box<RawValue>,
}

impl Definition {
    pub(crate) fn value(&self) -> Result<Value, StoreError> {
        let value = serde_json::from_str(self.text.get());
        value.map_err(|error| StoreError::Corrupt(format!("the definition of {}: {error}", self.id)))
    }
}

impl Record for Definition {
    const TABLE: Table = table::MODEL_DEFINITION;

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
