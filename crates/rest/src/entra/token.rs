//! The token endpoint, v1 and v2. Here a form becomes one call of the directory, and its answer JSON.

use access::directory::{ClientCredentials, IssuedToken};
use serde_json::{Value, json};

use super::form::{Form, basic};
use super::{Entra, OAuthError};
use crate::wire::{Request, Response};

const FORM: &str = "application/x-www-form-urlencoded";

/// `POST /{tenant}/oauth2/v2.0/token`.
pub(super) async fn v2(door: Entra, (): (), request: Request) -> Response {
    answer(&door, &request, issue(&door, &request).await.map(|(token, _)| numbers(&token)))
}

/// `POST /{tenant}/oauth2/token`. With `resource` the answer has v1's strings; MSAL sends `scope` here when the tenant is
/// `adfs`, and reads numbers.
pub(super) async fn v1(door: Entra, (): (), request: Request) -> Response {
    let write = |(token, resource): (IssuedToken, Asked)| match resource {
        Asked::Resource(resource) => strings(&token, &resource),
        Asked::Scope(_) => numbers(&token),
    };
    answer(&door, &request, issue(&door, &request).await.map(write))
}

/// `POST /{tenant}/oauth2/v2.0/devicecode`: the flow needs users, whom the tenant does not have.
pub(super) async fn device_code(door: Entra, (): (), request: Request) -> Response {
    if let Err(error) = tenant(&door, &request) {
        return error.answer(&request.head, &door.clock);
    }
    let grant = "urn:ietf:params:oauth:grant-type:device_code".to_owned();
    answer(&door, &request, Err(OAuthError::UnsupportedGrantType(grant)))
}

fn answer(door: &Entra, request: &Request, result: Result<Value, OAuthError>) -> Response {
    match result {
        Ok(body) => Response::json(200, &body),
        Err(error) => error.answer(&request.head, &door.clock),
    }
}

fn numbers(token: &IssuedToken) -> Value {
    json!({
        "token_type": "Bearer",
        "expires_in": token.expires_in,
        "ext_expires_in": token.expires_in,
        "access_token": token.access_token.expose(),
    })
}

fn strings(token: &IssuedToken, resource: &str) -> Value {
    json!({
        "token_type": "Bearer",
        "expires_in": token.expires_in.to_string(),
        "ext_expires_in": token.expires_in.to_string(),
        "expires_on": token.expires_on.unix_seconds().to_string(),
        "not_before": token.not_before.unix_seconds().to_string(),
        "resource": resource,
        "access_token": token.access_token.expose(),
    })
}

/// How a client names what the token is for.
enum Asked {
    Resource(String),
    Scope(String),
}

impl Asked {
    fn resource(&self) -> Result<&str, OAuthError> {
        match self {
            Self::Resource(resource) => Ok(resource),
            Self::Scope(scope) if !scope.split_whitespace().any(|part| part.ends_with("/.default")) => {
                Err(OAuthError::InvalidScope(scope.clone()))
            }
            Self::Scope(scope) => {
                access::resource_of_scope(scope).ok_or_else(|| OAuthError::InvalidScope(scope.clone()))
            }
        }
    }
}

fn tenant(door: &Entra, request: &Request) -> Result<(), OAuthError> {
    let tenant = request.param("tenant");
    if door.directory.is_tenant(tenant) { Ok(()) } else { Err(OAuthError::UnknownTenant(tenant.to_owned())) }
}

/// The body's fields. A body of another type has none, whatever stands in it.
fn form(request: &Request) -> Result<Form, OAuthError> {
    let content_type = request.header("content-type").unwrap_or(FORM);
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_form = content_type.eq_ignore_ascii_case(FORM);
    let form = Form::parse(if is_form { &request.body } else { b"" });
    match form.duplicated() {
        Some(field) => Err(OAuthError::DuplicatedField(field.to_owned())),
        None => Ok(form),
    }
}

async fn issue(door: &Entra, request: &Request) -> Result<(IssuedToken, Asked), OAuthError> {
    tenant(door, request)?;
    let form = form(request)?;
    let grant_type = form.get("grant_type").ok_or(OAuthError::MissingField("grant_type"))?;
    if grant_type != "client_credentials" {
        return Err(OAuthError::UnsupportedGrantType(grant_type.to_owned()));
    }
    let header = request.authorization().and_then(basic);
    let (from_header, secret_from_header) = header.unzip();
    let client_id = form.get("client_id").or(from_header.as_deref());
    let client_id = client_id.ok_or(OAuthError::MissingField("client_id"))?;
    if let Some(assertion) = form.get("client_assertion") {
        form.get("client_assertion_type").ok_or(OAuthError::MissingField("client_assertion_type"))?;
        return Err(OAuthError::Grant(door.directory.refuse_assertion(client_id, assertion).await));
    }
    let secret = form.get("client_secret").or(secret_from_header.as_deref());
    let client_secret = secret.ok_or(OAuthError::MissingSecret)?;
    let asked = asked(&form, request)?;
    let base_url = request.base_url();
    let from = request.peer.remote_address();
    let resource = asked.resource()?;
    let credentials = ClientCredentials { client_id, client_secret, resource, base_url: &base_url, from };
    let token = door.directory.issue(&credentials).await.map_err(OAuthError::Grant)?;
    Ok((token, asked))
}

/// The v2 endpoint takes `scope` alone; the v1 endpoint takes `resource`, and `scope` as ADFS does.
fn asked(form: &Form, request: &Request) -> Result<Asked, OAuthError> {
    let is_v2 = request.segments.len() == 4;
    let resource = form.get("resource").filter(|_| !is_v2);
    let scope = form.get("scope");
    match (resource, scope) {
        (Some(resource), _) => Ok(Asked::Resource(resource.to_owned())),
        (None, Some(scope)) => Ok(Asked::Scope(scope.to_owned())),
        (None, None) => Err(OAuthError::MissingField(if is_v2 { "scope" } else { "resource" })),
    }
}
