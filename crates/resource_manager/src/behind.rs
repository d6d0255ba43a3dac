//! What stands behind a resource: a hub, a provisioning service, a Digital Twins instance, an endpoint of `events`.
//! Called by the reconciler only. Every function may be called twice with the same effect.

use base::hosts::Service;

use crate::ResourceManager;
use crate::error::Error;
use crate::reconcile::Fault;
use crate::resource::{NetworkAccess, Properties, Resource};
use crate::{instance, iot_hub};

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
                self.event_hub_host(&resource.id.name);
                Ok(())
            }
            Properties::DigitalTwinsEndpoint(_)
            | Properties::ProvisioningService(_)
            | Properties::EventHub(_)
            | Properties::UserAssignedIdentity(_) => Ok(()),
        }
    }

    /// Removes what stands behind `resource`.
    pub(crate) async fn remove_behind(&self, resource: &Resource) -> Result<(), Fault> {
        match &resource.properties {
            Properties::DigitalTwinsInstance(properties) => {
                self.instances.remove(&properties.instance).await.map_err(|error| later(&error))
            }
            Properties::IotHub(properties) => {
                self.hubs.remove(&properties.instance).await.map_err(|error| later(&error))
            }
            Properties::EventHubNamespace(properties) => {
                self.hosts.forget(Service::EventHubs, &resource.id.name);
                Ok(self.store.remove_instance(&properties.instance).await?)
            }
            Properties::DigitalTwinsEndpoint(_)
            | Properties::ProvisioningService(_)
            | Properties::EventHub(_)
            | Properties::UserAssignedIdentity(_) => Ok(()),
        }
    }

    /// The host of a hub in answers and connection strings. Devices dial it on fixed ports, so it carries none.
    pub fn hub_host(&self, resource: &Resource) -> Result<String, Error> {
        let properties = iot_hub::properties(resource)?;
        let location = resource.location.as_deref().unwrap_or_default();
        Ok(self.hosts.register(Service::Hub, &resource.id.name, location, properties.is_default))
    }

    /// The host of a Digital Twins instance in answers, with a port where ours is not the usual one.
    pub fn digital_twins_host(&self, resource: &Resource) -> Result<String, Error> {
        let properties = instance::properties(resource)?;
        let location = resource.location.as_deref().unwrap_or_default();
        let host =
            self.hosts.register(Service::DigitalTwins, &resource.id.name, location, properties.is_default);
        Ok(self.hosts.with_port(&host))
    }
}

/// A service's refusal of settings that were checked here is a passing one: its store failed.
fn later(error: &dyn std::error::Error) -> Fault {
    Fault::Later(Error::Store(store::StoreError::Unavailable(error.to_string())))
}

fn twins_settings(resource: &Resource, properties: &instance::Properties) -> digital_twins::InstanceSettings {
    digital_twins::InstanceSettings {
        instance: properties.instance.clone(),
        name: resource.id.name.clone(),
        scope: resource.id.scope(),
        location: resource.location.clone().unwrap_or_default(),
        public_network_access: properties.public_network_access == NetworkAccess::Enabled,
        is_default: properties.is_default,
    }
}

fn hub_settings(resource: &Resource, properties: &iot_hub::Properties) -> hub::HubSettings {
    let policy = |policy: &crate::policy::SharedAccessPolicy| hub::SharedAccessPolicy {
        key_name: policy.key_name.clone(),
        primary_key: policy.primary_key.clone(),
        secondary_key: policy.secondary_key.clone(),
        rights: policy.rights.clone(),
    };
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
        is_default: properties.is_default,
    }
}
