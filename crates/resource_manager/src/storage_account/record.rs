//! The stored properties of a storage account. Its keys are the account's own.

use base::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub instance: InstanceId,
    pub created: Timestamp,
    /// As it was written: `Standard_LRS` and the like. It changes nothing.
    pub sku: String,
    /// `StorageV2` and the like.
    pub kind: String,
}
