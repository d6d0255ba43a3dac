//! Refusals on the wire: the service's six digits, its one envelope and the headers that repeat it (`dps.md` §0.4).

use base::Timestamp;
use provisioning::Error;
use provisioning::view::{ErrorView, RETRY_AFTER_SECONDS};

use crate::router::{Fault, lacks};
use crate::wire::{Head, Refused, Response};

/// Carries the tracking id of a refusal, and one of its own on every other answer.
pub(super) const REQUEST_ID: &str = "x-ms-request-id";

/// What this door answers when it does not answer what was asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    Domain(Error),
    /// Somebody who is not told why; the log is.
    KeptOut(Refused),
    /// `api-version` is missing or not a version.
    ApiVersion(String),
    MediaType,
    Incomplete,
    UnknownPath,
    MethodNotAllowed,
    NotBuilt(&'static str),
    BodyTooLarge {
        max_bytes: usize,
    },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl Refusal {
    pub(super) fn of(fault: Fault, head: &Head) -> Self {
        match fault {
            // What is missing is the id: the collection itself can be neither read nor deleted.
            Fault::UnknownPath if head.segments.len() == 1 && is_collection(&head.segments[0]) => {
                Self::MethodNotAllowed
            }
            Fault::UnknownInstance | Fault::UnknownPath => Self::UnknownPath,
            Fault::MethodNotAllowed => Self::MethodNotAllowed,
            Fault::Malformed(malformed) => Self::Domain(Error::bad(malformed.text())),
            Fault::NotBuilt { operation } => Self::NotBuilt(operation),
            Fault::BodyTooLarge { max_bytes } => Self::BodyTooLarge { max_bytes },
            Fault::BodyIncomplete => Self::Incomplete,
        }
    }

    fn code(&self) -> u32 {
        match self {
            Self::Domain(error) => error.code(),
            Self::KeptOut(_) => Error::Unauthorized.code(),
            Self::ApiVersion(_) => 400_001,
            Self::Incomplete => 400_000,
            Self::UnknownPath | Self::NotBuilt(_) => 404_000,
            Self::MethodNotAllowed => 405_000,
            Self::BodyTooLarge { .. } => 413_000,
            Self::MediaType => 415_000,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Domain(error) => error.to_string(),
            Self::KeptOut(_) => Error::Unauthorized.to_string(),
            Self::ApiVersion(version) if version.is_empty() => "The api-version is missing.".to_owned(),
            Self::ApiVersion(_) => "The api-version is not a version of the service.".to_owned(),
            Self::Incomplete => "The request body is incomplete.".to_owned(),
            Self::UnknownPath => "Not found.".to_owned(),
            Self::MethodNotAllowed => "The method is not allowed here. Is an id missing?".to_owned(),
            Self::NotBuilt(operation) => lacks(operation),
            Self::BodyTooLarge { max_bytes } => {
                format!("The request body exceeds the limit of {max_bytes} bytes.")
            }
            Self::MediaType => "The body must be application/json.".to_owned(),
        }
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Domain(Error::Throttled { retry_after }) => Some(retry_after.as_secs().max(1)),
            Self::Domain(Error::ServerBusy) => Some(RETRY_AFTER_SECONDS),
            _ => None,
        }
    }

    pub(super) fn answer(&self, head: &Head, now: Timestamp) -> Response {
        let code = self.code();
        let view = ErrorView::tracked(head.request_id, code, self.text(), now);
        let status = u16::try_from(code / 1000).expect("every code has six digits");
        let response = Response::json(status, &view)
            .header(REQUEST_ID, &view.tracking_id)
            .header("x-ms-error-code", &code.to_string());
        let response = match self {
            Self::KeptOut(refused) => response.refusing(refused.clone()),
            Self::Domain(Error::PrincipalUnauthorized(denied)) => response.refusing(Refused::denied(denied)),
            _ => response,
        };
        match self.retry_after_seconds() {
            Some(seconds) => response.header("retry-after", &seconds.to_string()),
            None => response,
        }
    }
}

fn is_collection(segment: &str) -> bool {
    ["enrollments", "enrollmentGroups", "registrations"].iter().any(|name| name.eq_ignore_ascii_case(segment))
}
