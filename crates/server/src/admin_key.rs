//! The key of `/_twinhub/…`, one of the server's secrets, with a copy in the data directory for its owner alone.

use std::path::Path;

use access::ServerSecrets;
use access::secrets::{Name, SecretError};
use base::{Secret, secret};

use crate::data_directory;

/// For commands that talk to a running server.
pub(crate) fn read(data_dir: &Path) -> std::io::Result<Secret> {
    Ok(Secret::new(data_directory::read(&data_dir.join(Name::AdminKey.text()))?.trim()))
}

/// For the server: what is kept, or a new one.
pub(crate) fn ensure(secrets: &ServerSecrets) -> Result<Secret, SecretError> {
    let made = || Ok::<_, SecretError>(format!("{}\n", secret::random_hex(32)));
    Ok(Secret::new(secrets.ensure(Name::AdminKey, made)?.trim()))
}
