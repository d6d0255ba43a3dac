//! `twinhub records check` and `repair`, `twinhub log check` and `repair`: what a server that does not run has stored, looked at and
//! mended by the store.

use std::path::Path;
use std::process::ExitCode;

use server::out;
use store::{Report, StoreError};

use super::DataDirArgs;
use crate::{Failure, config, data_directory};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum RecordsCommand {
    /// Say whether records.db and its write-ahead log are sound; changes nothing, fails when they are not.
    Check(DataDirArgs),
    /// Make records that open from damaged ones; keeps what was there, says what is lost.
    Repair(DataDirArgs),
}

#[derive(Subcommand)]
pub(crate) enum LogCommand {
    /// Read every record of the log; changes nothing, names what is damaged and which events are lost, fails when there is any.
    Check(DataDirArgs),
    /// Read events back that recovery cut off, and make damaged openings of segments anew; keeps what was there.
    Repair(DataDirArgs),
}

/// Fails when what is stored is not sound.
pub(crate) fn run(
    args: &DataDirArgs,
    work: fn(&Path) -> Result<Report, StoreError>,
) -> Result<ExitCode, Failure> {
    let store::Location::File(directory) = config::load(&args.layer())?.store else {
        return Err("what is kept in memory ends with its server".into());
    };
    let report = work(&directory).map_err(|error| match error {
        StoreError::InUse(directory) => data_directory::held(directory.as_ref()),
        error => error.to_string(),
    })?;
    for line in &report.lines {
        out::line(line);
    }
    Ok(if report.is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
