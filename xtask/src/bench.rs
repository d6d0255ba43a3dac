//! `cargo xtask bench`: builds the benchmark program in release mode, installs the anchors where it may, and runs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::shell::{Outcome, cargo, ensure_debian, step, target};

/// The programs that ours is measured beside. The tests of the benchmarks run them too.
pub fn ensure_anchors() -> Outcome {
    ensure_debian("mosquitto", "mosquitto")?;
    if std::path::Path::new("/usr/lib/postgresql").exists() {
        return Ok(());
    }
    ensure_debian("postgres", "postgresql")
}

/// Whether a benchmark will be run: all are, unless some are named.
fn is_asked(name: &str, arguments: &[String]) -> bool {
    let names = [
        "start",
        "idle_memory",
        "models",
        "telemetry",
        "connects",
        "twin_patches",
        "twin_queries",
        "graph",
        "database",
        "fail_over",
    ];
    let names_any = arguments.iter().any(|argument| names.contains(&argument.as_str()));
    !names_any || arguments.iter().any(|argument| argument == name)
}

/// A Python with the embedded graph database Kùzu. Without a way to `PyPI` the graph is measured beside PostgreSQL alone.
fn ensure_kuzu() -> Result<Option<PathBuf>, String> {
    let folder = target().join("bench-kuzu");
    let python = folder.join("bin/python");
    let has_kuzu = |python: &PathBuf| {
        let asked = Command::new(python).args(["-c", "import kuzu"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    if has_kuzu(&python) {
        return Ok(Some(python));
    }
    step("python environment", Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    if let Err(why) = step("Kùzu", pip.args(["install", "--quiet", KUZU])) {
        println!("not beside Kùzu: {why}");
        return Ok(None);
    }
    Ok(Some(python).filter(has_kuzu))
}

/// The blob service of Azurite. Without a way to npm's registry starts are not measured beside it.
fn ensure_azurite() -> Option<PathBuf> {
    let folder = target().join("bench-azurite");
    let program = folder.join("node_modules/azurite/dist/src/blob/main.js");
    if !program.is_file() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(AZURITE);
        if let Err(why) = step("Azurite", &mut npm) {
            println!("not beside Azurite: {why}");
        }
    }
    Some(program).filter(|program| program.is_file())
}

const AZURITE: &str = "azurite@3.35.0";

/// The last version that its makers published.
const KUZU: &str = "kuzu==0.11.3";

pub fn run(arguments: &[String]) -> Outcome {
    ensure_anchors()?;
    step(
        "release build",
        cargo().args(["build", "--release", "--quiet", "--package", "server", "--package", "bench"]),
    )?;
    let results = target().join("bench");
    std::fs::create_dir_all(&results).map_err(|error| error.to_string())?;
    let kuzu = if is_asked("graph", arguments) { ensure_kuzu()? } else { None };
    let azurite = if is_asked("start", arguments) { ensure_azurite() } else { None };
    let mut command = Command::new(target().join("release/bench"));
    if let Some(python) = kuzu {
        command.arg("--kuzu").arg(python);
    }
    if let Some(program) = azurite {
        command.arg("--azurite").arg(program);
    }
    command
        .arg("--server")
        .arg(target().join("release/twinhub"))
        .arg("--results")
        .arg(&results)
        .args(arguments);
    step("bench", &mut command)
}
