//! A door over a store in memory with one hub, its callers, a small client, and the list of every operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use access::{Directory, SharedAccessPolicy};
use base::hosts::{Hosts, NoMachine};
use base::meter::{Limits, Throttled};
use base::{Clock, InstanceId, Key, Meter, Throttle, sas};
use bytes::Bytes;
use hub::{Hub, Hubs};
use serde_json::{Value, json};
use store::Streams;
use test_house::{Ground, House};

use super::file_uploads::Shelf;
use crate::front::{AnyDoor, mount};
use crate::hub::HubDoor;
use crate::test_wire;
use crate::wire::Response;
use entrance::Peer;

pub(super) const HOST: &str = "hub.azure-devices.localhost";
pub(super) const VERSION: &str = "api-version=2021-04-12";
/// Every operation of this door, with a body that it takes.
pub(super) const OPERATIONS: &[(&str, &str, &str)] = &[
    ("GET", "/devices", ""),
    ("POST", "/devices", r#"[{"id":"dev1","importMode":"update"}]"#),
    ("GET", "/devices/dev1", ""),
    ("PUT", "/devices/dev1", "{}"),
    ("DELETE", "/devices/dev1", ""),
    ("GET", "/devices/dev1/modules", ""),
    ("GET", "/devices/dev1/modules/mod1", ""),
    ("PUT", "/devices/dev1/modules/mod1", "{}"),
    ("DELETE", "/devices/dev1/modules/mod1", ""),
    ("GET", "/twins/dev1", ""),
    ("PATCH", "/twins/dev1", r#"{"tags":{"changed":1}}"#),
    ("PUT", "/twins/dev1", r#"{"tags":{"changed":1}}"#),
    ("GET", "/twins/dev1/modules/mod1", ""),
    ("PATCH", "/twins/dev1/modules/mod1", r#"{"tags":{"changed":1}}"#),
    ("PUT", "/twins/dev1/modules/mod1", r#"{"tags":{"changed":1}}"#),
    ("POST", "/devices/query", r#"{"query":"SELECT * FROM devices"}"#),
    ("POST", "/twins/dev1/methods", r#"{"methodName":"reboot"}"#),
    ("POST", "/twins/dev1/modules/mod1/methods", r#"{"methodName":"reboot"}"#),
    ("GET", "/digitaltwins/dev1", ""),
    ("PATCH", "/digitaltwins/dev1", r#"[{"op":"add","path":"/changed","value":1}]"#),
    ("POST", "/digitaltwins/dev1/commands/reboot", "{}"),
    ("POST", "/digitaltwins/dev1/components/thermostat1/commands/reboot", "{}"),
    ("GET", "/statistics/devices", ""),
    ("GET", "/statistics/service", ""),
    ("GET", "/jobs/v2/job1", ""),
    (
        "PUT",
        "/jobs/v2/job1",
        r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"changed":1}}}"#,
    ),
    ("POST", "/jobs/v2/job1/cancel", ""),
    ("GET", "/jobs/v2/query", ""),
    ("GET", "/jobs", ""),
    (
        "POST",
        "/jobs/create",
        r#"{"type":"export","outputBlobContainerUri":"https://account.example/files?sig=x"}"#,
    ),
    ("GET", "/jobs/job1", ""),
    ("DELETE", "/jobs/job1", ""),
    ("GET", "/configurations", ""),
    ("POST", "/configurations/testQueries", r#"{"targetCondition":"tags.a = 1"}"#),
    ("GET", "/configurations/cfg1", ""),
    (
        "PUT",
        "/configurations/cfg1",
        r#"{"content":{"deviceContent":{"properties.desired.changed":1}},"targetCondition":"*"}"#,
    ),
    ("DELETE", "/configurations/cfg1", ""),
    (
        "POST",
        "/devices/dev1/applyConfigurationContent",
        r#"{"deviceContent":{"properties.desired.changed":1}}"#,
    ),
    ("DELETE", "/devices/dev1/commands", ""),
    ("GET", "/messages/serviceBound/feedback", ""),
    ("DELETE", "/messages/serviceBound/feedback/00000000-0000-0007-ffff-fffffffffffe", ""),
    ("POST", "/messages/serviceBound/feedback/00000000-0000-0007-ffff-fffffffffffe/abandon", ""),
    ("GET", "/messages/serviceBound/filenotifications", ""),
    ("DELETE", "/messages/serviceBound/filenotifications/00000000-0000-0007-ffff-fffffffffffe", ""),
    ("POST", "/messages/serviceBound/filenotifications/00000000-0000-0007-ffff-fffffffffffe/abandon", ""),
];

/// Whether an operation is of the queue of messages to a device, or of feedback on them: none has an etag or a body.
pub(super) fn is_of_messages(path: &str) -> bool {
    path.ends_with("/commands") && !path.starts_with("/digitaltwins/") || path.starts_with("/messages/")
}

/// Jobs have no etags of their own.
pub(super) fn is_of_jobs(path: &str) -> bool {
    path.starts_with("/jobs/")
}

/// Configurations take etags in one form only.
pub(super) fn is_of_configurations(path: &str) -> bool {
    path.starts_with("/configurations/")
}

/// Throttles everything, once it is told to.
#[derive(Default)]
pub(super) struct Limiter(pub(super) AtomicBool);

impl Limits for Limiter {
    fn charge(&self, _: Meter, _: &InstanceId) -> Result<(), Throttled> {
        let is_closed = self.0.load(Ordering::Relaxed);
        if is_closed { Err(Throttled { retry_after: Duration::from_secs(10) }) } else { Ok(()) }
    }
}

pub(super) struct TestDoor {
    pub(super) door: Arc<dyn AnyDoor>,
    pub(super) limiter: Arc<Limiter>,
    pub(super) hubs: Hubs,
    pub(super) hub: Hub,
    pub(super) clock: Clock,
    pub(super) directory: Directory,
    pub(super) streams: Streams,
    /// What devices have uploaded.
    pub(super) files: Arc<Shelf>,
}

/// One request, built up and sent.
pub(super) struct Ask<'a> {
    test: &'a TestDoor,
    method: &'a str,
    path: &'a str,
    query: String,
    host: &'a str,
    authorization: Option<String>,
    if_match: Vec<&'a [u8]>,
    headers: Vec<(&'a str, &'a str)>,
    body: String,
    remote: Option<&'a str>,
    certificates: Vec<Bytes>,
}

impl TestDoor {
    /// A hub with the device `dev1`, its module `mod1`, and the configuration `cfg1`, which is for nobody.
    pub(super) async fn new() -> Self {
        let clock = Clock::manual("2026-01-02T03:04:05.1234567Z".parse().unwrap());
        let (limiter, files) = (Arc::new(Limiter::default()), Arc::new(Shelf::default()));
        let hosts = Hosts::new("localhost", 443, NoMachine);
        let ground = Ground {
            throttle: Throttle::with(limiter.clone()),
            file_storage: files.clone(),
            ..Ground::new(clock.clone(), "localhost", hosts)
        };
        let house = House::on(ground).await;
        let hub = house.hub("hub").await;
        let House { hubs, directory, streams, .. } = house;
        let door = mount(HubDoor { hubs: hubs.clone(), directory: directory.clone(), clock: clock.clone() });
        let test = Self { door, limiter, hubs, hub, clock, directory, streams, files };
        test.owner("PUT", "/devices/dev1", "{}").await.status_is(200);
        test.owner("PUT", "/devices/dev1/modules/mod1", "{}").await.status_is(200);
        let nothing = r#"{"content":{"deviceContent":{}}}"#;
        test.owner("PUT", "/configurations/cfg1", nothing).await.status_is(200);
        test
    }

    pub(super) fn policy(&self, name: &str) -> SharedAccessPolicy {
        self.hub.settings().policy(name).unwrap().clone()
    }

    pub(super) fn token_of(&self, policy: &str) -> String {
        self.token(HOST, &self.policy(policy).primary_key, Some(policy), 3600)
    }

    pub(super) fn token(&self, resource: &str, key: &Key, key_name: Option<&str>, seconds: i64) -> String {
        let expires_at = base::Timestamp::from_unix_seconds(self.clock.now().unix_seconds() + seconds);
        sas::build(resource, key, expires_at, key_name)
    }

    pub(super) fn ask<'a>(&'a self, method: &'a str, path: &'a str, body: &str) -> Ask<'a> {
        Ask {
            test: self,
            method,
            path,
            query: VERSION.to_owned(),
            host: HOST,
            authorization: None,
            if_match: Vec::new(),
            headers: Vec::new(),
            body: body.to_owned(),
            remote: None,
            certificates: Vec::new(),
        }
    }

    pub(super) async fn owner(&self, method: &str, path: &str, body: &str) -> Response {
        self.ask(method, path, body).by_owner().send().await
    }

    /// A bearer token of a new application that has `roles` on the hub.
    pub(super) async fn bearer(&self, roles: &[&str], audience: &str) -> String {
        let principal = self.directory.create_service_principal("app").await.unwrap();
        for role in roles {
            test_wire::grant(&self.directory, &principal, role, self.hub.scope().as_str()).await;
        }
        format!("Bearer {}", test_wire::token(&self.directory, &principal, audience).await)
    }

    /// Everything that an operation of this door could have changed.
    pub(super) async fn state(&self) -> String {
        let mut state = String::new();
        for path in [
            "/devices",
            "/devices/dev1/modules",
            "/twins/dev1",
            "/twins/dev1/modules/mod1",
            "/statistics/devices",
        ] {
            let response = self.owner("GET", path, "").await;
            state.push_str(std::str::from_utf8(&response.body_bytes()).unwrap());
        }
        // Their metrics are counted meanwhile.
        for one in self.owner("GET", "/configurations", "").await.body_json().as_array().unwrap() {
            let text = format!("{}{}{}", one["id"], one["etag"], one["content"]);
            state.push_str(&text);
        }
        state
    }
}

impl<'a> Ask<'a> {
    pub(super) fn by_owner(self) -> Self {
        let token = self.test.token_of("iothubowner");
        self.with(token)
    }

    pub(super) fn with(mut self, authorization: String) -> Self {
        self.authorization = Some(authorization);
        self
    }

    pub(super) fn if_match(self, tag: &'a str) -> Self {
        self.if_matches(&[tag.as_bytes()])
    }

    /// One header for each tag.
    pub(super) fn if_matches(mut self, tags: &[&'a [u8]]) -> Self {
        self.if_match = tags.to_vec();
        self
    }

    pub(super) fn query(mut self, query: &str) -> Self {
        self.query = query.to_owned();
        self
    }

    pub(super) fn at(mut self, host: &'a str) -> Self {
        self.host = host;
        self
    }

    pub(super) fn from(mut self, remote: &'a str) -> Self {
        self.remote = Some(remote);
        self
    }

    pub(super) fn headers(mut self, headers: &[(&'a str, &'a str)]) -> Self {
        self.headers = headers.to_vec();
        self
    }

    /// What the connection presented in its handshake.
    pub(super) fn presenting(mut self, certificate: &[u8]) -> Self {
        self.certificates.push(Bytes::copy_from_slice(certificate));
        self
    }

    pub(super) async fn send(self) -> Response {
        let uri = format!("{}?{}", self.path, self.query);
        let mut request = http::Request::builder().method(self.method).uri(uri).header("host", self.host);
        if let Some(authorization) = self.authorization {
            request = request.header("authorization", authorization);
        }
        for tag in self.if_match {
            request = request.header("if-match", tag);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let remote = self.remote.map(|address| address.parse().unwrap());
        let peer = Peer { remote, client_certificates: self.certificates.into(), ..Peer::default() };
        test_wire::answer(&*self.test.door, request, self.body, peer).await
    }
}

pub(super) trait Shown {
    fn status_is(&self, status: u16);
    /// Status and name of a refusal, in the envelope that most operations use.
    fn refused(&self, status: u16, name: &str);
    /// The same in the nested envelope of direct methods, with the code.
    fn refused_nested(&self, code: u32, name: &str);
}

impl Shown for Response {
    fn status_is(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
    }

    fn refused(&self, status: u16, name: &str) {
        self.status_is(status);
        assert_eq!(self.header_value("iothub-errorcode"), Some(name));
        assert_eq!(self.header_value("content-type"), Some("application/json; charset=utf-8"));
        let body = self.body_json();
        let message = body["Message"].as_str().unwrap();
        assert!(message.starts_with(&format!("ErrorCode:{name};")), "{message}");
        assert!(body["ExceptionMessage"].as_str().unwrap().starts_with("Tracking ID:"));
    }

    fn refused_nested(&self, code: u32, name: &str) {
        self.status_is(u16::try_from(code / 1000).unwrap());
        assert_eq!(self.header_value("iothub-errorcode"), Some(name));
        let body = self.body_json();
        assert_eq!(body["ExceptionMessage"], "");
        let nested: Value = serde_json::from_str(body["Message"].as_str().unwrap()).unwrap();
        assert_eq!((&nested["errorCode"], &nested["info"]), (&json!(code), &Value::Null));
        assert!(nested["trackingId"].is_string() && nested["timestampUtc"].is_string());
    }
}

pub(super) fn refused(path: &str, response: &Response, code: u32, name: &str) {
    if path.ends_with("/methods") || path.contains("/commands/") {
        response.refused_nested(code, name);
    } else {
        response.refused(u16::try_from(code / 1000).unwrap(), name);
    }
}
