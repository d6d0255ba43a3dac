//! JSON Patch (RFC 6902) as the service takes it: `add`, `replace` and `remove`, bounded, never a panic.
//! Called by every PATCH operation's rules. It must never know a model, a twin or HTTP.

use crate::caps;
use serde_json::Value;
use serde_json::value::RawValue;

/// One step of a patch document.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub path: Pointer,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Add(Value),
    Replace(Value),
    Remove,
}

/// A JSON Pointer (RFC 6901), split and unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The text cannot be read as a list of operations at all; the service answers this outside of its envelope.
    #[error("{reason}")]
    Unreadable { place: String, reason: String },
    #[error("Parameter {0} must not be empty.")]
    ParameterEmpty(&'static str),
    #[error("Unsupported operation type {0}.")]
    Unsupported(String),
    #[error("The provided path '{0}' is invalid.")]
    PathInvalid(String),
    #[error("The number of operations exceeds the maximum of {}.", caps::JSON_PATCH_OPERATIONS_MAX)]
    TooMany,
    #[error("The target location specified by path segment '{0}' was not found.")]
    NotFound(String),
    #[error("Could not resolve path {0}.")]
    Unresolved(String),
    #[error("The path {0} cannot be modified.")]
    Forbidden(String),
    #[error("{0} does not exist on component.")]
    Undeclared(String),
}

impl Pointer {
    pub fn parse(text: &str) -> Result<Self, PatchError> {
        let invalid = || PatchError::PathInvalid(text.chars().take(caps::ID_CHARACTERS_MAX).collect());
        if text.is_empty() {
            return Ok(Self(vec![]));
        }
        let rest = text.strip_prefix('/').ok_or_else(invalid)?;
        let segments = rest.split('/').map(unescape).collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
        if segments.len() > caps::JSON_DEPTH_MAX {
            return Err(invalid());
        }
        Ok(Self(segments))
    }

    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// The same place seen from one level above, where this document is the member `name`.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self(std::iter::once(name.to_owned()).chain(self.0.iter().cloned()).collect())
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_pointer(f, &self.0)
    }
}

/// Any run of segments, written as a pointer.
struct Segments<'a>(&'a [String]);

impl std::fmt::Display for Segments<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_pointer(f, self.0)
    }
}

fn write_pointer(f: &mut std::fmt::Formatter<'_>, segments: &[String]) -> std::fmt::Result {
    segments.iter().try_for_each(|s| write!(f, "/{}", s.replace('~', "~0").replace('/', "~1")))
}

fn unescape(segment: &str) -> Option<String> {
    let mut out = String::with_capacity(segment.len());
    let mut chars = segment.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

impl Action {
    /// `add`, `replace` or `remove`, as events repeat it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Replace(_) => "replace",
            Self::Remove => "remove",
        }
    }

    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Add(value) | Self::Replace(value) => Some(value),
            Self::Remove => None,
        }
    }
}

/// Reads a patch document. Members that RFC 6902 does not name are ignored, as it asks.
pub fn parse(body: &[u8]) -> Result<Vec<Operation>, PatchError> {
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| malformed())?;
    if elements.len() > caps::JSON_PATCH_OPERATIONS_MAX {
        return Err(PatchError::TooMany);
    }
    elements.iter().enumerate().map(|(index, element)| operation(text, index, element.get())).collect()
}

fn malformed() -> PatchError {
    PatchError::Unreadable {
        place: String::new(),
        reason: "The JSON patch document was malformed and could not be parsed.".to_owned(),
    }
}

fn operation(text: &str, index: usize, element: &str) -> Result<Operation, PatchError> {
    let value: Value = serde_json::from_str(element).map_err(|_| malformed())?;
    let Value::Object(mut members) = value else { return Err(not_an_operation(text, index, element)) };
    let op = text_member(&members, "op")?;
    let path = text_member(&members, "path");
    let value = |members: &mut crate::json::Object| {
        members.shift_remove("value").ok_or(PatchError::ParameterEmpty("value"))
    };
    // The service reads the names of operations without regard to case.
    let action = match op.to_ascii_lowercase().as_str() {
        "add" => Action::Add(value(&mut members)?),
        "replace" => Action::Replace(value(&mut members)?),
        "remove" => Action::Remove,
        _ => return Err(PatchError::Unsupported(op.chars().take(caps::ID_CHARACTERS_MAX).collect())),
    };
    Ok(Operation { path: Pointer::parse(&path?)?, action })
}

fn text_member(members: &crate::json::Object, name: &'static str) -> Result<String, PatchError> {
    match members.get(name) {
        Some(Value::String(text)) if !text.is_empty() || name == "path" => Ok(text.clone()),
        _ => Err(PatchError::ParameterEmpty(name)),
    }
}

/// The recorded answer names the element and where its text ends, counted in characters of its line.
fn not_an_operation(text: &str, index: usize, element: &str) -> PatchError {
    let end = (element.as_ptr() as usize).saturating_sub(text.as_ptr() as usize) + element.len();
    let before = text.get(..end).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let position = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let shown: String = element.chars().take(caps::ID_CHARACTERS_MAX).collect();
    PatchError::Unreadable {
        place: format!("[{index}]"),
        reason: format!(
            "Error converting value {shown} to type 'Microsoft.AspNetCore.JsonPatch.Operations.Operation'. \
             Path '[{index}]', line {line}, position {position}."
        ),
    }
}

/// Applies one action at `path` below `target`. On an error `target` is unchanged.
pub fn apply(target: &mut Value, path: &[String], action: &Action) -> Result<(), PatchError> {
    let Some((last, parents)) = path.split_last() else {
        return match action {
            Action::Add(value) | Action::Replace(value) => {
                *target = value.clone();
                Ok(())
            }
            Action::Remove => Err(PatchError::PathInvalid(String::new())),
        };
    };
    let mut parent = target;
    for segment in parents {
        parent = child(parent, segment).ok_or_else(|| PatchError::Unresolved(Segments(path).to_string()))?;
    }
    match parent {
        Value::Object(members) => at_member(members, last, action),
        Value::Array(items) => at_index(items, last, action),
        _ => Err(PatchError::Unresolved(Segments(path).to_string())),
    }
}

fn child<'a>(parent: &'a mut Value, segment: &str) -> Option<&'a mut Value> {
    match parent {
        Value::Object(members) => members.get_mut(segment),
        Value::Array(items) => index(segment).and_then(|at| items.get_mut(at)),
        _ => None,
    }
}

/// A member that is replaced keeps its place; a new one comes last.
fn at_member(members: &mut crate::json::Object, name: &str, action: &Action) -> Result<(), PatchError> {
    let absent = || PatchError::NotFound(name.to_owned());
    match action {
        Action::Add(value) => {
            members.insert(name.to_owned(), value.clone());
        }
        Action::Replace(value) => *members.get_mut(name).ok_or_else(absent)? = value.clone(),
        Action::Remove => {
            members.shift_remove(name).ok_or_else(absent)?;
        }
    }
    Ok(())
}

fn at_index(items: &mut Vec<Value>, segment: &str, action: &Action) -> Result<(), PatchError> {
    let absent = || PatchError::NotFound(segment.to_owned());
    let at = match (segment, action) {
        ("-", Action::Add(_)) => Some(items.len()),
        _ => index(segment),
    };
    let at = at.ok_or_else(absent)?;
    match action {
        Action::Add(value) if at <= items.len() => items.insert(at, value.clone()),
        Action::Replace(value) if at < items.len() => items[at] = value.clone(),
        Action::Remove if at < items.len() => {
            items.remove(at);
        }
        _ => return Err(absent()),
    }
    Ok(())
}

/// An array index of RFC 6901: digits without a leading zero.
fn index(segment: &str) -> Option<usize> {
    let canonical = segment == "0" || !segment.starts_with('0');
    let digits = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
    (canonical && digits).then(|| segment.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(mut target: Value, patch: &Value) -> Result<Value, PatchError> {
        for operation in parse(patch.to_string().as_bytes())? {
            apply(&mut target, operation.path.segments(), &operation.action)?;
        }
        Ok(target)
    }

    #[test]
    fn operations_add_replace_and_remove_in_order() {
        let patch = json!([
            {"op": "add", "path": "/b", "value": {"c": [1, 3]}},
            {"op": "add", "path": "/b/c/1", "value": 2},
            {"op": "add", "path": "/b/c/-", "value": 4},
            {"op": "Replace", "path": "/b/c/0", "value": 0},
            {"op": "remove", "path": "/a"},
            {"op": "add", "path": "/x~1y~0z", "value": null, "comment": "ignored"},
        ]);
        assert_eq!(
            patched(json!({"a": 1}), &patch).unwrap(),
            json!({"b": {"c": [0, 2, 3, 4]}, "x/y~z": null})
        );
    }

    #[test]
    fn refusals_carry_the_recorded_texts() {
        let target = json!({"a": {"b": 1}, "list": [1]});
        let cases = [
            (json!([{"op": "move", "path": "/a", "from": "/b"}]), "Unsupported operation type move."),
            (json!([{}]), "Parameter op must not be empty."),
            (json!([{"op": "add", "value": 1}]), "Parameter path must not be empty."),
            (json!([{"op": "add", "path": "/a"}]), "Parameter value must not be empty."),
            (
                json!([{"op": "remove", "path": "/c"}]),
                "The target location specified by path segment 'c' was not found.",
            ),
            (
                json!([{"op": "replace", "path": "/a/x", "value": 1}]),
                "The target location specified by path segment 'x' was not found.",
            ),
            (json!([{"op": "add", "path": "/c/d", "value": 1}]), "Could not resolve path /c/d."),
            (json!([{"op": "add", "path": "/a/b/c", "value": 1}]), "Could not resolve path /a/b/c."),
            (json!([{"op": "add", "path": "a", "value": 1}]), "The provided path 'a' is invalid."),
            (json!([{"op": "add", "path": "/a~2", "value": 1}]), "The provided path '/a~2' is invalid."),
            (
                json!([{"op": "replace", "path": "/list/1", "value": 1}]),
                "The target location specified by path segment '1' was not found.",
            ),
            (
                json!([{"op": "add", "path": "/list/01", "value": 1}]),
                "The target location specified by path segment '01' was not found.",
            ),
        ];
        for (patch, text) in cases {
            assert_eq!(patched(target.clone(), &patch).unwrap_err().to_string(), text, "{patch}");
        }
    }

    #[test]
    fn an_element_that_is_no_object_is_reported_with_its_place() {
        let Err(PatchError::Unreadable { place, reason }) = parse(br#"["thisIsNotAPatch..."]"#) else {
            panic!("accepted")
        };
        assert_eq!(place, "[0]");
        assert_eq!(
            reason,
            "Error converting value \"thisIsNotAPatch...\" to type \
             'Microsoft.AspNetCore.JsonPatch.Operations.Operation'. Path '[0]', line 1, position 21."
        );
        for body in [&b"{}"[..], b"", b"[", b"null", b"\xff", b"[{]"] {
            assert!(matches!(parse(body), Err(PatchError::Unreadable { .. })));
        }
    }

    #[test]
    fn a_document_has_a_bounded_number_of_operations() {
        let operations = |n| json!(vec![json!({"op": "remove", "path": "/a"}); n]).to_string();
        assert!(parse(operations(caps::JSON_PATCH_OPERATIONS_MAX).as_bytes()).is_ok());
        assert_eq!(
            parse(operations(caps::JSON_PATCH_OPERATIONS_MAX + 1).as_bytes()),
            Err(PatchError::TooMany)
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c/~]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c0-2/~]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn parsing_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }

        #[test]
        fn a_pointer_reads_back_what_it_writes(segments in prop::collection::vec("[a-c/~0-1]{0,4}", 1..5)) {
            let pointer = Pointer(segments);
            prop_assert_eq!(Pointer::parse(&pointer.to_string()).unwrap(), pointer);
        }

        #[test]
        fn applying_never_panics_and_a_refused_step_changes_nothing(
            target in any_json(),
            path in "(/([a-c0-2-]|~0|~1){0,2}){0,4}",
            value in any_json(),
            kind in 0..3,
        ) {
            let pointer = Pointer::parse(&path).unwrap();
            let action = match kind {
                0 => Action::Add(value),
                1 => Action::Replace(value),
                _ => Action::Remove,
            };
            let mut after = target.clone();
            if apply(&mut after, pointer.segments(), &action).is_err() {
                prop_assert_eq!(after, target);
            }
        }

        #[test]
        fn an_added_member_is_found_where_it_was_put(
            mut target in prop::collection::vec(("[a-c]{1}", any_json()), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            name in "[a-d]{1}",
            value in any_json(),
        ) {
            let path = [name.clone()];
            apply(&mut target, &path, &Action::Add(value.clone())).unwrap();
            prop_assert_eq!(target.get(&name), Some(&value));
            apply(&mut target, &path, &Action::Remove).unwrap();
            prop_assert_eq!(target.get(&name), None);
        }
    }
}
