//! Who may send to an event hub of this server: asked by `events` at each delivery, answered from memory. What Resource Manager
//! revoked a moment ago is refused now.

use std::collections::HashMap;
use std::sync::Arc;

use access::{Directory, Permission};
use base::ConnectionString;
use base::hosts::{Host, Hosts, Service};
use events::{Address, EventHubs, Way, Ways};
use parking_lot::RwLock;
use store::StoreError;
use store::instances::Current;

use crate::authorization_rule::lets_send;
use crate::event_hub::EventHub;
use crate::namespace::NamespaceSettings;

/// Made before `events`, filled by the namespaces as they start. Clones share it.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    hosts: Hosts,
    directory: Directory,
    /// By name, in lower case.
    namespaces: RwLock<HashMap<String, Current<NamespaceSettings>>>,
}

impl Gate {
    pub fn new(hosts: Hosts, directory: Directory) -> Self {
        Self(Arc::new(Inner { hosts, directory, namespaces: RwLock::default() }))
    }

    pub(crate) fn open(&self, settings: Current<NamespaceSettings>) {
        let name = settings.get().name.to_ascii_lowercase();
        self.0.namespaces.write().insert(name, settings);
    }

    pub(crate) fn close(&self, name: &str) {
        self.0.namespaces.write().remove(&name.to_ascii_lowercase());
    }

    /// Where an address leads, and whether whoever has it may send there.
    pub async fn way(&self, address: &Address) -> Result<Way, StoreError> {
        let Some((host, entity)) = address.host_and_entity() else { return Ok(Way::Elsewhere) };
        let name = match self.0.hosts.resolve(host, None) {
            Host::Instance(Service::EventHubs, name) => name,
            Host::UnknownInstance(Service::EventHubs) => {
                return Ok(Way::Closed(format!("there is no namespace at '{host}'")));
            }
            _ => return Ok(Way::Elsewhere),
        };
        let found = self.0.namespaces.read().get(&name).map(Current::get);
        let Some(namespace) = found else {
            return Ok(Way::Closed(format!("the namespace '{name}' is gone")));
        };
        let Ok(event_hub) = namespace.event_hub(entity) else {
            return Ok(Way::Closed(format!("the event hub '{entity}' at '{host}' could not be found")));
        };
        let refusal = match address {
            Address::ConnectionString(string) => refusal_of_key(&namespace, event_hub, string),
            Address::Identity { principal_id, .. } => {
                self.refusal_of_identity(&namespace, event_hub, principal_id.as_deref()).await?
            }
        };
        Ok(refusal.map_or_else(
            || Way::Open { instance: namespace.instance.clone(), event_hub: event_hub.name.clone() },
            Way::Closed,
        ))
    }

    async fn refusal_of_identity(
        &self,
        namespace: &NamespaceSettings,
        event_hub: &EventHub,
        principal_id: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        let scope = namespace.scope.child("eventhubs").child(&event_hub.name);
        let may_send = match principal_id {
            Some(id) => self.0.directory.allows(id, Permission::EventHubSend, &scope).await?,
            None => false,
        };
        let refusal =
            || format!("the identity of the instance may not send to the event hub '{}'", event_hub.name);
        Ok((!may_send).then(refusal))
    }
}

/// By the event hub's own rules or its namespace's.
fn refusal_of_key(
    namespace: &NamespaceSettings,
    event_hub: &EventHub,
    string: &ConnectionString,
) -> Option<String> {
    let key_name = string.shared_access_key_name().unwrap_or_default();
    let key = string.shared_access_key().unwrap_or_default();
    let rules = event_hub.rules.iter().chain(&namespace.rules);
    let refusal = || format!("the event hub '{}' refuses the key '{key_name}'", event_hub.name);
    (!lets_send(rules, key_name, key)).then(refusal)
}

impl EventHubs for Gate {
    fn way<'a>(&'a self, address: &'a Address) -> Ways<'a> {
        Box::pin(Self::way(self, address))
    }
}
