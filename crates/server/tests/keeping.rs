//! What an operator does about the data, through the built binary: ends a server, checks and repairs its records.

#![allow(clippy::unwrap_used, reason = "helpers of a test end it like the test itself")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// A deadline for whatever a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A loopback address of its own for every server of this test process, so that runs do not meet.
fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{}.{}", 20 + high % 60, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The command under a deadline of its own; that costs one process more.
fn twinhub(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &PATIENCE.as_secs().to_string(), env!("CARGO_BIN_EXE_twinhub")]);
    command.args(arguments).env("TWINHUB_PORTS__HTTPS_STANDARD", "0").stdin(Stdio::null());
    command
}

/// Whether a command about a data directory succeeded, and all that it said.
fn run(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = twinhub(arguments).arg("--data-dir").arg(directory).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

struct Server(Child);

impl Server {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
        command.args(["serve", "--listen", &own_address(), "--data-dir"]).arg(directory);
        command.env("TWINHUB_PORTS__HTTPS_STANDARD", "0").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (said, ready) = sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = said.send(line);
        });
        let server = Self(child);
        let line = ready.recv_timeout(PATIENCE).unwrap();
        assert!(line.starts_with("twinhub is ready"), "{line:?}");
        server
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Ends it as an operator does; it drains within a deadline of its own.
    fn terminate(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(told.success() && self.0.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn after_a_clean_end_the_database_alone_is_everything() {
    let directory = tempfile::tempdir().unwrap();
    Server::start(directory.path()).terminate();
    let log = std::fs::metadata(directory.path().join("records.db-wal"));
    assert!(log.is_err() || log.unwrap().len() == 0, "something is left in the write-ahead log");
    let copied = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("records.db"), copied.path().join("records.db")).unwrap();
    let (ok, said) = run(copied.path(), &["records", "check"]);
    assert!(ok && said.contains("service_principal 1"), "{said}");
}

#[test]
fn a_server_does_not_start_over_damaged_records_until_they_are_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let (ok, said) = run(directory.path(), &["records", "check"]);
    assert!(!ok && said.contains("a server uses"), "{said}");
    server.kill();
    let (ok, said) = run(directory.path(), &["records", "check"]);
    assert!(ok && said.contains("whole transactions") && said.contains("passes the check"), "{said}");

    let path = directory.path().join("records.db-wal");
    let mut log = std::fs::read(&path).unwrap();
    log[32 + 24 + 100] ^= 4;
    std::fs::write(&path, &log).unwrap();
    for arguments in [&["serve"][..], &["records", "check"]] {
        let (ok, said) = run(directory.path(), arguments);
        assert!(!ok && said.contains("frame 1 (byte 32) of "), "{arguments:?}: {said}");
        assert!(said.contains("records.db-wal") && said.contains("twinhub records repair"), "{said}");
    }
    let (ok, said) = run(directory.path(), &["records", "repair"]);
    assert!(ok && said.contains("Nothing is lost") && said.contains("records.db-wal.damaged-1"), "{said}");
    Server::start(directory.path()).terminate();
}
