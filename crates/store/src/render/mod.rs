//! Plans of the `query` crate as SQL of this engine. Called by `Store::query`; the meaning is `query::reference`, and
//! the tests hold both against each other. Values travel as parameters and never as text.

mod condition;
mod operand;
#[cfg(test)]
mod tests;

use query::plan::{Column, Link, Plan, Position, Table};
use query::tree::{Literal, Number};
use rusqlite::types::Value;

use crate::table;

/// A statement and what its `?N` stand for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    parameters: Vec<Value>,
}

impl Statement {
    #[cfg(test)]
    pub(crate) fn of(sql: &str) -> Self {
        Self { sql: sql.to_owned(), parameters: Vec::new() }
    }

    /// As many as the engine counts: a value that can never matter, such as a number that an id is compared with,
    /// may have been left out of the end of the text.
    pub(crate) fn parameters(&self, count: usize) -> &[Value] {
        &self.parameters[..count.min(self.parameters.len())]
    }
}

/// One page of rows: the key columns of `Plan::order`, then the documents of `Plan::documents`.
pub(crate) fn rows(plan: &Plan, instance: &str, after: Option<&Position>, limit: usize) -> Statement {
    let mut writer = Writer::default();
    let keys: Vec<String> =
        plan.order().iter().map(|part| key_column(plan, part.binding, part.member)).collect();
    let documents = plan.documents().into_iter().map(|binding| format!("b{binding}.doc -> '$.{DOCUMENT}'"));
    let columns: Vec<String> = keys.iter().cloned().chain(documents).collect();
    let mut conditions = writer.conditions(plan, instance);
    if let Some(position) = after {
        let marks: Vec<String> = position.keys.iter().map(|key| writer.text(key)).collect();
        conditions.push(format!("({}) > ({})", keys.join(", "), marks.join(", ")));
    }
    let limit = writer.bind(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {limit}",
        columns.join(", "),
        tables(plan),
        conditions.join(" AND "),
        keys.join(", "),
    );
    Statement { sql, parameters: writer.parameters }
}

pub(crate) fn count(plan: &Plan, instance: &str) -> Statement {
    let mut writer = Writer::default();
    let conditions = writer.conditions(plan, instance).join(" AND ");
    let sql = format!("SELECT count(*) FROM {} WHERE {conditions}", tables(plan));
    Statement { sql, parameters: writer.parameters }
}

/// The member of a stored record that holds the wire document.
const DOCUMENT: &str = "document";

/// Collects parameters while a statement is written.
#[derive(Default)]
struct Writer {
    parameters: Vec<Value>,
    /// Array elements named so far, so that each has a name of its own.
    elements: usize,
}

impl Writer {
    /// The mark of a new parameter.
    fn bind(&mut self, value: Value) -> String {
        self.parameters.push(value);
        format!("?{}", self.parameters.len())
    }

    fn text(&mut self, text: &str) -> String {
        self.bind(Value::Text(text.to_owned()))
    }

    fn literal(&mut self, literal: &Literal) -> String {
        self.bind(match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Integer((*value).into()),
            Literal::Number(Number::Integer(value)) => Value::Integer(*value),
            Literal::Number(Number::Real(value)) => Value::Real(*value),
            Literal::Text(text) => Value::Text(text.clone()),
        })
    }

    /// Conditions of the statement: whose documents, how the bindings hang together, and what the query asks.
    fn conditions(&mut self, plan: &Plan, instance: &str) -> Vec<String> {
        let instance = self.text(instance);
        let mut conditions = Vec::new();
        for (at, binding) in plan.bindings.iter().enumerate() {
            conditions.push(format!("b{at}.instance = {instance}"));
            match &binding.link {
                Link::Root => {}
                Link::OutgoingFrom { twin, name } => {
                    let name = self.text(name);
                    conditions.push(format!("b{at}.source = b{twin}.id AND b{at}.name = {name}"));
                }
                Link::TargetOf { relationship } => {
                    conditions.push(format!("b{at}.id = b{relationship}.target"));
                }
            }
        }
        conditions.extend(plan.condition.as_ref().map(|condition| self.selects(plan, condition)));
        conditions
    }
}

/// Every binding is a table `bN`; which one is read first is the engine's choice.
fn tables(plan: &Plan) -> String {
    let names = plan.bindings.iter().enumerate().map(|(at, binding)| match binding.table {
        Table::DigitalTwins => format!("{} b{at}", table::DIGITAL_TWIN.name),
        Table::Relationships => format!("{} b{at}", table::RELATIONSHIP.name),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// The table's own column for a member of the document, if it has one: those are indexed.
fn stored_column(plan: &Plan, column: &Column) -> Option<&'static str> {
    let path: Vec<&str> = column.path.iter().map(String::as_str).collect();
    match (plan.bindings[column.binding].table, path.as_slice()) {
        (Table::DigitalTwins, ["$dtId"]) | (Table::Relationships, ["$relationshipId"]) => Some("id"),
        (Table::DigitalTwins, ["$metadata", "$model"]) => Some("model"),
        (Table::Relationships, ["$sourceId"]) => Some("source"),
        (Table::Relationships, ["$targetId"]) => Some("target"),
        (Table::Relationships, ["$relationshipName"]) => Some("name"),
        _ => None,
    }
}

fn key_column(plan: &Plan, binding: usize, member: &str) -> String {
    let column = Column { binding, path: vec![member.to_owned()] };
    format!("b{binding}.{}", stored_column(plan, &column).expect("rows are ordered by key columns"))
}
