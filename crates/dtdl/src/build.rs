//! Valid elements as models. Called only when nothing is wrong, so that what is required is there and nesting is bounded.
//! Reports nothing: what cannot be built has been told before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    About, Annotation, Command, Component, Content, Dtmi, Enumeration, EnumerationValue, Field, Model,
    Payload, Property, Relationship, Schema, Telemetry,
    element::{Element, Id, Reader, To},
    vocabulary::{
        Primitive, Standard, StandardElement,
        classes::{Class, Link},
        units_in,
    },
};

/// Builds models; schemas that are referred to twice are shared.
pub(crate) struct Builder<'r, 'n, 'o> {
    reader: &'r Reader<'n, 'o>,
    schemas: HashMap<Id, Arc<Schema>>,
}

impl<'r, 'n, 'o> Builder<'r, 'n, 'o> {
    pub(crate) fn new(reader: &'r Reader<'n, 'o>) -> Self {
        Self { reader, schemas: HashMap::new() }
    }

    /// Top-level interfaces in order, then those inside others.
    pub(crate) fn models(mut self) -> Vec<Model> {
        let is_interface = |id: &Id| self.reader.elements[*id].class == Class::Interface;
        let all: Vec<Id> = (0..self.reader.elements.len()).filter(is_interface).collect();
        let mut named: HashMap<Id, Vec<Id>> = HashMap::new();
        for (id, element) in self.reader.elements.iter().enumerate() {
            if element.class != Class::Interface && element.id.is_some() {
                named.entry(element.interface).or_default().push(id);
            }
        }
        let roots: HashSet<Id> = self.reader.roots.iter().copied().collect();
        let inner = all.into_iter().filter(|id| !roots.contains(id)).collect::<Vec<_>>();
        let ordered = self.reader.roots.iter().copied().chain(inner);
        ordered.filter_map(|id| self.model(id, named.get(&id).map_or(&[], Vec::as_slice))).collect()
    }

    fn model(&mut self, id: Id, named: &[Id]) -> Option<Model> {
        let element = self.element(id);
        let is_schema = |id: &Id| self.element(*id).class.is_complex_schema();
        let schemas: Vec<Id> = named.iter().copied().filter(is_schema).collect();
        let schemas = schemas
            .into_iter()
            .filter_map(|schema| Some((self.element(schema).id.clone()?, self.schema(schema)?)))
            .collect();
        let inner_ids = named.iter().filter_map(|id| self.element(*id).id.clone()).collect();
        Some(Model {
            id: element.id.clone()?,
            language_version: element.context.version,
            about: self.about(id),
            extends: element.linked(Link::Extends).filter_map(|linked| self.interface(&linked.to)).collect(),
            contents: self
                .reader
                .ends(id, Link::Contents)
                .into_iter()
                .filter_map(|end| self.content(end))
                .collect(),
            schemas,
            inner_ids,
        })
    }

    fn element(&self, id: Id) -> &'r Element<'n> {
        &self.reader.elements[id]
    }

    fn interface(&self, to: &To) -> Option<Dtmi> {
        match to {
            To::Element(end) => self.element(*end).id.clone(),
            To::Name(name) => Some(name.clone()),
            To::Standard(_) | To::Nothing => None,
        }
    }

    fn about(&self, id: Id) -> About {
        let element = self.element(id);
        About {
            display_name: element.display_name.clone(),
            description: element.description.clone(),
            comment: element.comment.clone(),
            types: element
                .types
                .iter()
                .map(|found| found.term.to_owned())
                .chain(element.undefined_types.clone())
                .collect(),
            unit: element.unit.map(str::to_owned),
            supplemental: element.types.clone(),
        }
    }

    fn content(&mut self, id: Id) -> Option<Content> {
        let element = self.element(id);
        let name = element.name.clone()?;
        let about = self.about(id);
        Some(match element.class {
            Class::Property => Content::Property(self.property(id)?),
            Class::Telemetry => Content::Telemetry(Telemetry {
                name,
                about,
                schema: self.schema_of(id, Link::Schema)?,
                annotation: self.annotation(id),
            }),
            Class::Relationship => Content::Relationship(Relationship {
                name,
                about,
                target: element.target.clone(),
                properties: self
                    .reader
                    .ends(id, Link::Properties)
                    .into_iter()
                    .filter_map(|end| self.property(end))
                    .collect(),
                min_multiplicity: element.min_multiplicity.and_then(|value| value.try_into().ok()),
                max_multiplicity: element.max_multiplicity.and_then(|value| value.try_into().ok()),
                writable: element.writable,
            }),
            Class::Component => {
                let schema =
                    element.linked(Link::ComponentSchema).find_map(|linked| self.interface(&linked.to))?;
                Content::Component(Component { name, about, schema })
            }
            _ => Content::Command(Command {
                name,
                about,
                request: self.payload(id, Link::Request),
                response: self.payload(id, Link::Response),
            }),
        })
    }

    fn property(&mut self, id: Id) -> Option<Property> {
        let element = self.element(id);
        Some(Property {
            name: element.name.clone()?,
            about: self.about(id),
            schema: self.schema_of(id, Link::Schema)?,
            writable: element.writable,
            annotation: self.annotation(id),
        })
    }

    fn annotation(&self, id: Id) -> Option<Annotation> {
        let element = self.element(id);
        Some(Annotation { annotates: element.annotates.clone()?, overrides: element.overrides.clone() })
    }

    fn payload(&mut self, id: Id, link: Link) -> Option<Box<Payload>> {
        let end = self.reader.ends(id, link).first().copied()?;
        Some(Box::new(Payload {
            name: self.element(end).name.clone()?,
            about: self.about(end),
            schema: self.schema_of(end, Link::Schema)?,
        }))
    }

    fn schema_of(&mut self, id: Id, link: Link) -> Option<Arc<Schema>> {
        let to = self.element(id).linked(link).map(|linked| linked.to.clone()).next()?;
        match to {
            To::Element(end) => self.schema(end),
            To::Standard(standard) => standard_schema(standard).map(Arc::new),
            To::Name(_) | To::Nothing => None,
        }
    }

    fn schema(&mut self, id: Id) -> Option<Arc<Schema>> {
        if let Some(found) = self.schemas.get(&id) {
            return Some(found.clone());
        }
        let schema = Arc::new(match self.element(id).class {
            Class::Array => Schema::Array(self.schema_of(id, Link::ElementSchema)?),
            Class::Map => {
                let value = self.reader.ends(id, Link::MapValue).first().copied()?;
                Schema::Map(self.schema_of(value, Link::Schema)?)
            }
            Class::Enum => Schema::Enum(self.enumeration(id)),
            _ => {
                let fields = self.reader.ends(id, Link::Fields).into_iter().filter_map(|end| {
                    let name = self.element(end).name.clone()?;
                    Some(Field { name, schema: self.schema_of(end, Link::Schema)? })
                });
                Schema::Object(fields.collect())
            }
        });
        self.schemas.insert(id, schema.clone());
        Some(schema)
    }

    fn enumeration(&self, id: Id) -> Enumeration {
        let values = self.reader.ends(id, Link::EnumValues).into_iter().filter_map(|end| {
            let element = self.element(end);
            Some(EnumerationValue { name: element.name.clone()?, value: element.enum_value.clone()? })
        });
        Enumeration { values: values.collect() }
    }
}

fn standard_schema(standard: Standard) -> Option<Schema> {
    let named = |name: &str, schema| Field { name: name.to_owned(), schema: Arc::new(schema) };
    Some(match standard.is {
        StandardElement::Primitive(primitive) => primitive_schema(primitive),
        StandardElement::Geometry(geometry) => Schema::Geospatial(geometry),
        StandardElement::Numbers(fields) => {
            Schema::Object(fields.iter().map(|name| named(name, Schema::Double)).collect())
        }
        StandardElement::UnitType(unit_type) => {
            let value = |unit: &str| EnumerationValue { name: unit.to_owned(), value: unit.into() };
            Schema::Enum(Enumeration { values: units_in(unit_type, standard.version).map(value).collect() })
        }
        StandardElement::Unit(_) | StandardElement::CommandType => return None,
    })
}

pub(crate) fn primitive_schema(primitive: Primitive) -> Schema {
    match primitive {
        Primitive::Boolean => Schema::Boolean,
        Primitive::Date => Schema::Date,
        Primitive::DateTime => Schema::DateTime,
        Primitive::Double => Schema::Double,
        Primitive::Duration => Schema::Duration,
        Primitive::Float => Schema::Float,
        Primitive::Integer => Schema::Integer,
        Primitive::Long => Schema::Long,
        Primitive::String => Schema::String,
        Primitive::Time => Schema::Time,
    }
}
