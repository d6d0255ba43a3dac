//! Moves a data directory into an empty database: table by table and partition by partition, counted and summed on both sides, and begun again
//! where it was cut off. From its beginning on no server starts on the directory, since what it would change might have been moved
//! already. To be called by a command.

mod mark;
mod partition;
mod sum;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use base::caps;
use tokio::sync::mpsc;

pub(crate) use self::mark::refuse_moved;
pub(crate) use self::partition::Pages;
pub(crate) use self::sum::Sum;
use crate::error::StoreError;
use crate::postgres::{Config, Postgres, receive::Receiver};
use crate::sqlite::export::Export;
use crate::store::{Durability, Location, Options, lock_directory};
use crate::streams::segmented::SegmentedLog;
use crate::streams::{StreamId, Streams};
use crate::table::{self, Table};

/// What is moved in one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Records(&'static Table),
    Counters,
    Outbox,
}

/// A field of each column, as text.
pub(crate) type Row = Vec<Option<String>>;

/// Rows on their way, so many that a message is worth it.
pub(crate) type Chunk = Vec<Row>;

/// A part that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// A table, or a stream and its partition.
    pub part: String,
    pub rows: u64,
    /// Whether an earlier move had brought it.
    pub was_there: bool,
}

impl Part {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        table::ALL.iter().map(|table| Self::Records(table)).chain([Self::Counters, Self::Outbox])
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Records(table) => table.name,
            Self::Counters => "counter",
            Self::Outbox => "outbox",
        }
    }
}

/// A directory that nobody else has open, and the database that it moves to.
pub struct Move {
    directory: PathBuf,
    export: Export,
    log: Streams,
    receiver: Receiver,
    _postgres: Postgres,
    _lock: std::fs::File,
}

impl Move {
    /// Refuses a directory that is in use or has moved, and a database in which there is anything that did not come from it.
    pub async fn begin(directory: &Path, url: &str, durability: Durability) -> Result<Self, StoreError> {
        let lock = lock_directory(directory)?;
        let export = Export::open(directory)?;
        let config = Config::parse(url, durability)?;
        let postgres = tokio::task::spawn_blocking(move || Postgres::open(config))
            .await
            .map_err(|_| StoreError::Closed)??;
        let location = Location::File(directory.to_owned());
        let log = tokio::task::spawn_blocking(move || Streams::open(&Options::new(location, durability)))
            .await
            .map_err(|_| StoreError::Closed)??;
        let name = mark::begin(directory)?;
        let receiver = Receiver::begin(&postgres, &name).await?;
        Ok(Self { directory: directory.to_owned(), export, log, receiver, _postgres: postgres, _lock: lock })
    }

    /// Copies what is not there yet, and holds every part against what it came from. Safe to repeat.
    pub async fn records(&self, mut arrived: impl FnMut(Arrived)) -> Result<(), StoreError> {
        for part in Part::all() {
            let known = self.receiver.arrived(part.name()).await?;
            let was_there = known.is_some();
            let sent = match known {
                Some(sum) => sum,
                None => self.copy(part).await?,
            };
            let there = self.receiver.sum(part).await?;
            compare(part.name(), sent, there)?;
            arrived(Arrived { part: part.name().to_owned(), rows: there.rows, was_there });
        }
        self.receiver.raise_revision(self.export.revision_max()?).await
    }

    /// The same of every partition of every stream: numbers, offsets and times stay what they were.
    pub async fn streams(&self, mut arrived: impl FnMut(Arrived)) -> Result<(), StoreError> {
        for (stream, partition) in self.log.embedded().map(SegmentedLog::partitions).unwrap_or_default() {
            let name = name_of(&stream, partition);
            let known = self.receiver.arrived(&name).await?;
            let was_there = known.is_some();
            let sent = match known {
                Some(sum) => sum,
                None => self.receiver.receive_partition(&self.log, &stream, partition).await?,
            };
            let there = Sum::of_partition(self.receiver.streams(), &stream, partition).await?;
            compare(&name, sent, there)?;
            arrived(Arrived { part: name, rows: there.rows, was_there });
        }
        Ok(())
    }

    async fn copy(&self, part: Part) -> Result<Sum, StoreError> {
        let (sender, chunks) = mpsc::channel(caps::MOVE_CHUNKS_MAX);
        let export = self.export.again()?;
        let read = tokio::task::spawn_blocking(move || export.rows(part, &sender));
        let sent = self.receiver.receive(part, chunks).await;
        let read = read.await.map_err(|_| StoreError::Closed)?;
        // What the reader met explains what the receiver said, and not the other way round.
        read.and(sent)
    }

    /// The directory says from now on where its data is.
    pub async fn finish(self) -> Result<(), StoreError> {
        mark::finish(&self.directory)?;
        self.receiver.forget().await
    }
}

/// What a partition is called among the parts of a move.
pub(crate) fn name_of(stream: &StreamId, partition: u32) -> String {
    format!("stream {stream}, partition {partition}")
}

fn compare(part: &str, sent: Sum, there: Sum) -> Result<(), StoreError> {
    if sent == there {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "{} rows of {part} were sent and {} arrived, or they are not the same",
        sent.rows, there.rows
    )))
}
