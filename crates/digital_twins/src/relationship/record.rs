//! A relationship as it is stored: its document under Azure's member names, because queries address it by them.
//! Its columns let it be found from its target and by its name.

use base::InstanceId;
use base::json::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Key, Record, Table, table};

use crate::{DigitalTwinId, RelationshipId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relationship {
    pub(crate) instance: InstanceId,
    pub(crate) source: DigitalTwinId,
    pub(crate) id: RelationshipId,
    pub(crate) target: DigitalTwinId,
    /// `$relationshipId`, `$etag`, `$sourceId`, `$relationshipName`, `$targetId`, properties in the order they came.
    pub(crate) document: Object,
}

impl Relationship {
    pub fn id(&self) -> &RelationshipId {
        &self.id
    }

    pub fn source(&self) -> &DigitalTwinId {
        &self.source
    }

    pub fn target(&self) -> &DigitalTwinId {
        &self.target
    }

    pub fn name(&self) -> &str {
        self.document.get("$relationshipName").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn etag(&self) -> &str {
        self.document.get("$etag").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn document(&self) -> &Object {
        &self.document
    }
}

impl Record for Relationship {
    const TABLE: Table = table::RELATIONSHIP;

    fn key(&self) -> Key {
        key(&self.instance, &self.source, &self.id)
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(self.target.to_string()), Some(self.name().to_owned())]
    }
}

pub(crate) fn key(instance: &InstanceId, source: &DigitalTwinId, id: &RelationshipId) -> Key {
    Key::new([instance.as_str(), source.as_str(), id.as_str()])
}
