//! `Microsoft.Devices/IotHubs`: create, read, update, delete, keys, name check.
//! Called by the Resource Manager door. Devices and twins are the affair of the `hub` crate.

use access::Caller;
use base::{Continuation, IfMatch, InstanceId, Page};
use store::{Batch, retry_on_conflict};

pub use self::record::{Properties, Sku};
pub use self::rules::{PropertiesRequest, SKUS, tier};
use crate::error::Error;
use crate::id::{GroupId, ResourceId};
use crate::identity::{IdentityRequest, Users};
use crate::policy::{self, SharedAccessPolicy};
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, ProvisioningState, Resource, Tags};
use crate::{ResourceManager, subscription};

mod record;
mod rules;

/// The writable members of a PUT.
#[derive(Clone, Debug, Default)]
pub struct Put {
    pub location: Option<String>,
    pub tags: Option<Tags>,
    pub identity: Option<IdentityRequest>,
    pub properties: PropertiesRequest,
    pub if_match: IfMatch,
    pub is_default: bool,
}

const TYPE: ResourceType = ResourceType::IotHub;
const READ: &str = "Microsoft.Devices/iotHubs/Read";
const WRITE: &str = "Microsoft.Devices/iotHubs/Write";
const DELETE: &str = "Microsoft.Devices/iotHubs/Delete";
const LIST_KEYS: &str = "Microsoft.Devices/iotHubs/listkeys/Action";

impl ResourceManager {
    /// `IotHubResource_Get`.
    pub async fn iot_hub(&self, caller: &Caller, id: &ResourceId) -> Result<Resource, Error> {
        self.allow(caller, READ, &id.scope(), &id.group.subscription).await?;
        self.must_get(id).await
    }

    /// `IotHubResource_ListBySubscription`.
    pub async fn iot_hubs(
        &self,
        caller: &Caller,
        subscription: &str,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_subscription(caller, READ, subscription, TYPE, after).await
    }

    /// `IotHubResource_ListByResourceGroup`.
    pub async fn iot_hubs_of(
        &self,
        caller: &Caller,
        group: &GroupId,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_group(caller, READ, group, TYPE, after).await
    }

    /// `IotHubResource_CreateOrUpdate`.
    pub async fn put_iot_hub(&self, caller: &Caller, id: &ResourceId, put: &Put) -> Result<Accepted, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.group.subscription).await?;
        if !resource::is_common_name(&id.name, 3..=50) {
            return Err(Error::InvalidResourceName(name_rule(&id.name)));
        }
        resource::check_tags(put.tags.as_ref())?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id).await?;
            let before = old.as_ref().map(|old| &old.record);
            resource::check_if_match(&put.if_match, before)?;
            let location = resource::check_location(put.location.as_deref(), id, before)?;
            let now = self.clock.now();
            let make_id = || InstanceId::generate("hub", &id.name);
            let old_properties = before.map(properties).transpose()?;
            let mut properties = rules::put(old_properties, make_id, &put.properties, now)?;
            properties.is_default |= put.is_default;
            let request = put.identity.clone().unwrap_or_default();
            let next = Resource {
                id: before.map_or_else(|| id.clone(), |old| old.id.clone()),
                location: Some(location),
                tags: Some(put.tags.clone().unwrap_or_default()),
                identity: self.apply_identity(id, before, &request, Users::Replace).await?,
                system_data: resource::system_data(before.map(|old| &old.system_data), caller, now),
                version: resource::next_version(before, now),
                provisioning_state: before
                    .map_or(ProvisioningState::Provisioning, |_| ProvisioningState::Updating),
                operation: None,
                properties: resource::Properties::IotHub(properties),
            };
            if old.is_none() {
                self.claim_name(&mut batch, id).await?;
            }
            let work = resource::work_of_put(old.as_ref());
            self.accept(old.as_ref(), next, work, batch).await
        })
        .await
    }

    /// `IotHubResource_Update`: the tags.
    pub async fn update_iot_hub(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<Tags>,
    ) -> Result<Resource, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.group.subscription).await?;
        self.update_tags(caller, id, tags).await
    }

    /// `IotHubResource_Delete`; `None` when there is nothing to delete.
    pub async fn delete_iot_hub(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Accepted>, Error> {
        self.allow(caller, DELETE, &id.scope(), &id.group.subscription).await?;
        self.delete(id).await
    }

    /// `IotHubResource_ListKeys`.
    pub async fn iot_hub_keys(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<SharedAccessPolicy>, Error> {
        self.allow(caller, LIST_KEYS, &id.scope(), &id.group.subscription).await?;
        Ok(properties(&self.must_get(id).await?)?.policies.clone())
    }

    /// `IotHubResource_GetKeysForKeyName`.
    pub async fn iot_hub_key(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<SharedAccessPolicy, Error> {
        let policies = self.iot_hub_keys(caller, id).await?;
        policy::find(&policies, name).cloned()
    }

    /// `IotHubResource_CheckNameAvailability`: what is wrong with the name, if anything.
    pub async fn check_iot_hub_name(
        &self,
        caller: &Caller,
        subscription: &str,
        name: &str,
    ) -> Result<crate::instance::NameAvailability, Error> {
        const CHECK: &str = "Microsoft.Devices/checkNameAvailability/Action";
        self.allow(caller, CHECK, &subscription::scope(subscription), subscription).await?;
        self.check_common_name(TYPE, name).await
    }

    /// The name check of hubs and provisioning services, which share a pattern.
    pub(crate) async fn check_common_name(
        &self,
        resource_type: ResourceType,
        name: &str,
    ) -> Result<crate::instance::NameAvailability, Error> {
        use crate::instance::NameAvailability;
        if !resource::is_common_name(name, 3..=50) {
            return Ok(NameAvailability::Invalid(name_rule(name)));
        }
        let is_taken = self.name_holder(resource_type, name).await?.is_some();
        Ok(if is_taken { NameAvailability::AlreadyExists } else { NameAvailability::Available })
    }

    /// Writes the tags of a resource whose service keeps nothing of them.
    pub(crate) async fn update_tags(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<Tags>,
    ) -> Result<Resource, Error> {
        resource::check_tags(tags.as_ref())?;
        let accepted = retry_on_conflict(async || {
            let old = self.open_for_update(id).await?;
            let mut next = old.record.clone();
            if let Some(tags) = &tags {
                next.tags = Some(tags.clone());
            }
            next.system_data = resource::system_data(Some(&old.record.system_data), caller, self.clock.now());
            next.version = resource::next_version(Some(&old.record), self.clock.now());
            self.write_through(Some(&old), next, Batch::default()).await
        })
        .await?;
        Ok(accepted.resource)
    }
}

pub(crate) fn name_rule(name: &str) -> String {
    format!(
        "The name '{name}' must have 3 to 50 letters, digits and hyphens, begin and end with a letter or digit, and not be a number."
    )
}

pub fn properties(resource: &Resource) -> Result<&Properties, Error> {
    match &resource.properties {
        resource::Properties::IotHub(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}
