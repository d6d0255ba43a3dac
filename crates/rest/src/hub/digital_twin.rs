//! Digital twins of devices on the wire (`iothub-service.md` §14): the view of IoT Plug and Play, and its commands.

use access::Permission;
use base::json_patch;
use hub::direct_method::{MethodRequest, MethodResponse};
use serde_json::value::RawValue;

use super::{HubAt, HubDoor, Refusal, device_id, handler, quoted};
use crate::router::Routes;
use crate::wire::{JSON, Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/digitaltwins/{id}", "DigitalTwin_GetDigitalTwin", handler!(get))
        .requires(Permission::TwinRead)
        .on("PATCH", "/digitaltwins/{id}", "DigitalTwin_UpdateDigitalTwin", handler!(patch))
        .requires(Permission::TwinWrite)
        .on(
            "POST",
            "/digitaltwins/{id}/commands/{command}",
            "DigitalTwin_InvokeRootLevelCommand",
            handler!(invoke),
        )
        .requires(Permission::DirectMethodInvoke)
        .on(
            "POST",
            "/digitaltwins/{id}/components/{component}/commands/{command}",
            "DigitalTwin_InvokeComponentCommand",
            handler!(invoke),
        )
        .requires(Permission::DirectMethodInvoke)
}

async fn get(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let view = at.hub.get_digital_twin(&at.caller, &device_id(request)?).await?;
    Ok(Response::json(200, &view.document).header("etag", &quoted(&view.etag.to_string())))
}

async fn patch(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let id = device_id(request)?;
    let operations = json_patch::parse(&request.body)
        .map_err(|error| hub::Error::InvalidDigitalTwinJsonPatch(error.to_string()))?;
    let etag = at.hub.update_digital_twin(&at.caller, &id, &operations, &request.if_match()).await?;
    let version = request.api_version().unwrap_or_default();
    let location = format!("{}{}?api-version={version}", request.base_url(), request.raw_path);
    Ok(Response::empty(202).header("etag", &quoted(&etag.to_string())).header("location", &location))
}

async fn invoke(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let id = device_id(request)?;
    let component = request.has_param("component").then(|| request.param("component"));
    let input = MethodRequest {
        name: request.param("command").to_owned(),
        payload: payload(request)?,
        connect_timeout_seconds: seconds(request, "connectTimeoutInSeconds")?,
        response_timeout_seconds: seconds(request, "responseTimeoutInSeconds")?,
    };
    let MethodResponse { status, payload } = at.hub.invoke_command(&at.caller, &id, component, input).await?;
    let payload = payload.map_or_else(|| "null".to_owned(), |json| json.get().to_owned());
    Ok(Response::bytes(200, JSON, payload).header("x-ms-command-statuscode", &status.to_string()))
}

/// The body as it is; a command may have none.
fn payload(request: &Request) -> Result<Option<Box<RawValue>>, Refusal> {
    if request.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let payload = serde_json::from_slice(&request.body)
        .map_err(|_| hub::Error::InvalidDigitalTwinPayload("The payload of a command must be JSON."))?;
    Ok(Some(payload))
}

fn seconds(request: &Request, name: &str) -> Result<Option<u64>, Refusal> {
    let number = request.query(name).map(str::parse).transpose();
    number.map_err(|_| Refusal::Malformed(format!("{name} must be a whole number of seconds")))
}
