//! The topics of IoT Hub and of the Device Provisioning Service, as values. Each direction can be read and written, so that
//! a server and a client share one spelling. They are templates, never patterns: device ids may hold `+` and `#`.

pub mod filter;
pub mod from_device;
#[cfg(test)]
mod tests;
pub mod to_device;

use base::ids::IdentityId;

pub use filter::Filter;
pub use from_device::FromDevice;
pub use to_device::ToDevice;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such topic")]
pub struct UnknownTopic;

/// `devices/{d}` or `devices/{d}/modules/{m}`, ids as they are.
fn identity_path(identity: &IdentityId) -> String {
    match &identity.module_id {
        None => format!("devices/{}", identity.device_id),
        Some(module_id) => format!("devices/{}/modules/{module_id}", identity.device_id),
    }
}

/// What follows `prefix` and the identity's path in `topic`.
fn below_identity<'a>(topic: &'a str, identity: &IdentityId) -> Option<&'a str> {
    let rest =
        topic.strip_prefix("devices/")?.strip_prefix(identity.device_id.as_str())?.strip_prefix('/')?;
    match &identity.module_id {
        None => Some(rest),
        Some(module_id) => rest.strip_prefix("modules/")?.strip_prefix(module_id.as_str())?.strip_prefix('/'),
    }
}

/// The raw value of `name` in a `?`-query whose keys are literal (`$rid`, `$version`).
fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The status that a topic of a response carries: the first three of a service's six digits.
pub(crate) fn status_of(code: u32) -> u16 {
    u16::try_from(code / 1000).expect("every code has six digits")
}
