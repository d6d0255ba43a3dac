//! The private certificate authorities: a self-signed root for each kind of key, among the server's secrets. Called by `Chain::open`;
//! it must never replace a root that clients already trust.
//!
//! No root carries name constraints: small TLS stacks refuse a critical extension that they do not know (ADR 7).

use std::time::Duration;

use aws_lc_rs::digest;
use base::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertificateError, EARLIEST, KeyKind, unusable};
use crate::secrets::{Name, ServerSecrets};

const ROOT_LIFETIME: Duration = Duration::from_hours(20 * 365 * 24);
/// Clocks of clients may be behind ours.
const BACKDATED: Duration = Duration::from_hours(24);

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    valid_from: Timestamp,
}

/// A root without its key can sign nothing, and another in its place is one that no client trusts.
pub(super) fn refuse_lost_key(secrets: &ServerSecrets, kind: KeyKind) -> Result<(), CertificateError> {
    let (key, root) = (Name::AuthorityKey(kind), Name::Root(kind));
    if secrets.settle(key)?.is_none() && secrets.find(root)?.is_some() {
        return Err(CertificateError::LostKey { key: secrets.file(key), certificate: secrets.file(root) });
    }
    Ok(())
}

impl Authority {
    /// The root that is kept, made when neither it nor its key is there. The key is kept first: a start that was cut between the two
    /// makes the certificate from it.
    pub(super) fn open(
        secrets: &ServerSecrets,
        kind: KeyKind,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        refuse_lost_key(secrets, kind)?;
        let (key_name, root_name) = (Name::AuthorityKey(kind), Name::Root(kind));
        let pem = secrets.ensure(key_name, || Ok::<_, CertificateError>(kind.generate()?.serialize_pem()))?;
        let key =
            KeyPair::from_pem(&pem).map_err(|error| unusable(&secrets.file(key_name), &error.to_string()))?;
        let pem = secrets.ensure(root_name, || {
            tracing::info!(certificate = %secrets.file(root_name).display(), "a certificate authority is made");
            root(&key, now)
        })?;
        Self::read(&pem, key).map_err(|reason| unusable(&secrets.file(root_name), &reason))
    }

    fn read(pem: &str, key: KeyPair) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err("the key beside it is not its key".to_owned());
        }
        let valid_from = Timestamp::from_unix_seconds(parsed.validity().not_before.timestamp());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| error.to_string())?;
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
