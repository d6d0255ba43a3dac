//! What a first start leaves behind (`design.md` §2): one service principal with its roles, and through Resource Manager a
//! subscription, a group and one instance of each service. Called before the doors open; safe to repeat at every start.

use access::directory::{self, NewRoleAssignment, ServicePrincipal};
use access::{Caller, Directory, roles};
use base::Scope;
use resource_manager::{Defaults, PolicyKeys, ResourceManager};

use crate::Failure;

/// The name of the principal that `twinhub env` logs in with.
pub(crate) const PRINCIPAL: &str = "twinhub";

/// What the running server tells others of the defaults.
#[derive(Clone)]
pub(crate) struct FirstStart {
    pub(crate) principal: ServicePrincipal,
    pub(crate) subscription_id: String,
    pub(crate) resource_group: String,
    pub(crate) storage_account: String,
}

/// What the first principal may do with data, wherever in the subscription it is: in Azure whoever owns the subscription gives
/// these to himself; here nobody has to. At the subscription, so that an instance made anew is his as the first one was.
const DATA_ROLES: [&str; 4] = [
    roles::DIGITAL_TWINS_DATA_OWNER,
    roles::IOT_HUB_DATA_CONTRIBUTOR,
    roles::PROVISIONING_DATA_CONTRIBUTOR,
    roles::EVENT_HUBS_DATA_OWNER,
];

pub(crate) async fn ensure(
    directory: &Directory,
    manager: &ResourceManager,
    keys: Option<PolicyKeys>,
) -> Result<FirstStart, Failure> {
    let principal = directory.ensure_service_principal(PRINCIPAL).await?;
    let defaults = Defaults::new(directory.subscription_id(), directory.tenant_id());
    let defaults = Defaults { keys, ..defaults };
    manager.ensure_defaults(&defaults).await?;
    let subscription = format!("/subscriptions/{}", defaults.subscription_id);
    // Ownership comes last and tells that all roles were given: what was taken away later stays away. Only when nobody owns the
    // subscription any more, so that nobody could give roles either, does the principal get its own back.
    if !has_owner(directory, &Scope::new(&subscription)).await? {
        for role in DATA_ROLES {
            assign(directory, &principal, &subscription, role).await?;
        }
        assign(directory, &principal, &subscription, roles::OWNER).await?;
    }
    let Defaults { subscription_id, resource_group, storage_account, .. } = defaults;
    Ok(FirstStart { principal, subscription_id, resource_group, storage_account })
}

/// Whether someone who can log in owns the subscription.
async fn has_owner(directory: &Directory, subscription: &Scope) -> Result<bool, Failure> {
    for one in directory.list_role_assignments(&Caller::system(), subscription).await? {
        if one.scope.contains(subscription)
            && one.role_definition_id == roles::OWNER
            && directory.service_principal(&one.principal_id).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn assign(
    directory: &Directory,
    principal: &ServicePrincipal,
    scope_path: &str,
    role: &str,
) -> Result<(), Failure> {
    let new = NewRoleAssignment {
        id: uuid::Uuid::new_v4().to_string(),
        scope_path: scope_path.to_owned(),
        role_definition_id: role.to_owned(),
        principal_id: principal.object_id.clone(),
        principal_type: None,
        description: None,
    };
    match directory.put_role_assignment(&Caller::system(), new).await {
        // A start that was cut short gave it before.
        Ok(_) | Err(directory::RoleError::RoleAssignmentExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
