//! A digital twin as it is stored: its document under Azure's member names, because queries address it by them.
//! Made by `rules` only. It must never hold a document that its model did not allow when it was written.

use base::InstanceId;
use base::json::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Counter, Key, Record, Table, table};

use crate::DigitalTwinId;
use crate::relationship::Relationship;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DigitalTwin {
    pub(crate) instance: InstanceId,
    pub(crate) id: DigitalTwinId,
    /// `$dtId`, `$etag`, properties and components in the order they came, `$metadata`.
    pub(crate) document: Object,
}

impl DigitalTwin {
    pub fn id(&self) -> &DigitalTwinId {
        &self.id
    }

    /// `W/"…"`, as the header and the document carry it.
    pub fn etag(&self) -> &str {
        self.document.get("$etag").and_then(Value::as_str).unwrap_or_default()
    }

    /// The id of its model, which may have been deleted since.
    pub fn model(&self) -> &str {
        self.metadata()
            .and_then(|metadata| metadata.get("$model"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub fn document(&self) -> &Object {
        &self.document
    }

    /// A component with its `$metadata`, which tells it from a property.
    pub fn component(&self, name: &str) -> Option<&Object> {
        let members = self.document.get(name)?.as_object()?;
        (!name.starts_with('$') && members.contains_key("$metadata")).then_some(members)
    }

    pub(crate) fn metadata(&self) -> Option<&Object> {
        self.document.get("$metadata")?.as_object()
    }
}

impl Record for DigitalTwin {
    const TABLE: Table = table::DIGITAL_TWIN;

    fn key(&self) -> Key {
        key(&self.instance, &self.id)
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(self.model().to_owned())]
    }
}

pub(crate) fn key(instance: &InstanceId, id: &DigitalTwinId) -> Key {
    Key::new([instance.as_str(), id.as_str()])
}

/// How many twins the instance has.
pub(crate) fn count(instance: &InstanceId) -> Counter {
    Counter::of::<DigitalTwin>(instance, "digital_twins", None)
}

/// How many relationships start at the twin.
pub(crate) fn outgoing(instance: &InstanceId, id: &DigitalTwinId) -> Counter {
    Counter::of::<Relationship>(instance, format!("outgoing/{id}"), Some(("source", id.as_str())))
}

/// How many relationships end at the twin.
pub(crate) fn incoming(instance: &InstanceId, id: &DigitalTwinId) -> Counter {
    Counter::of::<Relationship>(instance, format!("incoming/{id}"), Some(("target", id.as_str())))
}
