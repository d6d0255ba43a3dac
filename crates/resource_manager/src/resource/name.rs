//! What a resource of each type may be called. Pure; the name check and every PUT ask here.

use std::ops::RangeInclusive;

use crate::provider::ResourceType;

/// How the names of a type are made: their length, and what the rest of the rule says.
struct Rule {
    length: RangeInclusive<usize>,
    is_allowed: fn(&str) -> bool,
    words: &'static str,
}

impl ResourceType {
    fn name_rule(self) -> Rule {
        const ENDS: &str =
            "Alphanumerics and hyphens are allowed. Value must start and end with an alphanumeric.";
        const WORD: &str = "Alphanumerics and hyphens are allowed. Value must start and end with an alphanumeric and not be a number.";
        let rule = |length, is_allowed, words| Rule { length, is_allowed, words };
        match self {
            Self::DigitalTwinsInstance => rule(3..=63, is_hyphenated, ENDS),
            Self::DigitalTwinsEndpoint => rule(3..=49, is_hyphenated_word, WORD),
            Self::IotHub => rule(3..=50, is_hyphenated_word, WORD),
            Self::ProvisioningService => rule(3..=64, is_hyphenated_word, WORD),
            Self::EventHubNamespace => rule(
                6..=50,
                |name| is_hyphenated(name) && name.starts_with(|c: char| c.is_ascii_alphabetic()),
                "Alphanumerics and hyphens are allowed. Value must start with a letter and end with an alphanumeric.",
            ),
            Self::EventHub => rule(
                1..=256,
                is_dotted,
                "Alphanumerics, hyphens, underscores and periods are allowed. Value must start and end with an alphanumeric.",
            ),
            Self::StorageAccount => rule(
                3..=24,
                |name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
                "Lower-case letters and digits are allowed.",
            ),
            Self::UserAssignedIdentity => rule(
                3..=128,
                |name| consists_of(name, "-_") && starts_well(name),
                "Alphanumerics, hyphens and underscores are allowed. Value must start with an alphanumeric.",
            ),
        }
    }

    /// What is wrong with a name, in the words of the live name check (`arm-and-auth.md` §2.1).
    pub fn check_name(self, name: &str) -> Result<(), String> {
        let rule = self.name_rule();
        if rule.length.contains(&name.len()) && (rule.is_allowed)(name) {
            return Ok(());
        }
        let (least, most) = rule.length.into_inner();
        Err(format!("'{name}' must be between {least} and {most} characters. {}", rule.words))
    }
}

fn consists_of(name: &str, marks: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

fn starts_well(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn ends_well(name: &str) -> bool {
    name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_hyphenated(name: &str) -> bool {
    consists_of(name, "-") && starts_well(name) && ends_well(name)
}

fn is_hyphenated_word(name: &str) -> bool {
    is_hyphenated(name) && !name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The names of event hubs and of the authorization rules of both.
pub(crate) fn is_dotted(name: &str) -> bool {
    consists_of(name, "-_.") && starts_well(name) && ends_well(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_letters_digits_and_what_their_type_allows() {
        use ResourceType as T;
        for (kind, good, bad) in [
            (
                T::DigitalTwinsInstance,
                &["abc", "1-2", "123"][..],
                &["ab", "-abc", "abc-", "a.c", "a_c", "äbc"][..],
            ),
            (T::DigitalTwinsEndpoint, &["abc", "1a2"], &["ab", "123", "a_b", "-ab"]),
            (T::IotHub, &["abc", "a-b"], &["ab", "123", "ab-", "a.b"]),
            (T::ProvisioningService, &["abc"], &["ab", "123"]),
            (T::EventHubNamespace, &["abcdef"], &["abcde", "1bcdef", "abcde-", "abc_ef"]),
            (T::EventHub, &["a", "a.b_c-d"], &["", "-a", "a.", "a/b"]),
            (T::StorageAccount, &["abc", "123"], &["ab", "Abc", "a-b", "a_b"]),
            (T::UserAssignedIdentity, &["abc", "a_-"], &["ab", "-ab", "a.b"]),
        ] {
            for name in good {
                assert_eq!(kind.check_name(name), Ok(()), "{kind:?}");
            }
            for name in bad {
                assert!(kind.check_name(name).is_err(), "{kind:?} {name}");
            }
        }
    }
}
