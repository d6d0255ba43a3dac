//! JSON of the provisioning service as devices read it over MQTT (`dps.md` §0.4, §1.1).

use base::Timestamp;
use bytes::Bytes;
use provisioning::{
    EnrollmentKind, Error, Registration, RegistrationId, RegistrationOperation, RegistrationState, Substatus,
};
use serde::{Deserialize, Serialize};

/// Older callers than this do not know `reprovisionedToInitialAssignment`.
const REPROVISIONED_SINCE: &str = "2019-04-15";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    registration_id: Option<String>,
}

/// An empty body says nothing; any other is an object, and of this registration.
pub(super) fn check_request(body: &[u8], registration_id: &RegistrationId) -> Result<(), Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let request: Request = serde_json::from_slice(body)
        .map_err(|_| Error::bad("The registration request is not valid JSON."))?;
    match request.registration_id {
        Some(other) if !registration_id.is_same(&other) => {
            Err(Error::bad("The registration id of the request is not that of the connection."))
        }
        _ => Ok(()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationBody<'a> {
    operation_id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_state: Option<StateBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateBody<'a> {
    registration_id: &'a str,
    created_date_time_utc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_hub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    substatus: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    last_updated_date_time_utc: String,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symmetric_key: Option<SymmetricKeyBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKeyBody<'a> {
    enrollment_group_id: &'a str,
}

/// 202 while it goes on; whatever it came to is a 200.
pub(super) fn status(operation: &RegistrationOperation) -> u16 {
    match operation.registration.state {
        RegistrationState::Assigning => 202,
        RegistrationState::Assigned { .. }
        | RegistrationState::Failed { .. }
        | RegistrationState::Disabled => 200,
    }
}

pub(super) fn operation_body(operation: &RegistrationOperation, api_version: &str) -> Bytes {
    let state = state_body(&operation.registration, api_version);
    let is_over = operation.registration.state != RegistrationState::Assigning;
    let body = OperationBody {
        operation_id: &operation.operation_id,
        status: state.status,
        registration_state: is_over.then_some(state),
    };
    json(&body)
}

fn state_body<'a>(registration: &'a Registration, api_version: &str) -> StateBody<'a> {
    let mut body = StateBody {
        registration_id: registration.registration_id.as_str(),
        created_date_time_utc: registration.created.iso7(),
        assigned_hub: None,
        device_id: None,
        status: "assigning",
        substatus: None,
        error_code: None,
        error_message: None,
        last_updated_date_time_utc: registration.last_updated.iso7(),
        etag: registration.etag_text(),
        symmetric_key: match registration.enrollment_kind {
            EnrollmentKind::Group => {
                Some(SymmetricKeyBody { enrollment_group_id: registration.enrollment_id.as_str() })
            }
            EnrollmentKind::Individual => None,
        },
    };
    match &registration.state {
        RegistrationState::Assigning => {}
        RegistrationState::Assigned { substatus } => {
            body.status = "assigned";
            body.substatus = Some(substatus_name(*substatus, api_version));
            if let Some(assignment) = &registration.assignment {
                body.assigned_hub = Some(&assignment.assigned_hub);
                body.device_id = Some(assignment.device_id.as_str());
            }
        }
        RegistrationState::Failed { reason } => {
            body.status = "failed";
            body.error_code = Some(reason.code());
            body.error_message = Some(reason.message());
        }
        RegistrationState::Disabled => body.status = "disabled",
    }
    body
}

fn substatus_name(substatus: Substatus, api_version: &str) -> &'static str {
    match substatus {
        Substatus::ReprovisionedToInitialAssignment if api_version < REPROVISIONED_SINCE => {
            Substatus::InitialAssignment.name()
        }
        known => known.name(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_code: u32,
    tracking_id: String,
    message: String,
    timestamp_utc: String,
}

pub(super) fn error_body(error: &Error, now: Timestamp) -> Bytes {
    let error_code = match error {
        // Over MQTT a wrong token is said to be 401000.
        Error::Unauthorized => 401_000,
        error => error.code(),
    };
    let tracking_id = uuid::Uuid::new_v4().to_string();
    json(&ErrorBody { error_code, tracking_id, message: error.to_string(), timestamp_utc: now.iso7() })
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("texts and numbers are JSON").into()
}
