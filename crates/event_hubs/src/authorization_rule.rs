//! Authorization rules: a name, two keys, and what whoever holds one of them may do. Pure.

use base::{Key, caps};
use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessRight {
    Listen,
    Manage,
    Send,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationRule {
    pub name: String,
    pub rights: Vec<AccessRight>,
    pub primary_key: Key,
    pub secondary_key: Key,
}

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

impl AuthorizationRule {
    /// A rule with two new keys.
    pub fn generate(name: &str, rights: &[AccessRight]) -> Self {
        let (primary_key, secondary_key) = (Key::generate(32), Key::generate(32));
        Self { name: name.to_owned(), rights: rights.to_vec(), primary_key, secondary_key }
    }

    fn has_key(&self, key: &str) -> bool {
        let same = |own: &Key| base::secret::same_bytes(own.text().as_bytes(), key.as_bytes());
        same(&self.primary_key) || same(&self.secondary_key)
    }

    fn may_send(&self) -> bool {
        self.rights.contains(&AccessRight::Send) || self.rights.contains(&AccessRight::Manage)
    }
}

/// Whether one of `rules` lets the holder of a key send.
pub(crate) fn lets_send<'a>(
    mut rules: impl Iterator<Item = &'a AuthorizationRule>,
    key_name: &str,
    key: &str,
) -> bool {
    rules.any(|rule| rule.name == key_name && rule.has_key(key) && rule.may_send())
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
    if let Some(rule) = rules.iter_mut().find(|rule| rule.name.eq_ignore_ascii_case(name)) {
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
    rules.retain(|rule| !rule.name.eq_ignore_ascii_case(name));
    rules.len() < before
}

#[cfg(test)]
mod tests {
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
}
