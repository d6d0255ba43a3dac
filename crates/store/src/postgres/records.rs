//! Reads of records and counters, each over a connection of the pool, and the deletion of an instance.

use std::collections::BTreeMap;
use std::time::Duration;

use ::query::Plan;
use ::query::plan::Position;
use base::measure::Distribution;
use base::{InstanceId, caps};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::committer::Request;
use super::database::no_answer;
use super::failure::{Kind, kind};
use super::{Postgres, document, query, sql};
use crate::batch::{Batch, Committed, Counter, OutboxRow};
use crate::compiled::Rows;
use crate::engine::{Range, Raw, Records};
use crate::error::{CommitError, StoreError};
use crate::key::Key;
use crate::table::Table;
use crate::turns::Asker;

const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
/// For what may go over all of an instance.
const LONG_ANSWER: Duration = Duration::from_secs(caps::DATABASE_COUNT_SECONDS_MAX);

impl Records for Postgres {
    async fn get(&self, table: Table, key: &Key) -> Result<Option<Raw>, StoreError> {
        let parts: Vec<_> = key.parts().iter().map(|part| document::text(part)).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = parts.iter().map(|part| part as _).collect();
        let rows = self.rows(&sql::of(table.name).get, &parameters, ANSWER).await?;
        Ok(rows.first().map(|row| raw(&table, row)))
    }

    async fn count(&self, table: Table, prefix: &Key) -> Result<u64, StoreError> {
        self.number(&sql::count(&table, prefix.parts().len()), prefix).await
    }

    async fn bytes(&self, table: Table, prefix: &Key) -> Result<u64, StoreError> {
        self.number(&sql::bytes(&table, prefix.parts().len()), prefix).await
    }

    /// The number that is kept; of records that nobody added to yet, how many there are.
    async fn counter(&self, counter: &Counter) -> Result<i64, StoreError> {
        let (instance, name) = (document::text(&counter.instance), sql::counter_name(counter));
        let kept = self.rows(sql::COUNTER, &[&instance, &name], ANSWER).await?;
        let Some(counted) = &counter.counted else { return Ok(kept.first().map_or(0, |row| row.get(0))) };
        if let Some(row) = kept.first() {
            return Ok(row.get(0));
        }
        sql::check(counted)?;
        let value = counted.column.as_ref().map(|(_, value)| document::text(value));
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&instance];
        parameters.extend(value.iter().map(|value| value as &(dyn ToSql + Sync)));
        let rows = self.rows(&sql::count_of(counted, 1, 2), &parameters, LONG_ANSWER).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    async fn is_zero(&self, counter: &Counter) -> Result<bool, StoreError> {
        Ok(self.counter(counter).await? == 0)
    }

    /// In pieces, each a commit of its own. The counters go last, so that whoever makes records anew counts from nothing.
    async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        let limit = i64::try_from(caps::PURGE_ROWS_MAX).unwrap_or(i64::MAX);
        let instance = document::text(instance.as_str());
        let connection = self.connect().await?;
        for place in sql::purges() {
            let statement = connection.prepare(&place).await?;
            loop {
                let notices = connection.notices();
                let deleted =
                    timeout(LONG_ANSWER, connection.execute(&statement, &[&instance, &limit])).await;
                let deleted = deleted.map_err(|_| no_answer())??;
                if connection.notices() != notices {
                    return Err(StoreError::Unavailable("the database warned of a deletion".into()));
                }
                if deleted < caps::PURGE_ROWS_MAX as u64 {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn range(&self, range: Range) -> Result<Vec<Raw>, StoreError> {
        let value = range.column.as_ref().map(|(_, value)| value.as_str());
        let texts = range.prefix.parts().iter().map(String::as_str).chain(value);
        let texts = texts.chain(range.after_parts().iter().map(String::as_str));
        let texts: Vec<_> = texts.map(document::text).collect();
        let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|text| text as _).collect();
        parameters.push(&limit);
        let rows = self.rows(&sql::range(&range), &parameters, LONG_ANSWER).await?;
        Ok(rows.iter().map(|row| raw(&range.table, row)).collect())
    }

    async fn commit(&self, mut batch: Batch) -> Result<Committed, CommitError> {
        batch.count_changes();
        let (request, answered) = Request::new(batch);
        self.desk().queue.push_when_room(request).await?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    async fn query(
        &self,
        asker: &Asker,
        plan: &Plan,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        query::page(self, asker, plan, after, limit).await
    }

    fn queries(&self) -> (usize, usize) {
        self.turns().counts()
    }

    fn syncs(&self) -> Distribution {
        self.desk().syncs.read()
    }

    fn close(&self) {
        self.end();
    }
}

impl Postgres {
    async fn number(&self, text: &str, prefix: &Key) -> Result<u64, StoreError> {
        let parts: Vec<_> = prefix.parts().iter().map(|part| document::text(part)).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = parts.iter().map(|part| part as _).collect();
        let rows = self.rows(text, &parameters, LONG_ANSWER).await?;
        Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
    }

    /// Every counter of an instance that counts nothing but what is added to it.
    pub(crate) async fn counters_of(&self, instance: &str) -> Result<BTreeMap<String, i64>, StoreError> {
        let text = "SELECT name, value FROM counter WHERE instance = $1";
        let rows = self.rows(text, &[&document::text(instance)], ANSWER).await?;
        Ok(rows.iter().map(|row| (document::text_back(row.get(0)), row.get(1))).collect())
    }

    /// Rows of the outbox with greater ids than `after`, in their order.
    pub(crate) async fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let text =
            "SELECT id, instance, partition_key, payload FROM outbox WHERE id > $1 ORDER BY id LIMIT $2";
        let (after, limit) =
            (i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.rows(text, &[&after, &limit], LONG_ANSWER).await?;
        let entry = |row: &Row| OutboxRow {
            id: unsigned(row.get(0)),
            instance: InstanceId::from_stored(document::text_back(row.get(1))),
            partition_key: document::text_back(row.get(2)),
            payload: row.get(3),
        };
        Ok(rows.iter().map(entry).collect())
    }

    pub(crate) async fn outbox_bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        let text = "SELECT instance, sum(octet_length(payload))::bigint FROM outbox GROUP BY instance ORDER BY instance";
        let rows = self.rows(text, &[], LONG_ANSWER).await?;
        let entry =
            |row: &Row| (InstanceId::from_stored(document::text_back(row.get(0))), unsigned(row.get(1)));
        Ok(rows.iter().map(entry).collect())
    }

    /// There is no log beside the database that could have seen more than it.
    #[expect(clippy::unused_async, reason = "the embedded engine waits here")]
    pub(crate) async fn raise_outbox(&self, _above: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Runs a read, once more where a connection had ended unseen, as all do when another server becomes the primary.
    pub(super) async fn rows(
        &self,
        text: &str,
        parameters: &[&(dyn ToSql + Sync)],
        patience: Duration,
    ) -> Result<Vec<Row>, StoreError> {
        let mut ended = 0;
        loop {
            let reader = self.reader().await?;
            let read = async {
                let statement = reader.prepare_cached(text).await?;
                reader.query(&statement, parameters).await
            };
            match timeout(patience, read).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) if kind(&error) == Kind::Gone && ended < caps::DATABASE_READERS => {
                    ended += 1;
                    drop(deadpool_postgres::Object::take(reader));
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    // Its answer may still come, to nobody.
                    drop(deadpool_postgres::Object::take(reader));
                    return Err(no_answer());
                }
            }
        }
    }
}

fn raw(table: &Table, row: &Row) -> Raw {
    (document::from_column(table, row.get(0)), unsigned(row.get(1)))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
