//! Role assignments: who holds which role where. `Microsoft.Authorization` of Resource Manager calls it, and the first start.
//! What an assignment gives is read by [`Directory::caller`]; what a role is, stands in `roles`.

use base::{InstanceId, Scope, caps};
use store::{
    Batch, CommitError, Counter, Find, Key, MayConflict, Scan, StoreError, Stored, retry_on_conflict,
};

use super::Directory;
use super::record::{AssignmentName, REALM, RoleAssignment, ServicePrincipal};
use super::rules::{self, PrincipalType};
use crate::caller::{Caller, Denied};
use crate::permission::Permission;
use crate::roles;

/// What Resource Manager's PUT asks for.
#[derive(Clone, Debug)]
pub struct NewRoleAssignment {
    pub id: String,
    /// Any resource path, as the caller spelled it.
    pub scope_path: String,
    /// A GUID or a role definition's resource id.
    pub role_definition_id: String,
    pub principal_id: String,
    pub principal_type: Option<String>,
    pub description: Option<String>,
}

/// An assignment that is there after a PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutRoleAssignment {
    pub assignment: RoleAssignment,
    pub is_new: bool,
}

/// What can go wrong, in the words of `Microsoft.Authorization`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("The role assignment already exists. The ID of the existing role assignment is {}.", id.replace('-', ""))]
    RoleAssignmentExists { id: String },
    #[error("Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")]
    RoleAssignmentUpdateNotPermitted,
    #[error("The specified role definition with ID '{id}' does not exist.")]
    RoleDefinitionDoesNotExist { id: String },
    #[error(
        "Principal {principal_id} does not exist in the directory {tenant_id}. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group. See https://aka.ms/docs-principaltype"
    )]
    PrincipalNotFound { principal_id: String, tenant_id: String },
    #[error(
        "The PrincipalId '{principal_id}' has type 'ServicePrincipal', which is different from the specified PrincipalType '{said}'."
    )]
    UnmatchedPrincipalType { principal_id: String, said: &'static str },
    #[error("A valid principal ID must be provided for role assignment.")]
    InvalidPrincipalId,
    #[error("The role assignment ID '{id}' is not valid. The role assignment ID must be a GUID.")]
    InvalidRoleAssignmentId { id: String },
    #[error("The request was incorrectly formatted.")]
    BadRequestFormat,
    #[error("The role assignment '{id}' is not found.")]
    RoleAssignmentNotFound { id: String },
    #[error("No more role assignments can be created.")]
    RoleAssignmentLimitExceeded,
    /// Someone else wrote first; the operation is decided again.
    #[error("The role assignment was changed by another request. Please retry.")]
    WrittenMeanwhile,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayConflict for RoleError {
    fn is_conflict(&self) -> bool {
        *self == Self::WrittenMeanwhile
    }
}

const READ: Permission = Permission::Management("Microsoft.Authorization/roleAssignments/read");
const WRITE: Permission = Permission::Management("Microsoft.Authorization/roleAssignments/write");
const DELETE: Permission = Permission::Management("Microsoft.Authorization/roleAssignments/delete");

#[expect(clippy::cast_possible_wrap, reason = "four thousand")]
const MAX: i64 = caps::ROLE_ASSIGNMENTS_MAX as i64;

impl Directory {
    /// `RoleAssignments_Create` at a scope that is known to stand.
    pub async fn put_role_assignment(
        &self,
        caller: &Caller,
        new: NewRoleAssignment,
    ) -> Result<RoleAssignment, RoleError> {
        let put = async || self.try_put_role_assignment(caller, &new, Batch::default()).await;
        Ok(retry_on_conflict(put).await?.assignment)
    }

    /// `RoleAssignments_Create`: creates, changes the description, or answers the same one again. One attempt, together with
    /// what `batch` demands of the scope; [`RoleError::WrittenMeanwhile`] asks for another.
    pub async fn try_put_role_assignment(
        &self,
        caller: &Caller,
        new: &NewRoleAssignment,
        mut batch: Batch,
    ) -> Result<PutRoleAssignment, RoleError> {
        let scope = Scope::new(&new.scope_path);
        caller.require(WRITE, &scope)?;
        let now = self.0.clock.now();
        let principal_type = rules::principal_type(new.principal_type.as_deref())?;
        let wanted = rules::assignment(new, scope, principal_type, caller.object_id(), now)?;
        if roles::find(&wanted.role_definition_id).is_none() {
            return Err(RoleError::RoleDefinitionDoesNotExist {
                id: wanted.role_definition_id.replace('-', ""),
            });
        }
        self.principal_must_fit(&wanted.principal_id, principal_type, &mut batch).await?;
        let Some(old) = self.find_role_assignment(&wanted.id).await? else {
            return self.insert_role_assignment(wanted, batch).await;
        };
        let next = rules::changed(&old.record, &wanted)?;
        if next != old.record {
            batch.replace(&old, &next);
            self.0.store.commit(batch).await.map_err(written)?;
        }
        Ok(PutRoleAssignment { assignment: next, is_new: false })
    }

    /// A principal that the directory knows must be what the caller says it is, and must stay. One that it does not know is
    /// taken at the caller's word, when there is a word: it may come later, or from elsewhere.
    async fn principal_must_fit(
        &self,
        principal_id: &str,
        said: Option<PrincipalType>,
        batch: &mut Batch,
    ) -> Result<(), RoleError> {
        if self.service_principal(principal_id).await?.is_some() {
            batch.guard_exists::<ServicePrincipal>(ServicePrincipal::key_of(principal_id));
            return rules::check_service_principal(principal_id, said);
        }
        if said.is_some() {
            return Ok(());
        }
        let (principal_id, tenant_id) = (principal_id.replace('-', ""), self.0.tenant_id.clone());
        Err(RoleError::PrincipalNotFound { principal_id, tenant_id })
    }

    async fn insert_role_assignment(
        &self,
        assignment: RoleAssignment,
        mut batch: Batch,
    ) -> Result<PutRoleAssignment, RoleError> {
        let RoleAssignment { principal_id, scope, role_definition_id, .. } = &assignment;
        let key = RoleAssignment::key_of(principal_id, scope, role_definition_id);
        if let Some(existing) = self.0.store.get::<RoleAssignment>(&key).await? {
            let id = existing.record.id;
            // The very one that is asked for came between: decided again, it is there.
            let is_same = id == assignment.id;
            return Err(if is_same {
                RoleError::WrittenMeanwhile
            } else {
                RoleError::RoleAssignmentExists { id }
            });
        }
        batch.insert(&assignment);
        batch.insert(&AssignmentName { id: assignment.id.clone() });
        batch.add(assignments(), 1, MAX);
        self.0.store.commit(batch).await.map_err(written)?;
        self.0.forget();
        Ok(PutRoleAssignment { assignment, is_new: true })
    }

    /// `RoleAssignments_Get`.
    pub async fn get_role_assignment(
        &self,
        caller: &Caller,
        scope: &Scope,
        id: &str,
    ) -> Result<RoleAssignment, RoleError> {
        caller.require(READ, scope)?;
        let id = id.to_ascii_lowercase();
        let found = self.find_role_assignment(&id).await?;
        let found = found.map(|stored| stored.record).filter(|assignment| assignment.scope == *scope);
        found.ok_or(RoleError::RoleAssignmentNotFound { id })
    }

    /// `RoleAssignments_ListForScope`: at `scope`, above it and below it; the door applies its filter.
    pub async fn list_role_assignments(
        &self,
        caller: &Caller,
        scope: &Scope,
    ) -> Result<Vec<RoleAssignment>, RoleError> {
        caller.require(READ, scope)?;
        let mut all = self.scan_role_assignments(Key::new([REALM])).await?;
        all.retain(|one| one.scope.contains(scope) || scope.contains(&one.scope));
        Ok(all)
    }

    /// `RoleAssignments_Delete`: what was removed, or `None` when there was none.
    pub async fn remove_role_assignment(
        &self,
        caller: &Caller,
        scope: &Scope,
        id: &str,
    ) -> Result<Option<RoleAssignment>, RoleError> {
        caller.require(DELETE, scope)?;
        let id = id.to_ascii_lowercase();
        let removed = retry_on_conflict(async || {
            let found = self.find_role_assignment(&id).await?;
            let Some(stored) = found.filter(|stored| stored.record.scope == *scope) else { return Ok(None) };
            let mut batch = Batch::default();
            batch.delete(&stored);
            batch.remove::<AssignmentName>(AssignmentName::key_of(&id));
            batch.add(assignments(), -1, MAX);
            self.0.store.commit(batch).await.map_err(written)?;
            Ok::<_, RoleError>(Some(stored.record))
        })
        .await?;
        self.0.forget();
        Ok(removed)
    }

    /// Removes what was assigned at or below a resource that is gone.
    pub async fn forget_scope(&self, scope: &Scope) -> Result<(), RoleError> {
        let all = self.scan_role_assignments(Key::new([REALM])).await?;
        self.remove_all(all.iter().filter(|one| scope.contains(&one.scope))).await
    }

    /// Removes what a principal held that is gone.
    pub(super) async fn remove_role_assignments_of(&self, principal_id: &str) -> Result<(), RoleError> {
        let held = self.role_assignments_of(principal_id).await?;
        self.remove_all(held.iter()).await?;
        // Whether it is in the directory is kept with what it may do.
        self.0.forget();
        Ok(())
    }

    async fn remove_all(&self, gone: impl Iterator<Item = &RoleAssignment>) -> Result<(), RoleError> {
        let caller = Caller::system();
        for assignment in gone {
            self.remove_role_assignment(&caller, &assignment.scope, &assignment.id).await?;
        }
        Ok(())
    }

    pub(super) async fn role_assignments_of(
        &self,
        principal_id: &str,
    ) -> Result<Vec<RoleAssignment>, StoreError> {
        self.scan_role_assignments(RoleAssignment::of_principal(principal_id)).await
    }

    async fn scan_role_assignments(&self, prefix: Key) -> Result<Vec<RoleAssignment>, StoreError> {
        let scan = Scan { prefix, after: None, limit: caps::ROLE_ASSIGNMENTS_MAX };
        Ok(self.0.store.scan::<RoleAssignment>(scan).await?.into_iter().map(|s| s.record).collect())
    }

    async fn find_role_assignment(&self, id: &str) -> Result<Option<Stored<RoleAssignment>>, StoreError> {
        Ok(self.0.store.find::<RoleAssignment>(Find::new(Key::new([REALM]), "id", id, 1)).await?.pop())
    }
}

/// How many assignments the tenant has.
fn assignments() -> Counter {
    Counter::new(&InstanceId::from_stored(REALM), "role_assignments")
}

pub(super) fn written(error: CommitError) -> RoleError {
    match error {
        CommitError::Conflict => RoleError::WrittenMeanwhile,
        CommitError::CounterLimit { .. } => RoleError::RoleAssignmentLimitExceeded,
        CommitError::Store(error) => RoleError::Store(error),
    }
}
