//! The one way out of the process. Domain crates ask for a delivery; adapters know the protocol.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::{ConnectionString, Secret, Url};

/// A message on its way to a target outside the instance that raised it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub partition_key: String,
    pub content_type: String,
    pub properties: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Where messages go. It may be printed: none of its parts gives a secret away unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    EventHub(ConnectionString),
    ServiceBus(ConnectionString),
    EventGrid { topic: Url, access_key: Option<Secret> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// No adapter for this kind of target yet: the message waits.
    #[error("no adapter reaches {0} yet")]
    Unreachable(Address),
    /// The target failed for now: try again later.
    #[error("{0}")]
    Transient(String),
    /// The target refused for good.
    #[error("{0}")]
    Refused(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EventHub(place) => write!(f, "the event hub {place}"),
            Self::ServiceBus(place) => write!(f, "the Service Bus topic {place}"),
            Self::EventGrid { topic, .. } => write!(f, "the Event Grid topic {topic}"),
        }
    }
}

pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), OutboundError>> + Send + 'a>>;

/// Reaches nobody: every message waits. For tests, and for servers that have no adapter yet.
pub struct NoOutbound;

impl Outbound for NoOutbound {
    fn deliver<'a>(&'a self, address: &'a Address, _messages: &'a [Message]) -> Delivery<'a> {
        Box::pin(async move { Err(OutboundError::Unreachable(address.clone())) })
    }
}

/// Delivers messages, in order, to a target outside.
pub trait Outbound: Send + Sync {
    /// `Ok` only once every message is durable at the target.
    fn deliver<'a>(&'a self, address: &'a Address, messages: &'a [Message]) -> Delivery<'a>;
}
