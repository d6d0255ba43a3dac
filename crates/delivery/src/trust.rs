//! Whom requests to elsewhere believe: the authorities of this machine, or those of the file that `SSL_CERT_FILE` names. Read when the
//! first request goes out, since most servers never send one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Where systems keep the authorities that they trust.
const SYSTEM_FILES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Clones share what was read.
#[derive(Clone)]
pub struct Trust {
    file: Option<PathBuf>,
    read: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl Trust {
    /// What `SSL_CERT_FILE` says, as other programs understand it, else the system's own.
    pub fn of_this_machine() -> Self {
        let told = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let system = || SYSTEM_FILES.iter().map(PathBuf::from).find(|path| path.exists());
        Self { file: told.or_else(system), read: Arc::default() }
    }

    pub fn of_file(path: &Path) -> Self {
        Self { file: Some(path.to_owned()), read: Arc::default() }
    }

    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.read.get_or_init(|| read(self.file.as_deref())).clone()
    }
}

fn read(file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let file = file.ok_or("this machine has no file of authorities; set SSL_CERT_FILE")?;
    let unread = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unread(&error))? {
        // A system's file may hold one that this library does not read; the others still count.
        if let Err(error) = trusted.add(certificate.map_err(|error| unread(&error))?) {
            tracing::debug!(%error, file = %file.display(), "an authority's certificate is not used");
        }
    }
    if trusted.is_empty() {
        return Err(unread(&"no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(trusted).with_no_client_auth()))
}
