//! The stored properties of event hub namespaces and event hubs.

use base::{InstanceId, Key, Timestamp};
use serde::{Deserialize, Serialize};

use super::rules::AccessRight;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceProperties {
    pub instance: InstanceId,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub rules: Vec<AuthorizationRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHubProperties {
    pub created: Timestamp,
    pub updated: Timestamp,
    pub partition_count: u32,
    pub retention_days: u32,
    pub rules: Vec<AuthorizationRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationRule {
    pub name: String,
    pub rights: Vec<AccessRight>,
    pub primary_key: Key,
    pub secondary_key: Key,
}

impl AuthorizationRule {
    pub fn generate(name: &str, rights: &[AccessRight]) -> Self {
        let (primary_key, secondary_key) = (Key::generate(32), Key::generate(32));
        Self { name: name.to_owned(), rights: rights.to_vec(), primary_key, secondary_key }
    }

    pub(crate) fn has_key(&self, key: &str) -> bool {
        let same = |own: &Key| base::secret::same_bytes(own.text().as_bytes(), key.as_bytes());
        same(&self.primary_key) || same(&self.secondary_key)
    }

    pub(crate) fn may_send(&self) -> bool {
        self.rights.contains(&AccessRight::Send) || self.rights.contains(&AccessRight::Manage)
    }
}
