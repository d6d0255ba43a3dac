//! Messages as the device itself sends them: MQTT with QoS 1, done when the hub has acknowledged each.

use std::io::Read as _;
use std::time::Duration;

use base::caps;
use mqtt::topic::FromDevice;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use server::client::{Login, MqttClient};
use server::out;

use super::hub::Hub;
use super::identity::{Identity, spoken};
use super::{At, SendArgs};
use crate::Failure;

const TOKEN_LIFE: Duration = Duration::from_hours(1);

/// `NAME=VALUE`, as clap asks.
pub(super) fn property(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| "write it as NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn send(at: &At, args: &SendArgs) -> Result<(), Failure> {
    let body = args.body.as_deref().map(read).transpose()?;
    let hub = Hub::find(at).await?;
    let identity = Identity::find(&hub, &args.who.name, args.who.module.as_deref()).await?;
    let who = spoken(&identity.id);
    if identity.text("status") == "disabled" {
        return Err(format!("{who} is disabled and may not connect: enable it first, as az iot hub device-identity update does").into());
    }
    let login = identity.login(&hub, TOKEN_LIFE)?;
    if identity.text("connectionState") == "Connected" {
        eprintln!(
            "twinhub: {who} was connected; a device has one connection at a time, so its client is cut off and has to come again"
        );
    }
    let connected = Login {
        client_id: &login.client_id,
        user_name: &login.user_name,
        password: &login.token,
        clean_session: false,
    };
    let connected = MqttClient::connect(&hub.trust, hub.device_host(), hub.mqtt_port, &connected).await;
    let mut client = connected.map_err(|error| {
        format!("{who} could not connect: {error}; the log of the server says why a device is refused")
    })?;
    for number in 1..=args.count {
        let body = body.clone().unwrap_or_else(|| json!({"number": number}).to_string().into_bytes());
        let bag = property_bag(args, &body);
        let topic = FromDevice::Telemetry { bag: &bag }.text(&identity.id);
        client.publish(&topic, body).await.map_err(|error| {
            format!("{} of {} messages of {who} were acknowledged, then: {error}", number - 1, args.count)
        })?;
    }
    client.disconnect().await?;
    if at.json {
        out::line(
            json!({"deviceId": identity.id.device_id, "moduleId": identity.id.module_id, "acknowledged": args.count}),
        );
    } else {
        let messages = if args.count == 1 { "message" } else { "messages" };
        out::line(format_args!(
            "{} {messages} of {who} acknowledged; see {}",
            args.count,
            hub.command("events")
        ));
    }
    Ok(())
}

/// The body, or standard input for `-`.
pub(super) fn read(given: &str) -> Result<Vec<u8>, Failure> {
    let mut body = given.as_bytes().to_vec();
    if given == "-" {
        body.clear();
        let most = caps::TELEMETRY_BYTES_MAX as u64 + 1;
        std::io::stdin().lock().take(most).read_to_end(&mut body)?;
    }
    if body.len() > caps::TELEMETRY_BYTES_MAX {
        let most = caps::TELEMETRY_BYTES_MAX / 1024;
        return Err(
            format!("the body is larger than a message may be ({most} KiB with its properties)").into()
        );
    }
    Ok(body)
}

/// Content type and encoding, then the properties, as a topic carries them.
fn property_bag(args: &SendArgs, body: &[u8]) -> String {
    let is_json = serde_json::from_slice::<Value>(body).is_ok();
    let content_type = args.content_type.as_deref().or_else(|| is_json.then_some("application/json"));
    let mut pairs = Vec::new();
    if let Some(content_type) = content_type {
        pairs.push(("$.ct", content_type));
    }
    if std::str::from_utf8(body).is_ok() {
        pairs.push(("$.ce", "utf-8"));
    }
    pairs.extend(args.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = pairs.into_iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}
