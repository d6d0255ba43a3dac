//! What `events` asks of the event hubs of this server. Namespaces, rules and roles are the affair of whoever answers.

use std::future::Future;
use std::pin::Pin;

use base::InstanceId;
use store::StoreError;

use crate::endpoint::Address;

/// Where an endpoint's address leads, as things are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To no event hub of this server.
    Elsewhere,
    /// To this stream.
    Open { instance: InstanceId, event_hub: String },
    /// To an event hub of this server that is not there or does not let this sender in; says why, without a secret.
    Closed(String),
}

pub type Ways<'a> = Pin<Box<dyn Future<Output = Result<Way, StoreError>> + Send + 'a>>;

/// Asked at each delivery, so it answers from memory.
pub trait EventHubs: Send + Sync {
    fn way<'a>(&'a self, address: &'a Address) -> Ways<'a>;
}

/// A server without event hubs: every target is elsewhere. For tests of what sends nowhere.
pub struct NoEventHubs;

impl EventHubs for NoEventHubs {
    fn way<'a>(&'a self, _: &'a Address) -> Ways<'a> {
        Box::pin(async { Ok(Way::Elsewhere) })
    }
}
