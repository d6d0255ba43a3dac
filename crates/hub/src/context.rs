//! What a hub is given of its surroundings.

use std::sync::Arc;

use base::hosts::Hosts;
use base::tasks::Tasks;
use base::{Clock, Throttle};
use events::Events;
use store::sessions::Node;
use store::{Store, Streams};

use crate::bus::Bus;
use crate::file_upload::FileStorage;

/// What a hub shares with the rest of the house.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub streams: Streams,
    /// Knows the hubs' event streams, relays into them and forgets what is past its time.
    pub events: Events,
    pub clock: Clock,
    pub throttle: Throttle,
    pub hosts: Hosts,
    pub tasks: Tasks,
    /// Cloud-to-device messages that may wait for one device.
    pub queue_depth: u32,
    /// Reaches the accounts that devices upload files to.
    pub file_storage: Arc<dyn FileStorage>,
}

/// The same with its place among the nodes.
#[derive(Clone)]
pub struct Surroundings {
    pub(crate) context: Context,
    /// `None`: the node that the store is, which begins another life when it has lost its lease.
    pub(crate) node: Option<Node>,
    pub(crate) bus: Arc<dyn Bus>,
}

impl Surroundings {
    pub(crate) fn node(&self) -> Node {
        self.node.unwrap_or_else(|| self.context.store.node())
    }
}
