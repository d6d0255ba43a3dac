//! Models compiled from their stored definitions, one by one and when they are needed: each against what it extends and
//! contains, which is there as long as it is. Called by uploads and by whatever needs a twin's shape.
//! One that does not compile is told to the log once and to whoever needs it; it never keeps another from compiling.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::{Timestamp, caps};
use dtdl::{Dtmi, Known, Options, Resolved};
use parking_lot::Mutex;

use super::in_the_background;
use super::record::{self, Definition, Model};
use super::snapshot::Snapshot;
use crate::{Error, Instance};

/// What a twin of one model may hold.
#[derive(Debug)]
pub(crate) struct Shape {
    pub resolved: Resolved,
    pub components: BTreeMap<String, Arc<Shape>>,
}

/// A shape, or why there is none, as a sentence for callers.
pub(crate) type Shaped = Result<Arc<Shape>, String>;

impl Shape {
    /// Nothing when the model or one of its dependencies is not known.
    pub(crate) fn new(id: &Dtmi, known: &Known) -> Option<Self> {
        let resolved = Resolved::new(id, known)?;
        let component = |component: &dtdl::Component| {
            // Components nest one level only, which the parser has checked: what is below needs no components itself.
            let resolved = Resolved::new(&component.schema, known)?;
            let shape = Shape { resolved, components: BTreeMap::new() };
            Some((component.name.clone(), Arc::new(shape)))
        };
        let components = resolved.components().map(component).collect::<Option<_>>()?;
        Some(Self { resolved, components })
    }
}

/// A model compiled, or why it does not compile.
type Outcome = Result<Arc<dtdl::Model>, Arc<str>>;

/// A model, and not one that was there before it under the same id.
type Upload = (Dtmi, Timestamp);

fn upload(model: &Model) -> Upload {
    (model.id.clone(), model.upload_time)
}

/// What an instance has compiled so far. Neither a model nor anything that it builds on changes while it is stored, so
/// snapshots come and go above this.
#[derive(Default)]
pub(crate) struct Compiled(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    models: HashMap<Upload, Arc<dtdl::Model>>,
    shapes: HashMap<Upload, Arc<Shape>>,
    bytes: usize,
    /// Kept for good, so that the log hears of each once.
    broken: HashMap<Upload, Arc<str>>,
}

impl Compiled {
    fn get(&self, model: &Model) -> Option<Outcome> {
        let (kept, upload) = (self.0.lock(), upload(model));
        if let Some(why) = kept.broken.get(&upload) {
            return Some(Err(why.clone()));
        }
        kept.models.get(&upload).cloned().map(Ok)
    }

    /// Starts anew when it is full: what is in use is soon there again.
    pub(crate) fn keep(&self, model: &Model, outcome: Outcome, definition_bytes: usize) {
        /// What a model costs, however short its definition is.
        const EACH_BYTES: usize = 1024;
        let mut kept = self.0.lock();
        let bytes = definition_bytes + EACH_BYTES;
        if kept.bytes + bytes > caps::MODELS_COMPILED_BYTES_MAX {
            let broken = std::mem::take(&mut kept.broken);
            *kept = Kept { broken, ..Kept::default() };
        }
        match outcome {
            Ok(compiled) => {
                kept.bytes += bytes;
                kept.models.insert(upload(model), compiled);
            }
            Err(why) => {
                if kept.broken.insert(upload(model), why.clone()).is_none() {
                    tracing::error!(model = %model.id, %why, "a stored model does not compile; its twins cannot be written");
                }
            }
        }
    }

    fn shape(&self, model: &Model) -> Option<Arc<Shape>> {
        self.0.lock().shapes.get(&upload(model)).cloned()
    }

    fn keep_shape(&self, model: &Model, shape: &Arc<Shape>) {
        self.0.lock().shapes.insert(upload(model), shape.clone());
    }
}

/// Some models and all that they build on.
#[derive(Default)]
pub(crate) struct Compilation {
    models: HashMap<Dtmi, Arc<dtdl::Model>>,
    broken: HashMap<Dtmi, Arc<str>>,
}

impl Compilation {
    pub(crate) fn get(&self, id: &Dtmi) -> Option<Arc<dtdl::Model>> {
        self.models.get(id).cloned()
    }

    pub(crate) fn broken(&self) -> impl Iterator<Item = (&Dtmi, &str)> {
        self.broken.iter().map(|(id, why)| (id, &**why))
    }

    fn put(&mut self, id: Dtmi, outcome: Outcome) {
        match outcome {
            Ok(model) => drop(self.models.insert(id, model)),
            Err(why) => drop(self.broken.insert(id, why)),
        }
    }

    /// What it builds on has been compiled before it.
    fn compile(&mut self, model: &Model, definition: Option<&Definition>) -> Outcome {
        if let Some(below) = model.dependencies().find(|id| self.broken.contains_key(id)) {
            return Err(format!("it builds on {below}, which does not compile").into());
        }
        let outcome = match definition {
            Some(definition) => parse(model, definition, &|id| self.get(id)),
            None => Err("its definition is missing".to_owned()),
        };
        outcome.map(Arc::new).map_err(Into::into)
    }
}

fn parse(model: &Model, definition: &Definition, known: &Known) -> Result<dtdl::Model, String> {
    let parsed = dtdl::parse_text(definition.text.get(), known, &Options::azure_digital_twins());
    let parsed = parsed.map_err(|issues| super::upload::sentences(&issues))?;
    let found = parsed.into_iter().next().filter(|parsed| parsed.id == model.id);
    found.ok_or_else(|| "its definition is of another model".to_owned())
}

impl Instance {
    /// What a twin of the model that its `$metadata` names may hold.
    pub(crate) async fn shape(&self, snapshot: &Snapshot, model: &str) -> Result<Shaped, Error> {
        let Some(model) = model.parse().ok().and_then(|id| snapshot.get(&id)) else {
            return Ok(Err(format!("{model} or one of its dependencies does not exist.")));
        };
        if let Some(shape) = self.compiled_models().shape(model) {
            return Ok(Ok(shape));
        }
        let compiled = self.compile_stored(snapshot, [&model.id]).await?;
        let Some(shape) = Shape::new(&model.id, &|id| compiled.get(id)).map(Arc::new) else {
            let why =
                compiled.broken.get(&model.id).map_or("it builds on a model that is gone", |why| &**why);
            return Ok(Err(format!("{} is stored but cannot be used: {why}.", model.id)));
        };
        self.compiled_models().keep_shape(model, &shape);
        Ok(Ok(shape))
    }

    /// The stored ones among the models, and all that they build on.
    pub(crate) async fn compile_stored(
        &self,
        snapshot: &Snapshot,
        ids: impl IntoIterator<Item = &Dtmi>,
    ) -> Result<Compilation, Error> {
        let mut compilation = Compilation::default();
        let mut missing = Vec::new();
        for model in snapshot.dependencies_first(ids) {
            match self.compiled_models().get(&model) {
                Some(outcome) => compilation.put(model.id.clone(), outcome),
                None => missing.push(model),
            }
        }
        for models in missing.chunks(caps::MODEL_DEFINITIONS_READ) {
            let mut read = Vec::with_capacity(models.len());
            for model in models {
                read.push((model.clone(), self.definition(model).await?));
            }
            compilation = self.compile_read(compilation, read).await?;
        }
        Ok(compilation)
    }

    async fn compile_read(
        &self,
        mut compilation: Compilation,
        read: Vec<(Arc<Model>, Option<Definition>)>,
    ) -> Result<Compilation, Error> {
        let instance = self.clone();
        in_the_background(move || {
            for (model, definition) in read {
                let outcome = compilation.compile(&model, definition.as_ref());
                let bytes = definition.map_or(0, |definition| definition.text.get().len());
                instance.compiled_models().keep(&model, outcome.clone(), bytes);
                compilation.put(model.id.clone(), outcome);
            }
            Ok(compilation)
        })
        .await
    }

    /// Err(Conflict): the model of the snapshot has been deleted since.
    pub(super) async fn definition(&self, model: &Model) -> Result<Option<Definition>, Error> {
        let key = record::key(self.id(), &model.id);
        let definition = self.store().get::<Definition>(&key).await?.map(|stored| stored.record);
        let definition = definition.filter(|definition| definition.upload_time == model.upload_time);
        if definition.is_none() {
            let now = self.store().get::<Model>(&key).await?;
            if now.is_none_or(|now| now.record.upload_time != model.upload_time) {
                return Err(Error::Conflict);
            }
        }
        Ok(definition)
    }
}

#[cfg(test)]
mod tests {
    use base::InstanceId;

    use super::*;

    fn model(name: &str) -> Model {
        Model {
            instance: InstanceId::from_stored("i"),
            id: format!("dtmi:test:{name};1").parse().unwrap(),
            upload_time: Timestamp::UNIX_EPOCH,
            decommissioned: false,
            display_name: BTreeMap::new(),
            description: BTreeMap::new(),
            extends: Vec::new(),
            components: Vec::new(),
        }
    }

    fn compiled(model: &Model) -> Arc<dtdl::Model> {
        let text =
            format!(r#"{{"@id": "{}", "@type": "Interface", "@context": "dtmi:dtdl:context;3"}}"#, model.id);
        let parsed = dtdl::parse_text(&text, &|_| None, &Options::azure_digital_twins());
        Arc::new(parsed.unwrap().remove(0))
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_broken_is_remembered() {
        let kept = Compiled::default();
        let (first, second, broken) = (model("first"), model("second"), model("broken"));
        kept.keep(&broken, Err("torn".into()), 1);
        kept.keep(&first, Ok(compiled(&first)), caps::MODELS_COMPILED_BYTES_MAX - 2048);
        assert!(kept.get(&first).is_some_and(|outcome| outcome.is_ok()));
        kept.keep(&second, Ok(compiled(&second)), 2);
        assert_eq!(kept.get(&first), None);
        assert!(kept.get(&second).is_some_and(|outcome| outcome.is_ok()));
        assert_eq!(kept.get(&broken), Some(Err("torn".into())));
        let again = Model { upload_time: Timestamp::from_ticks(1), ..broken };
        assert_eq!(kept.get(&again), None);
    }
}
