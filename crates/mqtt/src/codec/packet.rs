//! The packets as values. Wrong states are unspellable where that is cheap: a packet id is never zero, a QoS 0 publish has
//! none, and a text is UTF-8 of a length that the wire can carry.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::Deref;

use bytes::Bytes;

/// Identifies an exchange that is acknowledged; zero does not exist on the wire.
pub type PacketId = NonZeroU16;

/// UTF-8 without NUL, at most 65,535 bytes: a slice of the read buffer, so keep it no longer than the packet.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Text(Bytes);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a text that MQTT can carry")]
pub struct InvalidText;

impl Text {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when the text was made")
    }

    /// The bytes, sharing the buffer that the packet came in.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl TryFrom<Bytes> for Text {
    type Error = InvalidText;

    fn try_from(bytes: Bytes) -> Result<Self, InvalidText> {
        let is_utf8 = std::str::from_utf8(&bytes).is_ok();
        if bytes.len() > usize::from(u16::MAX) || bytes.contains(&0) || !is_utf8 {
            return Err(InvalidText);
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<&str> for Text {
    type Error = InvalidText;

    fn try_from(text: &str) -> Result<Self, InvalidText> {
        Self::try_from(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl TryFrom<String> for Text {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        Self::try_from(Bytes::from(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl Qos {
    pub(super) fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    pub fn bits(self) -> u8 {
        self as u8
    }
}

/// How a publish is delivered, with what only that way has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    AtMostOnce,
    AtLeastOnce { packet_id: PacketId, is_duplicate: bool },
    ExactlyOnce { packet_id: PacketId, is_duplicate: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub delivery: Delivery,
    pub retain: bool,
    pub topic: Text,
    pub payload: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub qos: Qos,
    pub retain: bool,
    pub topic: Text,
    pub payload: Bytes,
}

/// A password never comes without a user name. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user_name: Text,
    pub password: Option<Bytes>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("Login").field("user_name", &self.user_name).field("password", &password).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub client_id: Text,
    pub clean_session: bool,
    pub keep_alive_seconds: u16,
    pub will: Option<Will>,
    pub login: Option<Login>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectReturnCode {
    Accepted = 0,
    UnacceptableProtocolVersion = 1,
    IdentifierRejected = 2,
    ServerUnavailable = 3,
    BadUserNameOrPassword = 4,
    NotAuthorized = 5,
}

impl ConnectReturnCode {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    pub return_code: ConnectReturnCode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub packet_id: PacketId,
    /// Never empty when decoded.
    pub filters: Vec<(Text, Qos)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    pub packet_id: PacketId,
    /// One for each filter, in its order; `None` is a refusal (0x80).
    pub granted: Vec<Option<Qos>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub packet_id: PacketId,
    /// Never empty when decoded.
    pub filters: Vec<Text>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Box<Connect>),
    /// A CONNECT of another version of the protocol (3 or 5, usually), of which only the level is read.
    ForeignConnect {
        level: u8,
    },
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(PacketId),
    PubRec(PacketId),
    PubRel(PacketId),
    PubComp(PacketId),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(PacketId),
    PingReq,
    PingResp,
    Disconnect,
}
