//! All hubs of one server. Resource Manager calls `ensure` and `remove`; doors call `find`. Their life is that of every instance,
//! `store::instances`; here is what a hub does at its turns.

use std::ops::Deref;

use base::hosts::{Host, Hosts, Service};
use base::tasks::Tasks;
use base::{Clock, InstanceId, Throttle};
use events::{EventStreamSettings, Events};
use store::instances::{Current, Instances, Kind};
use store::{Store, StoreError, Streams};

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
pub struct Hubs(Instances<Context>);

impl Kind for Context {
    type Settings = HubSettings;
    type Instance = Hub;

    async fn prepare(&self, settings: &HubSettings) -> Result<(), StoreError> {
        self.events.ensure_stream(event_stream(settings)).await.map(drop)
    }

    fn start(&self, settings: Current<HubSettings>) -> Hub {
        Hub::start(self.clone(), settings)
    }

    async fn drain(&self, hub: &Hub) {
        hub.close();
    }

    async fn remove_streams(&self, instance: &InstanceId) -> Result<(), StoreError> {
        self.events.remove_instance(instance).await
    }
}

impl Deref for Hubs {
    type Target = Instances<Context>;

    fn deref(&self) -> &Instances<Context> {
        &self.0
    }
}

impl Hubs {
    pub fn new(context: Context) -> Self {
        let (store, hosts) = (context.store.clone(), context.hosts.clone());
        Self(Instances::new(context, store, hosts))
    }

    /// The hub of an instance that a host name stands for; at an unnamed host, the default one.
    pub fn at_host(&self, host: &str, local: Option<std::net::IpAddr>) -> Option<Hub> {
        let hosts = &self.kind().hosts;
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
