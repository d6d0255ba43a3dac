//! `Microsoft.DigitalTwins/digitalTwinsInstances/endpoints`: where event routes of an instance lead.
//! Called by the Resource Manager door. Delivery is the affair of `events`, which is told of every endpoint that succeeds.

use access::Caller;
use base::caps;
use store::{Batch, Counter, StoreError, Stored, retry_on_conflict};

pub use self::mask::Mask;
pub use self::record::{
    AuthenticationType, BusKind, DeadLetter, EndpointType, IdentityReference, Properties, Target,
};
pub use self::rules::EndpointRequest;
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::identity::ManagedIdentity;
use crate::instance;
use crate::resource::{self, Accepted, Preconditions, Resource};

mod mask;
mod record;
mod rules;

impl ResourceManager {
    /// `DigitalTwinsEndpoint_CreateOrUpdate`.
    pub async fn put_endpoint(
        &self,
        caller: &Caller,
        id: &ResourceId,
        request: &EndpointRequest,
        preconditions: &Preconditions,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, None).await?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id, preconditions).await?;
            let parent = self.parent_of(id).await?;
            // An identity-based endpoint stands on the instance's identity, which must not go meanwhile.
            batch.guard(&parent);
            let now = self.clock.now();
            let before = old.as_ref().map(|old| &old.record);
            let old_properties = before.map(properties).transpose()?;
            let properties = rules::put(old_properties, request, parent.record.identity.as_ref(), now)?;
            let properties = resource::Properties::DigitalTwinsEndpoint(properties);
            let next = resource::after_put(id, before, caller, now, properties);
            if old.is_none() {
                let instance = &instance::properties(&parent.record)?.instance;
                let max = i64::try_from(caps::ENDPOINTS_MAX).unwrap_or(i64::MAX);
                batch.add(Counter::new(instance, "endpoints"), 1, max);
            }
            self.accept_put(old.as_ref(), next, batch).await
        })
        .await
    }

    /// What an endpoint's deletion demands: that no event route leads there, now or from now on. With its instance an endpoint
    /// goes whatever leads there, since the routes go too.
    pub(crate) async fn close_endpoint(&self, endpoint: &ResourceId) -> Result<Batch, Error> {
        let parent = self.parent_of(endpoint).await?.record;
        let mut batch = Batch::default();
        let Some(instance) = self.instances.get_now(&instance::properties(&parent)?.instance).await? else {
            return Ok(batch);
        };
        let closed = instance.close_endpoint(&endpoint.name, &mut batch).await;
        let leading = closed.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if leading.is_empty() { Ok(batch) } else { Err(Error::NestedEndpointRoutes(leading)) }
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

/// Who an identity-based endpoint is: the identity of the instance that it names, while the instance has it.
pub(crate) fn principal_id(properties: &Properties, identity: Option<&ManagedIdentity>) -> Option<String> {
    match &properties.identity {
        None | Some(IdentityReference::SystemAssigned) => {
            Some(identity?.system.as_ref()?.principal_id.clone())
        }
        Some(IdentityReference::UserAssigned(id)) => {
            let mut users = identity?.users.iter();
            let user = users.find(|(known, _)| known.eq_ignore_ascii_case(id));
            user.map(|(_, user)| user.principal_id.clone())
        }
    }
}
