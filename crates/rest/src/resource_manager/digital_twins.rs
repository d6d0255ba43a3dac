//! Digital Twins instances as Resource Manager shows them.

use resource_manager::instance::{self, Patch, Put};
use resource_manager::resource::{NameAvailability, NetworkAccess, ProvisioningState, Resource, Tags};
use resource_manager::{Error, ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::parse::{self, IdentityBody, NameBody};
use super::private_link::{self, ConnectionBody};
use super::write::{self, Nested};
use super::{At, Outcome, resources};
use crate::wire::{Request, Response};

#[derive(Debug, Deserialize)]
struct PutBody {
    name: Option<String>,
    location: Option<String>,
    tags: Option<Tags>,
    identity: Option<IdentityBody>,
    properties: Option<PutProperties>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutProperties {
    public_network_access: Option<String>,
    private_endpoint_connections: Option<Vec<ConnectionBody>>,
}

#[expect(clippy::option_option, reason = "null and not there are two things in a merge patch")]
#[derive(Debug, Deserialize)]
struct PatchBody {
    #[serde(default, deserialize_with = "crate::json::present")]
    tags: Option<Option<Tags>>,
    #[serde(default, deserialize_with = "crate::json::present")]
    identity: Option<Option<IdentityBody>>,
    properties: Option<PatchProperties>,
}

#[expect(clippy::option_option, reason = "null and not there are two things in a merge patch")]
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatchProperties {
    #[serde(default, deserialize_with = "crate::json::present")]
    public_network_access: Option<Option<String>>,
}

pub(super) const INSTANCE: Nested<'static> = Nested { kind: "DigitalTwinsInstance", name: None };

pub(super) fn id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::DigitalTwinsInstance)
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: PutBody = parse::body(request)?;
    parse::check_name(request, "name", sent.name.as_deref())?;
    let properties = sent.properties.unwrap_or_default();
    let connections = properties.private_endpoint_connections;
    let put = Put {
        location: sent.location,
        tags: sent.tags,
        identity: sent.identity.map(IdentityBody::read).transpose()?,
        public_network_access: access(properties.public_network_access.as_deref())?,
        connections: private_link::requests(connections)?,
        preconditions: parse::preconditions(request, None),
    };
    let accepted = at.manager.put_digital_twins_instance(&at.caller, &id(request), &put).await?;
    // 201 for updates too, as the live service answers.
    let response = resources::answer(&at, 201, &accepted.resource);
    Ok(write::poll_digital_twins(request, &at.manager, &accepted, &INSTANCE, response))
}

pub(super) async fn update(at: At, request: &Request) -> Outcome {
    let sent: PatchBody = parse::body(request)?;
    let access = sent.properties.unwrap_or_default().public_network_access;
    let patch = Patch {
        tags: sent.tags,
        identity: sent.identity.map(|identity| identity.map(IdentityBody::read).transpose()).transpose()?,
        public_network_access: access.map(|text| self::access(text.as_deref())).transpose()?,
    };
    let accepted = at.manager.update_digital_twins_instance(&at.caller, &id(request), &patch).await?;
    let status = if accepted.operation.is_some() { 202 } else { 200 };
    let response = resources::answer(&at, status, &accepted.resource);
    Ok(write::poll_digital_twins(request, &at.manager, &accepted, &INSTANCE, response))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let Some(accepted) = at.manager.delete_resource(&at.caller, &id(request)).await? else {
        return Ok(Response::new(204));
    };
    if accepted.operation.is_none() {
        return Ok(Response::new(204));
    }
    let response = resources::answer(&at, 202, &accepted.resource);
    Ok(write::poll_digital_twins(request, &at.manager, &accepted, &INSTANCE, response))
}

pub(super) async fn check_name(at: At, request: &Request) -> Outcome {
    const TYPE: &str = "Microsoft.DigitalTwins/digitalTwinsInstances";
    let sent: NameBody = parse::body(request)?;
    let name = sent.name()?;
    let kind = sent.kind.as_deref().ok_or_else(|| Refusal::content("The property 'type' is required."))?;
    if !kind.eq_ignore_ascii_case(TYPE) {
        return Err(Refusal::content(format!("The type '{kind}' is not '{TYPE}'.")));
    }
    if resource_manager::location::find(request.param("location")).is_none() {
        let wanted = request.param("location").to_owned();
        return Err(Error::LocationNotAvailable { wanted, kind: TYPE.to_owned() }.into());
    }
    let available = at
        .manager
        .check_name(&at.caller, request.param("subscription"), ResourceType::DigitalTwinsInstance, name)
        .await?;
    Ok(Response::json(
        200,
        &match available {
            NameAvailability::Available => {
                json!({"nameAvailable": true, "message": format!("'{name}' is available."), "reason": null})
            }
            NameAvailability::Invalid(message) => {
                json!({"nameAvailable": false, "message": message, "reason": "Invalid"})
            }
            NameAvailability::AlreadyExists => json!({
                "nameAvailable": false,
                "message": format!("Name '{name}' is already taken. Please specify a different name"),
                "reason": "AlreadyExists"
            }),
        },
    ))
}

pub(super) async fn operations(_: At, _: &Request) -> Outcome {
    Ok(Response::json(200, &json!({"value": OPERATIONS.iter().map(operation).collect::<Vec<_>>()})))
}

/// Name, provider, resource, text, whether it is a data action. The first four are the published ones.
const OPERATIONS: &[(&str, &str, &str, &str, &str, bool)] = &[
    (
        "Microsoft.DigitalTwins/models/read",
        "Azure Digital Twins",
        "Model",
        "Read Model",
        "Read any Model",
        true,
    ),
    (
        "Microsoft.DigitalTwins/digitalTwinsInstances/write",
        "Microsoft.DigitalTwins",
        "digitalTwinsInstances",
        "Create or update a Digital Twins Service instance.",
        "Create or update a Digital Twins Service instance.",
        false,
    ),
    (
        "Microsoft.DigitalTwins/digitalTwinsInstances/read",
        "Microsoft.DigitalTwins",
        "digitalTwinsInstances",
        "Get a Digital Twins Service instance.",
        "Get a Digital Twins Service instance.",
        false,
    ),
    (
        "Microsoft.DigitalTwins/digitalTwinsInstances/delete",
        "Microsoft.DigitalTwins",
        "digitalTwinsInstances",
        "Delete a Digital Twins Service instance.",
        "Delete a Digital Twins Service instance.",
        false,
    ),
];

fn operation(row: &(&str, &str, &str, &str, &str, bool)) -> Value {
    let (name, provider, resource, operation, description, is_data_action) = row;
    json!({
        "name": name,
        "display": {"provider": provider, "resource": resource, "operation": operation, "description": description},
        "isDataAction": is_data_action,
        "origin": null,
        "properties": null
    })
}

fn access(text: Option<&str>) -> Result<Option<NetworkAccess>, Refusal> {
    text.map(parse::network_access).transpose()
}

/// The instance as the live service writes it: no host name before it is made, connections only once it is steady.
pub(super) fn body(at: &At, resource: &Resource, own: &instance::Properties) -> Value {
    let is_made = resource.provisioning_state != ProvisioningState::Provisioning;
    let host_name = is_made.then(|| at.manager.digital_twins_host(resource, &at.dialled));
    let mut properties = Map::new();
    properties.insert("provisioningState".into(), resource.provisioning_state.name().into());
    properties.insert("createdTime".into(), own.created.iso7().into());
    properties.insert("lastUpdatedTime".into(), own.last_updated.iso7().into());
    properties.insert("hostName".into(), json!(host_name));
    if resource.provisioning_state.is_terminal() {
        let connections = own.connections.iter().map(|one| private_link::body(&resource.id, one)).collect();
        properties.insert("privateEndpointConnections".into(), Value::Array(connections));
    }
    properties.insert("publicNetworkAccess".into(), own.public_network_access.name().into());
    let mut body = Map::new();
    body.insert("id".into(), resource.id.path().into());
    body.insert("name".into(), resource.id.name.clone().into());
    body.insert("type".into(), resource.id.resource_type.full_name().into());
    body.insert("properties".into(), Value::Object(properties));
    body.insert("location".into(), json!(resource.location));
    if let Some(identity) = &resource.identity {
        body.insert("identity".into(), write::identity(identity, ",", is_made));
    }
    body.insert("tags".into(), json!(resource.tags));
    body.insert("systemData".into(), write::system_data(&resource.system_data));
    Value::Object(body)
}
