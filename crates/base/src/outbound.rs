//! The one way out of the process. Domain crates ask for a delivery; adapters know the protocol.

use std::future::Future;
use std::pin::Pin;

/// A message on its way to a target outside the instance that raised it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub partition_key: String,
    pub content_type: String,
    pub properties: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// No adapter for this kind of target yet: the message waits.
    #[error("no adapter reaches {0} yet")]
    Unreachable(String),
    /// The target failed for now: try again later.
    #[error("{0}")]
    Transient(String),
    /// The target refused for good.
    #[error("{0}")]
    Refused(String),
}

pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), OutboundError>> + Send + 'a>>;

/// Reaches nobody: every message waits. For tests, and for servers that have no adapter yet.
pub struct NoOutbound;

impl Outbound for NoOutbound {
    fn deliver<'a>(&'a self, address: &'a str, _messages: &'a [Message]) -> Delivery<'a> {
        Box::pin(async move { Err(OutboundError::Unreachable(address.to_owned())) })
    }
}

/// Delivers messages, in order, to a target given by an address that the adapter understands.
pub trait Outbound: Send + Sync {
    /// `Ok` only once every message is durable at the target.
    fn deliver<'a>(&'a self, address: &'a str, messages: &'a [Message]) -> Delivery<'a>;
}
