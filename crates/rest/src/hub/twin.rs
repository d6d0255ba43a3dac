//! Device twins and module twins on the wire (`iothub-service.md` §4).

use access::Permission;
use base::ids::IdentityId;
use hub::twin::{TwinPatch, TwinReplacement, TwinView};

use super::{HubAt, HubDoor, Refusal, device, handler, module, tagged};
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
    tagged(&view.twin.etag.to_string(), &view.document())
}
