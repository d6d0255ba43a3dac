//! How JSON is read that people and clients write, bodies and files: who writes something else hears which member is meant and what it must be, in our own words. An object
//! is never read from a list. It must never look into opaque members (`Value`, `RawValue`): they keep their names and types.

mod reader;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use self::reader::Unreadable;
use self::reader::{Place, Reader, State};

/// How exactly a service takes the names and types that it has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As they are.
    AsPublished,
    /// As Newtonsoft's reader does it behind hubs and provisioning services: names of members and of enumerated values in any case,
    /// numbers and booleans as texts, too.
    Tolerant,
}

/// A value of a text of JSON.
pub fn read<T: DeserializeOwned>(text: &[u8], reading: Reading) -> Result<T, Unreadable> {
    // What is no JSON at all is found first, since only its place can be told, and no member.
    serde_json::from_slice::<IgnoredAny>(text).map_err(Unreadable::text)?;
    read_from(&mut serde_json::Deserializer::from_slice(text), reading)
}

/// The same of what is JSON already.
pub fn read_value<T: DeserializeOwned>(value: Value, reading: Reading) -> Result<T, Unreadable> {
    read_from(value, reading)
}

fn read_from<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
    reading: Reading,
) -> Result<T, Unreadable> {
    let state = State { reading, fault: RefCell::default() };
    T::deserialize(Reader { from, place: &Place::Whole, state: &state })
}

/// A member where `null` and nothing at all are two things: `Some(None)` and `None`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}
