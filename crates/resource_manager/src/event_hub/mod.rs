//! `Microsoft.EventHub`: namespaces, their event hubs, and the authorization rules of both, as resources. Called by the Resource
//! Manager door. What a rule is and whom it lets in is the affair of `event_hubs`, which keeps them.

use access::Caller;
use base::hosts::{Dialled, Service};
use base::{InstanceId, caps};
use event_hubs::AuthorizationRule;
use store::retry_on_conflict;

pub use self::record::{EventHubProperties, NamespaceProperties};
pub use self::rules::{EventHubRequest, Keys};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::provider::ResourceType;
use crate::resource::{self, Accepted, Preconditions, Resource, Tags};

mod record;
mod rules;

impl ResourceManager {
    /// `Namespaces_CreateOrUpdate`.
    pub async fn put_event_hub_namespace(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: Option<&str>,
        tags: Option<&Tags>,
        preconditions: &Preconditions,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, tags).await?;
        retry_on_conflict(async || {
            let (batch, old) = self.open_for_put(id, preconditions).await?;
            let before = old.as_ref().map(|old| &old.record);
            let location = resource::check_location(location, id, before)?;
            let now = self.clock.now();
            let properties = match before {
                Some(old) => NamespaceProperties { updated: now, ..namespace(old)?.clone() },
                None => NamespaceProperties {
                    instance: InstanceId::generate("eventhubs", &id.name),
                    created: now,
                    updated: now,
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
        preconditions: &Preconditions,
    ) -> Result<Accepted, Error> {
        self.may_write(caller, id, None).await?;
        retry_on_conflict(async || {
            let (mut batch, old) = self.open_for_put(id, preconditions).await?;
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
        let resource = self.must_get(id).await?;
        Ok(self.namespace_behind(id).await?.settings().rules(event_hub_name(&resource.id))?.to_vec())
    }

    /// `…_CreateOrUpdateAuthorizationRule`.
    pub async fn put_authorization_rule(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
        rights: &[String],
        preconditions: &Preconditions,
    ) -> Result<AuthorizationRule, Error> {
        let action = match id.resource_type {
            ResourceType::EventHub => "Microsoft.EventHub/namespaces/eventhubs/authorizationRules/write",
            _ => "Microsoft.EventHub/namespaces/authorizationRules/write",
        };
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        rules::check_rule_name(name)?;
        let resource = self.open_for_update(id).await?.record;
        let (namespace, entity_path) = (self.namespace_behind(id).await?, event_hub_name(&resource.id));
        let is_known = |rule: &AuthorizationRule| rule.key_name.eq_ignore_ascii_case(name);
        let exists = namespace.settings().rules(entity_path)?.iter().any(is_known);
        preconditions.check(exists.then_some(None))?;
        Ok(namespace.put_rule(entity_path, name, rights).await?)
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
        let resource = self.open_for_update(id).await?.record;
        Ok(self.namespace_behind(id).await?.remove_rule(event_hub_name(&resource.id), name).await?)
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
        let namespace = self.namespace_behind(id).await?;
        let (settings, entity_path) = (namespace.settings(), event_hub_name(&resource.id));
        let rule = find_rule(settings.rules(entity_path)?, id, name)?;
        let host = self.event_hub_host(namespace.name(), dialled);
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

    /// The namespace that has, or whose event hub has, the rules that a path speaks of.
    async fn namespace_behind(&self, id: &ResourceId) -> Result<event_hubs::Namespace, Error> {
        let resource = self.must_get(&id.parent_id().unwrap_or_else(|| id.clone())).await?;
        let found = self.event_hubs.get_now(&namespace(&resource)?.instance).await?;
        found.ok_or_else(|| Error::Conflict(format!("The namespace '{}' is not ready.", resource.id.name)))
    }

    /// The host of a namespace as whoever dialled so reaches it.
    pub fn event_hub_host(&self, namespace: &str, dialled: &Dialled) -> String {
        self.hosts.advertised(Service::EventHubs, namespace, "", dialled)
    }
}

/// None for a namespace.
fn event_hub_name(id: &ResourceId) -> Option<&str> {
    id.parent.as_ref().map(|_| id.name.as_str())
}

fn find_rule<'a>(
    known: &'a [AuthorizationRule],
    id: &ResourceId,
    name: &str,
) -> Result<&'a AuthorizationRule, Error> {
    known.iter().find(|rule| rule.key_name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        Error::ResourceNotFound(format!("{}/authorizationRules/{name}", id.relative()), id.group.name.clone())
    })
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
