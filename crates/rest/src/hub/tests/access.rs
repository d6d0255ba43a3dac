//! Who may do what, tried with every operation.

use std::time::Duration;

use access::{IpFilter, IpRule, IpRuleScope};
use base::Key;
use hub::HubSettings;
use serde_json::json;
use test_house::hub_settings;

use super::fixture::*;

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
    test.hubs.ensure(hub_settings("second")).await.unwrap();
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
    let registry = |path: &str| match path {
        "/devices/query" => false,
        "/statistics/devices" => true,
        _ if path.starts_with("/jobs") => !path.starts_with("/jobs/v2"),
        _ => (path.starts_with("/devices") || path.starts_with("/configurations")) && !is_of_messages(path),
    };
    for (method, path, body) in OPERATIONS {
        let may = |policy: &str| match policy {
            "service" => !registry(path),
            "registryRead" => registry(path) && *method == "GET",
            "registryReadWrite" => registry(path),
            _ => false,
        };
        for policy in ["service", "device", "registryRead", "registryReadWrite"] {
            // Whoever may not is told that, and not what is wrong with what was sent.
            for body in [*body, "{", "[]"].iter().filter(|_| !may(policy)) {
                let ask = test.ask(method, path, body).if_match("*").with(test.token_of(policy));
                refused(path, &ask.send().await, 401_002, "IotHubUnauthorizedAccess");
            }
        }
        // There is no feedback to be shown, and no such job.
        if *method == "GET" && !is_of_messages(path) && *path != "/jobs/job1" {
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
async fn two_hubs_know_nothing_of_each_other() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let second = test.hubs.ensure(hub_settings("second")).await.unwrap();
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
    let instance = base::InstanceId::from_stored("hub-second-2");
    test.hubs.ensure(HubSettings { instance, ..hub_settings("second") }).await.unwrap();
    ask("GET", path, "").await.refused(401, "IotHubUnauthorizedAccess");
    assert_eq!(test.state().await, before);
}

#[tokio::test]
async fn ip_rules_are_asked_of_back_ends_and_of_devices_at_every_request() {
    let test = TestDoor::new().await;
    let rule = |accepts: bool, mask: &str, scope: Option<IpRuleScope>| IpRule {
        accepts,
        mask: mask.parse().unwrap(),
        scope,
    };
    let rules = vec![
        rule(true, "127.0.0.8", None),
        rule(false, "127.0.0.0/8", Some(IpRuleScope::ServiceApi)),
        rule(false, "192.0.2.0/24", None),
    ];
    let ask = || test.ask("GET", "/devices", "").by_owner();
    ask().from("127.0.0.9:5000").send().await.status_is(200);
    let ip_filter = IpFilter { rules, ..IpFilter::default() };
    test.hubs.ensure(HubSettings { ip_filter, ..(*test.hub.settings()).clone() }).await.unwrap();
    ask().from("127.0.0.8:5000").send().await.status_is(200);
    for elsewhere in ["127.0.0.9:5000", "[::ffff:127.0.0.9]:5000", "192.0.2.1:5000"] {
        ask().from(elsewhere).send().await.refused(401, "IotHubUnauthorizedAccess");
    }
    test.hubs
        .ensure(HubSettings { ip_filter: IpFilter::default(), ..(*test.hub.settings()).clone() })
        .await
        .unwrap();
    ask().from("192.0.2.1:5000").send().await.status_is(200);
}

#[tokio::test]
async fn a_hub_without_public_access_answers_this_machine_only() {
    let test = TestDoor::new().await;
    let private = HubSettings { public_network_access: false, ..(*test.hub.settings()).clone() };
    test.hubs.ensure(private).await.unwrap();
    let ask = || test.ask("GET", "/devices", "").by_owner();
    for here in ["127.0.0.1:5000", "[::ffff:127.0.0.1]:5000"] {
        ask().from(here).send().await.status_is(200);
    }
    ask().from("192.0.2.7:5000").send().await.refused(401, "IotHubUnauthorizedAccess");
}
