//! `Microsoft.Authorization`: role definitions and role assignments at the scopes of Resource Manager.
//! Called by the door. The directory keeps the assignments; here it is seen to that what they are given at stands.

use access::directory::{NewRoleAssignment, PutRoleAssignment, RoleAssignment, RoleError};
use access::roles::{self, RoleDefinition};
use access::{Caller, Permission};
use store::{Batch, retry_on_conflict};

pub use self::filter::{AssignmentFilter, DefinitionFilter};
pub use self::scope::RoleScope;
use crate::ResourceManager;
use crate::error::Error;
use crate::group;
use crate::id::GroupId;
use crate::resource::must_not_be_deleting;

mod filter;
mod scope;

/// What a PUT says of an assignment.
#[derive(Clone, Debug)]
pub struct AssignmentRequest {
    pub role_definition_id: String,
    pub principal_id: String,
    pub principal_type: Option<String>,
    pub description: Option<String>,
}

const DEFINITIONS_READ: Permission = Permission::Management("Microsoft.Authorization/roleDefinitions/read");
const ASSIGNMENTS_WRITE: Permission = Permission::Management("Microsoft.Authorization/roleAssignments/write");

impl ResourceManager {
    /// `RoleDefinitions_Get` and `RoleDefinitions_GetById`.
    pub async fn role_definition(
        &self,
        caller: &Caller,
        at: &RoleScope,
        id: &str,
    ) -> Result<&'static RoleDefinition, Error> {
        self.may_read_definitions(caller, at).await?;
        roles::find(id).ok_or_else(|| Error::RoleDefinitionNotFound(id.chars().take(128).collect()))
    }

    /// `RoleDefinitions_List`.
    pub async fn role_definitions(
        &self,
        caller: &Caller,
        at: &RoleScope,
        filter: &DefinitionFilter,
    ) -> Result<Vec<&'static RoleDefinition>, Error> {
        self.may_read_definitions(caller, at).await?;
        Ok(roles::ALL.iter().filter(|role| filter.admits(role)).collect())
    }

    /// The definitions of the tenant are open to everyone in it.
    async fn may_read_definitions(&self, caller: &Caller, at: &RoleScope) -> Result<(), Error> {
        self.subscription_of_scope_must_exist(at).await?;
        if *at != RoleScope::Tenant {
            caller.require(DEFINITIONS_READ, &at.scope())?;
        }
        self.scope_must_exist(at).await
    }

    /// `RoleAssignments_Get` and `RoleAssignments_GetById`.
    pub async fn role_assignment(
        &self,
        caller: &Caller,
        at: &RoleScope,
        id: &str,
    ) -> Result<RoleAssignment, Error> {
        self.subscription_of_scope_must_exist(at).await?;
        let found = self.directory.get_role_assignment(caller, &at.scope(), id).await;
        if matches!(found, Err(RoleError::RoleAssignmentNotFound { .. })) {
            self.scope_must_exist(at).await?;
        }
        Ok(found?)
    }

    /// `RoleAssignments_ListForScope`, `…_ListForSubscription`, `…_ListForResourceGroup`, `…_ListForResource`.
    pub async fn role_assignments(
        &self,
        caller: &Caller,
        at: &RoleScope,
        filter: &AssignmentFilter,
    ) -> Result<Vec<RoleAssignment>, Error> {
        self.subscription_of_scope_must_exist(at).await?;
        let scope = at.scope();
        let mut all = self.directory.list_role_assignments(caller, &scope).await?;
        self.scope_must_exist(at).await?;
        all.retain(|assignment| filter.admits(assignment, &scope));
        Ok(all)
    }

    /// `RoleAssignments_Create`. What it is given at must stand until it is given: what was assigned at a resource goes with
    /// it, and would otherwise be inherited by the next of the same name.
    pub async fn put_role_assignment(
        &self,
        caller: &Caller,
        at: &RoleScope,
        id: &str,
        request: &AssignmentRequest,
    ) -> Result<PutRoleAssignment, Error> {
        self.subscription_of_scope_must_exist(at).await?;
        let request = request.clone();
        let new = NewRoleAssignment {
            id: id.to_owned(),
            scope_path: at.path(),
            role_definition_id: request.role_definition_id,
            principal_id: request.principal_id,
            principal_type: request.principal_type,
            description: request.description,
        };
        caller.require(ASSIGNMENTS_WRITE, &at.scope())?;
        let put = retry_on_conflict(async || {
            let batch = self.scope_must_stand(at).await?;
            Ok::<_, Error>(self.directory.try_put_role_assignment(caller, &new, batch).await?)
        })
        .await?;
        // An endpoint's identity may have waited for it.
        self.events.try_endpoints_again();
        Ok(put)
    }

    /// `RoleAssignments_Delete` and `RoleAssignments_DeleteById`; `None` when there was none.
    pub async fn delete_role_assignment(
        &self,
        caller: &Caller,
        at: &RoleScope,
        id: &str,
    ) -> Result<Option<RoleAssignment>, Error> {
        self.subscription_of_scope_must_exist(at).await?;
        let removed = self.directory.remove_role_assignment(caller, &at.scope(), id).await?;
        if removed.is_none() {
            self.scope_must_exist(at).await?;
        }
        Ok(removed)
    }

    /// Below a subscription that is malformed or unknown nobody has a role, and the answer says so instead.
    async fn subscription_of_scope_must_exist(&self, at: &RoleScope) -> Result<(), Error> {
        match at.subscription() {
            Some(subscription) => self.subscription_must_exist(subscription).await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn scope_must_exist(&self, at: &RoleScope) -> Result<(), Error> {
        match at {
            RoleScope::Tenant | RoleScope::Subscription(_) => Ok(()),
            RoleScope::Group(group) => self.group_must_exist(group).await.map(|_| ()),
            RoleScope::Resource(id) => self.must_find(id).await.map(|_| ()),
        }
    }

    /// Refuses a scope that is not there or is about to go. The batch fails should either come to be before its commit.
    async fn scope_must_stand(&self, at: &RoleScope) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        match at {
            RoleScope::Tenant | RoleScope::Subscription(_) => {}
            RoleScope::Group(group) => self.group_must_stand(group, &mut batch).await?,
            RoleScope::Resource(id) => {
                self.group_must_stand(&id.group, &mut batch).await?;
                let stored = self.must_find(id).await?;
                must_not_be_deleting(&stored.record)?;
                batch.guard(&stored);
            }
        }
        Ok(batch)
    }

    async fn group_must_stand(&self, id: &GroupId, batch: &mut Batch) -> Result<(), Error> {
        let group = self.group_must_exist(id).await?;
        group::must_be_live(&group.record)?;
        batch.guard(&group);
        Ok(())
    }
}
