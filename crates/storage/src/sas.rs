//! Shared access signatures of storage, of the account and the service kind: parse, verify, make (`messaging.md` §4.5).
//! They have nothing but the name in common with those of hubs (`base::sas`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use base::{Key, Timestamp, caps, secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::name::{AccountName, BlobName, ContainerName};

/// Everything but RFC 3986's unreserved characters is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The version of the tokens that are made here: what every blob endpoint of today knows.
const VERSION: &str = "2020-12-06";
/// The oldest version whose text to sign is the one below.
const OLDEST_VERSION: &str = "2015-04-05";
const FIELDS: [&str; 18] = [
    "sv", "ss", "srt", "sr", "sp", "st", "se", "si", "sip", "spr", "ses", "snapshot", "rscc", "rscd", "rsce",
    "rscl", "rsct", "sig",
];
/// What only tokens of other kinds carry: of user delegation, of directories, of versions of a blob.
const OF_OTHER_KINDS: [&str; 4] = ["skoid", "sdd", "saoid", "srh"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Read,
    Add,
    Create,
    Write,
    Delete,
    List,
}

impl Permission {
    const fn letter(self) -> char {
        match self {
            Self::Read => 'r',
            Self::Add => 'a',
            Self::Create => 'c',
            Self::Write => 'w',
            Self::Delete => 'd',
            Self::List => 'l',
        }
    }
}

/// What a request is for.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    Service,
    Container(&'a ContainerName),
    Blob(&'a ContainerName, &'a BlobName),
}

impl Target<'_> {
    /// Its letter among an account token's resource types.
    const fn resource_type(self) -> char {
        match self {
            Self::Service => 's',
            Self::Container(_) => 'c',
            Self::Blob(..) => 'o',
        }
    }
}

/// A request that presents a token.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    pub account: &'a AccountName,
    pub target: Target<'a>,
    /// Any of these is enough.
    pub permissions: &'a [Permission],
    pub is_https: bool,
    pub peer: IpAddr,
    pub now: Timestamp,
    /// The container's stored policy that the token names, where there is one.
    pub policy: Option<&'a AccessPolicy>,
}

/// A stored access policy of a container: what a token leaves to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    pub permissions: Option<String>,
    pub start: Option<Timestamp>,
    pub expiry: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the token is not well formed")]
    Malformed,
    #[error("the token is signed with another key, or for something else")]
    Signature,
    #[error("the token is not valid yet, or no longer")]
    Time,
    #[error(
        "the token names a policy that the container does not have, or gives again what the policy gives"
    )]
    Policy,
    #[error("the token does not permit this")]
    Permission,
    #[error("the token is for HTTPS alone")]
    Protocol,
    #[error("the token is for other addresses")]
    Address,
    #[error("the token is not for blobs")]
    Service,
    #[error("the token is for other types of resources")]
    ResourceType,
}

impl Refusal {
    /// Azure's code, with which the status is always 403.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed | Self::Signature | Self::Time | Self::Policy => "AuthenticationFailed",
            Self::Permission => "AuthorizationPermissionMismatch",
            Self::Protocol => "AuthorizationProtocolMismatch",
            Self::Address => "AuthorizationSourceIPMismatch",
            Self::Service => "AuthorizationServiceMismatch",
            Self::ResourceType => "AuthorizationResourceTypeMismatch",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Account,
    Container,
    Blob,
}

/// A token as it was presented. Its fields stay as they were signed.
#[derive(Clone)]
pub struct Sas {
    kind: Kind,
    fields: BTreeMap<&'static str, String>,
    signature: Vec<u8>,
    start: Option<Timestamp>,
    expiry: Option<Timestamp>,
}

impl Sas {
    /// From a request's decoded query, in which the token's fields stand among others. `None` where it is not signed at all.
    pub fn parse(query: &[(&str, &str)]) -> Result<Option<Self>, Refusal> {
        if !query.iter().any(|(name, _)| *name == "sig") {
            return Ok(None);
        }
        let bytes: usize = query.iter().map(|(name, value)| name.len() + value.len()).sum();
        let is_of_other_kind = query.iter().any(|(name, _)| OF_OTHER_KINDS.contains(name));
        if bytes > caps::SAS_TOKEN_BYTES_MAX || is_of_other_kind {
            return Err(Refusal::Malformed);
        }
        let fields = fields_of(query)?;
        let field = |name| fields.get(name).map(String::as_str);
        let kind = match (field("sr"), field("ss"), field("srt")) {
            (None, Some(_), Some(_)) => Kind::Account,
            (Some("c"), None, None) => Kind::Container,
            (Some("b"), None, None) => Kind::Blob,
            _ => return Err(Refusal::Malformed),
        };
        if !field("sv").is_some_and(is_version) {
            return Err(Refusal::Malformed);
        }
        let signature = field("sig").unwrap_or_default().replace(' ', "+");
        let signature = STANDARD.decode(signature).map_err(|_| Refusal::Malformed)?;
        let (start, expiry) = (moment(field("st"))?, moment(field("se"))?);
        Ok(Some(Self { kind, fields, signature, start, expiry }))
    }

    /// Whether it is signed for the account, and not for one container or blob.
    pub fn is_of_account(&self) -> bool {
        self.kind == Kind::Account
    }

    /// The stored policy of the container by which the token goes, if it names one.
    pub fn policy_id(&self) -> Option<&str> {
        self.fields.get("si").map(String::as_str)
    }

    /// A header that the token sets in answers to reads, such as `rscd`, which is `Content-Disposition`.
    pub fn overridden_header(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str).filter(|_| field.starts_with("rsc"))
    }

    /// Whether one of `keys` signed the token, for what `wanted` is about.
    pub fn check(&self, keys: [&Key; 2], wanted: Use<'_>) -> Result<(), Refusal> {
        let text = self.string_to_sign(wanted.account, wanted.target)?;
        let is_signed = keys
            .into_iter()
            .any(|key| secret::same_bytes(&key.hmac_sha256(text.as_bytes()), &self.signature));
        if !is_signed {
            return Err(Refusal::Signature);
        }
        let granted = self.granted(wanted.policy)?;
        if granted.start.is_some_and(|start| wanted.now < start) || wanted.now >= granted.expiry {
            return Err(Refusal::Time);
        }
        self.check_way(wanted.is_https, wanted.peer)?;
        self.check_reach(wanted.target)?;
        let permits = |permission: &Permission| granted.permissions.contains(permission.letter());
        if wanted.permissions.iter().any(permits) { Ok(()) } else { Err(Refusal::Permission) }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// What the token and its policy grant together. Each may give a thing, but not both.
    fn granted(&self, policy: Option<&AccessPolicy>) -> Result<Granted, Refusal> {
        let none = AccessPolicy::default();
        let policy = match (self.policy_id(), policy) {
            (None, _) => &none,
            (Some(_), Some(policy)) => policy,
            (Some(_), None) => return Err(Refusal::Policy),
        };
        let permissions = one_of(self.fields.get("sp"), policy.permissions.as_ref())?;
        Ok(Granted {
            permissions: permissions.cloned().ok_or(Refusal::Malformed)?,
            start: one_of(self.start, policy.start)?,
            expiry: one_of(self.expiry, policy.expiry)?.ok_or(Refusal::Malformed)?,
        })
    }

    fn check_way(&self, is_https: bool, peer: IpAddr) -> Result<(), Refusal> {
        match self.field("spr") {
            "" | "https,http" => {}
            "https" if is_https => {}
            _ => return Err(Refusal::Protocol),
        }
        let addresses = self.field("sip");
        if addresses.is_empty() {
            return Ok(());
        }
        let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
        let address = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| Refusal::Malformed);
        let range = address(first)?..=address(last)?;
        let is_within = matches!(peer.to_canonical(), IpAddr::V4(peer) if range.contains(&peer));
        if is_within { Ok(()) } else { Err(Refusal::Address) }
    }

    /// Whether a token of this kind reaches the target; a service token's own container or blob is in its signature.
    fn check_reach(&self, target: Target<'_>) -> Result<(), Refusal> {
        if self.kind != Kind::Account {
            return Ok(());
        }
        if !self.field("ss").contains('b') {
            return Err(Refusal::Service);
        }
        let reaches = self.field("srt").contains(target.resource_type());
        if reaches { Ok(()) } else { Err(Refusal::ResourceType) }
    }

    fn string_to_sign(&self, account: &AccountName, target: Target<'_>) -> Result<String, Refusal> {
        let resource = match (self.kind, target) {
            (Kind::Account, _) => return Ok(self.account_string_to_sign(account)),
            (Kind::Container, Target::Container(container) | Target::Blob(container, _)) => {
                format!("/blob/{account}/{container}")
            }
            (Kind::Blob, Target::Blob(container, blob)) => format!("/blob/{account}/{container}/{blob}"),
            (Kind::Container | Kind::Blob, _) => return Err(Refusal::Signature),
        };
        let mut lines = vec![self.field("sp"), self.field("st"), self.field("se"), &resource];
        lines.extend(["si", "sip", "spr", "sv"].map(|name| self.field(name)));
        if self.field("sv") >= "2018-11-09" {
            lines.extend([self.field("sr"), self.field("snapshot")]);
        }
        if self.field("sv") >= "2020-12-06" {
            lines.push(self.field("ses"));
        }
        lines.extend(["rscc", "rscd", "rsce", "rscl", "rsct"].map(|name| self.field(name)));
        Ok(lines.join("\n"))
    }

    fn account_string_to_sign(&self, account: &AccountName) -> String {
        let mut lines = vec![account.as_str()];
        lines.extend(["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"].map(|name| self.field(name)));
        if self.field("sv") >= "2020-12-06" {
            lines.push(self.field("ses"));
        }
        // The account's text ends its last line, the service's does not.
        lines.push("");
        lines.join("\n")
    }
}

impl std::fmt::Debug for Sas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sas({:?}, sp={}, se={:?})", self.kind, self.field("sp"), self.expiry)
    }
}

struct Granted {
    permissions: String,
    start: Option<Timestamp>,
    expiry: Timestamp,
}

fn one_of<T>(of_token: Option<T>, of_policy: Option<T>) -> Result<Option<T>, Refusal> {
    match (of_token, of_policy) {
        (Some(_), Some(_)) => Err(Refusal::Policy),
        (of_token, of_policy) => Ok(of_token.or(of_policy)),
    }
}

/// A token for one blob, as a query without its `?`: what a device is given to upload a file with.
pub fn build_for_blob(
    account: &AccountName,
    (container, blob): (&ContainerName, &BlobName),
    permissions: &[Permission],
    expires_at: Timestamp,
    key: &Key,
) -> String {
    let letters: String = permissions.iter().map(|permission| permission.letter()).collect();
    let expiry = format!("{}Z", expires_at.iso_seconds());
    let fields = [("sv", VERSION), ("sr", "b"), ("se", &expiry), ("sp", &letters)];
    let unsigned = Sas {
        kind: Kind::Blob,
        fields: fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        signature: Vec::new(),
        start: None,
        expiry: Some(expires_at),
    };
    let text = unsigned.string_to_sign(account, Target::Blob(container, blob));
    let text = text.expect("a blob's token is for a blob");
    let signature = STANDARD.encode(key.hmac_sha256(text.as_bytes()));
    let pairs = fields.into_iter().chain([("sig", signature.as_str())]);
    let pairs = pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED)));
    pairs.collect::<Vec<_>>().join("&")
}

fn fields_of(query: &[(&str, &str)]) -> Result<BTreeMap<&'static str, String>, Refusal> {
    let mut fields = BTreeMap::new();
    for (name, value) in query {
        let Some(known) = FIELDS.into_iter().find(|known| known == name) else { continue };
        // A line break within a value would let it stand for several lines of the signed text.
        if value.contains('\n') || fields.insert(known, (*value).to_owned()).is_some() {
            return Err(Refusal::Malformed);
        }
    }
    fields.retain(|_, value| !value.is_empty());
    Ok(fields)
}

/// A date as `2020-12-06`, so that versions compare as texts do.
fn is_version(text: &str) -> bool {
    text.len() == OLDEST_VERSION.len() && moment(Some(text)).is_ok() && text >= OLDEST_VERSION
}

/// ISO 8601 as storage takes it: a date, with or without hours and minutes, seconds, their fraction.
pub(crate) fn moment(text: Option<&str>) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let completed = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        17 => format!("{}:00Z", text.strip_suffix('Z').ok_or(Refusal::Malformed)?),
        _ => text.to_owned(),
    };
    completed.parse().map(Some).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests;
