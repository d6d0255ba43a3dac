//! The one evaluator: an expression over something that can look leaves up. Called for conditions over one message
//! (event route filters) and by `reference`; the depth of a tree was bounded when it was parsed.

use crate::functions;
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
        Expression::Arithmetic { operator, left, right } => {
            functions::calculate(*operator, &value(left, scope), &value(right, scope))
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
        [only] => functions::of_one(function, value(only, scope)),
        [first, second] => functions::of_two(function, &value(first, scope), &value(second, scope)),
        several => {
            let values: Vec<Value<'v>> = several.iter().map(|argument| value(argument, scope)).collect();
            functions::of_several(function, &values)
        }
    }
}
