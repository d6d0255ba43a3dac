//! `twinhub records check` and `repair`: records of a server that does not run, looked at and mended by the store.

use std::path::Path;
use std::process::ExitCode;

use server::out;
use store::{RecordsReport, StoreError};

use crate::command_line::DataDirArgs;
use crate::{Failure, config, data_directory};

/// Fails when the records are not sound, or not any more.
pub(crate) fn run(
    args: &DataDirArgs,
    work: fn(&Path) -> Result<RecordsReport, StoreError>,
) -> Result<ExitCode, Failure> {
    let store::Location::File(directory) = config::load(&args.layer())?.store else {
        return Err("records that are kept in memory end with their server".into());
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
