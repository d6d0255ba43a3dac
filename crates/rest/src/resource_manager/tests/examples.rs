//! The official examples of the Digital Twins provider, request by request.
//! Known slips of the files are put right here, each with its reason: `spec/openapi/digital-twins-arm/README.md`.

use super::*;

const GROUP: &str = "resRg";
const NAME: &str = "myDigitalTwinsService";
const USER: &str = "/subscriptions/50016170-c839-41ba-a724-51e9df440b9e/resourceGroups/testrg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/testidentity";

fn example(name: &str) -> Option<Value> {
    shared(&format!("examples/{name}.json"))
}

/// The settings of the published pages.
async fn published() -> Arm {
    let arm = Arm::with(Settings { retry_after_seconds: 10, ..Settings::default() }).await;
    arm.group(EXAMPLES, GROUP).await;
    arm.group(EXAMPLES, "testrg").await;
    let body = json!({"location": "westus2"});
    assert_eq!(arm.put(&format!("{USER}?api-version=2023-01-31"), body).await.status, 201);
    arm
}

async fn with_instance(body: Value) -> Arm {
    let arm = published().await;
    assert_eq!(arm.put(&twins_url(EXAMPLES, GROUP, NAME, ""), body).await.status, 201);
    arm.settle().await;
    arm
}

/// A published body with its slips put right: host names carry a scheme and another domain; samples show tags that nobody sent.
fn corrected(body: &Value, sent: &Value) -> Value {
    let mut body = body.clone();
    if let Some(host) = body["properties"].get_mut("hostName").filter(|host| host.is_string()) {
        *host = format!("{}.api.wus2.digitaltwins.azure.net", NAME.to_ascii_lowercase()).into();
    }
    if sent.get("tags").is_none() {
        body.as_object_mut().unwrap().remove("tags");
    }
    body
}

/// The published addresses lack the api-version and spell one segment otherwise than the live service.
fn assert_polled(published: &Value, answer: &Response) {
    let ours = answer.header_value("azure-asyncoperation").unwrap();
    let stem = published["azure-asyncoperation"].as_str().unwrap().rsplit_once('/').unwrap().0;
    assert!(ours.starts_with(&stem.replace("operationStatuses", "operationsStatuses")), "{ours}");
    let stem = published["location"].as_str().unwrap().rsplit_once('/').unwrap().0;
    assert!(answer.header_value("location").unwrap().starts_with(stem));
    assert_eq!(answer.header_value("retry-after"), published["retry-after"].as_str());
}

#[tokio::test]
async fn creating_an_instance() {
    for name in [
        "DigitalTwinsPut_example",
        "DigitalTwinsPut_WithIdentity_example",
        "DigitalTwinsPut_WithPublicNetworkAccess",
    ] {
        let Some(example) = example(name) else { return };
        let arm = published().await;
        let (url, sent) =
            (twins_url(EXAMPLES, GROUP, NAME, ""), &example["parameters"]["digitalTwinsCreate"]);
        let answer = arm.put(&url, sent.clone()).await;
        assert_eq!(answer.status, 201, "{name} {answer:?}");
        assert_polled(&example["responses"]["201"]["headers"], &answer);
        assert_same(
            &corrected(&example["responses"]["201"]["body"], sent),
            &answer.body_json(),
            Like::AtLeast,
            name,
        );
        arm.settle().await;
        let (status, body) = arm.get(&url).await;
        assert_eq!(status, 200);
        assert_same(&corrected(&example["responses"]["200"]["body"], sent), &body, Like::AtLeast, name);
    }
}

#[tokio::test]
async fn changing_an_instance() {
    for name in [
        "DigitalTwinsPatch_example",
        "DigitalTwinsPatch_WithIdentity_example",
        "DigitalTwinsPatch_WithPublicNetworkAccess",
    ] {
        let Some(example) = example(name) else { return };
        // The samples show what was there before; the first one a closed instance, too.
        let access = if name == "DigitalTwinsPatch_example" { "Disabled" } else { "Enabled" };
        let tags = json!({"tags": {"purpose": "dev"}});
        let arm = with_instance(json!({
            "location": "WestUS2", "identity": {"type": "SystemAssigned"}, "tags": tags["tags"],
            "properties": {"publicNetworkAccess": access}
        }))
        .await;
        let url = twins_url(EXAMPLES, GROUP, NAME, "");
        let sent = &example["parameters"]["digitalTwinsPatchDescription"];
        let answer = arm.patch(&url, sent.clone()).await;
        assert_eq!(answer.status, 202, "{name} {answer:?}");
        assert_polled(&example["responses"]["202"]["headers"], &answer);
        assert_same(
            &corrected(&example["responses"]["202"]["body"], &tags),
            &answer.body_json(),
            Like::AtLeast,
            name,
        );
        arm.settle().await;
        let (_, body) = arm.get(&url).await;
        assert_same(&corrected(&example["responses"]["200"]["body"], &tags), &body, Like::AtLeast, name);
        if name == "DigitalTwinsPatch_WithIdentity_example" {
            assert!(body.get("identity").is_none());
        }
    }
}

#[tokio::test]
async fn reading_and_listing_instances() {
    let arm = with_instance(json!({"location": "WestUS2"})).await;
    let Some(get) = example("DigitalTwinsGet_example") else { return };
    let url = twins_url(EXAMPLES, GROUP, NAME, "");
    assert_same(
        &corrected(&get["responses"]["200"]["body"], &json!({})),
        &arm.get(&url).await.1,
        Like::AtLeast,
        "get",
    );
    // The second instance of the lists is still being made; in one of them it lives in another group.
    arm.group(EXAMPLES, "resRg2").await;
    let second = "myDigitalTwinsService2";
    for (name, group, list) in [
        ("DigitalTwinsListByResourceGroup_example", GROUP, format!("/resourceGroups/{GROUP}")),
        ("DigitalTwinsList_example", "resRg2", String::new()),
    ] {
        arm.put(&twins_url(EXAMPLES, group, second, ""), json!({"location": "westus2"})).await;
        let list = format!(
            "/subscriptions/{EXAMPLES}{list}/providers/Microsoft.DigitalTwins/digitalTwinsInstances?api-version={VERSION}"
        );
        let (status, body) = arm.get(&list).await;
        assert_eq!(status, 200);
        let published = &example(name).unwrap()["responses"]["200"]["body"];
        let corrected: Vec<Value> =
            published["value"].as_array().unwrap().iter().map(|one| corrected(one, &json!({}))).collect();
        assert_same(&json!({"value": corrected}), &body, Like::AtLeast, name);
        arm.settle().await;
        arm.delete(&twins_url(EXAMPLES, group, second, "")).await;
        arm.settle().await;
    }
}

#[tokio::test]
async fn reading_an_instance_with_identities_or_a_connection() {
    let Some(with_identity) = example("DigitalTwinsGet_WithIdentity_example") else { return };
    let arm = with_instance(json!({"location": "WestUS2", "identity": {
        "type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {USER: {}}}}))
    .await;
    let (_, body) = arm.get(&twins_url(EXAMPLES, GROUP, NAME, "")).await;
    assert_same(
        &corrected(&with_identity["responses"]["200"]["body"], &json!({})),
        &body,
        Like::AtLeast,
        "identity",
    );
    let (_, user) = arm.get(&format!("{USER}?api-version=2023-01-31")).await;
    let shown = &body["identity"]["userAssignedIdentities"][USER];
    assert_eq!(shown["principalId"], user["properties"]["principalId"]);
    assert_eq!(shown["clientId"], user["properties"]["clientId"]);

    let published = example("DigitalTwinsGet_WithPrivateEndpointConnection_example").unwrap();
    let published = corrected(&published["responses"]["200"]["body"], &json!({}));
    let arm = with_instance(json!({"location": "WestUS2", "properties": {
        "privateEndpointConnections": published["properties"]["privateEndpointConnections"]}}))
    .await;
    let (_, body) = arm.get(&twins_url(EXAMPLES, GROUP, NAME, "")).await;
    assert_same(&published, &body, Like::AtLeast, "connection");
}

#[tokio::test]
async fn deleting_an_instance() {
    for (name, identity) in [
        ("DigitalTwinsDelete_example", "None"),
        ("DigitalTwinsDelete_WithIdentity_example", "SystemAssigned"),
    ] {
        let Some(example) = example(name) else { return };
        let arm = with_instance(json!({"location": "WestUS2", "identity": {"type": identity}})).await;
        let url = twins_url(EXAMPLES, GROUP, NAME, "");
        let answer = arm.delete(&url).await;
        assert_eq!(answer.status, 202);
        assert_polled(&example["responses"]["202"]["headers"], &answer);
        assert_same(
            &corrected(&example["responses"]["202"]["body"], &json!({})),
            &answer.body_json(),
            Like::AtLeast,
            name,
        );
        let location = answer.header_value("location").unwrap().to_owned();
        assert_eq!(arm.send("GET", &location, "").await.status, 202);
        arm.settle().await;
        assert_eq!(arm.send("GET", &location, "").await.status, 204);
        assert_eq!(arm.get(&url).await.0, 404);
        assert_eq!(arm.delete(&url).await.status, 204);
    }
}

#[tokio::test]
async fn names_and_operations() {
    let Some(check) = example("DigitalTwinsCheckNameAvailability_example") else { return };
    let arm = published().await;
    let url = format!(
        "/subscriptions/{EXAMPLES}/providers/Microsoft.DigitalTwins/locations/WestUS2/checkNameAvailability?api-version={VERSION}"
    );
    let sent = &check["parameters"]["digitalTwinsInstanceCheckName"];
    let (_, free) = arm.post(&url, sent.clone()).await;
    assert_eq!(
        free,
        json!({"nameAvailable": true, "message": "'myadtinstance' is available.", "reason": null})
    );
    arm.put(&twins_url(EXAMPLES, GROUP, "myadtinstance", ""), json!({"location": "eastus"})).await;
    let (status, taken) = arm.post(&url, sent.clone()).await;
    assert_eq!(status, 200);
    assert_same(&check["responses"]["200"]["body"], &taken, Like::Exactly, "taken");
    let (_, bad) = arm.post(&url, json!({"name": "!testName", "type": sent["type"]})).await;
    assert_eq!((&bad["nameAvailable"], &bad["reason"]), (&json!(false), &json!("Invalid")));

    let operations = example("DigitalTwinsOperationsList_example").unwrap();
    let (_, body) =
        arm.get(&format!("/providers/Microsoft.DigitalTwins/operations?api-version={VERSION}")).await;
    assert_same(&operations["responses"]["200"]["body"], &body, Like::AtLeast, "operations");
}

fn endpoint_url(name: &str) -> String {
    twins_url(EXAMPLES, GROUP, NAME, &format!("/endpoints/{name}"))
}

#[tokio::test]
async fn creating_and_reading_an_endpoint() {
    for (name, get) in [
        ("DigitalTwinsEndpointPut_example", Some("DigitalTwinsEndpointGet_example")),
        (
            "DigitalTwinsEndpointPut_WithIdentity_example",
            Some("DigitalTwinsEndpointGet_WithIdentity_example"),
        ),
        ("DigitalTwinsEndpointPut_WithUserIdentity_example", None),
    ] {
        let Some(published) = example(name) else { return };
        let arm = with_instance(json!({"location": "WestUS2", "identity": {
            "type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {USER: {}}}}))
        .await;
        let url = endpoint_url("myServiceBus");
        let answer = arm.put(&url, published["parameters"]["endpointDescription"].clone()).await;
        assert_eq!(answer.status, 201, "{name} {answer:?}");
        assert_polled(&published["responses"]["201"]["headers"], &answer);
        assert_same(&published["responses"]["201"]["body"], &answer.body_json(), Like::Exactly, name);
        arm.settle().await;
        let (_, body) = arm.get(&url).await;
        // The samples with an identity print the state of the beginning; the service ends in Succeeded.
        let mut expected = published["responses"]["200"]["body"].clone();
        expected["properties"]["provisioningState"] = "Succeeded".into();
        assert_same(&expected, &body, Like::Exactly, name);
        if let Some(get) = get {
            assert_same(&example(get).unwrap()["responses"]["200"]["body"], &body, Like::Exactly, get);
        }
    }
}

#[tokio::test]
async fn listing_and_deleting_endpoints() {
    let string =
        "Endpoint=sb://mysb.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";
    let keys = json!({"endpointType": "ServiceBus", "primaryConnectionString": string, "secondaryConnectionString": string});
    let identity = json!({"endpointType": "ServiceBus", "authenticationType": "IdentityBased",
        "endpointUri": "sb://mysb.servicebus.windows.net/", "entityPath": "mysbtopic"});
    let hub = json!({"endpointType": "EventHub", "connectionStringPrimaryKey": string, "connectionStringSecondaryKey": string});
    for (list, delete, bus) in [
        ("DigitalTwinsEndpointsGet_example", "DigitalTwinsEndpointDelete_example", keys),
        (
            "DigitalTwinsEndpointsGet_WithIdentity_example",
            "DigitalTwinsEndpointDelete_WithIdentity_example",
            identity,
        ),
    ] {
        let Some(published) = example(list) else { return };
        let arm = with_instance(json!({"location": "WestUS2", "identity": {"type": "SystemAssigned"}})).await;
        for (name, properties) in [("myendpoint1", &bus), ("myendpoint2", &hub)] {
            assert_eq!(arm.put(&endpoint_url(name), json!({"properties": properties})).await.status, 201);
        }
        arm.settle().await;
        let (_, body) = arm.get(&twins_url(EXAMPLES, GROUP, NAME, "/endpoints")).await;
        // Ids and names of the samples do not belong together; the properties are what they show.
        let shown = |body: &Value| {
            body["value"].as_array().unwrap().iter().map(|one| one["properties"].clone()).collect::<Vec<_>>()
        };
        assert_same(
            &Value::Array(shown(&published["responses"]["200"]["body"])),
            &Value::Array(shown(&body)),
            Like::Exactly,
            list,
        );

        let published = example(delete).unwrap();
        let answer = arm.delete(&endpoint_url("myendpoint1")).await;
        assert_eq!(answer.status, 202);
        assert_polled(&published["responses"]["202"]["headers"], &answer);
        let properties = &published["responses"]["202"]["body"]["properties"];
        assert_same(properties, &answer.body_json()["properties"], Like::Exactly, delete);
        arm.settle().await;
        assert_eq!(arm.get(&endpoint_url("myendpoint1")).await.0, 404);
        assert_eq!(arm.delete(&endpoint_url("myendpoint1")).await.status, 204);
    }
}

#[tokio::test]
async fn private_endpoint_connections() {
    let Some(get) = example("PrivateEndpointConnectionByConnectionName_example") else { return };
    let pending = &get["responses"]["200"]["body"];
    let arm = with_instance(
        json!({"location": "WestUS2", "properties": {"privateEndpointConnections": [pending]}}),
    )
    .await;
    let url = twins_url(EXAMPLES, GROUP, NAME, "/privateEndpointConnections/myPrivateConnection");
    assert_same(pending, &arm.get(&url).await.1, Like::AtLeast, "get");
    let list = example("PrivateEndpointConnectionsList_example").unwrap();
    let (_, body) = arm.get(&twins_url(EXAMPLES, GROUP, NAME, "/privateEndpointConnections")).await;
    assert_same(&list["responses"]["200"]["body"], &body, Like::AtLeast, "list");

    let put = example("PrivateEndpointConnectionPut_example").unwrap();
    let answer = arm.put(&url, put["parameters"]["privateEndpointConnection"].clone()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_polled(&put["responses"]["202"]["headers"], &answer);
    let mut expected = put["responses"]["202"]["body"].clone();
    // The sample's connection had waited with another text.
    expected["properties"]["privateLinkServiceConnectionState"] =
        pending["properties"]["privateLinkServiceConnectionState"].clone();
    assert_same(&expected, &answer.body_json(), Like::AtLeast, "put");
    let location = answer.header_value("location").unwrap().to_owned();
    assert_eq!(arm.send("GET", &location, "").await.status, 202);
    arm.settle().await;
    let (status, body) = arm.get(&location).await;
    assert_eq!(status, 200);
    assert_same(&put["responses"]["200"]["body"], &body, Like::AtLeast, "result");
    assert_same(&put["responses"]["200"]["body"], &arm.get(&url).await.1, Like::AtLeast, "get");

    let delete = example("PrivateEndpointConnectionDelete_example").unwrap();
    let answer = arm.delete(&url).await;
    assert_eq!((answer.status.as_u16(), answer.body_bytes().len()), (202, 0));
    assert_polled(&delete["responses"]["202"]["headers"], &answer);
    arm.settle().await;
    assert_eq!(arm.get(&url).await.0, 404);
    assert_eq!(arm.delete(&url).await.status, 204);
}

#[tokio::test]
async fn private_link_resources() {
    let arm = with_instance(json!({"location": "WestUS2"})).await;
    let (_, list) = arm.get(&twins_url(EXAMPLES, GROUP, NAME, "/privateLinkResources")).await;
    let (_, one) = arm.get(&twins_url(EXAMPLES, GROUP, NAME, "/privateLinkResources/API")).await;
    assert_eq!(list["value"], json!([one]));
    // The values of the samples are not those of the live service, which az asks for by the name API; the members are the same.
    let Some(published) = example("PrivateLinkResourcesByGroupId_example") else { return };
    let members =
        |value: &Value| value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
    let published = &published["responses"]["200"]["body"];
    assert_eq!(members(&one), members(published));
    assert_eq!(members(&one["properties"]), members(&published["properties"]));
    assert_eq!((&one["name"], &one["type"]), (&json!("API"), &published["type"]));
    assert_eq!(arm.get(&twins_url(EXAMPLES, GROUP, NAME, "/privateLinkResources/other")).await.0, 404);
}
