//! What words mean: which terms and identifiers a context defines, and what they stand for.
//! Called by the element reader. Only lookups in constant tables; nothing here knows a document.

pub(crate) mod classes;
pub(crate) mod extensions;
mod units;

use classes::{Class, OTHER_CLASSES};
use extensions::{EXTENSIONS, Extension, Supplemental};

use crate::{
    Geometry,
    document::{Kind, Node},
};

/// Identifiers that documents may not define.
pub(crate) const RESERVED_PREFIXES: [&str; 2] = ["dtmi:dtdl:", "dtmi:standard:"];

/// What is active where an element stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context {
    pub(crate) version: u8,
    /// Bits by position in [`EXTENSIONS`].
    pub(crate) extensions: u32,
    /// An unknown extension is active, so that unknown words may be its.
    pub(crate) open: bool,
}

/// An element that the language or an extension defines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standard {
    pub(crate) version: u8,
    pub(crate) is: StandardElement,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StandardElement {
    Primitive(Primitive),
    Geometry(Geometry),
    /// Objects of doubles: the names of their fields.
    Numbers(&'static [&'static str]),
    /// The enumeration of a unit type (quantitative types).
    UnitType(&'static str),
    Unit(&'static str),
    CommandType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    Boolean,
    Date,
    DateTime,
    Double,
    Duration,
    Float,
    Integer,
    Long,
    String,
    Time,
}

const PRIMITIVES: [(&str, Primitive); 10] = [
    ("boolean", Primitive::Boolean),
    ("date", Primitive::Date),
    ("dateTime", Primitive::DateTime),
    ("double", Primitive::Double),
    ("duration", Primitive::Duration),
    ("float", Primitive::Float),
    ("integer", Primitive::Integer),
    ("long", Primitive::Long),
    ("string", Primitive::String),
    ("time", Primitive::Time),
];

const GEOMETRIES: [(&str, Geometry); 6] = [
    ("lineString", Geometry::LineString),
    ("multiLineString", Geometry::MultiLineString),
    ("multiPoint", Geometry::MultiPoint),
    ("multiPolygon", Geometry::MultiPolygon),
    ("point", Geometry::Point),
    ("polygon", Geometry::Polygon),
];

const CENTRAL: [(&str, &[&str]); 2] = [("geopoint", &["lon", "lat", "alt"]), ("vector", &["x", "y", "z"])];

const COMMAND_TYPES: [&str; 2] = ["asynchronous", "synchronous"];

/// Terms of every version that name no class and no element.
const MEMBERS: &str = "commandType comment contents description displayName elementSchema enumValue enumValues exponent extends fields \
    languageMajorVersion mapKey mapValue maxMultiplicity minMultiplicity name properties request response schema schemas symbol target \
    valueSchema writable SemanticType SemanticUnit";
const MEMBERS_V2: &str = "baseUnit bottomUnit prefix topUnit unit BinaryPrefix BinaryUnit DecimalPrefix DecimalUnit QuantitativeType RatioUnit \
    atto centi deci deka exa exbi femto gibi giga hecto kibi kilo mebi mega micro milli nano pebi peta pico tebi tera yobi yocto yotta zebi zepto zetta";
const MEMBERS_V3: &str = "AdjunctType Alias aliasFor DtdlExtension metamodel model";
const MEMBERS_QUANTITATIVE: &str = "baseUnit bottomUnit prefix topUnit unit BinaryPrefix BinaryUnit DecimalPrefix DecimalUnit QuantitativeType \
    RatioUnit SymbolicUnit UnitPrefix atto centi deca deci exa exbi femto gibi giga hecto kibi kilo mebi mega micro milli nano pebi peta pico tebi tera \
    yobi yocto yotta zebi zepto zetta";

fn has_word(words: &str, word: &str) -> bool {
    !word.is_empty() && words.split_ascii_whitespace().any(|one| one == word)
}

/// What a reference names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    Standard(Standard),
    /// A term, or an identifier of the language, that names no element.
    NoElement,
    /// No term and not reserved: an identifier of the author's, or nonsense.
    Author,
}

impl Context {
    pub(crate) fn has(self, extension: &str) -> bool {
        self.active().any(|active| active.id == extension)
    }

    pub(crate) fn active(self) -> impl Iterator<Item = &'static Extension> {
        EXTENSIONS
            .iter()
            .enumerate()
            .filter(move |(position, _)| self.extensions & (1 << position) != 0)
            .map(|(_, extension)| extension)
    }

    /// Whether units and quantities are those of DTDL 2 or of the extension; none where neither is active.
    fn has_quantities(self) -> bool {
        self.version == 2 || self.has(extensions::QUANTITATIVE)
    }

    /// A class by its term or identifier.
    pub(crate) fn class(self, word: &str) -> Option<Class> {
        let class = Class::parse(self.class_term(word)?)?;
        let is_later = matches!(class, Class::CommandRequest | Class::CommandResponse);
        (self.version > 2 || !is_later).then_some(class)
    }

    /// Whether a word names a class that documents may not define elements of.
    pub(crate) fn is_other_class(self, word: &str) -> bool {
        let latent = |term: &str| self.version == 2 && term.ends_with("LatentType");
        self.class_term(word).is_some_and(|term| has_word(OTHER_CLASSES, term) && !latent(term))
            || self.version == 2
                && units::UNIT_TYPES
                    .iter()
                    .any(|unit_type| unit_type.name == word && !unit_type.units_v2.is_empty())
    }

    fn class_term(self, word: &str) -> Option<&str> {
        if word.starts_with("dtmi:") { core_name(word, "dtmi:dtdl:class:", self.version) } else { Some(word) }
    }

    /// The term of a core member, however it is written.
    pub(crate) fn member_term(self, word: &str) -> &str {
        core_name(word, "dtmi:dtdl:property:", self.version).unwrap_or(word)
    }

    /// What a string reference names here.
    pub(crate) fn meaning(self, word: &str) -> Meaning {
        if let Some(is) = self.term_element(word) {
            return Meaning::Standard(is);
        }
        if let Some(is) = identified_element(word) {
            return Meaning::Standard(is);
        }
        let reserved = RESERVED_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
            || word.starts_with("dtmi:iotcentral:");
        if reserved || self.is_term(word) { Meaning::NoElement } else { Meaning::Author }
    }

    fn term_element(self, word: &str) -> Option<Standard> {
        let is = core_element(word)
            .or_else(|| self.has(extensions::CENTRAL).then(|| central_element(word)).flatten())
            .or_else(|| {
                (self.version > 2 && self.has_quantities())
                    .then(|| unit_type(word).map(StandardElement::UnitType))
                    .flatten()
            })
            .or_else(|| {
                if self.has_quantities() { unit(word, self.version).map(StandardElement::Unit) } else { None }
            })?;
        Some(Standard { version: self.version, is })
    }

    /// Whether a context here defines the word at all.
    pub(crate) fn is_term(self, word: &str) -> bool {
        let core = has_word(MEMBERS, word)
            || has_word(if self.version == 2 { MEMBERS_V2 } else { MEMBERS_V3 }, word)
            || self.class(word).is_some() && !word.starts_with("dtmi:")
            || word == "CommandPayload"
            || has_word(OTHER_CLASSES, word) && self.is_other_class(word);
        core || self.term_element(word).is_some()
            || self.has_quantities()
                && (quantity(word, self.version).is_some() || unit_type_exists(word, self.version))
            || self.has(extensions::QUANTITATIVE) && has_word(MEMBERS_QUANTITATIVE, word)
            || self.active().any(|extension| extension.defines(word))
    }

    /// A type beside the class, by its term or identifier, that the language or an active extension defines.
    pub(crate) fn supplemental(self, word: &str) -> Option<Supplemental> {
        if self.version == 2 {
            let term = if word.starts_with("dtmi:") {
                core_name(word, "dtmi:standard:class:", 2)
            } else {
                Some(word)
            };
            if let Some(quantity) = term.and_then(|term| quantity(term, 2)) {
                return Some(Supplemental::quantity(quantity, None));
            }
        }
        if let Some(found) = extensions::core_type(self.class_term(word).unwrap_or(word), self.version) {
            return Some(found);
        }
        self.active().find_map(|extension| {
            if extension.id == extensions::QUANTITATIVE {
                let term =
                    word.strip_prefix("dtmi:dtdl:extension:quantitativeTypes:v1:class:").unwrap_or(word);
                if let Some(quantity) = quantity(term, 3) {
                    return Some(Supplemental::quantity(quantity, Some(extension)));
                }
            }
            extension.find(word)
        })
    }
}

/// The name inside an identifier such as `dtmi:dtdl:property:name;3`.
fn core_name<'w>(word: &'w str, prefix: &str, version: u8) -> Option<&'w str> {
    let (name, number) = word.strip_prefix(prefix)?.split_once(';')?;
    (number.parse() == Ok(version)).then_some(name)
}

fn core_element(term: &str) -> Option<StandardElement> {
    let find = |table: &[(&str, Primitive)]| table.iter().find(|(name, _)| *name == term).map(|(_, is)| *is);
    find(&PRIMITIVES)
        .map(StandardElement::Primitive)
        .or_else(|| geometry(term).map(StandardElement::Geometry))
        .or_else(|| COMMAND_TYPES.contains(&term).then_some(StandardElement::CommandType))
}

fn geometry(term: &str) -> Option<Geometry> {
    GEOMETRIES.iter().find(|(name, _)| *name == term).map(|(_, is)| *is)
}

fn central_element(term: &str) -> Option<StandardElement> {
    CENTRAL.iter().find(|(name, _)| *name == term).map(|(_, fields)| StandardElement::Numbers(fields))
}

/// Elements by identifier, whatever is active.
fn identified_element(word: &str) -> Option<Standard> {
    const QUANTITATIVE: &str = "dtmi:dtdl:extension:quantitativeTypes:v1:";
    if let Some(rest) = word.strip_prefix(QUANTITATIVE) {
        let is = match rest.split_once(':')? {
            ("enum", name) => StandardElement::UnitType(unit_type(name).filter(|found| *found == name)?),
            ("unit", name) => StandardElement::Unit(unit(name, 3)?),
            _ => return None,
        };
        return Some(Standard { version: 3, is });
    }
    let (path, version) = word.split_once(';')?;
    let version: u8 = version.parse().ok().filter(|version| matches!(version, 2 | 3))?;
    let is = if let Some(name) = path.strip_prefix("dtmi:dtdl:instance:Schema:") {
        core_element(name).filter(|is| matches!(is, StandardElement::Primitive(_)))?
    } else if let Some(name) = path.strip_prefix("dtmi:dtdl:instance:CommandType:") {
        core_element(name).filter(|is| matches!(is, StandardElement::CommandType))?
    } else if let Some(name) = path.strip_prefix("dtmi:standard:schema:geospatial:") {
        StandardElement::Geometry(geometry(name)?)
    } else if let Some(name) = path.strip_prefix("dtmi:iotcentral:schema:") {
        central_element(name).filter(|_| version == 2)?
    } else {
        let name = path.strip_prefix("dtmi:standard:unit:").filter(|_| version == 2)?;
        StandardElement::Unit(unit(name, 2)?)
    };
    Some(Standard { version, is })
}

fn quantity(term: &str, version: u8) -> Option<&'static units::Quantity> {
    units::QUANTITIES
        .iter()
        .find(|quantity| quantity.name == term && !unit_type_of(quantity, version).is_empty())
}

fn unit_type_of(quantity: &units::Quantity, version: u8) -> &'static str {
    if version == 2 { quantity.unit_type_v2 } else { quantity.unit_type_v3 }
}

fn unit_type_exists(term: &str, version: u8) -> bool {
    units::UNIT_TYPES
        .iter()
        .any(|unit_type| unit_type.name == term && !units_of(unit_type, version).is_empty())
}

/// The unit enumerations of the extension; one has a second name.
fn unit_type(term: &str) -> Option<&'static str> {
    let term = if term == "EnergyRateUnit" { "PowerUnit" } else { term };
    units::UNIT_TYPES
        .iter()
        .find(|unit_type| unit_type.name == term && !unit_type.units_v3.is_empty())
        .map(|found| found.name)
}

fn units_of(unit_type: &units::UnitType, version: u8) -> &'static str {
    if version == 2 && unit_type.units_v2 != units::SAME { unit_type.units_v2 } else { unit_type.units_v3 }
}

fn unit(term: &str, version: u8) -> Option<&'static str> {
    units::UNIT_TYPES.iter().find_map(|unit_type| {
        units_of(unit_type, version).split_ascii_whitespace().find(|unit| *unit == term)
    })
}

/// Whether a unit is one of a unit type.
pub(crate) fn is_unit_of(unit: &str, unit_type: &str, version: u8) -> bool {
    units::UNIT_TYPES.iter().any(|found| found.name == unit_type && has_word(units_of(found, version), unit))
}

/// The units that a unit type has.
pub(crate) fn units_in(unit_type: &str, version: u8) -> impl Iterator<Item = &'static str> {
    units::UNIT_TYPES
        .iter()
        .filter(move |found| found.name == unit_type)
        .flat_map(move |found| units_of(found, version).split_ascii_whitespace())
}

pub(crate) fn unit_types() -> impl Iterator<Item = &'static str> {
    units::UNIT_TYPES.iter().map(|unit_type| unit_type.name)
}

/// Whether a node is text that begins with `@`: a JSON-LD keyword.
pub(crate) fn is_keyword(name: &str) -> bool {
    name.starts_with('@')
}

/// `@type` of a typed value.
pub(crate) fn xsd_type<'n>(node: &'n Node) -> Option<&'n str> {
    let text = match &node.kind {
        Kind::List(items) if items.len() == 1 => items[0].text()?,
        Kind::Text(text) => text,
        _ => return None,
    };
    text.strip_prefix("xsd:").or_else(|| text.strip_prefix("http://www.w3.org/2001/XMLSchema#"))
}
