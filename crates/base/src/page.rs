//! Paging: how many, and from where. Tokens are opaque to clients and checked when they come back.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::caps;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<Continuation>,
}

/// Where the next page starts, as the client carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the continuation token is not one of ours")]
pub struct InvalidContinuation;

impl Continuation {
    pub fn encode<T: Serialize>(position: &T) -> Self {
        let json = serde_json::to_vec(position).expect("a position is plain data");
        Self(URL_SAFE_NO_PAD.encode(json))
    }

    pub fn from_client(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, InvalidContinuation> {
        if self.0.len() > caps::CONTINUATION_BYTES_MAX {
            return Err(InvalidContinuation);
        }
        let json = URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| InvalidContinuation)?;
        serde_json::from_slice(&json).map_err(|_| InvalidContinuation)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went_and_a_foreign_one_is_refused() {
        let token = Continuation::encode(&("room", 7));
        assert_eq!(
            Continuation::from_client(token.as_str()).decode::<(String, u32)>().unwrap(),
            ("room".into(), 7)
        );
        assert!(Continuation::from_client("not ours").decode::<(String, u32)>().is_err());
    }

    #[test]
    fn a_token_is_read_up_to_its_greatest_length() {
        // Base64 of three bytes has four; two of the text are its quotes.
        let text = "x".repeat(caps::CONTINUATION_BYTES_MAX / 4 * 3 - 2);
        let longest = Continuation::encode(&text);
        assert_eq!(longest.as_str().len(), caps::CONTINUATION_BYTES_MAX);
        assert_eq!(longest.decode::<String>(), Ok(text.clone()));
        assert_eq!(Continuation::encode(&(text + "x")).decode::<String>(), Err(InvalidContinuation));
    }
}
