//! The PEM files that clients are pointed at.
//! A bundle keeps the system's roots, because the variables that name it replace them.

use std::path::Path;

use super::{CertificateError, Files};
use crate::files;

/// Where systems keep their roots in one file.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Writes `ca-bundle.pem` at every start, since the system's roots change. `trusted` are files of what is to be trusted beside
/// them; the first is what a client is given that takes one root.
pub(super) fn write(directory: &Path, trusted: &[&Path]) -> Result<Files, CertificateError> {
    let pointed_at = Files { ca: trusted[0].to_owned(), bundle: directory.join("ca-bundle.pem") };
    let mut all =
        SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    for path in trusted {
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        all.push_str(&files::read(path)?);
    }
    files::write(&pointed_at.bundle, &all, 0o644)?;
    Ok(pointed_at)
}
