//! Shared access policies: a name, two keys, and what whoever holds one of them may do. Hubs and provisioning services have
//! them, event hubs call them authorization rules; each brings its own rights. Pure: called where keys and tokens are judged.

use base::sas::SasToken;
use base::{ConnectionString, Key, Timestamp};
use serde::{Deserialize, Serialize};

use crate::permission::Right;

/// New keys have this many bytes.
pub const KEY_BYTES: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedAccessPolicy<R = Right> {
    pub key_name: String,
    pub primary_key: Key,
    pub secondary_key: Key,
    pub rights: Vec<R>,
}

impl<R: Copy + PartialEq> SharedAccessPolicy<R> {
    /// A policy with two new keys.
    pub fn generate(key_name: &str, rights: &[R]) -> Self {
        let (primary_key, secondary_key) = (Key::generate(KEY_BYTES), Key::generate(KEY_BYTES));
        Self { key_name: key_name.to_owned(), primary_key, secondary_key, rights: rights.to_vec() }
    }

    /// Whether `key` is one of the two.
    pub fn has_key(&self, key: &str) -> bool {
        self.keys().iter().any(|own| own.matches(key))
    }

    pub fn has_rights(&self, wanted: &[R]) -> bool {
        wanted.iter().all(|right| self.rights.contains(right))
    }

    /// Opens the instance at `host` with the primary key.
    pub fn connection_string(&self, host: &str) -> ConnectionString {
        ConnectionString::to_instance(host, &self.key_name, &self.primary_key)
    }

    fn keys(&self) -> [&Key; 2] {
        [&self.primary_key, &self.secondary_key]
    }
}

/// The policy that a token names, provided that one of its keys signed it and that it has not expired. Else what is wrong, which
/// is for the log alone. What the token is made out to is for the instance to judge.
pub fn vouching<'a, R: Copy + PartialEq>(
    policies: &'a [SharedAccessPolicy<R>],
    token: &SasToken,
    now: Timestamp,
) -> Result<&'a SharedAccessPolicy<R>, &'static str> {
    let named = token.key_name().and_then(|name| policies.iter().find(|policy| policy.key_name == name));
    let policy = named.ok_or("no policy has the token's name")?;
    token.check(policy.keys(), now)?;
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::sas;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn token(key: &Key, key_name: &str, lifetime: Duration) -> SasToken {
        SasToken::parse(&sas::build("host", key, NOW.plus(lifetime), Some(key_name))).unwrap()
    }

    #[test]
    fn either_key_of_the_named_policy_vouches_for_a_token_and_no_other() {
        let policies = ["a", "b"].map(|name| SharedAccessPolicy::generate(name, &[Right::ServiceConnect]));
        let hour = Duration::from_hours(1);
        let named = |key: &Key, name| {
            vouching(&policies, &token(key, name, hour), NOW).map(|policy| policy.key_name.as_str())
        };
        for key in policies[0].keys() {
            assert_eq!(named(key, "a"), Ok("a"));
            assert_eq!(named(key, "b"), Err("the token is signed with another key"));
            assert_eq!(named(key, "A"), Err("no policy has the token's name"), "names have a case");
        }
        let own =
            SasToken::parse(&sas::build("host", &policies[0].primary_key, NOW.plus(hour), None)).unwrap();
        assert!(vouching(&policies, &own, NOW).is_err(), "it names no policy");
    }

    #[test]
    fn no_policy_vouches_for_a_token_that_has_expired() {
        let policies = [SharedAccessPolicy::generate("a", &[Right::ServiceConnect])];
        let token = token(&policies[0].primary_key, "a", Duration::from_secs(1));
        let late = NOW.plus(Duration::from_hours(1));
        assert!(vouching(&policies, &token, NOW).is_ok());
        assert_eq!(vouching(&policies, &token, late), Err("the token has expired"));
    }

    #[test]
    fn both_keys_of_a_policy_are_its_own_and_a_right_it_lacks_it_has_not() {
        let policy = SharedAccessPolicy::generate("a", &[Right::RegistryRead, Right::ServiceConnect]);
        assert!(policy.has_key(policy.primary_key.text()) && policy.has_key(policy.secondary_key.text()));
        assert!(!policy.has_key("") && !policy.has_key(Key::generate(KEY_BYTES).text()));
        assert!(policy.has_rights(&[Right::ServiceConnect, Right::RegistryRead]));
        assert!(!policy.has_rights(&[Right::ServiceConnect, Right::RegistryWrite]));
    }

    #[test]
    fn a_policy_is_stored_as_it_always_was() {
        let policy = SharedAccessPolicy::generate("a", &[Right::RegistryRead]);
        let stored = serde_json::to_value(&policy).unwrap();
        let (primary, secondary) = (policy.primary_key.text(), policy.secondary_key.text());
        let expected = serde_json::json!({
            "keyName": "a", "primaryKey": primary, "secondaryKey": secondary, "rights": ["RegistryRead"]});
        assert_eq!(stored, expected);
    }
}
