//! `Select` and `Condition` to the plan of an engine: as much of the condition as an engine answers exactly, over the records of
//! twins. What it leaves out, whoever reads the rows asks `Select::selects` about.

use serde_json::Value as Json;

use super::{Aggregate, ItemValue, Property, Select, Source};
use crate::plan::{Beside, Binding, Column, Link, Output, Plan, Table};
use crate::tree::Expression;

/// Members of a twin that its record has under the same names.
const RECORDED: &[&str] =
    &["deviceId", "moduleId", "etag", "modelId", "version", "tags", "properties", "configurations"];
const OF_ACTIVITY: &[&str] = &["connectionState", "lastActivityTime"];
const OF_QUEUE: &[&str] = &["cloudToDeviceMessageCount"];

/// What an engine does of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Prefilter {
    pub plan: Plan,
    /// Whether the plan selects exactly what the query does, and not something more.
    pub is_exact: bool,
}

impl Select {
    /// The plan that gives the records of which rows are made. `None` over jobs, which are no records of twins.
    pub fn prefilter(&self) -> Option<Prefilter> {
        let table = table_of(self.source)?;
        let weakened = self.condition.as_ref().map(weaken);
        let is_exact = weakened.as_ref().is_none_or(|(_, is_exact)| *is_exact);
        let condition = weakened.and_then(|(condition, _)| condition);
        let bindings = vec![Binding { alias: None, table, link: Link::Root }];
        let plan = Plan { bindings, condition, output: Output::Records(self.beside()), top: None };
        Some(Prefilter { plan, is_exact })
    }

    /// The plan of a query that only counts, and that an engine counts exactly.
    pub fn count_plan(&self) -> Option<Plan> {
        let [item] = self.items() else { return None };
        let counts = item.value == ItemValue::Aggregate(Aggregate::Count) && self.group_by.is_empty();
        let Prefilter { mut plan, is_exact } = self.prefilter().filter(|_| counts)?;
        plan.output = Output::Count { name: item.name.clone() };
        plan.top = self.top;
        is_exact.then_some(plan)
    }

    /// The plan of a query whose groups an engine counts, if it selects exactly: by all that rows are made of.
    pub fn group_plan(&self) -> Option<Plan> {
        let Prefilter { mut plan, is_exact } = self.prefilter().filter(|_| self.is_grouped())?;
        let columns: Vec<Column> = self.grouped().iter().map(column).collect::<Option<_>>()?;
        plan.output = Output::Groups(columns);
        (is_exact && !self.grouped().is_empty()).then_some(plan)
    }

    /// A document that has of `group`, as [`Self::group_plan`] gives it, what rows are made of, and how many there are like it.
    pub fn group_of(&self, group: &[Json]) -> Option<(Json, u64)> {
        let (count, values) = group.split_last()?;
        let mut document = Json::Object(base::json::Object::new());
        for (property, value) in self.grouped().iter().zip(values) {
            if let Some(value) = value.get(0) {
                put(&mut document, property.path(), value.clone());
            }
        }
        Some((document, count.as_u64()?))
    }

    /// What is grouped by, and what aggregates are of.
    fn grouped(&self) -> Vec<Property> {
        let mut grouped = self.group_by.clone();
        for item in self.items() {
            if let ItemValue::Aggregate(Aggregate::Of(_, property)) = &item.value
                && !grouped.contains(property)
            {
                grouped.push(property.clone());
            }
        }
        grouped
    }

    /// What an engine does, then what is done here, a line each.
    pub fn explained(&self) -> String {
        if let Some(plan) = self.count_plan() {
            return plan.to_string();
        }
        let Some(Prefilter { mut plan, is_exact }) = self.prefilter() else { return self.to_string() };
        if let Some(groups) = self.group_plan() {
            plan = groups;
        }
        let mut lines = vec![plan.to_string()];
        if let Some(condition) = self.condition.as_ref().filter(|_| !is_exact) {
            lines.push(format!("then where {condition}"));
        }
        if !self.group_by.is_empty() {
            lines.push(format!("then group by {}", listed(&self.group_by)));
        }
        if self.is_ordered() {
            lines.push(format!("then order by {}", listed(&self.order_by)));
        }
        if let Some(top) = self.top {
            lines.push(format!("then top {top}"));
        }
        let items = self.items();
        lines.push(if items.is_empty() {
            "then whole twins".to_owned()
        } else {
            format!("then {}", listed(items))
        });
        lines.join("\n")
    }

    /// What rows need beside the record of a twin. Whether a device is connected is asked of its session too, which goes by its
    /// identity.
    fn beside(&self) -> Vec<Beside> {
        let Some(properties) = self.properties() else {
            return vec![Beside::Identity, Beside::Activity, Beside::MessageQueue];
        };
        let mut beside = Vec::new();
        if properties.iter().any(|property| !RECORDED.contains(&property.root())) {
            beside.push(Beside::Identity);
        }
        if properties.iter().any(|property| OF_ACTIVITY.contains(&property.root())) {
            beside.push(Beside::Activity);
        }
        if properties.iter().any(|property| OF_QUEUE.contains(&property.root())) {
            beside.push(Beside::MessageQueue);
        }
        beside
    }
}

fn listed<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn table_of(source: Source) -> Option<Table> {
    match source {
        Source::Devices => Some(Table::DeviceTwins),
        Source::Modules => Some(Table::ModuleTwins),
        Source::Jobs => None,
    }
}

/// A condition that is true wherever this one is, and whether it is true nowhere else; none if everything might be.
fn weaken(condition: &Expression<Property>) -> (Option<Expression<Column>>, bool) {
    if let Some(exact) = exactly(condition) {
        return (Some(exact), true);
    }
    match condition {
        Expression::All(items) => {
            let kept: Vec<_> = items.iter().filter_map(|item| weaken(item).0).collect();
            (joined(kept, Expression::All), false)
        }
        Expression::Any(items) => {
            let weakened: Option<Vec<_>> = items.iter().map(|item| weaken(item).0).collect();
            (weakened.and_then(|items| joined(items, Expression::Any)), false)
        }
        _ => (None, false),
    }
}

fn joined(
    mut items: Vec<Expression<Column>>,
    join: fn(Vec<Expression<Column>>) -> Expression<Column>,
) -> Option<Expression<Column>> {
    if items.len() < 2 { items.pop() } else { Some(join(items)) }
}

/// The same over the columns of a record, if an engine answers all of it.
fn exactly(condition: &Expression<Property>) -> Option<Expression<Column>> {
    if !condition.is_plain() {
        return None;
    }
    condition.try_map(&mut |property: &Property| column(property).map(Expression::Path).ok_or(())).ok()
}

fn column(property: &Property) -> Option<Column> {
    RECORDED.contains(&property.root()).then(|| Column { binding: 0, path: property.path().to_vec() })
}

fn put(document: &mut Json, path: &[String], value: Json) {
    let mut here = document;
    for name in path {
        if !here.is_object() {
            *here = Json::Object(base::json::Object::new());
        }
        here = &mut here[name.as_str()];
    }
    *here = value;
}
