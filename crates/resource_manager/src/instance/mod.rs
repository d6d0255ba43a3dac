//! `Microsoft.DigitalTwins/digitalTwinsInstances`: create, read, update, delete, name check.
//! Called by the Resource Manager door. The graph inside an instance is the affair of the `digital_twins` crate.

use access::Caller;
use base::InstanceId;
use store::{Batch, retry_on_conflict};

pub use self::record::Properties;
use crate::error::Error;
use crate::id::ResourceId;
use crate::identity::{IdentityRequest, Users};
use crate::operation::Work;
use crate::private_endpoint::ConnectionRequest;
use crate::resource::{self, Accepted, NetworkAccess, Preconditions, ProvisioningState, Resource, Tags};
use crate::{ResourceManager, location};

mod record;
mod rules;

/// The writable members of a PUT. What a body leaves out is `None` and falls back to its default.
#[derive(Clone, Debug, Default)]
pub struct Put {
    pub location: Option<String>,
    pub tags: Option<Tags>,
    pub identity: Option<IdentityRequest>,
    pub public_network_access: Option<NetworkAccess>,
    pub connections: Option<Vec<ConnectionRequest>>,
    pub preconditions: Preconditions,
}

/// The members of a PATCH. The outer `None` is "not mentioned", the inner one `null`.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    pub tags: Option<Option<Tags>>,
    pub identity: Option<Option<IdentityRequest>>,
    pub public_network_access: Option<Option<NetworkAccess>>,
}

impl ResourceManager {
    /// `DigitalTwins_CreateOrUpdate`.
    pub async fn put_digital_twins_instance(
        &self,
        caller: &Caller,
        id: &ResourceId,
        put: &Put,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, put.tags.as_ref()).await?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id, &put.preconditions).await?;
            let next = self.instance_after_put(caller, id, put, old.as_ref().map(|old| &old.record)).await?;
            let Some(old) = old else {
                return self.accept_put(None, next, batch).await;
            };
            // The live service shows the tags of a PUT only once it is done (recorded with New-/Update-AzDigitalTwinsInstance).
            let work = Work::Update { tags: Some(next.tags.clone()), previous: Box::new(old.record.clone()) };
            let shown = Resource { tags: old.record.tags.clone(), ..next };
            self.accept(Some(&old), shown, work, batch).await
        })
        .await
    }

    async fn instance_after_put(
        &self,
        caller: &Caller,
        id: &ResourceId,
        put: &Put,
        old: Option<&Resource>,
    ) -> Result<Resource, Error> {
        let location = resource::check_location(put.location.as_deref(), id, old)?;
        let now = self.clock.now();
        let system_data = resource::system_data(old.map(|old| &old.system_data), caller, now);
        let make_id = || InstanceId::generate("twins", &id.name);
        let connections = put.connections.as_deref();
        let old_properties = old.map(properties).transpose()?;
        let properties =
            rules::put(old_properties, make_id, put.public_network_access, connections, &system_data)?;
        let request = put.identity.clone().unwrap_or_default();
        let identity = self.apply_identity(id, old, &request, Users::Replace).await?;
        let properties = resource::Properties::DigitalTwinsInstance(properties);
        Ok(Resource {
            location: Some(location::normalise(&location)),
            tags: put.tags.clone(),
            identity,
            ..resource::after_put(id, old, caller, now, properties)
        })
    }

    /// `DigitalTwins_Update`.
    pub async fn update_digital_twins_instance(
        &self,
        caller: &Caller,
        id: &ResourceId,
        patch: &Patch,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, patch.tags.as_ref().and_then(Option::as_ref)).await?;
        retry_on_conflict(async || {
            let old = self.open_for_update(id).await?;
            let now = self.clock.now();
            let mut next = old.record.clone();
            if let Some(tags) = &patch.tags {
                next.tags.clone_from(tags);
            }
            if let Some(request) = &patch.identity {
                let request = request.clone().unwrap_or_default();
                next.identity = self.apply_identity(id, Some(&old.record), &request, Users::Merge).await?;
            }
            let properties = properties_mut(&mut next)?;
            if let Some(access) = patch.public_network_access {
                properties.public_network_access = access.unwrap_or_default();
            }
            properties.last_updated = now;
            next.system_data = resource::system_data(Some(&old.record.system_data), caller, now);
            next.version = resource::next_version(Some(&old.record), now);
            next.provisioning_state = ProvisioningState::Updating;
            let work = Work::Update { tags: patch.tags.clone(), previous: Box::new(old.record.clone()) };
            self.accept(Some(&old), next, work, Batch::default()).await
        })
        .await
    }
}

pub fn properties(resource: &Resource) -> Result<&Properties, Error> {
    match &resource.properties {
        resource::Properties::DigitalTwinsInstance(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}

pub(crate) fn properties_mut(resource: &mut Resource) -> Result<&mut Properties, Error> {
    match &mut resource.properties {
        resource::Properties::DigitalTwinsInstance(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}
