//! `cargo xtask soak`: the simulation of the whole house, seed after seed, for as long as one likes; or one seed again. With
//! `--models STEPS` the random walks beside their models instead, and random queries on every engine, each so many steps long.

use std::process::Command;

use crate::shell::{Outcome, cargo};

/// The tests that take their length from `TWINHUB_MODEL_STEPS`, and their seed from `TWINHUB_MODEL_SEED`.
const MODELS: [(&str, &[&str]); 2] = [
    ("hub", &["a_random_walk_leaves"]),
    (
        "store",
        &[
            "sql_means_what_the_evaluator_means",
            "an_engine_and_the_query_select_the_same_twins",
            "an_engine_and_the_query_count_the_same_groups",
        ],
    ),
];

pub fn run(arguments: &[String]) -> Outcome {
    if let [models, steps] = arguments
        && models == "--models"
    {
        let steps: u32 =
            steps.parse().map_err(|_| format!("--models takes a number of steps, not {steps}"))?;
        return MODELS.iter().try_for_each(|(package, tests)| walk(package, tests, steps));
    }
    // Of hours of it most would be spent in code that nobody optimised.
    let simulation = ["run", "--quiet", "--release", "--package", "simulation", "--"];
    run_to_its_end(cargo().args(simulation).args(arguments), "a seed went wrong; it is printed above")
}

fn walk(package: &str, tests: &[&str], steps: u32) -> Outcome {
    let mut command = cargo();
    command.args(["test", "--release", "--package", package, "--lib", "--", "--nocapture"]).args(tests);
    command.env("TWINHUB_MODEL_STEPS", steps.to_string());
    run_to_its_end(&mut command, "a model went wrong; its seed is printed above, for TWINHUB_MODEL_SEED")
}

/// It ends by itself, and may be told to run for longer than any other step.
fn run_to_its_end(command: &mut Command, failed: &str) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(failed.to_owned()),
        Err(error) => Err(format!("cargo could not be started: {error}")),
    }
}
