//! Several enrollments in one request (`dps.md` §3.5): the answer is a 200 that lists what failed.

use base::caps;
use provisioning::enrollment::{BulkFailure, BulkItem, BulkMode};
use provisioning::{ApiVersion, EnrollmentKind, Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Refusal;
use super::wire::EnrollmentInput;
use super::{BackEnd, typed, unreadable};
use crate::json::{self, Reading};
use crate::wire::{Request, Response};

pub(super) async fn run(kind: EnrollmentKind, at: &BackEnd, request: &Request) -> Result<Response, Refusal> {
    let body: BulkInput = typed(request)?;
    let mode = body.mode.as_deref().and_then(BulkMode::parse);
    let mode = mode.ok_or_else(|| Error::bad("mode must be create, update, updateIfMatchETag or delete."))?;
    let (list, items) = match kind {
        EnrollmentKind::Individual => ("enrollments", body.enrollments),
        EnrollmentKind::Group => ("enrollmentGroups", body.enrollment_groups),
    };
    let items = items.ok_or_else(|| Error::bad(format!("{list} must be a list.")))?;
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
    let who: ItemInput =
        json::read_value(Value::Object(item.clone()), Reading::Tolerant).map_err(unreadable)?;
    let (name, id) = match kind {
        EnrollmentKind::Individual => ("registrationId", who.registration_id),
        EnrollmentKind::Group => ("enrollmentGroupId", who.enrollment_group_id),
    };
    let id = id.ok_or_else(|| Error::bad(format!("{name} is missing.")))?;
    let draft = EnrollmentInput::of(item).and_then(|input| input.into_draft(kind, None, api_version));
    Ok(BulkItem { id, draft, etag: who.etag })
}

/// The items are read one by one, since each may fail for itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkInput {
    mode: Option<String>,
    enrollments: Option<Vec<Value>>,
    enrollment_groups: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemInput {
    registration_id: Option<String>,
    enrollment_group_id: Option<String>,
    etag: Option<String>,
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
