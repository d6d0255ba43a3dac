//! All models of an instance as one value that operations share without a lock: who there is, and who builds on whom.
//! Made by the model operations and reloaded when the stored set has moved on. It holds no definitions and judges none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use base::{InstanceId, Timestamp};
use dtdl::Dtmi;
use store::{Key, Revision, Scan, Store, StoreError, Stored};

use super::record::{self, Model};

#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// The stored set that this was made from; absent while there never was a model.
    pub(crate) set: Option<Stored<record::ModelSet>>,
    by_time: BTreeMap<Timestamp, Arc<Model>>,
    times: HashMap<Dtmi, Timestamp>,
}

impl Snapshot {
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.set.as_ref().map(|set| set.revision)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_time.len()
    }

    pub(crate) fn get(&self, id: &Dtmi) -> Option<&Arc<Model>> {
        self.by_time.get(self.times.get(id)?)
    }

    /// In order of upload, from behind `after`.
    pub(crate) fn after(&self, after: Option<Timestamp>) -> impl Iterator<Item = &Arc<Model>> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_time.range((start, Bound::Unbounded)).map(|(_, model)| model)
    }

    pub(crate) fn put(&mut self, model: Model) {
        self.times.insert(model.id.clone(), model.upload_time);
        self.by_time.insert(model.upload_time, Arc::new(model));
    }

    pub(crate) fn remove(&mut self, id: &Dtmi) {
        if let Some(time) = self.times.remove(id) {
            self.by_time.remove(&time);
        }
    }

    /// Stored models, other than itself, that extend `id` or use it as a component, in order of upload.
    pub(crate) fn references_to(&self, id: &Dtmi) -> impl Iterator<Item = &Arc<Model>> {
        let refers = move |model: &&Arc<Model>| {
            model.id != *id && model.dependencies().any(|dependency| dependency == id)
        };
        self.by_time.values().filter(refers)
    }

    /// The model and everything that extends it, however far: the `$model` values that `IS_OF_MODEL` matches.
    pub(crate) fn subtypes(&self, ancestor: &Dtmi) -> Vec<Dtmi> {
        let mut children: HashMap<&Dtmi, Vec<&Dtmi>> = HashMap::new();
        for model in self.by_time.values() {
            for parent in &model.extends {
                children.entry(parent).or_default().push(&model.id);
            }
        }
        reachable([ancestor], |id| children.get(id).into_iter().flatten().copied())
    }

    /// Whether `id` is `ancestor` or extends it, however far. A model that is not here is a kind of itself only.
    pub(crate) fn is_subtype(&self, id: &Dtmi, ancestor: &Dtmi) -> bool {
        reachable([id], |id| self.get(id).into_iter().flat_map(|model| &model.extends)).contains(ancestor)
    }

    /// `dependenciesFor`: the named models and all they extend or contain, each once. Err: the first id that is not here.
    pub(crate) fn with_dependencies<'a>(
        &'a self,
        ids: impl IntoIterator<Item = &'a Dtmi>,
    ) -> Result<HashSet<Dtmi>, Dtmi> {
        let ids: Vec<&Dtmi> = ids.into_iter().collect();
        if let Some(absent) = ids.iter().find(|id| self.get(id).is_none()) {
            return Err((*absent).clone());
        }
        Ok(reachable(ids, |id| self.get(id).into_iter().flat_map(|model| model.dependencies()))
            .into_iter()
            .collect())
    }

    /// The same models, each behind all that it extends or contains.
    pub(crate) fn dependencies_first<'i>(&self, ids: impl IntoIterator<Item = &'i Dtmi>) -> Vec<Arc<Model>> {
        let mut ordered = Vec::new();
        let mut seen: HashSet<&Dtmi> = HashSet::new();
        let mut waiting: Vec<(&Arc<Model>, bool)> =
            ids.into_iter().filter_map(|id| Some((self.get(id)?, false))).collect();
        while let Some((model, is_behind_all)) = waiting.pop() {
            if is_behind_all {
                ordered.push(model.clone());
            } else if seen.insert(&model.id) {
                waiting.push((model, true));
                waiting.extend(model.dependencies().filter_map(|id| Some((self.get(id)?, false))));
            }
        }
        ordered
    }

    /// Reads the set as it is stored. Whether a definition still compiles is asked by those who need it.
    pub(crate) async fn load(store: &Store, instance: &InstanceId) -> Result<Self, StoreError> {
        // The set is read first: a change that slips in between makes this snapshot look old, never new.
        let set = store.get::<record::ModelSet>(&Key::instance(instance)).await?;
        let mut snapshot = Self { set, ..Self::default() };
        let mut after = None;
        loop {
            let scan = Scan::new(Key::instance(instance), LOAD_PAGE).after(after);
            let page = store.scan::<Model>(scan).await?;
            let is_last = page.len() < LOAD_PAGE;
            after = page.last().map(|found| record::key(instance, &found.record.id));
            for found in page {
                snapshot.put(found.record);
            }
            if is_last {
                return Ok(snapshot);
            }
        }
    }
}

const LOAD_PAGE: usize = 500;

/// What `next` leads to from `starts`, these first, each once.
fn reachable<'a, I: Iterator<Item = &'a Dtmi>>(
    starts: impl IntoIterator<Item = &'a Dtmi>,
    next: impl Fn(&'a Dtmi) -> I,
) -> Vec<Dtmi> {
    let mut seen: HashSet<&Dtmi> = HashSet::new();
    let mut found: Vec<&Dtmi> = starts.into_iter().filter(|id| seen.insert(id)).collect();
    let mut position = 0;
    while let Some(id) = found.get(position).copied() {
        found.extend(next(id).filter(|id| seen.insert(id)));
        position += 1;
    }
    found.into_iter().cloned().collect()
}
