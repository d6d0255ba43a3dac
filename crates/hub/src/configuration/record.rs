//! A configuration as it lies in the store. Its content has the members and keys that callers write, and never changes.

use std::collections::BTreeMap;

use base::json::Object;
use base::{InstanceId, Timestamp, caps};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

base::checked_string!(
    /// A configuration's id, as the service takes them (`iothub-service.md` §13).
    ConfigurationId,
    "1 to 128 characters of a-z 0-9 - + % _ * ! '",
    is_configuration_id
);

fn is_configuration_id(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-+%_*!'".contains(&b);
    (1..=caps::CONFIGURATION_ID_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    pub instance: InstanceId,
    pub id: ConfigurationId,
    pub schema_version: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub content: Content,
    /// As it was sent; nothing is for nobody.
    pub target_condition: Option<String>,
    /// Tells it from one of the same id that was deleted.
    pub created: Timestamp,
    pub updated: Timestamp,
    /// The greater one wins.
    pub priority: i32,
    /// Custom metrics: queries by their names.
    pub metrics: BTreeMap<String, String>,
    pub etag: ConfigurationEtag,
}

/// What a configuration brings, by the keys `properties.desired` and `properties.desired.{path}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    DeviceContent(Object),
    ModuleContent(Object),
    /// An IoT Edge deployment: such content by module.
    ModulesContent(Object),
}

impl Content {
    pub fn is_deployment(&self) -> bool {
        matches!(self, Self::ModulesContent(_))
    }
}

/// Counts writes from 1. Written as base64 of the decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigurationEtag(pub u64);

impl std::fmt::Display for ConfigurationEtag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use base64::Engine;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0.to_string()))
    }
}

/// How a configuration stands with a twin that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Nothing of it is in force there.
    Targeted,
    Applied,
}

/// As a twin shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub status: Status,
}

/// A desired property of a twin that is in force by a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub path: Vec<String>,
    pub by: ConfigurationId,
    pub created: Timestamp,
}

/// How far a walk over a hub's twins has come: devices first, then modules, each by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Walk {
    pub(super) instance: InstanceId,
    /// The change of configurations that it is for.
    pub(super) generation: u64,
    /// Every twin up to this one is as the configurations have it.
    pub(super) after: Option<String>,
    pub(super) is_over: bool,
}

impl Record for Walk {
    const TABLE: Table = table::CONFIGURATION_WALK;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

pub(super) fn configuration_key(instance: &InstanceId, id: &ConfigurationId) -> Key {
    Key::instance(instance).child(id.as_str())
}

impl Record for Configuration {
    const TABLE: Table = table::CONFIGURATION;

    fn key(&self) -> Key {
        configuration_key(&self.instance, &self.id)
    }
}
