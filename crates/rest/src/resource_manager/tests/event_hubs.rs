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
    arm.settle().await;
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
