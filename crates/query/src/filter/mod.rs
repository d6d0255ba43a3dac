//! The filter language of Digital Twins event routes: a condition over one event. `digital_twins` parses a
//! filter when a route is put and asks it for every event.

use base::caps;
use serde_json::Value as Json;

use crate::cursor::Cursor;
use crate::error::SyntaxError;
use crate::evaluate::{self, Scope};
use crate::parser::{self, Dialect};
use crate::token::Kind;
use crate::tree::{Expression, Function};
use crate::value::Value;

/// What a filter looks at.
pub trait Message {
    /// A `CloudEvents` attribute by its lower-case name; `None` if this event has none.
    fn attribute(&self, name: &str) -> Option<&str>;

    /// The event's `data`, if it is JSON.
    fn body(&self) -> Option<&Json>;
}

/// A route's condition, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Expression<Reference>);

#[derive(Clone, Debug, PartialEq)]
enum Reference {
    Attribute(&'static str),
    /// `$eventType`, from before `CloudEvents`: a class of events under its old name.
    LegacyEventType,
    Body(Vec<String>),
}

const ATTRIBUTES: &[&str] =
    &["type", "source", "subject", "dataschema", "datacontenttype", "specversion", "id", "time"];

impl Filter {
    /// An empty filter is no filter that Azure takes; `true` selects everything and `false` nothing.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let cursor = &mut Cursor::new(text, caps::QUERY_CHARACTERS_MAX)?;
        let condition = parser::condition(&Language, cursor)?;
        cursor.expect_end()?;
        Ok(Self(condition))
    }

    pub fn matches(&self, message: &impl Message) -> bool {
        evaluate::truth(&self.0, &Attributes(message)) == Some(true)
    }
}

struct Language;

impl Dialect for Language {
    type Leaf = Reference;

    fn leaf(&self, cursor: &mut Cursor<'_>) -> Result<Reference, SyntaxError> {
        if cursor.kind() == Kind::Word && cursor.next_kind() == Kind::LeftParenthesis {
            return Err(cursor.no_alternative());
        }
        let start = cursor.no_alternative();
        let path = parser::path(cursor, &["AND", "OR", "NOT", "IN", "NIN"])?;
        match path.segments.as_slice() {
            [root, members @ ..] if root.eq_ignore_ascii_case("$body") => {
                Ok(Reference::Body(members.to_vec()))
            }
            [name] if name.eq_ignore_ascii_case("$eventType") => Ok(Reference::LegacyEventType),
            [name] => ATTRIBUTES
                .iter()
                .find(|known| name.eq_ignore_ascii_case(known))
                .map(|known| Reference::Attribute(known))
                .ok_or(start),
            _ => Err(start),
        }
    }

    fn function(&self, name: &str) -> Option<Function> {
        Some(match name.to_ascii_uppercase().as_str() {
            "STARTS_WITH" => Function::StartsWith,
            "ENDS_WITH" => Function::EndsWith,
            "CONTAINS" => Function::Contains,
            _ => return None,
        })
    }
}

struct Attributes<'m, M>(&'m M);

impl<M: Message> Scope<Reference> for Attributes<'_, M> {
    fn look_up<'s>(&'s self, reference: &'s Reference) -> Value<'s> {
        let text = match reference {
            Reference::Body(path) => {
                return self.0.body().map_or(Value::Undefined, |body| Value::at(body, path));
            }
            Reference::Attribute(name) => self.0.attribute(name),
            Reference::LegacyEventType => self.0.attribute("type").and_then(legacy_event_type),
        };
        text.map_or(Value::Undefined, |text| Value::Text(text.into()))
    }
}

/// The name that an event's class had before `CloudEvents`.
fn legacy_event_type(event_type: &str) -> Option<&'static str> {
    Some(match event_type {
        "microsoft.iot.telemetry" => "DigitalTwinTelemetryMessages",
        "Microsoft.DigitalTwins.Twin.Create" | "Microsoft.DigitalTwins.Twin.Delete" => {
            "DigitalTwinLifecycleNotification"
        }
        "Microsoft.DigitalTwins.Twin.Update" => "DigitalTwinChangeNotification",
        _ if event_type.starts_with("Microsoft.DigitalTwins.Relationship.") => {
            "DigitalTwinEdgeChangeNotification"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
