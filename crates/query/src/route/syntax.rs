//! Text to the tree of a condition: which names there are, and what may be written in them.

use base::caps;

use super::{Reference, Step};
use crate::cursor::Cursor;
use crate::error::SyntaxError;
use crate::parser::{self, Dialect};
use crate::token::{Kind, Span};
use crate::tree::{Expression, Function};

/// Words that name no property, unless they stand in double brackets.
const RESERVED: &[&str] = &["AND", "OR", "NOT", "IN", "NIN", "TRUE", "FALSE", "NULL", "UNDEFINED"];

/// The functions of this language; the others of the family are not known to it.
const FUNCTIONS: &[Function] = &[
    Function::Abs,
    Function::Exp,
    Function::Power,
    Function::Square,
    Function::Ceiling,
    Function::Floor,
    Function::Sign,
    Function::Sqrt,
    Function::AsNumber,
    Function::IsArray,
    Function::IsBool,
    Function::IsDefined,
    Function::IsNull,
    Function::IsNumber,
    Function::IsObject,
    Function::IsPrimitive,
    Function::IsString,
    Function::Concat,
    Function::Length,
    Function::Lower,
    Function::Upper,
    Function::Substring,
    Function::IndexOf,
    Function::Contains,
];

pub(super) fn condition(text: &str) -> Result<Option<Expression<Reference>>, SyntaxError> {
    let cursor = &mut Cursor::new(text, caps::QUERY_CHARACTERS_MAX)?;
    if cursor.kind() == Kind::End {
        return Ok(None);
    }
    let condition = parser::condition(&Language, cursor)?;
    cursor.expect_end()?;
    Ok(Some(condition))
}

struct Language;

impl Dialect for Language {
    type Leaf = Reference;
    const HAS_VALUES: bool = true;

    fn leaf(&self, cursor: &mut Cursor<'_>) -> Result<Reference, SyntaxError> {
        if cursor.kind() == Kind::Word && cursor.next_kind() == Kind::LeftParenthesis {
            return Err(cursor.error(format!("'{}' is no function of this language", cursor.slice())));
        }
        let root = cursor.span();
        if cursor.is_one_of(&["$body"]) {
            cursor.advance();
            return steps(cursor, root).map(Reference::Body);
        }
        if cursor.is_one_of(&["$twin"]) {
            cursor.advance();
            return twin(cursor, root).map(Reference::Twin);
        }
        let name = property(cursor)?;
        Ok(match name.strip_prefix('$') {
            Some(name) if !name.is_empty() => Reference::System(name.to_owned()),
            _ => Reference::Application(name),
        })
    }

    fn function(&self, name: &str) -> Option<Function> {
        match name.to_ascii_uppercase().as_str() {
            "STARTS_WITH" => Some(Function::StartsWith),
            "ENDS_WITH" => Some(Function::EndsWith),
            _ => Function::named(name).filter(|function| FUNCTIONS.contains(function)),
        }
    }
}

/// The name of a property. Hyphens and dots that nothing separates from the words around them are part of it: a difference of
/// properties, which are texts, would have no value.
fn property(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let is_bare = cursor.kind() == Kind::Word;
    let mut end = cursor.span().end;
    let mut name = parser::name(cursor, RESERVED)?;
    while is_bare
        && matches!(cursor.kind(), Kind::Minus | Kind::Dot)
        && cursor.span().start == end
        && cursor.next_span().start == cursor.span().end
        && matches!(cursor.next_kind(), Kind::Word | Kind::Number)
    {
        name.push_str(cursor.slice());
        cursor.advance();
        name.push_str(cursor.slice());
        end = cursor.span().end;
        cursor.advance();
    }
    Ok(name)
}

/// What follows `$body` or `$twin`: a member, then members and elements. The whole is no value of this language.
fn steps(cursor: &mut Cursor<'_>, root: Span) -> Result<Vec<Step>, SyntaxError> {
    if cursor.kind() != Kind::Dot {
        return Err(cursor.error_at(root, "a member must be named, as in '$body.temperature'"));
    }
    let mut steps = Vec::new();
    loop {
        let step = match cursor.kind() {
            Kind::Dot => {
                cursor.advance();
                Step::Member(member(cursor)?)
            }
            Kind::LeftBracket => {
                cursor.advance();
                Step::Element(element(cursor)?)
            }
            _ => return Ok(steps),
        };
        if steps.len() == caps::JSON_DEPTH_MAX {
            return Err(cursor.error(format!("the path has more than {} members", caps::JSON_DEPTH_MAX)));
        }
        steps.push(step);
    }
}

/// A name with what hyphens join to it; a digit behind one begins a difference.
fn member(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let is_bare = cursor.kind() == Kind::Word;
    let mut end = cursor.span().end;
    let mut name = parser::member_name(cursor)?;
    while is_bare
        && cursor.kind() == Kind::Minus
        && cursor.span().start == end
        && cursor.next_span().start == cursor.span().end
        && cursor.next_kind() == Kind::Word
        && !cursor.next_slice().starts_with('$')
    {
        cursor.advance();
        name.push('-');
        name.push_str(cursor.slice());
        end = cursor.span().end;
        cursor.advance();
    }
    Ok(name)
}

fn element(cursor: &mut Cursor<'_>) -> Result<usize, SyntaxError> {
    let Some(index) = cursor.slice().parse().ok().filter(|_| cursor.kind() == Kind::Number) else {
        return Err(cursor.unexpected("INTEGER"));
    };
    cursor.advance();
    cursor.expect(Kind::RightBracket, "']'")?;
    Ok(index)
}

/// Only tags and properties are seen of a twin, written in any case.
fn twin(cursor: &mut Cursor<'_>, root: Span) -> Result<Vec<Step>, SyntaxError> {
    let steps = steps(cursor, root)?;
    let is = |at: usize, wanted: &str| matches!(steps.get(at), Some(Step::Member(name)) if name.eq_ignore_ascii_case(wanted));
    if is(0, "tags") || is(0, "properties") && (is(1, "desired") || is(1, "reported")) {
        return Ok(steps);
    }
    let message =
        "of a twin there are '$twin.tags', '$twin.properties.desired' and '$twin.properties.reported'";
    Err(cursor.error_at(root, message))
}
