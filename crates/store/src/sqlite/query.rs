//! Compiled queries on `SQLite`: renders a plan and runs it, at once if it is short, else on a reader thread. A query whose asker has
//! gone stops.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use base::caps;
use query::Plan;
use query::plan::{Output, Position};
use rusqlite::{CachedStatement, Connection, params_from_iter};

use super::Sqlite;
use super::checkpoint::Log;
use crate::compiled::{self, Found, Rows};
use crate::error::StoreError;
use crate::render::{self, Statement};
use crate::turns::{Asker, Length};

/// The engine asks this often, in its own instructions, whether to go on.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 10_000;
/// A query that takes less than this, well below a millisecond, is over before another thread would have taken it on.
const INSTRUCTIONS_AT_ONCE: i32 = 3_000;
/// How often a short query is looked at.
const LOOKS_MAX: u64 = caps::QUERY_SHORT_INSTRUCTIONS_MAX / INSTRUCTIONS_BETWEEN_LOOKS as u64;

/// The page of a plan. `Store::query` has checked the position.
pub(super) async fn page(
    sqlite: &Sqlite,
    asker: &Asker,
    plan: &Plan,
    after: Option<&Position>,
    limit: usize,
) -> Result<Rows, StoreError> {
    let instance = asker.instance().as_str();
    if let Output::Count { .. } = plan.output {
        let rows = sqlite.run(asker, render::count(plan, instance), count).await?;
        return Ok(Rows { rows: plan.count_row(rows).into_iter().collect(), next: None });
    }
    if let Output::Groups(_) = plan.output {
        let statement = render::Dialect::Sqlite.groups(plan, instance, limit.saturating_add(1));
        let work = move |connection: &Connection, statement: &Statement| rows(connection, statement, limit);
        return compiled::groups(plan, &sqlite.run(asker, statement, work).await?);
    }
    let before = after.map_or(0, |position| position.rows);
    let wanted = plan.rows_left(limit, before);
    // One row more than wanted tells whether there is another page.
    let statement = render::rows(plan, instance, after, wanted.saturating_add(1));
    let work = move |connection: &Connection, statement: &Statement| rows(connection, statement, wanted);
    compiled::answer(plan, before, &sqlite.run(asker, statement, work).await?)
}

impl Sqlite {
    /// Runs a statement at once, on this thread, if it turns out to be that short; else as a short query, and as a long one from the
    /// beginning if it is none. Stops it when this future is dropped: a query may read millions of rows for nobody.
    async fn run<T: Send + 'static>(
        &self,
        asker: &Asker,
        statement: Statement,
        work: impl Fn(&Connection, &Statement) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        if let Some(found) = self.at_once(&statement, &work)? {
            return Ok(found);
        }
        let statement = Arc::new(statement);
        let (mut length, mut beginnings) = (Length::Short, 0);
        loop {
            let _turn = self.turns().take(asker, length).await?;
            let watch = Abandoned(Arc::new(Watch::new(length, self.write_ahead_log())));
            let (watched, statement, work) = (Arc::clone(&watch.0), Arc::clone(&statement), work.clone());
            let found = self.read(move |connection| {
                let watch = Arc::clone(&watched);
                connection.progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, Some(move || watched.must_stop()))?;
                let connection = Watched(connection);
                let found = work(connection.0, &statement);
                watch.stopped().map_or_else(|| found.map(Ok), |why| Ok(Err(why)))
            });
            match found.await? {
                Ok(found) => return Ok(found),
                Err(Stopped::TooLong) => length = Length::Long,
                Err(Stopped::HeldTheLog) => {
                    beginnings += 1;
                    if beginnings == caps::QUERY_BEGINNINGS_MAX {
                        tracing::warn!("a query gave way to writes twice, and is given up");
                        return Err(StoreError::Busy);
                    }
                }
                Err(Stopped::Abandoned) => return Err(StoreError::Closed),
            }
        }
    }
}

impl Sqlite {
    /// None if the statement takes longer, or every connection for reads like this is in use.
    fn at_once<T>(
        &self,
        statement: &Statement,
        work: &impl Fn(&Connection, &Statement) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let Some(mut connection) = self.free_point() else { return Ok(None) };
        let is_longer = Arc::new(AtomicBool::default());
        let look = Arc::clone(&is_longer);
        let stop = move || {
            look.store(true, Ordering::Relaxed);
            true
        };
        connection.progress_handler(INSTRUCTIONS_AT_ONCE, Some(stop))?;
        let connection = Watched(&mut connection);
        let found = work(connection.0, statement);
        if is_longer.load(Ordering::Relaxed) { Ok(None) } else { found.map(Some) }
    }
}

/// Why a statement did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// Nobody waits for it any more.
    Abandoned,
    /// It is no short query.
    TooLong,
    /// The write-ahead log cannot start anew while it runs.
    HeldTheLog,
}

/// Looks at a running statement from time to time.
struct Watch {
    is_abandoned: AtomicBool,
    length: Length,
    looks: AtomicU64,
    log: Option<(Arc<Log>, u64)>,
    stopped: OnceLock<Stopped>,
}

impl Watch {
    fn new(length: Length, log: Option<&Arc<Log>>) -> Self {
        let log = log.map(|log| (Arc::clone(log), log.given_way()));
        let (is_abandoned, looks, stopped) = (AtomicBool::default(), AtomicU64::default(), OnceLock::new());
        Self { is_abandoned, length, looks, log, stopped }
    }

    fn must_stop(&self) -> bool {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let why = if self.is_abandoned.load(Ordering::Relaxed) {
            Stopped::Abandoned
        } else if self.length == Length::Short && looks >= LOOKS_MAX {
            Stopped::TooLong
        } else if self.log.as_ref().is_some_and(|(log, at_start)| log.given_way() != *at_start) {
            Stopped::HeldTheLog
        } else {
            return false;
        };
        self.stopped.get_or_init(|| why);
        true
    }

    fn stopped(&self) -> Option<Stopped> {
        self.stopped.get().copied()
    }
}

/// Abandons what it watches when it goes.
struct Abandoned(Arc<Watch>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.is_abandoned.store(true, Ordering::Relaxed);
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

/// At least one row if there is one, and no more than a page may hold.
fn rows(connection: &Connection, statement: &Statement, wanted: usize) -> Result<Found, StoreError> {
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

#[cfg(test)]
impl Sqlite {
    /// Reads without end, from a snapshot of its beginning.
    pub(crate) async fn hold_the_log_for_test(&self) -> Result<u64, StoreError> {
        let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                       SELECT count(*) FROM n, thing WHERE n.x > 0";
        let asker = Asker::new(&base::InstanceId::from_stored("i"), "holder");
        self.run(&asker, Statement::of(endless), count).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::InstanceId;

    use tokio::sync::mpsc;

    use super::super::read;
    use super::*;
    use crate::{Durability, Location, Options, Store};

    const ENDLESS: &str =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    fn asker(caller: &str) -> Asker {
        Asker::new(&InstanceId::from_stored("i"), caller)
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::File(directory.path().to_owned());
        let store = Store::open(&Options::new(location, Durability::Relaxed)).unwrap();
        (directory, store)
    }

    /// A query that never ends, and what it says each time it begins.
    async fn endless(store: &Store, caller: &str, begun: mpsc::Sender<String>) -> Result<u64, StoreError> {
        let name = caller.to_owned();
        let work = move |connection: &Connection, statement: &Statement| {
            let _ = begun.try_send(name.clone());
            count(connection, statement)
        };
        store.sqlite().run(&asker(caller), Statement::of(ENDLESS), work).await
    }

    async fn seven(store: &Store, caller: &str) -> Result<u64, StoreError> {
        within(store.sqlite().run(&asker(caller), Statement::of("SELECT 7"), count)).await
    }

    async fn within<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), what).await.expect("in time")
    }

    #[tokio::test]
    async fn a_query_whose_asker_has_gone_stops_and_leaves_the_connection_to_the_next() {
        let store = Store::open(&Options::memory()).unwrap();
        let (begun, mut has_begun) = mpsc::channel(10);
        tokio::select! {
            result = endless(&store, "a", begun) => panic!("the endless query ended: {result:?}"),
            begun = has_begun.recv() => drop(begun.unwrap()),
        }
        // In memory there is one connection: this waits for the endless query to let it go.
        assert_eq!(seven(&store, "a").await, Ok(7));
    }

    #[tokio::test]
    async fn a_query_that_is_over_at_once_needs_no_turn_and_leaves_the_connection_as_it_was() {
        let (_directory, store) = store();
        let mut turns = Vec::new();
        for number in 1..caps::READERS {
            let asker = asker(&number.to_string());
            turns.push(store.sqlite().turns().take(&asker, Length::Short).await.unwrap());
        }
        assert_eq!(seven(&store, "a").await, Ok(7));
        drop(turns);
        // Nothing looks at the connection any more: what is long is not stopped on it.
        let long = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000) SELECT count(*) FROM n";
        assert_eq!(count(&store.sqlite().free_point().unwrap(), &Statement::of(long)), Ok(100_000));
        assert_eq!(within(store.sqlite().run(&asker("a"), Statement::of(long), count)).await, Ok(100_000));
    }

    #[tokio::test]
    async fn long_queries_of_one_caller_hold_up_neither_anothers_nor_lists() {
        let (_directory, store) = store();
        let (begun, mut has_begun) = mpsc::channel(1000);
        let mut heavy = tokio::task::JoinSet::new();
        for _ in 0..caps::READERS * 2 {
            let (store, begun) = (store.clone(), begun.clone());
            heavy.spawn(async move { endless(&store, "heavy", begun).await });
        }
        // Each begins at once, then as a short query; then the first of them runs for good.
        for _ in 0..=caps::READERS * 2 * 2 {
            within(has_begun.recv()).await.unwrap();
        }
        for caller in ["light", "heavy"] {
            assert_eq!(seven(&store, caller).await, Ok(7), "{caller}");
        }
        assert_eq!(within(store.sqlite().read(|connection| read::outbox_last(connection))).await, Ok(0));
        // Another's long query has a share of its own.
        heavy.spawn(async move { endless(&store, "other", begun).await });
        for _ in 0..3 {
            assert_eq!(within(has_begun.recv()).await.unwrap(), "other");
        }
        assert!(has_begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_client_that_leaves_frees_its_place_for_a_query_that_waits() {
        let (_directory, store) = store();
        let (begun, mut has_begun) = mpsc::channel(1000);
        let mut queries = tokio::task::JoinSet::new();
        let mut run = |caller: &'static str| {
            let (store, begun) = (store.clone(), begun.clone());
            queries.spawn(async move { endless(&store, caller, begun).await })
        };
        let places = [run("a"), run("b")];
        for _ in 0..places.len() * 3 {
            within(has_begun.recv()).await.unwrap();
        }
        run("c");
        for _ in 0..2 {
            assert_eq!(within(has_begun.recv()).await.unwrap(), "c", "at once, and as a short one");
        }
        // Every place for long queries is taken: it begins only when one of them is left.
        assert_eq!(seven(&store, "d").await, Ok(7));
        assert!(has_begun.try_recv().is_err());
        places[0].abort();
        assert_eq!(within(has_begun.recv()).await.unwrap(), "c");
    }
}
