//! `Microsoft.EventHub`: namespaces, their event hubs, and the authorization rules of both, so that an endpoint can name an
//! event hub of this server. Called by the Resource Manager door; the stream of an event hub is the affair of `events`.

use access::Caller;
use base::hosts::{Dialled, Host, Service};
use base::{InstanceId, caps};
use store::retry_on_conflict;

pub use self::record::{AuthorizationRule, EventHubProperties, NamespaceProperties};
pub use self::rules::{AccessRight, EventHubRequest, Keys};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, Resource, Tags};

mod record;
mod rules;

/// The rule that every namespace has.
pub const ROOT_RULE: &str = "RootManageSharedAccessKey";

impl ResourceManager {
    /// `Namespaces_CreateOrUpdate`.
    pub async fn put_event_hub_namespace(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: Option<&str>,
        tags: Option<&Tags>,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, tags).await?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id).await?;
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
            let properties = resource::Properties::EventHubNamespace(properties);
            let next = Resource {
                location: Some(location),
                tags: Some(tags.cloned().unwrap_or_default()),
                ..resource::after_put(id, before, caller, now, properties)
            };
            self.accept_put(old.as_ref(), next, batch).await
        })
        .await
    }

    /// `EventHubs_CreateOrUpdate`.
    pub async fn put_event_hub(
        &self,
        caller: &Caller,
        id: &ResourceId,
        request: &EventHubRequest,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, None).await?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id).await?;
            let before = old.as_ref().map(|old| &old.record);
            let old_properties = before.map(event_hub).transpose()?;
            let now = self.clock.now();
            let properties = rules::put(old_properties, request, now)?;
            let properties = resource::Properties::EventHub(properties);
            let next = resource::after_put(id, before, caller, now, properties);
            if old.is_none() {
                let parent =
                    self.parent_must_exist(id, "write").await?.ok_or_else(|| resource::damaged(id))?;
                let instance = &namespace(&parent.record)?.instance;
                let max = i64::try_from(caps::EVENT_HUBS_PER_NAMESPACE_MAX).unwrap_or(i64::MAX);
                batch.add(store::Counter::new(instance, "eventhubs"), 1, max);
            }
            self.accept_put(old.as_ref(), next, batch).await
        })
        .await
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
        dialled: &Dialled,
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
        let host = self.event_hub_host(namespace_name, dialled);
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

    /// The host of a namespace as whoever dialled so reaches it.
    pub fn event_hub_host(&self, namespace: &str, dialled: &Dialled) -> String {
        self.hosts.advertised(Service::EventHubs, namespace, "", dialled)
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
