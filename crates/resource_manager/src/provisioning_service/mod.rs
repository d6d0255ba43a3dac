//! `Microsoft.Devices/provisioningServices`: create, read, update, delete, keys, linked hubs, name check.
//! Called by the Resource Manager door. Enrollments and registrations are the affair of the `provisioning` crate.

use access::{Caller, Right};
use base::hosts::{Host, Service};
use base::{Continuation, IfMatch, InstanceId, Page};
use store::retry_on_conflict;

pub use self::record::{AllocationPolicy, LinkedHub, Properties};
pub use self::rules::{HubConnectionString, LinkedHubRequest, PropertiesRequest};
use crate::error::Error;
use crate::id::{GroupId, ResourceId};
use crate::identity::{IdentityRequest, Users};
use crate::instance::NameAvailability;
use crate::policy::{self, SharedAccessPolicy};
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, ProvisioningState, Resource, Tags};
use crate::{ResourceManager, iot_hub, subscription};

mod certificate;
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

const TYPE: ResourceType = ResourceType::ProvisioningService;
const READ: &str = "Microsoft.Devices/provisioningServices/Read";
const WRITE: &str = "Microsoft.Devices/provisioningServices/Write";
const DELETE: &str = "Microsoft.Devices/provisioningServices/Delete";
const LIST_KEYS: &str = "Microsoft.Devices/provisioningServices/listkeys/Action";

impl ResourceManager {
    /// `IotDpsResource_Get`.
    pub async fn provisioning_service(&self, caller: &Caller, id: &ResourceId) -> Result<Resource, Error> {
        self.allow(caller, READ, &id.scope(), &id.group.subscription).await?;
        self.must_get(id).await
    }

    /// `IotDpsResource_ListBySubscription`.
    pub async fn provisioning_services(
        &self,
        caller: &Caller,
        subscription: &str,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_subscription(caller, READ, subscription, TYPE, after).await
    }

    /// `IotDpsResource_ListByResourceGroup`.
    pub async fn provisioning_services_of(
        &self,
        caller: &Caller,
        group: &GroupId,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_group(caller, READ, group, TYPE, after).await
    }

    /// `IotDpsResource_CreateOrUpdate`.
    pub async fn put_provisioning_service(
        &self,
        caller: &Caller,
        id: &ResourceId,
        put: &Put,
    ) -> Result<Accepted, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.group.subscription).await?;
        if !resource::is_common_name(&id.name, 3..=64) {
            return Err(Error::InvalidResourceName(iot_hub::name_rule(&id.name)));
        }
        resource::check_tags(put.tags.as_ref())?;
        rules::check(&put.properties)?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id).await?;
            let before = old.as_ref().map(|old| &old.record);
            resource::check_if_match(&put.if_match, before)?;
            let location = resource::check_location(put.location.as_deref(), id, before)?;
            let now = self.clock.now();
            let old_properties = before.map(properties).transpose()?;
            let old_links = old_properties.map(|old| old.linked_hubs.clone()).unwrap_or_default();
            let known = self.linkable_hubs().await?;
            let find_hub = |wanted: &HubConnectionString| self.find_linked_hub(&known, wanted);
            let links = rules::link(&old_links, &put.properties.linked_hubs, &find_hub)?;
            let fresh = || (InstanceId::generate("dps", &id.name), new_id_scope());
            let mut properties = rules::put(old_properties, fresh, &put.properties, links, now)?;
            properties.is_default |= put.is_default;
            let request = put.identity.clone().unwrap_or_default();
            let next = Resource {
                id: before.map_or_else(|| id.clone(), |old| old.id.clone()),
                // Shown as it was written: "West US" stays "West US".
                location: Some(location),
                tags: Some(put.tags.clone().unwrap_or_default()),
                identity: self.apply_identity(id, before, &request, Users::Replace).await?,
                system_data: resource::system_data(before.map(|old| &old.system_data), caller, now),
                version: resource::next_version(before, now),
                provisioning_state: before
                    .map_or(ProvisioningState::Provisioning, |_| ProvisioningState::Updating),
                operation: None,
                properties: resource::Properties::ProvisioningService(properties),
            };
            if old.is_none() {
                self.claim_name(&mut batch, id).await?;
            }
            let work = resource::work_of_put(old.as_ref());
            self.accept(old.as_ref(), next, work, batch).await
        })
        .await
    }

    /// `IotDpsResource_Update`: the tags.
    pub async fn update_provisioning_service(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<Tags>,
    ) -> Result<Resource, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.group.subscription).await?;
        self.update_tags(caller, id, tags).await
    }

    /// `IotDpsResource_Delete`; `None` when there is nothing to delete.
    pub async fn delete_provisioning_service(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Option<Accepted>, Error> {
        self.allow(caller, DELETE, &id.scope(), &id.group.subscription).await?;
        self.delete(id).await
    }

    /// `IotDpsResource_ListKeys`.
    pub async fn provisioning_service_keys(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<SharedAccessPolicy>, Error> {
        self.allow(caller, LIST_KEYS, &id.scope(), &id.group.subscription).await?;
        Ok(properties(&self.must_get(id).await?)?.policies.clone())
    }

    /// `IotDpsResource_ListKeysForKeyName`.
    pub async fn provisioning_service_key(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<SharedAccessPolicy, Error> {
        let policies = self.provisioning_service_keys(caller, id).await?;
        policy::find(&policies, name).cloned()
    }

    /// `IotDpsResource_CheckProvisioningServiceNameAvailability`.
    pub async fn check_provisioning_service_name(
        &self,
        caller: &Caller,
        subscription: &str,
        name: &str,
    ) -> Result<NameAvailability, Error> {
        const CHECK: &str = "Microsoft.Devices/checkProvisioningServiceNameAvailability/Action";
        self.allow(caller, CHECK, &subscription::scope(subscription), subscription).await?;
        self.check_common_name(TYPE, name).await
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
        wanted: &HubConnectionString,
    ) -> Result<(InstanceId, String), Error> {
        let is_meant = |hub: &&Resource| match self.hosts.resolve(&wanted.host_name, None) {
            Host::Instance(Service::Hub, name) => hub.id.name.eq_ignore_ascii_case(&name),
            Host::Unnamed => {
                let host = base::hosts::strip_port(&wanted.host_name);
                self.hosts
                    .names_of(Service::Hub, &hub.id.name)
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(host))
            }
            Host::Instance(..) | Host::GlobalProvisioning => false,
        };
        let unknown = || Error::bad_request(format!("The hub '{}' could not be found.", wanted.host_name));
        let hub = hubs.iter().find(is_meant).ok_or_else(unknown)?;
        let properties = iot_hub::properties(hub)?;
        let policy = properties.policies.iter().find(|policy| policy.key_name == wanted.key_name);
        let policy = policy.filter(|policy| policy.has_key(&wanted.key)).ok_or_else(|| {
            Error::bad_request(format!(
                "The hub '{}' refuses the key of the connection string.",
                wanted.host_name
            ))
        })?;
        let has = |right| policy.rights.contains(&right);
        if has(Right::RegistryWrite) && has(Right::ServiceConnect) {
            return Ok((properties.instance.clone(), hub.id.name.clone()));
        }
        Err(Error::bad_request(format!(
            "The policy '{}' of hub '{}' needs the rights RegistryWrite and ServiceConnect.",
            wanted.key_name, wanted.host_name
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
