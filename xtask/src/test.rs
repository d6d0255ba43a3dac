//! `cargo xtask test`: everything that must hold before a change lands; and `fix`, which mends what a machine can.

use crate::shell::{Outcome, cargo, print_minutes, step};
use crate::{conform, tidy};

/// What `--all` adds lasts too long for every change; it runs before an issue is closed.
const KNOWN: &[&str] = &["--no-conform", "--all"];

pub fn run(arguments: &[String]) -> Outcome {
    if let Some(unknown) = arguments.iter().find(|argument| !KNOWN.contains(&argument.as_str())) {
        return Err(format!("unknown argument {unknown}; known: {}", KNOWN.join(", ")));
    }
    let outcome = every_step(|name| arguments.iter().any(|argument| argument == name));
    print_minutes();
    outcome
}

fn every_step(is_asked: impl Fn(&str) -> bool) -> Outcome {
    tidy::run(&[])?;
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    step(
        "lints",
        cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    )?;
    tidy::dependencies()?;
    step("tests", cargo().args(["test", "--workspace", "--quiet", "--no-fail-fast"]))?;
    if is_asked("--no-conform") {
        return Ok(());
    }
    conform::run_suites(if is_asked("--all") { conform::ALL } else { conform::USUAL })
}

pub fn fix(_: &[String]) -> Outcome {
    let clippy = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
    step("clippy --fix", cargo().args(clippy))?;
    step("format", cargo().args(["fmt", "--all"]))
}
