//! Event routes over the wire.

use base::{ConnectionString, InstanceId, caps};
use events::{Address, Endpoint, Target};
use serde_json::{Value, json};
use store::Batch;

use super::fixture::{Fixture, HOST};

const LEGACY: &str =
    "$eventType = 'DigitalTwinTelemetryMessages' or $eventType = 'DigitalTwinLifecycleNotification'";

async fn with_endpoint() -> Fixture {
    let fixture = Fixture::new().await;
    let connection =
        "Endpoint=sb://ns.servicebus.localhost/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e";
    let endpoint = Endpoint {
        instance: InstanceId::from_stored("twins-twins-0"),
        name: "e1".to_owned(),
        target: Target::EventHub(Address::ConnectionString(ConnectionString::new(connection))),
    };
    let mut batch = Batch::default();
    batch.put(&endpoint);
    fixture.store.commit(batch).await.unwrap();
    fixture
}

fn body(filter: &str) -> Value {
    json!({"endpointName": "e1", "filter": filter})
}

async fn listed(fixture: &Fixture) -> Value {
    fixture.ask("GET", "/eventroutes").send().await.is(200).json()
}

#[tokio::test]
async fn a_route_is_made_read_replaced_and_removed() {
    let fixture = with_endpoint().await;
    assert_eq!(listed(&fixture).await, json!({"value": [], "nextLink": null}));
    fixture.ask("PUT", "/eventroutes/r1").json(&body(LEGACY)).send().await.has_no_content();
    let read = fixture.ask("GET", "/eventroutes/r1").send().await.is(200);
    assert_eq!(read.text(), format!(r#"{{"id":"r1","endpointName":"e1","filter":"{LEGACY}"}}"#));
    fixture.ask("PUT", "/eventroutes/r1").json(&body("true")).send().await.has_no_content();
    assert_eq!(
        listed(&fixture).await.to_string(),
        r#"{"value":[{"id":"r1","endpointName":"e1","filter":"true"}],"nextLink":null}"#
    );
    fixture.ask("DELETE", "/eventroutes/r1").send().await.has_no_content();
    for method in ["GET", "DELETE"] {
        let answer = fixture.ask(method, "/eventroutes/r1").send().await.refused(404, "EventRouteNotFound");
        assert_eq!(
            answer.message(),
            "There is no route available that matches the provided input. Check for all valid event routes by calling EventRoute_List. See Swagger example (https://aka.ms/RouteSwSmpl)."
        );
    }
}

#[tokio::test]
async fn a_route_needs_a_ready_endpoint_a_filter_and_a_name() {
    let fixture = with_endpoint().await;
    let put = |id: &str, body: Value| fixture.ask("PUT", &format!("/eventroutes/{id}")).json(&body).send();
    let answer = put("r", json!({"endpointName": "other", "filter": LEGACY}))
        .await
        .refused(400, "EventRouteEndpointInvalid");
    assert_eq!(
        answer.message(),
        "The endpoint provided does not exist or is not active. Check that your endpoint is provisioned correctly. See event route documentation (https://aka.ms/ADTv2Routes)."
    );
    put("r", json!({"filter": "true"})).await.refused(400, "EventRouteEndpointInvalid");
    for filter in ["", "type =", "type = 'x' AND", "ORDER BY x"] {
        put("r", body(filter)).await.refused(400, "EventRouteFilterInvalid");
    }
    put("r", json!({"endpointName": "e1"})).await.refused(400, "EventRouteFilterInvalid");
    put("a%20b", body("true")).await.refused(400, "EventRouteIdInvalid");
    for bad in [json!([]), json!(["e1", "true"]), json!({"endpointName": 5})] {
        put("r", bad).await.refused(400, "InvalidArgument");
    }
    assert_eq!(listed(&fixture).await["value"], json!([]));
}

#[tokio::test]
async fn an_instance_has_so_many_routes_and_no_more() {
    let fixture = with_endpoint().await;
    for n in 0..caps::EVENT_ROUTES_MAX {
        fixture.ask("PUT", &format!("/eventroutes/r{n}")).json(&body("true")).send().await.has_no_content();
    }
    let one_more = || fixture.ask("PUT", "/eventroutes/more").json(&body("true")).send();
    one_more().await.refused(400, "LimitExceeded");
    fixture.ask("PUT", "/eventroutes/r0").json(&body("false")).send().await.has_no_content();
    let ask = fixture.ask("GET", "/eventroutes").header("max-items-per-page", "4");
    let first = ask.send().await.is(200).json();
    let link =
        first["nextLink"].as_str().unwrap().strip_prefix(&format!("https://{HOST}")).unwrap().to_owned();
    let second = fixture.ask("GET", &link).header("max-items-per-page", "4").send().await.is(200).json();
    let count = |page: &Value| page["value"].as_array().unwrap().len();
    assert_eq!(
        (count(&first), count(&second), &second["nextLink"]),
        (4, caps::EVENT_ROUTES_MAX - 4, &Value::Null)
    );
    fixture.ask("DELETE", "/eventroutes/r0").send().await.has_no_content();
    one_more().await.has_no_content();
}
