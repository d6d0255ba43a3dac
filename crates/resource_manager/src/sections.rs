//! Parts of a resource's properties that are kept and shown as they came, such as a hub's routing: defaults for what is left
//! out, secrets masked for readers, masks that come back exchanged for what they hide. Pure.

use serde_json::{Map, Value};

const MASK: &str = "****";
/// Members whose whole value is a secret.
const SECRETS: &[&str] = &["primaryKey", "secondaryKey"];
/// Fields of connection strings that are secrets.
const SECRET_FIELDS: &[&str] = &["SharedAccessKey", "AccountKey", "SharedAccessSignature"];

/// `value` as readers may see it.
pub fn masked(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| {
                    let shown = match value {
                        Value::String(text) if SECRETS.contains(&name.as_str()) && !text.is_empty() => {
                            MASK.into()
                        }
                        Value::String(text) if name == "connectionString" => {
                            mask_connection_string(text).into()
                        }
                        other => masked(other),
                    };
                    (name.clone(), shown)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// A connection string with its key hidden: `HostName=h;SharedAccessKeyName=n;SharedAccessKey=****`.
pub fn mask_connection_string(text: &str) -> String {
    let mask = |field: &str| match field.split_once('=') {
        Some((name, _)) if SECRET_FIELDS.iter().any(|secret| secret.eq_ignore_ascii_case(name)) => {
            format!("{name}={MASK}")
        }
        _ => field.to_owned(),
    };
    text.split(';').map(mask).collect::<Vec<_>>().join(";")
}

/// Whether a connection string's key is hidden.
pub fn is_masked(text: &str) -> bool {
    text.split(';').filter_map(|field| field.split_once('=')).any(|(name, value)| {
        SECRET_FIELDS.iter().any(|secret| secret.eq_ignore_ascii_case(name))
            && value.len() >= 3
            && value.bytes().all(|b| b == b'*')
    })
}

/// Puts the secrets of `old` where `new` has masks of them. Elements of lists are matched by their `name`.
pub fn keep_secrets(old: &Value, new: &mut Value) {
    match new {
        Value::Array(items) => {
            let empty = Vec::new();
            let known = old.as_array().unwrap_or(&empty);
            for item in items {
                let name = item.get("name").cloned();
                let before = known.iter().find(|known| name.is_some() && known.get("name") == name.as_ref());
                keep_secrets(before.unwrap_or(&Value::Null), item);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                let before = old.get(name).unwrap_or(&Value::Null);
                match value {
                    Value::String(text)
                        if SECRETS.contains(&name.as_str()) && text == MASK && before.is_string() =>
                    {
                        *value = before.clone();
                    }
                    Value::String(text)
                        if name == "connectionString" && is_masked(text) && before.is_string() =>
                    {
                        *value = before.clone();
                    }
                    other => keep_secrets(before, other),
                }
            }
        }
        _ => {}
    }
}

/// The sections named in `defaults`, each as sent or else its default. What else was sent is not kept.
pub fn put(
    old: &Map<String, Value>,
    sent: &Map<String, Value>,
    defaults: &Map<String, Value>,
) -> Map<String, Value> {
    let mut next = Map::new();
    for (name, default) in defaults {
        let mut value = sent.get(name).filter(|value| !value.is_null()).unwrap_or(default).clone();
        if let (Value::Object(members), Value::Object(default)) = (&mut value, default) {
            for (name, value) in default {
                members.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        keep_secrets(old.get(name).unwrap_or(&Value::Null), &mut value);
        next.insert(name.clone(), value);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_is_hidden_and_comes_back_when_its_mask_does() {
        let stored = json!({"endpoints": {"eventHubs": [
            {"name": "a", "connectionString": "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=abc=;EntityPath=e"},
            {"name": "b", "primaryKey": "secret"}]}});
        let shown = masked(&stored);
        let text = shown.to_string();
        assert!(!text.contains("abc=") && !text.contains("secret"), "{text}");
        assert!(text.contains("SharedAccessKeyName=n;SharedAccessKey=****;EntityPath=e"), "{text}");
        let mut back = shown;
        back["endpoints"]["eventHubs"].as_array_mut().unwrap().reverse();
        keep_secrets(&stored, &mut back);
        assert_eq!(back["endpoints"]["eventHubs"][1], stored["endpoints"]["eventHubs"][0]);
        assert_eq!(back["endpoints"]["eventHubs"][0], stored["endpoints"]["eventHubs"][1]);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let defaults = json!({"a": {"x": 1, "y": 2}, "b": []});
        let next = put(
            &Map::new(),
            json!({"a": {"x": 5}, "c": 1}).as_object().unwrap(),
            defaults.as_object().unwrap(),
        );
        assert_eq!(Value::Object(next), json!({"a": {"x": 5, "y": 2}, "b": []}));
    }
}
