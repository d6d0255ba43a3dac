//! The meaning of a plan: run over documents in memory with the one evaluator. Tests hold every engine's SQL against
//! it, and the engine in memory answers with it; it tries every combination, so nothing else should call it.

use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::evaluate::{self, Scope};
use crate::plan::{Binding, Column, Link, Output, Plan, Table};
use crate::value::Value;

/// Every row of the answer, in page order.
pub fn run(plan: &Plan, twins: &[Json], relationships: &[Json]) -> Vec<Json> {
    let mut rows = rows(plan, twins, relationships);
    let parsed = |row: Box<RawValue>| serde_json::from_str(row.get()).expect("a row is JSON");
    if let Output::Count { .. } = plan.output {
        return plan.count_row(rows.len() as u64).into_iter().map(parsed).collect();
    }
    rows.truncate(plan.rows_left(usize::MAX, 0));
    let keys = plan.order().len();
    rows.iter().map(|row| parsed(plan.row(&row[keys..]).expect("the documents are JSON"))).collect()
}

/// Of each row what an engine reads: its keys, and the documents that the output needs. In page order, and all of them.
pub fn rows(plan: &Plan, twins: &[Json], relationships: &[Json]) -> Vec<Vec<String>> {
    let mut rows = vec![Vec::new()];
    for binding in &plan.bindings {
        let documents = match binding.table {
            Table::DigitalTwins => twins,
            Table::Relationships => relationships,
        };
        rows = rows.iter().flat_map(|row| extend(row, binding, documents)).collect();
    }
    rows.retain(|row| {
        plan.condition.as_ref().is_none_or(|condition| evaluate::truth(condition, &Row(row)) == Some(true))
    });
    rows.sort_by_key(|row| keys(plan, row));
    let documents = plan.documents();
    let read = |row: &Vec<&Json>| {
        let documents = documents.iter().map(|at| row[*at].to_string());
        keys(plan, row).into_iter().chain(documents).collect()
    };
    rows.iter().map(read).collect()
}

fn extend<'d>(row: &[&'d Json], binding: &Binding, documents: &'d [Json]) -> Vec<Vec<&'d Json>> {
    documents
        .iter()
        .filter(|document| match &binding.link {
            Link::Root => true,
            Link::OutgoingFrom { twin, name } => {
                document["$sourceId"] == row[*twin]["$dtId"] && document["$relationshipName"] == **name
            }
            Link::TargetOf { relationship } => document["$dtId"] == row[*relationship]["$targetId"],
        })
        .map(|document| row.iter().copied().chain([document]).collect())
        .collect()
}

fn keys(plan: &Plan, row: &[&Json]) -> Vec<String> {
    let order = plan.order();
    order.iter().map(|part| row[part.binding][part.member].as_str().unwrap_or_default().to_owned()).collect()
}

struct Row<'d>(&'d [&'d Json]);

impl Scope<Column> for Row<'_> {
    fn look_up<'s>(&'s self, column: &'s Column) -> Value<'s> {
        Value::at(self.0[column.binding], &column.path)
    }
}
