//! SQL text made from the table constants. Nothing else spells a statement over records, but for compiled
//! queries, which `render` does.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::engine::Range;
use crate::table::{self, Table};

/// The fixed statements of one table.
pub(crate) struct Statements {
    pub(crate) get: String,
    pub(crate) revision: String,
    pub(crate) insert: String,
    pub(crate) put: String,
    pub(crate) replace: String,
    /// A replacement that leaves the extra columns as they are, and so touches none of their indexes.
    pub(crate) rewrite: String,
    pub(crate) delete: String,
    pub(crate) remove: String,
    pub(crate) purge: String,
}

static STATEMENTS: LazyLock<HashMap<&'static str, Statements>> =
    LazyLock::new(|| table::ALL.iter().map(|table| (table.name, Statements::of(table))).collect());

pub(crate) fn of(table: &Table) -> &'static Statements {
    STATEMENTS.get(table.name).expect("every table is listed in table::ALL")
}

impl Statements {
    /// Parameters of `insert` and `put`: keys, columns, doc, revision. Of `replace`: the same, then the old revision.
    /// Of `rewrite`: keys, doc, revision, old revision. Of `delete`: keys, revision.
    fn of(table: &Table) -> Self {
        let name = table.name;
        let names = columns_of(table);
        let doc = |at: usize| if is_binary(table) { format!("jsonb(?{at})") } else { format!("?{at}") };
        let value = |at: usize| if names[at] == "doc" { doc(at + 1) } else { format!("?{}", at + 1) };
        let marks = (0..names.len()).map(value).collect::<Vec<_>>().join(", ");
        let key = equal(table.keys, 1);
        let insert = format!("INSERT INTO {name} ({}) VALUES ({marks}) ON CONFLICT DO NOTHING", list(&names));
        let keys = list(table.keys);
        let excluded: Vec<_> =
            names[table.keys.len()..].iter().map(|n| format!("{n} = excluded.{n}")).collect();
        let put = format!(
            "INSERT INTO {name} ({}) VALUES ({marks}) ON CONFLICT ({keys}) DO UPDATE SET {}",
            list(&names),
            excluded.join(", ")
        );
        let set: Vec<_> =
            (table.keys.len()..names.len()).map(|at| format!("{} = {}", names[at], value(at))).collect();
        let replace =
            format!("UPDATE {name} SET {} WHERE {key} AND revision = ?{}", set.join(", "), names.len() + 1);
        let (first, row) = (table.keys[0], if is_clustered(table) { &keys } else { "rowid" });
        let behind = table.keys.len() + 1;
        let rewrite = format!(
            "UPDATE {name} SET doc = {}, revision = ?{} WHERE {key} AND revision = ?{}",
            doc(behind),
            behind + 1,
            behind + 2
        );
        Self {
            get: format!("SELECT {}, revision FROM {name} WHERE {key}", document(table)),
            revision: format!("SELECT revision FROM {name} WHERE {key}"),
            insert,
            put,
            replace,
            rewrite,
            delete: format!("DELETE FROM {name} WHERE {key} AND revision = ?{behind}"),
            remove: format!("DELETE FROM {name} WHERE {key}"),
            purge: format!(
                "DELETE FROM {name} WHERE ({row}) IN (SELECT {row} FROM {name} WHERE {first} = ?1 LIMIT ?2)"
            ),
        }
    }
}

/// Whether documents are kept in the engine's binary form.
fn is_binary(table: &Table) -> bool {
    table.queried().is_some()
}

/// Whether documents lie in the key's own tree.
pub(crate) fn is_clustered(table: &Table) -> bool {
    table.queried().is_some_and(|queried| queried.is_clustered)
}

/// A document as text.
pub(crate) fn document(table: &Table) -> &'static str {
    if is_binary(table) { "json(doc)" } else { "doc" }
}

/// `CREATE` statements of a table and its indexes.
pub(crate) fn create(table: &Table) -> String {
    let (table, indexes) = create_in_two(table);
    table + &indexes
}

/// The same, the indexes apart: a table is filled faster without them. Most are ordinary rowid tables: a write that keeps the key
/// then touches one page, and a document of about 1 KB does not swell the key's tree.
pub(crate) fn create_in_two(table: &Table) -> (String, String) {
    let name = table.name;
    let mut columns: Vec<_> = table.keys.iter().map(|key| format!("{key} TEXT NOT NULL")).collect();
    columns.extend(table.columns.iter().map(|column| format!("{column} TEXT")));
    let doc = if is_binary(table) { "BLOB" } else { "TEXT" };
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} ({}, doc {doc} NOT NULL, revision INTEGER NOT NULL, \
         PRIMARY KEY ({})) STRICT{};\n",
        columns.join(", "),
        list(table.keys),
        if is_clustered(table) { ", WITHOUT ROWID" } else { "" }
    );
    let mut indexes = String::new();
    for index in table.indexes() {
        let by = index_name(table, index.column);
        let _ = writeln!(indexes, "CREATE INDEX IF NOT EXISTS {by} ON {name} ({});", list(&index.columns));
    }
    (create, indexes)
}

/// The order in which rows are added fastest.
pub(crate) fn order_when_copied(table: &Table) -> String {
    if is_clustered(table) { list(table.keys) } else { "rowid".to_owned() }
}

pub(crate) fn index_name(table: &Table, column: &str) -> String {
    format!("{}_by_{column}", table.name)
}

pub(crate) fn columns_of(table: &Table) -> Vec<&'static str> {
    table.keys.iter().chain(table.columns).copied().chain(["doc", "revision"]).collect()
}

/// A range read. Parameters in order: the prefix parts, the found value if any, the parts of `after`, the limit.
pub(crate) fn scan(range: &Range, after: usize) -> String {
    let (table, prefix) = (&range.table, range.prefix.parts().len());
    let mut conditions: Vec<String> = Vec::new();
    if prefix > 0 {
        conditions.push(equal(&table.keys[..prefix], 1));
    }
    let mut next = prefix + 1;
    if let Some((column, _)) = &range.column {
        conditions.push(format!("{column} = ?{next}"));
        next += 1;
    }
    let order = range.order();
    if after > 0 {
        let behind = order.get(..after).unwrap_or(&order);
        conditions.push(format!("({}) > ({})", list(behind), marks(next, after)));
        next += after;
    }
    format!(
        "SELECT {}, revision FROM {}{} ORDER BY {} LIMIT ?{next}",
        document(table),
        table.name,
        filter(&conditions),
        list(&order)
    )
}

pub(crate) fn count(table: &Table, prefix: usize) -> String {
    let conditions: Vec<String> =
        if prefix == 0 { Vec::new() } else { vec![equal(&table.keys[..prefix], 1)] };
    format!("SELECT count(*) FROM {}{}", table.name, filter(&conditions))
}

/// How many rows of an instance there are, or of those with a value of a column; at most so many.
pub(crate) fn count_of(table: &Table, column: Option<&str>) -> String {
    let columns: Vec<&str> = table.keys.iter().take(1).copied().chain(column).collect();
    let (name, limit) = (table.name, columns.len() + 1);
    let condition = equal(&columns, 1);
    format!("SELECT count(*) FROM (SELECT 1 FROM {name} WHERE {condition} LIMIT ?{limit})")
}

/// Bytes of the documents under a prefix.
pub(crate) fn bytes(table: &Table, prefix: usize) -> String {
    let conditions: Vec<String> =
        if prefix == 0 { Vec::new() } else { vec![equal(&table.keys[..prefix], 1)] };
    format!("SELECT IFNULL(SUM(LENGTH(doc)), 0) FROM {}{}", table.name, filter(&conditions))
}

fn filter(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

fn list(names: &[&str]) -> String {
    names.join(", ")
}

fn marks(first: usize, count: usize) -> String {
    (first..first + count).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ")
}

fn equal(names: &[&str], first: usize) -> String {
    let equals = names.iter().enumerate().map(|(at, name)| format!("{name} = ?{}", first + at));
    equals.collect::<Vec<_>>().join(" AND ")
}
