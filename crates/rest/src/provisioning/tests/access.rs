//! Who gets in and who does not, operation by operation, with nothing changed by those who do not.

use ::access::{IpFilter, IpRule, IpRuleScope, roles};
use base::{Key, caps, sas};
use serde_json::{Value, json};

use super::super::ProvisioningDoor;
use super::fixture::*;
use crate::router::{Door, RouteInfo};
use crate::websocket;
use entrance::Peer;

/// Every operation with a path that would work for the owner.
fn operations() -> Vec<(RouteInfo, String)> {
    let of_back_ends = |route: &RouteInfo| {
        !route.operation.starts_with("RuntimeRegistration_") && route.operation != websocket::OPERATION
    };
    let path = |route: RouteInfo| {
        let id = match (route.method, route.template) {
            (_, template) if template.starts_with("/enrollmentGroups") => "group",
            (_, "/registrations/{id}/query") => "group",
            // It outlives its group, while that of dev-1 goes with its enrollment.
            ("DELETE", "/registrations/{id}") => "member",
            _ => "dev-1",
        };
        (route, route.template.replace("{id}", id))
    };
    ProvisioningDoor::routes().describe().filter(of_back_ends).map(path).collect()
}

/// A body that the operation would take.
fn body(route: &RouteInfo) -> Value {
    match (route.method, route.template) {
        ("PUT", "/enrollments/{id}") => individual("dev-1"),
        ("PUT", _) => group("group"),
        ("POST", "/enrollments") => json!({"mode": "create", "enrollments": [individual("dev-2")]}),
        ("POST", "/enrollmentGroups") => json!({"mode": "create", "enrollmentGroups": [group("group-2")]}),
        _ => json!({}),
    }
}

async fn filled() -> Fixture {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    fixture.register("dev-1", &key).await;
    let group_key = fixture.put_group("group").await;
    fixture.register("member", &group_key.derive("member")).await;
    fixture
}

#[tokio::test]
async fn nothing_gets_in_without_a_good_credential_and_nothing_changes() {
    let fixture = filled().await;
    let owner = "provisioningserviceowner";
    let foreign = sas::build(HOST, &Key::generate(32), fixture.in_seconds(60), Some(owner));
    let mangled = fixture.policy(owner).replace("&se=", "&se=9");
    let device_key = primary_key(&fixture.put_individual("dev-2").await);
    let credentials = [
        ("none", None),
        ("no token", Some("SharedAccessSignature nonsense".to_owned())),
        ("another scheme", Some("Basic dXNlcjpwYXNz".to_owned())),
        ("a key that is not the policy's", Some(foreign)),
        ("a token that was edited", Some(mangled)),
        ("an expired token", Some(fixture.signed(&fixture.service, owner, HOST, -301))),
        ("a policy that is not there", Some(fixture.policy(owner).replace(owner, "nobody"))),
        ("another service's token", Some(fixture.signed(&fixture.other, owner, OTHER_HOST, 60))),
        ("another service's key for this host", Some(fixture.signed(&fixture.other, owner, HOST, 60))),
        ("a token for another path", Some(fixture.signed(&fixture.service, owner, &format!("{HOST}/x"), 60))),
        ("a device's token", Some(fixture.device_token("dev-1", &device_key))),
        ("a bearer of nonsense", Some("Bearer x.y.z".to_owned())),
        (
            "a bearer for another service",
            Some(
                fixture
                    .bearer("mydps", roles::PROVISIONING_DATA_CONTRIBUTOR, "https://iothubs.azure.net")
                    .await,
            ),
        ),
        (
            "a bearer with a role elsewhere",
            Some(fixture.bearer("other", roles::PROVISIONING_DATA_CONTRIBUTOR, AUDIENCE).await),
        ),
        (
            "a bearer with a role that says nothing of data",
            Some(fixture.bearer("mydps", roles::OWNER, AUDIENCE).await),
        ),
    ];
    let before = fixture.state().await;
    for (route, path) in operations() {
        for (what, credential) in &credentials {
            let ask = fixture.ask(route.method, &path).authorization(credential.as_deref());
            let answer = ask.json(&body(&route)).header("if-match", "*").send().await;
            eprintln!("{} with {what}", route.operation);
            answer.refused(401_002);
        }
    }
    assert_eq!(fixture.state().await, before);
}

/// Whether the operation looks at its body at all.
fn reads_body(route: &RouteInfo) -> bool {
    !matches!(route.method, "GET" | "DELETE") && !route.template.ends_with("attestationmechanism")
}

pub(super) const MALFORMED: [&[u8]; 14] = [
    b"{",
    b"[",
    b"[]",
    b"null",
    b"7",
    b"1e999",
    b"\"x\"",
    b"\xff{}",
    b"\xef\xbb\xbf{}",
    b"{}{}",
    b"{\"a\":\"\\ud800\"}",
    b"{\"a\":1e999}",
    b"{'a':1}",
    b"\0",
];

#[tokio::test]
async fn a_malformed_oversized_or_foreign_body_is_refused_by_every_operation_and_changes_nothing() {
    let fixture = filled().await;
    let before = fixture.state().await;
    for (route, path) in operations() {
        let ask = || fixture.ask(route.method, &path).header("if-match", "*");
        let large = " ".repeat(route.body_bytes_max + 1);
        assert_eq!(route.body_bytes_max, caps::PROVISIONING_MESSAGE_BYTES_MAX, "{}", route.operation);
        ask().bytes(large).send().await.refused(413_000);
        if reads_body(&route) {
            for malformed in MALFORMED {
                eprintln!("{} with {}", route.operation, String::from_utf8_lossy(malformed));
                ask().bytes(malformed).send().await.refused(400_004);
            }
            let foreign = ask().bytes(body(&route).to_string()).header("content-type", "text/plain");
            foreign.send().await.refused(415_000);
        }
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn each_right_opens_its_operations_and_no_other() {
    let fixture = filled().await;
    let before = fixture.state().await;
    let enrollment_reads = ["_Get", "_Query"];
    for (route, path) in operations() {
        let is_registration = route.operation.starts_with("DeviceRegistrationState");
        let is_read = enrollment_reads.iter().any(|end| route.operation.ends_with(end));
        for (policy, may) in [
            ("enrollmentreader", is_read && !is_registration),
            ("registrationreader", is_read && is_registration),
            ("configurator", false),
        ] {
            let answer = fixture.ask(route.method, &path).with(&fixture.policy(policy)).json(&body(&route));
            let answer = answer.header("if-match", "*").send().await;
            eprintln!("{} as {policy}", route.operation);
            if may {
                answer.is(200)
            } else {
                answer.refused(401_002)
            };
        }
    }
    assert_eq!(fixture.state().await, before);
}

/// Whoever may not do something is told that, and not what is wrong with how it was asked for. What a bulk operation does is
/// only in its body.
#[tokio::test]
async fn a_caller_without_the_right_learns_nothing_of_its_body() {
    let fixture = filled().await;
    for (route, path) in operations() {
        if route.operation.ends_with("RunBulkOperation") {
            continue;
        }
        for body in ["{", "[]", r#"{"registrationId": 7}"#] {
            let ask = fixture.ask(route.method, &path).with(&fixture.policy("configurator")).bytes(body);
            eprintln!("{} with {body}", route.operation);
            ask.send().await.refused(401_002);
        }
    }
}

#[tokio::test]
async fn the_data_roles_of_entra_say_what_a_principal_may_do() {
    let fixture = filled().await;
    let reader = fixture.bearer("mydps", roles::PROVISIONING_DATA_READER, AUDIENCE).await;
    for (route, path) in operations() {
        let is_read = ["_Get", "_Query"].iter().any(|end| route.operation.ends_with(end));
        let answer = fixture.ask(route.method, &path).with(&reader).json(&body(&route)).send().await;
        eprintln!("{}", route.operation);
        if is_read {
            answer.is(200);
        } else {
            let refusal = answer.refused(401_002).json();
            assert!(refusal["message"].as_str().unwrap().contains("provisioningServices/"), "{refusal}");
        }
    }
    let contributor = fixture.contributor().await;
    let (deletes, others): (Vec<_>, Vec<_>) =
        operations().into_iter().partition(|(route, _)| route.method == "DELETE");
    for (route, path) in others.into_iter().chain(deletes) {
        eprintln!("{}", route.operation);
        let ask = fixture.ask(route.method, &path).with(&contributor).json(&body(&route));
        let answer = ask.header("if-match", "*").send().await;
        answer.is(if route.method == "DELETE" { 204 } else { 200 });
    }
}

#[tokio::test]
async fn a_registration_writer_deletes_registrations_but_no_enrollments() {
    let fixture = filled().await;
    let writer = fixture.policy("registrationwriter");
    fixture.ask("DELETE", "/enrollments/dev-1").with(&writer).send().await.refused(401_002);
    fixture.ask("DELETE", "/registrations/dev-1").with(&writer).send().await.is(204);
    fixture.ask("GET", "/registrations/dev-1").with(&writer).send().await.refused(404_201);
}

#[tokio::test]
async fn both_keys_any_case_of_the_host_and_a_prefix_of_the_path_open() {
    let fixture = filled().await;
    let settings = fixture.service.settings();
    let policy = settings.policy("provisioningserviceowner").unwrap();
    for (resource, key) in [
        (HOST.to_owned(), &policy.secondary_key),
        (HOST.to_ascii_uppercase(), &policy.primary_key),
        (format!("{HOST}/enrollments"), &policy.primary_key),
        (format!("{HOST}/enrollments/dev-1"), &policy.secondary_key),
    ] {
        let token = sas::build(&resource, key, fixture.in_seconds(60), Some(&policy.key_name));
        fixture.ask("GET", "/enrollments/dev-1").with(&token).send().await.is(200);
    }
}

#[tokio::test]
async fn a_service_without_local_authentication_takes_bearer_tokens_only() {
    let fixture = filled().await;
    let mut settings = (*fixture.service.settings()).clone();
    settings.disable_local_auth = true;
    fixture.services.ensure(settings).await.unwrap();
    fixture.ask("GET", "/enrollments/dev-1").send().await.refused(401_002);
    fixture.ask("GET", "/enrollments/dev-1").with(&fixture.contributor().await).send().await.is(200);
}

#[tokio::test]
async fn ip_rules_tell_devices_and_back_ends_apart() {
    let fixture = filled().await;
    let key = primary_key(&fixture.put_individual("dev-2").await);
    let from = |address: &str| Peer { remote: Some(address.parse().unwrap()), ..Peer::default() };
    for (scope, device_may, back_end_may) in [
        (Some(IpRuleScope::DeviceApi), false, true),
        (Some(IpRuleScope::ServiceApi), true, false),
        (None, false, false),
    ] {
        let rule = IpRule { accepts: false, mask: "127.0.0.9".parse().unwrap(), scope };
        let mut settings = (*fixture.service.settings()).clone();
        settings.ip_filter = IpFilter { rules: vec![rule], ..IpFilter::default() };
        fixture.services.ensure(settings).await.unwrap();
        let answer = fixture.ask("GET", "/enrollments/dev-1").peer(from("127.0.0.9:1")).send().await;
        if back_end_may {
            answer.is(200)
        } else {
            answer.refused(401_002)
        };
        let answer = fixture.device("PUT", "dev-2", "/register", &key).peer(from("127.0.0.9:1")).send().await;
        if device_may {
            answer.is(202)
        } else {
            answer.refused(401_002)
        };
        let answer = fixture.device("PUT", "dev-2", "/register", &key).peer(from("127.0.0.8:1")).send().await;
        answer.is(202);
    }
}

#[tokio::test]
async fn a_closed_network_lets_in_this_machine_only() {
    let fixture = filled().await;
    let key = primary_key(&fixture.put_individual("dev-2").await);
    let mut settings = (*fixture.service.settings()).clone();
    settings.public_network_access = false;
    fixture.services.ensure(settings).await.unwrap();
    let from = |address: &str| Peer { remote: Some(address.parse().unwrap()), ..Peer::default() };
    for (address, may) in [("127.0.0.1:1", true), ("[::ffff:127.0.0.1]:1", true), ("192.0.2.7:1", false)] {
        let answer = fixture.ask("GET", "/enrollments/dev-1").peer(from(address)).send().await;
        if may {
            answer.is(200)
        } else {
            answer.refused(401_002)
        };
        let answer = fixture.device("PUT", "dev-2", "/register", &key).peer(from(address)).send().await;
        if may {
            answer.is(202)
        } else {
            answer.refused(401_002)
        };
    }
}

#[tokio::test]
async fn the_host_chooses_the_service_and_a_foreign_one_has_none() {
    let fixture = filled().await;
    let token = fixture.signed(&fixture.other, "provisioningserviceowner", OTHER_HOST, 60);
    let elsewhere = fixture.ask("GET", "/enrollments/dev-1").host(OTHER_HOST).with(&token).send().await;
    elsewhere.refused(404_201);
    // Without a default service an unknown host has nothing behind it.
    fixture.services.remove(fixture.service.instance()).await.unwrap();
    fixture.ask("GET", "/enrollments/dev-1").host("nowhere.test").send().await.refused(404_000);
}

#[tokio::test]
async fn every_request_names_a_version_and_any_date_will_do() {
    let fixture = filled().await;
    for version in ["2018-04-01", "2018-09-01-preview", "2019-03-31", "2026-04-01", "2031-12-24"] {
        fixture.ask("GET", &format!("/enrollments/dev-1?api-version={version}")).send().await.is(200);
    }
    for query in [
        "no-version=1",
        "api-version=",
        "api-version=latest",
        "api-version=2021-10-1",
        "api-version=20211-0-01",
    ] {
        fixture.ask("GET", &format!("/enrollments/dev-1?{query}")).send().await.refused(400_001);
    }
    // Whoever has no credential learns nothing of versions.
    let nobody = fixture.ask("GET", "/enrollments/dev-1?no-version").authorization(None);
    nobody.send().await.refused(401_002);
}

#[tokio::test]
async fn what_is_no_operation_is_told_from_what_lacks_an_id() {
    let fixture = filled().await;
    for (method, path) in [
        ("GET", "/enrollments"),
        ("DELETE", "/enrollmentGroups/"),
        ("GET", "/registrations"),
        ("PATCH", "/enrollments/dev-1"),
        ("POST", "/enrollments/dev-1"),
    ] {
        fixture.ask(method, path).send().await.refused(405_000);
    }
    for path in ["/", "/devices/dev-1", "/enrollments/dev-1/more", "/registrations/a/b/c/d"] {
        fixture.ask("GET", path).send().await.refused(404_000);
    }
    fixture.ask("GET", "/Enrollments/DEV-1").send().await.is(200);
    fixture.ask("POST", "/enrollmentgroups/group/AttestationMechanism").send().await.is(200);
}
