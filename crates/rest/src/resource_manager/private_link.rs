//! Private link of a Digital Twins instance: the one sub-resource there is, and the connections to it.

use resource_manager::instance::{ConnectionRequest, LinkState, LinkStatus, PrivateEndpointConnection};
use resource_manager::{Error, ResourceId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::digital_twins::id;
use super::error::Refusal;
use super::write::{self, Nested};
use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

pub(super) const KIND: &str = "PrivateEndpointConnection";
const GROUP: &str = "API";

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

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let id = id(request);
    let connections = at.manager.private_endpoint_connections(&at.caller, &id).await?;
    let value: Vec<Value> = connections.iter().map(|one| body(&id, one)).collect();
    Ok(Response::json(200, &json!({"value": value})))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let id = id(request);
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
    let (id, name) = (id(request), request.param("connection"));
    let preconditions = parse::preconditions(request, None);
    let accepted =
        at.manager.put_private_endpoint_connection(&at.caller, &id, name, &state, &preconditions).await?;
    let connection = at.manager.private_endpoint_connection(&at.caller, &id, name).await?;
    let status = if accepted.operation.is_some() { 202 } else { 200 };
    let response = Response::json(status, &body(&id, &connection));
    let nested = Nested { kind: KIND, name: Some(&connection.name) };
    Ok(write::poll_digital_twins(request, &at.manager, &accepted, &nested, response))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let name = request.param("connection");
    let accepted = at.manager.delete_private_endpoint_connection(&at.caller, &id(request), name).await?;
    let Some(accepted) = accepted.filter(|accepted| accepted.operation.is_some()) else {
        return Ok(Response::new(204));
    };
    let nested = Nested { kind: KIND, name: Some(name) };
    Ok(write::poll_digital_twins(request, &at.manager, &accepted, &nested, Response::empty(202)))
}

pub(super) async fn list_resources(at: At, request: &Request) -> Outcome {
    let resource = private_link_resource(&at, request).await?;
    Ok(Response::json(200, &json!({"value": [resource]})))
}

pub(super) async fn get_resource(at: At, request: &Request) -> Outcome {
    let resource = private_link_resource(&at, request).await?;
    let (id, name) = (id(request), request.param("resource"));
    if !name.eq_ignore_ascii_case(GROUP) {
        let path = format!("{}/privateLinkResources/{name}", id.relative());
        return Err(Error::ResourceNotFound(path, id.group.name).into());
    }
    Ok(Response::json(200, &resource))
}

async fn private_link_resource(at: &At, request: &Request) -> Result<Value, Refusal> {
    let id = at.manager.private_link(&at.caller, &id(request)).await?;
    Ok(json!({
        "id": format!("{id}/privateLinkResources/{GROUP}"),
        "type": "Microsoft.DigitalTwins/digitalTwinsInstances/privateLinkResources",
        "name": GROUP,
        "properties": {
            "groupId": GROUP,
            "requiredMembers": ["default"],
            "requiredZoneNames": ["privatelink.digitaltwins.azure.net"]
        }
    }))
}

pub(super) fn body(instance: &ResourceId, connection: &PrivateEndpointConnection) -> Value {
    let mut state = Map::new();
    state.insert("status".into(), connection.state.status.name().into());
    state.insert("description".into(), connection.state.description.clone().into());
    if let Some(actions) = &connection.state.actions_required {
        state.insert("actionsRequired".into(), actions.clone().into());
    }
    let mut properties = Map::new();
    properties.insert(
        "provisioningState".into(),
        if connection.is_being_deleted { "Deleting" } else { "Succeeded" }.into(),
    );
    if let Some(endpoint) = &connection.private_endpoint {
        properties.insert("privateEndpoint".into(), json!({"id": endpoint}));
    }
    properties.insert("groupIds".into(), json!(connection.group_ids));
    properties.insert("privateLinkServiceConnectionState".into(), Value::Object(state));
    json!({
        "id": format!("{instance}/privateEndpointConnections/{}", connection.name),
        "name": connection.name,
        "type": "Microsoft.DigitalTwins/digitalTwinsInstances/privateEndpointConnections",
        "properties": properties,
        "systemData": write::system_data(&connection.system_data)
    })
}
