//! What all resources share: reading, listing, accepting a change together with its operation, deleting, names that are unique.
//! Called by the nouns of this crate. It must never know what a type's properties mean.

use std::collections::HashSet;

use access::{Caller, Permission};
use base::{Continuation, Page, Scope};
use store::{Batch, Find, Key, Scan, StoreError, Stored, retry_on_conflict};

pub use self::record::{
    ClaimedName, NetworkAccess, Properties, ProvisioningState, Resource, SystemData, Tags,
};
pub use self::rules::{Preconditions, etag};
pub(crate) use self::rules::{after_put, check_location, next_version, system_data};
use crate::error::Error;
use crate::group::{self, ResourceGroup};
use crate::id::{GroupId, ResourceId};
use crate::identity::{self, IdentityRequest, ManagedIdentity, SystemIdentity, UserIdentity, Users};
use crate::operation::{Operation, Target, Work};
use crate::provider::ResourceType;
use crate::{ResourceManager, subscription, user_assigned_identity};

pub(crate) mod name;
mod record;
mod rules;

/// A change that was taken on. Without an operation it is done already.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub resource: Resource,
    pub operation: Option<Operation>,
    pub is_new: bool,
}

/// The answer to "may I have this name?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameAvailability {
    Available,
    Invalid(String),
    AlreadyExists,
}

/// Stored properties of another type than their id says. Only a damaged store holds such a row.
pub(crate) fn damaged(id: &ResourceId) -> Error {
    Error::Store(StoreError::Corrupt(format!("{id} has the properties of another type")))
}

pub(crate) fn check_tags(tags: Option<&Tags>) -> Result<(), Error> {
    tags.map_or(Ok(()), rules::check_tags)
}

/// What is done to resources of every type in the same way. Azure names the operations after the type: `DigitalTwins_Get`,
/// `IotHubResource_Get`, `EventHubs_Get` are one here.
impl ResourceManager {
    /// `…_Get`.
    pub async fn resource(&self, caller: &Caller, id: &ResourceId) -> Result<Resource, Error> {
        self.allow(caller, id.resource_type.actions().read, &id.scope(), &id.group.subscription).await?;
        self.shown(self.must_get(id).await?).await
    }

    /// `…_ListBySubscription`: the resources of one type.
    pub async fn list_resources(
        &self,
        caller: &Caller,
        subscription: &str,
        resource_type: ResourceType,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        let read = resource_type.actions().read;
        self.allow(caller, read, &subscription::scope(subscription), subscription).await?;
        let name = resource_type.full_name().to_ascii_lowercase();
        let prefix = Key::new([subscription.to_ascii_lowercase()]);
        let find =
            Find::new(prefix, "resource_type", name, self.settings.page_size + 1).after(decode(after)?);
        Ok(self.page(self.store.find::<Resource>(find).await?))
    }

    /// `…_ListByResourceGroup`: the resources of one type.
    pub async fn list_resources_of(
        &self,
        caller: &Caller,
        group: &GroupId,
        resource_type: ResourceType,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.allow(caller, resource_type.actions().read, &group.scope(), &group.subscription).await?;
        self.group_must_exist(group).await?;
        let prefix = group.key().child(resource_type.full_name().to_ascii_lowercase());
        self.scan_page(prefix, after).await
    }

    /// `DigitalTwinsEndpoint_List`, `EventHubs_ListByNamespace`: the resources of one type that belong to another resource.
    pub async fn list_children(
        &self,
        caller: &Caller,
        parent: &ResourceId,
        resource_type: ResourceType,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        let read = resource_type.actions().read;
        self.allow(caller, read, &parent.scope(), &parent.group.subscription).await?;
        self.must_find(parent).await?;
        let mut page = self.scan_page(parent.children_key(resource_type), after).await?;
        for item in &mut page.items {
            *item = self.shown(item.clone()).await?;
        }
        Ok(page)
    }

    /// `…_Update` of the types of which nothing but the tags can be patched.
    pub async fn update_tags(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<Tags>,
    ) -> Result<Resource, Error> {
        self.may_write(caller, id, tags.as_ref()).await?;
        let accepted = retry_on_conflict(async || {
            let (old, now) = (self.open_for_update(id).await?, self.clock.now());
            let mut next = old.record.clone();
            if let Some(tags) = &tags {
                next.tags = Some(tags.clone());
            }
            next.system_data = system_data(Some(&old.record.system_data), caller, now);
            next.version = next_version(Some(&old.record), now);
            self.write_through(Some(&old), next, Batch::default()).await
        })
        .await?;
        Ok(accepted.resource)
    }

    /// `…_Delete`: marks the resource as being deleted; the reconciler does the rest. `None` when there is none.
    pub async fn delete_resource(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Accepted>, Error> {
        self.allow(caller, id.resource_type.actions().delete, &id.scope(), &id.group.subscription).await?;
        retry_on_conflict(async || {
            self.group_must_exist(&id.group).await?;
            self.parent_must_exist(id, "write").await?;
            let Some(old) = self.stored(id).await? else { return Ok(None) };
            let mut next = old.record.clone();
            next.provisioning_state = ProvisioningState::Deleting;
            next.version = next_version(Some(&old.record), self.clock.now());
            let batch = match id.resource_type {
                ResourceType::DigitalTwinsEndpoint => self.close_endpoint(&old.record.id).await?,
                _ => Batch::default(),
            };
            self.accept(Some(&old), next, Work::Delete, batch).await.map(Some)
        })
        .await
    }

    /// `…_CheckNameAvailability`. Names are looked for beyond the subscription, since they become host names.
    pub async fn check_name(
        &self,
        caller: &Caller,
        subscription: &str,
        resource_type: ResourceType,
        name: &str,
    ) -> Result<NameAvailability, Error> {
        let action = match resource_type {
            ResourceType::IotHub => "Microsoft.Devices/checkNameAvailability/Action",
            ResourceType::ProvisioningService => {
                "Microsoft.Devices/checkProvisioningServiceNameAvailability/Action"
            }
            ResourceType::EventHubNamespace => "Microsoft.EventHub/checkNameAvailability/action",
            ResourceType::StorageAccount => "Microsoft.Storage/checkNameAvailability/action",
            ResourceType::DigitalTwinsInstance | ResourceType::DigitalTwinsEndpoint => {
                "Microsoft.DigitalTwins/locations/checkNameAvailability/action"
            }
            ResourceType::EventHub | ResourceType::UserAssignedIdentity => resource_type.actions().read,
        };
        self.allow(caller, action, &subscription::scope(subscription), subscription).await?;
        if let Err(wrong) = resource_type.check_name(name) {
            return Ok(NameAvailability::Invalid(wrong));
        }
        let is_taken = self.name_holder(resource_type, name).await?.is_some();
        Ok(if is_taken { NameAvailability::AlreadyExists } else { NameAvailability::Available })
    }

    /// What every write asks first: the caller's right, a name that its type allows, and tags within their limits.
    pub(crate) async fn may_write(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<&Tags>,
    ) -> Result<(), Error> {
        self.allow(caller, id.resource_type.actions().write, &id.scope(), &id.group.subscription).await?;
        id.resource_type.check_name(&id.name).map_err(Error::InvalidResourceName)?;
        check_tags(tags)
    }
}

impl ResourceManager {
    /// Asks the caller's permission. Below a subscription that is malformed or unknown nobody has one, and the answer says so
    /// instead, as Resource Manager's does.
    pub(crate) async fn allow(
        &self,
        caller: &Caller,
        action: &'static str,
        scope: &Scope,
        subscription: &str,
    ) -> Result<(), Error> {
        let allowed = caller.require(Permission::Management(action), scope);
        self.subscription_must_exist(subscription).await?;
        Ok(allowed?)
    }

    pub(crate) async fn stored(&self, id: &ResourceId) -> Result<Option<Stored<Resource>>, Error> {
        Ok(self.store.get::<Resource>(&id.key()).await?)
    }

    /// The resource, or the refusal that names the first thing missing: group, parent or itself.
    pub(crate) async fn must_find(&self, id: &ResourceId) -> Result<Stored<Resource>, Error> {
        if let Some(stored) = self.stored(id).await? {
            return Ok(stored);
        }
        self.group_must_exist(&id.group).await?;
        self.parent_must_exist(id, "read").await?;
        Err(Error::not_found(id))
    }

    pub(crate) async fn must_get(&self, id: &ResourceId) -> Result<Resource, Error> {
        Ok(self.must_find(id).await?.record)
    }

    pub(crate) async fn parent_must_exist(
        &self,
        id: &ResourceId,
        verb: &'static str,
    ) -> Result<Option<Stored<Resource>>, Error> {
        let Some(parent_id) = id.parent_id() else { return Ok(None) };
        let parent = self.stored(&parent_id).await?.ok_or_else(|| Error::ParentResourceNotFound {
            verb,
            kind: id.resource_type.full_name(),
            parent: parent_id.path(),
        })?;
        Ok(Some(parent))
    }

    /// What a PUT starts from: the resource, if there is one and it is as the caller expects, and a batch that fails should the
    /// group or the parent vanish.
    pub(crate) async fn open_for_put(
        &self,
        id: &ResourceId,
        preconditions: &Preconditions,
    ) -> Result<(Batch, Option<Stored<Resource>>), Error> {
        let mut batch = Batch::default();
        let group = self.group_must_exist(&id.group).await?;
        if group.record.state == group::State::Deleting {
            return Err(Error::ResourceGroupBeingDeleted(group.record.id.name));
        }
        self.namespace_must_be_registered(&id.group.subscription, id.resource_type.namespace()).await?;
        batch.guard(&group);
        if let Some(parent) = self.parent_must_exist(id, "write").await? {
            must_be_steady(&parent.record)?;
            batch.guard_exists::<Resource>(parent.record.id.key());
        }
        let old = self.stored(id).await?;
        if let Some(old) = &old {
            must_not_be_deleting(&old.record)?;
        }
        let tag = old.as_ref().map(|old| etag(old.record.version));
        preconditions.check(tag.as_deref().map(Some))?;
        Ok((batch, old))
    }

    /// What a PATCH starts from.
    pub(crate) async fn open_for_update(&self, id: &ResourceId) -> Result<Stored<Resource>, Error> {
        let old = self.must_find(id).await?;
        must_not_be_deleting(&old.record)?;
        Ok(old)
    }

    /// Commits what a PUT leads to. The name of a resource that is new is taken with it.
    pub(crate) async fn accept_put(
        &self,
        old: Option<&Stored<Resource>>,
        next: Resource,
        mut batch: Batch,
    ) -> Result<Accepted, Error> {
        let work = match old {
            Some(old) => Work::Update { tags: None, previous: Box::new(old.record.clone()) },
            None => Work::Create,
        };
        if old.is_none() && next.id.parent.is_none() {
            self.claim_name(&mut batch, &next.id).await?;
        }
        self.accept(old, next, work, batch).await
    }

    /// Commits `next` and the operation that finishes it. `old` must still be there as it was read.
    pub(crate) async fn accept(
        &self,
        old: Option<&Stored<Resource>>,
        mut next: Resource,
        work: Work,
        mut batch: Batch,
    ) -> Result<Accepted, Error> {
        let location = self.location_of(&next).await?;
        let operation = self.begin_operation(Target::Resource(next.id.clone()), work, location.as_deref());
        // Work on a part of the resource leaves the state of the whole alone.
        if !next.provisioning_state.is_terminal() {
            next.operation = Some(operation.id.clone());
        }
        self.write(&mut batch, old, &next);
        batch.insert(&operation);
        self.store.commit(batch).await?;
        let is_new = old.is_none();
        if self.settings.is_synchronous || next.id.resource_type.is_made_at_once() {
            let ended = self.finish_now(&operation).await?;
            let resource = self.stored(&next.id).await?.map_or(next, |stored| stored.record);
            return ended.map(|()| Accepted { resource, operation: None, is_new });
        }
        self.wake.notify_one();
        Ok(Accepted { resource: next, operation: Some(operation), is_new })
    }

    /// A child is where its parent is.
    async fn location_of(&self, resource: &Resource) -> Result<Option<String>, Error> {
        match resource.id.parent_id() {
            Some(parent) => Ok(self.stored(&parent).await?.and_then(|parent| parent.record.location)),
            None => Ok(resource.location.clone()),
        }
    }

    /// Applies a change that nothing outside the record needs to learn of.
    pub(crate) async fn write_through(
        &self,
        old: Option<&Stored<Resource>>,
        next: Resource,
        mut batch: Batch,
    ) -> Result<Accepted, Error> {
        self.write(&mut batch, old, &next);
        self.store.commit(batch).await?;
        Ok(Accepted { resource: next, operation: None, is_new: old.is_none() })
    }

    /// `next` in the place of `old`, with the principal that it is or has.
    fn write(&self, batch: &mut Batch, old: Option<&Stored<Resource>>, next: &Resource) {
        match old {
            Some(old) => batch.replace(old, next),
            None => batch.insert(next),
        }
        self.enter_identity(batch, old.map(|old| &old.record), next);
    }

    pub(crate) async fn scan_page(
        &self,
        prefix: Key,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        let scan = Scan::new(prefix, self.settings.page_size + 1).after(decode(after)?);
        Ok(self.page(self.store.scan::<Resource>(scan).await?))
    }

    /// A page of what was read with one row more than a page holds.
    fn page(&self, mut rows: Vec<Stored<Resource>>) -> Page<Resource> {
        let has_more = rows.len() > self.settings.page_size;
        rows.truncate(self.settings.page_size);
        let next = rows.last().filter(|_| has_more).map(|row| Continuation::encode(&row.record.id.key()));
        Page { items: rows.into_iter().map(|row| row.record).collect(), next }
    }

    /// Takes a name that must be unique beyond the group, in the batch that creates its resource.
    pub(crate) async fn claim_name(&self, batch: &mut Batch, id: &ResourceId) -> Result<(), Error> {
        if self.name_holder(id.resource_type, &id.name).await?.is_some() {
            return Err(Error::NameTaken(id.name.clone()));
        }
        batch.insert(&ClaimedName::of(id));
        Ok(())
    }

    /// The resource that holds a name that is unique beyond its group.
    pub(crate) async fn name_holder(
        &self,
        resource_type: ResourceType,
        name: &str,
    ) -> Result<Option<ResourceId>, Error> {
        let key = ClaimedName::key_of(&resource_type.full_name(), name);
        Ok(self.store.get::<ClaimedName>(&key).await?.map(|stored| stored.record.id))
    }

    /// The identity that a request leads to. User-assigned identities that are resources here lend their ids; for others ids
    /// are made up once and kept with the resource.
    pub(crate) async fn apply_identity(
        &self,
        id: &ResourceId,
        old: Option<&Resource>,
        request: &IdentityRequest,
        users: Users,
    ) -> Result<Option<ManagedIdentity>, Error> {
        let mut known: Vec<(String, UserIdentity)> = Vec::new();
        for (text, is_wanted) in &request.users {
            let user_id = text.parse::<ResourceId>().ok().filter(|_| *is_wanted);
            let Some(user_id) = user_id else { continue };
            let stored = self.stored(&user_id).await?;
            let ids = stored.as_ref().and_then(|stored| user_assigned_identity::ids(&stored.record));
            known.push((text.clone(), ids.unwrap_or_else(user_assigned_identity::make_ids)));
        }
        let tenant_id = self.tenant_of(&id.group.subscription).await?;
        let new_system = || SystemIdentity { principal_id: uuid::Uuid::new_v4().to_string(), tenant_id };
        let lookup = |text: &str| {
            let found = known.iter().find(|(known, _)| known == text);
            found.map_or_else(user_assigned_identity::make_ids, |(_, ids)| ids.clone())
        };
        identity::apply(old.and_then(|old| old.identity.as_ref()), request, users, new_system, lookup)
    }

    /// Every resource of a group, children included, in key order.
    pub(crate) async fn all_in_group(&self, group: &GroupId) -> Result<Vec<Resource>, Error> {
        let mut all = Vec::new();
        let mut after = None;
        let mut seen = HashSet::new();
        loop {
            let page = self.scan_page(group.key(), after.as_ref()).await?;
            all.extend(page.items);
            match page.next {
                Some(next) if seen.insert(next.as_str().to_owned()) => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    pub(crate) async fn group_must_exist(&self, group: &GroupId) -> Result<Stored<ResourceGroup>, Error> {
        let stored = self.store.get::<ResourceGroup>(&group.key()).await?;
        stored.ok_or_else(|| Error::group_not_found(group))
    }
}

pub(crate) fn decode(after: Option<&Continuation>) -> Result<Option<Key>, Error> {
    after.map(|token| token.decode::<Key>().map_err(|_| Error::InvalidSkipToken)).transpose()
}

pub(crate) fn must_not_be_deleting(resource: &Resource) -> Result<(), Error> {
    if resource.provisioning_state == ProvisioningState::Deleting {
        return Err(Error::Conflict(format!("The resource '{}' is being deleted.", resource.id.name)));
    }
    Ok(())
}

/// A child may be written once its parent exists beyond its record. An update of the parent under way does not matter.
fn must_be_steady(parent: &Resource) -> Result<(), Error> {
    match parent.provisioning_state {
        ProvisioningState::Succeeded | ProvisioningState::Updating => Ok(()),
        state => Err(Error::Conflict(format!(
            "The resource '{}' is in state '{}'. Please retry once it is 'Succeeded'.",
            parent.id.name,
            state.name()
        ))),
    }
}
