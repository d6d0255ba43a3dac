//! PostgreSQL for tests: one server per test process, or one of a test's own, and a fresh database per test. Only tests use it.
//! A server never outlives its process, and where PostgreSQL is missing a test says so and does not run; in CI it fails.

mod server;

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use crate::server::{Server, Signal};

/// A database of one test. It goes when this is dropped.
pub struct Database {
    server: Server,
    name: String,
}

/// A fresh database on the server that all tests of this process share.
///
/// # Panics
/// In CI, when PostgreSQL is missing; anywhere, when it is there and does not work.
#[track_caller]
pub fn database() -> Option<Database> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    let server = SHARED.get_or_init(|| Server::start(&[])).as_ref();
    if server.is_none() {
        did_not_run();
    }
    server.map(Server::database)
}

/// Says that a test did not run because PostgreSQL is missing.
///
/// # Panics
/// In CI.
#[track_caller]
pub fn did_not_run() {
    test_data::did_not_run(MISSING);
}

/// Whether the tests of this run keep what they store in PostgreSQL: `cargo xtask test --store postgres` says so.
///
/// # Panics
/// When the environment names a store that tests do not know.
pub fn is_asked_for() -> bool {
    match std::env::var("TEST_STORE").as_deref() {
        Err(_) | Ok("" | "sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("TEST_STORE is {other}; it is sqlite or postgres"),
    }
}

/// The address of a fresh database for a test of such a run. It goes when the thread ends that asked for it, which is the test's.
///
/// # Panics
/// When PostgreSQL is missing: whoever asks for it wants to see it.
#[track_caller]
pub fn database_of_this_test() -> String {
    thread_local! {
        static KEPT: RefCell<Vec<Database>> = const { RefCell::new(Vec::new()) };
    }
    let database = database().expect(MISSING);
    let url = database.url();
    KEPT.with_borrow_mut(|kept| kept.push(database));
    url
}

/// Whether a test runs that is of the embedded engine alone, such as of its files. Where it does not, that is said and counted:
/// `cargo xtask test` prints how many they are, and why.
///
/// # Panics
/// When the note of it cannot be written.
#[track_caller]
pub fn runs_embedded(why: &str) -> bool {
    if !is_asked_for() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "not on PostgreSQL: {test}: {why}");
    if let Some(notes) = std::env::var_os("TEST_NOTES") {
        let mut notes =
            std::fs::File::options().create(true).append(true).open(notes).expect("notes are kept");
        notes.write_all(format!("{test}: {why}\n").as_bytes()).expect("notes are kept");
    }
    false
}

const MISSING: &str = "PostgreSQL is missing: install Debian's package postgresql, or set TEST_POSTGRES_BIN to the folder \
                       of its programs";

impl Database {
    fn create(server: &Server) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.query(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"),
        );
        Self { server: server.clone(), name }
    }

    /// Where a store finds it.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Runs a statement beside the store, and gives its rows, columns apart by `|`.
    ///
    /// # Panics
    /// When the server refuses it.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        self.server.query(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // It is only to spare the disk: the whole server goes with the process.
        let _ =
            self.server.try_query("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// The folder of the programs: what the environment says, else the newest of Debian's.
fn programs() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("TEST_POSTGRES_BIN") {
        return Some(PathBuf::from(folder));
    }
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let entries = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    let folders = entries.flatten().map(|entry| entry.path()).filter(|path| version(path).is_some());
    let newest = folders.max_by_key(version)?.join("bin");
    newest.join("postgres").exists().then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_has_a_database_of_its_own_ordered_by_bytes() {
        let Some(first) = database() else { return };
        let second = database().expect("the first one was given");
        first.query("CREATE TABLE t (x text)");
        first.query("INSERT INTO t VALUES ('é'), ('z'), ('Z')");
        assert_eq!(first.query("SELECT x FROM t ORDER BY x"), "Z\nz\né");
        assert_eq!(second.query("SELECT count(*) FROM pg_tables WHERE tablename = 't'"), "0");
        assert_ne!(first.url(), second.url());
    }

    #[test]
    fn a_server_of_ones_own_can_be_killed_and_started_again_with_what_it_acknowledged() {
        let Some(server) = Server::start(&["fsync=on"]) else { return };
        let database = server.database();
        database.query("CREATE TABLE t (x int)");
        database.query("INSERT INTO t VALUES (7)");
        server.kill();
        assert!(server.try_query("postgres", "SELECT 1").is_err());
        server.start_again();
        assert_eq!(database.query("SELECT x FROM t"), "7");
    }

    #[test]
    fn a_promoted_standby_has_what_its_primary_acknowledged() {
        let Some(primary) = Server::start(&[]) else { return };
        let (database, standby) = (primary.database(), primary.synchronous_standby());
        database.query("CREATE TABLE t (x int)");
        // Not on the side: this one waits.
        database.query("SET synchronous_commit = on; INSERT INTO t VALUES (7)");
        primary.kill();
        standby.promote();
        assert_eq!(standby.try_query(database.name(), "SELECT x FROM t").as_deref(), Ok("7"));
        assert_eq!(standby.try_query("postgres", "SELECT pg_is_in_recovery()").as_deref(), Ok("f"));
    }

    #[test]
    fn a_server_does_not_outlive_its_process() {
        let Some(_) = database() else { return };
        // The same test binary once more, as the process that is killed.
        if std::env::var_os("TEST_POSTGRES_DIES").is_some() {
            let server = Server::start(&[]).expect("it was found before");
            println!("server {} {}", server.process(), server.directory().display());
            std::process::abort();
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["tests::a_server_does_not_outlive_its_process", "--nocapture", "--exact"])
            .env("TEST_POSTGRES_DIES", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line =
            text.lines().find_map(|line| line.split_once("server ")).unwrap_or_else(|| panic!("{text}")).1;
        let (process, directory) = line.split_once(' ').unwrap();
        let is_there = || {
            let directory = Path::new(directory.trim());
            // A zombie counts as gone: who was its parent's parent may be slow to ask.
            let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            directory.exists() || !(state.is_empty() || state.contains(") Z "))
        };
        assert!(server::within(20, || !is_there()), "the server or its directory is still there: {line}");
    }
}
