//! What stands behind a resource: a hub, a provisioning service, a Digital Twins instance, an endpoint of `events`.
//! Called by the reconciler only. Every function may be called twice with the same effect.

use access::CaCertificates;
use base::ConnectionString;
use base::hosts::{Dialled, Service};
use events::Way;
use hub::consumer_group::ConsumerGroups;
use store::{Batch, retry_on_conflict};

use crate::ResourceManager;
use crate::endpoint::{self, BusKind, Target};
use crate::error::Error;
use crate::provider::ResourceType;
use crate::provisioning_service::{AllocationPolicy, LinkedHub};
use crate::reconcile::Fault;
use crate::resource::{NetworkAccess, Properties, ProvisioningState, Resource};
use crate::{event_hub, instance, iot_hub, provisioning_service};

impl ResourceManager {
    /// Brings what stands behind `resource` to what the resource says.
    pub(crate) async fn ensure_behind(&self, resource: &Resource) -> Result<(), Fault> {
        match &resource.properties {
            Properties::DigitalTwinsInstance(properties) => {
                let ensured = self.instances.ensure(twins_settings(resource, properties)).await;
                ensured.map_err(|error| later(&error))?;
                self.tell_identity_to_endpoints(resource).await
            }
            Properties::IotHub(properties) => {
                let ensured = self.hubs.ensure(hub_settings(resource, properties)).await;
                ensured.map(|_| ()).map_err(|error| later(&error))
            }
            Properties::EventHubNamespace(properties) => {
                let (instance, id) = (properties.instance.clone(), &resource.id);
                let settings = event_hubs::NamespaceSettings::new(instance, &id.name, id.scope());
                let ensured = self.event_hubs.ensure(settings).await;
                ensured.map(|_| ()).map_err(|error| later(&error))
            }
            Properties::StorageAccount(properties) => {
                let (instance, id) = (properties.instance.clone(), &resource.id);
                // Names are checked by the same rule when they come in.
                let name = id.name.parse().map_err(|error: storage::InvalidName| later(&error))?;
                let settings = storage::AccountSettings::new(instance, name, id.scope(), properties.created);
                let ensured = self.accounts.ensure(settings).await;
                ensured.map(|_| ()).map_err(|error| later(&error))
            }
            Properties::ProvisioningService(properties) => {
                let ensured = self.services.ensure(service_settings(resource, properties)).await;
                ensured.map(|_| ()).map_err(|error| later(&error))
            }
            Properties::DigitalTwinsEndpoint(properties) => self.ensure_endpoint(resource, properties).await,
            Properties::EventHub(properties) => {
                let Some(namespace) = self.namespace_of(resource).await? else { return Ok(()) };
                let (partitions, days) = (properties.partition_count, properties.retention_days);
                let ensured = namespace.ensure_event_hub(&resource.id.name, partitions, days).await;
                ensured.map_err(|error| later(&error))
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
                Ok(self.event_hubs.remove(&properties.instance).await?)
            }
            Properties::StorageAccount(properties) => Ok(self.accounts.remove(&properties.instance).await?),
            Properties::ProvisioningService(properties) => {
                Ok(self.services.remove(&properties.instance).await?)
            }
            Properties::DigitalTwinsEndpoint(_) => {
                let Some(parent) = self.parent_resource(resource).await? else { return Ok(()) };
                let instance = &instance::properties(&parent)?.instance;
                Ok(self.events.remove_endpoint(instance, &resource.id.name).await?)
            }
            Properties::EventHub(_) => {
                let Some(namespace) = self.namespace_of(resource).await? else { return Ok(()) };
                namespace.remove_event_hub(&resource.id.name).await.map_err(|error| later(&error))
            }
            Properties::UserAssignedIdentity(_) => Ok(()),
        }
    }

    /// Tells `events` where an endpoint leads. A key for an event hub of this server is tried first: what is refused now would
    /// be refused at every event.
    async fn ensure_endpoint(
        &self,
        resource: &Resource,
        properties: &endpoint::Properties,
    ) -> Result<(), Fault> {
        let Some(endpoint) = self.endpoint_of(resource, properties).await? else { return Ok(()) };
        if let events::Target::EventHub(address @ events::Address::ConnectionString(_)) = &endpoint.target
            && let Way::Closed(message) = self.event_hubs.kind().gate.way(address).await?
        {
            return Err(Fault::Refused { code: "EndpointValidationFailed", message });
        }
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

    /// An endpoint as `events` knows it. None once its instance is gone.
    async fn endpoint_of(
        &self,
        resource: &Resource,
        properties: &endpoint::Properties,
    ) -> Result<Option<events::Endpoint>, Error> {
        let Some(parent) = self.parent_resource(resource).await? else { return Ok(None) };
        let principal_id = endpoint::principal_id(properties, parent.identity.as_ref());
        let target = events_target(&properties.target, principal_id);
        let instance = instance::properties(&parent)?.instance.clone();
        Ok(Some(events::Endpoint { instance, name: resource.id.name.clone(), target }))
    }

    /// The endpoints that stand on an instance's identity follow it.
    async fn tell_identity_to_endpoints(&self, instance: &Resource) -> Result<(), Fault> {
        let key = instance.id.children_key(ResourceType::DigitalTwinsEndpoint);
        for resource in self.scan_page(key, None).await?.items {
            let properties = endpoint::properties(&resource)?;
            let is_told =
                self.events.endpoint(&instance::properties(instance)?.instance, &resource.id.name).await?;
            let is_by_identity =
                properties.target.authentication_type() == endpoint::AuthenticationType::IdentityBased;
            if is_told.is_some() && is_by_identity {
                self.ensure_endpoint(&resource, properties).await?;
            }
        }
        Ok(())
    }

    /// A resource as it is shown: an endpoint that its event hub keeps out says so, as soon as that is so.
    pub(crate) async fn shown(&self, resource: Resource) -> Result<Resource, Error> {
        let Properties::DigitalTwinsEndpoint(properties) = &resource.properties else { return Ok(resource) };
        if resource.provisioning_state != ProvisioningState::Succeeded {
            return Ok(resource);
        }
        let endpoint = self.endpoint_of(&resource, properties).await?;
        let Some(events::Target::EventHub(address)) = endpoint.map(|endpoint| endpoint.target) else {
            return Ok(resource);
        };
        match self.event_hubs.kind().gate.way(&address).await? {
            Way::Closed(_) => Ok(Resource { provisioning_state: ProvisioningState::Disabled, ..resource }),
            Way::Open { .. } | Way::Elsewhere => Ok(resource),
        }
    }

    async fn parent_resource(&self, child: &Resource) -> Result<Option<Resource>, Error> {
        let Some(parent) = child.id.parent_id() else { return Ok(None) };
        Ok(self.stored(&parent).await?.map(|parent| parent.record))
    }

    /// The namespace of an event hub. None once it is gone, and everything in it with it.
    async fn namespace_of(&self, event_hub: &Resource) -> Result<Option<event_hubs::Namespace>, Error> {
        let Some(parent) = self.parent_resource(event_hub).await? else { return Ok(None) };
        Ok(self.event_hubs.get_now(&event_hub::namespace(&parent)?.instance).await?)
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
        policies: properties.policies.clone(),
        linked_hubs: properties.linked_hubs.iter().map(linked_hub).collect(),
        // They are uploaded to the service itself, and what it has stays.
        certificates: CaCertificates::default(),
        disable_local_auth: properties.disable_local_auth,
        public_network_access: properties.public_network_access != Some(NetworkAccess::Disabled),
        ip_filter: properties.ip_filter(),
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
        policies: properties.policies.clone(),
        partition_count: properties.partition_count,
        retention_days: properties.retention_days,
        certificates: CaCertificates::default(),
        disable_local_auth: properties.disable_local_auth,
        public_network_access: properties.public_network_access != Some(NetworkAccess::Disabled),
        ip_filter: properties.ip_filter(),
        cloud_to_device: properties.cloud_to_device(),
        // They are made at the hub itself, and what it has stays.
        consumer_groups: ConsumerGroups::default(),
        file_upload: properties.file_upload(),
        // `store::instances` keeps what the hub has counted.
        configurations: 0,
        // `store::instances` decides it.
        is_default: false,
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

fn events_target(target: &Target, principal_id: Option<String>) -> events::Target {
    match target {
        Target::Keys { kind, primary, .. } => {
            bus(*kind, events::Address::ConnectionString(ConnectionString::new(primary.expose())))
        }
        Target::Address { kind, endpoint_uri, entity_path } => {
            let (endpoint_uri, entity_path) = (endpoint_uri.clone(), entity_path.clone());
            bus(*kind, events::Address::Identity { endpoint_uri, entity_path, principal_id })
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
