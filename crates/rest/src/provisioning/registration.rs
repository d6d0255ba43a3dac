//! Registrations as back ends see them (`dps.md` §3, §3.6).

use access::Permission;

use super::error::Refusal;
use super::query;
use super::{BODY_BYTES_MAX, BackEnd, ProvisioningDoor, from_back_end, id};
use crate::router::Routes;
use crate::wire::{Request, Response};

#[rustfmt::skip]
pub(super) fn routes() -> Routes<ProvisioningDoor> {
    Routes::new()
        .on("GET", "/registrations/{id}", "DeviceRegistrationState_Get", from_back_end!(get))
        .requires(Permission::RegistrationRead)
        .body_max(BODY_BYTES_MAX)
        .on("DELETE", "/registrations/{id}", "DeviceRegistrationState_Delete", from_back_end!(delete))
        .requires(Permission::RegistrationDelete)
        .body_max(BODY_BYTES_MAX)
        .on("POST", "/registrations/{id}/query", "DeviceRegistrationState_Query", from_back_end!(list))
        .requires(Permission::RegistrationRead)
        .body_max(BODY_BYTES_MAX)
}

async fn get(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    let registration = at.service.get_registration(&at.caller, &id(request)?).await?;
    Ok(Response::json(200, &registration.view(&at.service.hub_host(&at.dialled))))
}

async fn delete(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    at.service.delete_registration(&at.caller, &id(request)?, &request.if_match()).await?;
    Ok(Response::new(204))
}

/// Of one group. Clients send any query or none, and all mean everything.
async fn list(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    query::selection(request)?;
    let paging = query::paging(request)?;
    let (size, from) = (paging.size, paging.from.as_ref());
    let page = at.service.query_registrations(&at.caller, &id(request)?, size, from).await?;
    let hub_host = at.service.hub_host(&at.dialled);
    let items: Vec<_> = page.items.iter().map(|registration| registration.view(&hub_host)).collect();
    Ok(query::page(&paging, "DeviceRegistration", &items, page.next.as_ref()))
}
