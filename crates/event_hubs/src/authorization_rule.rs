//! Authorization rules: the shared access policies of namespaces and event hubs, and which of them let send. Pure.

use access::SharedAccessPolicy;
use base::caps;
use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessRight {
    Listen,
    Manage,
    Send,
}

/// As Event Hubs calls a shared access policy.
pub type AuthorizationRule = SharedAccessPolicy<AccessRight>;

impl AccessRight {
    pub const ALL: [Self; 3] = [Self::Listen, Self::Manage, Self::Send];

    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "Listen",
            Self::Manage => "Manage",
            Self::Send => "Send",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name().eq_ignore_ascii_case(text))
    }
}

fn may_send(rule: &AuthorizationRule) -> bool {
    rule.rights.contains(&AccessRight::Send) || rule.rights.contains(&AccessRight::Manage)
}

/// Whether one of `rules` lets the holder of a key send.
pub(crate) fn lets_send<'a>(
    mut rules: impl Iterator<Item = &'a AuthorizationRule>,
    key_name: &str,
    key: &str,
) -> bool {
    rules.any(|rule| rule.key_name == key_name && rule.has_key(key) && may_send(rule))
}

/// A PUT: a rule that is there keeps its keys.
pub(crate) fn put(
    rules: &mut Vec<AuthorizationRule>,
    name: &str,
    rights: &[String],
) -> Result<AuthorizationRule, Error> {
    let parsed: Option<Vec<AccessRight>> = rights.iter().map(|right| AccessRight::parse(right)).collect();
    let rights = parsed.filter(|rights| !rights.is_empty()).ok_or(Error::UnknownRights)?;
    if rights.contains(&AccessRight::Manage) && rights.len() < AccessRight::ALL.len() {
        return Err(Error::ManageAlone);
    }
    if let Some(rule) = rules.iter_mut().find(|rule| rule.key_name.eq_ignore_ascii_case(name)) {
        rule.rights = rights;
        return Ok(rule.clone());
    }
    if rules.len() >= caps::AUTHORIZATION_RULES_MAX {
        return Err(Error::TooManyRules(caps::AUTHORIZATION_RULES_MAX));
    }
    let rule = AuthorizationRule::generate(name, &rights);
    rules.push(rule.clone());
    Ok(rule)
}

/// Whether there was one to remove.
pub(crate) fn remove(rules: &mut Vec<AuthorizationRule>, name: &str) -> bool {
    let before = rules.len();
    rules.retain(|rule| !rule.key_name.eq_ignore_ascii_case(name));
    rules.len() < before
}

/// How rules are stored, under names of their own: for `serde(with)`.
pub(crate) mod record {
    use base::Key;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{AccessRight, AuthorizationRule};

    #[derive(Serialize, Deserialize)]
    struct Rule {
        name: String,
        rights: Vec<AccessRight>,
        primary_key: Key,
        secondary_key: Key,
    }

    pub(crate) fn serialize<S: Serializer>(rules: &[AuthorizationRule], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(rules.iter().cloned().map(|rule| Rule {
            name: rule.key_name,
            rights: rule.rights,
            primary_key: rule.primary_key,
            secondary_key: rule.secondary_key,
        }))
    }

    pub(crate) fn deserialize<'de, D>(from: D) -> Result<Vec<AuthorizationRule>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let rules = Vec::<Rule>::deserialize(from)?.into_iter().map(|rule| AuthorizationRule {
            key_name: rule.name,
            rights: rule.rights,
            primary_key: rule.primary_key,
            secondary_key: rule.secondary_key,
        });
        Ok(rules.collect())
    }
}

#[cfg(test)]
mod tests {
    use base::Key;

    use super::*;

    #[test]
    fn a_rule_keeps_its_keys_and_lets_send_who_holds_one() {
        let mut rules = Vec::new();
        let rule = put(&mut rules, "send", &["Send".into()]).unwrap();
        let lets = |rules: &[_], name, key: &Key| lets_send(rules.iter(), name, key.text());
        assert!(lets(&rules, "send", &rule.primary_key) && lets(&rules, "send", &rule.secondary_key));
        assert!(!lets(&rules, "other", &rule.primary_key) && !lets(&rules, "send", &Key::generate(32)));
        assert_eq!(put(&mut rules, "SEND", &["Listen".into()]).unwrap().primary_key, rule.primary_key);
        assert!(!lets(&rules, "send", &rule.primary_key));
        assert_eq!(put(&mut rules, "m", &["Manage".into()]), Err(Error::ManageAlone));
        assert_eq!(put(&mut rules, "m", &[]), Err(Error::UnknownRights));
        assert!(remove(&mut rules, "Send") && !remove(&mut rules, "send"));
    }

    #[test]
    fn a_record_holds_rules_under_the_names_it_had_from_the_first() {
        let rule = AuthorizationRule::generate("a", &[AccessRight::Send]);
        let (primary, secondary) = (rule.primary_key.text(), rule.secondary_key.text());
        let expected = serde_json::json!([{
            "name": "a", "rights": ["Send"], "primary_key": primary, "secondary_key": secondary}]);
        let stored = record::serialize(std::slice::from_ref(&rule), serde_json::value::Serializer).unwrap();
        assert_eq!(stored, expected);
        assert_eq!(record::deserialize(expected).unwrap(), [rule]);
    }
}
