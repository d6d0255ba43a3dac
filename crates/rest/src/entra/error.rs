//! The token endpoint's refusals: OAuth's words with Entra's `AADSTS` numbers.

use access::directory::GrantError;
use base::Clock;
use serde::Serialize;

use crate::wire::{Head, Malformed, NO_CREDENTIALS, Refused, Response};

#[derive(Debug)]
pub(super) enum OAuthError {
    UnknownTenant(String),
    UnsupportedGrantType(String),
    MissingField(&'static str),
    InvalidScope(String),
    DuplicatedField(String),
    MissingSecret,
    Malformed(Malformed),
    MethodNotAllowed { accepted: &'static str, received: String },
    BodyTooLarge { max_bytes: usize },
    Grant(GrantError),
}

#[derive(Serialize)]
struct ErrorBody {
    error: &'static str,
    error_description: String,
    error_codes: [u32; 1],
    timestamp: String,
    trace_id: String,
    correlation_id: String,
    error_uri: String,
}

impl OAuthError {
    /// Status, OAuth's error and the number behind `AADSTS`.
    fn codes(&self) -> (u16, &'static str, u32) {
        match self {
            Self::UnknownTenant(_) => (400, "invalid_request", 90002),
            Self::UnsupportedGrantType(_) => (400, "unsupported_grant_type", 70003),
            Self::MissingField(_) => (400, "invalid_request", 900_144),
            Self::InvalidScope(_) => (400, "invalid_scope", 1_002_012),
            Self::DuplicatedField(_) => (400, "invalid_request", 9_000_411),
            Self::Malformed(_) => (400, "invalid_request", 9_002_313),
            Self::MissingSecret => (401, "invalid_client", 7_000_216),
            Self::MethodNotAllowed { .. } => (405, "invalid_request", 900_561),
            Self::BodyTooLarge { .. } => (413, "invalid_request", 90013),
            Self::Grant(GrantError::UnknownApplication { .. }) => (400, "unauthorized_client", 700_016),
            Self::Grant(GrantError::InvalidSecret { .. }) => (401, "invalid_client", 7_000_215),
            Self::Grant(GrantError::ExpiredSecret { .. }) => (401, "invalid_client", 7_000_222),
            Self::Grant(GrantError::TooManyWrongSecrets { .. }) => (429, "temporarily_unavailable", 90055),
            Self::Grant(GrantError::MalformedAssertion) => (400, "invalid_request", 50027),
            Self::Grant(GrantError::UnregisteredCertificate { .. }) => (401, "invalid_client", 700_027),
            Self::Grant(GrantError::UnknownResource { .. }) => (400, "invalid_resource", 500_011),
            Self::Grant(GrantError::Store(_)) => (503, "temporarily_unavailable", 90033),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::UnknownTenant(tenant) => format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
            ),
            Self::UnsupportedGrantType(grant) => {
                format!("The app requested an unsupported grant type '{grant}'.")
            }
            Self::MissingField(field) => {
                format!("The request body must contain the following parameter: '{field}'.")
            }
            Self::InvalidScope(scope) => format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
            ),
            Self::Malformed(malformed) => {
                format!("Invalid request. Request is malformed or invalid. {}", malformed.text())
            }
            Self::MissingSecret => {
                "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.".to_owned()
            }
            Self::DuplicatedField(field) => {
                format!("The request is not properly formatted. The parameter '{field}' is duplicated.")
            }
            Self::MethodNotAllowed { accepted, received } => {
                format!("The endpoint only accepts {accepted} requests. Received a {received} request.")
            }
            Self::BodyTooLarge { max_bytes } => {
                format!("Invalid input received from the user. The request body has more than {max_bytes} bytes.")
            }
            Self::Grant(GrantError::UnknownApplication { client_id }) => format!(
                "Application with identifier '{client_id}' was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."
            ),
            Self::Grant(GrantError::InvalidSecret { client_id }) => format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client_id}'."
            ),
            Self::Grant(GrantError::ExpiredSecret { client_id }) => {
                format!("The provided client secret keys for app '{client_id}' are expired.")
            }
            Self::Grant(GrantError::TooManyWrongSecrets { .. }) => {
                "There are too many requests with a wrong client secret from this address. Wait as long as Retry-After says.".to_owned()
            }
            Self::Grant(GrantError::MalformedAssertion) => {
                "JWT token is invalid or malformed.".to_owned()
            }
            Self::Grant(GrantError::UnregisteredCertificate { client_id }) => format!(
                "The certificate with identifier used to sign the client assertion is not registered on application '{client_id}'. [Reason - The key was not found.]"
            ),
            Self::Grant(GrantError::UnknownResource { resource }) => format!(
                "The resource principal named {resource} was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."
            ),
            Self::Grant(GrantError::Store(_)) => "A transient error has occurred. Please try again.".to_owned(),
        }
    }

    /// An application is called by its id where that could be one: people paste secrets into the wrong place.
    fn refused(&self) -> Option<Refused> {
        let application =
            |id: &str, why| Refused::policy(Some(id).filter(|id| uuid::Uuid::parse_str(id).is_ok()), why);
        match self {
            Self::MissingSecret => Some(Refused::stranger(NO_CREDENTIALS)),
            Self::Grant(GrantError::UnknownApplication { client_id }) => {
                Some(application(client_id, "no application has its client id"))
            }
            Self::Grant(GrantError::InvalidSecret { client_id }) => {
                Some(application(client_id, "its client secret is wrong"))
            }
            Self::Grant(GrantError::ExpiredSecret { client_id }) => {
                Some(application(client_id, "its client secret has expired"))
            }
            Self::Grant(GrantError::UnregisteredCertificate { client_id }) => {
                Some(application(client_id, "its certificate is not registered"))
            }
            Self::Grant(GrantError::TooManyWrongSecrets { .. }) => {
                Some(Refused::stranger("too many wrong client secrets came from its address"))
            }
            Self::Grant(GrantError::MalformedAssertion) => {
                Some(Refused::stranger("its client assertion is no token"))
            }
            _ => None,
        }
    }

    pub(super) fn answer(&self, head: &Head, clock: &Clock) -> Response {
        if let Self::Grant(GrantError::Store(error)) = self {
            tracing::error!(%error, "a token could not be issued");
        }
        let (status, error, number) = self.codes();
        let trace = head.request_id.to_string();
        let sent = head.header("client-request-id").and_then(|id| uuid::Uuid::parse_str(id).ok());
        let correlation = sent.unwrap_or_else(uuid::Uuid::new_v4).to_string();
        let timestamp = format!("{}Z", clock.now().iso_seconds().replace('T', " "));
        let body = ErrorBody {
            error,
            error_description: format!(
                "AADSTS{number}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}",
                self.message()
            ),
            error_codes: [number],
            timestamp,
            trace_id: trace,
            correlation_id: correlation,
            error_uri: format!("https://login.microsoftonline.com/error?code={number}"),
        };
        let response = Response::json(status, &body);
        let response = match self.refused() {
            Some(refused) => response.refusing(refused),
            None => response,
        };
        match self {
            Self::Grant(GrantError::TooManyWrongSecrets { retry_after }) => {
                let seconds = retry_after.as_millis().div_ceil(1000);
                response.header("retry-after", &seconds.to_string())
            }
            _ => response,
        }
    }
}
