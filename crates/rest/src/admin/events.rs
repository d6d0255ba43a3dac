//! `GET /_twinhub/events`: the events of a hub or of an event hub of ours as JSON lines, to their present end or followed.
//! What `twinhub events` prints.

use base::hosts::Service;
use base::tasks::Stopping;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use events::headers::{Property, SystemProperty};
use events::{Event, EventStream, Reader, Start};
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::{Admin, error};
use crate::wire::{BodyStream, Request, Response};

pub(super) async fn get(door: Admin, (): (), request: Request) -> Response {
    let Some(stream) = chosen(&door, &request) else {
        return error(404, "StreamNotFound", "There is no such hub or event hub.");
    };
    let follow = request.query("follow").is_some_and(|value| value.is_empty() || value == "true");
    // Someone who follows wants what happens; someone who does not wants what happened.
    let start = match request.query("from").unwrap_or(if follow { "latest" } else { "earliest" }) {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        _ => return error(400, "InvalidFrom", "from is earliest or latest."),
    };
    let lines = Lines { reader: Reader::new(stream, start, follow), stopping: door.0.tasks.stopping() };
    Response::stream(200, "application/x-ndjson", lines.into_body())
}

/// `hub=NAME`, `namespace=NAME&event-hub=NAME`, or the default hub.
fn chosen(door: &Admin, request: &Request) -> Option<EventStream> {
    let context = &door.0;
    if let (Some(namespace), Some(name)) = (request.query("namespace"), request.query("event-hub")) {
        return context.events.event_hub(namespace, name);
    }
    let default = || context.hosts.default_instance(Service::Hub);
    let name = request.query("hub").map(str::to_owned).or_else(default)?;
    context.events.stream(context.hubs.find(&name)?.instance(), hub::EVENT_STREAM)
}

/// What a response's body is made from, piece by piece.
struct Lines {
    reader: Reader,
    stopping: Stopping,
}

impl Lines {
    fn into_body(self) -> BodyStream {
        Box::pin(stream::unfold(self, |mut lines| async move { Some((lines.next().await?, lines)) }))
    }

    /// `None` at the end, at shutdown, and when the stream is gone.
    async fn next(&mut self) -> Option<Bytes> {
        let events = tokio::select! {
            () = self.stopping.wait() => return None,
            events = self.reader.next() => events,
        };
        let events = events.inspect_err(|error| tracing::warn!(%error, "events cannot be read")).ok()??;
        let mut text = Vec::new();
        for event in &events {
            serde_json::to_writer(&mut text, &line(event)).expect("a line is plain JSON");
            text.push(b'\n');
        }
        Some(text.into())
    }
}

/// One event as the product contract has it.
fn line(event: &Event) -> Value {
    let (mut system, mut properties) = (Map::new(), Map::new());
    for property in event.properties() {
        match property {
            Property::System(name, value) => system.insert(name.name().to_owned(), value.into()),
            Property::Application(name, value) => properties.insert(name.to_owned(), value.into()),
        };
    }
    let stamped = |name: SystemProperty| system.get(name.name()).cloned().unwrap_or(Value::Null);
    let mut line = json!({
        "deviceId": stamped(SystemProperty::ConnectionDeviceId),
        "moduleId": stamped(SystemProperty::ConnectionModuleId),
        "enqueuedTime": event.enqueued_time,
        "sequenceNumber": event.sequence,
        "partition": event.partition,
        "source": stamped(SystemProperty::MessageSource),
        "systemProperties": system,
        "properties": properties,
    });
    if let Ok(body) = serde_json::from_slice::<Value>(&event.body) {
        line["body"] = body;
    } else {
        line["body"] = STANDARD.encode(&event.body).into();
        line["bodyEncoding"] = "base64".into();
    }
    line
}
