//! The outbox on a database. A lane is its lease holder's; what it made of the rows goes to streams, into records and out of the outbox
//! in one transaction that looks at the epochs of the leases. So each event is told once, whoever is killed and whoever lost a lease
//! without knowing, and no id need rise.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Elapsed, InstanceId, caps};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::Postgres;
use super::committer::Committer;
use super::document;
use super::escape;
use super::faults::Fault;
use super::line::{Parameter, Step};
use super::streams::{self, Group};
use crate::batch::{Batch, OutboxRow};
use crate::engine::Outbox;
use crate::error::{CommitError, StoreError};
use crate::outbox::{Append, Claim, Errand};
use crate::queue::Queue;
use crate::streams::{NewRecord, StreamId};

/// The mark of what is relayed is behind those of committers and of streams.
const SLOT: i32 = 200;
const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);

/// Takes leases that nobody has, and prolongs those that this server has. In the order of their names, which is everybody's.
const CLAIM: &str = "INSERT INTO lease AS l (name, node, epoch, until) \
    SELECT u.name, $2, 1, clock_timestamp() + $3::bigint * interval '1 second' FROM unnest($1::text[]) AS u(name) ORDER BY u.name \
    ON CONFLICT (name) DO UPDATE SET node = EXCLUDED.node, until = EXCLUDED.until, \
        epoch = CASE WHEN l.node = EXCLUDED.node AND l.until > clock_timestamp() THEN l.epoch ELSE l.epoch + 1 END \
    WHERE l.until <= clock_timestamp() OR l.node = EXCLUDED.node RETURNING l.name, l.epoch";

/// Fails unless every lease is still under its epoch, and keeps it so until the transaction ends.
const FENCE: &str = "SELECT 1 / (CASE WHEN count(*) = $3::bigint THEN 1 ELSE 0 END) FROM (\
    SELECT 1 FROM unnest($1::text[], $2::bigint[]) AS u(name, epoch) JOIN lease AS l ON l.name = u.name AND l.epoch = u.epoch \
    WHERE l.until > clock_timestamp() ORDER BY l.name FOR SHARE OF l) AS held";

const ROWS: &str = "SELECT o.id, o.instance, o.partition_key, o.payload FROM unnest($1::bigint[]) AS l(lane) CROSS JOIN LATERAL (\
    SELECT x.id, x.instance, x.partition_key, x.payload FROM outbox AS x \
    WHERE x.lane = l.lane::smallint AND x.instance <> ALL ($2::text[]) ORDER BY x.id LIMIT $3::bigint) AS o \
    ORDER BY o.id LIMIT $4::bigint";

pub(crate) struct PostgresOutbox {
    postgres: Postgres,
    /// What was claimed last, and when that was asked for.
    claimed: Mutex<Option<(Claim, Elapsed)>>,
    clock: base::Clock,
    queue: Arc<Queue<Request>>,
    task: Option<JoinHandle<()>>,
}

/// What is to be done in one transaction.
struct Request {
    leases: Vec<(String, u64)>,
    appends: Vec<Append>,
    batch: Batch,
    answer: oneshot::Sender<Result<(), CommitError>>,
}

impl PostgresOutbox {
    pub(crate) fn new(postgres: &Postgres) -> Self {
        let queue = Arc::new(Queue::new(caps::OUTBOX_ERRANDS_MAX));
        let task =
            run(Committer::new(Arc::clone(&postgres.0.desk), SLOT), Arc::clone(&queue), fault(postgres));
        let task = Some(postgres.handle().spawn(task));
        let (postgres, clock) = (postgres.clone(), base::Clock::system());
        Self { postgres, claimed: Mutex::default(), clock, queue, task }
    }

    /// Takes out of the errands what can never be done, and those whose streams are not there.
    async fn doable(
        &self,
        errands: &mut HashMap<InstanceId, Errand>,
    ) -> Result<HashMap<InstanceId, StoreError>, StoreError> {
        let (mut failed, mut known) = (HashMap::new(), HashMap::new());
        for (instance, errand) in errands.iter_mut() {
            for append in &mut errand.appends {
                append.records.retain(|(id, record)| is_possible(*id, &append.stream, record));
                let key = (append.stream.clone(), append.partition);
                if !known.contains_key(&key) {
                    let is_there = streams::is_there(&self.postgres, &key.0, key.1).await?;
                    known.insert(key.clone(), is_there);
                }
                if !known[&key] {
                    failed.insert(instance.clone(), StoreError::NoStream(append.stream.to_string()));
                }
            }
        }
        errands.retain(|instance, _| !failed.contains_key(instance));
        Ok(failed)
    }
}

/// What no stream can hold is given up alone, for it must not hold back those behind it.
fn is_possible(id: u64, stream: &StreamId, record: &NewRecord) -> bool {
    let checked = crate::streams::check(stream, std::iter::once(record));
    if let Err(why) = &checked {
        tracing::error!(id, %why, %stream, "an event that streams cannot hold is dropped");
    }
    checked.is_ok()
}

fn fault(postgres: &Postgres) -> Option<Fault> {
    postgres.database().config.fault
}

/// Until the queue is closed: one transaction after the other, over one connection.
async fn run(mut committer: Committer, queue: Arc<Queue<Request>>, fault: Option<Fault>) {
    while let Some(requests) = queue.taken(1, usize::MAX).await {
        for Request { leases, appends, batch, answer } in requests {
            let records = appends
                .iter()
                .map(|of| (&of.stream, of.partition, of.records.iter().map(|(_, record)| record)));
            let group = Group::new(records);
            let steps = || {
                let mut steps = fence(&leases, fault);
                steps.extend(group.within());
                steps
            };
            let outcome = committer.with(&batch, &steps).await;
            // An asker that has gone needs no answer.
            let _ = answer.send(outcome.map(drop));
        }
    }
}

fn fence(leases: &[(String, u64)], fault: Option<Fault>) -> Vec<Step<'_>> {
    if fault == Some(Fault::EpochUnchecked) {
        return Vec::new();
    }
    let names = leases.iter().map(|(name, _)| Cow::Borrowed(name.as_str())).collect();
    let epochs = leases.iter().map(|(_, epoch)| i64::try_from(*epoch).unwrap_or(i64::MAX)).collect();
    let count = i64::try_from(leases.len()).unwrap_or(i64::MAX);
    let parameters = vec![Parameter::Texts(names), Parameter::Numbers(epochs), Parameter::Number(count)];
    vec![Step::Prepared(Cow::Borrowed(FENCE), parameters)]
}

/// Names of leases, in order.
fn names() -> Vec<String> {
    (0..caps::OUTBOX_LANES).map(|lane| format!("outbox/{lane:02}")).collect()
}

fn lane_of((name, _): &(String, u64)) -> Option<i64> {
    name.strip_prefix("outbox/")?.parse().ok()
}

impl Outbox for PostgresOutbox {
    /// A claim is asked for once in a while, counted from before it was sent; whoever lost it meanwhile is refused by its epoch.
    async fn claim(&self) -> Result<Option<Claim>, StoreError> {
        let now = self.clock.elapsed();
        let fresh = Duration::from_secs(caps::OUTBOX_LEASE_SECONDS / 3);
        if let Some((claim, since)) = &*self.claimed.lock()
            && now < since.plus(fresh)
        {
            return Ok((!claim.leases.is_empty()).then(|| claim.clone()));
        }
        let length = i64::try_from(caps::OUTBOX_LEASE_SECONDS).unwrap_or(i64::MAX);
        let node = self.postgres.database().node;
        let taken = self.postgres.write(CLAIM, &[&names(), &node, &length]).await?;
        let lease = |row: &tokio_postgres::Row| {
            (row.get::<_, String>(0), u64::try_from(row.get::<_, i64>(1)).unwrap_or_default())
        };
        let mut leases: Vec<_> = taken.iter().map(lease).collect();
        leases.sort();
        let claim = Claim { leases };
        *self.claimed.lock() = Some((claim.clone(), now));
        Ok((!claim.leases.is_empty()).then_some(claim))
    }

    async fn rows(
        &self,
        claim: &Claim,
        held: &HashSet<InstanceId>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let lanes: Vec<i64> = claim.leases.iter().filter_map(lane_of).collect();
        let held: Vec<_> = held.iter().map(|instance| document::text(instance.as_str())).collect();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows =
            self.postgres.rows(ROWS, &[&lanes, &held, &caps::OUTBOX_LANE_ROWS, &limit], ANSWER).await?;
        let row = |row: &tokio_postgres::Row| OutboxRow {
            id: u64::try_from(row.get::<_, i64>(0)).unwrap_or_default(),
            instance: InstanceId::from_stored(escape::text_back(row.get(1))),
            partition_key: escape::text_back(row.get(2)),
            payload: row.get(3),
        };
        Ok(rows.iter().map(row).collect())
    }

    async fn run(
        &self,
        claim: &Claim,
        mut errands: HashMap<InstanceId, Errand>,
    ) -> Result<HashMap<InstanceId, StoreError>, StoreError> {
        let failed = self.doable(&mut errands).await?;
        let (mut appends, mut batch) = (Vec::new(), Batch::default());
        for errand in errands.into_values() {
            appends.extend(errand.appends);
            batch.merge(errand.batch);
            for id in errand.done {
                batch.outbox_done(id);
            }
        }
        if batch.is_empty() && appends.is_empty() {
            return Ok(failed);
        }
        let (answer, answered) = oneshot::channel();
        let request = Request { leases: claim.leases.clone(), appends, batch, answer };
        self.queue.push_when_room(request).await?;
        let outcome = answered.await.unwrap_or(Err(StoreError::Closed.into()));
        if outcome.is_err() {
            // It may be because a lease is another's: asked for again before anything else is tried.
            *self.claimed.lock() = None;
        }
        outcome.map_err(CommitError::unconditional)?;
        Ok(failed)
    }

    async fn bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        self.postgres.outbox_bytes().await
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.postgres.outbox_written()
    }

    fn pause(&self) -> Option<Duration> {
        Some(Duration::from_millis(caps::OUTBOX_POLL_MILLIS))
    }
}

impl Drop for PostgresOutbox {
    fn drop(&mut self) {
        self.queue.close();
        self.postgres.0.finish(self.task.take());
    }
}
