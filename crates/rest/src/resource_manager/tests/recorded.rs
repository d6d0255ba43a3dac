//! The recorded traffic of New- and Update-AzDigitalTwinsInstance and Get-AzDigitalTwinsEndpoint, request by request.

use resource_manager::endpoint::Mask;

use super::*;

const GROUP: &str = "azps_test_group";

/// The settings of the live service in 2025.
fn live() -> Settings {
    Settings { retry_after_seconds: 10, mask: Mask::Placeholder, ..Settings::default() }
}

/// Replaces the id of an operation, which is new in every run, by the recorded one.
fn with_recorded_id(text: &str, ours: &str, recorded: &str) -> String {
    text.replace(ours, recorded)
}

fn operation_id(url: &str) -> &str {
    url.rsplit('/').next().unwrap().split('?').next().unwrap()
}

struct Replay<'a> {
    arm: &'a Arm,
    /// Our id and the recorded id of the operation that is polled.
    ids: (String, String),
}

impl Replay<'_> {
    async fn exchange(&mut self, exchange: &Value) {
        let (request, expected) = (&exchange["request"], &exchange["response"]);
        let method = request["method"].as_str().unwrap();
        let url = with_recorded_id(request["url"].as_str().unwrap(), &self.ids.1, &self.ids.0);
        let is_poll = url.contains("/operationsStatuses/");
        if is_poll && expected["body"]["status"] == "Succeeded" {
            self.arm.settle().await;
        }
        let body = if request["body"].is_null() { String::new() } else { request["body"].to_string() };
        let answer = self.arm.send(method, &url, &body).await;
        assert_eq!(answer.status.as_u16(), expected["status"], "{method} {url}: {answer:?}");
        if let Some(headers) = expected["headers"].as_object() {
            self.check_headers(headers, &answer);
        }
        let body: Value = serde_json::from_str(&with_recorded_id(
            &answer.body_json().to_string(),
            &self.ids.0,
            &self.ids.1,
        ))
        .unwrap();
        if expected["body"].is_object() {
            assert_same(&expected["body"], &body, Like::Exactly, &format!("{method} {url}"));
        }
        // "repeated until Succeeded" stands for the polls in between.
        if is_poll && expected["body"]["status"] == "Running" {
            self.arm.settle().await;
        }
    }

    fn check_headers(&mut self, headers: &serde_json::Map<String, Value>, answer: &Response) {
        let recorded = headers["Azure-AsyncOperation"].as_str().unwrap();
        let ours = answer.header_value("azure-asyncoperation").unwrap();
        self.ids = (operation_id(ours).to_owned(), operation_id(recorded).to_owned());
        for (name, recorded) in headers {
            let ours = answer.header_value(&name.to_ascii_lowercase()).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(
                with_recorded_id(ours, &self.ids.0, &self.ids.1),
                recorded.as_str().unwrap(),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn new_and_update_of_an_instance_are_answered_as_recorded() {
    let Some(recorded) = shared("recorded-live-2022-05-31.json") else { return };
    let arm = Arm::with(live()).await;
    arm.group(RECORDED, GROUP).await;
    let mut replay = Replay { arm: &arm, ids: ("-".into(), "-".into()) };
    for name in ["New-AzDigitalTwinsInstance", "Update-AzDigitalTwinsInstance -Tag @{abc='123'}"] {
        for exchange in recorded[name].as_array().unwrap() {
            replay.exchange(exchange).await;
        }
    }
    let url = recorded["New-AzDigitalTwinsInstance"][0]["request"]["url"].as_str().unwrap();
    let (_, body) = arm.get(url).await;
    assert_eq!(body["tags"], json!({"abc": "123"}), "the tags of an update show once it is done");
    assert_eq!(body["properties"]["provisioningState"], "Succeeded");
    assert_eq!(body["properties"]["privateEndpointConnections"], json!([]));
}

#[tokio::test]
async fn the_endpoints_of_an_instance_are_listed_as_recorded() {
    let Some(recorded) = shared("recorded-live-2022-05-31.json") else { return };
    let arm = Arm::with(live()).await;
    arm.group(RECORDED, GROUP).await;
    let instance = twins_url(RECORDED, GROUP, "azps-digitaltwins-instance", "");
    arm.put(&instance, json!({"location": "eastus"})).await;
    arm.settle().await;
    let string = "Endpoint=sb://ns.example.com/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";
    for (name, properties) in [
        ("azps-dt-sb", json!({"endpointType": "ServiceBus", "primaryConnectionString": string})),
        ("azps-dt-eh", json!({"endpointType": "EventHub", "connectionStringPrimaryKey": string})),
        (
            "azps-dt-eg",
            json!({"endpointType": "EventGrid", "accessKey1": "key",
            "TopicEndpoint": "https://azps-eventgrid.eastus-1.eventgrid.azure.net/api/events"}),
        ),
    ] {
        let url = twins_url(RECORDED, GROUP, "azps-digitaltwins-instance", &format!("/endpoints/{name}"));
        let answer = arm.put(&url, json!({"properties": properties})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    arm.settle().await;
    let exchange = &recorded["Get-AzDigitalTwinsEndpoint (list)"][0];
    let (status, body) = arm.get(exchange["request"]["url"].as_str().unwrap()).await;
    assert_eq!(status, 200);
    // The live service lists in the order of creation, we by name.
    let by_name = |body: &Value| {
        let mut items = body["value"].as_array().unwrap().clone();
        items.sort_by_key(|item| item["name"].to_string());
        Value::Array(items)
    };
    assert_same(&by_name(&exchange["response"]["body"]), &by_name(&body), Like::Exactly, "list");
}
