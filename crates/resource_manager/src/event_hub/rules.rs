//! Names, sizes and keys of event hubs. Pure.

use base::{ConnectionString, Timestamp, caps};
use event_hubs::AuthorizationRule;

use super::record::EventHubProperties;
use crate::error::Error;
use crate::resource::name;

/// The writable members of an event hub's PUT.
#[derive(Clone, Debug, Default)]
pub struct EventHubRequest {
    pub partition_count: Option<u32>,
    pub retention_days: Option<u32>,
}

/// What `listKeys` gives: for its asker alone, so that it cannot be printed.
#[derive(Clone)]
pub struct Keys {
    pub key_name: String,
    pub primary_key: String,
    pub secondary_key: String,
    pub primary_connection_string: String,
    pub secondary_connection_string: String,
}

pub(super) fn put(
    old: Option<&EventHubProperties>,
    request: &EventHubRequest,
    now: Timestamp,
) -> Result<EventHubProperties, Error> {
    let partition_count = request
        .partition_count
        .or(old.map(|old| old.partition_count))
        .unwrap_or(caps::EVENT_HUB_PARTITIONS_DEFAULT);
    if !(1..=caps::PARTITIONS_MAX).contains(&partition_count) {
        return Err(Error::bad_request(format!(
            "The partition count must be between 1 and {}.",
            caps::PARTITIONS_MAX
        )));
    }
    if old.is_some_and(|old| old.partition_count != partition_count) {
        return Err(Error::bad_request("The partition count of an event hub cannot be changed."));
    }
    let retention_days = request.retention_days.or(old.map(|old| old.retention_days)).unwrap_or(1);
    if !(1..=7).contains(&retention_days) {
        return Err(Error::bad_request("The message retention must be between 1 and 7 days."));
    }
    Ok(EventHubProperties {
        created: old.map_or(now, |old| old.created),
        updated: now,
        partition_count,
        retention_days,
    })
}

pub(super) fn check_rule_name(name: &str) -> Result<(), Error> {
    if (1..=50).contains(&name.len()) && name::is_dotted(name) {
        return Ok(());
    }
    Err(Error::InvalidResourceName(format!(
        "The rule name '{name}' must have 1 to 50 letters, digits, '-', '_' and '.'."
    )))
}

pub(super) fn keys(rule: &AuthorizationRule, host: &str, entity_path: Option<&str>) -> Keys {
    let string =
        |key| ConnectionString::to_namespace(host, &rule.key_name, key, entity_path).expose().to_owned();
    Keys {
        key_name: rule.key_name.clone(),
        primary_key: rule.primary_key.text().to_owned(),
        secondary_key: rule.secondary_key.text().to_owned(),
        primary_connection_string: string(&rule.primary_key),
        secondary_connection_string: string(&rule.secondary_key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_held_to_their_limits() {
        let make = |partitions, days| {
            let request = EventHubRequest { partition_count: Some(partitions), retention_days: Some(days) };
            put(None, &request, Timestamp::UNIX_EPOCH)
        };
        assert!(make(1, 1).is_ok() && make(32, 7).is_ok());
        assert!(make(0, 1).is_err() && make(33, 1).is_err() && make(1, 0).is_err() && make(1, 8).is_err());
    }

    #[test]
    fn the_keys_of_an_event_hub_make_a_connection_string_for_an_endpoint() {
        let rule = AuthorizationRule::generate("send", &[event_hubs::AccessRight::Send]);
        let keys = keys(&rule, "ns.servicebus.localhost", Some("hub"));
        let string = ConnectionString::new(&*keys.primary_connection_string);
        assert!(string.opens_entity());
        assert_eq!(
            string.endpoint_host().zip(string.entity_path()),
            Some(("ns.servicebus.localhost", "hub"))
        );
        assert_eq!(string.shared_access_key(), Some(rule.primary_key.text()));
    }
}
