//! What is special to this engine: its tables, what it refuses at the start, and several servers on one database.

mod commits;
mod streams;
mod unknown;

use std::time::Duration;

use test_postgres::Database;

use super::{Config, Postgres};
use crate::error::StoreError;
use crate::store::Durability;
use crate::table;

fn open(database: &Database) -> Result<Postgres, StoreError> {
    Postgres::open(Config::parse(&database.url(), Durability::Relaxed).unwrap())
}

#[test]
fn several_servers_that_start_at_once_make_every_table_once() {
    let Some(database) = test_postgres::database() else { return };
    let nodes: Vec<i32> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&database).unwrap().node())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let different: std::collections::BTreeSet<_> = nodes.iter().collect();
    assert_eq!(different.len(), 4, "{nodes:?}");
    let tables = database.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'twinhub'");
    assert!(tables.parse::<usize>().unwrap() > table::ALL.len());
    assert_eq!(database.query("SELECT value FROM twinhub.meta WHERE name = 'format'"), "4");
}

#[test]
fn a_database_of_an_earlier_format_gets_the_tables_that_a_new_one_has() {
    let Some(database) = test_postgres::database() else { return };
    let columns = "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns \
                   WHERE table_schema = 'twinhub' ORDER BY 1, 2";
    let indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'twinhub' ORDER BY 1";
    let options =
        "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'twinhub'::regnamespace ORDER BY 1";
    let spelled = || [columns, indexes, options].map(|select| database.query(select));
    drop(open(&database).unwrap());
    let made = spelled();
    // What format 1 had not, or had otherwise.
    database.query("DROP TABLE twinhub.server_secret, twinhub.chunk, twinhub.blob, twinhub.device_job");
    database.query("ALTER TABLE twinhub.device_twin ALTER COLUMN doc TYPE text");
    let twin = r#"{"tags":{"a":"\\u0000\u0000\u0001\"\u0002\u0003","n":1.0}}"#;
    database.query(&format!("INSERT INTO twinhub.device_twin VALUES ('h', 'device', 'd', '', '{twin}', 7)"));
    database.query("UPDATE twinhub.meta SET value = '1' WHERE name = 'format'");
    drop(open(&database).unwrap());
    assert_eq!(spelled(), made);
    let kept = database.query("SELECT doc::text FROM twinhub.device_twin");
    let kept: serde_json::Value = serde_json::from_str(&super::escape::json_back(kept.trim())).unwrap();
    assert_eq!(kept["tags"], serde_json::from_str::<serde_json::Value>(twin).unwrap()["tags"]);
    assert_eq!(kept["modelId"], "");
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let Some(database) = test_postgres::database() else { return };
    drop(open(&database).unwrap());
    database.query("UPDATE twinhub.meta SET value = '9999' WHERE name = 'format'");
    let Err(StoreError::Version(why)) = open(&database) else { panic!("it was opened") };
    assert!(why.contains("9999"), "{why}");
}

#[test]
fn a_database_that_does_not_keep_its_promises_is_refused_unless_that_is_wanted() {
    let Some(database) = test_postgres::database() else { return };
    let strict = Config::parse(&database.url(), Durability::Full).unwrap();
    let Err(StoreError::Refused(why)) = Postgres::open(strict).map(drop) else { panic!("it does not sync") };
    assert!(why.contains("fsync"), "{why}");
    let condition = open(&database).unwrap().condition();
    assert!(!condition.has_standby);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_becomes_unsafe_or_gets_a_standby_is_known_as_such_after_the_next_look() {
    let Some(server) = test_postgres::Server::start(&["fsync=on", "full_page_writes=on"]) else {
        return test_postgres::did_not_run();
    };
    let database = server.database();
    let postgres = Postgres::open(Config::parse(&database.url(), Durability::Full).unwrap()).unwrap();
    let look = async |setting: &str| {
        database.query(setting);
        postgres.look_now().await;
        postgres.condition()
    };
    let name = database.name();
    let found = look(&format!("ALTER DATABASE {name} SET synchronous_commit = local")).await;
    assert!(found.fault.unwrap().contains("synchronous_commit is local"));
    let found = look(&format!("ALTER DATABASE {name} RESET synchronous_commit")).await;
    assert_eq!((found.fault, found.has_standby), (None, false));
    let _standby = server.synchronous_standby();
    assert!(look("SELECT 1").await.has_standby);
}

#[tokio::test]
async fn a_server_that_proves_its_name_is_reached_over_tls_and_no_other() {
    let Some((server, certificate)) = test_postgres::Server::start_with_tls() else { return };
    let database = server.database();
    let url = server.network_url(database.name());
    let at = |roots: &std::path::Path| {
        let url = format!("{url}?sslmode=require&sslrootcert={}", roots.display());
        Postgres::open(Config::parse(&url, Durability::Relaxed).unwrap())
    };
    let postgres = at(&certificate).unwrap();
    let text = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = postgres.reader().await.unwrap().query_one(text, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    // Of another authority.
    let Some((_other, stranger)) = test_postgres::Server::start_with_tls() else { return };
    assert!(matches!(at(&stranger).map(drop), Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn readers_look_into_the_stores_own_schema() {
    let Some(database) = test_postgres::database() else { return };
    let postgres = open(&database).unwrap();
    let reader = postgres.reader().await.unwrap();
    let row = reader.query_one("SELECT current_schema()", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "twinhub");
}

#[tokio::test]
async fn what_is_written_seldom_goes_over_one_connection_and_is_prepared_once() {
    let Some(database) = test_postgres::database() else { return };
    let postgres = open(&database).unwrap();
    let asked = "SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements)";
    let mut seen = Vec::new();
    for _ in 0..2 {
        let rows = postgres.write(asked, &[]).await.unwrap();
        seen.push((rows[0].get::<_, i32>(0), rows[0].get::<_, i64>(1)));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_frozen_while_nobody_asked_is_left_after_the_next_look() {
    let Some(primary) = test_postgres::Server::start(&[]) else { return test_postgres::did_not_run() };
    let (database, standby) = (primary.database(), primary.synchronous_standby());
    let url = primary.url_of_both(&standby, database.name());
    let postgres = Postgres::open(Config::parse(&url, Durability::Relaxed).unwrap()).unwrap();
    let patience = Duration::from_secs(60);
    let answers = async || {
        let rows = postgres.rows("SELECT current_setting('data_directory')", &[], patience).await.unwrap();
        std::path::PathBuf::from(rows[0].get::<_, String>(0))
    };
    assert!(answers().await.starts_with(primary.directory()));
    primary.signal_all(test_postgres::Signal::STOP);
    standby.promote();
    primary.signal_all(test_postgres::Signal::CONT);
    postgres.look_now().await;
    assert!(answers().await.starts_with(standby.directory()));
    assert_eq!(postgres.condition().fault, None);
    primary.kill();
    standby.kill();
    postgres.look_now().await;
    assert!(postgres.condition().fault.unwrap().contains("cannot be reached"));
}
