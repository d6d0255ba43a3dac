//! All rows of a database that no server has open, for a move to another engine. Reads and never writes.

use std::path::{Path, PathBuf};

use base::caps;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row as SqliteRow};
use tokio::sync::mpsc;

use super::{DATABASE, migrate, repair, sql};
use crate::error::StoreError;
use crate::table;
use crate::transfer::{Chunk, Part, Row};

pub(crate) struct Export {
    path: PathBuf,
    connection: Connection,
}

impl Export {
    /// The database has today's format, and its log is whole.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(DATABASE);
        if !path.is_file() {
            return Err(StoreError::Refused(format!("there is no {DATABASE} in {}", directory.display())));
        }
        repair::refuse_damage(directory)?;
        let connection = super::connect(&path)?;
        connection.pragma_update(None, "query_only", true)?;
        if !migrate::is_current(&connection)? {
            return Err(StoreError::Version(format!(
                "the data of {} is of another version: start this one on it once, and stop it",
                directory.display()
            )));
        }
        Ok(Self { path, connection })
    }

    pub(crate) fn again(&self) -> Result<Self, StoreError> {
        let connection = super::connect(&self.path)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(Self { path: self.path.clone(), connection })
    }

    /// How many events wait to be told.
    pub(crate) fn waiting(&self) -> Result<i64, StoreError> {
        Ok(self.connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?)
    }

    /// The greatest id that an event of the outbox ever had.
    pub(crate) fn outbox_max(&self) -> Result<i64, StoreError> {
        let text = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'";
        Ok(self.connection.query_row(text, [], |row| row.get(0))?)
    }

    /// Every row of a part. Blocks the thread.
    pub(crate) fn rows(&self, part: Part, chunks: &mpsc::Sender<Chunk>) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(&select(part))?;
        let count = statement.column_count();
        let mut rows = statement.query([])?;
        let mut chunk = Chunk::new();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let row = (0..count).map(|at| field(row, at)).collect::<Result<Row, _>>()?;
            bytes += row.iter().flatten().map(String::len).sum::<usize>();
            chunk.push(row);
            if bytes > caps::MOVE_CHUNK_BYTES {
                bytes = 0;
                send(chunks, std::mem::take(&mut chunk))?;
            }
        }
        send(chunks, chunk)
    }

    /// The greatest revision that any record has.
    pub(crate) fn revision_max(&self) -> Result<i64, StoreError> {
        let mut greatest = 0;
        for table in table::ALL {
            let text = format!("SELECT coalesce(max(revision), 0) FROM {}", table.name);
            greatest = greatest.max(self.connection.query_row(&text, [], |row| row.get(0))?);
        }
        Ok(greatest)
    }
}

fn send(chunks: &mpsc::Sender<Chunk>, chunk: Chunk) -> Result<(), StoreError> {
    chunks.blocking_send(chunk).map_err(|_| StoreError::Closed)
}

fn select(part: Part) -> String {
    match part {
        Part::Records(table) => {
            let columns: Vec<&str> = sql::columns_of(table)
                .into_iter()
                .map(|column| if column == "doc" { sql::document(table) } else { column })
                .collect();
            format!("SELECT {} FROM {}", columns.join(", "), table.name)
        }
        Part::Counters => "SELECT instance, name, value FROM counter".to_owned(),
    }
}

fn field(row: &SqliteRow<'_>, at: usize) -> Result<Option<String>, StoreError> {
    Ok(match row.get_ref(at)? {
        ValueRef::Null => None,
        ValueRef::Integer(value) => Some(value.to_string()),
        ValueRef::Real(value) => Some(value.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    })
}
