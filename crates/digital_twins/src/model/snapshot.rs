//! All models of an instance, compiled, as one value that operations share without a lock.
//! Made by the model operations and reloaded when the stored set has moved on. It must never be changed in place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::{InstanceId, Timestamp};
use dtdl::{Dtmi, Options, Resolved};
use parking_lot::RwLock;
use serde_json::Value;
use store::{Key, Revision, Scan, Store, StoreError, Stored};

use super::record;

/// What a list shows of a model, without its definition.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelData {
    pub id: Dtmi,
    pub description: dtdl::LanguageMap,
    pub display_name: dtdl::LanguageMap,
    pub decommissioned: bool,
    pub upload_time: Timestamp,
    /// Exactly as uploaded; absent unless it was asked for.
    pub definition: Option<Value>,
}

/// What a twin of one model may hold.
#[derive(Debug)]
pub(crate) struct Shape {
    pub resolved: Resolved,
    /// By name; a component whose model is gone is left out, which storing a model rules out.
    pub components: BTreeMap<String, Arc<Shape>>,
}

#[derive(Default)]
pub(crate) struct Snapshot {
    /// The stored set that this was made from; absent while there never was a model.
    pub(crate) set: Option<Stored<record::ModelSet>>,
    pub(crate) models: dtdl::ModelSet,
    by_time: BTreeMap<Timestamp, Arc<ModelData>>,
    times: HashMap<Dtmi, Timestamp>,
    shapes: RwLock<HashMap<Dtmi, Arc<Shape>>>,
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        Self {
            set: self.set.clone(),
            models: self.models.clone(),
            by_time: self.by_time.clone(),
            times: self.times.clone(),
            shapes: RwLock::default(),
        }
    }
}

impl Snapshot {
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.set.as_ref().map(|set| set.revision)
    }

    pub(crate) fn get(&self, id: &Dtmi) -> Option<&Arc<ModelData>> {
        self.by_time.get(self.times.get(id)?)
    }

    /// In order of upload, from behind `after`.
    pub(crate) fn after(&self, after: Option<Timestamp>) -> impl Iterator<Item = &Arc<ModelData>> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_time.range((start, Bound::Unbounded)).map(|(_, data)| data)
    }

    pub(crate) fn put(&mut self, model: &record::Model, compiled: Arc<dtdl::Model>) {
        let data = ModelData {
            id: model.id.clone(),
            description: compiled.about.description.clone(),
            display_name: compiled.about.display_name.clone(),
            decommissioned: model.decommissioned,
            upload_time: model.upload_time,
            definition: None,
        };
        self.times.insert(model.id.clone(), model.upload_time);
        self.by_time.insert(model.upload_time, Arc::new(data));
        self.models.insert(compiled);
    }

    pub(crate) fn remove(&mut self, id: &Dtmi) {
        self.models.remove(id);
        if let Some(time) = self.times.remove(id) {
            self.by_time.remove(&time);
        }
    }

    /// Stored models, other than itself, that extend `id` or use it as a component, in order of upload.
    pub(crate) fn references_to(&self, id: &Dtmi) -> Vec<&Arc<ModelData>> {
        let refers = |data: &&Arc<ModelData>| {
            data.id != *id
                && self.models.get(&data.id).is_some_and(|model| model.dependencies().contains(&id))
        };
        self.by_time.values().filter(refers).collect()
    }

    /// What a twin of the model may hold; nothing when the model or one of its dependencies is not here.
    pub(crate) fn shape(&self, id: &Dtmi) -> Option<Arc<Shape>> {
        if let Some(shape) = self.shapes.read().get(id) {
            return Some(shape.clone());
        }
        let shape = Arc::new(self.compile(id)?);
        self.shapes.write().insert(id.clone(), shape.clone());
        Some(shape)
    }

    fn compile(&self, id: &Dtmi) -> Option<Shape> {
        let resolved = self.models.resolve(id)?;
        let component = |component: &dtdl::Component| {
            // Components nest one level only, which the parser has checked: what is below needs no components itself.
            let resolved = self.models.resolve(&component.schema)?;
            let shape = Shape { resolved, components: BTreeMap::new() };
            Some((component.name.clone(), Arc::new(shape)))
        };
        let components = resolved.components().map(component).collect::<Option<_>>()?;
        Some(Shape { resolved, components })
    }

    /// Reads and compiles everything. A stored model that no longer parses is left out and logged: its twins are then
    /// treated as if it had been deleted.
    pub(crate) async fn load(store: &Store, instance: &InstanceId) -> Result<Self, StoreError> {
        // The set is read first: a change that slips in between makes this snapshot look old, never new.
        let set = store.get::<record::ModelSet>(&Key::instance(instance)).await?;
        let mut stored: Vec<record::Model> = Vec::new();
        loop {
            let after = stored.last().map(|model| record::key(instance, &model.id));
            let page = store
                .scan::<record::Model>(Scan::new(Key::instance(instance), LOAD_PAGE).after(after))
                .await?;
            let is_last = page.len() < LOAD_PAGE;
            stored.extend(page.into_iter().map(|found| found.record));
            if is_last {
                break;
            }
        }
        let mut snapshot = Self { set, ..Self::default() };
        for (model, compiled) in compile_stored(stored) {
            snapshot.put(&model, compiled);
        }
        Ok(snapshot)
    }
}

const LOAD_PAGE: usize = 500;

fn compile_stored(mut stored: Vec<record::Model>) -> Vec<(record::Model, Arc<dtdl::Model>)> {
    let options = Options { versions: vec![2, 3, 4], ..Options::azure_digital_twins() };
    loop {
        let definitions: Vec<Value> = stored.iter().map(|model| model.definition.clone()).collect();
        match dtdl::parse_models(&definitions, &|_| None, &options) {
            Ok(compiled) => return stored.into_iter().zip(compiled.into_iter().map(Arc::new)).collect(),
            Err(issues) => {
                let before = stored.len();
                stored.retain(|model| !issues.iter().any(|issue| issue.model.as_ref() == Some(&model.id)));
                for issue in issues.iter().take(10) {
                    tracing::error!(%issue, "a stored model no longer parses and is left out");
                }
                if stored.len() == before {
                    return vec![];
                }
            }
        }
    }
}
