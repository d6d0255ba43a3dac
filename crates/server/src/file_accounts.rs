//! Where files of devices go to: accounts of this server, which are asked without a request, and accounts elsewhere (ADR 18).

use base::{Clock, Timestamp};
use delivery::{ForeignStorage, Requests, Trust};
use hub::StorageEndpoint;
use hub::file_upload::{FileStorage, Grant, Look, NoGrant, Unreachable, UploadedBlob};
use storage::{Account, AccountAddress, Accounts, InvalidName};

pub(crate) struct FileAccounts {
    own: Accounts,
    elsewhere: ForeignStorage,
}

impl FileAccounts {
    pub(crate) fn new(own: Accounts, clock: Clock) -> Self {
        Self { own, elsewhere: ForeignStorage::new(Requests::new(Trust::of_this_machine()), clock) }
    }

    fn own(&self, at: &StorageEndpoint) -> Option<Account> {
        let address = AccountAddress::parse(at.connection_string.expose()).ok()?;
        self.own.opened_by(&address)
    }
}

impl FileStorage for FileAccounts {
    /// Signed alike, wherever the account is.
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, expires: Timestamp) -> Result<Grant, NoGrant> {
        self.elsewhere.grant(at, blob_name, expires)
    }

    fn look<'a>(&'a self, at: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a> {
        match self.own(at) {
            Some(account) => Box::pin(look_at(account, at, blob_name)),
            None => self.elsewhere.look(at, blob_name),
        }
    }
}

async fn look_at(
    account: Account,
    at: &StorageEndpoint,
    blob_name: &str,
) -> Result<Option<UploadedBlob>, Unreachable> {
    let no_name = |error: InvalidName| Unreachable(error.to_string());
    let container = at.container_name.parse().map_err(no_name)?;
    let blob = blob_name.parse().map_err(no_name)?;
    let found = account.length_of((&container, &blob)).await;
    let found = found.map_err(|error| Unreachable(error.to_string()))?;
    Ok(found.map(|(size_bytes, last_updated)| UploadedBlob { size_bytes, last_updated }))
}
