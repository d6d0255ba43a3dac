//! Resource groups: what resources live in. Deleting one deletes everything in it, through the reconciler.
//! Called by the Resource Manager door.

use access::Caller;
use base::{Continuation, Page};
use serde::{Deserialize, Serialize};
use store::{Batch, Key, Record, Scan, Stored, Table, retry_on_conflict};

use crate::error::Error;
use crate::filter::{Filter, Subject};
use crate::id::GroupId;
use crate::operation::{Operation, Target, Work};
use crate::resource::{self, Preconditions, Resource, Tags};
use crate::{ResourceManager, location, subscription};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceGroup {
    pub id: GroupId,
    pub location: String,
    pub tags: Option<Tags>,
    pub managed_by: Option<String>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Succeeded,
    Deleting,
}

/// The writable members of a PUT.
#[derive(Clone, Debug, Default)]
pub struct Put {
    pub location: Option<String>,
    pub tags: Option<Tags>,
    pub managed_by: Option<String>,
    pub preconditions: Preconditions,
}

const READ: &str = "Microsoft.Resources/subscriptions/resourceGroups/read";
const WRITE: &str = "Microsoft.Resources/subscriptions/resourceGroups/write";
const DELETE: &str = "Microsoft.Resources/subscriptions/resourceGroups/delete";
const RESOURCES_READ: &str = "Microsoft.Resources/subscriptions/resources/read";

impl Record for ResourceGroup {
    const TABLE: Table = store::table::RESOURCE_GROUP;

    fn key(&self) -> Key {
        self.id.key()
    }
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Deleting => "Deleting",
        }
    }
}

/// 1–90 letters, digits, `-`, `_`, `.`, `(`, `)`, not ending with a period.
fn is_name(name: &str) -> bool {
    (1..=90).contains(&name.chars().count())
        && name.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c))
        && !name.ends_with('.')
}

impl ResourceManager {
    /// `ResourceGroups_Get`, and `ResourceGroups_CheckExistence` for `HEAD`.
    pub async fn resource_group(&self, caller: &Caller, id: &GroupId) -> Result<ResourceGroup, Error> {
        self.allow(caller, READ, &id.scope(), &id.subscription).await?;
        Ok(self.group_must_exist(id).await?.record)
    }

    /// `ResourceGroups_List`.
    pub async fn resource_groups(
        &self,
        caller: &Caller,
        subscription: &str,
        filter: &Filter,
        after: Option<&Continuation>,
    ) -> Result<Page<ResourceGroup>, Error> {
        self.allow(caller, READ, &subscription::scope(subscription), subscription).await?;
        let prefix = Key::new([subscription.to_ascii_lowercase()]);
        let scan = Scan::new(prefix, self.settings.page_size + 1).after(resource::decode(after)?);
        let mut rows = self.store.scan::<ResourceGroup>(scan).await?;
        let has_more = rows.len() > self.settings.page_size;
        rows.truncate(self.settings.page_size);
        let next = rows.last().filter(|_| has_more).map(|row| Continuation::encode(&row.record.key()));
        let admitted = |group: &ResourceGroup| {
            let (tags, name) = (pairs(group.tags.as_ref()), &group.id.name);
            filter.admits(&Subject {
                name,
                resource_type: "Microsoft.Resources/resourceGroups",
                resource_group: name,
                location: &group.location,
                tags: &tags,
            })
        };
        Ok(Page { items: rows.into_iter().map(|row| row.record).filter(admitted).collect(), next })
    }

    /// `ResourceGroups_CreateOrUpdate`; true when it is new.
    pub async fn put_resource_group(
        &self,
        caller: &Caller,
        id: &GroupId,
        put: &Put,
    ) -> Result<(ResourceGroup, bool), Error> {
        self.allow(caller, WRITE, &id.scope(), &id.subscription).await?;
        if !is_name(&id.name) {
            return Err(Error::InvalidResourceGroupName(id.name.chars().take(128).collect()));
        }
        resource::check_tags(put.tags.as_ref())?;
        let wanted =
            put.location.as_deref().filter(|text| !text.trim().is_empty()).ok_or(Error::LocationRequired)?;
        let wanted = location::find(wanted).ok_or_else(|| Error::LocationNotAvailable {
            wanted: wanted.to_owned(),
            kind: "Microsoft.Resources/resourceGroups".into(),
        })?;
        retry_on_conflict(async || {
            let old = self.store.get::<ResourceGroup>(&id.key()).await?;
            put.preconditions.check(old.as_ref().map(|_| None))?;
            let mut batch = Batch::default();
            let mut group = ResourceGroup {
                id: id.clone(),
                location: wanted.name.to_owned(),
                tags: put.tags.clone(),
                managed_by: put.managed_by.clone(),
                state: State::Succeeded,
            };
            match &old {
                None => batch.insert(&group),
                Some(old) => {
                    must_be_live(&old.record)?;
                    if old.record.location != group.location {
                        let existing = old.record.location.clone();
                        return Err(Error::InvalidResourceGroupLocation { wanted: group.location, existing });
                    }
                    group.id = old.record.id.clone();
                    batch.replace(old, &group);
                }
            }
            self.store.commit(batch).await?;
            Ok((group, old.is_none()))
        })
        .await
    }

    /// `ResourceGroups_Update`: the tags. The outer `None` is "not mentioned", the inner one `null`.
    pub async fn update_resource_group(
        &self,
        caller: &Caller,
        id: &GroupId,
        tags: Option<Option<Tags>>,
    ) -> Result<ResourceGroup, Error> {
        self.allow(caller, WRITE, &id.scope(), &id.subscription).await?;
        resource::check_tags(tags.as_ref().and_then(Option::as_ref))?;
        retry_on_conflict(async || {
            let old = self.group_must_exist(id).await?;
            must_be_live(&old.record)?;
            let mut next = old.record.clone();
            if let Some(tags) = &tags {
                next.tags.clone_from(tags);
            }
            self.write_group(&old, &next).await?;
            Ok(next)
        })
        .await
    }

    /// `ResourceGroups_Delete`. Without an operation it is done already.
    pub async fn delete_resource_group(
        &self,
        caller: &Caller,
        id: &GroupId,
    ) -> Result<Option<Operation>, Error> {
        self.allow(caller, DELETE, &id.scope(), &id.subscription).await?;
        let operation = retry_on_conflict(async || {
            let old = self.group_must_exist(id).await?;
            let next = ResourceGroup { state: State::Deleting, ..old.record.clone() };
            let target = Target::Group(old.record.id.clone());
            let operation = self.begin_operation(target, Work::DeleteGroup, Some(&next.location));
            let mut batch = Batch::default();
            batch.replace(&old, &next);
            batch.insert(&operation);
            self.store.commit(batch).await?;
            Ok::<_, Error>(operation)
        })
        .await?;
        if self.settings.is_synchronous {
            self.finish_now(&operation).await??;
            return Ok(None);
        }
        self.wake.notify_one();
        Ok(Some(operation))
    }

    /// `Resources_List`: top-level resources of a subscription that the filter admits and the caller may read.
    pub async fn resources(
        &self,
        caller: &Caller,
        subscription: &str,
        filter: &Filter,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.subscription(caller, subscription).await?;
        let prefix = Key::new([subscription.to_ascii_lowercase()]);
        self.filtered(caller, prefix, filter, after).await
    }

    /// `Resources_ListByResourceGroup`.
    pub async fn resources_of(
        &self,
        caller: &Caller,
        group: &GroupId,
        filter: &Filter,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        self.allow(caller, RESOURCES_READ, &group.scope(), &group.subscription).await?;
        self.group_must_exist(group).await?;
        self.filtered(caller, group.key(), filter, after).await
    }

    async fn filtered(
        &self,
        caller: &Caller,
        prefix: Key,
        filter: &Filter,
        after: Option<&Continuation>,
    ) -> Result<Page<Resource>, Error> {
        let page = self.scan_page(prefix, after).await?;
        let admitted = |resource: &Resource| {
            let tags = pairs(resource.tags.as_ref());
            resource.id.parent.is_none()
                && caller.may_enter(&resource.id.scope())
                && filter.admits(&Subject {
                    name: &resource.id.name,
                    resource_type: &resource.id.resource_type.full_name(),
                    resource_group: &resource.id.group.name,
                    location: &location::normalise(resource.location.as_deref().unwrap_or_default()),
                    tags: &tags,
                })
        };
        Ok(Page { items: page.items.into_iter().filter(admitted).collect(), next: page.next })
    }

    async fn write_group(&self, old: &Stored<ResourceGroup>, next: &ResourceGroup) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.replace(old, next);
        self.store.commit(batch).await?;
        Ok(())
    }
}

pub(crate) fn must_be_live(group: &ResourceGroup) -> Result<(), Error> {
    match group.state {
        State::Succeeded => Ok(()),
        State::Deleting => Err(Error::ResourceGroupBeingDeleted(group.id.name.clone())),
    }
}

fn pairs(tags: Option<&Tags>) -> Vec<(&str, &str)> {
    tags.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_names_have_1_to_90_allowed_characters() {
        for good in ["g", "My-Group_(1).x", &"x".repeat(90)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a.", "a b", "a/b", &"x".repeat(91)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
