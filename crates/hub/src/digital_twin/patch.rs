//! What a patch of a digital twin asks of the desired properties. Its paths are `/property`, `/component/property` and `/component`;
//! a component is told from a property by what the twin holds, or else by the shape of the patch. Pure: values in, value out.

use std::collections::BTreeSet;

use base::caps;
use base::json::Object;
use base::json_patch::{Action, Operation};
use serde_json::Value;

use super::view;
use crate::error::Error;
use crate::twin::DeviceTwin;

const METADATA: &str = "$metadata";

/// The merge patch that brings the desired properties to where the operations lead, one after the other.
pub(super) fn desired(twin: &DeviceTwin, operations: &[Operation]) -> Result<Object, Error> {
    let mut state = State { twin, desired: twin.properties.desired.values.clone(), touched: BTreeSet::new() };
    operations.iter().try_for_each(|operation| state.apply(operation))?;
    Ok(state.into_merge())
}

struct State<'a> {
    twin: &'a DeviceTwin,
    desired: Object,
    /// Properties, as the names of their component, if they have one, and of themselves.
    touched: BTreeSet<(Option<String>, String)>,
}

impl State<'_> {
    fn apply(&mut self, operation: &Operation) -> Result<(), Error> {
        let segments = operation.path.segments();
        if !(1..=2).contains(&segments.len()) || !segments.iter().all(|name| is_name(name)) {
            let text = format!("The path '{}' does not lead to a property or a component.", operation.path);
            return Err(Error::InvalidDigitalTwinPatchPath(text));
        }
        let value = operation.action.value();
        match segments {
            [component, property] => {
                self.check_component(component)?;
                check_value(property, value)?;
                self.write(Some(component), property, value.cloned());
                Ok(())
            }
            [name] if self.is_component(name) => self.write_component(name, &operation.action),
            [name] if value.is_some_and(|value| value.get(METADATA).is_some()) => {
                self.check_component(name)?;
                self.write_component(name, &operation.action)
            }
            [name] => {
                check_value(name, value)?;
                self.write(None, name, value.cloned());
                Ok(())
            }
            _ => unreachable!("a path of one or two names"),
        }
    }

    /// A component whole: properties that the value does not name are cleared.
    fn write_component(&mut self, name: &str, action: &Action) -> Result<(), Error> {
        let given = match action.value() {
            None => Object::new(),
            Some(Value::Object(members)) if is_empty_object(members.get(METADATA)) => members.clone(),
            Some(_) => {
                return Err(refused(
                    name,
                    "is a component: its value must be an object with an empty '$metadata'",
                ));
            }
        };
        let (mark, component) = view::mark();
        let held = self.desired.get(name).and_then(Value::as_object);
        let held: Vec<String> = held.map(|members| members.keys().cloned().collect()).unwrap_or_default();
        for property in held.iter().filter(|property| **property != mark) {
            self.write(Some(name), property, None);
        }
        if action.value().is_some() {
            self.write(Some(name), &mark, Some(component));
        }
        for (property, value) in given.into_iter().filter(|(property, _)| property != METADATA) {
            if !is_name(&property) {
                return Err(refused(&property, "is not the name of a property"));
            }
            check_value(&property, Some(&value))?;
            self.write(Some(name), &property, Some(value));
        }
        Ok(())
    }

    fn write(&mut self, component: Option<&str>, property: &str, value: Option<Value>) {
        let members = match component {
            None => &mut self.desired,
            Some(component) => members(&mut self.desired, component),
        };
        match value {
            Some(value) => members.insert(property.to_owned(), value),
            None => members.shift_remove(property),
        };
        self.touched.insert((component.map(str::to_owned), property.to_owned()));
    }

    fn is_component(&self, name: &str) -> bool {
        view::is_component(self.twin, name) || self.desired.get(name).is_some_and(view::is_marked)
    }

    /// What the twin holds already under the name must not be a property.
    fn check_component(&self, name: &str) -> Result<(), Error> {
        let is_taken =
            self.desired.contains_key(name) || self.twin.properties.reported.values.contains_key(name);
        if self.is_component(name) || !is_taken {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "'{name}' exists within the device twin and is not digital twin conformant property. Please refer to aka.ms/dtpatch to \
             update this to be conformant."
        )))
    }

    fn into_merge(self) -> Object {
        let mut merge = Object::new();
        for (component, property) in &self.touched {
            let within = |section: &Object| match component {
                None => section.get(property).cloned(),
                Some(component) => section.get(component).and_then(|members| members.get(property)).cloned(),
            };
            let (old, new) = (within(&self.twin.properties.desired.values), within(&self.desired));
            if old.is_none() && new.is_none() {
                continue;
            }
            let place = match component {
                None => &mut merge,
                Some(component) => members(&mut merge, component),
            };
            place.insert(property.clone(), replacement(old.as_ref(), new));
        }
        merge
    }
}

/// The members of a component below `section`, which has one from now on.
fn members<'a>(section: &'a mut Object, component: &str) -> &'a mut Object {
    let value = section.entry(component).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    let Value::Object(members) = value else { unreachable!("it has just become an object") };
    let (mark, component) = view::mark();
    members.insert(mark, component);
    members
}

/// The merge patch that makes `new` of `old`: a merge alone would keep members that `new` does not have.
fn replacement(old: Option<&Value>, new: Option<Value>) -> Value {
    match (old, new) {
        (_, None) => Value::Null,
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            Value::Object(crate::twin::rules::with_removals(old, &new))
        }
        (_, Some(new)) => new,
    }
}

/// As DTDL names properties, components and commands.
fn is_name(text: &str) -> bool {
    let length = text.chars().count();
    (1..=caps::PLUG_AND_PLAY_NAME_CHARACTERS_MAX).contains(&length)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with('_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_empty_object(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Object(members)) if members.is_empty())
}

/// A property's value: scalars, and objects of them down to a depth.
fn check_value(name: &str, value: Option<&Value>) -> Result<(), Error> {
    fn check(name: &str, value: &Value, depth: usize) -> Result<(), Error> {
        match value {
            Value::Array(_) => Err(refused(name, "holds an array")),
            Value::Null => Err(refused(name, "holds null; 'remove' clears a property")),
            Value::Object(_) if depth >= caps::PLUG_AND_PLAY_DEPTH_MAX => {
                Err(refused(name, &format!("is nested deeper than {} levels", caps::PLUG_AND_PLAY_DEPTH_MAX)))
            }
            Value::Object(members) => members.iter().try_for_each(|(member, value)| {
                if is_name(member) {
                    check(name, value, depth + 1)
                } else {
                    Err(refused(name, &format!("has the member '{member}', which is not a name of DTDL")))
                }
            }),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }
    value.map_or(Ok(()), |value| check(name, value, 0))
}

fn refused(name: &str, why: &str) -> Error {
    let name: String = name.chars().take(caps::PLUG_AND_PLAY_NAME_CHARACTERS_MAX).collect();
    Error::InvalidDigitalTwinPatch(format!("'{name}' {why}."))
}
