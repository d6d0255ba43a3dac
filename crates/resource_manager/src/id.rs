//! Resource ids: parsed once, compared without case, echoed as they were first written.
//! Called by the doors and by every operation. It must never look anything up.

use std::fmt;
use std::str::FromStr;

use base::Scope;
use serde::{Deserialize, Serialize};
use store::Key;

use crate::provider::{self, ResourceType};

/// A resource group by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupId {
    pub subscription: String,
    pub name: String,
}

/// A resource, or the child of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceId {
    pub group: GroupId,
    pub resource_type: ResourceType,
    /// The name of the resource that this one belongs to, for the types that are children.
    pub parent: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the id of a resource that is known here")]
pub struct InvalidResourceId(pub String);

impl GroupId {
    pub fn new(subscription: &str, name: &str) -> Self {
        Self { subscription: subscription.to_owned(), name: name.to_owned() }
    }

    pub fn path(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/{}", self.subscription, self.name)
    }

    pub fn scope(&self) -> Scope {
        Scope::new(&self.path())
    }

    pub(crate) fn key(&self) -> Key {
        Key::new([lower(&self.subscription), lower(&self.name)])
    }
}

impl PartialEq for GroupId {
    fn eq(&self, other: &Self) -> bool {
        self.subscription.eq_ignore_ascii_case(&other.subscription)
            && self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl Eq for GroupId {}

impl ResourceId {
    pub fn new(group: &GroupId, resource_type: ResourceType, name: &str) -> Self {
        Self { group: group.clone(), resource_type, parent: None, name: name.to_owned() }
    }

    /// The child `name` of type `resource_type` of this resource.
    #[must_use]
    pub fn child(&self, resource_type: ResourceType, name: &str) -> Self {
        let parent = Some(self.name.clone());
        Self { group: self.group.clone(), resource_type, parent, name: name.to_owned() }
    }

    /// The resource that this one is a child of.
    pub fn parent_id(&self) -> Option<Self> {
        Some(Self::new(&self.group, self.resource_type.parent()?, self.parent.as_deref()?))
    }

    pub fn path(&self) -> String {
        let (group, row) = (self.group.path(), self.resource_type.row());
        let mut path = format!("{group}/providers/{}", row.namespace);
        let names = self.parent.iter().chain([&self.name]);
        for (segment, name) in row.type_name.split('/').zip(names) {
            path.push('/');
            path.push_str(segment);
            path.push('/');
            path.push_str(name);
        }
        path
    }

    pub fn scope(&self) -> Scope {
        Scope::new(&self.path())
    }

    /// `Microsoft.X/type/parent/child/name`, as refusals print it.
    pub fn relative(&self) -> String {
        let path = self.path();
        path[self.group.path().len() + "/providers/".len()..].to_owned()
    }

    pub(crate) fn key(&self) -> Key {
        let group = &self.group;
        let parent = self.parent.as_deref().unwrap_or_default();
        let kind = self.resource_type.full_name();
        Key::new([&group.subscription, &group.name, &kind, parent, &self.name].map(lower))
    }

    /// The prefix of all children of type `resource_type`.
    pub(crate) fn children_key(&self, resource_type: ResourceType) -> Key {
        let group = &self.group;
        Key::new(
            [&group.subscription, &group.name, &resource_type.full_name(), self.name.as_str()].map(lower),
        )
    }
}

fn lower(text: impl AsRef<str>) -> String {
    text.as_ref().to_ascii_lowercase()
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ResourceId {}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl FromStr for ResourceId {
    type Err = InvalidResourceId;

    fn from_str(text: &str) -> Result<Self, InvalidResourceId> {
        parse(text).ok_or_else(|| InvalidResourceId(text.chars().take(256).collect()))
    }
}

fn parse(text: &str) -> Option<ResourceId> {
    let segments: Vec<&str> = text.strip_prefix('/')?.trim_end_matches('/').split('/').collect();
    let word = |at: usize, expected: &str| {
        segments.get(at).is_some_and(|segment: &&str| segment.eq_ignore_ascii_case(expected))
    };
    if !(word(0, "subscriptions") && word(2, "resourceGroups") && word(4, "providers")) {
        return None;
    }
    if segments.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    let group = GroupId::new(segments.get(1)?, segments.get(3)?);
    let namespace = segments.get(5)?;
    match segments.get(6..)? {
        [kind, name] => Some(ResourceId::new(&group, provider::find_type(namespace, kind)?, name)),
        [parent_kind, parent, kind, name] => {
            let resource_type = provider::find_type(namespace, &format!("{parent_kind}/{kind}"))?;
            let parent = Some((*parent).to_owned());
            Some(ResourceId { group, resource_type, parent, name: (*name).to_owned() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENDPOINT: &str = "/subscriptions/S/resourcegroups/G/providers/microsoft.digitaltwins/DigitalTwinsInstances/I/endpoints/E";

    #[test]
    fn an_id_in_any_case_is_the_same_id_and_keeps_the_names_as_written() {
        let id: ResourceId = ENDPOINT.parse().unwrap();
        assert_eq!(
            id.path(),
            "/subscriptions/S/resourceGroups/G/providers/Microsoft.DigitalTwins/digitalTwinsInstances/I/endpoints/E"
        );
        assert_eq!(id, ENDPOINT.to_uppercase().parse().unwrap());
        assert_eq!(id.relative(), "Microsoft.DigitalTwins/digitalTwinsInstances/I/endpoints/E");
        assert_eq!(id.parent_id().unwrap().name, "I");
    }

    #[test]
    fn ids_of_anything_else_are_refused() {
        for bad in [
            "",
            "/",
            "/subscriptions/s",
            "subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/h",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs",
            "/subscriptions/s/resourceGroups//providers/Microsoft.Devices/IotHubs/h",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/x",
        ] {
            assert!(bad.parse::<ResourceId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "(/[a-zA-Z0-9./]{0,12}){0,12}|\\PC*") {
            if let Ok(id) = text.parse::<ResourceId>() {
                prop_assert_eq!(id.path().parse::<ResourceId>().unwrap(), id);
            }
        }
    }
}
