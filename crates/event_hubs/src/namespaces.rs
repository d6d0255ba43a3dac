//! All namespaces of one server. Their life is that of every instance, `store::instances`.

use std::ops::Deref;

use base::hosts::Hosts;
use base::{Clock, InstanceId};
use events::Events;
use store::instances::{Current, Instances, Kind};
use store::{Store, StoreError};

use crate::gate::Gate;
use crate::namespace::{Namespace, NamespaceSettings};

/// What a namespace is given of its surroundings.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub clock: Clock,
    /// Holds the streams of event hubs.
    pub events: Events,
    pub hosts: Hosts,
    /// The one that `events` asks.
    pub gate: Gate,
}

/// Clones share the namespaces.
#[derive(Clone)]
pub struct Namespaces(Instances<Context>);

impl Kind for Context {
    type Settings = NamespaceSettings;
    type Instance = Namespace;

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn start(&self, settings: Current<NamespaceSettings>) -> Namespace {
        self.gate.open(settings.clone());
        Namespace::start(self.clone(), settings)
    }

    fn close(&self, namespace: &Namespace) {
        self.gate.close(namespace.name());
    }

    async fn remove_streams(&self, instance: &InstanceId) -> Result<(), StoreError> {
        self.events.remove_instance(instance).await
    }
}

impl Deref for Namespaces {
    type Target = Instances<Context>;

    fn deref(&self) -> &Instances<Context> {
        &self.0
    }
}

impl Namespaces {
    pub fn new(context: Context) -> Self {
        let (store, hosts) = (context.store.clone(), context.hosts.clone());
        Self(Instances::new(context, store, hosts))
    }
}
