//! Rules between interfaces: chains of `extends`, inherited names, components in components, annotations of inherited contents.
//! Runs over outlines, which are the same for interfaces of this call and for those already known.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use crate::{
    Content, Dtmi, Model,
    element::{Id, Reader, To},
    resolved::Known,
    rules::{adds_member, unit_type_of},
    vocabulary::{
        self, Standard, StandardElement,
        classes::{Class, Language, Link, language, members},
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
    added: HashSet<String>,
    unit_type: Option<&'static str>,
}

type Outlines<'a> = RefCell<HashMap<Dtmi, Option<Rc<Outline>>>>;

/// Outlines of this call and, when asked for, of what is known.
struct Family<'a> {
    outlines: Outlines<'a>,
    known: &'a Known<'a>,
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
        let family = Family { outlines: RefCell::new(outlines), known };
        for id in interfaces {
            let Some(dtmi) = self.elements[id].id.clone() else { continue };
            let Some(outline) = family.get(&dtmi).filter(|outline| outline.element == Some(id)) else {
                continue;
            };
            let outer = self.issues.enter(Some(dtmi.clone()));
            let limits = language(outline.language_version);
            let ancestors = family.ancestors(&dtmi);
            self.extends(id, &dtmi, &family, limits, ancestors.len() - 1);
            self.inherited_names(id, &ancestors, limits);
            self.nested_components(&outline, &family);
            self.annotations(&outline, &ancestors);
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
            added: element
                .types
                .iter()
                .flat_map(|found| found.row.members.iter())
                .filter(|added| adds_member(element, added.term))
                .map(|added| added.term.to_owned())
                .collect(),
            unit_type: unit_type_of(element),
        })
    }

    fn extends(&mut self, id: Id, dtmi: &Dtmi, family: &Family, limits: &Language, closure: usize) {
        let place = self.elements[id].place.clone();
        // Level by level: what is left after as many steps as are allowed is too far away, or a cycle.
        let mut level: HashSet<Dtmi> = HashSet::from([dtmi.clone()]);
        for _ in 0..=limits.extends_depth_max {
            level = level
                .iter()
                .filter_map(|id| family.get(id))
                .flat_map(|outline| outline.extends.clone())
                .collect();
            if level.contains(dtmi) {
                return self.issues.add(&place, "recursiveStructureNarrow", "the interface extends itself");
            }
        }
        if !level.is_empty() {
            let max = limits.extends_depth_max;
            self.issues.add(
                &place,
                "excessiveDepthNarrow",
                format!("the chain of 'extends' is longer than {max}"),
            );
        }
        if let Some(max) = limits.extends_closure_max.filter(|max| closure > *max) {
            self.issues.add(
                &place,
                "excessiveCount",
                format!("{closure} interfaces are extended; {max} are allowed"),
            );
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
            let inside = family.ancestors(component);
            let nested = inside
                .iter()
                .flat_map(|(_, outline)| &outline.contents)
                .find(|inner| inner.class == Class::Component);
            if let Some(nested) = nested {
                let place = self.elements[element].place.clone();
                let message =
                    format!("{component} has the component '{}'; a component may not have one", nested.name);
                self.issues.add(&place, "excludedType", message);
            }
        }
    }

    /// What a content annotates must be a property or telemetry beside it and no annotation itself.
    fn annotations(&mut self, outline: &Outline, ancestors: &[(Dtmi, Rc<Outline>)]) {
        let all = || ancestors.iter().flat_map(|(_, outline)| &outline.contents);
        for entry in &outline.contents {
            let (Some(name), Some(element)) = (&entry.annotates, entry.element) else { continue };
            if let Some(sibling) = all().find(|sibling| sibling.name == *name) {
                self.annotation(element, entry, sibling);
            }
            let same =
                |other: &&Entry| other.annotates == entry.annotates && other.overrides == entry.overrides;
            if entry.overrides.is_some() && all().filter(same).count() > 1 {
                let place = self.elements[element].place.clone();
                let message = format!("'{name}' is overridden twice in the same member");
                self.issues.add(&place, "multipleReference", message);
            }
        }
    }

    fn annotation(&mut self, element: Id, entry: &Entry, sibling: &Entry) {
        let place = self.elements[element].place.clone();
        let name = &sibling.name;
        if !matches!(sibling.class, Class::Property | Class::Telemetry) {
            let message = format!("'{name}' is neither a property nor telemetry");
            return self.issues.add(&place, "notSiblingRequiredType", message);
        }
        if sibling.is_annotation && entry.overrides.is_none() {
            return self.issues.add(&place, "disallowedType", format!("'{name}' is an annotation itself"));
        }
        let Some(overridden) = &entry.overrides else { return };
        let version = self.elements[element].context.version;
        if members(sibling.class, version).iter().any(|(term, ..)| term == overridden) {
            let message = format!("'{overridden}' of '{name}' is no member that an extension adds");
            return self.issues.add(&place, "matchingPropertyNotSupplemental", message);
        }
        if !sibling.added.contains(overridden) {
            let message = format!("'{name}' has no member '{overridden}' to override");
            return self.issues.add(&place, "noMatchingSupplementalProperty", message);
        }
        let own_unit_type = self.elements[element].linked(Link::Schema).find_map(|linked| match linked.to {
            To::Standard(Standard { is: StandardElement::UnitType(unit_type), .. }) => Some(unit_type),
            _ => None,
        });
        if overridden == "unit" && own_unit_type != sibling.unit_type {
            let wanted = sibling.unit_type.unwrap_or("the unit type");
            self.issues.add(
                &place,
                "siblingPropertyMismatch",
                format!("the schema must be {wanted}, as in '{name}'"),
            );
        }
    }
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
    let types = &content.about().types;
    let unit_type = types.iter().find_map(|found| vocabulary::unit_type_for(found, version));
    let annotation = content.annotation();
    let mut added: HashSet<String> = HashSet::new();
    if unit_type.is_some() {
        added.insert("unit".to_owned());
    }
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
        overrides: annotation.and_then(|annotation| annotation.overrides.clone()),
        is_annotation: annotation.is_some(),
        added,
        unit_type,
    }
}

/// How many contents, fields, values and schemas an interface has, with all it inherits and composes.
pub(crate) struct Weights<'a> {
    pub(crate) known: &'a Known<'a>,
    own: RefCell<HashMap<Dtmi, u64>>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(known: &'a Known<'a>) -> Self {
        Self { known, own: RefCell::new(HashMap::new()) }
    }

    /// Components do not nest, so this is two levels deep.
    pub(crate) fn of(&self, id: &Dtmi) -> u64 {
        let ancestors = crate::resolved::ancestors(id, self.known);
        let components =
            ancestors.iter().flat_map(|model| &model.contents).filter_map(|content| match content {
                Content::Component(component) => Some(&component.schema),
                _ => None,
            });
        let composed: u64 = components
            .flat_map(|schema| crate::resolved::ancestors(schema, self.known))
            .map(|model| self.own(&model))
            .fold(0, u64::saturating_add);
        ancestors.iter().map(|model| self.own(model)).fold(composed, u64::saturating_add)
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
