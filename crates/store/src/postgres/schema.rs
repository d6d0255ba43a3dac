//! An empty database gets today's tables, in a schema of their own; an older one gets there by numbered steps. All in one
//! transaction under the lock of one row, so that of several servers that start at once one does it and the others wait.
//! A step is never edited after a release.

use std::time::Duration;

use base::caps;
use tokio_postgres::{Client, Transaction};

use super::failure::{Kind, kind};
use super::tables;
use crate::error::StoreError;
use crate::table;

/// SQL that takes format `n + 1` (counted from 0) to `n + 2`.
const STEPS: &[&str] = &[
    // The server's own secrets get a table.
    "CREATE TABLE server_secret (realm text NOT NULL, name text NOT NULL, doc text NOT NULL, revision bigint NOT NULL, \
     PRIMARY KEY (realm, name)) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, \
     autovacuum_analyze_scale_factor = 0.05)",
    // Queries reach device twins, so they are kept as what queries look into, with what it would refuse escaped as `escape` does:
    // U+0000 to U+0003, where they are no part of another escape. Each has a model id, if only an empty one.
    r#"ALTER TABLE device_twin ALTER COLUMN doc TYPE jsonb USING '{"modelId": ""}'::jsonb || replace(replace(replace(replace(replace(
        replace(replace(replace(replace(replace(doc, '\\', chr(5)), '\u0000', chr(1)), '\u0001', chr(2)), '\u0002', chr(3)),
        '\u0003', chr(4)), chr(1), '\u0001\u0002\u0002'), chr(2), '\u0001\u0002\u0003'), chr(3), '\u0001\u0003\u0002'),
        chr(4), '\u0001\u0003\u0003'), chr(5), '\\')::jsonb"#,
    // Bytes of blobs lie in chunks. Tables of records that are not there yet are made behind the steps.
    "CREATE TABLE chunk (instance text NOT NULL, id text NOT NULL, bytes bytea NOT NULL, PRIMARY KEY (instance, id)); \
     ALTER TABLE chunk ALTER COLUMN bytes SET STORAGE EXTERNAL",
];

const BEGINNING: &str = "
CREATE SCHEMA IF NOT EXISTS twinhub;
CREATE TABLE IF NOT EXISTS twinhub.meta (name text NOT NULL PRIMARY KEY, value text NOT NULL);
INSERT INTO twinhub.meta VALUES ('product', 'twinhub'), ('format', '0') ON CONFLICT DO NOTHING";

pub(super) async fn run(client: &mut Client) -> Result<(), StoreError> {
    begin(client).await?;
    let transaction = client.transaction().await?;
    let format = format(&transaction).await?;
    let current = STEPS.len() + 1;
    if format > current {
        return Err(StoreError::Version(format!(
            "the database has format {format}, this server knows up to {current}"
        )));
    }
    let steps = match format.checked_sub(1) {
        None => records() + tables::OTHERS,
        Some(done) => STEPS[done..].join(";\n") + ";\n" + &records(),
    };
    if format < current {
        transaction.batch_execute(&steps).await?;
        let text = "UPDATE meta SET value = $1 WHERE name = 'format'";
        transaction.execute(text, &[&current.to_string()]).await?;
    }
    check_tables(&transaction).await?;
    transaction.commit().await.map_err(Into::into)
}

/// `IF NOT EXISTS` does not keep two servers from making the same at once: one of them fails, and finds it made.
async fn begin(client: &Client) -> Result<(), StoreError> {
    let mut failures = 0;
    loop {
        match client.batch_execute(BEGINNING).await {
            Ok(()) => return Ok(()),
            Err(error) if failures < caps::COMMIT_JUDGED_MAX && kind(&error) == Kind::Again => failures += 1,
            Err(error) => return Err(StoreError::from(error)),
        }
    }
}

async fn format(transaction: &Transaction<'_>) -> Result<usize, StoreError> {
    // Others wait here while one of them changes the tables, which may take longer than an answer usually does.
    let wait = Duration::from_secs(caps::DATABASE_CHANGE_SECONDS_MAX);
    transaction.batch_execute(&format!("SET LOCAL lock_timeout = '{}s'", wait.as_secs())).await?;
    let text = "SELECT value FROM meta WHERE name = 'format' FOR UPDATE";
    let row = transaction.query_one(text, &[]).await?;
    let format: String = row.get(0);
    format.parse().map_err(|_| StoreError::Corrupt("the database's format version is not a number".into()))
}

fn records() -> String {
    table::ALL.iter().map(|table| tables::create(table)).collect()
}

/// A table that was added without a step fails here, at start, and not at its first use.
async fn check_tables(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let probe = |table: &&table::Table| {
        format!("SELECT {} FROM {} LIMIT 0;", tables::columns_of(table).join(", "), table.name)
    };
    let probes: String = table::ALL.iter().map(probe).collect();
    transaction.batch_execute(&probes).await.map_err(|error| {
        StoreError::Version(format!("a table is not as this server expects it: {}", StoreError::from(error)))
    })
}
