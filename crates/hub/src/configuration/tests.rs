//! Configurations: what one may be, how many there may be, what they make of twins, and what is counted of them. That twins are as
//! configurations have them whatever happens is held in `model`.

use std::time::Duration;

use serde_json::{Value, json};

use super::metrics::Count;
use super::*;
use crate::Command;
use crate::device::DeviceSpec;
use crate::job::{Action, JobSpec};
use crate::query::Query;
use crate::testing::{TestHub, next_command, system, within};
use crate::twin::TwinView;

fn id(text: &str) -> ConfigurationId {
    text.parse().unwrap()
}

fn keys(content: Value) -> Object {
    let Value::Object(keys) = content else { panic!("no object") };
    keys
}

fn spec(text: &str, condition: &str, content: Value) -> ConfigurationSpec {
    ConfigurationSpec {
        id: id(text),
        schema_version: None,
        labels: None,
        content: ContentSpec { device: Some(keys(content)), ..ContentSpec::default() },
        target_condition: Some(condition.to_owned()),
        priority: 0,
        metrics: BTreeMap::new(),
    }
}

impl TestHub {
    async fn configures(&self, spec: &ConfigurationSpec) -> Result<ConfigurationView, Error> {
        self.put_configuration(&system(), spec, &IfMatch::Absent).await
    }
}

#[tokio::test]
async fn a_hub_holds_a_hundred_configurations_however_many_come_at_once() {
    let hub = TestHub::new().await;
    for number in 1..caps::CONFIGURATIONS_MAX {
        hub.configures(&spec(&format!("c{number}"), "", json!({}))).await.unwrap();
    }
    let (first, second) = (spec("a", "", json!({})), spec("b", "", json!({})));
    let (first, second) = tokio::join!(hub.configures(&first), hub.configures(&second));
    let full = Err(Error::ConfigurationCountLimitExceeded(caps::CONFIGURATIONS_MAX));
    assert_eq!([&first, &second].into_iter().filter(|made| made.is_ok()).count(), 1);
    assert!(first == full || second == full);
    let all = hub.list_configurations(&system()).await.unwrap();
    assert_eq!(i64::try_from(all.len()).unwrap(), caps::CONFIGURATIONS_MAX);
    hub.delete_configuration(&system(), &id("c7"), &IfMatch::Absent).await.unwrap();
    hub.configures(&spec("c7", "", json!({}))).await.unwrap();
    assert_eq!(hub.configures(&spec("c100", "", json!({}))).await, full);
}

#[test]
fn keys_of_a_content_are_paths_of_desired_properties() {
    let desired = |content: Value| rules::desired(&keys(content)).map(Value::Object).ok();
    let nested = json!({
        "properties.desired": {"a": {"x": 1}, "none": null},
        "properties.desired.a.y": [2],
        "properties.desired.b.c": {"d": {}, "none": null},
    });
    assert_eq!(desired(nested), Some(json!({"a": {"x": 1, "y": [2]}, "b": {"c": {"d": {}}}})));
    assert_eq!(desired(json!({})), Some(json!({})));
    for wrong in [
        "",
        "desired.a",
        "properties.desiredx",
        "properties.desired.",
        "properties.desired.a.",
        "properties.reported.a",
    ] {
        assert_eq!(desired(json!({wrong: {}})), None, "{wrong}");
    }
    let deep = format!("properties.desired.{}", ["k"; 12].join("."));
    assert_eq!(desired(json!({deep: 1})), None);
    assert_eq!(desired(json!({"properties.desired.a": "x".repeat(4097)})), None);
}

#[tokio::test]
async fn the_queries_behind_the_counts_are_queries_whatever_the_configuration() {
    let hub = TestHub::new().await;
    let device = || ContentSpec { device: Some(keys(json!({}))), ..ContentSpec::default() };
    let module =
        || ContentSpec { module: Some(keys(json!({"properties.desired.a": 1}))), ..ContentSpec::default() };
    let modules = || ContentSpec { modules: Some(keys(json!({"$edgeAgent": {}}))), ..ContentSpec::default() };
    let table = [
        (device(), "", "select deviceId from devices where configurations.[[c-0+%_*!']].status = 'Targeted'"),
        (device(), "*", "select deviceId from devices"),
        (device(), " tags.a = 'where' ", "select deviceId from devices where tags.a = 'where'"),
        (device(), "From devices Where tags.a=1", "select deviceId from devices where tags.a=1"),
        (module(), "*", "select deviceId, moduleId from devices.modules"),
        (module(), "FROM devices.modules", "select deviceId, moduleId from devices.modules"),
        (
            module(),
            "from devices.modules where moduleId='x'",
            "select deviceId, moduleId from devices.modules where moduleId='x'",
        ),
        (modules(), "*", "select deviceId from devices where capabilities.iotEdge = true"),
        (
            modules(),
            "tags.a = 1 OR tags.b = 2",
            "select deviceId from devices where capabilities.iotEdge = true and (tags.a = 1 OR tags.b = 2)",
        ),
    ];
    for (content, condition, targeted) in table {
        let counts = if content.modules.is_some() { 4 } else { 2 };
        let spec = ConfigurationSpec { content, ..spec("c-0+%_*!'", condition, json!({})) };
        let view = hub.configures(&spec).await.unwrap();
        assert_eq!(view.system_queries[0], ("targetedCount", targeted.to_owned()));
        assert_eq!(view.system_queries.len(), counts);
        for (_, text) in view.system_queries {
            let query = Query { text: text.clone(), continuation: None, page_max: None };
            hub.query(&system(), &query).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        hub.delete_configuration(&system(), &spec.id, &IfMatch::Any).await.unwrap();
    }
}

/// Desired properties without what the service adds.
fn desired(view: &TwinView) -> Value {
    Value::Object(view.twin.properties.desired.values.clone())
}

fn statuses(view: &TwinView) -> Value {
    view.document().get("configurations").cloned().unwrap_or_default()
}

#[tokio::test]
async fn the_strongest_configuration_of_a_property_is_in_force_and_the_newer_one_of_two_equals() {
    let hub = TestHub::with_device("dev1").await;
    let strong = |text: &str, priority, content| ConfigurationSpec { priority, ..spec(text, "*", content) };
    hub.configures(&strong("low", 1, json!({"properties.desired": {"a": 1, "b": {"x": 1}, "c": 1}})))
        .await
        .unwrap();
    hub.configures(&strong("old", 5, json!({"properties.desired.b.x": 2, "properties.desired.a": 2})))
        .await
        .unwrap();
    hub.clock.advance(Duration::from_secs(1));
    hub.configures(&strong("new", 5, json!({"properties.desired.a": 3}))).await.unwrap();
    hub.configures(&strong("lost", 0, json!({"properties.desired.a": 4}))).await.unwrap();
    hub.walked().await;
    let twin = hub.twin("dev1").await;
    assert_eq!(desired(&twin), json!({"a": 3, "b": {"x": 2}, "c": 1}));
    let (applied, targeted) = (json!({"status": "Applied"}), json!({"status": "Targeted"}));
    assert_eq!(statuses(&twin), json!({"low": applied, "lost": targeted, "new": applied, "old": applied}));
    // What is in force stays so, whoever writes the twin.
    let patched = hub.patch("dev1", json!({"properties": {"desired": {"a": 9, "d": 1}}})).await.unwrap();
    assert_eq!(desired(&patched), json!({"a": 3, "b": {"x": 2}, "c": 1, "d": 1}));
    assert_eq!(patched.twin.properties.desired.version, twin.twin.properties.desired.version + 1);
    hub.delete_configuration(&system(), &id("new"), &IfMatch::Absent).await.unwrap();
    hub.walked().await;
    assert_eq!(desired(&hub.twin("dev1").await), json!({"a": 2, "b": {"x": 2}, "c": 1, "d": 1}));
}

#[tokio::test]
async fn a_twin_that_is_no_longer_meant_loses_what_it_had_and_one_whose_configuration_is_deleted_keeps_it() {
    let hub = TestHub::with_module().await;
    let content =
        ContentSpec { module: Some(keys(json!({"properties.desired.s.a": 1}))), ..ContentSpec::default() };
    let condition = "FROM devices.modules WHERE moduleId = 'mod1' AND properties.reported.ready = true";
    hub.configures(&ConfigurationSpec { content, ..spec("m", condition, json!({})) }).await.unwrap();
    hub.configures(&spec("d", "tags.env = 'x'", json!({"properties.desired.s.a": 1}))).await.unwrap();
    hub.walked().await;
    assert_eq!(
        (desired(&hub.twin("dev1").await), desired(&hub.twin("dev1/mod1").await)),
        (json!({}), json!({}))
    );
    let with = json!({"tags": {"env": "x"}, "properties": {"desired": {"s": {"mine": 7}}}});
    let patched = hub.patch("dev1", with).await.unwrap();
    assert_eq!(desired(&patched), json!({"s": {"mine": 7, "a": 1}}));
    let patched = hub.patch("dev1", json!({"tags": {"env": null}})).await.unwrap();
    assert_eq!((desired(&patched), statuses(&patched)), (json!({"s": {"mine": 7}}), Value::Null));
    hub.reported("dev1/mod1", json!({"ready": true})).await.unwrap();
    let module = hub.twin("dev1/mod1").await;
    assert_eq!(
        (desired(&module), statuses(&module)),
        (json!({"s": {"a": 1}}), json!({"m": {"status": "Applied"}}))
    );
    hub.reported("dev1/mod1", json!({"ready": false})).await.unwrap();
    assert_eq!(desired(&hub.twin("dev1/mod1").await), json!({}));
    hub.reported("dev1/mod1", json!({"ready": true})).await.unwrap();
    hub.delete_configuration(&system(), &id("m"), &IfMatch::Absent).await.unwrap();
    hub.walked().await;
    let module = hub.twin("dev1/mod1").await;
    assert_eq!((desired(&module), statuses(&module)), (json!({"s": {"a": 1}}), Value::Null));
}

#[tokio::test]
async fn a_new_device_has_what_is_for_it_and_a_connected_one_hears_of_it_once() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    session.subscribe_desired().await.unwrap();
    hub.configures(&spec("c", "*", json!({"properties.desired.a": 1}))).await.unwrap();
    hub.walked().await;
    let Command::DesiredChanged { version, patch } = next_command(&session).await else { panic!() };
    assert_eq!((version, &patch[..]), (2, &br#"{"a":1,"$version":2}"#[..]));
    hub.patch("dev1", json!({"properties": {"desired": {"a": 2, "b": 3}}})).await.unwrap();
    let Command::DesiredChanged { version, patch } = next_command(&session).await else { panic!() };
    assert_eq!((version, &patch[..]), (3, &br#"{"b":3,"$version":3}"#[..]));
    hub.create_device("dev2").await;
    assert_eq!(desired(&hub.twin("dev2").await), json!({"a": 1}));
    let job = json!({"etag": "*", "properties": {"desired": {"a": 5, "c": 1}}});
    hub.patches_by_a_job(job.as_object().unwrap().clone()).await;
    let Command::DesiredChanged { version, patch } = next_command(&session).await else { panic!() };
    assert_eq!((version, &patch[..]), (4, &br#"{"c":1,"$version":4}"#[..]));
}

#[tokio::test]
async fn a_content_that_makes_a_twin_too_large_is_not_applied_and_hinders_nobody() {
    let hub = TestHub::with_device("dev1").await;
    let large: Object = (0..7).map(|n| (format!("k{n}"), json!("v".repeat(4096)))).collect();
    hub.patch("dev1", json!({"properties": {"desired": large}})).await.unwrap();
    let more = json!({"properties.desired": {"m0": "v".repeat(4096), "m1": "v".repeat(4096)}});
    hub.configures(&spec("c", "*", more)).await.unwrap();
    hub.walked().await;
    let twin = hub.patch("dev1", json!({"tags": {"a": 1}})).await.unwrap();
    assert_eq!(statuses(&twin), json!({"c": {"status": "Targeted"}}));
    assert!(!desired(&twin).as_object().unwrap().contains_key("m0"));
    let twin = hub
        .patch("dev1", json!({"properties": {"desired": {"k0": null, "k1": null, "k2": null}}}))
        .await
        .unwrap();
    assert_eq!(statuses(&twin), json!({"c": {"status": "Applied"}}));
}

#[tokio::test]
async fn metrics_are_counted_behind_a_change_and_now_and_then() {
    let hub = TestHub::new().await;
    for (device, env) in [("d1", "x"), ("d2", "x"), ("d3", "y")] {
        hub.create_device(device).await;
        hub.patch(device, json!({"tags": {"env": env}})).await.unwrap();
    }
    let metrics = [
        ("all", "SELECT deviceId FROM devices"),
        ("counted", "SELECT COUNT() AS n FROM devices WHERE tags.env = 'x'"),
        ("groups", "SELECT tags.env, COUNT() AS n FROM devices GROUP BY tags.env"),
        ("connected", "SELECT deviceId FROM devices WHERE connectionState = 'Connected'"),
        ("first", "SELECT TOP 2 deviceId FROM devices"),
    ];
    let metrics = metrics.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let made =
        ConfigurationSpec { metrics, ..spec("c", "tags.env = 'x'", json!({"properties.desired.a": 1})) };
    let view = hub.configures(&made).await.unwrap();
    assert_eq!((view.system_results, view.custom_results), (BTreeMap::new(), BTreeMap::new()));
    let counted = |view: ConfigurationView| (json!(view.system_results), json!(view.custom_results));
    let custom = json!({"all": 3, "connected": 0, "counted": 2, "first": 2, "groups": 2});
    let expected = (json!({"appliedCount": 2, "targetedCount": 2}), custom);
    hub.shows_counts(&expected).await;
    assert_eq!(counted(hub.list_configurations(&system()).await.unwrap().remove(0)), expected);
    hub.patch("d3", json!({"tags": {"env": "x"}})).await.unwrap();
    hub.clock.advance(Duration::from_secs(caps::CONFIGURATION_METRICS_SECONDS));
    hub.hubs.do_what_is_due().await.unwrap();
    let custom = json!({"all": 3, "connected": 0, "counted": 3, "first": 2, "groups": 1});
    hub.shows_counts(&(json!({"appliedCount": 3, "targetedCount": 3}), custom)).await;
    let fewer = ConfigurationSpec { metrics: BTreeMap::new(), ..made };
    let view = hub.put_configuration(&system(), &fewer, &IfMatch::Any).await.unwrap();
    assert_eq!(counted(view), (json!({"appliedCount": 3, "targetedCount": 3}), json!({})));
    hub.delete_configuration(&system(), &id("c"), &IfMatch::Absent).await.unwrap();
    hub.count_metrics().await.unwrap();
    assert_eq!(hub.store().get::<Metrics>(&configuration_key(hub.instance(), &id("c"))).await.unwrap(), None);
}

#[tokio::test]
async fn a_count_in_which_a_walk_ended_is_made_once_more() {
    let hub = TestHub::with_device("dev1").await;
    hub.configures(&spec("c", "*", json!({"properties.desired.a": 1}))).await.unwrap();
    hub.shows_counts(&(json!({"appliedCount": 1, "targetedCount": 1}), json!({}))).await;
    let count = hub.counts().await;
    hub.configures(&spec("d", "*", json!({"properties.desired.b": 1}))).await.unwrap();
    hub.walked().await;
    let next = hub.end_count(count).await.unwrap().expect("the second walk found it counting");
    assert!(hub.end_count(next).await.unwrap().is_none());
}

#[tokio::test]
async fn a_deployment_is_for_devices_of_iot_edge_and_only_targets_them() {
    let hub = TestHub::with_device("dev1").await;
    let content = ContentSpec {
        modules: Some(keys(json!({"$edgeAgent": {"properties.desired": {}}}))),
        ..ContentSpec::default()
    };
    hub.configures(&ConfigurationSpec { content, ..spec("e", "*", json!({})) }).await.unwrap();
    hub.walked().await;
    let edge = async |iot_edge| {
        let spec = DeviceSpec { iot_edge, ..DeviceSpec::new("dev1".parse().unwrap()) };
        hub.put_device(&system(), &spec, &IfMatch::Any).await.unwrap();
        statuses(&hub.twin("dev1").await)
    };
    assert_eq!(edge(true).await, json!({"e": {"status": "Targeted"}}));
    let found = Query {
        text: "SELECT deviceId FROM devices WHERE configurations.[[e]].status = 'Targeted'".into(),
        ..Query::default()
    };
    assert_eq!(hub.query(&system(), &found).await.unwrap().rows.len(), 1);
    let twin = hub.patch("dev1", json!({"tags": {"a": 1}})).await.unwrap();
    assert_eq!(statuses(&twin), json!({"e": {"status": "Targeted"}}));
    assert_eq!(edge(false).await, Value::Null);
    assert_eq!(hub.query(&system(), &found).await.unwrap().rows.len(), 0);
}

impl TestHub {
    /// Takes the count once nobody else has it.
    async fn counts(&self) -> Count {
        let taken = async {
            loop {
                match self.take_count().await.unwrap() {
                    Some(count) => return count,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), taken).await.expect("the others give it back")
    }

    async fn shows_counts(&self, expected: &(Value, Value)) {
        let shown = async {
            loop {
                let view = self.get_configuration(&system(), &id("c")).await.unwrap();
                let counted = (json!(view.system_results), json!(view.custom_results));
                if counted == *expected {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        within(shown).await;
    }

    async fn patches_by_a_job(&self, patch: Object) {
        let spec = JobSpec {
            job_id: "j1".parse().unwrap(),
            action: Action::UpdateTwin { patch },
            condition: None,
            start: None,
            max_execution_seconds: None,
        };
        self.create_job(&system(), &spec).await.unwrap();
    }
}
