//! The one evaluator: an expression over something that can look leaves up. Called for conditions over one message
//! (event route filters) and by `reference`; the depth of a tree was bounded when it was parsed.

use crate::tree::{Expression, Function};
use crate::value::Value;

/// Where the leaves of an expression find their values.
pub trait Scope<P> {
    fn look_up<'s>(&'s self, leaf: &'s P) -> Value<'s>;
}

/// Three-valued: `None` is undefined, which selects nothing.
pub fn truth<P, S: Scope<P>>(expression: &Expression<P>, scope: &S) -> Option<bool> {
    value(expression, scope).truth()
}

pub fn value<'v, P, S: Scope<P>>(expression: &'v Expression<P>, scope: &'v S) -> Value<'v> {
    match expression {
        Expression::Literal(literal) => Value::from(literal),
        Expression::Path(leaf) => scope.look_up(leaf),
        Expression::Not(inner) => truth(inner, scope).map(|known| !known).into(),
        Expression::All(items) => every(items.iter().map(|item| truth(item, scope))).into(),
        // De Morgan: an OR is the negation of an AND of negations, undefined staying undefined.
        Expression::Any(items) => {
            every(items.iter().map(|item| truth(item, scope).map(|known| !known))).map(|none| !none).into()
        }
        Expression::Compare { operator, left, right } => {
            value(left, scope).compare(*operator, &value(right, scope)).into()
        }
        Expression::OneOf { operand, items } => value(operand, scope).one_of(items).into(),
        Expression::Call { function, arguments } => call(*function, arguments, scope),
    }
}

/// AND: false beats undefined, undefined beats true.
fn every(items: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for item in items {
        match item {
            Some(false) => return Some(false),
            Some(true) => {}
            None => all = None,
        }
    }
    all
}

fn call<'v, P, S: Scope<P>>(function: Function, arguments: &'v [Expression<P>], scope: &'v S) -> Value<'v> {
    match arguments {
        [only] => Value::Bool(is_of_type(function, &value(only, scope))),
        [first, second] => binary(function, &value(first, scope), &value(second, scope)).into(),
        _ => Value::Undefined,
    }
}

/// Type tests are never undefined: what is missing has no type.
fn is_of_type(function: Function, value: &Value<'_>) -> bool {
    match function {
        Function::IsDefined => !matches!(value, Value::Undefined),
        Function::IsNull => matches!(value, Value::Null),
        Function::IsBool => matches!(value, Value::Bool(_)),
        Function::IsNumber => matches!(value, Value::Number(_)),
        Function::IsString => matches!(value, Value::Text(_)),
        Function::IsObject => matches!(value, Value::Object(_)),
        Function::IsPrimitive => {
            matches!(value, Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_))
        }
        Function::StartsWith | Function::EndsWith | Function::Contains | Function::ArrayContains => false,
    }
}

/// Undefined if a side is missing; false if a side has the wrong type.
fn binary(function: Function, first: &Value<'_>, second: &Value<'_>) -> Option<bool> {
    match (first, second) {
        (Value::Undefined, _) | (_, Value::Undefined) => None,
        (Value::Text(text), Value::Text(part)) => Some(match function {
            Function::StartsWith => text.starts_with(&**part),
            Function::EndsWith => text.ends_with(&**part),
            Function::Contains => text.contains(&**part),
            _ => false,
        }),
        (Value::Array(items), wanted) if function == Function::ArrayContains => Some(
            items
                .iter()
                .any(|item| Value::from(item).compare(crate::tree::Comparison::Equal, wanted) == Some(true)),
        ),
        _ => Some(false),
    }
}
