//! `cargo xtask demo`: the main job on a data directory that is thrown away first, ending after the summary.

use crate::shell::{Outcome, cargo, step, target};

pub fn run(arguments: &[String]) -> Outcome {
    let data = target().join("demo-data");
    let _ = std::fs::remove_dir_all(&data);
    let mut command = cargo();
    command
        .args(["run", "--release", "--quiet", "--", "demo", "--exit", "--data-dir"])
        .arg(&data)
        .args(arguments);
    step("demo", &mut command)
}
