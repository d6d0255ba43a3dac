//! Blobs: put whole, put in blocks, appended to, looked at, read, changed, removed. Every write insists on its container's record,
//! and lets go of what it replaces in the same batch.

pub(crate) mod block;
pub(crate) mod conditions;
pub(crate) mod record;

use base::{InstanceId, Timestamp, caps};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store::{Batch, Key, Stored, retry_on_conflict};

use self::conditions::Conditions;
use self::record::{Blob, BlobHeaders, BlobKind, BlobUpload, Metadata, check_metadata, etag};
use crate::account::Account;
use crate::caller::Caller;
use crate::container::Container;
use crate::content::{BlobContent, Block, Reader};
use crate::error::Error;
use crate::name::{BlobName, ContainerName};
use crate::range::ByteRange;
use crate::sas::{Permission, Target};
use crate::writer::Writer;

pub use self::block::BlockLists;

/// Which blob an operation is about.
pub type At<'a> = (&'a ContainerName, &'a BlobName);

/// A blob with its tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub blob: Blob,
    pub etag: String,
}

impl From<Stored<Blob>> for Found {
    fn from(stored: Stored<Blob>) -> Self {
        Self { etag: etag(stored.revision), blob: stored.record }
    }
}

/// What a client says of a blob that it writes.
#[derive(Clone, Debug)]
pub struct NewBlob {
    pub kind: BlobKind,
    pub headers: BlobHeaders,
    pub metadata: Metadata,
}

/// What a write finds in its way.
pub(crate) struct There {
    pub(crate) container: Stored<Container>,
    pub(crate) blob: Option<Stored<Blob>>,
}

const NEW: [Permission; 2] = [Permission::Create, Permission::Write];

impl Account {
    /// Before the body of Put Blob is read: whether it would be taken.
    pub async fn receive_blob(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
        length: Option<u64>,
    ) -> Result<Writer<'_>, Error> {
        self.may_replace(caller, at, conditions).await?;
        Writer::new(self, length, caps::BLOB_BYTES_MAX).await
    }

    /// Put Blob. `md5` is what the client says that the body sums up to.
    pub async fn put_blob(
        &self,
        caller: &Caller,
        at: At<'_>,
        new: NewBlob,
        conditions: &Conditions,
        writer: Writer<'_>,
        md5: Option<[u8; 16]>,
    ) -> Result<Found, Error> {
        check_metadata(&new.metadata)?;
        let received = writer.end(md5).await?;
        if new.kind == BlobKind::Append && received.length > 0 {
            return Err(Error::InvalidBlobOrBlock);
        }
        let blocks = if received.chunks.is_empty() { vec![] } else { vec![received.block("")] };
        let mut new = new;
        if new.kind == BlobKind::Block {
            new.headers.content_md5.get_or_insert_with(|| STANDARD.encode(received.md5));
        }
        retry_on_conflict(async || {
            let there = self.may_replace(caller, at, conditions).await?;
            let mut batch = Batch::default();
            received.keep(&mut batch);
            if let Some(upload) = self.upload(&there.container.record, at.1).await? {
                batch.delete(&upload);
                upload.record.leave(&mut batch, self.when_let_go(), Vec::new());
            }
            if let Some(old) = &there.blob {
                old.record.leave(&mut batch, self.when_let_go(), Vec::new());
            }
            self.commit_blob(batch, &there, at.1, new.clone(), &blocks).await
        })
        .await
    }

    /// Get Blob Properties, and what a read begins with.
    pub async fn get_blob(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
    ) -> Result<Found, Error> {
        self.permit(caller, Target::Blob(at.0, at.1), &[Permission::Read]).await?;
        let found = Found::from(self.blob(at).await?.1);
        conditions.check_read(&found.etag, found.blob.modified)?;
        Ok(found)
    }

    /// The bytes of a blob that was found, of which the range gives less than all.
    pub fn read(
        &self,
        found: &Found,
        range: Option<ByteRange>,
    ) -> Result<(std::ops::Range<u64>, Reader), Error> {
        let range = match range {
            Some(range) => range.of(found.blob.length)?,
            None => 0..found.blob.length,
        };
        Ok((range.clone(), Reader::new(self, found.blob.content.as_deref(), range)))
    }

    /// Delete Blob.
    pub async fn delete_blob(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
    ) -> Result<(), Error> {
        self.permit(caller, Target::Blob(at.0, at.1), &[Permission::Delete]).await?;
        retry_on_conflict(async || {
            let (container, blob) = self.blob(at).await?;
            conditions.check_write(Some((&etag(blob.revision), blob.record.modified)))?;
            let mut batch = Batch::default();
            batch.delete(&blob);
            blob.record.leave(&mut batch, self.when_let_go(), Vec::new());
            if let Some(upload) = self.upload(&container.record, at.1).await? {
                batch.delete(&upload);
                upload.record.leave(&mut batch, self.when_let_go(), Vec::new());
            }
            self.store().commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// Set Blob Metadata.
    pub async fn set_blob_metadata(
        &self,
        caller: &Caller,
        at: At<'_>,
        metadata: &Metadata,
        conditions: &Conditions,
    ) -> Result<Found, Error> {
        check_metadata(metadata)?;
        self.change_blob(caller, at, conditions, |blob| blob.metadata.clone_from(metadata)).await
    }

    /// Set Blob Properties: what is not given is taken away.
    pub async fn set_blob_headers(
        &self,
        caller: &Caller,
        at: At<'_>,
        headers: &BlobHeaders,
        conditions: &Conditions,
    ) -> Result<Found, Error> {
        self.change_blob(caller, at, conditions, |blob| blob.headers.clone_from(headers)).await
    }

    /// How long a blob is and since when, for this server's own services; `None` where there is none of these names.
    pub async fn length_of(&self, at: At<'_>) -> Result<Option<(u64, Timestamp)>, Error> {
        match self.blob(at).await {
            Ok((_, stored)) => Ok(Some((stored.record.length, stored.record.modified))),
            Err(Error::ContainerNotFound | Error::BlobNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn change_blob(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
        change: impl Fn(&mut Blob),
    ) -> Result<Found, Error> {
        self.permit(caller, Target::Blob(at.0, at.1), &[Permission::Write]).await?;
        retry_on_conflict(async || {
            let (_, stored) = self.blob(at).await?;
            conditions.check_write(Some((&etag(stored.revision), stored.record.modified)))?;
            let mut next = stored.record.clone();
            change(&mut next);
            next.modified = self.clock().stamp();
            let mut batch = Batch::default();
            batch.replace(&stored, &next);
            let committed = self.store().commit(batch).await?;
            Ok(committed.stored(next).into())
        })
        .await
    }

    /// What is there, if it may be replaced, or made where there is nothing.
    pub(crate) async fn may_replace(
        &self,
        caller: &Caller,
        at: At<'_>,
        conditions: &Conditions,
    ) -> Result<There, Error> {
        let target = Target::Blob(at.0, at.1);
        self.permit(caller, target, &NEW).await?;
        let container = self.container(at.0).await?;
        let blob = self.store().get::<Blob>(&key(self.instance(), &container.record, at.1)).await?;
        let tag = blob.as_ref().map(|blob| etag(blob.revision));
        if blob.is_some() {
            self.permit(caller, target, &[Permission::Write]).await?;
        }
        let modified = blob.as_ref().map(|blob| blob.record.modified);
        conditions.check_write(tag.as_deref().zip(modified))?;
        Ok(There { container, blob })
    }

    /// Commits a blob of these blocks over what is there, with what else the batch does.
    pub(crate) async fn commit_blob(
        &self,
        mut batch: Batch,
        there: &There,
        name: &BlobName,
        new: NewBlob,
        blocks: &[Block],
    ) -> Result<Found, Error> {
        let (now, pieces) = (self.clock().stamp(), BlobContent::pieces(self.instance(), blocks));
        let blob = Blob {
            instance: self.instance().clone(),
            container: there.container.record.id.clone(),
            name: name.clone(),
            kind: new.kind,
            length: blocks.iter().map(Block::length).sum(),
            content: pieces.first().map(|piece| piece.content.clone()),
            blocks: blocks.len(),
            created: there.blob.as_ref().map_or(now, |old| old.record.created),
            modified: now,
            headers: new.headers,
            metadata: new.metadata,
        };
        batch.guard(&there.container);
        match &there.blob {
            Some(old) => batch.replace(old, &blob),
            None => batch.insert(&blob),
        }
        for piece in &pieces {
            batch.insert(piece);
        }
        let committed = self.store().commit(batch).await?;
        Ok(committed.stored(blob).into())
    }

    /// With its container.
    pub(crate) async fn blob(&self, at: At<'_>) -> Result<(Stored<Container>, Stored<Blob>), Error> {
        let container = self.container(at.0).await?;
        let blob = self.store().get(&key(self.instance(), &container.record, at.1)).await?;
        Ok((container, blob.ok_or(Error::BlobNotFound)?))
    }

    pub(crate) async fn upload(
        &self,
        container: &Container,
        name: &BlobName,
    ) -> Result<Option<Stored<BlobUpload>>, Error> {
        Ok(self.store().get(&key(self.instance(), container, name)).await?)
    }
}

fn key(instance: &InstanceId, container: &Container, name: &BlobName) -> Key {
    Key::new([instance.as_str(), &container.id, name.as_str()])
}
