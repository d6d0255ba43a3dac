//! A secret of the server's own as a database holds it.

use base::Secret;
use serde::{Deserialize, Serialize};
use store::{Key, Record, Table, table};

/// The first key column: they belong to no instance.
const REALM: &str = "server";
pub(super) const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SecretRecord {
    pub(super) name: String,
    /// Of what is beside it.
    pub(super) version: u32,
    #[serde(flatten)]
    pub(super) content: Content,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "algorithm")]
pub(super) enum Content {
    #[serde(rename = "none")]
    Clear { text: Secret },
    #[serde(rename = "AES-256-GCM")]
    Sealed(Sealed),
}

/// Nonce and ciphertext, whose last 16 bytes are the tag, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) key_id: String,
    pub(super) nonce: String,
    pub(super) ciphertext: String,
}

pub(super) fn key_of(name: &str) -> Key {
    Key::new([REALM, name])
}

impl Record for SecretRecord {
    const TABLE: Table = table::SERVER_SECRET;

    fn key(&self) -> Key {
        key_of(&self.name)
    }
}
