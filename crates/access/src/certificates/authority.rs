//! The private certificate authorities: a self-signed root for each kind of key, in the data directory. Called by `Chain::open`;
//! it must never replace a root that clients already trust.
//!
//! No root carries name constraints: small TLS stacks refuse a critical extension that they do not know (ADR 7).

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use base::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertificateError, EARLIEST, KeyKind, bundle, unusable};

const ROOT_LIFETIME: Duration = Duration::from_hours(20 * 365 * 24);
/// Clocks of clients may be behind ours.
const BACKDATED: Duration = Duration::from_hours(24);

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    valid_from: Timestamp,
}

/// Where a root and its key are.
pub(super) struct Paths {
    pub(super) certificate: PathBuf,
    key: PathBuf,
}

impl Paths {
    pub(super) fn of(directory: &Path, kind: KeyKind) -> Self {
        let (certificate, key) = match kind {
            KeyKind::Ecdsa => ("ca.pem", "ca-key.pem"),
            KeyKind::Rsa => ("ca-rsa.pem", "ca-rsa-key.pem"),
        };
        Self { certificate: directory.join(certificate), key: directory.join(key) }
    }

    /// A root without its key can sign nothing, and another in its place is one that no client trusts.
    pub(super) fn refuse_lost_key(&self) -> Result<(), CertificateError> {
        if self.certificate.exists() && !self.key.exists() {
            let (key, certificate) = (self.key.clone(), self.certificate.clone());
            return Err(CertificateError::LostKey { key, certificate });
        }
        Ok(())
    }
}

impl Authority {
    /// The root in `directory`, made when neither it nor its key is there. The key is written first: a start that was cut between
    /// the two makes the certificate from it.
    pub(super) fn open(directory: &Path, kind: KeyKind, now: Timestamp) -> Result<Self, CertificateError> {
        let paths = Paths::of(directory, kind);
        paths.refuse_lost_key()?;
        if !paths.key.exists() {
            bundle::write_file(&paths.key, &kind.generate()?.serialize_pem(), 0o600)?;
        }
        let key = KeyPair::from_pem(&bundle::read(&paths.key)?)
            .map_err(|error| unusable(&paths.key, &error.to_string()))?;
        if !paths.certificate.exists() {
            tracing::info!(certificate = %paths.certificate.display(), "a certificate authority is made");
            bundle::write_file(&paths.certificate, &root(&key, now)?, 0o644)?;
        }
        Self::read(&paths, key)
    }

    fn read(paths: &Paths, key: KeyPair) -> Result<Self, CertificateError> {
        let unusable = |reason: String| unusable(&paths.certificate, &reason);
        let pem = bundle::read(&paths.certificate)?;
        let der =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| unusable(error.to_string()))?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(unusable(format!("{} is not its key", paths.key.display())));
        }
        let valid_from = Timestamp::from_unix_seconds(parsed.validity().not_before.timestamp());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { issuer, valid_from })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn valid_from(&self) -> Timestamp {
        self.valid_from
    }
}

/// A root for `key`, as PEM. Its name comes from the key: made again, it is the one that clients trust.
fn root(key: &KeyPair, now: Timestamp) -> Result<String, CertificateError> {
    let mut params = CertificateParams::default();
    let print = digest::digest(&digest::SHA256, key.public_key_raw());
    let unique: String = print.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("twinhub local authority {unique}"));
    params.distinguished_name.push(DnType::OrganizationName, "twinhub");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now.minus(BACKDATED).datetime();
    params.not_after = now.max(EARLIEST).plus(ROOT_LIFETIME).datetime();
    Ok(params.self_signed(key)?.pem())
}
