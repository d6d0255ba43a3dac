//! The services of one server, built on the store from the ground up, and their doors.
//! `serve` opens it once; the state file is written from what it says of itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::{Certificates, Directory, SharedAccessPolicy};
use base::hosts::{Dialled, Hosts, Service};
use base::measure::Traffic;
use base::outbound::NoOutbound;
use base::tasks::{Stopping, Tasks};
use base::{Clock, Key, Refusals, Throttle, caps};
use digital_twins::Instances;
use events::Events;
use hub::Hubs;
use resource_manager::{GroupId, PolicyKeys, ResourceManager};
use rest::blob::BlobDoor;
use rest::{AnyDoor, Front};
use store::changes::{Changes, Keeper};
use store::{Store, Streams};

use crate::Failure;
use crate::environment::{self, Facts, HubFacts, ProvisioningFacts, StorageFacts};
use crate::file_accounts::FileAccounts;
use crate::first_start::{self, FirstStart};
use crate::seed;

/// Tells of each step of the wall clock. Timers go by another one, and stamps and retention look for themselves.
async fn watch_wall_clock(clock: Clock, mut stopping: Stopping) {
    let mut known = clock.steps();
    loop {
        tokio::select! {
            () = clock.sleep(Duration::from_secs(caps::CLOCK_LOOK_SECONDS)) => {}
            () = stopping.wait() => return,
        }
        let steps = clock.steps();
        if steps.total > known.total {
            tracing::warn!(
                by_seconds = steps.ahead_seconds,
                "the wall clock was set: events keep the old time unless it stays so for a minute, and nothing is forgotten for an hour"
            );
        } else if steps.ahead_seconds == 0 && known.ahead_seconds != 0 {
            tracing::info!(now = %clock.now(), "events carry the time of the wall clock again");
        }
        known = steps;
    }
}

fn keep_watching_wall_clock(clock: &Clock, tasks: &Tasks) {
    let (watched, stopping) = (clock.clone(), tasks.stopping());
    tasks.keep("clock", clock, move || watch_wall_clock(watched.clone(), stopping.clone()));
}

async fn open_accounts(
    store: &Store,
    clock: &Clock,
    hosts: &Hosts,
    tasks: &Tasks,
) -> Result<storage::Accounts, Failure> {
    let context = storage::Context::new(store.clone(), clock.clone(), hosts.clone(), tasks.clone());
    let accounts = storage::Accounts::new(context);
    accounts.load().await?;
    Ok(accounts)
}

/// What services stand on.
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    pub(crate) hosts: Hosts,
    pub(crate) tasks: Tasks,
    pub(crate) directory: Directory,
    pub(crate) refusals: Refusals,
    pub(crate) queue_depth: u32,
    pub(crate) resource_manager: resource_manager::Settings,
    /// Of policies that a first start makes, where they are not made up.
    pub(crate) keys: Option<PolicyKeys>,
}

#[derive(Clone)]
pub(crate) struct House {
    clock: Clock,
    hosts: Hosts,
    tasks: Tasks,
    directory: Directory,
    pub(crate) refusals: Refusals,
    pub(crate) throttle: Throttle,
    pub(crate) hubs: Hubs,
    pub(crate) events: Events,
    provisioning: provisioning::Services,
    instances: Instances,
    event_hubs: event_hubs::Namespaces,
    accounts: storage::Accounts,
    manager: ResourceManager,
    first_start: FirstStart,
}

/// Where the hubs keep files: in the accounts that they name, and else in the one that a first start makes.
fn file_storage(accounts: &storage::Accounts, hosts: &Hosts, clock: &Clock) -> Arc<FileAccounts> {
    let default = resource_manager::DEFAULT_STORAGE_ACCOUNT.to_owned();
    Arc::new(FileAccounts::new(accounts.clone(), hosts.clone(), clock.clone(), default))
}

impl House {
    pub(crate) async fn open(ground: Ground) -> Result<Self, Failure> {
        let Ground {
            store,
            streams,
            clock,
            hosts,
            tasks,
            directory,
            refusals,
            queue_depth,
            resource_manager: settings,
            keys,
        } = ground;
        let gate = event_hubs::Gate::new(hosts.clone(), directory.clone());
        let events = Events::new(events::Context {
            store: store.clone(),
            streams: streams.clone(),
            clock: clock.clone(),
            event_hubs: Arc::new(gate.clone()),
            tasks: tasks.clone(),
            outbound: Arc::new(NoOutbound),
        });
        // A self-hosted server throttles nobody but those whose events it cannot get rid of.
        let throttle = Throttle::with(Arc::new(events.backlog().clone()));
        let accounts = open_accounts(&store, &clock, &hosts, &tasks).await?;
        let hubs = Hubs::new(hub::Context {
            store: store.clone(),
            streams: streams.clone(),
            events: events.clone(),
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            queue_depth,
            file_storage: file_storage(&accounts, &hosts, &clock),
        });
        hubs.load().await?;
        let provisioning = provisioning::Services::new(provisioning::Context {
            store: store.clone(),
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            hubs: hubs.clone(),
        });
        provisioning.load().await?;
        let instances = Instances::new(digital_twins::Context {
            store: store.clone(),
            clock: clock.clone(),
            throttle: throttle.clone(),
            hosts: hosts.clone(),
        });
        instances.load().await?;
        let event_hubs = event_hubs::Namespaces::new(event_hubs::Context {
            store: store.clone(),
            clock: clock.clone(),
            events: events.clone(),
            hosts: hosts.clone(),
            gate,
        });
        event_hubs.load().await?;
        let manager = ResourceManager::new(resource_manager::Context {
            store: store.clone(),
            events: events.clone(),
            event_hubs: event_hubs.clone(),
            accounts: accounts.clone(),
            clock: clock.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            directory: directory.clone(),
            hubs: hubs.clone(),
            services: provisioning.clone(),
            instances: instances.clone(),
            settings,
        });
        keep_watching_wall_clock(&clock, &tasks);
        // Every host is known by now; the relay tells by it which events stay on this server.
        events.start().await?;
        let first_start = first_start::ensure(&directory, &manager, keys).await?;
        let house = Self {
            clock,
            hosts,
            tasks,
            directory,
            refusals,
            throttle,
            hubs,
            events,
            provisioning,
            instances,
            event_hubs,
            accounts,
            manager,
            first_start,
        };
        house.begin(&store);
        Ok(house)
    }

    /// What goes on by itself from now on.
    fn begin(&self, store: &Store) {
        if store.is_shared() {
            self.follow_others(store);
        }
        self.hubs.keep_time();
        self.accounts.keep_sweeping();
        self.manager.start();
    }

    /// Whoever keeps something in memory reads it again when another server has changed it.
    fn follow_others(&self, store: &Store) {
        let (changes, clock, stopping) = (self.changes(store), self.clock.clone(), self.tasks.stopping());
        let work = move || changes.clone().keep_looking(clock.clone(), stopping.clone());
        self.tasks.keep("changes by others", &self.clock, work);
    }

    fn changes(&self, store: &Store) -> Changes {
        let keepers: Vec<Box<dyn Keeper>> = vec![
            Box::new(self.directory.clone()),
            Box::new(store::Instances::clone(&self.event_hubs)),
            Box::new(store::Instances::clone(&self.accounts)),
            Box::new(store::Instances::clone(&self.hubs)),
            Box::new(store::Instances::clone(&self.provisioning)),
            Box::new(store::Instances::clone(&self.instances)),
            // By then it is known which namespaces there are and whom they let in.
            Box::new(self.events.clone()),
            Box::new(self.manager.clone()),
        ];
        Changes::new(store, keepers)
    }

    pub(crate) fn provisioning(&self) -> &provisioning::Services {
        &self.provisioning
    }

    pub(crate) fn instances(&self) -> &Instances {
        &self.instances
    }

    pub(crate) fn mqtt_door(&self, traffic: Arc<Traffic>) -> mqtt::Door {
        mqtt::Door::new(mqtt::Context {
            hubs: self.hubs.clone(),
            services: self.provisioning.clone(),
            hosts: self.hosts.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            refusals: self.refusals.clone(),
            traffic,
        })
    }

    pub(crate) fn front(&self, admin: Arc<dyn AnyDoor>) -> Front {
        let (directory, clock, hosts) = (self.directory.clone(), self.clock.clone(), self.hosts.clone());
        let hub = rest::hub::HubDoor {
            hubs: self.hubs.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
        };
        let provisioning = rest::provisioning::ProvisioningDoor {
            services: self.provisioning.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
        };
        let digital_twins = rest::digital_twins::DigitalTwins {
            instances: self.instances.clone(),
            directory: directory.clone(),
            hosts: hosts.clone(),
        };
        let management = rest::resource_manager::Management {
            manager: self.manager.clone(),
            directory: directory.clone(),
        };
        Front {
            storage: Arc::new(BlobDoor::new(self.accounts.clone(), hosts.clone(), clock.clone())),
            hosts,
            hub: rest::mount(hub),
            provisioning: rest::mount(provisioning),
            digital_twins: rest::mount(digital_twins),
            resource_manager: rest::mount(management),
            graph: rest::mount(rest::graph::Graph { directory: directory.clone(), clock: clock.clone() }),
            entra: rest::mount(rest::entra::Entra { directory, clock }),
            admin,
            refusals: self.refusals.clone(),
        }
    }

    /// What a seed is applied to.
    pub(crate) fn ground_for_seed(&self, well_known_keys: bool) -> seed::Ground {
        let FirstStart { subscription_id, resource_group, .. } = &self.first_start;
        seed::Ground {
            manager: self.manager.clone(),
            directory: self.directory.clone(),
            hubs: self.hubs.clone(),
            services: self.provisioning.clone(),
            instances: self.instances.clone(),
            accounts: self.accounts.clone(),
            group: GroupId::new(subscription_id, resource_group),
            well_known_keys,
        }
    }

    /// Whose (`hub`, `dps`), name and keys of every policy of the default instances.
    pub(crate) fn policies(&self) -> Vec<(&'static str, String, [Key; 2])> {
        let default = |service| self.hosts.default_instance(service);
        let hub = default(Service::Hub).and_then(|name| self.hubs.find(&name));
        let service = default(Service::Provisioning).and_then(|name| self.provisioning.find(&name));
        let of_hub = hub.map(|hub| hub.policies()).unwrap_or_default();
        let of_service = service.map(|service| service.settings().policies.clone()).unwrap_or_default();
        let whose = |whose| {
            move |policy: &SharedAccessPolicy| {
                (whose, policy.key_name.clone(), [policy.primary_key.clone(), policy.secondary_key.clone()])
            }
        };
        of_hub.iter().map(whose("hub")).chain(of_service.iter().map(whose("dps"))).collect()
    }

    pub(crate) fn tenant_id(&self) -> &str {
        self.directory.tenant_id()
    }

    /// What `twinhub env` prints, for clients that dial `address`, or what the operator advertises.
    pub(crate) fn environment(
        &self,
        address: IpAddr,
        mqtt_port: u16,
        certificates: &Certificates,
    ) -> BTreeMap<String, String> {
        // SDKs and people like the name better than the address; it leads to 127.0.0.1 and nowhere else.
        let is_usual = address == IpAddr::from([127, 0, 0, 1]);
        let here = if is_usual { "localhost".to_owned() } else { address.to_string() };
        let base_host = self.hosts.with_port(&self.hosts.advertised_host().unwrap_or(here));
        let FirstStart { principal, subscription_id, resource_group, .. } = self.first_start.clone();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        environment::variables(&Facts {
            base_url: format!("https://{base_host}"),
            base_host,
            tenant_id: self.tenant_id().to_owned(),
            client_id: principal.app_id,
            client_secret: principal
                .secrets
                .first()
                .map(|s| s.secret.expose().to_owned())
                .unwrap_or_default(),
            subscription_id,
            resource_group,
            mqtt_port,
            hub: self.hub_facts(),
            provisioning: self.provisioning_facts(),
            digital_twins_url: self.digital_twins_url(),
            storage: self.storage_facts(),
            ca_file: text(&certificates.files().ca),
            ca_bundle: text(&certificates.files().bundle),
        })
    }

    fn hub_facts(&self) -> Option<HubFacts> {
        let hub = self.hubs.find(&self.hosts.default_instance(Service::Hub)?)?;
        let policies = hub.policies();
        let owner = policies.iter().find(|policy| policy.key_name == "iothubowner")?;
        let service = policies.iter().find(|policy| policy.key_name == "service").unwrap_or(owner);
        let host_name = hub.host_name(&Dialled::here());
        Some(HubFacts {
            service_host: self.hosts.with_port(&host_name),
            owner_key: owner.primary_key.text().to_owned(),
            service_key_name: service.key_name.clone(),
            service_key: service.primary_key.text().to_owned(),
            event_hub_host: host_name.clone(),
            event_hub_path: hub.name().to_owned(),
            host_name,
        })
    }

    fn provisioning_facts(&self) -> Option<ProvisioningFacts> {
        let service = self.provisioning.find(&self.hosts.default_instance(Service::Provisioning)?)?;
        let settings = service.settings();
        let owner = settings.policy("provisioningserviceowner")?;
        let device_host = service.host_name(&Dialled::here());
        Some(ProvisioningFacts {
            service_host: self.hosts.with_port(&device_host),
            device_host,
            id_scope: service.id_scope().to_owned(),
            owner_key: owner.primary_key.text().to_owned(),
        })
    }

    /// Of the account that the first start made, unless it was removed.
    fn storage_facts(&self) -> Option<StorageFacts> {
        let account = self.accounts.find(&self.first_start.storage_account)?;
        let endpoint = self.manager.blob_endpoint(account.name().as_str(), &Dialled::here());
        Some(StorageFacts {
            account: account.name().to_string(),
            key: account.settings().keys[0].text().to_owned(),
            blob_endpoint: endpoint.trim_end_matches('/').to_owned(),
        })
    }

    fn digital_twins_url(&self) -> Option<String> {
        let name = self.hosts.default_instance(Service::DigitalTwins)?;
        let is_it = |(service, found, _, _): &(Service, String, String, String)| {
            *service == Service::DigitalTwins && *found == name
        };
        let (_, _, _, advertised) = self.hosts.all(&Dialled::here()).into_iter().find(is_it)?;
        Some(format!("https://{}", self.hosts.with_port(&advertised)))
    }

    /// Every instance's own name with the address that leads to it.
    pub(crate) fn host_lines(&self, address: IpAddr) -> Vec<(IpAddr, String)> {
        let mut lines: Vec<(IpAddr, String)> = Vec::new();
        let of_server = self.hosts.advertised_host();
        let address = of_server.as_deref().and_then(|host| host.parse().ok()).unwrap_or(address);
        for (_, _, canonical, advertised) in self.hosts.all(&Dialled::here()) {
            if let Ok(own) = advertised.parse() {
                lines.push((own, canonical));
                continue;
            }
            let is_another_name = advertised != canonical && Some(&advertised) != of_server.as_ref();
            lines.push((address, canonical));
            lines.extend(is_another_name.then_some((address, advertised)));
        }
        lines.push((address, base::hosts::global_provisioning_host(self.hosts.domain())));
        lines
    }
}

#[cfg(test)]
mod two_houses;
