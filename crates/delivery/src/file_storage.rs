//! Storage accounts elsewhere as hubs ask of them: signatures for devices that upload, and a look at what they uploaded.

use std::time::Duration;

use base::{Clock, Timestamp, caps};
use hub::StorageEndpoint;
use hub::file_upload::{FileStorage, Grant, Look, NoGrant, Unreachable, UploadedBlob};
use storage::sas::Permission;
use storage::{AccountAddress, BlobName, ContainerName};

use crate::blobs::Account;
use crate::requests::Requests;

/// What a device may do with its blob.
const PERMISSIONS: &[Permission] = &[Permission::Read, Permission::Write];

/// Reaches every account that a connection string names.
#[derive(Clone)]
pub struct ForeignStorage {
    requests: Requests,
    clock: Clock,
}

impl ForeignStorage {
    pub fn new(requests: Requests, clock: Clock) -> Self {
        Self { requests, clock }
    }

    async fn look_at(&self, at: &StorageEndpoint, blob: &str) -> Result<Option<UploadedBlob>, Unreachable> {
        let (address, container) = opened(at).map_err(Unreachable)?;
        let blob: BlobName =
            blob.parse().map_err(|error: storage::InvalidName| Unreachable(error.to_string()))?;
        let deadline = Duration::from_secs(caps::BLOB_LOOK_SECONDS_MAX);
        let account = Account::new(&address, &self.requests, &self.clock).within(deadline);
        let found = account.properties(&container, &blob).await;
        let found = found.map_err(|error| Unreachable(error.to_string()))?;
        Ok(found.map(|blob| UploadedBlob { size_bytes: blob.size_bytes, last_updated: blob.last_modified }))
    }
}

/// Resource Manager has looked at both.
fn opened(at: &StorageEndpoint) -> Result<(AccountAddress, ContainerName), String> {
    let address = AccountAddress::parse(at.connection_string.expose()).map_err(|error| error.to_string())?;
    let container = at.container_name.parse().map_err(|error: storage::InvalidName| error.to_string())?;
    Ok((address, container))
}

impl FileStorage for ForeignStorage {
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, expires: Timestamp) -> Result<Grant, NoGrant> {
        let (address, container) = opened(at).map_err(NoGrant::Account)?;
        let blob: BlobName =
            blob_name.parse().map_err(|error: storage::InvalidName| NoGrant::Name(error.to_string()))?;
        let sas_token = address.sign_blob((&container, &blob), PERMISSIONS, expires);
        let sas_token = sas_token.ok_or_else(|| NoGrant::Account(format!("{address} has no key")))?;
        Ok(Grant { host_name: address.host_name(), blob_uri: address.blob_uri(&container, &blob), sas_token })
    }

    fn look<'a>(&'a self, at: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a> {
        Box::pin(self.look_at(at, blob_name))
    }
}
