//! Moves events from the outbox to event streams of ours, and parks those for endpoints that are elsewhere or not there yet.
//! One loop per server, at least once, in order per key. It never waits for another server: `delivery` does.

mod delivery;
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
            Ok(0) => tokio::select! {
                _ = written.changed() => {}
                () = stopping.wait() => {}
            },
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
/// are relayed again, and the log skips what it has.
pub(crate) async fn pass(events: &Events, waiting: &Waiting) -> Result<usize, StoreError> {
    let rows = events.context().store.outbox(0, caps::OUTBOX_CLAIM_MAX).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    // Held until the parked events are committed, so that delivery cannot take an endpoint for caught up in between.
    let mut endpoints = waiting.lock().await;
    let mut plan = Plan::default();
    for row in &rows {
        plan.add(events, &endpoints, row).await?;
    }
    for ((stream, partition, source), records) in plan.appends {
        match events.context().streams.append_once(&stream, partition, source, records).await {
            // Removed since the plan was made. The next one knows, and the log skips what this one has appended.
            Err(StoreError::NoStream(_)) => return Ok(rows.len()),
            appended => appended?,
        }
    }
    let done = rows.iter().map(|row| row.id);
    if plan.parked.is_empty() {
        // The log has them, and skips what it has should they come once more.
        events.context().store.outbox_done(done).await?;
        return Ok(rows.len());
    }
    let mut batch = Batch::default();
    for parked in &plan.parked {
        batch.put(parked);
    }
    done.for_each(|id| batch.outbox_done(id));
    events.context().store.commit(batch).await.map_err(store_error)?;
    for parked in &plan.parked {
        endpoints.add(parked);
    }
    waiting.tell_added();
    Ok(rows.len())
}

/// What one pass does.
#[derive(Default)]
struct Plan {
    /// By stream, partition and source, in the order of the outbox.
    appends: BTreeMap<(StreamId, u32, u64), Vec<(u64, NewRecord)>>,
    parked: Vec<ParkedEvent>,
    routes: HashMap<InstanceId, Routes>,
    ways: HashMap<(InstanceId, String), Option<Way>>,
}

impl Plan {
    async fn add(
        &mut self,
        events: &Events,
        waiting: &parked::Endpoints,
        row: &OutboxRow,
    ) -> Result<(), StoreError> {
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
        waiting: &parked::Endpoints,
        id: u64,
        route: &Route,
        envelope: &Envelope,
    ) -> Result<(), StoreError> {
        let Some(way) = self.way(events, route).await? else { return Ok(()) };
        // Behind events that wait, so that the order holds.
        let is_free = !waiting.has(&route.instance, &route.endpoint);
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
        self.appends.entry((stream, partition, source)).or_default().push((id, record));
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
