mod values;

use base::{IfMatch, caps};
use serde_json::{Value, json};

use crate::fixture::{Fixture, id, object, patch};
use crate::{DigitalTwin, Error, event};

const ROOM: &str = "dtmi:test:Room;1";

fn room(more: Value) -> Value {
    let mut body = object(json!({"$metadata": {"$model": ROOM}, "Thermostat": {"$metadata": {}}}));
    body.extend(object(more));
    Value::Object(body)
}

fn text(document: &base::json::Object) -> String {
    Value::Object(document.clone()).to_string()
}

fn details(error: &Error) -> Vec<String> {
    assert_eq!((error.code(), error.to_string().as_str()), ("ValidationFailed", "Invalid twin specified"));
    error.details().to_vec()
}

#[tokio::test]
async fn a_twin_is_written_in_azures_order_of_members() {
    let fixture = Fixture::with_models().await;
    let twin = fixture
        .put(
            "r",
            json!({
                "$dtId": null, "$etag": "ignored", "Temperature": 80, "Thermostat": {"SetPoint": 20.5, "$metadata": {}},
                "$metadata": {"$model": ROOM, "Temperature": {"sourceTime": "2022-01-20T02:03:00.0943478Z",
                    "lastUpdateTime": "2001-01-01T00:00:00Z"}},
                "Name": "Küche <1>",
            }),
        )
        .await
        .unwrap();
    let time = "2025-05-02T14:57:59.4944153Z";
    let etag = twin.etag().replace('"', "\\\"");
    assert_eq!(
        text(twin.document()),
        format!(
            r#"{{"$dtId":"r","$etag":"{etag}","Temperature":80,"Thermostat":{{"SetPoint":20.5,"$metadata":{{"$lastUpdateTime":"{time}","SetPoint":{{"lastUpdateTime":"{time}"}}}}}},"Name":"Küche <1>","$metadata":{{"$model":"{ROOM}","$lastUpdateTime":"{time}","Temperature":{{"lastUpdateTime":"{time}","sourceTime":"2022-01-20T02:03:00.0943478Z"}},"Name":{{"lastUpdateTime":"{time}"}}}}}}"#
        )
    );
    assert!(twin.etag().starts_with("W/\"") && twin.etag().len() == 40, "{}", twin.etag());
    assert_eq!(fixture.get("r").await.unwrap(), twin);
}

#[tokio::test]
async fn a_second_put_replaces_everything_and_renews_the_etag() {
    let fixture = Fixture::with_models().await;
    let first = fixture.put("r", room(json!({"Temperature": 1, "Name": "a"}))).await.unwrap();
    fixture.later();
    let second = fixture.put("r", room(json!({"Temperature": 1}))).await.unwrap();
    assert_ne!(first.etag(), second.etag());
    assert!(!second.document().contains_key("Name"));
    assert_eq!(
        second.document()["$metadata"]["Temperature"]["lastUpdateTime"],
        "2025-05-02T14:58:09.4944153Z"
    );
    assert!(second.document()["$metadata"].get("Name").is_none());
}

#[tokio::test]
async fn a_twin_that_does_not_fit_its_model_is_refused_with_every_reason() {
    let fixture = Fixture::with_models().await;
    let long = "x".repeat(caps::DIGITAL_TWIN_STRING_BYTES_MAX + 1);
    let name = "é".repeat(caps::DIGITAL_TWIN_NAME_BYTES_MAX / 2) + "x";
    let cases = [
        (json!({}), "$metadata.$model is required and must be a model id."),
        (
            json!({"$metadata": {"$model": "dtmi:test:No;1"}}),
            "dtmi:test:No;1 or one of its dependencies does not exist.",
        ),
        (json!({"$metadata": {"$model": "nonsense"}}), "nonsense or one of its dependencies does not exist."),
        (room(json!({"Lowest": 1})), "Lowest does not appear on the DTDL for Twin."),
        (room(json!({"Noise": 1})), "Noise does not appear on the DTDL for Twin."),
        (room(json!({"contains": 1})), "contains does not appear on the DTDL for Twin."),
        (room(json!({"$relationships": 1})), "$relationships does not appear on the DTDL for Twin."),
        (room(json!({"Thermostat": {"X": 1, "$metadata": {}}})), "X does not appear on the DTDL for Twin."),
        (room(json!({"Thermostat": 5})), "Thermostat is a component and must be an object."),
        (
            room(json!({"Thermostat": {}})),
            "The component Thermostat must have $metadata, which may be empty.",
        ),
        (
            json!({"$metadata": {"$model": ROOM}}),
            "Thermostat is a component of the model and must be present.",
        ),
        (room(json!({"Temperature": "hot"})), "The value of Temperature is invalid"),
        (room(json!({"Temperature": null})), "The value of Temperature is invalid"),
        (room(json!({"Place": {"z": 1}})), "The value of Place"),
        (room(json!({"Tags": {"$x": "1"}})), "the name '$x' is not allowed"),
        (room(json!({"Tags": {"$metadata": {}}})), "the name '$metadata' is not allowed"),
        (room(json!({"Place": {"x": 1, "$metadata": {}}})), "the name '$metadata' is not allowed"),
        (room(json!({"Tags": {"": "1"}})), "the name '' is not allowed"),
        (room(json!({"Tags": {name.clone(): "1"}})), "a name is longer than 1024 bytes"),
        (room(json!({"Tags": {"x": long}})), "a string is longer than 4096 bytes"),
        (room(json!({"Name": long})), "a string is longer than 4096 bytes"),
    ];
    for (body, reason) in cases {
        let error = fixture.put("r", body.clone()).await.unwrap_err();
        let details = details(&error);
        assert!(details.iter().any(|detail| detail.contains(reason)), "{body}: {details:?}");
        assert_eq!(fixture.get("r").await.unwrap_err().code(), "DigitalTwinNotFound");
    }
    let error = fixture.put("r", room(json!({"A": 1, "B": 2}))).await.unwrap_err();
    assert_eq!(details(&error).len(), 2);
    let (value, name) =
        ("x".repeat(caps::DIGITAL_TWIN_STRING_BYTES_MAX), &name[..caps::DIGITAL_TWIN_NAME_BYTES_MAX]);
    fixture.put("r", room(json!({"Name": value, "Tags": {name: value}}))).await.unwrap();
}

#[tokio::test]
async fn a_patch_is_applied_in_order_and_all_or_nothing() {
    let fixture = Fixture::with_models().await;
    fixture.put("r", room(json!({"Temperature": 80, "Name": "a", "Place": {"x": 1}}))).await.unwrap();
    fixture.later();
    let twin = fixture
        .patch(
            "r",
            json!([
                {"op": "replace", "path": "/Temperature", "value": 70},
                {"op": "replace", "path": "/$metadata/Temperature/sourceTime", "value": "2022-01-20T02:03:00.0943478Z"},
                {"op": "remove", "path": "/Name"},
                {"op": "add", "path": "/Tags", "value": {"a": "1"}},
                {"op": "add", "path": "/Tags/b~1c", "value": "2"},
                {"op": "add", "path": "/Place/y", "value": 2},
                {"op": "add", "path": "/Thermostat/SetPoint", "value": 20},
            ]),
        )
        .await
        .unwrap();
    let (document, now) = (twin.document(), "2025-05-02T14:58:09.4944153Z");
    assert_eq!(document["Temperature"], 70);
    assert_eq!(document["Tags"], json!({"a": "1", "b/c": "2"}));
    assert_eq!(document["Place"], json!({"x": 1, "y": 2}));
    assert_eq!(
        document["Thermostat"].to_string(),
        format!(
            r#"{{"SetPoint":20,"$metadata":{{"$lastUpdateTime":"{now}","SetPoint":{{"lastUpdateTime":"{now}"}}}}}}"#
        )
    );
    assert_eq!(
        document["$metadata"],
        json!({"$model": ROOM, "$lastUpdateTime": now,
            "Temperature": {"lastUpdateTime": now, "sourceTime": "2022-01-20T02:03:00.0943478Z"},
            "Place": {"lastUpdateTime": now}, "Tags": {"lastUpdateTime": now}})
    );
    let half =
        json!([{"op": "replace", "path": "/Temperature", "value": 1}, {"op": "remove", "path": "/Nothing"}]);
    assert_eq!(fixture.patch("r", half).await.unwrap_err().code(), "JsonPatchInvalid");
    assert_eq!(fixture.get("r").await.unwrap(), twin);
}

#[tokio::test]
async fn what_a_patch_does_not_touch_keeps_its_time() {
    let fixture = Fixture::with_models().await;
    let body = room(
        json!({"Temperature": 80, "Name": "a", "Thermostat": {"SetPoint": 1, "Mode": "x", "$metadata": {}}}),
    );
    let before = fixture.put("r", body).await.unwrap();
    fixture.later();
    let twin = fixture
        .patch("r", json!([{"op": "replace", "path": "/Thermostat/Mode", "value": "y"}]))
        .await
        .unwrap();
    let (old, new) = ("2025-05-02T14:57:59.4944153Z", "2025-05-02T14:58:09.4944153Z");
    assert_eq!(twin.document()["$metadata"]["Name"]["lastUpdateTime"], old);
    assert_eq!(twin.document()["$metadata"]["$lastUpdateTime"], new);
    assert_eq!(
        twin.document()["Thermostat"]["$metadata"],
        json!({"$lastUpdateTime": new, "SetPoint": {"lastUpdateTime": old}, "Mode": {"lastUpdateTime": new}})
    );
    assert_ne!(twin.etag(), before.etag());
    let untouched = fixture.patch("r", json!([])).await.unwrap();
    assert_ne!(untouched.etag(), twin.etag());
    assert_eq!(untouched.document()["Thermostat"], twin.document()["Thermostat"]);
}

#[tokio::test]
async fn refused_patches_carry_the_recorded_texts_and_change_nothing() {
    let fixture = Fixture::with_models().await;
    let before = fixture.put("r", room(json!({"Temperature": 80}))).await.unwrap();
    let suffix = " Please provide a valid patch document. See section on update apis in the documentation https://aka.ms/adtv2twins.";
    let cases = [
        (
            json!([{"op": "remove", "path": "/Name"}]),
            "The target location specified by path segment 'Name' was not found.",
        ),
        (
            json!([{"op": "replace", "path": "/Name", "value": "x"}]),
            "The target location specified by path segment 'Name' was not found.",
        ),
        (
            json!([{"op": "add", "path": "/Component2/X", "value": 1}]),
            "Could not resolve path /Component2/X.",
        ),
        (json!([{"op": "add", "path": "/Place/x", "value": 1}]), "Could not resolve path /Place/x."),
        (json!([{"op": "add", "path": "/Thermostat/Nope", "value": 1}]), "Nope does not exist on component."),
        (json!([{"op": "add", "path": "/Nope", "value": 1}]), "Nope does not exist on component."),
        (json!([{"op": "replace", "path": "/$dtId", "value": "x"}]), "The path /$dtId cannot be modified."),
        (json!([{"op": "replace", "path": "/$etag", "value": "x"}]), "The path /$etag cannot be modified."),
        (
            json!([{"op": "remove", "path": "/$metadata/$model"}]),
            "The path /$metadata/$model cannot be modified.",
        ),
        (
            json!([{"op": "replace", "path": "/$metadata/$lastUpdateTime", "value": "x"}]),
            "The path /$metadata/$lastUpdateTime cannot be modified.",
        ),
        (
            json!([{"op": "replace", "path": "/$metadata/Temperature/lastUpdateTime", "value": "x"}]),
            "The path /$metadata/Temperature/lastUpdateTime cannot be modified.",
        ),
        (
            json!([{"op": "add", "path": "/Thermostat/$metadata", "value": {}}]),
            "The path /Thermostat/$metadata cannot be modified.",
        ),
        (json!([{"op": "add", "path": "", "value": {}}]), "The path  cannot be modified."),
        (
            json!([{"op": "add", "path": "/$metadata/Name/sourceTime", "value": "2022-01-20T02:03:00Z"}]),
            "Could not resolve path /$metadata/Name/sourceTime.",
        ),
        (
            json!([
                {"op": "add", "path": "/Place", "value": {"x": 1}},
                {"op": "add", "path": "/Place/$metadata/x/sourceTime", "value": "2022-01-20T02:03:00Z"},
            ]),
            "Could not resolve path /Place/$metadata/x/sourceTime.",
        ),
    ];
    for (operations, reason) in cases {
        let error = fixture.patch("r", operations.clone()).await.unwrap_err();
        assert_eq!(error.code(), "JsonPatchInvalid", "{operations}: {error}");
        assert_eq!(error.to_string(), format!("{reason}{suffix}"), "{operations}");
    }
    for operations in [
        json!([{"op": "replace", "path": "/Temperature", "value": "hot"}]),
        json!([{"op": "replace", "path": "/Temperature", "value": null}]),
        json!([{"op": "remove", "path": "/Thermostat"}]),
        json!([{"op": "replace", "path": "/$metadata/$model", "value": "dtmi:test:Nothing;1"}]),
        json!([{"op": "replace", "path": "/$metadata/$model", "value": "dtmi:test:Pump;1"}]),
        json!([{"op": "add", "path": "/$metadata/Temperature/sourceTime", "value": "yesterday"}]),
    ] {
        details(&fixture.patch("r", operations.clone()).await.unwrap_err());
    }
    assert_eq!(fixture.get("r").await.unwrap(), before);
}

#[tokio::test]
async fn a_twin_moves_to_another_model_when_the_same_patch_makes_it_fit() {
    let fixture = Fixture::with_models().await;
    fixture.put("r", room(json!({"Temperature": 80}))).await.unwrap();
    let twin = fixture
        .patch(
            "r",
            json!([
                {"op": "replace", "path": "/$metadata/$model", "value": "dtmi:test:Pump;1"},
                {"op": "remove", "path": "/Temperature"},
                {"op": "remove", "path": "/Thermostat"},
                {"op": "add", "path": "/Speed", "value": 3},
            ]),
        )
        .await
        .unwrap();
    assert_eq!(twin.model(), "dtmi:test:Pump;1");
    assert_eq!(twin.component("Thermostat"), None);
    // And back, adding the component whole.
    let back = json!([
        {"op": "replace", "path": "/$metadata/$model", "value": "dtmi:test:Suite;1"},
        {"op": "remove", "path": "/Speed"},
        {"op": "add", "path": "/Thermostat", "value": {"SetPoint": 1, "$metadata": {"SetPoint": {"sourceTime": "2022-01-20T02:03:00Z"}}}},
        {"op": "add", "path": "/Beds", "value": 2},
    ]);
    let twin = fixture.patch("r", back).await.unwrap();
    let component = twin.component("Thermostat").unwrap();
    assert_eq!(component["$metadata"]["SetPoint"]["sourceTime"], "2022-01-20T02:03:00Z");
}

#[tokio::test]
async fn a_component_is_read_and_patched_on_its_own() {
    let fixture = Fixture::with_models().await;
    let before = fixture.put("r", room(json!({"Name": "a"}))).await.unwrap();
    let get = |name: &'static str| fixture.instance.get_component(&fixture.caller, &BORROWED_ID, name);
    assert_eq!(get("Thermostat").await.unwrap().etag, before.etag());
    for name in ["Name", "Nothing", "$metadata"] {
        assert_eq!(
            get(name).await.unwrap_err().to_string(),
            format!(
                "r does not have component {name} Please verify that the component path is correct. You can get components by getting the twin, See example https://aka.ms/TwinGetSwSmpl."
            )
        );
    }
    let update = async |name: &str, operations: Value| {
        let any = base::IfMatch::Any;
        fixture.instance.update_component(&fixture.caller, &id("r"), name, &patch(&operations), &any).await
    };
    let set = json!([{"op": "add", "path": "/SetPoint", "value": 21}]);
    let after = update("Thermostat", set.clone()).await.unwrap();
    assert_eq!(after.document()["Thermostat"]["SetPoint"], 21);
    let error = update("Component2", json!([{"op": "replace", "path": "/ComponentProp1", "value": 1}]))
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("Could not resolve path /Component2/ComponentProp1."), "{error}");
    for (name, operations) in [
        ("Name", set),
        ("Thermostat", json!([{"op": "replace", "path": "", "value": {}}])),
        ("Thermostat", json!([{"op": "remove", "path": "/Mode"}])),
        ("Thermostat", json!([{"op": "replace", "path": "/$metadata/$lastUpdateTime", "value": "x"}])),
    ] {
        assert_eq!(update(name, operations).await.unwrap_err().code(), "JsonPatchInvalid", "{name}");
    }
    assert_eq!(fixture.get("r").await.unwrap(), after);
}

static BORROWED_ID: std::sync::LazyLock<crate::DigitalTwinId> = std::sync::LazyLock::new(|| id("r"));

#[tokio::test]
async fn conditions_are_held_against_the_current_etag() {
    let fixture = Fixture::with_models().await;
    let (instance, caller) = (&fixture.instance, &fixture.caller);
    let old = fixture.room("r").await;
    let new = fixture.patch("r", json!([{"op": "add", "path": "/Name", "value": "x"}])).await.unwrap();
    let stale = base::IfMatch::parse(Some(old.etag()));
    let fresh = base::IfMatch::parse(Some(new.etag()));
    let mismatch = format!(
        "The provided etag {} doesn't match the current etag for the resource. Please obtain and provide the latest etag by getting the resource. See section on get apis in the documentation https://aka.ms/adtv2twins.",
        old.etag()
    );
    let none = patch(&json!([]));
    let refused = instance.update_digital_twin(caller, &id("r"), &none, &stale).await.unwrap_err();
    assert_eq!((refused.code(), refused.to_string()), ("PreconditionFailed", mismatch));
    assert_eq!(
        instance.delete_digital_twin(caller, &id("r"), &stale).await.unwrap_err().code(),
        "PreconditionFailed"
    );
    assert_eq!(fixture.get("r").await.unwrap(), new);
    let exists = instance.put_digital_twin(caller, &id("r"), new.document(), &base::IfNoneMatch::Any).await;
    assert_eq!(
        exists.unwrap_err().to_string(),
        "If-None-Match: * header was specified but a twin with the id r was found. Please specify a different twin id."
    );
    let unsupported = base::IfNoneMatch::Unsupported(new.etag().to_owned());
    let refused =
        instance.put_digital_twin(caller, &id("r"), new.document(), &unsupported).await.unwrap_err();
    assert_eq!(refused.code(), "InvalidArgument");
    instance.delete_digital_twin(caller, &id("r"), &fresh).await.unwrap();
    let gone = instance.delete_digital_twin(caller, &id("r"), &base::IfMatch::Any).await.unwrap_err();
    assert_eq!(
        gone.to_string(),
        "There is no digital twin instance that exists with the ID r. Please verify that the twin id is valid and ensure that the twin is not deleted. See section on querying the twins https://aka.ms/adtv2query."
    );
}

#[tokio::test]
async fn a_twin_may_be_as_large_as_the_limit_and_no_larger() {
    let fixture = Fixture::with_models().await;
    let tags = |bytes: usize| {
        let full = "x".repeat(4000);
        let mut tags: base::json::Object = (0..8).map(|n| (format!("t{n}"), json!(full))).collect();
        let used = json!({"Thermostat": {}, "Tags": tags}).to_string().len();
        tags.insert("rest".to_owned(), json!("x".repeat(bytes - used - r#","rest":"""#.len())));
        room(json!({"Tags": tags}))
    };
    fixture.put("r", tags(caps::DIGITAL_TWIN_BYTES_MAX)).await.unwrap();
    let error = fixture.put("r", tags(caps::DIGITAL_TWIN_BYTES_MAX + 1)).await.unwrap_err();
    assert_eq!(details(&error), ["The twin is larger than 32768 bytes."]);
}

#[tokio::test]
async fn a_source_time_is_a_time_wherever_it_is_written() {
    let fixture = Fixture::with_models().await;
    let digits = |bytes: usize| format!("2022-01-20T02:03:00.{}Z", "1".repeat(bytes - 21));
    let max = caps::SOURCE_TIME_BYTES_MAX;
    let put = async |time: Value| {
        let metadata = json!({"$model": ROOM, "Name": {"sourceTime": time}});
        let body = json!({"$metadata": metadata, "Name": "x", "Thermostat": {"Mode": "y", "$metadata": {"Mode": {"sourceTime": time}}}});
        fixture.put("r", body).await
    };
    for time in [json!(digits(max)), json!("2022-01-20T02:03:00"), json!("2022-01-20T02:03:00+05:30")] {
        let document = put(time.clone()).await.unwrap().document().clone();
        assert_eq!(document["$metadata"]["Name"]["sourceTime"], time);
        assert_eq!(document["Thermostat"]["$metadata"]["Mode"]["sourceTime"], time);
    }
    assert_eq!(put(json!(null)).await.unwrap().document()["$metadata"]["Name"].get("sourceTime"), None);
    let before = fixture.get("r").await.unwrap();
    for time in [
        json!(digits(max + 1)),
        json!("yesterday"),
        json!(""),
        json!("2022-01-20"),
        json!(5),
        json!({}),
        json!(["2022-01-20T02:03:00Z"]),
    ] {
        details(&put(time.clone()).await.unwrap_err());
        for path in ["/$metadata/Name/sourceTime", "/Thermostat/$metadata/Mode/sourceTime"] {
            let refused = fixture.patch("r", json!([{"op": "add", "path": path, "value": time}])).await;
            let code = if time.is_string() { "ValidationFailed" } else { "JsonPatchInvalid" };
            assert_eq!(refused.unwrap_err().code(), code, "{path} {time}");
        }
    }
    assert_eq!(fixture.get("r").await.unwrap(), before);
    // Removed once it is there, and only then.
    let remove = json!([{"op": "remove", "path": "/Thermostat/$metadata/Mode/sourceTime"}]);
    assert_eq!(fixture.patch("r", remove.clone()).await.unwrap_err().code(), "JsonPatchInvalid");
    put(json!("2022-01-20T02:03:00Z")).await.unwrap();
    let twin = fixture.patch("r", remove).await.unwrap();
    assert_eq!(twin.document()["Thermostat"]["$metadata"]["Mode"].get("sourceTime"), None);
    assert_eq!(twin.document()["$metadata"]["Name"]["sourceTime"], "2022-01-20T02:03:00Z");
}

#[tokio::test]
async fn an_instance_holds_so_many_twins_and_no_more() {
    let fixture = Fixture::with_models().await;
    let max = caps::DIGITAL_TWINS_PER_INSTANCE_MAX;
    // Millions are too many for a test: the store is told of them once it has counted the one that is there.
    fixture.room("first").await;
    let mut batch = store::Batch::default();
    batch.add(super::record::count(fixture.instance.id()), max - 2, max);
    fixture.store.commit(batch).await.unwrap();
    fixture.listen().await;
    fixture.room("last").await;
    let before = fixture.events().await.len();
    assert_ne!(before, 0);
    assert_eq!(fixture.put("over", room(json!({}))).await.unwrap_err().code(), "TwinLimitReached");
    assert_eq!(fixture.get("over").await.unwrap_err().code(), "DigitalTwinNotFound");
    assert_eq!(fixture.events().await.len(), before);
    fixture.room("last").await;
    fixture.delete("last").await.unwrap();
    fixture.room("over").await;
}

#[tokio::test]
async fn a_write_that_comes_after_the_removal_of_its_instance_leaves_nothing_behind() {
    let fixture = Fixture::with_models().await;
    fixture.listen().await;
    fixture.room("a").await;
    fixture.room("b").await;
    fixture.contain("a", "e", "b").await.unwrap();
    fixture.instances.remove(fixture.instance.id()).await.unwrap();
    let late =
        fixture.put("late", json!({"$metadata": {"$model": ROOM}, "Thermostat": {"$metadata": {}}})).await;
    assert_eq!(late.unwrap_err().code(), "ValidationFailed");
    assert_eq!(fixture.upload(&[crate::fixture::pump()]).await.unwrap_err(), Error::Conflict);
    // As if it had read its model before the instance went.
    let mut batch = store::Batch::default();
    store::Batch::insert(
        &mut batch,
        &DigitalTwin {
            instance: fixture.instance.id().clone(),
            id: id("late"),
            document: object(room(json!({}))),
        },
    );
    assert_eq!(fixture.instance.commit(batch).await.unwrap_err(), store::CommitError::Conflict);
    assert_eq!(fixture.events().await, []);
    for count in [
        fixture.store.count::<DigitalTwin>(&store::Key::all()).await,
        fixture.store.count::<crate::Relationship>(&store::Key::all()).await,
        fixture.store.count::<crate::model::record::ModelSet>(&store::Key::all()).await,
        fixture.store.count::<crate::model::record::Model>(&store::Key::all()).await,
    ] {
        assert_eq!(count, Ok(0));
    }
}

#[tokio::test]
async fn every_change_raises_one_event_in_the_shape_of_its_kind() {
    let fixture = Fixture::with_models().await;
    fixture.listen().await;
    let instance = fixture.instance.traced("00-18f4e34b3e4a784aadf5913917537e7d-691a71e0a220d642-01");
    let none = base::IfNoneMatch::Absent;
    let created = instance
        .put_digital_twin(&fixture.caller, &id("r"), &object(room(json!({"Name": "a"}))), &none)
        .await
        .unwrap();
    let updated =
        json!([{"op": "replace", "path": "/Name", "value": "b"}, {"op": "remove", "path": "/Name"}]);
    let last = fixture.patch("r", updated).await.unwrap();
    let component = patch(&json!([{"op": "add", "path": "/SetPoint", "value": 1}]));
    let any = base::IfMatch::Absent;
    instance.update_component(&fixture.caller, &id("r"), "Thermostat", &component, &any).await.unwrap();
    let replaced = room(json!({"Temperature": 5}));
    let last = fixture.put("r", replaced).await.map(|twin| (last, twin).1).unwrap();
    fixture.delete("r").await.unwrap();

    let events = fixture.events().await;
    let kinds: Vec<_> = events.iter().map(|event| event.attribute("type").unwrap()).collect();
    assert_eq!(
        kinds,
        [event::TWIN_CREATE, event::TWIN_UPDATE, event::TWIN_UPDATE, event::TWIN_UPDATE, event::TWIN_DELETE]
    );
    assert!(events.iter().all(|event| event.attribute("subject") == Some("r")));
    assert!(
        events.iter().all(|event| event.attribute("source") == Some("twins.api.eus.digitaltwins.localhost"))
    );
    assert_eq!(
        events[0].attribute("traceparent"),
        Some("00-18f4e34b3e4a784aadf5913917537e7d-691a71e0a220d642-01")
    );
    assert_eq!(events[0].data, Value::Object(created.document().clone()));
    assert_eq!(
        events[1].data.to_string(),
        r#"{"modelId":"dtmi:test:Room;1","patch":[{"value":"b","path":"/Name","op":"replace"},{"path":"/Name","op":"remove"}]}"#
    );
    assert_eq!(events[2].data["patch"], json!([{"value": 1, "path": "/Thermostat/SetPoint", "op": "add"}]));
    assert_eq!(
        events[3].data["patch"],
        json!([{"value": {}, "path": "/Thermostat", "op": "replace"}, {"value": 5, "path": "/Temperature", "op": "add"}])
    );
    assert_eq!(events[4].data, Value::Object(last.document().clone()));
    let names: Vec<_> = events[0].attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["content-type", "specversion", "id", "type", "source", "subject", "time", "traceparent"]
    );
    assert_eq!(events[0].attribute("time"), Some("2025-05-02T14:57:59.4944153Z"));
    assert!(events.iter().all(|event| event.partition_key == "r"));
    assert_eq!(
        names,
        ["content-type", "specversion", "id", "type", "source", "subject", "time", "traceparent"]
    );
    assert_eq!(events[0].attribute("time"), Some("2025-05-02T14:57:59.4944153Z"));
    assert!(events.iter().all(|event| event.partition_key == "r"));
}

#[tokio::test]
async fn writes_of_one_twin_at_once_are_all_kept_or_told() {
    if !crate::fixture::first_asked_commits_first() {
        return;
    }
    let fixture = Fixture::with_models().await;
    let add = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
    fixture.room("r").await;
    let component = patch(&add("/Mode", json!("eco")));
    let (name, component) = fixture
        .at_once(
            fixture.patch("r", add("/Name", json!("n"))),
            fixture.instance.update_component(
                &fixture.caller,
                &id("r"),
                "Thermostat",
                &component,
                &IfMatch::Absent,
            ),
        )
        .await;
    name.unwrap();
    component.unwrap();
    let twin = fixture.get("r").await.unwrap();
    assert_eq!(
        (&twin.document()["Name"], &twin.document()["Thermostat"]["Mode"]),
        (&json!("n"), &json!("eco"))
    );

    let (deleted, patched) =
        fixture.at_once(fixture.delete("r"), fixture.patch("r", add("/Name", json!("m")))).await;
    deleted.unwrap();
    assert_eq!(patched.unwrap_err().code(), "DigitalTwinNotFound");
}

/// The count of twins is exact, so that the limit is, whoever thinks that they make or delete the twin.
#[tokio::test]
async fn two_writes_of_one_twin_count_it_once() {
    if !crate::fixture::first_asked_commits_first() {
        return;
    }
    let fixture = Fixture::with_models().await;
    let body = json!({"$metadata": {"$model": "dtmi:test:Pump;1"}, "Speed": 1});
    let counter = super::record::count(fixture.instance.id());
    let count = || fixture.store.counter(&counter);
    let (first, second) =
        fixture.at_once(fixture.put("p", body.clone()), fixture.put("p", body.clone())).await;
    assert_eq!((first.is_ok(), second.is_ok()), (true, true));
    assert_eq!(count().await.unwrap(), 1);
    let (deleted, put) = fixture.at_once(fixture.delete("p"), fixture.put("p", body.clone())).await;
    assert_eq!((deleted.is_ok(), put.is_ok()), (true, true));
    assert_eq!(count().await.unwrap(), 1);
    let (first, second) = fixture.at_once(fixture.delete("p"), fixture.delete("p")).await;
    first.unwrap();
    assert_eq!(second.unwrap_err().code(), "DigitalTwinNotFound");
    assert_eq!(count().await.unwrap(), 0);
}

mod any_patch {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    use std::sync::Arc;

    use base::{InstanceId, Timestamp};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::rules::{self, Draft};
    use crate::fixture::{id, object, patch, pump, room, suite, thermostat};
    use crate::json_patch::Operation;
    use crate::model::record::Model;
    use crate::model::{Shape, Snapshot};
    use crate::{DigitalTwin, Error};

    struct Models {
        snapshot: Snapshot,
        compiled: HashMap<dtdl::Dtmi, Arc<dtdl::Model>>,
    }

    impl Models {
        fn new() -> Self {
            let definitions = [room(), suite(), pump(), thermostat()];
            let compiled = dtdl::parse_text(
                &Value::from(definitions).to_string(),
                &|_| None,
                &dtdl::Options::azure_digital_twins(),
            )
            .unwrap();
            let mut snapshot = Snapshot::default();
            for (model, ticks) in compiled.iter().zip(0..) {
                snapshot.put(Model {
                    instance: InstanceId::from_stored("i"),
                    id: model.id.clone(),
                    upload_time: Timestamp::from_ticks(ticks),
                    decommissioned: false,
                    display_name: BTreeMap::new(),
                    description: BTreeMap::new(),
                    extends: model.extends.clone(),
                    components: model.components().cloned().collect(),
                });
            }
            Self {
                snapshot,
                compiled: compiled.into_iter().map(|model| (model.id.clone(), Arc::new(model))).collect(),
            }
        }

        fn write(&self, draft: &Draft, second: i64) -> rules::Write<'_> {
            let model = draft.model().parse().ok();
            let shape = model.and_then(|model| Shape::new(&model, &|id| self.compiled.get(id).cloned()));
            rules::Write {
                models: &self.snapshot,
                shape: shape.map(Arc::new).ok_or_else(|| "no such model".to_owned()),
                etag: format!("W/\"{second}\""),
                now: Timestamp::from_unix_seconds(second),
            }
        }

        fn create(
            &self,
            body: &base::json::Object,
            before: Option<&DigitalTwin>,
        ) -> Result<DigitalTwin, Error> {
            let draft = Draft::of_body(body)?;
            let write = self.write(&draft, 1);
            rules::create(&InstanceId::from_stored("i"), &id("r"), draft, before, write)
        }

        fn patch(&self, twin: &DigitalTwin, operations: &[Operation]) -> Result<DigitalTwin, Error> {
            let draft = Draft::patched(twin, operations)?;
            let write = self.write(&draft, 2);
            rules::patch(twin, draft, write)
        }
    }

    fn names(document: &base::json::Object) -> BTreeSet<&str> {
        document.keys().map(String::as_str).filter(|name| !name.starts_with('$')).collect()
    }

    /// Metadata names what is set and nothing else, at the root and in the component.
    fn is_sound(twin: &DigitalTwin) {
        let document = twin.document();
        let metadata = document["$metadata"].as_object().unwrap();
        let component = twin.component("Thermostat");
        let mut expected = names(document);
        if let Some(component) = component {
            expected.remove("Thermostat");
            assert_eq!(names(component["$metadata"].as_object().unwrap()), names(component));
            assert_eq!(component.keys().next_back().unwrap(), "$metadata");
        }
        assert_eq!(names(metadata), expected);
        assert_eq!(document.keys().take(2).collect::<Vec<_>>(), ["$dtId", "$etag"]);
        assert_eq!(document.keys().next_back().unwrap(), "$metadata");
    }

    proptest! {
        #[test]
        fn leads_to_a_sound_twin_or_to_a_refusal(operations in prop::collection::vec(
            (
                prop::sample::select(vec!["add", "replace", "remove"]),
                prop::sample::select(vec![
                    "/Temperature", "/Name", "/Tags", "/Tags/a", "/Place", "/Place/x", "/Thermostat", "/Thermostat/SetPoint",
                    "/Thermostat/Mode", "/Speed", "/Beds", "/Unknown", "/$metadata/$model", "/$metadata/Name/sourceTime",
                    "/Thermostat/$metadata/Mode/sourceTime", "/$metadata", "/$dtId", "", "/", "/Thermostat/", "/Name/x/y",
                ]),
                prop::sample::select(vec![
                    json!(1), json!("x"), json!({}), json!({"x": 1}), json!({"a": "b"}), json!(null), json!([]),
                    json!({"SetPoint": 1, "$metadata": {"SetPoint": {"sourceTime": "2022-01-20T02:03:00Z"}}}),
                    json!("2022-01-20T02:03:00Z"), json!("dtmi:test:Pump;1"), json!("dtmi:test:Suite;1"), json!("dtmi:test:Room;1"),
                ]),
            ),
            0..6,
        )) {
            let models = Models::new();
            let body = json!({"$metadata": {"$model": "dtmi:test:Room;1"}, "Thermostat": {"Mode": "a", "$metadata": {}}, "Name": "n", "Tags": {"a": "1"}});
            let before = models.create(&object(body), None).unwrap();
            is_sound(&before);
            let document = operations.iter().map(|(op, path, value)| json!({"op": op, "path": path, "value": value})).collect();
            let operations = patch(&Value::Array(document));
            if let Ok(after) = models.patch(&before, &operations) {
                is_sound(&after);
                // What a patch made can be put as it is, and patched with nothing.
                models.create(after.document(), Some(&after)).unwrap();
                let again = models.patch(&after, &[]).unwrap();
                prop_assert_eq!(again.document(), after.document());
            }
        }
    }
}
