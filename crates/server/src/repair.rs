//! `twinhub records check` and `repair`, `twinhub log check` and `repair`: what a server that does not run has stored, looked at and
//! mended by the store.

use std::path::Path;
use std::process::ExitCode;

use server::out;
use store::{Report, StoreError};

use crate::command_line::DataDirArgs;
use crate::{Failure, config, data_directory};

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
