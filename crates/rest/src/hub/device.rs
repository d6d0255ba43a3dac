//! Device identities on the wire (`iothub-service.md` §3).

use access::Permission;
use base::DeviceId;
use hub::device::{Authentication, AuthenticationInput, DeviceSpec, IdentityView, ScopeSpec, Status};
use hub::twin::{connection_state, date};
use serde::{Deserialize, Serialize};

use super::{HubAt, HubDoor, Refusal, body, device_id, handler, tagged};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/devices", "Devices_GetDevices", handler!(list))
        .requires(Permission::RegistryRead)
        .on("GET", "/devices/{id}", "Devices_GetIdentity", handler!(get))
        .requires(Permission::RegistryRead)
        .on("PUT", "/devices/{id}", "Devices_CreateOrUpdateIdentity", handler!(put))
        .requires(Permission::RegistryWrite)
        .on("DELETE", "/devices/{id}", "Devices_DeleteIdentity", handler!(delete))
        .requires(Permission::RegistryDelete)
}

async fn list(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let top = request.query("top").map(str::parse).transpose();
    let top = top.map_err(|_| Refusal::Malformed("top must be a number".to_owned()))?;
    let devices = at.hub.list_devices(&at.caller, top).await?;
    let devices: Vec<DeviceBody> = devices.iter().map(DeviceBody::from).collect();
    Ok(Response::json(200, &devices))
}

async fn get(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let view = at.hub.get_device(&at.caller, &device_id(request)?).await?;
    Ok(answer(&view))
}

async fn put(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let spec = body::<DeviceInput>(request)?.into_spec(device_id(request)?)?;
    let view = at.hub.put_device(&at.caller, &spec, &request.if_match()).await?;
    Ok(answer(&view))
}

async fn delete(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    at.hub.delete_device(&at.caller, &device_id(request)?, &request.if_match()).await?;
    Ok(Response::new(204))
}

fn answer(view: &IdentityView) -> Response {
    tagged(&view.identity.etag_text(), &DeviceBody::from(view))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceInput {
    device_id: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<AuthenticationInput>,
    capabilities: Option<Capabilities>,
    device_scope: Option<String>,
    parent_scopes: Option<Vec<String>>,
}

impl DeviceInput {
    fn into_spec(self, device_id: DeviceId) -> Result<DeviceSpec, Refusal> {
        check_same("deviceId", self.device_id.as_deref(), device_id.as_str())?;
        let mut spec = DeviceSpec::new(device_id);
        spec.status = status(self.status.as_deref())?;
        spec.status_reason = self.status_reason;
        spec.authentication =
            self.authentication.unwrap_or_default().into_spec().map_err(Refusal::Malformed)?;
        spec.iot_edge = self.capabilities.is_some_and(|capabilities| capabilities.iot_edge);
        let parent_scopes = self.parent_scopes.unwrap_or_default();
        spec.scopes = ScopeSpec { device_scope: self.device_scope, parent_scopes, is_imported: false };
        Ok(spec)
    }
}

/// The id in the body, where there is one, must be that of the path.
pub(super) fn check_same(name: &str, given: Option<&str>, expected: &str) -> Result<(), Refusal> {
    match given {
        Some(given) if given != expected => {
            Err(Refusal::Malformed(format!("{name} in the body is not the one in the path")))
        }
        _ => Ok(()),
    }
}

fn status(text: Option<&str>) -> Result<Status, Refusal> {
    let Some(text) = text else { return Ok(Status::Enabled) };
    Status::parse(text).ok_or_else(|| Refusal::Malformed(format!("'{text}' is not a status")))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceBody<'a> {
    device_id: &'a str,
    generation_id: &'a str,
    etag: String,
    connection_state: &'static str,
    status: &'static str,
    status_reason: Option<&'a str>,
    connection_state_updated_time: String,
    status_updated_time: String,
    last_activity_time: String,
    cloud_to_device_message_count: u32,
    authentication: AuthenticationBody<'a>,
    capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_scope: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    parent_scopes: &'a [String],
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capabilities {
    #[serde(default)]
    pub(super) iot_edge: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthenticationBody<'a> {
    symmetric_key: SymmetricKeyBody<'a>,
    x509_thumbprint: ThumbprintBody<'a>,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKeyBody<'a> {
    primary_key: Option<&'a str>,
    secondary_key: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThumbprintBody<'a> {
    primary_thumbprint: Option<&'a str>,
    secondary_thumbprint: Option<&'a str>,
}

impl<'a> From<&'a IdentityView> for DeviceBody<'a> {
    fn from(IdentityView { identity, connection, messages }: &'a IdentityView) -> Self {
        Self {
            device_id: identity.id.device_id.as_str(),
            generation_id: &identity.generation_id,
            etag: identity.etag_text(),
            connection_state: connection_state(connection.connected),
            status: identity.status.name(),
            status_reason: identity.status_reason.as_deref(),
            connection_state_updated_time: date(connection.state_updated_time),
            status_updated_time: date(identity.status_updated_time),
            last_activity_time: date(connection.last_activity_time),
            cloud_to_device_message_count: *messages,
            authentication: AuthenticationBody::from(&identity.authentication),
            capabilities: Capabilities { iot_edge: identity.iot_edge },
            device_scope: identity.device_scope.as_deref(),
            parent_scopes: &identity.parent_scopes,
        }
    }
}

impl<'a> From<&'a Authentication> for AuthenticationBody<'a> {
    fn from(authentication: &'a Authentication) -> Self {
        let (primary_key, secondary_key) = match authentication {
            Authentication::Sas { primary_key, secondary_key } => {
                (Some(primary_key.text()), Some(secondary_key.text()))
            }
            _ => (None, None),
        };
        Self {
            symmetric_key: SymmetricKeyBody { primary_key, secondary_key },
            x509_thumbprint: ThumbprintBody::from(authentication),
            kind: authentication.type_name(),
        }
    }
}

impl<'a> From<&'a Authentication> for ThumbprintBody<'a> {
    fn from(authentication: &'a Authentication) -> Self {
        let (primary_thumbprint, secondary_thumbprint) = authentication.thumbprints();
        Self { primary_thumbprint, secondary_thumbprint }
    }
}
