//! What a caller lets the parser accept. The service's choices are one constructor; nothing else in the house decides them.

use crate::vocabulary::extensions;

/// How strict to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// DTDL versions accepted in `@context`.
    pub versions: &'static [u8],
    pub undefined_extensions: UndefinedExtensions,
    /// Language extensions accepted although this parser knows others too; none means all it knows.
    pub extensions: Option<&'static [&'static str]>,
    pub commands: Commands,
    /// Interfaces written inside `extends` or a component's `schema` instead of named there.
    pub inline_interfaces: bool,
    /// Values of the schema `dateTime` that name no offset from UTC.
    pub local_date_times: bool,
}

/// An `@context` entry that is no known extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndefinedExtensions {
    /// Tolerated in DTDL 2, refused later.
    ByVersion,
    Allow,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commands {
    Accept,
    Refuse,
}

/// The extensions that Azure Digital Twins documents, and the one of IoT Central that device models bring.
const AZURE_EXTENSIONS: [&str; 5] = [
    "dtmi:dtdl:extension:quantitativeTypes;1",
    "dtmi:dtdl:extension:annotation;1",
    "dtmi:dtdl:extension:historization;1",
    "dtmi:dtdl:extension:overriding;1",
    extensions::CENTRAL,
];

impl Options {
    /// The language as its parser has it.
    pub const fn language() -> Self {
        Self {
            versions: &[2, 3],
            undefined_extensions: UndefinedExtensions::ByVersion,
            extensions: None,
            commands: Commands::Accept,
            inline_interfaces: true,
            local_date_times: false,
        }
    }

    /// The rules of the service (concepts-models, "Service-specific DTDL notes").
    /// Commands are accepted and have no effect: device models carry them, and the documentation says only not to define them.
    /// Times without a zone come from shipped clients (`0001-01-01T00:00:00`).
    pub const fn azure_digital_twins() -> Self {
        Self {
            extensions: Some(&AZURE_EXTENSIONS),
            inline_interfaces: false,
            local_date_times: true,
            ..Self::language()
        }
    }
}
