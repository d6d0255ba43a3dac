//! `cargo xtask soak`: the simulation of the whole house, seed after seed, for as long as one likes; or one seed again.

use crate::shell::{Outcome, cargo};

pub fn run(arguments: &[String]) -> Outcome {
    // Of hours of it most would be spent in code that nobody optimised.
    let simulation = ["run", "--quiet", "--release", "--package", "simulation", "--"];
    // It ends by itself, and may be told to run for longer than any other step.
    match cargo().args(simulation).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("a seed went wrong; it is printed above".to_owned()),
        Err(error) => Err(format!("cargo could not be started: {error}")),
    }
}
