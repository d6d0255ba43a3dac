//! What holds for every resource whatever its type: tags, locations, who wrote it.

use access::Caller;
use base::{IfMatch, IfNoneMatch, Timestamp, caps};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::record::{Properties, ProvisioningState, Resource, SystemData, Tags};
use crate::error::Error;
use crate::id::ResourceId;
use crate::location;

/// Number and lengths of tags (`arm-and-auth.md` §1.3).
pub(super) fn check_tags(tags: &Tags) -> Result<(), Error> {
    if tags.len() > caps::TAGS_MAX {
        return Err(Error::InvalidTags(format!(
            "The number of tags '{}' exceeds the maximum of '{}'.",
            tags.len(),
            caps::TAGS_MAX
        )));
    }
    for (name, value) in tags {
        if name.is_empty() || name.chars().count() > caps::TAG_KEY_CHARACTERS_MAX {
            return Err(Error::InvalidTags(format!(
                "A tag name must have 1 to {} characters.",
                caps::TAG_KEY_CHARACTERS_MAX
            )));
        }
        if name.chars().any(|c| "<>%&\\?/".contains(c) || c.is_control()) {
            return Err(Error::InvalidTags(format!(
                "The tag name '{name}' has characters that are not allowed."
            )));
        }
        if value.chars().count() > caps::TAG_VALUE_CHARACTERS_MAX {
            return Err(Error::InvalidTags(format!(
                "The value of tag '{name}' exceeds the maximum of {} characters.",
                caps::TAG_VALUE_CHARACTERS_MAX
            )));
        }
    }
    let mut names: Vec<String> = tags.keys().map(|name| name.to_lowercase()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::InvalidTags("Two tag names differ in nothing but case.".into()));
    }
    Ok(())
}

/// The location that a PUT asks for, held against the one that is there. Returned as the caller wrote it.
pub(crate) fn check_location(
    wanted: Option<&str>,
    id: &ResourceId,
    old: Option<&Resource>,
) -> Result<String, Error> {
    let wanted = wanted.map(str::trim).filter(|text| !text.is_empty()).ok_or(Error::LocationRequired)?;
    if location::find(wanted).is_none() {
        let kind = id.resource_type.full_name();
        return Err(Error::LocationNotAvailable { wanted: wanted.to_owned(), kind });
    }
    let existing = old.and_then(|old| old.location.as_deref());
    match existing {
        Some(existing) if location::normalise(existing) != location::normalise(wanted) => {
            Err(Error::InvalidResourceLocation {
                name: id.name.clone(),
                existing: location::normalise(existing),
                group: id.group.name.clone(),
                wanted: wanted.to_owned(),
            })
        }
        Some(existing) => Ok(existing.to_owned()),
        None => Ok(wanted.to_owned()),
    }
}

/// What a PUT expects of what is there (`arm-and-auth.md` §1.4).
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// Or an `etag` that came in the body: the resource must be there and of that version.
    pub if_match: IfMatch,
    pub if_none_match: IfNoneMatch,
}

impl Preconditions {
    /// `etag` is the tag of what is there; `Some(None)` is there and has none, which no tag equals.
    #[expect(clippy::option_option, reason = "what is there may have no tag")]
    pub(crate) fn check(&self, etag: Option<Option<&str>>) -> Result<(), Error> {
        let matches = match etag {
            Some(Some(etag)) => self.if_match.allows(etag),
            Some(None) => !matches!(self.if_match, IfMatch::Tag(_)),
            None => self.if_match.is_absent(),
        };
        if !matches {
            return Err(Error::PreconditionFailed("If-Match"));
        }
        match self.if_none_match {
            IfNoneMatch::Any if etag.is_some() => Err(Error::PreconditionFailed("If-None-Match")),
            IfNoneMatch::Absent | IfNoneMatch::Any => Ok(()),
            IfNoneMatch::Unsupported(_) => {
                Err(Error::bad_request("The only value of 'If-None-Match' is '*'."))
            }
        }
    }
}

/// A version as the services print it: base64 of eight bytes, `AAAAAAFD6M4=`.
pub fn etag(version: u64) -> String {
    STANDARD.encode(version.to_be_bytes())
}

/// A resource after a PUT, with no more of the common part than its properties say: the id it was first written with, who
/// wrote it, the next version, and the state of one that is being worked on.
pub(crate) fn after_put(
    id: &ResourceId,
    old: Option<&Resource>,
    caller: &Caller,
    now: Timestamp,
    properties: Properties,
) -> Resource {
    Resource {
        id: old.map_or_else(|| id.clone(), |old| old.id.clone()),
        location: None,
        tags: None,
        identity: None,
        system_data: system_data(old.map(|old| &old.system_data), caller, now),
        version: next_version(old, now),
        provisioning_state: old.map_or(ProvisioningState::Provisioning, |_| ProvisioningState::Updating),
        operation: None,
        properties,
    }
}

/// `systemData` after a write by `caller`.
pub(crate) fn system_data(old: Option<&SystemData>, caller: &Caller, now: Timestamp) -> SystemData {
    let (by, kind) = (caller.object_id().to_owned(), caller.kind_name().to_owned());
    let created = old.map_or_else(
        || (by.clone(), kind.clone(), now),
        |old| (old.created_by.clone(), old.created_by_type.clone(), old.created_at),
    );
    SystemData {
        created_by: created.0,
        created_by_type: created.1,
        created_at: created.2,
        last_modified_by: by,
        last_modified_by_type: kind,
        last_modified_at: now,
    }
}

/// A version that no earlier state of the resource had, not even of one of the same name before it.
pub(crate) fn next_version(old: Option<&Resource>, now: Timestamp) -> u64 {
    let ticks = u64::try_from(now.ticks()).unwrap_or(0);
    old.map_or(ticks, |old| ticks.max(old.version + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(count: usize, name: usize, value: usize) -> Tags {
        (0..count).map(|at| (format!("{at:0name$}"), "v".repeat(value))).collect()
    }

    #[test]
    fn tags_are_accepted_up_to_their_limits() {
        assert!(check_tags(&tags(caps::TAGS_MAX, 2, 1)).is_ok());
        assert!(check_tags(&tags(caps::TAGS_MAX + 1, 2, 1)).is_err());
        assert!(check_tags(&tags(1, 512, 256)).is_ok());
        assert!(check_tags(&tags(1, 513, 1)).is_err());
        assert!(check_tags(&tags(1, 1, 257)).is_err());
        assert!(check_tags(&Tags::from([("a/b".into(), String::new())])).is_err());
        assert!(check_tags(&Tags::from([("A".into(), String::new()), ("a".into(), String::new())])).is_err());
    }

    fn resource() -> Resource {
        let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.EventHub/namespaces/one";
        let id: ResourceId = id.parse().unwrap();
        let (created, updated) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let instance = base::InstanceId::from_stored("ns");
        let properties = Properties::EventHubNamespace(crate::event_hub::NamespaceProperties {
            instance,
            created,
            updated,
        });
        Resource {
            location: Some("West US".into()),
            ..after_put(&id, None, &Caller::system(), Timestamp::from_unix_seconds(1), properties)
        }
    }

    #[test]
    fn a_location_is_known_stays_what_it_was_and_is_shown_as_it_was_first_written() {
        let old = resource();
        let check =
            |wanted: Option<&str>, old: Option<&Resource>| check_location(wanted, &resource().id, old);
        assert_eq!(check(Some(" West US "), None).unwrap(), "West US");
        assert_eq!(check(Some("westus"), Some(&old)).unwrap(), "West US");
        assert!(matches!(check(Some("eastus"), Some(&old)), Err(Error::InvalidResourceLocation { .. })));
        assert!(matches!(check(Some("atlantis"), None), Err(Error::LocationNotAvailable { .. })));
        for nothing in [None, Some(" ")] {
            assert!(matches!(check(nothing, Some(&old)), Err(Error::LocationRequired)));
        }
    }

    #[test]
    fn what_a_put_expects_is_held_against_what_is_there() {
        let (tag, none) = (Some(Some("AAA=")), Some(None));
        let holds = |if_match: IfMatch, if_none_match: IfNoneMatch, etag: Option<Option<&str>>| {
            Preconditions { if_match, if_none_match }.check(etag).is_ok()
        };
        for (if_match, on_nothing, on_the_tag, on_one_without) in [
            (IfMatch::Absent, true, true, true),
            (IfMatch::Any, false, true, true),
            (IfMatch::Tag("AAA=".into()), false, true, false),
            (IfMatch::Tag("BBB=".into()), false, false, false),
        ] {
            let found = [None, tag, none].map(|etag| holds(if_match.clone(), IfNoneMatch::Absent, etag));
            assert_eq!(found, [on_nothing, on_the_tag, on_one_without], "{if_match:?}");
        }
        let only_new = [None, tag, none].map(|etag| holds(IfMatch::Absent, IfNoneMatch::Any, etag));
        assert_eq!(only_new, [true, false, false]);
        assert!(!holds(IfMatch::Absent, IfNoneMatch::Unsupported("AAA=".into()), None));
    }

    #[test]
    fn a_put_remembers_who_made_the_resource_and_counts_on_even_when_the_clock_goes_back() {
        let (first, now) = (resource(), Timestamp::from_unix_seconds(0));
        let other = Caller::principal("oid", "app", false, Vec::new());
        let second = after_put(&first.id, Some(&first), &other, now, first.properties.clone());
        assert_eq!(first.provisioning_state, ProvisioningState::Provisioning);
        assert_eq!(second.provisioning_state, ProvisioningState::Updating);
        assert!(second.version > first.version);
        let data = &second.system_data;
        assert_eq!((data.created_by.as_str(), data.last_modified_by.as_str()), ("twinhub", "oid"));
        assert_eq!((data.created_at, data.last_modified_at), (first.system_data.created_at, now));
        assert_eq!(etag(0x0143_E8CE), "AAAAAAFD6M4=");
    }
}
