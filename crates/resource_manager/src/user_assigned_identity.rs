//! `Microsoft.ManagedIdentity/userAssignedIdentities`: identities that resources can share.
//! Called by the Resource Manager door; other nouns read the ids. Nothing outlives a request here, so nothing is asynchronous.

use access::Caller;
use base::{Continuation, Page};
use serde::{Deserialize, Serialize};
use store::{Batch, retry_on_conflict};

use crate::error::Error;
use crate::id::{GroupId, ResourceId};
use crate::identity::UserIdentity;
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, ProvisioningState, Resource, Tags};
use crate::{ResourceManager, location};

/// Made up once, at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub ids: UserIdentity,
    pub tenant_id: String,
}

const TYPE: ResourceType = ResourceType::UserAssignedIdentity;
const READ: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/read";
const WRITE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/write";
const DELETE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/delete";

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

/// 3–128 letters, digits, hyphens and underscores, a letter or digit first.
fn is_name(name: &str) -> bool {
    (3..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

impl ResourceManager {
    /// `UserAssignedIdentities_Get`.
    pub async fn user_assigned_identity(&self, caller: &Caller, id: &ResourceId) -> Result<Resource, Error> {
        self.allow(caller, READ, &id.scope(), &id.group.subscription).await?;
        self.must_get(id).await
    }

    /// `UserAssignedIdentities_ListBySubscription`.
    pub async fn user_assigned_identities(
        &self,
        caller: &Caller,
        subscription: &str,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_subscription(caller, READ, subscription, TYPE, after).await
    }

    /// `UserAssignedIdentities_ListByResourceGroup`.
    pub async fn user_assigned_identities_of(
        &self,
        caller: &Caller,
        group: &GroupId,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_group(caller, READ, group, TYPE, after).await
    }

    /// `UserAssignedIdentities_CreateOrUpdate`.
    pub async fn put_user_assigned_identity(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: Option<&str>,
        tags: Option<&Tags>,
    ) -> Result<Accepted, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.group.subscription).await?;
        if !is_name(&id.name) {
            return Err(Error::InvalidResourceName(format!(
                "The name '{}' of an identity is not valid.",
                id.name
            )));
        }
        resource::check_tags(tags)?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id).await?;
            let before = old.as_ref().map(|old| &old.record);
            let location = resource::check_location(location, id, before)?;
            let fresh =
                Properties { ids: make_ids(), tenant_id: self.tenant_of(&id.group.subscription).await? };
            let next = Resource {
                id: before.map_or_else(|| id.clone(), |old| old.id.clone()),
                location: Some(location::normalise(&location)),
                tags: Some(tags.cloned().unwrap_or_default()),
                identity: None,
                system_data: resource::system_data(
                    before.map(|old| &old.system_data),
                    caller,
                    self.clock.now(),
                ),
                version: resource::next_version(before, self.clock.now()),
                provisioning_state: ProvisioningState::Succeeded,
                operation: None,
                properties: match before {
                    Some(old) => old.properties.clone(),
                    None => resource::Properties::UserAssignedIdentity(fresh),
                },
            };
            self.write_through(old.as_ref(), next, batch).await
        })
        .await
    }

    /// `UserAssignedIdentities_Update`: the tags.
    pub async fn update_user_assigned_identity(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<Tags>,
    ) -> Result<Resource, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.group.subscription).await?;
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

    /// `UserAssignedIdentities_Delete`; false when there was none. Resources that have it keep the ids they were given.
    pub async fn delete_user_assigned_identity(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<bool, Error> {
        self.allow(caller, DELETE, &id.scope(), &id.group.subscription).await?;
        self.remove_at_once(id).await
    }
}
