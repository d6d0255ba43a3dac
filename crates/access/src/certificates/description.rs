//! What stands in a certificate, for those who store and show it. Checks nothing: whether it is trusted is asked elsewhere.

use aws_lc_rs::digest;
use base::Timestamp;
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
    Some(Description {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial_number: hex(certificate.raw_serial()),
        sha1_thumbprint: hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        sha256_thumbprint: hex(digest::digest(&digest::SHA256, der).as_ref()),
        not_before: Timestamp::from_unix_seconds(validity.not_before.timestamp()),
        not_after: Timestamp::from_unix_seconds(validity.not_after.timestamp()),
        version: certificate.version().0 + 1,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
