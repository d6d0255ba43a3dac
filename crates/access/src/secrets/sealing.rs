//! The operator's key and what it does: AES-256-GCM with a random nonce, bound to the name of what is sealed. Called by the vault.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::record::Sealed;

const KEY_BYTES: usize = 32;

/// Clones share it.
#[derive(Clone)]
pub struct SealingKey(Arc<Inner>);

struct Inner {
    key: RandomizedNonceKey,
    id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must hold 32 random bytes, as base64 or as 64 hex digits. This makes one: openssl rand -base64 32"
)]
pub struct InvalidSealingKey;

impl FromStr for SealingKey {
    type Err = InvalidSealingKey;

    fn from_str(text: &str) -> Result<Self, InvalidSealingKey> {
        let text = text.trim();
        let bytes = if text.len() == 2 * KEY_BYTES { from_hex(text) } else { STANDARD.decode(text).ok() };
        let bytes = bytes.filter(|bytes| bytes.len() == KEY_BYTES).ok_or(InvalidSealingKey)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| InvalidSealingKey)?;
        // It names the key and tells nothing of it.
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"twinhub cluster key");
        let id = mac.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(Arc::new(Inner { key, id })))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.0.id)
    }
}

impl SealingKey {
    /// By which keys are told apart.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn seal(&self, name: &str, text: &str) -> Sealed {
        let mut bytes = text.as_bytes().to_vec();
        let sealed = self.0.key.seal_in_place_append_tag(bound_to(name), &mut bytes);
        let nonce = sealed.expect("AES-GCM seals any text that fits in memory");
        Sealed {
            key_id: self.0.id.clone(),
            nonce: STANDARD.encode(nonce.as_ref()),
            ciphertext: STANDARD.encode(bytes),
        }
    }

    /// What was sealed with this key under this name.
    pub(super) fn open(&self, name: &str, sealed: &Sealed) -> Option<String> {
        let nonce = STANDARD.decode(&sealed.nonce).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let mut bytes = STANDARD.decode(&sealed.ciphertext).ok()?;
        let text = self.0.key.open_in_place(nonce, bound_to(name), &mut bytes).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }
}

/// What is sealed under one name opens under no other.
fn bound_to(name: &str) -> Aad<String> {
    Aad::from(format!("twinhub.server_secret/{name}"))
}
