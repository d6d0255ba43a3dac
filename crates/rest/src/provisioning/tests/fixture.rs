//! A door over a store in memory with two provisioning services and two hubs, its callers, and a small client.

use std::sync::Arc;
use std::time::Duration;

use ::access::{Directory, Right, SharedAccessPolicy, roles};
use base::hosts::{EveryName, Hosts};
use base::{Clock, InstanceId, Key, Scope, Throttle, Timestamp, sas};
use hub::Hubs;
use provisioning::{Service, ServiceSettings, Services};
use serde_json::{Value, json};
use test_house::{Ground, House, link};

use super::super::ProvisioningDoor;
use crate::front::{AnyDoor, mount};
pub(super) use crate::test_wire::certificate;
use crate::test_wire::{self, Told};
use crate::wire::Response;

pub(super) const HOST: &str = "mydps.azure-devices-provisioning.example.test";
pub(super) const OTHER_HOST: &str = "other.azure-devices-provisioning.example.test";
pub(super) const GLOBAL_HOST: &str = "global.azure-devices-provisioning.example.test";
pub(super) const VERSION: &str = "2021-10-01";

const OWNER: &str = "provisioningserviceowner";

pub(super) struct Fixture {
    pub(super) door: Arc<dyn AnyDoor>,
    pub(super) clock: Clock,
    pub(super) services: Services,
    pub(super) service: Service,
    pub(super) other: Service,
    pub(super) hubs: Hubs,
    pub(super) directory: Directory,
}

fn scope(name: &str) -> String {
    format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/{name}")
}

fn settings(name: &str, hubs: &Hubs) -> ServiceSettings {
    let instance = InstanceId::from_stored(format!("dps-{name}"));
    let mut settings = ServiceSettings::new(instance, name, Scope::new(&scope(name)), "eastus");
    for (name, right) in [
        ("enrollmentreader", Right::EnrollmentRead),
        ("registrationreader", Right::RegistrationStatusRead),
        ("registrationwriter", Right::RegistrationStatusWrite),
        ("configurator", Right::ServiceConfig),
    ] {
        settings.policies.push(SharedAccessPolicy::generate(name, &[right]));
    }
    for hub in ["hub1", "hub2"] {
        settings.linked_hubs.push(link(&hubs.find(hub).unwrap()));
    }
    settings
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::throttled(Throttle::unlimited()).await
    }

    pub(super) async fn throttled(throttle: Throttle) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let hosts = Hosts::new("example.test", 443, EveryName);
        let house = House::on(Ground { throttle, ..Ground::new(clock.clone(), "example.test", hosts) }).await;
        for name in ["hub1", "hub2"] {
            house.hub(name).await;
        }
        let House { services, hubs, directory, .. } = house;
        let service = services.ensure(settings("mydps", &hubs)).await.unwrap();
        let other = services.ensure(settings("other", &hubs)).await.unwrap();
        let door = ProvisioningDoor {
            services: services.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
        };
        Self { door: mount(door), clock, services, service, other, hubs, directory }
    }

    /// A token of one of the service's policies, good for a minute and for everything.
    pub(super) fn policy(&self, name: &str) -> String {
        self.signed(&self.service, name, HOST, 60)
    }

    pub(super) fn signed(&self, service: &Service, name: &str, resource: &str, seconds: i64) -> String {
        let settings = service.settings();
        let key = &settings.policy(name).unwrap().primary_key;
        sas::build(resource, key, self.in_seconds(seconds), Some(name))
    }

    /// A device's token for `id`, signed with `key`.
    pub(super) fn device_token(&self, id: &str, key: &Key) -> String {
        let resource = format!("{}/registrations/{id}", self.service.id_scope());
        sas::build(&resource, key, self.in_seconds(60), Some("registration"))
    }

    pub(super) fn in_seconds(&self, seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(self.clock.now().unix_seconds() + seconds)
    }

    /// A bearer token for `resource`, with `role` at the instance `name`.
    pub(super) async fn bearer(&self, name: &str, role: &str, resource: &str) -> String {
        let principal = self.directory.create_service_principal("app").await.unwrap();
        test_wire::grant(&self.directory, &principal, role, &scope(name)).await;
        format!("Bearer {}", test_wire::token(&self.directory, &principal, resource).await)
    }

    pub(super) async fn contributor(&self) -> String {
        self.bearer("mydps", roles::PROVISIONING_DATA_CONTRIBUTOR, AUDIENCE).await
    }

    /// A request of the owner unless told otherwise, in the newest stable version unless the path names one.
    pub(super) fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = if path.contains("version") {
            path.to_owned()
        } else {
            format!("{path}{separator}api-version={VERSION}")
        };
        Ask::new(&*self.door, method, path, HOST).with(&self.policy(OWNER))
    }

    /// A request of the device `id` with `key`; `path` follows the registration's own.
    pub(super) fn device(&self, method: &str, id: &str, path: &str, key: &Key) -> Ask<'_> {
        let path = format!("/{}/registrations/{id}{path}", self.service.id_scope());
        self.ask(method, &path).host(GLOBAL_HOST).with(&self.device_token(id, key))
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.ask("GET", path).send().await.is(200).json()
    }

    pub(super) async fn put_individual(&self, id: &str) -> Value {
        self.ask("PUT", &format!("/enrollments/{id}")).json(&individual(id)).send().await.is(200).json()
    }

    /// A group with a key of its own, which is returned.
    pub(super) async fn put_group(&self, id: &str) -> Key {
        let body =
            self.ask("PUT", &format!("/enrollmentGroups/{id}")).json(&group(id)).send().await.is(200).json();
        primary_key(&body)
    }

    /// Registers and polls: what the device is told in the end.
    pub(super) async fn register(&self, id: &str, key: &Key) -> Value {
        self.register_as(id, key, VERSION).await
    }

    pub(super) async fn register_as(&self, id: &str, key: &Key, version: &str) -> Value {
        let path = format!("/register?api-version={version}");
        let begun = self.device("PUT", id, &path, key).send().await;
        if begun.response.status == 200 {
            return begun.json();
        }
        let operation = begun.is(202).json()["operationId"].as_str().unwrap().to_owned();
        let path = format!("/operations/{operation}?api-version={version}");
        self.device("GET", id, &path, key).send().await.is(200).json()
    }

    /// Everything that the service holds, keys included.
    pub(super) async fn state(&self) -> Value {
        let mut state = vec![];
        for path in ["/enrollments/query", "/enrollmentGroups/query"] {
            for item in self.ask("POST", path).send().await.is(200).json().as_array().unwrap() {
                let id =
                    item.get("registrationId").or(item.get("enrollmentGroupId")).unwrap().as_str().unwrap();
                let at = path.replace("query", id);
                let keys =
                    self.ask("POST", &format!("{at}/attestationmechanism")).send().await.is(200).json();
                state.push(json!([item, keys, self.get(&at).await]));
            }
        }
        for id in ["dev-1", "dev-2", "member"] {
            state.push(self.ask("GET", &format!("/registrations/{id}")).send().await.json_or_status());
        }
        state.into()
    }
}

pub(super) const AUDIENCE: &str = "https://azure-devices-provisioning.net";

pub(super) fn individual(id: &str) -> Value {
    json!({"registrationId": id, "attestation": {"type": "symmetricKey"}})
}

pub(super) fn group(id: &str) -> Value {
    json!({"enrollmentGroupId": id, "attestation": {"type": "symmetricKey", "symmetricKey": {}}})
}

pub(super) fn primary_key(body: &Value) -> Key {
    body["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap().parse().unwrap()
}

/// A request in the making; as the owner unless told otherwise.
pub(super) type Ask<'a> = test_wire::Ask<'a, Answer>;

pub(super) struct Answer {
    what: String,
    pub(super) response: Response,
}

impl From<Told> for Answer {
    fn from(Told { what, response }: Told) -> Self {
        let answer = Self { what, response };
        answer.has_the_services_headers();
        answer
    }
}

impl Answer {
    #[track_caller]
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(self.response.status.as_u16(), status, "{}: {:?}", self.what, self.response);
        self
    }

    /// A refusal in the service's envelope, told the same way by body and headers.
    #[track_caller]
    pub(super) fn refused(self, code: u32) -> Self {
        let answer = self.is(u16::try_from(code / 1000).unwrap());
        let body = answer.json();
        assert_eq!(body["errorCode"], code, "{}: {body}", answer.what);
        assert_eq!(answer.header("x-ms-error-code"), Some(code.to_string().as_str()), "{}", answer.what);
        assert_eq!(answer.header("x-ms-request-id"), body["trackingId"].as_str(), "{}", answer.what);
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        let at = body["timestampUtc"].as_str().unwrap();
        assert!(at.len() == "2025-06-15T15:06:40.0000000Z".len() && at.ends_with('Z'), "{at}");
        assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        answer
    }

    fn has_the_services_headers(&self) {
        let id = self.header("x-ms-request-id").unwrap();
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
        let security = self.header("strict-transport-security");
        assert_eq!(security, Some("max-age=31536000; includeSubDomains"), "{}", self.what);
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.header_value(name)
    }

    pub(super) fn json(&self) -> Value {
        self.response.body_json()
    }

    /// What a state is compared by: refusals differ in their tracking ids.
    fn json_or_status(&self) -> Value {
        if self.response.status == 200 { self.json() } else { self.response.status.as_u16().into() }
    }
}

/// The members of an object, in the order of the wire.
pub(super) fn members(body: &Value) -> Vec<&str> {
    body.as_object().unwrap().keys().map(String::as_str).collect()
}

pub(super) fn hour() -> Duration {
    Duration::from_hours(1)
}
