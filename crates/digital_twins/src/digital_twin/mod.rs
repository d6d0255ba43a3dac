//! Digital twins and their components: put, get, patch, delete. Called by the doors.
//! A twin, its counters and the event that tells of its change commit in one batch.

pub(crate) mod component;
pub(crate) mod record;
pub(crate) mod rules;
#[cfg(test)]
mod tests;
pub(crate) mod validation;

use access::{Caller, Permission};
use base::json::Object;
use base::{IfMatch, IfNoneMatch, Meter, caps};
use store::{Batch, CommitError, Stored, retry_on_conflict};

use crate::json_patch::Operation;
use crate::model::Snapshot;
use crate::{DigitalTwinId, Error, Instance, event};
pub use component::Component;
pub use record::DigitalTwin;

impl Instance {
    /// How many there are, for whoever runs the server.
    pub async fn digital_twin_count(&self) -> Result<i64, Error> {
        Ok(self.store().counter(&record::count(self.id())).await?)
    }

    /// `DigitalTwins_GetById`.
    pub async fn get_digital_twin(&self, caller: &Caller, id: &DigitalTwinId) -> Result<DigitalTwin, Error> {
        caller.require(Permission::DigitalTwinRead, self.scope())?;
        self.charge(Meter::DigitalTwinRead)?;
        Ok(self.digital_twin(id).await?.record)
    }

    /// `DigitalTwins_Add`: creates the twin or replaces all of it.
    pub async fn put_digital_twin(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        body: &Object,
        if_none_match: &IfNoneMatch,
    ) -> Result<DigitalTwin, Error> {
        caller.require(Permission::DigitalTwinWrite, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        refuse_unsupported(if_none_match)?;
        retry_on_conflict(async || {
            let old = self.store().get::<DigitalTwin>(&record::key(self.id(), id)).await?;
            if old.is_some() && *if_none_match == IfNoneMatch::Any {
                return Err(Error::DigitalTwinExists(id.to_string()));
            }
            let draft = rules::Draft::of_body(body)?;
            let models = self.models().await?;
            let write = self.write(&models, draft.model()).await?;
            let before = old.as_ref().map(|old| &old.record);
            let new = rules::create(self.id(), id, draft, before, write)?;
            let mut batch = Batch::default();
            if let Some(old) = &old {
                batch.replace(old, &new);
                event::digital_twin_replaced(self, &mut batch, &old.record, &new);
            } else {
                batch.insert(&new);
                batch.add(record::count(self.id()), 1, caps::DIGITAL_TWINS_PER_INSTANCE_MAX);
                event::digital_twin_created(self, &mut batch, &new);
            }
            match self.commit(batch).await {
                Ok(_) => Ok(new),
                // The count of twins is the only counter here.
                Err(CommitError::CounterLimit { .. }) => Err(Error::TwinLimitReached),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// `DigitalTwins_Update`. The answer is the twin as it is now.
    pub async fn update_digital_twin(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        patch: &[Operation],
        if_match: &IfMatch,
    ) -> Result<DigitalTwin, Error> {
        caller.require(Permission::DigitalTwinWrite, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        retry_on_conflict(async || {
            let old = self.digital_twin(id).await?;
            check(if_match, old.record.etag())?;
            self.patch_digital_twin(&old, patch).await
        })
        .await
    }

    /// `DigitalTwins_Delete`. A twin with relationships, from it or to it, stays.
    pub async fn delete_digital_twin(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        caller.require(Permission::DigitalTwinDelete, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        retry_on_conflict(async || {
            let old = self.digital_twin(id).await?;
            check(if_match, old.record.etag())?;
            let (outgoing, incoming) = (record::outgoing(self.id(), id), record::incoming(self.id(), id));
            if !self.store().is_zero(&outgoing).await? || !self.store().is_zero(&incoming).await? {
                return Err(Error::RelationshipsNotDeleted(id.to_string()));
            }
            let mut batch = Batch::default();
            batch.delete(&old);
            // A relationship that is being made now either loses its twin's existence or makes one of these fail.
            batch.expect_zero(outgoing);
            batch.expect_zero(incoming);
            batch.add(record::count(self.id()), -1, caps::DIGITAL_TWINS_PER_INSTANCE_MAX);
            event::digital_twin_deleted(self, &mut batch, &old.record);
            self.commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// The twin as it is stored, or the service's "not found".
    pub(crate) async fn digital_twin(&self, id: &DigitalTwinId) -> Result<Stored<DigitalTwin>, Error> {
        let stored = self.store().get::<DigitalTwin>(&record::key(self.id(), id)).await?;
        stored.ok_or_else(|| Error::DigitalTwinNotFound(id.to_string()))
    }

    async fn patch_digital_twin(
        &self,
        old: &Stored<DigitalTwin>,
        patch: &[Operation],
    ) -> Result<DigitalTwin, Error> {
        let draft = rules::Draft::patched(&old.record, patch)?;
        let models = self.models().await?;
        let write = self.write(&models, draft.model()).await?;
        let new = rules::patch(&old.record, draft, write)?;
        let mut batch = Batch::default();
        batch.replace(old, &new);
        event::digital_twin_updated(self, &mut batch, &new, patch);
        self.commit(batch).await?;
        Ok(new)
    }

    async fn write<'a>(&self, models: &'a Snapshot, model: &str) -> Result<rules::Write<'a>, Error> {
        let shape = self.shape(models, model).await?;
        Ok(rules::Write { models, shape, etag: new_etag(), now: self.now() })
    }
}

pub(crate) fn new_etag() -> String {
    format!("W/\"{}\"", uuid::Uuid::new_v4())
}

pub(crate) fn check(if_match: &IfMatch, etag: &str) -> Result<(), Error> {
    match if_match {
        IfMatch::Tag(tag) if !if_match.allows(etag) => Err(Error::EtagMismatch(format!("W/\"{tag}\""))),
        _ => Ok(()),
    }
}

/// The service knows `*` only.
pub(crate) fn refuse_unsupported(if_none_match: &IfNoneMatch) -> Result<(), Error> {
    match if_none_match {
        IfNoneMatch::Unsupported(_) => Err(Error::IfNoneMatchInvalid),
        IfNoneMatch::Absent | IfNoneMatch::Any => Ok(()),
    }
}
