//! Consumer groups of a hub's built-in endpoint: each reads the stream on its own. They are kept with the hub's settings, so that
//! every node knows them; Resource Manager makes and removes them. Pure, but for who commits.

use base::{Timestamp, caps};
use serde::{Deserialize, Serialize};
use store::{CommitError, MayConflict, StoreError};

/// The group that every event hub has.
pub const DEFAULT: &str = "$Default";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroup {
    pub name: String,
    pub created: Timestamp,
}

/// Those that were made, in the order of their making; `$Default` is beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsumerGroups(Vec<ConsumerGroup>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerGroupError {
    #[error(
        "The consumer group name '{0}' must have 1 to {max} letters, digits, '.', '-' and '_', and begin and end with a letter or digit.",
        max = caps::CONSUMER_GROUP_NAME_CHARACTERS_MAX
    )]
    InvalidName(String),
    #[error("At most {} consumer groups are allowed, '{DEFAULT}' among them.", caps::CONSUMER_GROUPS_MAX)]
    TooMany,
    #[error("The consumer group '{DEFAULT}' cannot be deleted.")]
    DefaultStays,
    #[error("The hub of the consumer group could not be found.")]
    Gone,
    /// Someone else wrote first; never leaves the change.
    #[error("The consumer groups were changed by another request. Please retry.")]
    Conflict,
    #[error("The consumer groups cannot be stored.")]
    Store(StoreError),
}

impl ConsumerGroups {
    pub fn iter(&self) -> impl Iterator<Item = &ConsumerGroup> {
        self.0.iter()
    }

    /// Whether somebody may read as `name`, in any case.
    pub fn has(&self, name: &str) -> bool {
        is_default(name) || self.find(name).is_some()
    }

    /// One that was made.
    pub fn find(&self, name: &str) -> Option<&ConsumerGroup> {
        self.0.iter().find(|known| known.name.eq_ignore_ascii_case(name))
    }

    /// Makes a group; one that is there stays as it is. `None`: it is `$Default`, which needs no making.
    pub fn put(&mut self, name: &str, now: Timestamp) -> Result<Option<ConsumerGroup>, ConsumerGroupError> {
        if is_default(name) {
            return Ok(None);
        }
        if let Some(known) = self.find(name) {
            return Ok(Some(known.clone()));
        }
        if !is_name(name) {
            return Err(ConsumerGroupError::InvalidName(name.to_owned()));
        }
        if self.0.len() + 1 >= caps::CONSUMER_GROUPS_MAX {
            return Err(ConsumerGroupError::TooMany);
        }
        let made = ConsumerGroup { name: name.to_owned(), created: now };
        self.0.push(made.clone());
        Ok(Some(made))
    }

    /// Whether there was one to remove.
    pub fn remove(&mut self, name: &str) -> Result<bool, ConsumerGroupError> {
        if is_default(name) {
            return Err(ConsumerGroupError::DefaultStays);
        }
        let before = self.0.len();
        self.0.retain(|known| !known.name.eq_ignore_ascii_case(name));
        Ok(self.0.len() < before)
    }
}

pub fn is_default(name: &str) -> bool {
    name.eq_ignore_ascii_case(DEFAULT)
}

fn is_name(name: &str) -> bool {
    let is_whole = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= caps::CONSUMER_GROUP_NAME_CHARACTERS_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte))
        && is_whole(bytes.first())
        && is_whole(bytes.last())
}

impl From<StoreError> for ConsumerGroupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CommitError> for ConsumerGroupError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Conflict,
            other => Self::Store(other.unconditional()),
        }
    }
}

impl MayConflict for ConsumerGroupError {
    fn is_conflict(&self) -> bool {
        *self == Self::Conflict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn a_group_is_made_once_and_removed_by_its_name_in_any_case() {
        let mut groups = ConsumerGroups::default();
        let made = groups.put("Reports", at(1)).unwrap().unwrap();
        assert_eq!(groups.put("REPORTS", at(2)), Ok(Some(made)), "as it was");
        assert!(groups.has("reports") && groups.has("$default") && !groups.has("others"));
        assert_eq!(groups.remove("reports"), Ok(true));
        assert_eq!(groups.remove("reports"), Ok(false));
        assert!(!groups.has("Reports"));
    }

    #[test]
    fn the_default_group_is_always_there() {
        let mut groups = ConsumerGroups::default();
        assert_eq!(groups.put(DEFAULT, at(1)), Ok(None));
        assert_eq!(groups.remove("$DEFAULT"), Err(ConsumerGroupError::DefaultStays));
        assert_eq!(groups.iter().count(), 0);
    }

    #[test]
    fn names_and_their_number_are_held_to_their_limits() {
        let longest = "n".repeat(caps::CONSUMER_GROUP_NAME_CHARACTERS_MAX);
        let mut groups = ConsumerGroups::default();
        for name in ["a", "a-b_c.d9", &longest] {
            assert!(groups.put(name, at(1)).is_ok(), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "ä", "a/b", "$other", &format!("{longest}n")] {
            assert_eq!(groups.put(name, at(1)), Err(ConsumerGroupError::InvalidName(name.to_owned())));
        }
        for number in groups.iter().count() + 1..caps::CONSUMER_GROUPS_MAX {
            assert!(groups.put(&format!("g{number}"), at(1)).is_ok(), "{number}");
        }
        assert_eq!(groups.put("one-more", at(1)), Err(ConsumerGroupError::TooMany));
        assert!(groups.put("a", at(1)).is_ok(), "which is there");
    }
}
