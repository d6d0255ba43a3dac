//! What an expression yields, and how two values compare: Cosmos's rules, which all of Azure's IoT languages share.
//! The SQL that `store` renders must mean the same; its tests hold both against each other.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value as Json;

use crate::tree::{Comparison, Literal, Number};

/// `Undefined` is what a missing path yields: unlike null it equals nothing, and no condition over it is true,
/// whether negated or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'v> {
    Undefined,
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'v, str>),
    Array(&'v [Json]),
    Object(&'v base::json::Object),
}

impl<'v> Value<'v> {
    /// The value at the end of a path of object members; arrays are not entered.
    pub fn at(json: &'v Json, path: &[String]) -> Self {
        let mut here = json;
        for member in path {
            match here.as_object().and_then(|object| object.get(member)) {
                Some(next) => here = next,
                None => return Self::Undefined,
            }
        }
        Self::from(here)
    }

    /// Only a boolean is true or false; every other value decides nothing.
    pub fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// `None` is undefined: a side is missing, the types differ, or the type has no such comparison.
    /// Null is equal to null and unequal to everything else that is defined.
    pub fn compare(&self, operator: Comparison, other: &Self) -> Option<bool> {
        let ordering = match (self, other) {
            (Self::Undefined, _) | (_, Self::Undefined) => None,
            (Self::Null, _) | (_, Self::Null) => return compare_null(operator, self == other),
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(right)),
            (Self::Number(left), Self::Number(right)) => left.compare(*right),
            (Self::Text(left), Self::Text(right)) => Some(left.cmp(right)),
            _ => None,
        };
        ordering.map(|ordering: Ordering| operator.holds(ordering))
    }

    /// IN: true if equal to an item, false if unlike every item it can be compared with, undefined if there is none.
    pub fn one_of(&self, items: &[Literal]) -> Option<bool> {
        if items.is_empty() {
            return Some(false);
        }
        items
            .iter()
            .filter_map(|item| self.compare(Comparison::Equal, &Value::from(item)))
            .reduce(|found, equal| found || equal)
    }
}

fn compare_null(operator: Comparison, both: bool) -> Option<bool> {
    match operator {
        Comparison::Equal => Some(both),
        Comparison::NotEqual => Some(!both),
        _ => None,
    }
}

impl<'v> From<&'v Json> for Value<'v> {
    fn from(json: &'v Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.into()),
            Json::String(text) => Self::Text(Cow::Borrowed(text)),
            Json::Array(items) => Self::Array(items),
            Json::Object(members) => Self::Object(members),
        }
    }
}

impl<'v> From<&'v Literal> for Value<'v> {
    fn from(literal: &'v Literal) -> Self {
        match literal {
            Literal::Undefined => Self::Undefined,
            Literal::Null => Self::Null,
            Literal::Array(items) => Self::Array(items),
            Literal::Bool(value) => Self::Bool(*value),
            Literal::Number(number) => Self::Number(*number),
            Literal::Text(text) => Self::Text(Cow::Borrowed(text)),
        }
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(truth: Option<bool>) -> Self {
        truth.map_or(Self::Undefined, Self::Bool)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compare(left: &Json, operator: Comparison, right: &Json) -> Option<bool> {
        Value::from(left).compare(operator, &Value::from(right))
    }

    #[test]
    fn values_of_different_types_do_not_compare() {
        for (left, right) in [
            (json!(1), json!("1")),
            (json!(true), json!(1)),
            (json!([1]), json!([1])),
            (json!({}), json!({})),
        ] {
            assert_eq!(compare(&left, Comparison::Equal, &right), None, "{left} {right}");
            assert_eq!(compare(&left, Comparison::NotEqual, &right), None, "{left} {right}");
        }
    }

    #[test]
    fn null_equals_only_null_and_has_no_order() {
        assert_eq!(compare(&json!(null), Comparison::Equal, &json!(null)), Some(true));
        assert_eq!(compare(&json!(5), Comparison::NotEqual, &json!(null)), Some(true));
        assert_eq!(compare(&json!(null), Comparison::LessOrEqual, &json!(null)), None);
    }

    #[test]
    fn integers_and_doubles_compare_exactly() {
        let big = 9_007_199_254_740_993_i64;
        assert_eq!(compare(&json!(big), Comparison::Greater, &json!(9_007_199_254_740_992.0)), Some(true));
        assert_eq!(compare(&json!(-3), Comparison::Greater, &json!(-3.5)), Some(true));
        assert_eq!(compare(&json!(3), Comparison::Less, &json!(3.5)), Some(true));
        assert_eq!(compare(&json!(0), Comparison::Equal, &json!(-0.0)), Some(true));
        assert_eq!(compare(&json!(i64::MAX), Comparison::Less, &json!(1e300)), Some(true));
        assert_eq!(compare(&json!(i64::MIN), Comparison::Greater, &json!(-1e300)), Some(true));
    }

    #[test]
    fn membership_ignores_items_of_other_types_unless_there_are_no_others() {
        let items = [Literal::from("a"), Literal::Number(Number::Integer(5))];
        assert_eq!(Value::from(&json!("a")).one_of(&items), Some(true));
        assert_eq!(Value::from(&json!("b")).one_of(&items), Some(false));
        assert_eq!(Value::from(&json!(true)).one_of(&items), None);
        assert_eq!(Value::Undefined.one_of(&items), None);
        assert_eq!(Value::Undefined.one_of(&[]), Some(false));
    }
}
