//! Paths into documents that an operator declares, so that queries over them find by index.

use std::fmt;
use std::str::FromStr;

use base::caps;

use crate::table::{self, Table};

/// A member of every digital twin, relationship or twin of a hub's devices and modules, or a member inside one:
/// `DIGITALTWINS.serialNumber`, `RELATIONSHIPS.route.lane`, `devices.tags.site`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredPath {
    collection: &'static Collection,
    members: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Collection {
    name: &'static str,
    table: &'static Table,
}

/// As queries name them, in whatever case.
const COLLECTIONS: &[Collection] = &[
    Collection { name: "DIGITALTWINS", table: &table::DIGITAL_TWIN },
    Collection { name: "RELATIONSHIPS", table: &table::RELATIONSHIP },
    Collection { name: "devices", table: &table::DEVICE_TWIN },
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no path that can be indexed: DIGITALTWINS, RELATIONSHIPS or devices, then one to five names of letters, digits \
     and underscores, with dots in between"
)]
pub struct InvalidDeclaredPath(String);

impl DeclaredPath {
    pub(crate) fn table(&self) -> &'static Table {
        self.collection.table
    }

    pub(crate) fn members(&self) -> &[String] {
        &self.members
    }
}

impl FromStr for DeclaredPath {
    type Err = InvalidDeclaredPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDeclaredPath(text.chars().take(caps::DECLARED_PATH_CHARACTERS_MAX).collect());
        let (name, path) = text.split_once('.').ok_or_else(invalid)?;
        let collection = COLLECTIONS.iter().find(|collection| collection.name.eq_ignore_ascii_case(name));
        let collection = collection.ok_or_else(invalid)?;
        let members: Vec<String> = path.split('.').map(str::to_owned).collect();
        let is_name = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let is_short = text.len() <= caps::DECLARED_PATH_CHARACTERS_MAX;
        if is_short && members.len() <= caps::DECLARED_PATH_MEMBERS_MAX && members.iter().all(is_name) {
            Ok(Self { collection, members })
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for DeclaredPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.collection.name, self.members.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_collection_and_plain_names() {
        for text in ["DIGITALTWINS.serial", "RELATIONSHIPS.a.b_1.c.d.e", "devices.properties.reported.level"]
        {
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
