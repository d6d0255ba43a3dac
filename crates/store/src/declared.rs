//! Paths into documents that an operator declares, so that queries over them find by index.

use std::fmt;
use std::str::FromStr;

use base::caps;

use crate::table::{self, Table};

/// A member of every digital twin or relationship, or a member inside one: `DIGITALTWINS.serialNumber`,
/// `RELATIONSHIPS.route.lane`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredPath {
    of_relationships: bool,
    members: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no path that can be indexed: DIGITALTWINS or RELATIONSHIPS, then one to five names of letters, digits and \
     underscores, with dots in between"
)]
pub struct InvalidDeclaredPath(String);

impl DeclaredPath {
    pub(crate) fn table(&self) -> &'static Table {
        if self.of_relationships { &table::RELATIONSHIP } else { &table::DIGITAL_TWIN }
    }

    pub(crate) fn members(&self) -> &[String] {
        &self.members
    }
}

impl FromStr for DeclaredPath {
    type Err = InvalidDeclaredPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDeclaredPath(text.chars().take(caps::DECLARED_PATH_CHARACTERS_MAX).collect());
        let (collection, path) = text.split_once('.').ok_or_else(invalid)?;
        let of_relationships = match collection.to_ascii_uppercase().as_str() {
            "DIGITALTWINS" => false,
            "RELATIONSHIPS" => true,
            _ => return Err(invalid()),
        };
        let members: Vec<String> = path.split('.').map(str::to_owned).collect();
        let is_name = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let is_short = text.len() <= caps::DECLARED_PATH_CHARACTERS_MAX;
        if is_short && members.len() <= caps::DECLARED_PATH_MEMBERS_MAX && members.iter().all(is_name) {
            Ok(Self { of_relationships, members })
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for DeclaredPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collection = if self.of_relationships { "RELATIONSHIPS" } else { "DIGITALTWINS" };
        write!(f, "{collection}.{}", self.members.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_collection_and_plain_names() {
        for text in ["DIGITALTWINS.serial", "RELATIONSHIPS.a.b_1.c.d.e"] {
            assert_eq!(text.parse::<DeclaredPath>().unwrap().to_string(), text);
        }
        assert_eq!("digitaltwins.x".parse::<DeclaredPath>().unwrap().to_string(), "DIGITALTWINS.x");
        let long = format!("DIGITALTWINS.{}", "x".repeat(caps::DECLARED_PATH_CHARACTERS_MAX));
        for text in [
            "",
            "serial",
            "DIGITALTWINS",
            "DIGITALTWINS.",
            "TWINS.x",
            "DIGITALTWINS.a..b",
            "DIGITALTWINS.$dtId",
            "DIGITALTWINS.a'b",
            "DIGITALTWINS.a.b.c.d.e.f",
            &long,
        ] {
            assert!(text.parse::<DeclaredPath>().is_err(), "{text}");
        }
    }
}
