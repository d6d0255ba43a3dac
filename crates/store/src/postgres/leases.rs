//! Leases as rows, judged by the database's clock. Each is taken, prolonged and given back by one statement, over a connection that
//! writes, because a lease that is acknowledged must not be lost with a primary.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use base::caps;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::Postgres;
use super::connection::Connection;
use super::database::no_answer;
use super::sessions::{Live, columns, millis, signed, unsigned};
use crate::engine;
use crate::error::StoreError;
use crate::leases::Lease;
use crate::sessions::Node;

/// A connection for what is written by one statement and seldom, with the statements that it has prepared: as many as stand in the
/// code.
pub(super) struct Spare {
    connection: Connection,
    prepared: HashMap<&'static str, Statement>,
}

impl Spare {
    async fn query(
        &mut self,
        text: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let statement = match self.prepared.entry(text) {
            Entry::Occupied(prepared) => prepared.into_mut(),
            Entry::Vacant(place) => place.insert(self.connection.prepare(text).await?),
        };
        let notices = self.connection.notices();
        let rows = self.connection.query(&*statement, parameters).await?;
        if self.connection.notices() != notices {
            return Err(StoreError::Unknown("the commit came with a warning".into()));
        }
        Ok(rows)
    }
}

impl Postgres {
    /// One statement and its commit, over a connection that is kept for the next one. Nothing is done again: whether it was done
    /// is not known when the answer is lost.
    pub(super) async fn write(
        &self,
        text: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let kept = self.spare().lock().take();
        let written = async {
            let mut spare = match kept {
                Some(spare) if !spare.connection.is_closed() => spare,
                _ => Spare { connection: self.connect().await?, prepared: HashMap::new() },
            };
            let rows = spare.query(text, parameters).await?;
            *self.spare().lock() = Some(spare);
            Ok(rows)
        };
        let patience = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
        timeout(patience, written).await.unwrap_or_else(|_| Err(no_answer()))
    }
}

impl engine::Leases for Live {
    async fn take(&self, name: &str, node: Node, length: Duration) -> Result<Option<Lease>, StoreError> {
        let text = "INSERT INTO lease (name, node, epoch, until) \
                    VALUES ($1, $2, 1, now() + $3::bigint * interval '1 millisecond') \
                    ON CONFLICT (name) DO UPDATE SET node = excluded.node, epoch = lease.epoch + 1, until = excluded.until \
                    WHERE lease.until <= now() RETURNING epoch";
        let (number, _) = columns(node);
        let rows = self.0.write(text, &[&name, &number, &millis(length)]).await?;
        let lease = |row: &Row| Lease { name: name.to_owned(), node, epoch: unsigned(row.get(0)) };
        Ok(rows.first().map(lease))
    }

    async fn renew(&self, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        let text = "UPDATE lease SET until = now() + $3::bigint * interval '1 millisecond' \
                    WHERE name = $1 AND epoch = $2 AND until > now() RETURNING epoch";
        let parameters: [&(dyn ToSql + Sync); 3] = [&lease.name, &signed(lease.epoch), &millis(length)];
        Ok(!self.0.write(text, &parameters).await?.is_empty())
    }

    async fn give_back(&self, lease: &Lease) -> Result<(), StoreError> {
        let text = "UPDATE lease SET until = '-infinity' WHERE name = $1 AND epoch = $2 RETURNING epoch";
        self.0.write(text, &[&lease.name, &signed(lease.epoch)]).await.map(drop)
    }
}
