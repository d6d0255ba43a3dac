//! The private certificate authority: one self-signed root in the data directory.
//! Called by `Certificates::open`; it must never replace a root that clients already trust.

use std::path::Path;
use std::time::Duration;

use base::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertificateError, EARLIEST, bundle, unusable};

const ROOT_LIFETIME: Duration = Duration::from_hours(20 * 365 * 24);
/// Clocks of clients may be behind ours.
const BACKDATED: Duration = Duration::from_hours(24);

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    valid_from: Timestamp,
}

impl Authority {
    pub(super) fn open(directory: &Path, now: Timestamp) -> Result<Self, CertificateError> {
        let (certificate_path, key_path) = (directory.join("ca.pem"), directory.join("ca-key.pem"));
        if !key_path.exists() {
            Self::create(&certificate_path, &key_path, now)?;
        }
        let (pem, key) = (bundle::read(&certificate_path)?, bundle::read(&key_path)?);
        let key = KeyPair::from_pem(&key).map_err(|error| unusable(&key_path, &error.to_string()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| unusable(&certificate_path, &error.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|error| unusable(&certificate_path, &error.to_string()))?;
        let valid_from = Timestamp::from_unix_seconds(parsed.validity().not_before.timestamp());
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|error| unusable(&certificate_path, &error.to_string()))?;
        Ok(Self { issuer, valid_from })
    }

    /// The certificate is written before the key: a start that was cut between the two makes both anew.
    fn create(certificate_path: &Path, key_path: &Path, now: Timestamp) -> Result<(), CertificateError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        let unique = base::secret::random_hex(4);
        params.distinguished_name.push(DnType::CommonName, format!("twinhub local authority {unique}"));
        params.distinguished_name.push(DnType::OrganizationName, "twinhub");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now.minus(BACKDATED).datetime();
        params.not_after = now.max(EARLIEST).plus(ROOT_LIFETIME).datetime();
        let certificate = params.self_signed(&key)?;
        bundle::write_file(certificate_path, &certificate.pem(), 0o644)?;
        bundle::write_file(key_path, &key.serialize_pem(), 0o600)
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn valid_from(&self) -> Timestamp {
        self.valid_from
    }
}
