//! The stored properties of event hub namespaces and event hubs.

use base::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceProperties {
    pub instance: InstanceId,
    pub created: Timestamp,
    pub updated: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHubProperties {
    pub created: Timestamp,
    pub updated: Timestamp,
    pub partition_count: u32,
    pub retention_days: u32,
}
