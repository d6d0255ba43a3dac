//! A device that must be there, whoever made it: what provisioning asks for when it assigns a device to this hub.

use access::{Caller, Permission};
use base::Meter;
use base::ids::IdentityId;
use store::retry_on_conflict;

use super::rules::{self, Subject};
use super::{AuthenticationSpec, DeviceSpec};
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::{Authentication, Identity};

/// The device as it now is.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensured {
    pub identity: Identity,
    /// Whether it was made now; then the twin is as the spec says. The twin of an existing device is left alone.
    pub created: bool,
}

impl Hub {
    /// Makes the device, or gives an existing one the credentials and the IoT Edge capability of the spec. What an operator
    /// has disabled stays disabled. Safe to repeat: a second call with given credentials writes nothing.
    pub async fn ensure_device(&self, caller: &Caller, spec: &DeviceSpec) -> Result<Ensured, Error> {
        caller.require(Permission::RegistryWrite, self.scope())?;
        self.charge(Meter::RegistryWrite)?;
        let id = IdentityId::device(spec.device_id.clone());
        retry_on_conflict(async || match self.identity(&id).await? {
            None => Ok(Ensured { identity: self.create_device(spec).await?, created: true }),
            Some(old) => {
                let mut wanted = old.record.clone();
                wanted.authentication = wanted_authentication(&old.record, &spec.authentication)?;
                wanted.iot_edge |= spec.iot_edge;
                if wanted == old.record {
                    return Ok(Ensured { identity: wanted, created: false });
                }
                let spec = respecified(spec, &old.record, &wanted);
                Ok(Ensured { identity: self.update_device(&spec, old).await?, created: false })
            }
        })
        .await
    }

    /// Removes a device that another hub has taken over. Nothing to remove is fine.
    pub async fn remove_device_if_present(
        &self,
        caller: &Caller,
        device_id: &base::DeviceId,
    ) -> Result<(), Error> {
        match self.delete_device(caller, device_id, &base::IfMatch::Any).await {
            Err(Error::DeviceNotFound(_)) => Ok(()),
            other => other,
        }
    }
}

/// Keys that are left open stay as they are; everything else becomes what the spec says.
fn wanted_authentication(old: &Identity, spec: &AuthenticationSpec) -> Result<Authentication, Error> {
    let wanted = rules::authentication(spec, Subject::Device)?;
    let leaves_keys_open = spec.primary_key.is_none() && spec.secondary_key.is_none();
    match (&wanted, &old.authentication) {
        (Authentication::Sas { .. }, Authentication::Sas { .. }) if leaves_keys_open => {
            Ok(old.authentication.clone())
        }
        _ => Ok(wanted),
    }
}

/// A full replacement that says what `wanted` says and keeps the rest of `old`.
fn respecified(spec: &DeviceSpec, old: &Identity, wanted: &Identity) -> DeviceSpec {
    let mut full = DeviceSpec { iot_edge: wanted.iot_edge, ..spec.clone() };
    full.status = old.status;
    full.status_reason.clone_from(&old.status_reason);
    full.scopes.device_scope.clone_from(&old.device_scope);
    full.scopes.parent_scopes.clone_from(&old.parent_scopes);
    if let Authentication::Sas { primary_key, secondary_key } = &wanted.authentication {
        full.authentication.primary_key = Some(primary_key.into());
        full.authentication.secondary_key = Some(secondary_key.into());
    }
    full
}
