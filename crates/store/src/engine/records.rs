//! Records, counters and compiled queries: R1 to R6, and R14 inside of `commit`.

use base::InstanceId;
use base::measure::Distribution;
use query::Plan;
use query::plan::Position;

use crate::batch::{Batch, Committed, Counter};
use crate::compiled::Rows;
use crate::error::{CommitError, StoreError};
use crate::key::Key;
use crate::table::Table;
use crate::turns::Asker;

/// A document and its revision, not parsed yet: whoever asked parses it.
pub(crate) type Raw = (String, u64);

/// What a scan or a find looks for.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) table: Table,
    pub(crate) prefix: Key,
    pub(crate) column: Option<(&'static str, String)>,
    /// Starts behind this: the prefix, then parts of the order.
    pub(crate) after: Option<Key>,
    pub(crate) limit: usize,
}

impl Range {
    /// Whether it is one that the table can answer. Engines need not ask again.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let refuse = |why: &str| Err(StoreError::Refused(format!("{why} in a range of {}", self.table.name)));
        if self.prefix.parts().len() > self.table.keys.len() {
            return refuse("too many key parts");
        }
        if self.column.as_ref().is_some_and(|(column, _)| !self.table.columns.contains(column)) {
            return refuse("a column that is not declared");
        }
        let prefix = self.prefix.parts().len();
        let parts_max = match &self.column {
            Some((column, _)) => prefix + self.table.order_of(column, prefix).len(),
            None => self.table.keys.len(),
        };
        match &self.after {
            Some(after) if after.parts().len() > parts_max => refuse("too many key parts"),
            Some(after) if !after.parts().starts_with(self.prefix.parts()) => {
                refuse("a start outside of the prefix")
            }
            _ => Ok(()),
        }
    }

    /// What stands in `after` behind the prefix.
    pub(crate) fn after_parts(&self) -> &[String] {
        let prefix = self.prefix.parts().len();
        self.after.as_ref().map_or(&[][..], |after| &after.parts()[prefix..])
    }

    /// The columns that it is ordered by, under its prefix.
    pub(crate) fn order(&self) -> Vec<&'static str> {
        let prefix = self.prefix.parts().len();
        match &self.column {
            Some((column, _)) => self.table.order_of(column, prefix),
            None => self.table.keys[prefix.min(self.table.keys.len() - 1)..].to_vec(),
        }
    }
}

/// Every read sees all that was acknowledged before it began, by whichever process.
pub(crate) trait Records: Send + Sync {
    /// The key has a part for each key column.
    fn get(&self, table: Table, key: &Key) -> impl Future<Output = Result<Option<Raw>, StoreError>> + Send;

    /// In byte order. The range was checked.
    fn range(&self, range: Range) -> impl Future<Output = Result<Vec<Raw>, StoreError>> + Send;

    fn count(&self, table: Table, prefix: &Key) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Bytes of the documents under a prefix, as they are kept.
    fn bytes(&self, table: Table, prefix: &Key) -> impl Future<Output = Result<u64, StoreError>> + Send;

    fn counter(&self, counter: &Counter) -> impl Future<Output = Result<i64, StoreError>> + Send;

    /// Cheap, however many records the counter counts.
    fn is_zero(&self, counter: &Counter) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// All of the batch or nothing, durable when it returns, judged against everything that is committed. A batch that is refused
    /// fails alone. `StoreError::Unknown` when it could not be learned what became of it. Without the mistakes that the batch
    /// itself knows of, and within `caps::BATCH_OPERATIONS_MAX`.
    fn commit(&self, batch: Batch) -> impl Future<Output = Result<Committed, CommitError>> + Send;

    /// Deletes records, counters and outbox rows of an instance in pieces, between which other commits pass. Safe to repeat.
    fn remove_instance(&self, instance: &InstanceId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// At most `limit` rows behind `after`, in the plan's order, out of one committed state. Stops when nobody waits for it.
    fn query(
        &self,
        asker: &Asker,
        plan: &Plan,
        after: Option<&Position>,
        limit: usize,
    ) -> impl Future<Output = Result<Rows, StoreError>> + Send;

    /// Queries that run, and those that wait for their turn.
    fn queries(&self) -> (usize, usize);

    /// How long it took what was committed together to become durable.
    fn syncs(&self) -> Distribution;

    /// Takes no commit any more and finishes those that wait. Reads go on.
    fn close(&self);
}
