//! `GET /_twinhub/events`: the events of a hub or of an event hub of ours as JSON lines, to their present end or followed.
//! What `twinhub events` prints. A line with `lost` tells of events that the disk damaged, one with `error` that the reading ends
//! before the events do.

use base::hosts::Service;
use base::tasks::Stopping;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use events::headers::{Property, SystemProperty};
use events::{Event, EventStream, Lost, Reader, Start, Step};
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
    let reader = match Reader::new(stream, start, follow).await {
        Ok(reader) => reader,
        Err(store) => {
            tracing::error!(error = %store, "an event stream could not be read");
            return error(500, "StreamFailed", "The stream cannot be read.");
        }
    };
    let lines = Lines { reader: Some(reader), stopping: door.0.tasks.stopping() };
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
    /// None once it failed.
    reader: Option<Reader>,
    stopping: Stopping,
}

impl Lines {
    fn into_body(self) -> BodyStream {
        Box::pin(stream::unfold(self, |mut lines| async move { Some((lines.next().await?, lines)) }))
    }

    /// `None` at the end, at shutdown, and when the stream is gone.
    async fn next(&mut self) -> Option<Bytes> {
        let step = tokio::select! {
            () = self.stopping.wait() => return None,
            step = self.reader.as_mut()?.next() => step,
        };
        match step {
            Ok(step) => step
                .map(|Step { lost, events }| text(lost.iter().map(lost_line).chain(events.iter().map(line)))),
            Err(error) => {
                tracing::warn!(%error, "events cannot be read");
                self.reader = None;
                Some(text(
                    [json!({"error": "Events cannot be read; the server's log says why."})].into_iter(),
                ))
            }
        }
    }
}

fn text(lines: impl Iterator<Item = Value>) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, &line).expect("a line is plain JSON");
        text.push(b'\n');
    }
    text.into()
}

/// Events that are not there any more.
fn lost_line(lost: &Lost) -> Value {
    json!({"lost": {
        "stream": lost.stream.as_str(),
        "partition": lost.partition,
        "firstSequenceNumber": lost.first_sequence,
        "lastSequenceNumber": lost.next_sequence - 1,
        "segment": lost.segment,
        "position": lost.position,
        "message": lost.to_string(),
    }})
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
