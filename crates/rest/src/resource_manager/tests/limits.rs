//! Every number that Resource Manager holds a request to, just inside and just outside: names, tags, lists and settings.
//! What is outside is refused with its code and leaves everything as it was.

use std::ops::RangeInclusive;

use base::caps;

use super::calls::{self, calls, snapshot, with_everything};
use super::*;

fn in_group(rest: &str, version: &str) -> String {
    format!("/subscriptions/{RECORDED}/resourceGroups/g{rest}?api-version={version}")
}

fn hub(rest: &str) -> String {
    in_group(&format!("/providers/Microsoft.Devices/IotHubs/{rest}"), "2023-06-30")
}

fn service(rest: &str) -> String {
    in_group(&format!("/providers/Microsoft.Devices/provisioningServices/{rest}"), "2021-10-15")
}

fn namespace(rest: &str) -> String {
    in_group(&format!("/providers/Microsoft.EventHub/namespaces/{rest}"), "2024-01-01")
}

fn identity(name: &str) -> String {
    in_group(&format!("/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"), "2023-01-31")
}

fn group(name: &str) -> String {
    format!("/subscriptions/{RECORDED}/resourceGroups/{name}?api-version=2024-11-01")
}

fn located() -> Value {
    json!({"location": "eastus", "sku": {"name": "S1"}})
}

/// The URL of a resource of this name.
type UrlOf<'a> = &'a dyn Fn(&str) -> String;
/// The URL of one of many, or a body with so many.
type Nth<'a, T> = &'a dyn Fn(usize) -> T;

impl Arm {
    /// PUTs that each have to be refused with this code, and to change nothing that can be seen.
    async fn refuses(&self, puts: impl IntoIterator<Item = (String, Value)>, code: &str) {
        let before = snapshot(self).await;
        for (url, body) in puts {
            let answer = self.put(&url, body).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body_json()["error"]["code"]),
                (400, &json!(code)),
                "{url} {answer:?}"
            );
        }
        assert_eq!(snapshot(self).await, before);
    }

    async fn accepts(&self, url: &str, body: Value) {
        let answer = self.put(url, body).await;
        assert!(answer.status.is_success(), "{url} {answer:?}");
        self.settle().await;
    }
}

#[tokio::test]
async fn names_have_a_least_and_a_greatest_length() {
    let arm = with_everything().await;
    let endpoint = json!({"endpointType": "ServiceBus", "primaryConnectionString": calls::CONNECTION_STRING});
    let rights = json!({"properties": {"rights": ["Listen"]}});
    let policy = |name: &str| json!({"location": "eastus", "sku": {"name": "S1"}, "properties": {"authorizationPolicies": [{"keyName": name, "rights": "ServiceConnect"}]}});
    let instance = |name: &str| twins_url(RECORDED, "g", name, "");
    let child = |name: &str| twins_url(RECORDED, "g", "all", &format!("/endpoints/{name}"));
    let rows: [(UrlOf, Value, RangeInclusive<usize>, &str); 10] = [
        (&group, located(), 1..=90, "InvalidResourceGroup"),
        (&instance, located(), 3..=63, "InvalidResourceName"),
        (&child, json!({"properties": endpoint}), 3..=49, "InvalidResourceName"),
        (&hub, located(), 3..=50, "InvalidResourceName"),
        (&service, located(), 3..=64, "InvalidResourceName"),
        (&namespace, located(), 6..=50, "InvalidResourceName"),
        (&|name| namespace(&format!("ns-all/eventhubs/{name}")), json!({}), 1..=256, "InvalidResourceName"),
        (
            &|name| namespace(&format!("ns-all/authorizationRules/{name}")),
            rights,
            1..=50,
            "InvalidResourceName",
        ),
        (&identity, located(), 3..=128, "InvalidResourceName"),
        (
            &|name| service(&format!("dps-all/certificates/{name}")),
            json!({"certificate": certificate("ca")}),
            1..=64,
            "InvalidResourceName",
        ),
    ];
    for (url, body, lengths, code) in rows {
        for length in [*lengths.start(), *lengths.end()] {
            arm.accepts(&url(&"n".repeat(length)), body.clone()).await;
        }
        // No name at all is another path.
        let outside = [lengths.start() - 1, lengths.end() + 1].into_iter().filter(|length| *length > 0);
        arm.refuses(outside.map(|length| (url(&"n".repeat(length)), body.clone())), code).await;
    }
    arm.accepts(&hub("hub-all"), policy(&"n".repeat(64))).await;
    arm.refuses([(hub("hub-all"), policy(&"n".repeat(65)))], "BadRequest").await;
}

#[tokio::test]
async fn a_name_check_knows_the_same_lengths() {
    let arm = with_everything().await;
    for (check, version, kind, lengths) in [
        ("Microsoft.Devices/checkNameAvailability", "2023-06-30", "", 3..=50),
        ("Microsoft.Devices/checkProvisioningServiceNameAvailability", "2021-10-15", "", 3..=64),
        ("Microsoft.EventHub/checkNameAvailability", "2024-01-01", "", 6..=50),
        (
            "Microsoft.DigitalTwins/locations/eastus/checkNameAvailability",
            VERSION,
            "Microsoft.DigitalTwins/digitalTwinsInstances",
            3..=63,
        ),
    ] {
        let url = format!("/subscriptions/{RECORDED}/providers/{check}?api-version={version}");
        for length in [lengths.start() - 1, *lengths.start(), *lengths.end(), lengths.end() + 1] {
            let (status, answer) = arm.post(&url, json!({"name": "n".repeat(length), "type": kind})).await;
            assert_eq!(
                (status, &answer["nameAvailable"]),
                (200, &json!(lengths.contains(&length))),
                "{check} {length}"
            );
        }
    }
}

fn tags(count: usize, name: usize, value: usize) -> Value {
    let tag = |at| (format!("{at:0name$}"), json!("v".repeat(value)));
    Value::Object((0..count).map(tag).collect())
}

#[tokio::test]
async fn tags_are_held_to_their_number_and_lengths_wherever_they_are() {
    let arm = with_everything().await;
    let (most, name, value) = (caps::TAGS_MAX, caps::TAG_KEY_CHARACTERS_MAX, caps::TAG_VALUE_CHARACTERS_MAX);
    let all = calls("g", "all");
    let tagged = all
        .iter()
        .filter(|call| call.method == "PATCH" || call.method == "PUT" && call.body.get("location").is_some());
    for call in tagged {
        let ask = async |tags: &Value| {
            let mut body = call.body.clone();
            body["tags"] = tags.clone();
            let answer = arm.call_with(call, &body.to_string()).await;
            arm.settle().await;
            answer.status.as_u16()
        };
        let at = format!("{} {}", call.method, call.url);
        for fits in [tags(most, 2, 1), tags(1, name, value)] {
            assert!(matches!(ask(&fits).await, 200..300), "{at}");
            assert_eq!(arm.get(&call.url).await.1["tags"], fits, "{at}");
        }
        let before = snapshot(&arm).await;
        for (refused, why) in [
            (tags(most + 1, 2, 1), "too many"),
            (tags(1, name + 1, 1), "too long a name"),
            (tags(1, 1, value + 1), "too long a value"),
            (json!({"": "value"}), "no name"),
            (json!({"a": 7}), "no text"),
        ] {
            assert_eq!(ask(&refused).await, 400, "{at} {why}");
        }
        assert_eq!(snapshot(&arm).await, before, "{at}");
    }
}

#[tokio::test]
async fn lists_hold_so_many_and_no_more() {
    let arm = with_everything().await;
    let with =
        |properties: Value| json!({"location": "eastus", "sku": {"name": "S1"}, "properties": properties});
    let policies = |count: usize| -> Value {
        let one = |at| json!({"keyName": format!("p{at}"), "rights": "ServiceConfig"});
        with(json!({"authorizationPolicies": (0..count).map(one).collect::<Vec<_>>()}))
    };
    let hub_policies = |count: usize| -> Value {
        serde_json::from_str(&policies(count).to_string().replace("ServiceConfig", "ServiceConnect")).unwrap()
    };
    let connections = |count: usize| -> Value {
        let state = json!({"privateLinkServiceConnectionState": {"status": "Pending", "description": ""}});
        let one = |at| json!({"name": format!("c{at}"), "properties": state});
        with(json!({"privateEndpointConnections": (0..count).map(one).collect::<Vec<_>>()}))
    };
    let rows: [(String, Nth<Value>, usize, &str); 3] = [
        (hub("hub-all"), &hub_policies, caps::POLICIES_PER_HUB_MAX, "BadRequest"),
        (service("dps-all"), &policies, caps::POLICIES_PER_HUB_MAX, "BadRequest"),
        (
            twins_url(RECORDED, "g", "all", ""),
            &connections,
            caps::PRIVATE_ENDPOINT_CONNECTIONS_MAX,
            "BadRequest",
        ),
    ];
    for (url, body, max, code) in rows {
        arm.accepts(&url, body(max)).await;
        arm.refuses([(url, body(max + 1))], code).await;
    }
    let linked = |count: usize| {
        let one = |at| json!({"connectionString": format!("HostName=h{at}.azure-devices.azure.net;SharedAccessKeyName=n;SharedAccessKey=a2V5"), "location": "eastus"});
        with(json!({"iotHubs": (0..count).map(one).collect::<Vec<_>>()}))
    };
    let refusal = async |count| {
        let answer = arm.put(&service("dps-all"), linked(count)).await;
        answer.body_json()["error"]["message"].as_str().unwrap().to_owned()
    };
    // No server here has fifty hubs: the right number is refused for the hubs, one more for the number.
    assert!(refusal(caps::LINKED_HUBS_MAX).await.contains("could not be found"));
    assert!(refusal(caps::LINKED_HUBS_MAX + 1).await.contains("At most 50 hubs"));
}

#[tokio::test]
async fn children_are_as_many_as_their_parent_may_have() {
    let arm = with_everything().await;
    let rights = json!({"properties": {"rights": ["Listen"]}});
    let certificate = json!({"certificate": certificate("ca")});
    let rows: [(Nth<String>, Value, usize); 4] = [
        // One of each is there already, and a namespace has its root rule too.
        (
            &|at| namespace(&format!("ns-all/eventhubs/e{at}")),
            json!({}),
            caps::EVENT_HUBS_PER_NAMESPACE_MAX - 1,
        ),
        (
            &|at| namespace(&format!("ns-all/authorizationRules/r{at}")),
            rights.clone(),
            caps::AUTHORIZATION_RULES_MAX - 2,
        ),
        (
            &|at| namespace(&format!("ns-all/eventhubs/events/authorizationRules/r{at}")),
            rights,
            caps::AUTHORIZATION_RULES_MAX - 1,
        ),
        (&|at| service(&format!("dps-all/certificates/c{at}")), certificate, caps::CA_CERTIFICATES_MAX - 1),
    ];
    for (url, body, room) in rows {
        for at in 0..room {
            arm.accepts(&url(at), body.clone()).await;
        }
        arm.refuses([(url(room), body.clone())], "QuotaExceeded").await;
        assert!(arm.delete(&url(0)).await.status.is_success() || url(0).contains("certificates"));
    }
}

#[tokio::test]
async fn settings_have_a_least_and_a_greatest_value() {
    let arm = with_everything().await;
    let sku = |name: &str, capacity: i64| json!({"location": "eastus", "sku": {"name": name, "capacity": capacity}});
    let events = |name: &str, value: i64| json!({"location": "eastus", "sku": {"name": "S1"}, "properties": {"eventHubEndpoints": {"events": {name: value}}}});
    let event_hub = |name: &str, value: i64| json!({"properties": {name: value}});
    let weight = |weight: i64| {
        json!({"location": "eastus", "sku": {"name": "S1"}, "properties": {"iotHubs": [{
        "connectionString": "HostName=none.azure-devices.net;SharedAccessKeyName=n;SharedAccessKey=a2V5", "location": "eastus", "allocationWeight": weight}]}})
    };
    for (number, (url, body, least, greatest)) in [
        (&hub as UrlOf, &(|value| sku("S3", value)) as &dyn Fn(i64) -> Value, 1, 10),
        (&hub, &|value| sku("S2", value), 1, 200),
        (&hub, &|value| sku("F1", value), 1, 1),
        (&hub, &|value| events("partitionCount", value), 2, i64::from(caps::PARTITIONS_MAX)),
        (&hub, &|value| events("retentionTimeInDays", value), 1, 7),
        (
            &|name| namespace(&format!("ns-all/eventhubs/{name}")),
            &|value| event_hub("partitionCount", value),
            1,
            i64::from(caps::PARTITIONS_MAX),
        ),
        (
            &|name| namespace(&format!("ns-all/eventhubs/{name}")),
            &|value| event_hub("messageRetentionInDays", value),
            1,
            7,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        for value in [least, greatest] {
            arm.accepts(&url(&format!("n{number}-{value}")), body(value)).await;
        }
        let put = |value| (url(&format!("n{number}-odd")), body(value));
        arm.refuses([least - 1, greatest + 1].map(put), "BadRequest").await;
        arm.refuses([-1, i64::from(u32::MAX) + 1, i64::MAX].map(put), "InvalidRequestContent").await;
    }
    let refusal = async |value| {
        let answer = arm.put(&service("dps-all"), weight(value)).await;
        answer.body_json()["error"]["message"].as_str().unwrap().to_owned()
    };
    for (value, word) in [
        (0, "allocationWeight"),
        (1, "none.azure-devices.net"),
        (1000, "none.azure-devices.net"),
        (1001, "allocationWeight"),
    ] {
        let message = refusal(value).await;
        assert!(message.contains(word), "{value} {message}");
    }
}
