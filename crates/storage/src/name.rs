//! Names of accounts, containers and blobs, as Azure allows them. Parsing is the only way to one, so that
//! no name that could leave its container, or that a listing could not write, goes further than the door.

use std::fmt;
use std::str::FromStr;

use base::caps;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Azure's `OutOfRangeInput`.
    #[error("The specified resource name length is not within the permissible limits.")]
    Length,
    /// Azure's `InvalidResourceName`.
    #[error("The specified resource name contains invalid characters.")]
    Characters,
}

/// 3 to 24 lower-case letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(String);

/// 3 to 63 lower-case letters, digits and single dashes between them; or one of Azure's own, `$root` and `$web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName(String);

/// 1 to 1024 characters in at most 254 segments. Ordered by its bytes, as listings are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName(String);

impl FromStr for AccountName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        length(text, 3, caps::STORAGE_ACCOUNT_NAME_CHARACTERS_MAX)?;
        let is_valid = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidName::Characters) }
    }
}

impl FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if matches!(text, "$root" | "$web") {
            return Ok(Self(text.to_owned()));
        }
        length(text, 3, caps::CONTAINER_NAME_CHARACTERS_MAX)?;
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.split('-').all(is_word) { Ok(Self(text.to_owned())) } else { Err(InvalidName::Characters) }
    }
}

impl FromStr for BlobName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        length(text, 1, caps::BLOB_NAME_CHARACTERS_MAX)?;
        if text.split('/').count() > caps::BLOB_NAME_SEGMENTS_MAX {
            return Err(InvalidName::Length);
        }
        // A client that resolves `..` would ask for another blob than the one that was written.
        let climbs = text.split('/').any(|segment| matches!(segment, "." | ".."));
        if climbs || text.contains(no_listing_can_write) {
            return Err(InvalidName::Characters);
        }
        Ok(Self(text.to_owned()))
    }
}

impl BlobName {
    /// From what follows the container in a path, once decoded: `%2F` is a `/`, because some clients escape the whole name.
    pub fn from_path(encoded: &str) -> Result<Self, InvalidName> {
        percent_decode_str(encoded).decode_utf8().map_err(|_| InvalidName::Characters)?.parse()
    }
}

fn length(text: &str, least: usize, most: usize) -> Result<(), InvalidName> {
    let characters = text.chars().take(most + 1).count();
    if (least..=most).contains(&characters) { Ok(()) } else { Err(InvalidName::Length) }
}

/// XML 1.0 has no way to write these.
fn no_listing_can_write(c: char) -> bool {
    c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')
}

macro_rules! text_of {
    ($($name:ty),*) => {$(
        /// Names come back from records as they went in.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_of!(AccountName, ContainerName, BlobName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container(text: &str) -> Result<ContainerName, InvalidName> {
        text.parse()
    }

    fn blob(text: &str) -> Result<String, InvalidName> {
        BlobName::from_path(text).map(|name| name.to_string())
    }

    #[test]
    fn a_container_is_named_as_azure_allows() {
        for good in ["abc", "a-b-c", "0x1", "$root", "$web", &"a".repeat(63)] {
            assert_eq!(container(good).as_ref().map(ContainerName::as_str), Ok(good));
        }
        for long in ["", "ab", &"a".repeat(64)] {
            assert_eq!(container(long), Err(InvalidName::Length), "{long}");
        }
        for wrong in ["Abc", "a--b", "-ab", "ab-", "a_b", "a.b", "a/b", "../", "$logs", "äöü"] {
            assert_eq!(container(wrong), Err(InvalidName::Characters), "{wrong}");
        }
    }

    #[test]
    fn an_account_is_named_in_lower_case_and_without_dashes() {
        let account = |text: &str| text.parse::<AccountName>();
        assert!(account("devstoreaccount1").is_ok() && account(&"a".repeat(24)).is_ok());
        assert_eq!(account("ab"), Err(InvalidName::Length));
        assert_eq!(account(&"a".repeat(25)), Err(InvalidName::Length));
        assert_eq!(account("my-account"), Err(InvalidName::Characters));
        assert_eq!(account("Account"), Err(InvalidName::Characters));
    }

    #[test]
    fn an_escaped_slash_is_a_slash_and_no_path_leaves_its_container() {
        assert_eq!(blob("dev%201%2Fa%2Bb%20%C3%A9.txt").unwrap(), "dev 1/a+b é.txt");
        assert_eq!(blob("a+b").unwrap(), "a+b");
        assert_eq!(blob("a/b..c/...").unwrap(), "a/b..c/...");
        for climbing in ["..", "../a", "a/../b", "a%2F..%2Fb", "%2e%2e/a", "a/.", "./a", "a%2f%2e%2e"] {
            assert_eq!(blob(climbing), Err(InvalidName::Characters), "{climbing}");
        }
        for unwritable in ["a%00b", "a%0Ab", "%FF", "a%EF%BF%BE"] {
            assert_eq!(blob(unwritable), Err(InvalidName::Characters), "{unwritable}");
        }
    }

    #[test]
    fn a_blob_has_a_name_of_bounded_length_in_characters() {
        assert_eq!(blob(""), Err(InvalidName::Length));
        assert!(blob(&"é".repeat(1024)).is_ok());
        assert_eq!(blob(&"a".repeat(1025)), Err(InvalidName::Length));
        assert!(blob(&["a"; 254].join("/")).is_ok());
        assert_eq!(blob(&["a"; 255].join("/")), Err(InvalidName::Length));
    }

    proptest! {
        #[test]
        fn a_name_that_is_taken_has_no_segment_that_climbs(text in "[a./%2eEfF]{0,40}") {
            if let Ok(name) = BlobName::from_path(&text) {
                prop_assert!(name.as_str().split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
