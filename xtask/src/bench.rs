//! `cargo xtask bench`: builds the benchmark program in release mode, installs the anchors where it may, and runs it.

use std::process::Command;

use crate::shell::{Outcome, cargo, ensure_debian, step, target};

/// The programs that ours is measured beside. The tests of the benchmarks run them too.
pub fn ensure_anchors() -> Outcome {
    ensure_debian("mosquitto", "mosquitto")?;
    if std::path::Path::new("/usr/lib/postgresql").exists() {
        return Ok(());
    }
    ensure_debian("postgres", "postgresql")
}

pub fn run(arguments: &[String]) -> Outcome {
    ensure_anchors()?;
    step(
        "release build",
        cargo().args(["build", "--release", "--quiet", "--package", "server", "--package", "bench"]),
    )?;
    let results = target().join("bench");
    std::fs::create_dir_all(&results).map_err(|error| error.to_string())?;
    let mut command = Command::new(target().join("release/bench"));
    command
        .arg("--server")
        .arg(target().join("release/twinhub"))
        .arg("--results")
        .arg(&results)
        .args(arguments);
    step("bench", &mut command)
}
