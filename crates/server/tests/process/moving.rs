//! `twinhub move`: what a server kept in its data directory is served from a database, and nobody notices but the operator.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use test_postgres::Database;

use super::{Server, client, deadline, environment, log_in, own_address, twinhub};

const SENT: usize = 300;

/// What the move brought, as those who use it see it.
#[derive(Debug, PartialEq)]
struct Seen {
    twin: Value,
    /// With numbers, offsets and times.
    events: Vec<Value>,
}

fn seen(directory: &Path) -> Seen {
    let said = |arguments: &[&str]| {
        let (ok, said, error) = twinhub(directory, arguments);
        assert!(ok, "{arguments:?}: {error}");
        said
    };
    let mut twin: Value = serde_json::from_str(&said(&["device", "twin", "d1", "--json"])).unwrap();
    // A restart ends every session.
    for member in ["connectionState", "lastActivityTime"] {
        twin.as_object_mut().unwrap().remove(member);
    }
    let events = said(&["events", "--json"]);
    Seen { twin, events: events.lines().map(|line| serde_json::from_str(line).unwrap()).collect() }
}

/// Serves a directory and leaves something of everything in it; gives where, how to log in, a token, and what is to be seen.
async fn filled(directory: &Path) -> (String, std::collections::BTreeMap<String, String>, String, Seen) {
    let address = own_address();
    let server = Server::spawn(Server::command(directory, &address), address.clone());
    let (variables, token) = log_in(directory).await;
    for arguments in [
        &["device", "create", "d1"][..],
        &["device", "twin", "d1", "set", "speed=7"],
        &["device", "send", "d1", "--count", &SENT.to_string()],
    ] {
        let (ok, _, error) = twinhub(directory, arguments);
        assert!(ok, "{arguments:?}: {error}");
    }
    let seen = seen(directory);
    // Killed: what was told is still among what waits.
    drop(server);
    (address, variables, token, seen)
}

fn moving(directory: &Path, database: &Database) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command.args(["move", "--to", &database.url(), "--data-dir"]).arg(directory);
    command.env("TWINHUB_DURABILITY", "relaxed").stdin(Stdio::null());
    command
}

fn moved(directory: &Path, database: &Database) -> String {
    let output = deadline::output(&mut moving(directory, database));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(mut command: Command) -> String {
    let output = deadline::output(&mut command);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn served(directory: &Path, database: &Database, address: &str) -> Server {
    let mut command = Server::command(directory, address);
    command.env("TWINHUB_STORE", database.url());
    Server::spawn(command, address.to_owned())
}

#[tokio::test]
async fn what_was_served_from_a_directory_is_served_from_a_database_as_it_was() {
    if !test_postgres::runs_embedded("it begins in a directory") {
        return;
    }
    let Some(database) = test_postgres::database() else { return };
    let [directory, fresh] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let (address, variables, token, before) = filled(directory.path()).await;
    assert_eq!(before.events.len(), SENT + 2, "messages, and what was told of the device and its twin");

    let said = moved(directory.path(), &database);
    assert!(said.contains("Everything is in the database"), "{said}");
    assert!(!said.contains("postgres://"), "an address may hold a password: {said}");
    assert!(refused(Server::command(directory.path(), &address)).contains("has moved to a database"));
    assert!(refused(moving(directory.path(), &database)).contains("has moved to a database"));

    // The server's own secrets went along: a directory that knows nothing serves with the same ones.
    let server = served(fresh.path(), &database, &address);
    let [first, second] = [&directory, &fresh]
        .map(|directory| std::fs::read_to_string(directory.path().join("ca.pem")).unwrap());
    assert_eq!(first, second);
    let subscriptions = server.url("/subscriptions?api-version=2022-12-01");
    let headers = [("authorization", token.as_str())];
    let answer = client(fresh.path()).send("GET", &subscriptions, &headers, "").await.unwrap();
    assert_eq!(answer.status, 200, "a token from before");
    assert!(server.terminate().success());

    let server = served(directory.path(), &database, &address);
    assert_eq!(environment(directory.path()), variables);
    assert_eq!(seen(directory.path()), before);
    let (ok, _, error) = twinhub(directory.path(), &["device", "send", "d1"]);
    assert!(ok, "{error}");
    assert_eq!(seen(directory.path()).events.len(), before.events.len() + 1, "nothing is told again");
    assert!(server.terminate().success());
}

#[tokio::test]
async fn a_move_that_is_killed_anywhere_is_ended_by_the_next_call() {
    if !test_postgres::runs_embedded("it begins in a directory") {
        return;
    }
    let Some(database) = test_postgres::database() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (address, _, _, before) = filled(directory.path()).await;
    let mut cuts = 0;
    for parts in [0, 1, 12, 34, 36] {
        let mut child = moving(directory.path(), &database).stdout(Stdio::null()).spawn().unwrap();
        let _deadline = deadline::Deadline::of(&child);
        let arrived = || {
            // It fails where the table is not there yet, or no more.
            let count = "SELECT count(*) FROM twinhub.transfer";
            let there = database.server().try_query(database.name(), count).unwrap_or_default();
            there.trim().parse().unwrap_or(0) > parts
        };
        while child.try_wait().unwrap().is_none() && !arrived() {}
        // SIGKILL; nothing is left to be killed when it was faster than the look.
        let _ = child.kill();
        if child.wait().unwrap().success() {
            break;
        }
        cuts += 1;
        assert!(refused(Server::command(directory.path(), &address)).contains("moved to a database"));
        let mut on_database = Server::command(directory.path(), &address);
        on_database.env("TWINHUB_STORE", database.url());
        assert!(refused(on_database).contains("twinhub move"));
    }
    assert!(cuts > 2, "it was killed {cuts} times");
    let output = deadline::output(&mut moving(directory.path(), &database));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("has moved to a database"), "{said}");
    let server = served(directory.path(), &database, &address);
    assert_eq!(seen(directory.path()), before);
    assert!(server.terminate().success());
}
