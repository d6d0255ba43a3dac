//! Relationships: put, get, patch, delete, and lists from either end. Called by the doors.
//! Counters of both twins change in the same batch, so that no edge is ever left without one of its ends.

pub(crate) mod record;
mod rules;
#[cfg(test)]
mod tests;

use access::{Caller, Permission};
use base::json::Object;
use base::{Continuation, IfMatch, IfNoneMatch, Meter, Page, caps};
use serde::{Deserialize, Serialize};
use store::{Batch, CommitError, Find, Key, Scan, Stored, retry_on_conflict};

use crate::digital_twin::{self, check, new_etag, refuse_unsupported};
use crate::json_patch::Operation;
use crate::{DigitalTwin, DigitalTwinId, Error, Instance, RelationshipId, event};
pub use record::Relationship;

#[derive(Serialize, Deserialize)]
struct Position {
    source: DigitalTwinId,
    id: RelationshipId,
    /// The relationship's name, by which lists of incoming ones are ordered first.
    name: Option<String>,
}

impl Position {
    fn key(&self, instance: &Instance) -> Key {
        record::key(instance.id(), &self.source, &self.id)
    }

    fn incoming_key(&self, instance: &Instance) -> Result<Key, Error> {
        let name = self.name.as_deref().ok_or(Error::ContinuationInvalid)?;
        Ok(Key::new([instance.id().as_str(), name, self.source.as_str(), self.id.as_str()]))
    }
}

impl Instance {
    /// `DigitalTwins_GetRelationshipById`.
    pub async fn get_relationship(
        &self,
        caller: &Caller,
        source: &DigitalTwinId,
        id: &RelationshipId,
    ) -> Result<Relationship, Error> {
        caller.require(Permission::RelationshipRead, self.scope())?;
        self.charge(Meter::DigitalTwinRead)?;
        Ok(self.relationship(source, id).await?.record)
    }

    /// `DigitalTwins_AddRelationship`: creates the relationship or replaces all of it.
    pub async fn put_relationship(
        &self,
        caller: &Caller,
        (source, id): (&DigitalTwinId, &RelationshipId),
        body: &Object,
        if_none_match: &IfNoneMatch,
    ) -> Result<Relationship, Error> {
        caller.require(Permission::RelationshipWrite, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        refuse_unsupported(if_none_match)?;
        retry_on_conflict(async || {
            let source_twin = self.digital_twin(source).await?.record;
            let old = self.store().get::<Relationship>(&record::key(self.id(), source, id)).await?;
            if old.is_some() && *if_none_match == IfNoneMatch::Any {
                return Err(Error::RelationshipExists(id.to_string()));
            }
            let target = rules::target_of(source, body)?;
            let key = digital_twin::record::key(self.id(), &target);
            let target =
                self.store().get::<DigitalTwin>(&key).await?.ok_or(Error::TargetDigitalTwinNotFound)?;
            let models = self.models().await?;
            let shape = self.shape(&models, source_twin.model()).await?;
            let new = rules::create((&source_twin, &target.record), id, body, (&models, shape), new_etag())?;
            self.commit_relationship(old.as_ref(), &source_twin, &new).await?;
            Ok(new)
        })
        .await
    }

    /// `DigitalTwins_UpdateRelationship`. The answer is the relationship as it is now.
    pub async fn update_relationship(
        &self,
        caller: &Caller,
        (source, id): (&DigitalTwinId, &RelationshipId),
        patch: &[Operation],
        if_match: &IfMatch,
    ) -> Result<Relationship, Error> {
        caller.require(Permission::RelationshipWrite, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        retry_on_conflict(async || {
            let old = self.relationship(source, id).await?;
            check(if_match, old.record.etag())?;
            let source_twin = self.digital_twin(source).await?.record;
            let models = self.models().await?;
            let shape = self.shape(&models, source_twin.model()).await?;
            let new = rules::patch(&old.record, patch, (&models, shape), new_etag())?;
            let mut batch = Batch::default();
            batch.replace(&old, &new);
            event::relationship_updated(self, &mut batch, &source_twin, &new, patch);
            self.commit(batch).await?;
            Ok(new)
        })
        .await
    }

    /// `DigitalTwins_DeleteRelationship`.
    pub async fn delete_relationship(
        &self,
        caller: &Caller,
        (source, id): (&DigitalTwinId, &RelationshipId),
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        caller.require(Permission::RelationshipDelete, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        retry_on_conflict(async || {
            let old = self.relationship(source, id).await?;
            check(if_match, old.record.etag())?;
            let mut batch = Batch::default();
            batch.delete(&old);
            self.count_edge(&mut batch, &old.record, -1);
            event::relationship_deleted(self, &mut batch, &old.record);
            self.commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// `DigitalTwins_ListRelationships`: those that start at the twin, by id.
    pub async fn list_relationships(
        &self,
        caller: &Caller,
        source: &DigitalTwinId,
        name: Option<&str>,
        continuation: Option<&Continuation>,
    ) -> Result<Page<Relationship>, Error> {
        let position = self.start_list(caller, source, continuation).await?;
        if position.as_ref().is_some_and(|position| position.source != *source) {
            return Err(Error::ContinuationInvalid);
        }
        let after = position.map(|position| position.key(self));
        let prefix = Key::new([self.id().as_str(), source.as_str()]);
        let limit = caps::RELATIONSHIP_PAGE + 1;
        let found = match name {
            None => self.store().scan::<Relationship>(Scan::new(prefix, limit).after(after)).await?,
            Some(name) => {
                self.store().find::<Relationship>(Find::new(prefix, "name", name, limit).after(after)).await?
            }
        };
        Ok(page(found))
    }

    /// `DigitalTwins_ListIncomingRelationships`: those that end at the twin, by name, source and id.
    pub async fn list_incoming_relationships(
        &self,
        caller: &Caller,
        target: &DigitalTwinId,
        continuation: Option<&Continuation>,
    ) -> Result<Page<Relationship>, Error> {
        let position = self.start_list(caller, target, continuation).await?;
        let find =
            Find::new(Key::instance(self.id()), "target", target.as_str(), caps::RELATIONSHIP_PAGE + 1);
        let after = position.map(|position| position.incoming_key(self)).transpose()?;
        Ok(page(self.store().find::<Relationship>(find.after(after)).await?))
    }

    async fn start_list(
        &self,
        caller: &Caller,
        twin: &DigitalTwinId,
        continuation: Option<&Continuation>,
    ) -> Result<Option<Position>, Error> {
        caller.require(Permission::RelationshipRead, self.scope())?;
        self.charge(Meter::DigitalTwinRead)?;
        let position = continuation.map(Continuation::decode::<Position>).transpose();
        let position = position.map_err(|_| Error::ContinuationInvalid)?;
        self.digital_twin(twin).await?;
        Ok(position)
    }

    async fn relationship(
        &self,
        source: &DigitalTwinId,
        id: &RelationshipId,
    ) -> Result<Stored<Relationship>, Error> {
        let stored = self.store().get::<Relationship>(&record::key(self.id(), source, id)).await?;
        if let Some(stored) = stored {
            return Ok(stored);
        }
        // A missing twin is told before a missing relationship.
        self.digital_twin(source).await?;
        Err(Error::RelationshipNotFound { twin: source.to_string(), relationship: id.to_string() })
    }

    /// Both twins must still be there when the edge is, and their counters must count it.
    async fn commit_relationship(
        &self,
        old: Option<&Stored<Relationship>>,
        source: &DigitalTwin,
        new: &Relationship,
    ) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.guard_exists::<DigitalTwin>(digital_twin::record::key(self.id(), &new.source));
        batch.guard_exists::<DigitalTwin>(digital_twin::record::key(self.id(), &new.target));
        if let Some(old) = old {
            batch.replace(old, new);
            if old.record.target != new.target {
                self.count_edge(&mut batch, &old.record, -1);
                self.count_edge(&mut batch, new, 1);
            }
            event::relationship_replaced(self, &mut batch, source, &old.record, new);
        } else {
            batch.insert(new);
            self.count_edge(&mut batch, new, 1);
            event::relationship_created(self, &mut batch, new);
        }
        match self.commit(batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::CounterLimit { max, .. }) => Err(Error::LimitExceeded(format!(
                "A digital twin cannot have more than {max} relationships in one direction."
            ))),
            Err(error) => Err(error.into()),
        }
    }

    fn count_edge(&self, batch: &mut Batch, edge: &Relationship, delta: i64) {
        batch.add(
            digital_twin::record::outgoing(self.id(), &edge.source),
            delta,
            caps::RELATIONSHIPS_PER_TWIN_MAX,
        );
        batch.add(
            digital_twin::record::incoming(self.id(), &edge.target),
            delta,
            caps::RELATIONSHIPS_PER_TWIN_MAX,
        );
    }
}

/// One more than a page was read: it tells whether there is a next one.
fn page(mut found: Vec<Stored<Relationship>>) -> Page<Relationship> {
    let has_more = found.len() > caps::RELATIONSHIP_PAGE;
    found.truncate(caps::RELATIONSHIP_PAGE);
    let next = found.last().filter(|_| has_more).map(|last| {
        let Relationship { source, id, .. } = &last.record;
        let name = Some(last.record.name().to_owned());
        Continuation::encode(&Position { source: source.clone(), id: id.clone(), name })
    });
    Page { items: found.into_iter().map(|stored| stored.record).collect(), next }
}
