//! DTDL: models, their rules, and whether values fit them. Called by digital twins, queries and `twinhub models check`.
//! Pure: no I/O, no clock. Reports every issue with its place, not only the first.

mod dtmi;
mod issue;
mod model;
mod options;
mod resolved;
mod schema;

pub use dtmi::{Dtmi, InvalidDtmi, is_name};
pub use issue::{Issue, Position};
pub use model::{
    About, Annotation, Command, Component, Content, LanguageMap, Model, Payload, Property, Relationship,
    Telemetry,
};
pub use options::{Commands, Options, UndefinedExtensions};
pub use resolved::{Known, ModelSet, Resolved};
pub use schema::{Enumeration, EnumerationValue, Field, Geometry, Schema, Violation};

/// Parses interfaces that may refer to each other and to known models, in any order. Either all are valid or every issue is told.
/// Interfaces written inside others follow the top-level ones.
pub fn parse_models(
    values: &[serde_json::Value],
    known: &Known,
    options: &Options,
) -> Result<Vec<Model>, Vec<Issue>> {
    let _ = (values, known, options);
    Err(vec![])
}

/// Every issue of a document, with its line and column. An empty answer means valid.
pub fn check_text(text: &str, known: &Known, options: &Options) -> Vec<Issue> {
    let _ = (text, known, options);
    vec![]
}
