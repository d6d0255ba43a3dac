//! A valid interface as the rest of the house sees it: names, schemas and references, without the JSON-LD around them.
//! Built by the parser only; digital twins and queries read it. Holds no place in any document.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{Dtmi, Schema, vocabulary::extensions::Supplemental};

/// Language code to text. A plain string is `en`.
pub type LanguageMap = BTreeMap<String, String>;

/// One DTDL interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub id: Dtmi,
    /// 2, 3 or 4.
    pub language_version: u8,
    pub about: About,
    pub extends: Vec<Dtmi>,
    /// Its own contents in document order; what it inherits is in [`crate::Resolved`].
    pub contents: Vec<Content>,
    /// Schemas that have an identifier, by it: the values of `schemas` and any other named one inside.
    pub schemas: BTreeMap<Dtmi, Arc<Schema>>,
    /// Every identifier that it defines beside its own, in document order.
    pub inner_ids: Vec<Dtmi>,
}

/// What every element may say of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    pub display_name: LanguageMap,
    pub description: LanguageMap,
    pub comment: Option<String>,
    /// Types beside the DTDL class: semantic types (`Temperature`), adjuncts (`Historized`) and undefined ones.
    pub types: Vec<String>,
    /// Unit term that belongs to the semantic type.
    pub unit: Option<String>,
    /// The known ones among the types, as rules between interfaces need them.
    pub(crate) supplemental: Vec<Supplemental>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Property(Property),
    Telemetry(Telemetry),
    Relationship(Relationship),
    Component(Component),
    Command(Command),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    pub name: String,
    pub about: About,
    pub schema: Arc<Schema>,
    pub writable: bool,
    pub annotation: Option<Annotation>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    pub name: String,
    pub about: About,
    pub schema: Arc<Schema>,
    pub annotation: Option<Annotation>,
}

/// `ValueAnnotation` and `Override`.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// Name of the sibling.
    pub annotates: String,
    /// Name of the sibling's property whose value this one replaces.
    pub overrides: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Relationship {
    pub name: String,
    pub about: About,
    /// Absent: any twin.
    pub target: Option<Dtmi>,
    pub properties: Vec<Property>,
    pub min_multiplicity: Option<u64>,
    pub max_multiplicity: Option<u64>,
    pub writable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    pub name: String,
    pub about: About,
    pub schema: Dtmi,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub name: String,
    pub about: About,
    pub request: Option<Box<Payload>>,
    pub response: Option<Box<Payload>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    pub name: String,
    pub about: About,
    pub schema: Arc<Schema>,
}

impl Content {
    pub fn name(&self) -> &str {
        match self {
            Self::Property(property) => &property.name,
            Self::Telemetry(telemetry) => &telemetry.name,
            Self::Relationship(relationship) => &relationship.name,
            Self::Component(component) => &component.name,
            Self::Command(command) => &command.name,
        }
    }

    pub fn about(&self) -> &About {
        match self {
            Self::Property(property) => &property.about,
            Self::Telemetry(telemetry) => &telemetry.about,
            Self::Relationship(relationship) => &relationship.about,
            Self::Component(component) => &component.about,
            Self::Command(command) => &command.about,
        }
    }

    /// The DTDL class.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Property(_) => "Property",
            Self::Telemetry(_) => "Telemetry",
            Self::Relationship(_) => "Relationship",
            Self::Component(_) => "Component",
            Self::Command(_) => "Command",
        }
    }

    /// Of a property or telemetry.
    pub fn schema(&self) -> Option<&Arc<Schema>> {
        match self {
            Self::Property(property) => Some(&property.schema),
            Self::Telemetry(telemetry) => Some(&telemetry.schema),
            _ => None,
        }
    }

    /// What annotates a sibling.
    pub fn annotation(&self) -> Option<&Annotation> {
        match self {
            Self::Property(property) => property.annotation.as_ref(),
            Self::Telemetry(telemetry) => telemetry.annotation.as_ref(),
            _ => None,
        }
    }
}

impl Model {
    /// The interfaces of its own components, in document order.
    pub fn components(&self) -> impl Iterator<Item = &Dtmi> {
        self.contents.iter().filter_map(|content| match content {
            Content::Component(component) => Some(&component.schema),
            _ => None,
        })
    }
}

/// Contents, fields, values and schemas of the model itself, as the limit on elements counts them.
pub(crate) fn weight(model: &Model) -> u64 {
    let mut seen = HashMap::new();
    model.contents.iter().map(|content| 1 + content_weight(content, &mut seen)).fold(0, u64::saturating_add)
}

fn content_weight(content: &Content, seen: &mut HashMap<*const Schema, u64>) -> u64 {
    let mut payload = |payload: &Option<Box<Payload>>| {
        payload.as_ref().map_or(0, |payload| 2 + schema_weight(&payload.schema, seen))
    };
    match content {
        Content::Command(command) => payload(&command.request).saturating_add(payload(&command.response)),
        Content::Component(_) => 1,
        Content::Property(property) => 1 + schema_weight(&property.schema, seen),
        Content::Telemetry(telemetry) => 1 + schema_weight(&telemetry.schema, seen),
        Content::Relationship(relationship) => {
            let each =
                relationship.properties.iter().map(|property| 2 + schema_weight(&property.schema, seen));
            each.fold(0, u64::saturating_add)
        }
    }
}

/// Schemas are shared, so a small document can unfold into a huge tree: each is counted once and added often.
fn schema_weight(schema: &Arc<Schema>, seen: &mut HashMap<*const Schema, u64>) -> u64 {
    if let Some(weight) = seen.get(&Arc::as_ptr(schema)) {
        return *weight;
    }
    let weight = match &**schema {
        Schema::Array(element) => schema_weight(element, seen).saturating_add(1),
        Schema::Map(value) => schema_weight(value, seen).saturating_add(2),
        Schema::Enum(enumeration) => enumeration.values.len() as u64,
        Schema::Object(fields) => fields
            .iter()
            .map(|field| schema_weight(&field.schema, seen).saturating_add(2))
            .fold(0, u64::saturating_add),
        _ => 0,
    };
    seen.insert(Arc::as_ptr(schema), weight);
    weight
}
