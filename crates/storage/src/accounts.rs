//! All accounts of one server. Their life is that of every instance, `store::instances`; what they let go of is swept here.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use base::hosts::Hosts;
use base::tasks::{Stopping, Tasks};
use base::{Clock, InstanceId, caps};
use percent_encoding::percent_decode_str;
use store::instances::{Current, Instances, Kind};
use store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::account::{Account, AccountSettings};
use crate::account_address::{AccountAddress, Credential};
use crate::caller::Caller;
use crate::error::Error;
use crate::name::ContainerName;
use crate::sas::{Permission, Refusal, Sas, Target};

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

    /// The account of this server that somebody's address leads to, if it names one and has its key.
    pub fn opened_by(&self, address: &AccountAddress) -> Option<Account> {
        let Credential::Key(key) = &address.credential else { return None };
        self.find(address.name.as_str()).filter(|account| account.has_key(key.text()))
    }

    /// The account of this server that a container's address leads to, if it names one and is signed with its key, and whom the
    /// signature makes of its holder, who is on this machine. What he may do the account's operations say.
    pub async fn opened_by_signature(
        &self,
        address: &AccountAddress,
        container: &ContainerName,
    ) -> Option<(Account, Caller)> {
        let Credential::Signature(signature) = &address.credential else { return None };
        let account = self.find(address.name.as_str())?;
        let decoded = |text: &str| {
            let plain = text.replace('+', " ");
            Some(percent_decode_str(&plain).decode_utf8().ok()?.into_owned())
        };
        let pairs = signature.expose().split('&').filter_map(|field| field.split_once('='));
        let pairs: Vec<(&str, String)> =
            pairs.map(|(name, value)| Some((name, decoded(value)?))).collect::<Option<_>>()?;
        let query: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let sas = Box::new(Sas::parse(&query).ok()??);
        let caller = Caller::Sas { sas, is_https: address.is_https, peer: Ipv4Addr::LOCALHOST.into() };
        match account.permit(&caller, Target::Container(container), &[Permission::Read]).await {
            // It is another account's, somewhere else.
            Err(Error::Refused(Refusal::Signature)) => None,
            _ => Some((account, caller)),
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
