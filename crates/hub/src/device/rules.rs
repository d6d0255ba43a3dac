//! What an identity may look like: keys, thumbprints, authentication types, scopes of IoT Edge, and the table of conditional
//! writes (`iothub-service.md` §3). Pure: values in, value out.

use base::{DeviceId, IfMatch, Key, Secret, caps};

use crate::error::{ETAG_MISSING, ETAG_STALE, Error};
use crate::identity::{Authentication, Identity};

const KEY_BYTES: usize = 32;
const SCOPE_PREFIX: &str = "ms-azure-iot-edge://";

/// `authentication` as a caller wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationSpec {
    pub kind: Option<AuthenticationKind>,
    pub primary_key: Option<Secret>,
    pub secondary_key: Option<Secret>,
    pub primary_thumbprint: Option<String>,
    pub secondary_thumbprint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationKind {
    Sas,
    SelfSigned,
    CertificateAuthority,
    None,
}

impl AuthenticationKind {
    pub fn parse(text: &str) -> Option<Self> {
        let known = [
            ("sas", Self::Sas),
            ("selfSigned", Self::SelfSigned),
            ("certificateAuthority", Self::CertificateAuthority),
            ("none", Self::None),
        ];
        known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, kind)| kind)
    }
}

/// Who the authentication is for; `none` means something else to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Device,
    Module,
    /// `$edgeAgent` and `$edgeHub`, which alone may have no authentication.
    SystemModule,
}

/// The authentication that a write stores. What is left out is made up anew, keys included.
pub fn authentication(spec: &AuthenticationSpec, subject: Subject) -> Result<Authentication, Error> {
    let given = (text(spec.primary_thumbprint.as_ref()), text(spec.secondary_thumbprint.as_ref()));
    let inferred =
        if given == (None, None) { AuthenticationKind::Sas } else { AuthenticationKind::SelfSigned };
    match (spec.kind.unwrap_or(inferred), subject) {
        (AuthenticationKind::None, Subject::Device) => {
            Err(Error::invalid("DeviceAuthenticationTypeIsMissing: a device needs an authentication type."))
        }
        (AuthenticationKind::None, Subject::SystemModule) => Ok(Authentication::None),
        (AuthenticationKind::Sas, _) | (AuthenticationKind::None, Subject::Module) => sas(spec),
        (AuthenticationKind::SelfSigned, _) => Ok(Authentication::SelfSigned {
            primary_thumbprint: given.0.map(thumbprint).transpose()?,
            secondary_thumbprint: given.1.map(thumbprint).transpose()?,
        }),
        (AuthenticationKind::CertificateAuthority, _) => Ok(Authentication::CertificateAuthority),
    }
}

fn sas(spec: &AuthenticationSpec) -> Result<Authentication, Error> {
    match (secret(spec.primary_key.as_ref()), secret(spec.secondary_key.as_ref())) {
        (None, None) => Ok(Authentication::Sas {
            primary_key: Key::generate(KEY_BYTES),
            secondary_key: Key::generate(KEY_BYTES),
        }),
        (Some(primary), Some(secondary)) => {
            Ok(Authentication::Sas { primary_key: key(primary)?, secondary_key: key(secondary)? })
        }
        _ => Err(Error::invalid("Either no keys or both keys can be set")),
    }
}

fn text(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|text| !text.is_empty())
}

fn secret(value: Option<&Secret>) -> Option<&str> {
    value.map(Secret::expose).filter(|text| !text.is_empty())
}

fn key(text: &str) -> Result<Key, Error> {
    text.parse().map_err(|error| match error {
        base::secret::InvalidKey::NotBase64 => Error::invalid("Invalid device key: it is not base64"),
        base::secret::InvalidKey::Length => Error::invalid("Invalid device key length"),
    })
}

/// SHA-1 or SHA-256 in hex, in the caller's case.
fn thumbprint(text: &str) -> Result<String, Error> {
    if matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err(Error::invalid("StringIsNotThumbprint: a thumbprint has 40 or 64 hexadecimal digits."))
}

pub fn check_status_reason(reason: Option<&str>) -> Result<(), Error> {
    if reason.is_some_and(|text| text.chars().count() > caps::STATUS_REASON_CHARACTERS_MAX) {
        let max = caps::STATUS_REASON_CHARACTERS_MAX;
        return Err(Error::invalid(format!("statusReason may have at most {max} characters.")));
    }
    Ok(())
}

/// Whether a PUT creates, updates or is refused: without If-Match it creates only, with one it updates only.
pub enum PutMode {
    Create,
    Update,
    AlreadyExists,
    NotFound,
}

pub fn put_mode(existing: Option<&Identity>, if_match: &IfMatch) -> Result<PutMode, Error> {
    match (existing, if_match) {
        (None, IfMatch::Absent) => Ok(PutMode::Create),
        (Some(_), IfMatch::Absent) => Ok(PutMode::AlreadyExists),
        (None, IfMatch::Any | IfMatch::Tag(_)) => Ok(PutMode::NotFound),
        (Some(identity), _) if if_match.allows(&identity.etag_text()) => Ok(PutMode::Update),
        (Some(_), _) => Err(Error::PreconditionFailed(ETAG_STALE)),
    }
}

/// What a write of an identity expects of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The table of a PUT.
    Put(IfMatch),
    /// Makes what is missing; an etag is asked of what is there only.
    CreateOrUpdate(IfMatch),
}

impl Expected {
    pub fn mode(&self, existing: Option<&Identity>) -> Result<PutMode, Error> {
        match (self, existing) {
            (Self::Put(if_match), existing) => put_mode(existing, if_match),
            (Self::CreateOrUpdate(_), None) => Ok(PutMode::Create),
            (Self::CreateOrUpdate(if_match), Some(identity)) if if_match.allows(&identity.etag_text()) => {
                Ok(PutMode::Update)
            }
            (Self::CreateOrUpdate(_), Some(_)) => Err(Error::PreconditionFailed(ETAG_STALE)),
        }
    }
}

/// A DELETE needs an If-Match. It is asked for before anything is looked up.
pub fn check_delete_has_etag(if_match: &IfMatch) -> Result<(), Error> {
    if if_match.is_absent() { Err(Error::PreconditionFailed(ETAG_MISSING)) } else { Ok(()) }
}

pub fn check_delete(existing: &Identity, if_match: &IfMatch) -> Result<(), Error> {
    if if_match.allows(&existing.etag_text()) { Ok(()) } else { Err(Error::PreconditionFailed(ETAG_STALE)) }
}

/// The scope of a new IoT Edge device; one that becomes an IoT Edge device later has an empty generation in it.
pub fn edge_scope(device_id: &DeviceId, generation_id: &str) -> String {
    format!("{SCOPE_PREFIX}{device_id}-{generation_id}")
}

/// The IoT Edge device that a scope names, if it has the form of one.
pub fn device_of_scope(scope: &str) -> Option<DeviceId> {
    let (device_id, _) = scope.strip_prefix(SCOPE_PREFIX)?.rsplit_once('-')?;
    device_id.parse().ok()
}

/// Scopes as a caller wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSpec {
    pub device_scope: Option<String>,
    pub parent_scopes: Vec<String>,
    /// Of an import: a new IoT Edge device has the scope that it had where it was exported, so that others find it by that; one that is
    /// there keeps its own, whatever is said.
    pub is_imported: bool,
}

/// Scopes as they are stored, and the parent whose existence they rest on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    pub device_scope: Option<String>,
    pub parent_scopes: Vec<String>,
}

impl Scopes {
    pub fn parent(&self) -> Option<&str> {
        self.parent_scopes.first().map(String::as_str)
    }
}

/// The scopes of a device after a write (§3.3). `previous` is its state before, if it existed.
pub fn scopes(
    device_id: &DeviceId,
    generation_id: &str,
    iot_edge: bool,
    spec: &ScopeSpec,
    previous: Option<&Identity>,
) -> Result<Scopes, Error> {
    if spec.parent_scopes.len() > 1 {
        return Err(Error::InvalidDeviceScope("A device may have at most one parent scope.".into()));
    }
    let given = text(spec.device_scope.as_ref());
    if !iot_edge {
        // Going from an IoT Edge device to a leaf drops its own scope, which clients send back.
        let own = previous.filter(|old| old.iot_edge).and_then(|old| old.device_scope.as_deref());
        let device_scope = given.filter(|scope| Some(*scope) != own).map(str::to_owned);
        return Ok(Scopes { parent_scopes: device_scope.iter().cloned().collect(), device_scope });
    }
    let is_own = |scope: &&str| device_of_scope(scope).as_ref() == Some(device_id);
    let device_scope = match previous {
        None => match given.filter(is_own).filter(|_| spec.is_imported) {
            Some(own) => own.to_owned(),
            None => edge_scope(device_id, generation_id),
        },
        Some(old) if old.iot_edge && spec.is_imported => old.device_scope.clone().unwrap_or_default(),
        Some(old) if !old.iot_edge => edge_scope(device_id, ""),
        Some(old) if given == old.device_scope.as_deref() => old.device_scope.clone().unwrap_or_default(),
        Some(_) => return Err(Error::InvalidDeviceScope("Device scope is immutable".into())),
    };
    let parent_scopes = spec.parent_scopes.iter().filter(|scope| !scope.is_empty()).cloned().collect();
    Ok(Scopes { device_scope: Some(device_scope), parent_scopes })
}
