//! Applications of the directory and the roles that they hold.

use access::directory::{Application, RoleError, ServicePrincipal};
use base::Scope;
use resource_manager::role::{AssignmentRequest, RoleScope};

use super::{Ground, Outcome, caller};
use crate::Failure;
use crate::seed::entries::resources::{Principal, Role, RoleAt};

pub(super) async fn principal(ground: &Ground, principal: &Principal) -> Result<Outcome, Failure> {
    let wanted = Application {
        display_name: principal.name.clone(),
        app_id: principal.client_id.map(|id| id.to_string()),
        secret: principal.client_secret.clone(),
    };
    let ensured = ground.directory.ensure_application(&wanted).await?;
    let mut outcome = match (ensured.is_new, ensured.is_changed) {
        (true, _) => Outcome::Made,
        (false, true) => Outcome::Changed,
        (false, false) => Outcome::Kept,
    };
    for role in &principal.roles {
        let given = give(ground, &ensured.principal, &role.what).await;
        outcome = outcome.and(given.map_err(|error| format!("{}: {error}", role.name))?);
    }
    Ok(outcome)
}

async fn give(ground: &Ground, principal: &ServicePrincipal, role: &Role) -> Result<Outcome, Failure> {
    let at = match &role.at {
        RoleAt::Subscription => RoleScope::Subscription(ground.group.subscription.clone()),
        RoleAt::Group => RoleScope::Group(ground.group.clone()),
        RoleAt::Resource(kind, name) => RoleScope::Resource(ground.id(*kind, name)),
    };
    let scope: Scope = at.scope();
    let held = ground.directory.list_role_assignments(&caller(), &scope).await?;
    let is_it = held.iter().any(|one| {
        one.scope == scope
            && one.principal_id == principal.object_id
            && one.role_definition_id.eq_ignore_ascii_case(role.role.id)
    });
    if is_it {
        return Ok(Outcome::Kept);
    }
    let request = AssignmentRequest {
        role_definition_id: role.role.id.to_owned(),
        principal_id: principal.object_id.clone(),
        principal_type: None,
        description: None,
    };
    let id = uuid::Uuid::new_v4().to_string();
    match ground.manager.put_role_assignment(&caller(), &at, &id, &request).await {
        Ok(_) => Ok(Outcome::Made),
        Err(resource_manager::Error::Role(RoleError::RoleAssignmentExists { .. })) => Ok(Outcome::Kept),
        Err(error) => Err(error.into()),
    }
}
