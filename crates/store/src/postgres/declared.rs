//! The indexes of declared paths: made while writes go on, dropped when their path is declared no more. A build that was cut off
//! leaves an index that is not valid; the next start drops it and begins again. `render` writes the expression by which the planner
//! recognizes them.

use std::time::Duration;

use base::caps;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::connection::Connection;
use super::database::Database;
use super::failure::{Kind, kind};
use crate::declared::DeclaredPath;
use crate::error::StoreError;
use crate::render;
use crate::table;

/// Before the path in an index's name.
const MARK: &str = "_at_";
/// What an index is called that is to go.
const DROPPED: &str = "dropped_";
/// The engine cuts longer names off.
const NAME_BYTES: usize = 63;
/// How long until a lock that another holds is asked for again.
const AGAIN_MILLISECONDS: u64 = 100;

/// What is indexed decides the name: an index of another expression is another one.
pub(crate) fn index_name(path: &DeclaredPath) -> String {
    let sum = crc32c::crc32c(render::indexed_on_postgres(path).as_bytes());
    let mut name = format!("{}{MARK}{sum:08x}_{}", path.table().name, path.members().join("."));
    name.truncate(NAME_BYTES);
    name
}

/// Safe to repeat, by several servers at once. A build waits for every older snapshot, and a statement that waits for the table of
/// a build holds one, so two servers would wait for each other: they take turns.
pub(super) async fn settle(database: &Database, paths: &[DeclaredPath]) -> Result<(), StoreError> {
    let _turn = turn(database).await?;
    let mut failures = 0;
    loop {
        // A build that goes on at the database after its server was killed knows no turns.
        match build(&*database.connect().await?, paths).await {
            Err(error) if failures < caps::COMMIT_JUDGED_MAX && kind(&error) == Kind::Again => failures += 1,
            done => return done.map_err(Into::into),
        }
    }
}

/// Held until it is dropped. Who holds it longer than others wait loses it.
async fn turn(database: &Database) -> Result<Connection, StoreError> {
    let connection = database.connect().await?;
    let most = format!("SET idle_in_transaction_session_timeout = '{}s'", caps::DATABASE_CHANGE_SECONDS_MAX);
    connection.batch_execute(&most).await?;
    lock(&connection, "meta").await?;
    Ok(connection)
}

/// Begins a transaction that locks a table. Whoever waits at the database for a lock holds a snapshot there, so we wait here.
async fn lock(client: &Client, table: &str) -> Result<(), Error> {
    let text = format!("BEGIN; LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT");
    let tries = caps::DATABASE_CHANGE_SECONDS_MAX * 1000 / AGAIN_MILLISECONDS;
    for _ in 1..tries {
        match client.batch_execute(&text).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                client.batch_execute("ROLLBACK").await?;
            }
            done => return done,
        }
        tokio::time::sleep(Duration::from_millis(AGAIN_MILLISECONDS)).await;
    }
    client.batch_execute(&text).await
}

async fn build(client: &Client, paths: &[DeclaredPath]) -> Result<(), Error> {
    client.batch_execute(&format!("SET lock_timeout = '{}s'", caps::DATABASE_CHANGE_SECONDS_MAX)).await?;
    let wanted: Vec<String> = paths.iter().map(index_name).collect();
    for table in table::QUERIED.iter().map(|queried| queried.table.name) {
        for index in there(client, table).await? {
            if !wanted.contains(&index.name) {
                drop_index(client, &index.name).await?;
            } else if !index.is_valid {
                remove_the_dead(client, table, &index.name).await?;
            }
        }
    }
    for (path, name) in paths.iter().zip(&wanted) {
        let table = path.table().name;
        if there(client, table).await?.iter().any(|index| index.name == *name) {
            continue;
        }
        tracing::info!(%path, "a declared path gets its index");
        client.batch_execute(&create(path, name)).await?;
        // The planner knows nothing of an expression until it is counted.
        client.batch_execute(&format!("ANALYZE {table}")).await?;
    }
    Ok(())
}

fn create(path: &DeclaredPath, name: &str) -> String {
    let table = path.table();
    let (first, keys) = (table.keys[0], table.keys[1..].join(", "));
    let value = render::indexed_on_postgres(path);
    let name = quoted(name);
    format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {} ({first}, {value}, {keys})", table.name)
}

struct Index {
    name: String,
    is_valid: bool,
}

async fn there(client: &Client, table: &str) -> Result<Vec<Index>, Error> {
    let text = "SELECT c.relname::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                WHERE i.indrelid = $1::text::regclass";
    let rows = client.query(text, &[&table]).await?;
    let indexes = rows.iter().map(|row| Ok(Index { name: row.try_get(0)?, is_valid: row.try_get(1)? }));
    let mut indexes = indexes.collect::<Result<Vec<_>, Error>>()?;
    let mark = format!("{table}{MARK}");
    indexes.retain(|index| index.name.starts_with(&mark));
    Ok(indexes)
}

/// An index that is not valid is dead or being built. Whoever builds holds a lock on the table that waits for ours, so that under it
/// only dead ones are left; one gets another name, under which nobody will build, before it is dropped without a lock.
async fn remove_the_dead(client: &Client, table: &str, name: &str) -> Result<(), Error> {
    let other = format!("{table}{MARK}{DROPPED}{:08x}", crc32c::crc32c(name.as_bytes()));
    lock(client, table).await?;
    let is_dead = match there(client, table).await {
        Ok(indexes) => indexes.iter().any(|index| index.name == name && !index.is_valid),
        Err(error) => {
            client.batch_execute("ROLLBACK").await?;
            return Err(error);
        }
    };
    if !is_dead {
        return client.batch_execute("COMMIT").await;
    }
    tracing::info!(name, "an index that was not made to its end is made anew");
    let rename = format!("ALTER INDEX {} RENAME TO {}; COMMIT", quoted(name), quoted(&other));
    client.batch_execute(&rename).await?;
    drop_index(client, &other).await
}

async fn drop_index(client: &Client, name: &str) -> Result<(), Error> {
    client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {}", quoted(name))).await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
