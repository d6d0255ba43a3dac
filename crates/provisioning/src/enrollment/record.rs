//! The stored shape of an enrollment: individual and group alike, told apart by their kind.

use base::{InstanceId, Timestamp, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Key, Record, Table, table};

use crate::attestation::Attestation;
use crate::ids::RegistrationId;
use crate::settings::AllocationPolicy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnrollmentKind {
    Individual,
    Group,
}

impl EnrollmentKind {
    pub(crate) fn key_text(self) -> &'static str {
        match self {
            Self::Individual => "individual",
            Self::Group => "group",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrollment {
    pub instance: InstanceId,
    pub kind: EnrollmentKind,
    /// `registrationId` or `enrollmentGroupId`, as its creator wrote it.
    pub id: RegistrationId,
    /// Individual only: the id in the hub where it is not the registration id.
    pub device_id: Option<base::DeviceId>,
    /// Individual only: free JSON.
    pub optional_device_information: Option<Value>,
    pub attestation: Attestation,
    #[serde(default)]
    pub iot_edge: bool,
    /// The old way to name one hub.
    pub iot_hub_host_name: Option<String>,
    /// `{"tags":…,"properties":{"desired":…}}`, echoed as given.
    pub initial_twin: Option<Value>,
    /// A counter in Azure's look; see [`Enrollment::etag_text`].
    pub etag: String,
    pub is_enabled: bool,
    pub reprovision_policy: Option<ReprovisionPolicy>,
    pub created: Timestamp,
    pub last_updated: Timestamp,
    pub allocation_policy: Option<AllocationPolicy>,
    #[serde(default)]
    pub iot_hubs: Vec<String>,
    pub custom_allocation: Option<CustomAllocation>,
    pub credential_policy_name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReprovisionPolicy {
    pub update_hub_assignment: bool,
    pub migrate_device_data: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomAllocation {
    pub webhook_url: Url,
    pub api_version: String,
}

impl Enrollment {
    /// The etag as it stands in bodies and headers: the quotes are part of it.
    pub fn etag_text(&self) -> String {
        format!("\"{}\"", self.etag)
    }

    pub fn is_group(&self) -> bool {
        self.kind == EnrollmentKind::Group
    }
}

/// An etag in the look of the service's own.
pub(crate) fn new_etag() -> String {
    let hex = base::secret::random_hex(8);
    format!("{}-0000-0300-0000-{}0000", &hex[..8], &hex[8..])
}

impl Record for Enrollment {
    const TABLE: Table = table::ENROLLMENT;

    fn key(&self) -> Key {
        enrollment_key(&self.instance, self.kind, &self.id.folded())
    }
}

pub(crate) fn enrollment_key(instance: &InstanceId, kind: EnrollmentKind, folded_id: &str) -> Key {
    Key::new([instance.as_str(), kind.key_text(), folded_id])
}
