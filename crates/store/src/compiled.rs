//! Compiled queries: renders a plan, runs it on a reader thread and makes the rows of one page.
//! Called by domain crates with plans of `query`; a query whose asker has gone stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::InstanceId;
use query::Plan;
use query::plan::{Output, Position};
use rusqlite::{Connection, params_from_iter};
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
        let keys = plan.order().len();
        // One row more than wanted tells whether there is another page.
        let statement = render::rows(plan, instance.as_str(), after, wanted.saturating_add(1));
        let mut found = self.run(statement, page).await?;
        let is_last = found.len() <= wanted || plan.rows_left(usize::MAX, before + wanted as u64) == 0;
        found.truncate(wanted);
        let next = found.last().filter(|_| !is_last);
        let next = next.map(|row| Position { keys: row[..keys].to_vec(), rows: before + wanted as u64 });
        let rows = found.iter().map(|row| plan.row(&row[keys..])).collect::<Result<_, _>>();
        let rows = rows.map_err(|error| StoreError::Corrupt(format!("a document: {error}")))?;
        Ok(Rows { rows, next })
    }

    /// Stops the statement when this future is dropped: a query may read millions of rows for nobody.
    async fn run<T: Send + 'static>(
        &self,
        statement: Statement,
        work: impl FnOnce(&Connection, &Statement) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
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

fn page(connection: &Connection, statement: &Statement) -> Result<Vec<Vec<String>>, StoreError> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let columns = prepared.column_count();
    let parameters = statement.parameters(prepared.parameter_count());
    let rows = prepared
        .query_map(params_from_iter(parameters), |row| (0..columns).map(|at| row.get(at)).collect())?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn count(connection: &Connection, statement: &Statement) -> Result<u64, StoreError> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let parameters = statement.parameters(prepared.parameter_count());
    Ok(prepared.query_row(params_from_iter(parameters), |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[tokio::test]
    async fn a_query_whose_asker_has_gone_stops_and_leaves_the_connection_to_the_next() {
        let store = Store::open(&Options::memory()).unwrap();
        let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let endless = store.run(Statement::of(sql), move |connection, statement| {
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
}
