//! Resource groups, and the generic lists of what is in them.

use resource_manager::filter::Filter;
use resource_manager::group::{Put, ResourceGroup};
use resource_manager::resource::{Properties, Resource, Tags};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::parse::{self, TagsBody};
use super::{At, Outcome, storage_accounts, write};
use crate::wire::{Request, Response};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupBody {
    name: Option<String>,
    location: Option<String>,
    tags: Option<Tags>,
    managed_by: Option<String>,
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let filter = Filter::parse(request.query("$filter").unwrap_or_default())?;
    let after = parse::skip_token(request);
    let page = at
        .manager
        .resource_groups(&at.caller, request.param("subscription"), &filter, after.as_ref())
        .await?;
    Ok(write::page(request, &page, body))
}

pub(super) async fn head(at: At, request: &Request) -> Outcome {
    match at.manager.resource_group(&at.caller, &parse::group(request)).await {
        Ok(_) => Ok(Response::new(204)),
        Err(resource_manager::Error::ResourceGroupNotFound(_)) => Ok(Response::new(404)),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let group = at.manager.resource_group(&at.caller, &parse::group(request)).await?;
    Ok(Response::json(200, &body(&group)))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: GroupBody = parse::body(request)?;
    parse::check_name(request, "group", sent.name.as_deref())?;
    let put = Put {
        location: sent.location,
        tags: sent.tags,
        managed_by: sent.managed_by,
        preconditions: parse::preconditions(request, None),
    };
    let (group, is_new) = at.manager.put_resource_group(&at.caller, &parse::group(request), &put).await?;
    Ok(Response::json(if is_new { 201 } else { 200 }, &body(&group)))
}

pub(super) async fn update(at: At, request: &Request) -> Outcome {
    let sent: TagsBody = parse::body(request)?;
    let group = at.manager.update_resource_group(&at.caller, &parse::group(request), sent.tags).await?;
    Ok(Response::json(200, &body(&group)))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let operation = at.manager.delete_resource_group(&at.caller, &parse::group(request)).await?;
    Ok(match operation {
        None => Response::empty(200),
        Some(operation) => write::poll_result(request, &at.manager, &operation, Response::empty(202)),
    })
}

fn body(group: &ResourceGroup) -> Value {
    let mut body = Map::new();
    body.insert("id".into(), group.id.path().into());
    body.insert("name".into(), group.id.name.clone().into());
    body.insert("type".into(), "Microsoft.Resources/resourceGroups".into());
    body.insert("location".into(), group.location.clone().into());
    if let Some(owner) = &group.managed_by {
        body.insert("managedBy".into(), owner.clone().into());
    }
    if let Some(tags) = &group.tags {
        body.insert("tags".into(), json!(tags));
    }
    body.insert("properties".into(), json!({"provisioningState": group.state.name()}));
    Value::Object(body)
}

pub(super) async fn resources(at: At, request: &Request) -> Outcome {
    let filter = Filter::parse(request.query("$filter").unwrap_or_default())?;
    let after = parse::skip_token(request);
    let page =
        at.manager.resources(&at.caller, request.param("subscription"), &filter, after.as_ref()).await?;
    Ok(write::page(request, &page, |one| resource(one, &expanded(request))))
}

pub(super) async fn resources_of(at: At, request: &Request) -> Outcome {
    let filter = Filter::parse(request.query("$filter").unwrap_or_default())?;
    let after = parse::skip_token(request);
    let page = at.manager.resources_of(&at.caller, &parse::group(request), &filter, after.as_ref()).await?;
    Ok(write::page(request, &page, |one| resource(one, &expanded(request))))
}

fn expanded(request: &Request) -> Vec<String> {
    let expand = request.query("$expand").unwrap_or_default();
    expand.split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// A resource as generic lists show it: without its properties.
fn resource(resource: &Resource, expanded: &[String]) -> Value {
    let mut body = Map::new();
    body.insert("id".into(), resource.id.path().into());
    body.insert("name".into(), resource.id.name.clone().into());
    body.insert("type".into(), resource.id.resource_type.full_name().into());
    match &resource.properties {
        Properties::IotHub(hub) => {
            let sku = json!({"name": hub.sku.name, "tier": resource_manager::iot_hub::tier(&hub.sku.name), "capacity": hub.sku.capacity});
            body.insert("sku".into(), sku);
        }
        Properties::ProvisioningService(service) => {
            body.insert(
                "sku".into(),
                json!({"name": "S1", "tier": "Standard", "capacity": service.capacity}),
            );
        }
        Properties::EventHubNamespace(_) => {
            body.insert("sku".into(), json!({"name": "Standard", "tier": "Standard", "capacity": 1}));
        }
        Properties::StorageAccount(own) => {
            body.insert("sku".into(), storage_accounts::sku(own));
            body.insert("kind".into(), own.kind.clone().into());
        }
        Properties::DigitalTwinsInstance(_)
        | Properties::DigitalTwinsEndpoint(_)
        | Properties::EventHub(_)
        | Properties::UserAssignedIdentity(_) => {}
    }
    if let Some(location) = &resource.location {
        body.insert("location".into(), resource_manager::location::normalise(location).into());
    }
    if let Some(identity) = &resource.identity {
        body.insert("identity".into(), write::identity(identity, ", ", true));
    }
    if let Some(tags) = &resource.tags {
        body.insert("tags".into(), json!(tags));
    }
    let system = &resource.system_data;
    for (name, value) in [
        ("createdTime", system.created_at.iso7()),
        ("changedTime", system.last_modified_at.iso7()),
        ("provisioningState", resource.provisioning_state.name().to_owned()),
    ] {
        if expanded.contains(&name.to_ascii_lowercase()) {
            body.insert(name.into(), value.into());
        }
    }
    Value::Object(body)
}
