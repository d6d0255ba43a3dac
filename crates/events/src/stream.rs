//! An *event stream*: a hub's built-in `messages/events`, or an event hub of ours. Partitions, retention, append and read.
//! Ensured by whoever owns the instance; read by `twinhub events` and by the doors that speak Event Hubs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, Timestamp, caps};
use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use store::streams::PartitionState;
use store::{
    Batch, CommitError, Key, LogRecord, NewRecord, Position, Record, Scan, StoreError, StreamId, Table, table,
};
use tokio::sync::watch;

use crate::Events;
use crate::headers::{self, Property};

/// What its owner decides of an event stream. Stored, so that a restart finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStreamSettings {
    pub instance: InstanceId,
    /// `messages/events`, or the name of an event hub.
    pub name: String,
    /// The Event Hubs namespace whose host and entity path lead here, for an event hub of ours.
    pub namespace: Option<String>,
    /// Never changes once events lie in it, for it decides where a key's events are.
    pub partition_count: u32,
    pub retention_seconds: u64,
}

impl Record for EventStreamSettings {
    const TABLE: Table = table::EVENT_STREAM;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.name])
    }
}

/// The streams of one server, in memory: the relay asks for one at every event.
#[derive(Default)]
pub(crate) struct Known(RwLock<Streams>);

type ByName = HashMap<(InstanceId, String), EventStream>;

#[derive(Default)]
struct Streams {
    /// Counts what this process did. What was read before that must not replace what is known after it.
    changes: u64,
    by_name: ByName,
}

impl Known {
    fn change<T>(&self, change: impl FnOnce(&mut ByName) -> T) -> T {
        let mut known = self.0.write();
        known.changes += 1;
        change(&mut known.by_name)
    }
}

/// One event stream. Clones share it.
#[derive(Clone)]
pub struct EventStream(Arc<Inner>);

struct Inner {
    id: StreamId,
    settings: EventStreamSettings,
    log: store::Streams,
}

/// An event as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub partition: u32,
    pub sequence: u64,
    pub offset: u64,
    pub enqueued_time: Timestamp,
    pub partition_key: String,
    headers: Bytes,
    pub body: Bytes,
}

impl Event {
    pub fn properties(&self) -> impl Iterator<Item = Property<'_>> {
        headers::read(&self.headers)
    }
}

impl Events {
    /// Creates a stream or changes its retention. Safe to repeat.
    pub async fn ensure_stream(&self, settings: EventStreamSettings) -> Result<EventStream, StoreError> {
        let mut batch = Batch::default();
        batch.put(&settings);
        self.context().store.commit(batch).await.map_err(store_error)?;
        let stream = self.know(settings).await?;
        // Events may have waited for it.
        self.0.retry.notify_one();
        Ok(stream)
    }

    /// Forgets a stream with everything in it: first what makes it known, so that whoever is told by the log that it is gone
    /// finds it nowhere. Safe to repeat.
    pub async fn remove_stream(&self, instance: &InstanceId, name: &str) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.remove::<EventStreamSettings>(Key::new([instance.as_str(), name]));
        self.context().store.commit(batch).await.map_err(store_error)?;
        self.0.streams.change(|streams| streams.remove(&(instance.clone(), name.to_owned())));
        self.context().streams.remove(&StreamId::new(instance, name)).await
    }

    pub fn stream(&self, instance: &InstanceId, name: &str) -> Option<EventStream> {
        self.0.streams.0.read().by_name.get(&(instance.clone(), name.to_owned())).cloned()
    }

    /// The event hub of ours at a namespace and entity path; both in any case.
    pub fn event_hub(&self, namespace: &str, name: &str) -> Option<EventStream> {
        let known = self.0.streams.0.read();
        let is_it = |stream: &&EventStream| {
            let of = stream.0.settings.namespace.as_deref();
            of.is_some_and(|of| of.eq_ignore_ascii_case(namespace))
                && stream.name().eq_ignore_ascii_case(name)
        };
        known.by_name.values().find(is_it).cloned()
    }

    /// A stream that another process may have made a moment ago.
    pub(crate) async fn stream_now(
        &self,
        instance: &InstanceId,
        name: &str,
    ) -> Result<Option<EventStream>, StoreError> {
        let (known, store) = (self.stream(instance, name), &self.context().store);
        if known.is_some() || !store.is_shared() {
            return Ok(known);
        }
        let stored = store.get::<EventStreamSettings>(&Key::new([instance.as_str(), name])).await?;
        Ok(stored.map(|stored| self.remember(stored.record)))
    }

    /// Every stream of an instance, by name.
    pub fn streams_of(&self, instance: &InstanceId) -> Vec<EventStream> {
        let mut streams = self.all_streams();
        streams.retain(|stream| stream.0.settings.instance == *instance);
        streams
    }

    /// Every stream of the server, by instance and name.
    pub fn all_streams(&self) -> Vec<EventStream> {
        let mut streams: Vec<EventStream> = self.0.streams.0.read().by_name.values().cloned().collect();
        streams.sort_by_key(|stream| (stream.0.settings.instance.clone(), stream.0.settings.name.clone()));
        streams
    }

    /// Finds every stored stream again, and ends what a crash left of a creation or a removal: a stream that the log lacks is
    /// made, one that nobody's record names is forgotten, for it would keep its segments for ever.
    pub(crate) async fn load_streams(&self) -> Result<(), StoreError> {
        for settings in self.stored_streams().await? {
            self.know(settings).await?;
        }
        self.sweep_orphans().await
    }

    async fn stored_streams(&self) -> Result<Vec<EventStreamSettings>, StoreError> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(EventStreamSettings::key);
            let scan = Scan::new(Key::all(), caps::SCAN_PAGE).after(after);
            let page = self.context().store.scan::<EventStreamSettings>(scan).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page.into_iter().map(|stored| stored.record));
        }
    }

    /// What is known of streams is what is stored of them. The log is left alone: who makes a stream or removes it sees to that.
    pub(crate) async fn read_streams_again(&self) -> Result<(), StoreError> {
        for _ in 0..caps::CONFLICT_RETRIES_MAX {
            let changes = self.0.streams.0.read().changes;
            let stored = self.stored_streams().await?;
            let by_name = stored.into_iter().map(|settings| self.of(settings)).collect();
            let mut known = self.0.streams.0.write();
            if known.changes == changes {
                known.by_name = by_name;
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }

    async fn sweep_orphans(&self) -> Result<(), StoreError> {
        let known: HashSet<StreamId> =
            self.all_streams().into_iter().map(|stream| stream.0.id.clone()).collect();
        let log = &self.context().streams;
        for orphan in log.all().await?.into_iter().filter(|stream| !known.contains(stream)) {
            tracing::warn!(stream = %orphan, "a stream that belongs to nothing was removed from the log");
            log.remove(&orphan).await?;
        }
        Ok(())
    }

    async fn know(&self, settings: EventStreamSettings) -> Result<EventStream, StoreError> {
        let id = StreamId::new(&settings.instance, &settings.name);
        self.context().streams.ensure(&id, settings.partition_count).await?;
        Ok(self.remember(settings))
    }

    fn remember(&self, settings: EventStreamSettings) -> EventStream {
        let (key, stream) = self.of(settings);
        self.0.streams.change(|streams| streams.insert(key, stream.clone()));
        stream
    }

    fn of(&self, settings: EventStreamSettings) -> ((InstanceId, String), EventStream) {
        let key = (settings.instance.clone(), settings.name.clone());
        let id = StreamId::new(&settings.instance, &settings.name);
        (key, EventStream(Arc::new(Inner { id, settings, log: self.context().streams.clone() })))
    }

    /// Forgets, in every stream, what is older than its retention.
    pub(crate) async fn trim_streams(&self) {
        let Some(now) = self.context().clock.forgetting_time() else { return };
        for stream in self.all_streams() {
            let before = now.minus(Duration::from_secs(stream.0.settings.retention_seconds));
            if let Err(error) = self.context().streams.trim(&stream.0.id, before).await {
                tracing::warn!(%error, stream = %stream.0.id, "old events could not be removed");
            }
        }
    }
}

impl EventStream {
    pub fn id(&self) -> &StreamId {
        &self.0.id
    }

    pub fn instance(&self) -> &InstanceId {
        &self.0.settings.instance
    }

    pub fn name(&self) -> &str {
        &self.0.settings.name
    }

    pub fn partition_count(&self) -> u32 {
        self.0.settings.partition_count
    }

    pub fn partition_of(&self, key: &str) -> u32 {
        partition_of(key, self.partition_count())
    }

    /// Appends one event to the partition of its key; durable when it returns.
    pub async fn append(&self, record: NewRecord) -> Result<(), StoreError> {
        let partition = self.partition_of(&record.key);
        self.0.log.append(&self.0.id, partition, vec![record]).await.map(drop)
    }

    pub async fn read(
        &self,
        partition: u32,
        from: Position,
        count_max: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let records = self.0.log.read(&self.0.id, partition, from, count_max).await?;
        Ok(records.into_iter().map(|record| Event::of(partition, record)).collect())
    }

    pub async fn partition(&self, partition: u32) -> Result<PartitionState, StoreError> {
        self.0.log.partition(&self.0.id, partition).await
    }

    /// The next sequence number of a partition, changing with every durable event.
    pub async fn tail(&self, partition: u32) -> Result<watch::Receiver<u64>, StoreError> {
        self.0.log.tail(&self.0.id, partition).await
    }
}

impl Event {
    fn of(partition: u32, record: LogRecord) -> Self {
        let LogRecord { sequence, offset, time, key, headers, body } = record;
        Self { partition, sequence, offset, enqueued_time: time, partition_key: key, headers, body }
    }
}

/// The partition of a key: its 64-bit FNV-1a hash, mixed (short keys differ in few of its bits), by the count. The same on every
/// start and every machine.
pub fn partition_of(key: &str, partition_count: u32) -> u32 {
    let hash = hash(&[key]);
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let partition = (mixed ^ (mixed >> 33)) % u64::from(partition_count.max(1));
    u32::try_from(partition).expect("a remainder is below its divisor")
}

/// FNV-1a over the parts with a zero byte between them. A promise to the disk: partitions and origins are made of it.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let bytes =
        parts.iter().enumerate().flat_map(|(at, part)| (at > 0).then_some(0).into_iter().chain(part.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// For batches that insist on nothing.
pub(crate) fn store_error(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        other => StoreError::Unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_in_one_digit_spread_over_all_partitions() {
        for (prefix, step) in [("dev", 1), ("dev", 4), ("thermostat-", 10)] {
            let mut counts = [0; 4];
            for number in 0..400 {
                let partition = partition_of(&format!("{prefix}{}", number * step), 4);
                counts[partition as usize] += 1;
            }
            assert!(counts.iter().all(|count| (60..140).contains(count)), "{prefix} {step}: {counts:?}");
        }
    }

    #[test]
    fn a_key_never_changes_its_partition() {
        let partitions: Vec<_> = ["dev1", "room-7", "", "ä"].map(|key| partition_of(key, 32)).to_vec();
        assert_eq!(partitions, [28, 28, 18, 23]);
    }
}
