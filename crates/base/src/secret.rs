//! Keys and secrets: never printed, compared in constant time, made from the system's randomness.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A text that must not reach a log. `Debug` hides it; only [`Secret::expose`] gives it out.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where the texts differ.
    pub fn matches(&self, other: &str) -> bool {
        same_bytes(self.0.as_bytes(), other.as_bytes())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<&Key> for Secret {
    fn from(key: &Key) -> Self {
        Self::new(key.text())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A shared access key: the base64 text as its owner wrote it (it is echoed byte for byte) and the bytes it stands for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    text: String,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("the key is not base64")]
    NotBase64,
    #[error("the key must stand for 16 to 64 bytes")]
    Length,
}

impl Key {
    /// A new random key of `length_bytes` bytes.
    pub fn generate(length_bytes: usize) -> Self {
        Self::from_bytes(random_bytes(length_bytes))
    }

    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { text: STANDARD.encode(&bytes), bytes }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `text` is the key's; compares in a time that does not depend on where the texts differ.
    pub fn matches(&self, text: &str) -> bool {
        same_bytes(self.text.as_bytes(), text.as_bytes())
    }

    pub fn hmac_sha256(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes), message).as_ref().to_vec()
    }

    /// The key of one device of a group: HMAC of its registration id under the group's key (`dps.md` §1.6).
    #[must_use]
    pub fn derive(&self, registration_id: &str) -> Self {
        Self::from_bytes(self.hmac_sha256(registration_id.as_bytes()))
    }
}

impl std::str::FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidKey::NotBase64)?;
        if !(16..=64).contains(&bytes.len()) {
            return Err(InvalidKey::Length);
        }
        Ok(Self { text: text.to_owned(), bytes })
    }
}

impl TryFrom<String> for Key {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.text
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

/// Asked of the operating system alone: a library that mixes in the processor's timing would let no simulation be replayed.
pub fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).expect("the system's random source works, or nothing here is safe");
    bytes
}

/// `count` random bytes in lower-case hex.
pub fn random_hex(count: usize) -> String {
    random_bytes(count).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first eight bytes of the SHA-256 of `bytes`: the same on every machine and in every release.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let digest = digest::digest(&digest::SHA256, bytes);
    let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}

/// Constant-time equality; lengths are not secret.
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_key_derives_the_published_vector() {
        let group = Key::from_bytes((0..64).collect());
        assert_eq!(group.derive("dev-01").text(), "UwwVfsD5lA+qU/1oNyCqDCDeShqtT/bvsaUt7i0bKJE=");
    }

    #[test]
    fn keys_and_secrets_do_not_print_themselves() {
        assert_eq!(format!("{:?}", Key::generate(32)), "Key(***)");
        assert_eq!(format!("{:?}", Secret::new("x")), "Secret(***)");
    }

    #[test]
    fn a_key_stands_for_16_to_64_bytes() {
        assert_eq!("AAAA".parse::<Key>(), Err(InvalidKey::Length));
        assert_eq!("no base64!".parse::<Key>(), Err(InvalidKey::NotBase64));
        let text = Key::generate(16).text().to_owned();
        assert_eq!(text.parse::<Key>().unwrap().text(), text);
    }
}
