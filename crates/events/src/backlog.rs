//! How much waits to be relayed or delivered, per instance, and the end of it: an instance for which too much waits is throttled,
//! so that nothing which was accepted need ever be dropped. Filled by the relay's side, asked by every operation that raises events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::meter::{Limits, Throttled};
use base::tasks::Stopping;
use base::{InstanceId, Meter, caps};
use parking_lot::Mutex;
use store::StoreError;

use crate::Events;
use crate::relay::{self, Waiting};

/// Clones share it.
#[derive(Clone, Default)]
pub struct Backlog(Arc<Mutex<Measured>>);

#[derive(Default)]
struct Measured {
    bytes: HashMap<InstanceId, u64>,
    parked_bytes: u64,
    endpoints: usize,
}

impl Backlog {
    /// Bytes of all events that wait, as last measured.
    pub fn bytes(&self) -> u64 {
        self.0.lock().bytes.values().sum()
    }

    /// Instances that are throttled for what waits.
    pub fn throttled(&self) -> usize {
        self.0.lock().bytes.values().filter(|bytes| is_full(**bytes)).count()
    }

    /// Of the bytes that wait, those of events that are parked because their endpoint takes none.
    pub fn parked_bytes(&self) -> u64 {
        self.0.lock().parked_bytes
    }

    /// Endpoints for which events are parked.
    pub fn endpoints_waiting(&self) -> usize {
        self.0.lock().endpoints
    }

    fn set(&self, measured: Measured) {
        let mut known = self.0.lock();
        for (instance, _) in measured.bytes.iter().filter(|(_, bytes)| is_full(**bytes)) {
            if !known.bytes.get(instance).copied().is_some_and(is_full) {
                tracing::warn!(%instance, "too many events wait: what would raise more is throttled");
            }
        }
        *known = measured;
    }
}

fn is_full(bytes: u64) -> bool {
    bytes >= caps::EVENTS_WAITING_BYTES_MAX
}

impl Limits for Backlog {
    fn charge(&self, meter: Meter, instance: &InstanceId) -> Result<(), Throttled> {
        if raises_events(meter) && self.0.lock().bytes.get(instance).copied().is_some_and(is_full) {
            return Err(Throttled { retry_after: Duration::from_secs(caps::EVENTS_MEASURED_SECONDS) });
        }
        Ok(())
    }
}

/// Telemetry of devices does not wait: it goes to its stream at once.
fn raises_events(meter: Meter) -> bool {
    match meter {
        Meter::RegistryWrite | Meter::TwinUpdate | Meter::DigitalTwinWrite => true,
        Meter::RegistryRead
        | Meter::TwinRead
        | Meter::DirectMethod
        | Meter::CloudToDevice
        | Meter::DeviceConnect
        | Meter::DeviceToCloud
        | Meter::Query
        | Meter::ServiceOperation
        | Meter::DeviceRegistration
        | Meter::DeviceRegistrationPoll
        | Meter::ModelOperation
        | Meter::DigitalTwinRead
        | Meter::EventRoute
        | Meter::ManagementRead
        | Meter::FileUpload
        | Meter::ManagementWrite => false,
    }
}

/// Measures again and again while anything waits.
pub(crate) async fn keep_measuring(events: Events, waiting: Waiting, mut stopping: Stopping) {
    let mut written = events.outbox().written();
    written.mark_changed();
    while !stopping.has_begun() {
        let pause = events.context().clock.sleep(Duration::from_secs(caps::EVENTS_MEASURED_SECONDS));
        if events.backlog().bytes() == 0 {
            tokio::select! {
                _ = written.changed() => {}
                () = stopping.wait() => return,
            }
        }
        tokio::select! {
            () = pause => {}
            () = stopping.wait() => return,
        }
        if let Err(error) = measure(&events, &waiting).await {
            tracing::warn!(%error, "what waits could not be measured");
        }
    }
}

pub(crate) async fn measure(events: &Events, waiting: &Waiting) -> Result<(), StoreError> {
    let bytes = events.outbox().bytes().await?.into_iter().collect();
    let mut measured = Measured { bytes, ..Measured::default() };
    // Where another server relays, the store alone knows.
    let stored = if waiting.lock().is_ours() { None } else { Some(relay::stored(events).await?) };
    let parked = match stored {
        Some(stored) => stored.into_iter().map(|((instance, _), bytes)| (instance, bytes)).collect(),
        None => waiting.lock().bytes().collect::<Vec<_>>(),
    };
    for (instance, bytes) in parked {
        *measured.bytes.entry(instance).or_default() += bytes;
        measured.parked_bytes += bytes;
        measured.endpoints += 1;
    }
    events.backlog().set(measured);
    Ok(())
}
