//! Every refusal of Graph: status, code and envelope. The one place where an error becomes HTTP here.

use access::TokenError;
use access::directory::Error;
use base::Timestamp;
use serde_json::json;

use crate::router::lacks;
use crate::wire::{Head, Malformed, NO_CREDENTIALS, Refused, Response};

#[derive(Debug)]
pub(super) enum GraphError {
    NoToken,
    Token(TokenError),
    UnknownPath,
    MethodNotAllowed,
    Malformed(Malformed),
    NotBuilt(&'static str),
    BodyTooLarge { max_bytes: usize },
    Body(String),
    UnsupportedQuery(String),
    NotFound(String),
    Directory(Error),
}

/// What the directory was asked for; it can fail only by being out of reach.
pub(super) fn read<T>(found: Result<T, impl Into<Error>>) -> Result<T, GraphError> {
    found.map_err(|error| GraphError::Directory(error.into()))
}

impl GraphError {
    pub(super) fn answer(&self, head: &Head, now: Timestamp) -> Response {
        match self {
            Self::Directory(error) => tracing::error!(%error, path = head.raw_path, "a request failed"),
            Self::Token(TokenError::Store(error)) => {
                tracing::error!(%error, path = head.raw_path, "a request failed");
            }
            _ => {}
        }
        let (status, code) = self.status();
        let request_id = head.request_id.to_string();
        let client_request_id = head.header("client-request-id").unwrap_or(&request_id);
        let body = json!({"error": {
            "code": code,
            "message": self.message(),
            "innerError": {
                "date": now.iso_seconds().trim_end_matches('Z'),
                "request-id": request_id,
                "client-request-id": client_request_id
            }
        }});
        let response = Response::json(status, &body);
        match status {
            401 => {
                let refused = match self {
                    Self::Token(error) => Refused::token(error),
                    _ => Refused::stranger(NO_CREDENTIALS),
                };
                response.header("www-authenticate", "Bearer").refusing(refused)
            }
            503 => response.header("retry-after", "1"),
            _ => response,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NoToken => "Access token is empty.".into(),
            Self::Token(TokenError::Store(_)) | Self::Directory(_) => {
                "The service is unavailable. Please retry.".into()
            }
            Self::Token(error) => error.to_string(),
            Self::UnknownPath => "Resource not found for the segment.".into(),
            Self::MethodNotAllowed => "Specified HTTP method is not allowed for the request target.".into(),
            Self::Malformed(malformed) => malformed.text().to_owned(),
            Self::NotBuilt(operation) => lacks(operation),
            Self::BodyTooLarge { max_bytes } => {
                format!("The request content is larger than {max_bytes} bytes.")
            }
            Self::Body(why) => format!("Unable to read JSON request payload. {why}"),
            Self::UnsupportedQuery(text) => {
                format!("Unsupported or invalid query filter clause specified: '{text}'.")
            }
            Self::NotFound(id) => format!(
                "Resource '{id}' does not exist or one of its queried reference-property objects are not present."
            ),
        }
    }

    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Token(TokenError::Store(_)) | Self::Directory(_) => (503, "serviceNotAvailable"),
            Self::NoToken | Self::Token(_) => (401, "InvalidAuthenticationToken"),
            Self::UnknownPath | Self::Malformed(_) | Self::Body(_) => (400, "BadRequest"),
            Self::MethodNotAllowed => (405, "Request_BadRequest"),
            Self::NotBuilt(_) => (404, "NotSupported"),
            Self::BodyTooLarge { .. } => (413, "RequestEntityTooLarge"),
            Self::UnsupportedQuery(_) => (400, "Request_UnsupportedQuery"),
            Self::NotFound(_) => (404, "Request_ResourceNotFound"),
        }
    }
}
