//! Private endpoint connections of Digital Twins instances, hubs and provisioning services, and what they may connect to.
//! Called by the Resource Manager door. Nothing of a network stands behind them: they are kept, shown, approved and removed.

use access::Caller;
use store::{Batch, Stored, retry_on_conflict};

pub use self::record::{LinkState, LinkStatus, PrivateEndpointConnection};
pub use self::rules::ConnectionRequest;
pub(crate) use self::rules::put;
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::operation::Work;
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, Preconditions, Properties, Resource};

mod record;
mod rules;

/// The operations for which a role may hold the right.
#[derive(Clone, Copy)]
enum Action {
    ReadLink,
    Read,
    Write,
    Delete,
}

impl Action {
    /// As the type's provider names it.
    fn name(self, resource_type: ResourceType) -> &'static str {
        match (resource_type, self) {
            (ResourceType::IotHub, Self::ReadLink) => "Microsoft.Devices/iotHubs/privateLinkResources/Read",
            (ResourceType::IotHub, Self::Read) => "Microsoft.Devices/iotHubs/privateEndpointConnections/Read",
            (ResourceType::IotHub, Self::Write) => {
                "Microsoft.Devices/iotHubs/privateEndpointConnections/Write"
            }
            (ResourceType::IotHub, Self::Delete) => {
                "Microsoft.Devices/iotHubs/privateEndpointConnections/Delete"
            }
            (ResourceType::ProvisioningService, Self::ReadLink) => {
                "Microsoft.Devices/provisioningServices/privateLinkResources/Read"
            }
            (ResourceType::ProvisioningService, Self::Read) => {
                "Microsoft.Devices/provisioningServices/privateEndpointConnections/Read"
            }
            (ResourceType::ProvisioningService, Self::Write) => {
                "Microsoft.Devices/provisioningServices/privateEndpointConnections/Write"
            }
            (ResourceType::ProvisioningService, Self::Delete) => {
                "Microsoft.Devices/provisioningServices/privateEndpointConnections/Delete"
            }
            (_, Self::ReadLink) => "Microsoft.DigitalTwins/digitalTwinsInstances/privateLinkResources/read",
            (_, Self::Read) => "Microsoft.DigitalTwins/digitalTwinsInstances/privateEndpointConnections/read",
            (_, Self::Write) => {
                "Microsoft.DigitalTwins/digitalTwinsInstances/privateEndpointConnections/write"
            }
            (_, Self::Delete) => {
                "Microsoft.DigitalTwins/digitalTwinsInstances/privateEndpointConnections/delete"
            }
        }
    }
}

impl ResourceManager {
    /// `PrivateLinkResources_List` and `_Get`: the resource, as it was first written, has one to offer.
    pub async fn private_link(&self, caller: &Caller, id: &ResourceId) -> Result<ResourceId, Error> {
        self.allow(caller, Action::ReadLink.name(id.resource_type), &id.scope(), &id.group.subscription)
            .await?;
        Ok(self.must_get(id).await?.id)
    }

    /// `PrivateEndpointConnections_List`.
    pub async fn private_endpoint_connections(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<PrivateEndpointConnection>, Error> {
        self.allow(caller, Action::Read.name(id.resource_type), &id.scope(), &id.group.subscription).await?;
        Ok(connections(&self.must_get(id).await?)?.to_vec())
    }

    /// `PrivateEndpointConnections_Get`.
    pub async fn private_endpoint_connection(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<PrivateEndpointConnection, Error> {
        self.allow(caller, Action::Read.name(id.resource_type), &id.scope(), &id.group.subscription).await?;
        find_connection(&self.must_get(id).await?, name).ok_or_else(|| connection_not_found(id, name))
    }

    /// `PrivateEndpointConnections_CreateOrUpdate`: changes the state of a connection that is there.
    pub async fn put_private_endpoint_connection(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
        state: &LinkState,
        preconditions: &Preconditions,
    ) -> Result<Accepted, Error> {
        self.allow(caller, Action::Write.name(id.resource_type), &id.scope(), &id.group.subscription).await?;
        self.change_connection(id, name, |connection| {
            preconditions.check(Some(None))?;
            let now = self.clock.now();
            connection.system_data = resource::system_data(Some(&connection.system_data), caller, now);
            Ok(Work::UpdateConnection { name: connection.name.clone(), state: state.clone() })
        })
        .await?
        .ok_or_else(|| connection_not_found(id, name))
    }

    /// `PrivateEndpointConnections_Delete`; `None` when there is nothing to delete.
    pub async fn delete_private_endpoint_connection(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<Option<Accepted>, Error> {
        self.allow(caller, Action::Delete.name(id.resource_type), &id.scope(), &id.group.subscription)
            .await?;
        self.change_connection(id, name, |connection| {
            let now = self.clock.now();
            connection.system_data = resource::system_data(Some(&connection.system_data), caller, now);
            connection.is_being_deleted = true;
            Ok(Work::DeleteConnection { name: connection.name.clone() })
        })
        .await
    }

    async fn change_connection(
        &self,
        id: &ResourceId,
        name: &str,
        change: impl Fn(&mut PrivateEndpointConnection) -> Result<Work, Error>,
    ) -> Result<Option<Accepted>, Error> {
        retry_on_conflict(async || {
            let old: Stored<Resource> = self.open_for_update(id).await?;
            let mut next = old.record.clone();
            next.version = resource::next_version(Some(&old.record), self.clock.now());
            let connections = connections_mut(&mut next)?;
            let found = connections.iter_mut().find(|known| known.name.eq_ignore_ascii_case(name));
            let Some(connection) = found else { return Ok(None) };
            let work = change(connection)?;
            self.accept(Some(&old), next, work, Batch::default()).await.map(Some)
        })
        .await
    }
}

fn connections(resource: &Resource) -> Result<&[PrivateEndpointConnection], Error> {
    match &resource.properties {
        Properties::DigitalTwinsInstance(properties) => Ok(&properties.connections),
        Properties::IotHub(properties) => Ok(&properties.connections),
        Properties::ProvisioningService(properties) => Ok(&properties.connections),
        _ => Err(resource::damaged(&resource.id)),
    }
}

pub(crate) fn connections_mut(resource: &mut Resource) -> Result<&mut Vec<PrivateEndpointConnection>, Error> {
    match &mut resource.properties {
        Properties::DigitalTwinsInstance(properties) => Ok(&mut properties.connections),
        Properties::IotHub(properties) => Ok(&mut properties.connections),
        Properties::ProvisioningService(properties) => Ok(&mut properties.connections),
        _ => Err(resource::damaged(&resource.id)),
    }
}

fn find_connection(resource: &Resource, name: &str) -> Option<PrivateEndpointConnection> {
    connections(resource).ok()?.iter().find(|known| known.name.eq_ignore_ascii_case(name)).cloned()
}

fn connection_not_found(id: &ResourceId, name: &str) -> Error {
    let path = format!("{}/privateEndpointConnections/{name}", id.relative());
    Error::ResourceNotFound(path, id.group.name.clone())
}
