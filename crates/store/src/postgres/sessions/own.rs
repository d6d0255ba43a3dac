//! The life of this server's own node: begun when the store is opened, kept while it is open. When it could not be kept in time,
//! another life begins, and every session of the one before is over.

use std::sync::Arc;
use std::time::Duration;

use base::caps;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{Desk, columns, millis, signed, unsigned};
use crate::error::StoreError;
use crate::postgres::connection::Connection;
use crate::postgres::database::{Database, no_answer};
use crate::sessions::Node;

const LEASE: Duration = Duration::from_secs(caps::NODE_LEASE_SECONDS);
const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);

pub(crate) struct Own(Mutex<Node>);

impl Own {
    pub(super) async fn begin(database: &Database) -> Result<Self, StoreError> {
        let connection = database.connect().await?;
        let number = u32::try_from(database.node).unwrap_or_default();
        sweep(&connection).await?;
        let epoch = live_anew(&connection, database.node, 0).await?;
        Ok(Self(Mutex::new(Node { number, epoch })))
    }

    pub(crate) fn node(&self) -> Node {
        *self.0.lock()
    }

    /// Whoever comes next need not wait until this node's leases are over.
    pub(super) async fn end(&self, database: &Database) {
        let (number, epoch) = columns(self.node());
        let of_node = "UPDATE node SET until = now() WHERE id = $1 AND epoch = $2";
        let of_work = "UPDATE lease SET until = '-infinity' WHERE node = $1 AND until > now()";
        let ended = async {
            let connection = database.connect().await?;
            connection.execute(of_node, &[&number, &epoch]).await?;
            connection.execute(of_work, &[&number]).await.map_err(StoreError::from)
        };
        // Else they end by themselves.
        if !timeout(ANSWER, ended).await.is_ok_and(|ended| ended.is_ok()) {
            tracing::debug!("the end of this node was not stored");
        }
    }

    /// Prolongs the life, or begins another when it was over.
    async fn prolong(&self, connection: &Connection) -> Result<(), StoreError> {
        let (number, epoch) = columns(self.node());
        let text = "UPDATE node SET until = now() + $3::bigint * interval '1 millisecond' \
                    WHERE id = $1 AND epoch = $2 AND until > now()";
        if connection.execute(text, &[&number, &epoch, &millis(LEASE)]).await? > 0 {
            return Ok(());
        }
        let epoch = live_anew(connection, number, epoch).await?;
        self.0.lock().epoch = epoch;
        tracing::warn!(epoch, "this node had lost its lease; every session begins anew");
        Ok(())
    }
}

/// Forgets nodes that are gone for so long that nothing of theirs is asked for any more, with the marks of their commits. Who begins at
/// the same time takes others, or finds none.
async fn sweep(connection: &Connection) -> Result<(), StoreError> {
    let text = "WITH gone AS (SELECT id FROM node WHERE until < now() - $1::bigint * interval '1 second' \
                ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED), \
                marks AS (DELETE FROM commit_mark WHERE node IN (SELECT id FROM gone)) \
                DELETE FROM node WHERE id IN (SELECT id FROM gone)";
    let (after, limit) = (caps::NODE_GONE_SECONDS, i64::try_from(caps::PURGE_ROWS_MAX).unwrap_or(i64::MAX));
    connection.execute(text, &[&after, &limit]).await?;
    Ok(())
}

/// Above the epoch that this node had, whether its row is still there or not.
async fn live_anew(connection: &Connection, number: i32, had: i64) -> Result<u64, StoreError> {
    let text = "INSERT INTO node (id, epoch, until) VALUES ($1, $3::bigint + 1, now() + $2::bigint * interval '1 millisecond') \
                ON CONFLICT (id) DO UPDATE SET epoch = greatest(node.epoch, $3::bigint) + 1, until = excluded.until RETURNING epoch";
    let notices = connection.notices();
    let row = connection.query_one(text, &[&number, &millis(LEASE), &had]).await?;
    if connection.notices() != notices {
        return Err(StoreError::Unavailable("the database warned of a commit".into()));
    }
    Ok(unsigned(row.get(0)))
}

/// Until it is aborted.
pub(super) async fn keep(desk: Arc<Desk>, database: Database) {
    let mut connection = None;
    loop {
        sleep(Duration::from_secs(caps::NODE_LEASE_RENEWED_SECONDS)).await;
        let prolonged = async {
            let open = match connection.take() {
                Some(open) => open,
                None => database.connect().await?,
            };
            desk.own.prolong(&open).await?;
            Ok::<_, StoreError>(open)
        };
        match timeout(ANSWER, prolonged).await.unwrap_or_else(|_| Err(no_answer())) {
            Ok(open) => connection = Some(open),
            Err(error) => {
                let epoch = signed(desk.own.node().epoch);
                tracing::warn!(%error, epoch, "this node's lease was not prolonged");
                // It may be that another has taken over from whom we asked.
                database.config.hosts.look_around(&database.config.tls).await;
            }
        }
    }
}
