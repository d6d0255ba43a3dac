//! The one writer. It takes every batch that waits, runs each in a savepoint of one transaction, syncs once and only then answers.
//! Nothing is acknowledged that is not durable. It has a thread of its own; what comes while that sleeps is committed by whoever
//! brings it (ADR 13).

use std::collections::BTreeSet;
use std::sync::Arc;

use base::caps;
use base::measure::Histogram;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{oneshot, watch};
use tokio::task::block_in_place;

use super::checkpoint::Keeper;
use super::counts::Counts;
use super::{Shared, write};
use crate::batch::{Batch, Committed};
use crate::error::{CommitError, StoreError};
use crate::queue::Queue;
use crate::record::Revision;
use crate::workers;

/// Revisions are reserved on disk this many at a time, so that a commit need not write the last one.
const REVISIONS_RESERVED: u64 = 1 << 16;

pub(crate) enum Request {
    Commit {
        batch: Batch,
        answer: oneshot::Sender<Result<Committed, CommitError>>,
    },
    /// Deletes up to `limit` rows of an instance with one of [`write::purges`].
    Purge {
        place: super::Purge,
        instance: String,
        limit: usize,
        answer: oneshot::Sender<Result<usize, StoreError>>,
    },
}

/// What a request will be told if the transaction commits.
enum Outcome {
    Commit(oneshot::Sender<Result<Committed, CommitError>>, Result<Committed, CommitError>),
    Purge(oneshot::Sender<Result<usize, StoreError>>, usize),
}

/// Outbox rows that are done with and not deleted yet: their deletion rides on the next commit, so that it costs no sync of its
/// own. A crash forgets them, and the rows are handed out once more.
#[derive(Default)]
pub(crate) struct Done(Mutex<BTreeSet<u64>>);

impl Done {
    /// Gives how many there are now.
    pub(crate) fn add(&self, ids: impl IntoIterator<Item = u64>) -> usize {
        let mut done = self.0.lock();
        done.extend(ids);
        done.len()
    }

    pub(crate) fn all(&self) -> BTreeSet<u64> {
        self.0.lock().clone()
    }

    fn remove(&self, ids: &BTreeSet<u64>) {
        self.0.lock().retain(|id| !ids.contains(id));
    }
}

/// The writer, and those who wait for it.
pub(crate) struct Commits {
    queue: Queue<Request>,
    writer: Mutex<Writer>,
}

impl Commits {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { queue: Queue::new(caps::COMMIT_QUEUE_MAX), writer: Mutex::new(writer) }
    }

    /// The thread's work: groups of all that wait, until the end.
    pub(crate) fn run(&self) {
        while self.queue.wait() {
            // First the writer, then what has come while somebody else had it.
            let mut writer = self.writer.lock();
            writer.group(self.queue.take_now(caps::COMMIT_BATCHES_MAX));
            writer.keep();
        }
        self.writer.lock().finish();
    }

    pub(crate) fn close(&self) {
        self.queue.close();
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Commit { batch, answer };
        if let Some(request) = self.at_once(request) {
            self.queue.push_when_room(request).await?;
        }
        answered.await.unwrap_or(Err(StoreError::Closed.into()))
    }

    pub(crate) async fn purge(
        &self,
        place: super::Purge,
        instance: String,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push_when_room(Request::Purge { place, instance, limit, answer }).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Commits on the caller's thread, for to wake another one and to be woken by it takes about as long as a sync; gives the request
    /// back where somebody else commits, or it might take long. The runtime hands on whatever else this thread has to do, so a sync
    /// that turns out to be slow holds up nobody.
    fn at_once(&self, request: Request) -> Option<Request> {
        if !can_hand_on() {
            return Some(request);
        }
        // Not before the writer is ours: at the end of the store the thread waits for it, and then nobody may come after.
        let writer =
            self.writer.try_lock().filter(|writer| self.queue.is_slept_on() && writer.may_be_brief());
        let Some(mut writer) = writer else { return Some(request) };
        block_in_place(|| workers::or_end(|| writer.group(vec![request])));
        None
    }

    #[cfg(test)]
    pub(crate) fn waiting_for_test(&self) -> usize {
        self.queue.len()
    }
}

/// Whether there is another thread that could go on with what else this one has to do.
fn can_hand_on() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

pub(crate) struct Writer {
    connection: Shared,
    done: Arc<Done>,
    outbox: watch::Sender<u64>,
    keeper: Option<Keeper>,
    /// How long transactions took to become durable.
    syncs: Arc<Histogram>,
    counts: Counts,
    next_revision: u64,
    reserved: u64,
}

impl Writer {
    pub(crate) fn new(
        connection: Shared,
        done: Arc<Done>,
        outbox: watch::Sender<u64>,
        keeper: Option<Keeper>,
        syncs: Arc<Histogram>,
    ) -> Result<Self, StoreError> {
        let text = "SELECT value FROM meta WHERE name = 'revisions_reserved'";
        let reserved: String = connection.lock().query_row(text, [], |row| row.get(0))?;
        let reserved =
            reserved.parse().map_err(|_| StoreError::Corrupt("the reserved revision is no number".into()))?;
        let (counts, next_revision) = (Counts::default(), reserved);
        Ok(Self { connection, done, outbox, keeper, syncs, counts, next_revision, reserved })
    }

    /// Whether nothing but a sync can make the next commit long. In memory the connection is everyone's.
    fn may_be_brief(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| !keeper.is_due())
    }

    fn keep(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.keep(&self.connection.lock());
        }
    }

    fn finish(&mut self) {
        if !self.done.all().is_empty() {
            self.group(Vec::new());
        }
    }

    fn group(&mut self, requests: Vec<Request>) {
        let connection = Arc::clone(&self.connection);
        let connection = connection.lock();
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut last_outbox_id = None;
        let deleted = self.done.all();
        let done = self.transaction(&connection, &deleted, requests, &mut outcomes, &mut last_outbox_id);
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a failed commit could not be rolled back");
        }
        drop(connection);
        match done {
            Ok(()) => {
                self.done.remove(&deleted);
                if let Some(id) = last_outbox_id {
                    self.outbox.send_replace(id);
                }
                outcomes.into_iter().for_each(Outcome::tell);
                if let Some(keeper) = &self.keeper {
                    keeper.committed();
                }
            }
            Err(error) => {
                tracing::error!(%error, batches = outcomes.len(), "a group commit failed");
                self.counts.forget();
                for outcome in outcomes {
                    outcome.fail(&error);
                }
            }
        }
    }

    fn transaction(
        &mut self,
        connection: &Connection,
        deleted: &BTreeSet<u64>,
        requests: Vec<Request>,
        outcomes: &mut Vec<Outcome>,
        last_outbox_id: &mut Option<u64>,
    ) -> Result<(), StoreError> {
        let mut failure = begin(connection, deleted).err();
        let reserve_to = self.next_revision + requests.len() as u64 + REVISIONS_RESERVED;
        let reserve = self.next_revision + requests.len() as u64 > self.reserved;
        if failure.is_none() && reserve {
            failure = reserve_revisions(connection, reserve_to).err();
        }
        for request in requests {
            // After a failure the rest is only collected, so that everyone is told.
            match self.request(connection, request, failure.is_some(), last_outbox_id) {
                Ok(outcome) => outcomes.push(outcome),
                Err((outcome, error)) => {
                    outcomes.push(outcome);
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        self.syncs.time(|| execute(connection, "COMMIT"))?;
        if reserve {
            self.reserved = reserve_to;
        }
        Ok(())
    }

    fn request(
        &mut self,
        connection: &Connection,
        request: Request,
        skip: bool,
        last_outbox_id: &mut Option<u64>,
    ) -> Result<Outcome, (Outcome, StoreError)> {
        match request {
            Request::Commit { batch, answer } => {
                let revision = self.next_revision;
                let committed = Committed { revision: Revision(revision) };
                if skip {
                    return Ok(Outcome::Commit(answer, Ok(committed)));
                }
                self.next_revision += 1;
                match in_savepoint(connection, &batch, revision, &self.counts) {
                    Ok(Ok(applied)) => {
                        self.counts.set(applied.counts);
                        *last_outbox_id = applied.outbox_id.or(*last_outbox_id);
                        Ok(Outcome::Commit(answer, Ok(committed)))
                    }
                    Ok(Err(refused)) => Ok(Outcome::Commit(answer, Err(refused))),
                    Err(error) => Err((Outcome::Commit(answer, Ok(committed)), error)),
                }
            }
            Request::Purge { answer, .. } if skip => Ok(Outcome::Purge(answer, 0)),
            Request::Purge { place, instance, limit, answer } => {
                self.counts.forget();
                match write::purge(connection, &place, &instance, limit) {
                    Ok(count) => Ok(Outcome::Purge(answer, count)),
                    Err(error) => Err((Outcome::Purge(answer, 0), error)),
                }
            }
        }
    }
}

impl Outcome {
    /// An asker that has gone needs no answer.
    fn tell(self) {
        match self {
            Self::Commit(answer, result) => drop(answer.send(result)),
            Self::Purge(answer, count) => drop(answer.send(Ok(count))),
        }
    }

    /// Even a conflict was judged against neighbours that are gone now, so everyone is told the same.
    fn fail(self, error: &StoreError) {
        match self {
            Self::Commit(answer, _) => drop(answer.send(Err(error.clone().into()))),
            Self::Purge(answer, _) => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// The outer error ends the group; the inner one concerns this batch alone, of which nothing is left.
fn in_savepoint(
    connection: &Connection,
    batch: &Batch,
    revision: u64,
    counts: &Counts,
) -> Result<Result<write::Applied, CommitError>, StoreError> {
    execute(connection, "SAVEPOINT batch")?;
    let applied = write::apply(connection, batch, revision, counts);
    match applied {
        Ok(applied) => {
            execute(connection, "RELEASE batch")?;
            Ok(Ok(applied))
        }
        Err(CommitError::Store(error)) => Err(error),
        Err(refused) => {
            execute(connection, "ROLLBACK TO batch")?;
            execute(connection, "RELEASE batch")?;
            Ok(Err(refused))
        }
    }
}

fn execute(connection: &Connection, text: &str) -> Result<(), StoreError> {
    connection.prepare_cached(text)?.execute([])?;
    Ok(())
}

fn begin(connection: &Connection, deleted: &BTreeSet<u64>) -> Result<(), StoreError> {
    execute(connection, "BEGIN IMMEDIATE")?;
    deleted.iter().try_for_each(|id| write::outbox_done(connection, *id))
}

fn reserve_revisions(connection: &Connection, to: u64) -> Result<(), StoreError> {
    let text = "UPDATE meta SET value = ?1 WHERE name = 'revisions_reserved'";
    connection.execute(text, [to.to_string()])?;
    Ok(())
}
