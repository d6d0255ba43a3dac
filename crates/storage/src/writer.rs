//! Receives the bytes of a block or a blob: gathers them into chunks, notes each before it is written, and counts and sums them.
//! Never more than one chunk of a body is in memory.

use std::collections::VecDeque;

use base::caps;
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use std::time::Duration;
use store::chunks::ChunkId;
use store::{Batch, Stored};
use tokio::sync::SemaphorePermit;

use crate::account::Account;
use crate::content::{Block, Chunk};
use crate::error::Error;
use crate::removal::{Removal, What};

/// A body on its way in.
pub struct Writer<'a> {
    account: &'a Account,
    _turn: Option<SemaphorePermit<'a>>,
    most: u64,
    /// How long it will be, where the client has said so.
    expected: Option<u64>,
    length: u64,
    md5: Md5,
    gathered: BytesMut,
    /// Noted, and not yet written.
    noted: VecDeque<ChunkId>,
    received: Received,
}

/// A body that is there in full, and that nothing names yet.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) length: u64,
    pub(crate) md5: [u8; 16],
    removals: Vec<Stored<Removal>>,
}

impl Received {
    pub(crate) fn block(&self, id: &str) -> Block {
        Block { id: id.to_owned(), chunks: self.chunks.clone() }
    }

    /// From this batch on something names the chunks. It fails where their removal has begun.
    pub(crate) fn keep(&self, batch: &mut Batch) {
        for removal in &self.removals {
            batch.delete(removal);
        }
    }
}

impl<'a> Writer<'a> {
    /// `most` is how long the body may be.
    pub(crate) async fn new(account: &'a Account, expected: Option<u64>, most: u64) -> Result<Self, Error> {
        if expected.is_some_and(|expected| expected > most) {
            return Err(Error::RequestBodyTooLarge);
        }
        Ok(Self {
            _turn: account.turn_to_receive().await,
            account,
            most,
            expected,
            length: 0,
            md5: Md5::new(),
            gathered: BytesMut::new(),
            noted: VecDeque::new(),
            received: Received::default(),
        })
    }

    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.length += bytes.len() as u64;
        if self.length > self.most {
            return Err(Error::RequestBodyTooLarge);
        }
        self.md5.update(&bytes);
        while !bytes.is_empty() {
            let room = caps::CHUNK_BYTES_MAX - self.gathered.len();
            self.gathered.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            if self.gathered.len() == caps::CHUNK_BYTES_MAX {
                self.write_chunk().await?;
            }
        }
        Ok(())
    }

    /// All of it is written and synced. `expected` is what the client says that it sums up to.
    pub(crate) async fn end(mut self, expected: Option<[u8; 16]>) -> Result<Received, Error> {
        if !self.gathered.is_empty() {
            self.write_chunk().await?;
        }
        let md5 = self.md5.finalize().into();
        if expected.is_some_and(|expected| expected != md5) {
            return Err(Error::Md5Mismatch);
        }
        Ok(Received { length: self.length, md5, ..self.received })
    }

    #[cfg(test)]
    pub(crate) fn chunks(&self) -> Vec<ChunkId> {
        self.received.chunks.iter().map(|chunk| chunk.id.clone()).collect()
    }

    async fn write_chunk(&mut self) -> Result<(), Error> {
        let bytes = self.gathered.split().freeze();
        let id = match self.noted.pop_front() {
            Some(id) => id,
            None => self.note(bytes.len() as u64).await?,
        };
        let length = bytes.len();
        self.account.store().chunks().write(self.account.instance(), &id, bytes).await?;
        self.received.chunks.push(Chunk { id, length });
        Ok(())
    }

    /// Commits which chunks are about to be written, of what is left of the body some at a time. Gives the first.
    async fn note(&mut self, least: u64) -> Result<ChunkId, Error> {
        let written: u64 = self.received.chunks.iter().map(|chunk| chunk.length as u64).sum();
        let left = self.expected.map_or(least, |expected| expected.saturating_sub(written).max(least));
        let count = usize::try_from(left.div_ceil(caps::CHUNK_BYTES_MAX as u64)).unwrap_or(usize::MAX);
        let count = count.clamp(1, caps::CHUNKS_NOTED_MAX);
        self.noted = (0..count).map(|_| ChunkId::generate()).collect();
        let at = self.account.clock().stamp().plus(Duration::from_secs(caps::UPLOAD_SECONDS_MAX));
        let what = What::Chunks(self.noted.iter().cloned().collect());
        let removal = Removal::new(self.account.instance(), at, what);
        let mut batch = Batch::default();
        self.account.guard(&mut batch);
        batch.insert(&removal);
        let committed = self.account.store().commit(batch).await?;
        self.received.removals.push(committed.stored(removal));
        self.noted.pop_front().ok_or(Error::WrittenMeanwhile)
    }
}
