//! Keys of records and the ranges that reads go over.

use base::InstanceId;
use serde::{Deserialize, Serialize};

/// The key of a record, or a prefix of one: its parts in the order of the table's key columns. The first part is the
/// instance id, or a fixed realm such as `directory` for what belongs to no instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Vec<String>);

impl Key {
    /// `Key::new([hub.as_str(), "dev1", ""])`.
    pub fn new<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Self {
        Self(parts.into_iter().map(|part| part.as_ref().to_owned()).collect())
    }

    /// The prefix of everything.
    pub const fn all() -> Self {
        Self(Vec::new())
    }

    /// The prefix of everything that belongs to `instance`.
    pub fn instance(instance: &InstanceId) -> Self {
        Self::new([instance.as_str()])
    }

    #[must_use]
    pub fn child(&self, part: impl Into<String>) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.into());
        Self(parts)
    }

    pub fn parts(&self) -> &[String] {
        &self.0
    }
}

/// Records under a prefix, in key order (bytewise).
#[derive(Clone, Debug)]
pub struct Scan {
    pub prefix: Key,
    /// Starts behind this key. A shorter key than the table's skips everything below it.
    pub after: Option<Key>,
    pub limit: usize,
}

impl Scan {
    pub fn new(prefix: Key, limit: usize) -> Self {
        Self { prefix, after: None, limit }
    }

    #[must_use]
    pub fn after(mut self, key: Option<Key>) -> Self {
        self.after = key;
        self
    }
}

/// Records under a prefix whose declared extra column holds a value, in the order of that column's index, which is key order
/// unless the table says otherwise.
#[derive(Clone, Debug)]
pub struct Find {
    pub prefix: Key,
    pub column: &'static str,
    pub value: String,
    /// Starts behind this: the prefix, then the columns of the order.
    pub after: Option<Key>,
    pub limit: usize,
}

impl Find {
    pub fn new(prefix: Key, column: &'static str, value: impl Into<String>, limit: usize) -> Self {
        Self { prefix, column, value: value.into(), after: None, limit }
    }

    #[must_use]
    pub fn after(mut self, key: Option<Key>) -> Self {
        self.after = key;
        self
    }
}
