//! What functions and operators make of values. Called by the evaluator alone.
//! What is missing stays undefined, and so does what has no value: a root of -1, a number out of range.

use crate::tree::{Arithmetic, Comparison, Function, Number};
use crate::value::Value;

pub(crate) fn of_one(function: Function, value: Value<'_>) -> Value<'_> {
    if function.is_condition() {
        return Value::Bool(is_of_type(function, &value));
    }
    match (function, value) {
        (Function::Length, Value::Text(text)) => whole(text.chars().count()),
        (Function::Lower, Value::Text(text)) => Value::Text(text.to_lowercase().into()),
        (Function::Upper, Value::Text(text)) => Value::Text(text.to_uppercase().into()),
        (Function::AsNumber, Value::Text(text)) => number_of(&text),
        (_, Value::Number(number)) => of_number(function, number),
        _ => Value::Undefined,
    }
}

/// Type tests are never undefined: what is missing has no type.
fn is_of_type(function: Function, value: &Value<'_>) -> bool {
    match value {
        Value::Undefined => false,
        Value::Null => matches!(function, Function::IsDefined | Function::IsNull | Function::IsPrimitive),
        Value::Bool(_) => matches!(function, Function::IsDefined | Function::IsBool | Function::IsPrimitive),
        Value::Number(_) => {
            matches!(function, Function::IsDefined | Function::IsNumber | Function::IsPrimitive)
        }
        Value::Text(_) => {
            matches!(function, Function::IsDefined | Function::IsString | Function::IsPrimitive)
        }
        Value::Array(_) => matches!(function, Function::IsDefined | Function::IsArray),
        Value::Object(_) => matches!(function, Function::IsDefined | Function::IsObject),
    }
}

fn of_number<'v>(function: Function, number: Number) -> Value<'v> {
    let (exact, real) = match number {
        Number::Integer(integer) => (Some(integer), to_real(integer)),
        Number::Real(real) => (None, real),
    };
    let either = |exact: Option<i64>, otherwise: f64| exact.map_or_else(|| self::real(otherwise), integer);
    match function {
        Function::AsNumber => Value::Number(number),
        Function::Abs => either(exact.and_then(i64::checked_abs), real.abs()),
        Function::Ceiling => either(exact, real.ceil()),
        Function::Floor => either(exact, real.floor()),
        Function::Square => either(exact.and_then(|whole| whole.checked_mul(whole)), real * real),
        Function::Sign => either(exact.map(i64::signum), if real == 0.0 { 0.0 } else { real.signum() }),
        Function::Exp => self::real(real.exp()),
        Function::Sqrt => self::real(real.sqrt()),
        _ => Value::Undefined,
    }
}

pub(crate) fn of_two<'v>(function: Function, first: &Value<'_>, second: &Value<'_>) -> Value<'v> {
    if function.is_condition() {
        return test(function, first, second).into();
    }
    match (function, first, second) {
        (Function::Power, Value::Number(base), Value::Number(exponent)) => {
            real(as_real(*base).powf(as_real(*exponent)))
        }
        (Function::IndexOf, Value::Text(text), Value::Text(part)) => match text.find(&**part) {
            Some(at) => whole(text[..at].chars().count()),
            None => integer(-1),
        },
        (Function::Concat | Function::Substring, _, _) => {
            of_several(function, &[first.clone(), second.clone()])
        }
        _ => Value::Undefined,
    }
}

/// Undefined if a side is missing; false if a side has the wrong type.
fn test(function: Function, first: &Value<'_>, second: &Value<'_>) -> Option<bool> {
    match (first, second) {
        (Value::Undefined, _) | (_, Value::Undefined) => None,
        (Value::Text(text), Value::Text(part)) => Some(match function {
            Function::StartsWith => text.starts_with(&**part),
            Function::EndsWith => text.ends_with(&**part),
            Function::Contains => text.contains(&**part),
            _ => false,
        }),
        (Value::Array(items), wanted) if function == Function::ArrayContains => {
            let is_it = |item| Value::from(item).compare(Comparison::Equal, wanted) == Some(true);
            Some(items.iter().any(is_it))
        }
        _ => Some(false),
    }
}

/// SUBSTRING counts characters from 0; what lies outside of the text is not there.
pub(crate) fn of_several<'v>(function: Function, values: &[Value<'_>]) -> Value<'v> {
    match (function, values) {
        (Function::Substring, [Value::Text(text), Value::Number(start)]) => {
            Value::Text(text.chars().skip(count(*start)).collect())
        }
        (Function::Substring, [Value::Text(text), Value::Number(start), Value::Number(length)]) => {
            Value::Text(text.chars().skip(count(*start)).take(count(*length)).collect())
        }
        (Function::Concat, texts) => {
            let texts = texts.iter().map(|value| match value {
                Value::Text(text) => Some(&**text),
                _ => None,
            });
            texts.collect::<Option<String>>().map_or(Value::Undefined, |text| Value::Text(text.into()))
        }
        _ => Value::Undefined,
    }
}

/// Integers stay exact as long as the result is one.
pub(crate) fn calculate<'v>(operator: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Value<'v> {
    let (Value::Number(left), Value::Number(right)) = (left, right) else { return Value::Undefined };
    if let (Number::Integer(left), Number::Integer(right)) = (left, right)
        && let Some(exact) = calculate_exactly(operator, *left, *right)
    {
        return integer(exact);
    }
    let (left, right) = (as_real(*left), as_real(*right));
    real(match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => left % right,
    })
}

fn calculate_exactly(operator: Arithmetic, left: i64, right: i64) -> Option<i64> {
    match operator {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => {
            left.checked_rem(right).filter(|rest| *rest == 0).and_then(|_| left.checked_div(right))
        }
        Arithmetic::Remainder => left.checked_rem(right),
    }
}

fn number_of<'v>(text: &str) -> Value<'v> {
    let text = text.trim();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match (text.parse(), text.parse()) {
        (Ok(exact), _) => integer(exact),
        (_, Ok(other)) if is_number => real(other),
        _ => Value::Undefined,
    }
}

fn integer<'v>(value: i64) -> Value<'v> {
    Value::Number(Number::Integer(value))
}

fn whole<'v>(count: usize) -> Value<'v> {
    integer(i64::try_from(count).unwrap_or(i64::MAX))
}

fn real<'v>(value: f64) -> Value<'v> {
    if value.is_finite() { Value::Number(Number::Real(value)) } else { Value::Undefined }
}

pub(crate) fn as_real(number: Number) -> f64 {
    match number {
        Number::Integer(integer) => to_real(integer),
        Number::Real(real) => real,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a double is the nearest number that the languages have")]
fn to_real(integer: i64) -> f64 {
    integer as f64
}

/// A place in a text; what is below 0 is its beginning.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion that meets a bound stays there, and no text is so long"
)]
fn count(number: Number) -> usize {
    as_real(number).max(0.0) as usize
}
