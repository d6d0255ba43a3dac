//! The stored shape of a registration: one per registration id, whatever came of it.

use base::{DeviceId, InstanceId, Key as SharedKey, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

use crate::enrollment::EnrollmentKind;
use crate::ids::RegistrationId;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    pub instance: InstanceId,
    pub registration_id: RegistrationId,
    pub enrollment_kind: EnrollmentKind,
    /// The enrollment it was let in by; for a group, the group's id.
    pub enrollment_id: RegistrationId,
    /// The operation that a device polls.
    pub operation_id: String,
    /// Those before it, oldest first: of two that register under one id at the same time, each polls its own.
    #[serde(default)]
    pub earlier_operation_ids: Vec<String>,
    /// Whether the device is so old that an enrollment without reprovisioning policy leaves it where it is.
    #[serde(default)]
    pub sticky_when_unset: bool,
    /// What the device said to be, for its twin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    pub state: RegistrationState,
    /// Where the device was last assigned, through later failures too.
    pub assignment: Option<Assignment>,
    pub created: Timestamp,
    pub last_updated: Timestamp,
    pub etag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub enum RegistrationState {
    Assigning(ProvedKeys),
    Assigned { substatus: Substatus },
    Failed { reason: FailureReason },
    Disabled,
}

/// The keys that the device's identity gets in its hub. They are kept until it has them: those of a group are derived from the id
/// as the device spells it, and those of an enrollment may change, so that they cannot be found again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvedKeys {
    pub primary_key: SharedKey,
    pub secondary_key: SharedKey,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// By its name: at which address a device is told to find it depends on where the device asks.
    pub hub_name: String,
    /// The hub itself: another may come to have its name.
    pub hub_instance: InstanceId,
    pub device_id: DeviceId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Substatus {
    InitialAssignment,
    DeviceDataMigrated,
    DeviceDataReset,
    ReprovisionedToInitialAssignment,
}

impl Substatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::InitialAssignment => "initialAssignment",
            Self::DeviceDataMigrated => "deviceDataMigrated",
            Self::DeviceDataReset => "deviceDataReset",
            Self::ReprovisionedToInitialAssignment => "reprovisionedToInitialAssignment",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "camelCase")]
pub enum FailureReason {
    /// No linked hub takes part.
    NoHub,
    /// The hub refused; its own text.
    HubRefused(String),
    CustomAllocationUnavailable,
    /// The group was deleted before the device was assigned.
    EnrollmentNotFound,
}

impl FailureReason {
    pub fn code(&self) -> u32 {
        match self {
            Self::NoHub => 400_208,
            Self::HubRefused(_) => 400_209,
            Self::CustomAllocationUnavailable => 400_207,
            Self::EnrollmentNotFound => 404_202,
        }
    }

    pub fn message(&self) -> String {
        match self {
            Self::NoHub => "No IoT hub is available to assign the device to.".to_owned(),
            Self::HubRefused(text) => text.clone(),
            Self::EnrollmentNotFound => "The enrollment of the device was not found.".to_owned(),
            Self::CustomAllocationUnavailable => {
                "Custom allocation is stored but this server does not call webhooks yet. Choose hashed, geoLatency or static."
                    .to_owned()
            }
        }
    }
}

impl Registration {
    /// Base64 of the quoted tag, as the service writes it.
    pub fn etag_text(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("\"{}\"", self.etag))
    }
}

impl Record for Registration {
    const TABLE: Table = table::REGISTRATION;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.registration_id.folded()])
    }

    fn columns(&self) -> Vec<Option<String>> {
        let group =
            matches!(self.enrollment_kind, EnrollmentKind::Group).then(|| self.enrollment_id.folded());
        let pending = matches!(self.state, RegistrationState::Assigning(_)).then(|| "yes".to_owned());
        vec![group, pending]
    }
}
