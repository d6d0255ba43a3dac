//! The instances of Azure Digital Twins on this server, and one instance as operations see it.
//! The resource manager ensures and removes them; doors find them by name. What an instance does is in the noun folders.

use std::collections::HashMap;
use std::sync::Arc;

use base::hosts::{Hosts, Service};
use base::{Clock, InstanceId, Meter, Scope, Throttle, Timestamp};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use store::{Batch, CommitError, Committed, Key, Record, Scan, Store, Table, table};

use crate::Error;
use crate::model::Models;

/// What instances need of the process.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub clock: Clock,
    pub throttle: Throttle,
    pub hosts: Hosts,
}

/// What the resource manager decides of an instance. Stored, so that a restart finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSettings {
    pub instance: InstanceId,
    pub name: String,
    pub scope: Scope,
    pub location: String,
    /// Whether callers from outside this machine may use the data plane.
    pub public_network_access: bool,
    /// Whether it answers at hosts that name no instance.
    pub is_default: bool,
}

impl Record for InstanceSettings {
    const TABLE: Table = table::DIGITAL_TWINS_INSTANCE;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

/// All instances of one server. Clones share them.
#[derive(Clone)]
pub struct Instances(Arc<Shared>);

struct Shared {
    context: Context,
    by_id: RwLock<HashMap<InstanceId, Instance>>,
}

impl Instances {
    pub fn new(context: Context) -> Self {
        Self(Arc::new(Shared { context, by_id: RwLock::default() }))
    }

    /// Finds every stored instance again, with its models. Called once, before the doors open.
    pub async fn load(&self) -> Result<(), Error> {
        const PAGE: usize = 500;
        let mut after = None;
        loop {
            let scan = Scan::new(Key::all(), PAGE).after(after);
            let page = self.0.context.store.scan::<InstanceSettings>(scan).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|found| found.record.key());
            for found in page {
                let instance = self.open(found.record);
                instance.models().await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Creates the instance or brings it to these settings. Safe to repeat.
    pub async fn ensure(&self, settings: InstanceSettings) -> Result<Instance, Error> {
        let mut batch = Batch::default();
        batch.put(&settings);
        self.0.context.store.commit(batch).await?;
        Ok(self.open(settings))
    }

    /// Removes the instance and everything in it. Safe to repeat.
    pub async fn remove(&self, id: &InstanceId) -> Result<(), Error> {
        let removed = self.0.by_id.write().remove(id);
        if let Some(instance) = removed {
            self.0.context.hosts.forget(Service::DigitalTwins, instance.name());
        }
        // Its own record goes first: what is written from now on fails, so that nothing is left behind the purge.
        let mut batch = Batch::default();
        batch.remove::<InstanceSettings>(Key::instance(id));
        self.0.context.store.commit(batch).await?;
        self.0.context.store.remove_instance(id).await?;
        Ok(())
    }

    /// By name, without regard to case.
    pub fn find(&self, name: &str) -> Option<Instance> {
        let by_id = self.0.by_id.read();
        by_id.values().find(|instance| instance.name().eq_ignore_ascii_case(name)).cloned()
    }

    pub fn get(&self, id: &InstanceId) -> Option<Instance> {
        self.0.by_id.read().get(id).cloned()
    }

    /// Settings may change under a live instance; the models at hand stay.
    fn open(&self, settings: InstanceSettings) -> Instance {
        let context = self.0.context.clone();
        let InstanceSettings { name, location, is_default, .. } = &settings;
        context.hosts.register(Service::DigitalTwins, name, location, *is_default);
        let host_name = context.hosts.canonical(Service::DigitalTwins, name, location);
        let mut by_id = self.0.by_id.write();
        let models = by_id.get(&settings.instance).map(|old| old.0.models.clone()).unwrap_or_default();
        let id = settings.instance.clone();
        let instance = Instance(Arc::new(Inner { context, settings, host_name, models }), None);
        by_id.insert(id, instance.clone());
        instance
    }
}

/// One Azure Digital Twins instance. Clones share it.
#[derive(Clone)]
pub struct Instance(Arc<Inner>, Option<Arc<str>>);

struct Inner {
    context: Context,
    settings: InstanceSettings,
    host_name: String,
    models: Arc<Models>,
}

impl Instance {
    pub fn id(&self) -> &InstanceId {
        &self.0.settings.instance
    }

    pub fn name(&self) -> &str {
        &self.0.settings.name
    }

    pub fn scope(&self) -> &Scope {
        &self.0.settings.scope
    }

    /// The name that Azure would give it: the `source` of its events.
    pub fn host_name(&self) -> &str {
        &self.0.host_name
    }

    pub fn settings(&self) -> &InstanceSettings {
        &self.0.settings
    }

    /// The same instance for one request: its events carry this W3C `traceparent`.
    #[must_use]
    pub fn traced(&self, traceparent: &str) -> Self {
        Self(self.0.clone(), Some(traceparent.into()))
    }

    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.1.as_deref()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.context.store
    }

    /// Commits a change, provided that the instance has not been removed meanwhile.
    pub(crate) async fn commit(&self, mut batch: Batch) -> Result<Committed, CommitError> {
        batch.guard_exists::<InstanceSettings>(Key::instance(self.id()));
        self.store().commit(batch).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.context.clock.now()
    }

    pub(crate) fn charge(&self, meter: Meter) -> Result<(), Error> {
        Ok(self.0.context.throttle.charge(meter, self.id())?)
    }

    pub(crate) fn model_cache(&self) -> &Models {
        &self.0.models
    }
}
