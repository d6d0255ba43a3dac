//! Scheduled jobs: what is taken, what is answered, pages of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::*;

const PATCH: &str = r#"{"jobId":"j1","type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"floor":2}},
    "queryCondition":"deviceId IN ['dev1']","startTime":"","maxExecutionTimeInSeconds":60}"#;

impl TestDoor {
    /// A job once it has ended.
    async fn ended(&self, path: &str) -> Value {
        let ended = async {
            loop {
                let job = self.owner("GET", path, "").await.body_json();
                if job["endTime"].is_string() {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the job ends")
    }
}

#[tokio::test]
async fn a_job_is_answered_as_queued_and_then_patches_its_twins() {
    let test = TestDoor::new().await;
    let queued = test.owner("PUT", "/jobs/v2/j1", PATCH).await;
    queued.status_is(200);
    let time = "2026-01-02T03:04:05.1234567Z";
    let expected = json!({
        "jobId": "j1", "queryCondition": "deviceId IN ['dev1']", "createdTime": time, "startTime": time, "endTime": null,
        "maxExecutionTimeInSeconds": 60, "type": "scheduleUpdateTwin",
        "updateTwin": {"etag": "*", "tags": {"floor": 2}}, "status": "queued", "failureReason": null,
        "statusMessage": null,
        "deviceJobStatistics": {"deviceCount": 0, "failedCount": 0, "succeededCount": 0, "runningCount": 0, "pendingCount": 0},
    });
    assert_eq!(queued.body_json(), expected);
    let ended = test.ended("/jobs/v2/j1").await;
    assert_eq!((&ended["status"], &ended["endTime"]), (&json!("completed"), &json!(time)));
    assert_eq!(ended["deviceJobStatistics"]["succeededCount"], 1);
    assert_eq!(test.owner("GET", "/twins/dev1", "").await.body_json()["tags"], json!({"floor": 2}));
    test.owner("PUT", "/jobs/v2/j1", PATCH).await.refused(409, "JobAlreadyExists");
    test.owner("POST", "/jobs/v2/j1/cancel", "").await.refused(405, "OperationNotAllowedInCurrentState");
    test.owner("POST", "/jobs/v2/j2/cancel", "").await.refused(404, "JobNotFound");
    let unknown = test.owner("GET", "/jobs/v2/j2", "").await;
    unknown.status_is(200);
    assert_eq!(unknown.body_json(), json!({"jobId": null, "type": "unknown", "status": "unknown"}));
}

#[tokio::test]
async fn a_job_that_lies_ahead_is_cancelled() {
    let test = TestDoor::new().await;
    let method = r#"{"type":"scheduleDeviceMethod","startTime":"2026-01-02T04:00:00Z",
        "cloudToDeviceMethod":{"methodName":"reboot","payload":{"a":1},"responseTimeoutInSeconds":15}}"#;
    test.owner("PUT", "/jobs/v2/j1", method).await.status_is(200);
    assert_eq!(test.owner("GET", "/jobs/v2/j1", "").await.body_json()["status"], "scheduled");
    let cancelled = test.owner("POST", "/jobs/v2/j1/cancel", "").await;
    cancelled.status_is(200);
    let method = json!({
        "methodName": "reboot", "payload": {"a": 1}, "responseTimeoutInSeconds": 15, "connectTimeoutInSeconds": null,
    });
    let body = cancelled.body_json();
    assert_eq!((&body["status"], &body["cloudToDeviceMethod"]), (&json!("cancelled"), &method));
}

#[tokio::test]
async fn what_is_no_job_is_refused_and_nothing_is_kept() {
    let test = TestDoor::new().await;
    let wrong = [
        r"{}",
        r#"{"type":"export"}"#,
        r#"{"type":"scheduleUpdateTwin"}"#,
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"tags":{"a":1}}}"#,
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"AAAA","tags":{"a":1}}}"#,
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":7}}"#,
        r#"{"type":"scheduleDeviceMethod"}"#,
        r#"{"type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"m","responseTimeoutInSeconds":4}}"#,
        r#"{"jobId":"other","type":"scheduleUpdateTwin","updateTwin":{"etag":"*"}}"#,
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*"},"startTime":"tomorrow"}"#,
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*"},"startTime":"2026-01-09T03:04:06Z"}"#,
    ];
    for body in wrong {
        test.owner("PUT", "/jobs/v2/j1", body).await.refused(400, "ArgumentInvalid");
    }
    for id in ["J1", "a_b", &"x".repeat(65)] {
        test.owner("PUT", &format!("/jobs/v2/{id}"), PATCH).await.refused(400, "ArgumentInvalid");
    }
    assert_eq!(test.owner("GET", "/jobs/v2/query", "").await.body_json(), json!([]));
}

#[tokio::test]
async fn jobs_are_listed_by_type_and_status_in_pages() {
    let test = TestDoor::new().await;
    for id in ["j1", "j2", "j3"] {
        let later =
            r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*"},"startTime":"2026-01-02T04:00:00Z"}"#;
        test.owner("PUT", &format!("/jobs/v2/{id}"), later).await.status_is(200);
    }
    test.owner("POST", "/jobs/v2/j2/cancel", "").await.status_is(200);
    let ask = async |filter: &str, headers: &[(&str, &str)]| {
        let query = format!("{VERSION}&{filter}");
        let answer =
            test.ask("GET", "/jobs/v2/query", "").by_owner().query(&query).headers(headers).send().await;
        answer.status_is(200);
        assert_eq!(answer.header_value("x-ms-item-type"), Some("JobResponse"));
        let ids =
            answer.body_json().as_array().unwrap().iter().map(|job| job["jobId"].clone()).collect::<Vec<_>>();
        (json!(ids), answer.header_value("x-ms-continuation").map(ToOwned::to_owned))
    };
    assert_eq!(ask("", &[]).await, (json!(["j1", "j2", "j3"]), None));
    assert_eq!(ask("jobStatus=scheduled", &[]).await, (json!(["j1", "j3"]), None));
    assert_eq!(ask("jobType=scheduleDeviceMethod", &[]).await, (json!([]), None));
    assert_eq!(ask("jobType=scheduleUpdateTwin&jobStatus=cancelled", &[]).await, (json!(["j2"]), None));
    assert_eq!(ask("jobStatus=cancelled", &[("x-ms-max-item-count", "1")]).await, (json!(["j2"]), None));
    let (first, next) = ask("", &[("x-ms-max-item-count", "2")]).await;
    assert_eq!(first, json!(["j1", "j2"]));
    let next = next.expect("there are more");
    assert_eq!(ask("", &[("x-ms-continuation", &next)]).await, (json!(["j3"]), None));
    for (name, value) in [("x-ms-max-item-count", "0"), ("x-ms-continuation", "x")] {
        let ask = test.ask("GET", "/jobs/v2/query", "").by_owner().headers(&[(name, value)]).send().await;
        ask.refused(400, "ArgumentInvalid");
    }
}
