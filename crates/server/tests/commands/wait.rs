//! `twinhub wait`: until a server is ready.

use std::process::{Command, Stdio};

use crate::fixture::deadline::{self, Deadline};
use crate::fixture::{Server, twinhub};

#[test]
fn it_ends_as_soon_as_a_server_that_starts_later_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command.args(["wait", "--timeout", "120", "--data-dir"]).arg(directory.path()).stdin(Stdio::null());
    let mut waiting = command.spawn().unwrap();
    let _deadline = Deadline::of(&waiting);
    let _server = Server::start(directory.path());
    assert!(waiting.wait().unwrap().success());
    let (ok, said, _) = twinhub(directory.path(), &["wait", "--timeout", "0"]);
    assert!(ok && said.is_empty(), "{said}");
}

#[test]
fn where_no_server_comes_it_fails_and_says_what_it_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (ok, _, said) = twinhub(directory.path(), &["wait", "--timeout", "0"]);
    assert!(!ok);
    let file = directory.path().join("run.json");
    assert!(said.contains("waited 0 s: ") && said.contains(&file.display().to_string()), "{said}");
    assert!(said.contains("twinhub serve --data-dir"), "{said}");
}

#[test]
fn what_a_killed_server_left_behind_is_no_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path());
    let address = server.address.clone();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let (ok, _, said) = twinhub(directory.path(), &["wait", "--timeout", "1"]);
    assert!(!ok && said.contains(&format!("{address}:8443 does not answer")), "{said}");
}

#[test]
fn its_help_says_how_long_it_waits() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let output = deadline::output(command.args(["wait", "--help"]));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("--timeout <SECONDS>") && said.contains("[default: 60]"), "{said}");
}
