//! One instance on a store in memory with a clock that moves when told: what every test of this crate starts from.

use std::time::Duration;

use access::Caller;
use base::hosts::{Hosts, NoMachine};
use base::json::Object;
use base::{Clock, IfMatch, IfNoneMatch, InstanceId, Scope, Throttle, Timestamp, caps};
use bytes::Bytes;
use events::headers::{self, Property};
use events::{Destination, Envelope};
use serde_json::{Value, json};
use store::{Batch, Store};

use crate::json_patch::{self, Operation};
use crate::model::record::ModelSet;
use crate::{
    Context, DigitalTwin, DigitalTwinId, Error, Instance, InstanceSettings, Instances, ModelData,
    Relationship,
};

/// How long a test waits for others, so that a fault fails it and does not hang it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a test runs that decides by the order of asking who wins; a database need not keep it.
#[track_caller]
pub(crate) fn first_asked_commits_first() -> bool {
    test_store::runs_embedded("elsewhere the one who is asked first need not be the first who commits")
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("what the test waits for comes")
}

pub(crate) struct Fixture {
    pub(crate) instances: Instances,
    pub(crate) instance: Instance,
    pub(crate) caller: Caller,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
}

pub(crate) fn settings(name: &str) -> InstanceSettings {
    InstanceSettings {
        instance: InstanceId::from_stored(format!("twins-{name}-0")),
        name: name.to_owned(),
        scope: Scope::new(&format!(
            "/subscriptions/s/providers/Microsoft.DigitalTwins/digitalTwinsInstances/{name}"
        )),
        location: "eastus".to_owned(),
        public_network_access: true,
        is_default: true,
    }
}

/// Property `Temperature`, `Name`, map `Tags`, object `Place`; component `Thermostat`; relationship `contains` to rooms.
pub(crate) fn room() -> Value {
    json!({
        "@id": "dtmi:test:Room;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2", "displayName": "Room",
        "contents": [
            {"@type": "Property", "name": "Temperature", "schema": "double"},
            {"@type": "Property", "name": "Name", "schema": "string"},
            {"@type": "Property", "name": "Tags", "schema": {"@type": "Map",
                "mapKey": {"name": "k", "schema": "string"}, "mapValue": {"name": "v", "schema": "string"}}},
            {"@type": "Property", "name": "Place", "schema": {"@type": "Object", "fields": [
                {"name": "x", "schema": "double"}, {"name": "y", "schema": "double"}]}},
            {"@type": "Component", "name": "Thermostat", "schema": "dtmi:test:Thermostat;1"},
            {"@type": "Telemetry", "name": "Noise", "schema": "integer"},
            {"@type": "Relationship", "name": "contains", "target": "dtmi:test:Room;1", "properties": [
                {"@type": "Property", "name": "since", "schema": "string"}]},
            {"@type": "Relationship", "name": "seesAnything"},
        ],
    })
}

pub(crate) fn thermostat() -> Value {
    json!({
        "@id": "dtmi:test:Thermostat;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [
            {"@type": "Property", "name": "SetPoint", "schema": "double"},
            {"@type": "Property", "name": "Mode", "schema": "string"},
        ],
    })
}

/// Extends the room and has a property of its own.
pub(crate) fn suite() -> Value {
    json!({
        "@id": "dtmi:test:Suite;1", "@type": "Interface", "@context": "dtmi:dtdl:context;3",
        "extends": "dtmi:test:Room;1",
        "contents": [{"@type": "Property", "name": "Beds", "schema": "integer"}],
    })
}

/// Unrelated to rooms.
pub(crate) fn pump() -> Value {
    json!({
        "@id": "dtmi:test:Pump;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Property", "name": "Speed", "schema": "integer"}],
    })
}

pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

pub(crate) fn patch(value: &Value) -> Vec<Operation> {
    json_patch::parse(value.to_string().as_bytes()).unwrap()
}

/// The body of POST /models.
pub(crate) fn upload(definitions: &[Value]) -> Bytes {
    Value::from(definitions).to_string().into()
}

pub(crate) fn id(text: &str) -> DigitalTwinId {
    text.parse().unwrap()
}

impl Fixture {
    pub(crate) async fn empty() -> Self {
        Self::on(test_store::open().0).await
    }

    pub(crate) async fn on(store: Store) -> Self {
        let clock = Clock::manual("2025-05-02T14:57:59.4944153Z".parse().unwrap());
        let instances = Instances::new(Context {
            store: store.clone(),
            clock: clock.clone(),
            throttle: Throttle::unlimited(),
            hosts: Hosts::new("localhost", 443, NoMachine),
        });
        let instance = instances.ensure(settings("twins")).await.unwrap();
        Self { instances, instance, caller: Caller::system(), clock, store }
    }

    /// Another process on the same store.
    pub(crate) async fn restarted(&self) -> Self {
        let instances = Instances::new(Context {
            store: self.store.clone(),
            clock: self.clock.clone(),
            throttle: Throttle::unlimited(),
            hosts: Hosts::new("localhost", 443, NoMachine),
        });
        instances.load().await.unwrap();
        let instance = instances.find("TWINS").unwrap();
        Self {
            instances,
            instance,
            caller: self.caller.clone(),
            clock: self.clock.clone(),
            store: self.store.clone(),
        }
    }

    pub(crate) async fn with_models() -> Self {
        let fixture = Self::empty().await;
        fixture.upload(&[suite(), room(), pump(), thermostat()]).await.unwrap();
        fixture
    }

    pub(crate) async fn upload(&self, definitions: &[Value]) -> Result<Vec<ModelData>, Error> {
        self.instance.create_models(&self.caller, upload(definitions)).await
    }

    pub(crate) async fn put(&self, name: &str, body: Value) -> Result<DigitalTwin, Error> {
        self.instance.put_digital_twin(&self.caller, &id(name), &object(body), &IfNoneMatch::Absent).await
    }

    /// A room without properties.
    pub(crate) async fn room(&self, name: &str) -> DigitalTwin {
        self.put(name, json!({"$metadata": {"$model": "dtmi:test:Room;1"}, "Thermostat": {"$metadata": {}}}))
            .await
            .unwrap()
    }

    pub(crate) async fn patch(&self, name: &str, operations: Value) -> Result<DigitalTwin, Error> {
        let operations = patch(&operations);
        self.instance.update_digital_twin(&self.caller, &id(name), &operations, &IfMatch::Absent).await
    }

    pub(crate) async fn get(&self, name: &str) -> Result<DigitalTwin, Error> {
        self.instance.get_digital_twin(&self.caller, &id(name)).await
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Error> {
        self.instance.delete_digital_twin(&self.caller, &id(name), &IfMatch::Absent).await
    }

    pub(crate) async fn relate(&self, source: &str, edge: &str, body: Value) -> Result<Relationship, Error> {
        let ends = (&id(source), &edge.parse().unwrap());
        self.instance.put_relationship(&self.caller, ends, &object(body), &IfNoneMatch::Absent).await
    }

    pub(crate) async fn contain(
        &self,
        source: &str,
        edge: &str,
        target: &str,
    ) -> Result<Relationship, Error> {
        self.relate(source, edge, json!({"$relationshipName": "contains", "$targetId": target})).await
    }

    /// Two operations that both decide on what is stored now, and commit in this order: until both have decided, the store is
    /// busy with something else.
    pub(crate) async fn at_once<A, B>(
        &self,
        first: impl Future<Output = A>,
        second: impl Future<Output = B>,
    ) -> (A, B) {
        let mut batch = Batch::default();
        for number in 0..caps::BATCH_OPERATIONS_MAX {
            batch.put(&ModelSet {
                instance: InstanceId::from_stored(format!("another{number}")),
                last_upload_time: Timestamp::UNIX_EPOCH,
                count: 0,
            });
        }
        let (busy, first, second) =
            within(Box::pin(async { tokio::join!(self.store.commit(batch), first, second) })).await;
        busy.unwrap();
        (first, second)
    }

    pub(crate) fn later(&self) -> Timestamp {
        self.clock.advance(Duration::from_secs(10));
        self.clock.now()
    }

    /// From now on events are raised, as if there were a route.
    pub(crate) async fn listen(&self) {
        let mut batch = Batch::default();
        batch.add(events::route::count(self.instance.id()), 1, i64::MAX);
        self.store.commit(batch).await.unwrap();
    }

    /// What waits in the outbox.
    pub(crate) async fn events(&self) -> Vec<Told> {
        let rows = self.store.outbox(0, 1000).await.unwrap();
        rows.iter()
            .map(|row| Told::of(&Envelope::decode(&row.instance, &row.partition_key, &row.payload).unwrap()))
            .collect()
    }
}

/// An event as a consumer of an event hub sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) partition_key: String,
    /// Names without their prefix.
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) data: Value,
}

impl Told {
    fn of(envelope: &Envelope) -> Self {
        assert_eq!(envelope.destination, Destination::Routes);
        let attributes = headers::read(&envelope.headers).map(|property| match property {
            Property::System(property, value) => (property.name().to_owned(), value.to_owned()),
            Property::Application(name, value) => {
                (name.strip_prefix("cloudEvents:").unwrap().to_owned(), value.to_owned())
            }
        });
        Self {
            partition_key: envelope.partition_key.clone(),
            attributes: attributes.collect(),
            data: serde_json::from_slice(&envelope.body).unwrap(),
        }
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
