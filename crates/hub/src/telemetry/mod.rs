//! Messages from devices: checked, stamped and appended to the hub's event stream, durable before they are acknowledged.
//! Doors build a `Message` from what the wire says and send it; the hub decides what a message may hold.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use base::caps;
use bytes::Bytes;
use store::{NewRecord, StoreError};

use crate::authentication::DeviceAuthentication;
use crate::error::Error;
use crate::hub::Hub;
use crate::sessions::{Session, Stamp};
pub use events::headers::{self, SystemProperty};
pub use events::stream::partition_of;

/// A message being put together. Properties are encoded as they come, so that nothing is copied twice.
pub struct Message {
    headers: Vec<u8>,
    size_bytes: usize,
}

/// A device that sends without a session, because each of its requests proves who it is.
pub struct Sender(Stamp);

impl Sender {
    /// A message of this device, with the hub's stamps in it.
    pub fn message(&self) -> Message {
        Message::stamped(&self.0)
    }
}

impl Session {
    /// A message of this connection, with the hub's stamps in it.
    pub fn message(&self) -> Message {
        Message::stamped(self.stamp())
    }
}

impl Message {
    fn stamped(stamp: &Stamp) -> Self {
        Self { headers: stamp.headers.clone(), size_bytes: 0 }
    }

    /// Sets a system property; a door sets each at most once. Only its value counts towards the size.
    pub fn system(&mut self, property: SystemProperty, value: &str) -> Result<(), Error> {
        // A device may send these names, but not have a say in them.
        if property.is_stamped() {
            return Ok(());
        }
        let is_id = matches!(property, SystemProperty::MessageId | SystemProperty::CorrelationId);
        if is_id && value.chars().count() > caps::MESSAGE_ID_CHARACTERS_MAX {
            let (name, max) = (property.name(), caps::MESSAGE_ID_CHARACTERS_MAX);
            return Err(Error::invalid(format!("{name} may have at most {max} characters.")));
        }
        self.grow(value.len())?;
        headers::push_system(&mut self.headers, property, value);
        Ok(())
    }

    /// Adds an application property; a door adds each name at most once.
    pub fn application(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if name.is_empty() {
            return Err(Error::invalid("A property needs a name."));
        }
        if is_reserved(name) {
            return Ok(());
        }
        self.grow(name.len() + value.len())?;
        headers::push_application(&mut self.headers, name, value);
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.size_bytes += bytes;
        check_size(self.size_bytes)
    }
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes <= caps::TELEMETRY_BYTES_MAX {
        return Ok(());
    }
    let max = caps::TELEMETRY_BYTES_MAX;
    Err(Error::MessageTooLarge(format!("The message exceeds the limit of {max} bytes.")))
}

/// Names under which back ends read what the hub stamps: a device may not lay its own words beside them.
fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("iothub-connection-") || name == "iothub-message-source" || name == "iothub-enqueuedtime"
}

impl Hub {
    /// Sends a message; durable when it returns.
    pub async fn send_telemetry(
        &self,
        session: &Session,
        message: Message,
        body: Bytes,
    ) -> Result<(), Error> {
        let (partition, record) = self.accept_telemetry(session, message, body)?;
        self.streams().append(self.event_stream(), partition, vec![record]).await?;
        self.measures().telemetry_stored.add(1);
        Ok(())
    }

    /// A device that has proved who it is and sends without a session.
    pub fn sender(&self, authentication: &DeviceAuthentication) -> Result<Sender, Error> {
        authentication.caller.require_identity(&authentication.identity, self.scope())?;
        Ok(Sender(Stamp::of(authentication, None, self.partition_count())))
    }

    /// Sends messages that together are as large as one may be; all of them are durable when it returns, or none is sent.
    pub async fn send_batch(&self, sender: &Sender, messages: Vec<(Message, Bytes)>) -> Result<(), Error> {
        let sizes = messages.iter().map(|(message, body)| message.size_bytes + body.len());
        check_size(sizes.sum())?;
        let records = messages.into_iter().map(|(message, body)| self.record(&sender.0, message, body));
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let count = records.len() as u64;
        self.streams().append(self.event_stream(), sender.0.partition, records).await?;
        self.measures().telemetry_stored.add(count);
        Ok(())
    }

    /// [`Self::send_telemetry`] without a task: `done` runs on the log's thread once the message is durable or refused, and
    /// must not block. Messages of one session become durable, and are reported, in the order they were sent.
    pub fn send_telemetry_with(
        &self,
        session: &Session,
        message: Message,
        body: Bytes,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        match self.accept_telemetry(session, message, body) {
            Err(error) => done(Err(error)),
            Ok((partition, record)) => {
                let measures = Arc::clone(self.measures());
                let done = move |result: Result<_, StoreError>| {
                    if result.is_ok() {
                        measures.telemetry_stored.add(1);
                    }
                    done(result.map(drop).map_err(Error::from));
                };
                self.streams().append_with(self.event_stream(), partition, vec![record], done);
            }
        }
    }

    /// Resolves when the stream takes more: await it before reading more from a device.
    pub async fn room_for_telemetry(&self) {
        self.streams().room().await;
    }

    /// Whether [`Self::room_for_telemetry`] would resolve at once.
    pub fn has_room_for_telemetry(&self) -> bool {
        self.streams().has_room()
    }

    fn accept_telemetry(
        &self,
        session: &Session,
        message: Message,
        body: Bytes,
    ) -> Result<(u32, NewRecord), Error> {
        let record = self.record(session.stamp(), message, body)?;
        session.touch();
        Ok((session.stamp().partition, record))
    }

    /// Counts a message against the hub's limits, and its own.
    fn record(&self, stamp: &Stamp, mut message: Message, body: Bytes) -> Result<NewRecord, Error> {
        let measures = self.measures();
        measures.telemetry_attempts.add(1);
        measures.telemetry_bytes.add(body.len() as u64);
        self.charge(base::Meter::DeviceToCloud).inspect_err(|_| measures.telemetry_throttled.add(1))?;
        message.grow(body.len())?;
        let (key, headers) = (stamp.device_id.clone(), message.headers.into());
        Ok(NewRecord { time: self.now(), key, headers, body })
    }
}
