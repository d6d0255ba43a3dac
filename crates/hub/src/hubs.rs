//! All hubs of one server. Resource Manager calls `ensure` and `remove`; doors call `find`. Their life is that of every instance,
//! `store::instances`; here is what a hub does at its turns.

use std::ops::Deref;
use std::sync::Arc;

use base::hosts::{Host, Service};
use base::{Clock, InstanceId};
use events::EventStreamSettings;
use store::StoreError;
use store::instances::{Current, Instances, Kind};
use store::sessions::Node;

use crate::bus::{Bus, InProcess};
use crate::context::{Context, Surroundings};
use crate::hub::{EVENT_STREAM, Hub};
use crate::settings::HubSettings;

/// Clones share the hubs.
#[derive(Clone)]
pub struct Hubs(Instances<Surroundings>);

impl Kind for Surroundings {
    type Settings = HubSettings;
    type Instance = Hub;

    fn clock(&self) -> &Clock {
        &self.context.clock
    }

    async fn prepare(&self, settings: &HubSettings) -> Result<(), StoreError> {
        self.context.events.ensure_stream(event_stream(settings)).await.map(drop)
    }

    fn start(&self, settings: Current<HubSettings>) -> Hub {
        let hub = Hub::start(self.clone(), settings);
        hub.start_flushing_activity();
        hub
    }

    fn close(&self, hub: &Hub) {
        hub.refuse_everybody();
        hub.close_sessions_here();
        self.bus.detach(self.node().number, hub.instance());
    }

    async fn drain(&self, hub: &Hub) {
        hub.close_all_sessions().await;
    }

    async fn remove_streams(&self, instance: &InstanceId) -> Result<(), StoreError> {
        self.context.events.remove_instance(instance).await
    }
}

impl Deref for Hubs {
    type Target = Instances<Surroundings>;

    fn deref(&self) -> &Instances<Surroundings> {
        &self.0
    }
}

impl Hubs {
    /// Those of a server that is alone.
    pub fn new(context: Context) -> Self {
        Self::start(Surroundings { context, node: None, bus: Arc::new(InProcess::default()) })
    }

    /// Those of one node of several, which reach each other over a bus. Without a node, the one that the store is.
    pub fn on_bus(context: Context, node: Option<Node>, bus: Arc<dyn Bus>) -> Self {
        Self::start(Surroundings { context, node, bus })
    }

    fn start(surroundings: Surroundings) -> Self {
        let (store, hosts) = (surroundings.context.store.clone(), surroundings.context.hosts.clone());
        Self(Instances::new(surroundings, store, hosts))
    }

    /// The hub of an instance that a host name stands for; at an unnamed host, the default one.
    pub fn at_host(&self, host: &str, local: Option<std::net::IpAddr>) -> Option<Hub> {
        let hosts = &self.kind().context.hosts;
        match hosts.resolve(host, local) {
            Host::Instance(Service::Hub, name) => self.find(&name),
            Host::Unnamed => self.find(&hosts.default_instance(Service::Hub)?),
            _ => None,
        }
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
