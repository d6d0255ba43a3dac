//! The stored properties of an IoT hub.

use access::SharedAccessPolicy;
use base::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::policy;
use crate::private_endpoint::PrivateEndpointConnection;
use crate::resource::NetworkAccess;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub instance: InstanceId,
    pub created: Timestamp,
    pub sku: Sku,
    #[serde(with = "policy::record")]
    pub policies: Vec<SharedAccessPolicy>,
    pub partition_count: u32,
    pub retention_days: u32,
    /// `None`: never said; shown only once it was.
    pub public_network_access: Option<NetworkAccess>,
    pub disable_local_auth: bool,
    /// The second of its two regions is the primary one.
    #[serde(default)]
    pub is_failed_over: bool,
    #[serde(default)]
    pub connections: Vec<PrivateEndpointConnection>,
    /// Kept and shown as sent: routing, file upload, cloud-to-device settings and the like.
    pub sections: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sku {
    pub name: String,
    pub capacity: u32,
}
