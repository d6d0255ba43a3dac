//! `twinhub hosts`: prints the lines that a hosts file needs for every instance.

use std::process::ExitCode;

use server::out;

use super::DataDirArgs;
use crate::run_file::RunFile;
use crate::{Failure, config};

pub(crate) fn run(args: &DataDirArgs) -> Result<ExitCode, Failure> {
    for (address, name) in RunFile::of_running(&config::load(&args.layer())?.data_dir)?.hosts {
        out::line(format_args!("{address}\t{name}"));
    }
    Ok(ExitCode::SUCCESS)
}
