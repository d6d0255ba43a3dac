//! `POST /_twinhub/hubs/{hub}/devices/{id}/messages`: a message to a device, as a back end sends it over AMQP. What
//! `twinhub device send --to-device` asks.

use access::Caller;
use base::Timestamp;
use base::hosts::Service;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hub::cloud_to_device::{Ack, Properties};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Admin, error};
use crate::wire::{Request, Response};

/// In the place of a hub's name.
const DEFAULT: &str = "$default";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sent {
    /// Text; a body that is none comes as `bodyBase64`.
    body: Option<String>,
    body_base64: Option<String>,
    message_id: Option<String>,
    correlation_id: Option<String>,
    user_id: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    expiry_time_utc: Option<String>,
    /// `none`, `positive`, `negative` or `full`.
    ack: Option<String>,
    #[serde(default)]
    properties: Map<String, Value>,
}

pub(super) async fn send(door: Admin, (): (), request: Request) -> Response {
    let default = || door.0.hosts.default_instance(Service::Hub);
    let name = Some(request.param("hub")).filter(|name| *name != DEFAULT).map(str::to_owned).or_else(default);
    let Some(hub) = name.and_then(|name| door.0.hubs.find(&name)) else {
        return error(404, "HubNotFound", "There is no such hub.");
    };
    let Ok(device_id) = request.param("id").parse() else {
        return error(400, "InvalidDeviceId", "That is no id of a device.");
    };
    let message = request.json::<Sent>().map_err(|why| why.to_string());
    let message = message.and_then(|message| Ok((message.body()?, message.properties(&device_id)?)));
    let (body, properties) = match message {
        Ok(message) => message,
        Err(why) => return error(400, "InvalidMessage", &why),
    };
    match hub.send_to_device(&Caller::system(), &device_id, properties, body).await {
        Ok(number) => Response::json(200, &json!({"sequenceNumber": number})),
        Err(refused) => {
            let status = u16::try_from(refused.code() / 1000).expect("every code has six digits");
            error(status, refused.name(), &refused.to_string())
        }
    }
}

impl Sent {
    fn body(&self) -> Result<Bytes, String> {
        match (&self.body, &self.body_base64) {
            (Some(_), Some(_)) => Err("Give body or bodyBase64, not both.".to_owned()),
            (None, Some(text)) => {
                STANDARD.decode(text).map(Bytes::from).map_err(|_| "bodyBase64 is not base64.".to_owned())
            }
            (text, None) => Ok(Bytes::from(text.clone().unwrap_or_default())),
        }
    }

    fn properties(self, device_id: &base::DeviceId) -> Result<Properties, String> {
        let expiry = self.expiry_time_utc.map(|text| {
            text.parse::<Timestamp>()
                .map_err(|_| "expiryTimeUtc is no time, such as 2026-01-02T03:04:05Z.".to_owned())
        });
        let ack = self.ack.map(|text| {
            Ack::parse(&text).ok_or_else(|| "ack is none, positive, negative or full.".to_owned())
        });
        let application = self.properties.into_iter().map(|(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            _ => Err(format!("The property '{name}' is no text.")),
        });
        Ok(Properties {
            message_id: self.message_id,
            correlation_id: self.correlation_id,
            user_id: self.user_id,
            to: Some(format!("/devices/{device_id}/messages/devicebound")),
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            absolute_expiry_time: expiry.transpose()?,
            ack: ack.transpose()?,
            application: application.collect::<Result<_, String>>()?,
        })
    }
}
