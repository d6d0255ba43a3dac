//! Compiled queries: renders a plan, runs it on a reader thread and makes the rows of one page.
//! Called by domain crates with plans of `query`; a query whose asker has gone stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{InstanceId, caps};
use query::Plan;
use query::plan::{Output, Position};
use rusqlite::{CachedStatement, Connection, params_from_iter};
use serde_json::value::RawValue;

use crate::error::StoreError;
use crate::render::{self, Statement};
use crate::store::Store;

/// One page of an answer.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Each as the client sees it.
    pub rows: Vec<Box<RawValue>>,
    /// Where the next page starts, if there is a row behind this one.
    pub next: Option<Position>,
}

/// The engine asks this often, in its own instructions, whether to go on.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 10_000;

impl Store {
    /// At most `limit` rows behind `after`, in the plan's order, out of everything that is committed.
    pub async fn query(
        &self,
        instance: &InstanceId,
        plan: &Plan,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        if let Output::Count { .. } = plan.output {
            let rows = self.run(render::count(plan, instance.as_str()), count).await?;
            return Ok(Rows { rows: plan.count_row(rows).into_iter().collect(), next: None });
        }
        if after.is_some_and(|position| !plan.accepts(position)) {
            return Err(StoreError::Refused("the position is not one of this query".to_owned()));
        }
        let before = after.map_or(0, |position| position.rows);
        let wanted = plan.rows_left(limit, before);
        // One row more than wanted tells whether there is another page.
        let statement = render::rows(plan, instance.as_str(), after, wanted.saturating_add(1));
        let found = self.run(statement, move |connection, statement| page(connection, statement, wanted));
        answer(plan, before, &found.await?)
    }

    /// Stops the statement when this future is dropped: a query may read millions of rows for nobody.
    async fn run<T: Send + 'static>(
        &self,
        statement: Statement,
        work: impl FnOnce(&Connection, &Statement) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _turn = self.query_turn().await?;
        let asker = Abandon(Arc::default());
        let abandoned = Arc::clone(&asker.0);
        self.read(move |connection| {
            let look = move || abandoned.load(Ordering::Relaxed);
            connection.progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, Some(look))?;
            let watched = Watched(connection);
            work(watched.0, &statement)
        })
        .await
    }
}

/// Raises its flag when it goes.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that is no longer watched when the work over it ends, even if it panics: the next work is another's.
struct Watched<'c>(&'c mut Connection);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.progress_handler(0, None::<fn() -> bool>) {
            tracing::error!(%error, "a query's progress handler could not be removed");
        }
    }
}

/// Rows as the engine gives them, and whether there are more behind them.
struct Found {
    rows: Vec<Vec<String>>,
    has_more: bool,
}

/// At least one row if there is one, and no more than a page may hold.
fn page(connection: &Connection, statement: &Statement, wanted: usize) -> Result<Found, StoreError> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let columns = prepared.column_count();
    let parameters = statement.parameters(prepared.parameter_count());
    let mut found = Found { rows: Vec::new(), has_more: false };
    let mut bytes = 0;
    let mut rows = prepared.query(params_from_iter(parameters))?;
    while let Some(row) = rows.next()? {
        let row: Vec<String> = (0..columns).map(|at| row.get(at)).collect::<Result<_, _>>()?;
        bytes += row.iter().map(String::len).sum::<usize>();
        let is_too_large = bytes > caps::QUERY_PAGE_BYTES_MAX && !found.rows.is_empty();
        if is_too_large || found.rows.len() == wanted {
            found.has_more = true;
            break;
        }
        found.rows.push(row);
    }
    drop(rows);
    keep(prepared, statement);
    Ok(found)
}

fn count(connection: &Connection, statement: &Statement) -> Result<u64, StoreError> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let parameters = statement.parameters(prepared.parameter_count());
    let count = prepared.query_row(params_from_iter(parameters), |row| row.get(0))?;
    keep(prepared, statement);
    Ok(count)
}

/// Compiled statements stay for the next query of the same form, but not those that few will ever ask again.
fn keep(prepared: CachedStatement<'_>, statement: &Statement) {
    if statement.sql.len() > caps::QUERY_STATEMENT_KEPT_BYTES_MAX {
        prepared.discard();
    }
}

/// The rows as the client sees them. They may be larger than what was read: columns repeat documents.
fn answer(plan: &Plan, before: u64, found: &Found) -> Result<Rows, StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::read;
    use crate::{Durability, Location, Options};

    const ENDLESS: &str =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    #[tokio::test]
    async fn a_query_whose_asker_has_gone_stops_and_leaves_the_connection_to_the_next() {
        let store = Store::open(&Options::memory()).unwrap();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let endless = store.run(Statement::of(ENDLESS), move |connection, statement| {
            begun.send(()).unwrap();
            count(connection, statement)
        });
        tokio::select! {
            result = endless => panic!("the endless query ended: {result:?}"),
            begun = has_begun => begun.unwrap(),
        }
        // In memory there is one connection: this waits for the endless query to let it go.
        assert_eq!(store.run(Statement::of("SELECT 7"), count).await, Ok(7));
    }

    #[tokio::test]
    async fn queries_leave_one_reader_to_everything_else() {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::File(directory.path().to_owned());
        let store = Store::open(&Options::new(location, Durability::Relaxed)).unwrap();
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(caps::READERS);
        let mut endless = tokio::task::JoinSet::new();
        for _ in 0..caps::READERS * 2 {
            let (store, begun) = (store.clone(), begun.clone());
            endless.spawn(async move {
                let work = move |connection: &Connection, statement: &Statement| {
                    begun.try_send(()).unwrap();
                    count(connection, statement)
                };
                store.run(Statement::of(ENDLESS), work).await
            });
        }
        for _ in 1..caps::READERS {
            has_begun.recv().await.unwrap();
        }
        assert_eq!(store.read(|connection| read::outbox_last(connection)).await, Ok(0));
        assert!(has_begun.try_recv().is_err());
    }
}
