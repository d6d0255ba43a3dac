//! Event hub namespaces, event hubs and their authorization rules as Resource Manager shows them.

use event_hubs::AuthorizationRule;
use resource_manager::event_hub::{self, EventHubRequest};
use resource_manager::resource::{NameAvailability, ProvisioningState, Resource, Tags};
use resource_manager::{ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::parse::{self, NameBody};
use super::{At, Outcome, resources, write};
use crate::wire::{Request, Response};

#[derive(Debug, Deserialize)]
struct NamespaceBody {
    name: Option<String>,
    location: Option<String>,
    tags: Option<Tags>,
}

#[derive(Debug, Deserialize)]
struct EventHubBody {
    name: Option<String>,
    properties: Option<EventHubPropertiesBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventHubPropertiesBody {
    partition_count: Option<u32>,
    message_retention_in_days: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct RuleBody {
    properties: Option<RulePropertiesBody>,
}

#[derive(Debug, Deserialize)]
struct RulePropertiesBody {
    rights: Option<Vec<String>>,
}

fn namespace_id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::EventHubNamespace)
}

fn id(request: &Request) -> ResourceId {
    namespace_id(request).child(ResourceType::EventHub, request.param("event_hub"))
}

/// The resource whose authorization rules a path speaks of: an event hub, or else its namespace.
fn owner(request: &Request) -> ResourceId {
    if request.has_param("event_hub") { id(request) } else { namespace_id(request) }
}

pub(super) async fn put_namespace(at: At, request: &Request) -> Outcome {
    let sent: NamespaceBody = parse::body(request)?;
    parse::check_name(request, "name", sent.name.as_deref())?;
    let (id, location) = (namespace_id(request), sent.location.as_deref());
    let (tags, preconditions) = (sent.tags.as_ref(), parse::preconditions(request, None));
    let accepted =
        at.manager.put_event_hub_namespace(&at.caller, &id, location, tags, &preconditions).await?;
    // No address to poll: clients follow the state in the resource itself.
    Ok(resources::answer(&at, if accepted.is_new { 201 } else { 200 }, &accepted.resource))
}

pub(super) async fn delete_namespace(at: At, request: &Request) -> Outcome {
    let accepted = at.manager.delete_resource(&at.caller, &namespace_id(request)).await?;
    Ok(match accepted.and_then(|accepted| accepted.operation) {
        None => Response::new(204),
        Some(operation) => write::poll_result(request, &at.manager, &operation, Response::empty(202)),
    })
}

pub(super) async fn check_name(at: At, request: &Request) -> Outcome {
    let sent: NameBody = parse::body(request)?;
    let name = sent.name()?;
    let available = at
        .manager
        .check_name(&at.caller, request.param("subscription"), ResourceType::EventHubNamespace, name)
        .await?;
    Ok(Response::json(
        200,
        &match available {
            NameAvailability::Available => json!({"nameAvailable": true, "reason": "None", "message": null}),
            NameAvailability::Invalid(message) => {
                json!({"nameAvailable": false, "reason": "InvalidName", "message": message})
            }
            NameAvailability::AlreadyExists => json!({
                "nameAvailable": false,
                "reason": "NameInUse",
                "message": format!("The specified service namespace '{name}' is not available.")
            }),
        },
    ))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: EventHubBody = parse::body(request)?;
    parse::check_name(request, "event_hub", sent.name.as_deref())?;
    let properties = sent.properties.unwrap_or_default();
    let wanted = EventHubRequest {
        partition_count: properties.partition_count,
        retention_days: properties.message_retention_in_days,
    };
    let preconditions = parse::preconditions(request, None);
    let accepted = at.manager.put_event_hub(&at.caller, &id(request), &wanted, &preconditions).await?;
    Ok(resources::answer(&at, 200, &accepted.resource))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let accepted = at.manager.delete_resource(&at.caller, &id(request)).await?;
    Ok(Response::empty(if accepted.is_some() { 200 } else { 204 }))
}

pub(super) async fn list_rules(at: At, request: &Request) -> Outcome {
    let owner = owner(request);
    let rules = at.manager.authorization_rules(&at.caller, &owner).await?;
    Ok(Response::json(200, &json!({"value": rules.iter().map(|one| rule(&owner, one)).collect::<Vec<_>>()})))
}

pub(super) async fn get_rule(at: At, request: &Request) -> Outcome {
    let owner = owner(request);
    let found = at.manager.authorization_rule(&at.caller, &owner, request.param("rule")).await?;
    Ok(Response::json(200, &rule(&owner, &found)))
}

pub(super) async fn put_rule(at: At, request: &Request) -> Outcome {
    let sent: RuleBody = parse::body(request)?;
    let rights = sent.properties.and_then(|properties| properties.rights);
    let rights = rights.ok_or_else(|| Refusal::content("The property 'rights' is required."))?;
    let owner = owner(request);
    let (name, preconditions) = (request.param("rule"), parse::preconditions(request, None));
    let made = at.manager.put_authorization_rule(&at.caller, &owner, name, &rights, &preconditions).await?;
    Ok(Response::json(200, &rule(&owner, &made)))
}

pub(super) async fn delete_rule(at: At, request: &Request) -> Outcome {
    let existed =
        at.manager.delete_authorization_rule(&at.caller, &owner(request), request.param("rule")).await?;
    Ok(Response::empty(if existed { 200 } else { 204 }))
}

pub(super) async fn list_keys(at: At, request: &Request) -> Outcome {
    let (owner, rule) = (owner(request), request.param("rule"));
    let keys = at.manager.authorization_rule_keys(&at.caller, &owner, rule, &at.dialled).await?;
    Ok(Response::json(
        200,
        &json!({
            "primaryConnectionString": keys.primary_connection_string,
            "secondaryConnectionString": keys.secondary_connection_string,
            "primaryKey": keys.primary_key,
            "secondaryKey": keys.secondary_key,
            "keyName": keys.key_name
        }),
    ))
}

fn rule(owner: &ResourceId, rule: &AuthorizationRule) -> Value {
    let rights: Vec<&str> = rule.rights.iter().map(|right| right.name()).collect();
    json!({
        "id": format!("{owner}/authorizationRules/{}", rule.key_name),
        "name": rule.key_name,
        "type": format!("{}/authorizationRules", owner.resource_type.full_name()),
        "properties": {"rights": rights}
    })
}

pub(super) fn namespace_body(at: &At, resource: &Resource, own: &event_hub::NamespaceProperties) -> Value {
    let state = match resource.provisioning_state {
        ProvisioningState::Provisioning => "Creating",
        other => other.name(),
    };
    let host = at.manager.event_hub_host(&resource.id.name, &at.dialled);
    let mut body = Map::new();
    body.insert("id".into(), resource.id.path().into());
    body.insert("name".into(), resource.id.name.clone().into());
    body.insert("type".into(), "Microsoft.EventHub/Namespaces".into());
    body.insert("location".into(), json!(resource.location));
    body.insert("tags".into(), json!(resource.tags.clone().unwrap_or_default()));
    body.insert("sku".into(), json!({"name": "Standard", "tier": "Standard", "capacity": 1}));
    body.insert(
        "properties".into(),
        json!({
            "provisioningState": state,
            "status": if resource.provisioning_state == ProvisioningState::Succeeded { "Active" } else { state },
            "metricId": format!("{}:{}", resource.id.group.subscription, resource.id.name.to_ascii_lowercase()),
            "createdAt": own.created.iso_trimmed(),
            "updatedAt": own.updated.iso_trimmed(),
            "serviceBusEndpoint": format!("https://{host}:443/"),
            "isAutoInflateEnabled": false,
            "maximumThroughputUnits": 0,
            "kafkaEnabled": false,
            "publicNetworkAccess": "Enabled",
            "disableLocalAuth": false,
            "zoneRedundant": false
        }),
    );
    Value::Object(body)
}

pub(super) fn body(resource: &Resource, own: &event_hub::EventHubProperties) -> Value {
    let partitions: Vec<String> = (0..own.partition_count).map(|partition| partition.to_string()).collect();
    json!({
        "id": resource.id.path(),
        "name": resource.id.name,
        "type": "Microsoft.EventHub/Namespaces/EventHubs",
        "properties": {
            "messageRetentionInDays": own.retention_days,
            "partitionCount": own.partition_count,
            "partitionIds": partitions,
            "status": "Active",
            "createdAt": own.created.iso_trimmed(),
            "updatedAt": own.updated.iso_trimmed()
        }
    })
}
