//! The commands of the built binary as people and scripts meet them. A file for each command, in `commands/`.

#![allow(clippy::unwrap_used, reason = "helpers of a test end it like the test itself")]

use std::process::Command;

use fixture::deadline;

#[path = "commands/config.rs"]
mod config;
#[path = "commands/demo.rs"]
mod demo;
#[path = "commands/device.rs"]
mod device;
#[path = "commands/doctor.rs"]
mod doctor;
#[path = "commands/env.rs"]
mod env;
#[path = "commands/events.rs"]
mod events;
mod fixture;
#[path = "commands/help.rs"]
mod help_texts;
#[path = "commands/run.rs"]
mod run;
#[path = "commands/seed.rs"]
mod seed;
#[cfg(unix)]
#[path = "commands/service_manager.rs"]
mod service_manager;
#[path = "commands/simulate.rs"]
mod simulate;
#[path = "commands/status.rs"]
mod status;
#[path = "commands/wait.rs"]
mod wait;

#[path = "commands/logs.rs"]
mod logs;
#[path = "commands/metrics.rs"]
mod metrics;

fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinhub"));
    let output = deadline::output(command.args(arguments).arg("--help"));
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names and explanations that a help text lists below "Commands:".
fn listed(help: &str) -> Vec<(String, String)> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let row = |line: &str| {
        let (name, explanation) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        (name.to_owned(), explanation.trim().to_owned())
    };
    lines.take_while(|line| !line.is_empty()).map(row).collect()
}

#[test]
fn every_command_explains_itself_and_the_readme_lists_it() {
    let readme = include_str!("../../../README.md");
    let commands = listed(&help(&[]));
    assert!(commands.len() > 10, "{commands:?}");
    for (name, explanation) in commands {
        assert!(!explanation.is_empty(), "{name}");
        assert!(readme.contains(&format!("`twinhub {name}")), "the README has no row for `twinhub {name}`");
        // `help` takes commands where others take flags.
        let below = if name == "help" { Vec::new() } else { listed(&help(&[&name])) };
        for (below, explanation) in below {
            assert!(!explanation.is_empty(), "{name} {below}");
        }
    }
}
