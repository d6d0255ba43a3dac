//! Messages of devices and modules on the wire, one or a batch (`iothub-device.md` §3.6): headers and members become the properties
//! of a message. What a message may hold and how large it may be is the hub's to say.

use std::collections::BTreeSet;

use access::Permission;
use base::ids::IdentityId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hub::telemetry::{Message, Sender, SystemProperty};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{HubAt, HubDoor, Refusal, body, handler};
use crate::router::Routes;
use crate::wire::{Head, Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("POST", "/devices/{id}/messages/events", "Device_SendDeviceEvent", handler!(send))
        .requires(Permission::DeviceConnect)
        .on("POST", "/devices/{id}/modules/{mid}/messages/events", "Device_SendDeviceEvent", handler!(send))
        .requires(Permission::DeviceConnect)
}

const BATCH: &str = "application/vnd.microsoft.iothub.json";
const APPLICATION: &str = "iothub-app-";

/// The wire's name of each system property.
const SYSTEM_PROPERTIES: &[(&str, SystemProperty)] = &[
    ("iothub-messageid", SystemProperty::MessageId),
    ("iothub-correlationid", SystemProperty::CorrelationId),
    ("iothub-userid", SystemProperty::UserId),
    ("iothub-to", SystemProperty::To),
    ("iothub-contenttype", SystemProperty::ContentType),
    ("iothub-contentencoding", SystemProperty::ContentEncoding),
    ("iothub-expiry", SystemProperty::AbsoluteExpiryTime),
    ("iothub-creationtimeutc", SystemProperty::CreationTimeUtc),
    ("iothub-messageschema", SystemProperty::MessageSchema),
    ("iothub-interface-id", SystemProperty::InterfaceId),
    ("dt-subject", SystemProperty::Subject),
];

/// The device or module that a path of these routes names.
pub(super) fn identity(head: &Head) -> Result<IdentityId, Refusal> {
    let malformed = |error: base::ids::InvalidId| Refusal::Malformed(error.to_string());
    match head.segments.get(1..).unwrap_or_default() {
        [device_id, word, module_id, ..] if word.eq_ignore_ascii_case("modules") => Ok(IdentityId::module(
            device_id.parse().map_err(malformed)?,
            module_id.parse().map_err(malformed)?,
        )),
        [device_id, ..] => Ok(IdentityId::device(device_id.parse().map_err(malformed)?)),
        [] => Err(Refusal::UnknownPath),
    }
}

async fn send(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let device = at.device.as_ref().ok_or(Refusal::Hub(hub::Error::IotHubUnauthorizedAccess))?;
    let sender = at.hub.sender(device)?;
    let content_type = request.header("content-type").unwrap_or_default();
    let is_batch = content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(BATCH));
    let messages = if is_batch { batch(&sender, request)? } else { vec![single(&sender, request)?] };
    at.hub.send_batch(&sender, messages).await?;
    Ok(Response::new(204))
}

fn single(sender: &Sender, request: &Request) -> Result<(Message, Bytes), Refusal> {
    let mut message = sender.message();
    for name in request.headers.keys() {
        let unreadable = || Refusal::Malformed(format!("the header '{name}' is no text"));
        let Some(value) = request.headers.get(name).filter(|_| is_property(name.as_str())) else { continue };
        add(&mut message, name.as_str(), value.to_str().map_err(|_| unreadable())?)?;
    }
    Ok((message, request.body.clone()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    body: String,
    #[serde(default = "yes")]
    base64_encoded: bool,
    #[serde(default)]
    properties: Map<String, Value>,
}

fn yes() -> bool {
    true
}

fn batch(sender: &Sender, request: &Request) -> Result<Vec<(Message, Bytes)>, Refusal> {
    let items: Vec<Item> = body(request)?;
    items.into_iter().map(|item| read(sender, item)).collect()
}

fn read(sender: &Sender, item: Item) -> Result<(Message, Bytes), Refusal> {
    let (mut message, mut given) = (sender.message(), BTreeSet::new());
    for (name, value) in &item.properties {
        // They are names of headers, of which case makes no two.
        if !given.insert(name.to_ascii_lowercase()) {
            continue;
        }
        match value {
            Value::String(text) => add(&mut message, name, text)?,
            other => add(&mut message, name, &other.to_string())?,
        }
    }
    if !item.base64_encoded {
        return Ok((message, item.body.into()));
    }
    let body = STANDARD.decode(&item.body);
    let body = body.map_err(|_| Refusal::Malformed("the body of a message is not base64".to_owned()))?;
    Ok((message, body.into()))
}

fn is_property(name: &str) -> bool {
    application(name).is_some() || system(name).is_some()
}

fn application(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked(APPLICATION.len())?;
    prefix.eq_ignore_ascii_case(APPLICATION).then_some(rest)
}

fn system(name: &str) -> Option<SystemProperty> {
    let found = SYSTEM_PROPERTIES.iter().find(|(wire, _)| wire.eq_ignore_ascii_case(name));
    found.map(|(_, property)| *property)
}

/// What is no property of a message is passed over.
fn add(message: &mut Message, name: &str, value: &str) -> Result<(), hub::Error> {
    match (application(name), system(name)) {
        (Some(name), _) => message.application(name, value),
        (None, Some(property)) => message.system(property, value),
        (None, None) => Ok(()),
    }
}
