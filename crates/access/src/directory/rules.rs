//! Pure rules of the directory: who may have a token for what, what a role gives, and what an assignment may say.

use std::net::IpAddr;
use std::time::Duration;

use base::{Scope, Secret, Timestamp, caps};

use super::record::{RoleAssignment, ServicePrincipal};
use super::role_assignment::{NewRoleAssignment, RoleError};
use crate::caller::Grant;
use crate::roles;
use crate::token::{self, Claims, Version};

/// A request for a token by client secret, as the token endpoint read it. It cannot be printed.
#[derive(Clone)]
pub struct ClientCredentials<'a> {
    pub client_id: &'a str,
    pub client_secret: &'a str,
    /// The resource that the token is for: `resource`, or `scope` without `/.default`.
    pub resource: &'a str,
    /// `https://host[:port]`, as the client reached us.
    pub base_url: &'a str,
    /// The address that asks.
    pub from: Option<IpAddr>,
}

/// Why no token is given; the door writes them with Entra's `AADSTS` numbers.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("application '{client_id}' is not in the tenant")]
    UnknownApplication { client_id: String },
    #[error("the client secret of '{client_id}' is wrong")]
    InvalidSecret { client_id: String },
    #[error("the client secret of '{client_id}' has expired")]
    ExpiredSecret { client_id: String },
    #[error("too many wrong client secrets; the next is looked at in {retry_after:?}")]
    TooManyWrongSecrets { retry_after: Duration },
    #[error("the client assertion is not a signed token")]
    MalformedAssertion,
    #[error("the certificate that signed the client assertion is not one of '{client_id}'")]
    UnregisteredCertificate { client_id: String },
    #[error("resource '{resource}' is not known in the tenant")]
    UnknownResource { resource: String },
    #[error("the directory cannot be read: {0}")]
    Store(#[from] store::StoreError),
}

/// Every secret is compared, so that time tells nothing about which one was close.
pub(super) fn check_secret(
    principal: &ServicePrincipal,
    presented: &str,
    now: Timestamp,
) -> Result<(), GrantError> {
    let client_id = principal.app_id.clone();
    let matching = principal.secrets.iter().filter(|held| held.secret.matches(presented));
    let expiries: Vec<Option<Timestamp>> = matching.map(|held| held.expires_at).collect();
    if expiries.is_empty() {
        return Err(GrantError::InvalidSecret { client_id });
    }
    if expiries.iter().all(|expiry| expiry.is_some_and(|at| at <= now)) {
        return Err(GrantError::ExpiredSecret { client_id });
    }
    Ok(())
}

/// `header.claims.signature`, each part in base64url (RFC 7515 §3.1).
pub(super) fn is_compact_jws(text: &str) -> bool {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let is_part = |part: &str| !part.is_empty() && URL_SAFE_NO_PAD.decode(part).is_ok();
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// Azure's own resources get v1 tokens whichever endpoint is asked; only applications of the tenant get v2.
pub(super) fn version_for(resource: &str, is_own_application: bool) -> Version {
    if is_own_application || resource.starts_with("api://") { Version::V2 } else { Version::V1 }
}

pub(super) fn claims(
    principal: &ServicePrincipal,
    request: &ClientCredentials<'_>,
    tenant_id: &str,
    version: Version,
    now: Timestamp,
) -> Claims {
    let issuer = token::issuer_v1(tenant_id);
    let issued_at = now.unix_seconds();
    let lifetime = i64::try_from(caps::ACCESS_TOKEN_SECONDS).unwrap_or(i64::MAX);
    let is_v1 = version == Version::V1;
    let for_version = |wanted: bool, text: &str| wanted.then(|| text.to_owned());
    Claims {
        aud: request.resource.to_owned(),
        iss: if is_v1 { issuer.clone() } else { token::issuer_v2(request.base_url, tenant_id) },
        iat: issued_at,
        nbf: issued_at,
        exp: issued_at.saturating_add(lifetime),
        aio: opaque(24),
        appid: for_version(is_v1, &principal.app_id),
        appidacr: for_version(is_v1, "1"),
        azp: for_version(!is_v1, &principal.app_id),
        azpacr: for_version(!is_v1, "1"),
        idp: issuer,
        idtyp: "app".to_owned(),
        oid: principal.object_id.clone(),
        sub: principal.object_id.clone(),
        tid: tenant_id.to_owned(),
        uti: opaque(16),
        ver: if is_v1 { "1.0" } else { "2.0" }.to_owned(),
    }
}

fn opaque(bytes: usize) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(base::secret::random_bytes(bytes))
}

/// A secret in the alphabet that Entra's have, which needs no quoting in shells, URLs or connection strings.
pub(super) fn new_secret() -> Secret {
    let encoded = opaque(30);
    Secret::new(encoded.replace('-', "."))
}

/// What one assignment gives; `None` when its role is not one of ours.
pub(super) fn grant(assignment: &RoleAssignment) -> Option<Grant> {
    let role = roles::find(&assignment.role_definition_id)?;
    let owned = |actions: &[&str]| actions.iter().map(|&action| action.to_owned()).collect();
    Some(Grant {
        scope: assignment.scope.clone(),
        actions: owned(role.actions),
        not_actions: owned(role.not_actions),
        data_actions: owned(role.data_actions),
        not_data_actions: Vec::new(),
    })
}

/// The GUID at the end of a role definition's resource id, or the GUID itself, in lower case.
pub(super) fn role_id(role_definition_id: &str) -> String {
    let last = role_definition_id.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    last.to_ascii_lowercase()
}

/// What a principal may be said to be (`Microsoft.Authorization`, 2022-04-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrincipalType {
    User,
    Group,
    ServicePrincipal,
    ForeignGroup,
    Device,
}

impl PrincipalType {
    const ALL: [Self; 5] =
        [Self::User, Self::Group, Self::ServicePrincipal, Self::ForeignGroup, Self::Device];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::ServicePrincipal => "ServicePrincipal",
            Self::ForeignGroup => "ForeignGroup",
            Self::Device => "Device",
        }
    }
}

pub(super) fn principal_type(said: Option<&str>) -> Result<Option<PrincipalType>, RoleError> {
    let Some(said) = said.filter(|said| !said.is_empty()) else { return Ok(None) };
    let found = PrincipalType::ALL.into_iter().find(|one| one.name().eq_ignore_ascii_case(said));
    found.map(Some).ok_or(RoleError::BadRequestFormat)
}

pub(super) fn check_service_principal(
    principal_id: &str,
    said: Option<PrincipalType>,
) -> Result<(), RoleError> {
    match said {
        None | Some(PrincipalType::ServicePrincipal) => Ok(()),
        Some(said) => {
            let principal_id = principal_id.replace('-', "");
            Err(RoleError::UnmatchedPrincipalType { principal_id, said: said.name() })
        }
    }
}

/// The assignment that a request asks for, if its ids are GUIDs and its texts fit.
pub(super) fn assignment(
    new: &NewRoleAssignment,
    scope: Scope,
    principal_type: Option<PrincipalType>,
    by: &str,
    now: Timestamp,
) -> Result<RoleAssignment, RoleError> {
    if !is_guid(&new.id) {
        return Err(RoleError::InvalidRoleAssignmentId { id: new.id.chars().take(128).collect() });
    }
    if !is_guid(&new.principal_id) {
        return Err(RoleError::InvalidPrincipalId);
    }
    let characters = new.description.as_deref().map_or(0, |text| text.chars().count());
    if characters > caps::ROLE_ASSIGNMENT_DESCRIPTION_CHARACTERS_MAX {
        return Err(RoleError::BadRequestFormat);
    }
    Ok(RoleAssignment {
        id: new.id.to_ascii_lowercase(),
        scope,
        scope_path: new.scope_path.clone(),
        role_definition_id: role_id(&new.role_definition_id),
        principal_id: new.principal_id.to_ascii_lowercase(),
        principal_type: principal_type.unwrap_or(PrincipalType::ServicePrincipal).name().to_owned(),
        description: new.description.clone(),
        created_on: now,
        updated_on: now,
        created_by: by.to_owned(),
        updated_by: by.to_owned(),
    })
}

/// `old` as a later PUT of the same GUID leaves it: who holds what where is fixed, what is said of it is not.
pub(super) fn changed(old: &RoleAssignment, wanted: &RoleAssignment) -> Result<RoleAssignment, RoleError> {
    let fixed =
        |one: &RoleAssignment| (one.principal_id.clone(), one.scope.clone(), one.role_definition_id.clone());
    if fixed(old) != fixed(wanted) {
        return Err(RoleError::RoleAssignmentUpdateNotPermitted);
    }
    if old.description == wanted.description {
        return Ok(old.clone());
    }
    Ok(RoleAssignment {
        description: wanted.description.clone(),
        updated_on: wanted.updated_on,
        updated_by: wanted.updated_by.clone(),
        ..old.clone()
    })
}

/// 32 digits with hyphens, as Azure's ids are written everywhere.
fn is_guid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}
