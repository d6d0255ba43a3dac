//! Where the server keeps secrets of its own: its authorities, the key of live control, the key that signs tokens. Beside an embedded
//! engine they are files of the data directory; in a database they are records, sealed where the operator gave a key, and the data
//! directory has copies of what commands and clients read. `server` says which; who asks for a secret need not know.

mod record;
mod sealing;
#[cfg(test)]
mod tests;
mod vault;

use std::path::PathBuf;

use store::{CommitError, MayConflict, StoreError};
use tokio::runtime::Handle;

pub use self::sealing::{InvalidSealingKey, SealingKey};
pub use self::vault::Vault;
use crate::certificates::KeyKind;
use crate::files::{self, FileError};

/// One of the secrets, or a root, which is none but must not be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    AuthorityKey(KeyKind),
    Root(KeyKind),
    AdminKey,
    /// Never a file: beside an embedded engine it is in the tenant's record.
    TokenSigningKey,
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "the server's secrets in the database are sealed with the key {sealed_with}, and no key was given: start with --cluster-key-file and the file that holds it"
    )]
    NoKey { sealed_with: String },
    #[error(
        "the server's secrets in the database are sealed with the key {sealed_with}, and the file that was given with --cluster-key-file holds the key {given}: give the file that they were sealed with"
    )]
    OtherKey { sealed_with: String, given: String },
    #[error(
        "what the database holds as {name} is not what was sealed under this name: a row of twinhub.server_secret was changed, exchanged or damaged. Put it back from a backup of the database"
    )]
    Changed { name: &'static str },
    #[error("{name} in the database was written by a later version of twinhub: start that one")]
    Later { name: &'static str },
    #[error(
        "{file} is another than the database's: clients would trust two authorities, and learn late which is the wrong one. To serve with the database's, move ca.pem, ca-key.pem, ca-rsa.pem and ca-rsa-key.pem out of the data directory, or give an empty one with --data-dir; to serve with the authority of this data directory, give the database that it belongs to, or an empty one"
    )]
    Another { file: PathBuf },
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for SecretError {
    fn from(error: StoreError) -> Self {
        Self::Commit(error.into())
    }
}

impl MayConflict for SecretError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Commit(error) if error.is_conflict())
    }
}

impl Name {
    pub const ALL: [Self; 6] = [
        Self::AuthorityKey(KeyKind::Ecdsa),
        Self::Root(KeyKind::Ecdsa),
        Self::AuthorityKey(KeyKind::Rsa),
        Self::Root(KeyKind::Rsa),
        Self::AdminKey,
        Self::TokenSigningKey,
    ];

    /// Of the file or the record.
    pub const fn text(self) -> &'static str {
        match self {
            Self::AuthorityKey(KeyKind::Ecdsa) => "ca-key.pem",
            Self::Root(KeyKind::Ecdsa) => "ca.pem",
            Self::AuthorityKey(KeyKind::Rsa) => "ca-rsa-key.pem",
            Self::Root(KeyKind::Rsa) => "ca-rsa.pem",
            Self::AdminKey => "admin.key",
            Self::TokenSigningKey => "token-signing-key",
        }
    }

    /// Roots are for everybody.
    const fn mode(self) -> u32 {
        match self {
            Self::Root(_) => 0o644,
            Self::AuthorityKey(_) | Self::AdminKey | Self::TokenSigningKey => 0o600,
        }
    }

    /// Whether clients hold on to it, so that one beside the database must be the database's.
    const fn is_trusted(self) -> bool {
        matches!(self, Self::AuthorityKey(_) | Self::Root(_))
    }

    /// Whether clients and commands read it in the data directory.
    const fn is_read_there(self) -> bool {
        matches!(self, Self::Root(_) | Self::AdminKey)
    }
}

/// The place of all of them. Its calls block: they are not for an async worker.
#[derive(Clone)]
pub enum ServerSecrets {
    /// In the data directory.
    Files(PathBuf),
    /// In a database, with a data directory beside it.
    Database { vault: Vault, directory: PathBuf },
}

impl ServerSecrets {
    pub fn vault(&self) -> Option<&Vault> {
        match self {
            Self::Files(_) => None,
            Self::Database { vault, .. } => Some(vault),
        }
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        match self {
            Self::Files(directory) | Self::Database { directory, .. } => directory,
        }
    }

    /// Where its file is, or would be.
    pub(crate) fn file(&self, name: Name) -> PathBuf {
        self.directory().join(name.text())
    }

    /// What there is, wherever.
    pub(crate) fn find(&self, name: Name) -> Result<Option<String>, SecretError> {
        if let Self::Database { vault, .. } = self
            && let Some(kept) = Handle::current().block_on(vault.get(name))?
        {
            return Ok(Some(kept));
        }
        Ok(files::read_if_there(&self.file(name))?)
    }

    /// What is kept. A database takes over what lies in the data directory alone, which an earlier version left there, and gives
    /// the directory its copy.
    pub(crate) fn settle(&self, name: Name) -> Result<Option<String>, SecretError> {
        let beside = files::read_if_there(&self.file(name))?;
        let Self::Database { vault, .. } = self else { return Ok(beside) };
        let kept = match (Handle::current().block_on(vault.get(name))?, &beside) {
            (None, None) => return Ok(None),
            (None, Some(text)) => {
                tracing::info!(file = %self.file(name).display(), "the database takes it over");
                Handle::current().block_on(vault.keep(name, text))?
            }
            (Some(kept), _) => kept,
        };
        let is_same = beside.as_deref().is_none_or(|text| text.trim() == kept.trim());
        if name.is_trusted() && !is_same {
            return Err(SecretError::Another { file: self.file(name) });
        }
        if beside.is_some() && vault.is_sealing() && !name.is_read_there() {
            tracing::warn!(
                file = %self.file(name).display(),
                "the database has it sealed, and this file still holds it in the clear: remove the file"
            );
        }
        self.copy(name, beside.as_deref(), &kept)?;
        Ok(Some(kept))
    }

    /// Lets a database take over everything that lies in the data directory alone.
    pub fn hand_over(&self) -> Result<(), SecretError> {
        Name::ALL.into_iter().try_for_each(|name| self.settle(name).map(drop))
    }

    /// What is kept, which is what was first kept, by this server or another: `make` is asked when there is nothing.
    pub fn ensure<E: From<SecretError>>(
        &self,
        name: Name,
        make: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        if let Some(kept) = self.settle(name)? {
            return Ok(kept);
        }
        let made = make()?;
        let Self::Database { vault, .. } = self else {
            files::write(&self.file(name), &made, name.mode()).map_err(SecretError::from)?;
            return Ok(made);
        };
        let kept = Handle::current().block_on(vault.keep(name, &made))?;
        self.copy(name, None, &kept)?;
        Ok(kept)
    }

    fn copy(&self, name: Name, beside: Option<&str>, kept: &str) -> Result<(), SecretError> {
        if name.is_read_there() && beside != Some(kept) {
            files::write(&self.file(name), kept, name.mode())?;
        }
        Ok(())
    }
}
