//! How a provisioning service's properties change by a PUT, linked hubs included (`dps.md` §5). Pure.

use access::Right;
use base::{ConnectionString, InstanceId, Secret, caps};
use provisioning::ServiceSettings;
use serde_json::{Map, Value, json};

use super::record::{AllocationPolicy, LinkedHub, Properties};
use crate::error::Error;
use crate::policy::{self, PolicyRequest};
use crate::private_endpoint::{self, ConnectionRequest};
use crate::resource::{NetworkAccess, SystemData};
use crate::{location, network, sections};

/// The writable members of a PUT's `properties` and `sku`.
#[derive(Clone, Debug, Default)]
pub struct PropertiesRequest {
    pub sku_name: Option<String>,
    pub capacity: Option<u32>,
    pub policies: Option<Vec<PolicyRequest>>,
    pub allocation_policy: Option<AllocationPolicy>,
    pub linked_hubs: Vec<LinkedHubRequest>,
    pub public_network_access: Option<NetworkAccess>,
    pub disable_local_auth: Option<bool>,
    pub connections: Option<Vec<ConnectionRequest>>,
    pub sections: Map<String, Value>,
}

#[derive(Clone, Debug, Default)]
pub struct LinkedHubRequest {
    pub connection_string: Secret,
    pub location: Option<String>,
    pub allocation_weight: Option<u32>,
    pub apply_allocation_policy: Option<bool>,
}

const RIGHTS: &[Right] = &[
    Right::ServiceConfig,
    Right::EnrollmentRead,
    Right::EnrollmentWrite,
    Right::DeviceConnect,
    Right::RegistrationStatusRead,
    Right::RegistrationStatusWrite,
];

fn default_sections() -> Map<String, Value> {
    match json!({"ipFilterRules": [], "enableDataResidency": false}) {
        Value::Object(sections) => sections,
        _ => Map::new(),
    }
}

pub(super) fn check(request: &PropertiesRequest) -> Result<(), Error> {
    if request.sku_name.as_deref().is_some_and(|name| !name.eq_ignore_ascii_case("S1")) {
        return Err(Error::bad_request("The SKU of a provisioning service is 'S1'."));
    }
    if request.linked_hubs.len() > caps::LINKED_HUBS_MAX {
        return Err(Error::bad_request(format!("At most {} hubs can be linked.", caps::LINKED_HUBS_MAX)));
    }
    for hub in &request.linked_hubs {
        if hub.allocation_weight.is_some_and(|weight| !(1..=1000).contains(&weight)) {
            return Err(Error::bad_request("The property 'allocationWeight' must be between 1 and 1000."));
        }
        let place = hub.location.as_deref().filter(|text| !text.trim().is_empty());
        let place = place
            .ok_or_else(|| Error::bad_request("The property 'location' of a linked hub is required."))?;
        if location::find(place).is_none() {
            return Err(Error::bad_request(format!("The location '{place}' of a linked hub is unknown.")));
        }
    }
    Ok(())
}

/// Finds the hub behind a connection string of this server, with its name; the error says what does not hold.
pub(super) type FindHub<'a> =
    dyn Fn(&ConnectionString) -> Result<(InstanceId, String), Error> + Send + Sync + 'a;

/// The links after a PUT. A string whose key is masked stands for the one that is kept for its host.
pub(super) fn link(
    old: &[LinkedHub],
    requests: &[LinkedHubRequest],
    find_hub: &FindHub<'_>,
) -> Result<Vec<LinkedHub>, Error> {
    let mut next: Vec<LinkedHub> = Vec::with_capacity(requests.len());
    for request in requests {
        let text = request.connection_string.expose().trim();
        let string = ConnectionString::new(text);
        let host_name = string.host_name().filter(|_| string.opens_instance()).ok_or_else(|| {
            Error::bad_request(
                "A linked hub's 'connectionString' needs HostName, SharedAccessKeyName and SharedAccessKey.",
            )
        })?;
        if next.iter().any(|other| other.host_name.eq_ignore_ascii_case(host_name)) {
            return Err(Error::bad_request(format!("The hub '{host_name}' is linked twice.")));
        }
        let before = old.iter().find(|known| known.host_name.eq_ignore_ascii_case(host_name));
        let (hub, hub_name, connection_string) = match before {
            Some(known) if sections::is_masked(text) => {
                (known.hub.clone(), known.hub_name.clone(), known.connection_string.clone())
            }
            _ => {
                let (hub, name) = find_hub(&string)?;
                (hub, name, Secret::new(text))
            }
        };
        next.push(LinkedHub {
            host_name: host_name.to_owned(),
            hub,
            hub_name,
            connection_string,
            location: request.location.clone().unwrap_or_default(),
            allocation_weight: request.allocation_weight,
            apply_allocation_policy: request.apply_allocation_policy,
        });
    }
    Ok(next)
}

pub(super) fn put(
    old: Option<&Properties>,
    fresh: impl FnOnce() -> (InstanceId, String),
    request: &PropertiesRequest,
    linked_hubs: Vec<LinkedHub>,
    system_data: &SystemData,
) -> Result<Properties, Error> {
    let (instance, id_scope) = old.map_or_else(fresh, |old| (old.instance.clone(), old.id_scope.clone()));
    let kept = old.map_or_else(ServiceSettings::default_policies, |old| old.policies.clone());
    let old_sections = old.map(|old| old.sections.clone()).unwrap_or_default();
    let sections = sections::put(&old_sections, &request.sections, &default_sections());
    network::check(&sections)?;
    let connections = old.map(|old| old.connections.as_slice()).unwrap_or_default();
    Ok(Properties {
        instance,
        created: old.map_or(system_data.last_modified_at, |old| old.created),
        id_scope,
        capacity: request.capacity.or(old.map(|old| old.capacity)).unwrap_or(1),
        policies: policy::put(&kept, request.policies.as_deref(), RIGHTS)?,
        allocation_policy: request.allocation_policy.unwrap_or_default(),
        linked_hubs,
        public_network_access: request.public_network_access,
        disable_local_auth: request.disable_local_auth.unwrap_or_default(),
        connections: private_endpoint::put(connections, request.connections.as_deref(), system_data)?,
        sections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRING: &str =
        "HostName=hub.azure-devices.localhost;SharedAccessKeyName=iothubowner;SharedAccessKey=abc=";

    fn request(text: &str) -> LinkedHubRequest {
        LinkedHubRequest {
            connection_string: Secret::new(text),
            location: Some("West US".into()),
            ..LinkedHubRequest::default()
        }
    }

    fn known(parsed: &ConnectionString) -> Result<(InstanceId, String), Error> {
        match parsed.shared_access_key() {
            Some("abc=") => Ok((InstanceId::from_stored("hub-1"), "hub".into())),
            _ => Err(Error::bad_request("wrong key")),
        }
    }

    #[test]
    fn a_masked_string_keeps_the_secret_of_its_hub() {
        let links = link(&[], &[request(STRING)], &known).unwrap();
        let masked = sections::mask_connection_string(STRING);
        assert!(masked.ends_with("SharedAccessKey=****"), "{masked}");
        assert_eq!(link(&links, &[request(&masked)], &known).unwrap(), links);
        assert!(link(&[], &[request(&masked)], &known).is_err());
        assert!(link(&links, &[request(STRING), request(STRING)], &known).is_err());
    }

    #[test]
    fn weights_locations_and_numbers_of_links_are_held_to_their_limits() {
        let with = |weight| PropertiesRequest {
            linked_hubs: vec![LinkedHubRequest { allocation_weight: weight, ..request(STRING) }],
            ..PropertiesRequest::default()
        };
        for (weight, fits) in
            [(None, true), (Some(0), false), (Some(1), true), (Some(1000), true), (Some(1001), false)]
        {
            assert_eq!(check(&with(weight)).is_ok(), fits, "{weight:?}");
        }
        let many = |count| PropertiesRequest {
            linked_hubs: vec![request(STRING); count],
            ..PropertiesRequest::default()
        };
        assert!(check(&many(caps::LINKED_HUBS_MAX)).is_ok());
        assert!(check(&many(caps::LINKED_HUBS_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC*|([A-Za-z]{0,20}=[^;]{0,10};){0,5}") {
            let string = ConnectionString::new(&*text);
            let _ = (string.opens_instance(), string.opens_entity());
            let _ = sections::is_masked(&sections::mask_connection_string(&text));
        }
    }
}
