//! Refusals on the wire: Azure's two envelopes and the header that names the error (`iothub-service.md` §2).
//! The hub names what went wrong; here it only gets its dress.

use access::Caller;
use base::Timestamp;
use serde::Serialize;

use crate::router::{Fault, lacks};
use crate::wire::{Head, Refused, Response};

/// What this door answers when it does not answer what was asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    Hub(hub::Error),
    /// Somebody who is not told why; the log is.
    KeptOut(Refused),
    /// `api-version` is missing or not a version.
    InvalidProtocolVersion(String),
    /// The body is not what the operation takes.
    Malformed(String),
    Incomplete,
    /// No hub has the name that was dialled.
    UnknownInstance,
    UnknownPath,
    MethodNotAllowed,
    NotBuilt(&'static str),
    BodyTooLarge {
        max_bytes: usize,
    },
}

impl From<hub::Error> for Refusal {
    fn from(error: hub::Error) -> Self {
        Self::Hub(error)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownInstance => Self::UnknownInstance,
            Fault::UnknownPath => Self::UnknownPath,
            Fault::MethodNotAllowed => Self::MethodNotAllowed,
            Fault::Malformed(malformed) => Self::Malformed(malformed.text().to_owned()),
            Fault::NotBuilt { operation } => Self::NotBuilt(operation),
            Fault::BodyTooLarge { max_bytes } => Self::BodyTooLarge { max_bytes },
            Fault::BodyIncomplete => Self::Incomplete,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Envelope {
    /// `ErrorCode:Name;text`, which Node splits and .NET understands.
    Text,
    /// JSON inside a string: direct methods.
    Nested,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    message: String,
    exception_message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Nested<'a> {
    error_code: u32,
    message: &'a str,
    tracking_id: String,
    timestamp_utc: String,
    /// An object here breaks .NET, which reads every member as a string.
    info: Option<()>,
}

impl Refusal {
    fn code(&self) -> u32 {
        match self {
            Self::Hub(error) => error.code(),
            Self::KeptOut(_) => hub::Error::IotHubUnauthorizedAccess.code(),
            Self::InvalidProtocolVersion(_) => 400_001,
            Self::Malformed(_) => 400_004,
            Self::Incomplete => 400_000,
            Self::UnknownInstance | Self::UnknownPath => 404_000,
            Self::MethodNotAllowed => 405_000,
            Self::NotBuilt(_) => 404_013,
            Self::BodyTooLarge { .. } => 413_001,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Hub(error) => error.name(),
            Self::KeptOut(_) => hub::Error::IotHubUnauthorizedAccess.name(),
            Self::InvalidProtocolVersion(_) => "InvalidProtocolVersion",
            Self::Malformed(_) => "ArgumentInvalid",
            Self::Incomplete => "GenericBadRequest",
            Self::UnknownInstance => hub::Error::IotHubNotFound.name(),
            Self::UnknownPath => "GenericNotFound",
            Self::MethodNotAllowed => "GenericMethodNotAllowed",
            Self::NotBuilt(_) => "FeatureNotSupported",
            Self::BodyTooLarge { .. } => "MessageTooLarge",
        }
    }

    fn text(&self, head: &Head, caller: Option<&Caller>) -> String {
        match self {
            Self::Hub(hub::Error::PrincipalUnauthorized(denied))
                if caller.is_some_and(Caller::is_principal) =>
            {
                format!(
                    "Principal {} is not authorized for {} on {} due to no assigned permissions",
                    denied.name, head.method, head.raw_path
                )
            }
            Self::Hub(error) => error.to_string(),
            Self::KeptOut(_) => hub::Error::IotHubUnauthorizedAccess.to_string(),
            Self::InvalidProtocolVersion(version) => format!("Invalid API version: '{version}'"),
            Self::Malformed(why) => format!("BadRequest: {why}"),
            Self::Incomplete => "The request body is incomplete.".to_owned(),
            Self::UnknownInstance => hub::Error::IotHubNotFound.to_string(),
            Self::UnknownPath => format!("The requested resource {} was not found.", head.raw_path),
            Self::MethodNotAllowed => format!("{} is not allowed on {}.", head.method, head.raw_path),
            Self::NotBuilt(operation) => lacks(operation),
            Self::BodyTooLarge { max_bytes } => {
                format!("The request body exceeds the limit of {max_bytes} bytes.")
            }
        }
    }

    pub(super) fn answer(&self, head: &Head, caller: Option<&Caller>, now: Timestamp) -> Response {
        let code = self.code();
        let status = u16::try_from(code / 1000).expect("every code has six digits");
        let body = match envelope_of(head) {
            Envelope::Text => self.in_text(head, caller, now),
            Envelope::Nested => self.nested(head, caller, now),
        };
        let response = Response::json(status, &body).header("iothub-errorcode", self.name());
        match self {
            // Azure sends no Retry-After; it closes the connection.
            Self::Hub(hub::Error::ThrottlingException { .. }) => response.header("connection", "close"),
            // The store is away or does not know yet: it is worth another try.
            Self::Hub(hub::Error::ServerBusy) => response.header("retry-after", "1"),
            Self::Hub(hub::Error::PrincipalUnauthorized(denied)) => {
                response.refusing(Refused::denied(denied))
            }
            Self::KeptOut(refused) => response.refusing(refused.clone()),
            _ => response,
        }
    }

    fn in_text(&self, head: &Head, caller: Option<&Caller>, now: Timestamp) -> Body {
        let exception_message = format!("Tracking ID:{}", tracking_id(head, now));
        Body { message: format!("ErrorCode:{};{}", self.name(), self.text(head, caller)), exception_message }
    }

    fn nested(&self, head: &Head, caller: Option<&Caller>, now: Timestamp) -> Body {
        let message = self.text(head, caller);
        let nested = Nested {
            error_code: self.code(),
            message: &message,
            tracking_id: tracking_id(head, now),
            timestamp_utc: now.iso7(),
            info: None,
        };
        let message = serde_json::to_string(&nested).expect("wire structs are plain data");
        Body { message, exception_message: String::new() }
    }
}

/// The request's id, as Azure writes tracking ids.
fn tracking_id(head: &Head, now: Timestamp) -> String {
    format!("{:X}-G2:-TimeStamp:{}", head.request_id.simple(), now.iso7())
}

/// Direct methods and commands speak in the nested form, whatever went wrong; everything else in the one that Node understands.
fn envelope_of(head: &Head) -> Envelope {
    let segments: Vec<String> = head.segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let is_call = matches!(
        segments[..],
        ["twins", .., "methods"]
            | ["digitaltwins", _, "commands", _]
            | ["digitaltwins", _, _, _, "commands", _]
    );
    if is_call && head.method == http::Method::POST { Envelope::Nested } else { Envelope::Text }
}
