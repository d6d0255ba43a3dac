//! All records at one moment, copied while others go on writing. For backups.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::DATABASE;
use crate::error::StoreError;

/// Holds the moment: commits go on, and the write-ahead log grows until it is dropped.
pub struct Snapshot(Connection);

impl Snapshot {
    /// A connection of its own, so that no reader waits for the copy.
    pub(crate) fn take(directory: &Path) -> Result<Self, StoreError> {
        let connection = super::connect(&directory.join(DATABASE))?;
        connection.pragma_update(None, "query_only", true)?;
        connection.execute_batch("BEGIN")?;
        // A transaction begins at its first read.
        connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
        Ok(Self(connection))
    }

    /// Writes the records into a file that is empty or not there. It is not synced.
    pub fn write_to(&self, path: &Path) -> Result<(), StoreError> {
        let mut copy = Connection::open(path)?;
        copy.pragma_update(None, "synchronous", "OFF")?;
        let backup = Backup::new(&self.0, &mut copy)?;
        match backup.step(-1)? {
            StepResult::Done => Ok(()),
            other => Err(StoreError::Unavailable(format!("the records could not be copied: {other:?}"))),
        }
    }
}
