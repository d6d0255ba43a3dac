//! The instances of Azure Digital Twins on this server, and one instance as operations see it.
//! The resource manager ensures and removes them; doors find them by name. Their life is that of every instance,
//! `store::instances`; what an instance does is in the noun folders.

use std::ops::Deref;
use std::sync::Arc;

use base::hosts::{Hosts, Service};
use base::{Clock, InstanceId, Meter, Scope, Throttle, Timestamp};
use serde::{Deserialize, Serialize};
use store::instances::{self, Current, Kind, Settings};
use store::{Batch, CommitError, Committed, Key, Record, Store, Table, table};

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
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

impl Settings for InstanceSettings {
    const SERVICE: Service = Service::DigitalTwins;

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn is_default(&self) -> bool {
        self.is_default
    }

    fn set_default(&mut self, is_default: bool) {
        self.is_default = is_default;
    }

    fn keep(&mut self, old: &Self) {
        self.name.clone_from(&old.name);
    }
}

/// All instances of one server. Clones share them.
#[derive(Clone)]
pub struct Instances(instances::Instances<Context>);

impl Kind for Context {
    type Settings = InstanceSettings;
    type Instance = Instance;

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn start(&self, settings: Current<InstanceSettings>) -> Instance {
        let InstanceSettings { instance, name, scope, location, .. } = (*settings.get()).clone();
        let host_name = self.hosts.canonical(Service::DigitalTwins, &name, &location);
        let (context, models) = (self.clone(), Models::default());
        Instance(Arc::new(Inner { context, id: instance, name, scope, settings, host_name, models }), None)
    }
}

impl Deref for Instances {
    type Target = instances::Instances<Context>;

    fn deref(&self) -> &instances::Instances<Context> {
        &self.0
    }
}

impl Instances {
    pub fn new(context: Context) -> Self {
        let (store, hosts) = (context.store.clone(), context.hosts.clone());
        Self(instances::Instances::new(context, store, hosts))
    }

    /// Finds every stored instance again, with its models. Called once, before the doors open.
    pub async fn load(&self) -> Result<(), Error> {
        self.0.load().await?;
        for instance in self.all() {
            instance.models().await?;
        }
        Ok(())
    }
}

/// One Azure Digital Twins instance. Clones share it.
#[derive(Clone)]
pub struct Instance(Arc<Inner>, Option<Arc<str>>);

struct Inner {
    context: Context,
    id: InstanceId,
    name: String,
    scope: Scope,
    host_name: String,
    settings: Current<InstanceSettings>,
    models: Models,
}

impl Instance {
    pub fn id(&self) -> &InstanceId {
        &self.0.id
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    /// The name that Azure would give it: the `source` of its events.
    pub fn host_name(&self) -> &str {
        &self.0.host_name
    }

    pub fn settings(&self) -> Arc<InstanceSettings> {
        self.0.settings.get()
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

    /// The time that is stamped on what is stored and told.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.context.clock.stamp()
    }

    pub(crate) fn charge(&self, meter: Meter) -> Result<(), Error> {
        Ok(self.0.context.throttle.charge(meter, self.id())?)
    }

    pub(crate) fn model_cache(&self) -> &Models {
        &self.0.models
    }
}
