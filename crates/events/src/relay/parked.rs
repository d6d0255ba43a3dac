//! Events that wait for an endpoint: their record, and which endpoints have any.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base::{Elapsed, InstanceId, Timestamp, caps};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use store::{Claim, Key, NewRecord, Record, Scan, StoreError, Table, table};
use tokio::sync::Notify;

use super::held::Held;
use crate::Events;
use crate::outbox::Envelope;
use crate::route::Route;

/// One event for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParkedEvent {
    pub(crate) instance: InstanceId,
    pub(crate) endpoint: String,
    pub(crate) outbox_id: u64,
    pub(crate) route: String,
    pub(crate) time: Timestamp,
    pub(crate) partition_key: String,
    #[serde(with = "base64_bytes")]
    pub(crate) headers: Vec<u8>,
    #[serde(with = "base64_bytes")]
    pub(crate) body: Vec<u8>,
}

impl Record for ParkedEvent {
    const TABLE: Table = table::PARKED_EVENT;

    fn key(&self) -> Key {
        // Twenty digits, so that the order of the text is the order of the numbers.
        let id = format!("{:020}", self.outbox_id);
        Key::new([self.instance.as_str(), &self.endpoint, &id, &self.route])
    }
}

impl ParkedEvent {
    pub(crate) fn new(outbox_id: u64, route: &Route, envelope: &Envelope) -> Self {
        Self {
            instance: route.instance.clone(),
            endpoint: route.endpoint.clone(),
            outbox_id,
            route: route.id.clone(),
            time: envelope.time,
            partition_key: envelope.partition_key.clone(),
            headers: envelope.headers.clone(),
            body: envelope.body.clone(),
        }
    }

    /// What it weighs among what waits.
    pub(crate) fn bytes(&self) -> u64 {
        (self.partition_key.len() + self.headers.len() + self.body.len()) as u64
    }

    pub(crate) fn record(&self) -> NewRecord {
        NewRecord {
            time: self.time,
            key: self.partition_key.clone(),
            headers: Bytes::copy_from_slice(&self.headers),
            body: Bytes::copy_from_slice(&self.body),
        }
    }
}

/// An endpoint by its instance and name.
pub(crate) type EndpointKey = (InstanceId, String);

/// Endpoints that have events waiting, shared by the relay, which adds them, and delivery, which takes them off. Locked for a
/// look or a change and never while something is awaited.
#[derive(Clone, Default)]
pub(crate) struct Waiting(Arc<Shared>);

#[derive(Default)]
struct Shared {
    endpoints: Mutex<Endpoints>,
    /// Told when an endpoint has something to wait for.
    added: Notify,
}

#[derive(Default)]
pub(crate) struct Endpoints {
    /// Under which this was read; none while another server relays, which knows it better.
    claim: Option<Claim>,
    waiting: HashMap<EndpointKey, Waits>,
    pub(super) held: Held,
}

struct Waits {
    retry: Retry,
    bytes: u64,
    /// Grows with every event that is parked: whoever saw nothing waiting knows by it whether that still holds.
    parked: u64,
}

/// When an endpoint is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) failures: u32,
    pub(crate) at: Elapsed,
}

impl Endpoints {
    pub(crate) fn is_under(&self, claim: &Claim) -> bool {
        self.claim.as_ref() == Some(claim)
    }

    /// Whether this server knows what waits.
    pub(crate) fn is_ours(&self) -> bool {
        self.claim.is_some()
    }

    pub(crate) fn let_go(&mut self) {
        (self.claim, self.waiting) = (None, HashMap::new());
    }

    /// What is stored, in the place of what was known. An endpoint that stays remembers how often it failed, and that more may have
    /// been parked.
    fn replace(&mut self, claim: Claim, stored: HashMap<EndpointKey, u64>) {
        let mut before = std::mem::take(&mut self.waiting);
        for (key, bytes) in stored {
            if let Some(known) = before.remove(&key) {
                self.waiting.insert(key.clone(), Waits { bytes: 0, ..known });
            }
            self.add_bytes(key, bytes);
        }
        self.claim = Some(claim);
    }

    pub(crate) fn has(&self, instance: &InstanceId, endpoint: &str) -> bool {
        self.waiting.contains_key(&(instance.clone(), endpoint.to_owned()))
    }

    pub(crate) fn add(&mut self, parked: &ParkedEvent) {
        let key = (parked.instance.clone(), parked.endpoint.clone());
        self.add_bytes(key, parked.bytes());
    }

    fn add_bytes(&mut self, key: EndpointKey, bytes: u64) {
        let retry = Retry { failures: 0, at: Elapsed::START };
        let waits = self.waiting.entry(key).or_insert(Waits { retry, bytes: 0, parked: 0 });
        waits.bytes += bytes;
        waits.parked += 1;
    }

    /// So many bytes wait no longer.
    pub(crate) fn subtract(&mut self, key: &EndpointKey, bytes: u64) {
        if let Some(waits) = self.waiting.get_mut(key) {
            waits.bytes = waits.bytes.saturating_sub(bytes);
        }
    }

    /// What waits, endpoint by endpoint.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (InstanceId, u64)> {
        self.waiting.iter().map(|((instance, _), waits)| (instance.clone(), waits.bytes))
    }

    /// How many events were parked for it since it has been here.
    pub(crate) fn parked(&self, key: &EndpointKey) -> u64 {
        self.waiting.get(key).map_or(0, |waits| waits.parked)
    }

    /// Takes it off, unless more was parked than `parked`. An event is told here after it is stored: whoever reads this number
    /// first and finds nothing stored then may take the endpoint off, or the relay has yet to tell, and brings it back.
    pub(crate) fn remove_unless_parked(&mut self, key: &EndpointKey, parked: u64) -> bool {
        let is_over = self.parked(key) == parked;
        if is_over {
            self.waiting.remove(key);
        }
        is_over
    }

    pub(crate) fn retry(&self, key: &EndpointKey) -> Option<Retry> {
        self.waiting.get(key).map(|waits| waits.retry)
    }

    pub(crate) fn set_retry(&mut self, key: &EndpointKey, retry: Retry) {
        if let Some(known) = self.waiting.get_mut(key) {
            known.retry = retry;
        }
    }

    /// Everyone is tried at the next look, but remembers how often it failed.
    pub(crate) fn all_due(&mut self) {
        for waits in self.waiting.values_mut() {
            waits.retry.at = Elapsed::START;
        }
    }

    pub(crate) fn due(&self, now: Elapsed) -> Vec<EndpointKey> {
        let due: BTreeSet<_> =
            self.waiting.iter().filter(|(_, waits)| waits.retry.at <= now).map(|(key, _)| key).collect();
        due.into_iter().cloned().collect()
    }

    pub(crate) fn next_at(&self) -> Option<Elapsed> {
        self.waiting.values().map(|waits| waits.retry.at).min()
    }
}

impl Waiting {
    /// Reads which endpoints have events waiting, for a server that begins to relay under `claim`.
    pub(crate) async fn read(&self, events: &Events, claim: Claim) -> Result<(), StoreError> {
        let stored = stored(events).await?;
        self.lock().replace(claim, stored);
        self.tell_added();
        Ok(())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Endpoints> {
        self.0.endpoints.lock()
    }

    pub(crate) fn tell_added(&self) {
        self.0.added.notify_one();
    }

    pub(crate) async fn added(&self) {
        self.0.added.notified().await;
    }
}

/// The endpoints for which events are stored, and how many bytes.
pub(crate) async fn stored(events: &Events) -> Result<HashMap<EndpointKey, u64>, StoreError> {
    let (store, mut found, mut after) = (&events.context().store, HashMap::new(), None);
    loop {
        // A start behind (instance, endpoint) skips the rest of that endpoint's events.
        let page = store.scan::<ParkedEvent>(Scan::new(Key::all(), 1).after(after)).await?;
        let Some(parked) = page.into_iter().next() else { return Ok(found) };
        let key = (parked.record.instance, parked.record.endpoint);
        let prefix = Key::new([key.0.as_str(), &key.1]);
        found.insert(key, store.bytes::<ParkedEvent>(&prefix).await?);
        after = Some(prefix);
    }
}

/// The oldest events of an endpoint, in order.
pub(crate) async fn oldest(events: &Events, key: &EndpointKey) -> Result<Vec<ParkedEvent>, StoreError> {
    let prefix = Key::new([key.0.as_str(), &key.1]);
    let found =
        events.context().store.scan::<ParkedEvent>(Scan::new(prefix, caps::DELIVERY_EVENTS_MAX)).await?;
    Ok(found.into_iter().map(|stored| stored.record).collect())
}

/// Bytes as base64 text: a JSON array of numbers would take four times as much.
mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_for_which_more_was_parked_meanwhile_stays() {
        let parked = ParkedEvent {
            instance: InstanceId::from_stored("twins-1"),
            endpoint: "e".to_owned(),
            outbox_id: 1,
            route: "r".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            partition_key: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let key = (parked.instance.clone(), parked.endpoint.clone());
        let mut endpoints = Endpoints::default();
        endpoints.add(&parked);
        // Delivery looks at the number, then into the store, and finds nothing; meanwhile the relay parks once more.
        let before = endpoints.parked(&key);
        endpoints.add(&parked);
        assert!(!endpoints.remove_unless_parked(&key, before));
        assert!(endpoints.has(&key.0, &key.1));
        let before = endpoints.parked(&key);
        assert!(endpoints.remove_unless_parked(&key, before));
        assert!(!endpoints.has(&key.0, &key.1));
    }
}
