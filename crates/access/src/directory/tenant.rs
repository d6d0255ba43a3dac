//! The tenant and its token signing key: made once, by whoever comes first, and the same at every later start. Called when the
//! directory is opened.

use base::Timestamp;
use store::{Batch, CommitError, Store, StoreError, Stored, retry_on_conflict};

use super::record::TenantRecord;
use super::{Error, new_id, unexpected};
use crate::secrets::{Name, SecretError, Vault};
use crate::signing_key::SigningKeyRecord;

/// The key is in the vault if there is one, else in the tenant's record.
pub(super) async fn ensure(
    store: &Store,
    vault: Option<&Vault>,
    now: Timestamp,
) -> Result<(TenantRecord, SigningKeyRecord), Error> {
    let tenant = ensure_tenant(store, vault.is_some(), now).await?.record;
    let key = match (vault, &tenant.signing_key) {
        (Some(vault), _) => retry_on_conflict(|| key_in_vault(store, vault)).await?,
        (None, Some(key)) => key.clone(),
        (None, None) => {
            let why = "the tenant has no token signing key: it was a database's";
            return Err(StoreError::Corrupt(why.to_owned()).into());
        }
    };
    Ok((tenant, key))
}

async fn find(store: &Store) -> Result<Option<Stored<TenantRecord>>, StoreError> {
    store.get::<TenantRecord>(&TenantRecord::key()).await
}

async fn ensure_tenant(
    store: &Store,
    has_vault: bool,
    now: Timestamp,
) -> Result<Stored<TenantRecord>, Error> {
    if let Some(stored) = find(store).await? {
        return Ok(stored);
    }
    let tenant = TenantRecord {
        tenant_id: new_id(),
        subscription_id: new_id(),
        display_name: "twinhub".to_owned(),
        created_at: now,
        signing_key: if has_vault { None } else { Some(SigningKeyRecord::generate()?) },
    };
    let mut batch = Batch::default();
    batch.insert(&tenant);
    match store.commit(batch).await {
        Ok(committed) => Ok(committed.stored(tenant)),
        // Another server was first.
        Err(CommitError::Conflict) => find(store).await?.ok_or_else(|| unexpected(CommitError::Conflict)),
        Err(error) => Err(unexpected(error)),
    }
}

/// The key that is in the vault. One that an earlier version left in the tenant's record goes there in one batch.
async fn key_in_vault(store: &Store, vault: &Vault) -> Result<SigningKeyRecord, Error> {
    const NAME: Name = Name::TokenSigningKey;
    if let Some(kept) = vault.get(NAME).await? {
        return read(&kept);
    }
    let tenant = find(store).await?;
    let left_behind = tenant.and_then(|tenant| Some((tenant.record.signing_key.clone()?, tenant)));
    let Some((key, tenant)) = left_behind else {
        return read(&vault.keep(NAME, &text_of(&SigningKeyRecord::generate()?)).await?);
    };
    let mut batch = Batch::default();
    vault.enter(&mut batch, NAME, &text_of(&key));
    batch.replace(&tenant, &TenantRecord { signing_key: None, ..tenant.record.clone() });
    store.commit(batch).await.map_err(SecretError::from)?;
    Ok(key)
}

fn read(text: &str) -> Result<SigningKeyRecord, Error> {
    // What the parser says of it would show a part of it.
    let unreadable = |_| StoreError::Corrupt("the token signing key does not read".to_owned());
    Ok(serde_json::from_str(text).map_err(unreadable)?)
}

fn text_of(key: &SigningKeyRecord) -> String {
    serde_json::to_string(key).expect("plain data")
}
