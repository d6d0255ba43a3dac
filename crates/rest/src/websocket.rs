//! The request with which a connection of HTTP/1.1 becomes a WebSocket (RFC 6455 §4.2), and what is spoken on it then. The
//! sub-protocol chooses the door (`iothub-device.md` §1.1, `dps.md` §1.3); that door asks who comes, so nobody is asked here.

use aws_lc_rs::digest;
use base::caps;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, Version};

use crate::router::{Door, Fault, Routes};
use crate::wire::{Head, Malformed, Response};

/// As `/metrics` calls it.
pub(crate) const OPERATION: &str = "WebSocket";
/// The one version there is.
const VERSION: &str = "13";
/// What every server puts behind a client's key (RFC 6455 §1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
const MQTT: &str = "mqtt";
const AMQP: &str = "AMQPWSB10";

/// What is spoken on a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubProtocol {
    Mqtt,
}

impl SubProtocol {
    /// As much as the door takes in one packet.
    pub(crate) fn message_bytes_max(self) -> usize {
        match self {
            Self::Mqtt => caps::MQTT_PACKET_BYTES_MAX,
        }
    }

    fn named(name: &str) -> Option<Result<Self, Fault>> {
        // The SDK for C writes it in capitals.
        if name.eq_ignore_ascii_case(MQTT) {
            return Some(Ok(Self::Mqtt));
        }
        // Its door is not there yet.
        name.eq_ignore_ascii_case(AMQP).then_some(Err(Fault::NotBuilt { operation: "AMQP over WebSockets" }))
    }
}

/// Why a connection cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacceptable {
    NotWanted,
    Version,
    Key,
    SubProtocol,
}

impl Unacceptable {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NotWanted => {
                "This path is a WebSocket: it takes requests of HTTP/1.1 with 'Connection: Upgrade' and 'Upgrade: websocket'."
            }
            Self::Version => "The version of a WebSocket must be 13, in one header 'Sec-WebSocket-Version'.",
            Self::Key => "A WebSocket needs one header 'Sec-WebSocket-Key' that is 16 bytes in base64.",
            Self::SubProtocol => "A WebSocket needs a header 'Sec-WebSocket-Protocol' that names 'mqtt'.",
        }
    }
}

/// The paths at which clients ask for one. Those of provisioning in C# and Java take the root.
pub(crate) fn routes<D: Door>() -> Routes<D> {
    Routes::new().websocket("/$iothub/websocket").websocket("/")
}

/// Whether a request asks for a WebSocket, however well.
pub(crate) fn is_wanted(parts: &http::request::Parts) -> bool {
    let has = |name, token: &str| tokens(&parts.headers, &name).any(|one| one.eq_ignore_ascii_case(token));
    parts.version == Version::HTTP_11 && has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// The answer behind which the connection is a WebSocket.
pub(crate) fn answer(head: &Head) -> Result<Response, Fault> {
    let faulty = |why| Fault::Malformed(Malformed::WebSocket(why));
    if !head.wants_websocket {
        return Err(faulty(Unacceptable::NotWanted));
    }
    if only(&head.headers, &SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(faulty(Unacceptable::Version));
    }
    let is_key = |key: &&str| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    let key = only(&head.headers, &SEC_WEBSOCKET_KEY).filter(is_key).ok_or(faulty(Unacceptable::Key))?;
    let mut named = tokens(&head.headers, &SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|name| SubProtocol::named(name).map(|protocol| (name, protocol)));
    let (name, protocol) = named.next().ok_or(faulty(Unacceptable::SubProtocol))?;
    let response = Response::new(101)
        .header(CONNECTION.as_str(), "Upgrade")
        .header(UPGRADE.as_str(), "websocket")
        .header("sec-websocket-accept", &accepted(key))
        .header(SEC_WEBSOCKET_PROTOCOL.as_str(), name);
    Ok(Response { websocket: Some(protocol?), ..response })
}

/// A refusal says which version there is, whatever was wrong.
pub(crate) fn with_version(refusal: Response) -> Response {
    refusal.header(SEC_WEBSOCKET_VERSION.as_str(), VERSION)
}

/// What proves that the server has understood the key.
fn accepted(key: &str) -> String {
    let mut sum = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    sum.update(key.as_bytes());
    sum.update(KEY_SUFFIX);
    STANDARD.encode(sum.finish())
}

/// The members of a list, which may be spread over several headers.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The value of a header that is sent once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok().map(str::trim) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_standard_shows() {
        assert_eq!(accepted("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
