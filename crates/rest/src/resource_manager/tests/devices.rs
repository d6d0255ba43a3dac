//! IoT hubs and provisioning services: shapes, keys, linked hubs, tags, deletion.

use super::*;

pub(super) fn hub_url(name: &str, rest: &str) -> String {
    format!(
        "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.Devices/IotHubs/{name}{rest}?api-version=2023-06-30"
    )
}

pub(super) fn dps_url(name: &str, rest: &str) -> String {
    format!(
        "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/{name}{rest}?api-version=2021-10-15"
    )
}

pub(super) async fn with_hub() -> Arm {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let made = arm
        .put(&hub_url("testHub", ""), json!({"location": "westus", "sku": {"name": "S1", "capacity": 1}}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let early = made.body_json();
    assert_eq!(
        (&early["properties"]["state"], &early["properties"]["provisioningState"]),
        (&json!("Activating"), &json!("Accepted"))
    );
    let poll = made.header_value("azure-asyncoperation").unwrap().to_owned();
    assert!(poll.contains("/IotHubs/testHub/operationResults/") && poll.ends_with("&asyncinfo"), "{poll}");
    assert_eq!(arm.get(&poll).await.1["status"], "Running");
    arm.settle().await;
    assert_eq!(arm.get(&poll).await.1["status"], "Succeeded");
    arm
}

/// `iothub-service.md` §15.2, but for what is ours: hosts, and the id of the endpoint.
#[tokio::test]
async fn a_minimal_hub_is_shown_as_published() {
    let arm = with_hub().await;
    let expected = json!({
        "id": "/subscriptions/0e745469-49f8-48c9-873b-24ca87143db1/resourceGroups/g/providers/Microsoft.Devices/IotHubs/testHub",
        "name": "testHub", "type": "Microsoft.Devices/IotHubs", "location": "westus", "tags": {},
        "subscriptionid": RECORDED, "resourcegroup": "g",
        "properties": {
            "locations": [{"location": "West US", "role": "primary"}, {"location": "East US", "role": "secondary"}],
            "state": "Active", "provisioningState": "Succeeded", "ipFilterRules": [], "hostName": "testhub.azure-devices.azure.net",
            "eventHubEndpoints": {"events": {"retentionTimeInDays": 1, "partitionCount": 4, "partitionIds": ["0", "1", "2", "3"], "path": "testhub"}},
            "routing": {
                "endpoints": {"serviceBusQueues": [], "serviceBusTopics": [], "eventHubs": [], "storageContainers": [], "cosmosDBSqlContainers": []},
                "routes": [],
                "fallbackRoute": {"name": "$fallback", "source": "DeviceMessages", "condition": "true", "endpointNames": ["events"], "isEnabled": true}
            },
            "storageEndpoints": {"$default": {"sasTtlAsIso8601": "PT1H", "connectionString": "", "containerName": ""}},
            "messagingEndpoints": {"fileNotifications": {"lockDurationAsIso8601": "PT1M", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10}},
            "enableFileUploadNotifications": false,
            "cloudToDevice": {"maxDeliveryCount": 10, "defaultTtlAsIso8601": "PT1H", "feedback": {"lockDurationAsIso8601": "PT1M", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10}},
            "features": "None", "minTlsVersion": "1.2", "disableLocalAuth": false, "allowedFqdnList": [], "enableDataResidency": false
        },
        "sku": {"name": "S1", "tier": "Standard", "capacity": 1}, "identity": {"type": "None"},
        "systemData": {"createdAt": ""}
    });
    let (_, hub) = arm.get(&hub_url("TESTHUB", "")).await;
    assert_same(&expected, &hub, Like::AtLeast, "hub");
    assert!(hub["properties"].get("authorizationPolicies").is_none(), "keys are listed, never shown");
    assert!(hub["etag"].as_str().unwrap().ends_with('='));
    let (_, list) = arm
        .get(&format!(
            "/subscriptions/{RECORDED}/providers/Microsoft.Devices/IotHubs?api-version=2023-06-30-preview"
        ))
        .await;
    assert_eq!(list["value"], json!([hub]));
    let (_, skus) = arm.get(&hub_url("testHub", "/skus")).await;
    assert!(
        skus["value"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["sku"]["name"] == "S3" && one["capacity"]["maximum"] == 10)
    );
}

#[tokio::test]
async fn the_keys_of_a_hub_are_listed_kept_and_replaced() {
    let arm = with_hub().await;
    let (status, keys) = arm.post(&hub_url("testHub", "/listkeys"), json!({})).await;
    assert_eq!(status, 200);
    let owner =
        keys["value"].as_array().unwrap().iter().find(|one| one["keyName"] == "iothubowner").unwrap().clone();
    assert_eq!(owner["rights"], "RegistryWrite, ServiceConnect, DeviceConnect");
    assert_eq!(owner["primaryKey"].as_str().unwrap().len(), 44);
    let (_, one) = arm.post(&hub_url("testHub", "/IotHubKeys/IOTHUBOWNER/listkeys"), json!({})).await;
    assert_eq!(one, owner);
    assert_eq!(arm.post(&hub_url("testHub", "/IotHubKeys/nobody/listkeys"), json!({})).await.0, 404);

    let (_, mut hub) = arm.get(&hub_url("testHub", "")).await;
    hub["properties"]["routing"]["endpoints"]["eventHubs"] = json!([{"name": "elsewhere",
        "connectionString": "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=top-secret;EntityPath=e"}]);
    let put = arm.put(&hub_url("testHub", ""), hub).await;
    assert_eq!(put.status, 200, "{put:?}");
    arm.settle().await;
    assert_eq!(
        arm.post(&hub_url("testHub", "/listkeys"), json!({})).await.1,
        keys,
        "a PUT without policies keeps them"
    );
    let (_, hub) = arm.get(&hub_url("testHub", "")).await;
    assert!(!hub.to_string().contains("top-secret"), "{hub}");
    let mut with_policies = hub.clone();
    with_policies["properties"]["authorizationPolicies"] =
        json!([owner, {"keyName": "reader", "rights": "RegistryRead"}]);
    assert_eq!(arm.put(&hub_url("testHub", ""), with_policies).await.status, 200);
    arm.settle().await;
    let (_, keys) = arm.post(&hub_url("testHub", "/listkeys"), json!({})).await;
    let names: Vec<&Value> = keys["value"].as_array().unwrap().iter().map(|one| &one["keyName"]).collect();
    assert_eq!(names, ["iothubowner", "reader"]);
    assert_eq!(keys["value"][0], owner);
}

/// What devices upload to. The service shows an account's connection string with its key masked.
#[tokio::test]
async fn a_hubs_storage_account_is_checked_masked_kept_and_reaches_its_hub() {
    let arm = with_hub().await;
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let opens = format!("DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={key}");
    let (_, mut hub) = arm.get(&hub_url("testHub", "")).await;
    hub["properties"]["storageEndpoints"]["$default"] =
        json!({"sasTtlAsIso8601": "PT2H", "connectionString": opens, "containerName": "files"});
    hub["properties"]["enableFileUploadNotifications"] = json!(true);
    hub["properties"]["messagingEndpoints"]["fileNotifications"]["ttlAsIso8601"] = json!("P1D");
    assert_eq!(arm.put(&hub_url("testHub", ""), hub).await.status.as_u16(), 200);
    arm.settle().await;
    let uploads = || arm.hubs.find("testHub").unwrap().settings().file_upload.clone();
    let storage = uploads().storage.unwrap();
    assert_eq!(storage.connection_string.expose(), opens);
    assert_eq!((&*storage.container_name, storage.ttl), ("files", Duration::from_hours(2)));
    assert_eq!((uploads().is_notified, uploads().notifications.ttl), (true, Duration::from_hours(24)));

    let (_, mut shown) = arm.get(&hub_url("testHub", "")).await;
    let masked = "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=****";
    assert_eq!(shown["properties"]["storageEndpoints"]["$default"]["connectionString"], masked);
    shown["properties"]["enableFileUploadNotifications"] = json!(false);
    assert_eq!(arm.put(&hub_url("testHub", ""), shown.clone()).await.status.as_u16(), 200);
    arm.settle().await;
    assert_eq!(
        (uploads().storage, uploads().is_notified),
        (Some(storage), false),
        "the mask stands for the key"
    );

    shown["etag"] = Value::Null;
    shown["properties"]["storageEndpoints"]["$default"]["sasTtlAsIso8601"] = json!("PT1S");
    let refused = arm.put(&hub_url("testHub", ""), shown).await;
    assert_eq!(refused.status.as_u16(), 400, "{refused:?}");
    assert!(
        refused.body_json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("storageEndpoints.$default.sasTtlAsIso8601")
    );
}

#[tokio::test]
async fn a_hub_is_changed_only_by_who_read_its_present_version() {
    let arm = with_hub().await;
    let (_, hub) = arm.get(&hub_url("testHub", "")).await;
    let tagged = arm.patch(&hub_url("testHub", ""), json!({"tags": {"a": "b"}})).await;
    assert_eq!((tagged.status.as_u16(), &tagged.body_json()["tags"]), (200, &json!({"a": "b"})));
    let stale = arm.put(&hub_url("testHub", ""), hub).await;
    assert_eq!(
        (stale.status.as_u16(), &stale.body_json()["error"]["code"]),
        (412, &json!("PreconditionFailed"))
    );
    let (_, hub) = arm.get(&hub_url("testHub", "")).await;
    assert_eq!(hub["tags"], json!({"a": "b"}));
    let bearer = format!("Bearer {}", arm.token);
    let headers = [("authorization", bearer.as_str()), ("if-match", "*")];
    let body = json!({"location": "westus", "sku": {"name": "S1"}}).to_string();
    assert_eq!(
        arm.ask("PUT", &hub_url("other-hub", ""), &headers, &body).await.status,
        412,
        "* means that it exists"
    );
    for (body, what) in [
        (
            json!({"location": "westus", "sku": {"name": "S1"}, "properties": {"eventHubEndpoints": {"events": {"partitionCount": 8}}}}),
            "partitions",
        ),
        (
            json!({"location": "westus", "sku": {"name": "S1"}, "properties": {"eventHubEndpoints": {"events": {"retentionTimeInDays": 8}}}}),
            "retention",
        ),
        (json!({"location": "westus", "sku": {"name": "X1"}}), "sku"),
        (json!({"location": "westus", "sku": {"name": "S1", "capacity": 201}}), "capacity"),
        (
            json!({"location": "westus", "sku": {"name": "S1"}, "properties": {"authorizationPolicies": [{"keyName": "a", "rights": "Everything"}]}}),
            "rights",
        ),
    ] {
        let answer = arm.put(&hub_url("testHub", ""), body).await;
        let refused = answer.body_json();
        assert_eq!(answer.status, 400, "{what}");
        assert_eq!(
            (&refused["httpStatusCode"], &refused["error"]["code"]),
            (&json!("BadRequest"), &json!("BadRequest")),
            "{what}"
        );
        assert!(refused["code"].is_number() && refused["message"].is_string());
    }
}

#[tokio::test]
async fn a_service_links_hubs_of_this_server_and_hides_their_keys() {
    let arm = with_hub().await;
    let (_, keys) = arm.post(&hub_url("testHub", "/IotHubKeys/iothubowner/listkeys"), json!({})).await;
    let key = keys["primaryKey"].as_str().unwrap();
    let string = format!(
        "HostName=testHub.azure-devices.azure.net;SharedAccessKeyName=iothubowner;SharedAccessKey={key}"
    );
    let made = arm
        .put(&dps_url("ps6304", ""), json!({"properties": {}, "sku": {"name": "S1"}, "location": "West US"}))
        .await;
    let early = made.body_json();
    assert_eq!(made.status, 201);
    assert_same(
        &json!({"name": "ps6304", "location": "West US", "properties": {"state": "Activating", "provisioningState": "Accepted",
        "allocationPolicy": "Hashed", "idScope": null}, "resourcegroup": "g", "type": "Microsoft.Devices/provisioningServices",
        "subscriptionid": RECORDED, "tags": {}, "sku": {"name": "S1", "tier": "Standard"}}),
        &early,
        Like::AtLeast,
        "early",
    );
    arm.settle().await;
    let (_, mut service) = arm.get(&dps_url("ps6304", "")).await;
    let scope = service["properties"]["idScope"].as_str().unwrap().to_owned();
    assert!(scope.starts_with("0ne") && scope.len() == 11, "{scope}");
    assert_eq!(
        service["properties"]["serviceOperationsHostName"],
        "ps6304.azure-devices-provisioning.azure.net"
    );
    assert_eq!(
        service["properties"]["deviceProvisioningHostName"],
        "global.azure-devices-provisioning.azure.net"
    );

    service["properties"]["iotHubs"] = json!([{"connectionString": string, "location": "West US", "applyAllocationPolicy": false, "allocationWeight": 5}]);
    let put = arm.put(&dps_url("ps6304", ""), service).await;
    assert_eq!(
        (put.status.as_u16(), &put.body_json()["properties"]["state"]),
        (201, &json!("Transitioning")),
        "{put:?}"
    );
    arm.settle().await;
    let (_, service) = arm.get(&dps_url("ps6304", "")).await;
    let masked = json!([{"name": "testHub.azure-devices.azure.net", "location": "West US", "applyAllocationPolicy": false, "allocationWeight": 5,
        "connectionString": "HostName=testHub.azure-devices.azure.net;SharedAccessKeyName=iothubowner;SharedAccessKey=****"}]);
    assert_same(&masked, &service["properties"]["iotHubs"], Like::Exactly, "hubs");
    assert_eq!(service["properties"]["idScope"], scope.as_str());
    // What was read can be written back: the key stays.
    assert_eq!(arm.put(&dps_url("ps6304", ""), service.clone()).await.status, 201);
    arm.settle().await;
    let linked = arm.services.find("ps6304").unwrap().settings().linked_hubs.clone();
    assert_eq!(linked[0].connection_string.expose(), string);

    for bad in [
        "nonsense".to_owned(),
        string.replace("testHub.", "nobody."),
        string.replace(key, "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc="),
        string.replace("iothubowner", "device"),
        "HostName=other.azure-devices.azure.net;SharedAccessKeyName=iothubowner;SharedAccessKey=****"
            .to_owned(),
    ] {
        let body = json!({"location": "West US", "properties": {"iotHubs": [{"connectionString": bad, "location": "West US"}]}});
        assert_eq!(arm.put(&dps_url("ps6304", ""), body).await.status, 400, "{bad}");
    }
    let (_, kept) = arm.get(&dps_url("ps6304", "")).await;
    assert_eq!(kept["properties"]["iotHubs"], service["properties"]["iotHubs"]);
    let (_, keys) = arm.post(&dps_url("ps6304", "/listkeys"), json!({})).await;
    assert_eq!(
        (&keys["value"][0]["keyName"], &keys["value"][0]["rights"]),
        (&json!("provisioningserviceowner"), &json!("ServiceConfig, DeviceConnect, EnrollmentWrite"))
    );
    let (_, one) = arm.post(&dps_url("ps6304", "/keys/provisioningserviceowner/listkeys"), json!({})).await;
    assert_eq!(one, keys["value"][0]);
    assert_eq!(arm.get(&dps_url("ps6304", "/skus")).await.1, json!({"value": [{"name": "S1"}]}));
}

#[tokio::test]
async fn names_are_checked_and_deletions_polled() {
    let arm = with_hub().await;
    let check = async |path: &str, name: &str| {
        let version = if path.contains("Provisioning") { "2021-10-15" } else { "2023-06-30" };
        arm.post(
            &format!("/subscriptions/{RECORDED}/providers/Microsoft.Devices/{path}?api-version={version}"),
            json!({"name": name}),
        )
        .await
        .1
    };
    let hub = |name: &'static str| check("checkNameAvailability", name);
    assert_eq!(hub("free-name").await, json!({"nameAvailable": true, "reason": "Invalid", "message": null}));
    assert_eq!(
        hub("TESTHUB").await,
        json!({"nameAvailable": false, "reason": "AlreadyExists", "message": "IotHub name 'TESTHUB' is not available"})
    );
    assert_eq!(hub("-bad").await["nameAvailable"], false);
    assert_eq!(
        check("checkProvisioningServiceNameAvailability", "free-name").await,
        json!({"nameAvailable": true})
    );
    assert_eq!(check("checkProvisioningServiceNameAvailability", "!").await["reason"], "Invalid");

    assert!(arm.hubs.find("testHub").is_some());
    let deleted = arm.delete(&hub_url("testHub", "")).await;
    assert_eq!(deleted.status, 202);
    let (status, location) = ("azure-asyncoperation", "location");
    let urls = [status, location].map(|name| deleted.header_value(name).unwrap().to_owned());
    assert_eq!(arm.get(&urls[0]).await.1["status"], "Running");
    assert_eq!(arm.get(&urls[1]).await.0, 202);
    arm.settle().await;
    assert_eq!(arm.get(&urls[0]).await.1["status"], "Succeeded");
    assert_eq!(arm.get(&urls[1]).await.0, 200);
    assert!(arm.hubs.find("testHub").is_none());
    assert_eq!(arm.delete(&hub_url("testHub", "")).await.status, 204);
    assert_eq!(hub("TESTHUB").await["nameAvailable"], true);
}
