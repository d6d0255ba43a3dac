//! Chunks as the domain sees them: bytes of a blob beside the records that say what they are of. Whoever writes one has committed a
//! record before by which it is removed again when nothing comes to name it (ADR 17).

use std::fmt;
use std::ops::Range;

use base::{InstanceId, caps, secret};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::{Chunks as _, ask_engine};
use crate::error::StoreError;
use crate::store::Store;

/// Made up for one chunk, and never used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkId(String);

impl ChunkId {
    pub fn generate() -> Self {
        Self(secret::random_hex(16))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether a file's name is one.
    pub(crate) fn is_one(text: &str) -> bool {
        text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// The first two digits, by which chunks spread over folders.
    pub(crate) fn folder(&self) -> &str {
        self.0.get(..2).unwrap_or_default()
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub struct Chunks<'a>(&'a Store);

impl Store {
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks(self)
    }
}

impl Chunks<'_> {
    /// At most `caps::CHUNK_BYTES_MAX`. Durable when it returns.
    pub async fn write(&self, instance: &InstanceId, id: &ChunkId, bytes: Bytes) -> Result<(), StoreError> {
        if bytes.len() > caps::CHUNK_BYTES_MAX {
            return Err(StoreError::Refused(format!("a chunk of {} bytes", bytes.len())));
        }
        check(instance, id)?;
        ask_engine!(self.0.engine(), engine => engine.chunks().write_chunk(instance, id, bytes))
    }

    /// A chunk that is not there, or shorter than its record says, was lost with its disk, or removed under a slow reader.
    pub async fn read(
        &self,
        instance: &InstanceId,
        id: &ChunkId,
        range: Range<usize>,
    ) -> Result<Bytes, StoreError> {
        check(instance, id)?;
        let wanted = range.len();
        let read = ask_engine!(self.0.engine(), engine => engine.chunks().read_chunk(instance, id, range))?;
        read.filter(|bytes| bytes.len() == wanted)
            .ok_or_else(|| StoreError::Corrupt(format!("chunk {id} of {instance} is not there in full")))
    }

    /// Safe to repeat.
    pub async fn remove(&self, instance: &InstanceId, id: &ChunkId) -> Result<(), StoreError> {
        check(instance, id)?;
        ask_engine!(self.0.engine(), engine => engine.chunks().remove_chunk(instance, id))
    }

    /// All of an instance that has ended. Safe to repeat.
    pub async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        check_instance(instance)?;
        ask_engine!(self.0.engine(), engine => engine.chunks().remove_chunks(instance))
    }
}

/// Ids are ours, but they come back from records, and become names of files.
fn check(instance: &InstanceId, id: &ChunkId) -> Result<(), StoreError> {
    check_instance(instance)?;
    if ChunkId::is_one(id.as_str()) {
        return Ok(());
    }
    Err(StoreError::Corrupt("a record names a chunk by what is no id of one".to_owned()))
}

fn check_instance(instance: &InstanceId) -> Result<(), StoreError> {
    if is_folder(instance.as_str()) {
        return Ok(());
    }
    Err(StoreError::Refused(format!("the instance {instance} cannot have chunks")))
}

/// What an instance with chunks is called, and the folder of them.
pub(crate) fn is_folder(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=128).contains(&name.len()) && name.bytes().all(is_letter)
}
