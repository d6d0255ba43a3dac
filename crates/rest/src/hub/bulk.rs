//! Many identities in one request (`iothub-service.md` §3.4): 200 where all went well, else 400 with what failed.

use access::Permission;
use base::IfMatch;
use base::ids::{IdentityId, InvalidId};
use base::json::Object;
use hub::device::rules::Expected;
use hub::device::{BulkFailure, BulkItem, Change, DeviceSpec, Draft, ImportMode, ModuleSpec, ScopeSpec};
use hub::twin::{InitialTwin, TwinPatch, TwinReplacement};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::device::{AuthenticationInput, Capabilities, status};
use super::{HubAt, HubDoor, Refusal, body, handler};
use crate::json::{self, Reading};
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
    let items = items.iter().map(|item| read(item)).collect::<Result<Vec<_>, _>>()?;
    let failures = at.hub.update_registry(&at.caller, &items).await?;
    let answer = Response::json(if failures.is_empty() { 200 } else { 400 }, &ResultBody::new(&failures));
    if failures.is_empty() {
        return Ok(answer);
    }
    // .NET reads the result of a 400 only where this second header says what it is.
    Ok(answer.header("iothub-errorcode", FAILURE).header("IotHubErrorCode", FAILURE))
}

/// An item that names nobody, or nothing to do, spoils the request, because nothing could be told of it.
fn read(item: &RawValue) -> Result<BulkItem, Refusal> {
    let text = item.get().as_bytes();
    let input: ItemInput =
        json::read(text, Reading::Tolerant).map_err(|why| Refusal::Malformed(why.to_string()))?;
    let device_id = input.id.clone();
    let device_id = device_id.ok_or_else(|| Refusal::Malformed("id is missing".to_owned()))?;
    let mode = match input.import_mode.as_deref() {
        None => ImportMode::CreateOrUpdate,
        Some(mode) => ImportMode::parse(mode)
            .ok_or_else(|| Refusal::Malformed(format!("'{mode}' is not an importMode")))?,
    };
    let module_id = input.module_id.clone();
    let change = match input.into_change(mode, text) {
        Ok(change) => Ok(change),
        Err(Refusal::Hub(error)) => Err(error),
        Err(Refusal::Malformed(why)) => Err(hub::Error::ArgumentInvalid(why)),
        Err(other) => return Err(other),
    };
    Ok(BulkItem { device_id, module_id, mode, change })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemInput {
    id: Option<String>,
    module_id: Option<String>,
    #[serde(rename = "eTag")]
    etag: Option<String>,
    import_mode: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<AuthenticationInput>,
    #[serde(rename = "twinETag")]
    twin_etag: Option<String>,
    managed_by: Option<String>,
    capabilities: Option<Capabilities>,
    device_scope: Option<String>,
    parent_scopes: Option<Vec<String>>,
}

impl ItemInput {
    fn into_change(self, mode: ImportMode, text: &[u8]) -> Result<Change, Refusal> {
        let id = self.identity()?;
        Ok(match mode {
            ImportMode::Create => Change::Write(self.into_draft(id, text)?, Expected::Put(IfMatch::Absent)),
            ImportMode::Update => Change::Write(self.into_draft(id, text)?, Expected::Put(IfMatch::Any)),
            ImportMode::UpdateIfMatchEtag => {
                let tag = tag("eTag", self.etag.as_deref())?;
                Change::Write(self.into_draft(id, text)?, Expected::Put(tag))
            }
            ImportMode::CreateOrUpdate => {
                Change::Write(self.into_draft(id, text)?, Expected::CreateOrUpdate(IfMatch::Any))
            }
            ImportMode::CreateOrUpdateIfMatchEtag => {
                let tag = IfMatch::parse(self.etag.as_deref());
                Change::Write(self.into_draft(id, text)?, Expected::CreateOrUpdate(tag))
            }
            ImportMode::Delete => Change::Delete(id, IfMatch::Any),
            ImportMode::DeleteIfMatchEtag => Change::Delete(id, tag("eTag", self.etag.as_deref())?),
            ImportMode::UpdateTwin => Change::Twin(id, TwinPatch::parse_item(text)?, IfMatch::Any),
            ImportMode::UpdateTwinIfMatchEtag => {
                let tag = tag("twinETag", self.twin_etag.as_deref())?;
                Change::Twin(id, TwinPatch::parse_item(text)?, tag)
            }
        })
    }

    fn identity(&self) -> Result<IdentityId, Refusal> {
        let invalid = |error: InvalidId| Refusal::Malformed(error.to_string());
        let device_id = self.id.as_deref().unwrap_or_default().parse().map_err(invalid)?;
        Ok(match self.module_id.as_deref() {
            None => IdentityId::device(device_id),
            Some(module_id) => IdentityId::module(device_id, module_id.parse().map_err(invalid)?),
        })
    }

    fn into_draft(self, id: IdentityId, text: &[u8]) -> Result<Box<Draft>, Refusal> {
        let TwinReplacement { tags, desired } = TwinReplacement::parse_item(text)?;
        let twin = InitialTwin { tags, desired, reported: Object::new() };
        let authentication = self.authentication.unwrap_or_default().into_spec()?;
        let IdentityId { device_id, module_id } = id;
        if let Some(module_id) = module_id {
            let spec = ModuleSpec { device_id, module_id, managed_by: self.managed_by, authentication };
            return Ok(Box::new(Draft::Module(spec, twin)));
        }
        let mut spec = DeviceSpec::new(device_id);
        spec.status = status(self.status.as_deref())?;
        spec.status_reason = self.status_reason;
        spec.authentication = authentication;
        spec.iot_edge = self.capabilities.is_some_and(|capabilities| capabilities.iot_edge);
        let parent_scopes = self.parent_scopes.unwrap_or_default();
        spec.scopes = ScopeSpec { device_scope: self.device_scope, parent_scopes };
        spec.initial_twin = twin;
        Ok(Box::new(Draft::Device(spec)))
    }
}

/// The etag of a mode that asks for one.
fn tag(name: &'static str, given: Option<&str>) -> Result<IfMatch, Refusal> {
    match IfMatch::parse(given) {
        IfMatch::Absent => Err(hub::Error::ArgumentNull(name).into()),
        tag => Ok(tag),
    }
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
