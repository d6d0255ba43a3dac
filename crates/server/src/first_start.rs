//! What a first start leaves behind (`design.md` §2): one service principal with its roles, and through Resource Manager a
//! subscription, a group and one instance of each service. Called before the doors open; safe to repeat at every start.

use access::directory::{self, NewRoleAssignment, ServicePrincipal};
use access::{Caller, Directory, roles};
use base::Scope;
use resource_manager::{Defaults, ResourceManager};

use crate::Failure;

/// The name of the principal that `twinhub env` logs in with.
const PRINCIPAL: &str = "twinhub";

/// What the running server tells others of the defaults.
#[derive(Clone)]
pub(crate) struct FirstStart {
    pub(crate) principal: ServicePrincipal,
    pub(crate) subscription_id: String,
    pub(crate) resource_group: String,
}

pub(crate) async fn ensure(directory: &Directory, manager: &ResourceManager) -> Result<FirstStart, Failure> {
    let principal = directory.ensure_service_principal(PRINCIPAL).await?;
    let defaults = Defaults::new(directory.subscription_id(), directory.tenant_id());
    let made = manager.ensure_defaults(&defaults).await?;
    let subscription = format!("/subscriptions/{}", defaults.subscription_id);
    // Ownership comes last and tells that both roles were given. When nobody owns the subscription any more, nobody could
    // give roles either, so the principal gets its own back.
    if !has_owner(directory, &Scope::new(&subscription)).await? {
        assign(directory, &principal, made.digital_twins.path(), roles::DIGITAL_TWINS_DATA_OWNER).await?;
        assign(directory, &principal, subscription, roles::OWNER).await?;
    }
    let Defaults { subscription_id, resource_group, .. } = defaults;
    Ok(FirstStart { principal, subscription_id, resource_group })
}

async fn has_owner(directory: &Directory, subscription: &Scope) -> Result<bool, Failure> {
    let all = directory.list_role_assignments(&Caller::system(), subscription).await?;
    Ok(all.iter().any(|one| one.scope.contains(subscription) && one.role_definition_id == roles::OWNER))
}

async fn assign(
    directory: &Directory,
    principal: &ServicePrincipal,
    scope_path: String,
    role: &str,
) -> Result<(), Failure> {
    let new = NewRoleAssignment {
        id: uuid::Uuid::new_v4().to_string(),
        scope_path,
        role_definition_id: role.to_owned(),
        principal_id: principal.object_id.clone(),
        principal_type: None,
        description: None,
    };
    match directory.put_role_assignment(&Caller::system(), new).await {
        // A start that was cut short gave it before.
        Ok(_) | Err(directory::Error::RoleAssignmentExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
