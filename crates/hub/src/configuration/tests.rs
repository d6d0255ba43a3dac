//! Configurations: what one may be, how many there may be, and what becomes of their queries.

use serde_json::{Value, json};

use super::*;
use crate::query::Query;
use crate::testing::{TestHub, system};

fn id(text: &str) -> ConfigurationId {
    text.parse().unwrap()
}

fn keys(content: Value) -> Option<Object> {
    let Value::Object(keys) = content else { panic!("no object") };
    Some(keys)
}

fn spec(text: &str, condition: &str, content: Value) -> ConfigurationSpec {
    ConfigurationSpec {
        id: id(text),
        schema_version: None,
        labels: None,
        content: ContentSpec { device: keys(content), ..ContentSpec::default() },
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
    let desired = |content: Value| rules::desired(&keys(content).unwrap()).map(Value::Object).ok();
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
    let device = || ContentSpec { device: keys(json!({})), ..ContentSpec::default() };
    let module =
        || ContentSpec { module: keys(json!({"properties.desired.a": 1})), ..ContentSpec::default() };
    let modules = || ContentSpec { modules: keys(json!({"$edgeAgent": {}})), ..ContentSpec::default() };
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
