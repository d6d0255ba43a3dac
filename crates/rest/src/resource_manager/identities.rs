//! User-assigned identities as Resource Manager shows them.

use resource_manager::resource::{Resource, Tags};
use resource_manager::{ResourceId, ResourceType, user_assigned_identity};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{At, Outcome, parse, resources, write};
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

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: IdentityResourceBody = parse::body(request)?;
    parse::check_name(request, "name", sent.name.as_deref())?;
    let (location, tags) = (sent.location.as_deref(), sent.tags.as_ref());
    let (id, preconditions) = (id(request), parse::preconditions(request, None));
    let accepted =
        at.manager.put_user_assigned_identity(&at.caller, &id, location, tags, &preconditions).await?;
    Ok(resources::answer(&at, if accepted.is_new { 201 } else { 200 }, &accepted.resource))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let deleted = at.manager.delete_resource(&at.caller, &id(request)).await?;
    Ok(Response::empty(if deleted.is_some() { 200 } else { 204 }))
}

pub(super) fn body(resource: &Resource, own: &user_assigned_identity::Properties) -> Value {
    json!({
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
    })
}
