//! The fixture of this crate's tests: a hub in memory whose clock moves when told.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use access::Caller;
use base::hosts::{Hosts, NoMachine};
use base::ids::IdentityId;
use base::outbound::NoOutbound;
use base::sas::{self, SasToken};
use base::tasks::Tasks;
use base::{Clock, IfMatch, InstanceId, Key, Scope, Throttle, Timestamp};
use events::Events;
use serde_json::Value;
use store::{LogRecord, Options, Position, Store, Streams};

use crate::device::{Authentication, AuthenticationSpec, DeviceSpec, Identity, IdentityView, ModuleSpec};
use crate::file_upload::NoFileStorage;
use crate::telemetry::headers::{self, Property};
use crate::twin::{TwinPatch, TwinView};
use crate::{Command, Context, DeviceAuthentication, Error, Hub, HubSettings, Hubs, Session};

pub(crate) const HOST: &str = "hub.azure-devices.localhost";

pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) hubs: Hubs,
    pub(crate) clock: Clock,
    pub(crate) context: Context,
}

impl std::ops::Deref for TestHub {
    type Target = Hub;

    fn deref(&self) -> &Hub {
        &self.hub
    }
}

pub(crate) fn context() -> Context {
    context_on(test_store::open().0)
}

pub(crate) fn context_on(store: Store) -> Context {
    let clock = Clock::manual("2026-01-02T03:04:05.1234567Z".parse().unwrap());
    let streams = Streams::beside(&store, &Options::memory()).unwrap();
    let hosts = Hosts::new("localhost", 443, NoMachine);
    let tasks = Tasks::new();
    let events = Events::new(events::Context {
        store: store.clone(),
        streams: streams.clone(),
        clock: clock.clone(),
        event_hubs: Arc::new(events::NoEventHubs),
        tasks: tasks.clone(),
        outbound: Arc::new(NoOutbound),
    });
    Context {
        store,
        streams,
        events,
        clock,
        throttle: Throttle::unlimited(),
        hosts,
        tasks,
        queue_depth: base::caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT,
        file_storage: Arc::new(NoFileStorage),
    }
}

pub(crate) fn settings(name: &str) -> HubSettings {
    let scope =
        Scope::new(&format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/{name}"));
    let instance = InstanceId::from_stored(format!("hub-{name}-1"));
    HubSettings { is_default: name == "hub", ..HubSettings::new(instance, name, scope, "eastus") }
}

/// How long a test waits for another task, so that a fault fails it and does not hang it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("what the test waits for comes")
}

/// What a session is told next.
pub(crate) async fn next_command(session: &Session) -> Command {
    within(session.next_command()).await
}

impl TestHub {
    pub(crate) async fn new() -> Self {
        Self::on(context()).await
    }

    pub(crate) async fn on(context: Context) -> Self {
        let hubs = Hubs::new(context.clone());
        let hub = hubs.ensure(settings("hub")).await.unwrap();
        Self { hub, hubs, clock: context.clock.clone(), context }
    }

    pub(crate) async fn with_device(device_id: &str) -> Self {
        let hub = Self::new().await;
        hub.create_device(device_id).await;
        hub
    }

    /// A hub with the device `dev1` and its module `mod1`.
    pub(crate) async fn with_module() -> Self {
        let hub = Self::with_device("dev1").await;
        hub.create_module("dev1/mod1").await;
        hub
    }

    pub(crate) async fn create_device(&self, device_id: &str) -> IdentityView {
        let spec = DeviceSpec::new(device_id.parse().unwrap());
        self.hub.put_device(&system(), &spec, &IfMatch::Absent).await.unwrap()
    }

    pub(crate) async fn create_module(&self, id: &str) -> IdentityView {
        self.hub.put_module(&system(), &module_spec(id), &IfMatch::Absent).await.unwrap()
    }

    pub(crate) async fn stored(&self, id: &str) -> Identity {
        self.hub.identity(&id.parse().unwrap()).await.unwrap().unwrap().record
    }

    pub(crate) async fn twin(&self, id: &str) -> TwinView {
        self.hub.get_twin(&system(), &id.parse().unwrap()).await.unwrap()
    }

    pub(crate) async fn patch(&self, id: &str, body: Value) -> Result<TwinView, Error> {
        self.patch_if(id, body, IfMatch::Absent).await
    }

    pub(crate) async fn patch_if(&self, id: &str, body: Value, if_match: IfMatch) -> Result<TwinView, Error> {
        self.hub.update_twin(&system(), &id.parse().unwrap(), &TwinPatch::from_json(&body)?, &if_match).await
    }

    pub(crate) async fn reported(&self, id: &str, body: Value) -> Result<u64, Error> {
        let id: IdentityId = id.parse().unwrap();
        let caller = Caller::identity(self.hub.scope().clone(), id.clone());
        self.hub.patch_reported(&caller, &id, body.to_string().as_bytes(), None).await
    }

    /// A token for `sr` that lives an hour.
    pub(crate) fn token(&self, sr: &str, key: &Key, key_name: Option<&str>) -> SasToken {
        let expires_at = self.clock.now().plus(Duration::from_hours(1));
        SasToken::parse(&sas::build(sr, key, expires_at, key_name)).unwrap()
    }

    pub(crate) async fn authenticate(&self, id: &str) -> Result<DeviceAuthentication, Error> {
        let identity = self.stored(id).await;
        let Authentication::Sas { primary_key, .. } = &identity.authentication else { panic!("no key") };
        let resource = match id.split_once('/') {
            None => format!("{HOST}/devices/{id}"),
            Some((device_id, module_id)) => format!("{HOST}/devices/{device_id}/modules/{module_id}"),
        };
        let token = self.token(&resource, primary_key, None);
        self.hub
            .authenticate_device(HOST, &id.parse().unwrap(), &token)
            .await
            .map_err(|refused| refused.error)
    }

    pub(crate) async fn connect(&self, id: &str) -> Session {
        let authentication = self.authenticate(id).await.unwrap();
        self.hub.open_session(authentication, None).await.unwrap()
    }

    /// Waits until nobody is connected under an identity: its session may have ended before the row of it.
    pub(crate) async fn disconnected(&self, id: &str) {
        let id = id.parse().unwrap();
        let ended = async {
            while self.hub.is_connected(&id).await.unwrap() {
                tokio::task::yield_now().await;
            }
        };
        within(ended).await;
    }

    /// Runs a request until it has waited so often, and drops it in the wait after that, as a cut connection does; then waits for
    /// what goes on without it. Whether it was answered before.
    pub(crate) async fn is_answered_in<T>(&self, waits: usize, request: impl Future<Output = T>) -> bool {
        let tasks = &self.context.tasks;
        let before = tasks.running();
        let mut request = Box::pin(request);
        let mut left = waits;
        let step = |context: &mut std::task::Context<'_>| match request.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        };
        let is_answered = within(std::future::poll_fn(step)).await;
        drop(request);
        let goes_on = async {
            while tasks.running() > before {
                tokio::task::yield_now().await;
            }
        };
        within(goes_on).await;
        is_answered
    }

    /// Everything in the event stream, partition by partition.
    pub(crate) async fn events(&self) -> Vec<LogRecord> {
        let mut all = Vec::new();
        for partition in 0..self.hub.partition_count() {
            let stream = self.hub.event_stream();
            all.extend(self.context.streams.read(stream, partition, Position::Earliest, 1000).await.unwrap());
        }
        all
    }
}

pub(crate) fn module_spec(id: &str) -> ModuleSpec {
    let id: IdentityId = id.parse().unwrap();
    let module_id = id.module_id.expect("a module's id");
    ModuleSpec {
        device_id: id.device_id,
        module_id,
        managed_by: None,
        authentication: AuthenticationSpec::default(),
    }
}

pub(crate) fn system() -> Caller {
    Caller::system()
}

/// Properties of a record as `name=value`, system properties first marked with `$`.
pub(crate) fn properties(record: &LogRecord) -> Vec<String> {
    let write = |property| match property {
        Property::System(name, value) => format!("${}={value}", name.name()),
        Property::Application(name, value) => format!("{name}={value}"),
    };
    headers::read(&record.headers).map(write).collect()
}

/// The chance and the length of a random walk beside a model: what `TWINHUB_MODEL_SEED` and `TWINHUB_MODEL_STEPS` say, else a seed of
/// its own and so many steps, of which a database takes a tenth. The seed is printed.
pub(crate) fn random_walk(steps: usize) -> (fastrand::Rng, usize) {
    let said = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let seed = said("TWINHUB_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let usual = if test_store::is_embedded() { steps } else { steps / 10 };
    let steps =
        said("TWINHUB_MODEL_STEPS").map_or(usual, |steps| steps.try_into().expect("they can be counted"));
    println!("seed {seed}, {steps} steps");
    (fastrand::Rng::with_seed(seed), steps)
}

pub(crate) fn start() -> Timestamp {
    "2026-01-02T03:04:05.1234567Z".parse().unwrap()
}
