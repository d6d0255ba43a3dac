//! The stored properties of a provisioning service, its linked hubs among them.

use access::SharedAccessPolicy;
use base::{InstanceId, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::policy;
use crate::private_endpoint::PrivateEndpointConnection;
use crate::resource::NetworkAccess;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub instance: InstanceId,
    pub created: Timestamp,
    /// `0ne` and eight hex digits; made once, never used again.
    pub id_scope: String,
    pub capacity: u32,
    #[serde(with = "policy::record")]
    pub policies: Vec<SharedAccessPolicy>,
    pub allocation_policy: AllocationPolicy,
    pub linked_hubs: Vec<LinkedHub>,
    pub public_network_access: Option<NetworkAccess>,
    pub disable_local_auth: bool,
    #[serde(default)]
    pub connections: Vec<PrivateEndpointConnection>,
    /// Kept and shown as sent.
    pub sections: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedHub {
    /// As the connection string names it.
    pub host_name: String,
    /// The hub of this server behind that name.
    pub hub: InstanceId,
    pub hub_name: String,
    pub connection_string: Secret,
    pub location: String,
    pub allocation_weight: Option<u32>,
    pub apply_allocation_policy: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocationPolicy {
    #[default]
    Hashed,
    GeoLatency,
    Static,
}

impl AllocationPolicy {
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hashed, Self::GeoLatency, Self::Static]
            .into_iter()
            .find(|policy| policy.name().eq_ignore_ascii_case(text))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Hashed => "Hashed",
            Self::GeoLatency => "GeoLatency",
            Self::Static => "Static",
        }
    }
}
