//! `cargo xtask test`: everything that must hold before a change lands; and `fix`, which mends what a machine can.

use crate::shell::{Outcome, cargo, step};
use crate::{conform, tidy};

pub fn run(arguments: &[String]) -> Outcome {
    if let Some(unknown) = arguments.iter().find(|a| *a != "--no-conform") {
        return Err(format!("unknown argument {unknown}; known: --no-conform"));
    }
    tidy::run(&[])?;
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    step(
        "lints",
        cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    )?;
    tidy::dependencies()?;
    step("tests", cargo().args(["test", "--workspace", "--quiet", "--no-fail-fast"]))?;
    if arguments.is_empty() {
        conform::run(&[])?;
    }
    Ok(())
}

pub fn fix(_: &[String]) -> Outcome {
    let clippy = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
    step("clippy --fix", cargo().args(clippy))?;
    step("format", cargo().args(["fmt", "--all"]))
}
