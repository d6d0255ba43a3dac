//! SQL text made from the table constants. Nothing else spells a statement over records, but for compiled
//! queries, which `render` does.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::table::{self, Table};

/// The fixed statements of one table.
pub(crate) struct Statements {
    pub(crate) get: String,
    pub(crate) revision: String,
    pub(crate) insert: String,
    pub(crate) put: String,
    pub(crate) replace: String,
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
    /// Of `delete`: keys, revision.
    fn of(table: &Table) -> Self {
        let name = table.name;
        let names = columns_of(table);
        let marks = marks(1, names.len());
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
            (table.keys.len()..names.len()).map(|at| format!("{} = ?{}", names[at], at + 1)).collect();
        let replace =
            format!("UPDATE {name} SET {} WHERE {key} AND revision = ?{}", set.join(", "), names.len() + 1);
        let first = table.keys[0];
        Self {
            get: format!("SELECT doc, revision FROM {name} WHERE {key}"),
            revision: format!("SELECT revision FROM {name} WHERE {key}"),
            insert,
            put,
            replace,
            delete: format!("DELETE FROM {name} WHERE {key} AND revision = ?{}", table.keys.len() + 1),
            remove: format!("DELETE FROM {name} WHERE {key}"),
            purge: format!(
                "DELETE FROM {name} WHERE rowid IN (SELECT rowid FROM {name} WHERE {first} = ?1 LIMIT ?2)"
            ),
        }
    }
}

/// `CREATE` statements of a table and its indexes. An ordinary rowid table: a write that keeps the key then touches one
/// page, and a document of about 1 KB does not swell the key's tree.
pub(crate) fn create(table: &Table) -> String {
    let name = table.name;
    let mut columns: Vec<_> = table.keys.iter().map(|key| format!("{key} TEXT NOT NULL")).collect();
    columns.extend(table.columns.iter().map(|column| format!("{column} TEXT")));
    let mut sql = format!(
        "CREATE TABLE IF NOT EXISTS {name} ({}, doc TEXT NOT NULL, revision INTEGER NOT NULL, \
         PRIMARY KEY ({})) STRICT;\n",
        columns.join(", "),
        list(table.keys)
    );
    for column in table.columns {
        let by: Vec<_> = [table.keys[0], column].into_iter().chain(table.keys[1..].iter().copied()).collect();
        let _ = writeln!(sql, "CREATE INDEX IF NOT EXISTS {name}_by_{column} ON {name} ({});", list(&by));
    }
    sql
}

pub(crate) fn columns_of(table: &Table) -> Vec<&'static str> {
    table.keys.iter().chain(table.columns).copied().chain(["doc", "revision"]).collect()
}

/// A range read. Parameters in order: the prefix parts, the found value if any, the parts of `after`, the limit.
pub(crate) fn scan(table: &Table, prefix: usize, column: Option<&str>, after: usize) -> String {
    let mut conditions: Vec<String> = Vec::new();
    if prefix > 0 {
        conditions.push(equal(&table.keys[..prefix], 1));
    }
    let mut next = prefix + 1;
    if let Some(column) = column {
        conditions.push(format!("{column} = ?{next}"));
        next += 1;
    }
    if after > 0 {
        let behind = &table.keys[prefix..prefix + after];
        conditions.push(format!("({}) > ({})", list(behind), marks(next, after)));
        next += after;
    }
    let order = &table.keys[prefix.min(table.keys.len() - 1)..];
    format!(
        "SELECT doc, revision FROM {}{} ORDER BY {} LIMIT ?{next}",
        table.name,
        filter(&conditions),
        list(order)
    )
}

pub(crate) fn count(table: &Table, prefix: usize) -> String {
    let conditions: Vec<String> =
        if prefix == 0 { Vec::new() } else { vec![equal(&table.keys[..prefix], 1)] };
    format!("SELECT count(*) FROM {}{}", table.name, filter(&conditions))
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
