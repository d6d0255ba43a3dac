//! The Resource Manager door against services in memory. Requests go through the routes; time is moved, never slept.

mod calls;
mod certificates;
mod cmdlet;
mod devices;
mod endpoints;
mod event_hubs;
mod examples;
mod foundation;
mod hub_parts;
mod life;
mod limits;
mod recorded;
mod refusals;
mod restart;
mod role_assignments;
mod storage_accounts;

use std::sync::Arc;
use std::time::Duration;

use access::directory::ServicePrincipal;
use access::{Directory, roles};
use base::hosts::{EveryName, Hosts};
use base::{Clock, Timestamp};
use resource_manager::subscription::Subscription;
use resource_manager::{ResourceManager, Settings};
use serde_json::{Value, json};
use store::{Store, Streams};
use test_house::{Ground, House};

use super::Management;
use crate::front::{AnyDoor, mount};
use crate::test_wire::{self, certificate, grant, token};
use crate::wire::Response;
use entrance::Peer;

/// The subscription of the recorded traffic.
const RECORDED: &str = "0e745469-49f8-48c9-873b-24ca87143db1";
/// The subscription of the official examples.
const EXAMPLES: &str = "50016170-c839-41ba-a724-51e9df440b9e";
const VERSION: &str = "2023-01-31";

struct Arm {
    door: Arc<dyn AnyDoor>,
    manager: ResourceManager,
    directory: Directory,
    clock: Clock,
    store: Store,
    streams: Streams,
    events: events::Events,
    hubs: hub::Hubs,
    services: provisioning::Services,
    instances: digital_twins::Instances,
    owner: ServicePrincipal,
    token: String,
}

fn ground(clock: Clock, settings: Settings) -> Ground {
    Ground { settings, ..Ground::new(clock, "azure.net", Hosts::new("azure.net", 443, EveryName)) }
}

impl Arm {
    async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        Self::standing_on(ground(clock, settings)).await
    }

    /// A server on what is stored already: what a restart finds.
    async fn on(store: Store, streams: Streams, clock: Clock, settings: Settings) -> Self {
        Self::standing_on(Ground { store, streams, ..ground(clock, settings) }).await
    }

    async fn standing_on(ground: Ground) -> Self {
        let house = House::on(ground).await;
        let House { store, streams, clock, directory, events, hubs, services, instances, manager, .. } =
            house;
        for (id, name) in [(RECORDED, "recorded"), (EXAMPLES, "examples")] {
            let (id, display_name) = (id.to_owned(), name.to_owned());
            let tenant_id = directory.tenant_id().to_owned();
            manager.ensure_subscription(&Subscription { id, display_name, tenant_id }).await.unwrap();
        }
        let owner = directory.ensure_service_principal("owner").await.unwrap();
        for id in [RECORDED, EXAMPLES] {
            grant(&directory, &owner, roles::OWNER, &format!("/subscriptions/{id}")).await;
        }
        let token = token(&directory, &owner, "https://management.azure.com").await;
        let door = mount(Management { manager: manager.clone(), directory: directory.clone() });
        Self {
            door,
            manager,
            directory,
            clock,
            store,
            streams,
            events,
            hubs,
            services,
            instances,
            owner,
            token,
        }
    }

    async fn ask(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let url = url.strip_prefix("https://management.azure.com").unwrap_or(url);
        let mut request =
            http::Request::builder().method(method).uri(url).header("host", "management.azure.com");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        test_wire::answer(&*self.door, request, body.to_owned(), Peer::default()).await
    }

    async fn send(&self, method: &str, url: &str, body: &str) -> Response {
        let bearer = format!("Bearer {}", self.token);
        self.ask(method, url, &[("authorization", &bearer)], body).await
    }

    async fn get(&self, url: &str) -> (u16, Value) {
        let response = self.send("GET", url, "").await;
        (response.status.as_u16(), response.body_json())
    }

    async fn put(&self, url: &str, body: Value) -> Response {
        self.send("PUT", url, &body.to_string()).await
    }

    async fn patch(&self, url: &str, body: Value) -> Response {
        self.send("PATCH", url, &body.to_string()).await
    }

    async fn post(&self, url: &str, body: Value) -> (u16, Value) {
        let response = self.send("POST", url, &body.to_string()).await;
        (response.status.as_u16(), response.body_json())
    }

    async fn delete(&self, url: &str) -> Response {
        self.send("DELETE", url, "").await
    }

    async fn group(&self, subscription: &str, name: &str) {
        let url = format!("/subscriptions/{subscription}/resourcegroups/{name}?api-version=2024-11-01");
        let response = self.put(&url, json!({"location": "eastus"})).await;
        assert!(response.status.is_success(), "{response:?}");
    }

    /// The id of a Digital Twins instance behind its resource.
    fn manager_instance(&self, name: &str) -> base::InstanceId {
        self.instances.find(name).unwrap().id().clone()
    }

    /// Lets every operation that was accepted come to its end.
    async fn settle(&self) {
        self.clock.advance(Duration::from_secs(1));
        self.manager.reconcile().await;
    }

    /// A token of a new principal that has one role at one scope, or none.
    async fn token_of(&self, role: Option<&str>, scope: &str) -> String {
        let principal = self.directory.create_service_principal("someone").await.unwrap();
        if let Some(role) = role {
            grant(&self.directory, &principal, role, scope).await;
        }
        token(&self.directory, &principal, "https://management.azure.com").await
    }
}

fn twins_url(subscription: &str, group: &str, name: &str, rest: &str) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DigitalTwins/digitalTwinsInstances/{name}{rest}?api-version={VERSION}"
    )
}

/// A file of the published examples and records.
fn shared(path: &str) -> Option<Value> {
    test_data::shared_json(&format!("spec/openapi/digital-twins-arm/{path}"))
}

/// Members whose values no two runs share: they must be there and look alike, nothing more.
const VOLATILE: &[&str] = &[
    "createdTime",
    "lastUpdatedTime",
    "createdBy",
    "createdByType",
    "createdAt",
    "lastModifiedBy",
    "lastModifiedByType",
    "lastModifiedAt",
    "principalId",
    "tenantId",
    "clientId",
    "startTime",
    "endTime",
];

/// How closely an answer must follow what was published or recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Like {
    /// The same members, no more and no fewer.
    Exactly,
    /// At least these members.
    AtLeast,
}

fn assert_same(expected: &Value, actual: &Value, like: Like, at: &str) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (name, value) in expected {
                let at = format!("{at}.{name}");
                let Some(found) = actual.get(name) else { panic!("{at} is missing in {actual:?}") };
                if VOLATILE.contains(&name.as_str()) {
                    assert!(found.as_str().is_some_and(|text| !text.is_empty()), "{at}: {found}");
                    if name.ends_with("Time") || name.ends_with("At") {
                        found
                            .as_str()
                            .unwrap()
                            .parse::<Timestamp>()
                            .unwrap_or_else(|_| panic!("{at}: {found}"));
                    }
                } else {
                    assert_same(value, found, like, &at);
                }
            }
            if like == Like::Exactly {
                let extra: Vec<&String> =
                    actual.keys().filter(|name| !expected.contains_key(*name)).collect();
                assert!(extra.is_empty(), "{at} has {extra:?} too");
            }
        }
        (Value::Array(expected), Value::Array(actual)) => {
            assert_eq!(expected.len(), actual.len(), "{at}");
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                assert_same(expected, actual, like, &format!("{at}[{index}]"));
            }
        }
        (Value::String(expected), Value::String(actual)) if expected.starts_with("/subscriptions/") => {
            assert!(expected.eq_ignore_ascii_case(actual), "{at}: {expected} and {actual}");
        }
        _ => assert_eq!(expected, actual, "{at}"),
    }
}
