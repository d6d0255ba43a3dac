//! Subscriptions, their tenants, and which provider namespaces they are registered for.
//! Called by the door and, for existence, by every operation. Subscriptions come from the first start, not from callers.

use std::collections::BTreeSet;

use access::{Caller, Permission};
use base::{Scope, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Batch, Key, Record, Scan, Table};

use crate::error::Error;
use crate::{ResourceManager, provider};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub id: String,
    pub display_name: String,
    pub tenant_id: String,
}

/// Whether a subscription may use a namespace. No row means that it may: every namespace starts registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProviderRegistration {
    pub subscription: String,
    pub namespace: String,
    pub is_registered: bool,
}

/// The defaults were made. Without this row a start that was cut short makes the rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FirstStart {
    ended: Timestamp,
    /// Whether a storage account was among them.
    #[serde(default)]
    pub(crate) has_storage: bool,
}

impl FirstStart {
    fn key_of() -> Key {
        Key::new(["first_start"])
    }
}

impl Record for FirstStart {
    const TABLE: Table = store::table::FIRST_START;

    fn key(&self) -> Key {
        Self::key_of()
    }
}

const REALM: &str = "subscriptions";
const READ: &str = "Microsoft.Resources/subscriptions/read";

impl Record for Subscription {
    const TABLE: Table = store::table::AZURE_SUBSCRIPTION;

    fn key(&self) -> Key {
        key_of(&self.id)
    }
}

impl Record for ProviderRegistration {
    const TABLE: Table = store::table::PROVIDER_REGISTRATION;

    fn key(&self) -> Key {
        registration_key(&self.subscription, &self.namespace)
    }
}

fn key_of(id: &str) -> Key {
    Key::new([REALM, &id.to_ascii_lowercase()])
}

fn registration_key(subscription: &str, namespace: &str) -> Key {
    Key::new([subscription, namespace].map(str::to_ascii_lowercase))
}

/// The scope of everything in a subscription.
pub fn scope(subscription: &str) -> Scope {
    Scope::new(&format!("/subscriptions/{subscription}"))
}

impl ResourceManager {
    /// Makes a subscription, or leaves the one that is there as it is. The first start calls it.
    pub async fn ensure_subscription(&self, subscription: &Subscription) -> Result<(), Error> {
        if self.store.get::<Subscription>(&subscription.key()).await?.is_none() {
            let mut batch = Batch::default();
            batch.put(subscription);
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// What is known of the first start, once the defaults were made in full.
    pub(crate) async fn first_start_over(&self) -> Result<Option<FirstStart>, Error> {
        let found = self.store.get::<FirstStart>(&FirstStart::key_of()).await?;
        Ok(found.map(|stored| stored.record))
    }

    pub(crate) async fn mark_first_start_over(&self) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.put(&FirstStart { ended: self.clock.now(), has_storage: true });
        self.store.commit(batch).await?;
        Ok(())
    }

    /// `Subscriptions_List`: those in which the caller may do anything at all.
    pub async fn subscriptions(&self, caller: &Caller) -> Result<Vec<Subscription>, Error> {
        let rows =
            self.store.scan::<Subscription>(Scan::new(Key::new([REALM]), self.settings.page_size)).await?;
        let all = rows.into_iter().map(|row| row.record);
        Ok(all.filter(|subscription| caller.may_enter(&scope(&subscription.id))).collect())
    }

    /// `Subscriptions_Get`.
    pub async fn subscription(&self, caller: &Caller, id: &str) -> Result<Subscription, Error> {
        let allowed = caller.require(Permission::Management(READ), &scope(id));
        let subscription = self.subscription_must_exist(id).await?;
        if !caller.may_enter(&scope(id)) {
            allowed?;
        }
        Ok(subscription)
    }

    /// `Tenants_List`: the tenants of the subscriptions that the caller sees.
    pub async fn tenants(&self, caller: &Caller) -> Result<BTreeSet<String>, Error> {
        Ok(self.subscriptions(caller).await?.into_iter().map(|subscription| subscription.tenant_id).collect())
    }

    /// `Subscriptions_ListLocations` may be read by whoever sees the subscription.
    pub async fn locations(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<&'static [crate::location::Location], Error> {
        self.subscription(caller, id).await?;
        Ok(crate::location::ALL)
    }

    pub(crate) async fn subscription_must_exist(&self, id: &str) -> Result<Subscription, Error> {
        if uuid::Uuid::try_parse(id).is_err() || id.len() != 36 {
            return Err(Error::InvalidSubscriptionId(id.chars().take(64).collect()));
        }
        let stored = self.store.get::<Subscription>(&key_of(id)).await?;
        stored.map(|stored| stored.record).ok_or_else(|| Error::SubscriptionNotFound(id.to_owned()))
    }

    pub(crate) async fn tenant_of(&self, subscription: &str) -> Result<String, Error> {
        Ok(self.subscription_must_exist(subscription).await?.tenant_id)
    }

    /// `Providers_Get` and, over all namespaces, `Providers_List`: the namespace in Azure's spelling and whether it is registered.
    pub async fn provider(
        &self,
        caller: &Caller,
        subscription: &str,
        namespace: &str,
    ) -> Result<(&'static str, bool), Error> {
        self.subscription(caller, subscription).await?;
        let known = provider::find_namespace(namespace)
            .ok_or_else(|| Error::InvalidResourceNamespace(namespace.chars().take(128).collect()))?;
        Ok((known, self.is_registered(subscription, known).await?))
    }

    /// `Providers_Register` and `Providers_Unregister`.
    pub async fn set_provider(
        &self,
        caller: &Caller,
        subscription: &str,
        namespace: &str,
        is_registered: bool,
    ) -> Result<(&'static str, bool), Error> {
        // The action of the namespace itself, such as Microsoft.DigitalTwins/register/action, is a special case of this one.
        let action = if is_registered {
            "Microsoft.Resources/subscriptions/providers/register/action"
        } else {
            "Microsoft.Resources/subscriptions/providers/unregister/action"
        };
        self.allow(caller, action, &scope(subscription), subscription).await?;
        let known = provider::find_namespace(namespace)
            .ok_or_else(|| Error::InvalidResourceNamespace(namespace.chars().take(128).collect()))?;
        let row = ProviderRegistration {
            subscription: subscription.to_owned(),
            namespace: known.to_owned(),
            is_registered,
        };
        let mut batch = Batch::default();
        batch.put(&row);
        self.store.commit(batch).await?;
        Ok((known, is_registered))
    }

    async fn is_registered(&self, subscription: &str, namespace: &str) -> Result<bool, Error> {
        let stored =
            self.store.get::<ProviderRegistration>(&registration_key(subscription, namespace)).await?;
        Ok(stored.is_none_or(|stored| stored.record.is_registered))
    }

    pub(crate) async fn namespace_must_be_registered(
        &self,
        subscription: &str,
        namespace: &str,
    ) -> Result<(), Error> {
        if self.is_registered(subscription, namespace).await? {
            return Ok(());
        }
        Err(Error::MissingSubscriptionRegistration(namespace.to_owned()))
    }
}
