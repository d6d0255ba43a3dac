//! Values that travel beside a statement's text, for either engine.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parameter {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Json(String),
    Texts(Vec<String>),
    Jsons(Vec<String>),
}

impl ToSql for Parameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Integer(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Real(value) => ToSqlOutput::Owned(Value::Real(*value)),
            Self::Text(text) | Self::Json(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            // This engine has no arrays: its lists are JSON.
            Self::Texts(items) | Self::Jsons(items) => {
                let items: serde_json::Value = items.iter().map(String::as_str).collect();
                ToSqlOutput::Owned(Value::Text(items.to_string()))
            }
        })
    }
}
