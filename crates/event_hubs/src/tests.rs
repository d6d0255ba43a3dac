//! Who is let in, after every change of a rule, a role and a namespace, and after a restart.

use std::sync::Arc;

use access::directory::NewRoleAssignment;
use access::{Caller, Directory, roles};
use base::hosts::{EveryName, Hosts};
use base::outbound::NoOutbound;
use base::tasks::Tasks;
use base::{Clock, ConnectionString, InstanceId, Scope, Timestamp};
use events::{Address, Events, Way};
use store::{Store, Streams};

use crate::*;

struct Fixture {
    store: Store,
    streams: Streams,
    directory: Directory,
    gate: Gate,
    namespaces: Namespaces,
}

const SCOPE: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.EventHub/namespaces/ns";

impl Fixture {
    async fn on(store: Store, streams: Streams) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let hosts = Hosts::new("example.test", 443, EveryName);
        let directory = Directory::open(store.clone(), clock.clone(), "example.test", vec![]).await.unwrap();
        let gate = Gate::new(hosts.clone(), directory.clone());
        let events = Events::new(events::Context {
            store: store.clone(),
            streams: streams.clone(),
            clock: clock.clone(),
            event_hubs: Arc::new(gate.clone()),
            tasks: Tasks::new(),
            outbound: Arc::new(NoOutbound),
        });
        let context = Context { store: store.clone(), clock, events, hosts, gate: gate.clone() };
        let namespaces = Namespaces::new(context);
        namespaces.load().await.unwrap();
        Self { store, streams, directory, gate, namespaces }
    }

    async fn with_event_hub() -> (Self, Namespace) {
        let (store, streams) = test_store::open();
        let fixture = Self::on(store, streams).await;
        let settings = NamespaceSettings::new(InstanceId::from_stored("ns-1"), "ns", Scope::new(SCOPE));
        let namespace = fixture.namespaces.ensure(settings).await.unwrap();
        namespace.ensure_event_hub("Telemetry", 2, 1).await.unwrap();
        (fixture, namespace)
    }

    async fn is_open(&self, address: &Address) -> bool {
        match self.gate.way(address).await.unwrap() {
            Way::Open { instance, event_hub } => {
                assert_eq!((instance.as_str(), event_hub.as_str()), ("ns-1", "Telemetry"));
                true
            }
            Way::Closed(_) => false,
            Way::Elsewhere => panic!("it is here"),
        }
    }
}

fn by_key(rule: &AuthorizationRule) -> Address {
    Address::ConnectionString(ConnectionString::to_namespace(
        "NS.servicebus.example.test",
        &rule.key_name,
        &rule.primary_key,
        Some("telemetry"),
    ))
}

fn by_identity(principal_id: Option<&str>) -> Address {
    Address::Identity {
        endpoint_uri: "sb://ns.servicebus.example.test/".to_owned(),
        entity_path: "telemetry".to_owned(),
        principal_id: principal_id.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_key_opens_as_long_as_its_rule_lets_send() {
    let (fixture, namespace) = Fixture::with_event_hub().await;
    let send = ["Send".to_owned()];
    for event_hub in [Some("TELEMETRY"), None] {
        let rule = namespace.put_rule(event_hub, "sender", &send).await.unwrap();
        assert!(fixture.is_open(&by_key(&rule)).await);
        namespace.put_rule(event_hub, "sender", &["Listen".to_owned()]).await.unwrap();
        assert!(!fixture.is_open(&by_key(&rule)).await, "its rights were taken");
        namespace.put_rule(event_hub, "sender", &send).await.unwrap();
        assert!(fixture.is_open(&by_key(&rule)).await);
        assert!(namespace.remove_rule(event_hub, "sender").await.unwrap());
        let made_anew = namespace.put_rule(event_hub, "sender", &send).await.unwrap();
        assert!(!fixture.is_open(&by_key(&rule)).await, "the old key");
        assert!(fixture.is_open(&by_key(&made_anew)).await);
        namespace.remove_rule(event_hub, "sender").await.unwrap();
    }
}

#[tokio::test]
async fn an_identity_opens_as_long_as_it_has_a_role_at_the_event_hub_or_above() {
    let (fixture, _) = Fixture::with_event_hub().await;
    let identity = fixture.directory.create_service_principal("identity").await.unwrap();
    let address = by_identity(Some(&identity.object_id));
    assert!(!fixture.is_open(&address).await && !fixture.is_open(&by_identity(None)).await);
    let assign = async |role: &str, scope: &str| {
        let new = NewRoleAssignment {
            id: uuid(role, scope),
            scope_path: scope.to_owned(),
            role_definition_id: role.to_owned(),
            principal_id: identity.object_id.clone(),
            principal_type: None,
            description: None,
        };
        fixture.directory.put_role_assignment(&Caller::system(), new).await.unwrap();
    };
    assign(roles::EVENT_HUBS_DATA_RECEIVER, SCOPE).await;
    assert!(!fixture.is_open(&address).await, "to receive is not to send");
    assign(roles::EVENT_HUBS_DATA_SENDER, &format!("{SCOPE}/eventhubs/another")).await;
    assert!(!fixture.is_open(&address).await, "another event hub");
    assign(roles::EVENT_HUBS_DATA_SENDER, &format!("{SCOPE}/eventhubs/telemetry")).await;
    assert!(fixture.is_open(&address).await);
}

/// Any GUID, one for each role and scope.
fn uuid(role: &str, scope: &str) -> String {
    format!("{}{:04x}", &role[..32], scope.len())
}

#[tokio::test]
async fn what_is_gone_is_closed_and_what_was_there_is_open_after_a_restart() {
    let (fixture, namespace) = Fixture::with_event_hub().await;
    let rule = namespace.put_rule(None, "sender", &["Send".to_owned()]).await.unwrap();
    let Fixture { store, streams, .. } = fixture;
    let fixture = Fixture::on(store, streams).await;
    let namespace = fixture.namespaces.find("NS").unwrap();
    assert!(fixture.is_open(&by_key(&rule)).await);
    namespace.remove_event_hub("telemetry").await.unwrap();
    assert!(!fixture.is_open(&by_key(&rule)).await);
    namespace.ensure_event_hub("Telemetry", 2, 1).await.unwrap();
    fixture.namespaces.remove(namespace.instance()).await.unwrap();
    assert!(!fixture.is_open(&by_key(&rule)).await, "nobody else may be behind a name of ours");
    assert_eq!(fixture.streams.all().await.unwrap(), []);
    assert!(namespace.put_rule(None, "late", &["Send".to_owned()]).await.is_err());
}
