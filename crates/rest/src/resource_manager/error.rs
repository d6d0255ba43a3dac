//! Every refusal of Resource Manager: status, code and envelope. The one place where an error becomes HTTP.

use access::TokenError;
use access::directory::RoleError;
use resource_manager::{Error, provider};
use serde_json::{Map, Value, json};

use super::api_version;
use crate::router::lacks;
use crate::wire::{Head, NO_CREDENTIALS, Refused, Response};

/// What the door itself refuses, and what the domain refuses.
#[derive(Debug)]
pub(super) enum Refusal {
    NoToken,
    Token(TokenError),
    MissingApiVersion,
    InvalidApiVersion { version: String, versions: String },
    NoRegisteredProvider { version: String, resource_type: String, versions: String, locations: String },
    InvalidResourceType { resource_type: String, namespace: String, version: String },
    InvalidResourceNamespace(String),
    PathNotFound(String),
    MethodNotAllowed(String),
    NotBuilt(&'static str),
    BodyTooLarge { max_bytes: usize },
    Domain(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl Refusal {
    pub(super) fn content(message: impl Into<String>) -> Self {
        Self::Domain(Error::InvalidRequestContent(message.into()))
    }

    pub(super) fn answer(&self, head: &Head, tenant_id: &str) -> Response {
        let (status, code) = self.status();
        if let Self::Token(TokenError::Store(error)) | Self::Domain(Error::Store(error)) = self {
            tracing::error!(%error, path = head.raw_path, "a request failed");
        }
        let message = self.message();
        let response = Response::json(status, &envelope(head, status, code, &message));
        let response = match self.refused() {
            Some(refused) => response.refusing(refused),
            None => response,
        };
        if status == 401 {
            let login = format!("{}/{tenant_id}", head.base_url());
            let challenge = format!(
                "Bearer authorization_uri=\"{login}\", error=\"invalid_token\", error_description=\"{}\"",
                message.replace('"', "'")
            );
            return response.header("www-authenticate", &challenge);
        }
        if status == 429 || status == 503 { response.header("retry-after", "1") } else { response }
    }

    fn refused(&self) -> Option<Refused> {
        match self {
            Self::NoToken => Some(Refused::stranger(NO_CREDENTIALS)),
            Self::Token(TokenError::Store(_)) => None,
            Self::Token(error) => Some(Refused::token(error)),
            Self::Domain(Error::Denied(denied) | Error::Role(RoleError::Denied(denied))) => {
                Some(Refused::denied(denied))
            }
            _ => None,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NoToken => "Authentication failed. The 'Authorization' header is missing.".into(),
            Self::Token(TokenError::Store(_)) => "The service is unavailable. Please retry.".into(),
            Self::Token(error) => error.to_string(),
            Self::MissingApiVersion => {
                "The api-version query parameter (?api-version=) is required for all requests.".into()
            }
            Self::InvalidApiVersion { version, versions } => {
                format!("The api-version '{version}' is invalid. The supported versions are '{versions}'.")
            }
            Self::NoRegisteredProvider { version, resource_type, versions, locations } => format!(
                "No registered resource provider found for location '' and API version '{version}' for type '{resource_type}'. The supported api-versions are '{versions}'. The supported locations are '{locations}'."
            ),
            Self::InvalidResourceType { resource_type, namespace, version } => format!(
                "The resource type '{resource_type}' could not be found in the namespace '{namespace}' for api version '{version}'. The supported api-versions are ''."
            ),
            Self::InvalidResourceNamespace(namespace) => {
                format!("The resource namespace '{namespace}' is invalid.")
            }
            Self::PathNotFound(path) => {
                format!("No HTTP resource was found that matches the request path '{path}'.")
            }
            Self::MethodNotAllowed(method) => {
                format!("The http method '{method}' is not supported for this resource.")
            }
            Self::NotBuilt(operation) => lacks(operation),
            Self::BodyTooLarge { max_bytes } => {
                format!("The request content is larger than {max_bytes} bytes.")
            }
            Self::Domain(error) => error.to_string(),
        }
    }

    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::NoToken => (401, "AuthenticationFailed"),
            Self::Token(error @ TokenError::Store(_)) => (503, error.code()),
            Self::Token(error) => (401, error.code()),
            Self::MissingApiVersion => (400, "MissingApiVersionParameter"),
            Self::InvalidApiVersion { .. } => (400, "InvalidApiVersionParameter"),
            Self::NoRegisteredProvider { .. } => (400, "NoRegisteredProviderFound"),
            Self::InvalidResourceType { .. } => (404, "InvalidResourceType"),
            Self::InvalidResourceNamespace(_) => (404, "InvalidResourceNamespace"),
            Self::PathNotFound(_) => (404, "NotFound"),
            Self::MethodNotAllowed(_) => (405, "HttpMethodNotSupported"),
            Self::NotBuilt(_) => (404, "NotSupported"),
            Self::BodyTooLarge { .. } => (413, "RequestContentTooLarge"),
            Self::Domain(error) => status_of(error),
        }
    }
}

/// Status and code of each domain error.
fn status_of(error: &Error) -> (u16, &'static str) {
    match error {
        Error::Denied(_) => (403, "AuthorizationFailed"),
        Error::InvalidSubscriptionId(_) => (400, "InvalidSubscriptionId"),
        Error::SubscriptionNotFound(_) => (404, "SubscriptionNotFound"),
        Error::ResourceGroupNotFound(_) => (404, "ResourceGroupNotFound"),
        Error::ResourceGroupBeingDeleted(_) => (409, "ResourceGroupBeingDeleted"),
        Error::InvalidResourceGroupName(_) => (400, "InvalidResourceGroup"),
        Error::InvalidResourceGroupLocation { .. } => (409, "InvalidResourceGroupLocation"),
        Error::ResourceNotFound(..) | Error::KeyNotFound(_) => (404, "ResourceNotFound"),
        Error::ParentResourceNotFound { .. } => (404, "ParentResourceNotFound"),
        Error::InvalidResourceNamespace(_) => (404, "InvalidResourceNamespace"),
        Error::LocationRequired => (400, "LocationRequired"),
        Error::LocationNotAvailable { .. } => (400, "LocationNotAvailableForResourceType"),
        Error::InvalidResourceLocation { .. } => (409, "InvalidResourceLocation"),
        Error::MissingSubscriptionRegistration(_) => (409, "MissingSubscriptionRegistration"),
        Error::InvalidRequestContent(_) => (400, "InvalidRequestContent"),
        Error::InvalidResourceName(_) => (400, "InvalidResourceName"),
        Error::InvalidTags(_) => (400, "InvalidTags"),
        Error::InvalidFilter(_) => (400, "InvalidFilterInQueryString"),
        Error::InvalidSkipToken => (400, "InvalidSkipToken"),
        Error::BadRequest(_) | Error::NestedEndpointRoutes(_) => (400, "BadRequest"),
        Error::NameTaken(_) => (409, "NameNotAvailable"),
        Error::Conflict(_) | Error::WrittenMeanwhile => (409, "Conflict"),
        Error::QuotaExceeded(_) => (400, "QuotaExceeded"),
        Error::PreconditionFailed(_) => (412, "PreconditionFailed"),
        Error::OperationNotFound(_) => (404, "OperationNotFound"),
        Error::InvalidScope(_) => (404, "InvalidScope"),
        Error::RoleDefinitionNotFound(_) => (404, "RoleDefinitionDoesNotExist"),
        Error::Role(error) => status_of_role(error),
        Error::Hub(error) => {
            (u16::try_from(error.code() / 1000).expect("every code has six digits"), error.name())
        }
        Error::Store(_) => (503, "ServiceUnavailable"),
    }
}

fn status_of_role(error: &RoleError) -> (u16, &'static str) {
    match error {
        RoleError::Denied(_) => (403, "AuthorizationFailed"),
        RoleError::RoleAssignmentExists { .. } => (409, "RoleAssignmentExists"),
        RoleError::RoleAssignmentUpdateNotPermitted => (400, "RoleAssignmentUpdateNotPermitted"),
        RoleError::RoleDefinitionDoesNotExist { .. } => (400, "RoleDefinitionDoesNotExist"),
        RoleError::PrincipalNotFound { .. } => (400, "PrincipalNotFound"),
        RoleError::UnmatchedPrincipalType { .. } => (400, "UnmatchedPrincipalType"),
        RoleError::InvalidPrincipalId => (400, "InvalidPrincipalId"),
        RoleError::InvalidRoleAssignmentId { .. } => (400, "InvalidRoleAssignmentId"),
        RoleError::BadRequestFormat => (400, "BadRequestFormat"),
        RoleError::RoleAssignmentNotFound { .. } => (404, "RoleAssignmentNotFound"),
        RoleError::RoleAssignmentLimitExceeded => (400, "RoleAssignmentLimitExceeded"),
        RoleError::WrittenMeanwhile => (409, "Conflict"),
        RoleError::Store(_) => (503, "ServiceUnavailable"),
    }
}

/// Resource Manager's envelope; for `Microsoft.Devices` with the members of its own services' refusals beside it, so that
/// clients of both read what they look for (`dps.md` §5.5).
fn envelope(head: &Head, status: u16, code: &str, message: &str) -> Value {
    let mut body = Map::new();
    let namespace = api_version::provider_of(&head.segments).map(|(namespace, _)| namespace);
    if namespace.is_some_and(|namespace| namespace.eq_ignore_ascii_case(provider::DEVICES))
        && matches!(status, 400 | 409 | 412)
    {
        body.insert("code".into(), json!(u32::from(status) * 1000));
        body.insert("httpStatusCode".into(), json!(http_name(status)));
        body.insert("message".into(), json!(message));
        body.insert("details".into(), Value::Null);
    }
    body.insert("error".into(), json!({"code": code, "message": message}));
    Value::Object(body)
}

fn http_name(status: u16) -> &'static str {
    match status {
        409 => "Conflict",
        412 => "PreconditionFailed",
        _ => "BadRequest",
    }
}

/// Why no route has this path: an unknown namespace, an unknown type of a known one, or nothing of ours at all.
pub(super) fn unknown_path(head: &Head) -> Refusal {
    let Some((namespace, type_path)) = api_version::provider_of(&head.segments) else {
        return Refusal::PathNotFound(head.raw_path.chars().take(512).collect());
    };
    match provider::find_namespace(&namespace) {
        None => Refusal::InvalidResourceNamespace(namespace.chars().take(128).collect()),
        Some(known) => Refusal::InvalidResourceType {
            resource_type: type_path.chars().take(256).collect(),
            namespace: known.to_owned(),
            version: head.api_version().unwrap_or_default().chars().take(64).collect(),
        },
    }
}
