//! What a hub asks of a storage account, wherever that is: of one elsewhere by its protocol, of one of this server directly. The hub
//! knows neither; whoever wires the house hands this in.

use std::future::Future;
use std::pin::Pin;

use base::Timestamp;

use crate::settings::StorageEndpoint;

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

/// The accounts that files are uploaded to.
pub trait FileStorage: Send + Sync {
    /// A signature for one blob of the container until `expires`. Asks nobody.
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, expires: Timestamp) -> Result<Grant, NoGrant>;

    /// The blob as it lies there now, or `None` where there is none. Takes a few seconds at the most.
    fn look<'a>(&'a self, at: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a>;
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
