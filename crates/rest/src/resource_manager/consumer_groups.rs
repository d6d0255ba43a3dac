//! Consumer groups of a hub's built-in endpoint as Resource Manager shows them (`iothub-service.md` §15).

use hub::consumer_group::ConsumerGroup;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use resource_manager::{ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

#[derive(Debug, Deserialize)]
struct GroupBody {
    properties: Option<GroupProperties>,
}

#[derive(Debug, Deserialize)]
struct GroupProperties {
    name: Option<String>,
}

/// The hub, its endpoint and the group that the path names.
fn place(request: &Request) -> (ResourceId, &str, &str) {
    (parse::resource(request, ResourceType::IotHub), request.param("endpoint"), request.param("group_name"))
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let (id, endpoint) = (parse::resource(request, ResourceType::IotHub), request.param("endpoint"));
    let groups = at.manager.consumer_groups(&at.caller, &id, endpoint).await?;
    let value: Value = groups.iter().map(|group| body(&id, group)).collect();
    Ok(Response::json(200, &json!({"value": value})))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let (id, endpoint, name) = place(request);
    let group = at.manager.consumer_group(&at.caller, &id, endpoint, name).await?;
    Ok(Response::json(200, &body(&id, &group)))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let (id, endpoint, name) = place(request);
    let sent: GroupBody = parse::body(request)?;
    let sent = sent.properties.ok_or_else(|| Refusal::content("The property 'properties' is required."))?;
    if let Some(other) = sent.name.filter(|sent| !sent.eq_ignore_ascii_case(name)) {
        return Err(Refusal::content(format!(
            "The name '{other}' in the request content does not match the name '{name}' in the request path."
        )));
    }
    let preconditions = parse::preconditions(request, None);
    let group = at.manager.put_consumer_group(&at.caller, &id, (endpoint, name), &preconditions).await?;
    Ok(Response::json(200, &body(&id, &group)))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let (id, endpoint, name) = place(request);
    at.manager.delete_consumer_group(&at.caller, &id, endpoint, name).await?;
    Ok(Response::empty(200))
}

fn body(hub: &ResourceId, group: &ConsumerGroup) -> Value {
    let name = utf8_percent_encode(&group.name, NON_ALPHANUMERIC);
    json!({
        "properties": {"created": group.created.rfc1123()},
        "id": format!("{hub}/eventHubEndpoints/events/ConsumerGroups/{name}"),
        "name": group.name,
        "type": "Microsoft.Devices/IotHubs/EventHubEndpoints/ConsumerGroups",
        "etag": null
    })
}
