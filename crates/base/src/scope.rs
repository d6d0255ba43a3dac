//! Where a permission holds: a path of Resource Manager, from a subscription down to one instance or below.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A resource path in lower case, without a trailing slash: `/subscriptions/{s}/resourcegroups/{g}/providers/…`.
/// The empty path is the root and contains everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(String);

impl Scope {
    pub const fn root() -> Self {
        Self(String::new())
    }

    pub fn new(path: &str) -> Self {
        Self(path.trim_end_matches('/').to_ascii_lowercase())
    }

    #[must_use]
    pub fn child(&self, segment: &str) -> Self {
        Self(format!("{}/{}", self.0, segment.to_ascii_lowercase()))
    }

    /// Whether `self` is `other` or an ancestor of it, by whole segments.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_contains_its_descendants_by_whole_segments() {
        let group = Scope::new("/subscriptions/S/resourceGroups/G");
        assert!(group.contains(&Scope::new("/subscriptions/s/resourcegroups/g/providers/x")));
        assert!(group.contains(&group));
        assert!(!group.contains(&Scope::new("/subscriptions/s/resourcegroups/g2")));
        assert!(!group.contains(&Scope::new("/subscriptions/s")));
        assert!(Scope::root().contains(&group));
    }
}
