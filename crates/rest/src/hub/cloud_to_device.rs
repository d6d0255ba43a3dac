//! What back ends ask over HTTPS of messages to devices: purges, and feedback on their ends (`iothub-service.md` §3.5, §7.4).
//! Sending is AMQP's affair in the service; ours is `POST /_twinhub/hubs/{hub}/devices/{id}/messages` until then.

use access::Permission;
use hub::cloud_to_device::Told;
use hub::service_bound::Given;
use hub::{LockToken, Settlement};
use serde::Serialize;

use super::{HubAt, HubDoor, Refusal, device_id, handler, quoted};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on(
            "DELETE",
            "/devices/{id}/commands",
            "CloudToDeviceMessages_PurgeCloudToDeviceMessageQueue",
            handler!(purge),
        )
        .requires(Permission::CloudToDevicePurge)
        .on(
            "GET",
            "/messages/serviceBound/feedback",
            "CloudToDeviceMessages_ReceiveFeedbackNotification",
            handler!(receive_feedback),
        )
        .requires(Permission::CloudToDeviceFeedback)
        .on(
            "DELETE",
            "/messages/serviceBound/feedback/{lockToken}",
            "CloudToDeviceMessages_CompleteFeedbackNotification",
            handler!(complete_feedback),
        )
        .requires(Permission::CloudToDeviceFeedback)
        .on(
            "POST",
            "/messages/serviceBound/feedback/{lockToken}/abandon",
            "CloudToDeviceMessages_AbandonFeedbackNotification",
            handler!(abandon_feedback),
        )
        .requires(Permission::CloudToDeviceFeedback)
}

async fn purge(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let device_id = device_id(request)?;
    let purged = at.hub.purge_messages(&at.caller, &device_id).await?;
    let device_id = device_id.as_str();
    Ok(Response::json(200, &PurgedBody { device_id, module_id: None, total_messages_purged: purged }))
}

async fn receive_feedback(at: &HubAt, _: &Request) -> Result<Response, Refusal> {
    let Some(received) = at.hub.receive_feedback(&at.caller).await? else {
        return Ok(Response::empty(204));
    };
    let body: Vec<_> = received.told.iter().map(FeedbackBody::from).collect();
    Ok(given(Response::json(200, &body), &received))
}

/// With what settles it.
pub(super) fn given<N>(response: Response, received: &Given<N>) -> Response {
    let token = received.lock_token.to_string();
    response
        .header("etag", &quoted(&token))
        .header("iothub-messagelocktoken", &token)
        .header("iothub-enqueuedtime", &received.enqueued.iso7())
}

async fn complete_feedback(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    settle(at, request, completion(request)).await
}

async fn abandon_feedback(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    settle(at, request, Settlement::Abandon).await
}

async fn settle(at: &HubAt, request: &Request, settlement: Settlement) -> Result<Response, Refusal> {
    at.hub.settle_feedback(&at.caller, lock_token(request)?, settlement).await?;
    Ok(Response::empty(204))
}

/// What a DELETE makes of what its caller holds: `?reject` is no completion.
pub(super) fn completion(request: &Request) -> Settlement {
    if request.query("reject").is_some() { Settlement::Reject } else { Settlement::Complete }
}

/// What is no token holds nothing either.
pub(super) fn lock_token(request: &Request) -> Result<LockToken, Refusal> {
    Ok(request.param("lockToken").parse().map_err(|_| hub::Error::DeviceMessageLockLost)?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PurgedBody<'a> {
    device_id: &'a str,
    module_id: Option<&'a str>,
    total_messages_purged: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FeedbackBody<'a> {
    original_message_id: Option<&'a str>,
    enqueued_time_utc: String,
    status_code: &'static str,
    description: &'static str,
    device_id: &'a str,
    device_generation_id: &'a str,
}

impl<'a> From<&'a Told> for FeedbackBody<'a> {
    fn from(told: &'a Told) -> Self {
        Self {
            original_message_id: told.original_message_id.as_deref(),
            enqueued_time_utc: told.enqueued.iso7(),
            status_code: told.outcome.name(),
            description: told.outcome.name(),
            device_id: told.device_id.as_str(),
            device_generation_id: &told.device_generation_id,
        }
    }
}
