//! Nodes and sessions as rows. A session begins and ends in groups, over a line of its own; whether one counts says the row of its
//! node, by the database's clock. Nobody sweeps the rows of a node that is gone.

mod group;
mod own;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use base::ids::IdentityId;
use base::{DeviceId, InstanceId, Timestamp, caps};
use tokio::sync::oneshot;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use self::group::Group;
pub(super) use self::group::Request;
pub(super) use self::own::Own;
use super::database::Database;
use super::{Postgres, document};
use crate::engine;
use crate::error::StoreError;
use crate::queue::Queue;
use crate::sessions::{Begun, Node, Owner};

const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
const LONG_ANSWER: Duration = Duration::from_secs(caps::DATABASE_COUNT_SECONDS_MAX);

/// What one server keeps for its sessions.
pub(super) struct Desk {
    pub(super) own: Own,
    queue: Queue<Request>,
}

impl Desk {
    /// Begins the life of this server's node.
    pub(super) async fn open(database: &Database) -> Result<Self, StoreError> {
        let own = Own::begin(database).await?;
        Ok(Self { own, queue: Queue::new(caps::SESSION_CHANGES_WAITING_MAX) })
    }

    /// Until the desk is closed and everything that waited is done; then the node's life ends too.
    pub(super) async fn work(self: Arc<Self>, database: Database) {
        let mut group = Group::new(database.clone());
        let keeping = database.handle.spawn(own::keep(Arc::clone(&self), database.clone()));
        while let Some(requests) = self.queue.taken(caps::COMMIT_BATCHES_MAX, usize::MAX).await {
            group.work(requests).await;
        }
        keeping.abort();
        self.own.end(&database).await;
    }

    pub(super) fn close(&self) {
        self.queue.close();
    }
}

/// Sessions and leases of a database.
#[derive(Clone)]
pub(crate) struct Live(pub(super) Postgres);

impl Postgres {
    pub(crate) fn live(&self) -> Live {
        Live(self.clone())
    }
}

impl Live {
    pub(crate) fn node(&self) -> Node {
        self.0.sessions().own.node()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.sessions().queue.push_when_room(request(answer)).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn rows(&self, text: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        self.0.rows(text, parameters, ANSWER).await
    }
}

/// An owner counts while its node lives. Every statement that reads owners ends in this.
const OF_THE_LIVING: &str = "JOIN node n ON n.id = s.node AND n.epoch = s.node_epoch AND n.until > now()";
const OWNER: &str = "s.identity, s.node, s.node_epoch, s.epoch, s.since";

impl engine::Sessions for Live {
    async fn join(&self, lease: Duration) -> Result<Node, StoreError> {
        let text = "INSERT INTO node (version, until) VALUES ($1, now() + $2::bigint * interval '1 millisecond') \
                    RETURNING id, epoch";
        let rows = self.0.write(text, &[&env!("CARGO_PKG_VERSION"), &millis(lease)]).await?;
        rows.first().map(|row| node(row, 0)).ok_or_else(|| corrupt("a node"))
    }

    async fn keep(&self, node: Node, lease: Duration) -> Result<bool, StoreError> {
        let text = "UPDATE node SET until = now() + $3::bigint * interval '1 millisecond' \
                    WHERE id = $1 AND epoch = $2 AND until > now() RETURNING id";
        let (number, epoch) = columns(node);
        Ok(!self.0.write(text, &[&number, &epoch, &millis(lease)]).await?.is_empty())
    }

    async fn leave(&self, node: Node) -> Result<(), StoreError> {
        let text = "UPDATE node SET until = now() WHERE id = $1 AND epoch = $2 RETURNING id";
        let (number, epoch) = columns(node);
        self.0.write(text, &[&number, &epoch]).await.map(drop)
    }

    async fn lives(&self, node: Node) -> Result<bool, StoreError> {
        let text = "SELECT 1 FROM node WHERE id = $1 AND epoch = $2 AND until > now()";
        let (number, epoch) = columns(node);
        Ok(!self.rows(text, &[&number, &epoch]).await?.is_empty())
    }

    async fn begin(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Begun, StoreError> {
        let key = (instance.as_str().to_owned(), identity.to_string());
        self.ask(|answer| Request::Begin { key, node, since, answer }).await
    }

    async fn begun(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Option<Begun>, StoreError> {
        let text = format!("{} {OF_THE_LIVING}", group::BEGUN);
        let (instance, identity) = ([instance.as_str()], [identity.to_string()]);
        let ((number, epoch), since) = (columns(node), [since.ticks()]);
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&&instance[..], &&identity[..], &&[i64::from(number)][..], &&[epoch][..], &&since[..]];
        let rows = self.rows(&text, &parameters).await?;
        Ok(rows.first().map(|row| group::begun(row).1))
    }

    async fn end(
        &self,
        instance: &InstanceId,
        identity: &IdentityId,
        epoch: u64,
    ) -> Result<bool, StoreError> {
        let key = (instance.as_str().to_owned(), identity.to_string());
        self.ask(|answer| Request::End { key, epoch, answer }).await
    }

    async fn owners(
        &self,
        instance: &InstanceId,
        identities: &[IdentityId],
    ) -> Result<Vec<Option<Owner>>, StoreError> {
        let text = format!(
            "SELECT u.n, {OWNER} FROM unnest($2::text[]) WITH ORDINALITY AS u(identity, n) \
             JOIN device_session s ON s.instance = $1 AND s.identity = u.identity {OF_THE_LIVING}"
        );
        let names: Vec<_> = identities.iter().map(ToString::to_string).collect();
        let rows = self.rows(&text, &[&document::text(instance.as_str()), &names]).await?;
        let mut owners = vec![None; identities.len()];
        for row in rows {
            let place = usize::try_from(row.get::<_, i64>(0)).unwrap_or_default();
            if let Some(owner_of) = place.checked_sub(1).and_then(|place| owners.get_mut(place)) {
                *owner_of = Some(owner(&row, 2));
            }
        }
        Ok(owners)
    }

    async fn of_device(
        &self,
        instance: &InstanceId,
        device_id: &DeviceId,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        // Names of modules lie between `device/` and the character behind the slash.
        let text = format!(
            "SELECT {OWNER} FROM device_session s {OF_THE_LIVING} WHERE s.instance = $1 AND s.identity = $2 \
             UNION ALL \
             SELECT {OWNER} FROM device_session s {OF_THE_LIVING} \
             WHERE s.instance = $1 AND s.identity > $2 || '/' AND s.identity < $2 || '0'"
        );
        let rows = self.rows(&text, &[&document::text(instance.as_str()), &device_id.as_str()]).await?;
        rows.iter().map(named).collect()
    }

    async fn list(
        &self,
        instance: &InstanceId,
        after: Option<&IdentityId>,
        limit: usize,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        let text = format!(
            "SELECT {OWNER} FROM device_session s {OF_THE_LIVING} \
             WHERE s.instance = $1 AND s.identity > $2 ORDER BY s.identity LIMIT $3"
        );
        let after = after.map_or_else(String::new, ToString::to_string);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(&text, &[&document::text(instance.as_str()), &after, &limit]).await?;
        rows.iter().map(named).collect()
    }

    async fn connected_devices(&self, instance: &InstanceId) -> Result<u64, StoreError> {
        let text = format!(
            "SELECT count(*) FROM device_session s {OF_THE_LIVING} \
             WHERE s.instance = $1 AND position('/' in s.identity) = 0"
        );
        let instance = document::text(instance.as_str());
        let rows = self.0.rows(&text, &[&instance], LONG_ANSWER).await?;
        Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
    }

    async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        let text = "DELETE FROM device_session WHERE instance = $1 AND identity IN (SELECT identity FROM device_session \
                    WHERE instance = $1 ORDER BY identity LIMIT $2 FOR UPDATE) RETURNING 1";
        let (instance, limit) = (document::text(instance.as_str()), caps::PURGE_ROWS_MAX);
        let limit_column = i64::try_from(limit).unwrap_or(i64::MAX);
        while self.0.write(text, &[&instance, &limit_column]).await?.len() >= limit {}
        Ok(())
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    // Longer than any database lives.
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(1 << 40)
}

pub(super) fn columns(node: Node) -> (i32, i64) {
    (i32::try_from(node.number).unwrap_or(i32::MAX), signed(node.epoch))
}

fn node(row: &Row, at: usize) -> Node {
    let number = u32::try_from(row.get::<_, i32>(at)).unwrap_or_default();
    Node { number, epoch: unsigned(row.get(at + 1)) }
}

/// Out of four columns: the node, its epoch, the session's epoch, and since when.
fn owner(row: &Row, at: usize) -> Owner {
    let since = Timestamp::from_ticks(row.get(at + 3));
    Owner { node: node(row, at), epoch: unsigned(row.get(at + 2)), since }
}

fn named(row: &Row) -> Result<(IdentityId, Owner), StoreError> {
    let identity: IdentityId = row.get::<_, &str>(0).parse().map_err(|_| corrupt("the name of a session"))?;
    Ok((identity, owner(row, 1)))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} is not as it was written"))
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
