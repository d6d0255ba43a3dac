//! Endpoints: three types, both authentications, both kinds of identity, dead letters, masks, and what is refused.

use resource_manager::endpoint::Mask;

use super::*;

const USER: &str = "/subscriptions/0e745469-49f8-48c9-873b-24ca87143db1/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/user";
const STRING: &str =
    "Endpoint=sb://ns.example.com/;SharedAccessKeyName=n;SharedAccessKey=secret=;EntityPath=e";
const OTHER: &str =
    "Endpoint=sb://other.example.com/;SharedAccessKeyName=n;SharedAccessKey=hidden=;EntityPath=e";
const BLOBS: &str = "https://account.blob.core.windows.net/container";

fn url(name: &str) -> String {
    twins_url(RECORDED, "g", "twins", &format!("/endpoints/{name}"))
}

async fn arm_with(settings: Settings, identity: Value) -> Arm {
    let arm = Arm::with(settings).await;
    arm.group(RECORDED, "g").await;
    let body = json!({"location": "eastus", "identity": identity});
    assert_eq!(arm.put(&twins_url(RECORDED, "g", "twins", ""), body).await.status, 201);
    arm.settle().await;
    arm
}

fn both_identities() -> Value {
    json!({"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {USER: {}}})
}

/// Every allowed combination as the body sends it, with what a reader sees of it.
fn combinations(mask: Mask) -> Vec<(Value, Value)> {
    let bus = "Endpoint=sb://TOKEN/;SharedAccessKeyName=TOKEN;SharedAccessKey=TOKEN;EntityPath=TOKEN";
    let (token, bus, hub) = match mask {
        Mask::Stars => ("***", bus.replace("TOKEN", "***"), "*".repeat(12)),
        Mask::Placeholder => {
            ("(PLACEHOLDER)", bus.replace("TOKEN", "(PLACEHOLDER)"), bus.replace("TOKEN", "(PLACEHOLDER)"))
        }
    };
    let secret = json!(format!("{BLOBS}?sv=1&sig=abc"));
    let masked = json!(format!("{BLOBS}?{token}"));
    let (system, user) = (
        json!({"type": "SystemAssigned", "userAssignedIdentity": null}),
        json!({"type": "UserAssigned", "userAssignedIdentity": USER}),
    );
    let mut all = vec![
        (
            json!({"endpointType": "EventHub", "connectionStringPrimaryKey": STRING, "connectionStringSecondaryKey": OTHER, "deadLetterSecret": secret}),
            json!({"endpointType": "EventHub", "authenticationType": "KeyBased", "connectionStringPrimaryKey": hub, "connectionStringSecondaryKey": hub, "deadLetterSecret": masked}),
        ),
        (
            json!({"endpointType": "ServiceBus", "authenticationType": "KeyBased", "primaryConnectionString": STRING, "secondaryConnectionString": OTHER, "deadLetterSecret": secret}),
            json!({"endpointType": "ServiceBus", "authenticationType": "KeyBased", "primaryConnectionString": bus, "secondaryConnectionString": bus, "deadLetterSecret": masked}),
        ),
        (
            json!({"endpointType": "EventGrid", "TopicEndpoint": "https://t.example.com/api/events", "accessKey1": "k1", "accessKey2": "k2", "deadLetterSecret": secret}),
            json!({"endpointType": "EventGrid", "authenticationType": "KeyBased", "TopicEndpoint": "https://t.example.com/api/events", "accessKey1": token, "accessKey2": token, "deadLetterSecret": masked}),
        ),
    ];
    let in_other_case = json!({"type": "userassigned", "userAssignedIdentity": USER});
    for (sent, shown) in [(&system, &system), (&user, &user), (&in_other_case, &user)] {
        for kind in ["EventHub", "ServiceBus"] {
            let body = |identity: &Value| {
                json!({"endpointType": kind, "authenticationType": "IdentityBased", "endpointUri": "sb://ns.example.com/",
                    "entityPath": "e", "deadLetterUri": BLOBS, "identity": identity})
            };
            all.push((body(sent), body(shown)));
        }
        let body = |identity: &Value| {
            json!({"endpointType": "EventGrid", "authenticationType": "IdentityBased",
                "TopicEndpoint": "https://t.example.com/api/events", "deadLetterUri": BLOBS, "identity": identity})
        };
        all.push((body(sent), body(shown)));
    }
    all
}

#[tokio::test]
async fn every_type_with_every_authentication_and_identity_is_made_shown_and_deleted() {
    for mask in [Mask::Stars, Mask::Placeholder] {
        let arm = arm_with(Settings { mask, ..Settings::default() }, both_identities()).await;
        for (sent, shown) in combinations(mask) {
            let answer = arm.put(&url("one-endpoint"), json!({"properties": sent})).await;
            assert_eq!(answer.status, 201, "{sent} {answer:?}");
            let early = answer.body_json();
            assert_eq!(early["properties"]["provisioningState"], "Provisioning");
            for secret in ["primaryConnectionString", "connectionStringSecondaryKey", "accessKey1"] {
                if shown.get(secret).is_some() {
                    assert_eq!(early["properties"][secret], "", "{secret} while it is being made");
                }
            }
            arm.settle().await;
            let (_, body) = arm.get(&url("one-endpoint")).await;
            let mut expected = shown.clone();
            expected["provisioningState"] = "Succeeded".into();
            expected["createdTime"] = "".into();
            assert_same(&expected, &body["properties"], Like::Exactly, &sent.to_string());
            let text = body.to_string();
            assert!(
                !text.contains("secret=") && !text.contains("hidden=") && !text.contains("sig=abc"),
                "{text}"
            );
            assert_eq!(arm.delete(&url("one-endpoint")).await.status, 202);
            arm.settle().await;
            assert_eq!(arm.get(&url("one-endpoint")).await.0, 404);
        }
    }
}

#[tokio::test]
async fn what_was_read_can_be_written_back_without_losing_a_secret() {
    for mask in [Mask::Stars, Mask::Placeholder] {
        let arm = arm_with(Settings { mask, ..Settings::default() }, both_identities()).await;
        let (_, instance) = arm.get(&twins_url(RECORDED, "g", "twins", "")).await;
        assert_eq!(instance["properties"]["provisioningState"], "Succeeded");
        let sent = json!({"endpointType": "ServiceBus", "primaryConnectionString": STRING, "deadLetterSecret": format!("{BLOBS}?sig=1")});
        let created = arm.put(&url("bus"), json!({"properties": sent})).await;
        // Written back at once, with the empty strings of the beginning; then later, with masks.
        let early = created.body_json();
        assert_eq!(early["properties"]["primaryConnectionString"], "");
        assert_eq!(arm.put(&url("bus"), early).await.status, 201);
        arm.settle().await;
        let (_, read) = arm.get(&url("bus")).await;
        assert!(
            read["properties"].get("secondaryConnectionString").is_none(),
            "what was never given is not there"
        );
        let answer = arm.put(&url("bus"), read.clone()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.body_json()["properties"]["provisioningState"], "Updating");
        arm.settle().await;
        let (_, again) = arm.get(&url("bus")).await;
        assert_eq!(again["properties"], read["properties"]);
        let twins = arm.manager_instance("twins");
        let endpoint = arm.events.endpoint(&twins, "bus").await.unwrap().unwrap();
        let events::Target::ServiceBus(events::Address::ConnectionString(secret)) = endpoint.target else {
            panic!()
        };
        assert_eq!(secret.expose(), STRING, "{mask:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_nothing_is_made() {
    let arm = arm_with(Settings::default(), json!({"type": "None"})).await;
    let bus = |extra: Value| {
        let mut body = json!({"endpointType": "ServiceBus", "primaryConnectionString": STRING});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let by_identity = json!({"endpointType": "EventHub", "authenticationType": "IdentityBased", "endpointUri": "sb://ns.example.com/", "entityPath": "e"});
    for bad in [
        Value::Null,
        json!({}),
        json!({"endpointType": "Pigeon"}),
        json!({"endpointType": "EventHub"}),
        json!({"endpointType": "ServiceBus"}),
        json!({"endpointType": "EventGrid", "TopicEndpoint": "https://x"}),
        json!({"endpointType": "EventGrid", "accessKey1": "k"}),
        json!({"endpointType": "EventGrid", "accessKey1": "k", "TopicEndpoint": "x"}),
        json!({"endpointType": "ServiceBus", "primaryConnectionString": ""}),
        json!({"endpointType": "ServiceBus", "primaryConnectionString": "***"}),
        json!({"endpointType": "ServiceBus", "primaryConnectionString": "nonsense"}),
        json!({"endpointType": "ServiceBus", "primaryConnectionString": STRING.replace(";EntityPath=e", "")}),
        json!({"endpointType": "ServiceBus", "primaryConnectionString": 7}),
        bus(json!({"authenticationType": "Handshake"})),
        bus(json!({"secondaryConnectionString": "nonsense"})),
        bus(json!({"deadLetterUri": BLOBS})),
        bus(json!({"deadLetterSecret": "nonsense"})),
        by_identity.clone(),
        json!({"endpointType": "EventHub", "authenticationType": "IdentityBased", "endpointUri": "sb://ns.example.com/"}),
        json!({"endpointType": "EventHub", "authenticationType": "IdentityBased", "endpointUri": "https://ns/", "entityPath": "e"}),
    ] {
        let answer = arm.put(&url("bad"), json!({"properties": bad})).await;
        assert_eq!(answer.status, 400, "{bad} {answer:?}");
        assert!(answer.body_json()["error"]["message"].is_string());
    }
    assert_eq!(arm.get(&twins_url(RECORDED, "g", "twins", "/endpoints")).await.1["value"], json!([]));
    let arm = arm_with(Settings::default(), json!({"type": "SystemAssigned"})).await;
    let mut as_user = by_identity.clone();
    as_user["identity"] = json!({"type": "UserAssigned", "userAssignedIdentity": USER});
    assert_eq!(arm.put(&url("bad"), json!({"properties": as_user})).await.status, 400);
    as_user["identity"] = json!({"type": "UserAssigned"});
    assert_eq!(arm.put(&url("bad"), json!({"properties": as_user})).await.status, 400);
    let mut secret = by_identity;
    secret["deadLetterSecret"] = json!(format!("{BLOBS}?sig=1"));
    assert_eq!(arm.put(&url("bad"), json!({"properties": secret})).await.status, 400);
    // The type of one that exists stays.
    assert_eq!(arm.put(&url("bus"), json!({"properties": bus(json!({}))})).await.status, 201);
    let hub = json!({"endpointType": "EventHub", "connectionStringPrimaryKey": STRING});
    assert_eq!(arm.put(&url("bus"), json!({"properties": hub})).await.status, 400);
}

#[tokio::test]
async fn names_and_numbers_are_held_to_their_limits() {
    let arm = arm_with(Settings::default(), json!({"type": "None"})).await;
    let body = json!({"properties": {"endpointType": "ServiceBus", "primaryConnectionString": STRING}});
    for (name, status) in [("-abc", 400), ("123", 400), ("a_b", 400), ("abc", 201), ("abd", 201)] {
        assert_eq!(arm.put(&url(name), body.clone()).await.status.as_u16(), status, "{name}");
    }
    for at in 2..base::caps::ENDPOINTS_MAX {
        assert_eq!(arm.put(&url(&format!("endpoint-{at}")), body.clone()).await.status, 201, "{at}");
    }
    let full = arm.put(&url("one-more"), body.clone()).await;
    assert_eq!((full.status.as_u16(), &full.body_json()["error"]["code"]), (400, &json!("QuotaExceeded")));
    assert_eq!(arm.put(&url("abc"), body.clone()).await.status, 201, "those that exist can still be changed");
    assert_eq!(arm.delete(&url("abc")).await.status, 202);
    arm.settle().await;
    assert_eq!(arm.put(&url("one-more"), body).await.status, 201, "a deleted one makes room");
}

#[tokio::test]
async fn an_endpoint_needs_its_instance_and_goes_with_it() {
    let arm = arm_with(Settings::default(), json!({"type": "None"})).await;
    let body = json!({"properties": {"endpointType": "ServiceBus", "primaryConnectionString": STRING}});
    let orphan = twins_url(RECORDED, "g", "nobody", "/endpoints/abc");
    for answer in
        [arm.put(&orphan, body.clone()).await, arm.send("GET", &orphan, "").await, arm.delete(&orphan).await]
    {
        assert_eq!(
            (answer.status.as_u16(), &answer.body_json()["error"]["code"]),
            (404, &json!("ParentResourceNotFound"))
        );
    }
    arm.put(&twins_url(RECORDED, "g", "young", ""), json!({"location": "eastus"})).await;
    let early = arm.put(&twins_url(RECORDED, "g", "young", "/endpoints/abc"), body.clone()).await;
    assert_eq!(early.status, 409, "its instance is still being made");
    arm.settle().await;
    assert_eq!(arm.put(&url("abc"), body).await.status, 201);
    arm.settle().await;
    let twins = arm.manager_instance("twins");
    assert!(arm.events.endpoint(&twins, "abc").await.unwrap().is_some());
    assert_eq!(arm.delete(&twins_url(RECORDED, "g", "twins", "")).await.status, 202);
    arm.settle().await;
    assert!(arm.events.endpoint(&twins, "abc").await.unwrap().is_none());
    assert_eq!(arm.get(&url("abc")).await.1["error"]["code"], "ParentResourceNotFound");
}

/// An endpoint that leads outside, made and ready.
async fn endpoint(arm: &Arm, name: &str) {
    let target = json!({"endpointType": "ServiceBus", "primaryConnectionString": STRING});
    let made = arm.put(&url(name), json!({"properties": target})).await;
    assert_eq!(made.status, 201, "{made:?}");
    arm.settle().await;
    assert_eq!(arm.get(&url(name)).await.1["properties"]["provisioningState"], "Succeeded");
}

async fn put_route(arm: &Arm, id: &str, endpoint: &str) -> Result<(), digital_twins::Error> {
    let route =
        digital_twins::NewEventRoute { endpoint_name: endpoint.to_owned(), filter: "true".to_owned() };
    let instance = arm.instances.find("twins").unwrap();
    instance.put_event_route(&access::Caller::system(), &id.parse().unwrap(), &route).await
}

async fn routes(arm: &Arm) -> Vec<String> {
    let instance = arm.instances.find("twins").unwrap();
    let page = instance.list_event_routes(&access::Caller::system(), None, None).await.unwrap();
    page.items.into_iter().map(|route| format!("{} to {}", route.id, route.endpoint_name)).collect()
}

#[tokio::test]
async fn an_endpoint_that_event_routes_name_cannot_be_deleted() {
    let arm = arm_with(Settings::default(), Value::Null).await;
    for name in ["one", "two"] {
        endpoint(&arm, name).await;
    }
    put_route(&arm, "r1", "one").await.unwrap();
    put_route(&arm, "r2", "one").await.unwrap();
    let before = arm.get(&url("one")).await;
    let refused = arm.delete(&url("ONE")).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let message = "Nested endpoint routes found. Please remove following endpoint routes first: r1, r2";
    assert_eq!(refused.body_json()["error"], json!({"code": "BadRequest", "message": message}));
    arm.settle().await;
    assert_eq!(arm.get(&url("one")).await, before);

    put_route(&arm, "r1", "two").await.unwrap();
    let instance = arm.instances.find("twins").unwrap();
    instance.delete_event_route(&access::Caller::system(), &"r2".parse().unwrap()).await.unwrap();
    assert_eq!(arm.delete(&url("two")).await.status, 400);
    assert_eq!(arm.delete(&url("one")).await.status, 202);
    let late = put_route(&arm, "r3", "one").await;
    assert!(matches!(late, Err(digital_twins::Error::EventRouteEndpointInvalid)), "{late:?}");
    arm.settle().await;
    assert_eq!(arm.get(&url("one")).await.0, 404);
    assert_eq!(routes(&arm).await, ["r1 to two"]);

    assert_eq!(arm.delete(&twins_url(RECORDED, "g", "twins", "")).await.status, 202);
    arm.settle().await;
    assert_eq!(arm.get(&twins_url(RECORDED, "g", "twins", "")).await.0, 404, "with its routes and endpoints");
}

#[tokio::test]
async fn an_endpoint_that_is_being_deleted_stays_closed_whatever_was_accepted_before() {
    let arm = arm_with(Settings::default(), Value::Null).await;
    endpoint(&arm, "one").await;
    let target = json!({"endpointType": "ServiceBus", "primaryConnectionString": OTHER});
    assert_eq!(arm.put(&url("one"), json!({"properties": target})).await.status, 201);
    arm.clock.advance(Settings::default().delay / 2);
    assert_eq!(arm.delete(&url("one")).await.status, 202);
    arm.clock.advance(Settings::default().delay / 2);
    // The update is due, the deletion is not.
    arm.manager.reconcile().await;
    assert_eq!(arm.get(&url("one")).await.1["properties"]["provisioningState"], "Deleting");
    let late = put_route(&arm, "r", "one").await;
    assert!(matches!(late, Err(digital_twins::Error::EventRouteEndpointInvalid)), "{late:?}");
    arm.settle().await;
    assert_eq!(arm.get(&url("one")).await.0, 404);
}

/// How often a race is run that only some runs lose.
const ROUNDS: usize = 20;

#[expect(clippy::disallowed_methods, reason = "requests of a test, which it waits for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_is_left_behind_by_an_endpoint_that_is_deleted_at_the_same_time() {
    let arm = Arc::new(arm_with(Settings::default(), Value::Null).await);
    for round in 0..ROUNDS {
        let name = format!("one-{round}");
        endpoint(&arm, &name).await;
        let (own, there) = (arm.clone(), name.clone());
        let route = tokio::spawn(async move { put_route(&own, "r", &there).await });
        let (own, there) = (arm.clone(), url(&name));
        let delete = tokio::spawn(async move { own.delete(&there).await.status.as_u16() });
        let (route, delete) = (route.await.unwrap(), delete.await.unwrap());
        arm.settle().await;
        let is_there = arm.get(&url(&name)).await.0 == 200;
        assert_eq!(routes(&arm).await.len(), usize::from(is_there), "{route:?} {delete}");
        assert_eq!((route.is_ok(), delete), if is_there { (true, 400) } else { (false, 202) });
        if is_there {
            let instance = arm.instances.find("twins").unwrap();
            instance.delete_event_route(&access::Caller::system(), &"r".parse().unwrap()).await.unwrap();
            assert_eq!(arm.delete(&url(&name)).await.status, 202);
            arm.settle().await;
        }
    }
}
