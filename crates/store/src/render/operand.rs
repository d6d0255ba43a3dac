//! One side of a comparison in SQL: its value, and what must hold for it to be of a type.
//! Undefined is SQL's NULL; a JSON null is a value whose type is `'null'`.

use query::plan::{Column, Plan};
use query::tree::{Expression, Literal};

use super::{DOCUMENT, Writer};

/// The types that decide how a value compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Null,
    Bool,
    Number,
    Text,
    Array,
    Object,
}

/// When something holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Never,
    Always,
    /// An SQL condition that is 1, 0 or NULL.
    When(String),
}

pub(super) struct Operand {
    pub(super) value: String,
    known: Known,
}

/// What is known of an operand's type while the statement is written.
enum Known {
    Type(Type),
    /// A condition: boolean, or NULL for undefined.
    Condition,
    /// Only the row tells: an SQL expression that gives what `json_type` gives.
    Row(String),
}

impl Type {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Null => &["'null'"],
            Self::Bool => &["'true'", "'false'"],
            Self::Number => &["'integer'", "'real'"],
            Self::Text => &["'text'"],
            Self::Array => &["'array'"],
            Self::Object => &["'object'"],
        }
    }
}

impl Test {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Always, test) | (test, Self::Always) => test,
            (Self::When(left), Self::When(right)) => Self::When(format!("{left} AND {right}")),
        }
    }

    /// As a condition that is never NULL.
    pub(super) fn decided(self) -> String {
        match self {
            Self::Never => "0".to_owned(),
            Self::Always => "1".to_owned(),
            Self::When(condition) => format!("({condition}) IS TRUE"),
        }
    }
}

impl Operand {
    pub(super) fn is(&self, wanted: Type) -> Test {
        self.is_one_of(&[wanted])
    }

    pub(super) fn is_one_of(&self, wanted: &[Type]) -> Test {
        match &self.known {
            Known::Type(known) if wanted.contains(known) => Test::Always,
            Known::Condition if wanted.contains(&Type::Bool) => {
                Test::When(format!("{} IS NOT NULL", self.value))
            }
            Known::Type(_) | Known::Condition => Test::Never,
            Known::Row(of) => {
                let names: Vec<&str> = wanted.iter().flat_map(|of| of.names()).copied().collect();
                Test::When(match names.as_slice() {
                    [only] => format!("{of} = {only}"),
                    _ => format!("{of} IN ({})", names.join(", ")),
                })
            }
        }
    }

    pub(super) fn is_defined(&self) -> Test {
        match &self.known {
            Known::Type(_) => Test::Always,
            Known::Condition => Test::When(format!("{} IS NOT NULL", self.value)),
            Known::Row(of) => Test::When(format!("{of} IS NOT NULL")),
        }
    }

    /// Defined, and of another type.
    pub(super) fn is_not_null(&self) -> Test {
        match &self.known {
            Known::Type(Type::Null) => Test::Never,
            Known::Row(of) => Test::When(format!("{of} <> 'null'")),
            Known::Type(_) | Known::Condition => self.is_defined(),
        }
    }

    /// An element of `json_each` named `name`.
    pub(super) fn element(name: &str) -> Self {
        Self { value: format!("{name}.value"), known: Known::Row(format!("{name}.type")) }
    }
}

impl Writer {
    pub(super) fn operand(&mut self, plan: &Plan, expression: &Expression<Column>) -> Operand {
        match expression {
            Expression::Literal(literal) => {
                let known = Known::Type(match literal {
                    Literal::Null => Type::Null,
                    Literal::Bool(_) => Type::Bool,
                    Literal::Number(_) => Type::Number,
                    Literal::Text(_) => Type::Text,
                });
                Operand { value: self.literal(literal), known }
            }
            Expression::Path(column) => self.column(plan, column),
            condition => {
                Operand { value: format!("({})", self.decides(plan, condition)), known: Known::Condition }
            }
        }
    }

    fn column(&mut self, plan: &Plan, column: &Column) -> Operand {
        if let Some(stored) = self.stored(plan, column) {
            return Operand { value: stored, known: Known::Type(Type::Text) };
        }
        let place = self.place(column);
        Operand { value: format!("json_extract({place})"), known: Known::Row(format!("json_type({place})")) }
    }

    /// The `doc` and the path of a column, for functions that take both.
    pub(super) fn place(&mut self, column: &Column) -> String {
        let path = self.path(&column.path);
        format!("b{}.doc, {path}", column.binding)
    }

    /// A plain path stands in the statement, where an index over the same expression can be recognized; one with
    /// members that are no plain names is a parameter like any value.
    fn path(&mut self, members: &[String]) -> String {
        let is_plain = |member: &String| {
            member.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"$_".contains(&byte))
        };
        let path = path(members);
        if members.iter().all(is_plain) { format!("'{path}'") } else { self.text(&path) }
    }
}

/// The type and the value of a member, as an index over plain names spells them.
pub(crate) fn indexed(members: &[String]) -> (String, String) {
    let place = format!("doc, '{}'", path(members));
    (format!("json_type({place})"), format!("json_extract({place})"))
}

fn path(members: &[String]) -> String {
    let mut path = format!("$.{DOCUMENT}");
    for member in members {
        path.push('.');
        // The engine reads a quoted member as it reads a JSON string.
        path.push_str(&serde_json::Value::from(member.as_str()).to_string());
    }
    path
}
