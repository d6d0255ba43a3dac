//! `Microsoft.Devices/IotHubs`: create, read, update, delete, keys, name check; statistics, consumer groups, failover.
//! Called by the Resource Manager door. Devices and twins are the affair of the `hub` crate.

use access::Caller;
use base::InstanceId;
use hub::Hub;
use store::retry_on_conflict;

pub use self::failover::regions;
pub use self::record::{Properties, Sku};
pub use self::route_test::{RouteTest, TestMessage};
pub use self::routing::EndpointHealth;
pub use self::rules::{PropertiesRequest, SKUS, tier};
pub use self::statistics::{Quota, Usage};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::identity::{IdentityRequest, Users};
use crate::resource::{self, Accepted, Preconditions, Resource, Tags};

mod cloud_to_device;
mod consumer_group;
mod failover;
mod file_upload;
mod record;
mod registry_job;
mod route_test;
mod routing;
mod rules;
mod section;
mod statistics;

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
    /// `IotHubResource_CreateOrUpdate`.
    pub async fn put_iot_hub(&self, caller: &Caller, id: &ResourceId, put: &Put) -> Result<Accepted, Error> {
        self.may_write(caller, id, put.tags.as_ref()).await?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id, &put.preconditions).await?;
            let before = old.as_ref().map(|old| &old.record);
            let location = resource::check_location(put.location.as_deref(), id, before)?;
            let now = self.clock.now();
            let make_id = || InstanceId::generate("hub", &id.name);
            let old_properties = before.map(properties).transpose()?;
            let system_data = resource::system_data(before.map(|old| &old.system_data), caller, now);
            let properties = rules::put(old_properties, make_id, &put.properties, &system_data)?;
            let request = put.identity.clone().unwrap_or_default();
            let next = Resource {
                location: Some(location),
                tags: Some(put.tags.clone().unwrap_or_default()),
                identity: self.apply_identity(id, before, &request, Users::Replace).await?,
                ..resource::after_put(id, before, caller, now, resource::Properties::IotHub(properties))
            };
            self.accept_put(old.as_ref(), next, batch).await
        })
        .await
    }

    /// The hub behind a resource.
    pub(crate) async fn hub_of(&self, resource: &Resource) -> Result<Hub, Error> {
        let found = self.hubs.get_now(&properties(resource)?.instance).await?;
        found.ok_or_else(|| Error::not_ready(&resource.id))
    }
}

pub fn properties(resource: &Resource) -> Result<&Properties, Error> {
    match &resource.properties {
        resource::Properties::IotHub(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}

pub(crate) fn properties_mut(resource: &mut Resource) -> Result<&mut Properties, Error> {
    match &mut resource.properties {
        resource::Properties::IotHub(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}
