//! Many identities in one request (`iothub-service.md` §3.4): 200 where all went well, else 400 with what failed.

use access::Permission;
use hub::device::{BulkFailure, BulkItem};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{HubAt, HubDoor, Refusal, body, handler};
use crate::router::Routes;
use crate::wire::{Request, Response};

const FAILURE: &str = "BulkRegistryOperationFailure";

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("POST", "/devices", "BulkRegistry_UpdateRegistry", handler!(update))
        .requires(Permission::RegistryWrite)
}

async fn update(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let items: Vec<Box<RawValue>> = body(request)?;
    if items.is_empty() {
        return Err(Refusal::Malformed("the list of identities is empty".to_owned()));
    }
    let read = |item: &RawValue| BulkItem::read(item.get().as_bytes()).map_err(Refusal::Malformed);
    // An item that names nobody spoils the request.
    let items = items.iter().map(|item| read(item)).collect::<Result<Vec<_>, _>>()?;
    let failures = at.hub.update_registry(&at.caller, &items).await?;
    let answer = Response::json(if failures.is_empty() { 200 } else { 400 }, &ResultBody::new(&failures));
    if failures.is_empty() {
        return Ok(answer);
    }
    // .NET reads the result of a 400 only where this second header says what it is.
    Ok(answer.header("iothub-errorcode", FAILURE).header("IotHubErrorCode", FAILURE))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultBody<'a> {
    is_successful: bool,
    errors: Vec<FailureBody<'a>>,
    /// There are none; clients want the list.
    warnings: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureBody<'a> {
    device_id: &'a str,
    module_id: Option<&'a str>,
    error_code: u32,
    error_status: String,
}

impl<'a> ResultBody<'a> {
    fn new(failures: &'a [BulkFailure]) -> Self {
        let failure = |failure: &'a BulkFailure| FailureBody {
            device_id: &failure.device_id,
            module_id: failure.module_id.as_deref(),
            error_code: failure.error.code(),
            error_status: failure.error.to_string(),
        };
        let errors = failures.iter().map(failure).collect();
        Self { is_successful: failures.is_empty(), errors, warnings: [] }
    }
}
