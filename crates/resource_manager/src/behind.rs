//! What stands behind a resource: a hub, a provisioning service, a Digital Twins instance, an endpoint of `events`.
//! Called by the reconciler only. Every function may be called twice with the same effect.

use base::hosts::{Dialled, Host, Service};
use base::{ConnectionString, InstanceId};
use store::{Batch, retry_on_conflict};

use crate::ResourceManager;
use crate::endpoint::{self, BusKind, Target};
use crate::error::Error;
use crate::id::ResourceId;
use crate::policy::SharedAccessPolicy;
use crate::provider::ResourceType;
use crate::provisioning_service::{AllocationPolicy, LinkedHub};
use crate::reconcile::Fault;
use crate::resource::{NetworkAccess, Properties, ProvisioningState, Resource};
use crate::{instance, iot_hub, provisioning_service};

impl ResourceManager {
    /// Brings what stands behind `resource` to what the resource says.
    pub(crate) async fn ensure_behind(&self, resource: &Resource) -> Result<(), Fault> {
        match &resource.properties {
            Properties::DigitalTwinsInstance(properties) => {
                let ensured = self.instances.ensure(twins_settings(resource, properties)).await;
                ensured.map(|_| ()).map_err(|error| later(&error))
            }
            Properties::IotHub(properties) => {
                let ensured = self.hubs.ensure(hub_settings(resource, properties)).await;
                ensured.map(|_| ()).map_err(|error| later(&error))
            }
            Properties::EventHubNamespace(_) => {
                self.start_namespace(&resource.id);
                Ok(())
            }
            Properties::ProvisioningService(properties) => {
                let ensured = self.services.ensure(service_settings(resource, properties)).await;
                ensured.map(|_| ()).map_err(|error| later(&error))
            }
            Properties::DigitalTwinsEndpoint(properties) => self.ensure_endpoint(resource, properties).await,
            Properties::EventHub(properties) => {
                let Some(instance) = self.instance_of(resource).await? else { return Ok(()) };
                let namespace = resource.id.parent.clone();
                let (partitions, days) = (properties.partition_count, properties.retention_days);
                self.ensure_stream(&instance, &resource.id.name, namespace, partitions, days).await
            }
            Properties::UserAssignedIdentity(_) => Ok(()),
        }
    }

    /// Removes what stands behind `resource`.
    pub(crate) async fn remove_behind(&self, resource: &Resource) -> Result<(), Fault> {
        match &resource.properties {
            Properties::DigitalTwinsInstance(properties) => {
                Ok(self.instances.remove(&properties.instance).await?)
            }
            Properties::IotHub(properties) => Ok(self.hubs.remove(&properties.instance).await?),
            Properties::EventHubNamespace(properties) => {
                self.events.remove_instance(&properties.instance).await?;
                self.hosts.forget(Service::EventHubs, &resource.id.name);
                Ok(self.store.remove_instance(&properties.instance).await?)
            }
            Properties::ProvisioningService(properties) => {
                Ok(self.services.remove(&properties.instance).await?)
            }
            Properties::DigitalTwinsEndpoint(_) => {
                let Some(instance) = self.instance_of(resource).await? else { return Ok(()) };
                Ok(self.events.remove_endpoint(&instance, &resource.id.name).await?)
            }
            Properties::EventHub(_) => {
                let Some(instance) = self.instance_of(resource).await? else { return Ok(()) };
                Ok(self.events.remove_stream(&instance, &resource.id.name).await?)
            }
            Properties::UserAssignedIdentity(_) => Ok(()),
        }
    }

    async fn ensure_stream(
        &self,
        instance: &InstanceId,
        name: &str,
        namespace: Option<String>,
        partition_count: u32,
        retention_days: u32,
    ) -> Result<(), Fault> {
        let settings = events::EventStreamSettings {
            instance: instance.clone(),
            name: name.to_owned(),
            namespace,
            partition_count,
            retention_seconds: u64::from(retention_days) * 24 * 3600,
        };
        self.events.ensure_stream(settings).await?;
        Ok(())
    }

    /// Tells `events` where an endpoint leads. A target on this server is tried first: what is refused now would be refused
    /// at every event.
    async fn ensure_endpoint(
        &self,
        resource: &Resource,
        properties: &endpoint::Properties,
    ) -> Result<(), Fault> {
        self.own_target_must_accept(&properties.target).await?;
        let Some(instance) = self.instance_of(resource).await? else { return Ok(()) };
        let target = events_target(&properties.target);
        let endpoint = events::Endpoint { instance, name: resource.id.name.clone(), target };
        let ensured = retry_on_conflict(async || {
            let now = self.stored(&resource.id).await?;
            let is_going = |now: &Resource| now.provisioning_state == ProvisioningState::Deleting;
            // Its deletion closed it to event routes; opened again it would let in one that is left behind.
            let Some(now) = now.filter(|now| !is_going(&now.record)) else { return Ok(()) };
            let mut batch = Batch::default();
            batch.guard(&now);
            Ok::<_, Error>(self.events.ensure_endpoint(&endpoint, batch).await?)
        });
        Ok(ensured.await?)
    }

    async fn own_target_must_accept(&self, target: &Target) -> Result<(), Fault> {
        let Target::Keys { kind: BusKind::EventHub, primary, .. } = target else { return Ok(()) };
        let Some(parts) = endpoint::ConnectionString::parse(primary.expose()) else { return Ok(()) };
        if !matches!(self.hosts.resolve(&parts.host, None), Host::Instance(Service::EventHubs, _)) {
            return Ok(());
        }
        let refused = |message: String| Err(Fault::Refused { code: "EndpointValidationFailed", message });
        let Some(hub) = self.find_event_hub(&parts.host, &parts.entity_path).await? else {
            return refused(format!(
                "The event hub '{}' at '{}' could not be found.",
                parts.entity_path, parts.host
            ));
        };
        if self.may_send(&hub, &parts.key_name, parts.key.expose()).await? {
            return Ok(());
        }
        refused(format!("The event hub '{}' refuses the key '{}'.", parts.entity_path, parts.key_name))
    }

    /// The instance that a child belongs to. None once the parent is gone, and everything of the instance with it.
    async fn instance_of(&self, child: &Resource) -> Result<Option<InstanceId>, Fault> {
        let Some(parent) = child.id.parent_id() else { return Ok(None) };
        let parent = self.stored(&parent).await?;
        Ok(parent.and_then(|parent| match parent.record.properties {
            Properties::DigitalTwinsInstance(properties) => Some(properties.instance),
            Properties::EventHubNamespace(properties) => Some(properties.instance),
            _ => None,
        }))
    }

    /// Makes the hosts of namespaces known again, which nobody but Resource Manager registers. Called once, before `events` starts:
    /// an endpoint names its event hub by this host.
    pub async fn load(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.scan_page(store::Key::all(), after.as_ref()).await?;
            for resource in &page.items {
                if resource.id.resource_type == ResourceType::EventHubNamespace {
                    self.start_namespace(&resource.id);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn start_namespace(&self, id: &ResourceId) {
        self.hosts.register(Service::EventHubs, &id.name, "", false);
    }

    /// The host of a hub in answers and connection strings. Devices dial it on fixed ports, so it carries none.
    pub fn hub_host(&self, resource: &Resource, dialled: &Dialled) -> String {
        self.host_of(Service::Hub, resource, dialled)
    }

    /// The host of a provisioning service's own API, which is HTTPS and may carry a port.
    pub fn provisioning_service_host(&self, resource: &Resource, dialled: &Dialled) -> String {
        self.hosts.with_port(&self.host_of(Service::Provisioning, resource, dialled))
    }

    /// The host at which devices register: the global one where names of ours resolve, else the service's own.
    pub fn device_provisioning_host(&self, resource: &Resource, dialled: &Dialled) -> String {
        self.hosts.device_provisioning_host(&self.host_of(Service::Provisioning, resource, dialled))
    }

    /// The host of a Digital Twins instance in answers, with a port where ours is not the usual one.
    pub fn digital_twins_host(&self, resource: &Resource, dialled: &Dialled) -> String {
        self.hosts.with_port(&self.host_of(Service::DigitalTwins, resource, dialled))
    }

    /// What the instance's start decided. To look at a resource never starts anything.
    fn host_of(&self, service: Service, resource: &Resource, dialled: &Dialled) -> String {
        let location = resource.location.as_deref().unwrap_or_default();
        self.hosts.advertised(service, &resource.id.name, location, dialled)
    }
}

/// A service's refusal of settings that were checked here is a passing one: its store failed.
fn later(error: &dyn std::error::Error) -> Fault {
    Fault::Later(Error::Store(store::StoreError::Unavailable(error.to_string())))
}

fn service_settings(
    resource: &Resource,
    properties: &provisioning_service::Properties,
) -> provisioning::ServiceSettings {
    provisioning::ServiceSettings {
        instance: properties.instance.clone(),
        name: resource.id.name.clone(),
        scope: resource.id.scope(),
        location: resource.location.clone().unwrap_or_default(),
        id_scope: properties.id_scope.clone(),
        allocation_policy: match properties.allocation_policy {
            AllocationPolicy::Hashed => provisioning::AllocationPolicy::Hashed,
            AllocationPolicy::GeoLatency => provisioning::AllocationPolicy::GeoLatency,
            AllocationPolicy::Static => provisioning::AllocationPolicy::Static,
        },
        policies: properties.policies.iter().map(policy).collect(),
        linked_hubs: properties.linked_hubs.iter().map(linked_hub).collect(),
        // They are uploaded to the service itself, and what it has stays.
        certificates: Vec::new(),
        disable_local_auth: properties.disable_local_auth,
        public_network_access: properties.public_network_access != Some(NetworkAccess::Disabled),
        // `store::instances` decides it.
        is_default: false,
    }
}

fn twins_settings(resource: &Resource, properties: &instance::Properties) -> digital_twins::InstanceSettings {
    digital_twins::InstanceSettings {
        instance: properties.instance.clone(),
        name: resource.id.name.clone(),
        scope: resource.id.scope(),
        location: resource.location.clone().unwrap_or_default(),
        public_network_access: properties.public_network_access == NetworkAccess::Enabled,
        // `store::instances` decides it.
        is_default: false,
    }
}

fn hub_settings(resource: &Resource, properties: &iot_hub::Properties) -> hub::HubSettings {
    hub::HubSettings {
        instance: properties.instance.clone(),
        name: resource.id.name.clone(),
        scope: resource.id.scope(),
        location: resource.location.clone().unwrap_or_default(),
        policies: properties.policies.iter().map(policy).collect(),
        partition_count: properties.partition_count,
        retention_days: properties.retention_days,
        disable_local_auth: properties.disable_local_auth,
        public_network_access: properties.public_network_access != Some(NetworkAccess::Disabled),
        // `store::instances` decides it.
        is_default: false,
    }
}

fn policy(policy: &SharedAccessPolicy) -> hub::SharedAccessPolicy {
    hub::SharedAccessPolicy {
        key_name: policy.key_name.clone(),
        primary_key: policy.primary_key.clone(),
        secondary_key: policy.secondary_key.clone(),
        rights: policy.rights.clone(),
    }
}

fn linked_hub(hub: &LinkedHub) -> provisioning::LinkedHub {
    provisioning::LinkedHub {
        host_name: hub.host_name.clone(),
        hub_name: hub.hub_name.clone(),
        connection_string: hub.connection_string.clone(),
        location: hub.location.clone(),
        allocation_weight: hub.allocation_weight,
        apply_allocation_policy: hub.apply_allocation_policy,
    }
}

fn events_target(target: &Target) -> events::Target {
    match target {
        Target::Keys { kind, primary, .. } => {
            bus(*kind, events::Address::ConnectionString(ConnectionString::new(primary.expose())))
        }
        Target::Address { kind, endpoint_uri, entity_path } => {
            let (endpoint_uri, entity_path) = (endpoint_uri.clone(), entity_path.clone());
            bus(*kind, events::Address::Identity { endpoint_uri, entity_path })
        }
        Target::TopicKeys { topic_endpoint, access_key1, .. } => {
            let access_key = Some(access_key1.clone());
            events::Target::EventGrid { topic_endpoint: topic_endpoint.clone(), access_key }
        }
        Target::Topic { topic_endpoint } => {
            events::Target::EventGrid { topic_endpoint: topic_endpoint.clone(), access_key: None }
        }
    }
}

fn bus(kind: BusKind, address: events::Address) -> events::Target {
    match kind {
        BusKind::EventHub => events::Target::EventHub(address),
        BusKind::ServiceBus => events::Target::ServiceBus(address),
    }
}
