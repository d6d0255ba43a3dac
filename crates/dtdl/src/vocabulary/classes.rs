//! The DTDL classes, the members each may have in each version, and the limits of the versions.
//! Read by the element reader. Numbers are those of the language specification; a version is a row.

/// What one version of the language limits. A later version is another row.
#[derive(Debug)]
pub(crate) struct Language {
    pub(crate) version: u8,
    pub(crate) context: &'static str,
    pub(crate) name_characters_max: usize,
    pub(crate) display_name_characters_max: usize,
    pub(crate) text_characters_max: usize,
    pub(crate) interface_id_characters_max: usize,
    pub(crate) interface_bytes_max: Option<usize>,
    /// Own and inherited.
    pub(crate) contents_max: Option<usize>,
    pub(crate) extends_max: Option<usize>,
    pub(crate) extends_closure_max: Option<usize>,
    pub(crate) extends_depth_max: usize,
    pub(crate) schema_depth_max: usize,
    pub(crate) relationship_properties_max: Option<usize>,
    pub(crate) max_multiplicity_max: Option<i64>,
    pub(crate) enum_values: (usize, Option<usize>),
    pub(crate) fields: (usize, Option<usize>),
    /// Contents, fields, values and schemas of an interface with all it inherits and composes.
    pub(crate) elements_max: Option<u64>,
    pub(crate) array_in_property: bool,
    /// Unknown contexts, types and members are tolerated, and so are JSON-LD keywords.
    pub(crate) tolerant: bool,
}

pub(crate) const LANGUAGES: &[Language] = &[
    Language {
        version: 2,
        context: "dtmi:dtdl:context;2",
        name_characters_max: 64,
        display_name_characters_max: 64,
        text_characters_max: 512,
        interface_id_characters_max: 128,
        interface_bytes_max: None,
        contents_max: Some(300),
        extends_max: Some(2),
        extends_closure_max: None,
        extends_depth_max: 10,
        schema_depth_max: 5,
        relationship_properties_max: Some(300),
        max_multiplicity_max: Some(500),
        enum_values: (1, Some(100)),
        fields: (1, Some(30)),
        elements_max: None,
        array_in_property: false,
        tolerant: true,
    },
    Language {
        version: 3,
        context: "dtmi:dtdl:context;3",
        name_characters_max: 512,
        display_name_characters_max: 512,
        text_characters_max: 512,
        interface_id_characters_max: 128,
        interface_bytes_max: Some(1024 * 1024),
        contents_max: None,
        extends_max: None,
        extends_closure_max: Some(1024),
        extends_depth_max: 10,
        schema_depth_max: 5,
        relationship_properties_max: None,
        max_multiplicity_max: None,
        enum_values: (0, None),
        fields: (0, None),
        elements_max: Some(100_000),
        array_in_property: true,
        tolerant: false,
    },
];

/// The row of a version; contexts admit no other.
pub(crate) fn language(version: u8) -> &'static Language {
    LANGUAGES.iter().find(|language| language.version == version).unwrap_or(&LANGUAGES[0])
}

/// Classes that a document may define elements of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Interface,
    Command,
    CommandPayload,
    CommandRequest,
    CommandResponse,
    Component,
    Property,
    Relationship,
    Telemetry,
    Array,
    Enum,
    EnumValue,
    Field,
    Map,
    MapKey,
    MapValue,
    Object,
}

const CLASSES: [(Class, &str); 17] = [
    (Class::Interface, "Interface"),
    (Class::Command, "Command"),
    (Class::CommandPayload, "CommandPayload"),
    (Class::CommandRequest, "CommandRequest"),
    (Class::CommandResponse, "CommandResponse"),
    (Class::Component, "Component"),
    (Class::Property, "Property"),
    (Class::Relationship, "Relationship"),
    (Class::Telemetry, "Telemetry"),
    (Class::Array, "Array"),
    (Class::Enum, "Enum"),
    (Class::EnumValue, "EnumValue"),
    (Class::Field, "Field"),
    (Class::Map, "Map"),
    (Class::MapKey, "MapKey"),
    (Class::MapValue, "MapValue"),
    (Class::Object, "Object"),
];

impl Class {
    pub(crate) fn name(self) -> &'static str {
        CLASSES.iter().find(|(class, _)| *class == self).map_or("", |(_, name)| name)
    }

    pub(crate) fn parse(term: &str) -> Option<Self> {
        CLASSES.iter().find(|(_, name)| *name == term).map(|(class, _)| *class)
    }

    pub(crate) fn is_complex_schema(self) -> bool {
        SCHEMAS.contains(&self)
    }
}

/// Classes of the language that no document may define elements of: abstract ones and those of the standard elements.
pub(super) const OTHER_CLASSES: &str = "Boolean CommandType ComplexSchema Content Date DateTime Double Duration Entity Float Integer \
    LatentType Long NamedEntity NamedLatentType NumericSchema PrimitiveSchema Schema SchemaField String TemporalSchema Time Unit UnitAttribute";

/// What a member of an element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    Comment,
    Description,
    DisplayName,
    Name,
    EnumValue,
    Writable,
    MinMultiplicity,
    MaxMultiplicity,
    Target,
    Link(Link),
}

/// A member that holds other elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Contents,
    Extends,
    Schemas,
    Schema,
    ComponentSchema,
    KeySchema,
    ElementSchema,
    ValueSchema,
    CommandType,
    Request,
    Response,
    Properties,
    EnumValues,
    Fields,
    MapKey,
    MapValue,
}

/// The members of a class: term, what it holds, whether it must be there.
pub(crate) fn members(class: Class, version: u8) -> Vec<(&'static str, Member, bool)> {
    use Member as M;
    let language = language(version);
    let name = ("name", M::Name, true);
    let schema = ("schema", M::Link(Link::Schema), true);
    let mut members = vec![
        ("comment", M::Comment, false),
        ("description", M::Description, false),
        ("displayName", M::DisplayName, false),
    ];
    members.extend_from_slice(&match class {
        Class::Interface => vec![
            ("contents", M::Link(Link::Contents), false),
            ("extends", M::Link(Link::Extends), false),
            ("schemas", M::Link(Link::Schemas), false),
        ],
        Class::Command => vec![
            name,
            ("commandType", M::Link(Link::CommandType), false),
            ("request", M::Link(Link::Request), false),
            ("response", M::Link(Link::Response), false),
        ],
        Class::CommandPayload
        | Class::CommandRequest
        | Class::CommandResponse
        | Class::Field
        | Class::MapValue
        | Class::Telemetry => {
            vec![name, schema]
        }
        Class::Component => vec![name, ("schema", M::Link(Link::ComponentSchema), true)],
        Class::Property => vec![name, schema, ("writable", M::Writable, false)],
        Class::Relationship => vec![
            name,
            ("maxMultiplicity", M::MaxMultiplicity, false),
            ("minMultiplicity", M::MinMultiplicity, false),
            ("properties", M::Link(Link::Properties), false),
            ("target", M::Target, false),
            ("writable", M::Writable, false),
        ],
        Class::Array => vec![("elementSchema", M::Link(Link::ElementSchema), true)],
        Class::Enum => vec![
            ("enumValues", M::Link(Link::EnumValues), language.enum_values.0 > 0),
            ("valueSchema", M::Link(Link::ValueSchema), true),
        ],
        Class::EnumValue => vec![name, ("enumValue", M::EnumValue, true)],
        Class::Map => {
            vec![("mapKey", M::Link(Link::MapKey), true), ("mapValue", M::Link(Link::MapValue), true)]
        }
        Class::MapKey => vec![name, ("schema", M::Link(Link::KeySchema), true)],
        Class::Object => vec![("fields", M::Link(Link::Fields), language.fields.0 > 0)],
    });
    members
}

const CONTENTS: &[Class] =
    &[Class::Command, Class::Component, Class::Property, Class::Relationship, Class::Telemetry];
const SCHEMAS: &[Class] = &[Class::Array, Class::Enum, Class::Map, Class::Object];

/// What a link takes.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent yes-or-no columns of a table")]
pub(crate) struct LinkRule {
    /// Classes that may be defined there or referred to; the first is assumed where `@type` may be left out.
    pub(crate) classes: &'static [Class],
    pub(crate) type_optional: bool,
    pub(crate) id_required: bool,
    /// Elements of an earlier version may be there.
    pub(crate) earlier: bool,
    /// More than one.
    pub(crate) plural: bool,
}

impl Link {
    pub(crate) fn rule(self, version: u8) -> LinkRule {
        let rule = LinkRule {
            classes: SCHEMAS,
            type_optional: false,
            id_required: false,
            earlier: true,
            plural: false,
        };
        let inferred = |classes| LinkRule { classes, type_optional: true, earlier: false, ..rule };
        match self {
            Self::Contents => LinkRule { classes: CONTENTS, plural: true, ..rule },
            Self::Extends => {
                LinkRule { classes: &[Class::Interface], id_required: true, plural: true, ..rule }
            }
            Self::Schemas => LinkRule { id_required: true, earlier: false, plural: true, ..rule },
            Self::Schema | Self::ElementSchema => rule,
            Self::ComponentSchema => LinkRule { classes: &[Class::Interface], id_required: true, ..rule },
            Self::KeySchema | Self::ValueSchema => LinkRule { classes: &[], ..rule },
            Self::CommandType => LinkRule { classes: &[], earlier: false, ..rule },
            Self::Request | Self::Response if version == 2 => inferred(&[Class::CommandPayload]),
            Self::Request => inferred(&[Class::CommandRequest]),
            Self::Response => inferred(&[Class::CommandResponse]),
            Self::Properties => LinkRule { classes: &[Class::Property], plural: true, ..rule },
            Self::EnumValues => LinkRule { plural: true, ..inferred(&[Class::EnumValue]) },
            Self::Fields => LinkRule { plural: true, ..inferred(&[Class::Field]) },
            Self::MapKey => inferred(&[Class::MapKey]),
            Self::MapValue => inferred(&[Class::MapValue]),
        }
    }
}
