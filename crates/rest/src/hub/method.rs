//! Direct methods on the wire (`iothub-service.md` §6).

use access::Permission;
use base::ids::IdentityId;
use hub::direct_method::{MethodRequest, MethodResponse};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{HubAt, HubDoor, Refusal, body, device, handler, module};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("POST", "/twins/{id}/methods", "Devices_InvokeMethod", handler!(invoke_on_device))
        .requires(Permission::DirectMethodInvoke)
        .on("POST", "/twins/{id}/modules/{mid}/methods", "Modules_InvokeMethod", handler!(invoke_on_module))
        .requires(Permission::DirectMethodInvoke)
}

async fn invoke_on_device(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    invoke(at, request, &device(request)?).await
}

async fn invoke_on_module(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    invoke(at, request, &module(request)?).await
}

async fn invoke(at: &HubAt, request: &Request, id: &IdentityId) -> Result<Response, Refusal> {
    let input: MethodInput = body(request)?;
    let MethodResponse { status, payload } = at.hub.invoke_method(&at.caller, id, input.into()).await?;
    Ok(Response::json(200, &MethodBody { status, payload }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MethodInput {
    method_name: Option<String>,
    response_timeout_in_seconds: Option<u64>,
    connect_timeout_in_seconds: Option<u64>,
    /// Left out and `null` are not the same to the device.
    #[serde(default, deserialize_with = "present")]
    payload: Option<Box<RawValue>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl From<MethodInput> for MethodRequest {
    fn from(input: MethodInput) -> Self {
        Self {
            name: input.method_name.unwrap_or_default(),
            payload: input.payload,
            connect_timeout_seconds: input.connect_timeout_in_seconds,
            response_timeout_seconds: input.response_timeout_in_seconds,
        }
    }
}

#[derive(Serialize)]
struct MethodBody {
    status: i32,
    payload: Option<Box<RawValue>>,
}
