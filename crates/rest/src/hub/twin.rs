//! Device twins and module twins on the wire (`iothub-service.md` §4).

use access::Permission;
use base::ids::IdentityId;
use base::json::Object;
use hub::twin::{TwinPatch, TwinReplacement, TwinView};
use serde::Serialize;
use serde_json::Value;

use super::device::{Capabilities, ThumbprintBody, connection_state};
use super::{HubAt, HubDoor, Refusal, date, device, handler, module, tagged};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/twins/{id}", "Devices_GetTwin", handler!(get_device))
        .requires(Permission::TwinRead)
        .on("PATCH", "/twins/{id}", "Devices_UpdateTwin", handler!(patch_device))
        .requires(Permission::TwinWrite)
        .on("PUT", "/twins/{id}", "Devices_ReplaceTwin", handler!(put_device))
        .requires(Permission::TwinWrite)
        .on("GET", "/twins/{id}/modules/{mid}", "Modules_GetTwin", handler!(get_module))
        .requires(Permission::TwinRead)
        .on("PATCH", "/twins/{id}/modules/{mid}", "Modules_UpdateTwin", handler!(patch_module))
        .requires(Permission::TwinWrite)
        .on("PUT", "/twins/{id}/modules/{mid}", "Modules_ReplaceTwin", handler!(put_module))
        .requires(Permission::TwinWrite)
}

async fn get_device(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    get(at, &device(request)?).await
}

async fn get_module(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    get(at, &module(request)?).await
}

async fn patch_device(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    patch(at, request, &device(request)?).await
}

async fn patch_module(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    patch(at, request, &module(request)?).await
}

async fn put_device(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    put(at, request, &device(request)?).await
}

async fn put_module(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    put(at, request, &module(request)?).await
}

async fn get(at: &HubAt, id: &IdentityId) -> Result<Response, Refusal> {
    Ok(answer(&at.hub.get_twin(&at.caller, id).await?))
}

async fn patch(at: &HubAt, request: &Request, id: &IdentityId) -> Result<Response, Refusal> {
    let patch = TwinPatch::parse(&request.body)?;
    Ok(answer(&at.hub.update_twin(&at.caller, id, &patch, &request.if_match()).await?))
}

async fn put(at: &HubAt, request: &Request, id: &IdentityId) -> Result<Response, Refusal> {
    let replacement = TwinReplacement::parse(&request.body)?;
    Ok(answer(&at.hub.replace_twin(&at.caller, id, &replacement, &request.if_match()).await?))
}

fn answer(view: &TwinView) -> Response {
    let etag = view.twin.etag.to_string();
    tagged(&etag, &TwinBody::new(view, &etag))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TwinBody<'a> {
    device_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_id: Option<&'a str>,
    etag: &'a str,
    device_etag: String,
    status: &'static str,
    status_reason: Option<&'a str>,
    status_update_time: String,
    connection_state: &'static str,
    last_activity_time: String,
    cloud_to_device_message_count: u32,
    authentication_type: &'static str,
    x509_thumbprint: ThumbprintBody<'a>,
    model_id: &'a str,
    version: u64,
    tags: &'a Object,
    properties: PropertiesBody,
    capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_scope: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    parent_scopes: &'a [String],
}

#[derive(Serialize)]
struct PropertiesBody {
    desired: Value,
    reported: Value,
}

impl<'a> TwinBody<'a> {
    fn new(TwinView { twin, identity, connection, messages }: &'a TwinView, etag: &'a str) -> Self {
        Self {
            device_id: twin.identity.device_id.as_str(),
            module_id: twin.identity.module_id.as_ref().map(base::ModuleId::as_str),
            etag,
            device_etag: identity.etag_text(),
            status: identity.status.name(),
            status_reason: identity.status_reason.as_deref(),
            status_update_time: date(identity.status_updated_time),
            connection_state: connection_state(connection.connected),
            last_activity_time: date(connection.last_activity_time),
            cloud_to_device_message_count: *messages,
            authentication_type: identity.authentication.type_name(),
            x509_thumbprint: ThumbprintBody::from(&identity.authentication),
            model_id: &twin.model_id,
            version: twin.version,
            tags: &twin.tags,
            properties: PropertiesBody {
                desired: twin.properties.desired.with_metadata(),
                reported: twin.properties.reported.with_metadata(),
            },
            capabilities: Capabilities { iot_edge: identity.iot_edge },
            device_scope: identity.device_scope.as_deref(),
            parent_scopes: &identity.parent_scopes,
        }
    }
}
