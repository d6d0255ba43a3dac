//! Text to `Select`: the grammar of `SELECT … FROM … JOIN … WHERE …`.

use base::caps;

use super::{From, Item, Join, Leaf, ModelTest, Projection, Select};
use crate::cursor::Cursor;
use crate::error::SyntaxError;
use crate::parser::{self, Dialect};
use crate::plan::Table;
use crate::token::{self, Kind, Span};
use crate::tree::{Expression, Function};

/// Words that name nothing unless they stand in double brackets or after a dot (Azure Digital Twins query
/// reference, reserved keywords).
const RESERVED: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BY",
    "COUNT",
    "DESC",
    "DEVICES_JOBS",
    "DEVICES_MODULES",
    "DEVICES",
    "ENDS_WITH",
    "FALSE",
    "FROM",
    "GROUP",
    "IN",
    "IS_BOOL",
    "IS_DEFINED",
    "IS_NULL",
    "IS_NUMBER",
    "IS_OBJECT",
    "IS_OF_MODEL",
    "IS_PRIMITIVE",
    "IS_STRING",
    "JOIN",
    "MATCH",
    "MAX",
    "MIN",
    "NIN",
    "NOT",
    "NOT_IN",
    "NULL",
    "OR",
    "ORDER",
    "RELATED",
    "SELECT",
    "STARTS_WITH",
    "SUM",
    "TOP",
    "TRUE",
    "WHERE",
];

struct Language;

impl Dialect for Language {
    type Leaf = Leaf;

    fn leaf(&self, cursor: &mut Cursor<'_>) -> Result<Leaf, SyntaxError> {
        if cursor.is_keyword("IS_OF_MODEL") {
            return model_test(cursor).map(Leaf::IsOfModel);
        }
        if cursor.kind() == Kind::Word && cursor.next_kind() == Kind::LeftParenthesis {
            return Err(cursor.no_alternative());
        }
        parser::path(cursor, RESERVED).map(Leaf::Path)
    }

    fn function(&self, name: &str) -> Option<Function> {
        Function::named(name).filter(|function| function.is_condition() && *function != Function::IsArray)
    }
}

pub(super) fn select(text: &str) -> Result<Select, SyntaxError> {
    let cursor = &mut Cursor::new(text, caps::DIGITAL_TWINS_QUERY_CHARACTERS_MAX)?;
    cursor.expect_keyword("SELECT", can_follow_select(cursor))?;
    let top = top(cursor)?;
    let projection = projection(cursor, top.is_some())?;
    let from = from(cursor)?;
    let joins = joins(cursor)?;
    let condition = condition(cursor)?;
    cursor.expect_end()?;
    Ok(Select { text: text.to_owned(), top, projection, from, joins, condition })
}

fn can_follow_select(cursor: &Cursor<'_>) -> bool {
    let is_name = matches!(cursor.kind(), Kind::Word | Kind::Bracketed) && !cursor.is_one_of(RESERVED);
    is_name || cursor.kind() == Kind::Star || cursor.is_keyword("TOP") || cursor.is_keyword("COUNT")
}

fn top(cursor: &mut Cursor<'_>) -> Result<Option<u64>, SyntaxError> {
    if !cursor.eat_keyword("TOP") {
        return Ok(None);
    }
    cursor.expect(Kind::LeftParenthesis, "'('")?;
    let Ok(rows) = cursor.slice().parse() else { return Err(cursor.unexpected("INTEGER")) };
    cursor.advance();
    cursor.expect(Kind::RightParenthesis, "')'")?;
    Ok(Some(rows))
}

fn projection(cursor: &mut Cursor<'_>, has_top: bool) -> Result<Projection, SyntaxError> {
    let span = cursor.span();
    if cursor.eat(Kind::Star) || (has_top && cursor.is_keyword("FROM")) {
        return Ok(Projection::All(span));
    }
    if cursor.eat_keyword("COUNT") {
        cursor.expect(Kind::LeftParenthesis, "'('")?;
        cursor.expect(Kind::RightParenthesis, "')'")?;
        return Ok(Projection::Count { name: alias_or(cursor, "COUNT")? });
    }
    let mut items = vec![item(cursor)?];
    while cursor.eat(Kind::Comma) {
        items.push(item(cursor)?);
    }
    Ok(Projection::Items(items))
}

fn item(cursor: &mut Cursor<'_>) -> Result<Item, SyntaxError> {
    if cursor.kind() == Kind::End || cursor.is_keyword("FROM") {
        return Err(cursor.unexpected("{'*', TOP, COUNT, IDENTIFIER}"));
    }
    let path = parser::path(cursor, RESERVED)?;
    let name = alias_or(cursor, path.segments.last().map_or("", String::as_str))?;
    Ok(Item { path, name })
}

fn alias_or(cursor: &mut Cursor<'_>, otherwise: &str) -> Result<String, SyntaxError> {
    if cursor.eat_keyword("AS") { parser::name(cursor, RESERVED) } else { Ok(otherwise.to_owned()) }
}

fn from(cursor: &mut Cursor<'_>) -> Result<From, SyntaxError> {
    let names_table = cursor.is_keyword("DIGITALTWINS") || cursor.is_keyword("RELATIONSHIPS");
    cursor.expect_keyword("FROM", names_table)?;
    let table = if cursor.eat_keyword("DIGITALTWINS") {
        Table::DigitalTwins
    } else if cursor.eat_keyword("RELATIONSHIPS") {
        Table::Relationships
    } else {
        return Err(cursor.unexpected("{DIGITALTWINS, RELATIONSHIPS}"));
    };
    Ok(From { table, alias: optional_name(cursor)? })
}

fn optional_name(cursor: &mut Cursor<'_>) -> Result<Option<String>, SyntaxError> {
    let stands_here = matches!(cursor.kind(), Kind::Word | Kind::Bracketed) && !cursor.is_one_of(RESERVED);
    stands_here.then(|| parser::name(cursor, RESERVED)).transpose()
}

fn joins(cursor: &mut Cursor<'_>) -> Result<Vec<Join>, SyntaxError> {
    let mut joins = Vec::new();
    while cursor.is_keyword("JOIN") {
        if joins.len() == caps::QUERY_JOINS_MAX {
            return Err(cursor.error(format!("more than {} JOINs", caps::QUERY_JOINS_MAX)));
        }
        joins.push(join(cursor)?);
    }
    if cursor.is_keyword("MATCH") {
        return Err(cursor.error("MATCH is not supported here yet; follow relationships with JOIN … RELATED"));
    }
    Ok(joins)
}

fn join(cursor: &mut Cursor<'_>) -> Result<Join, SyntaxError> {
    let start = cursor.span().start;
    cursor.advance();
    let twin = parser::name(cursor, RESERVED)?;
    cursor.expect_keyword("RELATED", optional_name_follows(cursor))?;
    let source = parser::name(cursor, RESERVED)?;
    cursor.expect(Kind::Dot, "'.'")?;
    let end = cursor.span().end;
    let relationship = parser::member_name(cursor)?;
    let relationship_alias = optional_name(cursor)?;
    Ok(Join { twin, source, relationship, relationship_alias, span: Span { start, end } })
}

fn optional_name_follows(cursor: &Cursor<'_>) -> bool {
    matches!(cursor.kind(), Kind::Word | Kind::Bracketed) && cursor.next_kind() == Kind::Dot
}

fn condition(cursor: &mut Cursor<'_>) -> Result<Option<Expression<Leaf>>, SyntaxError> {
    if cursor.eat_keyword("WHERE") {
        return parser::condition(&Language, cursor).map(Some);
    }
    if cursor.kind() == Kind::End {
        return Ok(None);
    }
    Err(cursor.unexpected("{<EOF>, WHERE, JOIN}"))
}

fn model_test(cursor: &mut Cursor<'_>) -> Result<ModelTest, SyntaxError> {
    let start = cursor.span().start;
    cursor.advance();
    cursor.expect(Kind::LeftParenthesis, "'('")?;
    let mut alias = None;
    if cursor.kind() != Kind::Text {
        alias = Some(parser::name(cursor, RESERVED)?);
        cursor.expect(Kind::Comma, "','")?;
    }
    if cursor.kind() != Kind::Text {
        return Err(cursor.unexpected("STRING"));
    }
    let model = token::unquote(cursor.slice());
    cursor.advance();
    let exact = cursor.eat(Kind::Comma);
    if exact {
        cursor.expect_keyword("EXACT", false)?;
    }
    let end = cursor.span().end;
    cursor.expect(Kind::RightParenthesis, "')'")?;
    Ok(ModelTest { alias, model, exact, span: Span { start, end } })
}
