//! `twinhub env`: prints what clients need, as the running server last wrote it down.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use server::out;

use super::DataDirArgs;
use crate::run_file::RunFile;
use crate::{Failure, config, environment};

#[derive(Args)]
pub(crate) struct EnvArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    #[arg(long, value_enum, default_value = "shell")]
    pub(crate) format: Format,
}

/// How `twinhub env` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// export NAME='value' for POSIX shells
    Shell,
    /// NAME="value" lines
    Dotenv,
    /// One object of strings
    Json,
    /// The commands that point the Azure CLI at the server
    Az,
}

pub(crate) fn run(args: &EnvArgs) -> Result<ExitCode, Failure> {
    let run = RunFile::of_running(&config::load(&args.data_dir.layer())?.data_dir)?;
    out::write(environment::write(&run.environment, &run.tenant_id, args.format));
    Ok(ExitCode::SUCCESS)
}
