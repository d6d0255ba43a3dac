//! `Microsoft.DigitalTwins/digitalTwinsInstances/endpoints`: where event routes of an instance lead.
//! Called by the Resource Manager door. Delivery is the affair of `events`, which is told of every endpoint that succeeds.

use access::Caller;
use base::{Continuation, Page, caps};
use store::{Counter, Stored, retry_on_conflict};

pub use self::mask::Mask;
pub use self::record::{
    AuthenticationType, BusKind, DeadLetter, EndpointType, IdentityReference, Properties, Target,
};
pub use self::rules::{ConnectionString, EndpointRequest, bus_host};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::instance;
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, ProvisioningState, Resource};

mod mask;
mod record;
mod rules;

const TYPE: ResourceType = ResourceType::DigitalTwinsEndpoint;
const READ: &str = "Microsoft.DigitalTwins/digitalTwinsInstances/endpoints/read";
const WRITE: &str = "Microsoft.DigitalTwins/digitalTwinsInstances/endpoints/write";
const DELETE: &str = "Microsoft.DigitalTwins/digitalTwinsInstances/endpoints/delete";

impl ResourceManager {
    /// `DigitalTwinsEndpoint_Get`.
    pub async fn endpoint(&self, caller: &Caller, id: &ResourceId) -> Result<Resource, Error> {
        self.allow(caller, READ, &id.scope(), &id.group.subscription).await?;
        self.must_get(id).await
    }

    /// `DigitalTwinsEndpoint_List`.
    pub async fn endpoints(
        &self,
        caller: &Caller,
        instance: &ResourceId,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.allow(caller, READ, &instance.scope(), &instance.group.subscription).await?;
        self.list_children(instance, TYPE, after).await
    }

    /// `DigitalTwinsEndpoint_CreateOrUpdate`.
    pub async fn put_endpoint(
        &self,
        caller: &Caller,
        id: &ResourceId,
        request: &EndpointRequest,
    ) -> Result<Accepted, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.group.subscription).await?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id).await?;
            if old.is_none() && !resource::is_common_name(&id.name, 3..=49) {
                return Err(Error::InvalidResourceName(format!(
                    "The endpoint name '{}' must have 3 to 49 letters, digits and hyphens, begin and end with a letter or digit, and not be a number.",
                    id.name
                )));
            }
            let parent = self.parent_of(id).await?;
            // An identity-based endpoint stands on the instance's identity, which must not go meanwhile.
            batch.guard(&parent);
            let now = self.clock.now();
            let before = old.as_ref().map(|old| &old.record);
            let old_properties = before.map(properties).transpose()?;
            let properties = rules::put(old_properties, request, parent.record.identity.as_ref(), now)?;
            let next = Resource {
                id: before.map_or_else(|| id.clone(), |old| old.id.clone()),
                location: None,
                tags: None,
                identity: None,
                system_data: resource::system_data(before.map(|old| &old.system_data), caller, now),
                version: resource::next_version(before, now),
                provisioning_state: before.map_or(ProvisioningState::Provisioning, |_| ProvisioningState::Updating),
                operation: None,
                properties: resource::Properties::DigitalTwinsEndpoint(properties),
            };
            if old.is_none() {
                let instance = &instance::properties(&parent.record)?.instance;
                let max = i64::try_from(caps::ENDPOINTS_MAX).unwrap_or(i64::MAX);
                batch.add(Counter::new(instance, "endpoints"), 1, max);
            }
            let work = resource::work_of_put(old.as_ref());
            self.accept(old.as_ref(), next, work, batch).await
        })
        .await
    }

    /// `DigitalTwinsEndpoint_Delete`; `None` when there is nothing to delete.
    pub async fn delete_endpoint(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Accepted>, Error> {
        self.allow(caller, DELETE, &id.scope(), &id.group.subscription).await?;
        self.parent_of(id).await?;
        self.delete(id).await
    }

    async fn parent_of(&self, id: &ResourceId) -> Result<Stored<Resource>, Error> {
        self.group_must_exist(&id.group).await?;
        let parent = self.parent_must_exist(id, "write").await?;
        parent.ok_or_else(|| resource::damaged(id))
    }
}

pub fn properties(resource: &Resource) -> Result<&Properties, Error> {
    match &resource.properties {
        resource::Properties::DigitalTwinsEndpoint(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}
