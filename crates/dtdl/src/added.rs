//! Members that types beside the class add to an element: units, annotations, topics.
//! Called by the element reader once it knows which type adds the member.

use crate::{
    document::{Node, Place, values},
    element::{Id, Reader},
    literal::{self, Reading},
    vocabulary::{
        Context, Meaning, Standard, StandardElement,
        extensions::{Added, AddedKind, Supplemental},
        is_unit_of, units_in,
    },
};

impl<'n> Reader<'n, '_> {
    pub(crate) fn added_member(
        &mut self,
        id: Id,
        by: Supplemental,
        added: &Added,
        node: &'n Node<'n>,
        place: &Place<'n>,
    ) {
        let context = self.elements[id].context;
        let unit_type = match added.kind {
            AddedKind::Unit => by.unit_type,
            AddedKind::UnitOf(unit_type) => Some(unit_type),
            _ => None,
        };
        if let Some(unit_type) = unit_type {
            self.elements[id].unit = self.unit(context, unit_type, node, place);
            return;
        }
        let version = context.version;
        let mut reading = Reading {
            node,
            place: place.clone(),
            version,
            required: added.required,
            issues: &mut self.issues,
        };
        if added.kind == AddedKind::Index {
            let index = reading.integer();
            if index.is_some_and(|index| index < 1) {
                self.issues.add(place, "valueBelowMin", "the value must be at least 1");
            }
            self.elements[id].index = index;
            return;
        }
        let Some(text) = reading.text(usize::MAX) else { return };
        let element = &mut self.elements[id];
        match added.kind {
            AddedKind::Annotates => element.annotates = Some(text),
            AddedKind::Overrides => element.overrides = Some(text),
            AddedKind::Duration if !crate::schema::is_duration(&text) => {
                self.issues.add(place, "durationInvalid", format!("'{text}' is not an ISO 8601 duration"));
            }
            AddedKind::Topic
                if !text
                    .split('/')
                    .enumerate()
                    .all(|(level, text)| literal::is_topic_part(text, level == 0)) =>
            {
                self.issues.add(place, "stringInvalid", format!("'{text}' is not a topic pattern"));
            }
            AddedKind::TopicLevel if !literal::is_topic_label(&text) => {
                self.issues.add(place, "stringInvalid", format!("'{text}' is not one level of a topic"));
            }
            _ => {}
        }
    }

    fn unit(
        &mut self,
        context: Context,
        unit_type: &'static str,
        node: &'n Node<'n>,
        place: &Place<'n>,
    ) -> Option<&'static str> {
        let found = values(node, place);
        if found.is_empty() {
            self.issues.add(place, "objectCountBelowMin", "a unit is required");
        }
        if found.len() > 1 {
            self.issues.add(place, "objectMultipleValues", "only one unit is allowed");
        }
        let mut read = None;
        for (node, place) in found {
            let Some(text) = node.text() else {
                self.issues.add(&place, "refObjectNotAllowed", "a string that names a unit is expected");
                continue;
            };
            match context.meaning(text) {
                Meaning::Standard(Standard { version, is: StandardElement::Unit(unit) })
                    if version == context.version && is_unit_of(unit, unit_type, context.version) =>
                {
                    read = read.or(Some(unit));
                }
                Meaning::Standard(_) | Meaning::NoElement => {
                    let units: Vec<_> = units_in(unit_type, context.version).collect();
                    let message = format!("'{text}' is no {unit_type}; these are: {}", units.join(", "));
                    self.issues.add(&place, "wrongParent", message);
                }
                Meaning::Author => {
                    self.issues.add(&place, "badDtmiOrTerm", format!("'{text}' names no unit"));
                }
            }
        }
        read
    }
}
