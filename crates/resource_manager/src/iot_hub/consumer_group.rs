//! Consumer groups of a hub's built-in endpoint, as Resource Manager lists and makes them (`iothub-service.md` §15). The hub keeps
//! them; here is who may touch them.

use access::Caller;
use hub::consumer_group::{self, ConsumerGroup, ConsumerGroupError, ConsumerGroups};

use super::properties;
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::resource::{Preconditions, Resource};

/// The built-in endpoint, the only one that has consumer groups.
const EVENTS: &str = "events";

const READ: &str = "Microsoft.Devices/iotHubs/eventHubEndpoints/consumerGroups/Read";
const WRITE: &str = "Microsoft.Devices/iotHubs/eventHubEndpoints/consumerGroups/Write";
const DELETE: &str = "Microsoft.Devices/iotHubs/eventHubEndpoints/consumerGroups/Delete";

impl ResourceManager {
    /// `IotHubResource_ListEventHubConsumerGroups`.
    pub async fn consumer_groups(
        &self,
        caller: &Caller,
        id: &ResourceId,
        endpoint: &str,
    ) -> Result<Vec<ConsumerGroup>, Error> {
        let resource = self.with_consumer_groups(caller, READ, id, endpoint).await?;
        let made = self.hub_of(&resource).await?.settings().consumer_groups.clone();
        Ok(std::iter::once(default_of(&resource)?).chain(made.iter().cloned()).collect())
    }

    /// `IotHubResource_GetEventHubConsumerGroup`.
    pub async fn consumer_group(
        &self,
        caller: &Caller,
        id: &ResourceId,
        endpoint: &str,
        name: &str,
    ) -> Result<ConsumerGroup, Error> {
        let groups = self.consumer_groups(caller, id, endpoint).await?;
        let found = groups.into_iter().find(|known| known.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| not_found(id, endpoint, name))
    }

    /// `IotHubResource_CreateEventHubConsumerGroup`. One that is there stays as it is; it has no etag.
    pub async fn put_consumer_group(
        &self,
        caller: &Caller,
        id: &ResourceId,
        (endpoint, name): (&str, &str),
        preconditions: &Preconditions,
    ) -> Result<ConsumerGroup, Error> {
        let resource = self.with_consumer_groups(caller, WRITE, id, endpoint).await?;
        let hub = self.hub_of(&resource).await?;
        let put = |all: &mut ConsumerGroups, now| match preconditions.check(all.has(name).then_some(None)) {
            Ok(()) => all.put(name, now).map(Ok),
            Err(refused) => Ok(Err(refused)),
        };
        let made = hub.change_consumer_groups(put).await;
        made.map_err(|error| refused(id, error))??.map_or_else(|| default_of(&resource), Ok)
    }

    /// `IotHubResource_DeleteEventHubConsumerGroup`.
    pub async fn delete_consumer_group(
        &self,
        caller: &Caller,
        id: &ResourceId,
        endpoint: &str,
        name: &str,
    ) -> Result<(), Error> {
        let resource = self.with_consumer_groups(caller, DELETE, id, endpoint).await?;
        let hub = self.hub_of(&resource).await?;
        let existed = hub.change_consumer_groups(|all, _| all.remove(name)).await;
        if existed.map_err(|error| refused(id, error))? { Ok(()) } else { Err(not_found(id, endpoint, name)) }
    }

    async fn with_consumer_groups(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &ResourceId,
        endpoint: &str,
    ) -> Result<Resource, Error> {
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        let resource = self.must_get(id).await?;
        if endpoint.eq_ignore_ascii_case(EVENTS) {
            return Ok(resource);
        }
        let path = format!("{}/eventHubEndpoints/{endpoint}", id.relative());
        Err(Error::ResourceNotFound(path, id.group.name.clone()))
    }
}

/// It is as old as its hub.
fn default_of(resource: &Resource) -> Result<ConsumerGroup, Error> {
    Ok(ConsumerGroup { name: consumer_group::DEFAULT.to_owned(), created: properties(resource)?.created })
}

fn not_found(id: &ResourceId, endpoint: &str, name: &str) -> Error {
    let path = format!("{}/eventHubEndpoints/{endpoint}/ConsumerGroups/{name}", id.relative());
    Error::ResourceNotFound(path, id.group.name.clone())
}

fn refused(id: &ResourceId, error: ConsumerGroupError) -> Error {
    use ConsumerGroupError as Of;
    match error {
        Of::InvalidName(_) | Of::DefaultStays => Error::BadRequest(error.to_string()),
        Of::TooMany => Error::QuotaExceeded(error.to_string()),
        Of::Gone => Error::not_found(id),
        Of::Conflict => Error::WrittenMeanwhile,
        Of::Store(error) => Error::Store(error),
    }
}
