//! The provisioning service's face over HTTPS: enrollments and registrations for back ends, registering for devices (`dps.md`
//! §1.2, §3). A handler parses, calls one operation of the service and writes its answer. It must never decide anything.

mod attestation;
mod bulk;
mod device;
mod enrollment;
mod error;
mod query;
mod registration;
#[cfg(test)]
mod tests;
mod wire;

use access::{Caller, Directory, NetworkTarget, audiences};
use base::hosts::Dialled;
use base::sas::SasToken;
use base::{Clock, caps};
use provisioning::{ApiVersion, Attested, Error, RegistrationId, Service, Services};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::error::Refusal;
use crate::json::{self, Reading, Unreadable};
use crate::router::{Door, Fault, RouteInfo, Routes};
use crate::websocket;
use crate::wire::{Head, NO_CREDENTIALS, NO_SIGNATURE, Refused, Request, Response};

#[derive(Clone)]
pub struct ProvisioningDoor {
    pub services: Services,
    pub directory: Directory,
    pub clock: Clock,
}

/// Who has come in: a back end at the service that its host chose, or a device at the one that its id scope names.
pub enum At {
    BackEnd(BackEnd),
    Device(Box<Device>),
}

pub struct BackEnd {
    service: Service,
    caller: Caller,
    api_version: ApiVersion,
    dialled: Dialled,
}

pub struct Device {
    service: Service,
    attested: Attested,
    api_version: ApiVersion,
    dialled: Dialled,
}

/// The operations of devices; all others are for back ends.
const OF_DEVICES: &str = "RuntimeRegistration_";

impl Door for ProvisioningDoor {
    type Context = At;
    const NAME: &'static str = "provisioning";

    fn routes() -> Routes<Self> {
        enrollment::routes().and(registration::routes()).and(device::routes()).and(websocket::routes())
    }

    async fn authenticate(&self, head: &Head, route: &RouteInfo) -> Result<At, Response> {
        let entered = if route.operation.starts_with(OF_DEVICES) {
            self.device(head).await.map(|device| At::Device(Box::new(device)))
        } else {
            self.back_end(head, route).await.map(At::BackEnd)
        };
        entered.map_err(|refusal| refusal.answer(head, self.clock.now()))
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        Refusal::of(fault, head).answer(head, self.clock.now())
    }

    fn finish(&self, head: &Head, response: Response) -> Response {
        let response = response.header("strict-transport-security", "max-age=31536000; includeSubDomains");
        response.header(error::REQUEST_ID, &head.request_id.to_string())
    }
}

impl ProvisioningDoor {
    async fn back_end(&self, head: &Head, route: &RouteInfo) -> Result<BackEnd, Refusal> {
        let service = self.services.at_host(&head.host, head.local()).ok_or(Refusal::UnknownPath)?;
        check_network(&service, head, NetworkTarget::ServiceApi)?;
        let caller = match head.bearer() {
            Some(token) => {
                self.directory.authenticate_bearer(token, audiences::PROVISIONING).await.map_err(|error| {
                    tracing::debug!(%error, "a bearer token was refused");
                    Refusal::KeptOut(Refused::token(&error))
                })?
            }
            None => by_policy(&service, head)?,
        };
        let api_version = api_version(head)?;
        if let Some(permission) = route.permission {
            service.require(&caller, permission).map_err(|error| match error {
                Error::Unauthorized => {
                    Refusal::KeptOut(Refused::caller(caller.object_id(), "its policy may not do this"))
                }
                error => error.into(),
            })?;
        }
        Ok(BackEnd { service, caller, api_version, dialled: head.dialled() })
    }

    /// The id scope chooses the service, whatever host was dialled.
    async fn device(&self, head: &Head) -> Result<Device, Refusal> {
        let [id_scope, _, id, ..] = head.segments.as_slice() else { return Err(Refusal::UnknownPath) };
        let token = signature(head)?;
        let id = registration_id(id)?;
        let kept_out = |why| Refusal::KeptOut(Refused::device(id.as_str(), why));
        let service = self.services.by_id_scope(id_scope);
        let service = service.ok_or_else(|| kept_out("no provisioning service has its id scope"))?;
        check_network(&service, head, NetworkTarget::DeviceApi)?;
        let attested = service.authenticate(&id, Some(&token)).await;
        let attested = attested.map_err(|refused| match refused.error {
            Error::Unauthorized => kept_out(refused.why),
            error => error.into(),
        })?;
        Ok(Device { service, attested, api_version: api_version(head)?, dialled: head.dialled() })
    }

    /// Writes an answer or its refusal.
    fn answer(&self, head: &Head, result: Result<Response, Refusal>) -> Response {
        result.unwrap_or_else(|refusal| refusal.answer(head, self.clock.now()))
    }
}

/// Makes a handler of an operation of back ends: `operation(&at, &request)` answers or refuses.
macro_rules! from_back_end {
    ($operation:path) => {
        |door: $crate::provisioning::ProvisioningDoor,
         at: $crate::provisioning::At,
         request: $crate::wire::Request| async move {
            let result = match &at {
                $crate::provisioning::At::BackEnd(at) => $operation(at, &request).await,
                $crate::provisioning::At::Device(_) => Err(provisioning::Error::Unauthorized.into()),
            };
            door.answer(&request.head, result)
        }
    };
}

/// Makes a handler of an operation of devices.
macro_rules! from_device {
    ($operation:path) => {
        |door: $crate::provisioning::ProvisioningDoor,
         at: $crate::provisioning::At,
         request: $crate::wire::Request| async move {
            let result = match &at {
                $crate::provisioning::At::Device(at) => $operation(at, &request).await,
                $crate::provisioning::At::BackEnd(_) => Err(provisioning::Error::Unauthorized.into()),
            };
            door.answer(&request.head, result)
        }
    };
}
use {from_back_end, from_device};

fn check_network(service: &Service, head: &Head, target: NetworkTarget) -> Result<(), Refusal> {
    let reached = service.settings().network().check(head.peer.remote_address(), target);
    reached.map_err(|why| Refusal::KeptOut(Refused::stranger(why)))
}

/// Whoever signs with a policy's key.
fn by_policy(service: &Service, head: &Head) -> Result<Caller, Refusal> {
    let token = signature(head)?;
    let authenticated = service.authenticate_service(&head.host, &head.segments.join("/"), &token);
    authenticated.map_err(|refused| {
        let known = |name: &&str| service.settings().policy(name).is_some();
        Refusal::KeptOut(Refused::policy(token.key_name().filter(known), refused.why))
    })
}

fn signature(head: &Head) -> Result<SasToken, Refusal> {
    let kept_out = |why| Refusal::KeptOut(Refused::stranger(why));
    let text = head.authorization().ok_or_else(|| kept_out(NO_CREDENTIALS))?;
    SasToken::parse(text).map_err(|_| kept_out(NO_SIGNATURE))
}

/// Any well-formed date counts: installed SDKs ask for many.
fn api_version(head: &Head) -> Result<ApiVersion, Refusal> {
    let version = head.api_version().unwrap_or_default();
    version.parse().map_err(|_| Refusal::ApiVersion(version.to_owned()))
}

fn registration_id(text: &str) -> Result<RegistrationId, Refusal> {
    Ok(text.parse().map_err(|error: base::ids::InvalidId| Error::bad(error.to_string()))?)
}

fn id(request: &Request) -> Result<RegistrationId, Refusal> {
    registration_id(request.param("id"))
}

/// The body as an object. Nothing else is ever one of the service's.
fn object(request: &Request) -> Result<Map<String, Value>, Refusal> {
    check_media_type(request)?;
    let body: Value = json::read(&request.body, Reading::Tolerant).map_err(unreadable)?;
    if base::json::depth(&body) > caps::JSON_DEPTH_MAX {
        return Err(Error::bad("The body is nested too deeply.").into());
    }
    match body {
        Value::Object(object) => Ok(object),
        _ => Err(Error::bad("The body is not a JSON object.").into()),
    }
}

/// The same by its members' names.
fn typed<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    let body = Value::Object(object(request)?);
    Ok(json::read_value(body, Reading::Tolerant).map_err(unreadable)?)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn unreadable(why: Unreadable) -> Error {
    Error::bad(format!("The body cannot be read: {why}."))
}

fn has_body(request: &Request) -> bool {
    !request.body.iter().all(u8::is_ascii_whitespace)
}

/// Some clients name no type and are believed.
fn check_media_type(request: &Request) -> Result<(), Refusal> {
    let is_json =
        |kind: &str| kind.to_ascii_lowercase().split(';').next().is_some_and(|k| k.trim().ends_with("json"));
    match request.header("content-type") {
        Some(kind) if has_body(request) && !is_json(kind) => Err(Refusal::MediaType),
        _ => Ok(()),
    }
}

const BODY_BYTES_MAX: usize = caps::PROVISIONING_MESSAGE_BYTES_MAX;
