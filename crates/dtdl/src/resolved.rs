//! One model with all it inherits. Digital twins look up members here.
//! Models are looked up by whoever holds them; those that the parser accepted have chains that end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{Command, Component, Content, Dtmi, Model, Property, Relationship, Telemetry};

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
