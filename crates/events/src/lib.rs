//! Events after the commit that raised them: the outbox, the relay that empties it, the streams and endpoints it fills.
//! Domain crates push envelopes and ensure streams; nothing here knows what an event means.

mod backlog;
pub mod endpoint;
mod event_hubs;
pub mod headers;
pub mod outbox;
pub mod reader;
mod relay;
pub mod route;
pub mod stream;

use std::sync::Arc;

use base::outbound::Outbound;
use base::tasks::Tasks;
use base::{Clock, InstanceId};
use store::changes::{Keeper, Kept, Reading};
use store::{Outbox, Store, StoreError, Streams};

pub use backlog::Backlog;
pub use endpoint::{Address, Endpoint, Target};
pub use event_hubs::{EventHubs, NoEventHubs, Way, Ways};
pub use outbox::{Destination, Envelope};
pub use reader::{Reader, Start, Step};
pub use route::Route;
pub use store::{LogDamage, Lost};
pub use stream::{Event, EventStream, EventStreamSettings};

/// What the events of one server need of the process.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub streams: Streams,
    pub clock: Clock,
    pub tasks: Tasks,
    /// Knows which targets are on this server, and who may send to them.
    pub event_hubs: Arc<dyn EventHubs>,
    /// The way to targets that are not on this server.
    pub outbound: Arc<dyn Outbound>,
}

/// Streams, endpoints, routes and the relay of one server. Clones share them.
#[derive(Clone)]
pub struct Events(Arc<Shared>);

struct Shared {
    context: Context,
    outbox: Outbox,
    streams: stream::Known,
    backlog: Backlog,
    /// Told when an endpoint or a stream may have become reachable.
    retry: tokio::sync::Notify,
}

impl Events {
    pub fn new(context: Context) -> Self {
        let outbox = Outbox::new(&context.store, &context.streams);
        Self(Arc::new(Shared {
            context,
            outbox,
            streams: stream::Known::default(),
            backlog: Backlog::default(),
            retry: tokio::sync::Notify::new(),
        }))
    }

    /// Finds every stored stream again and starts the relay, the delivery to other servers, and retention.
    pub async fn start(&self) -> Result<(), StoreError> {
        self.load_streams().await?;
        relay::start(self);
        Ok(())
    }

    /// Whether anything is still to be relayed.
    pub async fn has_untold(&self) -> Result<bool, StoreError> {
        Ok(!self.outbox().bytes().await?.is_empty())
    }

    /// Endpoints for which events are parked, as they are stored.
    pub async fn endpoints_waiting(&self) -> Result<usize, StoreError> {
        Ok(relay::stored(self).await?.len())
    }

    /// Forgets everything of an instance but its records, which its owner removes with it.
    pub async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        for stream in self.streams_of(instance) {
            self.remove_stream(instance, stream.name()).await?;
        }
        for stream in self.context().streams.of_instance(instance).await? {
            self.context().streams.remove(&stream).await?;
        }
        Ok(())
    }

    /// What is known to be damaged of the log.
    pub fn log_damage(&self) -> LogDamage {
        self.context().streams.damage()
    }

    /// Events that are known to lie, or to have lain, in the streams that there are.
    pub fn appended_total(&self) -> u64 {
        self.context().streams.appended_total()
    }

    /// Something that endpoints wait for may have changed.
    pub fn try_endpoints_again(&self) {
        self.0.retry.notify_one();
    }

    /// What waits of each instance; for whoever throttles, and for metrics.
    pub fn backlog(&self) -> &Backlog {
        &self.0.backlog
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }
}

impl Keeper for Events {
    fn kept(&self) -> Vec<Kept> {
        vec![Kept::of::<EventStreamSettings>(), Kept::of::<Endpoint>()]
    }

    fn read_again(&self) -> Reading<'_> {
        Box::pin(async {
            self.read_streams_again().await?;
            self.try_endpoints_again();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
