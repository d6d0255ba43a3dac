//! Provisioning services as Resource Manager shows them (dps.md §5).

use base::Secret;
use resource_manager::policy::PolicyRequest;
use resource_manager::provisioning_service::{
    self, AllocationPolicy, LinkedHub, LinkedHubRequest, PropertiesRequest, Put,
};
use resource_manager::resource::{NameAvailability, ProvisioningState, Resource};
use resource_manager::{Error, ResourceId, ResourceType, sections};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::iot_hubs::{self, DevicesBody, PolicyBody};
use super::parse::{self, IdentityBody, NameBody};
use super::private_link::{self, ConnectionBody};
use super::{At, Outcome, resources, write};
use crate::wire::{Request, Response};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceProperties {
    authorization_policies: Option<Vec<PolicyBody>>,
    allocation_policy: Option<String>,
    iot_hubs: Option<Vec<LinkedHubBody>>,
    public_network_access: Option<String>,
    disable_local_auth: Option<bool>,
    private_endpoint_connections: Option<Vec<ConnectionBody>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkedHubBody {
    connection_string: Option<Secret>,
    location: Option<String>,
    allocation_weight: Option<u32>,
    apply_allocation_policy: Option<bool>,
}

impl From<LinkedHubBody> for LinkedHubRequest {
    fn from(body: LinkedHubBody) -> Self {
        Self {
            connection_string: body.connection_string.unwrap_or_default(),
            location: body.location,
            allocation_weight: body.allocation_weight,
            apply_allocation_policy: body.apply_allocation_policy,
        }
    }
}

fn id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::ProvisioningService)
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: DevicesBody = parse::body(request)?;
    parse::check_name(request, "name", sent.name.as_deref())?;
    let sections = sent.properties.unwrap_or_default();
    let typed: ServiceProperties = parse::typed(&sections)?;
    let sku = sent.sku.unwrap_or_default();
    let put = Put {
        location: sent.location,
        tags: sent.tags,
        identity: sent.identity.map(IdentityBody::read).transpose()?,
        properties: PropertiesRequest {
            sku_name: sku.name,
            capacity: sku.capacity,
            policies: typed
                .authorization_policies
                .map(|all| all.into_iter().map(PolicyRequest::from).collect()),
            allocation_policy: typed.allocation_policy.as_deref().map(allocation_policy).transpose()?,
            linked_hubs: typed.iot_hubs.unwrap_or_default().into_iter().map(LinkedHubRequest::from).collect(),
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
    let accepted = at.manager.put_provisioning_service(&at.caller, &id(request), &put).await?;
    // 201 for updates too, as recorded.
    let response = resources::answer(&at, 201, &accepted.resource);
    Ok(write::poll_devices(request, &at.manager, &accepted, response))
}

fn allocation_policy(text: &str) -> Result<AllocationPolicy, Refusal> {
    AllocationPolicy::parse(text).ok_or_else(|| {
        Refusal::Domain(Error::BadRequest(format!(
            "The allocation policy '{text}' is not one of 'Hashed', 'GeoLatency' and 'Static'."
        )))
    })
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let accepted = at.manager.delete_resource(&at.caller, &id(request)).await?;
    let Some(accepted) = accepted.filter(|accepted| accepted.operation.is_some()) else {
        return Ok(Response::new(204));
    };
    Ok(write::poll_devices(request, &at.manager, &accepted, Response::empty(202)))
}

pub(super) async fn list_keys(at: At, request: &Request) -> Outcome {
    let policies = at.manager.shared_access_policies(&at.caller, &id(request)).await?;
    Ok(Response::json(200, &json!({"value": policies.iter().map(iot_hubs::policy).collect::<Vec<_>>()})))
}

pub(super) async fn get_key(at: At, request: &Request) -> Outcome {
    let found = at.manager.shared_access_policy(&at.caller, &id(request), request.param("key")).await?;
    Ok(Response::json(200, &iot_hubs::policy(&found)))
}

pub(super) async fn skus(at: At, request: &Request) -> Outcome {
    at.manager.resource(&at.caller, &id(request)).await?;
    Ok(Response::json(200, &json!({"value": [{"name": "S1"}]})))
}

pub(super) async fn check_name(at: At, request: &Request) -> Outcome {
    let sent: NameBody = parse::body(request)?;
    let name = sent.name()?;
    let available = at
        .manager
        .check_name(&at.caller, request.param("subscription"), ResourceType::ProvisioningService, name)
        .await?;
    Ok(Response::json(
        200,
        &match available {
            NameAvailability::Available => json!({"nameAvailable": true}),
            NameAvailability::Invalid(message) => {
                json!({"nameAvailable": false, "reason": "Invalid", "message": message})
            }
            NameAvailability::AlreadyExists => json!({
                "nameAvailable": false,
                "reason": "AlreadyExists",
                "message": format!("Provisioning service name '{name}' is not available")
            }),
        },
    ))
}

fn linked_hub(hub: &LinkedHub) -> Value {
    let mut body = Map::new();
    body.insert("name".into(), hub.host_name.clone().into());
    body.insert(
        "connectionString".into(),
        sections::mask_connection_string(hub.connection_string.expose()).into(),
    );
    body.insert("location".into(), hub.location.clone().into());
    if let Some(weight) = hub.allocation_weight {
        body.insert("allocationWeight".into(), weight.into());
    }
    if let Some(applies) = hub.apply_allocation_policy {
        body.insert("applyAllocationPolicy".into(), applies.into());
    }
    Value::Object(body)
}

pub(super) fn body(at: &At, resource: &Resource, own: &provisioning_service::Properties) -> Value {
    let (state, provisioning_state) = iot_hubs::states(resource.provisioning_state);
    let mut properties = Map::new();
    properties.insert("state".into(), state.into());
    properties.insert("provisioningState".into(), provisioning_state.into());
    properties.insert("iotHubs".into(), own.linked_hubs.iter().map(linked_hub).collect());
    properties.insert("allocationPolicy".into(), own.allocation_policy.name().into());
    if matches!(resource.provisioning_state, ProvisioningState::Provisioning | ProvisioningState::Updating) {
        // Recorded so: the id scope of a body that is not settled is null.
        properties.insert("idScope".into(), Value::Null);
    } else {
        properties.insert(
            "serviceOperationsHostName".into(),
            at.manager.provisioning_service_host(resource, &at.dialled).into(),
        );
        properties.insert(
            "deviceProvisioningHostName".into(),
            at.manager.device_provisioning_host(resource, &at.dialled).into(),
        );
        properties.insert("idScope".into(), own.id_scope.clone().into());
    }
    if let Some(access) = own.public_network_access {
        properties.insert("publicNetworkAccess".into(), access.name().into());
    }
    properties.insert("disableLocalAuth".into(), own.disable_local_auth.into());
    private_link::insert(&mut properties, resource, &own.connections);
    for (name, value) in own.sections.iter().filter(|(_, value)| !value.is_null()) {
        properties.insert(name.clone(), sections::masked(value));
    }
    let sku = json!({"name": "S1", "tier": "Standard", "capacity": own.capacity});
    iot_hubs::envelope(resource, sku, properties)
}
