//! `Microsoft.EventHub`: namespaces, their event hubs, and the authorization rules of both, so that an endpoint can name an
//! event hub of this server. Called by the Resource Manager door; the stream of an event hub is the affair of `events`.

use access::Caller;
use base::hosts::{Host, Service};
use base::{Continuation, InstanceId, Page, caps};
use store::retry_on_conflict;

pub use self::record::{AuthorizationRule, EventHubProperties, NamespaceProperties};
pub use self::rules::{AccessRight, EventHubRequest, Keys};
use crate::error::Error;
use crate::id::{GroupId, ResourceId};
use crate::instance::NameAvailability;
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, ProvisioningState, Resource, Tags};
use crate::{ResourceManager, subscription};

mod record;
mod rules;

/// The rule that every namespace has.
pub const ROOT_RULE: &str = "RootManageSharedAccessKey";

const READ_NAMESPACE: &str = "Microsoft.EventHub/namespaces/read";
const WRITE_NAMESPACE: &str = "Microsoft.EventHub/namespaces/write";
const DELETE_NAMESPACE: &str = "Microsoft.EventHub/namespaces/Delete";
const READ_HUB: &str = "Microsoft.EventHub/namespaces/eventhubs/read";
const WRITE_HUB: &str = "Microsoft.EventHub/namespaces/eventhubs/write";
const DELETE_HUB: &str = "Microsoft.EventHub/namespaces/eventhubs/Delete";

impl ResourceManager {
    /// `Namespaces_Get`.
    pub async fn event_hub_namespace(&self, caller: &Caller, id: &ResourceId) -> Result<Resource, Error> {
        self.allow(caller, READ_NAMESPACE, &id.scope(), &id.group.subscription).await?;
        self.must_get(id).await
    }

    /// `Namespaces_List`.
    pub async fn event_hub_namespaces(
        &self,
        caller: &Caller,
        subscription: &str,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_subscription(
            caller,
            READ_NAMESPACE,
            subscription,
            ResourceType::EventHubNamespace,
            after,
        )
        .await
    }

    /// `Namespaces_ListByResourceGroup`.
    pub async fn event_hub_namespaces_of(
        &self,
        caller: &Caller,
        group: &GroupId,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.list_in_group(caller, READ_NAMESPACE, group, ResourceType::EventHubNamespace, after).await
    }

    /// `Namespaces_CreateOrUpdate`.
    pub async fn put_event_hub_namespace(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: Option<&str>,
        tags: Option<&Tags>,
    ) -> Result<Accepted, Error> {
        self.allow(caller, WRITE_NAMESPACE, &id.scope(), &id.group.subscription).await?;
        if !rules::is_namespace_name(&id.name) {
            return Err(Error::InvalidResourceName(rules::namespace_rule(&id.name)));
        }
        resource::check_tags(tags)?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id).await?;
            let before = old.as_ref().map(|old| &old.record);
            let location = resource::check_location(location, id, before)?;
            let now = self.clock.now();
            let properties = match before {
                Some(old) => NamespaceProperties { updated: now, ..namespace(old)?.clone() },
                None => NamespaceProperties {
                    instance: InstanceId::generate("eventhubs", &id.name),
                    created: now,
                    updated: now,
                    rules: vec![AuthorizationRule::generate(ROOT_RULE, &AccessRight::ALL)],
                },
            };
            let next = Resource {
                id: before.map_or_else(|| id.clone(), |old| old.id.clone()),
                location: Some(location),
                tags: Some(tags.cloned().unwrap_or_default()),
                identity: None,
                system_data: resource::system_data(before.map(|old| &old.system_data), caller, now),
                version: resource::next_version(before, now),
                provisioning_state: before
                    .map_or(ProvisioningState::Provisioning, |_| ProvisioningState::Updating),
                operation: None,
                properties: resource::Properties::EventHubNamespace(properties),
            };
            if old.is_none() {
                self.claim_name(&mut batch, id).await?;
            }
            let work = resource::work_of_put(old.as_ref());
            self.accept(old.as_ref(), next, work, batch).await
        })
        .await
    }

    /// `Namespaces_Delete`; `None` when there is nothing to delete.
    pub async fn delete_event_hub_namespace(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Option<Accepted>, Error> {
        self.allow(caller, DELETE_NAMESPACE, &id.scope(), &id.group.subscription).await?;
        self.delete(id).await
    }

    /// `Namespaces_CheckNameAvailability`.
    pub async fn check_event_hub_namespace_name(
        &self,
        caller: &Caller,
        subscription: &str,
        name: &str,
    ) -> Result<NameAvailability, Error> {
        const CHECK: &str = "Microsoft.EventHub/checkNameAvailability/action";
        self.allow(caller, CHECK, &subscription::scope(subscription), subscription).await?;
        if !rules::is_namespace_name(name) {
            return Ok(NameAvailability::Invalid(rules::namespace_rule(name)));
        }
        let is_taken = self.name_holder(ResourceType::EventHubNamespace, name).await?.is_some();
        Ok(if is_taken { NameAvailability::AlreadyExists } else { NameAvailability::Available })
    }

    /// `EventHubs_Get`.
    pub async fn event_hub(&self, caller: &Caller, id: &ResourceId) -> Result<Resource, Error> {
        self.allow(caller, READ_HUB, &id.scope(), &id.group.subscription).await?;
        self.must_get(id).await
    }

    /// `EventHubs_ListByNamespace`.
    pub async fn event_hubs(
        &self,
        caller: &Caller,
        namespace: &ResourceId,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.allow(caller, READ_HUB, &namespace.scope(), &namespace.group.subscription).await?;
        self.list_children(namespace, ResourceType::EventHub, after).await
    }

    /// `EventHubs_CreateOrUpdate`.
    pub async fn put_event_hub(
        &self,
        caller: &Caller,
        id: &ResourceId,
        request: &EventHubRequest,
    ) -> Result<Accepted, Error> {
        self.allow(caller, WRITE_HUB, &id.scope(), &id.group.subscription).await?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id).await?;
            let before = old.as_ref().map(|old| &old.record);
            let old_properties = before.map(event_hub).transpose()?;
            let now = self.clock.now();
            let properties = rules::put(&id.name, old_properties, request, now)?;
            let next = Resource {
                id: before.map_or_else(|| id.clone(), |old| old.id.clone()),
                location: None,
                tags: None,
                identity: None,
                system_data: resource::system_data(before.map(|old| &old.system_data), caller, now),
                version: resource::next_version(before, now),
                provisioning_state: before
                    .map_or(ProvisioningState::Provisioning, |_| ProvisioningState::Updating),
                operation: None,
                properties: resource::Properties::EventHub(properties),
            };
            if old.is_none() {
                let parent =
                    self.parent_must_exist(id, "write").await?.ok_or_else(|| resource::damaged(id))?;
                let instance = &namespace(&parent.record)?.instance;
                let max = i64::try_from(caps::EVENT_HUBS_PER_NAMESPACE_MAX).unwrap_or(i64::MAX);
                batch.add(store::Counter::new(instance, "eventhubs"), 1, max);
            }
            let work = resource::work_of_put(old.as_ref());
            let accepted = self.accept(old.as_ref(), next, work, batch).await?;
            self.finish_at_once(accepted).await
        })
        .await
    }

    /// `EventHubs_Delete`; `None` when there is nothing to delete.
    pub async fn delete_event_hub(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Option<Accepted>, Error> {
        self.allow(caller, DELETE_HUB, &id.scope(), &id.group.subscription).await?;
        match self.delete(id).await? {
            Some(accepted) => self.finish_at_once(accepted).await.map(Some),
            None => Ok(None),
        }
    }

    /// `Namespaces_ListAuthorizationRules` and `EventHubs_ListAuthorizationRules`.
    pub async fn authorization_rules(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<AuthorizationRule>, Error> {
        let action = match id.resource_type {
            ResourceType::EventHub => "Microsoft.EventHub/namespaces/eventhubs/authorizationRules/read",
            _ => "Microsoft.EventHub/namespaces/authorizationRules/read",
        };
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        Ok(rules_of(&self.must_get(id).await?)?.clone())
    }

    /// `…_CreateOrUpdateAuthorizationRule`.
    pub async fn put_authorization_rule(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
        rights: &[String],
    ) -> Result<AuthorizationRule, Error> {
        let action = match id.resource_type {
            ResourceType::EventHub => "Microsoft.EventHub/namespaces/eventhubs/authorizationRules/write",
            _ => "Microsoft.EventHub/namespaces/authorizationRules/write",
        };
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        self.change_rules(id, |known| rules::put_rule(known, name, rights)).await
    }

    /// `…_DeleteAuthorizationRule`; false when there was none.
    pub async fn delete_authorization_rule(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<bool, Error> {
        let action = match id.resource_type {
            ResourceType::EventHub => "Microsoft.EventHub/namespaces/eventhubs/authorizationRules/delete",
            _ => "Microsoft.EventHub/namespaces/authorizationRules/delete",
        };
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        self.change_rules(id, |known| {
            let before = known.len();
            known.retain(|rule| !rule.name.eq_ignore_ascii_case(name));
            Ok(known.len() < before)
        })
        .await
    }

    /// `…_ListKeys`.
    pub async fn authorization_rule_keys(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<Keys, Error> {
        let action = match id.resource_type {
            ResourceType::EventHub => {
                "Microsoft.EventHub/namespaces/eventhubs/authorizationRules/listkeys/action"
            }
            _ => "Microsoft.EventHub/namespaces/authorizationRules/listkeys/action",
        };
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        let resource = self.must_get(id).await?;
        let rule = find_rule(rules_of(&resource)?, id, name)?;
        let namespace_name = resource.id.parent.as_ref().unwrap_or(&resource.id.name);
        let entity_path = resource.id.parent.as_ref().map(|_| resource.id.name.as_str());
        let host = self.event_hub_host(namespace_name);
        Ok(rules::keys(rule, &host, entity_path))
    }

    /// `…_GetAuthorizationRule`.
    pub async fn authorization_rule(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<AuthorizationRule, Error> {
        let known = self.authorization_rules(caller, id).await?;
        find_rule(&known, id, name).cloned()
    }

    /// Event hubs are made and deleted within the request. The operation stays behind for a crash in between.
    async fn finish_at_once(&self, mut accepted: Accepted) -> Result<Accepted, Error> {
        if let Some(operation) = accepted.operation.take() {
            self.finish_now(&operation).await??;
            if let Some(stored) = self.stored(&accepted.resource.id).await? {
                accepted.resource = stored.record;
            }
        }
        Ok(accepted)
    }

    async fn change_rules<T>(
        &self,
        id: &ResourceId,
        change: impl Fn(&mut Vec<AuthorizationRule>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        retry_on_conflict(async || {
            let old = self.open_for_update(id).await?;
            let mut next = old.record.clone();
            next.version = resource::next_version(Some(&old.record), self.clock.now());
            let known = match &mut next.properties {
                resource::Properties::EventHubNamespace(properties) => &mut properties.rules,
                resource::Properties::EventHub(properties) => &mut properties.rules,
                _ => return Err(resource::damaged(id)),
            };
            let answer = change(known)?;
            self.write_through(Some(&old), next, store::Batch::default()).await?;
            Ok(answer)
        })
        .await
    }

    /// The host of a namespace as clients reach it.
    pub fn event_hub_host(&self, namespace: &str) -> String {
        self.hosts.register(Service::EventHubs, namespace, "", false)
    }

    /// The event hub of this server that `host` and `entity_path` name, with its namespace's instance.
    pub(crate) async fn find_event_hub(
        &self,
        host: &str,
        entity_path: &str,
    ) -> Result<Option<Resource>, Error> {
        let Host::Instance(Service::EventHubs, name) = self.hosts.resolve(host, None) else {
            return Ok(None);
        };
        let Some(id) = self.name_holder(ResourceType::EventHubNamespace, &name).await? else {
            return Ok(None);
        };
        let hub = self.stored(&id.child(ResourceType::EventHub, entity_path)).await?;
        Ok(hub.map(|hub| hub.record))
    }

    /// Whether `key` of the rule `key_name` may send to the event hub, by the hub's own rules or its namespace's.
    pub(crate) async fn may_send(&self, hub: &Resource, key_name: &str, key: &str) -> Result<bool, Error> {
        let parent = self.parent_must_exist(&hub.id, "read").await?;
        let of_namespace = parent.as_ref().map(|parent| rules_of(&parent.record)).transpose()?;
        let known = rules_of(hub)?.iter().chain(of_namespace.into_iter().flatten());
        Ok(known.filter(|rule| rule.name == key_name).any(|rule| rule.has_key(key) && rule.may_send()))
    }
}

fn find_rule<'a>(
    known: &'a [AuthorizationRule],
    id: &ResourceId,
    name: &str,
) -> Result<&'a AuthorizationRule, Error> {
    known.iter().find(|rule| rule.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        Error::ResourceNotFound(format!("{}/authorizationRules/{name}", id.relative()), id.group.name.clone())
    })
}

fn rules_of(resource: &Resource) -> Result<&Vec<AuthorizationRule>, Error> {
    match &resource.properties {
        resource::Properties::EventHubNamespace(properties) => Ok(&properties.rules),
        resource::Properties::EventHub(properties) => Ok(&properties.rules),
        _ => Err(resource::damaged(&resource.id)),
    }
}

pub fn namespace(resource: &Resource) -> Result<&NamespaceProperties, Error> {
    match &resource.properties {
        resource::Properties::EventHubNamespace(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}

pub fn event_hub(resource: &Resource) -> Result<&EventHubProperties, Error> {
    match &resource.properties {
        resource::Properties::EventHub(properties) => Ok(properties),
        _ => Err(resource::damaged(&resource.id)),
    }
}
