//! The language of conditions of a hub's message routes (`iothub-service.md` §11.3): over the properties of one message, its body and
//! the twin of its device. `resource_manager` parses a condition when a route is put or tried; whoever routes asks it of every message.

mod syntax;
#[cfg(test)]
mod tests;

use serde_json::Value as Json;

use crate::error::SyntaxError;
use crate::evaluate::{self, Scope};
use crate::tree::Expression;
use crate::value::Value;

/// What a condition looks at.
pub trait Message {
    /// By its name without `$`, in any case; `None` if this message has none.
    fn system_property(&self, name: &str) -> Option<&str>;

    /// By its name in any case.
    fn application_property(&self, name: &str) -> Option<&str>;

    /// If it is JSON, and [`is_json`] says that it may be looked into.
    fn body(&self) -> Option<&Json>;

    /// `tags` and `properties` of the device or module that the message is from.
    fn twin(&self) -> Option<&Json>;
}

/// A route's condition, checked. The one of no text is true of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(Option<Expression<Reference>>);

#[derive(Clone, Debug, PartialEq)]
enum Reference {
    /// Without its `$`.
    System(String),
    Application(String),
    Body(Vec<Step>),
    Twin(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Element(usize),
}

impl Condition {
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        syntax::condition(text).map(Self)
    }

    /// Three-valued: `None` is undefined, which routes nothing.
    pub fn truth(&self, message: &impl Message) -> Option<bool> {
        self.0.as_ref().map_or(Some(true), |condition| evaluate::truth(condition, &Properties(message)))
    }

    /// Whether it may look at a twin, which has to be read for it.
    pub fn looks_at_twin(&self) -> bool {
        let mut looks = false;
        if let Some(condition) = &self.0 {
            condition.leaves(&mut |reference| looks |= matches!(reference, Reference::Twin(_)));
        }
        looks
    }
}

/// Whether a body of this type and encoding may be looked into.
pub fn is_json(content_type: Option<&str>, content_encoding: Option<&str>) -> bool {
    let is_one_of = |text: Option<&str>, known: &[&str]| {
        text.is_some_and(|text| known.iter().any(|known| known.eq_ignore_ascii_case(text.trim())))
    };
    is_one_of(content_type, &["application/json"])
        && is_one_of(content_encoding, &["utf-8", "utf-16", "utf-32"])
}

struct Properties<'m, M>(&'m M);

impl<M: Message> Scope<Reference> for Properties<'_, M> {
    fn look_up<'s>(&'s self, reference: &'s Reference) -> Value<'s> {
        let text = match reference {
            // A device may give its own property a name that begins like those of the system.
            Reference::System(name) => {
                self.0.system_property(name).or_else(|| self.0.application_property(&format!("${name}")))
            }
            Reference::Application(name) => self.0.application_property(name),
            Reference::Body(steps) => return at(self.0.body(), steps, member),
            Reference::Twin(steps) => return at(self.0.twin(), steps, member_in_any_case),
        };
        text.map_or(Value::Undefined, |text| Value::Text(text.into()))
    }
}

type FindMember = for<'j> fn(&'j Json, &str) -> Option<&'j Json>;

fn at<'j>(json: Option<&'j Json>, steps: &[Step], find: FindMember) -> Value<'j> {
    let step = |here: &'j Json, step: &Step| match step {
        Step::Member(name) => find(here, name),
        Step::Element(index) => here.as_array()?.get(*index),
    };
    json.and_then(|json| steps.iter().try_fold(json, step)).map_or(Value::Undefined, Value::from)
}

fn member<'j>(json: &'j Json, name: &str) -> Option<&'j Json> {
    json.as_object()?.get(name)
}

/// The one that is written so, else the first that differs by case alone.
fn member_in_any_case<'j>(json: &'j Json, name: &str) -> Option<&'j Json> {
    let members = json.as_object()?;
    let alike = || members.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    members.get(name).or_else(alike)
}
