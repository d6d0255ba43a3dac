//! What a hub has beside itself: consumer groups, counts and quotas, failover, private endpoints, routing endpoints.

use hub::device::{DeviceSpec, Status};

use super::devices::{dps_url, hub_url, with_hub};
use super::*;

const GROUPS: &str = "/eventHubEndpoints/events/ConsumerGroups";

fn group_url(name: &str) -> String {
    hub_url("testHub", &format!("{GROUPS}/{name}"))
}

#[tokio::test]
async fn consumer_groups_are_made_shown_as_published_and_deleted() {
    let arm = with_hub().await;
    let made = arm.put(&group_url("Reports"), json!({"properties": {"name": "Reports"}})).await;
    assert_eq!(made.status, 200, "{made:?}");
    let (_, list) = arm.get(&hub_url("testHub", GROUPS)).await;
    let [default, reports] = &list["value"].as_array().unwrap()[..] else { panic!("{list}") };
    let id = format!(
        "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.Devices/IotHubs/testHub/eventHubEndpoints/events/ConsumerGroups"
    );
    let created = "Sun, 15 Jun 2025 15:06:40 GMT";
    let kind = "Microsoft.Devices/IotHubs/EventHubEndpoints/ConsumerGroups";
    assert_eq!(
        default,
        &json!({"properties": {"created": created}, "id": format!("{id}/%24Default"), "name": "$Default", "type": kind, "etag": null})
    );
    assert_eq!((&reports["name"], &reports["id"]), (&json!("Reports"), &json!(format!("{id}/Reports"))));
    assert_eq!(arm.get(&group_url("reports")).await, (200, reports.clone()));
    assert_eq!(arm.get(&group_url("%24default")).await, (200, default.clone()));
    let again = arm.put(&group_url("reports"), json!({"properties": {"name": "reports"}})).await;
    assert_eq!(again.body_json(), *reports, "it stays as it was made");
    assert_eq!(arm.delete(&group_url("REPORTS")).await.status, 200);
    assert_eq!(arm.get(&group_url("Reports")).await.0, 404);
    assert_eq!(arm.delete(&group_url("Reports")).await.status, 404);
}

#[tokio::test]
async fn consumer_groups_outlive_a_put_of_their_hub_and_a_restart() {
    let arm = with_hub().await;
    arm.put(&group_url("kept"), json!({"properties": {"name": "kept"}})).await;
    let (_, hub) = arm.get(&hub_url("testHub", "")).await;
    assert_eq!(arm.put(&hub_url("testHub", ""), hub).await.status, 200);
    arm.settle().await;
    assert_eq!(arm.get(&group_url("kept")).await.0, 200);
    let Arm { store, streams, clock, .. } = arm;
    let arm = Arm::on(store, streams, clock, Settings::default()).await;
    assert_eq!(arm.get(&group_url("kept")).await.0, 200);
}

#[tokio::test]
async fn what_is_no_consumer_group_is_refused() {
    let arm = with_hub().await;
    let body = |name: &str| json!({"properties": {"name": name}});
    for (path, body, status) in [
        (group_url("bad%20name"), body("bad name"), 400),
        (group_url("one"), body("other"), 400),
        (hub_url("testHub", "/eventHubEndpoints/elsewhere/ConsumerGroups/one"), body("one"), 404),
        (hub_url("nobody", &format!("{GROUPS}/one")), body("one"), 404),
    ] {
        assert_eq!(arm.put(&path, body).await.status, status, "{path}");
    }
    assert_eq!(arm.delete(&group_url("%24Default")).await.status, 400, "it always is");
    for number in 1..base::caps::CONSUMER_GROUPS_MAX {
        let made = arm.put(&group_url(&format!("g{number}")), body(&format!("g{number}"))).await;
        assert_eq!(made.status, 200, "{number}");
    }
    let refused = arm.put(&group_url("one-more"), body("one-more")).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body_json()["error"]["code"]),
        (400, &json!("QuotaExceeded"))
    );
}

#[tokio::test]
async fn devices_and_the_messages_of_this_day_are_counted() {
    let mut arm = with_hub().await;
    let hub = arm.hubs.find("testHub").unwrap();
    for (name, is_enabled) in [("one", true), ("two", false), ("three", true)] {
        device(&hub, name, is_enabled).await;
    }
    let (_, stats) = arm.get(&hub_url("testHub", "/IotHubStats")).await;
    assert_eq!(stats, json!({"totalDeviceCount": 3, "enabledDeviceCount": 2, "disabledDeviceCount": 1}));
    append(&arm, &hub, 5).await;
    assert_eq!(
        quotas(&arm).await,
        json!([
            {"name": "TotalMessages", "currentValue": 5, "maxValue": 400_000},
            {"name": "TotalDeviceCount", "currentValue": 3, "maxValue": 1_000_000}
        ])
    );
    arm.clock.advance(Duration::from_hours(10));
    arm.token = token(&arm.directory, &arm.owner, "https://management.azure.com").await;
    assert_eq!(quotas(&arm).await[0]["currentValue"], 0, "midnight has passed");
    append(&arm, &hub, 2).await;
    assert_eq!(quotas(&arm).await[0]["currentValue"], 2);
}

async fn quotas(arm: &Arm) -> Value {
    arm.get(&hub_url("testHub", "/quotaMetrics")).await.1["value"].clone()
}

async fn device(hub: &hub::Hub, name: &str, is_enabled: bool) {
    let status = if is_enabled { Status::Enabled } else { Status::Disabled };
    let spec = DeviceSpec { status, ..DeviceSpec::new(name.parse().unwrap()) };
    hub.put_device(&access::Caller::system(), &spec, &base::IfMatch::Absent).await.unwrap();
}

async fn append(arm: &Arm, hub: &hub::Hub, count: usize) {
    let stream = arm.events.stream(hub.instance(), hub::EVENT_STREAM).unwrap();
    for number in 0..count {
        let record = store::NewRecord {
            time: arm.clock.stamp(),
            key: format!("device-{number}"),
            headers: bytes::Bytes::new(),
            body: bytes::Bytes::new(),
        };
        stream.append(record).await.unwrap();
    }
}

#[tokio::test]
async fn a_subscription_counts_its_free_hubs() {
    let arm = with_hub().await;
    let usages = format!("/subscriptions/{RECORDED}/providers/Microsoft.Devices/usages");
    let ask = async || arm.get(&format!("{usages}?api-version=2023-06-30")).await.1["value"].clone();
    let expected = |count: u64| {
        json!([{"id": format!("{usages}/FreeHubCount"), "type": usages, "unit": "Count", "currentValue": count,
            "limit": 1, "name": {"value": "FreeHubCount", "localizedValue": "Free Hub Count"}}])
    };
    assert_eq!(ask().await, expected(0), "the hub that is there is paid for");
    arm.put(&hub_url("free", ""), json!({"location": "westus", "sku": {"name": "F1"}})).await;
    assert_eq!(ask().await, expected(1));
}

#[tokio::test]
async fn a_failover_makes_the_second_region_the_first_and_back() {
    let arm = with_hub().await;
    let locations = async || arm.get(&hub_url("testHub", "")).await.1["properties"]["locations"].clone();
    let fail_over = async |region: &str| {
        arm.send("POST", &hub_url("testHub", "/failover"), &json!({"failoverRegion": region}).to_string())
            .await
    };
    let [west, east] = ["West US", "East US"];
    let expected = |primary: &str, secondary: &str| json!([{"location": primary, "role": "primary"}, {"location": secondary, "role": "secondary"}]);
    assert_eq!(locations().await, expected(west, east));
    assert_eq!(fail_over(west).await.status, 200, "there it is");
    assert_eq!(locations().await, expected(west, east));
    assert_eq!(fail_over("Atlantis").await.status, 400);
    let accepted = fail_over("eastus").await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let poll = accepted.header_value("azure-asyncoperation").unwrap().to_owned();
    assert_eq!(arm.get(&poll).await.1["status"], "Running");
    arm.settle().await;
    assert_eq!(arm.get(&poll).await.1["status"], "Succeeded");
    assert_eq!(locations().await, expected(east, west));
    let (_, hub) = arm.get(&hub_url("testHub", "")).await;
    assert_eq!(hub["location"], "westus", "the resource is where it was made");
    assert_eq!(arm.put(&hub_url("testHub", ""), hub).await.status, 200);
    arm.settle().await;
    assert_eq!(locations().await, expected(east, west), "a PUT moves nothing");
    assert_eq!(fail_over(west).await.status, 202);
    arm.settle().await;
    assert_eq!(locations().await, expected(west, east));
    let body =
        json!({"location": "westus", "sku": {"name": "S1"}, "properties": {"enableDataResidency": true}});
    assert_eq!(arm.put(&hub_url("testHub", ""), body).await.status, 200);
    arm.settle().await;
    assert_eq!(locations().await, json!([{"location": west, "role": "primary"}]));
    assert_eq!(fail_over(east).await.status, 400, "its data stay");
}

#[tokio::test]
async fn private_endpoints_of_hubs_and_services_are_kept_approved_and_removed() {
    let arm = with_hub().await;
    arm.put(&dps_url("dps", ""), json!({"location": "westus", "sku": {"name": "S1"}})).await;
    arm.settle().await;
    for (url, group, kind) in [
        (hub_url as fn(&str, &str) -> String, "iotHub", "Microsoft.Devices/IotHubs"),
        (dps_url, "iotDps", "Microsoft.Devices/provisioningServices"),
    ] {
        let name = if group == "iotHub" { "testHub" } else { "dps" };
        let (_, links) = arm.get(&url(name, "/privateLinkResources")).await;
        let link = &links["value"][0];
        assert_eq!((&link["name"], &link["properties"]["groupId"]), (&json!(group), &json!(group)));
        assert_eq!(link["type"], format!("{kind}/PrivateLinkResources"));
        assert_eq!(arm.get(&url(name, &format!("/privateLinkResources/{group}"))).await.1, *link);
        assert_eq!(arm.get(&url(name, "/privateLinkResources/API")).await.0, 404);

        assert_eq!(arm.get(&url(name, "/privateEndpointConnections")).await.1, json!([]), "a bare list");
        let endpoint = format!(
            "/subscriptions/{RECORDED}/resourceGroups/n/providers/Microsoft.Network/privateEndpoints/p"
        );
        let state = |status: &str| json!({"status": status, "description": "why", "actionsRequired": "None"});
        let (_, mut owner) = arm.get(&url(name, "")).await;
        owner["properties"]["privateEndpointConnections"] = json!([{"name": "one", "properties": {
            "privateEndpoint": {"id": endpoint}, "privateLinkServiceConnectionState": state("Pending")}}]);
        assert!(arm.put(&url(name, ""), owner).await.status.is_success());
        arm.settle().await;
        let (_, list) = arm.get(&url(name, "/privateEndpointConnections")).await;
        let id = format!(
            "/subscriptions/{RECORDED}/resourceGroups/g/providers/{kind}/{name}/PrivateEndpointConnections/one"
        );
        let expected = |status: &str| {
            json!({"id": id, "name": "one", "type": format!("{kind}/PrivateEndpointConnections"), "properties": {
                "privateEndpoint": {"id": endpoint}, "privateLinkServiceConnectionState": state(status)}})
        };
        assert_eq!(list, json!([expected("Pending")]));
        let (_, owner) = arm.get(&url(name, "")).await;
        assert_eq!(owner["properties"]["privateEndpointConnections"], list);

        let one = url(name, "/privateEndpointConnections/one");
        let body = json!({"properties": {"privateLinkServiceConnectionState": state("Approved")}});
        assert_eq!(arm.put(&url(name, "/privateEndpointConnections/two"), body.clone()).await.status, 404);
        let put = arm.put(&one, body).await;
        assert_eq!(put.status, 201, "{put:?}");
        let poll = put.header_value("azure-asyncoperation").unwrap().to_owned();
        arm.settle().await;
        assert_eq!(arm.get(&poll).await.1["status"], "Succeeded");
        assert_eq!(arm.get(&one).await.1, expected("Approved"));
        assert_eq!(arm.delete(&one).await.status, 202);
        arm.settle().await;
        assert_eq!(arm.get(&one).await.0, 404);
        assert_eq!(arm.delete(&one).await.status, 204);
    }
}

#[tokio::test]
async fn routing_endpoints_are_known_by_the_ids_that_they_were_given() {
    let arm = with_hub().await;
    let health = async || arm.get(&hub_url("testHub", "/routingEndpointsHealth")).await.1["value"].clone();
    assert_eq!(health().await, json!([]));
    let (_, mut hub) = arm.get(&hub_url("testHub", "")).await;
    let connection = "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=secret;EntityPath=e";
    hub["properties"]["routing"]["endpoints"]["eventHubs"] =
        json!([{"name": "one", "connectionString": connection}]);
    assert_eq!(arm.put(&hub_url("testHub", ""), hub).await.status, 200);
    arm.settle().await;
    let (_, hub) = arm.get(&hub_url("testHub", "")).await;
    let id = hub["properties"]["routing"]["endpoints"]["eventHubs"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(health().await, json!([{"endpointId": id, "healthStatus": "unknown"}]));
    assert_eq!(arm.put(&hub_url("testHub", ""), hub).await.status, 200);
    arm.settle().await;
    assert_eq!(health().await[0]["endpointId"], id.as_str());
}

fn message(severity: &str) -> Value {
    json!({
        "body": "{\"temperature\": 51}",
        "appProperties": {"severity": severity},
        "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"}
    })
}

#[tokio::test]
async fn the_routes_that_a_message_would_take_are_shown_as_they_were_put() {
    let arm = with_hub().await;
    let (_, mut hub) = arm.get(&hub_url("testHub", "")).await;
    let route = |name: &str, source: &str, condition: &str, is_enabled: bool| json!({"name": name, "source": source, "condition": condition, "endpointNames": ["events"], "isEnabled": is_enabled});
    let hot = route("hot", "DeviceMessages", "$body.temperature > 50 AND severity = 'high'", true);
    let tagged = route("tagged", "DeviceMessages", "$twin.tags.site = 'north'", true);
    let twins = route("twins", "twinchangeevents", "true", true);
    let off = route("off", "DeviceMessages", "true", false);
    hub["properties"]["routing"]["routes"] = json!([hot, tagged, twins, off]);
    let put = arm.put(&hub_url("testHub", ""), hub).await;
    assert_eq!(put.status, 200, "{put:?}");
    arm.settle().await;
    let test = async |source: Option<&str>, severity: &str, twin: Value| {
        let body = json!({"routingSource": source, "message": message(severity), "twin": twin});
        let (status, found) = arm.post(&hub_url("testHub", "/routing/routes/$testall"), body).await;
        assert_eq!(status, 200, "{found}");
        found["routes"].as_array().unwrap().iter().map(|one| one["properties"].clone()).collect::<Vec<_>>()
    };
    let messages = Some("DeviceMessages");
    let north = json!({"tags": {"site": "north"}, "properties": {"desired": {}, "reported": {}}});
    assert_eq!(test(messages, "high", json!(null)).await, std::slice::from_ref(&hot));
    assert_eq!(test(messages, "low", north.clone()).await, std::slice::from_ref(&tagged));
    assert_eq!(test(messages, "low", json!(null)).await, Vec::<Value>::new(), "not even the fallback route");
    assert_eq!(test(Some("TwinChangeEvents"), "high", north.clone()).await, std::slice::from_ref(&twins));
    assert_eq!(test(None, "high", north).await, [hot, tagged, twins]);
    let unknown = json!({"routingSource": "Nothing", "message": message("low")});
    assert_eq!(arm.post(&hub_url("testHub", "/routing/routes/$testall"), unknown).await.0, 400);
}

#[tokio::test]
async fn a_route_is_tried_before_it_is_put_and_its_faults_are_told_with_their_place() {
    let arm = with_hub().await;
    let test = async |condition: &str| {
        let route = json!({"name": "r", "source": "DeviceMessages", "condition": condition, "endpointNames": ["events"], "isEnabled": true});
        let body = json!({"message": message("high"), "route": route});
        let (status, found) = arm.post(&hub_url("testHub", "/routing/routes/$testnew"), body).await;
        assert_eq!(status, 200, "{found}");
        found
    };
    for (condition, result) in [
        ("", "true"),
        ("severity = 'high'", "true"),
        ("severity = 'low'", "false"),
        ("nothing = 'x'", "undefined"),
    ] {
        assert_eq!(
            test(condition).await,
            json!({"result": result, "details": {"compilationErrors": []}}),
            "{condition}"
        );
    }
    let wrong = test("severity =\n  NOPE(1)").await;
    assert_eq!(wrong["result"], "false");
    let error = &wrong["details"]["compilationErrors"][0];
    assert_eq!(
        (&error["severity"], &error["message"]),
        (&json!("error"), &json!("'NOPE' is no function of this language"))
    );
    assert_eq!(
        error["location"],
        json!({"start": {"line": 2, "column": 3}, "end": {"line": 2, "column": 7}})
    );
    let (_, mut hub) = arm.get(&hub_url("testHub", "")).await;
    hub["properties"]["routing"]["routes"] = json!([{"name": "r", "source": "DeviceMessages", "condition": "NOPE(1)", "endpointNames": ["events"], "isEnabled": true}]);
    let refused = arm.put(&hub_url("testHub", ""), hub).await;
    assert_eq!(refused.status, 400, "a hub keeps no route with such a condition");
    let text = refused.body_json()["message"].as_str().unwrap().to_owned();
    assert!(text.contains("'r'") && text.contains("line 1, column 1"), "{text}");
}
