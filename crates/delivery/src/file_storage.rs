//! Storage accounts elsewhere as hubs ask of them: signatures for devices that upload, and a look at what they uploaded.

use std::time::Duration;

use base::{Clock, Timestamp, caps};
use bytes::Bytes;
use hub::StorageEndpoint;
use hub::file_upload::{
    Asked, ContainerFault, ContainerUri, FileStorage, Grant, Look, NoGrant, Portion, Unreachable,
    UploadedBlob,
};
use storage::sas::Permission;
use storage::{AccountAddress, BlobName, ContainerName};

use crate::blobs::{Account, DeliveryError};
use crate::requests::Requests;

/// What a device may do with its blob.
const PERMISSIONS: &[Permission] = &[Permission::Read, Permission::Write];

/// Of files that jobs write.
const CONTENT_TYPE: &str = "application/octet-stream";

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

    fn read<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        from: u64,
        most: usize,
    ) -> Asked<'a, Option<Portion>> {
        Box::pin(async move {
            let Opened { address, container, blob } = Opened::new(at, blob)?;
            let account = Account::new(&address, &self.requests, &self.clock);
            let found = judged(account.get_range(&container, &blob, from, most).await)?;
            Ok(found.map(|(bytes, blob_bytes)| Portion { bytes, blob_bytes }))
        })
    }

    fn put_block<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        block_id: &'a str,
        bytes: Bytes,
    ) -> Asked<'a, ()> {
        Box::pin(async move {
            let Opened { address, container, blob } = Opened::new(at, blob)?;
            let account = Account::new(&address, &self.requests, &self.clock);
            judged(account.put_block(&container, &blob, block_id, bytes).await)
        })
    }

    fn commit_blocks<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        block_ids: &'a [String],
    ) -> Asked<'a, ()> {
        Box::pin(async move {
            let Opened { address, container, blob } = Opened::new(at, blob)?;
            let account = Account::new(&address, &self.requests, &self.clock);
            judged(account.put_block_list(&container, &blob, block_ids, CONTENT_TYPE).await)
        })
    }

    fn remove<'a>(&'a self, at: &'a ContainerUri, blob: &'a str) -> Asked<'a, bool> {
        Box::pin(async move {
            let Opened { address, container, blob } = Opened::new(at, blob)?;
            let account = Account::new(&address, &self.requests, &self.clock);
            judged(account.delete(&container, &blob).await)
        })
    }
}

/// A blob that a job reads or writes.
struct Opened {
    address: AccountAddress,
    container: ContainerName,
    blob: BlobName,
}

impl Opened {
    fn new(at: &ContainerUri, blob: &str) -> Result<Self, ContainerFault> {
        let wrong = |why: &dyn std::fmt::Display| ContainerFault::Address(why.to_string());
        let (address, container) = AccountAddress::of_container(at.expose()).map_err(|why| wrong(&why))?;
        Ok(Self { address, container, blob: blob.parse().map_err(|why: storage::InvalidName| wrong(&why))? })
    }
}

/// What an account says that is overloaded or ill is worth another try, as silence is.
fn judged<T>(done: Result<T, DeliveryError>) -> Result<T, ContainerFault> {
    done.map_err(|error| match error {
        DeliveryError::Refused { status, .. } if status < 500 && status != 429 => {
            ContainerFault::Refused(error.to_string())
        }
        _ => ContainerFault::Unreachable(error.to_string()),
    })
}
