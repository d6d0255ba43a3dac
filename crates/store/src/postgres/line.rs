//! A connection that writes: statements prepared once, several sent at once without waiting for answers in between, and its mark, by
//! which it is learned later what became of a transaction whose answer was lost.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use super::connection::Connection;
use crate::error::StoreError;

/// Plans are made once and go by the index of the key: a set holds few keys of a table, however large that is or was when it was
/// planned.
const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; \
                        SET enable_mergejoin = off; SET enable_bitmapscan = off";

/// A parameter: mostly a column of a set.
pub(crate) enum Parameter<'a> {
    Texts(Vec<Cow<'a, str>>),
    Nullable(Vec<Option<Cow<'a, str>>>),
    Numbers(Vec<i64>),
    Lanes(Vec<i16>),
    Bytes(Vec<&'a [u8]>),
    Number(i64),
    Small(i32),
    Text(Cow<'a, str>),
}

impl Parameter<'_> {
    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Texts(values) => values,
            Self::Nullable(values) => values,
            Self::Numbers(values) => values,
            Self::Lanes(values) => values,
            Self::Bytes(values) => values,
            Self::Number(value) => value,
            Self::Small(value) => value,
            Self::Text(value) => value,
        }
    }
}

/// One statement to be sent.
pub(crate) enum Step<'a> {
    /// `BEGIN` and `COMMIT`.
    Plain(&'static str),
    Prepared(Cow<'static, str>, Vec<Parameter<'a>>),
}

/// What came back, or why not.
pub(crate) type Answer = Result<Vec<Row>, Error>;

pub(crate) struct Line {
    connection: Connection,
    statements: HashMap<Cow<'static, str>, Statement>,
    /// The last group that was committed over this slot.
    pub(super) group_no: i64,
}

impl Line {
    /// Finds the mark of its slot, or makes it.
    pub(crate) async fn over(connection: Connection, node: i32, slot: i32) -> Result<Self, StoreError> {
        connection.batch_execute(SETTINGS).await?;
        let make = "INSERT INTO commit_mark (node, slot, group_no) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING";
        connection.execute(make, &[&node, &slot]).await?;
        let find = "SELECT group_no FROM commit_mark WHERE node = $1 AND slot = $2";
        let group_no = connection.query_one(find, &[&node, &slot]).await?.get(0);
        Ok(Self { connection, statements: HashMap::new(), group_no })
    }

    pub(crate) fn notices(&self) -> u64 {
        self.connection.notices()
    }

    /// Takes back what was begun. False when the line is of no use any more.
    pub(crate) async fn roll_back(&self) -> bool {
        self.connection.batch_execute("ROLLBACK").await.is_ok()
    }

    /// Sends them all and gives each one's answer. What fails in a transaction makes those behind it fail too.
    pub(crate) async fn send(&mut self, steps: &[Step<'_>]) -> Result<Vec<Answer>, Error> {
        for step in steps {
            if let Step::Prepared(text, _) = step
                && !self.statements.contains_key(text)
            {
                let statement = self.connection.prepare(text).await?;
                self.statements.insert(text.clone(), statement);
            }
        }
        let sent = steps.iter().map(|step| -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
            match step {
                Step::Plain(text) => {
                    Box::pin(async { self.connection.batch_execute(text).await.map(|()| Vec::new()) })
                }
                Step::Prepared(text, parameters) => Box::pin(async {
                    let parameters: Vec<_> = parameters.iter().map(Parameter::as_sql).collect();
                    self.connection.query(&self.statements[text], &parameters).await
                }),
            }
        });
        Ok(in_order(sent.collect()).await)
    }
}

/// Polls each from the first to the last, so that they are sent in that order, until all have answered.
async fn in_order<T>(mut waiting: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut answers: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (future, answer) in waiting.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *answer = Some(value),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}
