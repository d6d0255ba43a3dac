//! Models through the operations of an instance.

mod reload;

use access::{Caller, Grant};
use base::{Scope, caps};
use serde_json::json;

use super::ModelQuery;
use crate::fixture::{Fixture, patch, pump, room, settings, suite, thermostat, upload, within};
use crate::{Dtmi, Error, InstanceSettings};

fn dtmi(text: &str) -> Dtmi {
    text.parse().unwrap()
}

async fn listed(fixture: &Fixture, query: ModelQuery) -> Result<Vec<String>, Error> {
    let page = fixture.instance.list_models(&fixture.caller, &query).await?;
    Ok(page.items.iter().map(|model| model.id.to_string()).collect())
}

async fn everything(fixture: &Fixture) -> Vec<String> {
    listed(fixture, ModelQuery::default()).await.unwrap()
}

#[tokio::test]
async fn an_upload_answers_in_the_order_of_the_request_with_rising_times() {
    let fixture = Fixture::empty().await;
    let created = fixture.upload(&[suite(), room(), thermostat()]).await.unwrap();
    let ids: Vec<_> = created.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["dtmi:test:Suite;1", "dtmi:test:Room;1", "dtmi:test:Thermostat;1"]);
    assert!(created.windows(2).all(|pair| pair[0].upload_time < pair[1].upload_time));
    assert_eq!(created[1].display_name.get("en").map(String::as_str), Some("Room"));
    // The clock stands still, yet the next upload is later.
    let pump = fixture.upload(&[pump()]).await.unwrap();
    assert!(pump[0].upload_time > created[2].upload_time);
    assert_eq!(everything(&fixture).await.last().unwrap(), "dtmi:test:Pump;1");
}

#[tokio::test]
async fn a_definition_comes_back_as_it_was_uploaded() {
    let fixture = Fixture::with_models().await;
    let model = fixture.instance.get_model(&fixture.caller, &dtmi("dtmi:test:Room;1"), true).await.unwrap();
    assert_eq!(model.definition.unwrap().to_string(), room().to_string());
    let model = fixture.instance.get_model(&fixture.caller, &dtmi("dtmi:test:Room;1"), false).await.unwrap();
    assert_eq!(model.definition, None);
}

#[tokio::test]
async fn one_bad_model_keeps_the_others_of_its_call_out() {
    let fixture = Fixture::empty().await;
    fixture.upload(&[thermostat()]).await.unwrap();
    let bad = json!({"@id": "dtmi:test:Bad;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Component", "name": "c", "schema": "dtmi:test:Missing;1"}]});
    let v4 = json!({"@id": "dtmi:test:New;1", "@type": "Interface", "@context": "dtmi:dtdl:context;4"});
    let cases = [
        (vec![], "InvalidArgument"),
        (vec![json!(1)], "InvalidArgument"),
        (vec![json!([pump()])], "InvalidArgument"),
        (vec![json!({})], "DTDLParserError"),
        (vec![pump(), bad], "DTDLParserError"),
        (vec![pump(), pump()], "DTDLParserError"),
        (vec![pump(), v4], "ModelVersionNotSupported"),
        (vec![pump(), thermostat()], "ModelAlreadyExists"),
        (vec![pump(); 251], "LimitExceeded"),
    ];
    for (definitions, code) in cases {
        let error = fixture.upload(&definitions).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        if definitions.is_empty() || definitions == [json!(1)] {
            assert_eq!(
                error.to_string(),
                "Operation failed as models provided was empty or of a type that is not supported.. Check that your Model Array contains at least one item and it is of a supported type. See link(http://aka.ms/ADTv2Models) for details."
            );
        }
        assert_eq!(everything(&fixture).await, ["dtmi:test:Thermostat;1"], "{code}");
    }
}

#[tokio::test]
async fn the_recorded_text_of_an_existing_model_names_it() {
    let fixture = Fixture::with_models().await;
    assert_eq!(
        fixture.upload(&[pump()]).await.unwrap_err().to_string(),
        "Model with same ID already exists dtmi:test:Pump;1. Use Model_List API to view models that already exist. \
         See the Swagger example. (http://aka.ms/ModelListSwSmpl):"
    );
}

#[tokio::test]
async fn dependencies_are_what_is_extended_or_contained_but_no_targets() {
    let fixture = Fixture::with_models().await;
    let of = |ids: &[&str]| ModelQuery {
        dependencies_for: ids.iter().map(|id| dtmi(id)).collect(),
        ..ModelQuery::default()
    };
    let found = listed(&fixture, of(&["dtmi:test:Suite;1"])).await.unwrap();
    assert_eq!(found, ["dtmi:test:Suite;1", "dtmi:test:Room;1", "dtmi:test:Thermostat;1"]);
    assert_eq!(
        listed(&fixture, of(&["dtmi:test:Pump;1", "dtmi:test:Nothing;1"])).await.unwrap_err(),
        Error::ModelNotFound("dtmi:test:Nothing;1".to_owned())
    );
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat() {
    let fixture = Fixture::with_models().await;
    let mut query = ModelQuery { page_max: Some(3), ..ModelQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = fixture.instance.list_models(&fixture.caller, &query).await.unwrap();
        assert!(page.items.len() <= 3);
        found.extend(page.items.into_iter().map(|model| model.id.to_string()));
        match page.next {
            Some(next) => query.continuation = Some(next),
            None => break,
        }
    }
    assert_eq!(found, everything(&fixture).await);
    query.continuation = Some(base::Continuation::from_client("nonsense"));
    assert_eq!(listed(&fixture, query).await.unwrap_err(), Error::ContinuationInvalid);
}

fn many(numbers: std::ops::Range<usize>) -> Vec<serde_json::Value> {
    let model = |n| json!({"@id": format!("dtmi:test:M{n};1"), "@type": "Interface", "@context": "dtmi:dtdl:context;2"});
    numbers.map(model).collect()
}

#[tokio::test]
async fn a_page_of_models_has_a_hundred_at_most_and_so_many_ids_may_be_asked_for() {
    let fixture = Fixture::empty().await;
    let max = caps::MODEL_DEPENDENCIES_FOR_MAX;
    fixture.upload(&many(0..max)).await.unwrap();
    for (page_max, count) in [(None, 100), (Some(99), 99), (Some(101), 100), (Some(0), 1)] {
        let query = ModelQuery { page_max, ..ModelQuery::default() };
        assert_eq!(listed(&fixture, query).await.unwrap().len(), count, "{page_max:?}");
    }
    let mut query =
        ModelQuery { dependencies_for: vec![dtmi("dtmi:test:M7;1"); max], ..ModelQuery::default() };
    assert_eq!(listed(&fixture, query.clone()).await.unwrap(), ["dtmi:test:M7;1"]);
    query.dependencies_for.push(dtmi("dtmi:test:M7;1"));
    assert_eq!(listed(&fixture, query).await.unwrap_err().code(), "LimitExceeded");
}

#[tokio::test]
async fn an_instance_holds_so_many_models_and_no_more() {
    let fixture = Fixture::empty().await;
    let max = usize::try_from(caps::MODELS_PER_INSTANCE_MAX).unwrap();
    for start in (0..max).step_by(caps::MODELS_PER_CALL_MAX) {
        let end = (start + caps::MODELS_PER_CALL_MAX).min(max - 1);
        fixture.upload(&many(start..end)).await.unwrap();
    }
    assert_eq!(fixture.upload(&many(max..max + 2)).await.unwrap_err().code(), "LimitExceeded");
    fixture.upload(&many(max..max + 1)).await.unwrap();
    assert_eq!(fixture.upload(&[pump()]).await.unwrap_err().code(), "LimitExceeded");
    fixture.instance.delete_model(&fixture.caller, &dtmi("dtmi:test:M0;1")).await.unwrap();
    fixture.upload(&[pump()]).await.unwrap();
}

#[tokio::test]
async fn a_model_goes_out_of_use_and_back_but_not_while_others_in_use_build_on_it() {
    let fixture = Fixture::with_models().await;
    let (fixture, room) = (&fixture, dtmi("dtmi:test:Room;1"));
    let set = |id: &'static str, value: bool| async move {
        let patch = patch(&json!([{"op": "replace", "path": "/decommissioned", "value": value}]));
        fixture.instance.update_model(&fixture.caller, &dtmi(id), &patch).await
    };
    let refused = set("dtmi:test:Room;1", true).await.unwrap_err();
    assert_eq!(refused, Error::ModelReferencesNotDecommissioned("dtmi:test:Suite;1".to_owned()));
    set("dtmi:test:Suite;1", true).await.unwrap();
    set("dtmi:test:Room;1", true).await.unwrap();
    set("dtmi:test:Room;1", true).await.unwrap();
    let body = json!({"$metadata": {"$model": room.as_str()}, "Thermostat": {"$metadata": {}}});
    assert_eq!(fixture.put("r", body.clone()).await.unwrap_err().code(), "ModelDecommissioned");
    set("dtmi:test:Room;1", false).await.unwrap();
    fixture.put("r", body.clone()).await.unwrap();
    fixture.put("p", json!({"$metadata": {"$model": "dtmi:test:Pump;1"}})).await.unwrap();
    set("dtmi:test:Room;1", true).await.unwrap();
    fixture.patch("r", json!([{"op": "add", "path": "/Name", "value": "still usable"}])).await.unwrap();
    fixture.put("r", body.clone()).await.unwrap();
    // Nor may a twin of another model become one of it.
    assert_eq!(fixture.put("p", body).await.unwrap_err().code(), "ModelDecommissioned");
    let to_room = json!([{"op": "replace", "path": "/$metadata/$model", "value": room.as_str()},
        {"op": "add", "path": "/Thermostat", "value": {}}]);
    assert_eq!(fixture.patch("p", to_room).await.unwrap_err().code(), "ModelDecommissioned");
}

#[tokio::test]
async fn only_one_patch_is_known_to_models() {
    let fixture = Fixture::with_models().await;
    let good = json!({"op": "replace", "path": "/decommissioned", "value": true});
    for bad in [
        json!([]),
        json!([good, good]),
        json!([{"op": "add", "path": "/decommissioned", "value": true}]),
        json!([{"op": "replace", "path": "/decommissioned", "value": "true"}]),
        json!([{"op": "replace", "path": "/id", "value": "x"}]),
        json!([{"op": "remove", "path": "/decommissioned"}]),
    ] {
        let error =
            fixture.instance.update_model(&fixture.caller, &dtmi("dtmi:test:Pump;1"), &patch(&bad)).await;
        assert_eq!(error.unwrap_err().code(), "JsonPatchInvalid", "{bad}");
    }
    let model = fixture.instance.get_model(&fixture.caller, &dtmi("dtmi:test:Pump;1"), false).await.unwrap();
    assert!(!model.decommissioned);
}

#[tokio::test]
async fn a_model_with_twins_may_go_and_its_twins_stay_readable() {
    let fixture = Fixture::with_models().await;
    fixture.put("p", json!({"$metadata": {"$model": "dtmi:test:Pump;1"}, "Speed": 1})).await.unwrap();
    let thermostat = dtmi("dtmi:test:Thermostat;1");
    let refused = fixture.instance.delete_model(&fixture.caller, &thermostat).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "This model is currently being referenced by dtmi:test:Room;1. You must delete these references before \
         deleting the Model.. To delete references, do Delete Model on Ids provided above."
    );
    fixture.instance.delete_model(&fixture.caller, &dtmi("dtmi:test:Pump;1")).await.unwrap();
    assert_eq!(fixture.get("p").await.unwrap().model(), "dtmi:test:Pump;1");
    let edit = json!([{"op": "replace", "path": "/Speed", "value": 2}]);
    assert_eq!(fixture.patch("p", edit.clone()).await.unwrap_err().code(), "ValidationFailed");
    fixture.upload(&[pump()]).await.unwrap();
    fixture.patch("p", edit).await.unwrap();
    fixture.delete("p").await.unwrap();
}

#[tokio::test]
async fn uploads_at_the_same_time_are_all_kept() {
    let fixture = Fixture::empty().await;
    let model = |n: usize| json!({"@id": format!("dtmi:test:M{n};1"), "@type": "Interface", "@context": "dtmi:dtdl:context;2"});
    let uploads = (0..8).map(|n| {
        let (instance, caller) = (fixture.instance.clone(), fixture.caller.clone());
        async move { instance.create_models(&caller, upload(&[model(n)])).await.unwrap() }
    });
    let mut set = tokio::task::JoinSet::new();
    uploads.for_each(|upload| drop(set.spawn(upload)));
    within(set.join_all()).await;
    let found = everything(&fixture).await;
    assert_eq!(found.len(), 8);
    let page = fixture.instance.list_models(&fixture.caller, &ModelQuery::default()).await.unwrap();
    assert!(page.items.windows(2).all(|pair| pair[0].upload_time < pair[1].upload_time));
}

#[tokio::test]
async fn models_are_found_again_after_a_restart() {
    let fixture = Fixture::with_models().await;
    let before = everything(&fixture).await;
    let restarted = fixture.restarted().await;
    assert_eq!(everything(&restarted).await, before);
    restarted.room("r").await;
}

#[tokio::test]
async fn instances_see_nothing_of_each_other() {
    let fixture = Fixture::with_models().await;
    let other = fixture.instances.ensure(settings("other")).await.unwrap();
    let page = other.list_models(&fixture.caller, &ModelQuery::default()).await.unwrap();
    assert_eq!(page.items, []);
    fixture.room("r").await;
    let read = other.get_digital_twin(&fixture.caller, &crate::fixture::id("r")).await;
    assert_eq!(read.unwrap_err().code(), "DigitalTwinNotFound");
    fixture.instances.remove(fixture.instance.id()).await.unwrap();
    assert!(fixture.instances.find("twins").is_none());
    let instance = base::InstanceId::from_stored("twins-2");
    let anew = fixture.instances.ensure(InstanceSettings { instance, ..settings("twins") }).await.unwrap();
    assert_eq!(anew.list_models(&fixture.caller, &ModelQuery::default()).await.unwrap().items, []);
}

#[tokio::test]
async fn a_reader_may_list_and_nothing_else() {
    let fixture = Fixture::with_models().await;
    let grant = Grant {
        scope: Scope::new("/subscriptions/s"),
        actions: vec![],
        not_actions: vec![],
        data_actions: vec!["Microsoft.DigitalTwins/models/read".to_owned()],
        not_data_actions: vec![],
    };
    let reader = Caller::principal("oid", "app", true, vec![grant]);
    let pump = dtmi("dtmi:test:Pump;1");
    fixture.instance.list_models(&reader, &ModelQuery::default()).await.unwrap();
    fixture.instance.get_model(&reader, &pump, true).await.unwrap();
    assert_eq!(
        fixture.instance.delete_model(&reader, &pump).await.unwrap_err().code(),
        "AuthorizationFailed"
    );
    assert_eq!(
        fixture.instance.create_models(&reader, upload(&[])).await.unwrap_err().code(),
        "AuthorizationFailed"
    );
    assert_eq!(everything(&fixture).await.len(), 4);
}

/// Both decide on the same set: the second must hear of the first.
#[tokio::test]
async fn a_model_is_not_deleted_under_one_that_is_being_built_on_it() {
    let fixture = Fixture::empty().await;
    let model = |name: &str, extends: Option<&str>| {
        let mut model = json!({"@id": name, "@type": "Interface", "@context": "dtmi:dtdl:context;2"});
        if let Some(extends) = extends {
            model["extends"] = json!(extends);
        }
        model
    };
    for round in 0..4 {
        let (base, derived) = (format!("dtmi:test:base{round};1"), format!("dtmi:test:derived{round};1"));
        fixture.upload(&[model(&base, None)]).await.unwrap();
        let definitions = [model(&derived, Some(&base))];
        let base = dtmi(&base);
        let uploading = fixture.upload(&definitions);
        let deleting = fixture.instance.delete_model(&fixture.caller, &base);
        let (uploaded, deleted) = fixture.at_once(uploading, deleting).await;
        assert!(uploaded.is_ok() != deleted.is_ok(), "{uploaded:?} {deleted:?}");
        let is_here = fixture.instance.get_model(&fixture.caller, &base, false).await.is_ok();
        assert_eq!(is_here, uploaded.is_ok());
    }
}

#[tokio::test]
async fn a_model_that_comes_again_is_what_it_says_now() {
    let fixture = Fixture::with_models().await;
    let pump_with = |name: &str| {
        json!({"@id": "dtmi:test:Pump;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2",
            "contents": [{"@type": "Property", "name": name, "schema": "integer"}]})
    };
    let body = |name: &str| json!({"$metadata": {"$model": "dtmi:test:Pump;1"}, name: 1});
    fixture.put("p", body("Speed")).await.unwrap();
    fixture.instance.delete_model(&fixture.caller, &dtmi("dtmi:test:Pump;1")).await.unwrap();
    fixture.upload(&[pump_with("Flow")]).await.unwrap();
    fixture.put("p", body("Flow")).await.unwrap();
    assert_eq!(fixture.put("p", body("Speed")).await.unwrap_err().code(), "ValidationFailed");
}
