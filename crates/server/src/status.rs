//! What `/_twinhub/status` tells of a running server beside its readiness and its instances: who is connected, what lies on the disk,
//! what waits, whom it refused last. Read by `twinhub status`; it must hold no secret.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::{Clock, Dismissal, Elapsed, Timestamp};
use serde_json::{Value, json};

use crate::config::Config;
use crate::connections::Counters;
use crate::house::House;
use crate::listeners::Listeners;
use crate::metrics::Places;

/// What is looked at, whenever somebody asks.
#[derive(Clone)]
pub(crate) struct Report {
    clock: Clock,
    started_at: (Timestamp, Elapsed),
    house: House,
    counters: Arc<Counters>,
    listeners: Arc<Listeners>,
    places: Places,
    durability: &'static str,
}

impl Report {
    pub(crate) fn new(
        config: &Config,
        clock: &Clock,
        house: &House,
        counters: &Arc<Counters>,
        listeners: &Arc<Listeners>,
    ) -> Self {
        Self {
            clock: clock.clone(),
            started_at: (clock.now(), clock.elapsed()),
            house: house.clone(),
            counters: counters.clone(),
            listeners: listeners.clone(),
            places: Places::of(config),
            durability: config.durability_name(),
        }
    }

    /// As the admin door wants it.
    pub(crate) fn make(&self) -> Pin<Box<dyn Future<Output = Value> + Send>> {
        let report = self.clone();
        Box::pin(async move { report.tell().await })
    }

    async fn tell(&self) -> Value {
        let backlog = self.house.events.backlog();
        let sizes = self.places.sizes().await;
        let open = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let refused: Vec<Value> = self.house.refusals.recent().iter().map(refusal).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "processId": std::process::id(),
            "startedAt": self.started_at.0,
            "uptimeSeconds": self.clock.elapsed().since(self.started_at.1).as_secs(),
            "dataDirectory": self.places.data_dir,
            "durability": self.durability,
            "addresses": self.listeners.addresses(),
            "connections": {"https": open(&self.counters.https_open), "mqtt": open(&self.counters.mqtt_open)},
            "hubs": self.hubs().await,
            "disk": {
                "inMemory": self.places.store == store::Location::Memory,
                "inDatabase": matches!(self.places.store, store::Location::Postgres(_)),
                "recordsBytes": sizes.records,
                "recordsWalBytes": sizes.records_wal,
                "logBytes": sizes.log,
                "freeBytes": sizes.free,
            },
            "events": {
                "waitingBytes": backlog.bytes(),
                "parkedBytes": backlog.parked_bytes(),
                "endpointsWaiting": backlog.endpoints_waiting(),
                "instancesThrottled": backlog.throttled(),
            },
            "refused": refused,
        })
    }

    async fn hubs(&self) -> Vec<Value> {
        let mut hubs = Vec::new();
        for hub in self.house.hubs.all() {
            // A store that fails is told among the troubles.
            let registered = hub.device_count().await.ok();
            let connected = hub.connected_devices().await.ok();
            hubs.push(json!({"name": hub.name(), "devices": registered, "devicesConnected": connected}));
        }
        hubs
    }
}

fn refusal((at, dismissal): &(Timestamp, Dismissal)) -> Value {
    json!({
        "time": at,
        "door": dismissal.door,
        "service": dismissal.service,
        "who": dismissal.name(),
        "peer": dismissal.peer_text(),
        "reason": dismissal.why,
        "action": dismissal.lacks.as_ref().map(|lacks| lacks.action),
        "right": dismissal.lacks.as_ref().and_then(|lacks| lacks.right),
        "scope": dismissal.lacks.as_ref().map(|lacks| &lacks.scope),
        "requestId": dismissal.request_id,
    })
}
