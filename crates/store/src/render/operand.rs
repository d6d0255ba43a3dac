//! One side of a comparison in SQL: its value, and what must hold for it to be of a type.
//! Undefined is SQL's NULL; a JSON null is a value of a type of its own.

use query::plan::{Column, Plan};
use query::tree::{Expression, Literal};

use super::dialect::Dialect;
use super::postgres::Member;
use super::{Parameter, Writer, root_of};
use crate::declared::DeclaredPath;

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
    /// An SQL condition that is true, false or NULL.
    When(String),
}

pub(super) struct Operand {
    pub(super) value: String,
    pub(super) known: Known,
    pub(super) source: Source,
}

/// Where an operand comes from, for dialects that spell a value by what it is compared with.
pub(super) enum Source {
    /// A column of the table, which is text.
    Stored,
    Member(Option<Member>),
    Literal(Literal),
    Condition,
}

/// What is known of an operand's type while the statement is written.
pub(super) enum Known {
    Type(Type),
    /// A condition: boolean, or NULL for undefined.
    Condition,
    /// Only the row tells: an SQL expression that gives the name of the type, and the engine's names.
    Row {
        of: String,
        names: fn(Type) -> &'static [&'static str],
        /// A shorter way to ask for null.
        null: Option<String>,
    },
}

impl Test {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Always, test) | (test, Self::Always) => test,
            (Self::When(left), Self::When(right)) => Self::When(format!("{left} AND {right}")),
        }
    }

    /// The same, but never NULL.
    pub(super) fn decided(self) -> Self {
        match self {
            Self::When(condition) => Self::When(format!("({condition}) IS TRUE")),
            known => known,
        }
    }

    pub(super) fn spelled(self, dialect: Dialect<'_>) -> String {
        match self {
            Self::Never => dialect.truth(false).to_owned(),
            Self::Always => dialect.truth(true).to_owned(),
            Self::When(condition) => condition,
        }
    }
}

impl From<bool> for Test {
    fn from(holds: bool) -> Self {
        if holds { Self::Always } else { Self::Never }
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
            Known::Row { null: Some(is_null), .. } if wanted == [Type::Null] => Test::When(is_null.clone()),
            Known::Row { of, names, .. } => {
                let names: Vec<&str> = wanted.iter().flat_map(|of| names(*of)).copied().collect();
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
            Known::Row { of, .. } => Test::When(format!("{of} IS NOT NULL")),
        }
    }

    /// Defined, and of another type.
    pub(super) fn is_not_null(&self) -> Test {
        match &self.known {
            Known::Type(Type::Null) => Test::Never,
            Known::Row { of, .. } => Test::When(format!("{of} <> 'null'")),
            Known::Type(_) | Known::Condition => self.is_defined(),
        }
    }
}

impl Writer<'_> {
    pub(super) fn operand(&mut self, plan: &Plan, expression: &Expression<Column>) -> Operand {
        match expression {
            Expression::Literal(literal) => self.literal_operand(literal),
            Expression::Path(column) => match self.stored(plan, column) {
                Some(value) => Operand { value, known: Known::Type(Type::Text), source: Source::Stored },
                None => self.member(plan, column),
            },
            condition => {
                let condition = self.decides(plan, condition);
                self.condition_operand(&condition)
            }
        }
    }

    /// The `doc` and the path of a column, for `SQLite`'s functions that take both.
    pub(super) fn place(&mut self, column: &Column) -> String {
        let path = self.path(self.roots[column.binding], &column.path);
        format!("b{}.doc, {path}", column.binding)
    }

    /// A plain path stands in the statement, where an index over the same expression can be recognized; one with
    /// members that are no plain names is a parameter like any value.
    fn path(&mut self, root: Option<&str>, members: &[String]) -> String {
        let path = path(root, members);
        if members.iter().all(|member| is_plain(member)) {
            format!("'{path}'")
        } else {
            self.bind(Parameter::Text(path))
        }
    }
}

pub(super) fn is_plain(member: &str) -> bool {
    member.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"$_".contains(&byte))
}

/// The type and the value of a member, as an index of `SQLite` over plain names spells them.
pub(crate) fn indexed(declared: &DeclaredPath) -> (String, String) {
    let place = format!("doc, '{}'", path(root_of(declared.table()), declared.members()));
    (format!("json_type({place})"), format!("json_extract({place})"))
}

fn path(root: Option<&str>, members: &[String]) -> String {
    let mut path = root.map_or_else(|| "$".to_owned(), |root| format!("$.{root}"));
    for member in members {
        path.push('.');
        // The engine reads a quoted member as it reads a JSON string.
        path.push_str(&serde_json::Value::from(member.as_str()).to_string());
    }
    path
}
