//! The one expression tree. `P` is what a leaf refers to: a path as written, or a column of a plan.
//! Which of it a language has, its front end says; which of it an engine answers, `Expression::is_plain`.

use std::cmp::Ordering;
use std::fmt;
use std::ops::RangeInclusive;

use base::caps;
use serde_json::Value as Json;

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
    Arithmetic {
        operator: Arithmetic,
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
    Undefined,
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Json>),
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
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    IsDefined,
    IsNull,
    IsBool,
    IsNumber,
    IsString,
    IsObject,
    IsArray,
    IsPrimitive,
    StartsWith,
    EndsWith,
    Contains,
    ArrayContains,
    Abs,
    Exp,
    Power,
    Square,
    Ceiling,
    Floor,
    Sign,
    Sqrt,
    AsNumber,
    Concat,
    Length,
    Lower,
    Upper,
    Substring,
    IndexOf,
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
            Self::Arithmetic { operator, left, right } => Expression::Arithmetic {
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
            Self::Compare { left, right, .. } | Self::Arithmetic { left, right, .. } => {
                left.leaves(visit);
                right.leaves(visit);
            }
        }
    }
}

impl<P> Expression<P> {
    /// Whether an engine answers all of it as the evaluator does, leaves apart: no arithmetic, and no function that
    /// makes a value.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Literal(literal) => !matches!(literal, Literal::Undefined | Literal::Array(_)),
            Self::Path(_) => true,
            Self::Not(inner) | Self::OneOf { operand: inner, .. } => inner.is_plain(),
            Self::All(items) | Self::Any(items) => items.iter().all(Self::is_plain),
            Self::Compare { left, right, .. } => left.is_plain() && right.is_plain(),
            Self::Call { function, arguments } => {
                function.is_condition() && arguments.iter().all(Self::is_plain)
            }
            Self::Arithmetic { .. } => false,
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

impl Arithmetic {
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl Function {
    /// How many arguments it takes.
    pub fn arity(self) -> RangeInclusive<usize> {
        match self {
            Self::StartsWith
            | Self::EndsWith
            | Self::Contains
            | Self::ArrayContains
            | Self::Power
            | Self::IndexOf => 2..=2,
            Self::Substring => 2..=3,
            Self::Concat => 2..=caps::QUERY_TERMS_MAX,
            _ => 1..=1,
        }
    }

    /// Whether it yields true, false or undefined, and not a number or a text.
    pub fn is_condition(self) -> bool {
        match self {
            Self::IsDefined
            | Self::IsNull
            | Self::IsBool
            | Self::IsNumber
            | Self::IsString
            | Self::IsObject
            | Self::IsArray
            | Self::IsPrimitive
            | Self::StartsWith
            | Self::EndsWith
            | Self::Contains
            | Self::ArrayContains => true,
            Self::Abs
            | Self::Exp
            | Self::Power
            | Self::Square
            | Self::Ceiling
            | Self::Floor
            | Self::Sign
            | Self::Sqrt
            | Self::AsNumber
            | Self::Concat
            | Self::Length
            | Self::Lower
            | Self::Upper
            | Self::Substring
            | Self::IndexOf => false,
        }
    }

    /// The function that is called so, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|function| function.name().eq_ignore_ascii_case(name))
    }

    const ALL: &[Self] = &[
        Self::IsDefined,
        Self::IsNull,
        Self::IsBool,
        Self::IsNumber,
        Self::IsString,
        Self::IsObject,
        Self::IsArray,
        Self::IsPrimitive,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::ArrayContains,
        Self::Abs,
        Self::Exp,
        Self::Power,
        Self::Square,
        Self::Ceiling,
        Self::Floor,
        Self::Sign,
        Self::Sqrt,
        Self::AsNumber,
        Self::Concat,
        Self::Length,
        Self::Lower,
        Self::Upper,
        Self::Substring,
        Self::IndexOf,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::IsDefined => "IS_DEFINED",
            Self::IsNull => "IS_NULL",
            Self::IsBool => "IS_BOOL",
            Self::IsNumber => "IS_NUMBER",
            Self::IsString => "IS_STRING",
            Self::IsObject => "IS_OBJECT",
            Self::IsArray => "IS_ARRAY",
            Self::IsPrimitive => "IS_PRIMITIVE",
            Self::StartsWith => "STARTSWITH",
            Self::EndsWith => "ENDSWITH",
            Self::Contains => "CONTAINS",
            Self::ArrayContains => "ARRAY_CONTAINS",
            Self::Abs => "ABS",
            Self::Exp => "EXP",
            Self::Power => "POWER",
            Self::Square => "SQUARE",
            Self::Ceiling => "CEILING",
            Self::Floor => "FLOOR",
            Self::Sign => "SIGN",
            Self::Sqrt => "SQRT",
            Self::AsNumber => "AS_NUMBER",
            Self::Concat => "CONCAT",
            Self::Length => "LENGTH",
            Self::Lower => "LOWER",
            Self::Upper => "UPPER",
            Self::Substring => "SUBSTRING",
            Self::IndexOf => "INDEX_OF",
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

impl Literal {
    /// Undefined has no JSON; where one is wanted it is null.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Undefined | Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(Number::Integer(value)) => (*value).into(),
            Self::Number(Number::Real(value)) => (*value).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Array(items) => Json::Array(items.clone()),
        }
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
            Self::Arithmetic { operator, left, right } => write!(f, "({left} {} {right})", operator.symbol()),
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
            Self::Undefined => f.write_str("undefined"),
            Self::Null => f.write_str("null"),
            // JSON's spelling of what an array holds is the languages' too.
            Self::Array(items) => list(f, "[", items, ", ", "]"),
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
