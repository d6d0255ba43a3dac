//! What every operation refuses in the same way: credentials, roles, api-versions, bodies, tags, places, things that are not there.
//! Each refusal leaves the state as it was.

use super::*;

const STRING: &str = "Endpoint=sb://ns.example.com/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";

/// One call of every operation that changes or reads something, with a body that would be accepted.
fn calls(group: &str, instance: &str) -> Vec<(&'static str, String, Value)> {
    let rg = |rest: &str| format!("/subscriptions/{RECORDED}/resourceGroups/{group}{rest}");
    let sub = |rest: &str| format!("/subscriptions/{RECORDED}{rest}");
    let twins = |rest: &str| twins_url(RECORDED, group, instance, rest);
    let endpoint = json!({"properties": {"endpointType": "ServiceBus", "primaryConnectionString": STRING}});
    let state = json!({"properties": {"privateLinkServiceConnectionState": {"status": "Approved", "description": "d"}}});
    let located = json!({"location": "eastus", "sku": {"name": "S1"}});
    let hub = |rest: &str| {
        rg(&format!("/providers/Microsoft.Devices/IotHubs/hub-{instance}{rest}?api-version=2023-06-30"))
    };
    let dps = |rest: &str| {
        rg(&format!(
            "/providers/Microsoft.Devices/provisioningServices/dps-{instance}{rest}?api-version=2021-10-15"
        ))
    };
    let ns = |rest: &str| {
        rg(&format!("/providers/Microsoft.EventHub/namespaces/ns-{instance}{rest}?api-version=2024-01-01"))
    };
    let user = rg(&format!(
        "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/user-{instance}?api-version=2023-01-31"
    ));
    let name = json!({"name": "free-name", "type": "Microsoft.DigitalTwins/digitalTwinsInstances"});
    vec![
        ("GET", sub("/resourcegroups?api-version=2024-11-01"), Value::Null),
        ("PUT", rg("?api-version=2024-11-01"), json!({"location": "eastus"})),
        ("PATCH", rg("?api-version=2024-11-01"), json!({"tags": {}})),
        ("GET", rg("?api-version=2024-11-01"), Value::Null),
        ("GET", rg("/resources?api-version=2024-11-01"), Value::Null),
        ("POST", sub("/providers/Microsoft.DigitalTwins/register?api-version=2024-11-01"), json!({})),
        (
            "GET",
            sub(&format!("/providers/Microsoft.DigitalTwins/digitalTwinsInstances?api-version={VERSION}")),
            Value::Null,
        ),
        (
            "GET",
            rg(&format!("/providers/Microsoft.DigitalTwins/digitalTwinsInstances?api-version={VERSION}")),
            Value::Null,
        ),
        (
            "POST",
            sub(&format!(
                "/providers/Microsoft.DigitalTwins/locations/eastus/checkNameAvailability?api-version={VERSION}"
            )),
            name.clone(),
        ),
        ("PUT", twins(""), located.clone()),
        ("PATCH", twins(""), json!({"tags": {}})),
        ("GET", twins(""), Value::Null),
        ("PUT", twins("/endpoints/abc"), endpoint),
        ("GET", twins("/endpoints/abc"), Value::Null),
        ("GET", twins("/endpoints"), Value::Null),
        ("GET", twins("/privateLinkResources"), Value::Null),
        ("GET", twins("/privateEndpointConnections"), Value::Null),
        ("PUT", twins("/privateEndpointConnections/one"), state),
        ("DELETE", twins("/privateEndpointConnections/one"), Value::Null),
        ("DELETE", twins("/endpoints/abc"), Value::Null),
        ("DELETE", twins(""), Value::Null),
        ("GET", sub("/providers/Microsoft.Devices/IotHubs?api-version=2023-06-30"), Value::Null),
        (
            "POST",
            sub("/providers/Microsoft.Devices/checkNameAvailability?api-version=2023-06-30"),
            name.clone(),
        ),
        ("PUT", hub(""), located.clone()),
        ("PATCH", hub(""), json!({"tags": {}})),
        ("GET", hub(""), Value::Null),
        ("POST", hub("/listkeys"), json!({})),
        ("POST", hub("/IotHubKeys/service/listkeys"), json!({})),
        ("DELETE", hub(""), Value::Null),
        ("GET", sub("/providers/Microsoft.Devices/provisioningServices?api-version=2021-10-15"), Value::Null),
        (
            "POST",
            sub(
                "/providers/Microsoft.Devices/checkProvisioningServiceNameAvailability?api-version=2021-10-15",
            ),
            name,
        ),
        ("PUT", dps(""), located.clone()),
        ("PATCH", dps(""), json!({"tags": {}})),
        ("GET", dps(""), Value::Null),
        ("POST", dps("/listkeys"), json!({})),
        ("POST", dps("/keys/provisioningserviceowner/listkeys"), json!({})),
        ("DELETE", dps(""), Value::Null),
        ("PUT", ns(""), located.clone()),
        ("GET", ns(""), Value::Null),
        ("PUT", ns("/eventhubs/events"), json!({})),
        ("POST", ns("/authorizationRules/RootManageSharedAccessKey/listKeys"), json!({})),
        ("DELETE", ns("/eventhubs/events"), Value::Null),
        ("DELETE", ns(""), Value::Null),
        ("PUT", user.clone(), located),
        ("GET", user.clone(), Value::Null),
        ("DELETE", user, Value::Null),
        ("DELETE", rg("?api-version=2024-11-01"), Value::Null),
    ]
}

async fn snapshot(arm: &Arm) -> Value {
    let (_, groups) =
        arm.get(&format!("/subscriptions/{RECORDED}/resourcegroups?api-version=2024-11-01")).await;
    let (_, resources) = arm
        .get(&format!(
            "/subscriptions/{RECORDED}/resources?api-version=2024-11-01&$expand=changedTime,provisioningState"
        ))
        .await;
    json!([groups, resources])
}

async fn with_everything() -> Arm {
    let arm = Arm::new().await;
    for (method, url, body) in calls("g", "all") {
        if method == "PUT" {
            let answer = arm.send(method, &url, &body.to_string()).await;
            // The connection is made by its instance alone, which has none here.
            assert!(
                answer.status.is_success() || url.contains("privateEndpointConnections"),
                "{url} {answer:?}"
            );
            arm.settle().await;
        }
    }
    arm
}

fn text(body: &Value) -> String {
    if body.is_null() { String::new() } else { body.to_string() }
}

#[tokio::test]
async fn every_operation_works_for_the_owner_in_this_order() {
    let arm = with_everything().await;
    for (method, url, body) in calls("g", "all") {
        let answer = arm.send(method, &url, &text(&body)).await;
        assert!(
            answer.status.is_success() || url.contains("privateEndpointConnections/"),
            "{method} {url} {answer:?}"
        );
        arm.settle().await;
    }
    assert_eq!(snapshot(&arm).await, json!([{"value": []}, {"value": []}]));
}

#[tokio::test]
async fn without_good_credentials_or_the_role_nothing_is_told_or_changed() {
    let arm = with_everything().await;
    let before = snapshot(&arm).await;
    let nobody = arm.token_of(None, "").await;
    let elsewhere = arm.token_of(Some(roles::OWNER), &format!("/subscriptions/{EXAMPLES}")).await;
    let data =
        arm.token_of(Some(roles::DIGITAL_TWINS_DATA_OWNER), &format!("/subscriptions/{RECORDED}")).await;
    let reader = arm.token_of(Some(roles::READER), &format!("/subscriptions/{RECORDED}")).await;
    let audience = token(&arm.directory, &arm.owner, "0b07f429-9f4b-4714-9392-cc5e8e80c8b0").await;
    let forged = format!("{}x", arm.token);
    for (method, url, body) in calls("g", "all") {
        let ask = async |token: Option<&str>| {
            let bearer = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
            let headers: Vec<(&str, &str)> =
                token.iter().map(|_| ("authorization", bearer.as_str())).collect();
            let answer = arm.ask(method, &url, &headers, &text(&body)).await;
            let code = answer.body_json()["error"]["code"].as_str().unwrap_or_default().to_owned();
            if answer.status == 401 {
                let challenge = answer.header_value("www-authenticate").unwrap();
                assert!(challenge.starts_with("Bearer authorization_uri=\"https://"), "{challenge}");
            }
            (answer.status.as_u16(), code)
        };
        let at = format!("{method} {url}");
        assert_eq!(ask(None).await, (401, "AuthenticationFailed".into()), "{at}");
        assert_eq!(ask(Some("nonsense")).await, (401, "InvalidAuthenticationToken".into()), "{at}");
        assert_eq!(ask(Some(&forged)).await, (401, "InvalidAuthenticationToken".into()), "{at}");
        assert_eq!(ask(Some(&audience)).await, (401, "InvalidAuthenticationTokenAudience".into()), "{at}");
        for who in [&nobody, &elsewhere, &data] {
            assert_eq!(ask(Some(who)).await, (403, "AuthorizationFailed".into()), "{at}");
        }
        let is_read = method == "GET";
        let (status, code) = ask(Some(&reader)).await;
        let missing = url.contains("privateEndpointConnections/");
        assert!(
            if is_read { status == 200 } else { (status, code.as_str()) == (403, "AuthorizationFailed") }
                || missing && status == 404,
            "{at} {status} {code}"
        );
    }
    assert_eq!(snapshot(&arm).await, before);
    arm.clock.advance(Duration::from_secs(5000));
    let bearer = format!("Bearer {}", arm.token);
    for (method, url, body) in calls("g", "all") {
        let answer = arm.ask(method, &url, &[("authorization", &bearer)], &text(&body)).await;
        let (status, body) = (answer.status.as_u16(), answer.body_json());
        assert_eq!(
            (status, &body["error"]["code"]),
            (401, &json!("ExpiredAuthenticationToken")),
            "{method} {url}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let arm = Arm::new().await;
    for (method, url, body) in calls("nowhere", "all") {
        let makes_the_group = method == "PUT" && url.contains("/nowhere?");
        if url.contains("/resourceGroups/nowhere") && !makes_the_group {
            let answer = arm.send(method, &url, &text(&body)).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body_json()["error"]["code"]),
                (404, &json!("ResourceGroupNotFound")),
                "{method} {url}"
            );
        }
    }
    let unknown = "11111111-2222-3333-4444-555555555555";
    for (method, url, body) in calls("g", "all") {
        let url = url.replace(RECORDED, unknown);
        let answer = arm.send(method, &url, &text(&body)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body_json()["error"]["code"]),
            (404, &json!("SubscriptionNotFound")),
            "{method} {url}"
        );
        let answer = arm.send(method, &url.replace(unknown, "mine"), &text(&body)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body_json()["error"]["code"]),
            (400, &json!("InvalidSubscriptionId")),
            "{method} {url}"
        );
    }
    arm.group(RECORDED, "g").await;
    for (method, url, body) in calls("g", "all") {
        let is_child = url.contains("/all/") || url.contains("ns-all/eventhubs");
        if ["GET", "PATCH", "POST"].contains(&method) && (url.contains("-all") || url.contains("/all")) {
            let answer = arm.send(method, &url, &text(&body)).await;
            let code = answer.body_json()["error"]["code"].as_str().unwrap().to_owned();
            assert!(
                answer.status == 404
                    && (code == "ResourceNotFound" || is_child && code == "ParentResourceNotFound"),
                "{method} {url} {code}"
            );
        }
    }
}

#[tokio::test]
async fn the_api_version_is_asked_for_and_checked() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let instance = |version: &str| twins_url(RECORDED, "g", "all", "").replace(VERSION, version);
    for version in [
        "2020-03-01-preview",
        "2020-10-31",
        "2020-12-01",
        "2021-06-30-preview",
        "2022-05-31",
        "2022-10-31",
        "2023-01-31",
        "2031-01-01",
    ] {
        assert_eq!(arm.get(&instance(version)).await.0, 404, "{version}");
    }
    for (url, code) in [
        (format!("/subscriptions/{RECORDED}/resourceGroups/g"), "MissingApiVersionParameter"),
        (instance("").replace("?api-version=", ""), "MissingApiVersionParameter"),
        (format!("/subscriptions/{RECORDED}?api-version=soon"), "InvalidApiVersionParameter"),
        (instance("2019-01-01"), "NoRegisteredProviderFound"),
        (instance("soon"), "NoRegisteredProviderFound"),
    ] {
        let (status, body) = arm.get(&url).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!(code)), "{url}");
    }
    for (url, code) in [
        (
            format!(
                "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.DigitalTwins/pigeons/x?api-version={VERSION}"
            ),
            "InvalidResourceType",
        ),
        (
            format!(
                "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.Pigeons/x/y?api-version={VERSION}"
            ),
            "InvalidResourceNamespace",
        ),
    ] {
        let (status, body) = arm.get(&url).await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!(code)), "{url}");
    }
    assert_eq!(arm.send("POST", &instance(VERSION), "{}").await.status, 405);
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_nothing_changes() {
    let arm = with_everything().await;
    let before = snapshot(&arm).await;
    for (method, url, _) in calls("g", "all") {
        if ["PUT", "PATCH"].contains(&method) {
            for bad in [
                "",
                "{",
                "[]",
                "7",
                "\"text\"",
                r#"{"tags": 7, "properties": 7}"#,
                &format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
            ] {
                let answer = arm.send(method, &url, bad).await;
                assert_eq!(answer.status, 400, "{method} {url} {bad:.20} {answer:?}");
            }
            let long = format!("{{\"location\": \"{}\"}}", "x".repeat(base::caps::HTTP_BODY_BYTES_MAX));
            assert_eq!(arm.send(method, &url, &long).await.status, 413, "{method} {url}");
        }
    }
    assert_eq!(snapshot(&arm).await, before);
}

#[tokio::test]
async fn places_names_and_tags_are_held_to_their_rules() {
    let arm = with_everything().await;
    let url = twins_url(RECORDED, "g", "all", "");
    let new = |name: &str| twins_url(RECORDED, "g", name, "");
    let before = arm.get(&url).await.1;
    for (url, body, status, code) in [
        (new("fresh"), json!({}), 400, "LocationRequired"),
        (new("fresh"), json!({"location": ""}), 400, "LocationRequired"),
        (new("fresh"), json!({"location": "atlantis"}), 400, "LocationNotAvailableForResourceType"),
        (url.clone(), json!({"location": "westus2"}), 409, "InvalidResourceLocation"),
        (url.clone(), json!({"location": "eastus", "name": "other"}), 400, "InvalidRequestContent"),
        (
            url.clone(),
            json!({"location": "eastus", "identity": {"type": "Robot"}}),
            400,
            "InvalidRequestContent",
        ),
        (
            url.clone(),
            json!({"location": "eastus", "identity": {"type": "UserAssigned"}}),
            400,
            "InvalidRequestContent",
        ),
        (
            url.clone(),
            json!({"location": "eastus", "properties": {"publicNetworkAccess": "Maybe"}}),
            400,
            "InvalidRequestContent",
        ),
        (
            url.clone(),
            json!({"location": "eastus", "properties": {"privateEndpointConnections": [
            {"properties": {"privateLinkServiceConnectionState": {"status": "Maybe", "description": ""}}}]}}),
            400,
            "InvalidRequestContent",
        ),
        (new("ab"), json!({"location": "eastus"}), 400, "InvalidResourceName"),
        (new(&"a".repeat(64)), json!({"location": "eastus"}), 400, "InvalidResourceName"),
        (new("-abc"), json!({"location": "eastus"}), 400, "InvalidResourceName"),
    ] {
        let answer = arm.put(&url, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body_json()["error"]["code"]),
            (status, &json!(code)),
            "{body}"
        );
    }
    let tags = |count: usize, name: usize, value: usize| -> Value {
        (0..count)
            .map(|at| (format!("{at:0name$}"), json!("v".repeat(value))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    for (tags, fits) in [
        (tags(50, 2, 1), true),
        (tags(51, 2, 1), false),
        (tags(1, 512, 256), true),
        (tags(1, 513, 1), false),
        (tags(1, 1, 257), false),
    ] {
        let patched = arm.patch(&url, json!({"tags": tags})).await;
        assert_eq!(patched.status.is_success(), fits, "{patched:?}");
        arm.settle().await;
        let put = arm.put(&url, json!({"location": "eastus", "tags": tags})).await;
        assert_eq!(put.status.is_success(), fits);
        arm.settle().await;
    }
    arm.patch(&url, json!({"tags": before["tags"]})).await;
    arm.settle().await;
    let after = arm.get(&url).await.1;
    for member in ["location", "identity", "tags", "name"] {
        assert_eq!(after[member], before[member]);
    }
    for good in ["abc", &"b".repeat(63)] {
        assert_eq!(arm.put(&new(good), json!({"location": "East US"})).await.status, 201);
    }
    // Names of instances become host names: nobody else may have one, in whatever group or subscription.
    arm.group(EXAMPLES, "g").await;
    let taken = arm.put(&twins_url(EXAMPLES, "g", "ABC", ""), json!({"location": "eastus"})).await;
    assert_eq!(
        (taken.status.as_u16(), &taken.body_json()["error"]["code"]),
        (409, &json!("NameNotAvailable"))
    );
}
