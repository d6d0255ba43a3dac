//! Blocks: put to wait, committed by a list, appended at the end.

use std::collections::{BTreeMap, HashSet};

use base::{caps, secret};
use store::chunks::ChunkId;
use store::{Batch, Key, Record, Scan, Stored, retry_on_conflict};

use super::conditions::Conditions;
use super::record::{Blob, BlobKind, BlobUpload, UncommittedBlock, check_metadata, etag};
use super::{At, Found, NEW, NewBlob, There};
use crate::account::Account;
use crate::block_list::{BlockId, Entry, Source};
use crate::caller::Caller;
use crate::content::{BlobContent, Block};
use crate::error::Error;
use crate::removal::{Removal, What};
use crate::sas::{Permission, Target};
use crate::writer::Writer;

/// Ids and lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockLists {
    pub committed: Vec<(String, u64)>,
    pub uncommitted: Vec<(String, u64)>,
}

/// Where an append was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    pub found: Found,
    pub offset: u64,
}

const APPEND: [Permission; 2] = [Permission::Add, Permission::Write];

impl Account {
    /// Before the body of Put Block is read.
    pub async fn receive_block(
        &self,
        caller: &Caller,
        at: At<'_>,
        length: Option<u64>,
    ) -> Result<Writer<'_>, Error> {
        self.permit(caller, Target::Blob(at.0, at.1), &NEW).await?;
        self.container(at.0).await?;
        Writer::new(self, length, caps::BLOCK_BYTES_MAX).await
    }

    /// Put Block: it waits for being committed, a week after the last one that came.
    pub async fn put_block(
        &self,
        caller: &Caller,
        at: At<'_>,
        id: &BlockId,
        writer: Writer<'_>,
        md5: Option<[u8; 16]>,
    ) -> Result<[u8; 16], Error> {
        self.permit(caller, Target::Blob(at.0, at.1), &NEW).await?;
        let received = writer.end(md5).await?;
        if received.length == 0 {
            return Err(Error::InvalidBlobOrBlock);
        }
        let block = received.block(id.as_str());
        retry_on_conflict(async || {
            let mut batch = Batch::default();
            received.keep(&mut batch);
            let upload = self.upload_for(&mut batch, at, id).await?;
            self.insert_block(&mut batch, upload, block.clone()).await?;
            self.store().commit(batch).await?;
            Ok(received.md5)
        })
        .await
    }

    /// The id of the upload to which a block comes: the one that is under way, or another.
    async fn upload_for(&self, batch: &mut Batch, at: At<'_>, id: &BlockId) -> Result<String, Error> {
        let container = self.container(at.0).await?;
        batch.guard(&container);
        let key = super::key(self.instance(), &container.record, at.1);
        let blob = self.store().get::<Blob>(&key).await?;
        if blob.is_some_and(|blob| blob.record.kind != BlobKind::Block) {
            return Err(Error::InvalidBlobType);
        }
        let block_id_length = id.as_str().len();
        if let Some(upload) = self.store().get::<BlobUpload>(&key).await? {
            if upload.record.block_id_length != block_id_length {
                return Err(Error::InvalidBlobOrBlock);
            }
            batch.guard(&upload);
            return Ok(upload.record.id);
        }
        let upload = BlobUpload {
            instance: self.instance().clone(),
            container: container.record.id.clone(),
            blob: at.1.clone(),
            id: secret::random_hex(16),
            block_id_length,
        };
        batch.insert(&upload);
        batch.put(&upload.expiring(self.clock().stamp().plus(BlobUpload::KEPT)));
        Ok(upload.id)
    }

    async fn insert_block(&self, batch: &mut Batch, upload: String, block: Block) -> Result<(), Error> {
        let instance = self.instance().clone();
        let counter = BlobUpload::counter(&instance, &upload);
        let block = UncommittedBlock { instance, upload, at: self.clock().stamp(), block };
        if let Some(old) = self.store().get::<UncommittedBlock>(&block.key()).await? {
            batch.replace(&old, &block);
            let chunks = old.record.block.chunks.into_iter().map(|chunk| chunk.id).collect();
            batch.put(&Removal::new(self.instance(), self.when_let_go(), What::Chunks(chunks)));
        } else {
            batch.insert(&block);
            batch.add(counter, 1, caps::UNCOMMITTED_BLOCKS_MAX);
        }
        Ok(())
    }

    /// Put Block List: the blob is from now on what the list says.
    pub async fn put_block_list(
        &self,
        caller: &Caller,
        at: At<'_>,
        entries: &[Entry],
        new: &NewBlob,
        conditions: &Conditions,
    ) -> Result<Found, Error> {
        check_metadata(&new.metadata)?;
        retry_on_conflict(async || {
            let there = self.may_replace(caller, at, conditions).await?;
            if there.blob.as_ref().is_some_and(|blob| blob.record.kind != BlobKind::Block) {
                return Err(Error::InvalidBlobType);
            }
            let upload = self.upload(&there.container.record, at.1).await?;
            let chosen = self.choose(entries, &there, upload.as_ref()).await?;
            let mut batch = Batch::default();
            if let Some(upload) = &upload {
                batch.delete(upload);
                upload.record.leave(&mut batch, self.when_let_go(), chosen.of_upload);
            }
            if let Some(old) = &there.blob {
                old.record.leave(&mut batch, self.when_let_go(), chosen.of_blob);
            }
            self.commit_blob(batch, &there, at.1, new.clone(), &chosen.blocks).await
        })
        .await
    }

    /// The blocks that a list names, and which of them are taken over from where.
    async fn choose(
        &self,
        entries: &[Entry],
        there: &There,
        upload: Option<&Stored<BlobUpload>>,
    ) -> Result<Chosen, Error> {
        let content = there.blob.as_ref().and_then(|blob| blob.record.content.as_deref());
        let by_id = |blocks: Vec<Block>| -> BTreeMap<String, Block> {
            blocks.into_iter().map(|block| (block.id.clone(), block)).collect()
        };
        let committed = by_id(self.blocks_of(content).await?);
        let uncommitted = by_id(self.uncommitted(upload).await?);
        let (mut blocks, mut of_blob, mut of_upload) = (Vec::new(), HashSet::new(), HashSet::new());
        for Entry { source, id } in entries {
            let waiting = uncommitted.get(id.as_str()).filter(|_| *source != Source::Committed);
            let there = committed.get(id.as_str()).filter(|_| *source != Source::Uncommitted);
            let (block, kept) = match (waiting, there) {
                (Some(block), _) => (block, &mut of_upload),
                (None, Some(block)) => (block, &mut of_blob),
                (None, None) => return Err(Error::InvalidBlockList),
            };
            kept.extend(block.first().cloned());
            blocks.push(block.clone());
        }
        Ok(Chosen { blocks, of_blob: sorted(of_blob), of_upload: sorted(of_upload) })
    }

    async fn uncommitted(&self, upload: Option<&Stored<BlobUpload>>) -> Result<Vec<Block>, Error> {
        let Some(upload) = upload else { return Ok(Vec::new()) };
        let (mut blocks, mut after) = (Vec::new(), None);
        loop {
            let prefix = Key::new([self.instance().as_str(), &upload.record.id]);
            let scan = Scan::new(prefix, caps::SCAN_PAGE).after(after);
            let page = self.store().scan::<UncommittedBlock>(scan).await?;
            let Some(last) = page.last() else { return Ok(blocks) };
            after = Some(last.record.key());
            blocks.extend(page.into_iter().map(|block| block.record.block));
        }
    }

    /// Get Block List. A blob that is not committed yet has one, once a block of it waits.
    pub async fn get_block_lists(
        &self,
        caller: &Caller,
        at: At<'_>,
    ) -> Result<(Option<Found>, BlockLists), Error> {
        self.permit(caller, Target::Blob(at.0, at.1), &[Permission::Read]).await?;
        let container = self.container(at.0).await?;
        let key = super::key(self.instance(), &container.record, at.1);
        let blob = self.store().get::<Blob>(&key).await?;
        let upload = self.store().get::<BlobUpload>(&key).await?;
        if blob.is_none() && upload.is_none() {
            return Err(Error::BlobNotFound);
        }
        if blob.as_ref().is_some_and(|blob| blob.record.kind != BlobKind::Block) {
            return Err(Error::InvalidBlobType);
        }
        let content = blob.as_ref().and_then(|blob| blob.record.content.as_deref());
        let told = |blocks: Vec<Block>| {
            let named = blocks.into_iter().filter(|block| !block.id.is_empty());
            named.map(|block| (block.id.clone(), block.length())).collect()
        };
        let committed = told(self.blocks_of(content).await?);
        let uncommitted = told(self.uncommitted(upload.as_ref()).await?);
        Ok((blob.map(Found::from), BlockLists { committed, uncommitted }))
    }

    /// Before the body of Append Block is read.
    pub async fn receive_append(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
        length: Option<u64>,
    ) -> Result<Writer<'_>, Error> {
        self.may_append(caller, at, conditions, length.unwrap_or_default()).await?;
        Writer::new(self, length, caps::APPEND_BLOCK_BYTES_MAX).await
    }

    /// Append Block.
    pub async fn append_block(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
        writer: Writer<'_>,
        md5: Option<[u8; 16]>,
    ) -> Result<Appended, Error> {
        let received = writer.end(md5).await?;
        if received.length == 0 {
            return Err(Error::InvalidBlobOrBlock);
        }
        retry_on_conflict(async || {
            let old = self.may_append(caller, at, conditions, received.length).await?;
            let (mut batch, offset) = (Batch::default(), old.record.length);
            received.keep(&mut batch);
            let mut next = old.record.clone();
            next.content = Some(self.add_piece(&mut batch, &old.record, received.block("")).await?);
            next.length += received.length;
            next.blocks += 1;
            next.modified = self.clock().stamp();
            batch.replace(&old, &next);
            let committed = self.store().commit(batch).await?;
            Ok(Appended { found: committed.stored(next).into(), offset })
        })
        .await
    }

    async fn may_append(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
        length: u64,
    ) -> Result<Stored<Blob>, Error> {
        self.permit(caller, Target::Blob(at.0, at.1), &APPEND).await?;
        let (_, stored) = self.blob(at).await?;
        let blob = &stored.record;
        if blob.kind != BlobKind::Append {
            return Err(Error::InvalidBlobType);
        }
        conditions.check_write(Some((&etag(stored.revision), blob.modified)))?;
        if conditions.append_position.is_some_and(|position| position != blob.length) {
            return Err(Error::AppendPositionConditionNotMet);
        }
        if conditions.length_max.is_some_and(|most| blob.length.saturating_add(length) > most) {
            return Err(Error::MaxBlobSizeConditionNotMet);
        }
        if blob.blocks >= caps::BLOCKS_OF_BLOB_MAX {
            return Err(Error::BlockCountExceedsLimit);
        }
        Ok(stored)
    }

    /// Adds a block to the last piece of a content, or a piece behind it; gives the content.
    async fn add_piece(&self, batch: &mut Batch, blob: &Blob, block: Block) -> Result<String, Error> {
        let Some(content) = &blob.content else {
            let pieces = BlobContent::pieces(self.instance(), &[block]);
            for piece in &pieces {
                batch.insert(piece);
            }
            return pieces.into_iter().next().map(|piece| piece.content).ok_or(Error::WrittenMeanwhile);
        };
        let number = blob.blocks / caps::BLOCKS_OF_PIECE_MAX;
        let key = BlobContent::key_of(self.instance(), content, number);
        if let Some(old) = self.store().get::<BlobContent>(&key).await? {
            let mut next = old.record.clone();
            next.blocks.push(block);
            batch.replace(&old, &next);
        } else {
            let (instance, content) = (self.instance().clone(), content.clone());
            batch.insert(&BlobContent {
                instance,
                content,
                number,
                offset: blob.length,
                blocks: vec![block],
            });
        }
        Ok(content.clone())
    }
}

struct Chosen {
    blocks: Vec<Block>,
    of_blob: Vec<ChunkId>,
    of_upload: Vec<ChunkId>,
}

fn sorted(chunks: HashSet<ChunkId>) -> Vec<ChunkId> {
    let mut chunks: Vec<_> = chunks.into_iter().collect();
    chunks.sort();
    chunks
}
