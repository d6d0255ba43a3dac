//! `twinhub doctor` with a server and without one, and where something is wrong.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{Server, deadline, own_address};

/// What it finds, and whether it says that all is well.
fn doctor(directory: &Path, arguments: &[&str], change: impl FnOnce(&mut Command)) -> (bool, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command.args(["doctor", "--json", "--data-dir"]).arg(directory).args(arguments);
    command.env("TWINHUB_PORTS__HTTPS_STANDARD", "0");
    change(&mut command);
    let output = deadline::output(&mut command);
    let text = String::from_utf8(output.stdout).unwrap();
    let told = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{:?}", output.stderr));
    (output.status.success(), told)
}

/// Messages and remedies of one check at one level.
fn of(told: &Value, check: &str, level: &str) -> Vec<(String, String)> {
    let all = told["findings"].as_array().unwrap().iter();
    let wanted = all.filter(|finding| finding["check"] == check && finding["level"] == level);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    wanted.map(|finding| (text(&finding["message"]), text(&finding["remedy"]))).collect()
}

#[test]
fn without_a_server_free_ports_are_told_and_what_could_not_be_looked_at() {
    let data = tempfile::tempdir().unwrap();
    let address = own_address();
    let (is_well, told) = doctor(data.path(), &["--listen", &address], |_| {});
    assert!(is_well && told["healthy"] == true && told["serverRuns"] == false, "{told:#}");
    let free: Vec<_> = of(&told, "ports", "ok").into_iter().map(|(message, _)| message).collect();
    for port in [8443, 8883] {
        assert!(
            free.iter().any(|message| message.contains(&format!("{address}:{port} is free"))),
            "{free:?}"
        );
    }
    assert_eq!(of(&told, "trust", "unknown").len(), 1, "{told:#}");
    assert_eq!(of(&told, "address", "unknown").len(), 1, "{told:#}");
    for check in ["clock", "data", "names"] {
        assert!(!of(&told, check, "ok").is_empty(), "{check}: {told:#}");
    }
}

#[test]
fn a_port_that_somebody_holds_is_a_problem_with_its_holder() {
    let data = tempfile::tempdir().unwrap();
    let address = own_address();
    let _holder = std::net::TcpListener::bind((address.as_str(), 8883)).unwrap();
    let (is_well, told) = doctor(data.path(), &["--listen", &address], |_| {});
    assert!(!is_well && told["healthy"] == false, "{told:#}");
    let [(message, remedy)] = &of(&told, "ports", "problem")[..] else { panic!("{told:#}") };
    assert!(message.contains(&format!("{address}:8883 (MQTT) is held by ")), "{message}");
    if cfg!(target_os = "linux") {
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    }
    assert!(remedy.contains("--listen") && remedy.contains("ports.mqtt"), "{remedy}");
}

#[test]
fn tools_connect_to_the_running_server_and_are_told_what_they_lack() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let forget = |command: &mut Command| {
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"] {
            command.env_remove(name);
        }
        command.env("NO_PROXY", "*");
    };
    let (is_well, told) = doctor(data.path(), &["--listen", &server.address], forget);
    assert!(is_well, "{told:#}");
    assert_eq!(of(&told, "address", "ok").len(), 2, "{told:#}");
    let served = of(&told, "ports", "ok");
    assert!(served.len() == 2 && served.iter().all(|(message, _)| message.contains("is served")), "{told:#}");
    assert!(of(&told, "trust", "problem").is_empty(), "{told:#}");
    let curl = |told: &Value, level| {
        of(told, "trust", level).into_iter().find(|(message, _)| message.starts_with("curl"))
    };
    if has("curl") {
        let (message, remedy) = curl(&told, "note").unwrap_or_else(|| panic!("{told:#}"));
        assert!(
            message.contains("not as this shell is") && remedy.contains("twinhub env"),
            "{message} {remedy}"
        );
        let bundle = crate::fixture::environment(data.path())["SSL_CERT_FILE"].clone();
        let (_, told) = doctor(data.path(), &["--listen", &server.address], |command| {
            command.env("CURL_CA_BUNDLE", &bundle).env("NO_PROXY", "*");
        });
        assert!(curl(&told, "ok").is_some(), "{told:#}");
    }
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(unix)]
#[test]
fn keys_that_others_may_read_are_a_problem() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    let address = own_address();
    let key = data.path().join("admin.key");
    std::fs::write(&key, "key").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (is_well, told) = doctor(data.path(), &["--listen", &address], |_| {});
    let [(message, remedy)] = &of(&told, "data", "problem")[..] else { panic!("{told:#}") };
    assert!(!is_well && message.contains("admin.key") && remedy.starts_with("chmod"), "{message} {remedy}");
}

#[test]
fn people_are_told_in_sentences() {
    let data = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command.args(["doctor", "--listen", &address, "--data-dir"]).arg(data.path());
    let output = deadline::output(command.env("TWINHUB_PORTS__HTTPS_STANDARD", "0"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.starts_with("No server runs on") && text.ends_with("Nothing would stop a client.\n"),
        "{text}"
    );
}
