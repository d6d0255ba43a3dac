//! The stored shape of an identity, a device or a module. It changes only by operations of the registry, `device`; whatever hangs
//! on an identity lies under the same key.

use base::ids::IdentityId;
use base::{InstanceId, Key as SharedKey, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub instance: InstanceId,
    #[serde(flatten, with = "crate::identity::flat_identity")]
    pub id: IdentityId,
    /// .NET ticks of the creation: another identity of the same name has another generation.
    pub generation_id: String,
    /// A counter that begins somewhere and rises with every write.
    pub etag: u64,
    /// Always enabled for a module; its device's status governs.
    pub status: Status,
    pub status_reason: Option<String>,
    pub status_updated_time: Timestamp,
    pub authentication: Authentication,
    #[serde(default)]
    pub iot_edge: bool,
    pub device_scope: Option<String>,
    #[serde(default)]
    pub parent_scopes: Vec<String>,
    pub managed_by: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    #[default]
    Enabled,
    Disabled,
}

impl Status {
    /// In any case, as the service takes it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Enabled, Self::Disabled].into_iter().find(|status| status.name().eq_ignore_ascii_case(text))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// How an identity proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Authentication {
    Sas { primary_key: SharedKey, secondary_key: SharedKey },
    SelfSigned { primary_thumbprint: Option<String>, secondary_thumbprint: Option<String> },
    CertificateAuthority,
    None,
}

impl Authentication {
    /// The spelling of `authentication.type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Sas { .. } => "sas",
            Self::SelfSigned { .. } => "selfSigned",
            Self::CertificateAuthority => "certificateAuthority",
            Self::None => "none",
        }
    }

    pub fn thumbprints(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::SelfSigned { primary_thumbprint, secondary_thumbprint } => {
                (primary_thumbprint.as_deref(), secondary_thumbprint.as_deref())
            }
            _ => (None, None),
        }
    }
}

impl Identity {
    /// The etag as callers see it: base64 of the counter in decimal.
    pub fn etag_text(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(self.etag.to_string())
    }

    pub fn is_enabled(&self) -> bool {
        self.status == Status::Enabled
    }
}

impl Record for Identity {
    const TABLE: Table = table::IDENTITY;

    fn key(&self) -> Key {
        identity_key(&self.instance, &self.id)
    }
}

/// Devices and modules lie apart, so that either can be listed alone.
pub(crate) fn identity_key(instance: &InstanceId, id: &IdentityId) -> Key {
    let kind = if id.module_id.is_some() { MODULE } else { DEVICE };
    Key::new([instance.as_str(), kind, id.device_id.as_str(), id.module_key()])
}

pub(crate) const DEVICE: &str = "device";
pub(crate) const MODULE: &str = "module";

/// An identity's id as the members `deviceId` and `moduleId` of the record that holds it.
pub(crate) mod flat_identity {
    use base::{DeviceId, ModuleId};
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, IdentityId, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Flat {
        device_id: DeviceId,
        #[serde(skip_serializing_if = "Option::is_none")]
        module_id: Option<ModuleId>,
    }

    pub(crate) fn serialize<S: Serializer>(id: &IdentityId, serializer: S) -> Result<S::Ok, S::Error> {
        Flat { device_id: id.device_id.clone(), module_id: id.module_id.clone() }.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IdentityId, D::Error> {
        let flat = Flat::deserialize(deserializer)?;
        Ok(IdentityId { device_id: flat.device_id, module_id: flat.module_id })
    }
}
