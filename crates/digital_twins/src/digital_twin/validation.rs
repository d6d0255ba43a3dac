//! Whether contents fit a model: names, schemas, sizes. Called by the rules of twins and of relationships.
//! Pure. It tells every violation, each as a sentence of its own.

use base::caps;
use base::json::Object;
use dtdl::{Options, Property};
use serde_json::Value;

use crate::model::Shape;

/// Checks a twin's properties and components (without `$metadata`) against its model.
pub(crate) fn twin(shape: &Shape, contents: &Object) -> Vec<String> {
    let mut found = properties(contents, &|name| shape.resolved.property(name), &|name| {
        shape.components.contains_key(name)
    });
    for (name, component) in &shape.components {
        match contents.get(name) {
            Some(Value::Object(members)) => {
                found.extend(properties(members, &|name| component.resolved.property(name), &|_| false));
            }
            Some(_) => found.push(format!("{name} is a component and must be an object.")),
            None => found.push(format!("{name} is a component of the model and must be present.")),
        }
    }
    found
}

/// Checks the properties of a relationship.
pub(crate) fn relationship(declared: &dtdl::Relationship, contents: &Object) -> Vec<String> {
    let property = |name: &str| declared.properties.iter().find(|property| property.name == name);
    let mut found = Vec::new();
    for (name, value) in contents {
        match property(name) {
            Some(property) => found.extend(value_violations(name, property, value)),
            None => found.push(format!("{name} does not appear on the DTDL for Relationship.")),
        }
    }
    found
}

fn properties<'a>(
    members: &Object,
    property: &dyn Fn(&str) -> Option<&'a Property>,
    is_component: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in members {
        match property(name) {
            Some(property) => found.extend(value_violations(name, property, value)),
            None if is_component(name) => {}
            None => found.push(format!("{name} does not appear on the DTDL for Twin.")),
        }
    }
    found
}

fn value_violations(name: &str, property: &Property, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Err(violations) = property.schema.validate(value, &Options::azure_digital_twins()) {
        found.extend(violations.into_iter().map(|violation| {
            format!("The value of {name}{} is invalid: {}.", violation.path, violation.message)
        }));
    }
    if let Some(why) = size_violation(value) {
        found.push(format!("The value of {name} is invalid: {why}."));
    }
    found
}

/// Strings and names within a value are bounded (Azure Digital Twins service limits), and names may not look like metadata.
fn size_violation(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.len() > caps::DIGITAL_TWIN_STRING_BYTES_MAX => {
            Some(format!("a string is longer than {} bytes", caps::DIGITAL_TWIN_STRING_BYTES_MAX))
        }
        Value::Array(items) => items.iter().find_map(size_violation),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if name.is_empty() || name.starts_with('$') {
                return Some(format!("the name '{name}' is not allowed"));
            }
            if name.len() > caps::DIGITAL_TWIN_NAME_BYTES_MAX {
                return Some(format!("a name is longer than {} bytes", caps::DIGITAL_TWIN_NAME_BYTES_MAX));
            }
            size_violation(member)
        }),
        _ => None,
    }
}
