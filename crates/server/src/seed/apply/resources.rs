//! Hubs, provisioning services, Digital Twins instances, event hub namespaces and storage accounts, through Resource Manager.

use base::Secret;
use base::hosts::Service as Named;
use resource_manager::event_hub::{self, EventHubRequest};
use resource_manager::identity::IdentityRequest;
use resource_manager::provisioning_service::{self, AllocationPolicy, LinkedHubRequest};
use resource_manager::resource::Preconditions;
use resource_manager::{
    Accepted, Resource, ResourceType, instance as twins_instance, iot_hub, location, storage_account,
};

use super::{Ground, Outcome, caller};
use crate::Failure;
use crate::seed::entries::digital_twins::Instance;
use crate::seed::entries::hubs::Hub;
use crate::seed::entries::provisioning::Service;
use crate::seed::entries::resources::{Container, EventHub, Namespace, Place, StorageAccount};

const LOCATION: &str = "eastus";

impl Place {
    fn of_new(&self) -> String {
        self.location.clone().unwrap_or_else(|| LOCATION.to_owned())
    }

    fn differs(&self, resource: &Resource) -> bool {
        let now = resource.location.as_deref().unwrap_or_default();
        let is_moved = |wanted: &String| location::normalise(wanted) != location::normalise(now);
        let is_tagged = |wanted| Some(wanted) != resource.tags.as_ref();
        self.location.as_ref().is_some_and(is_moved) || self.tags.as_ref().is_some_and(is_tagged)
    }

    /// Where `resource` shall be. What is elsewhere is refused, since nothing can be moved.
    fn of_old(&self, resource: &Resource) -> Option<String> {
        self.location.clone().or_else(|| resource.location.clone())
    }

    fn tags(&self, resource: &Resource) -> Option<resource_manager::resource::Tags> {
        self.tags.clone().or_else(|| resource.tags.clone())
    }
}

/// A PUT takes an identity away that it does not name.
fn same_identity(resource: &Resource) -> Option<IdentityRequest> {
    let identity = resource.identity.as_ref()?;
    Some(IdentityRequest {
        has_system: identity.system.is_some(),
        has_users: !identity.users.is_empty(),
        users: identity.users.keys().map(|id| (id.clone(), true)).collect(),
    })
}

async fn finish(ground: &Ground, accepted: &Accepted, outcome: Outcome) -> Result<Outcome, Failure> {
    ground.manager.finish_accepted(accepted).await?;
    Ok(outcome)
}

fn is_other<T: PartialEq>(wanted: Option<&T>, now: &T) -> bool {
    wanted.is_some_and(|wanted| wanted != now)
}

pub(super) async fn hub(ground: &Ground, hub: &Hub) -> Result<Outcome, Failure> {
    let id = ground.id(ResourceType::IotHub, &hub.name);
    let properties = iot_hub::PropertiesRequest {
        sku_name: hub.sku.clone(),
        sku_capacity: hub.units,
        partition_count: hub.partitions,
        retention_days: hub.retention_days,
        ..iot_hub::PropertiesRequest::default()
    };
    let (put, outcome) = match ground.find(&id).await? {
        None => {
            let sku_name = properties.sku_name.clone().or_else(|| Some("S1".to_owned()));
            let properties = iot_hub::PropertiesRequest { sku_name, ..properties };
            let (location, tags) = (Some(hub.place.of_new()), hub.place.tags.clone());
            (iot_hub::Put { location, tags, properties, ..iot_hub::Put::default() }, Outcome::Made)
        }
        Some(old) => {
            let now = iot_hub::properties(&old)?;
            let is_sku = hub.sku.as_ref().is_none_or(|sku| sku.eq_ignore_ascii_case(&now.sku.name));
            let differs = !is_sku
                || is_other(hub.units.as_ref(), &now.sku.capacity)
                || is_other(hub.partitions.as_ref(), &now.partition_count)
                || is_other(hub.retention_days.as_ref(), &now.retention_days)
                || hub.place.differs(&old);
            if !differs {
                return Ok(Outcome::Kept);
            }
            let properties = iot_hub::PropertiesRequest {
                public_network_access: now.public_network_access,
                disable_local_auth: Some(now.disable_local_auth),
                sections: now.sections.clone(),
                ..properties
            };
            let (location, tags) = (hub.place.of_old(&old), hub.place.tags(&old));
            let identity = same_identity(&old);
            (
                iot_hub::Put { location, tags, identity, properties, ..iot_hub::Put::default() },
                Outcome::Changed,
            )
        }
    };
    finish(ground, &ground.manager.put_iot_hub(&caller(), &id, &put).await?, outcome).await
}

pub(super) async fn service(ground: &Ground, service: &Service) -> Result<Outcome, Failure> {
    let id = ground.id(ResourceType::ProvisioningService, &service.name);
    let wanted = service.allocation_policy.and_then(|policy| AllocationPolicy::parse(policy.name()));
    let old = ground.find(&id).await?;
    let before = old.as_ref().map(provisioning_service::properties).transpose()?;
    let known = before.map(|before| before.linked_hubs.as_slice()).unwrap_or_default();
    let mut links: Vec<LinkedHubRequest> = known.iter().map(same_link).collect();
    for hub in &service.linked_hubs {
        if !known.iter().any(|link| link.hub_name.eq_ignore_ascii_case(hub)) {
            links.push(link(ground, hub).await?);
        }
    }
    let mut properties = provisioning_service::PropertiesRequest {
        allocation_policy: wanted,
        ..provisioning_service::PropertiesRequest::default()
    };
    let (put, outcome) = if let (Some(old), Some(now)) = (&old, before) {
        let differs = links.len() != known.len()
            || is_other(wanted.as_ref(), &now.allocation_policy)
            || service.place.differs(old);
        if !differs {
            return Ok(Outcome::Kept);
        }
        properties.allocation_policy = wanted.or(Some(now.allocation_policy));
        properties.public_network_access = now.public_network_access;
        properties.disable_local_auth = Some(now.disable_local_auth);
        properties.sections = now.sections.clone();
        let (location, tags) = (service.place.of_old(old), service.place.tags(old));
        let identity = same_identity(old);
        (provisioning_service::Put { location, tags, identity, ..Default::default() }, Outcome::Changed)
    } else {
        let (location, tags) = (Some(service.place.of_new()), service.place.tags.clone());
        (provisioning_service::Put { location, tags, ..Default::default() }, Outcome::Made)
    };
    properties.linked_hubs = links;
    let put = provisioning_service::Put { properties, ..put };
    finish(ground, &ground.manager.put_provisioning_service(&caller(), &id, &put).await?, outcome).await
}

fn same_link(link: &provisioning_service::LinkedHub) -> LinkedHubRequest {
    LinkedHubRequest {
        connection_string: link.connection_string.clone(),
        location: Some(link.location.clone()),
        allocation_weight: link.allocation_weight,
        apply_allocation_policy: link.apply_allocation_policy,
    }
}

async fn link(ground: &Ground, hub: &str) -> Result<LinkedHubRequest, Failure> {
    let id = ground.id(ResourceType::IotHub, hub);
    let resource = ground.find(&id).await?.ok_or_else(|| format!("there is no hub \"{hub}\" to link"))?;
    let owner = ground.manager.shared_access_policy(&caller(), &id, "iothubowner").await?;
    // By name: it is stored, and addresses change with the settings of the server.
    let host = ground.manager.hosts().canonical(Named::Hub, &resource.id.name, "");
    Ok(LinkedHubRequest {
        connection_string: Secret::new(owner.connection_string(&host).expose()),
        location: resource.location,
        ..LinkedHubRequest::default()
    })
}

pub(super) async fn instance(ground: &Ground, instance: &Instance) -> Result<Outcome, Failure> {
    let (id, place) = (ground.id(ResourceType::DigitalTwinsInstance, &instance.name), &instance.place);
    let Some(old) = ground.find(&id).await? else {
        let (location, tags) = (Some(place.of_new()), place.tags.clone());
        let put = twins_instance::Put { location, tags, ..twins_instance::Put::default() };
        let accepted = ground.manager.put_digital_twins_instance(&caller(), &id, &put).await?;
        return finish(ground, &accepted, Outcome::Made).await;
    };
    if !place.differs(&old) {
        return Ok(Outcome::Kept);
    }
    let now = twins_instance::properties(&old)?;
    let put = twins_instance::Put {
        location: place.of_old(&old),
        tags: place.tags(&old),
        identity: same_identity(&old),
        public_network_access: Some(now.public_network_access),
        ..twins_instance::Put::default()
    };
    let accepted = ground.manager.put_digital_twins_instance(&caller(), &id, &put).await?;
    finish(ground, &accepted, Outcome::Changed).await
}

pub(super) async fn namespace(ground: &Ground, namespace: &Namespace) -> Result<Outcome, Failure> {
    let (id, place) = (ground.id(ResourceType::EventHubNamespace, &namespace.name), &namespace.place);
    let old = ground.find(&id).await?;
    let mut outcome = match &old {
        None => Outcome::Made,
        Some(old) if place.differs(old) => Outcome::Changed,
        Some(_) => Outcome::Kept,
    };
    if outcome != Outcome::Kept {
        let location = old.as_ref().map_or_else(|| Some(place.of_new()), |old| place.of_old(old));
        let tags = old.as_ref().map_or_else(|| place.tags.clone(), |old| place.tags(old));
        let (manager, any) = (&ground.manager, Preconditions::default());
        let accepted =
            manager.put_event_hub_namespace(&caller(), &id, location.as_deref(), tags.as_ref(), &any).await?;
        finish(ground, &accepted, outcome).await?;
    }
    for event_hub in &namespace.event_hubs {
        let made = self::event_hub(ground, &id, &event_hub.what).await;
        outcome = outcome.and(made.map_err(|error| format!("{}: {error}", event_hub.name))?);
    }
    Ok(outcome)
}

async fn event_hub(
    ground: &Ground,
    namespace: &resource_manager::ResourceId,
    event_hub: &EventHub,
) -> Result<Outcome, Failure> {
    let id = namespace.child(ResourceType::EventHub, &event_hub.name);
    let outcome = match ground.find(&id).await? {
        None => Outcome::Made,
        Some(old) => {
            let now = event_hub::event_hub(&old)?;
            let differs = is_other(event_hub.partitions.as_ref(), &now.partition_count)
                || is_other(event_hub.retention_days.as_ref(), &now.retention_days);
            if !differs {
                return Ok(Outcome::Kept);
            }
            Outcome::Changed
        }
    };
    let request =
        EventHubRequest { partition_count: event_hub.partitions, retention_days: event_hub.retention_days };
    let accepted = ground.manager.put_event_hub(&caller(), &id, &request, &Preconditions::default()).await?;
    finish(ground, &accepted, outcome).await
}

pub(super) async fn account(ground: &Ground, account: &StorageAccount) -> Result<Outcome, Failure> {
    let (id, place) = (ground.id(ResourceType::StorageAccount, &account.name), &account.place);
    let mut outcome = match ground.find(&id).await? {
        None => {
            let (location, tags) = (Some(place.of_new()), place.tags.clone());
            let put = storage_account::Put { location, tags, sku: account.sku.clone(), ..Default::default() };
            finish(ground, &ground.manager.put_storage_account(&caller(), &id, &put).await?, Outcome::Made)
                .await?
        }
        Some(old) => {
            let now = storage_account::properties(&old)?;
            if place.differs(&old) || is_other(account.sku.as_ref(), &now.sku) {
                let (location, tags) = (place.of_old(&old), place.tags(&old));
                let put =
                    storage_account::Put { location, tags, sku: account.sku.clone(), ..Default::default() };
                let accepted = ground.manager.put_storage_account(&caller(), &id, &put).await?;
                finish(ground, &accepted, Outcome::Changed).await?
            } else {
                Outcome::Kept
            }
        }
    };
    for container in &account.containers {
        let made = self::container(ground, &account.name, &container.what).await;
        outcome = outcome.and(made.map_err(|error| format!("{}: {error}", container.name))?);
    }
    Ok(outcome)
}

async fn container(ground: &Ground, account: &str, container: &Container) -> Result<Outcome, Failure> {
    let account =
        ground.accounts.find(account).ok_or_else(|| format!("there is no storage account \"{account}\""))?;
    let (key, name) = (storage::Caller::Key, &container.name);
    match account.get_container(&key, name).await {
        Ok(_) => Ok(Outcome::Kept),
        Err(storage::Error::ContainerNotFound) => {
            account.create_container(&key, name, storage::Metadata::default()).await?;
            Ok(Outcome::Made)
        }
        Err(error) => Err(error.into()),
    }
}
