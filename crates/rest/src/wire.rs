//! HTTP requests and responses as the doors see them. Parsed once here; nothing in it knows a service.

use std::net::IpAddr;
use std::pin::Pin;

use access::{Denied, Right, TokenError};
use base::hosts::Dialled;
use base::{IfMatch, Lacks, Who};
use bytes::Bytes;
use entrance::Peer;
use futures_util::Stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::websocket::{self, SubProtocol, Unacceptable};

pub const JSON: &str = "application/json; charset=utf-8";

/// Everything of a request but its body: what routing and authentication look at.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: Method,
    /// The path as it was sent.
    pub raw_path: String,
    /// The path's segments, percent-decoded, without empty ones: `/devices/` is `["devices"]`.
    pub segments: Vec<String>,
    query: Vec<(String, String)>,
    pub raw_query: String,
    pub headers: HeaderMap,
    /// The `Host` header or `:authority`, with its port.
    pub host: String,
    pub peer: Peer,
    /// Of our own making: what the answer and the log call this request.
    pub request_id: Uuid,
    /// What cannot be read of it. Such a request still finds the door that refuses it.
    pub malformed: Option<Malformed>,
    /// Whether it wants the connection to become a WebSocket.
    pub wants_websocket: bool,
}

/// The host that a request names. HTTP/1.0 need not name one: then it is the address that was dialled.
fn host_of(parts: &http::request::Parts, peer: &Peer) -> Option<String> {
    let mut named = parts.headers.get_all(http::header::HOST).iter();
    let (first, second) = (named.next(), named.next());
    if second.is_some() {
        return None;
    }
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str().to_owned());
    }
    match first {
        Some(host) => host.to_str().ok().map(str::to_owned),
        None if parts.version < http::Version::HTTP_11 => peer.local.map(|address| address.to_string()),
        None => None,
    }
}

/// What makes a request unreadable before anyone looks at what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// There is no `Host`, or more than one, or it is no text (RFC 9112 §3.2).
    Host,
    /// The path or the query is not UTF-8 once it is decoded.
    Encoding,
    /// A `%` in the path is no escape: read as it stands, it would name what `%25` in its place names too.
    Escape,
    /// It asks for a WebSocket in a way that none can be had.
    WebSocket(Unacceptable),
}

impl Malformed {
    pub fn text(self) -> &'static str {
        match self {
            Self::Host => "The request must have one Host header.",
            Self::Encoding => "The path or the query is not UTF-8.",
            Self::WebSocket(why) => why.text(),
            Self::Escape => "A '%' in the path must be followed by two hexadecimal digits.",
        }
    }
}

impl Head {
    pub fn new(parts: &http::request::Parts, peer: Peer) -> Self {
        let mut malformed = None;
        let host = host_of(parts, &peer).unwrap_or_else(|| {
            malformed = Some(Malformed::Host);
            String::new()
        });
        let mut decode = |text: &str| {
            let bytes = percent_decode_str(text);
            if bytes.clone().decode_utf8().is_err() {
                malformed = Some(Malformed::Encoding);
            }
            bytes.decode_utf8_lossy().into_owned()
        };
        let raw_path = parts.uri.path().to_owned();
        let segments = raw_path.split('/').filter(|s| !s.is_empty()).map(&mut decode).collect();
        let raw_query = parts.uri.query().unwrap_or_default().to_owned();
        let pairs = raw_query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
            })
            .collect();
        let is_escape =
            |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        if !raw_path.split('%').skip(1).all(is_escape) {
            malformed = malformed.or(Some(Malformed::Escape));
        }
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let request_id = Uuid::new_v4();
        let wants_websocket = websocket::is_wanted(parts);
        Self {
            method,
            raw_path,
            segments,
            query,
            raw_query,
            headers,
            host,
            peer,
            request_id,
            malformed,
            wants_websocket,
        }
    }

    /// What the client called us, and where it reached us.
    pub fn dialled(&self) -> Dialled {
        Dialled::new(Some(&self.host), self.local())
    }

    /// The address of ours that took the call.
    pub fn local(&self) -> Option<IpAddr> {
        self.peer.local_address()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `If-Match`. One that is sent twice or is no text is a tag that nothing has; it must not count as absent.
    pub fn if_match(&self) -> IfMatch {
        let values = self.headers.get_all(http::header::IF_MATCH).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        IfMatch::parse((!values.is_empty()).then(|| values.join(", ")).as_deref())
    }

    /// The first value of a query parameter; names compare without case. A name without `=` has the empty value.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All of them, decoded, in their order.
    pub fn query_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn query_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn api_version(&self) -> Option<&str> {
        self.query("api-version").filter(|version| !version.is_empty())
    }

    pub fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// The token of `Authorization: Bearer …`.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.authorization()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// Scheme and host as the client dialled us, for absolute links.
    pub fn base_url(&self) -> String {
        format!("https://{}", self.host)
    }
}

/// A request that has been routed, authenticated and read.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: Head,
    pub body: Bytes,
    pub(crate) params: Vec<(&'static str, String)>,
}

impl std::ops::Deref for Request {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Request {
    /// The decoded path segment that the route's template names `{name}`.
    pub fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.as_str()).expect("a handler reads only the names of its own template")
    }

    /// Whether the route's template has a segment `{name}`, for handlers of more than one route.
    pub fn has_param(&self, name: &str) -> bool {
        self.params.iter().any(|(n, _)| *n == name)
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

pub type BodyStream = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

pub enum Body {
    Full(Bytes),
    /// A body that is produced while it is sent, such as followed events.
    Stream(BodyStream),
}

pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
    /// Set where the answer keeps somebody out.
    pub refused: Option<Box<Refused>>,
    /// Set where the connection becomes a WebSocket behind the answer.
    pub websocket: Option<SubProtocol>,
}

/// Why somebody without any, or with such as cannot be read, is refused.
pub(crate) const NO_CREDENTIALS: &str = "it presented no credentials";
pub(crate) const NO_SIGNATURE: &str = "what it presented is no shared access signature";

/// Whom an answer keeps out, and why: for the log and the counters. None of it goes over the wire.
#[derive(Clone, Debug)]
pub struct Refused {
    pub who: Who,
    pub why: &'static str,
    pub lacks: Option<Lacks>,
}

impl Refused {
    pub fn stranger(why: &'static str) -> Self {
        Self { who: Who::Stranger, why, lacks: None }
    }

    pub fn caller(name: &str, why: &'static str) -> Self {
        Self { who: Who::Caller(name.to_owned()), why, lacks: None }
    }

    /// The holder of a policy's key, where there is a policy of the name.
    pub fn policy(name: Option<&str>, why: &'static str) -> Self {
        name.map_or_else(|| Self::stranger(why), |name| Self::caller(name, why))
    }

    /// Whoever presented a token that is not taken.
    pub fn token(error: &TokenError) -> Self {
        Self::policy(error.principal(), error.why())
    }

    pub fn device(id: &str, why: &'static str) -> Self {
        Self { who: Who::Device(id.to_owned()), why, lacks: None }
    }

    /// Somebody known who may not do this.
    pub fn denied(denied: &Denied) -> Self {
        let name = if denied.name.is_empty() { &denied.object_id } else { &denied.name };
        let right = denied.right.map(Right::name);
        let lacks = Lacks { action: denied.action, right, scope: denied.scope.to_string() };
        Self { lacks: Some(lacks), ..Self::caller(name, "it lacks the permission") }
    }
}

impl Response {
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (headers, body) = (HeaderMap::new(), Body::Full(Bytes::new()));
        Self { status, headers, body, refused: None, websocket: None }
    }

    /// Without body, but with `Content-Length: 0` where the protocol lets it be said.
    pub fn empty(status: u16) -> Self {
        Self::new(status).header(CONTENT_LENGTH.as_str(), "0")
    }

    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("wire structs are plain data");
        Self::bytes(status, JSON, body)
    }

    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::bytes(status, "text/plain; charset=utf-8", text.into())
    }

    pub fn bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut response = Self::new(status).header(CONTENT_TYPE.as_str(), content_type);
        response.body = Body::Full(body.into());
        response
    }

    pub fn stream(status: u16, content_type: &str, body: BodyStream) -> Self {
        let mut response = Self::new(status).header(CONTENT_TYPE.as_str(), content_type);
        response.body = Body::Stream(body);
        response
    }

    /// Says whom the answer keeps out.
    #[must_use]
    pub fn refusing(mut self, refused: Refused) -> Self {
        self.refused = Some(Box::new(refused));
        self
    }

    /// Sets a header. Characters that a header cannot carry are replaced, so that a message never breaks an answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("header names are constants of the doors");
        let clean: String = value.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
        self.headers.insert(name, HeaderValue::from_str(&clean).expect("only printable ASCII is left"));
        self
    }

    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The bytes of a full body; empty for a stream.
    pub fn body_bytes(&self) -> Bytes {
        match &self.body {
            Body::Full(bytes) => bytes.clone(),
            Body::Stream(_) => Bytes::new(),
        }
    }

    pub fn body_json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body_bytes()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body_bytes()).into_owned();
        write!(f, "{} {:?} {body}", self.status, self.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(values: &[&[u8]]) -> IfMatch {
        let mut request = http::Request::builder().uri("/").header("host", "h");
        for value in values {
            request = request.header("if-match", *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Head::new(&parts, Peer::default()).if_match()
    }

    #[test]
    fn an_if_match_that_makes_no_sense_does_not_count_as_absent() {
        assert_eq!(if_match(&[]), IfMatch::Absent);
        assert_eq!(if_match(&[b"\"*\""]), IfMatch::Any);
        assert_eq!(if_match(&[b"\"abc=\""]), IfMatch::Tag("abc=".into()));
        let senseless: [&[&[u8]]; 4] = [&[b"\xff"], &[b"*\xe4"], &[b"*", b"*"], &[b"abc=", b"abc="]];
        for values in senseless {
            let IfMatch::Tag(tag) = if_match(values) else { panic!("{values:?}") };
            assert_ne!(tag, "abc=");
        }
    }
}
