//! `Microsoft.ManagedIdentity/userAssignedIdentities`: identities that resources can share.
//! Called by the Resource Manager door; other nouns read the ids. Nothing outlives a request here, so nothing is asynchronous.

use access::Caller;
use serde::{Deserialize, Serialize};
use store::retry_on_conflict;

use crate::error::Error;
use crate::id::ResourceId;
use crate::identity::UserIdentity;
use crate::resource::{self, Accepted, Preconditions, ProvisioningState, Resource, Tags};
use crate::{ResourceManager, location};

/// Made up once, at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub ids: UserIdentity,
    pub tenant_id: String,
}

pub(crate) fn make_ids() -> UserIdentity {
    UserIdentity {
        client_id: uuid::Uuid::new_v4().to_string(),
        principal_id: uuid::Uuid::new_v4().to_string(),
    }
}

pub(crate) fn ids(resource: &Resource) -> Option<UserIdentity> {
    properties(resource).ok().map(|properties| properties.ids.clone())
}

pub fn properties(resource: &Resource) -> Result<&Properties, Error> {
    match &resource.properties {
        resource::Properties::UserAssignedIdentity(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}

impl ResourceManager {
    /// `UserAssignedIdentities_CreateOrUpdate`.
    pub async fn put_user_assigned_identity(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: Option<&str>,
        tags: Option<&Tags>,
        preconditions: &Preconditions,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, tags).await?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id, preconditions).await?;
            let before = old.as_ref().map(|old| &old.record);
            let location = resource::check_location(location, id, before)?;
            let fresh =
                Properties { ids: make_ids(), tenant_id: self.tenant_of(&id.group.subscription).await? };
            let properties = match before {
                Some(old) => old.properties.clone(),
                None => resource::Properties::UserAssignedIdentity(fresh),
            };
            let next = Resource {
                location: Some(location::normalise(&location)),
                tags: Some(tags.cloned().unwrap_or_default()),
                provisioning_state: ProvisioningState::Succeeded,
                ..resource::after_put(id, before, caller, self.clock.now(), properties)
            };
            self.write_through(old.as_ref(), next, batch).await
        })
        .await
    }
}
