//! Where this server's own secrets are kept: in files of the data directory, or in the database, sealed with the key that the
//! operator's file holds. Called by `serve` before anything asks for a secret.

use std::path::Path;

use access::secrets::Vault;
use access::{SealingKey, ServerSecrets};
use store::{Location, Store};

use crate::config::Config;
use crate::{Failure, data_directory};

pub(crate) async fn secrets(config: &Config, store: &Store) -> Result<ServerSecrets, Failure> {
    let directory = config.data_dir.clone();
    match (&config.store, &config.cluster_key_file) {
        (Location::Postgres(_), file) => {
            let key = file.as_deref().map(read).transpose()?;
            Ok(ServerSecrets::Database { vault: Vault::open(store.clone(), key).await?, directory })
        }
        (Location::File(_) | Location::Memory, None) => Ok(ServerSecrets::Files(directory)),
        (Location::File(_) | Location::Memory, Some(_)) => Err("--cluster-key-file seals secrets that lie in a PostgreSQL database, and this server keeps them in files of its data \
             directory, which their modes protect. Leave the key out, or give a database with --store"
            .into()),
    }
}

/// Whether the key that is named can be read, for whoever needs it later.
pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    config.cluster_key_file.as_deref().map(read).transpose().map(drop)
}

fn read(path: &Path) -> Result<SealingKey, Failure> {
    let text = data_directory::read_own(path).map_err(|error| format!("--cluster-key-file: {error}"))?;
    Ok(text.parse().map_err(|error| format!("--cluster-key-file: {}: {error}", path.display()))?)
}
