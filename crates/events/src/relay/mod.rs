//! Moves events from the outbox to event streams of ours, and parks those for endpoints that are elsewhere or not there yet.
//! One loop per server, over the lanes of the outbox that are its own, in order per key. It never waits for another server: `delivery` does.

mod delivery;
mod held;
mod parked;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base::tasks::Stopping;
use base::{InstanceId, caps};
use bytes::Bytes;
use store::{Append, Errand, NewRecord, OutboxRow, StoreError, StreamId};

#[cfg(test)]
pub(crate) use self::delivery::pass as deliver;
pub(crate) use self::parked::ParkedEvent;
pub(crate) use self::parked::{Waiting, stored};
use crate::Events;
use crate::backlog;
use crate::event_hubs::Way;
use crate::outbox::{Destination, Envelope};
use crate::route::{Route, Routes};
use crate::stream::{self, EventStream};

/// After a failure of the store.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn start(events: &Events) {
    let waiting = Waiting::default();
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
}

async fn run(events: Events, waiting: Waiting, mut stopping: Stopping) {
    let mut written = events.outbox().written();
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
                let look = async {
                    match events.outbox().pause() {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = written.changed() => {}
                    () = due => {}
                    () = look => {}
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

/// Relays what waits in the lanes that this server has, up to `caps::OUTBOX_CLAIM_MAX` rows; gives how many. What is made of them is
/// the outbox's to bring to streams and store, exactly once. An instance whose events fail is held: its rows stay, everybody else's
/// go on.
pub(crate) async fn pass(events: &Events, waiting: &Waiting) -> Result<usize, StoreError> {
    let (outbox, now) = (events.outbox(), events.context().clock.elapsed());
    let Some(claim) = outbox.claim().await? else {
        waiting.lock().let_go();
        return Ok(0);
    };
    if !waiting.lock().is_under(&claim) {
        // Another server may have parked events, or delivered what was parked here.
        waiting.read(events, claim.clone()).await?;
    }
    let held = waiting.lock().held.begin(now);
    let rows = outbox.rows(&claim, &held, caps::OUTBOX_CLAIM_MAX).await?;
    if rows.is_empty() {
        waiting.lock().held.ends();
        return Ok(0);
    }
    let mut plan = Plan::default();
    for row in &rows {
        if !plan.failed.contains_key(&row.instance)
            && let Err(error) = plan.add(events, waiting, row).await
        {
            plan.failed.insert(row.instance.clone(), error);
        }
    }
    let (errands, mut parked, mut failed) = plan.finish(&rows);
    failed.extend(outbox.run(&claim, errands).await?);
    for (instance, error) in &failed {
        // Removed since the plan was made. The next one knows, and nothing of this one is told twice.
        if matches!(error, StoreError::NoStream(_)) {
            continue;
        }
        if waiting.lock().held.fails(instance, now) == 1 {
            tracing::error!(%error, %instance, "events could not be relayed and stay in the outbox");
        }
    }
    parked.retain(|parked| !failed.contains_key(&parked.instance));
    if !parked.is_empty() {
        // Told after they are stored, also where delivery took the endpoint for caught up meanwhile.
        for parked in &parked {
            waiting.lock().add(parked);
        }
        waiting.tell_added();
    }
    Ok(rows.len())
}

/// Whose events, and the stream, partition and source that they go to.
type Lane = (InstanceId, StreamId, u32, u64);

/// What one pass does.
#[derive(Default)]
struct Plan {
    /// Each in the order of the outbox.
    appends: BTreeMap<Lane, Vec<(u64, NewRecord)>>,
    parked: Vec<ParkedEvent>,
    /// Instances whose events cannot be relayed now, and why.
    failed: HashMap<InstanceId, StoreError>,
    routes: HashMap<InstanceId, Routes>,
    ways: HashMap<(InstanceId, String), Option<Way>>,
}

impl Plan {
    /// An errand for each instance that has not failed, what it parks, and who failed.
    fn finish(
        mut self,
        rows: &[OutboxRow],
    ) -> (HashMap<InstanceId, Errand>, Vec<ParkedEvent>, HashMap<InstanceId, StoreError>) {
        let mut errands: HashMap<InstanceId, Errand> = HashMap::new();
        for row in rows.iter().filter(|row| !self.failed.contains_key(&row.instance)) {
            errands.entry(row.instance.clone()).or_default().done.push(row.id);
        }
        for ((instance, stream, partition, source), records) in self.appends {
            if let Some(errand) = errands.get_mut(&instance) {
                errand.appends.push(Append { stream, partition, source, records });
            }
        }
        self.parked.retain(|parked| !self.failed.contains_key(&parked.instance));
        for parked in &self.parked {
            if let Some(errand) = errands.get_mut(&parked.instance) {
                errand.batch.put(parked);
            }
        }
        (errands, self.parked, self.failed)
    }

    async fn add(&mut self, events: &Events, waiting: &Waiting, row: &OutboxRow) -> Result<(), StoreError> {
        let Some(envelope) = Envelope::decode(&row.instance, &row.partition_key, &row.payload) else {
            // It can never be relayed, and must not hold back those behind it.
            tracing::error!(id = row.id, instance = %row.instance, "an outbox row is no envelope and is dropped");
            return Ok(());
        };
        if let Destination::Stream(name) = &envelope.destination {
            // A stream that is gone went with its instance: nobody will read the event.
            if let Some(stream) = events.stream_now(&envelope.instance, name).await? {
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
        match own_stream(events, &way).await?.filter(|_| is_free) {
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
        let key = (envelope.instance.clone(), stream, partition, source);
        self.appends.entry(key).or_default().push((id, record));
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
async fn own_stream(events: &Events, way: &Way) -> Result<Option<EventStream>, StoreError> {
    match way {
        Way::Open { instance, event_hub } => events.stream_now(instance, event_hub).await,
        Way::Elsewhere | Way::Closed(_) => Ok(None),
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
