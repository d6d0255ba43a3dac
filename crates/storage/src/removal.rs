//! What is no longer wanted, or was never finished, as records in the order of their times (ADR 17). Whoever lets go of something
//! notes it here in the batch that does so, and whoever writes bytes notes them before. The sweep takes what is due.

use std::collections::HashSet;

use base::{InstanceId, Timestamp, caps, secret};
use serde::{Deserialize, Serialize};
use store::chunks::ChunkId;
use store::{Batch, CommitError, Key, Record, Scan, Store, Stored, Table, table};

use crate::accounts::Accounts;
use crate::blob::record::{Blob, BlobUpload, UncommittedBlock};
use crate::content::{BlobContent, Block};
use crate::error::Error;

/// Removals of all accounts lie together, and no instance has this id.
const REALM: &str = "removals";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Removal {
    pub(crate) at: Timestamp,
    pub(crate) instance: InstanceId,
    id: String,
    /// From then on no batch can take it back, since its revision is another.
    is_begun: bool,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum What {
    Chunks(Vec<ChunkId>),
    /// The blocks of a content, but for those that begin with one of these chunks: another content has them.
    Content {
        content: String,
        kept: Vec<ChunkId>,
    },
    /// Blocks that were never committed, with the same exception.
    Upload {
        upload: String,
        kept: Vec<ChunkId>,
    },
    /// Those of a blob may wait no longer.
    ExpiringUpload {
        container: String,
        blob: String,
        upload: String,
    },
    /// Blobs of a container, by its id.
    Container(String),
}

impl Record for Removal {
    const TABLE: Table = table::BLOB_REMOVAL;

    fn key(&self) -> Key {
        // Ticks before the year 1 do not come up.
        let at = format!("{:020}", self.at.ticks().max(0));
        Key::new([REALM, &at, self.instance.as_str(), &self.id])
    }
}

impl Removal {
    pub(crate) fn new(instance: &InstanceId, at: Timestamp, what: What) -> Self {
        Self { at, instance: instance.clone(), id: secret::random_hex(8), is_begun: false, what }
    }
}

impl Accounts {
    /// Removes everything that is due. Of several servers each may do it; what one has done the other finds done.
    pub async fn sweep(&self) -> Result<(), Error> {
        let context = self.kind();
        // After the clock was set nothing is forgotten for a while.
        let Some(now) = context.clock.forgetting_time() else { return Ok(()) };
        let sweep = Sweep { store: &context.store, now };
        loop {
            let scan = Scan::new(Key::new([REALM]), caps::BLOB_SWEEP_PAGE);
            let page = context.store.scan::<Removal>(scan).await?;
            let due = page.into_iter().take_while(|removal| removal.record.at <= now);
            let (mut tried, mut failed) = (0, Ok(()));
            for removal in due {
                // What fails stays noted, and holds up no other.
                failed = failed.and(sweep.remove(removal).await);
                tried += 1;
            }
            failed?;
            // What is removed may leave more behind that is due.
            if tried == 0 {
                return Ok(());
            }
        }
    }
}

struct Sweep<'a> {
    store: &'a Store,
    now: Timestamp,
}

impl Sweep<'_> {
    async fn remove(&self, stored: Stored<Removal>) -> Result<(), Error> {
        let removal = stored.record.clone();
        if !removal.is_begun {
            let mut batch = Batch::default();
            batch.replace(&stored, &Removal { is_begun: true, ..removal.clone() });
            match self.store.commit(batch).await {
                Ok(_) => {}
                // What it names was committed after all, or another server is at it.
                Err(CommitError::Conflict) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let instance = &removal.instance;
        match &removal.what {
            What::Chunks(ids) => self.remove_chunks(instance, ids.iter()).await?,
            What::Content { content, kept } => self.remove_content(instance, content, kept).await?,
            What::Upload { upload, kept } => self.remove_upload(instance, upload, kept).await?,
            What::ExpiringUpload { container, blob, upload } => {
                self.expire(instance, Key::new([instance.as_str(), container, blob]), upload).await?;
            }
            What::Container(id) => self.remove_container(instance, id).await?,
        }
        let mut batch = Batch::default();
        batch.remove::<Removal>(removal.key());
        self.commit(batch).await
    }

    async fn commit(&self, batch: Batch) -> Result<(), Error> {
        self.store.commit(batch).await?;
        Ok(())
    }

    async fn remove_chunks(
        &self,
        instance: &InstanceId,
        ids: impl Iterator<Item = &ChunkId>,
    ) -> Result<(), Error> {
        for id in ids {
            self.store.chunks().remove(instance, id).await?;
        }
        Ok(())
    }

    async fn remove_block(
        &self,
        instance: &InstanceId,
        block: &Block,
        kept: &HashSet<&ChunkId>,
    ) -> Result<(), Error> {
        if block.first().is_some_and(|first| kept.contains(first)) {
            return Ok(());
        }
        self.remove_chunks(instance, block.chunks.iter().map(|chunk| &chunk.id)).await
    }

    async fn remove_content(
        &self,
        instance: &InstanceId,
        content: &str,
        kept: &[ChunkId],
    ) -> Result<(), Error> {
        let kept: HashSet<_> = kept.iter().collect();
        loop {
            let scan = Scan::new(Key::new([instance.as_str(), content]), caps::BLOB_SWEEP_PIECES);
            let page = self.store.scan::<BlobContent>(scan).await?;
            if page.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::default();
            for Stored { record: piece, .. } in &page {
                for block in &piece.blocks {
                    self.remove_block(instance, block, &kept).await?;
                }
                batch.remove::<BlobContent>(piece.key());
            }
            self.commit(batch).await?;
        }
    }

    async fn remove_upload(
        &self,
        instance: &InstanceId,
        upload: &str,
        kept: &[ChunkId],
    ) -> Result<(), Error> {
        let kept: HashSet<_> = kept.iter().collect();
        loop {
            let scan = Scan::new(Key::new([instance.as_str(), upload]), caps::SCAN_PAGE);
            let page = self.store.scan::<UncommittedBlock>(scan).await?;
            if page.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::default();
            for Stored { record, .. } in &page {
                self.remove_block(instance, &record.block, &kept).await?;
                batch.remove::<UncommittedBlock>(record.key());
            }
            let count = i64::try_from(page.len()).unwrap_or(i64::MAX);
            batch.add(BlobUpload::counter(instance, upload), -count, i64::MAX);
            self.commit(batch).await?;
        }
    }

    /// A week after the last block that came, what waits is given up. The blob's name is free for another upload then.
    async fn expire(&self, instance: &InstanceId, key: Key, upload: &str) -> Result<(), Error> {
        let Some(stored) = self.store.get::<BlobUpload>(&key).await? else { return Ok(()) };
        if stored.record.id != upload {
            return Ok(());
        }
        let expires = self.last_block(instance, upload).await?.plus(BlobUpload::KEPT);
        let mut batch = Batch::default();
        if expires > self.now {
            batch.put(&stored.record.expiring(expires));
        } else {
            batch.delete(&stored);
            let what = What::Upload { upload: upload.to_owned(), kept: Vec::new() };
            batch.put(&Removal::new(instance, self.now, what));
        }
        match self.store.commit(batch).await {
            // It was committed or begun anew at this moment, which noted what is left to do.
            Ok(_) | Err(CommitError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn last_block(&self, instance: &InstanceId, upload: &str) -> Result<Timestamp, Error> {
        let (mut last, mut after) = (Timestamp::NEVER, None);
        loop {
            let scan = Scan::new(Key::new([instance.as_str(), upload]), caps::SCAN_PAGE).after(after);
            let page = self.store.scan::<UncommittedBlock>(scan).await?;
            let Some(end) = page.last() else { return Ok(last) };
            after = Some(end.record.key());
            last = page.iter().map(|block| block.record.at).fold(last, Timestamp::max);
        }
    }

    /// Nothing comes into it any more, since every write insists on its record.
    async fn remove_container(&self, instance: &InstanceId, id: &str) -> Result<(), Error> {
        let prefix = Key::new([instance.as_str(), id]);
        loop {
            let scan = || Scan::new(prefix.clone(), caps::SCAN_PAGE);
            let blobs = self.store.scan::<Blob>(scan()).await?;
            let uploads = self.store.scan::<BlobUpload>(scan()).await?;
            if blobs.is_empty() && uploads.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::default();
            for Stored { record, .. } in &blobs {
                batch.remove::<Blob>(record.key());
                record.leave(&mut batch, self.now, Vec::new());
            }
            for Stored { record, .. } in &uploads {
                batch.remove::<BlobUpload>(record.key());
                record.leave(&mut batch, self.now, Vec::new());
            }
            self.commit(batch).await?;
        }
    }
}
