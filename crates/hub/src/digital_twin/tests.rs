//! Digital twins: how device twins show, what patches ask of them, and commands.

use access::{Caller, Right};
use base::json_patch;
use base::{IfMatch, caps};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::direct_method::MethodRequest;
use crate::testing::{TestHub, next_command, system, within};
use crate::{Command, Error, Hub};

const MODEL: &str = "dtmi:com:example:TemperatureController;1";

async fn document(hub: &Hub) -> Value {
    Value::Object(hub.get_digital_twin(&system(), &"dev1".parse().unwrap()).await.unwrap().document)
}

async fn desired(hub: &TestHub) -> Value {
    Value::Object(hub.twin("dev1").await.twin.properties.desired.values)
}

async fn patch(hub: &Hub, operations: Value) -> Result<String, Error> {
    patch_if(hub, operations, IfMatch::Absent).await
}

async fn patch_if(hub: &Hub, operations: Value, if_match: IfMatch) -> Result<String, Error> {
    let operations = json_patch::parse(operations.to_string().as_bytes()).unwrap();
    let id = "dev1".parse().unwrap();
    let etag = hub.update_digital_twin(&system(), &id, &operations, &if_match).await?;
    Ok(etag.to_string())
}

#[tokio::test]
async fn a_device_without_a_model_shows_with_an_empty_one() {
    let hub = TestHub::with_device("dev1").await;
    assert_eq!(document(&hub).await, json!({"$dtId": "dev1", "$metadata": {"$model": ""}}));
    let missing = hub.get_digital_twin(&system(), &"other".parse().unwrap()).await.unwrap_err();
    assert_eq!(missing.code(), 404_001);
}

#[tokio::test]
async fn a_reported_property_shows_its_value_and_what_was_asked_and_answered_beside_it() {
    let hub = TestHub::with_device("dev1").await;
    hub.keep_model_id(&"dev1".parse().unwrap(), MODEL).await.unwrap();
    let body = json!({"properties": {"desired": {
        "interval": 5, "only": "asked", "thermostat1": {"__t": "c", "targetTemperature": 20}
    }}});
    hub.patch("dev1", body).await.unwrap();
    hub.clock.advance(std::time::Duration::from_secs(60));
    let told = json!({
        "serialNumber": "abc",
        "interval": {"value": 4, "ac": 203, "av": 2},
        "range": {"value": 1, "of": {"x": 2}},
        "thermostat1": {"__t": "c", "max": 30, "targetTemperature": {"value": 19, "ac": 200, "av": 2, "ad": "done"}},
        "bare": {"__t": "c"},
    });
    hub.reported("dev1", told).await.unwrap();
    let at = "2026-01-02T03:05:05.1234567Z";
    let expected = json!({
        "$dtId": "dev1",
        "serialNumber": "abc",
        "interval": 4,
        "range": {"value": 1, "of": {"x": 2}},
        "thermostat1": {
            "max": 30,
            "targetTemperature": 19,
            "$metadata": {
                "max": {"lastUpdateTime": at},
                "targetTemperature": {
                    "desiredValue": 20, "desiredVersion": 2,
                    "ackVersion": 2, "ackCode": 200, "ackDescription": "done", "lastUpdateTime": at
                }
            }
        },
        "bare": {"$metadata": {}},
        "$metadata": {
            "$model": MODEL,
            "serialNumber": {"lastUpdateTime": at},
            "interval": {
                "desiredValue": 5, "desiredVersion": 2, "ackVersion": 2, "ackCode": 203, "lastUpdateTime": at
            },
            "range": {"lastUpdateTime": at},
            "only": {"desiredValue": "asked", "desiredVersion": 2}
        }
    });
    let shown = document(&hub).await;
    assert_eq!(shown, expected);
    let members: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((members.first(), members.last()), (Some(&"$dtId"), Some(&"$metadata")));
}

#[tokio::test]
async fn a_patch_writes_desired_properties_and_the_device_hears_of_it() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    session.subscribe_desired().await.unwrap();
    let before = hub.twin("dev1").await.twin;
    let etag = patch(
        &hub,
        json!([
            {"op": "add", "path": "/interval", "value": {"every": 5, "unit": "s"}},
            {"op": "replace", "path": "/thermostat1/targetTemperature", "value": 21},
            {"op": "add", "path": "/thermostat2", "value": {"$metadata": {}, "a": 1}},
            {"op": "remove", "path": "/nothing"},
        ]),
    )
    .await
    .unwrap();
    let expected = json!({
        "interval": {"every": 5, "unit": "s"},
        "thermostat1": {"__t": "c", "targetTemperature": 21},
        "thermostat2": {"__t": "c", "a": 1},
    });
    assert_eq!(desired(&hub).await, expected);
    let after = hub.twin("dev1").await.twin;
    assert_eq!((after.version, after.etag.to_string()), (before.version + 1, etag.clone()));
    let Command::DesiredChanged { patch: told, .. } = next_command(&session).await else {
        panic!("no desired")
    };
    let mut told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told.as_object_mut().unwrap().shift_remove("$version"), Some(json!(2)));
    assert_eq!(told, expected);
    assert_eq!(patch(&hub, json!([])).await.unwrap(), etag, "nothing to change changes nothing");
    assert_eq!(patch(&hub, json!([{"op": "remove", "path": "/thermostat1/nothing"}])).await.unwrap(), etag);
}

#[tokio::test]
async fn a_write_replaces_what_was_there_and_a_component_whole_clears_what_it_does_not_name() {
    let hub = TestHub::with_device("dev1").await;
    let body = json!({"properties": {"desired": {
        "settings": {"a": 1, "b": {"c": 2}}, "gone": 1, "comp": {"__t": "c", "old": {"x": 1}, "kept": 2}
    }}});
    hub.patch("dev1", body).await.unwrap();
    let steps = [
        (
            json!({"op": "add", "path": "/settings", "value": {"b": {"d": 3}}}),
            json!({"settings": {"b": {"d": 3}}, "gone": 1, "comp": {"__t": "c", "old": {"x": 1}, "kept": 2}}),
        ),
        (
            json!({"op": "remove", "path": "/gone"}),
            json!({"settings": {"b": {"d": 3}}, "comp": {"__t": "c", "old": {"x": 1}, "kept": 2}}),
        ),
        (
            json!({"op": "replace", "path": "/comp", "value": {"$metadata": {}, "kept": 3, "new": true}}),
            json!({"settings": {"b": {"d": 3}}, "comp": {"__t": "c", "kept": 3, "new": true}}),
        ),
        (
            json!({"op": "remove", "path": "/comp/kept"}),
            json!({"settings": {"b": {"d": 3}}, "comp": {"__t": "c", "new": true}}),
        ),
        (
            json!({"op": "remove", "path": "/comp"}),
            json!({"settings": {"b": {"d": 3}}, "comp": {"__t": "c"}}),
        ),
        (
            json!({"op": "add", "path": "/empty", "value": {"$metadata": {}}}),
            json!({"settings": {"b": {"d": 3}}, "comp": {"__t": "c"}, "empty": {"__t": "c"}}),
        ),
    ];
    for (step, expected) in steps {
        patch(&hub, json!([step])).await.unwrap();
        assert_eq!(desired(&hub).await, expected, "{step}");
    }
}

#[tokio::test]
async fn a_component_that_only_the_device_has_told_of_is_one() {
    let hub = TestHub::with_device("dev1").await;
    hub.reported("dev1", json!({"comp": {"__t": "c"}, "plain": {"a": 1}})).await.unwrap();
    hub.patch("dev1", json!({"properties": {"desired": {"comp": 7}}})).await.unwrap();
    patch(&hub, json!([{"op": "add", "path": "/comp/a", "value": 1}])).await.unwrap();
    assert_eq!(desired(&hub).await, json!({"comp": {"__t": "c", "a": 1}}));
    let refused = patch(&hub, json!([{"op": "add", "path": "/comp", "value": 1}])).await.unwrap_err();
    assert_eq!(refused.code(), 400_507);
}

#[tokio::test]
async fn what_a_digital_twin_cannot_take_is_refused_and_changes_nothing() {
    let hub = TestHub::with_device("dev1").await;
    hub.patch("dev1", json!({"properties": {"desired": {"plain": {"a": 1}}}})).await.unwrap();
    hub.reported("dev1", json!({"told": 1})).await.unwrap();
    let before = hub.twin("dev1").await.twin;
    let long = "x".repeat(caps::PLUG_AND_PLAY_NAME_CHARACTERS_MAX + 1);
    let deep = (0..caps::PLUG_AND_PLAY_DEPTH_MAX).fold(json!({}), |inner, _| json!({"a": inner}));
    let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
    let cases = [
        (add("", json!({})), 400_508),
        (add("/", json!(1)), 400_508),
        (add("/a/b/c", json!(1)), 400_508),
        (add("/$metadata", json!({})), 400_508),
        (add("/__t", json!("c")), 400_508),
        (add("/comp/__t", json!("x")), 400_508),
        (add("/a_", json!(1)), 400_508),
        (add("/1a", json!(1)), 400_508),
        (add(&format!("/{long}"), json!(1)), 400_508),
        (add("/a", json!([1])), 400_507),
        (add("/a", json!({"b": [1]})), 400_507),
        (add("/a", json!(null)), 400_507),
        (add("/a", json!({"b.c": 1})), 400_507),
        (add("/a", deep), 400_507),
        (add("/comp", json!({"$metadata": {}, "__t": "c"})), 400_507),
        (add("/comp", json!({"$metadata": {"x": 1}})), 400_507),
        (add("/plain", json!({"$metadata": {}})), 400_004),
        (add("/plain/a", json!(2)), 400_004),
        (add("/told/a", json!(2)), 400_004),
        (add("/a", json!("x".repeat(5000))), 400_004),
    ];
    for (operation, code) in cases {
        let good = json!({"op": "add", "path": "/good", "value": 1});
        let refused = patch(&hub, json!([good, operation])).await.unwrap_err();
        assert_eq!(refused.code(), code, "{operation}: {refused}");
    }
    let text = patch(&hub, json!([add("/plain/a", json!(2))])).await.unwrap_err().to_string();
    assert_eq!(
        text,
        "'plain' exists within the device twin and is not digital twin conformant property. Please refer to aka.ms/dtpatch to update \
         this to be conformant."
    );
    let stale = patch_if(&hub, json!([add("/a", json!(1))]), IfMatch::Tag("AAAA".into())).await;
    assert_eq!(stale.unwrap_err().code(), 412_001);
    assert_eq!(hub.twin("dev1").await.twin, before);
}

#[tokio::test]
async fn a_command_is_a_direct_method_and_one_of_a_component_is_named_after_it() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    session.listen_to_methods(true);
    for (component, heard) in [(None, "reboot"), (Some("thermostat1"), "thermostat1*reboot")] {
        let request = MethodRequest {
            name: "reboot".into(),
            payload: None,
            connect_timeout_seconds: None,
            response_timeout_seconds: None,
        };
        let (caller, id) = (system(), "dev1".parse().unwrap());
        let call = hub.invoke_command(&caller, &id, component, request);
        let device = async {
            let Command::InvokeMethod { request_id, name, .. } = next_command(&session).await else {
                panic!("no method")
            };
            hub.complete_method(&session, request_id, 202, Bytes::from_static(b"{}"));
            name
        };
        let (response, name) = within(async { tokio::join!(call, device) }).await;
        assert_eq!((response.unwrap().status, name.as_str()), (202, heard));
    }
}

#[tokio::test]
async fn who_may_not_use_the_service_reads_writes_and_calls_nothing() {
    let hub = TestHub::with_device("dev1").await;
    let caller = Caller::policy(hub.scope().clone(), "device", &[Right::DeviceConnect]);
    let id = "dev1".parse().unwrap();
    let request = MethodRequest {
        name: "reboot".into(),
        payload: None,
        connect_timeout_seconds: None,
        response_timeout_seconds: None,
    };
    let refusals = [
        hub.get_digital_twin(&caller, &id).await.unwrap_err(),
        hub.update_digital_twin(&caller, &id, &[], &IfMatch::Absent).await.unwrap_err(),
        hub.invoke_command(&caller, &id, None, request).await.unwrap_err(),
    ];
    assert!(refusals.iter().all(|refusal| refusal.code() == 401_002), "{refusals:?}");
}
