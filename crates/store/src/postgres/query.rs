//! Compiled queries: renders a plan and runs it over a reader's connection, in one round trip and one snapshot. A query whose asker
//! has gone ends at the server too, and takes its connection with it: a cancel request that comes late would hit the next one.

use std::pin::pin;
use std::time::Duration;

use base::caps;
use bytes::{BufMut, BytesMut};
use deadpool_postgres::Object;
use futures_util::{FutureExt, TryStreamExt};
use query::Plan;
use query::plan::{Output, Position};
use tokio::time::timeout;
use tokio_postgres::RowStream;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::Postgres;
use super::escape;
use crate::compiled::{self, Found, Rows};
use crate::error::StoreError;
use crate::render::{Dialect, Parameter, Statement};
use crate::turns::{Asker, Length};

/// The page of a plan. `Store::query` has checked the position.
pub(crate) async fn page(
    postgres: &Postgres,
    asker: &Asker,
    plan: &Plan,
    after: Option<&Position>,
    limit: usize,
) -> Result<Rows, StoreError> {
    let (declared, instance) = (postgres.declared(), asker.instance().as_str());
    let dialect = Dialect::Postgres(&declared);
    if let Output::Count { .. } = plan.output {
        let count = run(postgres, asker, &dialect.count(plan, instance), counted).await?;
        return Ok(Rows { rows: plan.count_row(count).into_iter().collect(), next: None });
    }
    if let Output::Groups(columns) = &plan.output {
        let statement = dialect.groups(plan, instance, limit.saturating_add(1));
        let all = columns.len() + 1;
        let found = run(postgres, asker, &statement, |rows| found(rows, (0, all), limit)).await?;
        return compiled::groups(plan, &found);
    }
    let before = after.map_or(0, |position| position.rows);
    let wanted = plan.rows_left(limit, before);
    // One row more than wanted tells whether there is another page.
    let statement = dialect.rows(plan, instance, after, wanted.saturating_add(1));
    let (keys, documents) = (plan.order().len(), plan.documents().len());
    let found = run(postgres, asker, &statement, |rows| found(rows, (keys, documents), wanted)).await?;
    compiled::answer(plan, before, &found)
}

/// What was read, and whether the server has sent everything that there is.
struct Read<T> {
    value: T,
    is_all: bool,
}

/// Runs as a short query. One that turns out to be long goes on if a long one may run now, else it begins anew when one may.
async fn run<T, F: Future<Output = Result<Read<T>, StoreError>>>(
    postgres: &Postgres,
    asker: &Asker,
    statement: &Statement,
    read: impl Fn(RowStream) -> F,
) -> Result<T, StoreError> {
    let turns = postgres.turns();
    let short = turns.take(asker, Length::Short).await?;
    let mut running = Running::new(postgres).await?;
    {
        let mut reading = pin!(running.read(statement, &read));
        if let Ok(value) = timeout(Duration::from_millis(caps::QUERY_SHORT_MILLIS_MAX), &mut reading).await {
            return value;
        }
        drop(short);
        if let Some(long) = turns.take(asker, Length::Long).now_or_never() {
            let _long = long?;
            return in_time(reading).await;
        }
    }
    drop(running);
    let _long = turns.take(asker, Length::Long).await?;
    let mut running = Running::new(postgres).await?;
    in_time(running.read(statement, &read)).await
}

/// The server ends a statement in time; this is for one that cannot be reached any more.
async fn in_time<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let deadline = Duration::from_secs(caps::QUERY_SECONDS_MAX + caps::DATABASE_ANSWER_SECONDS_MAX);
    timeout(deadline, reading)
        .await
        .map_err(|_| StoreError::Unavailable("a query had no answer in time".to_owned()))?
}

/// A connection over which a query runs; none when it is over.
struct Running<'p> {
    postgres: &'p Postgres,
    client: Option<Object>,
}

impl<'p> Running<'p> {
    async fn new(postgres: &'p Postgres) -> Result<Self, StoreError> {
        Ok(Self { postgres, client: Some(postgres.reader().await?) })
    }

    async fn read<T, F: Future<Output = Result<Read<T>, StoreError>>>(
        &mut self,
        statement: &Statement,
        read: &impl Fn(RowStream) -> F,
    ) -> Result<T, StoreError> {
        let Some(client) = &self.client else { return Err(StoreError::Closed) };
        let parameters = statement.parameters(usize::MAX).iter().map(Bound::of);
        let rows = client.query_typed_raw(&statement.sql, parameters).await?;
        let Read { value, is_all } = read(rows).await?;
        if is_all {
            self.client = None;
        }
        Ok(value)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let client = Object::take(client);
        let token = client.cancel_token();
        let tls = self.postgres.tls();
        self.postgres.handle().spawn(async move {
            let asked =
                timeout(Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX), token.cancel_query(tls))
                    .await;
            if !matches!(asked, Ok(Ok(()))) {
                tracing::warn!("the database was not told that nobody waits for a query any more");
            }
            drop(client);
        });
    }
}

async fn counted(rows: RowStream) -> Result<Read<u64>, StoreError> {
    let rows: Vec<_> = rows.try_collect().await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(Read { value: count.try_into().unwrap_or(0), is_all: true })
}

/// At least one row if there is one, and no more than a page may hold.
async fn found(
    rows: RowStream,
    (keys, documents): (usize, usize),
    wanted: usize,
) -> Result<Read<Found>, StoreError> {
    let mut found = Found { rows: Vec::new(), has_more: false };
    let (mut rows, mut bytes) = (pin!(rows), 0);
    while let Some(row) = rows.try_next().await? {
        if found.rows.len() == wanted {
            // The last one that was asked for: what follows is the end.
            found.has_more = true;
            continue;
        }
        let text = |at: usize| -> Result<String, StoreError> {
            let text: &str = row.try_get(at)?;
            Ok(if at < keys {
                escape::text_back(text.to_owned())
            } else if at < keys + documents {
                escape::json_back(text)
            } else {
                // What lies beside is no table that queries look into.
                text.to_owned()
            })
        };
        let row: Vec<String> = (0..row.len()).map(text).collect::<Result<_, _>>()?;
        bytes += row.iter().map(String::len).sum::<usize>();
        if bytes > caps::QUERY_PAGE_BYTES_MAX && !found.rows.is_empty() {
            found.has_more = true;
            return Ok(Read { value: found, is_all: false });
        }
        found.rows.push(row);
    }
    Ok(Read { value: found, is_all: true })
}

/// A parameter as the driver sends it.
#[derive(Debug)]
enum Bound {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Texts(Vec<String>),
    Json(Json),
    Jsons(Vec<Json>),
}

impl Bound {
    fn of(parameter: &Parameter) -> (Self, Type) {
        let text = |text: &String| escape::text(text).into_owned();
        let json = |json: &String| Json(escape::json(json));
        match parameter {
            Parameter::Null => (Self::Null, Type::TEXT),
            Parameter::Integer(value) => (Self::Integer(*value), Type::INT8),
            Parameter::Real(value) => (Self::Real(*value), Type::FLOAT8),
            Parameter::Text(value) => (Self::Text(text(value)), Type::TEXT),
            Parameter::Texts(values) => (Self::Texts(values.iter().map(text).collect()), Type::TEXT_ARRAY),
            Parameter::Json(value) => (Self::Json(json(value)), Type::JSONB),
            Parameter::Jsons(values) => (Self::Jsons(values.iter().map(json).collect()), Type::JSONB_ARRAY),
        }
    }
}

type Written = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

impl ToSql for Bound {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Written {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(value) => value.to_sql(of, out),
            Self::Real(value) => value.to_sql(of, out),
            Self::Text(value) => value.to_sql(of, out),
            Self::Texts(values) => values.to_sql(of, out),
            Self::Json(value) => value.to_sql(of, out),
            Self::Jsons(values) => values.to_sql(of, out),
        }
    }

    /// The type is the one that [`Bound::of`] gave beside it.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// An escaped JSON text as `jsonb`.
#[derive(Debug)]
struct Json(String);

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        /// Of the type's binary form, which is the text behind it.
        const VERSION: u8 = 1;
        out.put_u8(VERSION);
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSONB
    }

    to_sql_checked!();
}

/// The lines that a statement gives.
#[cfg(test)]
pub(crate) async fn lines_for_test(
    postgres: &Postgres,
    statement: &Statement,
) -> Result<Vec<String>, StoreError> {
    let parameters = statement.parameters(usize::MAX).iter().map(Bound::of);
    let rows = postgres.reader().await?.query_typed_raw(&statement.sql, parameters).await?;
    let rows: Vec<_> = rows.try_collect().await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

#[cfg(test)]
mod tests {
    use base::InstanceId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::postgres::Config;
    use crate::store::Durability;

    const ENDLESS: &str = "SELECT count(*) FROM generate_series(1::bigint, 1000000000000) n WHERE n < 0";

    fn asker(caller: &str) -> Asker {
        Asker::new(&InstanceId::from_stored("i"), caller)
    }

    async fn endless(postgres: &Postgres, caller: &str, begun: mpsc::Sender<()>) -> Result<u64, StoreError> {
        let _ = begun.try_send(());
        run(postgres, &asker(caller), &Statement::of(ENDLESS), counted).await
    }

    async fn seven(postgres: &Postgres, caller: &str) -> Result<u64, StoreError> {
        let statement = Statement::of("SELECT 7::bigint");
        timeout(Duration::from_secs(60), run(postgres, &asker(caller), &statement, counted))
            .await
            .expect("in time")
    }

    /// Waits until so many of the endless queries run at the server.
    async fn until_running(database: &test_postgres::Database, count: usize) {
        let look = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series(1::bigint%' \
                    AND pid <> pg_backend_pid() AND datname = current_database()";
        let found = async {
            while database.query(look) != count.to_string() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), found).await.expect("in time");
    }

    fn open(database: &test_postgres::Database) -> Postgres {
        Postgres::open(Config::parse(&database.url(), Durability::Relaxed).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_query_whose_asker_has_gone_ends_at_the_server_too_and_no_other_does() {
        let Some(database) = test_postgres::database() else { return };
        let postgres = open(&database);
        for round in 0..3 {
            let (begun, mut has_begun) = mpsc::channel(1);
            let mut asked = std::pin::pin!(endless(&postgres, "a", begun));
            tokio::select! {
                result = &mut asked => panic!("the endless query ended: {result:?}"),
                () = async { has_begun.recv().await; until_running(&database, 1).await } => {}
            }
            // Dropped where it is, at once or on its way from a short one to a long one.
            if round > 0 {
                let _ = timeout(Duration::from_millis(caps::QUERY_SHORT_MILLIS_MAX + 100), &mut asked).await;
            }
        }
        until_running(&database, 0).await;
        for _ in 0..caps::DATABASE_READERS * 2 {
            assert_eq!(seven(&postgres, "a").await, Ok(7));
        }
        assert_eq!(postgres.turns().counts(), (0, 0));
    }

    #[tokio::test]
    async fn long_queries_of_one_caller_hold_up_neither_anothers_nor_other_reads() {
        let Some(database) = test_postgres::database() else { return };
        let postgres = open(&database);
        let mut heavy = tokio::task::JoinSet::new();
        let (begun, mut has_begun) = mpsc::channel(1000);
        for _ in 0..caps::DATABASE_READERS * 2 {
            let (postgres, begun) = (postgres.clone(), begun.clone());
            heavy.spawn(async move { endless(&postgres, "heavy", begun).await });
        }
        for _ in 0..caps::DATABASE_READERS * 2 {
            has_begun.recv().await.unwrap();
        }
        // The share of one caller; the others wait, once they have turned out to be long.
        let share = (caps::DATABASE_QUERIES - 1) / 2;
        let others = caps::DATABASE_READERS * 2 - share;
        let are_waiting = async {
            while postgres.turns().counts() != (share, others) {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), are_waiting).await.expect("in time");
        until_running(&database, share).await;
        for caller in ["light", "heavy"] {
            assert_eq!(seven(&postgres, caller).await, Ok(7), "{caller}");
        }
        assert!(timeout(Duration::from_secs(60), postgres.reader()).await.expect("in time").is_ok());
        heavy.shutdown().await;
        until_running(&database, 0).await;
    }
}
