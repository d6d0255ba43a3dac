//! `Microsoft.Devices/provisioningServices`: create, read, update, delete, keys, linked hubs, name check.
//! Called by the Resource Manager door. Enrollments and registrations are the affair of the `provisioning` crate.

use access::{Caller, Right};
use base::hosts::Service;
use base::{ConnectionString, InstanceId};
use store::retry_on_conflict;

pub use self::record::{AllocationPolicy, LinkedHub, Properties};
pub use self::rules::{LinkedHubRequest, PropertiesRequest};
use crate::error::Error;
use crate::id::ResourceId;
use crate::identity::{IdentityRequest, Users};
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, Preconditions, Resource, Tags};
use crate::{ResourceManager, iot_hub};

mod record;
mod rules;

/// The writable members of a PUT.
#[derive(Clone, Debug, Default)]
pub struct Put {
    pub location: Option<String>,
    pub tags: Option<Tags>,
    pub identity: Option<IdentityRequest>,
    pub properties: PropertiesRequest,
    pub preconditions: Preconditions,
}

impl ResourceManager {
    /// `IotDpsResource_CreateOrUpdate`.
    pub async fn put_provisioning_service(
        &self,
        caller: &Caller,
        id: &ResourceId,
        put: &Put,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, put.tags.as_ref()).await?;
        rules::check(&put.properties)?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id, &put.preconditions).await?;
            let before = old.as_ref().map(|old| &old.record);
            let location = resource::check_location(put.location.as_deref(), id, before)?;
            let now = self.clock.now();
            let old_properties = before.map(properties).transpose()?;
            let old_links = old_properties.map(|old| old.linked_hubs.clone()).unwrap_or_default();
            let known = self.linkable_hubs().await?;
            let find_hub = |wanted: &ConnectionString| self.find_linked_hub(&known, wanted);
            let links = rules::link(&old_links, &put.properties.linked_hubs, &find_hub)?;
            let fresh = || (InstanceId::generate("dps", &id.name), new_id_scope());
            let system_data = resource::system_data(before.map(|old| &old.system_data), caller, now);
            let properties = rules::put(old_properties, fresh, &put.properties, links, &system_data)?;
            let request = put.identity.clone().unwrap_or_default();
            let next = Resource {
                // Shown as it was written: "West US" stays "West US".
                location: Some(location),
                tags: Some(put.tags.clone().unwrap_or_default()),
                identity: self.apply_identity(id, before, &request, Users::Replace).await?,
                ..resource::after_put(
                    id,
                    before,
                    caller,
                    now,
                    resource::Properties::ProvisioningService(properties),
                )
            };
            self.accept_put(old.as_ref(), next, batch).await
        })
        .await
    }

    /// Every hub of this server, whatever its subscription: whoever holds a hub's key may link it.
    async fn linkable_hubs(&self) -> Result<Vec<Resource>, Error> {
        let mut hubs = Vec::new();
        for hub in self.hubs.all() {
            if let Some(id) = self.name_holder(ResourceType::IotHub, hub.name()).await?
                && let Some(stored) = self.stored(&id).await?
            {
                hubs.push(stored.record);
            }
        }
        Ok(hubs)
    }

    /// The hub that a connection string names, provided that its key is the hub's and may register devices.
    fn find_linked_hub(
        &self,
        hubs: &[Resource],
        wanted: &ConnectionString,
    ) -> Result<(InstanceId, String), Error> {
        let host = wanted.host_name().unwrap_or_default();
        let (key_name, key) = (wanted.shared_access_key_name(), wanted.shared_access_key());
        let is_meant = |hub: &&Resource| self.hosts.is_at(Service::Hub, &hub.id.name, host);
        let unknown = || Error::bad_request(format!("The hub '{host}' could not be found."));
        let hub = hubs.iter().find(is_meant).ok_or_else(unknown)?;
        let properties = iot_hub::properties(hub)?;
        let policy = properties.policies.iter().find(|policy| key_name == Some(&policy.key_name));
        let policy = policy.filter(|policy| key.is_some_and(|key| policy.has_key(key))).ok_or_else(|| {
            Error::bad_request(format!("The hub '{host}' refuses the key of the connection string."))
        })?;
        if policy.has_rights(&[Right::RegistryWrite, Right::ServiceConnect]) {
            return Ok((properties.instance.clone(), hub.id.name.clone()));
        }
        Err(Error::bad_request(format!(
            "The policy '{}' of hub '{host}' needs the rights RegistryWrite and ServiceConnect.",
            policy.key_name
        )))
    }
}

/// `0ne` and eight hex digits in upper case; with 32 random bits a second one of the same digits does not happen here.
fn new_id_scope() -> String {
    format!("0ne{}", base::secret::random_hex(4).to_uppercase())
}

pub fn properties(resource: &Resource) -> Result<&Properties, Error> {
    match &resource.properties {
        resource::Properties::ProvisioningService(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}
