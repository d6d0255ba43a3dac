//! Tokens whose signature was verified, so that a caller who comes again costs a hash and not an RSA operation. Known by a digest
//! under a key of this process: no text of a token is kept, and nobody outside can choose what is compared here, nor learn from
//! how long it takes. Whether a token has expired and whom it is for is asked of its claims each time.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use base::{Timestamp, caps};
use parking_lot::Mutex;

use crate::token::Claims;

type Digest = [u8; 32];

pub(super) struct Verified {
    key: hmac::Key,
    kept: Mutex<HashMap<Digest, Arc<Claims>>>,
}

impl Verified {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new());
        Self { key: key.expect("the system gives random bytes"), kept: Mutex::default() }
    }

    /// The claims of a token that was verified before, or else what `verify` says.
    pub(super) fn claims<E>(
        &self,
        token: &str,
        now: Timestamp,
        verify: impl FnOnce() -> Result<Claims, E>,
    ) -> Result<Arc<Claims>, E> {
        let digest = self.digest(token);
        if let Some(claims) = self.kept.lock().get(&digest) {
            return Ok(Arc::clone(claims));
        }
        let claims = Arc::new(verify()?);
        let mut kept = self.kept.lock();
        if kept.len() >= caps::VERIFIED_TOKENS_MAX {
            kept.retain(|_, claims| Timestamp::from_unix_seconds(claims.exp) > now);
        }
        if kept.len() >= caps::VERIFIED_TOKENS_MAX {
            kept.clear();
        }
        kept.insert(digest, Arc::clone(&claims));
        Ok(claims)
    }

    /// For a change of keys or roles: whoever comes next is verified anew.
    pub(super) fn forget(&self) {
        self.kept.lock().clear();
    }

    fn digest(&self, token: &str) -> Digest {
        let tag = hmac::sign(&self.key, token.as_bytes());
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_750_000_000;

    fn claims(expires_at: i64) -> Claims {
        serde_json::from_value(serde_json::json!({
            "aud": "a", "iss": "i", "iat": 0, "nbf": 0, "exp": expires_at, "oid": "o", "sub": "s", "tid": "t", "ver": "1.0",
        }))
        .unwrap()
    }

    /// Whether the token had to be verified.
    fn is_verified(verified: &Verified, token: &str, expires_at: i64) -> bool {
        let mut asked = false;
        let verify = || {
            asked = true;
            Ok::<_, ()>(claims(expires_at))
        };
        verified.claims(token, Timestamp::from_unix_seconds(NOW), verify).unwrap();
        asked
    }

    #[test]
    fn a_token_is_verified_once_until_it_is_forgotten_and_a_refused_one_each_time() {
        let verified = Verified::new();
        assert!(is_verified(&verified, "a.b.c", NOW + 1));
        assert!(!is_verified(&verified, "a.b.c", NOW + 1));
        assert!(is_verified(&verified, "a.b.d", NOW + 1), "another token is another token");
        verified.forget();
        assert!(is_verified(&verified, "a.b.c", NOW + 1));
        for _ in 0..2 {
            assert_eq!(
                verified.claims("forged", Timestamp::from_unix_seconds(NOW), || Err(7)).unwrap_err(),
                7
            );
        }
        assert_eq!(verified.len(), 1);
    }

    #[test]
    fn the_number_of_tokens_is_bounded_and_expired_ones_go_first() {
        let verified = Verified::new();
        assert!(is_verified(&verified, "lasting", NOW + 1));
        for number in 1..caps::VERIFIED_TOKENS_MAX {
            is_verified(&verified, &number.to_string(), NOW - 1);
        }
        assert_eq!(verified.len(), caps::VERIFIED_TOKENS_MAX);
        assert!(is_verified(&verified, "one more", NOW + 1));
        assert_eq!(verified.len(), 2);
        assert!(!is_verified(&verified, "lasting", NOW + 1));
        for number in 0..caps::VERIFIED_TOKENS_MAX * 2 {
            is_verified(&verified, &format!("living {number}"), NOW + 1);
            assert!(verified.len() <= caps::VERIFIED_TOKENS_MAX);
        }
    }
}
