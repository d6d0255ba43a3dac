//! Purges of queues, and feedback on how messages ended.

use access::Caller;
use bytes::Bytes;
use hub::cloud_to_device::{Ack, Properties};
use serde_json::json;

use super::fixture::*;

async fn send(test: &TestDoor, id: &str) {
    let properties =
        Properties { message_id: Some(id.to_owned()), ack: Some(Ack::Full), ..Properties::default() };
    let device = "dev1".parse().unwrap();
    test.hub.send_to_device(&Caller::system(), &device, properties, Bytes::from("x")).await.unwrap();
}

#[tokio::test]
async fn a_purge_empties_the_queue_and_its_feedback_is_fetched_given_back_and_settled() {
    let test = TestDoor::new().await;
    for id in ["m1", "m2"] {
        send(&test, id).await;
    }
    for path in ["/devices/dev1", "/twins/dev1"] {
        assert_eq!(test.owner("GET", path, "").await.body_json()["cloudToDeviceMessageCount"], 2, "{path}");
    }
    let listed = test.owner("GET", "/devices", "").await.body_json();
    assert_eq!(listed[0]["cloudToDeviceMessageCount"], 2);
    let purged = test.owner("DELETE", "/devices/dev1/commands", "").await.body_json();
    assert_eq!(purged, json!({"deviceId": "dev1", "moduleId": null, "totalMessagesPurged": 2}));
    assert_eq!(
        test.owner("DELETE", "/devices/dev1/commands", "").await.body_json()["totalMessagesPurged"],
        0
    );
    let feedback = test.owner("GET", "/messages/serviceBound/feedback", "").await;
    feedback.status_is(200);
    let told = feedback.body_json();
    let generation = test.owner("GET", "/devices/dev1", "").await.body_json()["generationId"].clone();
    let first = json!({
        "originalMessageId": "m1", "enqueuedTimeUtc": "2026-01-02T03:04:05.1234567Z", "statusCode": "Purged",
        "description": "Purged", "deviceId": "dev1", "deviceGenerationId": generation,
    });
    assert_eq!((told[0].clone(), told.as_array().unwrap().len()), (first, 2));
    let token = feedback.header_value("iothub-messagelocktoken").unwrap().to_owned();
    assert_eq!(feedback.header_value("etag").unwrap(), format!("\"{token}\""));
    test.owner("GET", "/messages/servicebound/feedback", "").await.status_is(204);
    let at = |token: &str| format!("/messages/serviceBound/feedback/{token}");
    test.owner("POST", &format!("{}/abandon", at(&token)), "").await.status_is(204);
    test.owner("DELETE", &at(&token), "").await.refused(412, "DeviceMessageLockLost");
    let again = test.owner("GET", "/messages/serviceBound/feedback", "").await;
    let token = again.header_value("iothub-messagelocktoken").unwrap().to_owned();
    test.owner("DELETE", &at(&token), "").await.status_is(204);
    test.owner("GET", "/messages/serviceBound/feedback", "").await.status_is(204);
}

#[tokio::test]
async fn what_holds_nothing_and_who_may_not_is_refused() {
    let test = TestDoor::new().await;
    test.owner("DELETE", "/devices/other/commands", "").await.refused(404, "DeviceNotFound");
    for token in ["x", "00000000-0000-0007-ffff-fffffffffffe"] {
        let path = format!("/messages/serviceBound/feedback/{token}");
        test.owner("DELETE", &path, "").await.refused(412, "DeviceMessageLockLost");
    }
    let reader = test.token_of("registryRead");
    for (method, path) in [("DELETE", "/devices/dev1/commands"), ("GET", "/messages/serviceBound/feedback")] {
        test.ask(method, path, "").with(reader.clone()).send().await.status_is(401);
    }
}
