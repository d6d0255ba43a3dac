//! The hub's face over HTTPS to back ends: registry, twins, direct methods, statistics (`iothub-service.md` §0–§6), and to devices:
//! messages (`iothub-device.md` §3.6).
//! A handler parses, calls one operation of the hub and writes its answer. It must never decide anything about a device.

mod bulk;
mod cloud_to_device;
mod configuration;
mod device;
mod device_bound;
mod device_message;
mod digital_twin;
mod error;
mod file_upload;
mod job;
mod method;
mod module;
mod query;
mod registry_job;
mod statistics;
#[cfg(test)]
mod tests;
mod twin;

use access::{Caller, Directory, NetworkTarget, Permission, audiences};
use base::ids::IdentityId;
use base::sas::SasToken;
use base::{Clock, DeviceId, ModuleId};
use hub::{DeviceAuthentication, Hub, Hubs};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::error::Refusal;
use crate::json::{self, Reading};
use crate::router::{Door, Fault, RouteInfo, Routes};
use crate::websocket;
use crate::wire::{Head, NO_CREDENTIALS, NO_SIGNATURE, Refused, Request, Response};

#[derive(Clone)]
pub struct HubDoor {
    pub hubs: Hubs,
    pub directory: Directory,
    pub clock: Clock,
}

/// The hub that the host name chose, and who calls.
pub struct HubAt {
    hub: Hub,
    caller: Caller,
    /// Of a route for devices.
    device: Option<DeviceAuthentication>,
}

impl HubAt {
    /// Asked before the body is read, so that whoever may not is told that and not what is wrong with it.
    fn require(&self, permission: Option<Permission>) -> Result<(), Refusal> {
        match permission {
            // A device that has proved who it is may connect; a policy was asked then.
            None | Some(Permission::DeviceConnect) => Ok(()),
            Some(permission) => {
                Ok(self.caller.require(permission, self.hub.scope()).map_err(hub::Error::from)?)
            }
        }
    }
}

impl Door for HubDoor {
    type Context = HubAt;
    const NAME: &'static str = "hub";

    fn routes() -> Routes<Self> {
        device::routes()
            .and(module::routes())
            .and(bulk::routes())
            .and(twin::routes())
            .and(query::routes())
            .and(method::routes())
            .and(job::routes())
            .and(configuration::routes())
            .and(digital_twin::routes())
            .and(statistics::routes())
            .and(device_message::routes())
            .and(device_bound::routes())
            .and(cloud_to_device::routes())
            .and(registry_job::routes())
            .and(file_upload::routes())
            .and(file_upload::device_routes())
            .and(websocket::routes())
    }

    /// The client of Java cannot send a PATCH: it posts, and says in a header what it means.
    fn method(head: &Head) -> &str {
        match (head.method.as_str(), head.header("x-http-method-override")) {
            ("POST", Some(meant)) if meant.eq_ignore_ascii_case("PATCH") => "PATCH",
            (method, _) => method,
        }
    }

    async fn authenticate(&self, head: &Head, route: &RouteInfo) -> Result<HubAt, Response> {
        let entered = match route.permission {
            Some(Permission::DeviceConnect) => self.device(head).await,
            _ => self.caller(head).await,
        };
        let at = entered.map_err(|refusal| refusal.answer(head, None, self.clock.now()))?;
        match check_version(head).and_then(|()| at.require(route.permission)) {
            Ok(()) => Ok(at),
            Err(refusal) => Err(refusal.answer(head, Some(&at.caller), self.clock.now())),
        }
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        Refusal::from(fault).answer(head, None, self.clock.now())
    }

    fn finish(&self, head: &Head, response: Response) -> Response {
        response.header("x-ms-request-id", &head.request_id.to_string())
    }
}

impl HubDoor {
    async fn caller(&self, head: &Head) -> Result<HubAt, Refusal> {
        let hub = self.hub(head, NetworkTarget::ServiceApi)?;
        let caller = match (head.bearer(), head.authorization()) {
            (Some(token), _) => {
                self.directory.authenticate_bearer(token, audiences::HUB).await.map_err(|error| {
                    tracing::debug!(%error, "a bearer token was refused");
                    Refusal::KeptOut(Refused::token(&error))
                })?
            }
            (None, Some(signature)) => {
                let token = SasToken::parse(signature)
                    .map_err(|_| Refusal::KeptOut(Refused::stranger(NO_SIGNATURE)))?;
                let known = |name: &&str| hub.settings().policy(name).is_some();
                let authenticated = hub.authenticate_service(&head.host, &head.segments.join("/"), &token);
                authenticated.map_err(|refused| {
                    Refusal::KeptOut(Refused::policy(token.key_name().filter(known), refused.why))
                })?
            }
            (None, None) => return Err(Refusal::KeptOut(Refused::stranger(NO_CREDENTIALS))),
        };
        Ok(HubAt { hub, caller, device: None })
    }

    /// The device or module that the path names, by its token, else by the certificates of the connection.
    async fn device(&self, head: &Head) -> Result<HubAt, Refusal> {
        let hub = self.hub(head, NetworkTarget::DeviceApi)?;
        let id = device_message::identity(head)?;
        let keep_out = |why| Refusal::KeptOut(Refused::device(&id.to_string(), why));
        let certificates = &head.peer.client_certificates;
        let proved = match head.authorization() {
            Some(signature) => {
                let token = SasToken::parse(signature).map_err(|_| keep_out(NO_SIGNATURE))?;
                hub.authenticate_device(&head.host, &id, &token).await
            }
            None if certificates.is_empty() => return Err(keep_out(NO_CREDENTIALS)),
            None => hub.authenticate_device_by_certificate(&id, certificates).await,
        };
        let device = proved.map_err(|refused| match refused.error {
            hub::Error::IotHubUnauthorizedAccess => keep_out(refused.why),
            error => Refusal::Hub(error),
        })?;
        Ok(HubAt { hub, caller: device.caller.clone(), device: Some(device) })
    }

    fn hub(&self, head: &Head, target: NetworkTarget) -> Result<Hub, Refusal> {
        let hub = self.hubs.at_host(&head.host, head.local()).ok_or(Refusal::UnknownInstance)?;
        let reached = hub.settings().network().check(head.peer.remote_address(), target);
        reached.map_err(|why| Refusal::KeptOut(Refused::stranger(why)))?;
        Ok(hub)
    }

    /// Writes an answer or its refusal.
    fn answer(&self, at: &HubAt, head: &Head, result: Result<Response, Refusal>) -> Response {
        result.unwrap_or_else(|refusal| refusal.answer(head, Some(&at.caller), self.clock.now()))
    }
}

/// Any well-formed date counts as the newest version: installed SDKs ask for many.
fn check_version(head: &Head) -> Result<(), Refusal> {
    let version = head.api_version().unwrap_or_default();
    let date = version.strip_suffix("-preview").unwrap_or(version);
    let is_date = date.len() == 10
        && date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if is_date { Ok(()) } else { Err(Refusal::InvalidProtocolVersion(version.to_owned())) }
}

/// Makes a handler of an operation: `operation(at, request)` answers or refuses.
macro_rules! handler {
    ($operation:path) => {
        |door: $crate::hub::HubDoor, at: $crate::hub::HubAt, request: $crate::wire::Request| async move {
            let result = $operation(&at, &request).await;
            door.answer(&at, &request.head, result)
        }
    };
}
use handler;

fn device_id(request: &Request) -> Result<DeviceId, Refusal> {
    request.param("id").parse().map_err(|error: base::ids::InvalidId| Refusal::Malformed(error.to_string()))
}

fn module_id(request: &Request) -> Result<ModuleId, Refusal> {
    request.param("mid").parse().map_err(|error: base::ids::InvalidId| Refusal::Malformed(error.to_string()))
}

/// The device or module that has proved itself, on a route for devices.
fn device_of(at: &HubAt) -> Result<&IdentityId, Refusal> {
    let device = at.device.as_ref().ok_or(hub::Error::IotHubUnauthorizedAccess)?;
    Ok(&device.identity)
}

fn device(request: &Request) -> Result<IdentityId, Refusal> {
    Ok(IdentityId::device(device_id(request)?))
}

fn module(request: &Request) -> Result<IdentityId, Refusal> {
    Ok(IdentityId::module(device_id(request)?, module_id(request)?))
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    json::read(&request.body, Reading::Tolerant).map_err(|why| Refusal::Malformed(why.to_string()))
}

fn tagged<T: Serialize>(etag: &str, value: &T) -> Response {
    Response::json(200, value).header("etag", &quoted(etag))
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}
