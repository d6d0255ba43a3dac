//! The text of `SQLite`'s statements: its planner recognizes indexes by it, and statistics were made for it.

use std::fmt::Write as _;

use query::plan::{Column, Output, Plan, Position};
use query::tree::{Expression, Literal, Number};
use serde_json::Value as Json;

use super::{bindings, compile, kinds_of_values, over, path};
use crate::render::{self, Statement};

const QUERIES: &[&str] = &[
    "SELECT * FROM DIGITALTWINS",
    "SELECT COUNT() FROM DIGITALTWINS WHERE level > 1 AND serial = 'x'",
    "SELECT TOP(3) T.$dtId, T.a.b FROM DIGITALTWINS T WHERE STARTSWITH($dtId, 'a') OR NOT ENDSWITH(a.b, 'c')",
    "SELECT * FROM DIGITALTWINS WHERE [[odd name]] IN [1, 'a', null, true] AND IS_OF_MODEL('dtmi:x:Floor;1')",
    "SELECT * FROM RELATIONSHIPS R WHERE R.$sourceId = 'a' AND R.lane = true AND ARRAY_CONTAINS(R.list, 'x')",
    "SELECT V, T.$dtId FROM DIGITALTWINS T JOIN U RELATED T.has R JOIN V RELATED U.has WHERE V.$dtId = 'a' AND R.open",
    "SELECT COUNT() FROM DIGITALTWINS T JOIN U RELATED T.has WHERE T.$dtId IN ['a', 'b'] AND IS_OF_MODEL(U, 'dtmi:x:Floor;1')",
];

fn statements() -> Vec<Statement> {
    let mut statements = Vec::new();
    for query in QUERIES {
        let plan = compile(query);
        let position = Position { keys: plan.order().iter().map(|_| "k".to_owned()).collect(), rows: 1 };
        statements.push(match plan.output {
            Output::Count { .. } => render::count(&plan, "i"),
            _ => render::rows(&plan, "i", Some(&position), 100),
        });
    }
    let literals = kinds_of_values().into_iter().filter_map(|value| match value {
        Json::Null => Some(Literal::Null),
        Json::Bool(value) => Some(Literal::Bool(value)),
        Json::Number(number) => Some(Literal::Number(Number::from(&number))),
        Json::String(text) => Some(Literal::from(text.as_str())),
        Json::Array(_) | Json::Object(_) => None,
    });
    let operands: Vec<Expression<Column>> = literals
        .map(Expression::Literal)
        .chain([path("a"), path("odd \"name"), path("$dtId"), Expression::Not(Box::new(path("b")))])
        .collect();
    for left in &operands {
        for right in &operands {
            for condition in over(left, right) {
                let output = Output::Count { name: "n".to_owned() };
                let plan = Plan { bindings: bindings(0), condition: Some(condition), output, top: None };
                statements.push(render::count(&plan, "i"));
            }
        }
    }
    statements
}

/// On purpose only: whoever changes the text shows what the planner makes of it, and what it costs.
#[test]
fn the_text_of_sqlites_statements_is_what_it_was() {
    let lines = statements().into_iter().map(|statement| {
        let mut line = String::new();
        let _ = writeln!(line, "{} -- {:?}", statement.sql, statement.parameters(usize::MAX));
        line
    });
    let lines: Vec<String> = lines.collect();
    for (line, expected) in lines.iter().zip(include_str!("sqlite.sql").lines()) {
        assert_eq!(line.trim_end(), expected);
    }
    let sum = lines.iter().fold(0, |sum, line| crc32c::crc32c_append(sum, line.as_bytes()));
    assert_eq!(
        (lines.len(), sum),
        (23_357, 693_538_337),
        "one of the many statements over two operands has changed"
    );
}
