//! How a Digital Twins instance changes: PUT replaces, PATCH changes what it names. Pure.

use base::InstanceId;

use super::record::Properties;
use crate::error::Error;
use crate::private_endpoint::{self, ConnectionRequest};
use crate::resource::{NetworkAccess, SystemData};

/// The properties after a PUT at `system_data.last_modified_at`. Connections that the body does not mention at all stay; a
/// list that is given replaces the old one.
pub(super) fn put(
    old: Option<&Properties>,
    new_instance: impl FnOnce() -> InstanceId,
    access: Option<NetworkAccess>,
    connections: Option<&[ConnectionRequest]>,
    system_data: &SystemData,
) -> Result<Properties, Error> {
    let now = system_data.last_modified_at;
    let kept = old.map(|old| old.connections.as_slice()).unwrap_or_default();
    let connections = private_endpoint::put(kept, connections, system_data)?;
    Ok(Properties {
        instance: old.map_or_else(new_instance, |old| old.instance.clone()),
        created: old.map_or(now, |old| old.created),
        last_updated: now,
        public_network_access: access.unwrap_or_default(),
        connections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Timestamp, caps};

    fn by(who: &str, seconds: i64) -> SystemData {
        let at = Timestamp::from_unix_seconds(seconds);
        SystemData {
            created_by: who.into(),
            created_by_type: "User".into(),
            created_at: at,
            last_modified_by: who.into(),
            last_modified_by_type: "User".into(),
            last_modified_at: at,
        }
    }

    fn request(name: Option<&str>) -> ConnectionRequest {
        ConnectionRequest { name: name.map(str::to_owned), ..ConnectionRequest::default() }
    }

    #[test]
    fn a_put_replaces_what_it_names_and_keeps_what_was_made_once() {
        let make = || InstanceId::from_stored("i1");
        let disabled = Some(NetworkAccess::Disabled);
        let first = put(None, make, disabled, Some(&[request(None)]), &by("a", 1)).unwrap();
        assert_eq!(first.connections[0].name, "connection-1");
        let second = put(Some(&first), || InstanceId::from_stored("i2"), None, None, &by("b", 2)).unwrap();
        assert_eq!(second.instance, first.instance);
        assert_eq!(second.created, first.created);
        assert_eq!(second.public_network_access, NetworkAccess::Enabled);
        assert_eq!(second.connections, first.connections);
        let third =
            put(Some(&second), make, None, Some(&[request(Some("CONNECTION-1"))]), &by("c", 3)).unwrap();
        assert_eq!(third.connections[0].name, "connection-1");
        assert_eq!(third.connections, first.connections, "as it was, so not written");
        let groups =
            ConnectionRequest { group_ids: Some(vec!["API".into()]), ..request(Some("connection-1")) };
        let fourth = put(Some(&third), make, None, Some(&[groups]), &by("d", 4)).unwrap();
        assert_eq!(fourth.connections[0].system_data.created_by, "a");
        assert_eq!(fourth.connections[0].system_data.last_modified_by, "d");
        assert!(put(Some(&fourth), make, None, Some(&[]), &by("e", 5)).unwrap().connections.is_empty());
    }

    #[test]
    fn a_connection_that_is_given_twice_or_too_many_of_them_are_refused() {
        let make = || InstanceId::from_stored("i1");
        let twice = [request(Some("x")), request(Some("X"))];
        assert!(put(None, make, None, Some(&twice), &by("a", 1)).is_err());
        let many = vec![request(None); caps::PRIVATE_ENDPOINT_CONNECTIONS_MAX];
        assert!(put(None, make, None, Some(&many), &by("a", 1)).is_ok());
        let too_many = vec![request(None); caps::PRIVATE_ENDPOINT_CONNECTIONS_MAX + 1];
        assert!(put(None, make, None, Some(&too_many), &by("a", 1)).is_err());
    }
}
