//! Cloud-to-device messages as a device fetches and settles them over HTTPS (`iothub-device.md` §4.4): one at a time, with its
//! properties as headers.

use access::Permission;
use base::DeviceId;
use hub::Settlement;
use hub::cloud_to_device::{Ack, Received};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::cloud_to_device::{completion, lock_token};
use super::{HubAt, HubDoor, Refusal, device_of, handler, quoted};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on(
            "GET",
            "/devices/{id}/messages/deviceBound",
            "Device_ReceiveDeviceBoundNotification",
            handler!(receive),
        )
        .requires(Permission::DeviceConnect)
        .on(
            "DELETE",
            "/devices/{id}/messages/deviceBound/{lockToken}",
            "Device_CompleteDeviceBoundNotification",
            handler!(complete),
        )
        .requires(Permission::DeviceConnect)
        .on(
            "POST",
            "/devices/{id}/messages/deviceBound/{lockToken}/abandon",
            "Device_AbandonDeviceBoundNotification",
            handler!(abandon),
        )
        .requires(Permission::DeviceConnect)
}

/// What may not stand in a header as it is.
const UNFIT: &AsciiSet = &CONTROLS.add(b'%');

async fn receive(at: &HubAt, _: &Request) -> Result<Response, Refusal> {
    let device_id = device(at)?;
    let Some(received) = at.hub.receive_message(&at.caller, device_id).await? else {
        return Ok(Response::empty(204));
    };
    let token = received.lock_token.map(|token| quoted(&token.to_string())).unwrap_or_default();
    let mut response =
        Response::bytes(200, "application/octet-stream", received.body.clone()).header("etag", &token);
    for (name, value) in headers(&received) {
        response = response.header(&name, &utf8_percent_encode(&value, UNFIT).to_string());
    }
    Ok(response)
}

async fn complete(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    settle(at, request, completion(request)).await
}

async fn abandon(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    settle(at, request, Settlement::Abandon).await
}

async fn settle(at: &HubAt, request: &Request, settlement: Settlement) -> Result<Response, Refusal> {
    at.hub.settle_message(&at.caller, device(at)?, lock_token(request)?, settlement).await?;
    Ok(Response::empty(204))
}

fn device(at: &HubAt) -> Result<&DeviceId, Refusal> {
    Ok(&device_of(at)?.device_id)
}

/// Names and values. An application property whose name no header can have is left out.
fn headers(received: &Received) -> Vec<(String, String)> {
    let properties = &received.properties;
    let said = [
        ("iothub-messageid", &properties.message_id),
        ("iothub-correlationid", &properties.correlation_id),
        ("iothub-userid", &properties.user_id),
        ("iothub-to", &properties.to),
        ("contenttype", &properties.content_type),
        ("contentencoding", &properties.content_encoding),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    let told = [
        ("iothub-sequencenumber", received.sequence.to_string()),
        ("iothub-enqueuedtime", received.enqueued.iso7()),
        ("iothub-expiry", received.expires.iso7()),
        ("iothub-deliverycount", received.delivery_count.to_string()),
        ("iothub-ack", properties.ack.unwrap_or(Ack::None).name().to_owned()),
    ];
    let told = told.into_iter().map(|(name, value)| (name.to_owned(), value));
    let application = properties.application.iter();
    let application = application.map(|(name, value)| (format!("iothub-app-{name}"), value.clone()));
    let is_header = |name: &str| http::HeaderName::try_from(name).is_ok();
    said.chain(told).chain(application).filter(|(name, _)| is_header(name)).collect()
}
