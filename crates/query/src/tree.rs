//! The one expression tree. `P` is what a leaf refers to: a path as written, or a column of a plan.
//! Operators and functions of later languages (hub queries, routes) become further variants here.

use std::cmp::Ordering;
use std::fmt;

use crate::token::Span;

#[derive(Clone, Debug, PartialEq)]
pub enum Expression<P> {
    Literal(Literal),
    Path(P),
    Not(Box<Self>),
    /// AND of two or more; flat, so that a long chain is not a deep tree.
    All(Vec<Self>),
    /// OR of two or more.
    Any(Vec<Self>),
    Compare {
        operator: Comparison,
        left: Box<Self>,
        right: Box<Self>,
    },
    /// IN. An empty list, which no text can hold but a resolved model set can, is false.
    OneOf {
        operand: Box<Self>,
        items: Vec<Literal>,
    },
    Call {
        function: Function,
        arguments: Vec<Self>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

/// A JSON number as the engines hold it: a 64-bit integer where it is one, else a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i64),
    Real(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    IsDefined,
    IsNull,
    IsBool,
    IsNumber,
    IsString,
    IsObject,
    IsPrimitive,
    StartsWith,
    EndsWith,
    Contains,
    ArrayContains,
}

/// A path as written: at least one segment, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub span: Span,
}

impl<P> Expression<P> {
    /// The same tree over other leaves; stops at the first leaf that cannot be translated.
    pub fn try_map<Q, E>(
        &self,
        leaf: &mut impl FnMut(&P) -> Result<Expression<Q>, E>,
    ) -> Result<Expression<Q>, E> {
        Ok(match self {
            Self::Literal(literal) => Expression::Literal(literal.clone()),
            Self::Path(path) => leaf(path)?,
            Self::Not(inner) => Expression::Not(Box::new(inner.try_map(leaf)?)),
            Self::All(items) => Expression::All(map_all(items, leaf)?),
            Self::Any(items) => Expression::Any(map_all(items, leaf)?),
            Self::Compare { operator, left, right } => Expression::Compare {
                operator: *operator,
                left: Box::new(left.try_map(leaf)?),
                right: Box::new(right.try_map(leaf)?),
            },
            Self::OneOf { operand, items } => {
                Expression::OneOf { operand: Box::new(operand.try_map(leaf)?), items: items.clone() }
            }
            Self::Call { function, arguments } => {
                Expression::Call { function: *function, arguments: map_all(arguments, leaf)? }
            }
        })
    }

    /// Calls `visit` for every leaf, left to right.
    pub fn leaves<'e>(&'e self, visit: &mut impl FnMut(&'e P)) {
        match self {
            Self::Literal(_) => {}
            Self::Path(path) => visit(path),
            Self::Not(inner) | Self::OneOf { operand: inner, .. } => inner.leaves(visit),
            Self::All(items) | Self::Any(items) | Self::Call { arguments: items, .. } => {
                for item in items {
                    item.leaves(visit);
                }
            }
            Self::Compare { left, right, .. } => {
                left.leaves(visit);
                right.leaves(visit);
            }
        }
    }
}

fn map_all<P, Q, E>(
    items: &[Expression<P>],
    leaf: &mut impl FnMut(&P) -> Result<Expression<Q>, E>,
) -> Result<Vec<Expression<Q>>, E> {
    items.iter().map(|item| item.try_map(leaf)).collect()
}

impl Comparison {
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Function {
    pub fn arity(self) -> usize {
        match self {
            Self::StartsWith | Self::EndsWith | Self::Contains | Self::ArrayContains => 2,
            _ => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::IsDefined => "IS_DEFINED",
            Self::IsNull => "IS_NULL",
            Self::IsBool => "IS_BOOL",
            Self::IsNumber => "IS_NUMBER",
            Self::IsString => "IS_STRING",
            Self::IsObject => "IS_OBJECT",
            Self::IsPrimitive => "IS_PRIMITIVE",
            Self::StartsWith => "STARTSWITH",
            Self::EndsWith => "ENDSWITH",
            Self::Contains => "CONTAINS",
            Self::ArrayContains => "ARRAY_CONTAINS",
        }
    }
}

impl Number {
    /// Exact, also between an integer and a double that cannot hold it. `None` only for NaN, which JSON lacks.
    pub fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => Some(left.cmp(&right)),
            (Self::Real(left), Self::Real(right)) => left.partial_cmp(&right),
            (Self::Integer(left), Self::Real(right)) => compare_mixed(left, right),
            (Self::Real(left), Self::Integer(right)) => compare_mixed(right, left).map(Ordering::reverse),
        }
    }
}

fn compare_mixed(integer: i64, real: f64) -> Option<Ordering> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if real.is_nan() {
        return None;
    }
    if real >= TWO_TO_63 {
        return Some(Ordering::Less);
    }
    if real < -TWO_TO_63 {
        return Some(Ordering::Greater);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked above, the fraction is compared below"
    )]
    let whole = real.trunc() as i64;
    Some(integer.cmp(&whole).then_with(|| 0.0_f64.total_cmp(&(real.fract() + 0.0))))
}

impl From<&serde_json::Number> for Number {
    fn from(number: &serde_json::Number) -> Self {
        number.as_i64().map_or_else(|| Self::Real(number.as_f64().unwrap_or(f64::NAN)), Self::Integer)
    }
}

impl From<&str> for Literal {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<P: fmt::Display> fmt::Display for Expression<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => literal.fmt(f),
            Self::Path(path) => path.fmt(f),
            Self::Not(inner) => write!(f, "NOT {inner}"),
            Self::All(items) => list(f, "(", items, " AND ", ")"),
            Self::Any(items) => list(f, "(", items, " OR ", ")"),
            Self::Compare { operator, left, right } => write!(f, "({left} {} {right})", operator.symbol()),
            Self::OneOf { operand, items } => {
                write!(f, "({operand} IN ")?;
                list(f, "[", items, ", ", "])")
            }
            Self::Call { function, arguments } => {
                f.write_str(function.name())?;
                list(f, "(", arguments, ", ", ")")
            }
        }
    }
}

fn list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    open: &str,
    items: &[T],
    between: &str,
    close: &str,
) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        item.fmt(f)?;
    }
    f.write_str(close)
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(Number::Integer(value)) => value.fmt(f),
            Self::Number(Number::Real(value)) => write!(f, "{value:?}"),
            Self::Text(text) => {
                let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
                write!(f, "'{escaped}'")
            }
        }
    }
}
