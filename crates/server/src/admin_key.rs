//! The key of `/_twinhub/…`, made once and kept in the data directory for its owner alone.

use std::path::{Path, PathBuf};

use base::{Secret, secret};

use crate::data_directory;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.key")
}

/// For commands that talk to a running server.
pub(crate) fn read(data_dir: &Path) -> std::io::Result<Secret> {
    Ok(Secret::new(data_directory::read(&path(data_dir))?.trim()))
}

/// For the server: what is there, or a new one.
pub(crate) fn ensure(data_dir: &Path) -> std::io::Result<Secret> {
    match read(data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = secret::random_hex(32);
            data_directory::write_private(&path(data_dir), &format!("{key}\n"))?;
            Ok(Secret::new(key))
        }
        other => other,
    }
}
