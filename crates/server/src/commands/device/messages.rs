//! Messages to a device, as a back end sends them: they wait in its queue until it takes them.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use server::out;

use super::{At, SendArgs, telemetry};
use crate::Failure;
use crate::live::Live;

pub(super) async fn send(at: &At, args: &SendArgs) -> Result<(), Failure> {
    let body = args.body.as_deref().map(telemetry::read).transpose()?;
    let data_dir: PathBuf = at.place()?;
    let live = Live::of_running(&data_dir)?;
    let (hub, device) = (at.hub.as_deref().unwrap_or("$default"), &args.who.name);
    let path = format!("/_twinhub/hubs/{}/devices/{}/messages", escaped(hub), escaped(device));
    for number in 1..=args.count {
        let body = body.clone().unwrap_or_else(|| json!({"number": number}).to_string().into_bytes());
        live.tell("POST", &path, &message(args, &body)).await.map_err(|error| {
            format!(
                "{} of {} messages to device {device} are in its queue, then: {error}",
                number - 1,
                args.count
            )
        })?;
    }
    if at.json {
        out::line(json!({"deviceId": device, "enqueued": args.count}));
    } else {
        let messages = if args.count == 1 { "message waits" } else { "messages wait" };
        out::line(format_args!("{} {messages} in the queue of device {device}", args.count));
    }
    Ok(())
}

fn message(args: &SendArgs, body: &[u8]) -> Value {
    let properties: serde_json::Map<_, _> =
        args.properties.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let mut message = json!({"properties": properties, "contentType": args.content_type, "ack": args.ack});
    match std::str::from_utf8(body) {
        Ok(text) => message["body"] = text.into(),
        Err(_) => message["bodyBase64"] = STANDARD.encode(body).into(),
    }
    message
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
