//! What is asked of resources of every type in the same way: one of them, those of a subscription, of a group, of a parent, new
//! tags. The path says which type; each type's file says how it is written.

use base::Page;
use resource_manager::resource::{Properties, Resource};
use serde_json::Value;

use super::parse::{self, TagsBody};
use super::{
    At, Outcome, digital_twins, endpoints, event_hubs, identities, iot_hubs, provisioning_services,
    storage_accounts, write,
};
use crate::wire::{Request, Response};

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let resource = at.manager.resource(&at.caller, &parse::id(request)?).await?;
    Ok(answer(&at, 200, &resource))
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let (subscription, after) = (request.param("subscription"), parse::skip_token(request));
    let kind = parse::resource_type(request)?;
    Ok(page(&at, request, &at.manager.list_resources(&at.caller, subscription, kind, after.as_ref()).await?))
}

pub(super) async fn list_of_group(at: At, request: &Request) -> Outcome {
    let (group, after) = (parse::group(request), parse::skip_token(request));
    let kind = parse::resource_type(request)?;
    Ok(page(&at, request, &at.manager.list_resources_of(&at.caller, &group, kind, after.as_ref()).await?))
}

pub(super) async fn list_children(at: At, request: &Request) -> Outcome {
    let after = parse::skip_token(request);
    let kind = parse::resource_type(request)?;
    let parent = parse::parent(request, kind)?;
    Ok(page(&at, request, &at.manager.list_children(&at.caller, &parent, kind, after.as_ref()).await?))
}

pub(super) async fn update_tags(at: At, request: &Request) -> Outcome {
    let sent: TagsBody = parse::body(request)?;
    let tags = sent.tags.map(Option::unwrap_or_default);
    let resource = at.manager.update_tags(&at.caller, &parse::id(request)?, tags).await?;
    Ok(answer(&at, 200, &resource))
}

fn page(at: &At, request: &Request, page: &Page<Resource>) -> Response {
    write::page(request, page, |one| body(at, one))
}

/// An answer that shows a resource. Of one that is being worked on it says when to ask again: clients without an address to poll
/// follow its state, and `az` waits half a minute where nothing is said.
pub(super) fn answer(at: &At, status: u16, resource: &Resource) -> Response {
    let response = Response::json(status, &body(at, resource));
    if resource.provisioning_state.is_terminal() {
        return response;
    }
    write::retry_after(&at.manager, response)
}

/// A resource as its provider writes it.
pub(super) fn body(at: &At, resource: &Resource) -> Value {
    match &resource.properties {
        Properties::DigitalTwinsInstance(own) => digital_twins::body(at, resource, own),
        Properties::DigitalTwinsEndpoint(own) => endpoints::body(&at.manager, resource, own),
        Properties::IotHub(own) => iot_hubs::body(at, resource, own),
        Properties::ProvisioningService(own) => provisioning_services::body(at, resource, own),
        Properties::EventHubNamespace(own) => event_hubs::namespace_body(at, resource, own),
        Properties::EventHub(own) => event_hubs::body(resource, own),
        Properties::StorageAccount(own) => storage_accounts::body(at, resource, own),
        Properties::UserAssignedIdentity(own) => identities::body(resource, own),
    }
}
