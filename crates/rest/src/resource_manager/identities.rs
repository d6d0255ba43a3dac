//! User-assigned identities as Resource Manager shows them.

use resource_manager::resource::{Resource, Tags};
use resource_manager::{Error, ResourceId, ResourceType, user_assigned_identity};
use serde::Deserialize;
use serde_json::{Value, json};

use super::parse::{self, TagsBody};
use super::{At, Outcome, write};
use crate::wire::{Request, Response};

#[derive(Debug, Deserialize)]
struct IdentityResourceBody {
    name: Option<String>,
    location: Option<String>,
    tags: Option<Tags>,
}

fn id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::UserAssignedIdentity)
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let after = parse::skip_token(request);
    let page = at
        .manager
        .user_assigned_identities(&at.caller, request.param("subscription"), after.as_ref())
        .await?;
    Ok(write::try_page(request, page, body)?)
}

pub(super) async fn list_of_group(at: At, request: &Request) -> Outcome {
    let after = parse::skip_token(request);
    let page =
        at.manager.user_assigned_identities_of(&at.caller, &parse::group(request), after.as_ref()).await?;
    Ok(write::try_page(request, page, body)?)
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    Ok(Response::json(200, &body(&at.manager.user_assigned_identity(&at.caller, &id(request)).await?)?))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: IdentityResourceBody = parse::body(request)?;
    parse::check_name(request, "name", sent.name.as_deref())?;
    let (location, tags) = (sent.location.as_deref(), sent.tags.as_ref());
    let accepted = at.manager.put_user_assigned_identity(&at.caller, &id(request), location, tags).await?;
    Ok(Response::json(if accepted.is_new { 201 } else { 200 }, &body(&accepted.resource)?))
}

pub(super) async fn update(at: At, request: &Request) -> Outcome {
    let sent: TagsBody = parse::body(request)?;
    let tags = sent.tags.map(Option::unwrap_or_default);
    let resource = at.manager.update_user_assigned_identity(&at.caller, &id(request), tags).await?;
    Ok(Response::json(200, &body(&resource)?))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let existed = at.manager.delete_user_assigned_identity(&at.caller, &id(request)).await?;
    Ok(Response::empty(if existed { 200 } else { 204 }))
}

fn body(resource: &Resource) -> Result<Value, Error> {
    let own = user_assigned_identity::properties(resource)?;
    Ok(json!({
        "id": resource.id.path(),
        "name": resource.id.name,
        "type": resource.id.resource_type.full_name(),
        "location": resource.location,
        "tags": resource.tags.clone().unwrap_or_default(),
        "properties": {
            "tenantId": own.tenant_id,
            "principalId": own.ids.principal_id,
            "clientId": own.ids.client_id
        },
        "systemData": write::system_data(&resource.system_data)
    }))
}
