//! What a domain crate puts into a batch to have an event told if, and only if, the batch commits.
//! The relay reads it; nobody else does.

use base::{InstanceId, Timestamp};
use store::{Batch, OutboxEntry};

use crate::route;

const VERSION: u8 = 2;
const BY_ROUTES: u8 = 0;
const TO_STREAM: u8 = 1;

/// An event on its way. `headers` are the bytes of [`crate::headers`]; body and headers reach every target unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub instance: InstanceId,
    /// Events with the same key keep their order. It also chooses the partition.
    pub partition_key: String,
    pub time: Timestamp,
    pub destination: Destination,
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Wherever the instance's routes say when the event is relayed.
    Routes,
    /// The event stream of the instance with this name.
    Stream(String),
}

/// Adds an event to a change. One for routes is written only if the instance has a route when the change commits: whoever makes
/// a route before that hears of the change, and whoever makes one later made it after the change.
pub fn push(batch: &mut Batch, envelope: &Envelope) {
    let entry = OutboxEntry {
        instance: envelope.instance.clone(),
        partition_key: envelope.partition_key.clone(),
        payload: envelope.encode(),
    };
    match envelope.destination {
        Destination::Routes => batch.outbox_for(route::count(&envelope.instance), entry),
        Destination::Stream(_) => batch.outbox(entry),
    }
}

impl Envelope {
    /// Version, destination, time, headers with their length, body. The outbox row holds instance and key.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.headers.len() + self.body.len() + 32);
        bytes.push(VERSION);
        match &self.destination {
            Destination::Routes => bytes.push(BY_ROUTES),
            Destination::Stream(name) => {
                bytes.push(TO_STREAM);
                push_bytes(&mut bytes, name.as_bytes());
            }
        }
        bytes.extend_from_slice(&self.time.ticks().to_le_bytes());
        push_bytes(&mut bytes, &self.headers);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// `None` for bytes that are not an envelope of ours.
    pub fn decode(instance: &InstanceId, partition_key: &str, payload: &[u8]) -> Option<Self> {
        let (&[version, kind], rest) = payload.split_first_chunk()?;
        let (destination, rest) = match kind {
            BY_ROUTES => (Destination::Routes, rest),
            TO_STREAM => {
                let (name, rest) = take_bytes(rest)?;
                (Destination::Stream(String::from_utf8(name.to_vec()).ok()?), rest)
            }
            _ => return None,
        };
        let (ticks, rest) = rest.split_first_chunk()?;
        let (headers, body) = take_bytes(rest)?;
        (version == VERSION).then(|| Self {
            instance: instance.clone(),
            partition_key: partition_key.to_owned(),
            time: Timestamp::from_ticks(i64::from_le_bytes(*ticks)),
            destination,
            headers: headers.to_vec(),
            body: body.to_vec(),
        })
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a message is far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_envelope_comes_back_as_it_went(
            key: String, name: Option<String>, ticks: i64, headers: Vec<u8>, body: Vec<u8>,
        ) {
            let envelope = Envelope {
                instance: InstanceId::from_stored("i"),
                partition_key: key,
                time: Timestamp::from_ticks(ticks),
                destination: name.map_or(Destination::Routes, Destination::Stream),
                headers,
                body,
            };
            let back = Envelope::decode(&envelope.instance, &envelope.partition_key, &envelope.encode());
            prop_assert_eq!(back, Some(envelope));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
            let _ = Envelope::decode(&InstanceId::from_stored("i"), "", &bytes);
        }
    }
}
