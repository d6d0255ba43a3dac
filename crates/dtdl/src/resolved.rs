//! Models by id, and one model with all it inherits. Digital twins look up members here; queries ask who derives from whom.
//! Holds only models that the parser accepted together, so that chains end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{Command, Component, Content, Dtmi, Model, Property, Relationship, Telemetry};

/// All models of an instance. Cloning copies the table, not the models.
#[derive(Clone, Debug, Default)]
pub struct ModelSet {
    models: HashMap<Dtmi, Arc<Model>>,
}

impl ModelSet {
    pub fn insert(&mut self, model: Arc<Model>) {
        self.models.insert(model.id.clone(), model);
    }

    pub fn remove(&mut self, id: &Dtmi) -> Option<Arc<Model>> {
        self.models.remove(id)
    }

    pub fn get(&self, id: &Dtmi) -> Option<&Arc<Model>> {
        self.models.get(id)
    }

    pub fn len(&self) -> usize {
        self.models.len()
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// The model and all it extends, itself first, nearest next, each once. Models that are not here are left out.
    pub fn ancestors(&self, id: &Dtmi) -> Vec<Arc<Model>> {
        ancestors(id, &|id| self.models.get(id).cloned())
    }

    /// Whether `id` is `ancestor` or extends it, however far. A model that is not here is a kind of itself only.
    pub fn is_subtype(&self, id: &Dtmi, ancestor: &Dtmi) -> bool {
        id == ancestor || self.ancestors(id).iter().any(|model| model.id == *ancestor)
    }

    /// The model and everything that extends it, however far: the `$model` values that `IS_OF_MODEL` matches.
    pub fn subtypes(&self, ancestor: &Dtmi) -> Vec<Dtmi> {
        let mut found = vec![ancestor.clone()];
        let mut seen: HashSet<Dtmi> = found.iter().cloned().collect();
        let mut children: HashMap<&Dtmi, Vec<&Dtmi>> = HashMap::new();
        for model in self.models.values() {
            for parent in &model.extends {
                children.entry(parent).or_default().push(&model.id);
            }
        }
        let mut next = 0;
        while next < found.len() {
            for child in children.get(&found[next]).into_iter().flatten() {
                if seen.insert((*child).clone()) {
                    found.push((*child).clone());
                }
            }
            next += 1;
        }
        found
    }

    /// The flattened view, or nothing when the model is not here.
    pub fn resolve(&self, id: &Dtmi) -> Option<Resolved> {
        Resolved::new(id, &|id| self.models.get(id).cloned())
    }

    /// `dependenciesFor`: the named models and all they extend or use as components, each once. Err: the first id that is not here.
    pub fn with_dependencies<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a Dtmi>,
    ) -> Result<Vec<Arc<Model>>, Dtmi> {
        let mut waiting: Vec<Dtmi> = ids.into_iter().cloned().collect();
        let mut seen: HashSet<Dtmi> = HashSet::new();
        let mut found = Vec::new();
        waiting.reverse();
        while let Some(id) = waiting.pop() {
            if seen.insert(id.clone()) {
                let model = self.models.get(&id).ok_or(id)?;
                waiting.extend(model.dependencies().into_iter().rev().cloned());
                found.push(model.clone());
            }
        }
        Ok(found)
    }
}

/// Looks a model up.
pub type Known<'a> = dyn Fn(&Dtmi) -> Option<Arc<Model>> + 'a;

pub(crate) fn ancestors(id: &Dtmi, known: &Known) -> Vec<Arc<Model>> {
    let mut found: Vec<Arc<Model>> = Vec::new();
    let mut seen: HashSet<Dtmi> = HashSet::from([id.clone()]);
    found.extend(known(id));
    let mut next = 0;
    while next < found.len() {
        let model = found[next].clone();
        for parent in &model.extends {
            if seen.insert(parent.clone()) {
                found.extend(known(parent));
            }
        }
        next += 1;
    }
    found
}

/// One model with all it inherits.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Itself first.
    ancestors: Vec<Arc<Model>>,
    /// Name to the place of the content: ancestor, position in its contents.
    members: HashMap<String, (usize, usize)>,
}

impl Resolved {
    pub fn new(id: &Dtmi, known: &Known) -> Option<Self> {
        let ancestors = ancestors(id, known);
        if ancestors.first()?.id != *id {
            return None;
        }
        let mut members = HashMap::new();
        for (place, model) in ancestors.iter().enumerate() {
            for (position, content) in model.contents.iter().enumerate() {
                members.entry(content.name().to_owned()).or_insert((place, position));
            }
        }
        Some(Self { ancestors, members })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.ancestors[0]
    }

    /// Itself first, nearest next.
    pub fn ancestors(&self) -> impl Iterator<Item = &Dtmi> {
        self.ancestors.iter().map(|model| &model.id)
    }

    /// Whether this is that model or extends it.
    pub fn is_of_model(&self, id: &Dtmi) -> bool {
        self.ancestors().any(|ancestor| ancestor == id)
    }

    /// Own contents, then inherited ones, each with the model that defines it.
    pub fn contents(&self) -> impl Iterator<Item = (&Dtmi, &Content)> {
        self.ancestors.iter().flat_map(|model| model.contents.iter().map(|content| (&model.id, content)))
    }

    pub fn content(&self, name: &str) -> Option<&Content> {
        let (place, position) = *self.members.get(name)?;
        self.ancestors[place].contents.get(position)
    }

    pub fn property(&self, name: &str) -> Option<&Property> {
        match self.content(name)? {
            Content::Property(property) => Some(property),
            _ => None,
        }
    }

    pub fn telemetry(&self, name: &str) -> Option<&Telemetry> {
        match self.content(name)? {
            Content::Telemetry(telemetry) => Some(telemetry),
            _ => None,
        }
    }

    pub fn relationship(&self, name: &str) -> Option<&Relationship> {
        match self.content(name)? {
            Content::Relationship(relationship) => Some(relationship),
            _ => None,
        }
    }

    pub fn component(&self, name: &str) -> Option<&Component> {
        match self.content(name)? {
            Content::Component(component) => Some(component),
            _ => None,
        }
    }

    pub fn command(&self, name: &str) -> Option<&Command> {
        match self.content(name)? {
            Content::Command(command) => Some(command),
            _ => None,
        }
    }

    /// Every component of a twin of this model must be present.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.contents().filter_map(|(_, content)| match content {
            Content::Component(component) => Some(component),
            _ => None,
        })
    }
}
