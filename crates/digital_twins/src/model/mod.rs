//! Models: upload, list, get, decommission, delete. Called by the door and by every operation that needs a model's shape.
//! An upload is stored whole or not at all.

pub(crate) mod record;
mod rules;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use access::{Caller, Permission};
use base::{Continuation, Meter, Page, Timestamp, caps};
use dtdl::Dtmi;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Batch, Key, StoreError, retry_on_conflict};
use tokio::sync::Semaphore;

use crate::json_patch::Operation;
use crate::{Error, Instance};
use record::{Model, ModelSet};
pub use snapshot::ModelData;
pub(crate) use snapshot::{Shape, Snapshot};

/// What GET /models asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelQuery {
    /// Only these and what they extend or have as components; empty: all.
    pub dependencies_for: Vec<Dtmi>,
    pub include_definition: bool,
    pub page_max: Option<usize>,
    pub continuation: Option<Continuation>,
}

#[derive(Serialize, Deserialize)]
struct Position {
    after_ticks: i64,
}

impl Instance {
    /// `DigitalTwinModels_Add`.
    pub async fn create_models(
        &self,
        caller: &Caller,
        definitions: impl Into<Arc<[Value]>>,
    ) -> Result<Vec<Arc<ModelData>>, Error> {
        caller.require(Permission::ModelWrite, self.scope())?;
        self.charge(Meter::ModelOperation)?;
        let definitions = definitions.into();
        retry_on_conflict(async || {
            let snapshot = self.models().await?;
            let compiled = compile(&definitions, &snapshot).await?;
            let models = rules::records(self.id(), &definitions, &compiled, &snapshot, self.now());
            let mut next = (*snapshot).clone();
            let mut batch = Batch::default();
            for (model, compiled) in models.iter().zip(compiled) {
                batch.insert(model);
                next.put(model, Arc::new(compiled));
            }
            let last = models.last().map(|model| model.upload_time);
            let now = self.commit_models(batch, &snapshot, next, last).await?;
            Ok(models.iter().filter_map(|model| now.get(&model.id).cloned()).collect())
        })
        .await
    }

    /// `DigitalTwinModels_List`, in order of upload.
    pub async fn list_models(&self, caller: &Caller, query: &ModelQuery) -> Result<Page<ModelData>, Error> {
        caller.require(Permission::ModelRead, self.scope())?;
        self.charge(Meter::ModelOperation)?;
        if query.dependencies_for.len() > caps::MODEL_DEPENDENCIES_FOR_MAX {
            return Err(Error::LimitExceeded(format!(
                "The number of model ids in 'dependenciesFor' cannot exceed {}.",
                caps::MODEL_DEPENDENCIES_FOR_MAX
            )));
        }
        let after = match &query.continuation {
            None => None,
            Some(token) => {
                let position: Position = token.decode().map_err(|_| Error::ContinuationInvalid)?;
                Some(Timestamp::from_ticks(position.after_ticks))
            }
        };
        let snapshot = self.models().await?;
        let wanted = wanted(&snapshot, &query.dependencies_for)?;
        let limit = query.page_max.unwrap_or(caps::MODEL_PAGE).clamp(1, caps::MODEL_PAGE);
        let mut matching = snapshot
            .after(after)
            .filter(|data| wanted.as_ref().is_none_or(|wanted| wanted.contains(&data.id)));
        let found: Vec<Arc<ModelData>> = matching.by_ref().take(limit).cloned().collect();
        let mut has_more = matching.next().is_some();
        let (mut items, mut last, mut bytes) = (Vec::with_capacity(found.len()), None, 0);
        for data in found {
            // A model that was deleted since the snapshot was taken is not listed any more.
            if let Some(item) = self.model_data(&data, query.include_definition).await? {
                bytes += item.definition.as_ref().map_or(0, |definition| definition.to_string().len());
                if bytes > caps::MODEL_PAGE_BYTES_MAX && !items.is_empty() {
                    has_more = true;
                    break;
                }
                items.push(item);
            }
            last = Some(data.upload_time);
        }
        let next = last.filter(|_| has_more);
        let next = next.map(|last| Continuation::encode(&Position { after_ticks: last.ticks() }));
        Ok(Page { items, next })
    }

    /// `DigitalTwinModels_GetById`.
    pub async fn get_model(
        &self,
        caller: &Caller,
        id: &Dtmi,
        include_definition: bool,
    ) -> Result<ModelData, Error> {
        caller.require(Permission::ModelRead, self.scope())?;
        self.charge(Meter::ModelOperation)?;
        let absent = || Error::ModelNotFound(id.to_string());
        let snapshot = self.models().await?;
        let data = snapshot.get(id).ok_or_else(absent)?;
        self.model_data(data, include_definition).await?.ok_or_else(absent)
    }

    /// `DigitalTwinModels_Update`: takes a model out of use, or back.
    pub async fn update_model(&self, caller: &Caller, id: &Dtmi, patch: &[Operation]) -> Result<(), Error> {
        caller.require(Permission::ModelWrite, self.scope())?;
        self.charge(Meter::ModelOperation)?;
        retry_on_conflict(async || {
            let snapshot = self.models().await?;
            let stored = self.store().get::<Model>(&record::key(self.id(), id)).await?;
            let old = stored.ok_or_else(|| Error::ModelNotFound(id.to_string()))?;
            let decommissioned = rules::decommission(patch)?;
            if decommissioned {
                rules::check_decommission(id, &snapshot)?;
            }
            let Some(compiled) = snapshot.models.get(id).cloned() else { return Err(Error::Conflict) };
            let model = Model { decommissioned, ..old.record.clone() };
            let mut next = (*snapshot).clone();
            next.put(&model, compiled);
            let mut batch = Batch::default();
            batch.replace(&old, &model);
            self.commit_models(batch, &snapshot, next, None).await?;
            Ok(())
        })
        .await
    }

    /// `DigitalTwinModels_Delete`. Twins of the model stay behind without one.
    pub async fn delete_model(&self, caller: &Caller, id: &Dtmi) -> Result<(), Error> {
        caller.require(Permission::ModelDelete, self.scope())?;
        self.charge(Meter::ModelOperation)?;
        retry_on_conflict(async || {
            let snapshot = self.models().await?;
            let stored = self.store().get::<Model>(&record::key(self.id(), id)).await?;
            let old = stored.ok_or_else(|| Error::ModelNotFound(id.to_string()))?;
            rules::check_delete(id, &snapshot)?;
            let mut next = (*snapshot).clone();
            next.remove(id);
            let mut batch = Batch::default();
            batch.delete(&old);
            self.commit_models(batch, &snapshot, next, None).await?;
            Ok(())
        })
        .await
    }

    /// The models as they are stored now.
    pub(crate) async fn models(&self) -> Result<Arc<Snapshot>, Error> {
        let set = self.store().get::<ModelSet>(&Key::instance(self.id())).await?;
        let cached = self.cached_models();
        if cached.revision() == set.map(|set| set.revision) {
            return Ok(cached);
        }
        let loaded = Arc::new(Snapshot::load(self.store(), self.id()).await?);
        self.keep_models(loaded.clone());
        Ok(loaded)
    }

    /// Commits a change of the set that `old` shows and makes `next` the cached snapshot.
    async fn commit_models(
        &self,
        mut batch: Batch,
        old: &Snapshot,
        mut next: Snapshot,
        uploaded: Option<Timestamp>,
    ) -> Result<Arc<Snapshot>, Error> {
        let before = old.set.as_ref().map_or(Timestamp::UNIX_EPOCH, |set| set.record.last_upload_time);
        let set = ModelSet {
            instance: self.id().clone(),
            last_upload_time: uploaded.unwrap_or(before),
            count: next.models.len(),
        };
        match &old.set {
            Some(old) => batch.replace(old, &set),
            None => batch.insert(&set),
        }
        let committed = self.commit(batch).await?;
        next.set = Some(committed.stored(set));
        let next = Arc::new(next);
        self.keep_models(next.clone());
        Ok(next)
    }

    async fn model_data(
        &self,
        data: &Arc<ModelData>,
        include_definition: bool,
    ) -> Result<Option<ModelData>, Error> {
        if !include_definition {
            return Ok(Some((**data).clone()));
        }
        let stored = self.store().get::<Model>(&record::key(self.id(), &data.id)).await?;
        Ok(stored.map(|stored| ModelData { definition: Some(stored.record.definition), ..(**data).clone() }))
    }
}

/// On a thread of its own: megabytes of models take seconds, which no other request should wait for.
async fn compile(definitions: &Arc<[Value]>, snapshot: &Arc<Snapshot>) -> Result<Vec<dtdl::Model>, Error> {
    static COMPILERS: Semaphore = Semaphore::const_new(caps::MODEL_UPLOADS_COMPILED_MAX);
    let turn = COMPILERS.acquire().await.expect("it is never closed");
    let (definitions, snapshot) = (definitions.clone(), snapshot.clone());
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        rules::check_upload(&definitions, &snapshot)?;
        rules::compile(&definitions, &snapshot)
    });
    work.await.map_err(|error| StoreError::Unavailable(format!("models could not be compiled: {error}")))?
}

fn wanted(snapshot: &Snapshot, ids: &[Dtmi]) -> Result<Option<BTreeSet<Dtmi>>, Error> {
    if ids.is_empty() {
        return Ok(None);
    }
    let models = snapshot.models.with_dependencies(ids).map_err(|id| Error::ModelNotFound(id.to_string()))?;
    Ok(Some(models.iter().map(|model| model.id.clone()).collect()))
}
