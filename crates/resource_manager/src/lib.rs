//! Azure Resource Manager for this server: subscriptions, groups, resources of eight types, and the long-running operations that
//! make, change and delete the instances behind them. Called by the Resource Manager door and by the first start.
//! It must never know HTTP, and never what happens inside an instance.

use std::sync::Arc;
use std::time::Duration;

use base::hosts::Hosts;
use base::tasks::Tasks;
use base::{Clock, caps};
use events::Events;
use store::Store;
use store::changes::{Keeper, Kept, Reading};
use tokio::sync::Notify;

mod behind;
mod certificate;
mod defaults;
mod error;
mod network;
mod principal;
mod reconcile;
mod turn;

pub mod endpoint;
pub mod event_hub;
pub mod filter;
pub mod group;
pub mod id;
pub mod identity;
pub mod instance;
pub mod iot_hub;
pub mod location;
pub mod operation;
pub mod policy;
pub mod private_endpoint;
pub mod provider;
pub mod provisioning_service;
pub mod resource;
pub mod role;
pub mod sections;
pub mod storage_account;
pub mod subscription;
pub mod user_assigned_identity;

pub use defaults::{DEFAULT_STORAGE_ACCOUNT, DefaultResources, Defaults, PolicyKeys};
pub use error::Error;
pub use id::{GroupId, ResourceId};
pub use provider::ResourceType;
pub use resource::{Accepted, Resource};

/// How this server's Resource Manager behaves, where Azure and convenience differ.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Finish every operation within its request: nothing to poll. For tests of callers that do not wait.
    pub is_synchronous: bool,
    /// How long an operation runs at least, so that clients see it running.
    pub delay: Duration,
    /// What `Retry-After` says; 10 as published, or less to be quick.
    pub retry_after_seconds: u64,
    pub mask: endpoint::Mask,
    pub page_size: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            is_synchronous: false,
            delay: Duration::from_millis(200),
            retry_after_seconds: 1,
            mask: endpoint::Mask::default(),
            page_size: caps::RESOURCE_PAGE,
        }
    }
}

/// What Resource Manager needs of the process.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub events: Events,
    pub event_hubs: event_hubs::Namespaces,
    pub accounts: storage::Accounts,
    pub clock: Clock,
    pub hosts: Hosts,
    pub tasks: Tasks,
    pub directory: access::Directory,
    pub hubs: hub::Hubs,
    pub services: provisioning::Services,

    pub instances: digital_twins::Instances,
    pub settings: Settings,
}

/// Clones share it.
#[derive(Clone)]
pub struct ResourceManager(Arc<Inner>);

pub struct Inner {
    pub(crate) store: Store,
    pub(crate) events: Events,
    pub(crate) event_hubs: event_hubs::Namespaces,
    pub(crate) accounts: storage::Accounts,
    pub(crate) clock: Clock,
    pub(crate) hosts: Hosts,
    pub(crate) tasks: Tasks,
    pub(crate) directory: access::Directory,
    pub(crate) hubs: hub::Hubs,
    pub(crate) services: provisioning::Services,

    pub(crate) instances: digital_twins::Instances,
    pub(crate) settings: Settings,
    /// Poked when an operation was accepted.
    pub(crate) wake: Notify,
}

impl std::ops::Deref for ResourceManager {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// An operation that another process accepted is as much this one's to finish.
impl Keeper for ResourceManager {
    fn kept(&self) -> Vec<Kept> {
        vec![Kept::of::<operation::Operation>()]
    }

    fn read_again(&self) -> Reading<'_> {
        Box::pin(async {
            self.wake.notify_one();
            Ok(())
        })
    }
}

impl ResourceManager {
    pub fn new(context: Context) -> Self {
        let Context {
            store,
            events,
            event_hubs,
            accounts,
            clock,
            hosts,
            tasks,
            directory,
            hubs,
            services,
            instances,
            settings,
        } = context;
        let wake = Notify::new();
        Self(Arc::new(Inner {
            store,
            events,
            event_hubs,
            accounts,
            clock,
            hosts,
            tasks,
            directory,
            hubs,
            services,
            instances,
            settings,
            wake,
        }))
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }
}
