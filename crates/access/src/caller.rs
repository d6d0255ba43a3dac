//! An authenticated caller, and the one question that is asked of it.
//! Doors make callers; the first line of every domain operation asks. A caller holds what it may do, so asking does no I/O.

use std::sync::Arc;

use base::Scope;
use base::ids::IdentityId;

use crate::permission::{Permission, Right};

/// Someone who has proved who they are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    /// twinhub itself: reconcilers and the relay.
    System,
    /// The holder of a shared access policy's key.
    Policy { scope: Scope, name: String, rights: Vec<Right> },
    /// A device or module, which may act for itself only.
    Identity { scope: Scope, identity: IdentityId },
    /// A service principal or user of the directory, with everything its role assignments give.
    Principal { object_id: String, name: String, is_application: bool, grants: Vec<Grant> },
}

/// What one role assignment gives: the actions of a role at a scope. Actions may end in or contain `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub scope: Scope,
    pub actions: Vec<String>,
    pub not_actions: Vec<String>,
    pub data_actions: Vec<String>,
    pub not_data_actions: Vec<String>,
}

/// The caller is known but may not do this. The text is the one that Resource Manager and the hubs print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The client '{name}' with object id '{object_id}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials."
)]
pub struct Denied {
    pub name: String,
    pub object_id: String,
    pub action: &'static str,
    /// What the holder of a policy's key lacks; `None` for others, and where no policy can have it.
    pub right: Option<Right>,
    pub scope: Scope,
}

impl Caller {
    pub fn system() -> Self {
        Self(Arc::new(Kind::System))
    }

    pub fn policy(scope: Scope, name: &str, rights: &[Right]) -> Self {
        Self(Arc::new(Kind::Policy { scope, name: name.to_owned(), rights: rights.to_vec() }))
    }

    /// `scope` is the hub's; the identity may act below `{scope}/devices/{id}[/modules/{id}]` only.
    pub fn identity(scope: Scope, identity: IdentityId) -> Self {
        Self(Arc::new(Kind::Identity { scope, identity }))
    }

    pub fn principal(object_id: &str, name: &str, is_application: bool, grants: Vec<Grant>) -> Self {
        let (object_id, name) = (object_id.to_owned(), name.to_owned());
        Self(Arc::new(Kind::Principal { object_id, name, is_application, grants }))
    }

    /// Whether this caller may do `permission` at `scope`.
    pub fn require(&self, permission: Permission, scope: &Scope) -> Result<(), Denied> {
        let allowed = match &*self.0 {
            Kind::System => true,
            Kind::Policy { scope: held, rights, .. } => {
                held.contains(scope)
                    && permission.right().is_some_and(|right| Right::any_grants(rights, right))
            }
            Kind::Identity { .. } => false,
            Kind::Principal { grants, .. } => {
                grants.iter().any(|grant| grant.scope.contains(scope) && grant.allows(permission))
            }
        };
        if allowed { Ok(()) } else { Err(self.denied(permission, scope)) }
    }

    /// Whether this caller may do anything at all at `scope`, above it or below it: such a scope shows in lists.
    pub fn may_enter(&self, scope: &Scope) -> bool {
        match &*self.0 {
            Kind::System => true,
            Kind::Policy { .. } | Kind::Identity { .. } => false,
            Kind::Principal { grants, .. } => {
                grants.iter().any(|grant| grant.scope.contains(scope) || scope.contains(&grant.scope))
            }
        }
    }

    /// Whether this caller may act as `identity` of the instance at `scope`: the identity itself, or a policy with the
    /// right to connect devices.
    pub fn require_identity(&self, identity: &IdentityId, scope: &Scope) -> Result<(), Denied> {
        match &*self.0 {
            Kind::Identity { scope: held, identity: own } if held == scope && own == identity => Ok(()),
            Kind::Identity { .. } => Err(self.denied(Permission::DeviceConnect, scope)),
            _ => self.require(Permission::DeviceConnect, scope),
        }
    }

    /// Whether the caller holds a shared access policy's key.
    pub fn is_policy(&self) -> bool {
        matches!(&*self.0, Kind::Policy { .. })
    }

    pub fn is_principal(&self) -> bool {
        matches!(&*self.0, Kind::Principal { .. })
    }

    /// The object id of a principal, else the name under which the caller is known; for `systemData` and audit.
    pub fn object_id(&self) -> &str {
        match &*self.0 {
            Kind::System => "twinhub",
            Kind::Policy { name, .. } => name,
            Kind::Identity { identity, .. } => identity.device_id.as_str(),
            Kind::Principal { object_id, .. } => object_id,
        }
    }

    /// `User`, `Application` or `Key`, as `systemData` spells it.
    pub fn kind_name(&self) -> &'static str {
        match &*self.0 {
            Kind::Principal { is_application: false, .. } => "User",
            Kind::System | Kind::Principal { .. } => "Application",
            Kind::Policy { .. } | Kind::Identity { .. } => "Key",
        }
    }

    fn denied(&self, permission: Permission, scope: &Scope) -> Denied {
        let name = match &*self.0 {
            Kind::Principal { name, .. } => name.clone(),
            _ => self.object_id().to_owned(),
        };
        let object_id = self.object_id().to_owned();
        let right = permission.right().filter(|_| self.is_policy());
        Denied { name, object_id, action: permission.action(), right, scope: scope.clone() }
    }
}

impl Grant {
    fn allows(&self, permission: Permission) -> bool {
        let (allowed, refused) = if permission.is_data_action() {
            (&self.data_actions, &self.not_data_actions)
        } else {
            (&self.actions, &self.not_actions)
        };
        let names = |patterns: &[String]| patterns.iter().any(|p| matches(p, permission.action()));
        names(allowed) && !names(refused)
    }
}

/// Azure's action patterns: case-insensitive, `*` stands for any run of characters.
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = action.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> Scope {
        Scope::new("/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/hub")
    }

    #[test]
    fn a_policy_may_do_what_its_rights_give_on_its_own_instance_only() {
        let service = Caller::policy(hub(), "service", &[Right::ServiceConnect]);
        assert!(service.require(Permission::TwinWrite, &hub()).is_ok());
        assert!(service.require(Permission::RegistryRead, &hub()).is_err());
        assert!(service.require(Permission::TwinWrite, &Scope::new("/subscriptions/s/other")).is_err());
    }

    #[test]
    fn a_device_may_act_as_itself_and_nobody_else() {
        let own: IdentityId = "dev1".parse().unwrap();
        let device = Caller::identity(hub(), own.clone());
        assert!(device.require_identity(&own, &hub()).is_ok());
        assert!(device.require_identity(&"dev1/mod1".parse().unwrap(), &hub()).is_err());
        assert!(device.require_identity(&own, &Scope::new("/subscriptions/s/other")).is_err());
        assert!(device.require(Permission::TwinRead, &hub()).is_err());
    }

    #[test]
    fn a_principal_may_do_what_its_roles_give_at_or_below_their_scope() {
        let grant = Grant {
            scope: Scope::new("/subscriptions/s"),
            actions: vec!["*".into()],
            not_actions: vec!["Microsoft.Authorization/*/write".into()],
            data_actions: vec!["Microsoft.Devices/IotHubs/*/read".into()],
            not_data_actions: vec![],
        };
        let caller = Caller::principal("oid", "app", true, vec![grant]);
        assert!(caller.require(Permission::TwinRead, &hub()).is_ok());
        assert!(caller.require(Permission::TwinWrite, &hub()).is_err());
        assert!(caller.require(Permission::Management("Microsoft.Devices/IotHubs/write"), &hub()).is_ok());
        assert!(
            caller
                .require(Permission::Management("Microsoft.Authorization/roleAssignments/write"), &hub())
                .is_err()
        );
        assert!(caller.require(Permission::TwinRead, &Scope::root()).is_err());
    }
}
