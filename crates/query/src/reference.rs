//! The meaning of a plan: run over documents in memory with the one evaluator. Tests hold every engine's SQL against
//! it, and the engine in memory answers with it; it tries every combination, so nothing else should call it.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::evaluate::{self, Scope};
use crate::plan::{Binding, Column, Link, Output, Plan, Table};
use crate::value::Value;

/// What a plan may be over.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    pub digital_twins: Vec<Json>,
    pub relationships: Vec<Json>,
    pub device_twins: Vec<Json>,
    pub module_twins: Vec<Json>,
}

impl Documents {
    fn of(&self, table: Table) -> &[Json] {
        match table {
            Table::DigitalTwins => &self.digital_twins,
            Table::Relationships => &self.relationships,
            Table::DeviceTwins => &self.device_twins,
            Table::ModuleTwins => &self.module_twins,
        }
    }
}

/// Every row of the answer, in page order. Of a plan for whole documents, columns or a count.
pub fn run(plan: &Plan, documents: &Documents) -> Vec<Json> {
    let mut rows = rows(plan, documents);
    let parsed = |row: Box<RawValue>| serde_json::from_str(row.get()).expect("a row is JSON");
    if let Output::Count { .. } = plan.output {
        return plan.count_row(rows.len() as u64).into_iter().map(parsed).collect();
    }
    rows.truncate(plan.rows_left(usize::MAX, 0));
    let keys = plan.order().len();
    rows.iter().map(|row| parsed(plan.row(&row[keys..]).expect("the documents are JSON"))).collect()
}

/// Of each row what an engine reads: its keys, and the documents that the output needs, without what is beside them. In page order,
/// and all of them.
pub fn rows(plan: &Plan, documents: &Documents) -> Vec<Vec<String>> {
    let mut rows = vec![Vec::new()];
    for binding in &plan.bindings {
        let documents = documents.of(binding.table);
        rows = rows.iter().flat_map(|row| extend(row, binding, documents)).collect();
    }
    rows.retain(|row| {
        plan.condition.as_ref().is_none_or(|condition| evaluate::truth(condition, &Row(row)) == Some(true))
    });
    if let Output::Groups(columns) = &plan.output {
        return groups(columns, &rows);
    }
    rows.sort_by_key(|row| keys(plan, row));
    let needed = plan.documents();
    let read = |row: &Vec<&Json>| {
        let documents = needed.iter().map(|at| row[*at].to_string());
        keys(plan, row).into_iter().chain(documents).collect()
    };
    rows.iter().map(read).collect()
}

fn groups(columns: &[Column], rows: &[Vec<&Json>]) -> Vec<Vec<String>> {
    let mut counts: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    for row in rows {
        let value = |column: &Column| {
            let found =
                column.path.iter().try_fold(row[column.binding], |here, name| here.as_object()?.get(name));
            found.map(ToString::to_string).unwrap_or_default()
        };
        *counts.entry(columns.iter().map(value).collect()).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(values, count)| values.into_iter().chain([count.to_string()]).collect())
        .collect()
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
