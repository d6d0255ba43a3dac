//! The stored shapes of blobs, and what their metadata may be.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{InstanceId, Timestamp, caps};
use serde::{Deserialize, Serialize};
use store::chunks::ChunkId;
use store::{Batch, Counter, Key, Record, Revision, Table, table};

use crate::content::Block;
use crate::error::Error;
use crate::name::BlobName;
use crate::removal::{Removal, What};

/// Names keep their case, and differ by more than that.
pub type Metadata = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobKind {
    Block,
    Append,
}

impl BlobKind {
    /// As Azure calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "BlockBlob",
            Self::Append => "AppendBlob",
        }
    }
}

/// What answers to reads carry as the client wants it. `None`: it has not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlobHeaders {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub content_disposition: Option<String>,
    pub cache_control: Option<String>,
    /// In base64.
    pub content_md5: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    pub(crate) instance: InstanceId,
    /// The container's id.
    pub(crate) container: String,
    pub name: BlobName,
    pub kind: BlobKind,
    pub length: u64,
    /// None where it is empty.
    pub(crate) content: Option<String>,
    pub blocks: usize,
    pub created: Timestamp,
    pub modified: Timestamp,
    pub headers: BlobHeaders,
    pub metadata: Metadata,
}

impl Record for Blob {
    const TABLE: Table = table::BLOB;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.container, self.name.as_str()])
    }
}

impl Blob {
    /// Notes that its content is wanted no longer, but for blocks that another has taken over.
    pub(crate) fn leave(&self, batch: &mut Batch, at: Timestamp, kept: Vec<ChunkId>) {
        if let Some(content) = self.content.clone() {
            batch.put(&Removal::new(&self.instance, at, What::Content { content, kept }));
        }
    }
}

/// Blocks that wait for being committed to a blob. They lie under its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlobUpload {
    pub(crate) instance: InstanceId,
    /// The container's id.
    pub(crate) container: String,
    pub(crate) blob: BlobName,
    pub(crate) id: String,
    /// Of the ids of its blocks, which have all the same.
    pub(crate) block_id_length: usize,
}

impl Record for BlobUpload {
    const TABLE: Table = table::BLOB_UPLOAD;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.container, self.blob.as_str()])
    }
}

impl BlobUpload {
    pub(crate) const KEPT: Duration = Duration::from_secs(caps::UNCOMMITTED_BLOCK_SECONDS);

    pub(crate) fn counter(instance: &InstanceId, id: &str) -> Counter {
        Counter::new(instance, format!("blocks/{id}"))
    }

    pub(crate) fn expiring(&self, at: Timestamp) -> Removal {
        let (container, blob) = (self.container.clone(), self.blob.to_string());
        let what = What::ExpiringUpload { container, blob, upload: self.id.clone() };
        Removal::new(&self.instance, at, what)
    }

    /// The same as [`Blob::leave`] for blocks that were never committed.
    pub(crate) fn leave(&self, batch: &mut Batch, at: Timestamp, kept: Vec<ChunkId>) {
        let upload = self.id.clone();
        batch.put(&Removal::new(&self.instance, at, What::Upload { upload, kept }));
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UncommittedBlock {
    pub(crate) instance: InstanceId,
    pub(crate) upload: String,
    pub(crate) at: Timestamp,
    pub(crate) block: Block,
}

impl Record for UncommittedBlock {
    const TABLE: Table = table::UNCOMMITTED_BLOCK;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.upload, &self.block.id])
    }
}

/// As answers carry it, without quotes.
pub(crate) fn etag(revision: Revision) -> String {
    format!("0x8D{:014X}", revision.get())
}

/// Names are identifiers of C#, values what a header can carry.
pub(crate) fn check_metadata(metadata: &Metadata) -> Result<(), Error> {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
            && letters.all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
    };
    if !metadata.keys().all(|name| is_name(name)) {
        return Err(Error::InvalidMetadata);
    }
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > caps::BLOB_METADATA_BYTES_MAX { Err(Error::MetadataTooLarge) } else { Ok(()) }
}
