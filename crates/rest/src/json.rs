//! Members of JSON bodies that are objects. The readers that serde derives would take a list for the members in their order, so
//! every door reads such a member through here.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// An object, or `null`; with `#[serde(default)]` nothing at all too.
pub(crate) fn members<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let Some(members) = Option::<Map<String, Value>>::deserialize(from)? else { return Ok(None) };
    serde_json::from_value(Value::Object(members)).map(Some).map_err(D::Error::custom)
}

/// The same where `null` and nothing at all are two things: `Some(None)` and `None`.
#[expect(clippy::option_option, reason = "null and not there are two things in a merge patch")]
pub(crate) fn present_members<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    members(from).map(Some)
}
