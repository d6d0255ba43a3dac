//! Models: upload, list, get, decommission, delete. Called by the door and by every operation that needs a model's shape.
//! An upload is stored whole or not at all.

mod compiled;
pub(crate) mod record;
mod rules;
mod snapshot;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::HashSet;
use std::sync::Arc;

use access::{Caller, Permission};
use base::{Continuation, Meter, Page, Timestamp, caps};
use bytes::Bytes;
use dtdl::{Dtmi, LanguageMap};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use store::{Batch, Key, StoreError, retry_on_conflict};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use crate::json_patch::Operation;
use crate::{Error, Instance};
use compiled::Compiled;
pub(crate) use compiled::{Shape, Shaped};
use record::{Definition, Model, ModelSet};
pub(crate) use snapshot::Snapshot;
pub use upload::issues as model_issues;

/// What a list shows of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelData {
    pub id: Dtmi,
    pub description: LanguageMap,
    pub display_name: LanguageMap,
    pub decommissioned: bool,
    pub upload_time: Timestamp,
    /// Exactly as uploaded; absent unless it was asked for.
    pub definition: Option<Value>,
}

impl From<&Model> for ModelData {
    fn from(model: &Model) -> Self {
        Self {
            id: model.id.clone(),
            description: model.description.clone(),
            display_name: model.display_name.clone(),
            decommissioned: model.decommissioned,
            upload_time: model.upload_time,
            definition: None,
        }
    }
}

/// The models of an instance as its process has them at hand.
#[derive(Default)]
pub(crate) struct Models {
    snapshot: RwLock<Arc<Snapshot>>,
    compiled: Compiled,
}

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
    /// `DigitalTwinModels_Add`. The body stays text until its caller is known to be allowed: megabytes of JSON are read where
    /// no other request waits for them.
    pub async fn create_models(&self, caller: &Caller, body: Bytes) -> Result<Vec<ModelData>, Error> {
        caller.require(Permission::ModelWrite, self.scope())?;
        self.charge(Meter::ModelOperation)?;
        retry_on_conflict(async || {
            let snapshot = self.models().await?;
            let compiled = self.compile_upload(&body, &snapshot).await?;
            let times = rules::upload_times(&snapshot, self.now());
            let mut next = (*snapshot).clone();
            let mut batch = Batch::default();
            let mut models = Vec::with_capacity(compiled.len());
            for ((compiled, definition), upload_time) in compiled.into_iter().zip(times) {
                let bytes = definition.get().len();
                let (model, definition) = rules::records(self.id(), &compiled, definition, upload_time);
                batch.insert(&model);
                batch.insert(&definition);
                next.put(model.clone());
                models.push((model, compiled, bytes));
            }
            let last = models.last().map(|(model, ..)| model.upload_time);
            self.commit_models(batch, &snapshot, next, last).await?;
            for (model, compiled, bytes) in &models {
                self.compiled_models().keep(model, Ok(compiled.clone()), *bytes);
            }
            Ok(models.iter().map(|(model, ..)| ModelData::from(model)).collect())
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
            .filter(|model| wanted.as_ref().is_none_or(|wanted| wanted.contains(&model.id)));
        let found: Vec<Arc<Model>> = matching.by_ref().take(limit).cloned().collect();
        let mut has_more = matching.next().is_some();
        let (mut items, mut last, mut bytes) = (Vec::with_capacity(found.len()), None, 0);
        for model in found {
            // A model that was deleted since the snapshot was taken is not listed any more.
            if let Some(item) = self.model_data(&model, query.include_definition).await? {
                bytes += item.definition.as_ref().map_or(0, |definition| definition.to_string().len());
                if bytes > caps::MODEL_PAGE_BYTES_MAX && !items.is_empty() {
                    has_more = true;
                    break;
                }
                items.push(item);
            }
            last = Some(model.upload_time);
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
        let model = snapshot.get(id).ok_or_else(absent)?;
        self.model_data(model, include_definition).await?.ok_or_else(absent)
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
            let model = Model { decommissioned, ..old.record.clone() };
            let mut next = (*snapshot).clone();
            next.put(model.clone());
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
            batch.remove::<Definition>(record::key(self.id(), id));
            self.commit_models(batch, &snapshot, next, None).await?;
            Ok(())
        })
        .await
    }

    /// The models as they are stored now.
    pub(crate) async fn models(&self) -> Result<Arc<Snapshot>, Error> {
        let set = self.store().get::<ModelSet>(&Key::instance(self.id())).await?;
        let cached = self.model_cache().snapshot.read().clone();
        if cached.revision() == set.map(|set| set.revision) {
            return Ok(cached);
        }
        let loaded = Arc::new(Snapshot::load(self.store(), self.id()).await?);
        self.keep_models(loaded.clone());
        Ok(loaded)
    }

    fn compiled_models(&self) -> &Compiled {
        &self.model_cache().compiled
    }

    /// Keeps the newer of two snapshots: a slow loader must not undo what a later change has put there.
    fn keep_models(&self, snapshot: Arc<Snapshot>) {
        let mut cached = self.model_cache().snapshot.write();
        if snapshot.revision() >= cached.revision() {
            *cached = snapshot;
        }
    }

    /// Commits a change of the set that `old` shows and makes `next` the cached snapshot.
    async fn commit_models(
        &self,
        mut batch: Batch,
        old: &Snapshot,
        mut next: Snapshot,
        uploaded: Option<Timestamp>,
    ) -> Result<(), Error> {
        let before = old.set.as_ref().map_or(Timestamp::UNIX_EPOCH, |set| set.record.last_upload_time);
        let set = ModelSet {
            instance: self.id().clone(),
            last_upload_time: uploaded.unwrap_or(before),
            count: next.len(),
        };
        match &old.set {
            Some(old) => batch.replace(old, &set),
            None => batch.insert(&set),
        }
        let committed = self.commit(batch).await?;
        next.set = Some(committed.stored(set));
        self.keep_models(Arc::new(next));
        Ok(())
    }

    /// An upload, compiled against what is stored already, with its definitions as they will be stored.
    async fn compile_upload(&self, body: &Bytes, snapshot: &Arc<Snapshot>) -> Result<Vec<Uploaded>, Error> {
        static BYTES: Semaphore = Semaphore::const_new(caps::MODEL_UPLOADS_COMPILED_BYTES_MAX);
        let bytes = body.len().min(caps::MODEL_UPLOADS_COMPILED_BYTES_MAX);
        let bytes = u32::try_from(bytes).expect("the cap is a small number");
        // Threads hold the turn too: they go on when the request is given up.
        let turn = Arc::new(BYTES.acquire_many(bytes).await.expect("it is never closed"));
        let (definitions, named) = in_the_background({
            let (turn, body, snapshot) = (turn.clone(), body.clone(), snapshot.clone());
            move || {
                let _turn = turn;
                let text = upload::text(&body)?;
                Ok((upload::check(text, &snapshot)?, upload::named(text)))
            }
        })
        .await?;
        let stored = self.compile_stored(snapshot, &named).await?;
        let body = body.clone();
        let compiled = in_the_background(move || {
            let _turn = turn;
            upload::compile(upload::text(&body)?, &stored)
        })
        .await?;
        Ok(compiled.into_iter().map(Arc::new).zip(definitions).collect())
    }

    /// None: deleted since the snapshot was taken. A model whose definition alone is gone is still shown.
    async fn model_data(&self, model: &Model, include_definition: bool) -> Result<Option<ModelData>, Error> {
        let mut data = ModelData::from(model);
        if include_definition {
            match self.definition(model).await {
                Ok(definition) => {
                    data.definition = definition.map(|definition| definition.value()).transpose()?;
                }
                Err(Error::Conflict) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(data))
    }
}

type Uploaded = (Arc<dtdl::Model>, Box<RawValue>);

/// On a thread of its own: megabytes of models take seconds, which no other request should wait for. A runtime of one thread, as
/// simulations have, does it at once: there the order of what happens hangs on no other thread.
async fn in_the_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Unavailable(format!("models could not be compiled: {error}")))?
}

fn wanted(snapshot: &Snapshot, ids: &[Dtmi]) -> Result<Option<HashSet<Dtmi>>, Error> {
    if ids.is_empty() {
        return Ok(None);
    }
    snapshot.with_dependencies(ids).map(Some).map_err(|id| Error::ModelNotFound(id.to_string()))
}
