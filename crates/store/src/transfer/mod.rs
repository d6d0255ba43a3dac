//! Moves a data directory into an empty database: table by table and partition by partition, counted and summed on both sides, and
//! begun again where it was cut off. From its beginning on no server starts on the directory, since what it would change might have
//! been moved already, nor on the database before its end. Sessions do not move, since a restart ends them all. Events that wait to be
//! told must have been told before, since the database would give them other numbers and tell them again; those that are parked for
//! an endpoint move with the rest.

mod mark;
mod partition;
mod sum;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use base::caps;
use bytes::Bytes;
use tokio::sync::mpsc;

use self::mark::State;
pub(crate) use self::mark::refuse_moved;
pub(crate) use self::partition::Pages;
pub(crate) use self::sum::Sum;
use crate::directory_lock::DirectoryLock;
use crate::engine::{Chunks as _, Engine};
use crate::error::StoreError;
use crate::postgres::receive::{self, Receiver};
use crate::postgres::{Config, Postgres};
use crate::sqlite::chunks;
use crate::sqlite::export::Export;
use crate::store::{Durability, Location, Options, Store};
use crate::streams::segmented::SegmentedLog;
use crate::streams::{StreamId, Streams};
use crate::table::{self, Table};

/// What is moved in one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Records(&'static Table),
    Counters,
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
    pub is_stream: bool,
    /// Whether an earlier move had brought it.
    pub was_there: bool,
}

impl Part {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        table::ALL.iter().map(|table| Self::Records(table)).chain([Self::Counters])
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Records(table) => table.name,
            Self::Counters => "counter",
        }
    }
}

/// A directory that nobody else has open, and the database that it moves to.
pub struct Move {
    directory: PathBuf,
    /// Of the database, for people.
    place: String,
    name: String,
    /// Whether everything is there, and the directory says so.
    is_over: bool,
    export: Export,
    log: Streams,
    receiver: Receiver,
    postgres: Postgres,
    _lock: DirectoryLock,
}

/// Whether a move of this directory has begun, so that no server can be started on it any more.
pub fn has_begun(directory: &Path) -> Result<bool, StoreError> {
    Ok(!matches!(mark::state(directory)?, State::Here))
}

impl Move {
    /// Refuses a directory that is in use, has moved, or in which events wait to be told; and a database that is in use or in which
    /// there is anything that did not come from it. A directory is as it was when it is refused.
    pub async fn begin(directory: &Path, url: &str, durability: Durability) -> Result<Self, StoreError> {
        let lock = DirectoryLock::take(directory)?;
        let export = Export::open(directory)?;
        let config = Config::parse(url, durability)?;
        let place = config.place();
        let postgres = blocking(move || Postgres::open(config)).await?;
        let location = Location::File(directory.to_owned());
        let log = blocking(move || Streams::open(&Options::new(location, durability))).await?;
        let state = mark::state(directory)?;
        let is_over = matches!(state, State::Moved(..));
        let (name, receiver) = match state {
            State::Here => {
                receive::refuse_unfit_target(&postgres).await?;
                let waiting = export.waiting()?;
                if waiting > 0 {
                    return Err(StoreError::Refused(format!("{waiting} events wait to be told")));
                }
                let name = mark::begin(directory)?;
                let receiver = Receiver::begin(&postgres, &name).await?;
                (name, receiver)
            }
            State::Moving(name) => {
                let known = Receiver::go_on(&postgres, &name).await?;
                let receiver = match known {
                    Some(receiver) => receiver,
                    None => Receiver::begin(&postgres, &name).await?,
                };
                (name, receiver)
            }
            State::Moved(name, moved_to) => {
                let known = Receiver::go_on(&postgres, &name).await?;
                (name, known.ok_or_else(|| mark::has_moved(directory, &moved_to))?)
            }
        };
        let directory = directory.to_owned();
        Ok(Self { directory, place, name, is_over, export, log, receiver, postgres, _lock: lock })
    }

    /// Whether an earlier call was cut off between the last two steps: there is nothing left but to hand over and to forget.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The database, for what does not lie in the directory's records.
    pub fn target(&self) -> Store {
        Store::of(Engine::Postgres(self.postgres.clone()))
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
            arrived(Arrived { part: part.name().to_owned(), rows: there.rows, is_stream: false, was_there });
        }
        self.receiver.raise_numbers(self.export.revision_max()?, self.export.outbox_max()?).await
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
            arrived(Arrived { part: name, rows: there.rows, is_stream: true, was_there });
        }
        Ok(())
    }

    /// The same of the bytes of blobs, each compared as it lies there.
    pub async fn chunks(&self, mut arrived: impl FnMut(Arrived)) -> Result<(), StoreError> {
        let (mut rows, mut was_there) = (0, true);
        for name in chunks::list(&self.directory)? {
            let Some((instance, id)) = chunks::parse(&name) else { continue };
            let bytes: Bytes = std::fs::read(self.directory.join(chunks::FOLDER).join(&name))?.into();
            let there = || self.postgres.read_chunk(&instance, &id, 0..bytes.len() + 1);
            if there().await?.as_ref() != Some(&bytes) {
                was_there = false;
                self.postgres.write_chunk(&instance, &id, bytes.clone()).await?;
                if there().await?.as_ref() != Some(&bytes) {
                    return Err(StoreError::Corrupt(format!("{name} did not arrive as it was sent")));
                }
            }
            rows += 1;
        }
        arrived(Arrived { part: "chunk".to_owned(), rows, is_stream: false, was_there });
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

    /// The directory says from now on that its data is elsewhere.
    pub fn finish(&self) -> Result<(), StoreError> {
        mark::finish(&self.directory, &self.name, &self.place)
    }

    /// The last step: from now on a server can be started on the database.
    pub async fn forget(self) -> Result<(), StoreError> {
        self.receiver.forget().await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
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
