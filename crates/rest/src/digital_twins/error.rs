//! Every refusal of the data plane: status, code and body. The one place where an error becomes HTTP.

use base::meter::Throttled;
use digital_twins::Error;
use digital_twins::json_patch::PatchError;
use serde::Serialize;
use serde_json::{Value, json};

use super::trace::Trace;
use crate::router::lacks;
use crate::wire::{Malformed, Refused, Response};

/// What the door itself refuses, and what the domain refuses.
#[derive(Debug)]
pub(super) enum WireError {
    Unauthorized(Refused),
    UnknownInstance,
    /// With what the log says of it.
    PublicNetworkAccessDisabled(&'static str),
    ApiVersionUnspecified,
    UnsupportedApiVersion(String),
    UnknownPath,
    MethodNotAllowed,
    BodyTooLarge {
        max_bytes: usize,
    },
    Malformed(Malformed),
    NotBuilt(&'static str),
    Domain(Error),
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<PatchError> for WireError {
    fn from(error: PatchError) -> Self {
        Self::Domain(error.into())
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Entry<'a>,
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Entry<'a>>,
}

/// 48 bytes with the blanks inside, as recorded from the gateway.
const UNAUTHORIZED: &str = r#"{ "statusCode": 401, "message": "Unauthorized" }"#;

impl WireError {
    pub(super) fn answer(&self, trace: &Trace) -> Response {
        match self {
            Self::Unauthorized(refused) => {
                Response::bytes(401, "application/json", UNAUTHORIZED).refusing(refused.clone())
            }
            Self::UnknownInstance => envelope(404, "NotFound", "Sub-Domain not found."),
            Self::PublicNetworkAccessDisabled(why) => {
                envelope(403, "Forbidden", "Public network access is disabled for this resource.")
                    .refusing(Refused::stranger(why))
            }
            Self::ApiVersionUnspecified => {
                envelope(400, "ApiVersionUnspecified", "An API version is required, but was not specified.")
            }
            Self::UnsupportedApiVersion(version) => envelope(
                400,
                "UnsupportedApiVersion",
                &format!("The HTTP resource does not support the API version '{version}'."),
            ),
            Self::UnknownPath => envelope(404, "NotFound", "The requested resource does not exist."),
            Self::MethodNotAllowed => {
                envelope(405, "MethodNotAllowed", "The requested resource does not support this HTTP method.")
            }
            Self::BodyTooLarge { max_bytes } => envelope(
                413,
                "RequestEntityTooLarge",
                &format!("The request body is larger than {max_bytes} bytes."),
            ),
            Self::Malformed(malformed) => envelope(400, "InvalidArgument", malformed.text()),
            Self::NotBuilt(operation) => envelope(404, "NotSupported", &lacks(operation)),
            Self::Domain(error) => domain(error, trace),
        }
    }
}

fn domain(error: &Error, trace: &Trace) -> Response {
    let message = error.to_string();
    match error {
        Error::Throttled(throttled) => {
            let text = format!(r#"{{ "error": {{ "statusCode": 429, "message": "{message}" }} }}"#);
            Response::bytes(429, "application/json", text).header("retry-after", &seconds(throttled))
        }
        Error::QuotaReached(throttled) => {
            envelope(status(error), error.code(), &message).header("retry-after", &seconds(throttled))
        }
        Error::JsonPatchInvalid(PatchError::Unreadable { place, reason }) => problem(place, reason, trace),
        Error::Store(inner) => {
            tracing::error!(error = %inner, "a request of the Digital Twins data plane failed");
            envelope(status(error), error.code(), &message)
        }
        _ => {
            let code = error.code();
            let entry = |message| Entry { code, message, details: vec![] };
            let details = error.details().iter().map(|text| entry(text)).collect();
            let body = Envelope { error: Entry { code, message: &message, details } };
            let response = Response::json(status(error), &body).header("x-ms-error-code", code);
            match error {
                Error::Denied(denied) => response.refusing(Refused::denied(denied)),
                _ if status(error) == 503 => response.header("retry-after", "1"),
                _ => response,
            }
        }
    }
}

fn seconds(throttled: &Throttled) -> String {
    throttled.retry_after.as_secs().max(1).to_string()
}

fn envelope(status: u16, code: &str, message: &str) -> Response {
    let body = Envelope { error: Entry { code, message, details: vec![] } };
    Response::json(status, &body).header("x-ms-error-code", code)
}

/// What ASP.NET answers on its own when the body cannot be bound.
fn problem(place: &str, reason: &str, trace: &Trace) -> Response {
    let mut errors = serde_json::Map::new();
    errors.insert(place.to_owned(), json!([reason]));
    errors.insert("jsonPatchDocument".to_owned(), json!(["The jsonPatchDocument field is required."]));
    let body = json!({
        "errors": errors,
        "type": "https://tools.ietf.org/html/rfc7231#section-6.5.1",
        "title": "One or more validation errors occurred.",
        "status": 400,
        "detail": Value::Null,
        "instance": Value::Null,
        "extensions": {"traceId": trace.problem()},
    });
    Response::bytes(400, "application/problem+json; charset=utf-8", body.to_string())
}

fn status(error: &Error) -> u16 {
    match error {
        Error::PayloadInvalid
        | Error::ModelsInvalid
        | Error::DigitalTwinIdInvalid
        | Error::RelationshipIdInvalid
        | Error::ModelIdInvalid(_)
        | Error::IfMatchInvalid
        | Error::IfNoneMatchInvalid
        | Error::MessageIdInvalid
        | Error::ArgumentInvalid(_)
        | Error::DtdlParserError(_)
        | Error::ModelVersionNotSupported(_)
        | Error::LimitExceeded(_)
        | Error::ModelDecommissioned(_)
        | Error::TwinLimitReached
        | Error::ValidationFailed { .. }
        | Error::JsonPatchInvalid(_)
        | Error::RelationshipsNotDeleted(_)
        | Error::RelationshipNotInModel
        | Error::InvalidRelationship(_)
        | Error::OperationNotAllowed
        | Error::SqlQueryError(_)
        | Error::ContinuationInvalid
        | Error::QueryTimeout
        | Error::EventRouteIdInvalid
        | Error::EventRouteEndpointInvalid
        | Error::EventRouteFilterInvalid(_) => 400,
        Error::Denied(_) => 403,
        Error::ModelNotFound(_)
        | Error::DigitalTwinNotFound(_)
        | Error::ComponentNotFound { .. }
        | Error::TargetDigitalTwinNotFound
        | Error::RelationshipNotFound { .. }
        | Error::EventRouteNotFound => 404,
        Error::ModelAlreadyExists(_)
        | Error::ModelReferencesNotDeleted(_)
        | Error::ModelReferencesNotDecommissioned(_) => 409,
        Error::EtagMismatch(_) | Error::DigitalTwinExists(_) | Error::RelationshipExists(_) => 412,
        Error::Throttled(_) | Error::QuotaReached(_) => 429,
        Error::Store(_) => 500,
        Error::Conflict | Error::Busy => 503,
    }
}
