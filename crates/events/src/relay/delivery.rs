//! Brings parked events to their endpoint: to an event hub of ours that came up meanwhile, or out of the process. Each endpoint
//! is tried on its own, so that one that hangs holds up nobody else, and less and less often while it fails.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base::caps;
use base::outbound::{Message, OutboundError};
use base::tasks::Stopping;
use store::{Append, Batch, Errand, NewRecord, Record, StoreError};
use tokio::task::JoinSet;

use super::parked::{self, EndpointKey, ParkedEvent, Retry, Waiting};
use super::source_of;
use crate::Events;
use crate::endpoint::Endpoint;
use crate::event_hubs::Way;
use crate::headers::{self, Property, SystemProperty};
use crate::stream::{EventStream, store_error};

pub(crate) async fn run(events: Events, waiting: Waiting, mut stopping: Stopping) {
    while !stopping.has_begun() {
        pass(&events, &waiting).await;
        let next = waiting.lock().next_at();
        let clock = &events.context().clock;
        let due = async {
            match next {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = waiting.added() => {}
            () = events.0.retry.notified() => waiting.lock().all_due(),
            () = stopping.wait() => {}
        }
    }
}

/// Tries every endpoint that is due, all at once.
pub(crate) async fn pass(events: &Events, waiting: &Waiting) {
    match events.outbox().claim_parked().await {
        Ok(Some(_)) => {}
        Ok(None) => return,
        Err(error) => return tracing::warn!(%error, "events that are parked could not be claimed"),
    }
    let due = waiting.lock().due(events.context().clock.elapsed());
    let mut tries = JoinSet::new();
    for key in due {
        let (events, waiting) = (events.clone(), waiting.clone());
        tries.spawn(async move {
            let outcome = drain(&events, &waiting, &key).await;
            settle(&events, &waiting, &key, outcome);
        });
    }
    while tries.join_next().await.is_some() {}
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// An event hub of ours does not let the endpoint in: its events wait until it does.
    #[error("{0}")]
    Closed(String),
    #[error("the endpoint did not answer in time")]
    TimedOut,
    #[error("another server delivers")]
    Elsewhere,
}

fn settle(events: &Events, waiting: &Waiting, key: &EndpointKey, outcome: Result<(), Fault>) {
    // Whoever delivers now has read what waits, and how often it failed is no affair of ours.
    let Err(fault) =
        outcome.or_else(|fault| if matches!(fault, Fault::Elsewhere) { Ok(()) } else { Err(fault) })
    else {
        return;
    };
    let mut waiting = waiting.lock();
    let failures = waiting.retry(key).map_or(1, |retry| retry.failures.saturating_add(1));
    let pause = 1_u64.checked_shl(failures.min(16)).unwrap_or(u64::MAX).min(caps::RELAY_RETRY_SECONDS_MAX);
    let at = events.context().clock.elapsed().plus(Duration::from_secs(pause));
    waiting.set_retry(key, Retry { failures, at });
    // Once is enough: the endpoint is in the log, and every later try would say the same.
    if failures == 1 {
        tracing::warn!(%fault, instance = %key.0, endpoint = key.1, "events wait for their endpoint");
    }
}

/// Delivers until nothing waits for the endpoint any more.
async fn drain(events: &Events, waiting: &Waiting, key: &EndpointKey) -> Result<(), Fault> {
    // Asked anew for each page, for it lasts for seconds.
    while events.outbox().claim_parked().await?.is_some() {
        let before = waiting.lock().parked(key);
        let mut parked = parked::oldest(events, key).await?;
        if parked.is_empty() {
            if waiting.lock().remove_unless_parked(key, before) {
                return Ok(());
            }
            // The relay has parked more since.
            continue;
        }
        let given_up = give_up(events, &mut parked);
        let endpoint = events.endpoint(&key.0, &key.1).await?;
        let delivered = match endpoint {
            Some(endpoint) => deliver(events, &endpoint, &parked).await,
            // Nobody will take them any more.
            None => Ok(Delivered::Taken),
        };
        if delivered.is_ok() || !given_up.is_empty() {
            let done = if delivered.is_ok() { &parked[..] } else { &[] };
            let kept = if matches!(delivered, Ok(Delivered::Taken)) { &parked[..] } else { &[] };
            if given_up.len() + kept.len() > 0 {
                forget(events, given_up.iter().chain(kept)).await?;
            }
            let bytes = given_up.iter().chain(done).map(ParkedEvent::bytes).sum();
            waiting.lock().subtract(key, bytes);
        }
        delivered?;
    }
    Err(Fault::Elsewhere)
}

/// Takes out what has waited too long.
fn give_up(events: &Events, parked: &mut Vec<ParkedEvent>) -> Vec<ParkedEvent> {
    let Some(now) = events.context().clock.forgetting_time() else { return Vec::new() };
    let oldest = now.minus(Duration::from_secs(caps::EVENT_WAITS_SECONDS_MAX));
    let (old, kept): (Vec<_>, Vec<_>) = parked.drain(..).partition(|event| event.time < oldest);
    *parked = kept;
    if let Some(first) = old.first() {
        tracing::error!(
            count = old.len(), instance = %first.instance, endpoint = first.endpoint,
            "events were given up: their endpoint took none of them for too long"
        );
    }
    old
}

async fn forget<'a>(events: &Events, done: impl Iterator<Item = &'a ParkedEvent>) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for event in done {
        batch.remove::<ParkedEvent>(event.key());
    }
    events.context().store.commit(batch).await.map(drop).map_err(store_error)
}

/// What has become of events.
enum Delivered {
    /// The endpoint has them, and they are still kept here.
    Taken,
    /// They are in a stream of ours and nowhere else.
    Moved,
}

async fn deliver(events: &Events, endpoint: &Endpoint, parked: &[ParkedEvent]) -> Result<Delivered, Fault> {
    if parked.is_empty() {
        return Ok(Delivered::Taken);
    }
    match events.way(&endpoint.target).await? {
        Way::Elsewhere => {}
        Way::Closed(why) => return Err(Fault::Closed(why)),
        Way::Open { instance, event_hub } => {
            let Some(stream) = events.stream_now(&instance, &event_hub).await? else {
                return Err(Fault::Closed(format!("the event hub '{event_hub}' is not ready")));
            };
            return append(events, &stream, parked).await.map(|()| Delivered::Moved);
        }
    }
    let messages: Vec<Message> = parked.iter().map(message).collect();
    let address = endpoint.target.address();
    let sent = events.context().outbound.deliver(&address, &messages);
    match tokio::time::timeout(Duration::from_secs(caps::DELIVERY_SECONDS_MAX), sent).await {
        Err(_) => Err(Fault::TimedOut),
        Ok(Err(OutboundError::Refused(why))) => {
            // Trying again would not help these; those behind them may fare better.
            tracing::error!(why, %endpoint, count = messages.len(), "an endpoint refused events for good");
            Ok(Delivered::Taken)
        }
        Ok(Ok(())) => Ok(Delivered::Taken),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// Appended and forgotten in one go, and so told once.
async fn append(events: &Events, hub: &EventStream, parked: &[ParkedEvent]) -> Result<(), Fault> {
    let Some(first) = parked.first() else { return Ok(()) };
    let mut appends: BTreeMap<(u32, u64), Vec<(u64, NewRecord)>> = BTreeMap::new();
    let mut errand = Errand::default();
    for event in parked {
        let source = source_of(&event.instance, &event.endpoint, &event.route);
        let lane = (hub.partition_of(&event.partition_key), source);
        appends.entry(lane).or_default().push((event.outbox_id, event.record()));
        errand.batch.remove::<ParkedEvent>(event.key());
    }
    let append =
        |((partition, source), records)| Append { stream: hub.id().clone(), partition, source, records };
    errand.appends = appends.into_iter().map(append).collect();
    let outbox = events.outbox();
    let claim = outbox.claim_parked().await?.ok_or(Fault::Elsewhere)?;
    let mut failed = outbox.run(&claim, HashMap::from([(first.instance.clone(), errand)])).await?;
    failed.remove(&first.instance).map_or(Ok(()), |error| Err(error.into()))
}

fn message(parked: &ParkedEvent) -> Message {
    let mut message = Message {
        partition_key: parked.partition_key.clone(),
        content_type: String::new(),
        properties: Vec::new(),
        body: parked.body.clone(),
    };
    for property in headers::read(&parked.headers) {
        match property {
            Property::System(SystemProperty::ContentType, value) => {
                value.clone_into(&mut message.content_type);
            }
            Property::System(property, value) => {
                message.properties.push((property.name().to_owned(), value.to_owned()));
            }
            Property::Application(name, value) => {
                message.properties.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    message
}
