//! JSON rules that more than one service shares.

use serde_json::{Map, Value};

use crate::caps;

pub type Object = Map<String, Value>;

/// Where a text stops being JSON, as a clause of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    #[error("the JSON text ends too early")]
    EndsEarly,
    #[error("it is not JSON at line {line}, column {column}")]
    At { line: usize, column: usize },
}

impl From<serde_json::Error> for NotJson {
    fn from(error: serde_json::Error) -> Self {
        if error.is_eof() {
            return Self::EndsEarly;
        }
        Self::At { line: error.line(), column: error.column() }
    }
}

/// RFC 7396 merge patch: objects merge, `null` deletes, everything else replaces. The caller has bounded the depth.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge_patch(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Levels of objects and arrays in `value`; a scalar has none. Stops counting past `caps::JSON_DEPTH_MAX`.
pub fn depth(value: &Value) -> usize {
    fn walk(value: &Value, level: usize) -> usize {
        if level > caps::JSON_DEPTH_MAX {
            return level;
        }
        match value {
            Value::Object(members) => members.values().map(|v| walk(v, level + 1)).max().unwrap_or(level + 1),
            Value::Array(items) => items.iter().map(|v| walk(v, level + 1)).max().unwrap_or(level + 1),
            _ => level,
        }
    }
    walk(value, 0)
}

/// JSON without the blanks between its parts. The rest is not looked at: numbers and strings stay as they were written.
pub fn without_blanks(json: &str) -> String {
    let mut kept = String::with_capacity(json.len());
    let (mut is_string, mut is_escaped) = (false, false);
    kept.extend(json.chars().filter(|c| {
        let is_kept = is_string || !matches!(c, ' ' | '\t' | '\r' | '\n');
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_string,
            '"' => is_string = !is_string,
            _ => {}
        }
        is_kept
    }));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_merges_deletes_and_replaces() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 5});
        merge_patch(&mut target, &json!({"a": {"b": null, "x": {"y": null, "z": 1}}, "d": [2, 3], "e": {}}));
        assert_eq!(target, json!({"a": {"c": 2, "x": {"z": 1}}, "d": [2, 3], "e": {}}));
    }

    #[test]
    fn depth_counts_levels_of_objects_and_arrays() {
        assert_eq!(depth(&json!(1)), 0);
        assert_eq!(depth(&json!({})), 1);
        assert_eq!(depth(&json!({"a": [{"b": 1}]})), 3);
    }

    #[test]
    fn only_blanks_between_the_parts_go() {
        let text = "{ \"a b\" :\t[ 1.50 , \"\\\" \\\\\" ,\r\n\"\u{e9} \" ] }";
        assert_eq!(without_blanks(text), "{\"a b\":[1.50,\"\\\" \\\\\",\"\u{e9} \"]}");
    }
}
