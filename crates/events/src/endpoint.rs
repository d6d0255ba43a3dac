//! Where routed events of an instance go. Ensured by the resource manager once an endpoint has succeeded; the relay decides at
//! each delivery whether the target is an event hub of this server.

use std::fmt;

use base::{ConnectionString, InstanceId, Secret, Url, outbound};
use serde::{Deserialize, Serialize};
use store::{Batch, CommitError, Key, Record, Scan, StoreError, Table, table};

use crate::Events;
use crate::event_hubs::Way;
use crate::relay::ParkedEvent;
use crate::stream::store_error;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub instance: InstanceId,
    pub name: String,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    EventHub(Address),
    ServiceBus(Address),
    EventGrid { topic_endpoint: Url, access_key: Option<Secret> },
}

/// How an event hub or a topic is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// `Endpoint=sb://{host}/;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath={entity}`.
    ConnectionString(ConnectionString),
    /// `sb://{host}/` and the entity, with the instance's identity: the principal of it, or nobody once it was taken away.
    Identity { endpoint_uri: String, entity_path: String, principal_id: Option<String> },
}

impl Record for Endpoint {
    const TABLE: Table = table::ENDPOINT;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.name])
    }
}

impl Address {
    /// Host (with its port, if it has one) and entity.
    pub fn host_and_entity(&self) -> Option<(&str, &str)> {
        match self {
            Self::Identity { endpoint_uri, entity_path, .. } => Some((host(endpoint_uri)?, entity_path)),
            Self::ConnectionString(string) => Some((string.endpoint_host()?, string.entity_path()?)),
        }
    }

    fn connection_string(&self) -> ConnectionString {
        match self {
            Self::ConnectionString(string) => string.clone(),
            Self::Identity { endpoint_uri, entity_path, .. } => {
                ConnectionString::new(format!("Endpoint={endpoint_uri};EntityPath={entity_path}"))
            }
        }
    }
}

fn host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let host = rest.split('/').next().unwrap_or(rest);
    (!host.is_empty()).then_some(host)
}

impl Target {
    /// The way there for an adapter, once the target turns out to be on no event hub of this server.
    pub(crate) fn address(&self) -> outbound::Address {
        match self {
            Self::EventHub(address) => outbound::Address::EventHub(address.connection_string()),
            Self::ServiceBus(address) => outbound::Address::ServiceBus(address.connection_string()),
            Self::EventGrid { topic_endpoint, access_key } => {
                outbound::Address::EventGrid { topic: topic_endpoint.clone(), access_key: access_key.clone() }
            }
        }
    }
}

/// For the log: no secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.name)
    }
}

impl Events {
    /// Creates an endpoint or changes where it leads, provided that what `batch` demands holds. Safe to repeat.
    pub async fn ensure_endpoint(&self, endpoint: &Endpoint, mut batch: Batch) -> Result<(), CommitError> {
        batch.put(endpoint);
        self.context().store.commit(batch).await?;
        self.0.retry.notify_one();
        Ok(())
    }

    /// Forgets an endpoint with the events that wait for it. Safe to repeat.
    pub async fn remove_endpoint(&self, instance: &InstanceId, name: &str) -> Result<(), StoreError> {
        let store = &self.context().store;
        let prefix = Key::new([instance.as_str(), name]);
        let mut batch = Batch::default();
        batch.remove::<Endpoint>(prefix.clone());
        store.commit(batch).await.map_err(store_error)?;
        loop {
            let scan = Scan::new(prefix.clone(), base::caps::PURGE_ROWS_MAX);
            let waiting = store.scan::<ParkedEvent>(scan).await?;
            if waiting.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::default();
            for parked in &waiting {
                batch.remove::<ParkedEvent>(parked.record.key());
            }
            store.commit(batch).await.map_err(store_error)?;
        }
    }

    pub async fn endpoint(&self, instance: &InstanceId, name: &str) -> Result<Option<Endpoint>, StoreError> {
        let key = Key::new([instance.as_str(), name]);
        Ok(self.context().store.get::<Endpoint>(&key).await?.map(|stored| stored.record))
    }

    /// Where an endpoint's events go now, and whether they may.
    pub(crate) async fn way(&self, target: &Target) -> Result<Way, StoreError> {
        match target {
            Target::EventHub(address) => self.context().event_hubs.way(address).await,
            Target::ServiceBus(_) | Target::EventGrid { .. } => Ok(Way::Elsewhere),
        }
    }
}
