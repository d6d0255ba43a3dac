//! The services of the house: opened at every start, and given their default instances at the first one.
//! Called by `serve` once the ground floor stands; it hands back the doors.

use std::sync::Arc;

use access::directory::ServicePrincipal;
use access::{Certificates, Directory};
use base::hosts::{Hosts, Service};
use base::outbound::NoOutbound;
use base::tasks::Tasks;
use base::{Clock, InstanceId, Scope, Throttle};
use digital_twins::{InstanceSettings, Instances};
use events::Events;
use hub::{HubSettings, Hubs};
use rest::AnyDoor;
use store::{Store, Streams};

use crate::config::Config;
use crate::environment::{self, Facts, HubFacts};
use crate::listeners::Listeners;
use crate::run_file::RunFile;
use crate::{Failure, absent};

/// The ground floor that services stand on.
pub(crate) struct House {
    pub(crate) store: Store,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    pub(crate) throttle: Throttle,
    pub(crate) hosts: Hosts,
    pub(crate) tasks: Tasks,
    pub(crate) directory: Directory,
}

pub(crate) struct Services {
    hosts: Hosts,
    directory: Directory,
    principal: ServicePrincipal,
    hubs: Hubs,
    provisioning: provisioning::Services,
    instances: Instances,
}

/// The name of the one service principal that a first start makes.
const PRINCIPAL: &str = "twinhub";

pub(crate) async fn open(house: &House) -> Result<Services, Failure> {
    let principal = house.directory.ensure_service_principal(PRINCIPAL).await?;
    let events = Events::new(events::Context {
        store: house.store.clone(),
        streams: house.streams.clone(),
        clock: house.clock.clone(),
        hosts: house.hosts.clone(),
        tasks: house.tasks.clone(),
        outbound: Arc::new(NoOutbound),
    });
    events.start().await?;
    let hubs = Hubs::new(hub::Context {
        store: house.store.clone(),
        streams: house.streams.clone(),
        events: events.clone(),
        clock: house.clock.clone(),
        throttle: house.throttle.clone(),
        hosts: house.hosts.clone(),
        tasks: house.tasks.clone(),
    });
    hubs.load().await?;
    let provisioning = provisioning::Services::new(provisioning::Context {
        store: house.store.clone(),
        clock: house.clock.clone(),
        throttle: house.throttle.clone(),
        hosts: house.hosts.clone(),
        tasks: house.tasks.clone(),
        hubs: hubs.clone(),
    });
    provisioning.load().await?;
    let instances = Instances::new(digital_twins::Context {
        store: house.store.clone(),
        clock: house.clock.clone(),
        throttle: house.throttle.clone(),
        hosts: house.hosts.clone(),
    });
    instances.load().await?;
    let scope = Scope::new("/subscriptions/default/resourceGroups/twinhub");
    if hubs.find("hub").is_none() {
        let instance = InstanceId::generate("hub", "hub");
        let at = scope.child("providers").child("Microsoft.Devices").child("IotHubs").child("hub");
        let settings = HubSettings { is_default: true, ..HubSettings::new(instance, "hub", at, "eastus") };
        hubs.ensure(settings).await?;
    }
    if instances.find("twins").is_none() {
        let settings = InstanceSettings {
            instance: InstanceId::generate("twins", "twins"),
            name: "twins".into(),
            scope: scope
                .child("providers")
                .child("Microsoft.DigitalTwins")
                .child("digitalTwinsInstances")
                .child("twins"),
            location: "eastus".into(),
            public_network_access: true,
            is_default: true,
        };
        instances.ensure(settings).await?;
    }
    Ok(Services {
        hosts: house.hosts.clone(),
        directory: house.directory.clone(),
        principal,
        hubs,
        provisioning,
        instances,
    })
}

impl Services {
    pub(crate) fn mqtt_door(&self, house: &House) -> mqtt::Door {
        mqtt::Door::new(mqtt::Context {
            hubs: self.hubs.clone(),
            services: self.provisioning.clone(),
            hosts: house.hosts.clone(),
            clock: house.clock.clone(),
            tasks: house.tasks.clone(),
        })
    }

    pub(crate) fn hub_door(&self, house: &House) -> Arc<dyn AnyDoor> {
        let (directory, clock) = (house.directory.clone(), house.clock.clone());
        rest::mount(rest::hub::HubDoor { hubs: self.hubs.clone(), directory, clock })
    }

    pub(crate) fn provisioning_door(&self, house: &House) -> Arc<dyn AnyDoor> {
        let (directory, clock) = (house.directory.clone(), house.clock.clone());
        let services = self.provisioning.clone();
        rest::mount(rest::provisioning::ProvisioningDoor { services, directory, clock })
    }

    pub(crate) fn digital_twins_door(&self, house: &House) -> Arc<dyn AnyDoor> {
        let (directory, hosts) = (house.directory.clone(), house.hosts.clone());
        rest::mount(rest::digital_twins::DigitalTwins { instances: self.instances.clone(), directory, hosts })
    }

    pub(crate) fn resource_manager_door(&self) -> Arc<dyn AnyDoor> {
        rest::mount(absent::Absent)
    }

    /// What the running server tells other commands.
    pub(crate) fn run_file(
        &self,
        config: &Config,
        listeners: &Listeners,
        https_port: u16,
        certificates: &Certificates,
    ) -> RunFile {
        let address = listeners.dialled();
        // Browsers and SDKs like a name better than an address; it must lead to us.
        let host =
            if address.to_string() == "127.0.0.1" { "localhost".to_owned() } else { address.to_string() };
        let base_host = self.hosts.with_port(&host);
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let facts = Facts {
            base_url: format!("https://{base_host}"),
            base_host,
            tenant_id: self.directory.tenant_id().to_owned(),
            client_id: self.principal.app_id.clone(),
            client_secret: self.principal.secrets[0].secret.expose().to_owned(),
            subscription_id: String::new(),
            resource_group: "twinhub".into(),
            hub: self.hub_facts(),
            provisioning: None,
            digital_twins_url: None,
            ca_file: text(&certificates.files().ca),
            ca_bundle: text(&certificates.files().bundle),
        };
        let hosts = self.hosts.all().into_iter().map(|(_, _, canonical, _)| (address, canonical)).collect();
        RunFile {
            process_id: std::process::id(),
            address,
            https_port,
            mqtt_port: config.ports.mqtt,
            tenant_id: facts.tenant_id.clone(),
            environment: environment::variables(&facts),
            hosts,
        }
    }

    fn hub_facts(&self) -> Option<HubFacts> {
        let hub = self.hubs.find(&self.hosts.default_instance(Service::Hub)?)?;
        let policies = hub.policies();
        let owner = policies.iter().find(|policy| policy.key_name == "iothubowner")?;
        let service = policies.iter().find(|policy| policy.key_name == "service").unwrap_or(owner);
        Some(HubFacts {
            host_name: hub.host_name(),
            owner_key: owner.primary_key.text().to_owned(),
            service_key_name: service.key_name.clone(),
            service_key: service.primary_key.text().to_owned(),
            event_hub_host: hub.host_name(),
            event_hub_path: hub.name().to_owned(),
        })
    }
}
