//! A message for a device as its sender gives it, what it may hold, and what its sender wants to hear (`iothub-device.md` §4.2). Pure.

use std::time::Duration;

use base::{Timestamp, caps};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::QueuedMessage;
use crate::error::Error;
use crate::lock::LockToken;

/// What a sender says of its message. Names are those of AMQP's properties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The address as the sender spelled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// When it expires, if its sender says so and not the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute_expiry_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// In the sender's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub application: Vec<(String, String)>,
}

/// Which ends of a message its sender wants to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    None,
    Positive,
    Negative,
    Full,
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Success,
    Expired,
    DeliveryCountExceeded,
    Rejected,
    Purged,
}

impl Ack {
    pub const ALL: [Self; 4] = [Self::None, Self::Positive, Self::Negative, Self::Full];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Full => "full",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ack| ack.name().eq_ignore_ascii_case(text))
    }

    /// A purge is told to whoever asked for anything.
    pub(crate) fn wants(self, outcome: Outcome) -> bool {
        match self {
            Self::None => false,
            Self::Full => true,
            Self::Positive => matches!(outcome, Outcome::Success | Outcome::Purged),
            Self::Negative => outcome != Outcome::Success,
        }
    }
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Expired => "Expired",
            Self::DeliveryCountExceeded => "DeliveryCountExceeded",
            Self::Rejected => "Rejected",
            Self::Purged => "Purged",
        }
    }
}

/// A message as a device receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub sequence: u64,
    pub properties: Properties,
    pub body: Bytes,
    pub enqueued: Timestamp,
    pub expires: Timestamp,
    pub delivery_count: u32,
    /// Of one who has to settle it by a request of its own.
    pub lock_token: Option<LockToken>,
}

impl Received {
    pub(crate) fn of(message: &QueuedMessage) -> Self {
        Self {
            sequence: message.sequence,
            properties: message.properties.clone(),
            body: message.body.clone(),
            enqueued: message.enqueued,
            expires: message.expires,
            delivery_count: message.delivery_count,
            lock_token: message.lock.map(|lock| lock.token),
        }
    }
}

/// Refuses what a message may not hold.
pub(crate) fn check(properties: &Properties, body: &Bytes) -> Result<(), Error> {
    for (name, id) in [("message-id", &properties.message_id), ("correlation-id", &properties.correlation_id)]
    {
        let is_too_long = |id: &String| id.is_empty() || id.chars().count() > caps::MESSAGE_ID_CHARACTERS_MAX;
        if id.as_ref().is_some_and(is_too_long) {
            let max = caps::MESSAGE_ID_CHARACTERS_MAX;
            return Err(Error::invalid(format!("{name} must have between 1 and {max} characters.")));
        }
    }
    if properties.application.iter().any(|(name, _)| name.is_empty()) {
        return Err(Error::invalid("A property needs a name."));
    }
    let texts = [
        &properties.message_id,
        &properties.correlation_id,
        &properties.user_id,
        &properties.content_type,
        &properties.content_encoding,
    ];
    let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
    let application =
        properties.application.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if body.len() + texts + application > caps::CLOUD_TO_DEVICE_BYTES_MAX {
        let max = caps::CLOUD_TO_DEVICE_BYTES_MAX;
        return Err(Error::MessageTooLarge(format!("The message exceeds the limit of {max} bytes.")));
    }
    Ok(())
}

/// When a message expires: when its sender says, within what the service allows, else after the hub's time.
pub(crate) fn expiry(
    sent: Option<Timestamp>,
    default_ttl: Duration,
    now: Timestamp,
) -> Result<Timestamp, Error> {
    let Some(sent) = sent else { return Ok(now.plus(default_ttl)) };
    let last = now.plus(Duration::from_secs(caps::CLOUD_TO_DEVICE_TTL_SECONDS_MAX));
    if sent <= now || sent > last { Err(Error::InvalidMessageExpiryTime) } else { Ok(sent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_hears_of_the_ends_that_it_asked_for() {
        use Outcome::{DeliveryCountExceeded, Expired, Purged, Rejected, Success};
        let told = |ack: Ack| {
            let all = [Success, Expired, DeliveryCountExceeded, Rejected, Purged];
            all.into_iter().filter(|outcome| ack.wants(*outcome)).collect::<Vec<_>>()
        };
        assert_eq!(told(Ack::None), []);
        assert_eq!(told(Ack::Positive), [Success, Purged]);
        assert_eq!(told(Ack::Negative), [Expired, DeliveryCountExceeded, Rejected, Purged]);
        assert_eq!(told(Ack::Full).len(), 5);
        assert_eq!((Ack::parse("Full"), Ack::parse("both")), (Some(Ack::Full), None));
    }

    #[test]
    fn a_message_expires_within_two_days_and_not_before_it_is_sent() {
        let (now, hour) = (Timestamp::from_unix_seconds(1000), Duration::from_hours(1));
        assert_eq!(expiry(None, hour, now), Ok(now.plus(hour)));
        assert_eq!(expiry(Some(now.plus(hour * 48)), hour, now), Ok(now.plus(hour * 48)));
        for sent in [now, now.minus(hour), now.plus(hour * 49)] {
            assert_eq!(expiry(Some(sent), hour, now), Err(Error::InvalidMessageExpiryTime));
        }
    }

    #[test]
    fn properties_and_body_share_the_room_of_a_message() {
        let of = |value: usize| Properties {
            application: vec![("a".into(), "x".repeat(value))],
            ..Properties::default()
        };
        let body = Bytes::from(vec![0; 1000]);
        let room = caps::CLOUD_TO_DEVICE_BYTES_MAX - 1001;
        assert_eq!(check(&of(room), &body), Ok(()));
        assert!(matches!(check(&of(room + 1), &body), Err(Error::MessageTooLarge(_))));
        let long = Some("x".repeat(caps::MESSAGE_ID_CHARACTERS_MAX + 1));
        for message_id in [long, Some(String::new())] {
            let properties = Properties { message_id, ..Properties::default() };
            assert!(matches!(check(&properties, &body), Err(Error::ArgumentInvalid(_))));
        }
    }
}
