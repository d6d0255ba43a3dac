//! Members that hold plain values: text, localisable text, booleans, integers, identifiers, in all their JSON-LD spellings.
//! Called by the element reader. Each function answers the value if it could be read and has told every issue with it.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    Dtmi, LanguageMap,
    document::{Kind, Node, Place, values},
    dtmi,
    issue::Issues,
    vocabulary::{
        classes::{Language, language},
        is_keyword, xsd_type,
    },
};

/// Where a value is and by which rules it is read.
pub(crate) struct Reading<'r, 'n> {
    pub(crate) node: &'n Node<'n>,
    pub(crate) place: Place<'n>,
    pub(crate) version: u8,
    pub(crate) required: bool,
    pub(crate) issues: &'r mut Issues,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Boolean,
    Integer,
}

impl Type {
    fn xsd(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
        }
    }

    /// The rule names: of another JSON type, without `@value`, with another `@type`, repeated, missing.
    fn rules(self) -> [&'static str; 5] {
        match self {
            Self::Text => [
                "stringNotString",
                "stringObjectNoValue",
                "stringTypeNotString",
                "stringMultipleValues",
                "stringCountBelowMin",
            ],
            Self::Boolean => [
                "booleanNotBoolean",
                "booleanObjectNoValue",
                "booleanTypeNotBoolean",
                "booleanMultipleValues",
                "booleanCountBelowMin",
            ],
            Self::Integer => [
                "integerNotInteger",
                "integerObjectNoValue",
                "integerTypeNotInteger",
                "integerMultipleValues",
                "integerCountBelowMin",
            ],
        }
    }

    fn read(self, node: &Node) -> Option<Value> {
        match (self, &node.kind) {
            (Self::Text, Kind::Text(text)) => Some(Value::from(text.as_ref())),
            (Self::Boolean, Kind::Bool(value)) => Some(Value::from(*value)),
            (Self::Integer, Kind::Number(number)) => {
                number.as_i64().filter(|value| i32::try_from(*value).is_ok()).map(Value::from)
            }
            _ => None,
        }
    }
}

impl Reading<'_, '_> {
    fn language(&self) -> &'static Language {
        language(self.version)
    }

    fn tell(&mut self, rule: &'static str, message: impl Into<String>) {
        self.issues.add(&self.place, rule, message);
    }

    /// A name of contents, fields and the like.
    pub(crate) fn name(mut self) -> Option<String> {
        let max = self.language().name_characters_max;
        let text = self.text(max)?;
        if !dtmi::is_name(&text) {
            self.tell(
                "stringInvalid",
                format!("'{text}' is not a name: letters, digits and '_' inside, a letter first"),
            );
        }
        Some(text)
    }

    /// A comment.
    pub(crate) fn comment(mut self) -> Option<String> {
        let max = self.language().text_characters_max;
        self.text(max)
    }

    pub(crate) fn text(&mut self, characters_max: usize) -> Option<String> {
        let value = self.single(Type::Text)?;
        let text = value.as_str()?.to_owned();
        if characters(&text) > characters_max {
            self.tell("stringTooLong", format!("the text is longer than {characters_max} characters"));
        }
        Some(text)
    }

    pub(crate) fn boolean(mut self) -> Option<bool> {
        self.single(Type::Boolean)?.as_bool()
    }

    pub(crate) fn integer(&mut self) -> Option<i64> {
        self.single(Type::Integer)?.as_i64()
    }

    pub(crate) fn min_multiplicity(mut self) -> Option<i64> {
        let value = self.integer()?;
        if value != 0 {
            self.tell("valueNotExact", format!("the value must be 0, not {value}"));
        }
        Some(value)
    }

    pub(crate) fn max_multiplicity(mut self) -> Option<i64> {
        let value = self.integer()?;
        let max = self.language().max_multiplicity_max;
        if value < 1 {
            self.tell("valueBelowMin", format!("the value must be at least 1, not {value}"));
        } else if let Some(max) = max.filter(|max| value > *max) {
            self.tell("valueAboveRange", format!("the value must be at most {max}, not {value}"));
        }
        Some(value)
    }

    /// One value of a type, or none where that is allowed.
    fn single(&mut self, of: Type) -> Option<Value> {
        let [_, _, _, repeated, missing] = of.rules();
        let found = values(self.node, &self.place);
        if found.is_empty() && self.required {
            self.tell(missing, "a value is required");
        }
        if found.len() > 1 {
            self.tell(repeated, "only one value is allowed");
        }
        let mut read = None;
        for (node, place) in found {
            let value = self.scalar(node, &place, of);
            read = read.or(value);
        }
        read
    }

    fn scalar(&mut self, node: &Node, place: &Place, of: Type) -> Option<Value> {
        let [other, no_value, other_type, ..] = of.rules();
        let Some(members) = node.members() else {
            let value = of.read(node);
            if value.is_none() {
                self.issues.add(place, other, format!("a JSON {} is expected", of.xsd()));
            }
            return value;
        };
        self.value_object(node, place);
        if let Some(declared) = node.member("@type") {
            if is_several(declared) {
                self.issues.add(place, "literalTypeNotSingular", "'@type' must be a single type");
            } else if xsd_type(declared) != Some(of.xsd()) {
                self.issues.add(place, other_type, format!("'@type' must be 'xsd:{}'", of.xsd()));
            }
        }
        let Some(value) = members.iter().find(|member| member.name == "@value") else {
            self.issues.add(place, no_value, "a value object needs '@value'");
            return None;
        };
        let value = of.read(&value.value);
        if value.is_none() {
            self.issues.add(place, other, format!("'@value' must be a JSON {}", of.xsd()));
        }
        value
    }

    /// What a value object may hold beside `@value` and `@type`.
    fn value_object(&mut self, node: &Node, place: &Place) {
        let tolerant = self.language().tolerant;
        for member in node.members().unwrap_or_default() {
            let rule = match &*member.name {
                "@value" | "@type" => continue,
                "@context" => "valueObjectContext",
                "@graph" => "valueObjectGraph",
                "@id" => "valueObjectId",
                name if is_keyword(name) && tolerant => continue,
                "@language" => "valueObjectLanguage",
                name if is_keyword(name) => "valueObjectKeyword",
                _ => "valueObjectInvalidProp",
            };
            self.issues.add(place, rule, format!("'{}' may not be in a value object", member.name));
        }
    }

    /// The value of an enumeration: an integer or a string.
    pub(crate) fn enum_value(mut self) -> Option<Value> {
        let found = values(self.node, &self.place);
        if found.is_empty() {
            self.tell("literalCountBelowMin", "a value is required");
        }
        if found.len() > 1 {
            self.tell("literalMultipleValues", "only one value is allowed");
        }
        let mut read = None;
        for (node, place) in found {
            let of = literal_type(node);
            let value = if let Some(of) = of {
                self.scalar(node, &place, of)
            } else {
                self.issues.add(&place, "literalNotValid", "a JSON string or integer is expected");
                None
            };
            read = read.or(value);
        }
        read
    }

    /// An identifier of any element, defined or not.
    pub(crate) fn identifier(mut self) -> Option<Dtmi> {
        let found = values(self.node, &self.place);
        if found.len() > 1 {
            self.tell("identifierMultipleValues", "only one value is allowed");
        }
        let mut read = None;
        for (node, place) in found {
            let Some(text) = node.text() else {
                self.issues.add(&place, "identifierNotString", "a string with a DTMI is expected");
                continue;
            };
            if !dtmi::has_dtmi_shape(text) {
                self.issues.add(&place, "identifierNotDtmi", format!("'{text}' is not a DTMI"));
                continue;
            }
            match text.parse::<Dtmi>() {
                Ok(id) if id.allowed_in(self.version) => read = read.or(Some(id)),
                Ok(_) => {
                    let message = format!("'{text}' has a version that DTDL {} does not take", self.version);
                    self.issues.add(&place, "identifierInvalid", message);
                }
                Err(_) => self.issues.add(&place, "identifierTooLong", "the identifier is too long"),
            }
        }
        read
    }

    /// Localisable text: a string, a language map, or an array of strings and language-tagged objects.
    pub(crate) fn language_map(mut self, characters_max: usize) -> LanguageMap {
        let mut map = LanguageMap::new();
        match &self.node.kind {
            Kind::Text(text) => {
                map.insert("en".to_owned(), text.to_string());
            }
            Kind::Members(members) => {
                for member in members {
                    let place = self.place.name(&member.name, &member.value);
                    self.map_member(&member.name, &member.value, &place, &mut map);
                }
            }
            Kind::List(items) => {
                let mut codes = HashSet::new();
                for (index, item) in items.iter().enumerate() {
                    let place = self.place.index(index, item);
                    let Some((code, text)) = self.tagged(item, &place) else { continue };
                    if !codes.insert(code.clone()) {
                        self.issues.add(
                            &place,
                            "langStringElementCodeNotUnique",
                            format!("language '{code}' is given twice"),
                        );
                    }
                    map.entry(code).or_insert(text);
                }
            }
            _ => self.tell("langStringNotLangString", "a string, an object or an array is expected"),
        }
        for text in map.values() {
            if characters(text) > characters_max {
                let message = format!("a text is longer than {characters_max} characters");
                self.issues.add(&self.place, "langStringValueTooLong", message);
            }
        }
        map
    }

    fn map_member(&mut self, code: &str, value: &Node, place: &Place, map: &mut LanguageMap) {
        match value.text() {
            _ if code == "@value" => {
                self.issues.add(
                    place,
                    "langTagValueInLangMap",
                    "a language-tagged value must stand in an array",
                );
            }
            _ if is_keyword(code) => {
                self.issues.add(place, "langMapObjKeyword", format!("'{code}' may not be in a language map"));
            }
            _ if !is_language_code(code) => {
                self.issues.add(place, "langStringInvalidCode", format!("'{code}' is not a language code"));
            }
            None => self.issues.add(place, "langStringValueNotString", "a JSON string is expected"),
            Some(text) => {
                map.insert(code.to_owned(), text.to_owned());
            }
        }
    }

    fn tagged(&mut self, item: &Node, place: &Place) -> Option<(String, String)> {
        if let Some(text) = item.text() {
            return Some(("en".to_owned(), text.to_owned()));
        }
        let Some(members) = item.members() else {
            self.issues.add(
                place,
                "langStringElementNotStringOrObject",
                "a JSON string or object is expected",
            );
            return None;
        };
        let tolerant = self.language().tolerant;
        for member in members {
            let rule = match &*member.name {
                "@value" | "@language" => continue,
                "@context" => "langStringElementContext",
                "@graph" => "langStringElementGraph",
                "@id" => "langStringElementId",
                name if is_keyword(name) && tolerant => continue,
                "@type" => "langStringElementType",
                name if is_keyword(name) => "langStringElementKeyword",
                _ => "langStringElementInvalidProp",
            };
            self.issues.add(place, rule, format!("'{}' may not be in a language-tagged value", member.name));
        }
        let code = match item.member("@language") {
            None => "en",
            Some(code) => match code.text() {
                Some(code) if is_language_code(code) => code,
                Some(code) => {
                    self.issues.add(
                        place,
                        "langStringElementInvalidCode",
                        format!("'{code}' is not a language code"),
                    );
                    code
                }
                None => {
                    self.issues.add(place, "langStringElementCodeNotString", "'@language' must be a string");
                    "en"
                }
            },
        };
        match item.member("@value").map(Node::text) {
            Some(Some(text)) => Some((code.to_owned(), text.to_owned())),
            Some(None) => {
                self.issues.add(place, "langStringElementValueNotString", "'@value' must be a string");
                None
            }
            None => {
                self.issues.add(place, "langStringElementNoValue", "'@value' is missing");
                None
            }
        }
    }
}

fn is_several(declared: &Node) -> bool {
    matches!(&declared.kind, Kind::List(items) if items.len() != 1)
}

/// The type that a value says or shows.
fn literal_type(node: &Node) -> Option<Type> {
    let Some(declared) = node.member("@type") else {
        return match &node.member("@value").unwrap_or(node).kind {
            Kind::Text(_) | Kind::Members(_) => Some(Type::Text),
            Kind::Number(_) => Some(Type::Integer),
            _ => None,
        };
    };
    match xsd_type(declared)? {
        "string" => Some(Type::Text),
        "integer" => Some(Type::Integer),
        "boolean" => Some(Type::Boolean),
        _ => None,
    }
}

/// UTF-16 units, as the published limits count.
fn characters(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

/// `ll[l][l][-Ssss][-RR|-999]`.
fn is_language_code(code: &str) -> bool {
    let mut parts = code.split('-').peekable();
    let is_language =
        |part: &str| (2..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_script = |part: &str| {
        part.len() == 4
            && part.starts_with(|first: char| first.is_ascii_uppercase())
            && part.bytes().skip(1).all(|byte| byte.is_ascii_lowercase())
    };
    let is_region = |part: &str| {
        part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_uppercase())
            || part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !parts.next().is_some_and(is_language) {
        return false;
    }
    if parts.peek().is_some_and(|part| is_script(part)) {
        parts.next();
    }
    parts.next().is_none_or(is_region) && parts.next().is_none()
}

/// A label or a token in braces; the first label may not begin with `$`.
pub(crate) fn is_topic_part(text: &str, is_first: bool) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    if let Some(token) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return token.split_once(':').map_or(is_word(token), |(scope, name)| is_word(scope) && is_word(name));
    }
    is_topic_label(text) && !(is_first && text.starts_with('$'))
}

/// Printable ASCII without blanks, quotes, `#`, `+`, `/` and braces.
pub(crate) fn is_topic_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| matches!(byte, b'!' | b'$'..=b'*' | b',' | b'-' | b'.' | b'0'..=b'z' | b'|' | b'~'))
}
