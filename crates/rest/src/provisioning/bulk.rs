//! Several enrollments in one request (`dps.md` §3.5): the answer is a 200 that lists what failed.

use base::caps;
use provisioning::enrollment::{BulkFailure, BulkItem, BulkMode};
use provisioning::{ApiVersion, EnrollmentKind, Error};
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::Refusal;
use super::wire::EnrollmentInput;
use super::{BackEnd, object};
use crate::wire::{Request, Response};

pub(super) async fn run(kind: EnrollmentKind, at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    let mut body = object(request)?;
    let mode = body
        .get("mode")
        .and_then(Value::as_str)
        .and_then(BulkMode::parse)
        .ok_or_else(|| Error::bad("mode must be create, update, updateIfMatchETag or delete."))?;
    let list = match kind {
        EnrollmentKind::Individual => "enrollments",
        EnrollmentKind::Group => "enrollmentGroups",
    };
    let Some(Value::Array(items)) = body.remove(list) else {
        return Err(Error::bad(format!("{list} must be a list.")).into());
    };
    if items.is_empty() || items.len() > caps::BULK_ENROLLMENTS_MAX {
        return Err(Error::bad(format!("{list} must hold 1 to {} items.", caps::BULK_ENROLLMENTS_MAX)).into());
    }
    let items =
        items.into_iter().map(|item| read(kind, item, &at.api_version)).collect::<Result<Vec<_>, _>>()?;
    let failures = at.service.run_bulk_operation(&at.caller, kind, mode, &items).await?;
    Ok(Response::json(200, &BulkBody::new(kind, &failures)))
}

/// An item that names nobody spoils the request, because nothing could be told of it.
fn read(kind: EnrollmentKind, item: Value, api_version: &ApiVersion) -> Result<BulkItem, Refusal> {
    let Value::Object(item) = item else { return Err(Error::bad("An enrollment must be an object.").into()) };
    let text = |item: &Map<String, Value>, name| item.get(name).and_then(Value::as_str).map(str::to_owned);
    let name = id_name(kind);
    let id = text(&item, name).ok_or_else(|| Error::bad(format!("{name} is missing.")))?;
    let etag = text(&item, "etag");
    let draft = EnrollmentInput::of(item).and_then(|input| input.into_draft(kind, None, api_version));
    Ok(BulkItem { id, draft, etag })
}

fn id_name(kind: EnrollmentKind) -> &'static str {
    match kind {
        EnrollmentKind::Individual => "registrationId",
        EnrollmentKind::Group => "enrollmentGroupId",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BulkBody<'a> {
    is_successful: bool,
    errors: Vec<FailureBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group_id: Option<&'a str>,
    error_code: u32,
    error_status: String,
}

impl<'a> BulkBody<'a> {
    fn new(kind: EnrollmentKind, failures: &'a [BulkFailure]) -> Self {
        let failure = |failure: &'a BulkFailure| FailureBody {
            registration_id: (kind == EnrollmentKind::Individual).then_some(failure.id.as_str()),
            enrollment_group_id: (kind == EnrollmentKind::Group).then_some(failure.id.as_str()),
            error_code: failure.error.code(),
            error_status: failure.error.to_string(),
        };
        Self { is_successful: failures.is_empty(), errors: failures.iter().map(failure).collect() }
    }
}
