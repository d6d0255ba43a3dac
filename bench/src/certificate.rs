//! Certificates for the servers that twinhub is compared with, so that all do the same work.

use std::net::IpAddr;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

use crate::Failure;

pub(crate) const CERTIFICATE: &str = "certificate.pem";
pub(crate) const KEY: &str = "key.pem";
pub(crate) const ROOT: &str = "ca.pem";

/// Writes a certificate for a server at this address, of the kind that twinhub makes (ECDSA P-256); hands back its root.
pub(crate) fn certify(directory: &Path, at: IpAddr) -> Result<String, Failure> {
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key)?.pem();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = CertificateParams::new(Vec::new())?;
    leaf.subject_alt_names = vec![SanType::IpAddress(at)];
    std::fs::write(directory.join(CERTIFICATE), leaf.signed_by(&key, &issuer)?.pem())?;
    std::fs::write(directory.join(KEY), key.serialize_pem())?;
    std::fs::write(directory.join(ROOT), &root_pem)?;
    Ok(root_pem)
}
