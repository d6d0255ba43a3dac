//! Access tokens: their claims, and for whom they are meant. Pure; the directory signs and verifies them.
//! Facts of `arm-and-auth.md` §4.2 and §4.3.

use std::net::IpAddr;

use base::{Timestamp, caps};
use serde::{Deserialize, Serialize};

/// The audiences of each service, in the form that [`normal`] gives.
pub mod audiences {
    pub const RESOURCE_MANAGER: &[&str] =
        &["https://management.azure.com", "https://management.core.windows.net"];
    pub const DIGITAL_TWINS: &[&str] =
        &["https://digitaltwins.azure.net", "0b07f429-9f4b-4714-9392-cc5e8e80c8b0"];
    pub const HUB: &[&str] =
        &["https://iothubs.azure.net", "https://iothubs.azure.us", "https://iothubs.azure.cn"];
    pub const PROVISIONING: &[&str] = &[
        "https://azure-devices-provisioning.net",
        "https://azure-devices-provisioning.us",
        "https://azure-devices-provisioning.cn",
    ];
    pub const EVENT_HUBS: &[&str] = &["https://eventhubs.azure.net", "https://servicebus.azure.net"];
    /// Custom clouds name their own address as the graph's id, which counts as Resource Manager's.
    pub const GRAPH: &[&str] = &[
        "https://graph.microsoft.com",
        "https://graph.windows.net",
        "https://management.azure.com",
        "https://management.core.windows.net",
    ];
}

/// Ends of host names under which Azure's own services are known as resources.
const AZURE_SUFFIXES: &[&str] = &[
    ".azure.com",
    ".azure.net",
    ".azure.us",
    ".azure.cn",
    ".windows.net",
    ".microsoft.com",
    ".microsoftonline.com",
    ".usgovcloudapi.net",
    ".chinacloudapi.cn",
    ".azure-devices-provisioning.net",
];

/// Which of the two token forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// The claims that we write and the ones that we read back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub aud: String,
    pub iss: String,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
    #[serde(default)]
    pub aio: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appidacr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azpacr: Option<String>,
    #[serde(default)]
    pub idp: String,
    #[serde(default)]
    pub idtyp: String,
    pub oid: String,
    pub sub: String,
    pub tid: String,
    #[serde(default)]
    pub uti: String,
    pub ver: String,
}

/// Why a bearer token is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("The access token is invalid.")]
    Malformed,
    #[error("The access token validation failure. Signature validation failed.")]
    Signature,
    #[error("The access token expiry UTC time '{expired_at}' is earlier than current UTC time '{now}'.")]
    Expired { expired_at: Timestamp, now: Timestamp },
    #[error("The access token is not valid yet. Current UTC time is '{now}'.")]
    NotYetValid { now: Timestamp },
    #[error(
        "The access token has been obtained for wrong audience or resource '{audience}'. It should exactly match with one of the allowed audiences."
    )]
    Audience { audience: String },
    #[error("The access token is from the wrong issuer '{issuer}'.")]
    Issuer { issuer: String },
    #[error("The access token is from the wrong tenant '{tenant_id}'.")]
    Tenant { tenant_id: String },
    #[error(
        "The received access token is not valid: its principal '{object_id}' is not known in the tenant."
    )]
    UnknownPrincipal { object_id: String },
    #[error("the directory cannot be read: {0}")]
    Store(#[from] store::StoreError),
}

impl TokenError {
    /// For the log: what is wrong, and nothing that was presented.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Malformed => "its bearer token is none of ours",
            Self::Signature => "its bearer token is signed with another key",
            Self::Expired { .. } => "its bearer token has expired",
            Self::NotYetValid { .. } => "its bearer token is not valid yet",
            Self::Audience { .. } => "its bearer token is for another service",
            Self::Issuer { .. } => "its bearer token is from another issuer",
            Self::Tenant { .. } => "its bearer token is from another tenant",
            Self::UnknownPrincipal { .. } => "its principal is not in the directory",
            Self::Store(_) => "the directory cannot be read",
        }
    }

    /// Whom the token names, where that is known to be a name.
    pub fn principal(&self) -> Option<&str> {
        match self {
            Self::UnknownPrincipal { object_id } => Some(object_id),
            _ => None,
        }
    }

    /// Resource Manager's error code for it (`arm-and-auth.md` §1.3).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "ExpiredAuthenticationToken",
            Self::Tenant { .. } => "InvalidAuthenticationTokenTenant",
            Self::Audience { .. } => "InvalidAuthenticationTokenAudience",
            Self::Store(_) => "InternalServerError",
            Self::Malformed
            | Self::Signature
            | Self::NotYetValid { .. }
            | Self::Issuer { .. }
            | Self::UnknownPrincipal { .. } => "InvalidAuthenticationToken",
        }
    }
}

/// Time, issuer and tenant, as every service asks for them. The signature has been verified.
pub(crate) fn check(claims: &Claims, tenant_id: &str, now: Timestamp) -> Result<(), TokenError> {
    let skew = std::time::Duration::from_secs(caps::TOKEN_CLOCK_SKEW_SECONDS);
    let expired_at = Timestamp::from_unix_seconds(claims.exp);
    if expired_at.plus(skew) < now {
        return Err(TokenError::Expired { expired_at, now });
    }
    if Timestamp::from_unix_seconds(claims.nbf).minus(skew) > now {
        return Err(TokenError::NotYetValid { now });
    }
    if claims.tid != tenant_id {
        return Err(TokenError::Tenant { tenant_id: claims.tid.clone() });
    }
    let ours = claims.iss == issuer_v1(tenant_id) || claims.iss.ends_with(&format!("/{tenant_id}/v2.0"));
    if ours { Ok(()) } else { Err(TokenError::Issuer { issuer: claims.iss.clone() }) }
}

pub(crate) fn issuer_v1(tenant_id: &str) -> String {
    format!("https://sts.windows.net/{tenant_id}/")
}

/// `base` is `https://host[:port]`, as the client reached us.
pub(crate) fn issuer_v2(base: &str, tenant_id: &str) -> String {
    format!("{base}/{tenant_id}/v2.0")
}

/// An audience without trailing slashes and, but for the path, in lower case.
pub(crate) fn normal(audience: &str) -> String {
    audience.trim_end_matches('/').to_ascii_lowercase()
}

/// The resource that a v2 `scope` asks for: `{resource}/.default` or `{resource}/{permission}`; `OpenID`'s own scopes name none.
pub fn resource_of_scope(scope: &str) -> Option<&str> {
    let named = scope.split_whitespace().find(|part| {
        !["openid", "profile", "email", "offline_access"].iter().any(|own| part.eq_ignore_ascii_case(own))
    })?;
    let resource = match named.rsplit_once('/') {
        Some((resource, _)) if !resource.ends_with('/') || named.ends_with("/.default") => resource,
        _ => named,
    };
    Some(resource).filter(|resource| !resource.is_empty())
}

/// Whether an audience is an address of this server: a custom cloud's Resource Manager, and its graph.
pub(crate) fn is_own(audience: &str, domain: &str, own_hosts: &[String]) -> bool {
    let Some(authority) = normal(audience).strip_prefix("https://").map(str::to_owned) else { return false };
    let authority = authority.strip_suffix("/adfs").unwrap_or(&authority);
    let host = base::hosts::strip_port(authority);
    host == "localhost"
        || host == domain
        || host.ends_with(&format!(".{domain}"))
        // Which addresses lead to us only their callers know; a token of ours for one is for us.
        || host.parse::<IpAddr>().is_ok()
        || own_hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
}

/// Whether a resource is one that a tenant of Azure knows, so that a token can be meant for it.
pub(crate) fn is_azure(resource: &str) -> bool {
    let resource = normal(resource);
    if uuid::Uuid::parse_str(&resource).is_ok() {
        return true;
    }
    let Some(host) = resource.strip_prefix("https://").and_then(|rest| rest.split('/').next()) else {
        return false;
    };
    let dotted = format!(".{host}");
    AZURE_SUFFIXES.iter().any(|suffix| dotted.ends_with(suffix))
}
