//! Event hubs of this server, their keys, and an endpoint that leads to one.

use super::*;

const API: &str = "api-version=2024-01-01";

fn url(rest: &str) -> String {
    format!("/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.EventHub/namespaces/{rest}?{API}")
}

async fn with_event_hub() -> Arm {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let made = arm.put(&url("my-namespace"), json!({"location": "East US"})).await;
    assert_eq!(
        (made.status.as_u16(), &made.body_json()["properties"]["provisioningState"]),
        (201, &json!("Creating"))
    );
    // Without it `az` looks again after half a minute.
    assert_eq!(made.header_value("retry-after"), Some("1"));
    let unfinished = arm.send("GET", &url("my-namespace"), "").await;
    assert_eq!(unfinished.header_value("retry-after"), Some("1"));
    arm.settle().await;
    assert_eq!(arm.send("GET", &url("my-namespace"), "").await.header_value("retry-after"), None);
    assert_eq!(arm.get(&url("my-namespace")).await.1["properties"]["provisioningState"], "Succeeded");
    let made =
        arm.put(&url("my-namespace/eventhubs/events"), json!({"properties": {"partitionCount": 2}})).await;
    assert_eq!(
        (made.status.as_u16(), &made.body_json()["properties"]["partitionIds"]),
        (200, &json!(["0", "1"]))
    );
    arm
}

#[tokio::test]
async fn a_namespace_and_its_hubs_are_made_listed_and_deleted() {
    let arm = with_event_hub().await;
    let (_, namespace) = arm.get(&url("my-namespace")).await;
    assert_eq!(
        namespace["properties"]["serviceBusEndpoint"],
        "https://my-namespace.servicebus.azure.net:443/"
    );
    let (_, list) = arm.get(&url("my-namespace/eventhubs")).await;
    assert_eq!(list["value"][0]["name"], "events");
    assert!(arm.events.event_hub("my-namespace", "EVENTS").is_some());
    let (_, all) =
        arm.get(&format!("/subscriptions/{RECORDED}/providers/Microsoft.EventHub/namespaces?{API}")).await;
    assert_eq!(all["value"].as_array().unwrap().len(), 1);
    let (_, taken) = arm
        .post(
            &format!("/subscriptions/{RECORDED}/providers/Microsoft.EventHub/checkNameAvailability?{API}"),
            json!({"name": "MY-namespace"}),
        )
        .await;
    assert_eq!((&taken["nameAvailable"], &taken["reason"]), (&json!(false), &json!("NameInUse")));
    assert_eq!(arm.delete(&url("my-namespace/eventhubs/events")).await.status, 200);
    assert_eq!(arm.delete(&url("my-namespace/eventhubs/events")).await.status, 204);
    assert!(arm.events.event_hub("my-namespace", "events").is_none());
    let deleted = arm.delete(&url("my-namespace")).await;
    let location = deleted.header_value("location").unwrap().to_owned();
    assert_eq!(arm.send("GET", &location, "").await.status, 202);
    arm.settle().await;
    assert_eq!(arm.send("GET", &location, "").await.status, 200);
    assert_eq!(arm.get(&url("my-namespace")).await.0, 404);
}

#[tokio::test]
async fn keys_are_listed_for_the_namespace_and_for_one_hub() {
    let arm = with_event_hub().await;
    let (status, root) =
        arm.post(&url("my-namespace/authorizationRules/RootManageSharedAccessKey/listKeys"), json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(root["keyName"], "RootManageSharedAccessKey");
    let string = root["primaryConnectionString"].as_str().unwrap();
    assert!(
        string.starts_with("Endpoint=sb://my-namespace.servicebus.azure.net/;SharedAccessKeyName=RootManage"),
        "{string}"
    );
    assert!(!string.contains("EntityPath"));
    let rule = "my-namespace/eventhubs/events/authorizationRules/send";
    assert_eq!(arm.put(&url(rule), json!({"properties": {"rights": ["Send"]}})).await.status, 200);
    let (_, keys) = arm.post(&url(&format!("{rule}/listKeys")), json!({})).await;
    assert!(keys["secondaryConnectionString"].as_str().unwrap().ends_with(";EntityPath=events"));
    assert_eq!(arm.get(&url(rule)).await.1["properties"]["rights"], json!(["Send"]));
    assert_eq!(arm.delete(&url(rule)).await.status, 200);
    assert_eq!(arm.post(&url(&format!("{rule}/listKeys")), json!({})).await.0, 404);
}

#[tokio::test]
async fn sizes_and_names_are_held_to_their_limits() {
    let arm = with_event_hub().await;
    for (name, properties, status) in [
        ("bad", json!({"partitionCount": 0}), 400),
        ("bad", json!({"partitionCount": 33}), 400),
        ("bad", json!({"messageRetentionInDays": 8}), 400),
        ("-bad", json!({}), 400),
        ("good", json!({"partitionCount": 32, "messageRetentionInDays": 7}), 200),
        ("events", json!({"partitionCount": 3}), 400),
    ] {
        let answer =
            arm.put(&url(&format!("my-namespace/eventhubs/{name}")), json!({"properties": properties})).await;
        assert_eq!(answer.status.as_u16(), status, "{name} {properties} {answer:?}");
    }
    assert_eq!(arm.put(&url("short"), json!({"location": "eastus"})).await.status, 400);
    assert_eq!(arm.put(&url("nobody/eventhubs/events"), json!({})).await.status, 404);
    let (_, kept) = arm.get(&url("my-namespace/eventhubs/events")).await;
    assert_eq!(kept["properties"]["partitionCount"], 2);
}

#[tokio::test]
async fn an_endpoint_leads_to_an_event_hub_of_this_server_if_its_key_may_send() {
    let arm = with_event_hub().await;
    arm.put(&twins_url(RECORDED, "g", "twins", ""), json!({"location": "eastus"})).await;
    arm.settle().await;
    for (name, rights) in [("sender", json!(["Send"])), ("listener", json!(["Listen"]))] {
        let rule = format!("my-namespace/eventhubs/events/authorizationRules/{name}");
        arm.put(&url(&rule), json!({"properties": {"rights": rights}})).await;
        let (_, keys) = arm.post(&url(&format!("{rule}/listKeys")), json!({})).await;
        let endpoint = twins_url(RECORDED, "g", "twins", &format!("/endpoints/to-{name}"));
        let body = json!({"properties": {"endpointType": "EventHub", "connectionStringPrimaryKey": keys["primaryConnectionString"]}});
        let accepted = arm.put(&endpoint, body).await;
        assert_eq!(accepted.status, 201);
        let poll = accepted.header_value("azure-asyncoperation").unwrap().to_owned();
        arm.settle().await;
        let ((_, status), (_, made)) = (arm.get(&poll).await, arm.get(&endpoint).await);
        let expected = if name == "sender" { "Succeeded" } else { "Failed" };
        assert_eq!(
            (&status["status"], &made["properties"]["provisioningState"]),
            (&json!(expected), &json!(expected)),
            "{status}"
        );
        assert_eq!(status["error"]["code"].is_string(), name == "listener");
        let told = arm.events.endpoint(&arm.manager_instance("twins"), &format!("to-{name}")).await.unwrap();
        assert_eq!(told.is_some(), name == "sender");
    }
}

/// Events of the instance `twins`, and what of them has reached the event hub.
struct Raised<'a> {
    arm: &'a Arm,
    instance: base::InstanceId,
}

impl Raised<'_> {
    async fn to<'a>(arm: &'a Arm, endpoint: &str) -> Raised<'a> {
        let instance = arm.manager_instance("twins");
        let mut batch = store::Batch::default();
        let (endpoint, filter) = (endpoint.to_owned(), "true".to_owned());
        batch.add(events::route::count(&instance), 1, i64::MAX);
        batch.put(&events::Route { instance: instance.clone(), id: "all".to_owned(), endpoint, filter });
        arm.store.commit(batch).await.unwrap();
        arm.events.start().await.unwrap();
        Raised { arm, instance }
    }

    async fn raise(&self, body: &str) {
        let mut batch = store::Batch::default();
        let envelope = events::Envelope {
            instance: self.instance.clone(),
            partition_key: "room".to_owned(),
            time: self.arm.clock.now(),
            destination: events::Destination::Routes,
            headers: events::headers::begin(),
            body: body.as_bytes().to_vec(),
        };
        events::outbox::push(&mut batch, &envelope);
        self.arm.store.commit(batch).await.unwrap();
    }

    async fn arrived(&self) -> Vec<String> {
        let hub = self.arm.events.event_hub("my-namespace", "events").unwrap();
        let room = hub.partition_of("room");
        let all = hub.read(room, store::Position::Earliest, 100).await.unwrap();
        all.iter().map(|event| String::from_utf8(event.body.to_vec()).unwrap()).collect()
    }

    /// Until the relay has taken everything out of the outbox.
    async fn relayed(&self) {
        let empty = async {
            while !self.arm.store.outbox(0, 1).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.expect("the relay takes it");
    }

    async fn arrive(&self, wanted: &[&str]) {
        let there = async {
            while self.arrived().await != wanted {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), there).await;
        assert!(waited.is_ok(), "{:?} and not {wanted:?}", self.arrived().await);
    }
}

async fn state(arm: &Arm, endpoint: &str) -> Value {
    let shown = arm.get(endpoint).await.1["properties"]["provisioningState"].clone();
    let list = arm.get(&twins_url(RECORDED, "g", "twins", "/endpoints")).await.1;
    assert_eq!(list["value"][0]["properties"]["provisioningState"], shown);
    shown
}

#[tokio::test]
async fn a_key_that_is_revoked_stops_the_endpoint_that_uses_it_until_it_has_a_good_one() {
    let arm = with_event_hub().await;
    arm.put(&twins_url(RECORDED, "g", "twins", ""), json!({"location": "eastus"})).await;
    arm.settle().await;
    let rule = "my-namespace/eventhubs/events/authorizationRules/sender";
    let endpoint = twins_url(RECORDED, "g", "twins", "/endpoints/to-events");
    let give_key = async || {
        arm.put(&url(rule), json!({"properties": {"rights": ["Send"]}})).await;
        let (_, keys) = arm.post(&url(&format!("{rule}/listKeys")), json!({})).await;
        let body = json!({"properties": {"endpointType": "EventHub", "connectionStringPrimaryKey": keys["primaryConnectionString"]}});
        assert_eq!(arm.put(&endpoint, body).await.status, 201);
        arm.settle().await;
    };
    give_key().await;
    assert_eq!(state(&arm, &endpoint).await, "Succeeded");
    let events = Raised::to(&arm, "to-events").await;
    events.raise("1").await;
    events.arrive(&["1"]).await;

    assert_eq!(arm.delete(&url(rule)).await.status, 200);
    assert_eq!(state(&arm, &endpoint).await, "Disabled");
    events.raise("2").await;
    events.relayed().await;
    assert_eq!(events.arrived().await, ["1"], "not one more");
    give_key().await;
    assert_eq!(state(&arm, &endpoint).await, "Succeeded");
    events.arrive(&["1", "2"]).await;

    arm.put(&url(rule), json!({"properties": {"rights": ["Listen"]}})).await;
    assert_eq!(state(&arm, &endpoint).await, "Disabled");
    arm.put(&url(rule), json!({"properties": {"rights": ["Send"]}})).await;
    assert_eq!(state(&arm, &endpoint).await, "Succeeded", "the same key again");
}

#[tokio::test]
async fn an_endpoint_that_stands_on_an_identity_sends_with_its_role_alone() {
    let arm = with_event_hub().await;
    let twins = twins_url(RECORDED, "g", "twins", "");
    let identity = json!({"type": "SystemAssigned"});
    arm.put(&twins, json!({"location": "eastus", "identity": identity})).await;
    arm.settle().await;
    let principal = arm.get(&twins).await.1["identity"]["principalId"].as_str().unwrap().to_owned();
    let endpoint = twins_url(RECORDED, "g", "twins", "/endpoints/to-events");
    let body = json!({"properties": {
        "endpointType": "EventHub", "authenticationType": "IdentityBased",
        "endpointUri": "sb://my-namespace.servicebus.azure.net/", "entityPath": "events"
    }});
    assert_eq!(arm.put(&endpoint, body).await.status, 201);
    arm.settle().await;
    assert_eq!(state(&arm, &endpoint).await, "Disabled");
    let events = Raised::to(&arm, "to-events").await;
    events.raise("1").await;
    events.relayed().await;
    assert_eq!(events.arrived().await, Vec::<String>::new());

    let namespace = format!(
        "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.EventHub/namespaces/my-namespace"
    );
    let assignment = format!(
        "{namespace}/providers/Microsoft.Authorization/roleAssignments/11111111-2222-3333-4444-555555555555?api-version=2022-04-01"
    );
    let definition =
        format!("/providers/Microsoft.Authorization/roleDefinitions/{}", roles::EVENT_HUBS_DATA_SENDER);
    let body = json!({"properties": {"roleDefinitionId": definition, "principalId": principal}});
    assert_eq!(arm.put(&assignment, body).await.status, 201);
    assert_eq!(state(&arm, &endpoint).await, "Succeeded");
    events.arrive(&["1"]).await;

    assert_eq!(arm.delete(&assignment).await.status, 200);
    assert_eq!(state(&arm, &endpoint).await, "Disabled", "at once, too");
    events.raise("2").await;
    events.relayed().await;
    assert_eq!(events.arrived().await, ["1"]);
}
