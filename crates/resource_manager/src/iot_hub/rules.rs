//! How a hub's properties change by a PUT, and what its sizes may be (`iothub-service.md` §15). Pure.

use access::Right;
use base::{InstanceId, caps};
use hub::HubSettings;
use serde_json::{Map, Value, json};

use super::record::{Properties, Sku};
use super::{cloud_to_device, file_upload, routing};
use crate::error::Error;
use crate::policy::{self, PolicyRequest};
use crate::private_endpoint::{self, ConnectionRequest};
use crate::resource::{NetworkAccess, SystemData};
use crate::{network, sections};

/// The writable members of a PUT's `properties` and `sku`.
#[derive(Clone, Debug, Default)]
pub struct PropertiesRequest {
    pub sku_name: Option<String>,
    pub sku_capacity: Option<u32>,
    pub policies: Option<Vec<PolicyRequest>>,
    pub partition_count: Option<u32>,
    pub retention_days: Option<u32>,
    pub public_network_access: Option<NetworkAccess>,
    pub disable_local_auth: Option<bool>,
    pub connections: Option<Vec<ConnectionRequest>>,
    pub sections: Map<String, Value>,
}

/// Name, tier and most units of each edition.
pub const SKUS: &[(&str, &str, u32)] = &[
    ("F1", "Free", 1),
    ("B1", "Basic", 200),
    ("B2", "Basic", 200),
    ("B3", "Basic", 10),
    ("S1", "Standard", 200),
    ("S2", "Standard", 200),
    ("S3", "Standard", 10),
];

const RIGHTS: &[Right] =
    &[Right::RegistryRead, Right::RegistryWrite, Right::ServiceConnect, Right::DeviceConnect];

pub fn tier(sku: &str) -> &'static str {
    SKUS.iter().find(|(name, _, _)| *name == sku).map_or("Standard", |(_, tier, _)| tier)
}

/// The sections of a hub that was given none.
pub(super) fn default_sections() -> Map<String, Value> {
    let Value::Object(sections) = json!({
        "ipFilterRules": [],
        "networkRuleSets": null,
        "routing": {
            "endpoints": {"serviceBusQueues": [], "serviceBusTopics": [], "eventHubs": [], "storageContainers": [], "cosmosDBSqlContainers": []},
            "routes": [],
            "fallbackRoute": {"name": "$fallback", "source": "DeviceMessages", "condition": "true", "endpointNames": ["events"], "isEnabled": true}
        },
        "storageEndpoints": {"$default": {"sasTtlAsIso8601": "PT1H", "connectionString": "", "containerName": ""}},
        "messagingEndpoints": {"fileNotifications": {"lockDurationAsIso8601": "PT1M", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10}},
        "enableFileUploadNotifications": false,
        "cloudToDevice": {"maxDeliveryCount": 10, "defaultTtlAsIso8601": "PT1H", "feedback": {"lockDurationAsIso8601": "PT1M", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10}},
        "features": "None",
        "minTlsVersion": "1.2",
        "allowedFqdnList": [],
        "enableDataResidency": false,
        "comments": null
    }) else {
        return Map::new();
    };
    sections
}

pub(super) fn put(
    old: Option<&Properties>,
    new_instance: impl FnOnce() -> InstanceId,
    request: &PropertiesRequest,
    system_data: &SystemData,
) -> Result<Properties, Error> {
    let now = system_data.last_modified_at;
    let sku = sku(old, request)?;
    let partition_count = partitions(old, request)?;
    let retention_days = request.retention_days.or(old.map(|old| old.retention_days)).unwrap_or(1);
    if !(1..=7).contains(&retention_days) {
        return Err(Error::bad_request("The property 'retentionTimeInDays' must be between 1 and 7."));
    }
    let kept = old.map_or_else(HubSettings::default_policies, |old| old.policies.clone());
    let old_sections = old.map(|old| old.sections.clone()).unwrap_or_default();
    let mut sections = sections::put(&old_sections, &request.sections, &default_sections());
    cloud_to_device::check(&sections)?;
    file_upload::check(&sections)?;
    network::check(&sections)?;
    routing::complete(&mut sections, &old_sections, &sku)?;
    let connections = old.map(|old| old.connections.as_slice()).unwrap_or_default();
    Ok(Properties {
        instance: old.map_or_else(new_instance, |old| old.instance.clone()),
        created: old.map_or(now, |old| old.created),
        sku,
        policies: policy::put(&kept, request.policies.as_deref(), RIGHTS)?,
        partition_count,
        retention_days,
        public_network_access: request.public_network_access,
        disable_local_auth: request.disable_local_auth.unwrap_or_default(),
        is_failed_over: old.is_some_and(|old| old.is_failed_over),
        connections: private_endpoint::put(connections, request.connections.as_deref(), system_data)?,
        sections,
    })
}

fn sku(old: Option<&Properties>, request: &PropertiesRequest) -> Result<Sku, Error> {
    let old = old.map(|old| &old.sku);
    let name = request.sku_name.as_deref().or(old.map(|sku| sku.name.as_str()));
    let name = name.ok_or_else(|| Error::bad_request("The property 'sku' with its 'name' is required."))?;
    let known = SKUS.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(name));
    let (name, _, max) =
        known.ok_or_else(|| Error::bad_request(format!("The SKU '{name}' is not one of an IoT hub.")))?;
    let capacity = request.sku_capacity.or(old.map(|sku| sku.capacity)).unwrap_or(1);
    if !(1..=*max).contains(&capacity) {
        return Err(Error::bad_request(format!("The capacity of SKU '{name}' must be between 1 and {max}.")));
    }
    Ok(Sku { name: (*name).to_owned(), capacity })
}

/// Partitions are chosen at creation and stay.
fn partitions(old: Option<&Properties>, request: &PropertiesRequest) -> Result<u32, Error> {
    let Some(old) = old else {
        let count = request.partition_count.unwrap_or(caps::HUB_PARTITIONS_DEFAULT);
        return match count {
            2..=caps::PARTITIONS_MAX => Ok(count),
            _ => Err(Error::bad_request(format!(
                "The property 'partitionCount' must be between 2 and {}.",
                caps::PARTITIONS_MAX
            ))),
        };
    };
    match request.partition_count {
        Some(count) if count != old.partition_count => {
            Err(Error::bad_request("The property 'partitionCount' cannot be changed once the hub exists."))
        }
        _ => Ok(old.partition_count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(sku: &str) -> PropertiesRequest {
        PropertiesRequest { sku_name: Some(sku.into()), ..PropertiesRequest::default() }
    }

    fn by_nobody() -> SystemData {
        crate::resource::system_data(None, &access::Caller::system(), base::Timestamp::UNIX_EPOCH)
    }

    fn made(request: &PropertiesRequest) -> Result<Properties, Error> {
        put(None, || InstanceId::from_stored("h"), request, &by_nobody())
    }

    #[test]
    fn a_minimal_hub_has_the_published_defaults() {
        let hub = made(&request("S1")).unwrap();
        assert_eq!((hub.partition_count, hub.retention_days, hub.sku.capacity), (4, 1, 1));
        assert_eq!(hub.policies[0].key_name, "iothubowner");
        assert_eq!(
            Right::write_list(&hub.policies[0].rights),
            "RegistryWrite, ServiceConnect, DeviceConnect"
        );
        assert_eq!(hub.sections["routing"]["fallbackRoute"]["name"], "$fallback");
    }

    #[test]
    fn sizes_are_held_to_their_limits() {
        assert!(made(&request("X9")).is_err());
        assert!(made(&PropertiesRequest::default()).is_err());
        for (partitions, fits) in [(1, false), (2, true), (32, true), (33, false)] {
            let request = PropertiesRequest { partition_count: Some(partitions), ..request("S1") };
            assert_eq!(made(&request).is_ok(), fits, "{partitions}");
        }
        for (days, fits) in [(0, false), (1, true), (7, true), (8, false)] {
            assert_eq!(
                made(&PropertiesRequest { retention_days: Some(days), ..request("S1") }).is_ok(),
                fits,
                "{days}"
            );
        }
        for (capacity, fits) in [(0, false), (10, true), (11, false)] {
            assert_eq!(
                made(&PropertiesRequest { sku_capacity: Some(capacity), ..request("S3") }).is_ok(),
                fits
            );
        }
    }

    #[test]
    fn a_put_without_policies_keeps_them_and_partitions_stay() {
        let hub = made(&request("S1")).unwrap();
        let again = put(Some(&hub), || InstanceId::from_stored("x"), &request("S2"), &by_nobody()).unwrap();
        assert_eq!(again.policies, hub.policies);
        assert_eq!(again.instance, hub.instance);
        let other = PropertiesRequest { partition_count: Some(8), ..request("S1") };
        assert!(put(Some(&hub), || InstanceId::from_stored("x"), &other, &by_nobody()).is_err());
    }
}
