//! What was acknowledged is there after a restart and means the same, whatever identifiers models share inside; and one that
//! no longer compiles harms nobody.

use proptest::prelude::*;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use store::{Batch, Durability, Location, Options, Store};

use super::{dtmi, everything, listed};
use crate::Error;
use crate::fixture::{Fixture, patch, room, upload, within};
use crate::model::ModelQuery;
use crate::model::record::{self, Definition};

/// A version of a published model: its relationship, its property and its schema keep their identifiers from version to version.
fn version(name: &str, number: usize, members: &Value) -> Value {
    let mut model = json!({
        "@id": format!("dtmi:test:{name};{number}"), "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "schemas": [{"@id": "dtmi:test:shared:place;1", "@type": "Object", "fields": [{"name": "x", "schema": "double"}]}],
        "contents": [
            {"@type": "Property", "@id": "dtmi:test:shared:at;1", "name": "at", "schema": "dtmi:test:shared:place;1"},
            {"@type": "Relationship", "@id": "dtmi:test:shared:feeds;1", "name": "feeds"},
            {"@type": "Property", "name": format!("only{number}"), "schema": "integer"},
        ],
    });
    model.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    model
}

/// An interface without inner identifiers that builds on another.
fn building_on(name: &str, members: &Value) -> Value {
    let mut model = json!({"@id": format!("dtmi:test:{name};1"), "@type": "Interface", "@context": "dtmi:dtdl:context;2"});
    model.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    model
}

/// Writes with every model: its twin is put, patched, and feeds another.
async fn every_version_is_usable(fixture: &Fixture, versions: usize) {
    for number in 1..=versions {
        let (twin, only) = (format!("t{number}"), format!("only{number}"));
        let model = format!("dtmi:test:Sensor;{number}");
        fixture.put(&twin, json!({"$metadata": {"$model": model}, "at": {"x": 1}, &only: 1})).await.unwrap();
        fixture.patch(&twin, json!([{"op": "replace", "path": "/at/x", "value": 2.5}])).await.unwrap();
        let refused = fixture.patch(&twin, json!([{"op": "add", "path": "/at/y", "value": 1}])).await;
        assert_eq!(refused.unwrap_err().code(), "ValidationFailed");
        let other = if number == 1 { "t2" } else { "t1" };
        if fixture.get(other).await.is_ok() {
            let edge = json!({"$relationshipName": "feeds", "$targetId": other});
            fixture.relate(&twin, "e", edge).await.unwrap();
        }
    }
}

fn on_disk(directory: &tempfile::TempDir) -> Store {
    let location = Location::File(directory.path().to_owned());
    Store::open(&Options::new(location, Durability::Relaxed)).unwrap()
}

#[tokio::test]
async fn versions_that_share_identifiers_are_all_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = Fixture::on(on_disk(&directory)).await;
    for number in 1..=4 {
        fixture.upload(&[version("Sensor", number, &json!({}))]).await.unwrap();
    }
    fixture.upload(&[building_on("Derived", &json!({"extends": "dtmi:test:Sensor;3"}))]).await.unwrap();
    let component =
        json!({"contents": [{"@type": "Component", "name": "c", "schema": "dtmi:test:Sensor;4"}]});
    fixture.upload(&[building_on("Holder", &component)]).await.unwrap();
    every_version_is_usable(&fixture, 4).await;
    let before = everything(&fixture).await;
    assert_eq!(before.len(), 6);
    drop(fixture);
    let fixture = Fixture::on(on_disk(&directory)).await;
    assert_eq!(everything(&fixture).await, before);
    every_version_is_usable(&fixture, 4).await;
    fixture.put("d", json!({"$metadata": {"$model": "dtmi:test:Derived;1"}, "only3": 3})).await.unwrap();
    fixture
        .put("h", json!({"$metadata": {"$model": "dtmi:test:Holder;1"}, "c": {"only4": 4, "$metadata": {}}}))
        .await
        .unwrap();
    let of = ModelQuery { dependencies_for: vec![dtmi("dtmi:test:Holder;1")], ..ModelQuery::default() };
    assert_eq!(listed(&fixture, of).await.unwrap(), ["dtmi:test:Sensor;4", "dtmi:test:Holder;1"]);
}

#[tokio::test]
async fn uploads_at_the_same_time_that_share_identifiers_are_all_kept() {
    let fixture = Fixture::empty().await;
    let mut uploads = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let (instance, caller) = (fixture.instance.clone(), fixture.caller.clone());
        let definitions = [version("Sensor", number, &json!({}))];
        uploads.spawn(async move { instance.create_models(&caller, upload(&definitions)).await });
    }
    for uploaded in within(uploads.join_all()).await {
        uploaded.unwrap();
    }
    for fixture in [&fixture, &fixture.restarted().await] {
        assert_eq!(everything(fixture).await.len(), 8);
        every_version_is_usable(fixture, 8).await;
    }
}

/// The official parser's rule: what is parsed together, and that is a call with all it builds on, defines an identifier once.
#[tokio::test]
async fn an_identifier_is_defined_once_in_a_call_and_in_what_a_model_builds_on() {
    let fixture = Fixture::empty().await;
    fixture.upload(&[version("Sensor", 1, &json!({}))]).await.unwrap();
    let names = json!({"contents": []});
    let extending = json!({"contents": [], "extends": "dtmi:test:Sensor;1"});
    let containing =
        json!({"contents": [{"@type": "Component", "name": "c", "schema": "dtmi:test:Sensor;1"}]});
    for refused in [
        vec![version("Sensor", 2, &names), version("Sensor", 3, &names)],
        vec![version("Sensor", 2, &extending)],
        vec![version("Sensor", 2, &containing)],
    ] {
        let error = fixture.upload(&refused).await.unwrap_err();
        assert_eq!(error.code(), "DTDLParserError");
        assert!(error.to_string().contains("dtmi:test:shared:place;1' is defined more than once"), "{error}");
    }
    assert_eq!(everything(&fixture).await, ["dtmi:test:Sensor;1"]);
}

/// What a disk or a later parser may make of a definition. None: nothing is left of it.
async fn spoil(fixture: &Fixture, id: &str, definition: Option<&Value>) {
    let key = record::key(fixture.instance.id(), &dtmi(id));
    let stored = fixture.store.get::<Definition>(&key).await.unwrap().unwrap();
    let mut batch = Batch::default();
    match definition {
        Some(definition) => {
            let text = to_raw_value(definition).unwrap();
            batch.replace(&stored, &Definition { text, ..stored.record.clone() });
        }
        None => batch.delete(&stored),
    }
    fixture.store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn a_model_that_no_longer_compiles_stays_and_harms_nobody() {
    let nonsense = json!({"@id": "dtmi:test:Room;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Property", "name": "Name", "schema": "no such schema"}]});
    let of_another =
        json!({"@id": "dtmi:test:Other;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2"});
    for definition in [Some(&nonsense), Some(&of_another), Some(&json!(null)), None] {
        no_longer_compiles(definition).await;
    }
}

async fn no_longer_compiles(definition: Option<&Value>) {
    let fixture = Fixture::with_models().await;
    fixture.room("r").await;
    fixture
        .put("s", json!({"$metadata": {"$model": "dtmi:test:Suite;1"}, "Thermostat": {"$metadata": {}}}))
        .await
        .unwrap();
    let before = everything(&fixture).await;
    spoil(&fixture, "dtmi:test:Room;1", definition).await;
    let fixture = fixture.restarted().await;
    let (instance, caller, room_id) = (&fixture.instance, &fixture.caller, dtmi("dtmi:test:Room;1"));

    // It is listed and shown as it is stored, and so is what builds on it.
    assert_eq!(everything(&fixture).await, before);
    let shown = instance.get_model(caller, &room_id, true).await.unwrap();
    assert_eq!((shown.definition.as_ref(), shown.display_name["en"].as_str()), (definition, "Room"));
    let of = ModelQuery { dependencies_for: vec![dtmi("dtmi:test:Suite;1")], ..ModelQuery::default() };
    assert_eq!(listed(&fixture, of).await.unwrap().len(), 3);

    // Writes that need it are refused in so many words, again and again; reads, and all other models, go on.
    let rename = json!([{"op": "add", "path": "/Name", "value": "n"}]);
    for (twin, words) in [
        ("r", "dtmi:test:Room;1 is stored but cannot be used: "),
        ("s", "builds on dtmi:test:Room;1"),
        ("r", "stored"),
    ] {
        let error = fixture.patch(twin, rename.clone()).await.unwrap_err();
        assert_eq!(error.code(), "ValidationFailed");
        assert!(error.details()[0].contains(words), "{error:?}");
        fixture.get(twin).await.unwrap();
    }
    let edge = fixture.contain("r", "e", "s").await.unwrap_err();
    assert!(edge.details()[0].contains("cannot be used"), "{edge:?}");
    fixture.put("p", json!({"$metadata": {"$model": "dtmi:test:Pump;1"}, "Speed": 1})).await.unwrap();
    let derived = building_on("Derived", &json!({"extends": "dtmi:test:Room;1"}));
    let error = fixture.upload(&[derived]).await.unwrap_err();
    assert_eq!(error.code(), "DTDLParserError");
    assert!(error.to_string().contains("dtmi:test:Room;1 is stored but cannot be used"), "{error}");
    fixture.upload(&[version("Sensor", 1, &json!({}))]).await.unwrap();

    // Rules over the set still see it.
    let out_of_use = patch(&json!([{"op": "replace", "path": "/decommissioned", "value": true}]));
    let refused = instance.update_model(caller, &room_id, &out_of_use).await.unwrap_err();
    assert_eq!(refused, Error::ModelReferencesNotDecommissioned("dtmi:test:Suite;1".to_owned()));
    instance.update_model(caller, &dtmi("dtmi:test:Suite;1"), &out_of_use).await.unwrap();
    instance.update_model(caller, &room_id, &out_of_use).await.unwrap();
    let refused = instance.delete_model(caller, &dtmi("dtmi:test:Thermostat;1")).await.unwrap_err();
    assert_eq!(refused, Error::ModelReferencesNotDeleted("dtmi:test:Room;1".to_owned()));
    assert_eq!(fixture.upload(&[room()]).await.unwrap_err().code(), "ModelAlreadyExists");

    // It can be deleted, and comes back whole.
    instance.delete_model(caller, &dtmi("dtmi:test:Suite;1")).await.unwrap();
    instance.delete_model(caller, &room_id).await.unwrap();
    fixture.upload(&[room()]).await.unwrap();
    fixture.patch("r", rename).await.unwrap();
    fixture.delete("s").await.unwrap();
}

/// An upload of some models, or a deletion.
#[derive(Clone, Debug)]
enum Step {
    Upload(Vec<Value>),
    Delete(usize),
}

fn any_model() -> impl Strategy<Value = Value> {
    let ids = prop::sample::subsequence(vec![0, 1, 2, 3], 0..3);
    (0..10usize, prop::option::of(0..10usize), prop::option::of(0..10usize), ids, 2..4u8).prop_map(
        |(name, extends, component, ids, version)| {
            let mut contents: Vec<Value> = ids
                .iter()
                .map(|id| {
                    let schema = json!({"@id": format!("dtmi:test:schema{id};1"), "@type": "Enum", "valueSchema": "integer",
                        "enumValues": [{"name": "a", "enumValue": 1}]});
                    json!({"@type": "Property", "@id": format!("dtmi:test:inner{id};1"), "name": format!("p{name}x{id}"), "schema": schema})
                })
                .collect();
            if let Some(component) = component {
                contents.push(json!({"@type": "Component", "name": format!("c{name}"), "schema": format!("dtmi:test:m{component};1")}));
            }
            let mut model = json!({"@id": format!("dtmi:test:m{name};1"), "@type": "Interface",
                "@context": format!("dtmi:dtdl:context;{version}"), "displayName": format!("m{name}"), "contents": contents});
            if let Some(extends) = extends {
                model["extends"] = json!(format!("dtmi:test:m{extends};1"));
            }
            model
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any_model(), 1..4).prop_map(Step::Upload),
        1 => (0..10usize).prop_map(Step::Delete),
    ]
}

/// Every model of an instance, compiled as its process has it.
async fn compiled(fixture: &Fixture) -> Vec<dtdl::Model> {
    let snapshot = fixture.instance.models().await.unwrap();
    let ids: Vec<_> = snapshot.after(None).map(|model| model.id.clone()).collect();
    let compiled = fixture.instance.compile_stored(&snapshot, &ids).await.unwrap();
    assert_eq!(compiled.broken().collect::<Vec<_>>(), []);
    ids.iter().map(|id| (*compiled.get(id).unwrap()).clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever was taken in whatever order is read again as the same models. A failure prints its steps.
    #[test]
    fn a_reload_is_what_was_there_before(steps in prop::collection::vec(any_step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::empty().await;
            for step in &steps {
                match step {
                    Step::Upload(definitions) => match fixture.upload(definitions).await {
                        Ok(_) => {}
                        Err(error) => assert!(matches!(error.code(), "DTDLParserError" | "ModelAlreadyExists"), "{error}"),
                    },
                    Step::Delete(name) => {
                        let _ = fixture.instance.delete_model(&fixture.caller, &dtmi(&format!("dtmi:test:m{name};1"))).await;
                    }
                }
            }
            let query = ModelQuery { include_definition: true, ..ModelQuery::default() };
            let restarted = fixture.restarted().await;
            let lists = [&fixture, &restarted].map(|fixture| fixture.instance.list_models(&fixture.caller, &query));
            let [live, again] = lists;
            assert_eq!(live.await.unwrap().items, again.await.unwrap().items);
            assert_eq!(compiled(&fixture).await, compiled(&restarted).await);
        });
    }
}
