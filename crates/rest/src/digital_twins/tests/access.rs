//! Who gets in: credentials, audiences, lifetimes, roles, versions. Every operation is asked, and nothing changes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use base::meter::{Limits, Throttled};
use base::{InstanceId, Meter, Throttle, caps};
use bytes::Bytes;
use serde_json::{Value, json};

use super::fixture::{Fixture, HOST, VERSION, settings};
use crate::body::RequestBody;
use crate::router::{Fault, RouteInfo};
use crate::wire::Head;
use entrance::Peer;

/// One valid request for every operation of the data plane: method, path, body.
fn operations() -> Vec<(&'static str, String, Value)> {
    let edge = "/digitaltwins/a/relationships/e";
    let patch = json!([]);
    let list = [
        (
            "POST",
            "/models",
            json!([{"@id": "dtmi:example:new;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2"}]),
        ),
        ("GET", "/models", Value::Null),
        ("GET", "/models/dtmi:example:room;1", Value::Null),
        (
            "PATCH",
            "/models/dtmi:example:room;1",
            json!([{"op": "replace", "path": "/decommissioned", "value": true}]),
        ),
        ("DELETE", "/models/dtmi:example:room;1", Value::Null),
        ("POST", "/query", json!({"query": "SELECT * FROM DIGITALTWINS"})),
        ("GET", "/digitaltwins/a", Value::Null),
        (
            "PUT",
            "/digitaltwins/new",
            json!({"$metadata": {"$model": "dtmi:example:room;1"}, "Comp": {"$metadata": {}}}),
        ),
        ("PATCH", "/digitaltwins/a", patch.clone()),
        ("DELETE", "/digitaltwins/c", Value::Null),
        ("GET", "/digitaltwins/a/components/Comp", Value::Null),
        ("PATCH", "/digitaltwins/a/components/Comp", patch.clone()),
        ("POST", "/digitaltwins/a/telemetry", json!({})),
        ("POST", "/digitaltwins/a/components/Comp/telemetry", json!({})),
        ("GET", "/digitaltwins/a/relationships", Value::Null),
        ("GET", "/digitaltwins/a/incomingrelationships", Value::Null),
        ("GET", edge, Value::Null),
        ("PUT", edge, json!({"$relationshipName": "contains", "$targetId": "c"})),
        ("PATCH", edge, patch),
        ("DELETE", edge, Value::Null),
        ("GET", "/eventroutes", Value::Null),
        ("GET", "/eventroutes/r", Value::Null),
        ("PUT", "/eventroutes/r", json!({"endpointName": "e", "filter": "true"})),
        ("DELETE", "/eventroutes/r", Value::Null),
    ];
    list.into_iter().map(|(method, path, body)| (method, path.to_owned(), body)).collect()
}

async fn graph() -> Fixture {
    let fixture = Fixture::with_rooms(&["a", "b", "c"]).await;
    let body = json!({"$relationshipName": "contains", "$targetId": "b"});
    fixture.ask("PUT", "/digitaltwins/a/relationships/e").json(&body).send().await.is(200);
    fixture
}

/// Everything that can be read, as one text.
async fn state(fixture: &Fixture) -> String {
    let mut state = String::new();
    for query in ["SELECT * FROM DIGITALTWINS", "SELECT * FROM RELATIONSHIPS"] {
        state += &fixture.ask("POST", "/query").json(&json!({"query": query})).send().await.is(200).text();
    }
    for list in ["/models?includeModelDefinition=true", "/eventroutes"] {
        state += &fixture.ask("GET", list).send().await.is(200).text();
    }
    state
}

#[tokio::test]
async fn every_operation_of_the_published_list_has_a_route() {
    let fixture = Fixture::new().await;
    let listed = operations();
    let routes = fixture.door.routes();
    assert_eq!(routes.iter().filter(|route| route.is_built).count(), listed.len());
    for route in routes.iter().filter(|route| route.is_built) {
        let is_asked = listed.iter().any(|(method, path, _)| is_of(route, method, path));
        assert!(is_asked, "{} is never asked here", route.operation);
    }
}

fn is_of(route: &RouteInfo, method: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (route.template.split('/').collect(), path.split('/').collect());
    let fits = |(part, segment): (&&str, &&str)| part.starts_with('{') || part == segment;
    route.method == method && template.len() == path.len() && template.iter().zip(&path).all(fits)
}

/// Operations that read a body, each with the most that it reads.
fn with_bodies(fixture: &Fixture) -> Vec<(&'static str, String, usize)> {
    let routes = fixture.door.routes();
    let sent = operations().into_iter().filter(|(method, _, _)| matches!(*method, "POST" | "PUT" | "PATCH"));
    sent.map(|(method, path, _)| {
        let route = routes.iter().find(|route| is_of(route, method, &path)).unwrap();
        (method, path, route.body_bytes_max)
    })
    .collect()
}

#[tokio::test]
async fn a_malformed_body_is_refused_by_every_operation_that_reads_one_and_changes_nothing() {
    let fixture = graph().await;
    let before = state(&fixture).await;
    let deep = "[".repeat(10_000);
    let bodies: [&[u8]; 14] = [
        b"",
        b" ",
        b"{",
        b"[",
        b"null",
        b"5",
        b"1e999",
        b"\"x\"",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{}x",
        b"[,]",
        b"{\"a\":\"\\ud800\"}",
        deep.as_bytes(),
    ];
    for (method, path, _) in with_bodies(&fixture) {
        for body in bodies {
            let what = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
            let ask = fixture.ask(method, &path).header("message-id", "m").bytes(body.to_vec());
            let answer = ask.send().await.is(400);
            if method == "PATCH" {
                let kind = answer.header("content-type");
                assert_eq!(kind, Some("application/problem+json; charset=utf-8"), "{path} {what}");
            } else {
                assert_eq!(
                    answer.refused(400, "InvalidArgument").message(),
                    "Payload is invalid.",
                    "{path} {what}"
                );
            }
        }
    }
    assert_eq!(state(&fixture).await, before);
}

#[tokio::test]
async fn a_body_larger_than_its_operation_takes_is_refused_and_changes_nothing() {
    let fixture = graph().await;
    let before = state(&fixture).await;
    for (method, path, max) in with_bodies(&fixture) {
        assert!(
            max < caps::HTTP_BODY_BYTES_MAX || path == "/models",
            "{method} {path} has no limit of its own"
        );
        // Nonsense, so that what is not too large is refused for another reason.
        let of = |bytes: usize| {
            fixture.ask(method, &path).header("message-id", "m").bytes(vec![b' '; bytes]).send()
        };
        of(max).await.is(400);
        of(max + 1).await.refused(413, "RequestEntityTooLarge");
    }
    assert_eq!(state(&fixture).await, before);
}

/// Method, path with nameless parameters, operation id.
fn published() -> Option<BTreeSet<(String, String, String)>> {
    let document =
        test_data::shared_json("spec/openapi/digital-twins/digitaltwins-dataplane-2023-10-31.json")?;
    let mut found = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if let Some(id) = operation["operationId"].as_str() {
                found.insert((method.to_uppercase(), nameless(path), id.to_owned()));
            }
        }
    }
    Some(found)
}

fn nameless(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn the_routes_are_the_published_operations() {
    let Some(published) = published() else { return };
    let fixture = Fixture::new().await;
    let routes = fixture.door.routes();
    let ours = routes.iter().map(|r| (r.method.to_owned(), nameless(r.template), r.operation.to_owned()));
    assert_eq!(ours.collect::<BTreeSet<_>>(), published);
}

#[tokio::test]
async fn without_a_good_token_every_operation_answers_the_gateways_401_and_changes_nothing() {
    let fixture = graph().await;
    let before = state(&fixture).await;
    let wrong_audience = format!("Bearer {}", fixture.token_for("https://iothubs.azure.net").await);
    let other = Fixture::new().await;
    let foreign = format!("Bearer {}", other.owner);
    let credentials = [
        None,
        Some("Bearer"),
        Some("Bearer nonsense"),
        Some("Basic eDp5"),
        Some(&*wrong_audience),
        Some(&*foreign),
    ];
    for (method, path, body) in operations() {
        for credential in credentials {
            let answer =
                fixture.ask(method, &path).authorization(credential).json(&body).send().await.is(401);
            assert_eq!(
                answer.text(),
                r#"{ "statusCode": 401, "message": "Unauthorized" }"#,
                "{method} {path}"
            );
            assert_eq!(answer.text().len(), 48);
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    }
    assert_eq!(state(&fixture).await, before);
}

#[tokio::test]
async fn an_expired_token_is_no_token() {
    let fixture = graph().await;
    fixture.clock.advance(Duration::from_hours(2));
    for (method, path, body) in operations() {
        fixture.ask(method, &path).json(&body).send().await.is(401);
    }
}

#[tokio::test]
async fn the_owner_of_another_instance_may_do_nothing_here() {
    let fixture = graph().await;
    let before = state(&fixture).await;
    for (method, path, body) in operations() {
        let ask = fixture.ask(method, &path).bearer(&fixture.stranger).header("message-id", "m");
        let answer = ask.json(&body).send().await.refused(403, "AuthorizationFailed");
        assert!(
            answer.message().contains("does not have authorization to perform action"),
            "{}",
            answer.message()
        );
    }
    assert_eq!(state(&fixture).await, before);
    fixture
        .ask("GET", "/models")
        .bearer(&fixture.stranger)
        .host("other.api.eus.digitaltwins.localhost")
        .send()
        .await
        .is(200);
}

#[tokio::test]
async fn a_reader_reads_and_queries_and_changes_nothing() {
    let fixture = graph().await;
    let before = state(&fixture).await;
    for (method, path, body) in operations() {
        if path == "/eventroutes/r" && method == "GET" {
            continue;
        }
        let ask = fixture.ask(method, &path).bearer(&fixture.reader).header("message-id", "m");
        let answer = ask.json(&body).send().await;
        if method == "GET" || path == "/query" {
            answer.is(200);
        } else {
            answer.refused(403, "AuthorizationFailed");
        }
    }
    assert_eq!(state(&fixture).await, before);
}

/// Whoever may not do something is told that, and not what is wrong with how it was asked for.
#[tokio::test]
async fn a_caller_without_the_right_is_refused_before_anything_of_the_request_is_looked_at() {
    let fixture = graph().await;
    let before = state(&fixture).await;
    let asked = operations().into_iter();
    for (method, path, _) in asked {
        let is_read = method == "GET" || path == "/query";
        let callers =
            if is_read { vec![&fixture.stranger] } else { vec![&fixture.stranger, &fixture.reader] };
        for caller in callers {
            for path in [path.clone(), format!("{path}?max-items-per-page=x&includeModelDefinition=x")] {
                let separator = if path.contains('?') { '&' } else { '?' };
                let request = http::Request::builder()
                    .method(method)
                    .uri(format!("{path}{separator}api-version={VERSION}"))
                    .header("host", HOST)
                    .header("if-match", "nonsense")
                    .header("authorization", format!("Bearer {caller}"));
                let (parts, ()) = request.body(()).unwrap().into_parts();
                let head = Head::new(&parts, Peer::default());
                let answer = fixture.door.serve(head, Box::new(NeverRead)).await;
                assert_eq!(answer.status, 403, "{method} {path}");
                assert_eq!(answer.body_json()["error"]["code"], "AuthorizationFailed", "{method} {path}");
            }
        }
    }
    assert_eq!(state(&fixture).await, before);
}

#[tokio::test]
async fn a_body_without_its_required_members_is_refused() {
    let fixture = graph().await;
    let before = state(&fixture).await;
    for (method, path, _) in with_bodies(&fixture) {
        for body in ["{}", "[{}]"] {
            // Telemetry has no required members.
            if path.ends_with("/telemetry") && body == "{}" {
                continue;
            }
            fixture.ask(method, &path).header("message-id", "m").bytes(body).send().await.is(400);
        }
    }
    assert_eq!(state(&fixture).await, before);
}

#[tokio::test]
async fn an_api_version_is_required_and_must_be_published() {
    let fixture = graph().await;
    for (method, path, body) in operations() {
        let ask = fixture.ask(method, &format!("{path}?no-version")).json(&body);
        ask.send().await.refused(400, "ApiVersionUnspecified");
        for version in ["2021-04-12", "2023-10-31-preview", "x"] {
            let ask = fixture.ask(method, &format!("{path}?api-version={version}")).json(&body);
            ask.send().await.refused(400, "UnsupportedApiVersion");
        }
    }
    for version in
        ["2020-10-31", "2021-06-30-preview", "2022-05-31", "2023-02-27-preview", "2023-06-30", "2023-10-31"]
    {
        fixture.ask("GET", &format!("/digitaltwins/a?api-version={version}")).send().await.is(200);
    }
}

#[tokio::test]
async fn unknown_paths_methods_and_jobs_are_told_in_the_envelope() {
    let fixture = graph().await;
    fixture.ask("GET", "/nowhere").send().await.refused(404, "NotFound");
    fixture.ask("PUT", "/query").send().await.refused(405, "MethodNotAllowed");
    let routes = fixture.door.routes();
    let jobs = routes.iter().filter(|route| route.template.starts_with("/jobs"));
    assert_eq!(jobs.clone().filter(|route| !route.is_built).count(), 8);
    for route in jobs {
        let path = route.template.replace("{id}", "j");
        fixture.ask(route.method, &path).json(&json!({})).send().await.refused(404, "NotSupported");
    }
}

#[tokio::test]
async fn the_host_chooses_the_instance_and_the_default_one_answers_unnamed_hosts() {
    let fixture = graph().await;
    for host in ["TWINS.api.eus.digitaltwins.localhost:8443", "localhost:8443", "127.0.0.1"] {
        fixture.ask("GET", "/digitaltwins/a").host(host).send().await.is(200);
    }
    let ask = fixture.ask("GET", "/digitaltwins/a").host("other.api.eus.digitaltwins.localhost");
    ask.bearer(&fixture.stranger).send().await.refused(404, "DigitalTwinNotFound");
}

#[tokio::test]
async fn an_instance_without_public_access_answers_this_machine_only() {
    let fixture = graph().await;
    let closed = digital_twins::InstanceSettings { public_network_access: false, ..settings("twins", true) };
    fixture.instances.ensure(closed).await.unwrap();
    let from =
        |address: &str| Peer { remote: Some(address.parse::<SocketAddr>().unwrap()), ..Peer::default() };
    fixture.ask("GET", "/models").peer(from("10.0.0.1:5")).send().await.refused(403, "Forbidden");
    fixture.ask("GET", "/models").peer(from("127.0.0.1:5")).send().await.is(200);
    fixture.ask("GET", "/models").peer(from("[::ffff:127.0.0.1]:5")).send().await.is(200);
}

struct Nothing;

impl Limits for Nothing {
    fn charge(&self, _: Meter, _: &InstanceId) -> Result<(), Throttled> {
        Err(Throttled { retry_after: Duration::from_secs(7) })
    }
}

#[tokio::test]
async fn a_throttled_caller_gets_the_gateways_429() {
    let fixture = Fixture::throttled(Throttle::with(std::sync::Arc::new(Nothing))).await;
    let answer = fixture.ask("GET", "/models").send().await.is(429);
    assert_eq!(
        answer.text(),
        r#"{ "error": { "statusCode": 429, "message": "Maximum request rate limit reached. For Azure Digital Twins rate limiting details please see http://aka.ms/dtv2limits." } }"#
    );
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let query = json!({"query": "SELECT * FROM DIGITALTWINS"});
    let answer = fixture.ask("POST", "/query").json(&query).send().await.refused(429, "QuotaReachedError");
    assert_eq!(answer.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn every_operation_is_metered() {
    let fixture = Fixture::throttled(Throttle::with(std::sync::Arc::new(Nothing))).await;
    for (method, path, body) in operations() {
        fixture.ask(method, &path).header("message-id", "m").json(&body).send().await.is(429);
    }
}

#[tokio::test]
async fn every_answer_carries_the_services_headers_and_the_clients_trace() {
    let fixture = graph().await;
    let trace = "18f4e34b3e4a784aadf5913917537e7d";
    for (path, authorization) in [("/models", true), ("/models", false), ("/nowhere", true)] {
        let ask = fixture.ask("GET", path).header("traceparent", &format!("00-{trace}-691a71e0a220d642-01"));
        let ask = if authorization { ask } else { ask.authorization(None) };
        let answer = ask.send().await;
        let response = answer.header("traceresponse").unwrap();
        assert_eq!((&response[..36], &response[52..]), (&*format!("00-{trace}-"), "-01"), "{response}");
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=2592000"));
        assert_eq!(answer.header("mise-correlation-id").unwrap().len(), 36);
    }
    assert_eq!(fixture.ask("GET", "/models").send().await.header("traceresponse").unwrap().len(), 55);
}

/// The body of a request whose sender may not.
struct NeverRead;

impl RequestBody for NeverRead {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Option<Bytes>, Fault>> + Send + '_>> {
        panic!("the body is read");
    }

    fn least(&self) -> u64 {
        0
    }
}
