//! Managed identities of resources: what a caller asks for, what is kept, and how one becomes the other.
//! Called by every type that carries `identity`. Pure: new ids are made by a function that is passed in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::ResourceId;
use crate::provider::ResourceType;

/// What `identity` of a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityRequest {
    pub has_system: bool,
    pub has_users: bool,
    /// Ids of user-assigned identities; `false` marks one that the caller sent as `null`, to take it away.
    pub users: Vec<(String, bool)>,
}

/// The identity that a resource has. None at all is `None` around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedIdentity {
    pub system: Option<SystemIdentity>,
    /// By resource id as the caller wrote it.
    pub users: BTreeMap<String, UserIdentity>,
}

/// Made up once and kept for as long as the resource has a system-assigned identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemIdentity {
    pub principal_id: String,
    pub tenant_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIdentity {
    pub client_id: String,
    pub principal_id: String,
}

impl IdentityRequest {
    /// Reads `type`: `None`, `SystemAssigned`, `UserAssigned` or both with a comma, in any case and spacing.
    pub fn parse_type(text: &str, users: Vec<(String, bool)>) -> Result<Self, Error> {
        let mut request = Self { users, ..Self::default() };
        for part in text.split(',').map(str::trim) {
            match part.to_ascii_lowercase().as_str() {
                "none" => {}
                "systemassigned" => request.has_system = true,
                "userassigned" => request.has_users = true,
                _ => {
                    return Err(Error::InvalidRequestContent(format!(
                        "The identity type '{text}' is not one of 'None', 'SystemAssigned', 'UserAssigned' and 'SystemAssigned,UserAssigned'."
                    )));
                }
            }
        }
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), Error> {
        if !self.has_users && self.users.iter().any(|(_, is_wanted)| *is_wanted) {
            return Err(Error::InvalidRequestContent(
                "User assigned identities are given, but the identity type does not contain 'UserAssigned'."
                    .into(),
            ));
        }
        for (id, _) in &self.users {
            let parsed: Option<ResourceId> = id.parse().ok();
            if parsed.is_none_or(|id| id.resource_type != ResourceType::UserAssignedIdentity) {
                return Err(Error::InvalidRequestContent(format!(
                    "'{id}' is not the id of a user assigned identity."
                )));
            }
        }
        Ok(())
    }
}

impl ManagedIdentity {
    /// `SystemAssigned`, `UserAssigned` or both, with `separator` between them.
    pub fn type_name(&self, separator: &str) -> String {
        let system = self.system.as_ref().map(|_| "SystemAssigned");
        let users = (!self.users.is_empty()).then_some("UserAssigned");
        system.into_iter().chain(users).collect::<Vec<_>>().join(separator)
    }

    pub fn has_user(&self, id: &str) -> bool {
        self.users.keys().any(|known| known.eq_ignore_ascii_case(id))
    }
}

/// How the user-assigned identities of a request meet those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// A PUT lists all that shall remain.
    Replace,
    /// A PATCH names what changes.
    Merge,
}

/// The identity after a request. A system identity that is there already keeps its ids; one that was given up and asked for
/// again is a new one. Identities of users keep theirs too, else `lookup` is asked.
pub fn apply(
    old: Option<&ManagedIdentity>,
    request: &IdentityRequest,
    users: Users,
    new_system: impl FnOnce() -> SystemIdentity,
    lookup: impl Fn(&str) -> UserIdentity,
) -> Result<Option<ManagedIdentity>, Error> {
    let system =
        request.has_system.then(|| old.and_then(|old| old.system.clone()).unwrap_or_else(new_system));
    let known = old.map(|old| old.users.clone()).unwrap_or_default();
    let mut next = if request.has_users && users == Users::Merge { known.clone() } else { BTreeMap::new() };
    for (id, is_wanted) in &request.users {
        let before = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(id));
        next.retain(|other, _| !other.eq_ignore_ascii_case(id));
        if *is_wanted {
            let ids = before.map_or_else(|| lookup(id), |(_, ids)| ids.clone());
            next.insert(before.map_or_else(|| id.clone(), |(name, _)| name.clone()), ids);
        }
    }
    if request.has_users && next.is_empty() {
        return Err(Error::InvalidRequestContent(
            "The identity type contains 'UserAssigned', but no user assigned identity is given.".into(),
        ));
    }
    Ok((system.is_some() || !next.is_empty()).then_some(ManagedIdentity { system, users: next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/a";
    const B: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/b";

    fn ask(
        old: Option<&ManagedIdentity>,
        kind: &str,
        users: &[(&str, bool)],
        how: Users,
        principal: &str,
    ) -> Result<Option<ManagedIdentity>, Error> {
        let users = users.iter().map(|(id, wanted)| ((*id).to_owned(), *wanted)).collect();
        let request = IdentityRequest::parse_type(kind, users)?;
        let system = || SystemIdentity { principal_id: principal.into(), tenant_id: "t".into() };
        let lookup =
            |id: &str| UserIdentity { client_id: format!("c{}", id.len()), principal_id: principal.into() };
        apply(old, &request, how, system, lookup)
    }

    #[test]
    fn a_system_identity_keeps_its_id_until_it_is_given_up() {
        let first = ask(None, "SystemAssigned", &[], Users::Replace, "p1").unwrap();
        let kept = ask(first.as_ref(), "systemassigned", &[], Users::Replace, "p2").unwrap();
        assert_eq!(first, kept);
        assert_eq!(ask(kept.as_ref(), "None", &[], Users::Replace, "p3").unwrap(), None);
        let again = ask(None, "SystemAssigned", &[], Users::Replace, "p4").unwrap().unwrap();
        assert_eq!(again.system.unwrap().principal_id, "p4");
    }

    #[test]
    fn a_put_replaces_the_users_and_a_patch_merges_them() {
        let both =
            ask(None, "SystemAssigned, UserAssigned", &[(A, true)], Users::Replace, "p").unwrap().unwrap();
        assert_eq!(both.type_name(","), "SystemAssigned,UserAssigned");
        let put = ask(Some(&both), "UserAssigned", &[(B, true)], Users::Replace, "q").unwrap().unwrap();
        assert_eq!(put.users.keys().collect::<Vec<_>>(), [B]);
        assert!(put.system.is_none());
        let patched = ask(Some(&put), "UserAssigned", &[(A, true)], Users::Merge, "r").unwrap().unwrap();
        assert!(patched.has_user(&A.to_uppercase()) && patched.has_user(B));
        let without = ask(Some(&patched), "UserAssigned", &[(B, false)], Users::Merge, "s").unwrap().unwrap();
        assert_eq!(without.users.keys().collect::<Vec<_>>(), [A]);
        assert_eq!(without.users[A].principal_id, "r");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(ask(None, "Robot", &[], Users::Replace, "p").is_err());
        assert!(ask(None, "UserAssigned", &[], Users::Replace, "p").is_err());
        assert!(ask(None, "SystemAssigned", &[(A, true)], Users::Replace, "p").is_err());
        assert!(ask(None, "UserAssigned", &[("/x", true)], Users::Replace, "p").is_err());
    }
}
