//! From a change of the graph to an event hub of this server, through a route with a filter.

#![allow(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use base::hosts::{Hosts, NoMachine};
use base::outbound::{self, Delivery, Message, Outbound};
use base::tasks::Tasks;
use base::{Clock, ConnectionString, IfMatch, IfNoneMatch, InstanceId, Scope, Throttle, Timestamp};
use digital_twins::{Context, DigitalTwinId, InstanceSettings, Instances, NewEventRoute, json_patch};
use events::headers::Property;
use events::{Address, Endpoint, EventHubs, EventStreamSettings, Events, Target, Way, Ways};
use serde_json::{Value, json};
use store::Position;

/// Nothing here may leave the process.
struct Nowhere;

impl Outbound for Nowhere {
    fn deliver<'a>(&'a self, address: &'a outbound::Address, _: &'a [Message]) -> Delivery<'a> {
        panic!("{address} is no event hub of ours")
    }
}

/// The event hubs of one namespace, which let everybody in.
struct Ours;

impl EventHubs for Ours {
    fn way<'a>(&'a self, address: &'a Address) -> Ways<'a> {
        Box::pin(async move {
            let (_, entity) = address.host_and_entity().unwrap();
            let instance = InstanceId::from_stored("eventhubs-ns-1");
            Ok(Way::Open { instance, event_hub: entity.to_owned() })
        })
    }
}

#[tokio::test]
async fn a_change_that_a_filter_selects_arrives_as_a_message_with_its_attributes() {
    let ((store, streams), hosts) = (test_store::open(), Hosts::new("localhost", 443, NoMachine));
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_700_000_000));
    let tasks = Tasks::new();
    let events = Events::new(events::Context {
        store: store.clone(),
        streams,
        clock: clock.clone(),
        event_hubs: Arc::new(Ours),
        tasks: tasks.clone(),
        outbound: Arc::new(Nowhere),
    });
    events.start().await.unwrap();
    let stream = EventStreamSettings {
        instance: InstanceId::from_stored("eventhubs-ns-1"),
        name: "hub".to_owned(),
        namespace: Some("ns".to_owned()),
        partition_count: 1,
        retention_seconds: 3600,
    };
    let stream = events.ensure_stream(stream).await.unwrap();
    let instances = Instances::new(Context { store, clock, throttle: Throttle::unlimited(), hosts });
    let settings = InstanceSettings {
        instance: InstanceId::from_stored("twins-0"),
        name: "twins".to_owned(),
        scope: Scope::new("/subscriptions/s/twins"),
        location: "eastus".to_owned(),
        public_network_access: true,
        is_default: true,
    };
    let twins = instances.ensure(settings).await.unwrap();
    let connection =
        "Endpoint=sb://ns.servicebus.localhost/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=hub";
    let target = Target::EventHub(Address::ConnectionString(ConnectionString::new(connection)));
    let endpoint = Endpoint { instance: twins.id().clone(), name: "e".to_owned(), target };
    events.ensure_endpoint(&endpoint, store::Batch::default()).await.unwrap();

    let caller = Caller::system();
    let filter =
        "type = 'Microsoft.DigitalTwins.Twin.Update' AND $body.modelId = 'dtmi:test:Pump;1'".to_owned();
    let route = NewEventRoute { endpoint_name: "e".to_owned(), filter };
    twins.put_event_route(&caller, &"r".parse().unwrap(), &route).await.unwrap();
    let pump = json!({"@id": "dtmi:test:Pump;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Property", "name": "Speed", "schema": "integer"}]});
    twins.create_models(&caller, json!([pump]).to_string().into()).await.unwrap();
    let id: DigitalTwinId = "p".parse().unwrap();
    let Value::Object(body) = json!({"$metadata": {"$model": "dtmi:test:Pump;1"}}) else { unreachable!() };
    twins.put_digital_twin(&caller, &id, &body, &IfNoneMatch::Absent).await.unwrap();
    let patch = json_patch::parse(br#"[{"op": "add", "path": "/Speed", "value": 7}]"#).unwrap();
    twins.update_digital_twin(&caller, &id, &patch, &IfMatch::Absent).await.unwrap();

    let mut tail = stream.tail(0).await.unwrap();
    tail.wait_for(|next| *next > 0).await.unwrap();
    let arrived = stream.read(0, Position::Earliest, 10).await.unwrap();
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    let body: Value = serde_json::from_slice(&arrived[0].body).unwrap();
    assert_eq!(
        body.to_string(),
        r#"{"modelId":"dtmi:test:Pump;1","patch":[{"value":7,"path":"/Speed","op":"add"}]}"#
    );
    let attributes: Vec<_> = arrived[0]
        .properties()
        .filter_map(|property| match property {
            Property::Application(name @ ("cloudEvents:type" | "cloudEvents:subject"), value) => {
                Some((name, value))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        attributes,
        [("cloudEvents:type", "Microsoft.DigitalTwins.Twin.Update"), ("cloudEvents:subject", "p")]
    );
    tasks.drain(Duration::from_secs(1)).await;
}
