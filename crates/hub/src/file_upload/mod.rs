//! Files that devices upload (`iothub-device.md` §7): the hub says where to and lets a device in to one blob, the device says how it
//! went, and back ends are told. The bytes never pass through the hub.

mod notification;
mod record;
mod rules;
mod storage;
#[cfg(test)]
mod tests;

use access::Caller;
use base::hosts::Dialled;
use base::ids::IdentityId;
use base::secret::{random_hex, stable_hash};
use base::{DeviceId, Meter};
use store::{Batch, Record, Stored, retry_on_conflict};

pub use self::notification::FileNotification;
use self::record::{FileUploads, Upload, key_of};
pub use self::storage::{
    Asked, ContainerFault, ContainerUri, FileStorage, Grant, Look, NoFileStorage, NoGrant, OwnStorage,
    Portion, Unreachable, UploadedBlob,
};
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::settings::StorageEndpoint;

/// What a device is told when it may upload a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedUpload {
    pub correlation_id: String,
    pub host_name: String,
    pub container_name: String,
    /// With the device's id before the name that it gave.
    pub blob_name: String,
    pub sas_token: String,
}

/// Clients put it into paths, some as it is: hex needs no escapes.
const CORRELATION_ID_BYTES: usize = 16;

impl Hub {
    /// `Device_CreateFileUploadSasUri`. The upload is under way until the device says how it went, or its time is over.
    pub async fn start_file_upload(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
        name: &str,
        dialled: &Dialled,
    ) -> Result<StartedUpload, Error> {
        caller.require_identity(&IdentityId::device(device_id.clone()), self.scope())?;
        self.charge(Meter::FileUpload)?;
        rules::check_name(name)?;
        let storage = self.upload_storage(dialled).await;
        let storage = storage.ok_or(Error::DefaultStorageEndpointNotConfigured)?;
        retry_on_conflict(async || self.begin_upload(device_id, &storage, name).await).await
    }

    /// Where files go to: what the hub's settings name, else what the server has for such hubs.
    async fn upload_storage(&self, dialled: &Dialled) -> Option<StorageEndpoint> {
        match &self.settings().file_upload.storage {
            Some(storage) => Some(storage.clone()),
            None => self.context().file_storage.default_storage(self.name(), dialled).await,
        }
    }

    async fn begin_upload(
        &self,
        device_id: &DeviceId,
        storage: &StorageEndpoint,
        name: &str,
    ) -> Result<StartedUpload, Error> {
        let device = self.device(device_id).await?;
        let now = self.now();
        let (blob_name, expires) = (format!("{device_id}/{name}"), now.plus(storage.ttl));
        let grant = self.context().file_storage.grant(storage, &blob_name, expires).map_err(refused)?;
        let correlation_id = random_hex(CORRELATION_ID_BYTES);
        let next = Upload {
            correlation_id: correlation_id.clone(),
            blob_name: blob_name.clone(),
            blob_uri: grant.blob_uri,
            expires,
        };
        let old = self.file_uploads(device_id).await?;
        let before = old.as_ref().map(|old| old.record.uploads.clone()).unwrap_or_default();
        let uploads = rules::begin(before, next, now)?;
        let new = FileUploads { instance: self.instance().clone(), device_id: device_id.clone(), uploads };
        let mut batch = Batch::default();
        batch.guard_exists::<Identity>(device.record.key());
        match &old {
            Some(old) => batch.replace(old, &new),
            None => batch.insert(&new),
        }
        self.store().commit(batch).await?;
        let (host_name, sas_token) = (grant.host_name, grant.sas_token);
        let container_name = storage.container_name.clone();
        Ok(StartedUpload { correlation_id, host_name, container_name, blob_name, sas_token })
    }

    /// `Device_UpdateFileUploadStatus`: the device has uploaded the file, or given up. Of a file that is there back ends are told, where
    /// the hub's settings say so; durable when it returns.
    pub async fn complete_file_upload(
        &self,
        caller: &Caller,
        device_id: &DeviceId,
        correlation_id: &str,
        is_success: bool,
    ) -> Result<(), Error> {
        caller.require_identity(&IdentityId::device(device_id.clone()), self.scope())?;
        self.charge(Meter::FileUpload)?;
        let told = if is_success && self.settings().file_upload.is_notified {
            self.look_at_upload(device_id, correlation_id).await?
        } else {
            None
        };
        retry_on_conflict(async || self.end_upload(device_id, correlation_id, told.clone()).await).await
    }

    async fn end_upload(
        &self,
        device_id: &DeviceId,
        correlation_id: &str,
        told: Option<FileNotification>,
    ) -> Result<(), Error> {
        let old = self.file_uploads(device_id).await?.ok_or(Error::InvalidFileUploadCorrelationId)?;
        rules::ended(&old.record.uploads, correlation_id, self.now())?;
        let mut left = old.record.clone();
        left.uploads.retain(|upload| upload.correlation_id != correlation_id);
        let mut batch = Batch::default();
        if left.uploads.is_empty() {
            batch.delete(&old);
        } else {
            batch.replace(&old, &left);
        }
        if let Some(told) = told
            && self.has_room_for::<FileNotification>().await?
        {
            let told = FileNotification { enqueued: self.now(), ..told };
            self.push_notice(&mut batch, stable_hash(correlation_id.as_bytes()), told);
        }
        self.store().commit(batch).await?;
        Ok(())
    }

    /// What there is to tell of a file that is said to be uploaded. Of one that is not there nothing; where its account does not
    /// answer, that the device says so.
    async fn look_at_upload(
        &self,
        device_id: &DeviceId,
        correlation_id: &str,
    ) -> Result<Option<FileNotification>, Error> {
        let uploads = self.file_uploads(device_id).await?.ok_or(Error::InvalidFileUploadCorrelationId)?;
        let now = self.now();
        let upload = rules::ended(&uploads.record.uploads, correlation_id, now)?;
        let storage = self.upload_storage(&Dialled::here()).await;
        let found = match &storage {
            Some(storage) => self.context().file_storage.look(storage, &upload.blob_name).await,
            None => Err(Unreachable("the hub has no storage account any more".to_owned())),
        };
        let (hub, blob) = (self.name(), &upload.blob_name);
        let blob = match found {
            Ok(Some(blob)) => blob,
            Ok(None) => {
                tracing::warn!(hub, blob, "nobody is told of an upload: the blob is not there");
                return Ok(None);
            }
            Err(why) => {
                tracing::warn!(hub, blob, %why, "an upload is told of without the blob's size, since its account does not answer");
                UploadedBlob { size_bytes: 0, last_updated: now }
            }
        };
        Ok(Some(FileNotification {
            device_id: device_id.clone(),
            blob_uri: upload.blob_uri.clone(),
            blob_name: upload.blob_name.clone(),
            last_updated: blob.last_updated,
            size_bytes: blob.size_bytes,
            enqueued: now,
        }))
    }

    async fn file_uploads(&self, device_id: &DeviceId) -> Result<Option<Stored<FileUploads>>, Error> {
        Ok(self.store().get::<FileUploads>(&key_of(self.instance(), device_id)).await?)
    }

    /// They go with their device. One that begins meanwhile finds it gone.
    pub(crate) fn remove_file_uploads(&self, batch: &mut Batch, device_id: &DeviceId) {
        batch.remove::<FileUploads>(key_of(self.instance(), device_id));
    }
}

fn refused(no_grant: NoGrant) -> Error {
    match no_grant {
        NoGrant::Name(why) => Error::invalid(format!("blobName: {why}")),
        NoGrant::Account(why) => {
            tracing::error!(why, "devices cannot upload files: the hub's storage account is of no use");
            Error::DefaultStorageEndpointNotConfigured
        }
    }
}
