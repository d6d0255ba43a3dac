//! Databases of earlier formats become today's, and nothing of what they hold is lost or spelled otherwise.

use std::path::Path;

use base::InstanceId;
use rusqlite::Connection;

use super::open;
use crate::{Batch, Counter, Key, Scan};

const FORMAT_1: &str = include_str!("format_1.sql");
const FORMAT_2: &str = include_str!("format_2.sql");

/// A data directory with a database that the dump makes.
fn directory_of(dump: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    Connection::open(database(directory.path())).unwrap().execute_batch(dump).unwrap();
    directory
}

fn database(directory: &Path) -> std::path::PathBuf {
    directory.join("records.db")
}

fn texts(directory: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open(database(directory)).unwrap();
    let mut select = connection.prepare(sql).unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_database_of_an_earlier_format_gets_the_tables_that_a_new_one_has() {
    for dump in [FORMAT_1, FORMAT_2] {
        has_the_tables_of_a_new_one(dump);
    }
}

fn has_the_tables_of_a_new_one(dump: &str) {
    let (old, new) = (directory_of(dump), tempfile::tempdir().unwrap());
    for directory in [old.path(), new.path()] {
        drop(open(directory).unwrap());
    }
    let schema = "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1";
    let spelled = |directory: &Path| -> Vec<String> {
        let words = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        texts(directory, schema).iter().map(words).collect()
    };
    let (migrated, made) = (spelled(old.path()), spelled(new.path()));
    assert_eq!(migrated.len(), made.len());
    for (migrated, made) in migrated.iter().zip(&made) {
        assert_eq!(migrated, made);
    }
    assert_eq!(texts(old.path(), "SELECT value FROM meta WHERE name = 'format'"), ["6"]);
    assert!(crate::check_records(old.path()).unwrap().is_sound);
}

#[tokio::test]
async fn documents_come_out_of_a_migration_as_the_text_that_they_were() {
    let select = |table: &str, doc: &str| format!("SELECT {doc} FROM {table} ORDER BY doc");
    for (dump, doc) in [(FORMAT_1, "doc"), (FORMAT_2, "json(doc)")] {
        let directory = directory_of(dump);
        let tables = ["digital_twin", "relationship"];
        let read = |doc: &str| {
            tables.map(|table| {
                let mut found = texts(directory.path(), &select(table, doc));
                found.sort();
                found
            })
        };
        let twins = r#"INSERT INTO device_twin VALUES ('h', 'device', 'd1', '', '{"tags":{"b":1.0,"a":"\u0000"}}', 5),
            ('h', 'device', 'd2', '', '{"modelId":"m","tags":{}}', 6)"#;
        Connection::open(database(directory.path())).unwrap().execute_batch(twins).unwrap();
        let before = read(doc);
        assert_eq!(before.each_ref().map(Vec::len), [2, 2]);
        drop(open(directory.path()).unwrap());
        assert_eq!(read("json(doc)"), before);
        assert_eq!(texts(directory.path(), &select("digital_twin", "typeof(doc)")), ["blob", "blob"]);
        // Each has a model id from now on.
        let twins = "SELECT json(doc) FROM device_twin ORDER BY device_id";
        let expected = [r#"{"tags":{"b":1.0,"a":"\u0000"},"modelId":""}"#, r#"{"modelId":"m","tags":{}}"#];
        assert_eq!(texts(directory.path(), twins), expected);
        assert_eq!(texts(directory.path(), &select("endpoint", "doc")), [r#"{"number": 1.0}"#]);
    }
}

#[tokio::test]
async fn a_migration_keeps_revisions_counters_and_the_outbox() {
    let directory = directory_of(FORMAT_1);
    let store = open(directory.path()).unwrap();
    let instance = InstanceId::from_stored("twins1");
    // Twins are counted now; a number beside them would be somebody else's.
    assert_eq!(store.counter(&Counter::new(&instance, "digital_twins")).await.unwrap(), 0);
    let twins = Counter::of::<serde_twin::Twin>(&instance, "digital_twins", None);
    assert_eq!(store.counter(&twins).await.unwrap(), 2);
    let outbox = store.outbox(0, 10).await.unwrap();
    assert_eq!(
        outbox.iter().map(|row| (row.id, row.payload.as_slice())).collect::<Vec<_>>(),
        [(7, &[0, 255][..])]
    );
    assert_eq!(*store.outbox_written().borrow(), 9);
    let twins = store.scan::<serde_twin::Twin>(Scan::new(Key::instance(&instance), 10)).await.unwrap();
    assert_eq!(twins.iter().map(|twin| twin.revision.get()).collect::<Vec<_>>(), [11, 12]);
    let mut batch = Batch::default();
    batch.replace(&twins[0], &twins[0].record);
    assert!(
        store.commit(batch).await.unwrap().revision.get() >= 65_544,
        "revisions that were reserved are not given again"
    );
}

/// A digital twin as this crate needs it for a test: its document, unread.
mod serde_twin {
    use serde::{Deserialize, Serialize};

    use crate::{Key, Record, Table, table};

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(super) struct Twin {
        instance: String,
        id: String,
        document: serde_json::Value,
    }

    impl Record for Twin {
        const TABLE: Table = table::DIGITAL_TWIN;

        fn key(&self) -> Key {
            Key::new([&self.instance, &self.id])
        }

        fn columns(&self) -> Vec<Option<String>> {
            vec![self.document["$metadata"]["$model"].as_str().map(str::to_owned)]
        }
    }
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let directory = directory_of(FORMAT_1);
    let spoil = "UPDATE relationship SET doc = 'no JSON' WHERE id = 'r2'";
    Connection::open(database(directory.path())).unwrap().execute_batch(spoil).unwrap();
    let all =
        "SELECT type || name || coalesce(sql, '') FROM sqlite_schema UNION ALL SELECT doc FROM digital_twin";
    let before = texts(directory.path(), all);
    assert!(open(directory.path()).is_err());
    assert_eq!(texts(directory.path(), all), before);
    assert_eq!(texts(directory.path(), "SELECT value FROM meta WHERE name = 'format'"), ["1"]);
}
