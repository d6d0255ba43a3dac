//! Language extensions: the contexts this parser knows and the types they add, with the members and conditions of each.
//! Read by the vocabulary and the element reader. One row a type; a context that a service refuses is still known here.

use super::{classes::Class, unit_type_of, units};

pub(crate) const QUANTITATIVE: &str = "dtmi:dtdl:extension:quantitativeTypes;1";
pub(crate) const CENTRAL: &str = "dtmi:iotcentral:context;2";

/// A known context beside those of the language.
#[derive(Debug)]
pub(crate) struct Extension {
    pub(crate) id: &'static str,
    /// What comes before and after a type's term in its identifier.
    prefix: &'static str,
    suffix: &'static str,
    types: &'static [Type],
}

/// A row: what an added type may stand beside and what it adds.
#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) term: &'static str,
    pub(crate) beside: &'static [Class],
    pub(crate) versions: &'static [u8],
    pub(crate) is_abstract: bool,
    pub(crate) members: &'static [Added],
    pub(crate) conditions: &'static [Condition],
}

#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) term: &'static str,
    pub(crate) kind: AddedKind,
    pub(crate) required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddedKind {
    Text,
    /// An MQTT topic pattern.
    Topic,
    /// One level of a topic.
    TopicLevel,
    /// At least 1, unlike its siblings'.
    Index,
    Duration,
    /// The name of a sibling.
    Annotates,
    /// The name of an added member.
    Overrides,
    /// A unit of the type's own unit type.
    Unit,
    /// A unit of this unit type.
    UnitOf(&'static str),
}

/// What else must hold of an element with the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Schema(SchemaCondition),
    /// The element has this type too.
    With(&'static str),
    /// Its schema is an object with this type.
    SchemaWith(&'static str),
    /// Each field of the object has one of these types.
    FieldsWith(&'static [&'static str]),
    /// The object it is a field of has this type, and no other field has its own.
    OnlyOneIn(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemaCondition {
    Numeric,
    NumericOrString,
    String,
    Enum,
    Object,
    Vector,
    Place,
}

/// A type found beside the class of an element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supplemental {
    pub(crate) row: &'static Type,
    pub(crate) term: &'static str,
    /// Of a quantity.
    pub(crate) unit_type: Option<&'static str>,
    extension: Option<&'static Extension>,
}

impl PartialEq for Supplemental {
    fn eq(&self, other: &Self) -> bool {
        self.term == other.term && std::ptr::eq(self.row, other.row)
    }
}

impl Supplemental {
    pub(super) fn quantity(
        quantity: &'static units::Quantity,
        extension: Option<&'static Extension>,
    ) -> Self {
        let (row, version) = if extension.is_some() { (&QUANTITY_V3, 3) } else { (&QUANTITY_V2, 2) };
        Self { row, term: quantity.name, unit_type: Some(unit_type_of(quantity, version)), extension }
    }

    /// The member that a document's word names, if this type adds it.
    pub(crate) fn member(&self, word: &str) -> Option<&'static Added> {
        self.row.members.iter().find(|member| member.term == word || self.member_id(member) == word)
    }

    fn member_id(&self, member: &Added) -> String {
        let term = member.term;
        match self.extension {
            Some(extension) if extension.id == QUANTITATIVE => {
                format!("dtmi:dtdl:extension:quantitativeTypes:v1:property:{term}")
            }
            Some(extension) if extension.id == CENTRAL => format!("dtmi:dtdl:property:{term};2"),
            Some(extension) => format!("{}{}:{term}", extension.prefix, self.row.term),
            None => format!("dtmi:dtdl:property:{term};2"),
        }
    }
}

impl Extension {
    pub(super) fn find(&'static self, word: &str) -> Option<Supplemental> {
        let term =
            word.strip_prefix(self.prefix).and_then(|rest| rest.strip_suffix(self.suffix)).unwrap_or(word);
        let row = self.types.iter().find(|row| row.term == term)?;
        Some(Supplemental { row, term: row.term, unit_type: None, extension: Some(self) })
    }

    pub(super) fn defines(&self, word: &str) -> bool {
        self.types.iter().any(|row| row.term == word || row.members.iter().any(|member| member.term == word))
    }
}

/// Position among [`EXTENSIONS`].
pub(crate) fn position(id: &str) -> Option<usize> {
    EXTENSIONS.iter().position(|extension| extension.id == id)
}

/// Whether another version of the context is known.
pub(crate) fn is_known_in_another_version(id: &str) -> bool {
    let versionless = |id: &'static str| id.split_once(';').map_or(id, |(path, _)| path);
    id.split_once(';')
        .is_some_and(|(path, _)| EXTENSIONS.iter().any(|extension| versionless(extension.id) == path))
}

/// Types of the language itself beside its quantities.
pub(super) fn core_type(term: &str, version: u8) -> Option<Supplemental> {
    let row = CORE.iter().find(|row| row.term == term && row.versions.contains(&version))?;
    Some(Supplemental { row, term: row.term, unit_type: None, extension: None })
}

const LATER: &[u8] = &[3, 4];
const V3: &[u8] = &[3];
const V2: &[u8] = &[2];

const MEASURED_V2: &[Class] = &[Class::Property, Class::Telemetry];
const MEASURED_V3: &[Class] = &[
    Class::CommandRequest,
    Class::CommandResponse,
    Class::Field,
    Class::MapValue,
    Class::Property,
    Class::Telemetry,
];

const fn plain(term: &'static str, beside: &'static [Class], versions: &'static [u8]) -> Type {
    Type { term, beside, versions, is_abstract: false, members: &[], conditions: &[] }
}

const fn abstracted(term: &'static str, beside: &'static [Class], versions: &'static [u8]) -> Type {
    Type { is_abstract: true, ..plain(term, beside, versions) }
}

const fn conditional(
    term: &'static str,
    beside: &'static [Class],
    versions: &'static [u8],
    conditions: &'static [Condition],
) -> Type {
    Type { conditions, ..plain(term, beside, versions) }
}

const fn added(term: &'static str, kind: AddedKind, required: bool) -> Added {
    Added { term, kind, required }
}

static QUANTITY_V2: Type = Type {
    members: &[added("unit", AddedKind::Unit, true)],
    ..conditional("", MEASURED_V2, V2, &[Condition::Schema(SchemaCondition::Numeric)])
};
static QUANTITY_V3: Type = Type {
    members: &[added("unit", AddedKind::Unit, true)],
    ..conditional("", MEASURED_V3, V3, &[Condition::Schema(SchemaCondition::Numeric)])
};

/// Types that only others derive from, and types of units, which no document defines.
static CORE: &[Type] = &[
    abstracted("SemanticType", &[Class::Property, Class::Relationship, Class::Telemetry], V2),
    abstracted("QuantitativeType", MEASURED_V2, V2),
    abstracted("SemanticUnit", &[], V2),
    plain("BinaryUnit", &[], V2),
    plain("DecimalUnit", &[], V2),
    plain("RatioUnit", &[], V2),
    plain("BinaryPrefix", &[], V2),
    plain("DecimalPrefix", &[], V2),
    abstracted("SemanticType", MEASURED_V3, V3),
    abstracted("SemanticUnit", &[], V3),
    abstracted("AdjunctType", MEASURED_V3, V3),
];

static ANNOTATION: &[Type] = &[Type {
    members: &[added("annotates", AddedKind::Annotates, true)],
    ..plain("ValueAnnotation", MEASURED_V2, LATER)
}];

static OVERRIDING: &[Type] = &[Type {
    members: &[added("overrides", AddedKind::Overrides, true)],
    ..conditional("Override", &[Class::Property], LATER, &[Condition::With("ValueAnnotation")])
}];

static HISTORIZATION: &[Type] = &[plain("Historized", MEASURED_V2, LATER)];
static REQUIREMENT_V1: &[Type] = &[plain("Required", &[Class::Field], LATER)];
static REQUIREMENT_V2: &[Type] = &[plain("Required", &[Class::Field, Class::Property], LATER)];

/// Types of units, which only the extension's own elements have.
static QUANTITATIVE_TYPES: &[Type] = &[
    abstracted("QuantitativeType", MEASURED_V3, V3),
    plain("BinaryUnit", &[], V3),
    plain("DecimalUnit", &[], V3),
    plain("RatioUnit", &[], V3),
    plain("SymbolicUnit", &[], V3),
    plain("UnitPrefix", &[], V3),
];

static CENTRAL_TYPES: &[Type] = &[
    Type {
        members: &[added("unit", AddedKind::UnitOf("AccelerationUnit"), false)],
        ..conditional("AccelerationVector", MEASURED_V2, V2, &[Condition::Schema(SchemaCondition::Vector)])
    },
    Type {
        members: &[added("unit", AddedKind::UnitOf("VelocityUnit"), false)],
        ..conditional("VelocityVector", MEASURED_V2, V2, &[Condition::Schema(SchemaCondition::Vector)])
    },
    conditional("Event", MEASURED_V2, V2, &[Condition::Schema(SchemaCondition::NumericOrString)]),
    conditional("Location", MEASURED_V2, V2, &[Condition::Schema(SchemaCondition::Place)]),
    conditional("State", MEASURED_V2, V2, &[Condition::Schema(SchemaCondition::Enum)]),
];

const IDEMPOTENT: Type = plain("Idempotent", &[Class::Command], LATER);
const CACHEABLE: Type = Type {
    members: &[added("ttl", AddedKind::Duration, true)],
    ..conditional("Cacheable", &[Class::Command], LATER, &[Condition::With("Idempotent")])
};
const INDEXED: Type = Type {
    members: &[added("index", AddedKind::Index, true)],
    ..plain("Indexed", &[Class::EnumValue, Class::Field, Class::Telemetry], LATER)
};
const MQTT_V1: Type = Type {
    members: &[
        added("commandTopic", AddedKind::Topic, false),
        added("payloadFormat", AddedKind::Text, true),
        added("telemetryTopic", AddedKind::Topic, false),
    ],
    ..plain("Mqtt", &[Class::Interface], LATER)
};
const MQTT: Type = Type {
    members: &[
        added("commandTopic", AddedKind::Topic, false),
        added("payloadFormat", AddedKind::Text, true),
        added("telemetryTopic", AddedKind::Topic, false),
        added("cmdServiceGroupId", AddedKind::TopicLevel, false),
        added("telemServiceGroupId", AddedKind::TopicLevel, false),
    ],
    ..plain("Mqtt", &[Class::Interface], LATER)
};
const TRANSPARENT: Type = conditional(
    "Transparent",
    &[Class::CommandRequest, Class::CommandResponse],
    LATER,
    &[Condition::Schema(SchemaCondition::Object)],
);

static MQTT_TYPES_V1: &[Type] = &[IDEMPOTENT, CACHEABLE, INDEXED, MQTT_V1];
static MQTT_TYPES_V2: &[Type] = &[IDEMPOTENT, CACHEABLE, INDEXED, MQTT, TRANSPARENT];
static MQTT_TYPES_V3: &[Type] = &[
    IDEMPOTENT,
    CACHEABLE,
    INDEXED,
    MQTT,
    TRANSPARENT,
    plain("Error", &[Class::Object], LATER),
    conditional(
        "ErrorMessage",
        &[Class::Field],
        LATER,
        &[Condition::OnlyOneIn("Error"), Condition::Schema(SchemaCondition::String)],
    ),
    conditional(
        "ErrorResult",
        &[Class::Field],
        LATER,
        &[Condition::OnlyOneIn("Result"), Condition::SchemaWith("Error")],
    ),
    conditional("NormalResult", &[Class::Field], LATER, &[Condition::OnlyOneIn("Result")]),
    conditional(
        "Result",
        &[Class::Object],
        LATER,
        &[Condition::FieldsWith(&["NormalResult", "ErrorResult"])],
    ),
];

const fn extension(id: &'static str, prefix: &'static str, types: &'static [Type]) -> Extension {
    Extension { id, prefix, suffix: "", types }
}

pub(crate) static EXTENSIONS: &[Extension] = &[
    extension(QUANTITATIVE, "dtmi:dtdl:extension:quantitativeTypes:v1:class:", QUANTITATIVE_TYPES),
    extension("dtmi:dtdl:extension:annotation;1", "dtmi:dtdl:extension:annotation:v1:", ANNOTATION),
    extension("dtmi:dtdl:extension:annotation;2", "dtmi:dtdl:extension:annotation:v2:", ANNOTATION),
    extension("dtmi:dtdl:extension:overriding;1", "dtmi:dtdl:extension:overriding:v1:", OVERRIDING),
    extension("dtmi:dtdl:extension:overriding;2", "dtmi:dtdl:extension:overriding:v2:", OVERRIDING),
    extension("dtmi:dtdl:extension:historization;1", "dtmi:dtdl:extension:historization:v1:", HISTORIZATION),
    extension("dtmi:dtdl:extension:historization;2", "dtmi:dtdl:extension:historization:v2:", HISTORIZATION),
    extension("dtmi:dtdl:extension:requirement;1", "dtmi:dtdl:extension:requirement:v1:", REQUIREMENT_V1),
    extension("dtmi:dtdl:extension:requirement;2", "dtmi:dtdl:extension:requirement:v2:", REQUIREMENT_V2),
    extension("dtmi:dtdl:extension:mqtt;1", "dtmi:dtdl:extension:mqtt:v1:", MQTT_TYPES_V1),
    extension("dtmi:dtdl:extension:mqtt;2", "dtmi:dtdl:extension:mqtt:v2:", MQTT_TYPES_V2),
    extension("dtmi:dtdl:extension:mqtt;3", "dtmi:dtdl:extension:mqtt:v3:", MQTT_TYPES_V3),
    Extension { id: CENTRAL, prefix: "dtmi:iotcentral:class:", suffix: ";2", types: CENTRAL_TYPES },
];
