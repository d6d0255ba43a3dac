//! Files that devices upload, as the clients of the spec ask for it, and what back ends fetch of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use base::{ConnectionString, Key, Timestamp};
use bytes::Bytes;
use hub::file_upload::{
    Asked, ContainerFault, ContainerUri, FileStorage, Grant, Look, NoGrant, Portion, UploadedBlob,
};
use hub::{FileUpload, HubSettings, StorageEndpoint};
use serde_json::{Value, json};

use super::fixture::*;
use crate::wire::Response;

/// An account that has what a test says of it, and the one container of jobs.
#[derive(Default)]
pub(super) struct Shelf(Mutex<HashMap<String, UploadedBlob>>, pub(super) Mutex<HashMap<String, Bytes>>);

const OPENED_BY: &str = "sig=x";

impl Shelf {
    fn opened(&self, at: &ContainerUri) -> Result<MutexGuard<'_, HashMap<String, Bytes>>, ContainerFault> {
        if at.expose().ends_with(OPENED_BY) {
            return Ok(self.1.lock().unwrap());
        }
        Err(ContainerFault::Refused("AuthenticationFailed".to_owned()))
    }
}

impl FileStorage for Shelf {
    fn grant(&self, at: &StorageEndpoint, blob_name: &str, _: Timestamp) -> Result<Grant, NoGrant> {
        let (host_name, container) = ("account.example", &at.container_name);
        Ok(Grant {
            host_name: host_name.to_owned(),
            blob_uri: format!("https://{host_name}/{container}/{blob_name}"),
            sas_token: "?sv=1&sig=x".to_owned(),
        })
    }

    fn look<'a>(&'a self, _: &'a StorageEndpoint, blob_name: &'a str) -> Look<'a> {
        let found = self.0.lock().unwrap().get(blob_name).copied();
        Box::pin(async move { Ok(found) })
    }

    fn read<'a>(
        &'a self,
        at: &'a ContainerUri,
        blob: &'a str,
        from: u64,
        _: usize,
    ) -> Asked<'a, Option<Portion>> {
        Box::pin(async move {
            let Some(all) = self.opened(at)?.get(blob).cloned() else { return Ok(None) };
            let from = usize::try_from(from).unwrap().min(all.len());
            Ok(Some(Portion { bytes: all.slice(from..), blob_bytes: all.len() as u64 }))
        })
    }

    fn put_block<'a>(&'a self, at: &'a ContainerUri, _: &'a str, id: &'a str, bytes: Bytes) -> Asked<'a, ()> {
        Box::pin(async move {
            self.opened(at)?.insert(format!("block {id}"), bytes);
            Ok(())
        })
    }

    fn commit_blocks<'a>(&'a self, at: &'a ContainerUri, blob: &'a str, ids: &'a [String]) -> Asked<'a, ()> {
        Box::pin(async move {
            let mut opened = self.opened(at)?;
            let all =
                ids.iter().filter_map(|id| opened.get(&format!("block {id}")).cloned()).collect::<Vec<_>>();
            opened.insert(blob.to_owned(), all.concat().into());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, at: &'a ContainerUri, blob: &'a str) -> Asked<'a, bool> {
        Box::pin(async move { Ok(self.opened(at)?.remove(blob).is_some()) })
    }
}

struct Uploading {
    test: TestDoor,
    token: String,
}

impl Uploading {
    /// The hub's device dev1, and storage that is told of.
    async fn new() -> Self {
        let test = TestDoor::new().await;
        let storage = StorageEndpoint {
            connection_string: ConnectionString::new("AccountName=account"),
            container_name: "files".to_owned(),
            ttl: Duration::from_hours(1),
        };
        let file_upload = FileUpload { storage: Some(storage), is_notified: true, ..FileUpload::default() };
        test.hubs.ensure(HubSettings { file_upload, ..(*test.hub.settings()).clone() }).await.unwrap();
        let token = device_token(&test, "/devices/dev1").await;
        Self { test, token }
    }

    async fn asks(&self, path: &str, body: &Value) -> Response {
        let path = format!("/devices/dev1/files{path}");
        self.test.ask("POST", &path, &body.to_string()).with(self.token.clone()).send().await
    }

    async fn starts(&self) -> String {
        let started = self.asks("", &json!({"blobName": "a b.txt"})).await.body_json();
        started["correlationId"].as_str().unwrap().to_owned()
    }
}

async fn device_token(test: &TestDoor, path: &str) -> String {
    let shown = test.owner("GET", path, "").await.body_json();
    let key = shown["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    test.token(&format!("{HOST}{path}"), &key.parse::<Key>().unwrap(), None, 3600)
}

const NOTIFICATIONS: &str = "/messages/serviceBound/filenotifications";

#[tokio::test]
async fn a_device_is_told_where_to_and_back_ends_hear_of_what_it_uploaded() {
    let uploading = Uploading::new().await;
    let test = &uploading.test;
    for path in ["", "/"] {
        let started = uploading.asks(path, &json!({"blobName": "a b.txt"})).await;
        started.status_is(200);
        let mut body = started.body_json();
        let id = body["correlationId"].take();
        assert!(id.as_str().unwrap().bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        let expected = json!({
            "correlationId": null, "hostName": "account.example", "containerName": "files",
            "blobName": "dev1/a b.txt", "sasToken": "?sv=1&sig=x",
        });
        assert_eq!(body, expected);
    }
    let id = uploading.starts().await;
    let last_updated = test.clock.now();
    let blob = UploadedBlob { size_bytes: 21, last_updated };
    test.files.0.lock().unwrap().insert("dev1/a b.txt".to_owned(), blob);
    let done = json!({"correlationId": id, "isSuccess": true, "statusCode": 200, "statusDescription": "OK"});
    uploading.asks("/notifications", &done).await.status_is(204);
    let told = test.owner("GET", NOTIFICATIONS, "").await;
    told.status_is(200);
    let expected = json!({
        "deviceId": "dev1", "blobUri": "https://account.example/files/dev1/a b.txt", "blobName": "dev1/a b.txt",
        "lastUpdatedTime": "2026-01-02T03:04:05+00:00", "blobSizeInBytes": 21,
        "enqueuedTimeUtc": "2026-01-02T03:04:05.1234567Z",
    });
    assert_eq!(told.body_json(), expected);
    let token = told.header_value("iothub-messagelocktoken").unwrap().to_owned();
    assert_eq!(told.header_value("etag").unwrap(), format!("\"{token}\""));
    test.owner("GET", "/messages/servicebound/fileNotifications", "").await.status_is(204);
    test.owner("POST", &format!("{NOTIFICATIONS}/{token}/abandon"), "").await.status_is(204);
    test.owner("DELETE", &format!("{NOTIFICATIONS}/{token}"), "").await.refused(412, "DeviceMessageLockLost");
    let again = test.owner("GET", NOTIFICATIONS, "").await;
    let token = again.header_value("iothub-messagelocktoken").unwrap().to_owned();
    test.owner("DELETE", &format!("{NOTIFICATIONS}/{token}"), "").await.status_is(204);
    test.owner("GET", NOTIFICATIONS, "").await.status_is(204);
}

#[tokio::test]
async fn an_end_is_told_in_the_forms_that_clients_have() {
    let uploading = Uploading::new().await;
    for slash in ["", "/"] {
        // .NET: its id in the body after a success, in the path after a failure.
        let id = uploading.starts().await;
        let body =
            json!({"correlationId": id, "isSuccess": true, "statusCode": 0, "statusDescription": null});
        uploading.asks(&format!("/notifications{slash}"), &body).await.status_is(204);
        let id = uploading.starts().await;
        let body =
            json!({"correlationId": id, "isSuccess": false, "statusCode": -1, "statusDescription": "no"});
        uploading.asks(&format!("/notifications/{id}{slash}"), &body).await.status_is(204);
        let id = uploading.starts().await;
        let body = json!({"correlationId": id, "isSuccess": "True", "statusCode": "200"});
        uploading.asks(&format!("/notifications/{id}{slash}"), &body).await.status_is(204);
        // Node: in the path alone.
        let id = uploading.starts().await;
        let body = json!({"isSuccess": true, "statusCode": 201, "statusDescription": ""});
        uploading.asks(&format!("/notifications/{id}{slash}"), &body).await.status_is(204);
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_refused_with_its_own_code() {
    let uploading = Uploading::new().await;
    let test = &uploading.test;
    uploading.asks("", &json!({})).await.refused(400, "ArgumentNull");
    uploading.asks("", &json!({"blobName": ""})).await.refused(400, "ArgumentInvalid");
    uploading.asks("", &json!({"blobName": 1})).await.refused(400, "ArgumentInvalid");
    let id = uploading.starts().await;
    let ended = async |path: &str, body: Value, name: &str| {
        uploading.asks(&format!("/notifications{path}"), &body).await.refused(400, name);
    };
    ended("", json!({"isSuccess": true, "statusCode": 200}), "InvalidFileUploadCorrelationId").await;
    ended("/other", json!({"isSuccess": true}), "InvalidFileUploadCorrelationId").await;
    let other = json!({"correlationId": "other", "isSuccess": true});
    ended(&format!("/{id}"), other, "InvalidFileUploadCorrelationId").await;
    for status in [json!({}), json!({"isSuccess": "yes"}), json!({"isSuccess": true, "statusCode": 1.5})] {
        ended(&format!("/{id}"), status, "InvalidFileUploadCompletionStatus").await;
    }
    for _ in 1..10 {
        uploading.starts().await;
    }
    let full = uploading.asks("", &json!({"blobName": "x"})).await;
    full.refused(403, "DeviceMaximumActiveFileUploadLimitExceeded");
    let message = full.body_json()["Message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("Number of active file upload requests cannot exceed 10"), "{message}");
    test.clock.advance(Duration::from_hours(1));
    let token = device_token(test, "/devices/dev1").await;
    let path = format!("/devices/dev1/files/notifications/{id}");
    let late = test.ask("POST", &path, r#"{"isSuccess":true}"#).with(token);
    late.send().await.refused(400, "ExpiredFileUploadCorrelationId");
}

#[tokio::test]
async fn without_storage_or_the_devices_own_proof_nothing_begins() {
    let test = TestDoor::new().await;
    let body = r#"{"blobName":"x"}"#;
    let (device, module) =
        (device_token(&test, "/devices/dev1").await, device_token(&test, "/devices/dev1/modules/mod1").await);
    let bare = test.ask("POST", "/devices/dev1/files", body).with(device.clone()).send().await;
    bare.refused(400, "DefaultStorageEndpointNotConfigured");
    for ask in [
        test.ask("POST", "/devices/dev1/files", body),
        test.ask("POST", "/devices/dev1/files", body).with(module),
        test.ask("POST", "/devices/dev2/files", body).with(device.clone()),
        test.ask("POST", "/devices/dev1/files/notifications/x", "{}").with(test.token_of("service")),
        test.ask("GET", NOTIFICATIONS, "").with(test.token_of("registryReadWrite")),
        test.ask("GET", NOTIFICATIONS, "").with(device),
    ] {
        ask.send().await.refused(401, "IotHubUnauthorizedAccess");
    }
    // IoT Hub Data Reader may fetch what is told of files, and not feedback on messages.
    let reader = test.bearer(&["b447c946-2db7-41ec-983d-d8bf3b1c77e3"], "https://iothubs.azure.net").await;
    test.ask("GET", NOTIFICATIONS, "").with(reader.clone()).send().await.status_is(204);
    let feedback = test.ask("GET", "/messages/serviceBound/feedback", "").with(reader).send().await;
    assert_eq!(feedback.status.as_u16() / 100, 4);
}
