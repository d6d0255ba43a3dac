//! IoT hubs as Resource Manager shows them (iothub-service.md §15).

use access::SharedAccessPolicy;
use base::Secret;
use resource_manager::iot_hub::{self, PropertiesRequest, Put, SKUS};
use resource_manager::policy::PolicyRequest;
use resource_manager::resource::{NameAvailability, ProvisioningState, Resource, Tags, etag};
use resource_manager::{ResourceId, ResourceType, sections};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::parse::{self, IdentityBody, NameBody};
use super::private_link::{self, ConnectionBody};
use super::{At, Outcome, resources, write};
use crate::wire::{Request, Response};

/// A hub or a provisioning service as a body sends it.
#[derive(Debug, Deserialize)]
pub(super) struct DevicesBody {
    pub(super) name: Option<String>,
    pub(super) location: Option<String>,
    pub(super) tags: Option<Tags>,
    pub(super) etag: Option<String>,
    pub(super) identity: Option<IdentityBody>,
    pub(super) sku: Option<SkuBody>,
    pub(super) properties: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct SkuBody {
    pub(super) name: Option<String>,
    pub(super) capacity: Option<u32>,
}

/// The members of `properties` that mean something here; the rest is kept in sections.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HubProperties {
    authorization_policies: Option<Vec<PolicyBody>>,
    event_hub_endpoints: Option<EventHubEndpoints>,
    public_network_access: Option<String>,
    disable_local_auth: Option<bool>,
    private_endpoint_connections: Option<Vec<ConnectionBody>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailoverBody {
    failover_region: Option<String>,
}

#[derive(Debug, Deserialize)]
struct EventHubEndpoints {
    events: Option<EventsBody>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventsBody {
    retention_time_in_days: Option<u32>,
    partition_count: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyBody {
    key_name: String,
    primary_key: Option<Secret>,
    secondary_key: Option<Secret>,
    rights: String,
}

impl From<PolicyBody> for PolicyRequest {
    fn from(body: PolicyBody) -> Self {
        Self {
            key_name: body.key_name,
            primary_key: body.primary_key,
            secondary_key: body.secondary_key,
            rights: body.rights,
        }
    }
}

fn id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::IotHub)
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: DevicesBody = parse::body(request)?;
    parse::check_name(request, "name", sent.name.as_deref())?;
    let sections = sent.properties.unwrap_or_default();
    let typed: HubProperties = parse::typed(&sections)?;
    let sku = sent.sku.unwrap_or_default();
    let events = typed.event_hub_endpoints.and_then(|endpoints| endpoints.events);
    let put = Put {
        location: sent.location,
        tags: sent.tags,
        identity: sent.identity.map(IdentityBody::read).transpose()?,
        properties: PropertiesRequest {
            sku_name: sku.name,
            sku_capacity: sku.capacity,
            policies: typed
                .authorization_policies
                .map(|all| all.into_iter().map(PolicyRequest::from).collect()),
            partition_count: events.as_ref().and_then(|events| events.partition_count),
            retention_days: events.as_ref().and_then(|events| events.retention_time_in_days),
            public_network_access: typed
                .public_network_access
                .as_deref()
                .map(parse::network_access)
                .transpose()?,
            disable_local_auth: typed.disable_local_auth,
            connections: private_link::requests(typed.private_endpoint_connections)?,
            sections,
        },
        preconditions: parse::preconditions(request, sent.etag.as_deref()),
    };
    let accepted = at.manager.put_iot_hub(&at.caller, &id(request), &put).await?;
    let response = resources::answer(&at, if accepted.is_new { 201 } else { 200 }, &accepted.resource);
    Ok(write::poll_devices(request, &at.manager, &accepted, response))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let accepted = at.manager.delete_resource(&at.caller, &id(request)).await?;
    let Some(accepted) = accepted.filter(|accepted| accepted.operation.is_some()) else {
        return Ok(Response::new(204));
    };
    let response = resources::answer(&at, 202, &accepted.resource);
    Ok(write::poll_devices(request, &at.manager, &accepted, response))
}

pub(super) async fn fail_over(at: At, request: &Request) -> Outcome {
    let sent: FailoverBody = parse::body(request)?;
    let region = sent.failover_region;
    let region = region.ok_or_else(|| Refusal::content("The property 'failoverRegion' is required."))?;
    let accepted = at.manager.fail_over(&at.caller, &id(request), &region).await?;
    let status = if accepted.operation.is_some() { 202 } else { 200 };
    Ok(write::poll_devices(request, &at.manager, &accepted, Response::empty(status)))
}

pub(super) async fn list_keys(at: At, request: &Request) -> Outcome {
    let policies = at.manager.shared_access_policies(&at.caller, &id(request)).await?;
    Ok(Response::json(200, &json!({"value": policies.iter().map(policy).collect::<Vec<_>>()})))
}

pub(super) async fn get_key(at: At, request: &Request) -> Outcome {
    let found = at.manager.shared_access_policy(&at.caller, &id(request), request.param("key")).await?;
    Ok(Response::json(200, &policy(&found)))
}

pub(super) fn policy(policy: &SharedAccessPolicy) -> Value {
    json!({
        "keyName": policy.key_name,
        "primaryKey": policy.primary_key.text(),
        "secondaryKey": policy.secondary_key.text(),
        "rights": access::Right::write_list(&policy.rights)
    })
}

pub(super) async fn skus(at: At, request: &Request) -> Outcome {
    at.manager.resource(&at.caller, &id(request)).await?;
    let sku = |(name, tier, max): &(&str, &str, u32)| {
        json!({
            "resourceType": "Microsoft.Devices/IotHubs",
            "sku": {"name": name, "tier": tier},
            "capacity": {"minimum": 1, "maximum": max, "default": 1, "scaleType": "Manual"}
        })
    };
    Ok(Response::json(200, &json!({"value": SKUS.iter().map(sku).collect::<Vec<_>>()})))
}

pub(super) async fn check_name(at: At, request: &Request) -> Outcome {
    let sent: NameBody = parse::body(request)?;
    let name = sent.name()?;
    let available =
        at.manager.check_name(&at.caller, request.param("subscription"), ResourceType::IotHub, name).await?;
    Ok(Response::json(
        200,
        &match available {
            // A free name carries a reason all the same, as the service answers.
            NameAvailability::Available => {
                json!({"nameAvailable": true, "reason": "Invalid", "message": null})
            }
            NameAvailability::Invalid(message) => {
                json!({"nameAvailable": false, "reason": "Invalid", "message": message})
            }
            NameAvailability::AlreadyExists => json!({
                "nameAvailable": false,
                "reason": "AlreadyExists",
                "message": format!("IotHub name '{name}' is not available")
            }),
        },
    ))
}

pub(super) async fn operations(_: At, _: &Request) -> Outcome {
    let rows = [
        ("Microsoft.Devices/iotHubs/Read", "IotHub", "Get IotHub(s)"),
        ("Microsoft.Devices/iotHubs/Write", "IotHub", "Create or update IotHub Resource"),
        ("Microsoft.Devices/iotHubs/Delete", "IotHub", "Delete IotHub Resource"),
        ("Microsoft.Devices/iotHubs/listkeys/Action", "IotHub", "Get all IotHub Keys"),
        ("Microsoft.Devices/provisioningServices/Read", "IotDps", "Get IotDps resource"),
        ("Microsoft.Devices/provisioningServices/Write", "IotDps", "Create IotDps resource"),
        ("Microsoft.Devices/provisioningServices/Delete", "IotDps", "Delete IotDps resource"),
        ("Microsoft.Devices/provisioningServices/listkeys/Action", "IotDps", "Get IotDps Keys"),
    ];
    let row = |(name, resource, text): &(&str, &str, &str)| json!({"name": name, "display": {"provider": "Microsoft Devices", "resource": resource, "operation": text, "description": text}});
    Ok(Response::json(200, &json!({"value": rows.iter().map(row).collect::<Vec<_>>()})))
}

/// What hubs and provisioning services have in common, old-fashioned members included, which `az` reads.
pub(super) fn envelope(resource: &Resource, sku: Value, properties: Map<String, Value>) -> Value {
    let mut body = Map::new();
    body.insert("id".into(), resource.id.path().into());
    body.insert("name".into(), resource.id.name.clone().into());
    body.insert("type".into(), resource.id.resource_type.full_name().into());
    body.insert("location".into(), json!(resource.location));
    body.insert("tags".into(), json!(resource.tags.clone().unwrap_or_default()));
    body.insert("subscriptionid".into(), resource.id.group.subscription.clone().into());
    body.insert("resourcegroup".into(), resource.id.group.name.clone().into());
    body.insert("etag".into(), etag(resource.version).into());
    body.insert("properties".into(), Value::Object(properties));
    body.insert("sku".into(), sku);
    let identity = resource
        .identity
        .as_ref()
        .map_or_else(|| json!({"type": "None"}), |own| write::identity(own, ", ", true));
    body.insert("identity".into(), identity);
    body.insert("systemData".into(), write::system_data(&resource.system_data));
    Value::Object(body)
}

/// `state` and `provisioningState` in the words of `Microsoft.Devices`.
pub(super) fn states(state: ProvisioningState) -> (&'static str, &'static str) {
    match state {
        ProvisioningState::Provisioning => ("Activating", "Accepted"),
        ProvisioningState::Updating => ("Transitioning", "Accepted"),
        ProvisioningState::Deleting => ("Deleting", "Deleting"),
        ProvisioningState::Succeeded => ("Active", "Succeeded"),
        ProvisioningState::Failed => ("ActivationFailed", "Failed"),
        ProvisioningState::Disabled => ("Suspended", "Succeeded"),
    }
}

pub(super) fn body(at: &At, resource: &Resource, own: &iot_hub::Properties) -> Value {
    let (state, provisioning_state) = states(resource.provisioning_state);
    let (primary, secondary) = iot_hub::regions(resource, own);
    let mut locations = vec![json!({"location": primary, "role": "primary"})];
    locations.extend(secondary.map(|secondary| json!({"location": secondary, "role": "secondary"})));
    let mut properties = Map::new();
    properties.insert("locations".into(), Value::Array(locations));
    properties.insert("state".into(), state.into());
    properties.insert("provisioningState".into(), provisioning_state.into());
    if resource.provisioning_state != ProvisioningState::Provisioning {
        let host = at.manager.hub_host(resource, &at.dialled);
        let partitions: Vec<String> =
            (0..own.partition_count).map(|partition| partition.to_string()).collect();
        properties.insert("hostName".into(), host.clone().into());
        properties.insert(
            "eventHubEndpoints".into(),
            json!({"events": {
                "retentionTimeInDays": own.retention_days,
                "partitionCount": own.partition_count,
                "partitionIds": partitions,
                "path": resource.id.name.to_ascii_lowercase(),
                "endpoint": format!("sb://{host}/")
            }}),
        );
    }
    if let Some(access) = own.public_network_access {
        properties.insert("publicNetworkAccess".into(), access.name().into());
    }
    properties.insert("disableLocalAuth".into(), own.disable_local_auth.into());
    private_link::insert(&mut properties, resource, &own.connections);
    for (name, value) in own.sections.iter().filter(|(_, value)| !value.is_null()) {
        properties.insert(name.clone(), sections::masked(value));
    }
    let sku =
        json!({"name": own.sku.name, "tier": iot_hub::tier(&own.sku.name), "capacity": own.sku.capacity});
    envelope(resource, sku, properties)
}
