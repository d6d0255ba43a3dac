//! Keys that everybody knows (`--well-known-keys`), so that connection strings can stand in a repository: those of the default hub's
//! and provisioning service's policies, and of devices that a seed makes without keys. Never the authority, a client secret or the
//! admin key. They are for this machine alone, and a server that has them does not start as if it had none.

use base::Key;
use base::hosts::{self, Dialable};

use crate::Failure;
use crate::config::Config;
use crate::house::House;

/// Everything is derived from it as a group's device keys are from the group's (`docs/seed.md` says how to do it by hand).
const MASTER: &str = "twinhub: everybody knows this key";

fn derive(name: &str) -> Key {
    Key::from_bytes(MASTER.as_bytes().to_vec()).derive(name)
}

fn both(name: &str) -> (Key, Key) {
    (derive(name), derive(&format!("{name}/secondary")))
}

/// Of a policy of the default hub (`hub`) or provisioning service (`dps`).
pub(crate) fn policy_keys(whose: &str, policy: &str) -> (Key, Key) {
    both(&format!("policies/{whose}/{policy}"))
}

/// Of a device, or of a module by `device/module`.
pub(crate) fn device_keys(id: &str) -> (Key, Key) {
    both(id)
}

/// Refuses what would let anybody in from elsewhere.
pub(crate) fn refuse_elsewhere(config: &Config) -> Result<(), Failure> {
    if !config.well_known_keys {
        return Ok(());
    }
    let is_here = match &config.advertise {
        None => true,
        Some(Dialable::Address(address)) => address.is_loopback(),
        Some(Dialable::Name(name)) => hosts::is_local_domain(name),
    };
    let what = if !config.listen.is_loopback() {
        format!("this server is to listen on {}", config.listen)
    } else if let (false, Some(advertised)) = (is_here, &config.advertise) {
        format!("this server is to be advertised as {advertised}")
    } else {
        return Ok(());
    };
    Err(format!(
        "--well-known-keys is for clients on this machine: everybody knows these keys, and {what}. Leave that out, or the keys"
    )
    .into())
}

/// Whether the keys of the server are those that it was asked to have. Neither is made of the other: clients hold keys, and what is
/// in a repository must not come to open a server that somebody took for closed.
pub(crate) fn check(house: &House, wanted: bool) -> Result<(), Failure> {
    let policies = house.policies();
    let is_known = |(whose, name, keys): &(&str, String, [Key; 2])| {
        let known: [Key; 2] = policy_keys(whose, name).into();
        keys.iter().any(|key| known.contains(key))
    };
    match (wanted, policies.iter().any(is_known)) {
        (false, true) => Err("the policies of this server have keys that everybody knows: it was made with --well-known-keys. \
             Start it with that flag, or make another one in an empty --data-dir"
            .into()),
        (true, false) if !policies.is_empty() => Err("this server was made without --well-known-keys and has keys of its own, which clients may hold. \
             Start it without that flag, or make another one in an empty --data-dir"
            .into()),
        _ => Ok(()),
    }
}

/// What a start with these keys says.
pub(crate) fn warn() {
    tracing::warn!(
        "--well-known-keys: everybody knows the keys of the policies, and of devices that a seed made without keys. For development on this machine only."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They stand in `docs/seed.md` and in people's repositories, so they never change.
    #[test]
    fn the_keys_are_those_of_the_document() {
        let document = include_str!("../../../docs/seed.md");
        assert!(document.contains(Key::from_bytes(MASTER.as_bytes().to_vec()).text()));
        for (whose, policies) in [
            ("hub", &["iothubowner", "service", "device", "registryRead", "registryReadWrite"][..]),
            ("dps", &["provisioningserviceowner"]),
        ] {
            for policy in policies {
                let row = format!("| `{whose}` | `{policy}` | `{}` |", policy_keys(whose, policy).0.text());
                assert!(document.contains(&row), "{row}");
            }
        }
        let example = device_keys("thermostat-1").0;
        assert!(document.contains(example.text()), "{}", example.text());
    }
}
