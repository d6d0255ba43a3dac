//! Who calls: tokens of policies and of device keys become callers. Doors call these first; they must never say why they refuse.

use access::{Caller, Permission, Right};
use base::ids::IdentityId;
use base::sas::SasToken;
use base::{Key, Timestamp};

use crate::device::{Authentication, Identity, identity_key};
use crate::error::Error;
use crate::hub::Hub;
use crate::settings::SharedAccessPolicy;

/// A device or module that has proved who it is, or a policy that acts for it.
#[derive(Clone, Debug)]
pub struct DeviceAuthentication {
    pub caller: Caller,
    pub identity: IdentityId,
    pub generation_id: String,
    /// When the credential ends; `None` for a certificate.
    pub expires_at: Option<Timestamp>,
    /// The value of `iothub-connection-auth-method`.
    pub auth_method: String,
}

impl Hub {
    /// A service's token: policy by name, either key, resource and expiry. `presented_host` and `path` are what the caller
    /// addressed.
    pub fn authenticate_service(
        &self,
        presented_host: &str,
        path: &str,
        token: &SasToken,
    ) -> Result<Caller, Error> {
        let policy = self.verified_policy(token)?;
        if token.covers(&self.audiences(presented_host), path) {
            return Ok(Caller::policy(self.scope().clone(), &policy.key_name, &policy.rights));
        }
        tracing::debug!(hub = self.name(), ?token, "the token is made out to another resource");
        Err(Error::IotHubUnauthorizedAccess)
    }

    /// A device's or module's token, signed with its own key or with that of a policy that may connect devices
    /// (`iothub-device.md` §2.1).
    pub async fn authenticate_device(
        &self,
        presented_host: &str,
        id: &IdentityId,
        token: &SasToken,
    ) -> Result<DeviceAuthentication, Error> {
        let identity = self.connectable(id).await?;
        if !token.covers(&self.audiences(presented_host), &resource_path(id)) {
            return Err(self.refuse(id, "the token is made out to another resource"));
        }
        let expires_at = Some(token.expires_at());
        let authenticated = |caller, auth_method| DeviceAuthentication {
            caller,
            identity: id.clone(),
            generation_id: identity.generation_id.clone(),
            expires_at,
            auth_method,
        };
        if token.key_name().is_some() {
            let policy = self.verified_policy(token)?;
            let caller = Caller::policy(self.scope().clone(), &policy.key_name, &policy.rights);
            caller
                .require(Permission::DeviceConnect, self.scope())
                .map_err(|_| Error::IotHubUnauthorizedAccess)?;
            return Ok(authenticated(caller, auth_method("hub", "sas")));
        }
        let Authentication::Sas { primary_key, secondary_key } = &identity.authentication else {
            return Err(self.refuse(id, "it is not registered for shared access keys"));
        };
        self.verify(token, primary_key, secondary_key)?;
        let scope = if id.module_id.is_some() { "module" } else { "device" };
        Ok(authenticated(Caller::identity(self.scope().clone(), id.clone()), auth_method(scope, "sas")))
    }

    /// The identity, if it and its device are enabled.
    pub(crate) async fn connectable(&self, id: &IdentityId) -> Result<Identity, Error> {
        let Some(identity) = self.identity(id).await? else {
            return Err(self.refuse(id, "it is not registered"));
        };
        let device_enabled = match id.module_id {
            None => identity.record.is_enabled(),
            Some(_) => {
                let device = self.identity(&IdentityId::device(id.device_id.clone())).await?;
                device.is_some_and(|device| device.record.is_enabled())
            }
        };
        if device_enabled { Ok(identity.record) } else { Err(self.refuse(id, "its device is disabled")) }
    }

    fn verified_policy(&self, token: &SasToken) -> Result<SharedAccessPolicy, Error> {
        let settings = self.settings();
        let policy = token.key_name().and_then(|name| settings.policy(name));
        let Some(policy) = policy.filter(|_| !settings.disable_local_auth) else {
            tracing::debug!(hub = self.name(), ?token, "no such policy, or policies are switched off");
            return Err(Error::IotHubUnauthorizedAccess);
        };
        self.verify(token, &policy.primary_key, &policy.secondary_key)?;
        Ok(policy.clone())
    }

    fn verify(&self, token: &SasToken, primary: &Key, secondary: &Key) -> Result<(), Error> {
        if token.is_expired(self.now()) {
            tracing::debug!(hub = self.name(), ?token, "the token has expired");
            return Err(Error::IotHubUnauthorizedAccess);
        }
        if token.is_signed_by(primary) || token.is_signed_by(secondary) {
            return Ok(());
        }
        tracing::debug!(hub = self.name(), ?token, "the token is signed with another key");
        Err(Error::IotHubUnauthorizedAccess)
    }

    fn refuse(&self, id: &IdentityId, why: &str) -> Error {
        tracing::debug!(hub = self.name(), identity = %id, why, "a device was refused");
        Error::IotHubUnauthorizedAccess
    }

    /// The first policy that holds every one of `rights`: for connection strings.
    pub fn policy_with(&self, rights: &[Right]) -> Option<SharedAccessPolicy> {
        let settings = self.settings();
        settings
            .policies
            .iter()
            .find(|policy| rights.iter().all(|right| policy.rights.contains(right)))
            .cloned()
    }
}

/// The path below the host that a token for `id` is made out to.
fn resource_path(id: &IdentityId) -> String {
    match &id.module_id {
        None => format!("/devices/{}", id.device_id),
        Some(module_id) => format!("/devices/{}/modules/{module_id}", id.device_id),
    }
}

fn auth_method(scope: &str, kind: &str) -> String {
    format!(r#"{{"scope":"{scope}","type":"{kind}","issuer":"iothub","acceptingIpFilterRule":null}}"#)
}

impl Hub {
    pub(crate) async fn identity(&self, id: &IdentityId) -> Result<Option<store::Stored<Identity>>, Error> {
        Ok(self.store().get::<Identity>(&identity_key(self.instance(), id)).await?)
    }
}
