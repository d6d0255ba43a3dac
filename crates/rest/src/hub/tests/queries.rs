//! Queries over HTTPS: headers, pages, refusals (`iothub-service.md` §5.1).

use serde_json::{Value, json};

use super::fixture::*;
use crate::wire::Response;

const QUERY: &str = "/devices/query";

fn body(text: &str) -> String {
    json!({"query": text}).to_string()
}

async fn ask(test: &TestDoor, text: &str, headers: &[(&str, &str)]) -> Response {
    test.ask("POST", QUERY, &body(text)).by_owner().headers(headers).send().await
}

#[tokio::test]
async fn twins_have_the_shape_of_a_read_and_their_own_item_type() {
    let test = TestDoor::new().await;
    test.owner("PATCH", "/twins/dev1", r#"{"tags":{"z":1.0,"a":{"b":null}}}"#).await.status_is(200);
    for (text, path) in [
        ("SELECT * FROM devices", "/twins/dev1"),
        ("select * from devices.modules where devices.deviceId = 'dev1'", "/twins/dev1/modules/mod1"),
    ] {
        let twin = test.owner("GET", path, "").await;
        let response = ask(&test, text, &[]).await;
        response.status_is(200);
        assert_eq!(response.header_value("x-ms-item-type"), Some("Twin"));
        assert_eq!(response.header_value("x-ms-continuation"), None);
        assert_eq!(response.header_value("content-type"), Some("application/json; charset=utf-8"));
        let expected = [&b"["[..], &twin.body_bytes()[..], &b"]"[..]].concat();
        assert_eq!(response.body_bytes(), expected, "{text}");
    }
}

#[tokio::test]
async fn whatever_is_selected_is_raw_and_jobs_are_device_jobs() {
    let test = TestDoor::new().await;
    for (text, kind, rows) in [
        ("SELECT DeviceId, tags.none FROM devices", "Raw", json!([{"deviceId": "dev1"}])),
        ("SELECT COUNT() AS n FROM devices.modules", "Raw", json!([{"n": 1}])),
        (
            "SELECT status, COUNT() AS n FROM devices GROUP BY status",
            "Raw",
            json!([{"status": "enabled", "n": 1}]),
        ),
        ("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'j'", "DeviceJob", json!([])),
    ] {
        let response = ask(&test, text, &[]).await;
        response.status_is(200);
        assert_eq!(response.header_value("x-ms-item-type"), Some(kind), "{text}");
        assert_eq!(response.body_json(), rows, "{text}");
    }
}

#[tokio::test]
async fn pages_follow_one_another_by_their_headers() {
    let test = TestDoor::new().await;
    for n in 2..=5 {
        test.owner("PUT", &format!("/devices/dev{n}"), "{}").await.status_is(200);
    }
    let (mut ids, mut continuation) = (Vec::new(), String::new());
    for expected in [2, 2, 1] {
        let headers = [("x-ms-max-item-count", "2"), ("x-ms-continuation", continuation.as_str())];
        let response = ask(&test, "SELECT deviceId FROM devices", &headers).await;
        response.status_is(200);
        let page = response.body_json();
        assert_eq!(page.as_array().unwrap().len(), expected);
        ids.extend(page.as_array().unwrap().iter().map(|row| row["deviceId"].as_str().unwrap().to_owned()));
        continuation = response.header_value("x-ms-continuation").unwrap_or_default().to_owned();
        assert_eq!(continuation.is_empty(), expected == 1);
    }
    assert_eq!(ids, ["dev1", "dev2", "dev3", "dev4", "dev5"]);
    for (max, rows) in [("0", 5), ("-1", 5), ("", 5), ("5000", 5), ("1", 1)] {
        let response = ask(&test, "SELECT * FROM devices", &[("x-ms-max-item-count", max)]).await;
        assert_eq!(response.body_json().as_array().unwrap().len(), rows, "{max}");
    }
}

#[tokio::test]
async fn what_is_no_query_is_refused_with_its_place() {
    let test = TestDoor::new().await;
    let refused = ask(&test, "SELECT * FROM devices WHERE tags.a ==", &[]).await;
    refused.refused(400, "ArgumentInvalid");
    assert!(refused.body_json()["Message"].as_str().unwrap().contains("Line=1, Position=36"), "{refused:?}");
    for body in ["", "[]", "{}", r#"{"query":null}"#, r#"{"query":5}"#, r#"{"query":""}"#] {
        let response = test.owner("POST", QUERY, body).await;
        assert_eq!(response.status.as_u16(), 400, "{body}");
    }
    let long = format!("SELECT * FROM devices WHERE tags.a = '{}'", "x".repeat(8192));
    ask(&test, &long, &[]).await.refused(400, "ArgumentInvalid");
    for header in [("x-ms-max-item-count", "ten"), ("x-ms-continuation", "e30")] {
        let response = ask(&test, "SELECT * FROM devices", &[header]).await;
        assert_eq!(response.status.as_u16(), 400, "{header:?}");
    }
}

#[tokio::test]
async fn the_queries_of_clients_are_taken() {
    let test = TestDoor::new().await;
    for text in [
        "SELECT * FROM devices",
        "select * from devices where deviceId in ['a','b']",
        "select * from devices where capabilities.iotEdge = true",
        "select * from devices.modules where devices.deviceId = 'x'",
        "select deviceId from devices where array_contains(parentScopes, 'ms-azure-iot-edge://a-1')",
        "select deviceId from devices where tags.location='US'",
        "select moduleId from devices.modules where tags.location='US'",
        "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[dep]].status != 'Applied'",
        "SELECT deviceId from devices where properties.reported.lastDesiredStatus.code = 200",
        "select deviceId from devices.modules where moduleId='$edgeAgent' and configurations.[[a-b+c]].status='Applied' and \
         properties.desired.$version = properties.reported.lastDesiredVersion and properties.reported.lastDesiredStatus.code != 200",
        "SELECT deviceId, tags.ring AS ring FROM devices WHERE tags.x = 'y'",
        "select * from devices.jobs where devices.jobs.jobId = 'j'",
    ] {
        let response = ask(&test, text, &[]).await;
        response.status_is(200);
        assert!(response.body_json().is_array(), "{text}");
    }
    let count = ask(&test, "select count() AS numberOfDevices from devices", &[]).await.body_json();
    assert_eq!(count, json!([{"numberOfDevices": 1}]));
    let none: Value = ask(&test, "SELECT * FROM devices WHERE deviceId = 'nobody'", &[]).await.body_json();
    assert_eq!(none, json!([]));
}
