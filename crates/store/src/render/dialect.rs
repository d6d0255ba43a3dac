//! How an engine spells what the languages mean. The rules stand in `condition` and in `mod`, once for all engines; here and in
//! `postgres` is what differs.

use std::borrow::Cow;

use query::plan::{Column, Plan};
use query::tree::{Comparison, Literal, Number};

use super::operand::{Known, Operand, Source, Test, Type};
use super::{Parameter, TWIN_ID, Writer, order, postgres};
use crate::declared::DeclaredPath;

#[derive(Clone, Copy)]
pub(crate) enum Dialect<'d> {
    Sqlite,
    /// With the paths that have an index.
    Postgres(&'d [DeclaredPath]),
}

impl Dialect<'_> {
    pub(super) fn is_postgres(self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub(super) fn truth(self, value: bool) -> &'static str {
        match (self, value) {
            (Self::Sqlite, true) => "1",
            (Self::Sqlite, false) => "0",
            (Self::Postgres(_), true) => "true",
            (Self::Postgres(_), false) => "false",
        }
    }

    pub(super) fn undefined(self) -> &'static str {
        if self.is_postgres() { "NULL::boolean" } else { "NULL" }
    }

    pub(super) fn mark(self, number: usize, parameter: &Parameter) -> String {
        match self {
            Self::Sqlite => format!("?{number}"),
            Self::Postgres(_) => format!("${number}::{}", postgres::type_of(parameter)),
        }
    }

    /// Whether something stands in a text from its beginning.
    pub(super) fn starts_with(self, text: &str, part: &str) -> String {
        match self {
            Self::Sqlite => format!("instr({text}, {part}) = 1"),
            Self::Postgres(_) => format!("starts_with({text}, {part})"),
        }
    }

    pub(super) fn ends_with(self, text: &str, part: &str) -> String {
        match self {
            // What contains the part is not empty, and of an empty blob the engine's substr is NULL.
            Self::Sqlite => format!(
                "({part} = '' OR (instr({text}, {part}) > 0 AND \
                 substr(CAST({text} AS BLOB), -length(CAST({part} AS BLOB))) = CAST({part} AS BLOB)))"
            ),
            Self::Postgres(_) => format!("right({text}, length({part})) = {part}"),
        }
    }

    pub(super) fn contains(self, text: &str, part: &str) -> String {
        let position = if self.is_postgres() { "strpos" } else { "instr" };
        format!("{position}({text}, {part}) > 0")
    }

    /// In which order bindings are named.
    pub(super) fn order(self, plan: &Plan) -> Vec<usize> {
        if self.is_postgres() { order::walk(plan) } else { (0..plan.bindings.len()).collect() }
    }

    /// Between tables. `SQLite` chooses which one it reads first; PostgreSQL is told to take these as they stand.
    pub(super) fn joined(self) -> &'static str {
        if self.is_postgres() { " CROSS JOIN " } else { ", " }
    }

    /// The document of a binding, as text.
    pub(super) fn document(self, binding: usize, root: Option<&str>) -> String {
        match (self, root) {
            (Self::Sqlite, Some(root)) => format!("b{binding}.doc -> '$.{root}'"),
            (Self::Sqlite, None) => format!("json(b{binding}.doc)"),
            (Self::Postgres(_), Some(root)) => format!("(b{binding}.doc -> '{root}')::text"),
            (Self::Postgres(_), None) => format!("b{binding}.doc::text"),
        }
    }

    /// A document of nothing but a twin's id.
    pub(super) fn only_id(self, id: &str) -> String {
        match self {
            Self::Sqlite => format!("json_object('{TWIN_ID}', {id})"),
            Self::Postgres(_) => format!("json_build_object('{TWIN_ID}', {id})::text"),
        }
    }

    /// A text that is no JSON.
    pub(super) fn text_as_json(self, text: &str) -> String {
        if self.is_postgres() { format!("to_jsonb({text})") } else { format!("json_quote({text})") }
    }

    /// A JSON value as text, which is empty where it is undefined.
    pub(super) fn shown(self, value: &str) -> String {
        if self.is_postgres() {
            format!("coalesce(({value})::text, '')")
        } else {
            format!("ifnull({value}, '')")
        }
    }

    fn type_names(self) -> fn(Type) -> &'static [&'static str] {
        if self.is_postgres() { postgres::type_names } else { type_names }
    }
}

/// What `SQLite` calls the types.
fn type_names(of: Type) -> &'static [&'static str] {
    match of {
        Type::Null => &["'null'"],
        Type::Bool => &["'true'", "'false'"],
        Type::Number => &["'integer'", "'real'"],
        Type::Text => &["'text'"],
        Type::Array => &["'array'"],
        Type::Object => &["'object'"],
    }
}

/// A condition over values that are of one type.
pub(super) struct Holds {
    pub(super) sql: String,
    /// Whether it can hold of no other types, so that where only truth matters nothing need ask for them.
    pub(super) tells_types: bool,
}

impl Holds {
    pub(super) fn of_its_types(sql: String) -> Self {
        Self { sql, tells_types: false }
    }
}

impl Writer<'_> {
    /// The operand of a literal. Where the spelling of a value depends on what it is compared with, it is bound there.
    pub(super) fn literal_operand(&mut self, literal: &Literal) -> Operand {
        let known = Known::Type(super::condition::type_of(literal));
        let value = if self.dialect.is_postgres() { String::new() } else { self.literal(literal) };
        Operand { value, known, source: Source::Literal(literal.clone()) }
    }

    pub(super) fn literal(&mut self, literal: &Literal) -> String {
        self.bind(match literal {
            Literal::Undefined | Literal::Array(_) => unreachable!("{}", super::condition::NOT_PLAIN),
            Literal::Null => Parameter::Null,
            Literal::Bool(value) => Parameter::Integer((*value).into()),
            Literal::Number(Number::Integer(value)) => Parameter::Integer(*value),
            Literal::Number(Number::Real(value)) => Parameter::Real(*value),
            Literal::Text(text) => Parameter::Text(text.clone()),
        })
    }

    /// A value inside a document.
    pub(super) fn member(&mut self, plan: &Plan, column: &Column) -> Operand {
        let names = self.dialect.type_names();
        if let Dialect::Postgres(declared) = self.dialect {
            let of = super::table_of(plan, column.binding);
            let is_it = |path: &DeclaredPath| path.table() == of && path.members() == column.path;
            return self.postgres_member(column, declared.iter().any(is_it));
        }
        let place = self.place(column);
        let of = format!("json_type({place})");
        let known = Known::Row { of, names, null: None };
        Operand { value: format!("json_extract({place})"), known, source: Source::Member(None) }
    }

    /// A condition as a value.
    pub(super) fn condition_operand(&self, condition: &str) -> Operand {
        let value = match self.dialect {
            Dialect::Sqlite => format!("({condition})"),
            Dialect::Postgres(_) => format!("to_jsonb({condition})"),
        };
        Operand { value, known: Known::Condition, source: Source::Condition }
    }

    /// A boolean as a condition.
    pub(super) fn holds(&mut self, operand: &Operand) -> Holds {
        match self.dialect {
            Dialect::Sqlite => Holds::of_its_types(operand.value.clone()),
            Dialect::Postgres(_) => self.postgres_holds(operand),
        }
    }

    /// Two values of one type compared.
    pub(super) fn compared(
        &mut self,
        of: Type,
        operator: Comparison,
        left: &Operand,
        right: &Operand,
    ) -> Holds {
        match self.dialect {
            Dialect::Sqlite => {
                Holds::of_its_types(format!("{} {} {}", left.value, operator.symbol(), right.value))
            }
            Dialect::Postgres(_) => self.postgres_compared(of, operator, left, right),
        }
    }

    /// Whether a value is one of these, which are of its type.
    pub(super) fn within(&mut self, operand: &Operand, items: &[&Literal]) -> Holds {
        match self.dialect {
            Dialect::Sqlite => {
                let list = self.list(items);
                Holds::of_its_types(format!("{} IN ({list})", operand.value))
            }
            Dialect::Postgres(_) => self.postgres_within(operand, items),
        }
    }

    /// A text as the functions of texts take it.
    pub(super) fn as_text<'o>(&mut self, operand: &'o Operand) -> Cow<'o, str> {
        match self.dialect {
            Dialect::Sqlite => Cow::Borrowed(&operand.value),
            Dialect::Postgres(_) => self.postgres_text(operand),
        }
    }

    /// Whether an array has an element that equals a value.
    pub(super) fn has_element(&mut self, column: &Column, array: &Operand, wanted: &Operand) -> Test {
        if self.dialect.is_postgres() {
            return Test::When(self.postgres_has_element(array, wanted));
        }
        // One by one, as a path of the languages does not enter arrays.
        self.elements += 1;
        let name = format!("e{}", self.elements);
        let known = Known::Row { of: format!("{name}.type"), names: self.dialect.type_names(), null: None };
        let element = Operand { value: format!("{name}.value"), known, source: Source::Member(None) };
        let mut branches = self.compare(Comparison::Equal, &element, wanted);
        branches.retain(|branch| branch.result != Test::Never);
        let place = self.place(column);
        let equal = super::condition::case(branches, self.dialect);
        Test::When(format!("EXISTS (SELECT 1 FROM json_each({place}) {name} WHERE {equal})"))
    }
}
