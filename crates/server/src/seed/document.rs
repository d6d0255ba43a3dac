//! The text of a seed as a tree that knows its lines, whether it was TOML or JSON. Pure.

use std::borrow::Cow;
use std::fmt;

use base::caps;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;

/// A value with the line that it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Member>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The same without lines.
    pub(super) fn json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Flag(flag) => Json::Bool(*flag),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Self::json).collect(),
            Value::Table(members) => {
                let members = members.iter().map(|member| (member.name.clone(), member.node.json()));
                Json::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

/// A text whose lines are found by where they begin.
struct Lined<'t> {
    text: &'t str,
    begins: Vec<usize>,
}

impl<'t> Lined<'t> {
    fn new(text: &'t str) -> Self {
        let begins = text.char_indices().filter(|(_, c)| *c == '\n').map(|(at, _)| at + 1).collect();
        Self { text, begins }
    }

    /// The line, from 1, of a place in the text.
    fn line_at(&self, offset: usize) -> usize {
        1 + self.begins.partition_point(|begin| *begin <= offset)
    }
}

pub(super) fn toml(text: &str) -> Result<Node, Fault> {
    let text = &Lined::new(text);
    let root = DeTable::parse(text.text).map_err(|error| {
        let line = error.span().map_or(1, |span| text.line_at(span.start));
        Fault { line, message: error.message().to_owned() }
    })?;
    table_of(text, 1, root.get_ref(), 0)
}

fn table_of(text: &Lined<'_>, line: usize, table: &DeTable<'_>, depth: usize) -> Result<Node, Fault> {
    if depth > caps::JSON_DEPTH_MAX {
        return Err(Fault { line, message: "it is nested too deep".to_owned() });
    }
    let mut members: Vec<_> = table.iter().collect();
    // As they stand in the file.
    members.sort_by_key(|(name, _)| name.span().start);
    let member = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let line = text.line_at(name.span().start);
        let name: &Cow<'_, str> = name.get_ref();
        Ok(Member { name: name.to_string(), line, node: of_toml(text, line, value, depth + 1)? })
    };
    let members = members.into_iter().map(member).collect::<Result<_, _>>()?;
    Ok(Node { line, value: Value::Table(members) })
}

/// `line` is that of the name: a table's own place may be a later part of it.
fn of_toml(text: &Lined<'_>, line: usize, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Fault> {
    let own_line = text.line_at(value.span().start);
    let number = |text: &str| {
        let plain = text.replace('_', "");
        let plain = plain.strip_prefix('+').unwrap_or(&plain);
        let unfit = || Fault { line: own_line, message: format!("{text} is no number that JSON has") };
        plain.parse::<Number>().map_err(|_| unfit())
    };
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => {
            let parsed = i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix());
            Value::Number(match parsed {
                Ok(integer) => integer.into(),
                Err(_) => number(integer.as_str())?,
            })
        }
        DeValue::Float(float) => Value::Number(number(float.as_str())?),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            let item = |item| of_toml(text, own_line, item, depth + 1);
            let items = items.iter().map(|one| {
                let node = item(one)?;
                Ok(Node { line: text.line_at(one.span().start), ..node })
            });
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return table_of(text, line, table, depth + 1),
    };
    Ok(Node { line: own_line, value })
}

pub(super) fn json(text: &str) -> Result<Node, Fault> {
    let whole: &RawValue = serde_json::from_str(text)
        .map_err(|error| Fault { line: error.line().max(1), message: error.to_string() })?;
    of_json(&Lined::new(text), whole, 0)
}

/// Every value is a part of the text, so its place is known.
fn of_json(text: &Lined<'_>, raw: &RawValue, depth: usize) -> Result<Node, Fault> {
    let offset = raw.get().as_ptr() as usize - text.text.as_ptr() as usize;
    let line = text.line_at(offset);
    let fault = |error: serde_json::Error| Fault {
        line: line + error.line().saturating_sub(1),
        message: error.to_string(),
    };
    if depth > caps::JSON_DEPTH_MAX {
        return Err(Fault { line, message: "it is nested too deep".to_owned() });
    }
    let value = match raw.get().as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(raw.get()).map_err(fault)?;
            let member = |(name, value): (Cow<'_, str>, &RawValue)| {
                let node = of_json(text, value, depth + 1)?;
                Ok(Member { name: name.into_owned(), line: node.line, node })
            };
            Value::Table(members.into_iter().map(member).collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(fault)?;
            Value::List(
                items.into_iter().map(|item| of_json(text, item, depth + 1)).collect::<Result<_, _>>()?,
            )
        }
        _ => match serde_json::from_str(raw.get()).map_err(fault)? {
            Json::Bool(flag) => Value::Flag(flag),
            Json::Number(number) => Value::Number(number),
            Json::String(text) => Value::Text(text),
            _ => Value::Null,
        },
    };
    Ok(Node { line, value })
}

/// The members of an object in their order. A second one of a name is refused, as in TOML.
struct Members<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'t> serde::Deserialize<'t> for Members<'t> {
    fn deserialize<D: Deserializer<'t>>(reader: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'t> Visitor<'t> for InOrder {
            type Value = Members<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Members<'t>, A::Error> {
                let mut members: Vec<(Cow<'t, str>, &'t RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<Cow<'t, str>>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom(format!("`{name}` is given twice")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        reader.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(node: &Node) -> Vec<(String, usize)> {
        let Value::Table(members) = &node.value else { panic!("{node:?}") };
        members.iter().map(|member| (member.name.clone(), member.line)).collect()
    }

    fn member<'n>(node: &'n Node, name: &str) -> &'n Node {
        let Value::Table(members) = &node.value else { panic!("{node:?}") };
        &members.iter().find(|member| member.name == name).unwrap().node
    }

    #[test]
    fn every_value_of_a_toml_text_knows_its_line() {
        let text = "# one\nb = 1\n\na = 'x'\n[[list]]\nid = 'one'\n[[list]]\nid = 'two'\ndeep = { x = 0x1F, y = [1,\n 2.5] }\n";
        let root = toml(text).unwrap();
        assert_eq!(lines(&root), [("b".into(), 2), ("a".into(), 4), ("list".into(), 5)]);
        let Value::List(items) = &member(&root, "list").value else { panic!() };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [5, 7]);
        let deep = member(&items[1], "deep");
        assert_eq!(deep.json(), serde_json::json!({"x": 31, "y": [1, 2.5]}));
        let Value::List(numbers) = &member(deep, "y").value else { panic!() };
        assert_eq!(numbers[1].line, 10);
    }

    #[test]
    fn every_value_of_a_json_text_knows_its_line() {
        let text = "{\n \"b\": 1,\n \"a\": [\n  {\"x\": null},\n  {\n   \"y\": \"\\u0041\"}\n ]\n}";
        let root = json(text).unwrap();
        assert_eq!(lines(&root), [("b".into(), 2), ("a".into(), 3)]);
        let Value::List(items) = &member(&root, "a").value else { panic!() };
        assert_eq!((items[0].line, items[1].line, member(&items[1], "y").line), (4, 5, 6));
        assert_eq!(root.json(), serde_json::json!({"b": 1, "a": [{"x": null}, {"y": "A"}]}));
    }

    #[test]
    fn what_is_no_toml_or_json_says_in_which_line() {
        assert_eq!(toml("a = 1\nb = = 2\n").unwrap_err().line, 2);
        assert_eq!(toml("a = 1\na = 2\n").unwrap_err().line, 2);
        assert_eq!(toml("a = inf\n").unwrap_err().line, 1);
        assert_eq!(json("{\n\"a\": 1,\n}").unwrap_err().line, 3);
        let twice = json("{\n\"a\":\n{\"b\": 1,\n\"b\": 2}}").unwrap_err();
        assert!(twice.line >= 3 && twice.message.contains("`b` is given twice"), "{twice:?}");
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(110), "]".repeat(110));
        assert!(json(&deep).unwrap_err().message.contains("deep"));
    }
}
