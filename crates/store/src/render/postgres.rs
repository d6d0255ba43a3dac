//! The spellings of PostgreSQL. `jsonb` is compared with `jsonb`, which orders values by type and then by value, so that an ordinary
//! index answers equality and, between the bounds of a type, ranges. Texts are in byte order, as the database's collation is "C".

use std::borrow::Cow;

use base::caps;
use query::plan::Column;
use query::tree::{Comparison, Literal};

use super::dialect::Holds;
use super::operand::{Known, Operand, Source, Test, Type};
use super::{Parameter, Writer, root_of};
use crate::declared::DeclaredPath;

/// The spellings of a value inside a document beside its `jsonb`.
#[derive(Clone)]
pub(super) struct Member {
    /// As an index has it: a long text by its beginning only, since an index takes no row of more than 2.7 kB and a write would
    /// fail, and neither arrays nor objects.
    indexed: Option<String>,
    text: String,
}

pub(super) fn type_of(parameter: &Parameter) -> &'static str {
    match parameter {
        Parameter::Null | Parameter::Text(_) => "text",
        Parameter::Integer(_) => "bigint",
        Parameter::Real(_) => "double precision",
        Parameter::Json(_) => "jsonb",
        Parameter::Texts(_) => "text[]",
        Parameter::Jsons(_) => "jsonb[]",
    }
}

/// What `jsonb_typeof` calls the types.
pub(super) fn type_names(of: Type) -> &'static [&'static str] {
    match of {
        Type::Null => &["'null'"],
        Type::Bool => &["'boolean'"],
        Type::Number => &["'number'"],
        Type::Text => &["'string'"],
        Type::Array => &["'array'"],
        Type::Object => &["'object'"],
    }
}

/// What lies below every value of a type, or is the least, and what lies above: null, texts, numbers, booleans, arrays, objects
/// is the engine's order, but for an empty array, which is before everything. A double is no less than -1.8e308.
fn bounds(of: Type) -> (&'static str, &'static str) {
    match of {
        Type::Text => (r#">= '""'::jsonb"#, "< '-1.8e308'::jsonb"),
        Type::Number => (">= '-1.8e308'::jsonb", "< 'false'::jsonb"),
        _ => (">= 'false'::jsonb", "<= 'true'::jsonb"),
    }
}

/// The value of a member as an index over plain names spells it.
pub(crate) fn indexed(declared: &DeclaredPath) -> String {
    let whole = whole(root_of(declared.table()), declared.members());
    let (value, text) = spelled("", &whole, &|members| array(members));
    beginning(&value, &text)
}

fn beginning(value: &str, text: &str) -> String {
    let characters = caps::DECLARED_TEXT_CHARACTERS_MAX;
    format!(
        "(CASE jsonb_typeof({value}) WHEN 'string' THEN jsonb_object(ARRAY['', left({text}, {characters})]) -> '' \
         WHEN 'array' THEN NULL WHEN 'object' THEN NULL ELSE {value} END)"
    )
}

/// Where a path is in a statement.
fn array(members: &[&str]) -> String {
    let quoted = members.iter().map(|member| format!("\"{member}\""));
    format!("'{{{}}}'", quoted.collect::<Vec<_>>().join(","))
}

/// The value and its text. The engine takes a name that is a number for a place in an array, which a path of the languages does not
/// enter.
fn spelled(table: &str, members: &[&str], path: &dyn Fn(&[&str]) -> String) -> (String, String) {
    let whole = path(members);
    let is_place = |member: &str| {
        let number = member.trim_start().trim_start_matches(['+', '-']);
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let holds_place = |at: &usize| is_place(members[*at]);
    let objects: Vec<String> = (1..members.len())
        .filter(holds_place)
        .map(|at| format!("jsonb_typeof({table}doc #> {}) = 'object'", path(&members[..at])))
        .collect();
    if objects.is_empty() {
        return (format!("({table}doc #> {whole})"), format!("({table}doc #>> {whole})"));
    }
    let objects = objects.join(" AND ");
    let when = |operator: &str| format!("(CASE WHEN {objects} THEN {table}doc {operator} {whole} END)");
    (when("#>"), when("#>>"))
}

/// The path from the beginning of a record.
fn whole<'m>(root: Option<&'m str>, members: &'m [String]) -> Vec<&'m str> {
    root.into_iter().chain(members.iter().map(String::as_str)).collect()
}

fn json_of(literal: &Literal) -> String {
    literal.to_json().to_string()
}

/// Whether it relates to the beginning of any text as it does to the whole text. Escaped, it may be three times as long.
fn is_short(literal: &Literal) -> bool {
    match literal {
        Literal::Text(text) => text.chars().count() * 3 < caps::DECLARED_TEXT_CHARACTERS_MAX,
        _ => true,
    }
}

impl Writer<'_> {
    pub(super) fn postgres_member(&mut self, column: &Column, is_declared: bool) -> Operand {
        let table = format!("b{}.", column.binding);
        let is_plain = column.path.iter().all(|member| super::operand::is_plain(member));
        let whole = whole(self.roots[column.binding], &column.path);
        let (value, text) = if is_plain {
            spelled(&table, &whole, &|members| array(members))
        } else {
            let paths = std::cell::RefCell::new(&mut *self);
            spelled(&table, &whole, &|members| {
                let path = members.iter().map(|member| (*member).to_owned()).collect();
                paths.borrow_mut().bind(Parameter::Texts(path))
            })
        };
        let indexed = is_declared.then(|| beginning(&value, &text));
        let null = Some(format!("{} = 'null'::jsonb", indexed.as_ref().unwrap_or(&value)));
        let known = Known::Row { of: format!("jsonb_typeof({value})"), names: type_names, null };
        Operand { value, known, source: Source::Member(Some(Member { indexed, text })) }
    }

    pub(super) fn postgres_holds(&mut self, operand: &Operand) -> Holds {
        let value = self.json(operand, true);
        Holds { sql: format!("{value} = 'true'::jsonb"), tells_types: true }
    }

    pub(super) fn postgres_compared(
        &mut self,
        of: Type,
        operator: Comparison,
        left: &Operand,
        right: &Operand,
    ) -> Holds {
        let symbol = operator.symbol();
        let is_stored = |operand: &Operand| matches!(operand.source, Source::Stored);
        if is_stored(left) || is_stored(right) {
            let (left, right) = (self.postgres_text(left), self.postgres_text(right));
            return Holds::of_its_types(format!("{left} {symbol} {right}"));
        }
        let is_short = |operand: &Operand| matches!(&operand.source, Source::Literal(it) if is_short(it));
        let (may_left, may_right) = (is_short(right), is_short(left));
        let (value, other) = (self.json(left, may_left), self.json(right, may_right));
        let comparison = format!("{value} {symbol} {other}");
        let (member, is_left) = match (&left.source, &right.source) {
            (Source::Member(_), Source::Literal(_)) => (value, true),
            (Source::Literal(_), Source::Member(_)) => (other, false),
            _ => return Holds::of_its_types(comparison),
        };
        let (least, greatest) = bounds(of);
        let is_less = match operator {
            Comparison::Equal => return Holds { sql: comparison, tells_types: true },
            Comparison::NotEqual => return Holds::of_its_types(comparison),
            Comparison::Less | Comparison::LessOrEqual => is_left,
            Comparison::Greater | Comparison::GreaterOrEqual => !is_left,
        };
        let bound = if is_less { least } else { greatest };
        Holds { sql: format!("{comparison} AND {member} {bound}"), tells_types: true }
    }

    pub(super) fn postgres_within(&mut self, operand: &Operand, items: &[&Literal]) -> Holds {
        if matches!(operand.source, Source::Stored) {
            let texts = items.iter().filter_map(|item| match item {
                Literal::Text(text) => Some(text.clone()),
                _ => None,
            });
            let texts: Vec<String> = texts.collect();
            let sql = match texts.as_slice() {
                [only] => format!("{} = {}", operand.value, self.text(only)),
                _ => format!("{} = ANY({})", operand.value, self.bind(Parameter::Texts(texts))),
            };
            return Holds::of_its_types(sql);
        }
        let value = self.json(operand, items.iter().all(|item| is_short(item)));
        let items: Vec<String> = items.iter().map(|item| json_of(item)).collect();
        let sql = match items.as_slice() {
            [only] => format!("{value} = {}", self.bind(Parameter::Json(only.clone()))),
            _ => format!("{value} = ANY({})", self.bind(Parameter::Jsons(items))),
        };
        Holds { sql, tells_types: true }
    }

    /// An array contains what equals one of its elements; of numbers, texts, booleans and null the engine means the same by it.
    pub(super) fn postgres_has_element(&mut self, array: &Operand, wanted: &Operand) -> String {
        let (array, element) = (self.json(array, false), self.json(wanted, false));
        let contains = format!("{array} @> jsonb_build_array({element})");
        match wanted.is_one_of(&[Type::Null, Type::Bool, Type::Number, Type::Text]) {
            Test::Always => contains,
            Test::Never => "false".to_owned(),
            Test::When(is_primitive) => format!("CASE WHEN {is_primitive} THEN {contains} ELSE false END"),
        }
    }

    pub(super) fn postgres_text<'o>(&mut self, operand: &'o Operand) -> Cow<'o, str> {
        match &operand.source {
            Source::Stored => Cow::Borrowed(&operand.value),
            Source::Literal(Literal::Text(text)) => Cow::Owned(self.text(text)),
            Source::Member(Some(member)) => Cow::Borrowed(&member.text),
            Source::Literal(_) | Source::Member(None) | Source::Condition => Cow::Borrowed("NULL::text"),
        }
    }

    fn json(&mut self, operand: &Operand, may_be_indexed: bool) -> String {
        match &operand.source {
            Source::Stored => format!("to_jsonb({})", operand.value),
            Source::Literal(literal) => self.bind(Parameter::Json(json_of(literal))),
            Source::Member(Some(Member { indexed: Some(indexed), .. })) if may_be_indexed => indexed.clone(),
            Source::Member(_) | Source::Condition => operand.value.clone(),
        }
    }
}
