//! Records and counters: each question goes over all there is.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use ::query::Plan;
use ::query::plan::Position;
use base::InstanceId;
use base::measure::{Distribution, Histogram, SYNC_MICROS};
use tokio::sync::watch;

use super::Memory;
use super::query;
use super::state::column_of;
use crate::batch::{Batch, Committed, Counter, OutboxRow};
use crate::compiled::Rows;
use crate::engine::{Range, Raw, Records};
use crate::error::{CommitError, StoreError};
use crate::key::Key;
use crate::table::Table;
use crate::turns::Asker;

impl Records for Memory {
    async fn get(&self, table: Table, key: &Key) -> Result<Option<Raw>, StoreError> {
        let get = self.part().step(|state| {
            let kept = state.tables.get(table.name).and_then(|rows| rows.get(key));
            kept.map(|kept| (kept.doc.clone(), kept.revision))
        });
        get.await
    }

    async fn range(&self, range: Range) -> Result<Vec<Raw>, StoreError> {
        let (table, order, after) = (range.table, range.order(), range.after_parts());
        let found = self.part().step(|state| {
            let mut found = Vec::new();
            for (key, kept) in state.rows(&table, &range.prefix) {
                let is_wanted = range.column.as_ref().is_none_or(|(column, value)| {
                    column_of(&table, key, kept, column) == Some(value.as_str())
                });
                let place: Vec<&str> = order
                    .iter()
                    .map(|column| column_of(&table, key, kept, column).unwrap_or_default())
                    .collect();
                let is_behind = after.is_empty()
                    || place.iter().copied().take(after.len()).gt(after.iter().map(String::as_str));
                if is_wanted && is_behind {
                    found.push((place, (kept.doc.clone(), kept.revision)));
                }
            }
            found.sort();
            found.into_iter().map(|(_, raw)| raw).take(range.limit).collect()
        });
        found.await
    }

    async fn count(&self, table: Table, prefix: &Key) -> Result<u64, StoreError> {
        self.part().step(|state| state.rows(&table, prefix).count() as u64).await
    }

    async fn bytes(&self, table: Table, prefix: &Key) -> Result<u64, StoreError> {
        let bytes =
            self.part().step(|state| state.rows(&table, prefix).map(|(_, kept)| kept.doc.len() as u64).sum());
        bytes.await
    }

    async fn counter(&self, counter: &Counter) -> Result<i64, StoreError> {
        self.part().step(|state| state.number(counter)).await
    }

    async fn is_zero(&self, counter: &Counter) -> Result<bool, StoreError> {
        Ok(self.counter(counter).await? == 0)
    }

    async fn commit(&self, mut batch: Batch) -> Result<Committed, CommitError> {
        batch.count_changes();
        if self.part().is_closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed.into());
        }
        // A refusal is told as it is: nothing was done that could be forgotten.
        let mut refused = None;
        let done = self.part().change(|state| match state.commit(&batch) {
            Ok(done) => Some(done),
            Err(error) => {
                refused = Some(error);
                None
            }
        });
        let done = done.await;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let (committed, last) = done?.expect("it was not refused");
        if let Some(last) = last {
            self.part().written.send_replace(last);
        }
        Ok(committed)
    }

    async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        while self.part().change(|state| state.remove_piece(instance.as_str())).await? {}
        Ok(())
    }

    async fn query(
        &self,
        asker: &Asker,
        plan: &Plan,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        let known = self.part().step(|state| query::known(state, asker.instance().as_str()));
        query::page(plan, &known.await?, after, limit)
    }

    fn queries(&self) -> (usize, usize) {
        (0, 0)
    }

    fn syncs(&self) -> Distribution {
        Histogram::new(SYNC_MICROS).read()
    }

    fn close(&self) {
        self.part().is_closed.store(true, Ordering::Relaxed);
        self.part().queue.close();
    }
}

impl Memory {
    pub(crate) async fn counters_of(&self, instance: &str) -> Result<BTreeMap<String, i64>, StoreError> {
        self.part().step(|state| state.counters_of(instance)).await
    }

    pub(crate) async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = self.part().step(|state| {
            let behind = state.outbox.range(after + 1..).take(limit);
            behind.map(|(_, waiting)| waiting.row.clone()).collect()
        });
        rows.await
    }

    pub(crate) async fn outbox_bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        let bytes = self.part().step(|state| {
            let mut bytes = BTreeMap::new();
            for waiting in state.outbox.values() {
                *bytes.entry(waiting.row.instance.clone()).or_insert(0) += waiting.row.payload.len() as u64;
            }
            bytes.into_iter().collect()
        });
        bytes.await
    }

    /// There is no log beside it.
    #[expect(clippy::unused_async, reason = "the embedded engine waits here")]
    pub(crate) async fn raise_outbox(&self, _above: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    pub(crate) fn outbox_written(&self) -> watch::Receiver<u64> {
        self.part().written.subscribe()
    }
}
