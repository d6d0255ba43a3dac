//! Enrollments and enrollment groups: one set of operations under two paths (`dps.md` §3).

use provisioning::{Enrollment, EnrollmentKind};

use super::attestation::AttestationBody;
use super::error::Refusal;
use super::query;
use super::wire::{EnrollmentBody, EnrollmentInput};
use super::{BODY_BYTES_MAX, BackEnd, ProvisioningDoor, bulk, from_back_end, id, object};
use crate::router::Routes;
use crate::wire::{Request, Response};

/// The two kinds side by side: path, operations, handlers that know their kind. What a bulk operation needs, its body says.
#[rustfmt::skip]
pub(super) fn routes() -> Routes<ProvisioningDoor> {
    use access::Permission::{
        AttestationMechanismRead, EnrollmentDelete, EnrollmentGroupDelete, EnrollmentGroupRead, EnrollmentGroupWrite, EnrollmentRead, EnrollmentWrite,
    };
    let r = Routes::new();
    let r = r.on("POST", "/enrollments/query", "IndividualEnrollment_Query", from_back_end!(individual::list)).requires(EnrollmentRead).body_max(BODY_BYTES_MAX);
    let r = r.on("POST", "/enrollments", "IndividualEnrollment_RunBulkOperation", from_back_end!(individual::bulk)).body_max(BODY_BYTES_MAX);
    let r = r.on("GET", "/enrollments/{id}", "IndividualEnrollment_Get", from_back_end!(individual::get)).requires(EnrollmentRead).body_max(BODY_BYTES_MAX);
    let r = r.on("PUT", "/enrollments/{id}", "IndividualEnrollment_CreateOrUpdate", from_back_end!(individual::put)).requires(EnrollmentWrite).body_max(BODY_BYTES_MAX);
    let r = r.on("DELETE", "/enrollments/{id}", "IndividualEnrollment_Delete", from_back_end!(individual::delete)).requires(EnrollmentDelete).body_max(BODY_BYTES_MAX);
    let r = r.on("POST", "/enrollments/{id}/attestationmechanism", "IndividualEnrollment_GetAttestationMechanism", from_back_end!(individual::attestation)).requires(AttestationMechanismRead).body_max(BODY_BYTES_MAX);
    let r = r.on("POST", "/enrollmentGroups/query", "EnrollmentGroup_Query", from_back_end!(group::list)).requires(EnrollmentGroupRead).body_max(BODY_BYTES_MAX);
    let r = r.on("POST", "/enrollmentGroups", "EnrollmentGroup_RunBulkOperation", from_back_end!(group::bulk)).body_max(BODY_BYTES_MAX);
    let r = r.on("GET", "/enrollmentGroups/{id}", "EnrollmentGroup_Get", from_back_end!(group::get)).requires(EnrollmentGroupRead).body_max(BODY_BYTES_MAX);
    let r = r.on("PUT", "/enrollmentGroups/{id}", "EnrollmentGroup_CreateOrUpdate", from_back_end!(group::put)).requires(EnrollmentGroupWrite).body_max(BODY_BYTES_MAX);
    let r = r.on("DELETE", "/enrollmentGroups/{id}", "EnrollmentGroup_Delete", from_back_end!(group::delete)).requires(EnrollmentGroupDelete).body_max(BODY_BYTES_MAX);
    r.on("POST", "/enrollmentGroups/{id}/attestationmechanism", "EnrollmentGroup_GetAttestationMechanism", from_back_end!(group::attestation)).requires(AttestationMechanismRead).body_max(BODY_BYTES_MAX)
}

/// The handlers of one kind.
macro_rules! kind {
    ($module:ident, $kind:expr) => {
        mod $module {
            use super::{BackEnd, EnrollmentKind, Refusal, Request, Response};

            const KIND: EnrollmentKind = $kind;

            pub(super) async fn get(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
                super::get(KIND, at, request).await
            }

            pub(super) async fn put(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
                super::put(KIND, at, request).await
            }

            pub(super) async fn delete(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
                super::delete(KIND, at, request).await
            }

            pub(super) async fn attestation(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
                super::attestation(KIND, at, request).await
            }

            pub(super) async fn list(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
                super::list(KIND, at, request).await
            }

            pub(super) async fn bulk(at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
                super::bulk::run(KIND, at, request).await
            }
        }
    };
}
kind!(individual, EnrollmentKind::Individual);
kind!(group, EnrollmentKind::Group);

async fn get(kind: EnrollmentKind, at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    let (enrollment, registration) = at.service.get_enrollment(&at.caller, kind, &id(request)?).await?;
    let state =
        registration.as_ref().map(|registration| registration.view(&at.service.hub_host(&at.dialled)));
    Ok(Response::json(200, &EnrollmentBody::with_state(&enrollment, state, &at.api_version)))
}

async fn put(kind: EnrollmentKind, at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    let id = id(request)?;
    let input = EnrollmentInput::of(object(request)?)?;
    let draft = input.into_draft(kind, Some(&id), &at.api_version)?;
    let enrollment = at.service.put_enrollment(&at.caller, &draft, &request.if_match()).await?;
    Ok(Response::json(200, &EnrollmentBody::with_secrets(&enrollment, &at.api_version)))
}

async fn delete(kind: EnrollmentKind, at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    at.service.delete_enrollment(&at.caller, kind, &id(request)?, &request.if_match()).await?;
    Ok(Response::new(204))
}

async fn attestation(kind: EnrollmentKind, at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    let attestation = at.service.get_attestation_mechanism(&at.caller, kind, &id(request)?).await?;
    Ok(Response::json(200, &AttestationBody::with_secrets(&attestation)))
}

async fn list(kind: EnrollmentKind, at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    let (selection, paging) = (query::selection(request)?, query::paging(request)?);
    let keep = |enrollment: &Enrollment| {
        let body = EnrollmentBody::new(enrollment, &at.api_version);
        let shown = || serde_json::to_value(body).expect("wire structs are plain data");
        selection.selects_all() || selection.matches(&shown())
    };
    let (size, from) = (paging.size, paging.from.as_ref());
    let page = at.service.query_enrollments(&at.caller, kind, keep, size, from).await?;
    let items: Vec<_> =
        page.items.iter().map(|enrollment| EnrollmentBody::new(enrollment, &at.api_version)).collect();
    let item_type = match kind {
        EnrollmentKind::Individual => "Enrollment",
        EnrollmentKind::Group => "EnrollmentGroup",
    };
    Ok(query::page(&paging, item_type, &items, page.next.as_ref()))
}
