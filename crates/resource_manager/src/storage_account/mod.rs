//! `Microsoft.Storage/storageAccounts`: create, read, delete, keys, name check. Called by the Resource Manager door. What is in an
//! account is the affair of `storage`, which keeps its keys too.

use access::Caller;
use base::hosts::{Dialled, Service};
use base::{InstanceId, Timestamp};
use storage::{Account, KeyName};
use store::retry_on_conflict;

pub use self::record::Properties;
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::resource::{self, Accepted, Preconditions, Resource, Tags};

mod record;

const LIST_KEYS: &str = "Microsoft.Storage/storageAccounts/listkeys/action";
const REGENERATE_KEY: &str = "Microsoft.Storage/storageAccounts/regeneratekey/action";
const SKUS: [&str; 8] = [
    "Standard_LRS",
    "Standard_GRS",
    "Standard_RAGRS",
    "Standard_ZRS",
    "Premium_LRS",
    "Premium_ZRS",
    "Standard_GZRS",
    "Standard_RAGZRS",
];
const KINDS: [&str; 5] = ["StorageV2", "Storage", "BlobStorage", "BlockBlobStorage", "FileStorage"];

/// The writable members of a PUT. What a body leaves out is `None` and stays what it was, or falls back to its default.
#[derive(Clone, Debug, Default)]
pub struct Put {
    pub location: Option<String>,
    pub tags: Option<Tags>,
    pub sku: Option<String>,
    pub kind: Option<String>,
    pub preconditions: Preconditions,
}

/// A key as `listKeys` gives it: for its asker alone, so that it cannot be printed.
#[derive(Clone)]
pub struct AccountKey {
    pub name: &'static str,
    pub value: String,
    pub made: Timestamp,
}

impl ResourceManager {
    /// `StorageAccounts_Create`.
    pub async fn put_storage_account(
        &self,
        caller: &Caller,
        id: &ResourceId,
        put: &Put,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, put.tags.as_ref()).await?;
        let sku = put.sku.as_deref().map(|sku| one_of(&SKUS, "sku.name", sku)).transpose()?;
        let kind = put.kind.as_deref().map(|kind| one_of(&KINDS, "kind", kind)).transpose()?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id, &put.preconditions).await?;
            let before = old.as_ref().map(|old| &old.record);
            let location = resource::check_location(put.location.as_deref(), id, before)?;
            let (now, known) = (self.clock.now(), before.map(properties).transpose()?);
            let text = |given: Option<&'static str>, known: Option<&String>, default: &str| {
                given.map(str::to_owned).or_else(|| known.cloned()).unwrap_or_else(|| default.to_owned())
            };
            let properties = Properties {
                instance: known.map_or_else(
                    || InstanceId::generate("storage", &id.name),
                    |known| known.instance.clone(),
                ),
                created: known.map_or(now, |known| known.created),
                sku: text(sku, known.map(|known| &known.sku), SKUS[0]),
                kind: text(kind, known.map(|known| &known.kind), KINDS[0]),
            };
            let properties = resource::Properties::StorageAccount(properties);
            let next = Resource {
                location: Some(location),
                tags: Some(put.tags.clone().unwrap_or_default()),
                ..resource::after_put(id, before, caller, now, properties)
            };
            self.accept_put(old.as_ref(), next, batch).await
        })
        .await
    }

    /// `StorageAccounts_ListKeys`.
    pub async fn storage_account_keys(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<AccountKey>, Error> {
        self.allow(caller, LIST_KEYS, &id.scope(), &id.group.subscription).await?;
        Ok(keys(&self.account_behind(id).await?))
    }

    /// `StorageAccounts_RegenerateKey`.
    pub async fn regenerate_storage_account_key(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<Vec<AccountKey>, Error> {
        self.allow(caller, REGENERATE_KEY, &id.scope(), &id.group.subscription).await?;
        let name = KeyName::parse(name)
            .ok_or_else(|| Error::bad_request(format!("The key name '{name}' must be 'key1' or 'key2'.")))?;
        let account = self.account_behind(id).await?;
        account.regenerate_key(name).await.map_err(|error| match error {
            storage::Error::Store(error) => Error::Store(error),
            error => Error::Conflict(error.to_string()),
        })?;
        Ok(keys(&account))
    }

    async fn account_behind(&self, id: &ResourceId) -> Result<Account, Error> {
        let resource = self.must_get(id).await?;
        let found = self.accounts.get_now(&properties(&resource)?.instance).await?;
        found.ok_or_else(|| Error::Conflict(format!("The storage account '{}' is not ready.", id.name)))
    }

    /// Where whoever dialled so reaches the blobs of an account: an address carries its name in the path.
    pub fn blob_endpoint(&self, account: &str, dialled: &Dialled) -> String {
        blob_endpoint(&self.hosts, account, dialled)
    }
}

/// `https://{account}.blob.{domain}/`, with the port where it is not 443; `https://{address}/{account}` where no such name leads here.
pub fn blob_endpoint(hosts: &base::hosts::Hosts, account: &str, dialled: &Dialled) -> String {
    let host = hosts.advertised(Service::Storage, account, "", dialled);
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let path = if is_address { account } else { "" };
    format!("https://{}/{path}", hosts.with_port(&host))
}

fn keys(account: &Account) -> Vec<AccountKey> {
    let settings = account.settings();
    let key = |name: KeyName| AccountKey {
        name: name.name(),
        value: settings.keys[name as usize].text().to_owned(),
        made: settings.keys_made[name as usize],
    };
    KeyName::ALL.map(key).into()
}

fn one_of(known: &[&'static str], what: &str, given: &str) -> Result<&'static str, Error> {
    let found = known.iter().find(|known| known.eq_ignore_ascii_case(given)).copied();
    found.ok_or_else(|| {
        Error::bad_request(format!("The value '{given}' of '{what}' is not one of {}.", known.join(", ")))
    })
}

pub fn properties(resource: &Resource) -> Result<&Properties, Error> {
    match &resource.properties {
        resource::Properties::StorageAccount(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}
