//! Private link of Digital Twins instances, hubs and provisioning services: the one sub-resource that each has, and the connections
//! to it. The three are asked in the same way and written in two.

use resource_manager::private_endpoint::{
    ConnectionRequest, LinkState, LinkStatus, PrivateEndpointConnection,
};
use resource_manager::{Accepted, Error, Resource, ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::write::{self, Nested};
use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

pub(super) const KIND: &str = "PrivateEndpointConnection";
const CONNECTIONS: &str = "privateEndpointConnections";
const RESOURCES: &str = "privateLinkResources";

/// What is connected to: its name, and the zones of names in which clients look for it.
struct Link {
    group: &'static str,
    member: &'static str,
    zones: &'static [&'static str],
}

fn link(resource_type: ResourceType) -> Link {
    match resource_type {
        ResourceType::IotHub => Link {
            group: "iotHub",
            member: "iotHub",
            zones: &["privatelink.azure-devices.net", "privatelink.servicebus.windows.net"],
        },
        ResourceType::ProvisioningService => {
            Link { group: "iotDps", member: "iotDps", zones: &["privatelink.azure-devices-provisioning.net"] }
        }
        _ => Link { group: "API", member: "default", zones: &["privatelink.digitaltwins.azure.net"] },
    }
}

/// `Microsoft.Devices` writes names of parts with a capital, and lists connections without an envelope.
fn is_of_devices(id: &ResourceId) -> bool {
    id.resource_type != ResourceType::DigitalTwinsInstance
}

fn part(id: &ResourceId, name: &str) -> String {
    let (first, rest) = name.split_at(1);
    if is_of_devices(id) { format!("{}{rest}", first.to_uppercase()) } else { name.to_owned() }
}

/// A connection as a body sends it, alone or inside its instance.
#[derive(Debug, Deserialize)]
pub(super) struct ConnectionBody {
    id: Option<String>,
    name: Option<String>,
    properties: Option<ConnectionProperties>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionProperties {
    private_endpoint: Option<PrivateEndpoint>,
    group_ids: Option<Vec<String>>,
    private_link_service_connection_state: Option<StateBody>,
}

#[derive(Debug, Deserialize)]
struct PrivateEndpoint {
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateBody {
    status: Option<String>,
    description: Option<String>,
    actions_required: Option<String>,
}

impl StateBody {
    fn read(self) -> Result<LinkState, Refusal> {
        let status = self
            .status
            .ok_or_else(|| Refusal::content("The property 'status' of the connection state is required."))?;
        let status = LinkStatus::parse(&status).ok_or_else(|| {
            Refusal::content(format!(
                "The status '{status}' is not one of 'Pending', 'Approved', 'Rejected' and 'Disconnected'."
            ))
        })?;
        let description = self.description.ok_or_else(|| {
            Refusal::content("The property 'description' of the connection state is required.")
        })?;
        Ok(LinkState { status, description, actions_required: self.actions_required })
    }
}

impl ConnectionBody {
    pub(super) fn read(self) -> Result<ConnectionRequest, Refusal> {
        let properties = self.properties.unwrap_or_default();
        let of_id = self.id.as_deref().and_then(|id| id.rsplit('/').next()).filter(|name| !name.is_empty());
        Ok(ConnectionRequest {
            name: self.name.clone().or_else(|| of_id.map(str::to_owned)),
            private_endpoint: properties.private_endpoint.and_then(|endpoint| endpoint.id),
            group_ids: properties.group_ids,
            state: properties.private_link_service_connection_state.map(StateBody::read).transpose()?,
        })
    }
}

/// Those of the body of a resource.
pub(super) fn requests(sent: Option<Vec<ConnectionBody>>) -> Result<Option<Vec<ConnectionRequest>>, Refusal> {
    sent.map(|all| all.into_iter().map(ConnectionBody::read).collect()).transpose()
}

/// The connections of a hub or a service, which shows none where there are none.
pub(super) fn insert(
    properties: &mut Map<String, Value>,
    resource: &Resource,
    connections: &[PrivateEndpointConnection],
) {
    if !connections.is_empty() {
        let connections = connections.iter().map(|one| body(&resource.id, one)).collect();
        properties.insert(CONNECTIONS.into(), connections);
    }
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let id = parse::owner(request)?;
    let connections = at.manager.private_endpoint_connections(&at.caller, &id).await?;
    let value: Value = connections.iter().map(|one| body(&id, one)).collect();
    Ok(Response::json(200, &if is_of_devices(&id) { value } else { json!({"value": value}) }))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let id = parse::owner(request)?;
    let connection =
        at.manager.private_endpoint_connection(&at.caller, &id, request.param("connection")).await?;
    Ok(Response::json(200, &body(&id, &connection)))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: ConnectionBody = parse::body(request)?;
    parse::check_name(request, "connection", sent.name.as_deref())?;
    let properties =
        sent.properties.ok_or_else(|| Refusal::content("The property 'properties' is required."))?;
    let state = properties.private_link_service_connection_state.map(StateBody::read).transpose()?;
    let state = state
        .ok_or_else(|| Refusal::content("The property 'privateLinkServiceConnectionState' is required."))?;
    let (id, name) = (parse::owner(request)?, request.param("connection"));
    let preconditions = parse::preconditions(request, None);
    let accepted =
        at.manager.put_private_endpoint_connection(&at.caller, &id, name, &state, &preconditions).await?;
    let connection = at.manager.private_endpoint_connection(&at.caller, &id, name).await?;
    let status = match accepted.operation {
        Some(_) if is_of_devices(&id) => 201,
        Some(_) => 202,
        None => 200,
    };
    Ok(poll(&at, request, &accepted, &connection.name, Response::json(status, &body(&id, &connection))))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let (id, name) = (parse::owner(request)?, request.param("connection"));
    let accepted = at.manager.delete_private_endpoint_connection(&at.caller, &id, name).await?;
    let Some(accepted) = accepted.filter(|accepted| accepted.operation.is_some()) else {
        return Ok(Response::new(204));
    };
    Ok(poll(&at, request, &accepted, name, Response::empty(202)))
}

/// Adds where to poll, as the connection's provider does.
fn poll(at: &At, request: &Request, accepted: &Accepted, name: &str, response: Response) -> Response {
    if is_of_devices(&accepted.resource.id) {
        return write::poll_devices(request, &at.manager, accepted, response);
    }
    let nested = Nested { kind: KIND, name: Some(name) };
    write::poll_digital_twins(request, &at.manager, accepted, &nested, response)
}

pub(super) async fn list_resources(at: At, request: &Request) -> Outcome {
    let resource = private_link_resource(&at, request).await?;
    Ok(Response::json(200, &json!({"value": [resource]})))
}

pub(super) async fn get_resource(at: At, request: &Request) -> Outcome {
    let resource = private_link_resource(&at, request).await?;
    let (id, name) = (parse::owner(request)?, request.param("resource"));
    if !name.eq_ignore_ascii_case(link(id.resource_type).group) {
        let path = format!("{}/{}/{name}", id.relative(), part(&id, RESOURCES));
        return Err(Error::ResourceNotFound(path, id.group.name).into());
    }
    Ok(Response::json(200, &resource))
}

async fn private_link_resource(at: &At, request: &Request) -> Result<Value, Refusal> {
    let id = at.manager.private_link(&at.caller, &parse::owner(request)?).await?;
    let (Link { group, member, zones }, resources) = (link(id.resource_type), part(&id, RESOURCES));
    Ok(json!({
        "id": format!("{id}/{resources}/{group}"),
        "type": format!("{}/{resources}", id.resource_type.full_name()),
        "name": group,
        "properties": {"groupId": group, "requiredMembers": [member], "requiredZoneNames": zones}
    }))
}

pub(super) fn body(owner: &ResourceId, connection: &PrivateEndpointConnection) -> Value {
    let mut state = Map::new();
    state.insert("status".into(), connection.state.status.name().into());
    state.insert("description".into(), connection.state.description.clone().into());
    if let Some(actions) = &connection.state.actions_required {
        state.insert("actionsRequired".into(), actions.clone().into());
    }
    let mut properties = Map::new();
    if let Some(endpoint) = &connection.private_endpoint {
        properties.insert("privateEndpoint".into(), json!({"id": endpoint}));
    }
    properties.insert("privateLinkServiceConnectionState".into(), Value::Object(state));
    let connections = part(owner, CONNECTIONS);
    let mut body = Map::new();
    body.insert("id".into(), format!("{owner}/{connections}/{}", connection.name).into());
    body.insert("name".into(), connection.name.clone().into());
    body.insert("type".into(), format!("{}/{connections}", owner.resource_type.full_name()).into());
    if !is_of_devices(owner) {
        let state = if connection.is_being_deleted { "Deleting" } else { "Succeeded" };
        properties.insert("provisioningState".into(), state.into());
        properties.insert("groupIds".into(), json!(connection.group_ids));
        body.insert("systemData".into(), write::system_data(&connection.system_data));
    }
    body.insert("properties".into(), Value::Object(properties));
    Value::Object(body)
}
