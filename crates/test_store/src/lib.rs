//! Where the tests of the house keep their records and streams: in memory, or all of them in a database of PostgreSQL each, when
//! `cargo xtask test --store postgres` says so. Fixtures ask here and nowhere else; a fixture never names an engine.

use std::path::Path;

use base::Secret;
use store::{Durability, Location, Options, Store, Streams};

/// Whether a test of the embedded engine alone, such as of its files, runs; see `test_postgres`.
#[track_caller]
pub fn runs_embedded(why: &str) -> bool {
    test_postgres::runs_embedded(why)
}

/// Whether this run keeps its stores in the process, where steps are cheap.
pub fn is_embedded() -> bool {
    !test_postgres::is_asked_for()
}

/// The same text; on a database, which keeps no order of a document's members, the same document.
///
/// # Panics
/// When it is another one.
#[track_caller]
pub fn assert_same_document(found: &str, expected: &str) {
    if !test_postgres::is_asked_for() {
        assert_eq!(found, expected);
        return;
    }
    let parsed = |text| serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
    assert_eq!(parsed(found), parsed(expected));
}

/// An empty store and its streams, gone with the test.
///
/// # Panics
/// When they cannot be opened.
#[track_caller]
pub fn open() -> (Store, Streams) {
    open_at(&options())
}

/// The same at one place, which is found again when it is opened again, unless it is in memory.
///
/// # Panics
/// When it cannot be opened.
#[track_caller]
pub fn open_at(options: &Options) -> (Store, Streams) {
    let store = Store::open(options).expect("a test's store opens");
    let streams = Streams::beside(&store, options).expect("its streams do too");
    (store, streams)
}

/// The same for a test that opens its store again: it lies in a directory of the test, or in a database.
#[track_caller]
pub fn options_in(directory: &Path) -> Options {
    match options() {
        Options { location: Location::Memory, durability, .. } => {
            Options::new(Location::File(directory.to_owned()), durability)
        }
        on_database => on_database,
    }
}

/// Where this test's data lies.
#[track_caller]
pub fn options() -> Options {
    if !test_postgres::is_asked_for() {
        return Options::memory();
    }
    let url = test_postgres::database_of_this_test();
    Options::new(Location::Postgres(Secret::new(url)), Durability::Relaxed)
}
