//! One account: what is stored of it, its keys, and the handle by which operations reach its containers.

use std::sync::Arc;

use base::hosts::{Dialled, Service};
use base::{Clock, InstanceId, Key as AccountKey, Scope, Timestamp};
use serde::{Deserialize, Serialize};
use store::instances::{Current, Settings};
use store::{Batch, Key, Record, Store, Table, table};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::accounts::Context;
use crate::caller::Caller;
use crate::error::Error;
use crate::name::AccountName;
use crate::shared_key::{Authorization, Request};

/// What an account's keys are long.
const KEY_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountSettings {
    pub instance: InstanceId,
    pub name: AccountName,
    /// The account's path in Resource Manager.
    pub scope: Scope,
    pub keys: [AccountKey; 2],
    /// When each of them was made.
    pub keys_made: [Timestamp; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyName {
    Key1,
    Key2,
}

impl KeyName {
    pub const ALL: [Self; 2] = [Self::Key1, Self::Key2];

    pub fn name(self) -> &'static str {
        match self {
            Self::Key1 => "key1",
            Self::Key2 => "key2",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name().eq_ignore_ascii_case(text))
    }
}

impl AccountSettings {
    /// An account with keys that are made up.
    pub fn new(instance: InstanceId, name: AccountName, scope: Scope, now: Timestamp) -> Self {
        let keys = [AccountKey::generate(KEY_BYTES), AccountKey::generate(KEY_BYTES)];
        Self { instance, name, scope, keys, keys_made: [now, now] }
    }
}

impl Record for AccountSettings {
    const TABLE: Table = table::STORAGE_ACCOUNT;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

impl Settings for AccountSettings {
    const SERVICE: Service = Service::Storage;

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn location(&self) -> &'static str {
        ""
    }

    fn keep(&mut self, old: &Self) {
        self.name.clone_from(&old.name);
        self.keys.clone_from(&old.keys);
        self.keys_made = old.keys_made;
    }
}

/// Clones share it.
#[derive(Clone)]
pub struct Account(Arc<Inner>);

struct Inner {
    context: Context,
    instance: InstanceId,
    name: AccountName,
    settings: Current<AccountSettings>,
}

impl Account {
    pub(crate) fn start(context: Context, settings: Current<AccountSettings>) -> Self {
        let (instance, name) = (settings.get().instance.clone(), settings.get().name.clone());
        Self(Arc::new(Inner { context, instance, name, settings }))
    }

    pub fn instance(&self) -> &InstanceId {
        &self.0.instance
    }

    pub fn name(&self) -> &AccountName {
        &self.0.name
    }

    pub fn settings(&self) -> Arc<AccountSettings> {
        self.0.settings.get()
    }

    /// The host of its blob endpoint, as whoever dialled so reaches it.
    pub fn host_name(&self, dialled: &Dialled) -> String {
        self.0.context.hosts.advertised(Service::Storage, self.name().as_str(), "", dialled)
    }

    /// Whether one of its keys is this one.
    pub fn has_key(&self, key: &str) -> bool {
        self.settings().keys.iter().any(|own| own.matches(key))
    }

    /// Makes up another key in the place of one. Whatever was signed with that opens nothing any more.
    pub async fn regenerate_key(&self, name: KeyName) -> Result<(), Error> {
        let (made, now) = (AccountKey::generate(KEY_BYTES), self.clock().now());
        let change = |settings: &mut AccountSettings| {
            settings.keys[name as usize] = made.clone();
            settings.keys_made[name as usize] = now;
            Ok::<_, Error>(())
        };
        self.0.settings.change(self.store(), change).await?.ok_or(Error::WrittenMeanwhile)
    }

    /// Whoever signed a request with one of the keys.
    pub fn check(&self, authorization: &Authorization, request: Request<'_>) -> Result<Caller, Error> {
        let settings = self.settings();
        if authorization.account != *self.name() {
            return Err(Error::AuthenticationFailed("the request is signed for another account"));
        }
        let keys = [&settings.keys[0], &settings.keys[1]];
        authorization.check(request, keys, self.clock().now()).map_err(Error::AuthenticationFailed)?;
        Ok(Caller::Key)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.context.store
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.context.clock
    }

    /// Few bodies are received at a time: each holds a chunk.
    pub(crate) async fn turn_to_receive(&self) -> Option<SemaphorePermit<'_>> {
        let receiving: &Semaphore = &self.0.context.receiving;
        receiving.acquire().await.ok()
    }

    /// Insists that the account has not ended.
    pub(crate) fn guard(&self, batch: &mut Batch) {
        batch.guard_exists::<AccountSettings>(Key::instance(self.instance()));
    }
}
