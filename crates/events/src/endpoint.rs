//! Where routed events of an instance go. Ensured by the resource manager once an endpoint has succeeded; the relay decides at
//! each delivery whether the target is an event hub of this server.

use std::fmt;

use base::hosts::{Host, Service};
use base::{InstanceId, Secret};
use serde::{Deserialize, Serialize};
use store::{Batch, Key, Record, Scan, StoreError, Table, table};

use crate::Events;
use crate::relay::ParkedEvent;
use crate::stream::{EventStream, store_error};

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
    EventGrid { topic_endpoint: String, access_key: Option<Secret> },
}

/// How an event hub or a topic is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// `Endpoint=sb://{host}/;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath={entity}`.
    ConnectionString(Secret),
    /// `sb://{host}/` and the entity, with the instance's identity.
    Identity { endpoint_uri: String, entity_path: String },
}

impl Record for Endpoint {
    const TABLE: Table = table::ENDPOINT;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.name])
    }
}

impl Address {
    /// Host (with its port, if it has one) and entity.
    pub fn host_and_entity(&self) -> Option<(&str, &str)> {
        match self {
            Self::Identity { endpoint_uri, entity_path } => Some((host(endpoint_uri)?, entity_path)),
            Self::ConnectionString(text) => {
                let field = |name: &str| {
                    let fields = text.expose().split(';').filter_map(|field| field.split_once('='));
                    let mut named = fields.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                    named.next().map(|(_, value)| value.trim())
                };
                Some((host(field("Endpoint")?)?, field("EntityPath")?))
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
    /// What an adapter of another server needs to get there. Holds secrets: for the outbound trait alone.
    pub(crate) fn address(&self) -> String {
        let bus = |kind: &str, address: &Address| match address {
            Address::ConnectionString(text) => format!("{kind}:{}", text.expose()),
            Address::Identity { endpoint_uri, entity_path } => {
                format!("{kind}:Endpoint={endpoint_uri};EntityPath={entity_path}")
            }
        };
        match self {
            Self::EventHub(address) => bus("eventhub", address),
            Self::ServiceBus(address) => bus("servicebus", address),
            Self::EventGrid { topic_endpoint, access_key } => {
                let key = access_key.as_ref().map_or("", Secret::expose);
                format!("eventgrid:TopicEndpoint={topic_endpoint};AccessKey={key}")
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
    /// Creates an endpoint or changes where it leads. Safe to repeat.
    pub async fn ensure_endpoint(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(endpoint);
        self.context().store.commit(batch).await.map_err(store_error)?;
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

    /// The event hub of this server that an endpoint names, if it does and the event hub is there.
    pub(crate) fn own_event_hub(&self, target: &Target) -> Option<EventStream> {
        let Target::EventHub(address) = target else { return None };
        let (host, entity) = address.host_and_entity()?;
        match self.context().hosts.resolve(host, None) {
            Host::Instance(Service::EventHubs, namespace) => self.event_hub(&namespace, entity),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(text: &str) -> Option<(String, String)> {
        let address = Address::ConnectionString(Secret::new(text));
        address.host_and_entity().map(|(host, entity)| (host.to_owned(), entity.to_owned()))
    }

    #[test]
    fn a_connection_string_names_host_and_entity() {
        let text = "Endpoint=sb://ns.servicebus.localhost:5671/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";
        assert_eq!(connection(text), Some(("ns.servicebus.localhost:5671".into(), "e".into())));
        assert_eq!(connection("entitypath=e;endpoint=sb://h"), Some(("h".into(), "e".into())));
        for incomplete in [
            "",
            "Endpoint=sb://h/",
            "EntityPath=e",
            "Endpoint=h;EntityPath=e",
            "Endpoint=sb:///;EntityPath=e",
        ] {
            assert_eq!(connection(incomplete), None, "{incomplete}");
        }
    }

    #[test]
    fn the_log_never_sees_a_secret() {
        let target = Target::EventHub(Address::ConnectionString(Secret::new("SharedAccessKey=hidden")));
        let endpoint = Endpoint { instance: InstanceId::from_stored("i"), name: "e".into(), target };
        assert!(!format!("{endpoint} {endpoint:?}").contains("hidden"));
    }
}
