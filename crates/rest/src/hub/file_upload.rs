//! Files that devices upload, on the wire (`iothub-device.md` §7): a device asks where to and says how it went; back ends fetch what is
//! told of them (`iothub-service.md` §7.5), one at a time, as they do feedback.

use access::Permission;
use base::DeviceId;
use hub::file_upload::{FileNotification, StartedUpload};
use hub::service_bound::Given;
use hub::{Error, Settlement};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cloud_to_device::{completion, given, lock_token};
use super::{HubAt, HubDoor, Refusal, body, device_of, handler};
use crate::router::Routes;
use crate::wire::{Request, Response};

/// A trailing slash, which clients of C send, is no segment of a path.
pub(super) fn device_routes() -> Routes<HubDoor> {
    Routes::new()
        .on("POST", "/devices/{id}/files", "Device_CreateFileUploadSasUri", handler!(start))
        .requires(Permission::DeviceConnect)
        .on("POST", "/devices/{id}/files/notifications", "Device_UpdateFileUploadStatus", handler!(complete))
        .requires(Permission::DeviceConnect)
        .on(
            "POST",
            "/devices/{id}/files/notifications/{correlationId}",
            "Device_UpdateFileUploadStatus",
            handler!(complete),
        )
        .requires(Permission::DeviceConnect)
}

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on(
            "GET",
            "/messages/serviceBound/filenotifications",
            "FileNotifications_ReceiveFileUploadNotification",
            handler!(receive),
        )
        .requires(Permission::FileNotification)
        .on(
            "DELETE",
            "/messages/serviceBound/filenotifications/{lockToken}",
            "FileNotifications_CompleteFileUploadNotification",
            handler!(complete_notification),
        )
        .requires(Permission::FileNotification)
        .on(
            "POST",
            "/messages/serviceBound/filenotifications/{lockToken}/abandon",
            "FileNotifications_AbandonFileUploadNotification",
            handler!(abandon_notification),
        )
        .requires(Permission::FileNotification)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartBody {
    blob_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartedBody<'a> {
    correlation_id: &'a str,
    host_name: &'a str,
    container_name: &'a str,
    blob_name: &'a str,
    sas_token: &'a str,
}

async fn start(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let device_id = device(at)?;
    let sent: StartBody = body(request)?;
    let name = sent.blob_name.ok_or(Error::ArgumentNull("blobName"))?;
    let StartedUpload { correlation_id, host_name, container_name, blob_name, sas_token } =
        at.hub.start_file_upload(&at.caller, device_id, &name, &request.head.dialled()).await?;
    let body = StartedBody {
        correlation_id: &correlation_id,
        host_name: &host_name,
        container_name: &container_name,
        blob_name: &blob_name,
        sas_token: &sas_token,
    };
    Ok(Response::json(200, &body))
}

/// Clients send the id in the path, in the body or in both.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompletionBody {
    correlation_id: Option<String>,
    #[serde(default)]
    is_success: Value,
    #[serde(default)]
    status_code: Value,
}

async fn complete(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let device_id = device(at)?;
    let sent: CompletionBody = body(request)?;
    let in_path = request.has_param("correlationId").then(|| request.param("correlationId"));
    let in_body = sent.correlation_id.as_deref().filter(|id| !id.is_empty());
    let id = match (in_path, in_body) {
        (Some(one), Some(other)) if one != other => None,
        (in_path, in_body) => in_path.or(in_body),
    };
    let id = id.ok_or(Error::InvalidFileUploadCorrelationId)?;
    at.hub.complete_file_upload(&at.caller, device_id, id, outcome(&sent)?).await?;
    Ok(Response::new(204))
}

/// Whether the upload went well. What the status says beside is the device's affair, as long as it is a number. Both may be texts, as
/// in every body that a hub reads.
fn outcome(sent: &CompletionBody) -> Result<bool, Error> {
    let invalid = Error::InvalidFileUploadCompletionStatus;
    let is_success = match &sent.is_success {
        Value::String(text) => text.to_ascii_lowercase().parse().ok(),
        other => other.as_bool(),
    };
    let is_number = match &sent.status_code {
        Value::Null => true,
        Value::String(text) => text.parse::<i64>().is_ok(),
        other => other.is_i64(),
    };
    let is_success = is_success.ok_or(invalid("isSuccess must be true or false."))?;
    if is_number { Ok(is_success) } else { Err(invalid("statusCode must be a whole number.")) }
}

fn device(at: &HubAt) -> Result<&DeviceId, Refusal> {
    let id = device_of(at)?;
    // No module's path has these routes, so no module comes here.
    Ok(&id.device_id)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationBody<'a> {
    device_id: &'a str,
    blob_uri: &'a str,
    blob_name: &'a str,
    last_updated_time: String,
    blob_size_in_bytes: u64,
    enqueued_time_utc: String,
}

impl<'a> From<&'a FileNotification> for NotificationBody<'a> {
    fn from(told: &'a FileNotification) -> Self {
        Self {
            device_id: told.device_id.as_str(),
            blob_uri: &told.blob_uri,
            blob_name: &told.blob_name,
            // A storage account tells its times by the second.
            last_updated_time: format!("{}+00:00", told.last_updated.iso_seconds()),
            blob_size_in_bytes: told.size_bytes,
            enqueued_time_utc: told.enqueued.iso7(),
        }
    }
}

async fn receive(at: &HubAt, _: &Request) -> Result<Response, Refusal> {
    let received: Option<Given<FileNotification>> = at.hub.receive_file_notification(&at.caller).await?;
    let Some((told, received)) = received.as_ref().and_then(|all| Some((all.told.first()?, all))) else {
        return Ok(Response::empty(204));
    };
    Ok(given(Response::json(200, &NotificationBody::from(told)), received))
}

async fn complete_notification(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    settle(at, request, completion(request)).await
}

async fn abandon_notification(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    settle(at, request, Settlement::Abandon).await
}

async fn settle(at: &HubAt, request: &Request, settlement: Settlement) -> Result<Response, Refusal> {
    at.hub.settle_file_notification(&at.caller, lock_token(request)?, settlement).await?;
    Ok(Response::empty(204))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::json::{Reading, read};

    fn completion(body: &[u8]) -> Option<Result<bool, Error>> {
        read::<CompletionBody>(body, Reading::Tolerant).ok().map(|sent| outcome(&sent))
    }

    #[test]
    fn what_devices_say_of_an_upload_is_true_or_false_with_a_number_or_no_answer_to_it() {
        let of = |body: &str| completion(body.as_bytes()).and_then(Result::ok);
        assert_eq!(of(r#"{"isSuccess": true, "statusCode": 200}"#), Some(true));
        assert_eq!(of(r#"{"IsSuccess": "False", "StatusCode": "-7"}"#), Some(false));
        for wrong in [
            "{}",
            r#"{"isSuccess": 1}"#,
            r#"{"isSuccess": true, "statusCode": 1.5}"#,
            r#"{"isSuccess": null}"#,
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), id in "\\PC{0,80}", number: f64, text in "\\PC{0,20}",
        ) {
            let _ = (completion(&bytes), read::<StartBody>(&bytes, Reading::Tolerant));
            for (is_success, code) in [(json!(number), json!(text)), (json!(text), json!(number)), (json!([id]), json!({"a": id}))] {
                let body = json!({"correlationId": id, "isSuccess": is_success, "statusCode": code}).to_string();
                let _ = completion(body.as_bytes());
                // Cut anywhere.
                let _ = completion(&body.as_bytes()[..body.len() / 2]);
            }
            let name = json!({"blobName": text}).to_string();
            let read = read::<StartBody>(name.as_bytes(), Reading::Tolerant);
            prop_assert_eq!(read.ok().and_then(|body| body.blob_name), Some(text));
        }
    }
}
