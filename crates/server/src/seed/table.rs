//! A table of a seed, read member by member: what is missing, of another kind, out of its alphabet or unknown is a fault with its
//! line, and reading goes on.

use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;

use base::json::Object;
use base::{Key, Secret};
use serde_json::Value as Json;

use super::document::{Member, Node, Value};
use super::fault::Faults;

/// From here on a name is taken for a misspelling of another.
const LIKENESS_MIN: f64 = 0.75;

pub(super) struct Table<'n> {
    /// As people would call it: `device "thermostat-1"`.
    pub(super) what: String,
    pub(super) line: usize,
    members: &'n [Member],
    asked: RefCell<Vec<&'static str>>,
    faults: &'n Faults,
}

impl<'n> Table<'n> {
    pub(super) fn of(what: &str, node: &'n Node, faults: &'n Faults) -> Self {
        let members = match &node.value {
            Value::Table(members) => members.as_slice(),
            other => {
                faults.add(node.line, format!("{what} is a table, not {}", other.kind()));
                &[]
            }
        };
        Self { what: what.to_owned(), line: node.line, members, asked: RefCell::default(), faults }
    }

    pub(super) fn fault(&self, name: &str, message: impl Display) {
        let member = self.members.iter().find(|member| member.name == name);
        self.faults.add(member.map_or(self.line, |member| member.line), format!("{}: {message}", self.what));
    }

    pub(super) fn faults(&self) -> &'n Faults {
        self.faults
    }

    pub(super) fn has(&self, name: &'static str) -> bool {
        self.member(name).is_some()
    }

    fn member(&self, name: &'static str) -> Option<&'n Member> {
        self.asked.borrow_mut().push(name);
        self.members.iter().find(|member| member.name == name)
    }

    /// The member, if it is there and `read` takes its value.
    fn read<T>(
        &self,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(&'n Value) -> Option<T>,
    ) -> Option<T> {
        let member = self.member(name)?;
        let read = read(&member.node.value);
        if read.is_none() {
            self.fault(name, format_args!("`{name}` is {wanted}, not {}", member.node.value.kind()));
        }
        read
    }

    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        self.read(name, "a text", |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    pub(super) fn flag(&self, name: &'static str) -> Option<bool> {
        self.read(name, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    pub(super) fn number(&self, name: &'static str) -> Option<u32> {
        self.read(name, "a whole number", |value| match value {
            Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            _ => None,
        })
    }

    pub(super) fn object(&self, name: &'static str) -> Option<Object> {
        let member = self.member(name)?;
        if let Json::Object(object) = member.node.json() {
            return Some(object);
        }
        self.fault(name, format_args!("`{name}` is a table, not {}", member.node.value.kind()));
        None
    }

    pub(super) fn json(&self, name: &'static str) -> Option<Json> {
        self.member(name).map(|member| member.node.json())
    }

    /// A text of a form, such as an id.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, name: &'static str) -> Option<T> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(name, format_args!("`{name}`: {error}"));
                None
            }
        }
    }

    pub(super) fn required<T: FromStr<Err: Display>>(&self, name: &'static str) -> Option<T> {
        if self.members.iter().all(|member| member.name != name) {
            self.asked.borrow_mut().push(name);
            self.fault(name, format_args!("`{name}` is missing"));
            return None;
        }
        self.parsed(name)
    }

    /// A shared access key, which is not repeated in a fault.
    pub(super) fn key(&self, name: &'static str) -> Option<Secret> {
        let text = self.text(name)?;
        match text.parse::<Key>() {
            Ok(key) => Some(Secret::from(&key)),
            Err(error) => {
                self.fault(name, format_args!("`{name}`: {error}"));
                None
            }
        }
    }

    /// One of several words, in any case.
    pub(super) fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text));
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let hint = hint(&text, words.iter().copied());
            self.fault(
                name,
                format_args!("`{name}` cannot be {text:?}{hint}; it is one of {}", words.join(", ")),
            );
        }
        chosen.map(|(_, value)| *value)
    }

    pub(super) fn texts(&self, name: &'static str) -> Option<Vec<String>> {
        self.read(name, "a list of texts", |value| match value {
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// A list of tables; each is called `kind`.
    pub(super) fn tables(&self, name: &'static str, kind: &str) -> Vec<Table<'n>> {
        let items = self.read(name, "a list of tables", |value| match value {
            Value::List(items) => Some(items.as_slice()),
            _ => None,
        });
        items.unwrap_or_default().iter().map(|item| Table::of(kind, item, self.faults)).collect()
    }

    /// Gives the table the name that people know it by.
    pub(super) fn name(&mut self, name: impl Display) {
        self.what = format!("{} \"{name}\"", self.what);
    }

    /// Refuses what nobody has asked for; `not_yet` is what somebody would expect and is not built.
    pub(super) fn end(&self, not_yet: &[(&str, &str)]) {
        let asked = self.asked.borrow();
        for member in self.members.iter().filter(|member| !asked.contains(&member.name.as_str())) {
            let name = &member.name;
            if let Some((_, why)) = not_yet.iter().find(|(known, _)| known == name) {
                self.fault(name, format_args!("`{name}` cannot be seeded: {why}"));
            } else {
                let hint = hint(name, asked.iter().copied());
                self.fault(name, format_args!("there is no `{name}`{hint}"));
            }
        }
    }
}

/// `, did you mean …?` where one of `known` is near.
pub(super) fn hint<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let like = |known: &&str| strsim::jaro_winkler(&name.to_ascii_lowercase(), &known.to_ascii_lowercase());
    let best = known.max_by(|a, b| like(a).total_cmp(&like(b))).filter(|best| like(best) >= LIKENESS_MIN);
    best.map_or_else(String::new, |best| format!(", did you mean `{best}`?"))
}
