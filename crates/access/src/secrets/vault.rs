//! Secrets as records of the store, sealed when there is a key. Opened once at start, which looks at all of them, so that a wrong key
//! or a changed row stops the server there and not when a client comes.

use base::Secret;
use store::{Batch, CommitError, Store, retry_on_conflict};

use super::record::{Content, SecretRecord, VERSION, key_of};
use super::{Name, SealingKey, SecretError};

/// Clones share it.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    key: Option<SealingKey>,
}

impl Vault {
    /// Refuses what cannot be opened with `key`, and seals with it what lies in the clear.
    pub async fn open(store: Store, key: Option<SealingKey>) -> Result<Self, SecretError> {
        let vault = Self { store, key };
        let sealed = retry_on_conflict(|| vault.seal()).await?;
        if sealed > 0 {
            tracing::warn!(
                secrets = sealed,
                "the server's secrets lay in the database in the clear and are sealed from now on; backups from before still have them"
            );
        }
        if !vault.is_sealing() {
            tracing::warn!(
                "certificate authority, admin key and token signing key lie in the database in the clear: whoever reads it or a backup of it has them. To seal them, give a key with --cluster-key-file."
            );
        }
        Ok(vault)
    }

    pub(super) fn is_sealing(&self) -> bool {
        self.key.is_some()
    }

    /// Opens everything, and seals in one batch what is not. Gives how many those were.
    async fn seal(&self) -> Result<usize, SecretError> {
        let (mut batch, mut clear) = (Batch::default(), 0);
        for name in Name::ALL {
            let Some(stored) = self.store.get::<SecretRecord>(&key_of(name.text())).await? else { continue };
            let text = self.open_record(name, &stored.record)?;
            if self.is_sealing() && matches!(stored.record.content, Content::Clear { .. }) {
                batch.replace(&stored, &self.record(name, &text));
                clear += 1;
            }
        }
        if clear > 0 {
            self.store.commit(batch).await?;
        }
        Ok(clear)
    }

    pub(crate) async fn get(&self, name: Name) -> Result<Option<String>, SecretError> {
        let stored = self.store.get::<SecretRecord>(&key_of(name.text())).await?;
        stored.map(|stored| self.open_record(name, &stored.record)).transpose()
    }

    /// Keeps a text if there is none under this name. Gives what is there afterwards: of several servers the first wins.
    pub(crate) async fn keep(&self, name: Name, text: &str) -> Result<String, SecretError> {
        let mut batch = Batch::default();
        self.enter(&mut batch, name, text);
        match self.store.commit(batch).await {
            Ok(_) => Ok(text.to_owned()),
            Err(CommitError::Conflict) => self.get(name).await?.ok_or(CommitError::Conflict.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a text in a batch, which fails if there is one.
    pub(crate) fn enter(&self, batch: &mut Batch, name: Name, text: &str) {
        batch.insert(&self.record(name, text));
    }

    fn record(&self, name: Name, text: &str) -> SecretRecord {
        let content = match &self.key {
            Some(key) => Content::Sealed(key.seal(name.text(), text)),
            None => Content::Clear { text: Secret::new(text) },
        };
        SecretRecord { name: name.text().to_owned(), version: VERSION, content }
    }

    /// The record's own name is not asked: who exchanges two rows exchanges that too.
    fn open_record(&self, name: Name, record: &SecretRecord) -> Result<String, SecretError> {
        let name = name.text();
        if record.version > VERSION {
            return Err(SecretError::Later { name });
        }
        let sealed = match &record.content {
            Content::Clear { text } => return Ok(text.expose().to_owned()),
            Content::Sealed(sealed) => sealed,
        };
        let sealed_with = || sealed.key_id.clone();
        let key = self.key.as_ref().ok_or_else(|| SecretError::NoKey { sealed_with: sealed_with() })?;
        match key.open(name, sealed) {
            Some(text) => Ok(text),
            None if key.id() == sealed.key_id => Err(SecretError::Changed { name }),
            None => Err(SecretError::OtherKey { sealed_with: sealed_with(), given: key.id().to_owned() }),
        }
    }
}
