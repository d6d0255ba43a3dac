//! DTDL: models, their rules, and whether values fit them. Called by digital twins, queries and `twinhub models check`.
//! Pure: no I/O, no clock. Reports every issue with its place, not only the first.

mod added;
mod build;
mod context;
mod document;
mod dtmi;
mod element;
mod family;
mod graph;
mod issue;
mod literal;
mod model;
mod options;
mod parse;
mod resolved;
mod rules;
mod schema;
mod types;
mod vocabulary;

pub use document::INVALID_JSON;
use document::{Node, Place};
pub use dtmi::{Dtmi, InvalidDtmi, is_name};
use element::Reader;
pub use issue::{Issue, Position};
pub use model::{
    About, Annotation, Command, Component, Content, LanguageMap, Model, Payload, Property, Relationship,
    Telemetry,
};
pub use options::{Commands, Options, UndefinedExtensions};
pub use resolved::{Known, Resolved};
pub use schema::{Enumeration, EnumerationValue, Field, Geometry, Schema, Violation};

/// Parses a document: an interface, or an array of interfaces that may refer to each other and to known models, in any order.
/// Either all are valid or every issue is told, with its line and column. The models come in the order of the document;
/// interfaces written inside others follow.
pub fn parse_text(text: &str, known: &Known, options: &Options) -> Result<Vec<Model>, Vec<Issue>> {
    let node = match Node::from_text(text) {
        Ok(node) => node,
        Err(error) => return Err(vec![error.into()]),
    };
    let mut reader = Reader::new(options);
    reader.document(&node, &Place::root(&node));
    parse::finish(reader, known)
}

/// Every issue of a document. An empty answer means valid.
pub fn check_text(text: &str, known: &Known, options: &Options) -> Vec<Issue> {
    parse_text(text, known, options).err().unwrap_or_default()
}
