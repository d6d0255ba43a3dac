//! `twinhub demo` to its end, at the address that it was told.

use std::process::Command;

use crate::fixture::{deadline, own_address};

#[test]
fn a_demo_listens_where_it_is_told_and_gives_no_sample_for_a_server_that_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command
        .args(["demo", "--exit", "--listen", &address, "--domain", "plant.test", "--data-dir"])
        .arg(directory.path())
        .env("TWINHUB_PORTS__HTTPS_STANDARD", "0");
    let output = deadline::output(&mut command);
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(printed.starts_with(&format!("twinhub is ready at https://{address}:8443")), "{printed}");
    assert!(printed.contains("200 durable messages"), "{printed}");
    assert!(printed.contains("direct method, there and back"), "{printed}");
    for word in ["pip install", "eval", "IoT Hub "] {
        assert!(!printed.contains(word), "of a server that is gone it tells {word}: {printed}");
    }
    let again = format!("twinhub serve --data-dir {}", directory.path().display());
    assert!(printed.trim_end().ends_with(&again), "{printed}");
}

#[test]
fn a_demo_on_a_database_goes_on_where_another_data_directory_left_it() {
    let Some(database) = test_postgres::database() else { return };
    let mut authorities = Vec::new();
    for run in ["first", "second"] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
        command
            .args(["demo", "--exit", "--listen", &own_address(), "--data-dir"])
            .arg(directory.path())
            .env("TWINHUB_PORTS__HTTPS_STANDARD", "0")
            .env("TWINHUB_DURABILITY", "relaxed")
            .env("TWINHUB_STORE", database.url());
        let output = deadline::output(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{run}: {said}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("200 twin events"), "{run}");
        assert!(
            !directory.path().join("records.db").exists(),
            "{run}: something is kept beside the database"
        );
        authorities.push(std::fs::read(directory.path().join("ca.pem")).unwrap());
    }
    assert_eq!(authorities[0], authorities[1], "clients of the first trust the second");
    // Both runs' devices are in the one hub that the first made.
    let devices = "SELECT count(*) FROM twinhub.identity WHERE kind = 'device'";
    assert_eq!(database.query(devices), "40");
}
