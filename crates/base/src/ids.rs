//! Checked identifiers. Parsing is the only way to get one, so the rest of the house cannot hold a bad one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::caps;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} '{value}' is not valid: {rule}")]
pub struct InvalidId {
    pub kind: &'static str,
    pub value: String,
    pub rule: &'static str,
}

/// Declares a string type whose only constructor checks it.
#[macro_export]
macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $rule:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ids::InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                let value = text.chars().take($crate::caps::ID_CHARACTERS_MAX).collect();
                Err($crate::ids::InvalidId { kind: stringify!($name), value, rule: $rule })
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::ids::InvalidId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_device_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= caps::ID_CHARACTERS_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:.+%_#*?!(),=@;$'".contains(&b))
}

checked_string!(
    /// A device's id: 1–128 of `A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ ; $ '`, case-sensitive
    /// (IoT Hub developer guide, identity registry).
    DeviceId,
    "1 to 128 characters of A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ ; $ '",
    is_device_id
);

checked_string!(
    /// A module's id; the same alphabet as [`DeviceId`].
    ModuleId,
    "1 to 128 characters of A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ ; $ '",
    is_device_id
);

/// The immutable id of one hub, provisioning service, Digital Twins instance or event hub namespace. It leads every key,
/// session and stream of that instance. Made once at creation, so that a later instance of the same name sees nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// `hub-myhub-1f9a03c2…`: readable, and unique over time.
    pub fn generate(kind: &str, name: &str) -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("{kind}-{}-{}", name.to_ascii_lowercase(), &unique[..12]))
    }

    /// For ids read back from a key, and for tests that want a fixed one.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device or one of its modules: whatever holds a session, a twin and keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdentityId {
    pub device_id: DeviceId,
    pub module_id: Option<ModuleId>,
}

impl IdentityId {
    pub fn device(device_id: DeviceId) -> Self {
        Self { device_id, module_id: None }
    }

    pub fn module(device_id: DeviceId, module_id: ModuleId) -> Self {
        Self { device_id, module_id: Some(module_id) }
    }

    /// The module id, or the empty string for the device itself: the second key column of every identity's record.
    pub fn module_key(&self) -> &str {
        self.module_id.as_ref().map_or("", ModuleId::as_str)
    }
}

impl fmt::Display for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module_id {
            None => write!(f, "{}", self.device_id),
            Some(module_id) => write!(f, "{}/{module_id}", self.device_id),
        }
    }
}

/// Accepts exactly the text that [`IdentityId`]'s `Display` writes: the MQTT client id of the identity.
impl FromStr for IdentityId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            None => Ok(Self::device(text.parse()?)),
            Some((device_id, module_id)) => Ok(Self::module(device_id.parse()?, module_id.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_takes_azures_alphabet_and_nothing_else() {
        assert!("a-:.+%_#*?!(),=@;$'9".parse::<DeviceId>().is_ok());
        assert!("x".repeat(128).parse::<DeviceId>().is_ok());
        for bad in ["", "a b", "a/b", "ä", "a&b", &"x".repeat(129)] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_identity_reads_back_what_it_writes() {
        for text in ["dev1", "dev1/mod1", "dev1/$edgeHub"] {
            assert_eq!(text.parse::<IdentityId>().unwrap().to_string(), text);
        }
        assert!("a/b/c".parse::<IdentityId>().is_err());
    }
}
