//! The `twinhub` command. It parses the command line and hands over; every command has a file of its own.

mod admin_key;
mod allowance;
mod backup;
mod cluster_key;
mod commands;
mod config;
mod connections;
mod data_directory;
mod ending;
mod environment;
mod file_accounts;
mod first_start;
mod free_address;
mod health;
mod hosts_file;
mod house;
mod listeners;
mod live;
mod logging;
mod machine;
mod metrics;
mod open_files;
mod run_file;
mod seed;
mod serve;
mod service_manager;
mod sole_server;
mod status;
mod tls;
mod warnings;
mod well_known;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::Cli::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("twinhub: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a command fails with: a text for the person at the terminal.
type Failure = Box<dyn std::error::Error + Send + Sync>;
