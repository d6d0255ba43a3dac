//! One life of a house without doors: hubs, provisioning, digital twins, Resource Manager and the relay, wired as the server does it.

use std::sync::Arc;
use std::time::Duration;

use access::Directory;
use base::hosts::{EveryName, Hosts};
use base::outbound::NoOutbound;
use base::tasks::Tasks;
use base::{Clock, InstanceId, Throttle};
use digital_twins::Instances;
use events::{Address, EventHubs, EventStreamSettings, Events, Way, Ways};
use hub::bus::Bus;
use hub::{Hub, Hubs};
use provisioning::Services;
use resource_manager::ResourceManager;
use storage::Accounts;
use store::changes::{Changes, Keeper};
use store::memory::Database;
use store::{Options, Store, Streams};

use crate::files::OwnAccounts;

/// Where routed events of digital twins end.
pub(crate) const CHANGES: &str = "changes";

pub(crate) fn event_hubs_instance() -> InstanceId {
    InstanceId::from_stored("eventhubs-simulated")
}

/// Every address leads to one event hub of this house.
struct OneEventHub;

impl EventHubs for OneEventHub {
    fn way<'a>(&'a self, _: &'a Address) -> Ways<'a> {
        Box::pin(async { Ok(Way::Open { instance: event_hubs_instance(), event_hub: CHANGES.to_owned() }) })
    }
}

/// What a house stands on.
struct Ground<'a> {
    store: Store,
    tasks: Tasks,
    database: &'a Database,
    clock: &'a Clock,
    way: Arc<dyn Bus>,
}

pub(crate) struct House {
    pub(crate) store: Store,
    pub(crate) streams: Streams,
    pub(crate) events: Events,
    pub(crate) accounts: Accounts,
    pub(crate) hubs: Hubs,
    pub(crate) services: Services,
    pub(crate) instances: Instances,
    pub(crate) manager: ResourceManager,
    pub(crate) directory: Directory,
    tasks: Tasks,
    database: Database,
}

impl House {
    /// Fails where the store does; what was begun is then cut off.
    pub(crate) async fn open(database: &Database, clock: &Clock, way: Arc<dyn Bus>) -> Result<Self, String> {
        let store = Store::on_memory(database);
        let tasks = Tasks::new();
        let opened =
            Self::start(Ground { store: store.clone(), tasks: tasks.clone(), database, clock, way }).await;
        if opened.is_err() {
            end(database, &store, &tasks).await;
        }
        opened
    }

    async fn start(ground: Ground<'_>) -> Result<Self, String> {
        let Ground { store, tasks, database, clock, way } = ground;
        let clock = clock.clone();
        let hosts = Hosts::new("localhost", 443, EveryName);
        let streams = Streams::beside(&store, &Options::memory()).map_err(text)?;
        let directory =
            Directory::open(store.clone(), clock.clone(), "localhost", Vec::new()).await.map_err(text)?;
        let events = Events::new(events::Context {
            store: store.clone(),
            streams: streams.clone(),
            clock: clock.clone(),
            event_hubs: Arc::new(OneEventHub),
            tasks: tasks.clone(),
            outbound: Arc::new(NoOutbound),
        });
        let throttle = Throttle::unlimited();
        let context = storage::Context::new(store.clone(), clock.clone(), hosts.clone(), tasks.clone());
        let accounts = storage::Accounts::new(context);
        accounts.load().await.map_err(text)?;
        let context = hub::Context {
            store: store.clone(),
            streams: streams.clone(),
            events: events.clone(),
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            queue_depth: base::caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT,
            file_storage: Arc::new(OwnAccounts(accounts.clone())),
        };
        let hubs = Hubs::on_bus(context, None, way);
        hubs.load().await.map_err(text)?;
        let services = Services::new(provisioning::Context {
            store: store.clone(),
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            hubs: hubs.clone(),
        });
        services.load().await.map_err(text)?;
        let instances = Instances::new(digital_twins::Context {
            store: store.clone(),
            clock: clock.clone(),
            throttle,
            hosts: hosts.clone(),
        });
        instances.load().await.map_err(text)?;
        let gate = event_hubs::Gate::new(hosts.clone(), directory.clone());
        let event_hubs = event_hubs::Namespaces::new(event_hubs::Context {
            store: store.clone(),
            clock: clock.clone(),
            events: events.clone(),
            hosts: hosts.clone(),
            gate,
        });
        event_hubs.load().await.map_err(text)?;
        let manager = ResourceManager::new(resource_manager::Context {
            store: store.clone(),
            events: events.clone(),
            event_hubs: event_hubs.clone(),
            accounts: accounts.clone(),
            clock: clock.clone(),
            hosts,
            tasks: tasks.clone(),
            directory: directory.clone(),
            hubs: hubs.clone(),
            services: services.clone(),
            instances: instances.clone(),
            settings: resource_manager::Settings::default(),
        });
        events.start().await.map_err(text)?;
        let database = database.clone();
        let house = Self {
            store,
            streams,
            events,
            accounts,
            hubs,
            services,
            instances,
            manager,
            directory,
            tasks,
            database,
        };
        house.follow_others(&event_hubs, &clock);
        house.accounts.keep_sweeping();
        house.manager.start();
        Ok(house)
    }

    /// As in the server: whoever keeps something in memory reads it again when another house has changed it.
    fn follow_others(&self, event_hubs: &event_hubs::Namespaces, clock: &Clock) {
        let keepers: Vec<Box<dyn Keeper>> = vec![
            Box::new(self.directory.clone()),
            Box::new(store::Instances::clone(event_hubs)),
            Box::new(store::Instances::clone(&self.accounts)),
            Box::new(store::Instances::clone(&self.hubs)),
            Box::new(store::Instances::clone(&self.services)),
            Box::new(store::Instances::clone(&self.instances)),
            Box::new(self.events.clone()),
            Box::new(self.manager.clone()),
        ];
        let (changes, time, stopping) =
            (Changes::new(&self.store, keepers), clock.clone(), self.tasks.stopping());
        let work = move || changes.clone().keep_looking(time.clone(), stopping.clone());
        self.tasks.keep("changes by others", clock, work);
    }

    pub(crate) fn number(&self) -> u32 {
        self.store.node().number
    }

    /// As when the process is killed: nothing that was begun goes on.
    pub(crate) async fn kill(&self) {
        end(&self.database, &self.store, &self.tasks).await;
    }

    pub(crate) async fn ensure_changes(&self) -> Result<(), String> {
        let settings = EventStreamSettings {
            instance: event_hubs_instance(),
            name: CHANGES.to_owned(),
            namespace: Some("simulated".to_owned()),
            partition_count: 4,
            retention_seconds: 7 * 24 * 3600,
        };
        self.events.ensure_stream(settings).await.map(drop).map_err(text)
    }

    pub(crate) fn hub(&self) -> Hub {
        self.hubs.find("hub").expect("nobody removes the default hub")
    }
}

async fn end(database: &Database, store: &Store, tasks: &Tasks) {
    database.cut_off(store.node());
    tasks.drain(Duration::ZERO).await;
}

pub(crate) fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
