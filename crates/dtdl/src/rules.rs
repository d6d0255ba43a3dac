//! Rules between elements of one interface: references, counts, unique names, nesting of schemas, conditions of added types.
//! Runs after all documents are read; rules between interfaces are in `family`.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::{
    Dtmi,
    element::{Id, Linked, Reader, To, accepts_version},
    graph,
    resolved::Known,
    vocabulary::{
        Primitive, Standard, StandardElement,
        classes::{Class, Link, language},
        extensions::{AddedKind, Condition, SchemaCondition, Supplemental},
    },
};

impl<'n> Reader<'n, '_> {
    /// Checks everything within interfaces.
    pub(crate) fn check(&mut self, known: &Known) {
        self.resolve(known);
        for id in 0..self.elements.len() {
            let outer = self.issues.enter(self.interface_id(id));
            self.counts(id);
            self.unique_names(id);
            self.enum_values(id);
            self.conditions(id);
            self.size(id);
            self.issues.enter(outer);
        }
        self.schema_nesting();
    }

    pub(crate) fn interface_id(&self, id: Id) -> Option<Dtmi> {
        self.elements[self.elements[id].interface].id.clone()
    }

    /// Turns names into elements; what stays a name is an interface that is known already.
    fn resolve(&mut self, known: &Known) {
        for id in 0..self.elements.len() {
            let outer = self.issues.enter(self.interface_id(id));
            for position in 0..self.elements[id].links.len() {
                if let To::Name(name) = &self.elements[id].links[position].to {
                    let to = self.resolve_one(id, position, name.clone(), known);
                    self.elements[id].links[position].to = to;
                }
            }
            self.issues.enter(outer);
        }
    }

    fn resolve_one(&mut self, id: Id, position: usize, name: Dtmi, known: &Known) -> To {
        let from = &self.elements[id];
        let linked = &from.links[position];
        let (place, version) = (linked.place.clone(), from.context.version);
        let rule = linked.link.rule(version);
        let takes_interface = rule.classes == [Class::Interface];
        let Some(found) = self.ids.get(&name).copied() else {
            let Some(model) = takes_interface.then(|| known(&name)).flatten() else {
                self.issues.add(
                    &place,
                    "undefinedReference",
                    format!("'{name}' is not defined here and not known"),
                );
                return To::Nothing;
            };
            if !accepts_version(rule, version, model.language_version) {
                self.refuse_version(&place, &name, model.language_version);
            }
            return To::Name(name);
        };
        let target = &self.elements[found];
        if !rule.classes.contains(&target.class) {
            let message = format!("'{name}' is a {}, which may not be here", target.class.name());
            self.issues.add(&place, "badType", message);
            return To::Nothing;
        }
        if !takes_interface && target.interface != from.interface {
            self.issues.add(
                &place,
                "crossPartitionReference",
                format!("'{name}' is defined in another interface"),
            );
            return To::Nothing;
        }
        if !accepts_version(rule, version, target.context.version) {
            let found = target.context.version;
            self.refuse_version(&place, &name, found);
        }
        To::Element(found)
    }

    fn refuse_version(&mut self, place: &crate::document::Place<'n>, name: &Dtmi, version: u8) {
        let message = format!("'{name}' is of DTDL {version}, which is not allowed here");
        self.issues.add(place, "disallowedVersionReference", message);
    }

    fn counts(&mut self, id: Id) {
        let element = &self.elements[id];
        let limits = language(element.context.version);
        let (link, max) = match element.class {
            Class::Interface => (Link::Extends, limits.extends_max),
            Class::Relationship => (Link::Properties, limits.relationship_properties_max),
            Class::Enum => (Link::EnumValues, limits.enum_values.1),
            Class::Object => (Link::Fields, limits.fields.1),
            _ => return,
        };
        let place = element.place.clone();
        let count = self.elements[id].linked(link).count();
        if let Some(max) = max.filter(|max| count > *max) {
            self.issues.add(
                &place,
                "objectCountAboveMax",
                format!("{count} {link:?} where at most {max} are allowed"),
            );
        }
    }

    /// Elements at the other ends, each once, however often a reference repeats it.
    pub(crate) fn ends(&self, id: Id, link: Link) -> Vec<Id> {
        let mut ends = Vec::new();
        let mut seen = HashSet::new();
        for linked in self.elements[id].linked(link) {
            if let To::Element(end) = linked.to
                && seen.insert(end)
            {
                ends.push(end);
            }
        }
        ends
    }

    fn unique_names(&mut self, id: Id) {
        for link in [Link::Contents, Link::Properties, Link::Fields, Link::EnumValues] {
            let mut names: HashSet<String> = HashSet::new();
            let mut indices: HashSet<i64> = HashSet::new();
            for end in self.ends(id, link) {
                let element = &self.elements[end];
                let (name, index, place) = (element.name.clone(), element.index, element.place.clone());
                if let Some(name) = name.filter(|name| !names.insert(name.clone())) {
                    self.issues.add(
                        &place,
                        "nonUniquePropertyValue",
                        format!("the name '{name}' is used twice"),
                    );
                }
                if let Some(index) = index.filter(|index| !indices.insert(*index)) {
                    self.issues.add(
                        &place,
                        "nonUniquePropertyValue",
                        format!("the index {index} is used twice"),
                    );
                }
            }
        }
    }

    fn enum_values(&mut self, id: Id) {
        if self.elements[id].class != Class::Enum {
            return;
        }
        let wanted = self.elements[id].linked(Link::ValueSchema).find_map(|linked| match linked.to {
            To::Standard(Standard { is: StandardElement::Primitive(primitive), .. }) => Some(primitive),
            _ => None,
        });
        let mut texts: HashSet<String> = HashSet::new();
        for end in self.ends(id, Link::EnumValues) {
            let Some(value): Option<Value> = self.elements[end].enum_value.clone() else { continue };
            let place = self.elements[end].place.clone();
            let conforms = match wanted {
                Some(Primitive::Integer) => value.is_i64(),
                Some(Primitive::String) => value.is_string(),
                _ => true,
            };
            if !conforms {
                self.issues.add(
                    &place,
                    "nonConformantDatatype",
                    format!("{value} does not fit the value schema"),
                );
            }
            if !texts.insert(value.to_string()) {
                self.issues.add(&place, "nonUniquePropertyValue", format!("the value {value} is used twice"));
            }
        }
    }

    fn size(&mut self, id: Id) {
        let element = &self.elements[id];
        let Some(max) = language(element.context.version).interface_bytes_max else { return };
        if element.class == Class::Interface && element.bytes > max {
            let (place, bytes) = (element.place.clone(), element.bytes);
            self.issues.add(
                &place,
                "partitionTooLarge",
                format!("the interface is {bytes} bytes long; {max} are allowed"),
            );
        }
    }

    fn conditions(&mut self, id: Id) {
        let conditions: Vec<_> = self.elements[id]
            .types
            .iter()
            .flat_map(|found| found.row.conditions.iter().map(move |condition| (found.term, *condition)))
            .collect();
        for (term, condition) in conditions {
            let told = match condition {
                Condition::Schema(wanted) => (!self.schema_fits(id, wanted))
                    .then(|| ("notRequiredType", format!("{term} does not fit the schema"))),
                Condition::With(other) => (!self.elements[id].has_type(other))
                    .then(|| ("missingCocotype", format!("{term} needs {other} beside it"))),
                Condition::SchemaWith(other) => {
                    let fits =
                        self.ends(id, Link::Schema).iter().any(|end| self.elements[*end].has_type(other));
                    (!fits).then(|| ("notRequiredType", format!("{term} needs a schema of type {other}")))
                }
                Condition::FieldsWith(others) => {
                    let has_one = |end: &Id| others.iter().any(|other| self.elements[*end].has_type(other));
                    let fits = self.ends(id, Link::Fields).iter().all(has_one);
                    (!fits).then(|| {
                        (
                            "notRequiredType",
                            format!("every field of {term} needs one of {}", others.join(", ")),
                        )
                    })
                }
                Condition::OnlyOneIn(other) => self.only_one_in(id, term, other),
            };
            if let Some((rule, message)) = told {
                let place = self.elements[id].place.clone();
                self.issues.add(&place, rule, message);
            }
        }
    }

    fn only_one_in(&self, id: Id, term: &str, parent_type: &str) -> Option<(&'static str, String)> {
        let parents: Vec<Id> = (0..self.elements.len())
            .filter(|parent| {
                self.elements[*parent].class == Class::Object
                    && self.ends(*parent, Link::Fields).contains(&id)
            })
            .collect();
        if parents.iter().any(|parent| !self.elements[*parent].has_type(parent_type)) {
            return Some((
                "parentMissingCotype",
                format!("{term} may only be in an object of type {parent_type}"),
            ));
        }
        let is_other = |sibling: &Id| *sibling != id && self.elements[*sibling].has_type(term);
        let repeated = parents.iter().any(|parent| self.ends(*parent, Link::Fields).iter().any(is_other));
        repeated.then(|| ("siblingDuplicatesCotype", format!("only one field may have {term}")))
    }

    /// Whether the schema is as a type wants it. One that is missing or wrong is told elsewhere.
    fn schema_fits(&self, id: Id, wanted: SchemaCondition) -> bool {
        use {SchemaCondition as Wanted, StandardElement as S};
        self.elements[id].linked(Link::Schema).all(|linked| match &linked.to {
            To::Nothing | To::Name(_) => true,
            To::Element(end) => match wanted {
                Wanted::Enum => self.elements[*end].class == Class::Enum,
                Wanted::Object => self.elements[*end].class == Class::Object,
                _ => false,
            },
            To::Standard(standard) => match (wanted, standard.is) {
                (Wanted::Numeric | Wanted::NumericOrString, S::Primitive(primitive))
                    if is_numeric(primitive) =>
                {
                    true
                }
                (Wanted::NumericOrString | Wanted::String, S::Primitive(Primitive::String))
                | (Wanted::Enum, S::UnitType(_))
                | (Wanted::Place | Wanted::Object, S::Geometry(_))
                | (Wanted::Object, S::Numbers(_)) => true,
                (Wanted::Vector, S::Numbers(fields)) => fields == ["x", "y", "z"],
                (Wanted::Place, S::Numbers(fields)) => fields != ["x", "y", "z"],
                _ => false,
            },
        })
    }

    /// How deep schemas nest, whether they contain themselves, and arrays inside properties where those are not allowed.
    fn schema_nesting(&mut self) {
        let rounds = self
            .elements
            .iter()
            .map(|element| language(element.context.version).schema_depth_max)
            .max()
            .unwrap_or(0)
            + 1;
        let schemas: Vec<Id> =
            (0..self.elements.len()).filter(|id| self.elements[*id].class.is_complex_schema()).collect();
        let mut nesting: HashMap<Id, Nesting> = schemas.iter().map(|id| (*id, Nesting::default())).collect();
        // Height by rounds instead of recursion: a chain of references may be as long as the document.
        for _ in 0..rounds {
            let next: Vec<(Id, Nesting)> =
                schemas.iter().map(|id| (*id, self.nesting(*id, &nesting))).collect();
            nesting = next.into_iter().collect();
        }
        let too_deep =
            |id: &Id| nesting[id].depth > language(self.elements[*id].context.version).schema_depth_max;
        let too_deep: Vec<Id> = schemas.iter().copied().filter(too_deep).collect();
        self.tell_outermost(&too_deep);
        for id in 0..self.elements.len() {
            self.arrays_in_property(id, &nesting);
        }
    }

    /// Of schemas nested too deep only the outermost are told, and those that contain themselves, which have none around.
    fn tell_outermost(&mut self, too_deep: &[Id]) {
        let inside: HashSet<Id> = too_deep
            .iter()
            .flat_map(|id| self.schemas_in(*id))
            .filter_map(|linked| match linked.to {
                To::Element(end) => Some(end),
                _ => None,
            })
            .collect();
        let ends = (0..self.elements.len()).map(|id| {
            let inner = self.schemas_in(id).filter_map(|linked| match linked.to {
                To::Element(end) => Some(end),
                _ => None,
            });
            inner.collect()
        });
        let circular = graph::circular(&ends.collect::<Vec<_>>());
        for id in too_deep.iter().filter(|id| circular[**id] || !inside.contains(id)) {
            self.tell_nesting(*id, circular[*id]);
        }
    }

    fn tell_nesting(&mut self, id: Id, circular: bool) {
        let max = language(self.elements[id].context.version).schema_depth_max;
        let outer = self.issues.enter(self.interface_id(id));
        let place = self.elements[id].place.clone();
        if circular {
            self.issues.add(&place, "recursiveStructureWide", "the schema contains itself");
        } else {
            self.issues.add(
                &place,
                "excessiveDepthWide",
                format!("schemas are nested deeper than {max} levels"),
            );
        }
        self.issues.enter(outer);
    }

    fn nesting(&self, id: Id, known: &HashMap<Id, Nesting>) -> Nesting {
        let mut found = Nesting { depth: 0, has_array: self.elements[id].class == Class::Array };
        for linked in self.schemas_in(id) {
            let inside = match &linked.to {
                To::Element(end) => known.get(end).copied().unwrap_or_default(),
                To::Standard(standard) => Nesting::of(*standard),
                _ => Nesting::default(),
            };
            found.depth = found.depth.max(inside.depth + 1);
            found.has_array |= inside.has_array;
        }
        found
    }

    /// The schemas directly inside a complex schema.
    fn schemas_in(&self, id: Id) -> impl Iterator<Item = &Linked<'n>> {
        let own = self.elements[id].links.iter().filter(|linked| linked.link == Link::ElementSchema);
        let inner = self.elements[id]
            .links
            .iter()
            .filter(|linked| matches!(linked.link, Link::Fields | Link::MapValue))
            .filter_map(|linked| match linked.to {
                To::Element(end) => Some(end),
                _ => None,
            })
            .flat_map(|end| self.elements[end].links.iter().filter(|linked| linked.link == Link::Schema));
        own.chain(inner)
    }

    fn arrays_in_property(&mut self, id: Id, nesting: &HashMap<Id, Nesting>) {
        let element = &self.elements[id];
        if element.class != Class::Property || language(element.context.version).array_in_property {
            return;
        }
        let has_array = element.linked(Link::Schema).any(|linked| match &linked.to {
            To::Element(end) => nesting.get(end).is_some_and(|nesting| nesting.has_array),
            To::Standard(standard) => Nesting::of(*standard).has_array,
            _ => false,
        });
        if has_array {
            let outer = self.issues.enter(self.interface_id(id));
            let place = self.elements[id].place.clone();
            self.issues.add(&place, "excludedType", "a property may not contain an array in this version");
            self.issues.enter(outer);
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Nesting {
    depth: usize,
    has_array: bool,
}

impl Nesting {
    /// `GeoJSON` objects hold arrays of positions, which are arrays of doubles.
    fn of(standard: Standard) -> Self {
        use crate::Geometry as G;
        match standard.is {
            StandardElement::Geometry(geometry) => {
                let depth = match geometry {
                    G::Point => 2,
                    G::MultiPoint | G::LineString => 3,
                    G::MultiLineString | G::Polygon => 4,
                    G::MultiPolygon => 5,
                };
                Self { depth, has_array: true }
            }
            StandardElement::Numbers(_) => Self { depth: 1, has_array: false },
            _ => Self::default(),
        }
    }
}

pub(crate) fn is_numeric(primitive: Primitive) -> bool {
    matches!(primitive, Primitive::Double | Primitive::Float | Primitive::Integer | Primitive::Long)
}

/// The unit type of an element that has a unit.
pub(crate) fn unit_type_of(types: &[Supplemental]) -> Option<&'static str> {
    types.iter().find_map(|found| {
        found.row.members.iter().find_map(|added| match added.kind {
            AddedKind::Unit => found.unit_type,
            AddedKind::UnitOf(unit_type) => Some(unit_type),
            _ => None,
        })
    })
}
