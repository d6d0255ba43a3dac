//! Containers: make, look, change, remove. Blobs lie under a container's id, so that one made anew has none of those before.

use base::{InstanceId, Timestamp, caps, secret};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use store::{Batch, Key, Record, Stored, Table, retry_on_conflict, table};

use crate::account::Account;
use crate::blob::conditions::Conditions;
use crate::blob::record::{Metadata, check_metadata, etag};
use crate::caller::Caller;
use crate::error::Error;
use crate::name::ContainerName;
use crate::policies::{self, StoredPolicy};
use crate::removal::{Removal, What};
use crate::sas::{AccessPolicy, Permission, Target};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    pub(crate) instance: InstanceId,
    pub name: ContainerName,
    pub(crate) id: String,
    pub modified: Timestamp,
    pub metadata: Metadata,
    pub policies: Vec<StoredPolicy>,
}

impl Record for Container {
    const TABLE: Table = table::BLOB_CONTAINER;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), self.name.as_str()])
    }
}

/// A container with its tag.
#[derive(Clone, Debug)]
pub struct FoundContainer {
    pub container: Container,
    pub etag: String,
}

impl From<Stored<Container>> for FoundContainer {
    fn from(stored: Stored<Container>) -> Self {
        Self { etag: etag(stored.revision), container: stored.record }
    }
}

impl Account {
    /// Create Container.
    pub async fn create_container(
        &self,
        caller: &Caller,
        name: &ContainerName,
        metadata: Metadata,
    ) -> Result<FoundContainer, Error> {
        let any = [Permission::Create, Permission::Write];
        self.permit_by_account(caller, Target::Container(name), &any).await?;
        check_metadata(&metadata)?;
        let container = Container {
            instance: self.instance().clone(),
            name: name.clone(),
            id: secret::random_hex(8),
            modified: self.clock().stamp(),
            metadata,
            policies: Vec::new(),
        };
        retry_on_conflict(async || {
            if self.store().get::<Container>(&container.key()).await?.is_some() {
                return Err(Error::ContainerAlreadyExists);
            }
            let mut batch = Batch::default();
            self.guard(&mut batch);
            batch.insert(&container);
            let committed = self.store().commit(batch).await?;
            Ok(committed.stored(container.clone()).into())
        })
        .await
    }

    /// Get Container Properties, and its metadata.
    pub async fn get_container(
        &self,
        caller: &Caller,
        name: &ContainerName,
    ) -> Result<FoundContainer, Error> {
        self.permit_by_account(caller, Target::Container(name), &[Permission::Read]).await?;
        Ok(self.container(name).await?.into())
    }

    /// Delete Container.
    pub async fn delete_container(
        &self,
        caller: &Caller,
        name: &ContainerName,
        conditions: &Conditions,
    ) -> Result<(), Error> {
        self.permit_by_account(caller, Target::Container(name), &[Permission::Delete]).await?;
        retry_on_conflict(async || {
            let stored = self.container(name).await?;
            conditions.check_write(Some((&etag(stored.revision), stored.record.modified)))?;
            let mut batch = Batch::default();
            batch.delete(&stored);
            let what = What::Container(stored.record.id.clone());
            batch.put(&Removal::new(self.instance(), self.when_let_go(), what));
            self.store().commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// Set Container Metadata.
    pub async fn set_container_metadata(
        &self,
        caller: &Caller,
        name: &ContainerName,
        metadata: &Metadata,
        conditions: &Conditions,
    ) -> Result<FoundContainer, Error> {
        self.permit_by_account(caller, Target::Container(name), &[Permission::Write]).await?;
        check_metadata(metadata)?;
        self.change_container(name, conditions, |container| container.metadata.clone_from(metadata)).await
    }

    /// Get Container ACL. No token lets anybody see or change it.
    pub async fn get_policies(&self, caller: &Caller, name: &ContainerName) -> Result<FoundContainer, Error> {
        Self::permit_key(caller)?;
        Ok(self.container(name).await?.into())
    }

    /// Set Container ACL, by the document that clients send.
    pub async fn set_policies(
        &self,
        caller: &Caller,
        name: &ContainerName,
        document: &str,
        conditions: &Conditions,
    ) -> Result<FoundContainer, Error> {
        Self::permit_key(caller)?;
        let policies = policies::parse(document)?;
        self.change_container(name, conditions, |container| container.policies.clone_from(&policies)).await
    }

    async fn change_container(
        &self,
        name: &ContainerName,
        conditions: &Conditions,
        change: impl Fn(&mut Container),
    ) -> Result<FoundContainer, Error> {
        retry_on_conflict(async || {
            let stored = self.container(name).await?;
            conditions.check_write(Some((&etag(stored.revision), stored.record.modified)))?;
            let mut next = stored.record.clone();
            change(&mut next);
            next.modified = self.clock().stamp();
            let mut batch = Batch::default();
            batch.replace(&stored, &next);
            let committed = self.store().commit(batch).await?;
            Ok(committed.stored(next).into())
        })
        .await
    }

    pub(crate) async fn container(&self, name: &ContainerName) -> Result<Stored<Container>, Error> {
        let key = Key::new([self.instance().as_str(), name.as_str()]);
        self.store().get(&key).await?.ok_or(Error::ContainerNotFound)
    }

    pub(crate) async fn policy(
        &self,
        container: &ContainerName,
        id: &str,
    ) -> Result<Option<AccessPolicy>, Error> {
        let container = match self.container(container).await {
            Ok(container) => container.record,
            Err(Error::ContainerNotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(container.policies.iter().find(|policy| policy.id == id).map(StoredPolicy::granted))
    }

    /// When what is let go of now may be removed: whoever reads it may finish.
    pub(crate) fn when_let_go(&self) -> Timestamp {
        self.clock().stamp().plus(Duration::from_secs(caps::BLOB_LET_GO_SECONDS))
    }
}
