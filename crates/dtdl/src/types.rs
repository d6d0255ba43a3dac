//! `@type`: the class of an element and the types beside it, and what becomes of words that nobody defines.
//! Called by the element reader for every element.

use crate::{
    Dtmi,
    document::{Node, Place, values},
    element::Id,
    issue::Issues,
    vocabulary::{
        Context,
        classes::{Class, LinkRule, language},
        extensions::Supplemental,
    },
};

/// What an element is read as.
pub(crate) struct Slot {
    pub(crate) rule: LinkRule,
    pub(crate) outer: Option<Id>,
}

/// A word that is neither a class nor a member, as the rules of unknown words sort it.
pub(crate) enum Word {
    InvalidDtmi,
    NotDtmiNorTerm,
    Irrelevant,
    Undefined,
}

impl Word {
    pub(crate) fn of(word: &str, context: Context) -> Self {
        if word.starts_with("dtmi:") {
            let valid = word.parse::<Dtmi>().is_ok_and(|id| id.allowed_in(context.version));
            if valid { Self::Irrelevant } else { Self::InvalidDtmi }
        } else if context.is_term(word) {
            Self::Irrelevant
        } else if word.contains(':') {
            Self::NotDtmiNorTerm
        } else {
            Self::Undefined
        }
    }

    /// Whether an unknown extension could define it.
    pub(crate) fn is_tenable(&self) -> bool {
        matches!(self, Self::Irrelevant | Self::Undefined)
    }

    /// As a type, as a member.
    pub(crate) fn rules(&self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidDtmi => ("typeInvalidDtmi", "propertyInvalidDtmi"),
            Self::NotDtmiNorTerm => ("typeNotDtmiNorTerm", "propertyNotDtmiNorTerm"),
            Self::Irrelevant => ("typeIrrelevantDtmiOrTerm", "propertyIrrelevantDtmiOrTerm"),
            Self::Undefined => ("typeUndefinedTerm", "propertyUndefinedTerm"),
        }
    }
}

/// What `@type` says.
pub(crate) struct Types {
    pub(crate) class: Option<Class>,
    pub(crate) inferred: bool,
    pub(crate) supplemental: Vec<Supplemental>,
    pub(crate) undefined: Vec<String>,
}

impl Types {
    pub(crate) fn read<'n>(
        node: &'n Node<'n>,
        place: &Place<'n>,
        context: Context,
        slot: &Slot,
        issues: &mut Issues,
    ) -> Self {
        let mut types =
            Self { class: None, inferred: false, supplemental: Vec::new(), undefined: Vec::new() };
        let Some(declared) = node.member("@type") else {
            if slot.rule.type_optional {
                types.inferred = true;
                types.class = slot.rule.classes.first().copied();
            } else {
                issues.add(place, "badType", format!("'@type' is missing: {}", names(slot.rule.classes)));
            }
            return types;
        };
        let place = place.name("@type", declared);
        let mut classes: Vec<Class> = Vec::new();
        let mut other_class = false;
        for (value, place) in values(declared, &place) {
            let Some(word) = value.text() else {
                issues.add(&place, "typeNotString", "a type is a string");
                continue;
            };
            if let Some(class) = context.class(word) {
                if !classes.contains(&class) {
                    classes.push(class);
                }
            } else if context.is_other_class(word) {
                other_class = true;
            } else if let Some(found) = context.supplemental(word) {
                if !types.supplemental.contains(&found) {
                    types.supplemental.push(found);
                }
            } else {
                types.unknown(word, &place, context, issues);
            }
        }
        match classes[..] {
            [class] if slot.rule.classes.contains(&class) && !other_class => types.class = Some(class),
            [_, _, ..] => issues.add(&place, "multipleMaterialTypes", "'@type' names more than one class"),
            _ => issues.add(
                &place,
                "badType",
                format!("'@type' must include one of: {}", names(slot.rule.classes)),
            ),
        }
        if let Some(class) = types.class {
            types.fit(class, context, &place, issues);
        }
        types
    }

    fn unknown(&mut self, word: &str, place: &Place, context: Context, issues: &mut Issues) {
        let tolerant = language(context.version).tolerant;
        let kind = Word::of(word, context);
        let allowed = match kind {
            Word::InvalidDtmi => false,
            Word::NotDtmiNorTerm => tolerant,
            Word::Irrelevant => context.open,
            Word::Undefined => tolerant || context.open,
        };
        if !allowed {
            issues.add(
                place,
                kind.rules().0,
                format!("'{word}' is no type of DTDL {} here", context.version),
            );
        }
        self.undefined.push(word.to_owned());
    }

    /// Drops the types that may not stand beside the class, having told so.
    fn fit(&mut self, class: Class, context: Context, place: &Place, issues: &mut Issues) {
        let all = std::mem::take(&mut self.supplemental);
        for found in all {
            let mut fits = true;
            if found.row.is_abstract {
                fits = false;
                issues.add(place, "abstractSupplementalType", format!("{} is abstract", found.term));
            }
            if !found.row.beside.contains(&class) {
                fits = false;
                let message = format!("{} may only stand beside: {}", found.term, names(found.row.beside));
                issues.add(place, "invalidCotype", message);
            }
            if !found.row.versions.contains(&context.version) {
                fits = false;
                let message = format!("{} is not for elements of DTDL {}", found.term, context.version);
                issues.add(place, "invalidCotypeVersion", message);
            }
            if fits {
                self.supplemental.push(found);
            }
        }
        self.conflicts(place, issues);
    }

    fn conflicts(&mut self, place: &Place, issues: &mut Issues) {
        for (position, one) in self.supplemental.iter().enumerate() {
            for other in &self.supplemental[position + 1..] {
                let shared = one
                    .row
                    .members
                    .iter()
                    .find(|member| other.row.members.iter().any(|added| added.term == member.term));
                if let Some(member) = shared {
                    let message = format!("{} and {} both add '{}'", one.term, other.term, member.term);
                    issues.add(place, "conflictingSupplementalTypes", message);
                }
            }
        }
    }
}

fn names(classes: &[Class]) -> String {
    classes.iter().map(|class| class.name()).collect::<Vec<_>>().join(", ")
}
