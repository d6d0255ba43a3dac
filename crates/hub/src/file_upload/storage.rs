//! What a hub asks of a storage account, wherever that is: of one elsewhere by its protocol, of one of this server directly. The hub
//! knows neither; whoever wires the house hands this in. Files of devices lie in the account of the hub's settings, files of jobs in
//! a container that whoever asks for the job opens by a signature.

use std::future::Future;
use std::pin::Pin;

use base::hosts::Dialled;
use base::{Secret, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::settings::StorageEndpoint;

/// A container: its address with the signature that opens it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerUri(Secret);

impl ContainerUri {
    pub fn new(uri: impl Into<String>) -> Self {
        Self(Secret::new(uri))
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    pub bytes: Bytes,
    /// How long the whole blob is.
    pub blob_bytes: u64,
}

/// Why a container does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerFault {
    /// It is no address of a container, or of a blob of that name.
    #[error("{0}")]
    Address(String),
    /// Worth another try.
    #[error("{0}")]
    Unreachable(String),
    /// The account says no, by its own code.
    #[error("{0}")]
    Refused(String),
}

/// What lets a device write one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where clients put the container's name behind `https://{host_name}/`; with the account, where that stands in the path.
    pub host_name: String,
    /// The blob's address without what opens it.
    pub blob_uri: String,
    /// A query that is signed, with its `?`.
    pub sas_token: String,
}

/// What is known of a blob that lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadedBlob {
    pub size_bytes: u64,
    pub last_updated: Timestamp,
}

/// Why an account does not say what it is asked, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// Why nobody is let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGrant {
    /// No blob can be called that.
    #[error("{0}")]
    Name(String),
    /// The account's connection string opens nothing.
    #[error("{0}")]
    Account(String),
}

pub type Look<'a> = Pin<Box<dyn Future<Output = Result<Option<UploadedBlob>, Unreachable>> + Send + 'a>>;

pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, ContainerFault>> + Send + 'a>>;
pub type OwnStorage<'a> = Pin<Box<dyn Future<Output = Option<StorageEndpoint>> + Send + 'a>>;

fn nobody<T: Send>() -> Asked<'static, T> {
    Box::pin(async { Err(ContainerFault::Unreachable("no account is reached from here".to_owned())) })
}

/// The accounts that files are uploaded to, and the containers of jobs.
pub trait FileStorage: Send + Sync {
    /// A signature for one blob of the container until `expires`. Asks nobody.
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, expires: Timestamp) -> Result<Grant, NoGrant>;

    /// The blob as it lies there now, or `None` where there is none. Takes a few seconds at the most.
    fn look<'a>(&'a self, at: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a>;

    /// What a hub without storage of its own has instead, as whoever dialled so reaches it. The container is there then.
    fn default_storage<'a>(&'a self, _hub: &'a str, _dialled: &'a Dialled) -> OwnStorage<'a> {
        Box::pin(async { None })
    }

    /// Up to `most` bytes of a blob, or `None` where there is none. Nothing of it lies behind its end.
    fn read<'a>(
        &'a self,
        _at: &'a ContainerUri,
        _blob: &'a str,
        _from: u64,
        _most: usize,
    ) -> Asked<'a, Option<Portion>> {
        nobody()
    }

    /// A block that waits for being committed. One of the same id is replaced; ids are base64, and all of a blob of one length.
    fn put_block<'a>(
        &'a self,
        _at: &'a ContainerUri,
        _blob: &'a str,
        _block_id: &'a str,
        _bytes: Bytes,
    ) -> Asked<'a, ()> {
        nobody()
    }

    /// From now on the blob consists of these blocks. Safe to be repeated.
    fn commit_blocks<'a>(
        &'a self,
        _at: &'a ContainerUri,
        _blob: &'a str,
        _block_ids: &'a [String],
    ) -> Asked<'a, ()> {
        nobody()
    }

    /// Whether there was such a blob.
    fn remove<'a>(&'a self, _at: &'a ContainerUri, _blob: &'a str) -> Asked<'a, bool> {
        nobody()
    }
}

/// Knows no account: for houses whose devices upload nothing.
pub struct NoFileStorage;

impl FileStorage for NoFileStorage {
    fn grant(&self, _: &StorageEndpoint, _: &str, _: Timestamp) -> Result<Grant, NoGrant> {
        Err(NoGrant::Account("no account is reached from here".to_owned()))
    }

    fn look<'a>(&'a self, _: &'a StorageEndpoint, _: &'a str) -> Look<'a> {
        Box::pin(async { Err(Unreachable("no account is reached from here".to_owned())) })
    }
}
