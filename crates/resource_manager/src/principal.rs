//! Managed identities as principals of the directory: made with the resource that has one, gone with it.
//! Called wherever a resource is written, and by the reconciler. Identities that a resource merely shares are not its own.

use access::directory::{ManagedIdentity, RoleError};
use store::Batch;

use crate::ResourceManager;
use crate::resource::{Properties, Resource};

/// The identity that stands and falls with `resource`.
fn own_identity(resource: &Resource) -> Option<(&str, Option<&str>)> {
    match &resource.properties {
        Properties::UserAssignedIdentity(own) => Some((&own.ids.principal_id, Some(&own.ids.client_id))),
        _ => resource.identity.as_ref()?.system.as_ref().map(|system| (system.principal_id.as_str(), None)),
    }
}

fn own_object_id(resource: &Resource) -> Option<&str> {
    own_identity(resource).map(|(object_id, _)| object_id)
}

impl ResourceManager {
    /// Makes an identity that `next` has and `old` had not known to the directory, in the batch that writes `next`.
    pub(crate) fn enter_identity(&self, batch: &mut Batch, old: Option<&Resource>, next: &Resource) {
        let Some((object_id, app_id)) = own_identity(next) else { return };
        if old.and_then(own_object_id) != Some(object_id) {
            let (display_name, resource_path) = (next.id.name.as_str(), next.id.path());
            let resource_path = resource_path.as_str();
            let identity = ManagedIdentity { object_id, app_id, display_name, resource_path };
            self.directory.enter_managed_identity(batch, &identity);
        }
    }

    /// Takes an identity that `before` had and that is not in `after` out of the directory, with what it was given. Safe to
    /// repeat.
    pub(crate) async fn remove_lost_identity(
        &self,
        before: &Resource,
        after: Option<&Resource>,
    ) -> Result<(), RoleError> {
        match own_object_id(before) {
            Some(lost) if after.and_then(own_object_id) != Some(lost) => {
                self.directory.remove_managed_identity(lost).await
            }
            _ => Ok(()),
        }
    }
}
