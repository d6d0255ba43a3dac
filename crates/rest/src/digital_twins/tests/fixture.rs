//! A door over a store in memory, three callers, and a small client.

use std::sync::Arc;
use std::time::Duration;

use ::access::Directory;
use ::access::directory::ServicePrincipal;
use ::access::roles;
use base::hosts::{Hosts, NoMachine};
use base::{Clock, InstanceId, Scope, Throttle, Timestamp};
use digital_twins::{Context, InstanceSettings, Instances};
use serde_json::{Value, json};
use store::Store;

use super::super::DigitalTwins;
use crate::front::{AnyDoor, mount};
use crate::test_wire::{self, Told};
use crate::wire::Response;

pub(super) const HOST: &str = "twins.api.eus.digitaltwins.localhost";
pub(super) const VERSION: &str = "2023-10-31";

pub(super) struct Fixture {
    pub(super) door: Arc<dyn AnyDoor>,
    pub(super) directory: Directory,
    pub(super) instances: Instances,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) owner: String,
    pub(super) reader: String,
    /// Owner of another instance, nobody here.
    pub(super) stranger: String,
    principal: ServicePrincipal,
}

fn scope(name: &str) -> String {
    format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.DigitalTwins/digitalTwinsInstances/{name}")
}

pub(super) fn settings(name: &str, is_default: bool) -> InstanceSettings {
    InstanceSettings {
        instance: InstanceId::from_stored(format!("twins-{name}-0")),
        name: name.to_owned(),
        scope: Scope::new(&scope(name)),
        location: "eastus".to_owned(),
        public_network_access: true,
        is_default,
    }
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::throttled(Throttle::unlimited()).await
    }

    pub(super) async fn throttled(throttle: Throttle) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let (store, _) = test_store::open();
        let hosts = Hosts::new("localhost", 443, NoMachine);
        let directory = Directory::open(store.clone(), clock.clone(), "localhost", vec![]).await.unwrap();
        let context = Context { store: store.clone(), clock: clock.clone(), throttle, hosts: hosts.clone() };
        let instances = Instances::new(context);
        instances.ensure(settings("twins", true)).await.unwrap();
        instances.ensure(settings("other", false)).await.unwrap();
        let principal = directory.create_service_principal("app").await.unwrap();
        let door = DigitalTwins { instances: instances.clone(), directory: directory.clone(), hosts };
        let owner = assigned(&directory, "twins", roles::DIGITAL_TWINS_DATA_OWNER).await;
        let reader = assigned(&directory, "twins", roles::DIGITAL_TWINS_DATA_READER).await;
        let stranger = assigned(&directory, "other", roles::DIGITAL_TWINS_DATA_OWNER).await;
        Self { door: mount(door), directory, instances, clock, store, owner, reader, stranger, principal }
    }

    /// A token that is no good for Digital Twins.
    pub(super) async fn token_for(&self, resource: &str) -> String {
        test_wire::token(&self.directory, &self.principal, resource).await
    }

    pub(super) fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        let path = if path.contains("api-version") || path.contains("no-version") {
            path.to_owned()
        } else {
            let separator = if path.contains('?') { '&' } else { '?' };
            format!("{path}{separator}api-version={VERSION}")
        };
        Ask::new(&*self.door, method, path, HOST).bearer(&self.owner)
    }

    pub(super) async fn upload(&self, models: Value) {
        self.ask("POST", "/models").json(&models).send().await.is(201);
    }

    pub(super) async fn put_room(&self, id: &str) -> Answer {
        let body = json!({"$metadata": {"$model": "dtmi:example:room;1"}, "Temperature": 80, "Comp": {"$metadata": {}}});
        self.ask("PUT", &format!("/digitaltwins/{id}")).json(&body).send().await.is(200)
    }

    pub(super) async fn with_rooms(ids: &[&str]) -> Self {
        let fixture = Self::new().await;
        fixture.upload(json!([room(), component()])).await;
        for id in ids {
            fixture.put_room(id).await;
        }
        fixture
    }

    pub(super) fn later(&self) {
        self.clock.advance(Duration::from_secs(10));
    }
}

pub(super) fn room() -> Value {
    json!({
        "@id": "dtmi:example:room;1", "@type": "Interface", "@context": ["dtmi:dtdl:context;2"],
        "displayName": "Room", "description": {"en": "A room", "de": "Ein Raum"},
        "contents": [
            {"@type": "Property", "name": "Temperature", "schema": "double"},
            {"@type": "Property", "name": "Name", "schema": "string"},
            {"@type": "Component", "name": "Comp", "schema": "dtmi:example:comp;1"},
            {"@type": "Relationship", "name": "contains", "target": "dtmi:example:room;1",
                "properties": [{"@type": "Property", "name": "since", "schema": "string"}]},
        ],
    })
}

pub(super) fn component() -> Value {
    json!({"@id": "dtmi:example:comp;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Property", "name": "X", "schema": "integer"}]})
}

async fn assigned(directory: &Directory, instance: &str, role: &str) -> String {
    let principal = directory.create_service_principal("app").await.unwrap();
    test_wire::grant(directory, &principal, role, &scope(instance)).await;
    test_wire::token(directory, &principal, "https://digitaltwins.azure.net").await
}

/// A request in the making; as the owner unless told otherwise.
pub(super) type Ask<'a> = test_wire::Ask<'a, Answer>;

pub(super) struct Answer {
    what: String,
    pub(super) response: Response,
}

impl From<Told> for Answer {
    fn from(Told { what, response }: Told) -> Self {
        Self { what, response }
    }
}

impl Answer {
    #[track_caller]
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(self.response.status.as_u16(), status, "{}: {:?}", self.what, self.response);
        self
    }

    /// A refusal in the service's envelope.
    #[track_caller]
    pub(super) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.json()["error"]["code"], code, "{}: {:?}", answer.what, answer.response);
        assert_eq!(answer.header("x-ms-error-code"), Some(code), "{}", answer.what);
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        answer
    }

    /// 204 without a body.
    #[track_caller]
    pub(super) fn has_no_content(self) -> Self {
        let answer = self.is(204);
        assert_eq!(answer.header("content-length"), Some("0"));
        assert_eq!(answer.header("content-type"), None);
        assert!(answer.response.body_bytes().is_empty());
        answer
    }

    pub(super) fn json(&self) -> Value {
        self.response.body_json()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.response.body_bytes().to_vec()).unwrap()
    }

    pub(super) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.header_value(name)
    }
}
