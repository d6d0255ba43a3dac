//! The one Pratt parser for conditions. A front end says what its leaves, functions and reserved words are.

use base::caps;

use crate::cursor::Cursor;
use crate::error::SyntaxError;
use crate::token::{self, Kind, Span};
use crate::tree::{Arithmetic, Comparison, Expression, Function, Literal, Number, Path};

/// What one language adds to the common grammar of conditions.
pub(crate) trait Dialect {
    type Leaf;
    /// Whether functions and arithmetic give values that may be compared and given to functions, and whether there are
    /// lists and `undefined`.
    const HAS_VALUES: bool = false;

    /// Reads what is neither literal, operator nor function: a path, or a construct of this language alone.
    fn leaf(&self, cursor: &mut Cursor<'_>) -> Result<Self::Leaf, SyntaxError>;

    fn function(&self, name: &str) -> Option<Function>;
}

/// Binding powers: a higher one binds tighter.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const ADD: u8 = 5;
const MULTIPLY: u8 = 6;

pub(crate) fn condition<D: Dialect>(
    dialect: &D,
    cursor: &mut Cursor<'_>,
) -> Result<Expression<D::Leaf>, SyntaxError> {
    expression(dialect, cursor, 0)
}

fn expression<D: Dialect>(
    dialect: &D,
    cursor: &mut Cursor<'_>,
    minimum: u8,
) -> Result<Expression<D::Leaf>, SyntaxError> {
    if cursor.depth >= caps::EXPRESSION_DEPTH_MAX {
        return Err(cursor
            .error(format!("the expression is nested deeper than {} levels", caps::EXPRESSION_DEPTH_MAX)));
    }
    cursor.depth += 1;
    let mut left = prefix(dialect, cursor)?;
    loop {
        left = if minimum < OR && cursor.eat_keyword("OR") {
            count_connective(cursor)?;
            join_any(left, expression(dialect, cursor, OR)?)
        } else if minimum < AND && cursor.eat_keyword("AND") {
            count_connective(cursor)?;
            join_all(left, expression(dialect, cursor, AND)?)
        } else if D::HAS_VALUES && arithmetic(cursor.kind()).is_some_and(|(_, power)| minimum < power) {
            calculation(dialect, cursor, left)?
        } else if minimum < COMPARE && starts_relation(cursor) {
            if !is_operand::<D>(&left) {
                return Err(cursor.unexpected("{<EOF>, AND, OR}"));
            }
            relation(dialect, cursor, left)?
        } else {
            break;
        };
    }
    cursor.depth -= 1;
    Ok(left)
}

/// What may be compared, or given to a function: comparisons may not, so that no chain of them can grow deep.
fn is_operand<D: Dialect>(expression: &Expression<D::Leaf>) -> bool {
    match expression {
        Expression::Literal(_) | Expression::Path(_) => true,
        Expression::Call { .. } | Expression::Arithmetic { .. } => D::HAS_VALUES,
        _ => false,
    }
}

/// The right side of a comparison, or an argument.
fn operand<D: Dialect>(dialect: &D, cursor: &mut Cursor<'_>) -> Result<Expression<D::Leaf>, SyntaxError> {
    operand_above(dialect, cursor, COMPARE)
}

fn operand_above<D: Dialect>(
    dialect: &D,
    cursor: &mut Cursor<'_>,
    minimum: u8,
) -> Result<Expression<D::Leaf>, SyntaxError> {
    let refusal = cursor.no_alternative();
    let operand = expression(dialect, cursor, minimum)?;
    if is_operand::<D>(&operand) { Ok(operand) } else { Err(refusal) }
}

fn arithmetic(kind: Kind) -> Option<(Arithmetic, u8)> {
    Some(match kind {
        Kind::Plus => (Arithmetic::Add, ADD),
        Kind::Minus => (Arithmetic::Subtract, ADD),
        Kind::Star => (Arithmetic::Multiply, MULTIPLY),
        Kind::Slash => (Arithmetic::Divide, MULTIPLY),
        Kind::Percent => (Arithmetic::Remainder, MULTIPLY),
        _ => return None,
    })
}

/// An operator and its right side, which binds tighter: operators of one power stand from left to right.
fn calculation<D: Dialect>(
    dialect: &D,
    cursor: &mut Cursor<'_>,
    left: Expression<D::Leaf>,
) -> Result<Expression<D::Leaf>, SyntaxError> {
    let Some((operator, power)) = arithmetic(cursor.kind()).filter(|_| is_operand::<D>(&left)) else {
        return Err(cursor.unexpected("{<EOF>, AND, OR}"));
    };
    // A chain is a deep tree, which must not grow without end.
    count_connective(cursor)?;
    cursor.advance();
    let right = Box::new(operand_above(dialect, cursor, power)?);
    Ok(Expression::Arithmetic { operator, left: Box::new(left), right })
}

fn count_connective(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    cursor.connectives += 1;
    if cursor.connectives < caps::QUERY_TERMS_MAX {
        return Ok(());
    }
    Err(cursor.error(format!("more than {} terms are joined by operators", caps::QUERY_TERMS_MAX)))
}

fn join_all<P>(left: Expression<P>, right: Expression<P>) -> Expression<P> {
    match left {
        Expression::All(mut items) => {
            items.push(right);
            Expression::All(items)
        }
        other => Expression::All(vec![other, right]),
    }
}

fn join_any<P>(left: Expression<P>, right: Expression<P>) -> Expression<P> {
    match left {
        Expression::Any(mut items) => {
            items.push(right);
            Expression::Any(items)
        }
        other => Expression::Any(vec![other, right]),
    }
}

fn prefix<D: Dialect>(dialect: &D, cursor: &mut Cursor<'_>) -> Result<Expression<D::Leaf>, SyntaxError> {
    if cursor.eat_keyword("NOT") {
        return Ok(Expression::Not(Box::new(expression(dialect, cursor, NOT)?)));
    }
    if cursor.eat(Kind::LeftParenthesis) {
        let inner = expression(dialect, cursor, 0)?;
        cursor.expect(Kind::RightParenthesis, "')'")?;
        return Ok(inner);
    }
    if let Some(literal) = literal(cursor)? {
        return Ok(Expression::Literal(literal));
    }
    if D::HAS_VALUES
        && let Some(value) = value(dialect, cursor)?
    {
        return Ok(value);
    }
    if cursor.kind() == Kind::Word
        && cursor.next_kind() == Kind::LeftParenthesis
        && let Some(function) = dialect.function(cursor.slice())
    {
        cursor.advance();
        return call(dialect, cursor, function);
    }
    Ok(Expression::Path(dialect.leaf(cursor)?))
}

/// A list, `undefined`, or something with a minus before it.
fn value<D: Dialect>(
    dialect: &D,
    cursor: &mut Cursor<'_>,
) -> Result<Option<Expression<D::Leaf>>, SyntaxError> {
    match cursor.kind() {
        Kind::LeftBracket => {
            let items = items(cursor)?.iter().map(Literal::to_json).collect();
            Ok(Some(Expression::Literal(Literal::Array(items))))
        }
        Kind::Minus => {
            count_connective(cursor)?;
            cursor.advance();
            let right = Box::new(operand_above(dialect, cursor, MULTIPLY)?);
            let left = Box::new(Expression::Literal(Literal::Number(Number::Integer(0))));
            Ok(Some(Expression::Arithmetic { operator: Arithmetic::Subtract, left, right }))
        }
        Kind::Word
            if cursor.is_keyword("UNDEFINED")
                && !matches!(cursor.next_kind(), Kind::Dot | Kind::LeftParenthesis) =>
        {
            cursor.advance();
            Ok(Some(Expression::Literal(Literal::Undefined)))
        }
        _ => Ok(None),
    }
}

fn call<D: Dialect>(
    dialect: &D,
    cursor: &mut Cursor<'_>,
    function: Function,
) -> Result<Expression<D::Leaf>, SyntaxError> {
    cursor.expect(Kind::LeftParenthesis, "'('")?;
    let mut arguments = vec![operand(dialect, cursor)?];
    let arity = function.arity();
    while arguments.len() < *arity.end() {
        if arguments.len() >= *arity.start() && cursor.kind() != Kind::Comma {
            break;
        }
        cursor.expect(Kind::Comma, "','")?;
        arguments.push(operand(dialect, cursor)?);
    }
    cursor.expect(Kind::RightParenthesis, "')'")?;
    Ok(Expression::Call { function, arguments })
}

fn starts_relation(cursor: &Cursor<'_>) -> bool {
    comparison(cursor.kind()).is_some()
        || cursor.is_keyword("IN")
        || cursor.is_keyword("NIN")
        || cursor.is_keyword("NOT")
}

fn comparison(kind: Kind) -> Option<Comparison> {
    Some(match kind {
        Kind::Equal => Comparison::Equal,
        Kind::NotEqual => Comparison::NotEqual,
        Kind::Less => Comparison::Less,
        Kind::LessOrEqual => Comparison::LessOrEqual,
        Kind::Greater => Comparison::Greater,
        Kind::GreaterOrEqual => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn relation<D: Dialect>(
    dialect: &D,
    cursor: &mut Cursor<'_>,
    left: Expression<D::Leaf>,
) -> Result<Expression<D::Leaf>, SyntaxError> {
    let left = Box::new(left);
    if let Some(operator) = comparison(cursor.kind()) {
        cursor.advance();
        let right = Box::new(operand(dialect, cursor)?);
        return Ok(Expression::Compare { operator, left, right });
    }
    if cursor.eat_keyword("NIN") {
        let member = Expression::OneOf { operand: left, items: items(cursor)? };
        return Ok(Expression::Not(Box::new(member)));
    }
    let negated = cursor.eat_keyword("NOT");
    cursor.expect_keyword("IN", cursor.kind() == Kind::LeftBracket)?;
    let member = Expression::OneOf { operand: left, items: items(cursor)? };
    Ok(if negated { Expression::Not(Box::new(member)) } else { member })
}

/// The list of IN: in brackets, or in the parentheses that SQL users are used to.
fn items(cursor: &mut Cursor<'_>) -> Result<Vec<Literal>, SyntaxError> {
    let (close, close_name) = match cursor.kind() {
        Kind::LeftBracket => (Kind::RightBracket, "{',', ']'}"),
        Kind::LeftParenthesis => (Kind::RightParenthesis, "{',', ')'}"),
        _ => return Err(cursor.unexpected("'['")),
    };
    cursor.advance();
    let mut items = Vec::new();
    loop {
        if items.len() == caps::QUERY_IN_ITEMS_MAX {
            return Err(cursor.error(format!("IN lists more than {} items", caps::QUERY_IN_ITEMS_MAX)));
        }
        match literal(cursor)? {
            Some(item) => items.push(item),
            None => return Err(cursor.unexpected("{STRING, NUMBER, TRUE, FALSE, NULL}")),
        }
        if cursor.eat(close) {
            return Ok(items);
        }
        cursor.expect(Kind::Comma, close_name)?;
    }
}

/// `None` if no literal stands here.
fn literal(cursor: &mut Cursor<'_>) -> Result<Option<Literal>, SyntaxError> {
    let literal = match cursor.kind() {
        Kind::Text => Literal::Text(token::unquote(cursor.slice())),
        Kind::Number => Literal::Number(number(cursor, "")?),
        Kind::Minus if cursor.next_kind() == Kind::Number => {
            cursor.advance();
            Literal::Number(number(cursor, "-")?)
        }
        // A call or a member of something that happens to have the name is not the keyword.
        Kind::Word if !matches!(cursor.next_kind(), Kind::Dot | Kind::LeftParenthesis) => {
            match cursor.slice().to_ascii_uppercase().as_str() {
                "TRUE" => Literal::Bool(true),
                "FALSE" => Literal::Bool(false),
                "NULL" => Literal::Null,
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    cursor.advance();
    Ok(Some(literal))
}

fn number(cursor: &Cursor<'_>, sign: &str) -> Result<Number, SyntaxError> {
    let digits = cursor.slice();
    let text = format!("{sign}{digits}");
    if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let integer = i64::from_str_radix(&format!("{sign}{hexadecimal}"), 16);
        let out_of_range = |_| cursor.error(format!("the number '{text}' is out of range"));
        return integer.map(Number::Integer).map_err(out_of_range);
    }
    if let Ok(integer) = text.parse() {
        return Ok(Number::Integer(integer));
    }
    match text.parse::<f64>() {
        Ok(real) if real.is_finite() => Ok(Number::Real(real)),
        _ => Err(cursor.error(format!("the number '{text}' is out of range"))),
    }
}

/// A name: a word that is not reserved, or any text in double brackets.
pub(crate) fn name(cursor: &mut Cursor<'_>, reserved: &[&str]) -> Result<String, SyntaxError> {
    if cursor.is_one_of(reserved) || !matches!(cursor.kind(), Kind::Word | Kind::Bracketed) {
        return Err(cursor.unexpected("IDENTIFIER"));
    }
    Ok(member(cursor))
}

/// The name after a dot, where no keyword can stand: `T.contains` needs no brackets.
pub(crate) fn member_name(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    name(cursor, &[])
}

fn member(cursor: &mut Cursor<'_>) -> String {
    let slice = cursor.slice();
    let name = match cursor.kind() {
        Kind::Bracketed => slice[2..slice.len() - 2].trim(),
        _ => slice,
    };
    cursor.advance();
    name.to_owned()
}

pub(crate) fn path(cursor: &mut Cursor<'_>, reserved: &[&str]) -> Result<Path, SyntaxError> {
    let start = cursor.span().start;
    let mut end = cursor.span().end;
    let mut segments = vec![name(cursor, reserved)?];
    while cursor.eat(Kind::Dot) {
        if segments.len() == caps::JSON_DEPTH_MAX {
            return Err(cursor.error(format!("the path has more than {} members", caps::JSON_DEPTH_MAX)));
        }
        end = cursor.span().end;
        segments.push(member_name(cursor)?);
    }
    Ok(Path { segments, span: Span { start, end } })
}
