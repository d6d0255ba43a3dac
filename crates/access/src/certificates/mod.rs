//! The server's certificates: a private authority made at first start, and leaves minted when a handshake names a host. A second
//! one with RSA keys is made when the first client comes that can do nothing else.
//! `server` gives it to TLS and calls nothing else; the authorities' keys never leave the server's secrets.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::{Clock, Timestamp, caps};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

mod authority;
mod bundle;
mod cache;
mod description;
#[cfg(test)]
mod tests;

use authority::Authority;
use cache::Cache;
pub(crate) use description::thumbprints;
pub use description::{Description, der_of, describe};

use crate::files::FileError;
use crate::secrets::{Name, SecretError, ServerSecrets};

/// Leaves live as long as the longest-lived that every platform accepts, and are minted anew at half of that.
const LEAF_LIFETIME: Duration = Duration::from_hours(397 * 24);

/// No clock that is right shows an earlier time: 2026-11-01. A machine without a battery starts in 1970, and what it makes then
/// must serve once it has learnt the time.
const EARLIEST: Timestamp = Timestamp::from_unix_seconds(1_793_491_200);

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error(
        "{key} is missing, the key of {certificate}, which clients trust. Put it back, from a backup for instance. If every client can be given a new root instead, remove {certificate} and start again."
    )]
    LostKey { key: PathBuf, certificate: PathBuf },
    #[error("the chain with RSA keys is not there yet")]
    NotYet,
    #[error("a certificate cannot be made: {0}")]
    Minting(#[from] rcgen::Error),
    #[error("a certificate cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Where clients find what they must trust.
#[derive(Clone, Debug)]
pub struct Files {
    /// Our root alone (or the operator's chain).
    pub ca: PathBuf,
    /// The system's roots and ours.
    pub bundle: PathBuf,
}

/// Certificates for every host name and address of one server. Clones share them.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    source: Source,
    files: Files,
}

enum Source {
    Minted(Box<Minted>),
    Operator(Arc<CertifiedKey>),
}

/// What a certificate and everything above it are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Ecdsa,
    /// For small devices that can verify nothing else.
    Rsa,
}

struct Minted {
    secrets: ServerSecrets,
    ecdsa: Chain,
    /// Made at first need: nobody else waits for its keys, or holds them in memory.
    rsa: OnceLock<Chain>,
    clock: Clock,
}

/// A root and the leaves below it.
struct Chain {
    authority: Authority,
    leaf_key: LeafKey,
    cache: Cache,
}

/// One key for all leaves: a handshake then costs a signature and no key generation.
struct LeafKey {
    pair: KeyPair,
    signing: Arc<dyn rustls::sign::SigningKey>,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            // 2,048 bits: small devices take long over more, and some refuse it.
            Self::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificates({})", self.0.files.ca.display())
    }
}

impl Certificates {
    /// Our own authority (`ca.pem`, `ca-key.pem`), made when it is not there. `clock` must be the real one: clients judge validity
    /// by theirs. Not for an async worker where a database keeps the secrets.
    pub fn open(secrets: &ServerSecrets, clock: Clock) -> Result<Self, CertificateError> {
        authority::refuse_lost_key(secrets, KeyKind::Rsa)?;
        let ecdsa = Chain::open(secrets, KeyKind::Ecdsa, clock.now())?;
        let [ca, rsa] = [KeyKind::Ecdsa, KeyKind::Rsa].map(|kind| secrets.file(Name::Root(kind)));
        let has_rsa = secrets.settle(Name::Root(KeyKind::Rsa))?.is_some();
        let trusted: &[&Path] = if has_rsa { &[&ca, &rsa] } else { &[&ca] };
        let files = bundle::write(secrets.directory(), trusted)?;
        let minted = Minted { secrets: secrets.clone(), ecdsa, rsa: OnceLock::new(), clock };
        Ok(Self(Arc::new(Inner { source: Source::Minted(Box::new(minted)), files })))
    }

    /// Makes the chain with RSA keys ready (`ca-rsa.pem`, `ca-rsa-key.pem`, made when they are not there) and puts its root into
    /// the bundle. Takes a good part of a second of computing: never on an async worker, and one call at a time.
    pub fn open_rsa(&self) -> Result<(), CertificateError> {
        let Source::Minted(minted) = &self.0.source else { return Ok(()) };
        if minted.rsa.get().is_some() {
            return Ok(());
        }
        let chain = Chain::open(&minted.secrets, KeyKind::Rsa, minted.clock.now())?;
        let root = minted.secrets.file(Name::Root(KeyKind::Rsa));
        bundle::write(minted.secrets.directory(), &[&self.0.files.ca, &root])?;
        // Another call was first: its chain serves as well.
        let _ = minted.rsa.set(chain);
        Ok(())
    }

    /// The operator's own certificate and key for every name. The chain's last certificate is what clients must trust.
    pub fn operator(directory: &Path, chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let bad = |path: &Path, error: rustls_pki_types::pem::Error| unusable(path, &error.to_string());
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| bad(chain, error))?;
        if certificates.is_empty() {
            return Err(unusable(chain, "it holds no certificate"));
        }
        let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key_der)?;
        let certified = CertifiedKey::new(certificates, signing);
        certified.keys_match().map_err(|_| unusable(key, "it is not the key of the certificate"))?;
        let files = bundle::write(directory, &[chain])?;
        Ok(Self(Arc::new(Inner { source: Source::Operator(Arc::new(certified)), files })))
    }

    pub fn files(&self) -> &Files {
        &self.0.files
    }

    /// The certificate for a handshake at `local` that named `server_name`, or none. An operator's own is of the kind that it is.
    pub fn for_handshake(
        &self,
        kind: KeyKind,
        server_name: Option<&str>,
        local: IpAddr,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        let minted = match &self.0.source {
            Source::Operator(certified) => return Ok(certified.clone()),
            Source::Minted(minted) => minted,
        };
        let chain = match kind {
            KeyKind::Ecdsa => &minted.ecdsa,
            KeyKind::Rsa => minted.rsa.get().ok_or(CertificateError::NotYet)?,
        };
        chain.leaf(server_name.map(str::to_ascii_lowercase), local, minted.clock.now())
    }
}

impl Chain {
    fn open(secrets: &ServerSecrets, kind: KeyKind, now: Timestamp) -> Result<Self, CertificateError> {
        let authority = Authority::open(secrets, kind, now)?;
        let pair = kind.generate()?;
        let der = PrivateKeyDer::try_from(pair.serialize_der())
            .map_err(|reason| unusable(secrets.directory(), reason))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
        Ok(Self { authority, leaf_key: LeafKey { pair, signing }, cache: Cache::default() })
    }

    fn leaf(
        &self,
        name: Option<String>,
        local: IpAddr,
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        let now = now.max(EARLIEST);
        self.cache.get_or_mint((name, local), now, |(name, local)| {
            let validity = (self.authority.valid_from(), now.plus(LEAF_LIFETIME));
            let leaf = mint(self.authority.issuer(), &self.leaf_key, name.as_deref(), *local, validity)?;
            Ok((leaf, now.plus(LEAF_LIFETIME / 2)))
        })
    }
}

fn unusable(path: &Path, reason: &str) -> CertificateError {
    CertificateError::Unusable { path: path.to_owned(), reason: reason.to_owned() }
}

/// A leaf for one name and one address, and for the names that always mean this machine.
fn mint(
    issuer: &Issuer<'static, KeyPair>,
    key: &LeafKey,
    name: Option<&str>,
    local: IpAddr,
    (from, until): (Timestamp, Timestamp),
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name(name));
    let mut names: Vec<SanType> = Vec::new();
    for dns in name.into_iter().chain(["localhost"]) {
        let san = SanType::DnsName(dns.try_into()?);
        if !names.contains(&san) {
            names.push(san);
        }
    }
    for address in [local, IpAddr::from([127, 0, 0, 1]), IpAddr::from([0_u16, 0, 0, 0, 0, 0, 0, 1])] {
        let san = SanType::IpAddress(address);
        if !names.contains(&san) {
            names.push(san);
        }
    }
    params.subject_alt_names = names;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (from.datetime(), until.datetime());
    let leaf = params.signed_by(&key.pair, issuer)?;
    Ok(Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key.signing.clone())))
}

/// X.520 bounds a common name to 64 characters; clients look at the alternative names.
fn common_name(name: Option<&str>) -> &str {
    name.filter(|name| name.len() <= 64).unwrap_or("localhost")
}

/// How many leaves the cache may hold; see [`caps::MINTED_CERTIFICATES_MAX`].
const CACHE_MAX: usize = caps::MINTED_CERTIFICATES_MAX;
