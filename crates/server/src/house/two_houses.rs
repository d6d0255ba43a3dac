//! Two houses with a store each on one database: whatever one changes, the other goes by after one look, of which there are two a
//! second. Nothing here waits for that look; the clock stands still, and each test asks for it when it wants it.

use access::directory::NewRoleAssignment;
use access::{CaCertificateDraft, Caller, Permission, roles};
use base::hosts::{EveryName, Host};
use base::sas::{self, SasToken};
use base::{Elapsed, IfMatch, IfNoneMatch, Scope, Secret, Timestamp};
use events::{Address, Way};
use hub::device::{Authentication, DeviceSpec, IdentityView};
use provisioning::EnrollmentDraft;
use provisioning::attestation::AttestationDraft;
use provisioning::enrollment::EnrollmentKind;
use resource_manager::event_hub::EventHubRequest;
use resource_manager::policy::PolicyRequest;
use resource_manager::resource::Preconditions;
use resource_manager::{ResourceId, ResourceType, iot_hub, operation, provisioning_service};
use serde_json::json;
use store::{Durability, Location, Options};

use super::*;

const NOW: i64 = 1_790_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

struct Houses {
    here: Open,
    there: Open,
    clock: Clock,
    /// Dropped last.
    _database: test_postgres::Database,
}

struct Open {
    house: House,
    changes: Changes,
    store: Store,
}

impl std::ops::Deref for Open {
    type Target = House;

    fn deref(&self) -> &House {
        &self.house
    }
}

impl Open {
    async fn on(database: &test_postgres::Database, clock: &Clock, is_synchronous: bool) -> Self {
        let location = Location::Postgres(Secret::new(database.url()));
        let options = Options::new(location, Durability::Relaxed);
        let store = Store::open(&options).unwrap();
        let streams = Streams::beside(&store, &options).unwrap();
        let directory = Directory::open(store.clone(), clock.clone(), "localhost", vec![]).await.unwrap();
        let settings =
            resource_manager::Settings { is_synchronous, delay: Duration::ZERO, ..Default::default() };
        let house = House::open(Ground {
            store: store.clone(),
            streams,
            clock: clock.clone(),
            hosts: Hosts::new("localhost", 443, EveryName),
            tasks: Tasks::new(),
            directory,
            refusals: Refusals::new(clock.clone()),
            queue_depth: base::caps::CLOUD_TO_DEVICE_QUEUE_DEFAULT,
            resource_manager: settings,
            keys: None,
        })
        .await
        .unwrap();
        let mut changes = house.changes(&store);
        changes.look().await.unwrap();
        Self { house, changes, store }
    }

    /// Sees what the other house changed.
    async fn look(&mut self) {
        within(self.changes.look()).await.unwrap();
    }

    fn id(&self, resource_type: ResourceType, name: &str) -> ResourceId {
        let FirstStart { subscription_id, resource_group, .. } = &self.first_start;
        ResourceId::new(&GroupId::new(subscription_id, resource_group), resource_type, name)
    }

    async fn put_hub(
        &self,
        name: &str,
        properties: iot_hub::PropertiesRequest,
    ) -> resource_manager::Accepted {
        let put = iot_hub::Put { location: Some("eastus".into()), properties, ..iot_hub::Put::default() };
        let id = self.id(ResourceType::IotHub, name);
        within(self.manager.put_iot_hub(&system(), &id, &put)).await.unwrap()
    }

    async fn delete(&self, id: &ResourceId) {
        within(self.manager.delete_resource(&system(), id)).await.unwrap();
    }

    fn resolves(&self, host: &str) -> bool {
        matches!(self.hosts.resolve(host, None), Host::Instance(..))
    }
}

impl Houses {
    async fn new() -> Option<Self> {
        Self::with(true).await
    }

    async fn with(is_synchronous: bool) -> Option<Self> {
        let database = test_postgres::database()?;
        let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
        let here = Open::on(&database, &clock, is_synchronous).await;
        let there = Open::on(&database, &clock, is_synchronous).await;
        assert_eq!(here.tenant_id(), there.tenant_id());
        Some(Self { here, there, clock, _database: database })
    }
}

/// A token of the hub's policy `tool` under this key.
fn token(key: &Key) -> SasToken {
    let expires_at = Timestamp::from_unix_seconds(NOW + 3600);
    SasToken::parse(&sas::build(SECOND, key, expires_at, Some("tool"))).unwrap()
}

/// The host of a hub that tests make.
const SECOND: &str = "second.azure-devices.localhost";

fn system() -> Caller {
    Caller::system()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("what the test waits for comes")
}

fn standard() -> iot_hub::PropertiesRequest {
    iot_hub::PropertiesRequest { sku_name: Some("S1".into()), ..iot_hub::PropertiesRequest::default() }
}

fn tool(key: &Key) -> iot_hub::PropertiesRequest {
    let policy = PolicyRequest {
        key_name: "tool".into(),
        primary_key: Some(Secret::from(key)),
        secondary_key: Some(Secret::from(key)),
        rights: "RegistryRead, RegistryWrite, ServiceConnect".into(),
    };
    iot_hub::PropertiesRequest { policies: Some(vec![policy]), ..standard() }
}

fn a_key() -> Key {
    Key::generate(32)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_one_makes_changes_and_deletes_begins_changes_and_ends_in_the_other() {
    let Some(mut houses) = Houses::new().await else { return };
    let (first, second) = (a_key(), a_key());
    houses.here.put_hub("second", tool(&first)).await;
    assert!(houses.there.hubs.find("second").is_none() && !houses.there.resolves(SECOND));
    houses.there.look().await;
    assert!(houses.there.resolves(SECOND));
    let hub = houses.there.hubs.find("second").expect("it was made by the other");
    let lets_in = |key: &Key| hub.authenticate_service(SECOND, "/devices", &token(key)).is_ok();
    assert!(lets_in(&first) && !lets_in(&second));
    assert!(houses.there.events.stream(hub.instance(), hub::EVENT_STREAM).is_some());

    houses.here.put_hub("second", tool(&second)).await;
    assert!(lets_in(&first), "not yet");
    houses.there.look().await;
    assert!(!lets_in(&first) && lets_in(&second), "a key that was changed opens nothing");

    let device = DeviceSpec::new("dev1".parse().unwrap());
    let made = hub.put_device(&system(), &device, &IfMatch::Absent).await.unwrap();
    let session = connect(&hub, &made).await;
    houses.here.delete(&houses.here.id(ResourceType::IotHub, "second")).await;
    houses.there.look().await;
    let told = within(session.next_command()).await;
    assert!(matches!(told, hub::Command::Close(hub::CloseReason::HubRemoved)), "{told:?}");
    assert!(houses.there.hubs.find("second").is_none() && !houses.there.resolves(SECOND));
    assert!(houses.there.events.stream(hub.instance(), hub::EVENT_STREAM).is_none());
    assert!(hub.put_device(&system(), &device, &IfMatch::Any).await.is_err());

    // Under the same name another one, of which both are seen at once.
    houses.here.put_hub("second", tool(&first)).await;
    houses.there.look().await;
    let anew = houses.there.hubs.find("second").expect("it was made anew");
    assert_ne!(anew.instance(), hub.instance());
    houses.here.delete(&houses.here.id(ResourceType::IotHub, "second")).await;
    houses.here.put_hub("second", tool(&second)).await;
    houses.there.look().await;
    let last = houses.there.hubs.find("second").expect("one went and one came");
    assert_ne!(anew.instance(), last.instance());
    assert!(houses.there.resolves(SECOND));
}

async fn connect(hub: &hub::Hub, device: &IdentityView) -> hub::Session {
    let Authentication::Sas { primary_key, .. } = &device.identity.authentication else { panic!("no key") };
    let resource = format!("{SECOND}/devices/dev1");
    let text = sas::build(&resource, primary_key, Timestamp::from_unix_seconds(NOW + 3600), None);
    let token = SasToken::parse(&text).unwrap();
    let id = "dev1".parse().unwrap();
    let authentication = hub.authenticate_device(SECOND, &id, &token).await.map_err(|refused| refused.error);
    within(hub.open_session(authentication.unwrap(), None)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_that_one_deleted_is_made_anew_as_the_default_by_the_other() {
    let Some(mut houses) = Houses::new().await else { return };
    houses.here.delete(&houses.here.id(ResourceType::DigitalTwinsInstance, "twins")).await;
    let put = resource_manager::instance::Put { location: Some("eastus".into()), ..Default::default() };
    let id = houses.there.id(ResourceType::DigitalTwinsInstance, "other");
    within(houses.there.manager.put_digital_twins_instance(&system(), &id, &put)).await.unwrap();
    houses.here.look().await;
    for open in [&houses.here, &houses.there] {
        assert_eq!(open.hosts.default_instance(Service::DigitalTwins).as_deref(), Some("other"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_of_one_are_what_the_other_validates_by_at_once() {
    let Some(houses) = Houses::new().await else { return };
    let [here, there] = [&houses.here, &houses.there].map(|open| open.instances.find("twins").unwrap());
    let model = json!([{"@id": "dtmi:test:Room;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Property", "name": "t", "schema": "double"}]}]);
    let room = json!({"$metadata": {"$model": "dtmi:test:Room;1"}, "t": 1.5});
    let body = room.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let put = async |id: &str| {
        within(there.put_digital_twin(&system(), &id.parse().unwrap(), &body, &IfNoneMatch::Absent)).await
    };
    assert!(put("room-1").await.is_err(), "there is no model");
    here.create_models(&system(), model.to_string().into()).await.unwrap();
    put("room-1").await.unwrap();
    here.delete_model(&system(), &"dtmi:test:Room;1".parse().unwrap()).await.unwrap();
    assert!(put("room-2").await.is_err(), "the model is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_one_gives_and_takes_counts_in_the_other() {
    let Some(mut houses) = Houses::new().await else { return };
    let principal = houses.here.directory.create_service_principal("tool").await.unwrap();
    let object_id = principal.object_id.clone();
    let path = format!("/subscriptions/{}", houses.here.first_start.subscription_id);
    let scope = Scope::new(&path);
    let may_read =
        async |open: &Open| open.directory.allows(&object_id, Permission::TwinRead, &scope).await.unwrap();
    assert!(!may_read(&houses.there).await);
    let new = NewRoleAssignment {
        id: uuid::Uuid::new_v4().to_string(),
        scope_path: path.clone(),
        role_definition_id: roles::IOT_HUB_DATA_READER.to_owned(),
        principal_id: object_id.clone(),
        principal_type: None,
        description: None,
    };
    houses.here.directory.put_role_assignment(&system(), new.clone()).await.unwrap();
    assert!(!may_read(&houses.there).await, "not yet");
    houses.there.look().await;
    assert!(may_read(&houses.there).await);
    houses.here.directory.remove_role_assignment(&system(), &scope, &new.id).await.unwrap();
    assert!(may_read(&houses.there).await, "not yet");
    houses.there.look().await;
    assert!(!may_read(&houses.there).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrollments_certificates_and_linked_hubs_of_one_are_the_others_too() {
    let Some(mut houses) = Houses::new().await else { return };
    let [here, there] = [&houses.here, &houses.there].map(|open| open.provisioning.find("dps").unwrap());
    let draft = EnrollmentDraft {
        kind: EnrollmentKind::Individual,
        id: "dev1".parse().unwrap(),
        device_id: None,
        optional_device_information: None,
        attestation: AttestationDraft::SymmetricKey { primary_key: None, secondary_key: None },
        iot_edge: false,
        iot_hub_host_name: None,
        initial_twin: None,
        is_enabled: true,
        reprovision_policy: None,
        allocation_policy: None,
        iot_hubs: Vec::new(),
        custom_allocation: None,
        credential_policy_name: None,
    };
    here.put_enrollment(&system(), &draft, &IfMatch::Absent).await.unwrap();
    there.get_enrollment(&system(), draft.kind, &draft.id).await.expect("it is read each time");

    let certificate = rcgen::generate_simple_self_signed(vec!["root".to_owned()]).unwrap().cert.pem();
    let ca = CaCertificateDraft { name: "ca".into(), certificate, is_verified: Some(true) };
    here.change_certificates(|all, now| all.put(&ca, &IfMatch::Absent, now)).await.unwrap();
    assert!(there.settings().certificates.find("ca").is_none());
    houses.there.look().await;
    assert!(there.settings().certificates.find("ca").is_some());

    let id = houses.here.id(ResourceType::ProvisioningService, "dps");
    let put = provisioning_service::Put { location: Some("eastus".into()), ..Default::default() };
    within(houses.here.manager.put_provisioning_service(&system(), &id, &put)).await.unwrap();
    assert_eq!(there.settings().linked_hubs.len(), 1);
    houses.there.look().await;
    assert_eq!(there.settings().linked_hubs.len(), 0, "its hub was unlinked");
    assert!(there.settings().certificates.find("ca").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_event_hubs_and_rules_of_one_let_in_and_refuse_in_the_other() {
    let Some(mut houses) = Houses::new().await else { return };
    let namespace = houses.here.id(ResourceType::EventHubNamespace, "streams");
    let (caller, any) = (system(), Preconditions::default());
    let put = houses.here.manager.put_event_hub_namespace(&caller, &namespace, Some("eastus"), None, &any);
    within(put).await.unwrap();
    // What stands behind a namespace that the other made a moment ago is found without a look.
    let event_hub = namespace.child(ResourceType::EventHub, "telemetry");
    let request = EventHubRequest { partition_count: Some(2), retention_days: Some(1) };
    within(houses.there.manager.put_event_hub(&caller, &event_hub, &request, &any)).await.unwrap();
    assert!(houses.there.events.event_hub("streams", "telemetry").is_some());
    assert!(houses.here.events.event_hub("streams", "telemetry").is_none());
    houses.here.look().await;
    assert!(houses.here.events.event_hub("streams", "telemetry").is_some());

    let rights = ["Send".to_owned()];
    let rule = houses.here.manager.put_authorization_rule(&caller, &event_hub, "sender", &rights, &any);
    let rule = within(rule).await.unwrap();
    let key = rule.primary_key.text();
    let address = Address::ConnectionString(base::ConnectionString::new(format!(
        "Endpoint=sb://streams.servicebus.localhost/;SharedAccessKeyName=sender;SharedAccessKey={key};EntityPath=telemetry"
    )));
    let is_open = async |open: &Open| {
        matches!(open.event_hubs.kind().gate.way(&address).await.unwrap(), Way::Open { .. })
    };
    assert!(is_open(&houses.here).await && !is_open(&houses.there).await);
    houses.there.look().await;
    assert!(is_open(&houses.there).await);
    within(houses.here.manager.delete_authorization_rule(&caller, &event_hub, "sender")).await.unwrap();
    assert!(is_open(&houses.there).await, "not yet");
    houses.there.look().await;
    assert!(!is_open(&houses.there).await);

    houses.here.delete(&namespace).await;
    houses.there.look().await;
    assert!(houses.there.events.event_hub("streams", "telemetry").is_none());
    assert!(!houses.there.resolves("streams.servicebus.localhost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_one_accepted_is_finished_by_the_other_when_the_first_is_gone() {
    let Some(mut houses) = Houses::with(false).await else { return };
    // Its loop has ended, and it still accepts.
    houses.here.tasks.drain(PATIENCE).await;
    let accepted = houses.here.put_hub("second", standard()).await;
    let operation = accepted.operation.expect("it takes a while");
    houses.there.look().await;
    let subscription = houses.here.first_start.subscription_id.clone();
    let is_running = async || {
        let read = houses.here.manager.operation(&system(), &subscription, &operation.id).await;
        matches!(read.unwrap().state, operation::State::Running { .. })
    };
    let ended = async {
        while is_running().await {
            tokio::task::yield_now().await;
        }
    };
    within(ended).await;
    assert!(houses.there.hubs.find("second").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_one_finishes_operations_and_the_other_waits_for_its_turn() {
    let Some(houses) = Houses::with(false).await else { return };
    for open in [&houses.here, &houses.there] {
        open.tasks.drain(PATIENCE).await;
    }
    let (leases, node) = (houses.there.store.leases(), houses.there.store.node());
    let turn = leases.take("reconciler", node, Duration::from_mins(5)).await.unwrap().expect("it is free");
    houses.here.put_hub("second", standard()).await;
    let next = within(houses.here.manager.reconcile()).await;
    assert!(houses.here.hubs.find("second").is_none(), "it is the other's turn");
    assert!(next < Elapsed::START.plus(Duration::from_secs(1)), "and it asks again soon");
    leases.give_back(&turn).await.unwrap();
    within(houses.here.manager.reconcile()).await;
    assert!(houses.here.hubs.find("second").is_some());
    let again = leases.take("reconciler", node, Duration::from_mins(5)).await.unwrap();
    assert!(again.is_some(), "a turn is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_house_looks_by_itself_within_a_second() {
    let Some(houses) = Houses::new().await else { return };
    houses.here.put_hub("second", standard()).await;
    let seen = async {
        while houses.there.hubs.find("second").is_none() {
            // A look may be under way that began before the hub was stored; the next one is due half a second behind it.
            houses.clock.advance(Duration::from_millis(500));
            tokio::task::yield_now().await;
        }
    };
    within(seen).await;
    const { assert!(base::caps::CHANGES_POLL_MILLIS < 1000) };
}
