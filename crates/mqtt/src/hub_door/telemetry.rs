//! Telemetry: the property bag's keys and the publish's flags become the properties of a message (`iothub-device.md` §2.4, §3.3).
//! What a message may hold and how large it may be is the hub's to say.

use hub::Session;
use hub::telemetry::{Message, SystemProperty};

use crate::codec::{Delivery, Publish, Will};
use crate::topic::from_device::telemetry_bag;
use crate::{link::End, property_bag};

/// The wire's name of each system property.
const SYSTEM_PROPERTIES: &[(&str, SystemProperty)] = &[
    ("$.mid", SystemProperty::MessageId),
    ("$.cid", SystemProperty::CorrelationId),
    ("$.uid", SystemProperty::UserId),
    ("$.to", SystemProperty::To),
    ("$.ct", SystemProperty::ContentType),
    ("$.ce", SystemProperty::ContentEncoding),
    ("$.exp", SystemProperty::AbsoluteExpiryTime),
    ("$.ctime", SystemProperty::CreationTimeUtc),
    ("$.schema", SystemProperty::MessageSchema),
    ("$.on", SystemProperty::OutputName),
    ("$.ifid", SystemProperty::InterfaceId),
    ("$.sub", SystemProperty::Subject),
    ("$.diagid", SystemProperty::DiagnosticId),
    ("$.diagctx", SystemProperty::CorrelationContext),
];

const RETAIN: &str = "mqtt-retain";
const DUPLICATE: &str = "mqtt-dup";
const MESSAGE_TYPE: &str = "iothub-MessageType";

/// The message that a publish stands for.
pub(super) fn message(session: &Session, publish: &Publish, bag: &str) -> Result<Message, End> {
    let is_duplicate = matches!(publish.delivery, Delivery::AtLeastOnce { is_duplicate: true, .. });
    let flags = [(RETAIN, "true", publish.retain), (DUPLICATE, "true", is_duplicate)];
    build(session, bag, flags)
}

/// Sends what the device left to be said if it went without a word; durable when it returns.
pub(super) async fn publish_will(session: &Session, will: &Will) -> Result<(), hub::Error> {
    let bag = telemetry_bag(&will.topic, session.identity()).unwrap_or_default();
    let flags = [(RETAIN, "true", will.retain), (MESSAGE_TYPE, "Will", true)];
    match build(session, bag, flags) {
        Ok(message) => session.hub().send_telemetry(session, message, will.payload.clone()).await,
        // Its bag was read at CONNECT; only its size can be wrong.
        Err(_) => Ok(()),
    }
}

fn build(session: &Session, bag: &str, flags: [(&str, &str, bool); 2]) -> Result<Message, End> {
    let properties = property_bag::parse(bag).map_err(|_| End::Violation("a malformed property bag"))?;
    let mut message = session.message();
    for (key, value) in &properties {
        let is_ours = flags.iter().any(|(name, _, is_set)| *is_set && name == key);
        if !is_ours {
            add(&mut message, key, value)?;
        }
    }
    for (name, value, is_set) in flags {
        if is_set {
            message.application(name, value)?;
        }
    }
    Ok(message)
}

fn add(message: &mut Message, key: &str, value: &str) -> Result<(), hub::Error> {
    if let Some((_, property)) = SYSTEM_PROPERTIES.iter().find(|(wire, _)| *wire == key) {
        return message.system(*property, value);
    }
    // Keys of the system that a device does not set, or that nobody knows; and the stamps, which it cannot fake.
    if key.starts_with("$.") || key.starts_with("iothub-connection-") {
        tracing::debug!(key, "a property was left out");
        return Ok(());
    }
    message.application(key, value)
}
