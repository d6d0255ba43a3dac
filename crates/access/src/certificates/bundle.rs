//! The PEM files that clients are pointed at, and how files with a mode are written.
//! A bundle keeps the system's roots, because the variables that name it replace them.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{CertificateError, Files};

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
    let files = Files { ca: trusted[0].to_owned(), bundle: directory.join("ca-bundle.pem") };
    let mut all =
        SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    for path in trusted {
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        all.push_str(&read(path)?);
    }
    write_file(&files.bundle, &all, 0o644)?;
    Ok(files)
}

pub(super) fn read(path: &Path) -> Result<String, CertificateError> {
    std::fs::read_to_string(path).map_err(|source| failed(path, source))
}

/// Replaces a file in one step, so that a reader sees the old or the new one and never half of it.
pub(super) fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let beside: PathBuf = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let write = || {
        let mut file = options.open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: std::io::Error) -> CertificateError {
    CertificateError::Io { path: path.to_owned(), source }
}
