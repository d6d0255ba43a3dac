//! Imports and exports of the registry: what is taken, what is answered, what is refused.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::*;

const OPENED: &str = "https://account.example/files?sig=x";
const CLOSED: &str = "https://account.example/files?sig=y";

impl TestDoor {
    async fn creates(&self, body: &Value) -> crate::wire::Response {
        self.owner("POST", "/jobs/create", &body.to_string()).await
    }

    /// An import or export once it has ended.
    async fn through(&self, body: &Value) -> Value {
        let created = self.creates(body).await;
        created.status_is(200);
        let path = format!("/jobs/{}", created.body_json()["jobId"].as_str().unwrap());
        let ended = async {
            loop {
                let job = self.owner("GET", &path, "").await.body_json();
                if job["endTimeUtc"].is_string() {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the job ends")
    }

    fn file(&self, name: &str) -> String {
        let files = self.files.1.lock().unwrap();
        String::from_utf8(files.get(name).expect("it is there").to_vec()).unwrap()
    }
}

#[tokio::test]
async fn an_export_is_answered_as_enqueued_and_shown_without_what_opens_its_container() {
    let test = TestDoor::new().await;
    let time = "2026-01-02T03:04:05.1234567Z";
    let export = json!({
        "type": "export", "outputBlobContainerUri": OPENED, "excludeKeysInExport": true,
        "storageAuthenticationType": "keyBased",
    });
    let created = test.creates(&export).await;
    created.status_is(200);
    let body = created.body_json();
    let id = body["jobId"].as_str().unwrap();
    assert!(id.len() == 36 && uuid::Uuid::parse_str(id).is_ok(), "{id}");
    let expected = json!({
        "jobId": id, "startTimeUtc": time, "endTimeUtc": null, "type": "export", "status": "enqueued", "progress": 0,
        "outputBlobContainerUri": "", "excludeKeysInExport": true, "includeConfigurations": false,
        "storageAuthenticationType": "keyBased", "failureReason": null,
    });
    assert_eq!(body, expected);
    let through = async {
        loop {
            let all = test.owner("GET", "/jobs", "").await.body_json();
            if all[0]["status"] == "completed" {
                return all;
            }
            tokio::task::yield_now().await;
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(30), through).await.expect("it ends");
    assert_eq!(
        (all.as_array().unwrap().len(), &all[0]["progress"], &all[0]["endTimeUtc"]),
        (1, &json!(100), &json!(time))
    );
    assert_eq!(test.file("devices.txt").lines().count(), 3);
    test.owner("DELETE", &format!("/jobs/{id}"), "").await.refused(404, "JobNotFound");
}

#[tokio::test]
async fn an_import_tells_what_failed_in_a_log_and_completes() {
    let test = TestDoor::new().await;
    let lines =
        "{\"id\":\"dev1\",\"importMode\":\"create\"}\r\n{\"id\":\"dev2\",\"status\":\"disabled\"}\r\n";
    test.files.1.lock().unwrap().insert("in.txt".to_owned(), lines.into());
    let import = json!({
        "type": "import", "inputBlobContainerUri": OPENED, "inputBlobName": "in.txt", "outputBlobContainerUri": OPENED,
    });
    let ended = test.through(&import).await;
    assert_eq!(
        (&ended["status"], &ended["failureReason"], &ended["type"]),
        (&json!("completed"), &Value::Null, &json!("import"))
    );
    assert_eq!(ended["inputBlobContainerUri"], "");
    let told: Value = serde_json::from_str(test.file("importErrors.log").trim()).unwrap();
    let text = "A device with ID 'dev1' is already registered.";
    assert_eq!(told, json!({"deviceId": "dev1", "errorCode": 409_001, "errorStatus": text}));
    assert_eq!(test.owner("GET", "/devices/dev2", "").await.body_json()["status"], "disabled");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_by_the_services_names() {
    let test = TestDoor::new().await;
    let with = |name: &str, value: Value| {
        let mut body = json!({"type": "export", "outputBlobContainerUri": OPENED});
        body[name] = value;
        body
    };
    for (body, name) in [
        (with("type", json!("backup")), "ArgumentInvalid"),
        (with("type", Value::Null), "ArgumentInvalid"),
        (with("outputBlobContainerUri", Value::Null), "ArgumentNull"),
        (with("outputBlobContainerUri", json!(CLOSED)), "BlobContainerValidationError"),
        (with("storageAuthenticationType", json!("identityBased")), "InvalidEndpointAuthenticationType"),
        (with("storageAuthenticationType", json!("other")), "ArgumentInvalid"),
        (with("type", json!("import")), "ArgumentNull"),
        (
            json!({"type": "import", "inputBlobContainerUri": OPENED, "outputBlobContainerUri": OPENED}),
            "InvalidStorageEndpointOrBlob",
        ),
        (
            json!({"type": "import", "inputBlobContainerUri": CLOSED, "outputBlobContainerUri": OPENED}),
            "BlobContainerValidationError",
        ),
    ] {
        test.creates(&body).await.refused(400, name);
    }
    for path in ["/jobs/0", "/jobs/no%20id"] {
        test.owner("GET", path, "").await.refused(404, "JobNotFound");
        test.owner("DELETE", path, "").await.refused(404, "JobNotFound");
    }
    assert_eq!(test.owner("GET", "/jobs", "").await.body_json(), json!([]));
}
