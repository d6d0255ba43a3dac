//! The outbox of the embedded engine: one server, so one lane that is always its own. Records and log are two files, so what goes to
//! both is appended first, once by the ids of the rows, and taken out then: after a crash in between the rows come again, and the log
//! skips what it has. Here, and only here, ids rise in commit order.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base::InstanceId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Append, Claim, Errand};
use crate::batch::{Batch, OutboxRow};
use crate::engine::Outbox;
use crate::error::{CommitError, StoreError};
use crate::store::Store;
use crate::streams::Streams;

pub(super) struct Embedded {
    store: Store,
    streams: Streams,
    passed: Mutex<Passed>,
}

/// Up to this id nothing is left but rows of these instances, or rows that are done: so that a held instance with many rows does not
/// make every look a long one.
#[derive(Default)]
struct Passed {
    held: HashSet<InstanceId>,
    id: u64,
}

impl Passed {
    fn start(&self, held: &HashSet<InstanceId>) -> u64 {
        if self.held.is_subset(held) { self.id } else { 0 }
    }
}

impl Embedded {
    pub(super) fn new(store: Store, streams: Streams) -> Self {
        Self { store, streams, passed: Mutex::default() }
    }

    /// What the log can never hold is given up alone, for it must not hold back those behind it.
    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let Append { stream, partition, source, records } = append;
        match self.streams.append_once(&stream, partition, source, records.clone()).await {
            Err(StoreError::Refused(_)) => {}
            appended => return appended,
        }
        for (id, record) in records {
            match self.streams.append_once(&stream, partition, source, vec![(id, record)]).await {
                Err(StoreError::Refused(why)) => {
                    tracing::error!(id, why, %stream, "an event that the log cannot hold is dropped");
                }
                appended => appended?,
            }
        }
        Ok(())
    }

    async fn append_all(&self, appends: Vec<Append>) -> Result<(), StoreError> {
        for append in appends {
            self.append(append).await?;
        }
        Ok(())
    }
}

impl Outbox for Embedded {
    async fn claim(&self) -> Result<Option<Claim>, StoreError> {
        Ok(Some(Claim { leases: Vec::new() }))
    }

    async fn rows(
        &self,
        _: &Claim,
        held: &HashSet<InstanceId>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut after = self.passed.lock().start(held);
        let mut found: Vec<OutboxRow> = Vec::new();
        while found.is_empty() {
            let page = self.store.outbox(after, limit).await?;
            let Some(last) = page.last().map(|row| row.id) else { break };
            found.extend(page.into_iter().filter(|row| !held.contains(&row.instance)));
            after = found.first().map_or(last, |first| first.id - 1);
        }
        *self.passed.lock() = Passed { held: held.clone(), id: after };
        Ok(found)
    }

    async fn run(
        &self,
        _: &Claim,
        errands: HashMap<InstanceId, Errand>,
    ) -> Result<HashMap<InstanceId, StoreError>, StoreError> {
        let (mut failed, mut batch, mut done) = (HashMap::new(), Batch::default(), Vec::new());
        for (instance, errand) in errands {
            match self.append_all(errand.appends).await {
                Ok(()) => {
                    batch.merge(errand.batch);
                    done.extend(errand.done);
                }
                Err(error) => drop(failed.insert(instance, error)),
            }
        }
        if batch.is_empty() {
            // They leave with the next commit, whoever makes it; the log skips what it has should they come once more.
            self.store.outbox_done(done).await?;
            return Ok(failed);
        }
        for id in done {
            batch.outbox_done(id);
        }
        self.store.commit(batch).await.map_err(CommitError::unconditional)?;
        Ok(failed)
    }

    async fn bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        self.store.outbox_bytes().await
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.store.outbox_written()
    }

    fn pause(&self) -> Option<Duration> {
        None
    }
}
