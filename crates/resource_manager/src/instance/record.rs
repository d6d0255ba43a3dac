//! The stored properties of a Digital Twins instance.

use base::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::private_endpoint::PrivateEndpointConnection;
use crate::resource::NetworkAccess;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub instance: InstanceId,
    pub created: Timestamp,
    pub last_updated: Timestamp,
    pub public_network_access: NetworkAccess,
    pub connections: Vec<PrivateEndpointConnection>,
}
