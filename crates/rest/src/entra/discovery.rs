//! Discovery: the `OpenID` configuration in its three forms, the key set, and MSAL's question whether a host is an authority.

use serde_json::{Value, json};

use super::{Entra, OAuthError};
use crate::wire::{Request, Response};

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`. Below `adfs` there is no v2: its token endpoint is the v1 path.
pub(super) async fn v2(door: Entra, (): (), request: Request) -> Response {
    let path = if request.param("tenant").eq_ignore_ascii_case("adfs") { "oauth2" } else { "oauth2/v2.0" };
    configuration(&door, &request, path, true)
}

/// `GET /{tenant}/.well-known/openid-configuration`.
pub(super) async fn v1(door: Entra, (): (), request: Request) -> Response {
    configuration(&door, &request, "oauth2", false)
}

fn configuration(door: &Entra, request: &Request, oauth: &str, is_v2: bool) -> Response {
    let asked = request.param("tenant");
    if !door.directory.is_tenant(asked) {
        return OAuthError::UnknownTenant(asked.to_owned()).answer(&request.head, &door.clock);
    }
    Response::json(200, &document(door, &request.base_url(), asked, oauth, is_v2))
}

fn document(door: &Entra, base: &str, asked: &str, oauth: &str, is_v2: bool) -> Value {
    let tenant_id = door.directory.tenant_id();
    // MSAL reads the tenant from the token endpoint's path, so a word that stands for a tenant stays as it was asked.
    let tenant = if asked.eq_ignore_ascii_case(door.directory.domain()) { tenant_id } else { asked };
    let at = format!("{base}/{tenant}");
    let issuer = match (tenant.eq_ignore_ascii_case("adfs"), is_v2) {
        (true, _) => format!("{base}/adfs"),
        (false, true) => format!("{base}/{tenant_id}/v2.0"),
        (false, false) => format!("https://sts.windows.net/{tenant_id}/"),
    };
    let host = base.strip_prefix("https://").unwrap_or(base);
    json!({
        "token_endpoint": format!("{at}/{oauth}/token"),
        "token_endpoint_auth_methods_supported":
            ["client_secret_post", "private_key_jwt", "client_secret_basic", "self_signed_tls_client_auth"],
        "jwks_uri": format!("{at}/discovery/v2.0/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": format!("{base}/oidc/userinfo"),
        "authorization_endpoint": format!("{at}/{oauth}/authorize"),
        "device_authorization_endpoint": format!("{at}/{oauth}/devicecode"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{at}/{oauth}/logout"),
        "claims_supported": ["sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name",
            "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver",
            "at_hash", "c_hash", "email"],
        "tenant_region_scope": "NA",
        "cloud_instance_name": host,
        "cloud_graph_host_name": host,
        "msgraph_host": host,
        "rbac_url": base,
    })
}

/// `GET /{tenant}/discovery/v2.0/keys`.
pub(super) async fn keys(door: Entra, (): (), request: Request) -> Response {
    if !door.directory.is_tenant(request.param("tenant")) {
        return OAuthError::UnknownTenant(request.param("tenant").to_owned())
            .answer(&request.head, &door.clock);
    }
    let key = door.directory.signing_key();
    let issuer = format!("{}/{}/v2.0", request.base_url(), door.directory.tenant_id());
    Response::json(
        200,
        &json!({"keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": key.key_id,
            "x5t": key.thumbprint,
            "n": key.modulus,
            "e": key.exponent,
            "x5c": [key.certificate],
            "issuer": issuer,
        }]}),
    )
}

/// `GET /common/discovery/instance`: every host under which we are reached is an authority, known by itself alone.
pub(super) async fn instance(_: Entra, (): (), request: Request) -> Response {
    let base = request.base_url();
    let tenant = request
        .query("authorization_endpoint")
        .and_then(|endpoint| endpoint.split('/').nth(3))
        .filter(|tenant| !tenant.is_empty())
        .unwrap_or("common");
    Response::json(
        200,
        &json!({
            "tenant_discovery_endpoint": format!("{base}/{tenant}/v2.0/.well-known/openid-configuration"),
            "api-version": request.api_version().unwrap_or("1.1"),
            "metadata": [{
                "preferred_network": request.host,
                "preferred_cache": request.host,
                "aliases": [request.host],
            }],
        }),
    )
}
