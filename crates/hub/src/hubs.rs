//! All hubs of one server: made, found and removed here. Resource Manager calls `ensure` and `remove`; doors call `find`.

use std::collections::HashMap;
use std::sync::Arc;

use base::hosts::{Hosts, Service};
use base::tasks::Tasks;
use base::{Clock, InstanceId, Throttle, caps};
use events::{EventStreamSettings, Events};
use parking_lot::RwLock;
use store::{Batch, Key, Scan, Store, StoreError, Streams, retry_on_conflict};

use crate::error::Error;
use crate::hub::{EVENT_STREAM, Hub};
use crate::settings::HubSettings;

/// What a hub is given of its surroundings.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub streams: Streams,
    /// Knows the hubs' event streams, relays into them and forgets what is past its time.
    pub events: Events,
    pub clock: Clock,
    pub throttle: Throttle,
    pub hosts: Hosts,
    pub tasks: Tasks,
}

/// Clones share the hubs.
#[derive(Clone)]
pub struct Hubs(Arc<Inner>);

struct Inner {
    context: Context,
    hubs: RwLock<HashMap<InstanceId, Hub>>,
}

impl Hubs {
    pub fn new(context: Context) -> Self {
        Self(Arc::new(Inner { context, hubs: RwLock::default() }))
    }

    /// Starts every stored hub.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let scan = Scan::new(Key::all(), caps::SCAN_PAGE).after(after);
            let page = self.0.context.store.scan::<HubSettings>(scan).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(store::Record::key(&last.record));
            for stored in page {
                self.start(stored.record);
            }
        }
    }

    /// Makes the hub, or gives an existing one new settings. Safe to repeat. Instance, name and partitions of an existing
    /// hub stay as they are.
    pub async fn ensure(&self, settings: HubSettings) -> Result<Hub, Error> {
        let store = &self.0.context.store;
        let settings = retry_on_conflict(async || {
            let mut settings = settings.clone();
            let mut batch = Batch::default();
            match store.get::<HubSettings>(&Key::instance(&settings.instance)).await? {
                None => batch.insert(&settings),
                Some(old) => {
                    settings.name.clone_from(&old.record.name);
                    settings.partition_count = old.record.partition_count;
                    batch.replace(&old, &settings);
                }
            }
            // First, for a hub that is found again after a crash in between takes messages.
            self.0.context.events.ensure_stream(event_stream(&settings)).await?;
            store.commit(batch).await?;
            Ok::<_, Error>(settings)
        })
        .await?;
        Ok(self.start(settings))
    }

    /// Cuts every session and forgets everything of the hub, events included. Safe to repeat after a crash in the middle.
    pub async fn remove(&self, instance: &InstanceId) -> Result<(), Error> {
        let removed = self.0.hubs.write().remove(instance);
        if let Some(hub) = removed {
            hub.close();
            self.0.context.hosts.forget(Service::Hub, hub.name());
        }
        // First what new devices insist on, so that none comes behind the sweep.
        let mut batch = Batch::default();
        batch.remove::<HubSettings>(Key::instance(instance));
        self.0.context.store.commit(batch).await?;
        self.0.context.events.remove_instance(instance).await?;
        self.0.context.store.remove_instance(instance).await?;
        Ok(())
    }

    /// By name, in any case.
    pub fn find(&self, name: &str) -> Option<Hub> {
        self.0.hubs.read().values().find(|hub| hub.name().eq_ignore_ascii_case(name)).cloned()
    }

    pub fn get(&self, instance: &InstanceId) -> Option<Hub> {
        self.0.hubs.read().get(instance).cloned()
    }

    /// In the order of their names.
    pub fn all(&self) -> Vec<Hub> {
        let mut hubs: Vec<Hub> = self.0.hubs.read().values().cloned().collect();
        hubs.sort_by(|a, b| a.name().cmp(b.name()));
        hubs
    }

    /// The hub of an instance that a host name stands for; at an unnamed host, the default one.
    pub fn at_host(&self, host: &str, local: Option<std::net::IpAddr>) -> Option<Hub> {
        match self.0.context.hosts.resolve(host, local) {
            base::hosts::Host::Instance(Service::Hub, name) => self.find(&name),
            base::hosts::Host::Unnamed => self.find(&self.0.context.hosts.default_instance(Service::Hub)?),
            _ => None,
        }
    }

    fn start(&self, settings: HubSettings) -> Hub {
        let mut hubs = self.0.hubs.write();
        if let Some(hub) = hubs.get(&settings.instance) {
            hub.apply(settings);
            return hub.clone();
        }
        let context = self.0.context.clone();
        context.hosts.register(Service::Hub, &settings.name, &settings.location, settings.is_default);
        let hub = Hub::start(context, settings);
        hubs.insert(hub.instance().clone(), hub.clone());
        hub
    }
}

/// The built-in endpoint of a hub, as the relay and the readers of events know it.
fn event_stream(settings: &HubSettings) -> EventStreamSettings {
    EventStreamSettings {
        instance: settings.instance.clone(),
        name: EVENT_STREAM.to_owned(),
        namespace: None,
        partition_count: settings.partition_count.max(1),
        retention_seconds: u64::from(settings.retention_days.max(1)) * 24 * 3600,
    }
}
