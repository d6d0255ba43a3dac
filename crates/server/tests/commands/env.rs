//! `twinhub env` against a server of its own: every format as its reader reads it, and what it tells of one device.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base::{Clock, ConnectionString, Key, sas};
use serde_json::{Value, json};
use server::client::ServiceApi;

use crate::fixture::{Server, client, deadline, environment, twinhub};

/// What a program prints that ran `script`; `None`, and a word about it, where it is not installed.
fn run(program: &str, arguments: &[&str], script: &str) -> Option<String> {
    let there = deadline::output(Command::new("sh").arg("-c").arg(format!("command -v {program}")));
    if !there.status.success() {
        eprintln!("not run, for {program} is not installed: {script}");
        return None;
    }
    let output = deadline::output(Command::new(program).args(arguments).arg(script));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn env(directory: &Path, arguments: &[&str]) -> String {
    let (worked, said, complaint) = twinhub(directory, &[&["env"], arguments].concat());
    assert!(worked, "{arguments:?}: {complaint}");
    said
}

fn refused(directory: &Path, arguments: &[&str]) -> String {
    let (worked, said, complaint) = twinhub(directory, &[&["env"], arguments].concat());
    assert!(!worked && said.is_empty(), "{arguments:?}: {said}");
    complaint
}

/// `NAME=value` lines.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn every_format_says_the_same_to_its_reader() {
    // Its files are below a path that quoting must keep.
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("it's $HOME");
    let _server = Server::start(&directory);
    let variables = environment(&directory);
    assert!(variables["TWINHUB_CA_FILE"].contains("it's $HOME"));
    for (program, arguments, format) in [
        ("sh", &["-c"][..], "shell"),
        ("bash", &["-c"], "shell"),
        ("fish", &["--no-config", "-c"], "fish"),
        ("pwsh", &["-NoProfile", "-Command"], "powershell"),
    ] {
        let show = if format == "powershell" {
            "Get-ChildItem env: | ForEach-Object { \"$($_.Name)=$($_.Value)\" }"
        } else {
            "env"
        };
        let script = format!("{}{show}", env(&directory, &["--format", format]));
        let Some(shown) = run(program, arguments, &script) else { continue };
        for (name, value) in &variables {
            assert!(shown.lines().any(|line| line == format!("{name}={value}")), "{program} {name}: {shown}");
        }
    }
    for format in ["docker", "github"] {
        assert_eq!(pairs(&env(&directory, &["--format", format])), variables, "{format}");
    }
}

#[test]
fn unset_needs_no_server_and_forgets_what_was_set() {
    let directory = tempfile::tempdir().unwrap();
    let unset = env(directory.path(), &["--format", "unset"]);
    let _server = Server::start(directory.path());
    let script = format!("{}{unset}env", env(directory.path(), &[]));
    let left = run("sh", &["-c"], &script).unwrap();
    for name in environment(directory.path()).keys() {
        assert!(!left.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
    }
}

#[test]
fn secrets_are_masked_in_a_job_of_github_and_told_to_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let said = |in_a_job: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
        command.args(["env", "--format", "github", "--data-dir"]).arg(directory.path());
        let output = deadline::output(command.env("GITHUB_ACTIONS", in_a_job));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let variables = environment(directory.path());
    let (lines, masks) = said("true");
    assert_eq!(pairs(&lines), variables);
    for name in ["AZURE_CLIENT_SECRET", "IOTHUB_CONNECTION_STRING", "EVENT_HUB_SAS_KEY"] {
        assert!(masks.contains(&format!("::add-mask::{}\n", variables[name])), "{name}: {masks}");
    }
    assert_eq!(said("false").1, "");
}

#[test]
fn az_has_its_configuration_in_the_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let recipe = env(directory.path(), &["--format", "az"]);
    let own = "az() { printf '%s\\n' \"$AZURE_CONFIG_DIR\"; }\n";
    let told = run("sh", &["-ec"], &format!("{own}{recipe}")).unwrap();
    let wanted = directory.path().join("az").display().to_string();
    assert!(!told.is_empty() && told.lines().all(|line| line == wanted), "{told}");
}

#[test]
fn a_device_adds_what_its_samples_read() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let (_, made, _) = twinhub(directory.path(), &["device", "create", "dev1", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let told = env(directory.path(), &["--device", "dev1", "--format", "json"]);
    let mut told: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
    for (name, member) in [
        ("IOTHUB_DEVICE_CONNECTION_STRING", "connectionString"),
        ("IOTHUB_DEVICE_CONN_STRING", "connectionString"),
        ("IOTHUB_DEVICE_ID", "deviceId"),
        ("AZ_IOT_HUB_SAS_DEVICE_ID", "deviceId"),
        ("AZ_IOT_HUB_SAS_KEY", "primaryKey"),
    ] {
        assert_eq!(told.remove(name).unwrap(), made[member].as_str().unwrap(), "{name}");
    }
    assert_eq!(told.remove("IOTHUB_DEVICE_SECURITY_TYPE").unwrap(), "connectionString");
    assert_eq!(told, environment(directory.path()));
    let missing = refused(directory.path(), &["--device", "dev2"]);
    assert!(
        missing.contains("has no device dev2: it has dev1. Make it with: twinhub device create dev2"),
        "{missing}"
    );
}

/// Enrolls through the API, with one key or, for a group, with one to derive from.
async fn enroll(directory: &Path, collection: &str, id: &str, attestation: Value) {
    let variables = environment(directory);
    let connection = ConnectionString::new(&variables["PROVISIONING_CONNECTION_STRING"]);
    let service = ServiceApi::new(&connection, client(directory), Clock::system()).unwrap();
    let id_name = if collection == "enrollments" { "registrationId" } else { "enrollmentGroupId" };
    let body = json!({id_name: id, "attestation": attestation});
    let path = format!("/{collection}/{id}?api-version=2021-10-01");
    service.call("PUT", &path, &[], &body).await.unwrap();
}

fn symmetric() -> Value {
    let key = || Key::generate(64).text().to_owned();
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": key(), "secondaryKey": key()}})
}

#[tokio::test]
async fn a_registration_has_the_key_with_which_it_registers() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    enroll(directory.path(), "enrollments", "alone", symmetric()).await;
    enroll(directory.path(), "enrollmentGroups", "fleet", symmetric()).await;
    for arguments in
        [&["--registration", "alone"][..], &["--registration", "one-of-many", "--group", "fleet"]]
    {
        let told = env(directory.path(), &[arguments, &["--format", "json"]].concat());
        let told: BTreeMap<String, String> = serde_json::from_str(&told).unwrap();
        let id = arguments[1];
        for name in [
            "PROVISIONING_REGISTRATION_ID",
            "IOTHUB_DEVICE_DPS_DEVICE_ID",
            "AZ_IOT_PROVISIONING_SAS_REGISTRATION_ID",
        ] {
            assert_eq!(told[name], id);
        }
        for name in ["IOTHUB_DEVICE_DPS_DEVICE_KEY", "AZ_IOT_PROVISIONING_SAS_KEY"] {
            assert_eq!(told[name], told["PROVISIONING_SYMMETRIC_KEY"]);
        }
        assert_eq!(told["IOTHUB_DEVICE_SECURITY_TYPE"], "DPS");

        let key: Key = told["PROVISIONING_SYMMETRIC_KEY"].parse().unwrap();
        let resource = format!("{}/registrations/{id}", told["IOTHUB_DEVICE_DPS_ID_SCOPE"]);
        let ends_at = Clock::system().now().plus(Duration::from_mins(1));
        let token = sas::build(&resource, &key, ends_at, Some("registration"));
        let url = server.url(&format!("/{resource}/register?api-version=2021-06-01"));
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let body = json!({"registrationId": id}).to_string();
        let answer = client(directory.path()).ask("PUT", &url, &headers, body).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.json());
    }
}

#[tokio::test]
async fn a_registration_without_a_key_is_refused_with_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(directory.path());
    let refused = |arguments: &[&str]| refused(directory.path(), arguments);
    let said = refused(&["--registration", "dev1"]);
    assert!(
        said.contains("dev1 has no enrollment of its own: name the enrollment group")
            && said.contains("(there is none yet)"),
        "{said}"
    );
    enroll(directory.path(), "enrollmentGroups", "fleet", symmetric()).await;
    assert!(refused(&["--registration", "dev1"]).contains("(there is fleet)"));
    let said = refused(&["--registration", "dev1", "--group", "other"]);
    assert!(said.contains("there is no enrollment group other: there is fleet"), "{said}");
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": "AToAAQALAAMAsgAgg3GXZ0SEs/gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEA"}});
    enroll(directory.path(), "enrollments", "sealed", tpm).await;
    let said = refused(&["--registration", "sealed"]);
    assert!(said.contains("sealed attests by tpm, and only symmetric keys can register"), "{said}");
    assert!(refused(&["--group", "fleet"]).contains("--registration <ID>"));
    assert!(refused(&["--registration", "a", "--device", "b"]).contains("cannot be used with"));
}
