//! The indexes of declared paths: made when a database is opened, dropped when their path is declared no more.
//! Called by `migrate`; `render` writes the expressions by which the engine recognizes them.

use rusqlite::Transaction;

use crate::declared::DeclaredPath;
use crate::render;
use crate::table;

/// Before the path in an index's name.
const MARK: &str = "_at_";

/// The engine takes names that differ in case for the same, and members that do are not.
pub(super) fn index_name(path: &DeclaredPath) -> String {
    let text = path.members().join(".");
    format!("{}{MARK}{text}_{:08x}", path.table().name, crc32c::crc32c(text.as_bytes()))
}

pub(super) fn settle(transaction: &Transaction, paths: &[DeclaredPath]) -> rusqlite::Result<()> {
    let wanted: Vec<String> = paths.iter().map(index_name).collect();
    let there = there(transaction)?;
    for name in there.iter().filter(|name| !wanted.contains(name)) {
        transaction.execute_batch(&format!("DROP INDEX {}", quoted(name)))?;
    }
    for (path, name) in paths.iter().zip(&wanted).filter(|(_, name)| !there.contains(name)) {
        tracing::info!(%path, "a declared path gets its index");
        transaction.execute_batch(&create(path, name))?;
    }
    Ok(())
}

/// The type stands before the value: no value compares with one of another type.
fn create(path: &DeclaredPath, name: &str) -> String {
    let (of_type, value) = render::indexed(path);
    let table = path.table();
    let keys = table.keys[1..].join(", ");
    format!("CREATE INDEX {} ON {} ({}, {of_type}, {value}, {keys})", quoted(name), table.name, table.keys[0])
}

fn there(transaction: &Transaction) -> rusqlite::Result<Vec<String>> {
    let mut select =
        transaction.prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1")?;
    let mut names = Vec::new();
    for queried in table::QUERIED {
        let mark = format!("{}{MARK}", queried.table.name);
        let all = select.query_map([queried.table.name], |row| row.get::<_, String>(0))?;
        let all = all.collect::<Result<Vec<_>, _>>()?;
        names.extend(all.into_iter().filter(|name| name.starts_with(&mark)));
    }
    Ok(names)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
