//! What holds a message, or notices, for one who has taken them and not said yet what became of them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base::Timestamp;
use base::secret::random_bytes;
use serde::{Deserialize, Serialize};

/// What becomes of something that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    Complete,
    Reject,
    Abandon,
}

/// Names what it holds by number, so that whoever settles need not be looked for, and itself by chance. On the wire it is a GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockToken {
    pub(crate) number: u64,
    pub(crate) nonce: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    pub(crate) token: LockToken,
    pub(crate) until: Timestamp,
}

impl Lock {
    pub(crate) fn new(number: u64, now: Timestamp, length: Duration) -> Self {
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&random_bytes(8));
        let token = LockToken { number, nonce: u64::from_le_bytes(nonce) };
        Self { token, until: now.plus(length) }
    }

    pub(crate) fn holds(self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Whether `token` is the one that holds it now.
    pub(crate) fn is_held_by(self, token: LockToken, now: Timestamp) -> bool {
        self.token == token && self.holds(now)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no lock token")]
pub struct NoLockToken;

impl fmt::Display for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, nonce) = (self.number, self.nonce);
        let [a, b, c] = [number >> 32, number >> 16 & 0xffff, number & 0xffff];
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", nonce >> 48, nonce & 0xffff_ffff_ffff)
    }
}

impl FromStr for LockToken {
    type Err = NoLockToken;

    /// A GUID in any case, within quotes or without, as the clients send it back.
    fn from_str(text: &str) -> Result<Self, NoLockToken> {
        let text = text.trim_matches('"');
        let is_form = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if !is_form {
            return Err(NoLockToken);
        }
        let digits: String = text.split('-').collect();
        let half = |half: &str| u64::from_str_radix(half, 16).map_err(|_| NoLockToken);
        Ok(Self { number: half(&digits[..16])?, nonce: half(&digits[16..])? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_a_guid_and_is_read_as_clients_send_it_back() {
        let token = LockToken { number: 7, nonce: u64::MAX - 1 };
        let text = token.to_string();
        assert_eq!(text, "00000000-0000-0007-ffff-fffffffffffe");
        for sent in [text.clone(), text.to_uppercase(), format!("\"{text}\"")] {
            assert_eq!(sent.parse(), Ok(token));
        }
    }

    proptest! {
        #[test]
        fn every_token_is_read_back(number: u64, nonce: u64) {
            let token = LockToken { number, nonce };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}|[0-9a-f-]{36}") {
            let _ = text.parse::<LockToken>();
        }
    }
}
