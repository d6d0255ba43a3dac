//! `twinhub config check`, the settings' page, and what is said to a misspelling.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use crate::fixture::deadline;

/// What `config check` prints of a setting.
#[derive(Debug)]
struct Row {
    name: String,
    value: String,
    source: String,
    variable: String,
    meaning: String,
}

fn check(variables: &BTreeMap<String, String>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    command.args(["config", "check"]).args(arguments).envs(variables);
    deadline::output(&mut command)
}

fn rows(printed: &[u8]) -> Vec<Row> {
    let printed = String::from_utf8(printed.to_vec()).unwrap();
    let lines: Vec<_> = printed.lines().collect();
    let row = |pair: &[&str]| {
        let (setting, source) = pair[0].split_once("  # ").unwrap();
        let (name, value) = setting.split_once(" =").unwrap();
        let (variable, meaning) = pair[1].trim().split_once(": ").unwrap();
        Row {
            name: name.to_owned(),
            value: value.trim().to_owned(),
            source: source.trim().to_owned(),
            variable: variable.to_owned(),
            meaning: meaning.to_owned(),
        }
    };
    lines.chunks(2).map(row).collect()
}

fn all_settings() -> Vec<Row> {
    let output = check(&BTreeMap::new(), &[]);
    assert!(output.status.success(), "{output:?}");
    rows(&output.stdout)
}

#[test]
fn every_setting_has_a_meaning_and_its_variable_sets_it() {
    let settings = all_settings();
    assert!(settings.len() >= 20, "{settings:?}");
    // Two that must come together are set, so that they read; the others are told what they are by default.
    let value = |row: &Row| match row.name.as_str() {
        "tls.certificate" | "tls.key" => "/own.pem".to_owned(),
        _ => row.value.clone(),
    };
    let variables = settings.iter().map(|row| (row.variable.clone(), value(row))).collect();
    let output = check(&variables, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for row in rows(&output.stdout) {
        assert_eq!(row.source, format!("environment {}", row.variable), "{}", row.name);
        assert_eq!(row.value, variables[&row.variable], "{}", row.name);
        assert!(row.meaning.len() > 10, "{row:?}");
    }
}

const PAGE: &str = include_str!("../../../../docs/settings.md");

#[test]
fn the_file_that_the_settings_page_shows_is_read() {
    let shown = PAGE.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("twinhub.toml");
    std::fs::write(&file, shown).unwrap();
    let output = check(&BTreeMap::new(), &["--config", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let from_file = |row: &&Row| row.source == format!("file {}", file.display());
    assert_eq!(rows(&output.stdout).iter().filter(from_file).count(), shown.matches(" = ").count());
}

#[test]
fn the_settings_page_tells_of_each_what_config_check_tells() {
    let told: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| `")).collect();
    let mut wanted = Vec::new();
    for row in all_settings() {
        let default = match (row.name.as_str(), row.value.as_str()) {
            // The platform's place, which is another one on every machine.
            ("data_dir", _) | (_, "") => String::new(),
            (_, value) => format!("`{value}`"),
        };
        wanted.push(format!("| `{}` | `{}` | {default} | {} |", row.name, row.variable, row.meaning));
    }
    for (told, wanted) in told.iter().zip(&wanted) {
        assert_eq!(told, wanted);
    }
    assert_eq!(told.len(), wanted.len(), "docs/settings.md tells of as many settings as there are");
}

#[test]
fn whoever_misspells_a_setting_is_told_which_one_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    let file_argument = file.display().to_string();
    let said = |variables: &[(&str, &str)], arguments: &[&str]| {
        let variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let output = check(&variables, arguments);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (variable, meant) in [
        ("TWINHUB_LISTN", "TWINHUB_LISTEN"),
        ("TWINHUB_MQTT", "TWINHUB_PORTS__MQTT"),
        ("TWINHUB_PORTS_HTTPS", "TWINHUB_PORTS__HTTPS"),
        ("TWINHUB_RESOURCEMANAGER__MASK", "TWINHUB_RESOURCE_MANAGER__MASK"),
    ] {
        let said = said(&[(variable, "x")], &[]);
        assert!(said.contains(&format!("did you mean {meant}?")), "{said}");
    }
    let strange = said(&[("TWINHUB_COLOUR", "x")], &[]);
    assert!(!strange.contains("did you mean") && strange.contains("config check"), "{strange}");

    std::fs::write(&file, "[ports]\nmqqt = 1883\n").unwrap();
    let in_file = said(&[], &["--config", &file_argument]);
    assert!(in_file.contains(&file_argument) && in_file.contains("did you mean ports.mqtt?"), "{in_file}");

    let flag = said(&[], &["--listn", "127.0.0.1"]);
    assert!(flag.contains("--listen"), "{flag}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml").display().to_string();
    let output = check(&BTreeMap::new(), &["--config", &missing]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(&missing), "{said}");

    let in_the_way = directory.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let below = in_the_way.join("data").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let output = deadline::output(command.args(["serve", "--data-dir", &below]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(&below), "{said}");
}
