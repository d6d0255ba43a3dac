//! The stored shape of every resource: what all types share, and each type's own properties.

use std::collections::BTreeMap;

use base::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table};

use crate::id::ResourceId;
use crate::identity::ManagedIdentity;
use crate::{
    endpoint, event_hub, instance, iot_hub, provisioning_service, storage_account, user_assigned_identity,
};

pub type Tags = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub id: ResourceId,
    /// As answers show it; children have none.
    pub location: Option<String>,
    /// `None` is shown as `null` or left out, which is not the same as an empty map to a client that compares.
    pub tags: Option<Tags>,
    pub identity: Option<ManagedIdentity>,
    pub system_data: SystemData,
    /// Rises with every write; the services print it as base64 of eight bytes.
    pub version: u64,
    pub provisioning_state: ProvisioningState,
    /// The operation that was accepted last. Earlier ones that still run leave the state to it.
    pub operation: Option<String>,
    pub properties: Properties,
}

/// Who wrote a resource and when, as Resource Manager saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemData {
    pub created_by: String,
    pub created_by_type: String,
    pub created_at: Timestamp,
    pub last_modified_by: String,
    pub last_modified_by_type: String,
    pub last_modified_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisioningState {
    Provisioning,
    Updating,
    Deleting,
    Succeeded,
    Failed,
    /// Made well, but kept out by what it stands on. Never stored: it is seen when the resource is looked at.
    Disabled,
}

/// What each type keeps beside the common part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Properties {
    DigitalTwinsInstance(instance::Properties),
    DigitalTwinsEndpoint(endpoint::Properties),
    IotHub(iot_hub::Properties),
    ProvisioningService(provisioning_service::Properties),
    EventHubNamespace(event_hub::NamespaceProperties),
    EventHub(event_hub::EventHubProperties),
    StorageAccount(storage_account::Properties),
    UserAssignedIdentity(user_assigned_identity::Properties),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkAccess {
    #[default]
    Enabled,
    Disabled,
}

impl NetworkAccess {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case("Enabled") => Some(Self::Enabled),
            _ if text.eq_ignore_ascii_case("Disabled") => Some(Self::Disabled),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
        }
    }
}

impl ProvisioningState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "Provisioning",
            Self::Updating => "Updating",
            Self::Deleting => "Deleting",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Disabled => "Disabled",
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Disabled)
    }
}

impl Record for Resource {
    const TABLE: Table = store::table::RESOURCE;

    fn key(&self) -> Key {
        self.id.key()
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(self.id.resource_type.full_name().to_ascii_lowercase())]
    }
}

/// A name that is unique beyond its group: the first label of a host name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimedName {
    pub resource_type: String,
    pub name: String,
    pub id: ResourceId,
}

impl ClaimedName {
    pub(crate) fn of(id: &ResourceId) -> Self {
        Self { resource_type: id.resource_type.full_name(), name: id.name.clone(), id: id.clone() }
    }

    pub(crate) fn key_of(resource_type: &str, name: &str) -> Key {
        Key::new(["names", &resource_type.to_ascii_lowercase(), &name.to_ascii_lowercase()])
    }
}

impl Record for ClaimedName {
    const TABLE: Table = store::table::CLAIMED_NAME;

    fn key(&self) -> Key {
        Self::key_of(&self.resource_type, &self.name)
    }
}
