//! The `twinhub` command. It parses the command line and hands over; every command has a file of its own.

mod admin_key;
mod allowance;
mod backup;
mod command_line;
mod config;
mod connections;
mod data_directory;
mod demonstrate;
mod environment;
mod events_command;
mod first_start;
mod health;
mod hosts_file;
mod house;
mod listeners;
mod live;
mod logging;
mod machine;
mod metrics;
mod models;
mod open_files;
mod repair;
mod run_file;
mod serve;
mod tls;
mod warnings;

use std::process::ExitCode;

use clap::Parser;
use command_line::{Cli, Command, ConfigCommand, LogCommand, ModelsCommand, RecordsCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => config::load(&args.layer()).map_err(Into::into).and_then(|c| serve::run(&c)),
        Command::Demo(args) => demonstrate::run(&args),
        Command::Env(args) => run_file::print_environment(&args),
        Command::Events(args) => events_command::run(&args),
        Command::Models { command: ModelsCommand::Check(args) } => models::check(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Records { command: RecordsCommand::Check(args) } => repair::run(&args, store::check_records),
        Command::Records { command: RecordsCommand::Repair(args) } => {
            repair::run(&args, store::repair_records)
        }
        Command::Log { command: LogCommand::Check(args) } => repair::run(&args, store::check_log),
        Command::Log { command: LogCommand::Repair(args) } => repair::run(&args, store::repair_log),
        Command::Hosts(args) => run_file::print_hosts(&args),
        Command::Config { command: ConfigCommand::Check(args) } => config::check(&args.layer()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("twinhub: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a command fails with: a text for the person at the terminal.
type Failure = Box<dyn std::error::Error + Send + Sync>;
