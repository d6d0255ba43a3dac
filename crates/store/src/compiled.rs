//! Compiled queries as the domain asks them. Called with plans of `query`; each engine renders and runs them in its own way, and what
//! it found is made a page here.

use base::{InstanceId, caps};
use query::Plan;
use query::plan::Position;
use serde_json::value::RawValue;

use crate::engine::{Records, ask_engine};
use crate::error::StoreError;
use crate::store::Store;
use crate::turns::Asker;

/// One page of an answer.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Each as the client sees it.
    pub rows: Vec<Box<RawValue>>,
    /// Where the next page starts, if there is a row behind this one.
    pub next: Option<Position>,
}

impl Store {
    /// At most `limit` rows behind `after`, in the plan's order, out of everything that is committed. Of groups some `limit`;
    /// `next` says then that these are not all, and asks for none. `caller` is whoever asks,
    /// with whom nobody else shares.
    pub async fn query(
        &self,
        (instance, caller): (&InstanceId, &str),
        plan: &Plan,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        if after.is_some_and(|position| !plan.accepts(position)) {
            return Err(StoreError::Refused("the position is not one of this query".to_owned()));
        }
        let asker = Asker::new(instance, caller);
        ask_engine!(self.engine(), engine => engine.query(&asker, plan, after, limit))
    }
}

/// Rows as the engine gives them, and whether there are more behind them.
pub(crate) struct Found {
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) has_more: bool,
}

/// Groups have no order, so no page of them goes on behind another: that there are more is all that can be said.
pub(crate) fn groups(plan: &Plan, found: &Found) -> Result<Rows, StoreError> {
    let rows: Result<Vec<_>, _> = found.rows.iter().map(|row| plan.row(row)).collect();
    let rows = rows.map_err(|error| StoreError::Corrupt(format!("a value: {error}")))?;
    let next = found.has_more.then(|| Position { keys: Vec::new(), rows: rows.len() as u64 });
    Ok(Rows { rows, next })
}

/// The rows as the client sees them. They may be larger than what was read: columns repeat documents.
pub(crate) fn answer(plan: &Plan, before: u64, found: &Found) -> Result<Rows, StoreError> {
    let keys = plan.order().len();
    let (mut rows, mut bytes) = (Vec::with_capacity(found.rows.len()), 0);
    for row in &found.rows {
        let row = plan.row(&row[keys..]);
        let row = row.map_err(|error| StoreError::Corrupt(format!("a document: {error}")))?;
        bytes += row.get().len();
        if bytes > caps::QUERY_PAGE_BYTES_MAX && !rows.is_empty() {
            break;
        }
        rows.push(row);
    }
    let so_far = before.saturating_add(rows.len() as u64);
    let has_more = (found.has_more || rows.len() < found.rows.len()) && plan.rows_left(1, so_far) > 0;
    let last = rows.len().checked_sub(1).filter(|_| has_more);
    let next = last.map(|last| Position { keys: found.rows[last][..keys].to_vec(), rows: so_far });
    Ok(Rows { rows, next })
}
