//! What a domain crate implements to have a shape stored, and what it gets back.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::table::Table;

/// A stored shape: JSON in the `doc` column of its table.
pub trait Record: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    const TABLE: Table;

    /// Whether processes keep something of such records in memory, and must hear when another one has changed them
    /// (`store::changes`).
    const IS_KEPT: bool = false;

    /// One part per key column of [`Self::TABLE`].
    fn key(&self) -> Key;

    /// The values of the table's extra indexed columns, in their order.
    fn columns(&self) -> Vec<Option<String>> {
        Vec::new()
    }
}

/// Which commit wrote a record last. Later commits have greater revisions; every record that one batch wrote has the
/// same; a revision is never used again, not even after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub(crate) u64);

impl Revision {
    pub const fn get(self) -> u64 {
        self.0
    }

    /// For a revision that was handed out before, as an etag for example. An invented one matches nothing.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A record as it was read, with the revision that a later write can insist on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<R> {
    pub record: R,
    pub revision: Revision,
}
