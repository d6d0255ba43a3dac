//! What stands in a certificate, and the forms in which tools send one, for those who store and show it. Checks nothing: whether
//! it is trusted is asked elsewhere.

use aws_lc_rs::digest;
use base::{Timestamp, caps};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate's own statements, in the spelling that Azure's tools print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub subject: String,
    pub issuer: String,
    /// Upper-case hex.
    pub serial_number: String,
    pub sha1_thumbprint: String,
    pub sha256_thumbprint: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// 1 to 3, as X.509 counts.
    pub version: u32,
}

/// `None` when the bytes are not exactly one certificate in DER.
pub fn describe(der: &[u8]) -> Option<Description> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let validity = certificate.validity();
    let [sha1_thumbprint, sha256_thumbprint] = thumbprints(der);
    Some(Description {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial_number: hex(certificate.raw_serial()),
        sha1_thumbprint,
        sha256_thumbprint,
        not_before: Timestamp::from_unix_seconds(validity.not_before.timestamp()),
        not_after: Timestamp::from_unix_seconds(validity.not_after.timestamp()),
        version: certificate.version().0 + 1,
    })
}

/// DER of PEM with or without newlines, of bare base64 of DER, or of base64 of a PEM file (`dps.md` §2.2).
pub fn der_of(text: &str) -> Option<Vec<u8>> {
    if text.len() > caps::CERTIFICATE_BYTES_MAX {
        return None;
    }
    let bare: String = text
        .replace("-----BEGIN CERTIFICATE-----", "")
        .split("-----END CERTIFICATE-----")
        .next()?
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let bytes = STANDARD.decode(bare).ok().filter(|bytes| !bytes.is_empty())?;
    match std::str::from_utf8(&bytes) {
        Ok(inner) if inner.trim_start().starts_with("-----BEGIN CERTIFICATE-----") => der_of(inner),
        _ => Some(bytes),
    }
}

/// SHA-1 and SHA-256 of a certificate in DER, in upper-case hex.
pub(crate) fn thumbprints(der: &[u8]) -> [String; 2] {
    [&digest::SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA256]
        .map(|algorithm| hex(digest::digest(algorithm, der).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
