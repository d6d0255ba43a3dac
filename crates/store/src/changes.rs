//! What processes keep in memory of records that another process may change: settings, roles, streams. Whoever keeps something says of
//! which tables; a commit that writes there counts itself, in its own batch, and every process looks at those counts: two reads a
//! second however much there is, and none on an engine that is one process's alone.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base::tasks::Stopping;
use base::{Clock, InstanceId, caps};

use crate::batch::{Batch, Counter};
use crate::engine::Engine;
use crate::error::{CommitError, StoreError};
use crate::record::Record;
use crate::store::Store;

/// Whose counters count changes. No instance has this id.
pub(crate) const COUNTED: &str = "changes";
/// Counts changes of whatever there is.
const EVERYTHING: &str = "*";
const PAUSE: Duration = Duration::from_millis(caps::CHANGES_POLL_MILLIS);
/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(1);

pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// Whoever keeps in memory what it has read.
pub trait Keeper: Send + Sync + 'static {
    /// Of which records.
    fn kept(&self) -> Vec<Kept>;

    /// Reads them again. Called whenever some of them may have changed, by this process or another; soon done, for others wait.
    fn read_again(&self) -> Reading<'_>;
}

/// Records of which something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(&'static str);

impl Kept {
    /// Does not compile for records whose changes are not counted.
    pub const fn of<R: Record>() -> Self {
        const { assert!(R::IS_KEPT, "changes of these records are not counted") };
        Self(R::TABLE.name)
    }
}

/// How often each table has been changed.
pub(crate) type Counts = BTreeMap<String, i64>;

/// The changes of one store, and who is told of them, in this order. Clones share the keepers and have seen nothing yet.
pub struct Changes {
    store: Store,
    keepers: Arc<[Box<dyn Keeper>]>,
    seen: Option<Counts>,
}

impl Clone for Changes {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), keepers: Arc::clone(&self.keepers), seen: None }
    }
}

impl Changes {
    pub fn new(store: &Store, keepers: Vec<Box<dyn Keeper>>) -> Self {
        Self { store: store.clone(), keepers: keepers.into(), seen: None }
    }

    /// Looks until the process stops, the first time after a pause: what has just been read is not read again at once. Returns at
    /// once where no other process writes.
    pub async fn keep_looking(mut self, clock: Clock, mut stopping: Stopping) {
        let mut is_failing = false;
        while self.store.is_shared() {
            tokio::select! {
                () = clock.sleep(if is_failing { RETRY } else { PAUSE }) => {}
                () = stopping.wait() => return,
            }
            let looked = self.look().await;
            if let Err(error) = &looked
                && !is_failing
            {
                tracing::warn!(%error, "what other servers changed could not be read; trying again");
            }
            is_failing = looked.is_err();
        }
    }

    /// Tells those for whom something changed since the last look; at the first one that is everybody. Whatever fails is told once
    /// more at the next.
    pub async fn look(&mut self) -> Result<(), StoreError> {
        let now = self.store.changes().await?;
        let seen = self.seen.as_ref();
        let is_new = |name: &str| seen.is_none_or(|seen| seen.get(name) != now.get(name));
        let concerns = |keeper: &dyn Keeper| keeper.kept().iter().any(|kept| is_new(kept.0));
        let is_everybody = is_new(EVERYTHING);
        let mut outcome = Ok(());
        for keeper in self.keepers.iter().filter(|keeper| is_everybody || concerns(&***keeper)) {
            outcome = outcome.and(keeper.read_again().await);
        }
        if outcome.is_ok() {
            self.seen = Some(now);
        }
        outcome
    }
}

impl Store {
    /// Whether other processes may write what this one reads.
    pub fn is_shared(&self) -> bool {
        !matches!(self.engine(), Engine::Sqlite(_))
    }

    /// For deletions that no batch makes.
    pub(crate) async fn everything_changed(&self) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let batch = Batch { changed: vec![EVERYTHING], ..Batch::default() };
        self.commit(batch).await.map(drop).map_err(CommitError::unconditional)
    }

    async fn changes(&self) -> Result<Counts, StoreError> {
        match self.engine() {
            Engine::Sqlite(_) => Ok(Counts::new()),
            Engine::Postgres(postgres) => postgres.counters_of(COUNTED).await,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory(memory) => memory.counters_of(COUNTED).await,
        }
    }
}

impl Batch {
    /// Counts the changes that others must hear of. Called by engines that several processes write to.
    pub(crate) fn count_changes(&mut self) {
        for table in std::mem::take(&mut self.changed) {
            self.add(Counter::new(&InstanceId::from_stored(COUNTED), table), 1, i64::MAX);
        }
    }
}

#[cfg(test)]
mod tests;
