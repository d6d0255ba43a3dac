//! Module identities on the wire (`iothub-service.md` §3).

use access::Permission;
use base::ids::IdentityId;
use hub::device::{AuthenticationInput, IdentityView, ModuleSpec};
use hub::twin::{connection_state, date};
use serde::{Deserialize, Serialize};

use super::device::{AuthenticationBody, check_same};
use super::{HubAt, HubDoor, Refusal, body, device_id, handler, module, module_id, tagged};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/devices/{id}/modules", "Modules_GetModulesOnDevice", handler!(list))
        .requires(Permission::RegistryRead)
        .on("GET", "/devices/{id}/modules/{mid}", "Modules_GetIdentity", handler!(get))
        .requires(Permission::RegistryRead)
        .on("PUT", "/devices/{id}/modules/{mid}", "Modules_CreateOrUpdateIdentity", handler!(put))
        .requires(Permission::RegistryWrite)
        .on("DELETE", "/devices/{id}/modules/{mid}", "Modules_DeleteIdentity", handler!(delete))
        .requires(Permission::RegistryDelete)
}

async fn list(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let modules = at.hub.list_modules(&at.caller, &device_id(request)?).await?;
    let modules: Vec<ModuleBody> = modules.iter().map(ModuleBody::from).collect();
    Ok(Response::json(200, &modules))
}

async fn get(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let view = at.hub.get_module(&at.caller, &module(request)?).await?;
    Ok(answer(&view))
}

async fn put(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let input = body::<ModuleInput>(request)?;
    let (device_id, module_id) = (device_id(request)?, module_id(request)?);
    check_same("deviceId", input.device_id.as_deref(), device_id.as_str())?;
    check_same("moduleId", input.module_id.as_deref(), module_id.as_str())?;
    let authentication = input.authentication.unwrap_or_default().into_spec().map_err(Refusal::Malformed)?;
    let spec = ModuleSpec { device_id, module_id, managed_by: input.managed_by, authentication };
    let view = at.hub.put_module(&at.caller, &spec, &request.if_match()).await?;
    Ok(answer(&view))
}

async fn delete(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    at.hub.delete_module(&at.caller, &module(request)?, &request.if_match()).await?;
    Ok(Response::new(204))
}

fn answer(view: &IdentityView) -> Response {
    tagged(&view.identity.etag_text(), &ModuleBody::from(view))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleInput {
    device_id: Option<String>,
    module_id: Option<String>,
    managed_by: Option<String>,
    authentication: Option<AuthenticationInput>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModuleBody<'a> {
    module_id: &'a str,
    managed_by: Option<&'a str>,
    device_id: &'a str,
    generation_id: &'a str,
    etag: String,
    connection_state: &'static str,
    connection_state_updated_time: String,
    last_activity_time: String,
    cloud_to_device_message_count: u32,
    authentication: AuthenticationBody<'a>,
}

impl<'a> From<&'a IdentityView> for ModuleBody<'a> {
    fn from(IdentityView { identity, connection, messages }: &'a IdentityView) -> Self {
        let IdentityId { device_id, .. } = &identity.id;
        Self {
            module_id: identity.id.module_key(),
            managed_by: identity.managed_by.as_deref(),
            device_id: device_id.as_str(),
            generation_id: &identity.generation_id,
            etag: identity.etag_text(),
            connection_state: connection_state(connection.connected),
            connection_state_updated_time: date(connection.state_updated_time),
            last_activity_time: date(connection.last_activity_time),
            cloud_to_device_message_count: *messages,
            authentication: AuthenticationBody::from(&identity.authentication),
        }
    }
}
