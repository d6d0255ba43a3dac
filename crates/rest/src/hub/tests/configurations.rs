//! Configurations: what is taken, what is answered, etags in their one form, and contents that are applied at once.

use std::time::Duration;

use serde_json::json;

use super::fixture::*;

const CONTENT: &str = r#"{"deviceContent":{"properties.desired.settings":{"a":1}}}"#;

fn configuration(rest: &str) -> String {
    format!(r#"{{"content":{CONTENT}{rest}}}"#)
}

#[tokio::test]
async fn a_configuration_is_shown_as_the_service_shows_it() {
    let test = TestDoor::new().await;
    let sent = configuration(
        r#","id":"c1","schemaVersion":null,"labels":{"k":"v"},"targetCondition":"tags.env='x'","priority":10,
        "metrics":{"results":{"m":7},"queries":{"m":"SELECT deviceId FROM devices WHERE tags.env = 'x'"}},"etag":"MTA="}"#
            .trim_end_matches('}'),
    );
    let made = test.owner("PUT", "/configurations/c1", &sent).await;
    made.status_is(200);
    assert_eq!(made.header_value("etag"), Some("\"MQ==\""));
    let time = "2026-01-02T03:04:05.1234567Z";
    let expected = json!({
        "id": "c1", "schemaVersion": null, "labels": {"k": "v"},
        "content": {"deviceContent": {"properties.desired.settings": {"a": 1}}},
        "targetCondition": "tags.env='x'", "createdTimeUtc": time, "lastUpdatedTimeUtc": time, "priority": 10,
        "systemMetrics": {"results": {}, "queries": {
            "targetedCount": "select deviceId from devices where tags.env='x'",
            "appliedCount": "select deviceId from devices where configurations.[[c1]].status = 'Applied'",
        }},
        "metrics": {"results": {}, "queries": {"m": "SELECT deviceId FROM devices WHERE tags.env = 'x'"}},
        "etag": "MQ==",
    });
    assert_eq!(made.body_json(), expected);
    let shown = test.owner("GET", "/configurations/c1", "").await;
    let mut body = shown.body_json();
    for metrics in ["metrics", "systemMetrics"] {
        // They may have been counted by now.
        body[metrics]["results"] = json!({});
    }
    assert_eq!((body, shown.header_value("etag")), (expected, Some("\"MQ==\"")));
    let listed =
        test.ask("GET", "/configurations/", "").by_owner().query(&format!("{VERSION}&top=1")).send().await;
    let ids: Vec<_> = listed.body_json().as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(json!(ids), json!(["c1", "cfg1"]));
    test.owner("DELETE", "/configurations/c1", "").await.status_is(204);
    test.owner("GET", "/configurations/c1", "").await.refused(404, "ConfigurationNotFound");
    test.owner("DELETE", "/configurations/c1", "").await.refused(404, "ConfigurationNotFound");
}

#[tokio::test]
async fn only_a_star_or_a_quoted_etag_makes_an_update() {
    let test = TestDoor::new().await;
    let put = async |tag: Option<&str>, rest: &str| {
        let body = configuration(rest);
        let ask = test.ask("PUT", "/configurations/c1", &body).by_owner();
        match tag {
            Some(tag) => ask.if_match(tag).send().await,
            None => ask.send().await,
        }
    };
    for any in ["*", "\"*\""] {
        put(Some(any), "").await.refused(404, "ConfigurationNotFound");
    }
    put(None, "").await.status_is(200);
    for absent in [None, Some("MQ=="), Some("W/\"MQ==\""), Some("\"")] {
        put(absent, "").await.refused(409, "ConfigurationAlreadyExists");
    }
    for stale in ["\"Mg==\"", "\"\"", "\"1\""] {
        put(Some(stale), "").await.refused(412, "PreconditionFailed");
    }
    let updated = put(Some("\"MQ==\""), r#","priority":7,"targetCondition":"*""#).await.body_json();
    assert_eq!(
        (&updated["etag"], &updated["priority"], &updated["labels"]),
        (&json!("Mg=="), &json!(7), &json!(null))
    );
    let forced = put(Some("\"*\""), "").await.body_json();
    assert_eq!(
        (&forced["etag"], &forced["priority"], &forced["targetCondition"]),
        (&json!("Mw=="), &json!(0), &json!(null))
    );
    assert_eq!(put(Some("*"), "").await.body_json()["etag"], "NA==", "as the client of Java forces it");
    let delete =
        async |tag| test.ask("DELETE", "/configurations/c1", "").by_owner().if_match(tag).send().await;
    delete("\"MQ==\"").await.refused(412, "PreconditionFailed");
    delete("MQ==").await.status_is(204);
}

#[tokio::test]
async fn another_content_is_taken_for_the_first_one() {
    let test = TestDoor::new().await;
    test.owner("PUT", "/configurations/c1", &configuration("")).await.status_is(200);
    let other = r#"{"content":{"moduleContent":{"properties.desired.b":2}},"priority":1}"#;
    let answer = test.ask("PUT", "/configurations/c1", other).by_owner().if_match("\"*\"").send().await;
    answer.status_is(200);
    let content = json!({"deviceContent": {"properties.desired.settings": {"a": 1}}});
    assert_eq!((&answer.body_json()["content"], &answer.body_json()["priority"]), (&content, &json!(1)));
}

#[tokio::test]
async fn what_is_no_configuration_is_refused_by_its_name_and_nothing_is_kept() {
    let test = TestDoor::new().await;
    let before = test.state().await;
    let six: Vec<_> = (0..6).map(|n| format!(r#""m{n}":"SELECT deviceId FROM devices""#)).collect();
    let table = [
        ("InvalidConfigurationContent", "{}".to_owned()),
        ("InvalidConfigurationContent", r#"{"content":{}}"#.to_owned()),
        (
            "InvalidConfigurationContent",
            r#"{"content":{"deviceContent":{"properties.desired.a":1},"moduleContent":{"properties.desired.a":1}}}"#.to_owned(),
        ),
        ("InvalidConfigurationContent", r#"{"content":{"deviceContent":{"tags.a":1}}}"#.to_owned()),
        ("InvalidConfigurationContent", r#"{"content":{"deviceContent":{"properties.desired":1}}}"#.to_owned()),
        ("InvalidConfigurationContent", r#"{"content":{"deviceContent":{"properties.desired.a..b":1}}}"#.to_owned()),
        ("InvalidConfigurationContent", r#"{"content":{"deviceContent":{"properties.desired.$a":1}}}"#.to_owned()),
        ("InvalidConfigurationContent", r#"{"content":{"modulesContent":{"m":{"properties.desired":{}}}}}"#.to_owned()),
        ("InvalidConfigurationContent", r#"{"content":{"modulesContent":{"$edgeAgent":{"a":{}}}}}"#.to_owned()),
        ("InvalidConfigurationTargetCondition", configuration(r#","targetCondition":"tags.a ===""#)),
        ("InvalidConfigurationTargetCondition", configuration(r#","targetCondition":"status = 'enabled'""#)),
        ("InvalidConfigurationTargetCondition", configuration(r#","targetCondition":"properties.desired.a = 1""#)),
        ("InvalidConfigurationTargetCondition", configuration(r#","targetCondition":"FROM devices.modules WHERE tags.a = 1""#)),
        (
            "InvalidConfigurationTargetCondition",
            r#"{"content":{"moduleContent":{"properties.desired.a":1}},"targetCondition":"tags.a = 1"}"#.to_owned(),
        ),
        ("InvalidConfigurationCustomMetricsQuery", configuration(r#","metrics":{"queries":{"m":"SELECT"}}"#)),
        ("InvalidConfigurationCustomMetricsQuery", configuration(r#","metrics":{"queries":{"m":"SELECT * FROM devices.jobs"}}"#)),
        ("InvalidConfigurationCustomMetricsQuery", configuration(&format!(r#","metrics":{{"queries":{{{}}}}}"#, six.join(",")))),
        ("ArgumentInvalid", configuration(r#","priority":-1"#)),
        ("ArgumentInvalid", configuration(r#","priority":1.5"#)),
        ("ArgumentInvalid", configuration(r#","labels":{"a":1}"#)),
        ("ArgumentInvalid", configuration(r#","id":"other""#)),
    ];
    for (name, body) in table {
        test.owner("PUT", "/configurations/c1", &body).await.refused(400, name);
    }
    for id in ["C1", "a.b", "a%20b", &"x".repeat(129)] {
        let path = format!("/configurations/{id}");
        test.owner("PUT", &path, &configuration("")).await.refused(400, "ArgumentInvalid");
    }
    assert_eq!(test.state().await, before);
    for id in ["a-b+c%25_*!'", &"x".repeat(128)] {
        test.owner("PUT", &format!("/configurations/{id}"), &configuration("")).await.status_is(200);
    }
    assert_eq!(test.owner("GET", "/configurations/a-b+c%25_*!'", "").await.body_json()["id"], "a-b+c%_*!'");
}

#[tokio::test]
async fn queries_are_tried_and_what_is_wrong_with_them_is_the_answer() {
    let test = TestDoor::new().await;
    let ask = async |body: &str| {
        let answer = test.owner("POST", "/configurations/testQueries", body).await;
        answer.status_is(200);
        answer.body_json()
    };
    let right = r#"{"targetCondition":"FROM devices.modules WHERE tags.a = 1","customMetricQueries":{"m":"SELECT deviceId FROM devices"}}"#;
    let nothing = json!({"targetConditionError": null, "customMetricQueryErrors": {}});
    assert_eq!(ask(right).await, nothing);
    assert_eq!(ask("{}").await, nothing);
    let wrong = ask(r#"{"targetCondition":"tags.a ===","customMetricQueries":{"m":"SELECT","n":"SELECT * FROM devices"}}"#).await;
    assert!(wrong["targetConditionError"].as_str().unwrap().contains("cannot be read"), "{wrong}");
    let faults = wrong["customMetricQueryErrors"].as_object().unwrap();
    assert_eq!(faults.keys().collect::<Vec<_>>(), ["m"]);
    assert!(ask(r#"{"targetCondition":"*"}"#).await["targetConditionError"].is_string());
}

#[tokio::test]
async fn a_twin_shows_its_configurations_and_queries_find_it_by_them() {
    let test = TestDoor::new().await;
    test.owner("PATCH", "/twins/dev1", r#"{"tags":{"env":"x"}}"#).await.status_is(200);
    let sent = configuration(
        r#","targetCondition":"tags.env = 'x'","metrics":{"queries":{"m":"SELECT * FROM devices"}}"#,
    );
    test.owner("PUT", "/configurations/c1", &sent).await.status_is(200);
    let counted = async {
        loop {
            let shown = test.owner("GET", "/configurations/c1", "").await.body_json();
            // The first count may be of before the walk.
            if shown["systemMetrics"]["results"] == json!({"targetedCount": 1, "appliedCount": 1}) {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    };
    let shown = tokio::time::timeout(Duration::from_secs(30), counted).await.expect("it is counted");
    assert_eq!(shown["metrics"]["results"], json!({"m": 1}));
    let twin = test.owner("GET", "/twins/dev1", "").await.body_json();
    assert_eq!(twin["configurations"], json!({"c1": {"status": "Applied"}}));
    assert_eq!(twin["properties"]["desired"]["settings"], json!({"a": 1}));
    for query in shown["systemMetrics"]["queries"].as_object().unwrap().values() {
        let found = test.owner("POST", "/devices/query", &json!({ "query": query }).to_string()).await;
        assert_eq!(found.body_json(), json!([{"deviceId": "dev1"}]), "{query}");
    }
    // What a client sends back along with a twin changes nothing of it.
    test.owner("PATCH", "/twins/dev1", r#"{"configurations":{},"tags":{"env":"y"}}"#).await.status_is(200);
    let twin = test.owner("GET", "/twins/dev1", "").await.body_json();
    assert_eq!(
        (&twin["configurations"], &twin["properties"]["desired"]["settings"]),
        (&json!(null), &json!(null))
    );
}

#[tokio::test]
async fn a_content_is_applied_to_one_device_at_once() {
    let test = TestDoor::new().await;
    let apply = async |device: &str, content: &str| {
        test.owner("POST", &format!("/devices/{device}/applyConfigurationContent"), content).await
    };
    apply("dev1", CONTENT).await.status_is(204);
    let desired = async |path: &str| {
        let mut twin = test.owner("GET", path, "").await.body_json();
        let desired = twin["properties"]["desired"].as_object_mut().unwrap();
        desired.retain(|name, _| !name.starts_with('$'));
        json!(desired)
    };
    assert_eq!(desired("/twins/dev1").await, json!({"settings": {"a": 1}}));
    apply("dev1", r#"{"moduleContent":{"properties.desired.b":2}}"#).await.status_is(204);
    assert_eq!(desired("/twins/dev1/modules/mod1").await, json!({"b": 2}));
    let deployment = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"m1": {"type": "docker", "env": null}}}},
        "$edgeHub": {"properties.desired.routes.r": "FROM /* INTO $upstream"},
        "mod1": {"properties.desired": {"interval": 5}},
    }})
    .to_string();
    let refused = apply("dev1", &deployment).await;
    refused.refused(400, "ArgumentInvalid");
    assert!(refused.body_json()["Message"].as_str().unwrap().contains("Not an Azure IoT Edge device"));
    test.ask("PUT", "/devices/dev1", r#"{"capabilities":{"iotEdge":true}}"#)
        .by_owner()
        .if_match("*")
        .send()
        .await
        .status_is(200);
    for _ in 0..2 {
        apply("dev1", &deployment).await.status_is(204);
        let modules = test.owner("GET", "/devices/dev1/modules", "").await.body_json();
        let ids: Vec<_> =
            modules.as_array().unwrap().iter().map(|module| module["moduleId"].clone()).collect();
        assert_eq!(json!(ids), json!(["$edgeAgent", "$edgeHub", "m1", "mod1"]));
        let agent = json!({"schemaVersion": "1.1", "modules": {"m1": {"type": "docker"}}});
        assert_eq!(desired("/twins/dev1/modules/$edgeAgent").await, agent);
        let routes = json!({"routes": {"r": "FROM /* INTO $upstream"}});
        assert_eq!(desired("/twins/dev1/modules/$edgeHub").await, routes);
        assert_eq!(desired("/twins/dev1/modules/mod1").await, json!({"interval": 5}));
    }
    apply("dev1", "{}").await.refused(400, "InvalidConfigurationContent");
    apply("nobody", CONTENT).await.refused(404, "DeviceNotFound");
    let by = |policy| {
        test.ask("POST", "/devices/dev1/applyConfigurationContent", CONTENT)
            .with(test.token_of(policy))
            .send()
    };
    by("registryReadWrite").await.refused(401, "IotHubUnauthorizedAccess");
    by("service").await.refused(401, "IotHubUnauthorizedAccess");
}
