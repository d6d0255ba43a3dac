//! The stored shape of a device twin or module twin. Members carry the names that queries use.
//! Made and changed by the rules beside it; doors never see it serialised.

use std::collections::BTreeMap;

use base::ids::IdentityId;
use base::json::Object;
use base::{InstanceId, Timestamp};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};
use store::{Key, Record, Table, table};

use crate::configuration::{ConfigurationId, Held, Standing};
use crate::identity::identity_key;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceTwin {
    pub instance: InstanceId,
    #[serde(flatten, with = "crate::identity::flat_identity")]
    pub identity: IdentityId,
    pub etag: TwinEtag,
    /// Rises with every change of tags, desired or reported.
    pub version: u64,
    #[serde(default)]
    pub model_id: String,
    pub tags: Object,
    pub properties: Properties,
    /// How those stand that are for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configurations: BTreeMap<ConfigurationId, Standing>,
    /// Desired properties that it has by them, so that they can be taken away again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    pub desired: Section,
    pub reported: Section,
}

/// Desired or reported properties: the values, and the tree beside them that says when each was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    pub values: Object,
    pub metadata: Object,
    pub version: u64,
}

/// Counts writes to tags and desired properties. Written as base64 of eight bytes, the greatest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinEtag(pub u64);

impl DeviceTwin {
    /// The twin of a new identity: tag 1, version 2, both sections empty at version 1.
    pub fn new(instance: InstanceId, identity: IdentityId, now: Timestamp) -> Self {
        let properties = Properties { desired: Section::new(now), reported: Section::new(now) };
        Self {
            instance,
            identity,
            etag: TwinEtag(1),
            version: 2,
            model_id: String::new(),
            tags: Object::new(),
            properties,
            configurations: BTreeMap::new(),
            held: Vec::new(),
        }
    }
}

impl Record for DeviceTwin {
    const TABLE: Table = table::DEVICE_TWIN;

    fn key(&self) -> Key {
        identity_key(&self.instance, &self.identity)
    }
}

impl Section {
    pub fn new(now: Timestamp) -> Self {
        let mut metadata = Object::new();
        metadata.insert("$lastUpdated".into(), now.iso7().into());
        Self { values: Object::new(), metadata, version: 1 }
    }

    /// As services see it: values, `$metadata`, `$version`.
    pub fn with_metadata(&self) -> Value {
        let mut all = self.values.clone();
        all.insert("$metadata".into(), Value::Object(self.metadata.clone()));
        all.insert("$version".into(), json!(self.version));
        Value::Object(all)
    }

    /// As devices see it: values and `$version`.
    pub fn without_metadata(&self) -> Value {
        let mut all = self.values.clone();
        all.insert("$version".into(), json!(self.version));
        Value::Object(all)
    }
}

impl Serialize for Section {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len() + 2))?;
        for (key, value) in &self.values {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("$metadata", &self.metadata)?;
        map.serialize_entry("$version", &self.version)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Object::deserialize(deserializer)?;
        let version = values.shift_remove("$version").and_then(|v| v.as_u64());
        let version = version.ok_or_else(|| de::Error::missing_field("$version"))?;
        let Some(Value::Object(metadata)) = values.shift_remove("$metadata") else {
            return Err(de::Error::missing_field("$metadata"));
        };
        Ok(Self { values, metadata, version })
    }
}

impl std::fmt::Display for TwinEtag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use base64::Engine;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0.to_be_bytes()))
    }
}

impl Serialize for TwinEtag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TwinEtag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(de::Error::custom)?;
        let bytes: [u8; 8] = bytes.try_into().map_err(|_| de::Error::custom("an etag has eight bytes"))?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}
