//! All accounts of one server. Their life is that of every instance, `store::instances`; what they let go of is swept here.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use base::hosts::Hosts;
use base::tasks::{Stopping, Tasks};
use base::{Clock, InstanceId, caps};
use store::instances::{Current, Instances, Kind};
use store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::account::{Account, AccountSettings};
use crate::error::Error;
use crate::name::{BlobName, ContainerName};

/// What an account is given of its surroundings.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub clock: Clock,
    pub hosts: Hosts,
    pub tasks: Tasks,
    pub(crate) receiving: Arc<Semaphore>,
}

impl Context {
    pub fn new(store: Store, clock: Clock, hosts: Hosts, tasks: Tasks) -> Self {
        let receiving = Arc::new(Semaphore::new(caps::UPLOADS_RECEIVED_MAX));
        Self { store, clock, hosts, tasks, receiving }
    }
}

/// Clones share the accounts.
#[derive(Clone)]
pub struct Accounts(Instances<Context>);

impl Kind for Context {
    type Settings = AccountSettings;
    type Instance = Account;

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn start(&self, settings: Current<AccountSettings>) -> Account {
        Account::start(self.clone(), settings)
    }

    async fn remove_streams(&self, instance: &InstanceId) -> Result<(), StoreError> {
        self.store.chunks().remove_instance(instance).await
    }
}

impl Deref for Accounts {
    type Target = Instances<Context>;

    fn deref(&self) -> &Instances<Context> {
        &self.0
    }
}

impl Accounts {
    pub fn new(context: Context) -> Self {
        let (store, hosts) = (context.store.clone(), context.hosts.clone());
        Self(Instances::new(context, store, hosts))
    }

    /// The account of this server that a connection string opens, if it names one and has its key.
    pub fn opened_by(&self, connection_string: &str) -> Option<Account> {
        let part = |wanted: &str| {
            let mut parts = connection_string.split(';').filter_map(|part| part.trim().split_once('='));
            parts.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
        };
        let account = self.find(part("AccountName")?)?;
        account.has_key(part("AccountKey")?).then_some(account)
    }

    /// How long a blob of such an account is; `None` where there is no account, container or blob of these names.
    pub async fn length_of(
        &self,
        connection_string: &str,
        container: &ContainerName,
        blob: &BlobName,
    ) -> Result<Option<u64>, Error> {
        let Some(account) = self.opened_by(connection_string) else { return Ok(None) };
        match account.length_of(container, blob).await {
            Ok(length) => Ok(Some(length)),
            Err(Error::ContainerNotFound | Error::BlobNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what is due, now and from now on, until the process stops.
    pub fn keep_sweeping(&self) {
        let context = self.kind();
        let (accounts, stopping) = (self.clone(), context.tasks.stopping());
        let work = move || accounts.clone().sweep_again_and_again(stopping.clone());
        context.tasks.keep("removal of blobs", &context.clock, work);
    }

    async fn sweep_again_and_again(self, mut stopping: Stopping) {
        let clock = self.kind().clock.clone();
        while !stopping.has_begun() {
            if let Err(error) = self.sweep().await {
                tracing::debug!(%error, "what blobs left behind is removed later");
            }
            tokio::select! {
                () = clock.sleep(Duration::from_secs(caps::BLOB_SWEEP_SECONDS)) => {}
                () = stopping.wait() => {}
            }
        }
    }
}
