//! Plans of the `query` crate as SQL of an engine. Called by the engines for `Store::query`; the meaning is `query::reference`, and
//! the tests hold both against each other. Values travel as parameters and never as text.

mod condition;
mod dialect;
mod operand;
mod order;
mod parameter;
mod postgres;
#[cfg(test)]
mod tests;

use query::plan::{Beside, Column, Link, Output, Plan, Position, Table};

pub(crate) use self::dialect::Dialect;
pub(crate) use self::operand::indexed;
pub(crate) use self::parameter::Parameter;
pub(crate) use self::postgres::indexed as indexed_on_postgres;
use crate::table;

/// A statement and what its `?N` or `$N` stand for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    parameters: Vec<Parameter>,
}

impl Statement {
    #[cfg(test)]
    pub(crate) fn of(sql: &str) -> Self {
        Self { sql: sql.to_owned(), parameters: Vec::new() }
    }

    /// As many as the engine counts: a value that can never matter, such as a number that an id is compared with,
    /// may have been left out of the end of the text.
    pub(crate) fn parameters(&self, count: usize) -> &[Parameter] {
        &self.parameters[..count.min(self.parameters.len())]
    }
}

/// One page of rows in `SQLite`'s SQL.
pub(crate) fn rows(plan: &Plan, instance: &str, after: Option<&Position>, limit: usize) -> Statement {
    Dialect::Sqlite.rows(plan, instance, after, limit)
}

pub(crate) fn count(plan: &Plan, instance: &str) -> Statement {
    Dialect::Sqlite.count(plan, instance)
}

impl Dialect<'_> {
    /// One page of rows: the key columns of `Plan::order`, then the documents of `Plan::documents`, then what `Plan::beside` lists.
    pub(crate) fn rows(
        self,
        plan: &Plan,
        instance: &str,
        after: Option<&Position>,
        limit: usize,
    ) -> Statement {
        let mut writer = Writer::new(plan, self);
        let keys: Vec<String> =
            plan.order().iter().map(|part| writer.key(plan, part.binding, part.member)).collect();
        let documents = plan.documents().into_iter().map(|binding| writer.document(plan, binding));
        let documents: Vec<String> = documents.collect();
        let beside = plan.beside().iter().map(|beside| beside_of(plan, *beside));
        let columns: Vec<String> = keys.iter().cloned().chain(documents).chain(beside).collect();
        let mut conditions = writer.conditions(plan, instance);
        if let Some(position) = after {
            let marks: Vec<String> = position.keys.iter().map(|key| writer.text(key)).collect();
            conditions.push(format!("({}) > ({})", keys.join(", "), marks.join(", ")));
        }
        let limit = writer.bind(Parameter::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        let sql = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {limit}",
            columns.join(", "),
            writer.tables(plan),
            conditions.join(" AND "),
            keys.join(", "),
        );
        Statement { sql, parameters: writer.parameters }
    }

    /// One row for each combination of values as JSON texts, empty where they are undefined, and at last their count as a text.
    pub(crate) fn groups(self, plan: &Plan, instance: &str, limit: usize) -> Statement {
        let mut writer = Writer::new(plan, self);
        let Output::Groups(columns) = &plan.output else { unreachable!("a plan for groups") };
        let values: Vec<String> = columns.iter().map(|column| writer.value(plan, column)).collect();
        let conditions = writer.conditions(plan, instance).join(" AND ");
        let limit = writer.bind(Parameter::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        let shown = values.iter().map(|value| self.shown(value)).collect::<Vec<_>>().join(", ");
        let by = values.join(", ");
        let tables = writer.tables(plan);
        let sql = format!(
            "SELECT {shown}, CAST(count(*) AS text) FROM {tables} WHERE {conditions} GROUP BY {by} LIMIT {limit}"
        );
        Statement { sql, parameters: writer.parameters }
    }

    pub(crate) fn count(self, plan: &Plan, instance: &str) -> Statement {
        let mut writer = Writer::new(plan, self);
        let conditions = writer.conditions(plan, instance).join(" AND ");
        let sql = format!("SELECT count(*) FROM {} WHERE {conditions}", writer.tables(plan));
        Statement { sql, parameters: writer.parameters }
    }
}

/// Collects parameters while a statement is written.
struct Writer<'d> {
    dialect: Dialect<'d>,
    parameters: Vec<Parameter>,
    /// Array elements named so far, so that each has a name of its own.
    elements: usize,
    /// For each binding that is left out of the statement, where its id stands.
    ids: Vec<Option<String>>,
    /// For each binding the member of its record that holds the document, if one does.
    roots: Vec<Option<&'static str>>,
}

impl<'d> Writer<'d> {
    /// A twin of which at most the id is asked for is left out where a relationship names it: both ends of a relationship are
    /// always there, so the hop from one relationship to the next needs no look at the twin between them.
    fn new(plan: &Plan, dialect: Dialect<'d>) -> Self {
        let named = |at: usize| match plan.bindings[at].link {
            Link::TargetOf { relationship } => Some(format!("b{relationship}.target")),
            Link::Root => {
                let starts_here =
                    |link: &Link| matches!(link, Link::OutgoingFrom { twin, .. } if *twin == at);
                let first = plan.bindings.iter().position(|binding| starts_here(&binding.link));
                first.map(|first| format!("b{first}.source"))
            }
            Link::OutgoingFrom { .. } => None,
        };
        let ids = (0..plan.bindings.len()).map(|at| named(at).filter(|_| !needs_row(plan, at))).collect();
        let roots = (0..plan.bindings.len()).map(|at| root_of(table_of(plan, at))).collect();
        Self { dialect, parameters: Vec::new(), elements: 0, ids, roots }
    }

    /// The mark of a new parameter.
    fn bind(&mut self, value: Parameter) -> String {
        let mark = self.dialect.mark(self.parameters.len() + 1, &value);
        self.parameters.push(value);
        mark
    }

    fn text(&mut self, text: &str) -> String {
        self.bind(Parameter::Text(text.to_owned()))
    }

    /// Conditions of the statement: whose documents, how the bindings hang together, and what the query asks.
    fn conditions(&mut self, plan: &Plan, instance: &str) -> Vec<String> {
        let instance = self.text(instance);
        let mut conditions = Vec::new();
        for (at, binding) in plan.bindings.iter().enumerate() {
            if self.ids[at].is_some() {
                continue;
            }
            conditions.push(format!("b{at}.instance = {instance}"));
            conditions.extend(kind_of(binding.table).map(|kind| format!("b{at}.kind = '{kind}'")));
            match &binding.link {
                Link::Root => {}
                Link::OutgoingFrom { twin, name } => {
                    let (source, id) = (format!("b{at}.source"), self.id(*twin));
                    if source != id {
                        conditions.push(format!("{source} = {id}"));
                    }
                    conditions.push(format!("b{at}.name = {}", self.text(name)));
                }
                Link::TargetOf { relationship } => {
                    conditions.push(format!("b{at}.id = b{relationship}.target"));
                }
            }
        }
        if let Some(condition) = &plan.condition {
            assert!(condition.is_plain(), "{}", condition::NOT_PLAIN);
            conditions.push(self.selects(plan, condition));
        }
        conditions
    }

    /// Every binding that is not left out is a table `bN`.
    fn tables(&self, plan: &Plan) -> String {
        let order = self.dialect.order(plan);
        let present = order.into_iter().filter(|at| self.ids[*at].is_none());
        let names: Vec<String> = present.map(|at| format!("{} b{at}", table_of(plan, at).name)).collect();
        names.join(self.dialect.joined())
    }

    /// The id of a twin.
    fn id(&self, binding: usize) -> String {
        self.ids[binding].clone().unwrap_or_else(|| format!("b{binding}.id"))
    }

    /// The table's own column for a column, if it has one.
    fn stored(&self, plan: &Plan, column: &Column) -> Option<String> {
        let name = stored_column(plan, column)?;
        Some(if name == "id" { self.id(column.binding) } else { format!("b{}.{name}", column.binding) })
    }

    /// A value as JSON, which is NULL where it is undefined.
    fn value(&mut self, plan: &Plan, column: &Column) -> String {
        match self.stored(plan, column) {
            Some(stored) => self.dialect.text_as_json(&stored),
            None if self.dialect.is_postgres() => self.postgres_member(column, false).value,
            None => {
                let path = self.place(column).replacen(", ", " -> ", 1);
                format!("({path})")
            }
        }
    }

    fn key(&self, plan: &Plan, binding: usize, member: &str) -> String {
        let column = Column { binding, path: vec![member.to_owned()] };
        self.stored(plan, &column).expect("rows are ordered by key columns")
    }

    /// As much of a document as the output needs of it.
    fn document(&self, plan: &Plan, binding: usize) -> String {
        let is_id = |column: &Column| column.path == [TWIN_ID];
        let is_twin = plan.bindings[binding].table == Table::DigitalTwins;
        if is_twin
            && output_columns(plan, binding).is_some_and(|columns| columns.iter().all(|column| is_id(column)))
        {
            return self.dialect.only_id(&self.id(binding));
        }
        self.dialect.document(binding, root_of(table_of(plan, binding)))
    }
}

/// The record under the same key, or null: read for the rows of the page alone.
fn beside_of(plan: &Plan, beside: Beside) -> String {
    let (table, keys): (&table::Table, &[&str]) = match beside {
        Beside::Identity => (&table::IDENTITY, table::IDENTITY.keys),
        Beside::Activity => (&table::ACTIVITY, table::ACTIVITY.keys),
        // A module has no queue.
        Beside::MessageQueue if plan.bindings[0].table == Table::ModuleTwins => return "'null'".to_owned(),
        Beside::MessageQueue => (&table::DEVICE_QUEUE, table::DEVICE_QUEUE.keys),
    };
    let same: Vec<String> = keys.iter().map(|key| format!("s.{key} = b0.{key}")).collect();
    format!("coalesce((SELECT s.doc FROM {} s WHERE {}), 'null')", table.name, same.join(" AND "))
}

/// The kind of key that the records of a table have which share it with others.
fn kind_of(table: Table) -> Option<&'static str> {
    match table {
        Table::DigitalTwins | Table::Relationships => None,
        Table::DeviceTwins => Some("device"),
        Table::ModuleTwins => Some("module"),
    }
}

/// The member of a record that holds its document.
fn root_of(table: &table::Table) -> Option<&'static str> {
    table.queried().and_then(|queried| queried.document)
}

fn table_of(plan: &Plan, binding: usize) -> &'static table::Table {
    match plan.bindings[binding].table {
        Table::DigitalTwins => &table::DIGITAL_TWIN,
        Table::Relationships => &table::RELATIONSHIP,
        Table::DeviceTwins | Table::ModuleTwins => &table::DEVICE_TWIN,
    }
}

const TWIN_ID: &str = "$dtId";

/// Whether more is asked of a twin than its id.
fn needs_row(plan: &Plan, binding: usize) -> bool {
    let mut needs = match output_columns(plan, binding) {
        Some(columns) => columns.iter().any(|column| column.path != [TWIN_ID]),
        None => true,
    };
    if let Some(condition) = &plan.condition {
        condition.leaves(&mut |column| needs |= column.binding == binding && column.path != [TWIN_ID]);
    }
    needs
}

/// The columns of a binding that the answer shows; none if it shows whole documents.
fn output_columns(plan: &Plan, binding: usize) -> Option<Vec<&Column>> {
    match &plan.output {
        Output::Document | Output::Records(_) => None,
        Output::Count { .. } => Some(Vec::new()),
        Output::Groups(columns) => Some(columns.iter().filter(|column| column.binding == binding).collect()),
        Output::Columns(columns) => Some(
            columns.iter().map(|output| &output.column).filter(|column| column.binding == binding).collect(),
        ),
    }
}

/// The table's own column for a member of the document, if it has one: those are indexed.
fn stored_column(plan: &Plan, column: &Column) -> Option<&'static str> {
    let path: Vec<&str> = column.path.iter().map(String::as_str).collect();
    match (plan.bindings[column.binding].table, path.as_slice()) {
        (Table::DigitalTwins, [TWIN_ID]) | (Table::Relationships, ["$relationshipId"]) => Some("id"),
        (Table::DigitalTwins, ["$metadata", "$model"]) => Some("model"),
        (Table::Relationships, ["$sourceId"]) => Some("source"),
        (Table::Relationships, ["$targetId"]) => Some("target"),
        (Table::Relationships, ["$relationshipName"]) => Some("name"),
        (Table::DeviceTwins | Table::ModuleTwins, ["deviceId"]) => Some("device_id"),
        (Table::ModuleTwins, ["moduleId"]) => Some("module_id"),
        _ => None,
    }
}
