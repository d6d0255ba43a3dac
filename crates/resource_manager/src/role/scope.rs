//! What roles are assigned at: the tenant, a subscription, a group, a resource or a child of one.
//! Pure: whether it stands is the operations' question.

use base::Scope;

use crate::error::Error;
use crate::id::{GroupId, ResourceId};
use crate::subscription;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleScope {
    Tenant,
    Subscription(String),
    Group(GroupId),
    Resource(ResourceId),
}

impl RoleScope {
    /// Reads the segments of a path; names stay as they are written.
    pub fn parse(segments: &[&str]) -> Result<Self, Error> {
        let is = |at: usize, word: &str| segments.get(at).is_some_and(|one| one.eq_ignore_ascii_case(word));
        match segments {
            [] => Ok(Self::Tenant),
            [_, subscription] if is(0, "subscriptions") => Ok(Self::Subscription((*subscription).to_owned())),
            [_, subscription, _, group] if is(0, "subscriptions") && is(2, "resourceGroups") => {
                Ok(Self::Group(GroupId::new(subscription, group)))
            }
            [_, _, _, group, _, named @ ..]
                if is(0, "subscriptions") && is(2, "resourceGroups") && is(4, "providers") =>
            {
                let id = format!("/{}", segments.join("/")).parse::<ResourceId>();
                // Of a type that is not kept here there is no resource.
                id.map(Self::Resource)
                    .map_err(|_| Error::ResourceNotFound(named.join("/"), (*group).to_owned()))
            }
            _ => Err(Error::InvalidScope(segments.join("/").chars().take(256).collect())),
        }
    }

    pub fn scope(&self) -> Scope {
        match self {
            Self::Tenant => Scope::root(),
            Self::Subscription(id) => subscription::scope(id),
            Self::Group(id) => id.scope(),
            Self::Resource(id) => id.scope(),
        }
    }

    pub fn path(&self) -> String {
        match self {
            Self::Tenant => String::new(),
            Self::Subscription(id) => format!("/subscriptions/{id}"),
            Self::Group(id) => id.path(),
            Self::Resource(id) => id.path(),
        }
    }

    /// The subscription that everything of this scope belongs to.
    pub fn subscription(&self) -> Option<&str> {
        match self {
            Self::Tenant => None,
            Self::Subscription(id) => Some(id),
            Self::Group(id) => Some(&id.subscription),
            Self::Resource(id) => Some(&id.group.subscription),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_from_every_kind_of_path_and_written_back() {
        for path in [
            "",
            "/subscriptions/S",
            "/subscriptions/S/resourceGroups/G",
            "/subscriptions/S/resourceGroups/G/providers/Microsoft.Devices/IotHubs/H",
            "/subscriptions/S/resourceGroups/G/providers/Microsoft.EventHub/namespaces/N/eventhubs/E",
        ] {
            let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
            let scope = RoleScope::parse(&segments).unwrap();
            assert_eq!(scope.path(), path);
            assert_eq!(scope.scope(), Scope::new(path));
        }
    }

    #[test]
    fn a_path_to_nothing_is_refused() {
        let resource =
            ["subscriptions", "s", "resourceGroups", "g", "providers", "Microsoft.Web", "sites", "x"];
        assert!(matches!(RoleScope::parse(&resource), Err(Error::ResourceNotFound(name, group))
            if name == "Microsoft.Web/sites/x" && group == "g"));
        for bad in [
            &["subscriptions"][..],
            &["a", "b"],
            &["providers", "Microsoft.Management", "managementGroups", "m"],
        ] {
            assert!(matches!(RoleScope::parse(bad), Err(Error::InvalidScope(_))), "{bad:?}");
        }
    }
}
