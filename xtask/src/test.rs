//! `cargo xtask test`: everything that must hold before a change lands; and `fix`, which mends what a machine can.

use std::process::Command;
use std::time::Duration;

use crate::shell::{Outcome, cargo, print_minutes, status_within, step, take_option};
use crate::{bench, conform, on_postgres, tidy};

/// What `--all` adds lasts too long for every change; it runs before an issue is closed.
const KNOWN: &[&str] = &["--no-conform", "--all"];

pub fn run(arguments: &[String]) -> Outcome {
    let mut arguments = arguments.to_vec();
    let store = take_option(&mut arguments, "--store")?;
    let version = take_option(&mut arguments, "--postgres-version")?;
    if let Some(unknown) = arguments.iter().find(|argument| !KNOWN.contains(&argument.as_str())) {
        return Err(format!("unknown argument {unknown}; known: {}", KNOWN.join(", ")));
    }
    let is_asked = |name: &str| arguments.iter().any(|argument| argument == name);
    let outcome = match store.as_deref() {
        None | Some("sqlite") if version.is_none() => every_step(is_asked),
        Some("postgres") => on_postgres::run(version.as_deref(), !is_asked("--no-conform")),
        _ => Err("--store is sqlite or postgres, and --postgres-version belongs to postgres".to_owned()),
    };
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
    // Elsewhere the tests that want them say that they did not run.
    if test_data::in_ci() {
        bench::ensure_anchors()?;
    }
    step("tests", tests()?.arg("--workspace"))?;
    if is_asked("--all") {
        // Before the suites, which take longest.
        on_postgres::newer()?;
    }
    if is_asked("--no-conform") {
        return Ok(());
    }
    conform::run_suites(if is_asked("--all") { conform::ALL } else { conform::USUAL })?;
    conform::run_suites_on_postgres(&["python"])
}

/// `cargo test`, each of whose suites has its time.
pub(crate) fn tests() -> Result<Command, String> {
    let own = std::env::current_exe().map_err(|error| format!("where this program lies: {error}"))?;
    let runner = format!("target.'cfg(all())'.runner = [{:?}, \"within\"]", own.display().to_string());
    let mut command = cargo();
    command.args(["test", "--quiet", "--no-fail-fast", "--config", &runner]);
    Ok(command)
}

/// A suite that runs longer hangs: the slowest takes a few minutes. Every wait of a test has a deadline of its own; this is the net
/// below, for the wait that somebody forgot.
const SUITE: Duration = Duration::from_mins(20);

/// Runs the suite that cargo built, within [`SUITE`]. The name of the test that hangs is in what it has printed: libtest tells of
/// every one that runs longer than a minute.
pub fn within(arguments: &[String]) -> Outcome {
    let (program, arguments) = arguments.split_first().ok_or("no program is given")?;
    match status_within(SUITE, Command::new(program).args(arguments)) {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{program} failed")),
        Err(why) => Err(format!("{program} {why}")),
    }
}

pub fn fix(_: &[String]) -> Outcome {
    let clippy = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
    step("clippy --fix", cargo().args(clippy))?;
    step("format", cargo().args(["fmt", "--all"]))
}
