//! One namespace: what is stored of it, and its rules. One record holds all of it, so that a sender is judged by one state.

use std::sync::Arc;

use base::hosts::Service;
use base::{InstanceId, Scope};
use events::Events;
use serde::{Deserialize, Serialize};
use store::instances::{Current, Settings};
use store::{Batch, Key, Record, Table, retry_on_conflict, table};

use crate::authorization_rule::{self, AccessRight, AuthorizationRule};
use crate::error::Error;
use crate::event_hub::EventHub;
use crate::namespaces::Context;

/// The rule that every namespace has.
const ROOT_RULE: &str = "RootManageSharedAccessKey";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSettings {
    pub instance: InstanceId,
    pub name: String,
    /// The namespace's path in Resource Manager.
    pub scope: Scope,
    #[serde(with = "authorization_rule::record")]
    pub rules: Vec<AuthorizationRule>,
    pub event_hubs: Vec<EventHub>,
}

impl NamespaceSettings {
    /// An empty namespace with its root rule.
    pub fn new(instance: InstanceId, name: &str, scope: Scope) -> Self {
        let rules = vec![AuthorizationRule::generate(ROOT_RULE, &AccessRight::ALL)];
        Self { instance, name: name.to_owned(), scope, rules, event_hubs: Vec::new() }
    }

    /// By name, in any case.
    pub fn event_hub(&self, name: &str) -> Result<&EventHub, Error> {
        let found = self.event_hubs.iter().find(|known| known.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::EventHubNotFound(name.to_owned()))
    }

    pub(crate) fn event_hub_mut(&mut self, name: &str) -> Result<&mut EventHub, Error> {
        let found = self.event_hubs.iter_mut().find(|known| known.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::EventHubNotFound(name.to_owned()))
    }

    /// The rules of an event hub, or of the namespace itself.
    pub fn rules(&self, event_hub: Option<&str>) -> Result<&[AuthorizationRule], Error> {
        event_hub.map_or(Ok(&self.rules[..]), |name| Ok(&self.event_hub(name)?.rules))
    }

    fn rules_mut(&mut self, event_hub: Option<&str>) -> Result<&mut Vec<AuthorizationRule>, Error> {
        match event_hub {
            Some(name) => Ok(&mut self.event_hub_mut(name)?.rules),
            None => Ok(&mut self.rules),
        }
    }
}

impl Record for NamespaceSettings {
    const TABLE: Table = table::EVENT_HUB_NAMESPACE;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

impl Settings for NamespaceSettings {
    const SERVICE: Service = Service::EventHubs;

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> &'static str {
        ""
    }

    fn keep(&mut self, old: &Self) {
        self.name.clone_from(&old.name);
        self.rules.clone_from(&old.rules);
        self.event_hubs.clone_from(&old.event_hubs);
    }
}

/// Clones share it.
#[derive(Clone)]
pub struct Namespace(Arc<Inner>);

struct Inner {
    context: Context,
    instance: InstanceId,
    name: String,
    settings: Current<NamespaceSettings>,
}

impl Namespace {
    pub(crate) fn start(context: Context, settings: Current<NamespaceSettings>) -> Self {
        let (instance, name) = (settings.get().instance.clone(), settings.get().name.clone());
        Self(Arc::new(Inner { context, instance, name, settings }))
    }

    pub fn instance(&self) -> &InstanceId {
        &self.0.instance
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn settings(&self) -> Arc<NamespaceSettings> {
        self.0.settings.get()
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.context.events
    }

    /// Makes a rule of the namespace or of one of its event hubs, or changes its rights.
    pub async fn put_rule(
        &self,
        event_hub: Option<&str>,
        name: &str,
        rights: &[String],
    ) -> Result<AuthorizationRule, Error> {
        self.change(|settings| authorization_rule::put(settings.rules_mut(event_hub)?, name, rights)).await
    }

    /// Whether there was one to remove. Its keys open nothing any more.
    pub async fn remove_rule(&self, event_hub: Option<&str>, name: &str) -> Result<bool, Error> {
        self.change(|settings| Ok(authorization_rule::remove(settings.rules_mut(event_hub)?, name))).await
    }

    pub(crate) async fn change<T>(
        &self,
        change: impl Fn(&mut NamespaceSettings) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let store = &self.0.context.store;
        let answer = retry_on_conflict(async || {
            let stored = store.get::<NamespaceSettings>(&Key::instance(self.instance())).await?;
            let old = stored.ok_or(Error::WrittenMeanwhile)?;
            let mut new = old.record.clone();
            let answer = change(&mut new)?;
            let mut batch = Batch::default();
            batch.replace(&old, &new);
            let committed = store.commit(batch).await?;
            self.0.settings.offer(committed.stored(new));
            Ok::<_, Error>(answer)
        })
        .await?;
        // What a rule kept out may come in now.
        self.events().try_endpoints_again();
        Ok(answer)
    }
}
