//! The inside of a whole server for the tests of the doors: every service on one store, with a clock that moves when told.
//! A test's fixture says on what it stands (`Ground`) and puts its door in front. Nothing that is shipped may use it.

use std::sync::Arc;

use access::Directory;
use base::hosts::{Dialled, Hosts};
use base::outbound::NoOutbound;
use base::tasks::Tasks;
use base::{Clock, InstanceId, Scope, Secret, Throttle};
use digital_twins::Instances;
use event_hubs::{Gate, Namespaces};
use events::Events;
use hub::file_upload::{FileStorage, NoFileStorage};
use hub::{Hub, HubSettings, Hubs};
use provisioning::{LinkedHub, Services};
use resource_manager::{ResourceManager, Settings};
use store::{Store, Streams};

/// What a server stands on. What is stored already is found again, as after a restart.
pub struct Ground {
    pub store: Store,
    pub streams: Streams,
    pub clock: Clock,
    pub hosts: Hosts,
    /// At which the directory issues its tokens.
    pub domain: &'static str,
    pub throttle: Throttle,
    /// Where files of devices go to.
    pub file_storage: Arc<dyn FileStorage>,
    pub settings: Settings,
}

impl Ground {
    /// An empty server that throttles nobody.
    pub fn new(clock: Clock, domain: &'static str, hosts: Hosts) -> Self {
        let (store, streams) = test_store::open();
        let (throttle, settings) = (Throttle::unlimited(), Settings::default());
        let file_storage = Arc::new(NoFileStorage);
        Self { store, streams, clock, hosts, domain, throttle, file_storage, settings }
    }
}

/// Clones share it.
#[derive(Clone)]
pub struct House {
    pub store: Store,
    pub streams: Streams,
    pub clock: Clock,
    pub hosts: Hosts,
    pub tasks: Tasks,
    pub directory: Directory,
    pub events: Events,
    pub hubs: Hubs,
    pub services: Services,
    pub instances: Instances,
    pub accounts: storage::Accounts,
    pub manager: ResourceManager,
}

impl House {
    /// # Panics
    /// When what is stored cannot be read.
    pub async fn on(ground: Ground) -> Self {
        let Ground { store, streams, clock, hosts, domain, throttle, file_storage, settings } = ground;
        let tasks = Tasks::new();
        let directory = Directory::open(store.clone(), clock.clone(), domain, vec![]).await;
        let directory = directory.expect("a test's directory opens");
        let gate = Gate::new(hosts.clone(), directory.clone());
        let events = Events::new(events::Context {
            store: store.clone(),
            streams: streams.clone(),
            clock: clock.clone(),
            event_hubs: Arc::new(gate.clone()),
            tasks: tasks.clone(),
            outbound: Arc::new(NoOutbound),
        });
        let hubs = Hubs::new(hub::Context {
            store: store.clone(),
            streams: streams.clone(),
            events: events.clone(),
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            queue_depth: base::caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT,
            file_storage,
        });
        hubs.load().await.expect("a test's hubs start");
        let services = Services::new(provisioning::Context {
            store: store.clone(),
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            hubs: hubs.clone(),
        });
        services.load().await.expect("a test's provisioning services start");
        let instances = Instances::new(digital_twins::Context {
            store: store.clone(),
            clock: clock.clone(),
            throttle,
            hosts: hosts.clone(),
        });
        instances.load().await.expect("a test's Digital Twins instances start");
        let event_hubs = Namespaces::new(event_hubs::Context {
            store: store.clone(),
            clock: clock.clone(),
            events: events.clone(),
            hosts: hosts.clone(),
            gate,
        });
        event_hubs.load().await.expect("a test's namespaces start");
        let context = storage::Context::new(store.clone(), clock.clone(), hosts.clone(), tasks.clone());
        let accounts = storage::Accounts::new(context);
        accounts.load().await.expect("a test's storage accounts start");
        let manager = ResourceManager::new(resource_manager::Context {
            store: store.clone(),
            events: events.clone(),
            event_hubs,
            accounts: accounts.clone(),
            clock: clock.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            directory: directory.clone(),
            hubs: hubs.clone(),
            services: services.clone(),
            instances: instances.clone(),
            settings,
        });
        Self {
            store,
            streams,
            clock,
            hosts,
            tasks,
            directory,
            events,
            hubs,
            services,
            instances,
            accounts,
            manager,
        }
    }

    /// A hub that Resource Manager does not know; the default one if it is called `hub`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn hub(&self, name: &str) -> Hub {
        self.hubs.ensure(hub_settings(name)).await.expect("a test's hub starts")
    }
}

/// Of a hub in the resource group `g` of the subscription `s`.
pub fn hub_settings(name: &str) -> HubSettings {
    let scope = format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/{name}");
    let instance = InstanceId::from_stored(format!("hub-{name}-1"));
    HubSettings {
        is_default: name == "hub",
        ..HubSettings::new(instance, name, Scope::new(&scope), "eastus")
    }
}

/// A link to `hub` with its owner's key.
///
/// # Panics
/// When the hub has no owner.
pub fn link(hub: &Hub) -> LinkedHub {
    let (settings, host_name) = (hub.settings(), hub.host_name(&Dialled::here()));
    let owner = settings.policy("iothubowner").expect("a new hub has an owner");
    LinkedHub {
        connection_string: Secret::new(owner.connection_string(&host_name).expose()),
        host_name,
        hub_name: hub.name().to_owned(),
        location: "eastus".to_owned(),
        allocation_weight: None,
        apply_allocation_policy: None,
    }
}
