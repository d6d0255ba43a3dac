//! Elements of a document, read one by one into a flat list with links between them.
//! Reports what can be said of an element alone; what takes others is in `rules`, and references stay names until `link`.

use std::collections::{HashMap, HashSet};

use base::caps;
use serde_json::Value;

use crate::{
    Dtmi, LanguageMap, Options, context,
    document::{Kind, Node, Place, repeated_names, values},
    dtmi,
    issue::Issues,
    literal::Reading,
    types::{Slot, Types, Word},
    vocabulary::{
        Context, Meaning, RESERVED_PREFIXES, Standard, StandardElement,
        classes::{Class, Link, LinkRule, Member, language, members},
        extensions::{Added, AddedKind, Supplemental},
        is_keyword,
    },
};

pub(crate) type Id = usize;

/// One element and what it holds.
#[derive(Debug)]
pub(crate) struct Element<'n> {
    pub(crate) place: Place<'n>,
    pub(crate) context: Context,
    pub(crate) class: Class,
    /// The interface it is in; itself, if it is one.
    pub(crate) interface: Id,
    pub(crate) id: Option<Dtmi>,
    pub(crate) name: Option<String>,
    pub(crate) display_name: LanguageMap,
    pub(crate) description: LanguageMap,
    pub(crate) comment: Option<String>,
    pub(crate) writable: bool,
    pub(crate) min_multiplicity: Option<i64>,
    pub(crate) max_multiplicity: Option<i64>,
    pub(crate) target: Option<Dtmi>,
    pub(crate) enum_value: Option<Value>,
    pub(crate) types: Vec<Supplemental>,
    pub(crate) undefined_types: Vec<String>,
    pub(crate) unit: Option<&'static str>,
    pub(crate) annotates: Option<String>,
    pub(crate) overrides: Option<String>,
    pub(crate) index: Option<i64>,
    pub(crate) links: Vec<Linked<'n>>,
    pub(crate) bytes: usize,
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Linked<'n> {
    pub(crate) link: Link,
    pub(crate) place: Place<'n>,
    pub(crate) to: To,
}

#[derive(Clone, Debug)]
pub(crate) enum To {
    Element(Id),
    Standard(Standard),
    /// Not looked up yet, or an interface that is known already.
    Name(Dtmi),
    /// Said to be wrong already.
    Nothing,
}

impl Element<'_> {
    pub(crate) fn has_type(&self, term: &str) -> bool {
        self.types.iter().any(|found| found.term == term)
    }

    pub(crate) fn linked(&self, link: Link) -> impl Iterator<Item = &Linked<'_>> {
        self.links.iter().filter(move |linked| linked.link == link)
    }
}

/// Reads documents into elements.
pub(crate) struct Reader<'n, 'o> {
    pub(crate) options: &'o Options,
    pub(crate) issues: Issues,
    pub(crate) elements: Vec<Element<'n>>,
    pub(crate) ids: HashMap<Dtmi, Id>,
    /// Top-level interfaces in order.
    pub(crate) roots: Vec<Id>,
}

impl<'n, 'o> Reader<'n, 'o> {
    pub(crate) fn new(options: &'o Options) -> Self {
        Self {
            options,
            issues: Issues::default(),
            elements: Vec::new(),
            ids: HashMap::new(),
            roots: Vec::new(),
        }
    }

    /// A whole document: an interface or an array of them.
    pub(crate) fn document(&mut self, node: &'n Node<'n>, place: &Place<'n>) {
        match &node.kind {
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.top_level(item, &place.index(index, item));
                }
            }
            _ => self.top_level(node, place),
        }
    }

    fn top_level(&mut self, node: &'n Node<'n>, place: &Place<'n>) {
        let Some(members) = node.members() else {
            return self.issues.add(place, "notJsonObject", "a model is a JSON object");
        };
        repeated_names(node, place, &mut self.issues);
        let outer = self.issues.enter(node.member("@id").and_then(Node::text).and_then(|id| id.parse().ok()));
        let context = context::top_level(node, place, self.options, &mut self.issues);
        if let Some(context) = context {
            for member in members {
                let place = place.name(&member.name, &member.value);
                match &*member.name {
                    "@context" | "@id" | "@type" => {}
                    "@graph" => self.issues.add(&place, "topLevelGraphDisallowed", "'@graph' is not allowed"),
                    name if is_keyword(name) && !language(context.version).tolerant => {
                        self.issues.add(
                            &place,
                            "topLevelKeywordDisallowed",
                            format!("'{name}' is not allowed"),
                        );
                    }
                    _ => {}
                }
            }
            self.top_level_interface(node, place, context);
        }
        self.issues.enter(outer);
    }

    fn top_level_interface(&mut self, node: &'n Node<'n>, place: &Place<'n>, context: Context) {
        if node.member("@graph").is_some() {
            return;
        }
        let types = node.member("@type");
        let is_interface =
            |node: &Node| node.text().is_some_and(|word| context.class(word) == Some(Class::Interface));
        if !types.is_some_and(|types| values(types, place).iter().any(|(node, _)| is_interface(node))) {
            return self.issues.add(
                place,
                "typeNotRootable",
                "a top-level element must have '@type' Interface",
            );
        }
        if node.member("@id").is_none() {
            self.issues.add(place, "missingTopLevelId", "the interface has no '@id'; give it a DTMI");
        }
        let rule = LinkRule { id_required: false, ..Link::Extends.rule(context.version) };
        let found = self.element(node, place, context, &Slot { rule, outer: None });
        self.roots.extend(found);
    }

    /// Reads an element, or tells why it is none.
    fn element(
        &mut self,
        node: &'n Node<'n>,
        place: &Place<'n>,
        context: Context,
        slot: &Slot,
    ) -> Option<Id> {
        let types = Types::read(node, place, context, slot, &mut self.issues);
        self.keywords(node, place, context, slot);
        let id = self.identifier(node, place, context, slot, types.class);
        let class = types.class?;
        let position = self.elements.len();
        let interface = slot
            .outer
            .filter(|_| class != Class::Interface)
            .map_or(position, |outer| self.elements[outer].interface);
        if let Some(id) = &id
            && self.ids.insert(id.clone(), position).is_some()
        {
            self.issues.add(place, "duplicateDefinition", format!("'{id}' is defined more than once"));
        }
        let outer = (class == Class::Interface).then(|| self.issues.enter(id.clone()));
        self.elements.push(Element {
            place: place.clone(),
            context,
            class,
            interface,
            id,
            name: None,
            display_name: LanguageMap::new(),
            description: LanguageMap::new(),
            comment: None,
            writable: false,
            min_multiplicity: None,
            max_multiplicity: None,
            target: None,
            enum_value: None,
            types: types.supplemental,
            undefined_types: types.undefined,
            unit: None,
            annotates: None,
            overrides: None,
            index: None,
            links: Vec::new(),
            bytes: node.bytes,
        });
        self.members(position, node, place, types.inferred);
        // Hundreds of thousands of elements have one link each.
        self.elements[position].links.shrink_to_fit();
        if let Some(outer) = outer {
            self.issues.enter(outer);
        }
        Some(position)
    }

    fn keywords(&mut self, node: &'n Node<'n>, place: &Place<'n>, context: Context, slot: &Slot) {
        if slot.outer.is_none() {
            return;
        }
        for member in node.members().unwrap_or_default() {
            let place = place.name(&member.name, &member.value);
            match &*member.name {
                "@context" | "@id" | "@type" => {}
                "@graph" => self.issues.add(&place, "graphDisallowed", "'@graph' is not allowed"),
                name if is_keyword(name) && !language(context.version).tolerant => {
                    self.issues.add(&place, "keywordDisallowed", format!("'{name}' is not allowed"));
                }
                _ => {}
            }
        }
    }

    fn identifier(
        &mut self,
        node: &'n Node<'n>,
        place: &Place<'n>,
        context: Context,
        slot: &Slot,
        class: Option<Class>,
    ) -> Option<Dtmi> {
        let Some(value) = node.member("@id") else {
            if slot.rule.id_required {
                self.issues.add(place, "missingRequiredId", "the element needs an '@id' here");
            }
            return None;
        };
        let place = place.name("@id", value);
        let Some(text) = value.text().filter(|text| !text.is_empty()) else {
            self.issues.add(&place, "idNotString", "'@id' must be a string that is not empty");
            return None;
        };
        if !dtmi::has_dtmi_shape(text) {
            self.issues.add(&place, "invalidId", format!("'{text}' is not a DTMI"));
            return None;
        }
        let Ok(id) = text.parse::<Dtmi>() else {
            self.issues.add(
                &place,
                "idTooLong",
                format!("the identifier is longer than {} characters", caps::MODEL_ID_CHARACTERS_MAX),
            );
            return None;
        };
        if !id.allowed_in(context.version) {
            self.issues.add(
                &place,
                "invalidId",
                format!("DTDL {} wants a version like ';1'", context.version),
            );
        }
        let reserved_by_extension =
            context.has(crate::vocabulary::extensions::CENTRAL) && text.starts_with("dtmi:iotcentral:");
        if RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) || reserved_by_extension {
            self.issues.add(&place, "reservedId", format!("'{text}' has a reserved prefix"));
        }
        let max = language(context.version).interface_id_characters_max;
        if class == Some(Class::Interface) && text.len() > max {
            self.issues.add(
                &place,
                "idTooLongForType",
                format!("an interface's identifier has at most {max} characters"),
            );
        }
        Some(id)
    }

    fn members(&mut self, id: Id, node: &'n Node<'n>, place: &Place<'n>, inferred: bool) {
        let (class, context) = (self.elements[id].class, self.elements[id].context);
        let rules = members(class, context.version);
        let mut seen: Vec<&str> = Vec::new();
        let mut spelled: HashSet<&str> = HashSet::new();
        for member in node.members().unwrap_or_default() {
            // One spelled the same again has been told already.
            if is_keyword(&member.name) || !spelled.insert(&member.name) {
                continue;
            }
            let place = place.name(&member.name, &member.value);
            let term = context.member_term(&member.name);
            let rule = rules.iter().find(|(name, ..)| *name == term).copied();
            let added = self.added(id, &member.name);
            let (name, required) = match (rule, added) {
                (Some((name, _, required)), _) => (name, required),
                (None, Some((_, added))) => (added.term, added.required),
                (None, None) => {
                    self.unknown(id, &member.name, &place, inferred);
                    continue;
                }
            };
            if seen.contains(&name) {
                self.issues.add(&place, "duplicatePropertyName", format!("'{name}' is given twice"));
                continue;
            }
            seen.push(name);
            match (rule, added) {
                (Some((_, rule, _)), _) => self.member(id, rule, required, &member.value, place),
                (None, Some((by, added))) => self.added_member(id, by, added, &member.value, &place),
                (None, None) => {}
            }
        }
        self.missing(id, place, &rules, &seen);
    }

    fn missing(&mut self, id: Id, place: &Place<'n>, rules: &[(&'static str, Member, bool)], seen: &[&str]) {
        for (name, member, required) in rules {
            if *required && !seen.contains(name) {
                let rule = if matches!(member, Member::Link(_)) {
                    "missingObjectProperty"
                } else {
                    "missingLiteralProperty"
                };
                self.issues.add(place, rule, format!("'{name}' is missing"));
            }
        }
        let missing: Vec<_> = self.elements[id]
            .types
            .iter()
            .flat_map(|found| found.row.members.iter().map(move |added| (found.term, added)))
            .filter(|(_, added)| added.required && !seen.contains(&added.term))
            .collect();
        for (by, added) in missing {
            let is_object = matches!(added.kind, AddedKind::Unit | AddedKind::UnitOf(_));
            let rule = if is_object {
                "missingSupplementalObjectProperty"
            } else {
                "missingSupplementalLiteralProperty"
            };
            self.issues.add(place, rule, format!("'{}' is missing, which the type {by} needs", added.term));
        }
    }

    /// The member that one of the element's types adds.
    fn added(&self, id: Id, word: &str) -> Option<(Supplemental, &'static Added)> {
        self.elements[id].types.iter().find_map(|found| Some((*found, found.member(word)?)))
    }

    fn unknown(&mut self, id: Id, name: &str, place: &Place<'n>, inferred: bool) {
        let context = self.elements[id].context;
        let tolerant = language(context.version).tolerant;
        let word = Word::of(name, context);
        let has_undefined_type = !self.elements[id].undefined_types.is_empty();
        if has_undefined_type && (tolerant || word.is_tenable() && context.open) {
            return;
        }
        if has_undefined_type {
            let rule = word.rules().1;
            self.issues.add(place, rule, format!("'{name}' is not known to DTDL {} here", context.version));
        } else {
            let rule = if inferred { "inferredTypeDoesNotAllow" } else { "noTypeThatAllows" };
            let class = self.elements[id].class.name();
            self.issues.add(place, rule, format!("'{name}' is no member of {class}"));
        }
    }

    fn member(&mut self, id: Id, member: Member, required: bool, node: &'n Node<'n>, place: Place<'n>) {
        let version = self.elements[id].context.version;
        let limits = language(version);
        if matches!(node.kind, Kind::Null) {
            self.issues.add(&place, "propertyValueNull", "null is no value");
            return;
        }
        if let Member::Link(link) = member {
            return self.link(id, link, required, node, &place);
        }
        let reading = Reading { node, place, version, required, issues: &mut self.issues };
        let element = &mut self.elements[id];
        match member {
            Member::Comment => element.comment = reading.comment(),
            Member::Description => element.description = reading.language_map(limits.text_characters_max),
            Member::DisplayName => {
                element.display_name = reading.language_map(limits.display_name_characters_max);
            }
            Member::Name => element.name = reading.name(),
            Member::EnumValue => element.enum_value = reading.enum_value(),
            Member::Writable => element.writable = reading.boolean().unwrap_or_default(),
            Member::MinMultiplicity => element.min_multiplicity = reading.min_multiplicity(),
            Member::MaxMultiplicity => element.max_multiplicity = reading.max_multiplicity(),
            Member::Target => element.target = reading.identifier(),
            Member::Link(_) => {}
        }
    }

    fn link(&mut self, id: Id, link: Link, required: bool, node: &'n Node<'n>, place: &Place<'n>) {
        let context = self.elements[id].context;
        let rule = link.rule(context.version);
        let found = values(node, place);
        if !rule.plural && found.len() > 1 {
            self.issues.add(place, "objectMultipleValues", "only one value is allowed");
        }
        if required && found.is_empty() {
            self.issues.add(place, "objectCountBelowMin", "a value is required");
        }
        for (node, place) in found {
            let to = match &node.kind {
                Kind::Text(text) => self.reference(context, link, text, &place),
                Kind::Members(_) => self.inline(id, link, rule, node, &place),
                _ => {
                    self.issues.add(&place, "refNotStringOrObject", "an object or a reference is expected");
                    To::Nothing
                }
            };
            self.elements[id].links.push(Linked { link, place, to });
        }
    }

    fn inline(&mut self, outer: Id, link: Link, rule: LinkRule, node: &'n Node<'n>, place: &Place<'n>) -> To {
        let around = self.elements[outer].context;
        repeated_names(node, place, &mut self.issues);
        if matches!(node.members(), Some([only]) if only.name == "@id") {
            self.issues.add(place, "idReference", "a reference is a plain string, not an object with '@id'");
            return To::Nothing;
        }
        if rule.classes.is_empty() {
            self.issues.add(
                place,
                "incorrectPropertyValue",
                format!("one of {} is expected", allowed_terms(link)),
            );
            return To::Nothing;
        }
        if !self.options.inline_interfaces && rule.classes == [Class::Interface] {
            self.issues.add(
                place,
                "inlineInterface",
                "an interface must be referred to by its identifier here",
            );
        }
        let context = context::nested(node, place, around, self.options, &mut self.issues);
        if !accepts_version(rule, around.version, context.version) {
            let message =
                format!("DTDL {} is not allowed in this member of DTDL {}", context.version, around.version);
            self.issues.add(place, "disallowedVersionDefinition", message);
        }
        self.element(node, place, context, &Slot { rule, outer: Some(outer) })
            .map_or(To::Nothing, To::Element)
    }

    fn reference(&mut self, context: Context, link: Link, text: &str, place: &Place<'n>) -> To {
        match context.meaning(text) {
            Meaning::Standard(standard) => self.standard(context, link, text, standard, place),
            Meaning::NoElement => {
                self.issues.add(place, "undefinedReservedId", format!("'{text}' names no element"));
                To::Nothing
            }
            Meaning::Author => match text.parse::<Dtmi>() {
                Ok(id) if id.allowed_in(context.version) => {
                    if link.rule(context.version).classes.is_empty() {
                        let message = format!("'{text}' is not one of {}", allowed_terms(link));
                        self.issues.add(place, "incorrectPropertyValue", message);
                        return To::Nothing;
                    }
                    To::Name(id)
                }
                _ => {
                    let message =
                        format!("'{text}' is neither a DTMI nor a term of DTDL {}", context.version);
                    self.issues.add(place, "badDtmiOrTerm", message);
                    To::Nothing
                }
            },
        }
    }

    fn standard(
        &mut self,
        context: Context,
        link: Link,
        text: &str,
        standard: Standard,
        place: &Place<'n>,
    ) -> To {
        use StandardElement as S;
        let fits = match (link, standard.is) {
            (Link::Schema | Link::ElementSchema, S::Primitive(_))
            | (
                Link::Schema | Link::ElementSchema | Link::Schemas,
                S::Geometry(_) | S::Numbers(_) | S::UnitType(_),
            )
            | (Link::CommandType, S::CommandType) => true,
            (Link::KeySchema, S::Primitive(primitive)) => primitive == crate::vocabulary::Primitive::String,
            (Link::ValueSchema, S::Primitive(primitive)) => {
                matches!(
                    primitive,
                    crate::vocabulary::Primitive::Integer | crate::vocabulary::Primitive::String
                )
            }
            _ => false,
        };
        if !fits {
            let message = format!("'{text}' may not be here; {} may", allowed_terms(link));
            self.issues.add(place, "badType", message);
            return To::Nothing;
        }
        let rule = LinkRule {
            earlier: link.rule(context.version).earlier || link == Link::Schemas,
            ..link.rule(context.version)
        };
        if !accepts_version(rule, context.version, standard.version) {
            let message = format!("'{text}' is of DTDL {}, which is not allowed here", standard.version);
            self.issues.add(place, "disallowedVersionReference", message);
            return To::Nothing;
        }
        To::Standard(standard)
    }
}

pub(crate) fn accepts_version(rule: LinkRule, around: u8, inside: u8) -> bool {
    inside == around || rule.earlier && inside < around
}

fn allowed_terms(link: Link) -> &'static str {
    match link {
        Link::KeySchema => "'string'",
        Link::ValueSchema => "'integer' and 'string'",
        Link::CommandType => "'asynchronous' and 'synchronous'",
        Link::Contents => "commands, components, properties, relationships and telemetry",
        Link::Extends | Link::ComponentSchema => "interfaces",
        Link::Schemas => "arrays, enumerations, maps and objects",
        Link::Schema | Link::ElementSchema => "schemas",
        Link::Request | Link::Response => "payloads",
        Link::Properties => "properties",
        Link::EnumValues => "enumeration values",
        Link::Fields => "fields",
        Link::MapKey | Link::MapValue => "map keys and values",
    }
}
