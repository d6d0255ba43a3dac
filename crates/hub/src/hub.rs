//! One hub. Every operation is a method of it, written beside its noun; here is only what they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use access::{CaCertificateError, CaCertificates, SharedAccessPolicy};
use base::hosts::{Dialled, Service};
use base::{Clock, InstanceId, Meter, Scope, Timestamp};
use events::outbox::{self, Destination, Envelope};
use store::instances::Current;
use store::sessions::Node;
use store::{Batch, Revision, Store, Stored, StreamId, Streams};

use crate::bus::Bus;
use crate::configuration::Gate;
use crate::consumer_group::{ConsumerGroupError, ConsumerGroups};
use crate::context::{Context, Surroundings};
use crate::error::Error;
use crate::mailbox::Mailboxes;
use crate::measures::Measures;
use crate::settings::HubSettings;

/// Clones share it.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    surroundings: Surroundings,
    instance: InstanceId,
    name: String,
    scope: Scope,
    event_stream: StreamId,
    partition_count: u32,
    settings: Current<HubSettings>,
    /// Of the devices that are connected to this node.
    mailboxes: Mailboxes,
    measures: Arc<Measures>,
    gate: Gate,
    closed: AtomicBool,
}

impl Hub {
    pub(crate) fn start(surroundings: Surroundings, settings: Current<HubSettings>) -> Self {
        let first = settings.get();
        let mailboxes = Mailboxes::new(surroundings.context.clock.clone());
        let number = surroundings.node().number;
        surroundings.bus.attach(number, &first.instance, Arc::new(mailboxes.clone()));
        Self(Arc::new(Inner {
            instance: first.instance.clone(),
            name: first.name.clone(),
            scope: first.scope.clone(),
            event_stream: StreamId::new(&first.instance, EVENT_STREAM),
            partition_count: first.partition_count.max(1),
            mailboxes,
            measures: Arc::default(),
            gate: Gate::default(),
            settings,
            closed: AtomicBool::new(false),
            surroundings,
        }))
    }

    /// Refuses whatever comes from now on.
    pub(crate) fn refuse_everybody(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    pub fn instance(&self) -> &InstanceId {
        &self.0.instance
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where permissions on this hub hold.
    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    /// The host that an answer to `dialled` carries.
    pub fn host_name(&self, dialled: &Dialled) -> String {
        self.0.surroundings.context.hosts.advertised(
            Service::Hub,
            self.name(),
            &self.settings().location,
            dialled,
        )
    }

    pub fn settings(&self) -> Arc<HubSettings> {
        self.0.settings.get()
    }

    pub(crate) fn seen_settings(&self) -> (Revision, Arc<HubSettings>) {
        self.0.settings.seen()
    }

    /// Settings that were read or written now.
    pub(crate) fn offer_settings(&self, stored: Stored<HubSettings>) {
        self.0.settings.offer(stored);
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// Changes the CA certificates, of which `Hubs::ensure` knows nothing. Resource Manager calls, and asks whether the caller may.
    pub async fn change_certificates<T>(
        &self,
        change: impl Fn(&mut CaCertificates, Timestamp) -> Result<T, CaCertificateError>,
    ) -> Result<T, CaCertificateError> {
        let now = self.now();
        let change = |settings: &mut HubSettings| change(&mut settings.certificates, now);
        self.0.settings.change(self.store(), change).await?.ok_or(CaCertificateError::Gone)
    }

    /// Changes the consumer groups, as [`Hub::change_certificates`] does certificates.
    pub async fn change_consumer_groups<T>(
        &self,
        change: impl Fn(&mut ConsumerGroups, Timestamp) -> Result<T, ConsumerGroupError>,
    ) -> Result<T, ConsumerGroupError> {
        let now = self.now();
        let change = |settings: &mut HubSettings| change(&mut settings.consumer_groups, now);
        self.0.settings.change(self.store(), change).await?.ok_or(ConsumerGroupError::Gone)
    }

    pub fn policies(&self) -> Vec<SharedAccessPolicy> {
        self.settings().policies.clone()
    }

    /// The built-in endpoint `messages/events`.
    pub fn event_stream(&self) -> &StreamId {
        &self.0.event_stream
    }

    pub fn partition_count(&self) -> u32 {
        self.0.partition_count
    }

    pub(crate) fn mailboxes(&self) -> &Mailboxes {
        &self.0.mailboxes
    }

    /// Where the connections of this process are.
    pub(crate) fn node(&self) -> Node {
        self.0.surroundings.node()
    }

    pub(crate) fn bus(&self) -> &dyn Bus {
        &*self.0.surroundings.bus
    }

    pub fn measures(&self) -> &Arc<Measures> {
        &self.0.measures
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.surroundings.context
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.surroundings.context.store
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.0.surroundings.context.streams
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.surroundings.context.clock
    }

    /// The time that this hub stamps on what it stores and tells.
    pub fn now(&self) -> Timestamp {
        self.0.surroundings.context.clock.stamp()
    }

    /// An event that reaches the hub's event stream if, and only if, the batch commits; in order per device.
    pub(crate) fn push_event(&self, batch: &mut Batch, device_id: &str, headers: Vec<u8>, body: Vec<u8>) {
        let envelope = Envelope {
            instance: self.0.instance.clone(),
            partition_key: device_id.to_owned(),
            time: self.now(),
            destination: Destination::Stream(EVENT_STREAM.to_owned()),
            headers,
            body,
        };
        outbox::push(batch, &envelope);
    }

    /// Counts the operation against the hub's limits.
    pub(crate) fn charge(&self, meter: Meter) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::IotHubNotFound);
        }
        let charged = self.0.surroundings.context.throttle.charge(meter, &self.0.instance);
        charged.map_err(|throttled| Error::ThrottlingException { retry_after: throttled.retry_after, meter })
    }

    /// The host names that a token may be made out to.
    pub(crate) fn audiences(&self, presented_host: &str) -> Vec<String> {
        self.0.surroundings.context.hosts.audiences(Service::Hub, &self.0.name, presented_host)
    }

    /// Runs `work` to its end even if the caller goes away, so that what follows a commit is not lost with a cut connection. Work that
    /// waits for nothing has no task of its own.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let mut work = Box::pin(work);
        if let Poll::Ready(done) = work.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())) {
            return done;
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.0.surroundings.context.tasks.spawn(async move { drop(answer.send(work.await)) });
        answered.await.unwrap_or(Err(Error::ServerBusy))
    }
}

/// The name of a hub's built-in event stream.
pub const EVENT_STREAM: &str = "messages/events";
