//! The hub's door against a hub in memory: the exchanges of the specification to the byte, and every refusal of every operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::hosts::{Hosts, NoMachine};
use base::meter::{Limits, Throttled};
use base::outbound::NoOutbound;
use base::sas;
use base::tasks::Tasks;
use base::{InstanceId, Key, Meter, Scope, Throttle};
use bytes::Bytes;
use events::Events;
use hub::{Command, Context, HubSettings, SharedAccessPolicy};
use proptest::prelude::*;
use serde_json::{Value, json};
use store::{Options, Store, Streams};

use super::*;
use crate::front::{AnyDoor, mount};
use crate::test_wire;
use crate::wire::Peer;

const HOST: &str = "hub.azure-devices.localhost";
const VERSION: &str = "api-version=2021-04-12";
/// Every operation of this door, with a body that it takes.
const OPERATIONS: &[(&str, &str, &str)] = &[
    ("GET", "/devices", ""),
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
    ("POST", "/twins/dev1/methods", r#"{"methodName":"reboot"}"#),
    ("POST", "/twins/dev1/modules/mod1/methods", r#"{"methodName":"reboot"}"#),
    ("GET", "/statistics/devices", ""),
    ("GET", "/statistics/service", ""),
];

/// Throttles everything, once it is told to.
#[derive(Default)]
struct Limiter(AtomicBool);

impl Limits for Limiter {
    fn charge(&self, _: Meter, _: &InstanceId) -> Result<(), Throttled> {
        let is_closed = self.0.load(Ordering::Relaxed);
        if is_closed { Err(Throttled { retry_after: Duration::from_secs(10) }) } else { Ok(()) }
    }
}

struct TestDoor {
    door: Arc<dyn AnyDoor>,
    limiter: Arc<Limiter>,
    hubs: Hubs,
    hub: Hub,
    clock: Clock,
    directory: Directory,
}

/// One request, built up and sent.
struct Ask<'a> {
    test: &'a TestDoor,
    method: &'a str,
    path: &'a str,
    query: String,
    host: &'a str,
    authorization: Option<String>,
    if_match: Vec<&'a [u8]>,
    body: String,
    remote: Option<&'a str>,
}

fn settings(name: &str) -> HubSettings {
    let scope =
        Scope::new(&format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/{name}"));
    let instance = InstanceId::from_stored(format!("hub-{name}-1"));
    HubSettings { is_default: name == "hub", ..HubSettings::new(instance, name, scope, "eastus") }
}

impl TestDoor {
    /// A hub with the device `dev1` and its module `mod1`.
    async fn new() -> Self {
        let clock = Clock::manual("2026-01-02T03:04:05.1234567Z".parse().unwrap());
        let store = Store::open(&Options::memory()).unwrap();
        let streams = Streams::open(&Options::memory()).unwrap();
        let (hosts, tasks) = (Hosts::new("localhost", 443, NoMachine), Tasks::new());
        let events = Events::new(events::Context {
            store: store.clone(),
            streams: streams.clone(),
            clock: clock.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            outbound: Arc::new(NoOutbound),
        });
        let limiter = Arc::new(Limiter::default());
        let (store_of_hubs, throttle) = (store.clone(), Throttle::with(limiter.clone()));
        let context =
            Context { store: store_of_hubs, streams, events, clock: clock.clone(), throttle, hosts, tasks };
        let hubs = Hubs::new(context);
        let hub = hubs.ensure(settings("hub")).await.unwrap();
        let directory = Directory::open(store, clock.clone(), "localhost", vec![]).await.unwrap();
        let door = mount(HubDoor { hubs: hubs.clone(), directory: directory.clone(), clock: clock.clone() });
        let test = Self { door, limiter, hubs, hub, clock, directory };
        test.owner("PUT", "/devices/dev1", "{}").await.status_is(200);
        test.owner("PUT", "/devices/dev1/modules/mod1", "{}").await.status_is(200);
        test
    }

    fn policy(&self, name: &str) -> SharedAccessPolicy {
        self.hub.settings().policy(name).unwrap().clone()
    }

    fn token_of(&self, policy: &str) -> String {
        self.token(HOST, &self.policy(policy).primary_key, Some(policy), 3600)
    }

    fn token(&self, resource: &str, key: &Key, key_name: Option<&str>, seconds: i64) -> String {
        let expires_at = base::Timestamp::from_unix_seconds(self.clock.now().unix_seconds() + seconds);
        sas::build(resource, key, expires_at, key_name)
    }

    fn ask<'a>(&'a self, method: &'a str, path: &'a str, body: &str) -> Ask<'a> {
        Ask {
            test: self,
            method,
            path,
            query: VERSION.to_owned(),
            host: HOST,
            authorization: None,
            if_match: Vec::new(),
            body: body.to_owned(),
            remote: None,
        }
    }

    async fn owner(&self, method: &str, path: &str, body: &str) -> Response {
        self.ask(method, path, body).by_owner().send().await
    }

    /// A bearer token of a new application that has `roles` on the hub.
    async fn bearer(&self, roles: &[&str], audience: &str) -> String {
        let principal = self.directory.create_service_principal("app").await.unwrap();
        for role in roles {
            test_wire::grant(&self.directory, &principal, role, self.hub.scope().as_str()).await;
        }
        format!("Bearer {}", test_wire::token(&self.directory, &principal, audience).await)
    }

    /// Everything that an operation of this door could have changed.
    async fn state(&self) -> String {
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
        state
    }
}

impl<'a> Ask<'a> {
    fn by_owner(self) -> Self {
        let token = self.test.token_of("iothubowner");
        self.with(token)
    }

    fn with(mut self, authorization: String) -> Self {
        self.authorization = Some(authorization);
        self
    }

    fn if_match(self, tag: &'a str) -> Self {
        self.if_matches(&[tag.as_bytes()])
    }

    /// One header for each tag.
    fn if_matches(mut self, tags: &[&'a [u8]]) -> Self {
        self.if_match = tags.to_vec();
        self
    }

    fn query(mut self, query: &str) -> Self {
        self.query = query.to_owned();
        self
    }

    fn at(mut self, host: &'a str) -> Self {
        self.host = host;
        self
    }

    fn from(mut self, remote: &'a str) -> Self {
        self.remote = Some(remote);
        self
    }

    async fn send(self) -> Response {
        let uri = format!("{}?{}", self.path, self.query);
        let mut request = http::Request::builder().method(self.method).uri(uri).header("host", self.host);
        if let Some(authorization) = self.authorization {
            request = request.header("authorization", authorization);
        }
        for tag in self.if_match {
            request = request.header("if-match", tag);
        }
        let peer = Peer { remote: self.remote.map(|address| address.parse().unwrap()), ..Peer::default() };
        test_wire::answer(&*self.test.door, request, self.body, peer).await
    }
}

trait Shown {
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

fn refused(path: &str, response: &Response, code: u32, name: &str) {
    if path.ends_with("/methods") {
        response.refused_nested(code, name);
    } else {
        response.refused(u16::try_from(code / 1000).unwrap(), name);
    }
}

#[tokio::test]
async fn the_patch_of_a_module_twin_is_answered_to_the_byte() {
    let test = TestDoor::new().await;
    let body = r#"{"tags":{"env":"test"},"properties":{"desired":{"interval":30,"old":null}}}"#;
    let identity = test.owner("GET", "/devices/dev1/modules/mod1", "").await.body_json();
    let path = "/twins/dev1/modules/mod1";
    test.clock.advance(Duration::from_mins(1));
    let response = test.ask("PATCH", path, body).by_owner().if_match("\"AAAAAAAAAAE=\"").send().await;
    response.status_is(200);
    assert_eq!(response.header_value("etag"), Some("\"AAAAAAAAAAI=\""));
    assert_eq!(response.header_value("content-type"), Some("application/json; charset=utf-8"));
    let expected = concat!(
        r#"{"deviceId":"dev1","moduleId":"mod1","etag":"AAAAAAAAAAI=","deviceEtag":"@","status":"enabled","#,
        r#""statusReason":null,"statusUpdateTime":"0001-01-01T00:00:00Z","connectionState":"Disconnected","#,
        r#""lastActivityTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,"authenticationType":"sas","#,
        r#""x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"modelId":"","version":3,"#,
        r#""tags":{"env":"test"},"properties":{"desired":{"interval":30,"$metadata":{"#,
        r#""$lastUpdated":"2026-01-02T03:05:05.1234567Z","$lastUpdatedVersion":2,"interval":{"#,
        r#""$lastUpdated":"2026-01-02T03:05:05.1234567Z","$lastUpdatedVersion":2}},"$version":2},"#,
        r#""reported":{"$metadata":{"$lastUpdated":"2026-01-02T03:04:05.1234567Z"},"$version":1}},"#,
        r#""capabilities":{"iotEdge":false}}"#,
    );
    let expected = expected.replace('@', identity["etag"].as_str().unwrap());
    assert_eq!(String::from_utf8(response.body_bytes().to_vec()).unwrap(), expected);

    let stale = test.ask("PATCH", path, body).by_owner().if_match("\"AAAAAAAAAAE=\"").send().await;
    stale.refused(412, "PreconditionFailed");
    let read = test.owner("GET", path, "").await;
    assert_eq!(String::from_utf8(read.body_bytes().to_vec()).unwrap(), expected, "nothing changed");
    for unknown in ["/twins/dev1/modules/other", "/twins/other/modules/mod1"] {
        test.owner("PATCH", unknown, body).await.refused(404, "DeviceNotFound");
    }
}

#[tokio::test]
async fn every_spelling_of_an_etag_is_taken() {
    let test = TestDoor::new().await;
    for (method, path, body) in conditional() {
        for spell in ["*", "\"*\"", "@", "\"@\"", "W/\"@\""] {
            let current = test.owner("GET", path, "").await.body_json();
            let tag = spell.replace('@', current["etag"].as_str().unwrap());
            let response = test.ask(method, path, body).by_owner().if_match(&tag).send().await;
            if method == "DELETE" {
                response.status_is(204);
                test.owner("PUT", "/devices/dev1", "{}").await;
                test.owner("PUT", "/devices/dev1/modules/mod1", "{}").await.status_is(200);
            } else {
                response.status_is(200);
                assert_ne!(response.body_json()["etag"], current["etag"], "{method} {path}");
            }
        }
    }
}

/// The operations that take an etag.
fn conditional() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    OPERATIONS.iter().copied().filter(|(method, ..)| matches!(*method, "PUT" | "PATCH" | "DELETE"))
}

#[tokio::test]
async fn an_etag_that_is_not_the_current_one_in_whatever_form_changes_nothing() {
    let test = TestDoor::new().await;
    test.owner("PATCH", "/twins/dev1", r#"{"tags":{"a":1}}"#).await.status_is(200);
    test.owner("PATCH", "/twins/dev1/modules/mod1", r#"{"tags":{"a":1}}"#).await.status_is(200);
    let before = test.state().await;
    let forms: &[&[&[u8]]] = &[
        &[b"\"AAAAAAAAAAE=\""],
        &[b"AAAAAAAAAAE="],
        &[b"W/\"AAAAAAAAAAE=\""],
        &[b"\"aaaaaaaaaai=\""],
        &[b"\"\""],
        &[b"**"],
        &[b"\"AAAAAAAAAAE=\", \"AAAAAAAAAAM=\""],
        &[b"\xff"],
        &[b"*\xe4"],
        &[b"*", b"\"AAAAAAAAAAE=\""],
    ];
    for (method, path, body) in conditional() {
        for form in forms {
            let response = test.ask(method, path, body).by_owner().if_matches(form).send().await;
            response.refused(412, "PreconditionFailed");
        }
    }
    for path in ["/devices/dev1", "/devices/dev1/modules/mod1"] {
        test.owner("DELETE", path, "").await.refused(412, "PreconditionFailed");
    }
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn a_device_is_created_read_replaced_and_deleted() {
    let test = TestDoor::new().await;
    let spec = r#"{"deviceId":"a#b%c","status":"disabled","statusReason":"new","authentication":null,"etag":"x","unknown":1}"#;
    let created = test.owner("PUT", "/devices/a%23b%25c", spec).await;
    created.status_is(200);
    let body = created.body_json();
    let etag = body["etag"].as_str().unwrap();
    assert_eq!(created.header_value("etag"), Some(format!("\"{etag}\"").as_str()));
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    let expected = [
        "deviceId",
        "generationId",
        "etag",
        "connectionState",
        "status",
        "statusReason",
        "connectionStateUpdatedTime",
        "statusUpdatedTime",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authentication",
        "capabilities",
    ];
    assert_eq!(members, expected);
    assert_eq!((&body["status"], &body["statusReason"]), (&json!("disabled"), &json!("new")));
    assert_eq!(body["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    assert_eq!(body["authentication"]["type"], "sas");
    assert!(body["authentication"]["symmetricKey"]["primaryKey"].is_string());
    assert_eq!(body["generationId"].as_str().unwrap().len(), 18);
    let read = test.owner("GET", "/Devices/a%23b%25c/", "").await;
    assert_eq!(read.body_json(), body);

    test.owner("PUT", "/devices/a%23b%25c", spec).await.refused(409, "DeviceAlreadyExists");
    let replaced = test.ask("PUT", "/devices/a%23b%25c", "{}").by_owner().if_match(etag).send().await;
    assert_eq!(replaced.body_json()["status"], "enabled");
    assert_ne!(replaced.body_json()["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    test.owner("DELETE", "/devices/a%23b%25c", "").await.refused(412, "PreconditionFailed");
    test.ask("DELETE", "/devices/a%23b%25c", "")
        .by_owner()
        .if_match(etag)
        .send()
        .await
        .refused(412, "PreconditionFailed");
    let deleted = test.ask("DELETE", "/devices/a%23b%25c", "").by_owner().if_match("\"*\"").send().await;
    assert_eq!((deleted.status.as_u16(), deleted.body_bytes().len()), (204, 0));
    test.owner("GET", "/devices/a%23b%25c", "").await.refused(404, "DeviceNotFound");
}

#[tokio::test]
async fn a_module_is_created_read_replaced_and_deleted() {
    let test = TestDoor::new().await;
    let spec = r#"{"deviceId":"dev1","moduleId":"m","managedBy":"me","authentication":{"type":"none"}}"#;
    let created = test.owner("PUT", "/devices/dev1/modules/m", spec).await;
    created.status_is(200);
    let body = created.body_json();
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    let expected = [
        "moduleId",
        "managedBy",
        "deviceId",
        "generationId",
        "etag",
        "connectionState",
        "connectionStateUpdatedTime",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authentication",
    ];
    assert_eq!(members, expected);
    assert_eq!((&body["managedBy"], &body["authentication"]["type"]), (&json!("me"), &json!("sas")));
    test.owner("PUT", "/devices/dev1/modules/m", spec).await.refused(409, "ModuleAlreadyExistsOnDevice");
    let etag = body["etag"].as_str().unwrap();
    let replaced = test.ask("PUT", "/devices/dev1/modules/m", "{}").by_owner().if_match(etag).send().await;
    assert_eq!(replaced.body_json()["managedBy"], Value::Null);
    let listed = test.owner("GET", "/devices/dev1/modules/", "").await.body_json();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|module| module["moduleId"].clone()).collect();
    assert_eq!(ids, ["m", "mod1"]);
    test.ask("DELETE", "/devices/dev1/modules/m", "").by_owner().if_match("*").send().await.status_is(204);
    test.owner("GET", "/devices/dev1/modules/m", "").await.refused(404, "ModuleNotFound");
}

#[tokio::test]
async fn authentications_are_written_as_azure_writes_them() {
    let test = TestDoor::new().await;
    let thumbprint = "AB".repeat(20);
    let spec = json!({"authentication": {
        "symmetricKey": {"primaryKey": null, "secondaryKey": null},
        "x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": null},
    }});
    let created = test.owner("PUT", "/devices/x", &spec.to_string()).await.body_json();
    let expected = json!({
        "symmetricKey": {"primaryKey": null, "secondaryKey": null},
        "x509Thumbprint": {"primaryThumbprint": thumbprint, "secondaryThumbprint": null},
        "type": "selfSigned",
    });
    assert_eq!(created["authentication"], expected);
    let twin = test.owner("GET", "/twins/x", "").await.body_json();
    assert_eq!(
        (&twin["authenticationType"], &twin["x509Thumbprint"]),
        (&json!("selfSigned"), &expected["x509Thumbprint"])
    );
    assert_eq!(twin["deviceEtag"], created["etag"]);
    let ca = test.owner("PUT", "/devices/ca", r#"{"authentication":{"type":"certificateAuthority"}}"#).await;
    assert_eq!(ca.body_json()["authentication"]["type"], "certificateAuthority");
}

#[tokio::test]
async fn an_iot_edge_device_shows_its_scope_and_its_parent() {
    let test = TestDoor::new().await;
    let edge = test.owner("PUT", "/devices/edge", r#"{"capabilities":{"iotEdge":true}}"#).await.body_json();
    let scope = edge["deviceScope"].as_str().unwrap();
    assert!(scope.starts_with("ms-azure-iot-edge://edge-"));
    assert_eq!(edge["capabilities"], json!({"iotEdge": true}));
    let leaf =
        test.owner("PUT", "/devices/leaf", &json!({ "deviceScope": scope }).to_string()).await.body_json();
    assert_eq!(leaf["parentScopes"], json!([scope]));
    let twin = test.owner("GET", "/twins/leaf", "").await.body_json();
    assert_eq!((&twin["deviceScope"], &twin["parentScopes"]), (&json!(scope), &json!([scope])));
    let stray = r#"{"deviceScope":"5f0e0c4e-0000-0000-0000-000000000000"}"#;
    test.owner("PUT", "/devices/stray", stray).await.refused(400, "InvalidDeviceScope");
}

#[tokio::test]
async fn lists_and_statistics_count_what_is_there() {
    let test = TestDoor::new().await;
    test.owner("PUT", "/devices/dev0", r#"{"status":"disabled"}"#).await.status_is(200);
    let top = async |query: &str| {
        let response =
            test.ask("GET", "/devices/", "").by_owner().query(&format!("{query}&{VERSION}")).send().await;
        response.status_is(200);
        response.body_json().as_array().unwrap().len()
    };
    assert_eq!((top("").await, top("top=1").await, top("top=1000").await), (2, 1, 2));
    for bad in ["top=0", "top=1001", "top=-1", "top=x"] {
        let response =
            test.ask("GET", "/devices", "").by_owner().query(&format!("{bad}&{VERSION}")).send().await;
        response.refused(400, "ArgumentInvalid");
    }
    let devices = test.owner("GET", "/statistics/devices", "").await.body_json();
    assert_eq!(devices, json!({"totalDeviceCount": 2, "enabledDeviceCount": 1, "disabledDeviceCount": 1}));
    let service = test.owner("GET", "/statistics/service", "").await.body_json();
    assert_eq!(service, json!({"connectedDeviceCount": 0}));
}

#[tokio::test]
async fn a_twin_that_is_sent_back_whole_changes_only_what_may_change() {
    let test = TestDoor::new().await;
    let mut twin = test.owner("GET", "/twins/dev1", "").await.body_json();
    twin["tags"]["a"] = json!(1);
    twin["properties"]["desired"]["b"] = json!(1.0);
    twin["properties"]["reported"]["c"] = json!(1);
    twin["status"] = json!("disabled");
    let patched = test.owner("PATCH", "/twins/dev1", &twin.to_string()).await;
    patched.status_is(200);
    assert!(
        String::from_utf8(patched.body_bytes().to_vec()).unwrap().contains(r#""b":1.0"#),
        "numbers are kept verbatim"
    );
    let patched = patched.body_json();
    assert_eq!((&patched["tags"], &patched["status"]), (&json!({"a": 1}), &json!("enabled")));
    assert_eq!(patched["properties"]["reported"]["c"], Value::Null);
    let replaced =
        test.owner("PUT", "/twins/dev1", r#"{"properties":{"desired":{"d":1}}}"#).await.body_json();
    assert_eq!((&replaced["tags"], &replaced["properties"]["desired"]["b"]), (&json!({}), &Value::Null));
    assert_eq!(replaced["etag"], "AAAAAAAAAAM=");
}

#[tokio::test]
async fn a_method_reaches_the_device_and_its_answer_comes_back() {
    let test = TestDoor::new().await;
    let policy = test.policy("device");
    let token = test.token(HOST, &policy.primary_key, Some("device"), 60);
    let token = SasToken::parse(&token).unwrap();
    let authentication = test.hub.authenticate_device(HOST, &"dev1".parse().unwrap(), &token).await.unwrap();
    let session = test.hub.open_session(authentication, None).await.unwrap();
    session.listen_to_methods(true);
    let body = r#"{"methodName":"reboot","payload":{"a":[1, 2.0]}}"#;
    let device = async {
        let Command::InvokeMethod { request_id, name, payload } = session.next_command().await else {
            panic!("no method")
        };
        assert_eq!((name.as_str(), &payload[..]), ("reboot", &br#"{"a":[1, 2.0]}"#[..]));
        test.hub.complete_method(&session, request_id, 299, Bytes::from_static(br#"{"b":1.50}"#));
    };
    let (response, ()) = tokio::join!(test.owner("POST", "/twins/dev1/methods", body), device);
    response.status_is(200);
    assert_eq!(response.body_bytes(), r#"{"status":299,"payload":{"b":1.50}}"#);
    assert_eq!(test.owner("GET", "/twins/dev1", "").await.body_json()["connectionState"], "Connected");
    let service = test.owner("GET", "/statistics/service", "").await.body_json();
    assert_eq!(service, json!({"connectedDeviceCount": 1}));
}

#[tokio::test]
async fn refusals_of_methods_are_nested() {
    let test = TestDoor::new().await;
    let body =
        r#"{"methodName":"reboot","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0,"payload":null}"#;
    test.owner("POST", "/twins/dev1/methods", body).await.refused_nested(404_103, "DeviceNotOnline");
    test.owner("POST", "/twins/other/methods", body).await.refused_nested(404_001, "DeviceNotFound");
    test.owner("POST", "/twins/dev1/modules/other/methods", body)
        .await
        .refused_nested(404_010, "ModuleNotFound");
    for nameless in ["{}", r#"{"methodName":null}"#, r#"{"methodName":""}"#] {
        test.owner("POST", "/twins/dev1/methods", nameless).await.refused_nested(400_005, "ArgumentNull");
    }
    for times in [
        r#""responseTimeoutInSeconds":-1"#,
        r#""responseTimeoutInSeconds":4"#,
        r#""connectTimeoutInSeconds":"5""#,
    ] {
        let body = format!(r#"{{"methodName":"x",{times}}}"#);
        test.owner("POST", "/twins/dev1/methods", &body).await.refused_nested(400_004, "ArgumentInvalid");
    }
    let deep = format!(r#"{{"methodName":"x","payload":{}{}}}"#, "[".repeat(60_000), "]".repeat(60_000));
    test.owner("POST", "/twins/dev1/methods", &deep).await.refused_nested(404_103, "DeviceNotOnline");
    test.owner("POST", "/twins/dev1/methods", "[").await.refused_nested(400_004, "ArgumentInvalid");
    let late = r#"{"methodName":"x","responseTimeoutInSeconds":10,"connectTimeoutInSeconds":20}"#;
    test.owner("POST", "/twins/dev1/methods", late).await.refused_nested(400_004, "ArgumentInvalid");
    let large = format!(r#"{{"methodName":"x","payload":"{}"}}"#, "x".repeat(128 * 1024));
    test.owner("POST", "/twins/dev1/methods", &large).await.refused_nested(413_001, "MessageTooLarge");
}

#[tokio::test]
async fn every_operation_refuses_everyone_who_has_not_proved_who_they_are() {
    let test = TestDoor::new().await;
    let audience = "https://iothubs.azure.net";
    let expired = test.bearer(&["4fc6c259-987e-4a07-842e-c321cc9d413f"], audience).await;
    test.ask("GET", "/devices/dev1", "").with(expired.clone()).send().await.status_is(200);
    test.clock.advance(Duration::from_secs(
        base::caps::ACCESS_TOKEN_SECONDS + base::caps::TOKEN_CLOCK_SKEW_SECONDS + 1,
    ));
    let before = test.state().await;
    let owner = test.policy("iothubowner");
    let device = test.owner("GET", "/devices/dev1", "").await.body_json();
    let device_key: Key =
        device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap().parse().unwrap();
    test.hubs.ensure(settings("second")).await.unwrap();
    let second = test.hubs.find("second").unwrap().settings().policy("iothubowner").unwrap().clone();
    let foreign_host = "second.azure-devices.localhost";
    let named = Some("iothubowner");
    let wrong = [
        String::new(),
        "Basic eDp5".to_owned(),
        "Bearer nonsense".to_owned(),
        "SharedAccessSignature nonsense".to_owned(),
        test.token(HOST, &Key::generate(32), named, 3600),
        test.token(HOST, &owner.primary_key, named, -301),
        test.token(HOST, &owner.primary_key, None, 3600),
        test.token(HOST, &owner.primary_key, Some("service"), 3600),
        test.token(HOST, &second.primary_key, named, 3600),
        test.token(foreign_host, &second.primary_key, named, 3600),
        test.token(foreign_host, &owner.primary_key, named, 3600),
        test.token(&format!("{HOST}/devices/dev1"), &device_key, None, 3600),
        test.token(&format!("{HOST}/elsewhere"), &owner.primary_key, named, 3600),
        test.bearer(&["4fc6c259-987e-4a07-842e-c321cc9d413f"], "https://digitaltwins.azure.net").await,
        test.bearer(&[], audience).await,
        expired,
    ];
    for (method, path, body) in OPERATIONS {
        let nobody = test.ask(method, path, body).if_match("*").send().await;
        refused(path, &nobody, 401_002, "IotHubUnauthorizedAccess");
        for authorization in &wrong {
            let ask = test.ask(method, path, body).if_match("*").with(authorization.clone());
            refused(path, &ask.send().await, 401_002, "IotHubUnauthorizedAccess");
        }
    }
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn a_token_may_be_made_out_to_a_part_of_the_hub() {
    let test = TestDoor::new().await;
    let owner = test.policy("iothubowner");
    let narrow =
        |part: &str| test.token(&format!("{HOST}/{part}"), &owner.primary_key, Some("iothubowner"), 60);
    for (part, path, may) in [
        ("devices", "/devices/dev1", true),
        ("devices", "/Devices/dev1", true),
        ("DEVICES/dev1", "/devices/dev1/modules", true),
        ("devices/dev", "/devices/dev1", false),
        ("devices", "/twins/dev1", false),
        ("devices/dev1/modules", "/devices/dev1", false),
    ] {
        let response = test.ask("GET", path, "").with(narrow(part)).send().await;
        if may {
            response.status_is(200);
        } else {
            response.refused(401, "IotHubUnauthorizedAccess");
        }
    }
}

#[tokio::test]
async fn every_operation_asks_for_the_right_that_it_needs() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let registry = |path: &str| path.starts_with("/devices") || path == "/statistics/devices";
    for (method, path, body) in OPERATIONS {
        let may = |policy: &str| match policy {
            "service" => !registry(path),
            "registryRead" => registry(path) && *method == "GET",
            "registryReadWrite" => registry(path),
            _ => false,
        };
        for policy in ["service", "device", "registryRead", "registryReadWrite"] {
            if !may(policy) {
                let ask = test.ask(method, path, body).if_match("*").with(test.token_of(policy));
                refused(path, &ask.send().await, 401_002, "IotHubUnauthorizedAccess");
            }
        }
        if *method == "GET" {
            let policy = if registry(path) { "registryRead" } else { "service" };
            test.ask(method, path, body).with(test.token_of(policy)).send().await.status_is(200);
        }
    }
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn a_principal_may_do_what_its_roles_say() {
    let test = TestDoor::new().await;
    let (contributor, twins_only) =
        ("4fc6c259-987e-4a07-842e-c321cc9d413f", "494bdba2-168f-4f31-a0a1-191d2f7c028c");
    let all = test.bearer(&[contributor], "https://iothubs.azure.net").await;
    let twins = test.bearer(&[twins_only], "https://iothubs.azure.net").await;
    let none = test.bearer(&[], "https://iothubs.azure.net").await;
    test.ask("GET", "/devices/dev1", "").with(all.clone()).send().await.status_is(200);
    test.ask("PATCH", "/twins/dev1", r#"{"tags":{"a":1}}"#).with(twins.clone()).send().await.status_is(200);
    test.ask("GET", "/devices/dev9/modules", "").with(all).send().await.refused(404, "DeviceNotFound");
    for (authorization, path) in [(twins, "/devices/dev1"), (none, "/twins/dev1")] {
        let response = test.ask("GET", path, "").with(authorization).send().await;
        response.refused(401, "IotHubUnauthorizedAccess");
        let message = response.body_json()["Message"].as_str().unwrap().to_owned();
        let expected = format!("is not authorized for GET on {path} due to no assigned permissions");
        assert!(message.contains("Principal ") && message.ends_with(&expected), "{message}");
    }
}

#[tokio::test]
async fn malformed_bodies_change_nothing() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for (method, path, _) in OPERATIONS.iter().filter(|(method, ..)| !matches!(*method, "GET" | "DELETE")) {
        for body in
            ["", "{", "[]", "1", "null", "\u{0}", deep.as_str(), "[null,null,null,null,null,null,null]"]
        {
            let response = test.ask(method, path, body).by_owner().if_match("*").send().await;
            refused(path, &response, 400_004, "ArgumentInvalid");
        }
    }
    let wrong: &[(&str, &str, &str)] = &[
        ("PUT", "/devices/dev1", r#"{"deviceId":"other"}"#),
        ("PUT", "/devices/dev1", r#"{"status":"maybe"}"#),
        ("PUT", "/devices/dev1", r#"{"authentication":{"type":"magic"}}"#),
        ("PUT", "/devices/dev1", r#"{"authentication":{"type":"none"}}"#),
        (
            "PUT",
            "/devices/dev1",
            r#"{"authentication":{"symmetricKey":{"primaryKey":"AAAA","secondaryKey":"AAAA"}}}"#,
        ),
        ("PUT", "/devices/a%20b", "{}"),
        ("PUT", "/devices/dev1/modules/mod1", r#"{"moduleId":"other"}"#),
        ("PUT", "/devices/dev1/modules/mod1", r#"{"deviceId":"other"}"#),
        ("PATCH", "/twins/dev1", r#"{"tags":{"a.b":1}}"#),
        ("PATCH", "/twins/dev1", r#"{"tags":{"ok":1},"properties":{"desired":{"a":[null]}}}"#),
        ("PUT", "/twins/dev1/modules/mod1", r#"{"tags":7}"#),
        ("PATCH", "/twins/dev1", r#"{"tags":{"a":1e999}}"#),
    ];
    for (method, path, body) in wrong {
        let response = test.ask(method, path, body).by_owner().if_match("*").send().await;
        response.refused(400, "ArgumentInvalid");
    }
    let huge = format!(r#"{{"tags":{{"a":"{}"}}}}"#, "x".repeat(base::caps::HTTP_BODY_BYTES_MAX));
    for (method, path, _) in OPERATIONS {
        let response = test.ask(method, path, &huge).by_owner().if_match("*").send().await;
        refused(path, &response, 413_001, "MessageTooLarge");
    }
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn a_throttled_operation_says_which_and_changes_nothing() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    test.limiter.0.store(true, Ordering::Relaxed);
    for (method, path, body) in OPERATIONS {
        let response = test.ask(method, path, body).by_owner().if_match("*").send().await;
        refused(path, &response, 429_001, "ThrottlingException");
        assert_eq!(response.header_value("connection"), Some("close"), "{method} {path}");
        assert_eq!(response.header_value("retry-after"), None);
    }
    let message = test.owner("GET", "/devices", "").await.body_json()["Message"].clone();
    let expected =
        "The request has been throttled. Wait 10 seconds and try again. Operation type: RegistryRead";
    assert_eq!(message, format!("ErrorCode:ThrottlingException;{expected}"));
    test.limiter.0.store(false, Ordering::Relaxed);
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn ids_that_are_none_are_refused_by_every_operation() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    for (method, path, body) in OPERATIONS.iter().filter(|(_, path, _)| path.contains("dev1")) {
        for bad in ["a%20b", "%C3%A4", "a%2Fb", "%00", &"x".repeat(129)] {
            for id in ["dev1", "mod1"].into_iter().filter(|id| path.contains(id)) {
                let path = path.replace(id, bad);
                let response = test.ask(method, &path, body).by_owner().if_match("*").send().await;
                refused(&path, &response, 400_004, "ArgumentInvalid");
            }
        }
    }
    assert_eq!(test.state().await, before);
    let longest = "x".repeat(128);
    test.owner("PUT", &format!("/devices/{longest}"), "{}").await.status_is(200);
    test.owner("PUT", &format!("/devices/{longest}/modules/{longest}"), "{}").await.status_is(200);
    test.owner("PATCH", &format!("/twins/{longest}/modules/{longest}"), "{}").await.status_is(200);
    test.owner("PUT", "/devices/DEV1", "{}").await.status_is(200);
    assert_ne!(test.state().await, before, "ids keep their case");
}

#[tokio::test]
async fn limits_are_held_on_the_wire_just_under_and_just_over() {
    use base::caps;
    let test = TestDoor::new().await;
    let key = |bytes: usize| {
        let key = Key::from_bytes(vec![7; bytes]).text().to_owned();
        json!({"authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}}})
    };
    let tags = |tags: Value| json!({ "tags": tags });
    let desired = |desired: Value| json!({"properties": {"desired": desired}});
    // Keys of one byte, and strings that fill the rest.
    let filled = |bytes: usize| {
        let lengths = std::iter::successors(Some(bytes), |left| Some(left.saturating_sub(4096)));
        let lengths = lengths.take_while(|left| *left > 0).map(|left| left.min(4096) - 1);
        ('a'..).map(String::from).zip(lengths.map(|length| json!("v".repeat(length)))).collect::<Value>()
    };
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "k": inner }));
    let (device, twin, module_twin) = ("/devices/dev1", "/twins/dev1", "/twins/dev1/modules/mod1");
    let table = [
        ("PUT", device, json!({"statusReason": "é".repeat(128)}), json!({"statusReason": "é".repeat(129)})),
        ("PUT", device, key(16), key(15)),
        ("PUT", device, key(64), key(65)),
        ("PATCH", twin, tags(filled(8 * 1024)), tags(filled(8 * 1024 + 1))),
        ("PUT", module_twin, tags(filled(8 * 1024)), tags(filled(8 * 1024 + 1))),
        ("PATCH", module_twin, desired(filled(32 * 1024)), desired(filled(32 * 1024 + 1))),
        ("PUT", twin, desired(filled(32 * 1024)), desired(filled(32 * 1024 + 1))),
        ("PATCH", twin, tags(json!({"k".repeat(1024): 1})), tags(json!({"k".repeat(1025): 1}))),
        ("PUT", twin, tags(json!({"k": "v".repeat(4096)})), tags(json!({"k": "v".repeat(4097)}))),
        ("PUT", twin, desired(nested(10)), desired(nested(11))),
        (
            "PUT",
            twin,
            desired(json!({"k": caps::TWIN_INTEGER_MAX})),
            desired(json!({"k": caps::TWIN_INTEGER_MAX + 1})),
        ),
    ];
    for (method, path, under, over) in table {
        let send = async |body: &Value| {
            test.ask(method, path, &body.to_string()).by_owner().if_match("*").send().await
        };
        send(&under).await.status_is(200);
        let before = test.state().await;
        send(&over).await.refused(400, "ArgumentInvalid");
        assert_eq!(test.state().await, before, "{method} {path}");
    }
    let beyond = r#"{"tags":{"k":100000000000000000000}}"#;
    test.owner("PATCH", twin, beyond).await.refused(400, "ArgumentInvalid");
}

#[tokio::test]
async fn an_api_version_is_a_date_whichever() {
    let test = TestDoor::new().await;
    for version in ["2016-11-14", "2018-06-30", "2020-05-31-preview", "2021-04-12", "2024-03-31"] {
        let ask = test.ask("GET", "/twins/dev1", "").by_owner().query(&format!("API-Version={version}"));
        ask.send().await.status_is(200);
    }
    for query in
        ["", "api-version=", "api-version=latest", "api-version=2021-4-12", "api-version=2021-04-12-beta"]
    {
        let response = test.ask("GET", "/twins/dev1", "").by_owner().query(query).send().await;
        response.refused(400, "InvalidProtocolVersion");
        assert_eq!(test.ask("GET", "/twins/dev1", "").query(query).send().await.status.as_u16(), 401);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_and_at_an_unknown_host_the_default_hub_answers() {
    let test = TestDoor::new().await;
    test.owner("GET", "/nowhere", "").await.refused(404, "GenericNotFound");
    test.owner("GET", "/devices/dev1/modules/mod1/more", "").await.refused(404, "GenericNotFound");
    test.owner("DELETE", "/twins/dev1", "").await.refused(405, "GenericMethodNotAllowed");
    let elsewhere =
        test.ask("GET", "/devices", "").by_owner().at("other.azure-devices.localhost").send().await;
    elsewhere.status_is(200);
}

#[tokio::test]
async fn two_hubs_know_nothing_of_each_other() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let second = test.hubs.ensure(settings("second")).await.unwrap();
    let host = "second.azure-devices.localhost";
    let key = second.settings().policy("iothubowner").unwrap().primary_key.clone();
    let ask = async |method: &str, path: &str, body: &str| {
        let token = test.token(host, &key, Some("iothubowner"), 60);
        test.ask(method, path, body).at(host).with(token).send().await
    };
    assert_eq!(ask("GET", "/devices", "").await.body_json(), json!([]));
    ask("GET", "/twins/dev1", "").await.refused(404, "DeviceNotFound");
    let path = "/devices/dev1";
    ask("PUT", path, r#"{"status":"disabled"}"#).await.status_is(200);
    ask("PATCH", "/twins/dev1", r#"{"tags":{"there":1}}"#).await.status_is(200);
    assert_eq!(test.state().await, before);
    test.hubs.remove(second.instance()).await.unwrap();
    test.hubs.ensure(settings("second")).await.unwrap();
    ask("GET", path, "").await.refused(401, "IotHubUnauthorizedAccess");
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn a_hub_without_public_access_answers_this_machine_only() {
    let test = TestDoor::new().await;
    let private = HubSettings { public_network_access: false, ..(*test.hub.settings()).clone() };
    test.hubs.ensure(private).await.unwrap();
    let ask = || test.ask("GET", "/devices", "").by_owner();
    ask().from("127.0.0.1:5000").send().await.status_is(200);
    ask().from("192.0.2.7:5000").send().await.refused(401, "IotHubUnauthorizedAccess");
}

#[test]
fn every_route_is_an_operation_of_the_published_list() {
    let list =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/spec/openapi/iothub/service-2021-04-12.json");
    let path = std::env::var("TWINHUB_SHARED").map_or_else(
        |_| list.to_owned(),
        |shared| format!("{shared}/spec/openapi/iothub/service-2021-04-12.json"),
    );
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("CI").is_none(), "the operation list of the hub is missing at {path}");
        eprintln!("did not run: the operation list of the hub is not at {path}");
        return;
    };
    let published: Value = serde_json::from_str(&text).unwrap();
    for route in HubDoor::routes().describe() {
        let shape = |path: &str| -> Vec<String> {
            path.split('/')
                .map(|part| if part.starts_with('{') { "{}".into() } else { part.to_owned() })
                .collect()
        };
        let paths = published["paths"].as_object().unwrap();
        let found = paths.iter().find(|(path, methods)| {
            shape(path) == shape(route.template) && methods.get(route.method.to_ascii_lowercase()).is_some()
        });
        let (_, methods) =
            found.unwrap_or_else(|| panic!("{} {} is not published", route.method, route.template));
        assert_eq!(methods[route.method.to_ascii_lowercase()]["operationId"], route.operation);
    }
}

#[test]
fn every_route_is_tried_with_whatever_is_refused() {
    let fits = |path: &str, template: &str| {
        let (path, template) = (path.split('/'), template.split('/'));
        path.clone().count() == template.clone().count()
            && path.zip(template).all(|(given, wanted)| wanted.starts_with('{') || given == wanted)
    };
    for route in HubDoor::routes().describe() {
        let tried = OPERATIONS
            .iter()
            .filter(|(method, path, _)| *method == route.method && fits(path, route.template));
        assert_eq!(tried.count(), 1, "{} {}", route.method, route.template);
    }
}

#[test]
fn no_body_and_no_etag_makes_the_door_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = runtime.block_on(TestDoor::new());
    let body = ".{0,80}|\\{\"(tags|properties|deviceId)\":.{0,40}\\}";
    let requests = (body, "[ -~]{0,30}", prop::sample::select(OPERATIONS));
    let mut runner = proptest::test_runner::TestRunner::default();
    let outcome = runner.run(&requests, |(body, etag, (method, path, _))| {
        let response = runtime.block_on(test.ask(method, path, &body).by_owner().if_match(&etag).send());
        prop_assert!(response.status.as_u16() < 500, "{method} {path}: {response:?}");
        Ok(())
    });
    outcome.unwrap();
}
