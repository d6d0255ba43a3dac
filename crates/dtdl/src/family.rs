//! Rules between interfaces: chains of `extends`, inherited names, components in components, annotations of inherited contents.
//! Runs over outlines, which are the same for interfaces of this call and for those already known.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use crate::{
    Content, Dtmi, Model, Schema,
    element::{Id, Reader, To},
    graph,
    resolved::Known,
    rules::unit_type_of,
    vocabulary::{
        self, Standard, StandardElement,
        classes::{Class, LANGUAGES, Language, Link, language, members},
        extensions::Supplemental,
    },
};

/// What others need to know of an interface.
#[derive(Debug)]
struct Outline {
    /// Of this call.
    element: Option<Id>,
    language_version: u8,
    extends: Vec<Dtmi>,
    contents: Vec<Entry>,
}

/// One content.
#[derive(Debug)]
struct Entry {
    element: Option<Id>,
    name: String,
    class: Class,
    component: Option<Dtmi>,
    annotates: Option<String>,
    overrides: Option<String>,
    /// Whether it has the type, even where what it annotates could not be read.
    is_annotation: bool,
    /// Members that its types add.
    added: HashSet<&'static str>,
    /// Of its own unit.
    unit_type: Option<&'static str>,
    /// The unit type that its schema is the enumeration of.
    schema_unit_type: Option<&'static str>,
}

type Outlines = RefCell<HashMap<Dtmi, Option<Rc<Outline>>>>;

/// Outlines of this call and, when asked for, of what is known.
struct Family<'a> {
    outlines: Outlines,
    /// The name of a component inside an interface, if it has one.
    nested: RefCell<HashMap<Dtmi, Option<String>>>,
    known: &'a Known<'a>,
}

/// Where an interface stands.
struct Height {
    /// The longest way up, as far as is allowed and one more.
    steps: usize,
    circular: bool,
}

impl Family<'_> {
    fn get(&self, id: &Dtmi) -> Option<Rc<Outline>> {
        if let Some(found) = self.outlines.borrow().get(id) {
            return found.clone();
        }
        let found = (self.known)(id).map(|model| Rc::new(outline_of_model(&model)));
        self.outlines.borrow_mut().insert(id.clone(), found.clone());
        found
    }

    fn component_in(&self, id: &Dtmi) -> Option<String> {
        if let Some(found) = self.nested.borrow().get(id) {
            return found.clone();
        }
        let ancestors = self.ancestors(id);
        let mut contents = ancestors.iter().flat_map(|(_, outline)| &outline.contents);
        let found = contents.find(|entry| entry.class == Class::Component).map(|entry| entry.name.clone());
        self.nested.borrow_mut().insert(id.clone(), found.clone());
        found
    }

    /// How far `extends` leads away from each interface.
    fn heights<'d>(&self, ids: impl Iterator<Item = &'d Dtmi>) -> HashMap<Dtmi, Height> {
        let mut positions: HashMap<Dtmi, usize> = HashMap::new();
        let mut waiting: Vec<Dtmi> = ids.cloned().collect();
        let mut found: Vec<(Dtmi, Vec<Dtmi>)> = Vec::new();
        while let Some(id) = waiting.pop() {
            if !positions.contains_key(&id) {
                positions.insert(id.clone(), found.len());
                let extends = self.get(&id).map_or_else(Vec::new, |outline| outline.extends.clone());
                waiting.extend(extends.iter().cloned());
                found.push((id, extends));
            }
        }
        let ends: Vec<Vec<usize>> = found
            .iter()
            .map(|(_, extends)| extends.iter().map(|parent| positions[parent]).collect())
            .collect();
        let circular = graph::circular(&ends);
        let mut steps = vec![0; ends.len()];
        // By rounds instead of recursion: a chain may be as long as the document.
        let rounds = LANGUAGES.iter().map(|language| language.extends_depth_max).max().unwrap_or(0) + 1;
        for _ in 0..rounds {
            steps = ends.iter().map(|to| to.iter().map(|end| steps[*end] + 1).max().unwrap_or(0)).collect();
        }
        let height = |position: usize| Height { steps: steps[position], circular: circular[position] };
        found.into_iter().enumerate().map(|(position, (id, _))| (id, height(position))).collect()
    }

    /// The interface and all it extends, each once, nearest first.
    fn ancestors(&self, id: &Dtmi) -> Vec<(Dtmi, Rc<Outline>)> {
        let mut found: Vec<(Dtmi, Rc<Outline>)> =
            self.get(id).map(|outline| (id.clone(), outline)).into_iter().collect();
        let mut seen = HashSet::from([id.clone()]);
        let mut next = 0;
        while let Some((_, outline)) = found.get(next).cloned() {
            for parent in &outline.extends {
                if seen.insert(parent.clone()) {
                    found.extend(self.get(parent).map(|outline| (parent.clone(), outline)));
                }
            }
            next += 1;
        }
        found
    }
}

impl Reader<'_, '_> {
    /// Checks every interface of this call against those it extends and composes.
    pub(crate) fn check_families(&mut self, known: &Known) {
        let interfaces: Vec<Id> =
            (0..self.elements.len()).filter(|id| self.elements[*id].class == Class::Interface).collect();
        let mut outlines = HashMap::new();
        for id in &interfaces {
            if let Some(dtmi) = self.elements[*id].id.clone() {
                outlines.entry(dtmi).or_insert_with(|| Some(Rc::new(self.outline(*id))));
            }
        }
        let family = Family { outlines: RefCell::new(outlines), nested: RefCell::default(), known };
        let mut all = Vec::new();
        for id in interfaces {
            let Some(dtmi) = self.elements[id].id.clone() else { continue };
            let outline = family.get(&dtmi).filter(|outline| outline.element == Some(id));
            all.extend(outline.map(|outline| (id, dtmi, outline)));
        }
        let heights = family.heights(all.iter().map(|(_, dtmi, _)| dtmi));
        self.chains(&all, &heights);
        for (id, dtmi, outline) in all {
            let limits = language(outline.language_version);
            if heights[&dtmi].steps > limits.extends_depth_max {
                continue;
            }
            let outer = self.issues.enter(Some(dtmi.clone()));
            let ancestors = family.ancestors(&dtmi);
            if let Some(max) = limits.extends_closure_max.filter(|max| ancestors.len() - 1 > *max) {
                let place = self.elements[id].place.clone();
                let message = format!("{} interfaces are extended; {max} are allowed", ancestors.len() - 1);
                self.issues.add(&place, "excessiveCount", message);
            }
            self.inherited_names(id, &ancestors, limits);
            self.nested_components(&outline, &family);
            self.annotations(id, &outline, &ancestors, &family);
            self.issues.enter(outer);
        }
    }

    fn outline(&self, id: Id) -> Outline {
        let element = &self.elements[id];
        let extends =
            element.linked(Link::Extends).filter_map(|linked| self.interface_named(&linked.to)).collect();
        let contents = self.ends(id, Link::Contents).into_iter().filter_map(|end| self.entry(end)).collect();
        Outline { element: Some(id), language_version: element.context.version, extends, contents }
    }

    fn interface_named(&self, to: &To) -> Option<Dtmi> {
        match to {
            To::Element(end) => self.elements[*end].id.clone(),
            To::Name(name) => Some(name.clone()),
            _ => None,
        }
    }

    fn entry(&self, id: Id) -> Option<Entry> {
        let element = &self.elements[id];
        let component =
            element.linked(Link::ComponentSchema).find_map(|linked| self.interface_named(&linked.to));
        Some(Entry {
            element: Some(id),
            name: element.name.clone()?,
            class: element.class,
            component,
            annotates: element.annotates.clone(),
            overrides: element.overrides.as_deref().map(|word| added_term(word).to_owned()),
            is_annotation: element.has_type("ValueAnnotation"),
            added: added_by(&element.types),
            unit_type: unit_type_of(&element.types),
            schema_unit_type: element.linked(Link::Schema).find_map(|linked| match linked.to {
                To::Standard(Standard { is: StandardElement::UnitType(unit_type), .. }) => Some(unit_type),
                _ => None,
            }),
        })
    }

    /// Chains of `extends`: how long, and whether they end.
    fn chains(&mut self, all: &[(Id, Dtmi, Rc<Outline>)], heights: &HashMap<Dtmi, Height>) {
        let too_long = |(_, dtmi, outline): &&(Id, Dtmi, Rc<Outline>)| {
            heights[dtmi].steps > language(outline.language_version).extends_depth_max
        };
        for (id, dtmi, outline) in all.iter().filter(too_long) {
            let outer = self.issues.enter(Some(dtmi.clone()));
            let place = self.elements[*id].place.clone();
            if heights[dtmi].circular {
                self.issues.add(&place, "recursiveStructureNarrow", "the interface extends itself");
            } else {
                let max = language(outline.language_version).extends_depth_max;
                self.issues.add(
                    &place,
                    "excessiveDepthNarrow",
                    format!("the chain of 'extends' is longer than {max}"),
                );
            }
            self.issues.enter(outer);
        }
    }

    fn inherited_names(&mut self, id: Id, ancestors: &[(Dtmi, Rc<Outline>)], limits: &Language) {
        let mut owners: HashMap<&str, &Dtmi> = HashMap::new();
        let mut count = 0;
        let mut told: HashSet<&str> = HashSet::new();
        for (position, (owner, outline)) in ancestors.iter().enumerate() {
            count += outline.contents.len();
            for entry in &outline.contents {
                let Some(other) = owners.insert(&entry.name, owner) else { continue };
                // Twice in one interface is told of that one.
                if position > 0 && other != owner && told.insert(&entry.name) {
                    let own = ancestors[0]
                        .1
                        .contents
                        .iter()
                        .find(|own| own.name == entry.name)
                        .and_then(|own| own.element);
                    let place = self.elements[own.unwrap_or(id)].place.clone();
                    let message = format!("'{}' is in {other} and, inherited, in {owner}", entry.name);
                    self.issues.add(&place, "nonUniqueImportedPropertyValue", message);
                }
            }
        }
        if let Some(max) = limits.contents_max.filter(|max| count > *max) {
            let place = self.elements[id].place.clone();
            let message = format!("{count} contents with the inherited ones; {max} are allowed");
            self.issues.add(&place, "objectCountAboveMax", message);
        }
    }

    fn nested_components(&mut self, outline: &Outline, family: &Family) {
        for entry in &outline.contents {
            let (Some(component), Some(element)) = (&entry.component, entry.element) else { continue };
            if let Some(nested) = family.component_in(component) {
                let place = self.elements[element].place.clone();
                let message =
                    format!("{component} has the component '{nested}'; a component may not have one");
                self.issues.add(&place, "excludedType", message);
            }
        }
    }

    /// What a content annotates must be a property or telemetry beside it and no annotation itself. Inherited contents stand beside
    /// own ones, so an inherited annotation is judged again where it meets others.
    fn annotations(&mut self, id: Id, outline: &Outline, ancestors: &[(Dtmi, Rc<Outline>)], family: &Family) {
        if ancestors
            .iter()
            .all(|(_, ancestor)| ancestor.contents.iter().all(|entry| entry.annotates.is_none()))
        {
            return;
        }
        let told: Vec<HashSet<Dtmi>> = outline
            .extends
            .iter()
            .map(|parent| family.ancestors(parent).into_iter().map(|(owner, _)| owner).collect())
            .collect();
        let is_new = |one: &Dtmi, other: &Dtmi| {
            !told.iter().any(|closure| closure.contains(one) && closure.contains(other))
        };
        let mut siblings: HashMap<&str, (&Dtmi, &Entry)> = HashMap::new();
        for (owner, ancestor) in ancestors {
            for entry in &ancestor.contents {
                siblings.entry(&entry.name).or_insert((owner, entry));
            }
        }
        let mut overrides: HashMap<(&str, &str), &Dtmi> = HashMap::new();
        for (owner, ancestor) in ancestors {
            for entry in &ancestor.contents {
                let Some(name) = &entry.annotates else { continue };
                let place = self.elements[entry.element.filter(|_| *owner == ancestors[0].0).unwrap_or(id)]
                    .place
                    .clone();
                let sibling = siblings.get(name.as_str()).filter(|(other, _)| is_new(owner, other));
                if let Some((rule, message)) =
                    sibling.and_then(|(_, sibling)| annotation_fault(entry, sibling))
                {
                    self.issues.add(&place, rule, message);
                }
                let Some(overridden) = &entry.overrides else { continue };
                if let Some(other) =
                    overrides.insert((name, overridden), owner).filter(|other| is_new(owner, other))
                {
                    let message =
                        format!("'{overridden}' of '{name}' is overridden in {owner} and in {other}");
                    self.issues.add(&place, "multipleReference", message);
                }
            }
        }
    }
}

/// What is wrong between an annotation and what it annotates.
fn annotation_fault(entry: &Entry, sibling: &Entry) -> Option<(&'static str, String)> {
    let name = &sibling.name;
    if !matches!(sibling.class, Class::Property | Class::Telemetry) {
        return Some(("notSiblingRequiredType", format!("'{name}' is neither a property nor telemetry")));
    }
    if sibling.is_annotation {
        return Some(("disallowedType", format!("'{name}' is an annotation itself")));
    }
    let overridden = entry.overrides.as_ref()?;
    if members(sibling.class, 3).iter().any(|(term, ..)| term == overridden) {
        let message = format!("'{overridden}' of '{name}' is no member that an extension adds");
        return Some(("matchingPropertyNotSupplemental", message));
    }
    if !sibling.added.contains(overridden.as_str()) {
        return Some((
            "noMatchingSupplementalProperty",
            format!("'{name}' has no member '{overridden}' to override"),
        ));
    }
    let fits = overridden != "unit" || entry.schema_unit_type == sibling.unit_type;
    let wanted = sibling.unit_type.unwrap_or("the unit type");
    (!fits).then(|| ("siblingPropertyMismatch", format!("the schema must be {wanted}, as in '{name}'")))
}

fn added_by(types: &[Supplemental]) -> HashSet<&'static str> {
    types.iter().flat_map(|found| found.row.members.iter()).map(|added| added.term).collect()
}

/// The last part of an identifier of an added member.
fn added_term(word: &str) -> &str {
    if !word.starts_with("dtmi:") {
        return word;
    }
    let path = word.split(';').next().unwrap_or(word);
    path.rsplit(':').next().unwrap_or(path)
}

fn outline_of_model(model: &Model) -> Outline {
    Outline {
        element: None,
        language_version: model.language_version,
        extends: model.extends.clone(),
        contents: model
            .contents
            .iter()
            .map(|content| entry_of_content(content, model.language_version))
            .collect(),
    }
}

fn entry_of_content(content: &Content, version: u8) -> Entry {
    let types = &content.about().supplemental;
    let annotation = content.annotation();
    Entry {
        element: None,
        name: content.name().to_owned(),
        class: match content {
            Content::Property(_) => Class::Property,
            Content::Telemetry(_) => Class::Telemetry,
            Content::Relationship(_) => Class::Relationship,
            Content::Component(_) => Class::Component,
            Content::Command(_) => Class::Command,
        },
        component: match content {
            Content::Component(component) => Some(component.schema.clone()),
            _ => None,
        },
        annotates: annotation.map(|annotation| annotation.annotates.clone()),
        overrides: annotation
            .and_then(|annotation| annotation.overrides.as_deref())
            .map(|word| added_term(word).to_owned()),
        is_annotation: types.iter().any(|found| found.term == "ValueAnnotation"),
        added: added_by(types),
        unit_type: unit_type_of(types),
        schema_unit_type: content.schema().and_then(|schema| enumerated_unit_type(schema, version)),
    }
}

/// A known model keeps the values of a unit enumeration but not its name.
fn enumerated_unit_type(schema: &Schema, version: u8) -> Option<&'static str> {
    let Schema::Enum(enumeration) = schema else { return None };
    let units: Vec<&str> = enumeration.values.iter().map(|value| value.name.as_str()).collect();
    vocabulary::unit_types()
        .find(|unit_type| vocabulary::units_in(unit_type, version).eq(units.iter().copied()))
}

/// How many contents, fields, values and schemas an interface has, with all it inherits and composes.
pub(crate) struct Weights<'a> {
    pub(crate) known: &'a Known<'a>,
    own: RefCell<HashMap<Dtmi, u64>>,
    /// With what it extends, without its components.
    lines: RefCell<HashMap<Dtmi, u64>>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(known: &'a Known<'a>) -> Self {
        Self { known, own: RefCell::default(), lines: RefCell::default() }
    }

    /// Components do not nest, so this is two levels deep.
    pub(crate) fn of(&self, id: &Dtmi) -> u64 {
        let ancestors = crate::resolved::ancestors(id, self.known);
        let components =
            ancestors.iter().flat_map(|model| &model.contents).filter_map(|content| match content {
                Content::Component(component) => Some(&component.schema),
                _ => None,
            });
        components.map(|schema| self.line(schema)).fold(self.line(id), u64::saturating_add)
    }

    fn line(&self, id: &Dtmi) -> u64 {
        if let Some(found) = self.lines.borrow().get(id) {
            return *found;
        }
        let ancestors = crate::resolved::ancestors(id, self.known);
        let found = ancestors.iter().map(|model| self.own(model)).fold(0, u64::saturating_add);
        self.lines.borrow_mut().insert(id.clone(), found);
        found
    }

    fn own(&self, model: &Arc<Model>) -> u64 {
        if let Some(found) = self.own.borrow().get(&model.id) {
            return *found;
        }
        let found = crate::model::weight(model);
        self.own.borrow_mut().insert(model.id.clone(), found);
        found
    }
}
