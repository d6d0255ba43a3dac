//! Twins: the rules alone, over random documents, and then with store, sessions and callers.

use access::{Caller, Right};
use base::json::Object;
use base::{IfMatch, Timestamp, caps};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::rules::{self, InitialTwin, TwinPatch, TwinReplacement, size_bytes};
use super::{DeviceTwin, Section};
use crate::Error;
use crate::testing::{TestHub, next_command, properties, system};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_767_225_600 + seconds)
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn twin_with(desired: &Object) -> DeviceTwin {
    let mut twin = DeviceTwin::new(base::InstanceId::from_stored("hub"), "dev1".parse().unwrap(), at(0));
    let initial = InitialTwin { desired: desired.clone(), ..InitialTwin::default() };
    rules::fill(&mut twin, &initial, at(0)).unwrap();
    twin
}

fn apply(twin: &DeviceTwin, body: &Value) -> Result<rules::Applied, Error> {
    Ok(rules::apply(twin, &TwinPatch::from_json(body)?, at(9))?.expect("the patch touches something"))
}

/// Random section contents: valid keys, no nulls.
fn values() -> impl Strategy<Value = Object> {
    members(any_value(false))
}

fn patches() -> impl Strategy<Value = Object> {
    members(any_value(true))
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Object> {
    prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|members| members.into_iter().collect())
}

fn any_value(with_null: bool) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(if with_null { Value::Null } else { json!(true) }),
        any::<bool>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        "[a-zé]{0,5}".prop_map(Value::from),
        Just(json!([1, "x"])),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|members| json!(members))
    })
}

/// Every object and leaf of `values` has a node in `metadata`, and nothing else has.
fn mirrors(values: &Map<String, Value>, metadata: &Map<String, Value>) -> bool {
    let children: Vec<&String> = metadata.keys().filter(|key| !key.starts_with('$')).collect();
    metadata.contains_key("$lastUpdated")
        && children.len() == values.len()
        && values.iter().all(|(key, value)| match (value, metadata.get(key)) {
            (Value::Object(values), Some(Value::Object(metadata))) => mirrors(values, metadata),
            (_, Some(Value::Object(leaf))) => {
                leaf.contains_key("$lastUpdated") && leaf.keys().all(|key| key.starts_with('$'))
            }
            _ => false,
        })
}

proptest! {
    #[test]
    fn a_patch_merges_like_rfc_7396_and_a_second_time_changes_no_value(values in values(), patch in patches()) {
        prop_assume!(!patch.is_empty());
        let twin = twin_with(&values);
        let once = apply(&twin, &json!({"properties": {"desired": patch}})).unwrap().twin;
        let mut expected = Value::Object(values);
        base::json::merge_patch(&mut expected, &Value::Object(patch.clone()));
        prop_assert_eq!(&Value::Object(once.properties.desired.values.clone()), &expected);
        let twice = apply(&once, &json!({"properties": {"desired": patch}})).unwrap().twin;
        prop_assert_eq!(&twice.properties.desired.values, &once.properties.desired.values);
        prop_assert_eq!(twice.properties.desired.version, once.properties.desired.version + 1);
    }

    #[test]
    fn metadata_mirrors_the_values_after_any_patches(
        values in values(),
        steps in prop::collection::vec(patches(), 1..5),
    ) {
        let mut twin = twin_with(&values);
        for patch in steps {
            twin = rules::apply_reported(&twin, &patch, None, at(1)).unwrap().twin;
            let body = json!({"properties": {"desired": patch}});
            if let Some(applied) = rules::apply(&twin, &TwinPatch::from_json(&body).unwrap(), at(2)).unwrap() {
                twin = applied.twin;
            }
            for section in [&twin.properties.desired, &twin.properties.reported] {
                prop_assert!(mirrors(&section.values, &section.metadata), "{section:?}");
            }
        }
    }

    #[test]
    fn what_a_device_is_told_leads_it_to_the_new_section(old in values(), new in values(), patch in patches()) {
        let twin = twin_with(&old);
        let replacement = TwinReplacement { tags: Object::new(), desired: new };
        let replaced = rules::replace(&twin, &replacement, at(1)).unwrap();
        let patched = apply(&twin, &json!({"properties": {"desired": {"z": 1, "a": patch}}})).unwrap();
        for applied in [replaced, patched] {
            let mut told = applied.desired_notification.unwrap();
            prop_assert_eq!(told.shift_remove("$version"), Some(json!(applied.twin.properties.desired.version)));
            let mut device = Value::Object(old.clone());
            base::json::merge_patch(&mut device, &Value::Object(told));
            prop_assert_eq!(device, Value::Object(applied.twin.properties.desired.values));
        }
    }

    #[test]
    fn sizes_add_up_over_members_and_do_not_depend_on_their_order(values in values()) {
        let alone: usize = values.iter().map(|(key, value)| {
            size_bytes(&[(key.clone(), value.clone())].into_iter().collect())
        }).sum();
        prop_assert_eq!(size_bytes(&values), alone);
        let backwards: Object = values.clone().into_iter().rev().collect();
        prop_assert_eq!(size_bytes(&backwards), alone);
    }

    #[test]
    fn a_stored_twin_reads_back(values in values(), reported in patches()) {
        let twin = twin_with(&values);
        let twin = rules::apply_reported(&twin, &reported, None, at(1)).unwrap().twin;
        let stored = serde_json::to_string(&twin).unwrap();
        prop_assert_eq!(serde_json::from_str::<DeviceTwin>(&stored).unwrap(), twin);
    }

    #[test]
    fn no_body_makes_the_rules_panic(body in any_value(true), tags in any_value(true), desired in any_value(true)) {
        let twin = twin_with(&Object::new());
        for body in [body, json!({"tags": tags, "properties": {"desired": desired}}), json!({"properties": tags})] {
            if let Ok(patch) = TwinPatch::from_json(&body) {
                let _ = rules::apply(&twin, &patch, at(1));
            }
            if let Ok(replacement) = TwinReplacement::from_json(&body) {
                let _ = rules::replace(&twin, &replacement, at(1));
            }
        }
    }

    #[test]
    fn no_text_makes_the_rules_panic(text in "[-{}\\[\\]0-9eE+.\":,\\\\ a]{0,60}|.{0,60}") {
        let _ = TwinPatch::parse(text.as_bytes());
        let _ = TwinReplacement::parse(text.as_bytes());
    }
}

#[test]
fn a_new_twin_is_as_azure_makes_it() {
    let twin = twin_with(&Object::new());
    assert_eq!((twin.etag.to_string().as_str(), twin.version), ("AAAAAAAAAAE=", 2));
    let fresh = json!({"$metadata": {"$lastUpdated": "2026-01-01T00:00:00.0000000Z"}, "$version": 1});
    assert_eq!(twin.properties.desired.with_metadata(), fresh);
    assert_eq!(twin.properties.reported.with_metadata(), fresh);
}

#[test]
fn a_patch_stamps_what_it_touches_up_to_the_root() {
    let twin = twin_with(&object(json!({"a": {"b": 1, "c": 2}, "d": 3})));
    let applied = apply(&twin, &json!({"properties": {"desired": {"a": {"b": 5, "c": null}}}})).unwrap();
    let (old, new) = ("2026-01-01T00:00:00.0000000Z", "2026-01-01T00:00:09.0000000Z");
    let expected = json!({
        "a": {"b": 5},
        "d": 3,
        "$metadata": {
            "$lastUpdated": new, "$lastUpdatedVersion": 2,
            "a": {"$lastUpdated": new, "$lastUpdatedVersion": 2, "b": {"$lastUpdated": new, "$lastUpdatedVersion": 2}},
            "d": {"$lastUpdated": old, "$lastUpdatedVersion": 1},
        },
        "$version": 2,
    });
    assert_eq!(applied.twin.properties.desired.with_metadata(), expected);
    assert_eq!(
        applied.twin.properties.desired.without_metadata(),
        json!({"a": {"b": 5}, "d": 3, "$version": 2})
    );
    let told = json!({"a": {"b": 5, "c": null}, "$version": 2});
    assert_eq!(Value::Object(applied.desired_notification.unwrap()), told);
    let change = json!({"version": 3, "properties": {"desired": {
        "a": {"b": 5, "c": null},
        "$metadata": {
            "$lastUpdated": new, "$lastUpdatedVersion": 2,
            "a": {"$lastUpdated": new, "$lastUpdatedVersion": 2, "b": {"$lastUpdated": new, "$lastUpdatedVersion": 2}},
        },
        "$version": 2,
    }}});
    assert_eq!(Value::Object(applied.change), change);
}

#[test]
fn reported_properties_have_no_version_in_their_metadata() {
    let twin = twin_with(&Object::new());
    let applied = rules::apply_reported(&twin, &object(json!({"a": 1})), Some(1), at(9)).unwrap();
    let stamp = json!({"$lastUpdated": "2026-01-01T00:00:09.0000000Z"});
    let mut metadata = stamp.clone();
    metadata["a"] = stamp;
    assert_eq!(Value::Object(applied.twin.properties.reported.metadata), metadata);
    assert_eq!((applied.twin.etag, applied.twin.version), (twin.etag, 3));
}

#[test]
fn null_clears_a_section_and_an_empty_object_leaves_it() {
    let twin = twin_with(&object(json!({"a": 1, "b": {}})));
    let cleared = apply(&twin, &json!({"properties": {"desired": null}})).unwrap();
    assert_eq!(cleared.twin.properties.desired.values, Object::new());
    assert_eq!(
        Value::Object(cleared.desired_notification.unwrap()),
        json!({"a": null, "b": null, "$version": 2})
    );
    for nothing in [json!({}), json!({"tags": {}}), json!({"properties": {"desired": {"$version": 9}}})] {
        let patch = TwinPatch::from_json(&nothing).unwrap();
        assert_eq!(rules::apply(&twin, &patch, at(1)).unwrap(), None, "{nothing}");
    }
}

#[test]
fn what_only_the_service_writes_is_ignored_in_a_patch() {
    let twin = twin_with(&Object::new());
    let whole = json!({
        "deviceId": "other", "etag": "x", "version": 99, "status": "disabled", "tags": {"env": "test"},
        "properties": {
            "desired": {"interval": 30, "$version": 7, "$metadata": {"$lastUpdated": "x"}},
            "reported": {"a": 1},
        },
    });
    let applied = apply(&twin, &whole).unwrap();
    assert_eq!(Value::Object(applied.twin.tags), json!({"env": "test"}));
    assert_eq!(applied.twin.properties.desired.without_metadata(), json!({"interval": 30, "$version": 2}));
    assert_eq!(applied.twin.properties.reported.values, Object::new());
    assert_eq!((applied.twin.etag.to_string().as_str(), applied.twin.version), ("AAAAAAAAAAI=", 3));
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({ "k": inner }))
}

#[test]
fn each_limit_of_a_section_is_held_just_under_and_just_over() {
    let key = |bytes: usize| json!({ "k".repeat(bytes): 1 });
    let text = |bytes: usize| json!({ "k": "v".repeat(bytes) });
    let accepted = [
        key(caps::TWIN_KEY_BYTES_MAX),
        text(caps::TWIN_STRING_BYTES_MAX),
        json!({"k": caps::TWIN_INTEGER_MAX}),
        json!({"k": caps::TWIN_INTEGER_MIN}),
        json!({"k": 1.5e300}),
        json!({"": 1, "ключ": [1, [], {"a": []}], "-_,;/": true}),
        nested(caps::TWIN_DEPTH_MAX + 1),
    ];
    let refused = [
        key(caps::TWIN_KEY_BYTES_MAX + 1),
        text(caps::TWIN_STRING_BYTES_MAX + 1),
        json!({"k": caps::TWIN_INTEGER_MAX + 1}),
        json!({"k": caps::TWIN_INTEGER_MIN - 1}),
        json!({"k": u64::MAX}),
        json!({"k": [null]}),
        json!({"k": [{"a": null}]}),
        json!({"a.b": 1}),
        json!({"a b": 1}),
        json!({"a#": 1}),
        json!({"a": {"$b": 1}}),
        json!({"a\u{7}": 1}),
        json!({"a\u{85}": 1}),
        json!({"a": [{"b c": 1}]}),
        nested(caps::TWIN_DEPTH_MAX + 2),
    ];
    let twin = twin_with(&Object::new());
    for (bodies, is_accepted) in [(&accepted[..], true), (&refused[..], false)] {
        for body in bodies {
            let results = [
                apply(&twin, &json!({ "tags": body })).map(drop),
                apply(&twin, &json!({"properties": {"desired": body}})).map(drop),
                rules::apply_reported(&twin, &object(body.clone()), None, at(1)).map(drop),
            ];
            for result in results {
                assert_eq!(
                    result.as_ref().map_err(Error::code),
                    if is_accepted { Ok(&()) } else { Err(400_004) }
                );
            }
        }
    }
}

#[test]
fn the_sizes_of_sections_are_held_to_the_byte() {
    // Eight keys of one byte, each with a string: together exactly `bytes`.
    let filling = |bytes: usize| -> Value {
        let each = bytes / 16 - 1;
        (0..16_u8)
            .map(|at| (char::from(b'a' + at).to_string(), json!("v".repeat(each))))
            .collect::<Object>()
            .into()
    };
    let twin = twin_with(&Object::new());
    let send = |section: &str, mut body: Value, more: usize| {
        body["z"] = json!("x".repeat(more));
        match section {
            "tags" => apply(&twin, &json!({ "tags": body })).map(drop),
            "desired" => apply(&twin, &json!({"properties": {"desired": body}})).map(drop),
            _ => rules::apply_reported(&twin, &object(body), None, at(1)).map(drop),
        }
    };
    let sections = [
        ("tags", caps::TWIN_TAGS_BYTES_MAX),
        ("desired", caps::TWIN_DESIRED_BYTES_MAX),
        ("reported", caps::TWIN_REPORTED_BYTES_MAX),
    ];
    for (section, max) in sections {
        let room = max - size_bytes(&object(filling(max - 160))) - 1;
        assert_eq!(send(section, filling(max - 160), room), Ok(()), "{section}");
        let refusal = send(section, filling(max - 160), room + 1).unwrap_err();
        assert_eq!(refusal.code(), 400_004, "{section}");
    }
}

#[test]
fn sizes_are_counted_as_azure_counts_them() {
    let members = object(json!({"ab": "é\u{1}x", "n": 1, "f": 0.5, "t": true, "o": {"k": [1, false]}}));
    assert_eq!(size_bytes(&members), (2 + 3) + (1 + 8) + (1 + 8) + (1 + 4) + (1 + 1 + 8 + 4));
}

#[test]
fn what_azures_measure_does_not_count_is_bounded_too() {
    let twin = twin_with(&Object::new());
    let max = caps::TWIN_REPORTED_BYTES_MAX * caps::TWIN_UNCOUNTED_FACTOR_MAX;
    let lists = |count: usize| object(json!({ "k": vec![json!([]); count] }));
    let controls = |count: usize| object(json!({ "k": vec!["\u{1}".repeat(1024); count] }));
    let send = |body: Object| rules::apply_reported(&twin, &body, None, at(1)).map(drop);
    assert_eq!((size_bytes(&lists(1000)), size_bytes(&controls(9))), (1, 1));
    assert_eq!(send(lists(max / 2)), Ok(()));
    assert_eq!(send(lists(max)).unwrap_err().code(), 400_004);
    assert_eq!(send(controls(max / 1024 - 1)), Ok(()));
    assert_eq!(send(controls(max / 1024)).unwrap_err().code(), 400_004);
}

#[test]
fn an_integer_that_no_machine_can_hold_is_refused_and_a_float_is_not() {
    let too_large = ["18446744073709551616", "-9223372036854775809", "1000000000000000000000000000000"];
    let fine = [
        "1e30",
        "-1.5E+300",
        "1000000000000000000000000000000.0",
        r#""18446744073709551616""#,
        r#""\" 99999999999999999999""#,
    ];
    for (numbers, is_accepted) in [(&too_large[..], false), (&fine[..], true)] {
        for number in numbers {
            let body = format!(r#"{{"tags":{{"a":[{{"b":{number}}}]}}}}"#);
            let patch = TwinPatch::parse(body.as_bytes()).map(drop).map_err(|error| error.code());
            let whole = TwinReplacement::parse(body.as_bytes()).map(drop).map_err(|error| error.code());
            let expected = if is_accepted { Ok(()) } else { Err(400_004) };
            assert_eq!((patch, whole), (expected, expected), "{number}");
        }
    }
}

#[test]
fn bodies_of_another_shape_are_refused() {
    for body in [
        json!([]),
        json!("x"),
        json!({"tags": 1}),
        json!({"properties": []}),
        json!({"properties": {"desired": 1}}),
    ] {
        assert_eq!(TwinPatch::from_json(&body).unwrap_err().code(), 400_004, "{body}");
        assert_eq!(TwinReplacement::from_json(&body).unwrap_err().code(), 400_004, "{body}");
    }
}

#[tokio::test]
async fn a_module_twin_is_patched_as_the_scenario_says() {
    let hub = TestHub::with_module().await;
    let before = hub.twin("dev1/mod1").await;
    assert_eq!(before.twin.etag.to_string(), "AAAAAAAAAAE=");
    let body = json!({"tags": {"env": "test"}, "properties": {"desired": {"interval": 30, "old": null}}});
    let after = hub.patch_if("dev1/mod1", body, IfMatch::Tag("AAAAAAAAAAE=".into())).await.unwrap();
    assert_eq!(after.twin.etag.to_string(), "AAAAAAAAAAI=");
    assert_eq!(after.twin.version, before.twin.version + 1);
    assert_eq!(after.twin.properties.desired.without_metadata(), json!({"interval": 30, "$version": 2}));
    assert_eq!(after, hub.twin("dev1/mod1").await);
    assert_eq!(hub.twin("dev1").await.twin.version, 2, "the device's own twin is another");
}

#[tokio::test]
async fn a_stale_etag_is_refused_and_nothing_changes() {
    let hub = TestHub::with_module().await;
    hub.patch("dev1/mod1", json!({"tags": {"a": 1}})).await.unwrap();
    let before = hub.twin("dev1/mod1").await;
    let stale = IfMatch::Tag("AAAAAAAAAAE=".into());
    let refusal = hub.patch_if("dev1/mod1", json!({"tags": {"a": 2}}), stale.clone()).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.name()), (412_001, "PreconditionFailed"));
    let replacement = TwinReplacement::default();
    let id = "dev1/mod1".parse().unwrap();
    let refusal = hub.replace_twin(&system(), &id, &replacement, &stale).await.unwrap_err();
    assert_eq!(refusal.code(), 412_001);
    assert_eq!(hub.twin("dev1/mod1").await, before);
    hub.patch_if("dev1/mod1", json!({"tags": {"a": 2}}), IfMatch::Any).await.unwrap();
}

#[tokio::test]
async fn a_refused_patch_changes_nothing_even_where_half_of_it_was_right() {
    let hub = TestHub::with_device("dev1").await;
    let before = hub.twin("dev1").await;
    let body = json!({"tags": {"ok": 1}, "properties": {"desired": {"not ok": 1}}});
    assert_eq!(hub.patch("dev1", body).await.unwrap_err().code(), 400_004);
    assert_eq!(hub.twin("dev1").await, before);
}

#[tokio::test]
async fn the_twin_of_what_is_not_registered_is_not_found() {
    let hub = TestHub::with_device("dev1").await;
    for id in ["dev2", "dev1/mod1", "dev2/mod1"] {
        let refusal = hub.patch(id, json!({"tags": {"a": 1}})).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.name()), (404_001, "DeviceNotFound"));
    }
}

#[tokio::test]
async fn a_replacement_keeps_reported_properties_and_drops_the_rest() {
    let hub = TestHub::with_device("dev1").await;
    hub.patch("dev1", json!({"tags": {"a": 1}, "properties": {"desired": {"x": {"y": 1}, "z": 1}}}))
        .await
        .unwrap();
    hub.reported("dev1", json!({"r": 1})).await.unwrap();
    let body = json!({"properties": {"desired": {"x": {"w": 2, "n": null}}, "reported": {"r": 9}}});
    let replacement = TwinReplacement::from_json(&body).unwrap();
    let id = "dev1".parse().unwrap();
    let view = hub.replace_twin(&system(), &id, &replacement, &IfMatch::Absent).await.unwrap();
    assert_eq!(view.twin.tags, Object::new());
    assert_eq!(view.twin.properties.desired.without_metadata(), json!({"x": {"w": 2}, "$version": 3}));
    assert_eq!(view.twin.properties.reported.without_metadata(), json!({"r": 1, "$version": 2}));
}

#[tokio::test]
async fn a_device_reads_and_reports_its_own_twin_and_no_other() {
    let hub = TestHub::with_module().await;
    hub.patch("dev1", json!({"tags": {"hidden": 1}, "properties": {"desired": {"a": 1}}})).await.unwrap();
    let (own, other) = ("dev1".parse().unwrap(), "dev1/mod1".parse().unwrap());
    let device = Caller::identity(hub.scope().clone(), "dev1".parse().unwrap());
    let read = hub.read_twin_as_device(&device, &own).await.unwrap();
    let expected = r#"{"desired":{"a":1,"$version":2},"reported":{"$version":1}}"#;
    assert_eq!(read.to_json(), expected);
    assert_eq!(hub.patch_reported(&device, &own, br#"{"r":{"s":1}}"#, Some(1)).await, Ok(2));
    assert_eq!(hub.patch_reported(&device, &own, b"{}", None).await, Ok(3));
    let stale = hub.patch_reported(&device, &own, br#"{"r":2}"#, Some(2)).await.unwrap_err();
    assert_eq!(stale.code(), 412_001);
    let malformed = [
        "",
        "[]",
        "1",
        "{",
        r#"{"$version":1}"#,
        r#"{"a":{"$b":1}}"#,
        r#"{"a":99999999999999999999}"#,
        "\u{0}",
    ];
    for malformed in malformed {
        let refusal = hub.patch_reported(&device, &own, malformed.as_bytes(), None).await.unwrap_err();
        assert_eq!(refusal.code(), 400_004, "{malformed}");
    }
    let foreign = hub.patch_reported(&device, &other, b"{}", None).await.unwrap_err();
    assert_eq!(foreign.code(), 401_002);
    assert_eq!(hub.read_twin_as_device(&device, &other).await.unwrap_err().code(), 401_002);
    let twin = hub.twin("dev1").await.twin;
    assert_eq!(twin.properties.reported.without_metadata(), json!({"r": {"s": 1}, "$version": 3}));
}

#[tokio::test]
async fn only_who_may_write_twins_writes_them() {
    let hub = TestHub::with_device("dev1").await;
    let before = hub.twin("dev1").await;
    let id = "dev1".parse().unwrap();
    let patch = TwinPatch::from_json(&json!({"tags": {"a": 1}})).unwrap();
    let strangers = [
        Caller::policy(hub.scope().clone(), "registryReadWrite", &[Right::RegistryWrite]),
        Caller::policy(base::Scope::new("/subscriptions/s/other"), "service", &[Right::ServiceConnect]),
        Caller::identity(hub.scope().clone(), "dev1".parse().unwrap()),
        Caller::principal("oid", "app", true, Vec::new()),
    ];
    for caller in strangers {
        assert_eq!(hub.get_twin(&caller, &id).await.unwrap_err().code(), 401_002);
        assert_eq!(
            hub.update_twin(&caller, &id, &patch, &IfMatch::Absent).await.unwrap_err().code(),
            401_002
        );
        let replacement = TwinReplacement::default();
        let refusal = hub.replace_twin(&caller, &id, &replacement, &IfMatch::Absent).await.unwrap_err();
        assert_eq!(refusal.code(), 401_002);
    }
    assert_eq!(hub.twin("dev1").await, before);
    let service = Caller::policy(hub.scope().clone(), "service", &[Right::ServiceConnect]);
    assert!(hub.update_twin(&service, &id, &patch, &IfMatch::Absent).await.is_ok());
}

#[tokio::test]
async fn writers_who_meet_lose_no_change() {
    let hub = TestHub::with_device("dev1").await;
    let writes = (0..8).map(|n| hub.patch("dev1", json!({"tags": {format!("t{n}"): n}})));
    for result in futures(writes).await {
        result.unwrap();
    }
    let twin = hub.twin("dev1").await.twin;
    assert_eq!((twin.tags.len(), twin.version, twin.etag.0), (8, 10, 9));
}

/// Runs all at once, without a crate for it.
async fn futures<F: Future>(all: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, output) in &mut all {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    all.into_iter().map(|(_, output)| output.expect("all have ended")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_id_that_is_announced_during_a_patch_takes_nothing_away() {
    let hub = TestHub::with_device("dev1").await;
    let id: base::ids::IdentityId = "dev1".parse().unwrap();
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    for n in 0..200 {
        let model = format!("dtmi:test:M{n};1");
        let (announcing, together, model_id, of) =
            (hub.hub.clone(), start.clone(), model.clone(), id.clone());
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            together.wait().await;
            announcing.keep_model_id(&of, &model_id).await.unwrap();
        });
        start.wait().await;
        hub.patch("dev1", json!({"tags": {"n": n}})).await.unwrap();
        task.join_all().await;
        let twin = hub.twin("dev1").await.twin;
        assert_eq!((twin.model_id, twin.tags.get("n")), (model, Some(&json!(n))), "round {n}");
    }
}

#[tokio::test]
async fn a_connected_device_is_told_of_desired_properties_in_order() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    hub.patch("dev1", json!({"properties": {"desired": {"missed": 1}}})).await.unwrap();
    session.subscribe_desired().await.unwrap();
    hub.patch("dev1", json!({"tags": {"quiet": 1}})).await.unwrap();
    let writes = (0..5).map(|n| hub.patch("dev1", json!({"properties": {"desired": {format!("k{n}"): n}}})));
    futures(writes).await.into_iter().for_each(|result| drop(result.unwrap()));
    for expected in 3..8 {
        match next_command(&session).await {
            crate::Command::DesiredChanged { version, patch } => {
                let body: Value = serde_json::from_slice(&patch).unwrap();
                assert_eq!((version, &body["$version"]), (expected, &json!(expected)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(session.try_next_command(), None);
}

#[tokio::test]
async fn a_model_id_stays_with_the_twin_and_raises_no_version() {
    let hub = TestHub::with_device("dev1").await;
    let authentication = hub.authenticate("dev1").await.unwrap();
    let session = hub.open_session(authentication, Some("dtmi:com:example:Thermostat;1")).await.unwrap();
    drop(session);
    let twin = hub.twin("dev1").await.twin;
    assert_eq!((twin.model_id.as_str(), twin.version), ("dtmi:com:example:Thermostat;1", 2));
}

#[test]
fn a_section_without_metadata_is_not_read_as_one() {
    for damaged in
        [json!({}), json!({"$version": 1}), json!({"$metadata": {}}), json!({"$metadata": 1, "$version": 1})]
    {
        assert!(serde_json::from_value::<Section>(damaged.clone()).is_err(), "{damaged}");
    }
}

#[tokio::test]
async fn changes_are_told_in_the_event_stream_in_their_order() {
    let hub = TestHub::new().await;
    hub.context.events.start().await.unwrap();
    hub.create_device("dev1").await;
    hub.patch("dev1", json!({"tags": {"a": 1}, "properties": {"desired": {"b": null, "c": 2}}}))
        .await
        .unwrap();
    hub.patch("dev1", json!({})).await.unwrap();
    hub.reported("dev1", json!({"r": 1})).await.unwrap();
    let id = "dev1".parse().unwrap();
    hub.replace_twin(&system(), &id, &TwinReplacement::default(), &IfMatch::Absent).await.unwrap();
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    let partition = crate::telemetry::partition_of("dev1", hub.partition_count());
    let mut tail = hub.context.streams.tail(hub.event_stream(), partition).await.unwrap();
    tail.wait_for(|next| *next >= 5).await.unwrap();
    let events = hub.events().await;
    let told = |index: usize, name: &str| {
        let found = properties(&events[index]).into_iter().find(|pair| pair.starts_with(&format!("{name}=")));
        found.map(|pair| pair[name.len() + 1..].to_owned()).unwrap_or_default()
    };
    let operations: Vec<_> = (0..events.len()).map(|index| told(index, "opType")).collect();
    let expected =
        ["createDeviceIdentity", "updateTwin", "updateTwin", "replaceTwin", "deleteDeviceIdentity"];
    assert_eq!(operations, expected);
    let sources: Vec<_> = (0..events.len()).map(|index| told(index, "$iothub-message-source")).collect();
    let (lifecycle, change) = ("deviceLifecycleEvents", "twinChangeEvents");
    assert_eq!(sources, [lifecycle, change, change, change, lifecycle]);
    assert_eq!(told(1, "$iothub-connection-device-id"), "dev1");
    assert_eq!(
        (told(1, "hubName"), told(1, "iothub-message-schema")),
        ("hub".into(), "twinChangeNotification".into())
    );
    assert_eq!(told(1, "operationTimestamp"), "2026-01-02T03:04:05.1234567Z");
    let body: Value = serde_json::from_slice(&events[1].body).unwrap();
    assert_eq!((&body["version"], &body["tags"]), (&json!(3), &json!({"a": 1})));
    assert_eq!(
        (&body["properties"]["desired"]["b"], &body["properties"]["desired"]["$version"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(body["properties"]["desired"]["$metadata"].get("b"), None);
    let body: Value = serde_json::from_slice(&events[2].body).unwrap();
    assert_eq!(body["properties"]["reported"]["r"], json!(1));
    let body: Value = serde_json::from_slice(&events[3].body).unwrap();
    assert_eq!((&body["deviceId"], &body["tags"]), (&json!("dev1"), &json!({})));
}

#[tokio::test]
async fn a_refused_change_is_told_to_nobody() {
    let hub = TestHub::with_device("dev1").await;
    let before = hub.context.store.outbox(0, 100).await.unwrap().len();
    assert_eq!(before, 1, "the device's creation");
    hub.patch_if("dev1", json!({"tags": {"a": 1}}), IfMatch::Tag("stale".into())).await.unwrap_err();
    hub.patch("dev1", json!({"tags": {"a.b": 1}})).await.unwrap_err();
    assert_eq!(hub.context.store.outbox(0, 100).await.unwrap().len(), before);
}
