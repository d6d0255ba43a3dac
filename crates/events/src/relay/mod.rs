//! Moves events from the outbox to event streams of ours, and parks those for endpoints that are elsewhere or not there yet.
//! One loop per server, at least once, in order per key. It never waits for another server: `delivery` does.

mod delivery;
mod held;
mod parked;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base::tasks::Stopping;
use base::{InstanceId, caps};
use bytes::Bytes;
use store::{Batch, NewRecord, OutboxRow, StoreError, StreamId};

#[cfg(test)]
pub(crate) use self::delivery::pass as deliver;
pub(crate) use self::parked::ParkedEvent;
pub(crate) use self::parked::Waiting;
use crate::Events;
use crate::backlog;
use crate::event_hubs::Way;
use crate::outbox::{Destination, Envelope};
use crate::route::{Route, Routes};
use crate::stream::{self, EventStream, store_error};

/// After a failure of the store.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn start(events: &Events) -> Result<(), StoreError> {
    let waiting = Waiting::load(events).await?;
    let (tasks, clock) = (&events.context().tasks, &events.context().clock);
    let (of, stopping, endpoints) = (events.clone(), tasks.stopping(), waiting.clone());
    tasks.keep("relay", clock, move || run(of.clone(), endpoints.clone(), stopping.clone()));
    let (of, stopping, endpoints) = (events.clone(), tasks.stopping(), waiting.clone());
    tasks.keep("backlog", clock, move || {
        backlog::keep_measuring(of.clone(), endpoints.clone(), stopping.clone())
    });
    let (of, stopping) = (events.clone(), tasks.stopping());
    tasks.keep("delivery", clock, move || delivery::run(of.clone(), waiting.clone(), stopping.clone()));
    let (of, stopping) = (events.clone(), tasks.stopping());
    tasks.keep("retention", clock, move || keep_retention(of.clone(), stopping.clone()));
    Ok(())
}

async fn run(events: Events, waiting: Waiting, mut stopping: Stopping) {
    let mut written = events.context().store.outbox_written();
    while !stopping.has_begun() {
        // Seen before the pass: what is written during it wakes the next one.
        written.borrow_and_update();
        match pass(&events, &waiting).await {
            Ok(0) => {
                let next = waiting.lock().held.next_at();
                let due = async {
                    match next {
                        Some(at) => events.context().clock.sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = written.changed() => {}
                    () = due => {}
                    () = stopping.wait() => {}
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "events could not be relayed and stay in the outbox");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stopping.wait() => {}
                }
            }
        }
    }
}

/// Relays what waits in the outbox, up to `caps::OUTBOX_CLAIM_MAX` rows; gives how many. First the streams, then the batch
/// that parks and removes, if anything is parked; else the removal rides on the next commit. After a crash in between the rows
/// are relayed again, and the log skips what it has. An instance whose events fail is held: its rows stay, everybody else's go on.
pub(crate) async fn pass(events: &Events, waiting: &Waiting) -> Result<usize, StoreError> {
    let now = events.context().clock.elapsed();
    let after = waiting.lock().held.begin(now);
    let rows = events.context().store.outbox(after, caps::OUTBOX_CLAIM_MAX).await?;
    let Some(last) = rows.last().map(|row| row.id) else {
        waiting.lock().held.ends();
        return Ok(0);
    };
    let mut plan = Plan::default();
    for row in rows.iter().filter(|row| !waiting.lock().held.passes_over(&row.instance)) {
        if !plan.failed.contains_key(&row.instance)
            && let Err(error) = plan.add(events, waiting, row).await
        {
            plan.failed.insert(row.instance.clone(), error);
        }
    }
    plan.append_all(events).await;
    plan.parked.retain(|parked| !plan.failed.contains_key(&parked.instance));
    let is_done = |row: &&OutboxRow| {
        !plan.failed.contains_key(&row.instance) && !waiting.lock().held.passes_over(&row.instance)
    };
    let done: Vec<u64> = rows.iter().filter(is_done).map(|row| row.id).collect();
    let mut again = false;
    for (instance, error) in &plan.failed {
        // Removed since the plan was made. The next one knows, and the log skips what this one has appended.
        if matches!(error, StoreError::NoStream(_)) {
            again = true;
            continue;
        }
        if waiting.lock().held.fails(instance, now) == 1 {
            tracing::error!(%error, %instance, "events could not be relayed and stay in the outbox");
        }
    }
    if !again {
        waiting.lock().held.passed(last);
    }
    if plan.parked.is_empty() {
        // The log has them, and skips what it has should they come once more.
        events.context().store.outbox_done(done).await?;
        return Ok(rows.len());
    }
    let mut batch = Batch::default();
    for parked in &plan.parked {
        batch.put(parked);
    }
    for id in done {
        batch.outbox_done(id);
    }
    events.context().store.commit(batch).await.map_err(store_error)?;
    // Told after they are stored, also where delivery took the endpoint for caught up meanwhile.
    let mut endpoints = waiting.lock();
    for parked in &plan.parked {
        endpoints.add(parked);
    }
    drop(endpoints);
    waiting.tell_added();
    Ok(rows.len())
}

/// What one pass does.
#[derive(Default)]
struct Plan {
    /// By stream, partition and source, in the order of the outbox.
    appends: BTreeMap<(StreamId, u32, u64), Append>,
    parked: Vec<ParkedEvent>,
    /// Instances whose events cannot be relayed now, and why.
    failed: HashMap<InstanceId, StoreError>,
    routes: HashMap<InstanceId, Routes>,
    ways: HashMap<(InstanceId, String), Option<Way>>,
}

/// Events of one instance for one partition, each with the id of its row.
struct Append {
    instance: InstanceId,
    records: Vec<(u64, NewRecord)>,
}

impl Plan {
    /// Appends everything; who fails is noted and keeps nobody else.
    async fn append_all(&mut self, events: &Events) {
        for ((stream, partition, source), Append { instance, records }) in std::mem::take(&mut self.appends) {
            if self.failed.contains_key(&instance) {
                continue;
            }
            if let Err(error) = append(events, &stream, partition, source, records).await {
                self.failed.insert(instance, error);
            }
        }
    }

    async fn add(&mut self, events: &Events, waiting: &Waiting, row: &OutboxRow) -> Result<(), StoreError> {
        let Some(envelope) = Envelope::decode(&row.instance, &row.partition_key, &row.payload) else {
            // It can never be relayed, and must not hold back those behind it.
            tracing::error!(id = row.id, instance = %row.instance, "an outbox row is no envelope and is dropped");
            return Ok(());
        };
        if let Destination::Stream(name) = &envelope.destination {
            // A stream that is gone went with its instance: nobody will read the event.
            if let Some(stream) = events.stream(&envelope.instance, name) {
                let partition = stream.partition_of(&envelope.partition_key);
                let source = stream::hash(&["outbox"]);
                self.append(stream.id().clone(), partition, source, row.id, &envelope);
            }
            return Ok(());
        }
        if !self.routes.contains_key(&row.instance) {
            let routes = events.routes(&row.instance).await?;
            self.routes.insert(row.instance.clone(), routes);
        }
        let chosen: Vec<Route> = self.routes[&row.instance].of(&envelope).cloned().collect();
        for route in chosen {
            self.add_routed(events, waiting, row.id, &route, &envelope).await?;
        }
        Ok(())
    }

    async fn add_routed(
        &mut self,
        events: &Events,
        waiting: &Waiting,
        id: u64,
        route: &Route,
        envelope: &Envelope,
    ) -> Result<(), StoreError> {
        let Some(way) = self.way(events, route).await? else { return Ok(()) };
        // Behind events that wait, so that the order holds. None begins to wait meanwhile: that is this loop's doing.
        let is_free = !waiting.lock().has(&route.instance, &route.endpoint);
        match own_stream(events, &way).filter(|_| is_free) {
            Some(hub) => {
                let partition = hub.partition_of(&envelope.partition_key);
                let source = source_of(&route.instance, &route.endpoint, &route.id);
                self.append(hub.id().clone(), partition, source, id, envelope);
            }
            None => self.parked.push(ParkedEvent::new(id, route, envelope)),
        }
        Ok(())
    }

    fn append(&mut self, stream: StreamId, partition: u32, source: u64, id: u64, envelope: &Envelope) {
        let record = NewRecord {
            time: envelope.time,
            key: envelope.partition_key.clone(),
            headers: Bytes::copy_from_slice(&envelope.headers),
            body: Bytes::copy_from_slice(&envelope.body),
        };
        let instance = || Append { instance: envelope.instance.clone(), records: Vec::new() };
        self.appends.entry((stream, partition, source)).or_insert_with(instance).records.push((id, record));
    }

    /// Where a route leads, asked once in a pass. A route to an endpoint that is gone leads nowhere.
    async fn way(&mut self, events: &Events, route: &Route) -> Result<Option<Way>, StoreError> {
        let key = (route.instance.clone(), route.endpoint.clone());
        if let Some(known) = self.ways.get(&key) {
            return Ok(known.clone());
        }
        let way = match events.endpoint(&key.0, &key.1).await? {
            Some(endpoint) => Some(events.way(&endpoint.target).await?),
            None => None,
        };
        self.ways.insert(key, way.clone());
        Ok(way)
    }
}

/// What the log can never hold is given up alone, for it must not hold back those behind it.
async fn append(
    events: &Events,
    stream: &StreamId,
    partition: u32,
    source: u64,
    records: Vec<(u64, NewRecord)>,
) -> Result<(), StoreError> {
    let log = &events.context().streams;
    match log.append_once(stream, partition, source, records.clone()).await {
        Err(StoreError::Refused(_)) => {}
        appended => return appended,
    }
    for (id, record) in records {
        match log.append_once(stream, partition, source, vec![(id, record)]).await {
            Err(StoreError::Refused(why)) => {
                tracing::error!(id, why, %stream, "an event that the log cannot hold is dropped");
            }
            appended => appended?,
        }
    }
    Ok(())
}

/// The stream that an open way leads to.
fn own_stream(events: &Events, way: &Way) -> Option<EventStream> {
    match way {
        Way::Open { instance, event_hub } => events.stream(instance, event_hub),
        Way::Elsewhere | Way::Closed(_) => None,
    }
}

/// Two routes may lead to the same stream, and each brings its own copy of an event.
pub(crate) fn source_of(instance: &InstanceId, endpoint: &str, route: &str) -> u64 {
    stream::hash(&[instance.as_str(), endpoint, route])
}

async fn keep_retention(events: Events, mut stopping: Stopping) {
    while !stopping.has_begun() {
        // First the pause: a machine that starts with a wrong time is often told the right one in its first moments.
        tokio::select! {
            () = events.context().clock.sleep(Duration::from_secs(caps::STREAM_TRIM_SECONDS)) => {}
            () = stopping.wait() => return,
        }
        events.trim_streams().await;
    }
}
