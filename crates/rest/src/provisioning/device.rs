//! Devices over HTTPS: register, ask what became of it, read the registration (`dps.md` §1.2).

use provisioning::RegistrationOperation;
use provisioning::view::{RETRY_AFTER_SECONDS, RegistrationRequest, read_request};

use super::error::Refusal;
use super::{BODY_BYTES_MAX, Device, ProvisioningDoor, check_media_type, from_device};
use crate::router::Routes;
use crate::wire::{Request, Response};

#[rustfmt::skip]
pub(super) fn routes() -> Routes<ProvisioningDoor> {
    Routes::new()
        .on("PUT", "/{id_scope}/registrations/{id}/register", "RuntimeRegistration_RegisterDevice", from_device!(register))
        .body_max(BODY_BYTES_MAX)
        .on("GET", "/{id_scope}/registrations/{id}/operations/{operation}", "RuntimeRegistration_OperationStatusLookup", from_device!(operation_status))
        .body_max(BODY_BYTES_MAX)
        .on("POST", "/{id_scope}/registrations/{id}", "RuntimeRegistration_DeviceRegistrationStatusLookup", from_device!(lookup))
        .body_max(BODY_BYTES_MAX)
}

async fn register(at: &Device, request: &Request) -> Result<Response, Refusal> {
    let sent = read(at, request)?;
    let operation = at.service.register(&at.attested, &at.api_version, &sent).await?;
    Ok(progress(at, request, &operation))
}

async fn operation_status(at: &Device, request: &Request) -> Result<Response, Refusal> {
    let operation = at.service.operation_status(&at.attested, request.param("operation")).await?;
    Ok(progress(at, request, &operation))
}

async fn lookup(at: &Device, request: &Request) -> Result<Response, Refusal> {
    read(at, request)?;
    let registration = at.service.lookup(&at.attested).await?;
    Ok(Response::json(200, &registration.view_of_device(&at.service.hub_host(&at.dialled), &at.api_version)))
}

fn read(at: &Device, request: &Request) -> Result<RegistrationRequest, Refusal> {
    check_media_type(request)?;
    Ok(read_request(&request.body, &at.attested.registration_id)?)
}

/// 202 while it goes on; whatever it came to is a 200.
fn progress(at: &Device, request: &Request, operation: &RegistrationOperation) -> Response {
    let body = operation.view(&at.service.hub_host(&at.dialled), &at.api_version);
    if operation.is_over() {
        return Response::json(200, &body);
    }
    let (host, scope, id) = (request.base_url(), at.service.id_scope(), &at.attested.registration_id);
    Response::json(202, &body)
        .header("location", &format!("{host}/{scope}/registrations/{id}/register"))
        .header("retry-after", &RETRY_AFTER_SECONDS.to_string())
}
