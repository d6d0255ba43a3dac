//! Models over the wire.

use serde_json::{Value, json};

use super::fixture::{Fixture, HOST, component, room};

const ROOM: &str = "/models/dtmi%3Aexample%3Aroom%3B1";

#[tokio::test]
async fn an_upload_answers_the_recorded_members_in_their_order() {
    let fixture = Fixture::new().await;
    let answer = fixture.ask("POST", "/models").json(&json!([room(), component()])).send().await.is(201);
    assert_eq!(
        answer.text(),
        r#"[{"id":"dtmi:example:room;1","description":{"de":"Ein Raum","en":"A room"},"displayName":{"en":"Room"},"decommissioned":false,"uploadTime":"2025-06-15T15:06:40.0000000+00:00"},{"id":"dtmi:example:comp;1","description":{},"displayName":{},"decommissioned":false,"uploadTime":"2025-06-15T15:06:40.0000001+00:00"}]"#
    );
    let answer = fixture.ask("POST", "/models").json(&json!([component()])).send().await;
    answer.refused(409, "ModelAlreadyExists");
}

#[tokio::test]
async fn a_body_that_is_no_list_of_models_is_refused() {
    let fixture = Fixture::new().await;
    for (body, code) in [
        ("", "InvalidArgument"),
        ("{", "InvalidArgument"),
        ("null", "InvalidArgument"),
        ("{}", "InvalidArgument"),
        ("[]", "InvalidArgument"),
        ("[null]", "InvalidArgument"),
        ("[[]]", "InvalidArgument"),
        ("[{}]", "DTDLParserError"),
        (r#"[{"@id": "dtmi:a:b;1"}]"#, "DTDLParserError"),
    ] {
        fixture.ask("POST", "/models").bytes(body).send().await.refused(400, code);
    }
    let answer = fixture.ask("POST", "/models").json(&json!([{"@id": "dtmi:a:b;1"}])).send().await;
    let message = answer.message();
    assert!(
        message.starts_with(
            "None of the models in this request could be created due to a problem with one or more models: "
        ),
        "{message}"
    );
    assert!(
        message.ends_with(". See model documentation(https://aka.ms/ADTv2Models) for supported format."),
        "{message}"
    );
}

#[tokio::test]
async fn a_model_is_read_with_its_definition_when_asked() {
    let fixture = Fixture::with_rooms(&[]).await;
    let answer = fixture.ask("GET", &format!("{ROOM}?includeModelDefinition=True")).send().await.is(200);
    assert_eq!(answer.json()["model"].to_string(), room().to_string());
    let answer = fixture.ask("GET", "/models/dtmi:example:room;1").send().await.is(200);
    assert_eq!(answer.json().get("model"), None);
    fixture.ask("GET", "/models/nonsense").send().await.refused(400, "InvalidArgument");
    fixture
        .ask("GET", &format!("{ROOM}?includeModelDefinition=1"))
        .send()
        .await
        .refused(400, "InvalidArgument");
    let answer = fixture.ask("GET", "/models/dtmi:no:such;1").send().await.refused(404, "ModelNotFound");
    assert_eq!(
        answer.message(),
        "There is no Model(s) available that matches the provided id(s) dtmi:no:such;1. Check that the Model ID provided is valid by doing a Model_List API call."
    );
}

#[tokio::test]
async fn a_list_is_paged_by_absolute_links_that_keep_every_parameter() {
    let fixture = Fixture::with_rooms(&[]).await;
    let models = json!((0..5).map(|n| json!({"@id": format!("dtmi:example:m{n};1"), "@type": "Interface", "@context": "dtmi:dtdl:context;2"})).collect::<Vec<_>>());
    fixture.upload(models).await;
    let mut path = "/models?includeModelDefinition=true&api-version=2023-10-31".to_owned();
    let mut found = Vec::new();
    loop {
        let page = fixture.ask("GET", &path).header("max-items-per-page", "3").send().await.is(200).json();
        let value = page["value"].as_array().unwrap();
        assert!(value.iter().all(|model| model["model"].is_object()));
        found.extend(value.iter().map(|model| model["id"].as_str().unwrap().to_owned()));
        match &page["nextLink"] {
            Value::String(link) => path = link.strip_prefix(&format!("https://{HOST}")).unwrap().to_owned(),
            other => break assert_eq!(*other, Value::Null),
        }
    }
    assert_eq!(found.len(), 7);
    assert_eq!(found[0], "dtmi:example:room;1");
    for bad in ["0", "-1", "x", ""] {
        let ask = fixture.ask("GET", "/models").header("max-items-per-page", bad);
        ask.send().await.refused(400, "InvalidArgument");
    }
    fixture.ask("GET", "/models?continuationToken=x").send().await.refused(400, "BadRequest");
}

#[tokio::test]
async fn dependencies_are_asked_for_by_a_repeated_parameter() {
    let fixture = Fixture::with_rooms(&[]).await;
    let path = "/models?dependenciesFor=dtmi%3Aexample%3Aroom%3B1&dependenciesFor=dtmi%3Aexample%3Acomp%3B1";
    let found = fixture.ask("GET", path).send().await.is(200).json();
    assert_eq!(found["value"].as_array().unwrap().len(), 2);
    // Every page keeps what was asked for.
    let mut path = format!("{path}&includeModelDefinition=true&api-version=2023-06-30");
    for (id, is_last) in [("dtmi:example:room;1", false), ("dtmi:example:comp;1", true)] {
        let page = fixture.ask("GET", &path).header("max-items-per-page", "1").send().await.is(200).json();
        assert_eq!((&page["value"][0]["id"], &page["value"][0]["model"]["@id"]), (&json!(id), &json!(id)));
        assert_eq!(page["nextLink"].is_null(), is_last);
        let next = page["nextLink"].as_str().unwrap_or_default();
        path = next.strip_prefix(&format!("https://{HOST}")).unwrap_or_default().to_owned();
    }
    // One client can only list them with commas; another sends the name without a value for none.
    let path = "/models?dependenciesFor=dtmi%3Aexample%3Aroom%3B1,dtmi%3Aexample%3Acomp%3B1";
    for path in [path, "/models?dependenciesFor=", "/models?dependenciesFor", "/models?dependenciesFor=&x=y"]
    {
        let found = fixture.ask("GET", path).send().await.is(200).json();
        assert_eq!(found["value"].as_array().unwrap().len(), 2, "{path}");
    }
    let path = "/models?dependenciesFor=dtmi:example:comp;1,dtmi:no:such;1";
    fixture.ask("GET", path).send().await.refused(404, "ModelNotFound");
    let path = "/models?dependenciesFor=dtmi:example:comp;1&dependenciesFor=";
    let found = fixture.ask("GET", path).send().await.is(200).json();
    assert_eq!(found["value"].as_array().unwrap().len(), 1);
    fixture.ask("GET", "/models?dependenciesFor=dtmi:no:such;1").send().await.refused(404, "ModelNotFound");
    fixture.ask("GET", "/models?dependenciesFor=nonsense").send().await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn a_model_is_decommissioned_and_deleted() {
    let fixture = Fixture::with_rooms(&[]).await;
    let set = |value: Value| json!([{"op": "replace", "path": "/decommissioned", "value": value}]);
    fixture.ask("PATCH", ROOM).json(&set(json!(true))).send().await.has_no_content();
    assert_eq!(fixture.ask("GET", ROOM).send().await.json()["decommissioned"], true);
    let body = json!({"$metadata": {"$model": "dtmi:example:room;1"}, "Comp": {"$metadata": {}}});
    fixture.ask("PUT", "/digitaltwins/r").json(&body).send().await.refused(400, "ModelDecommissioned");
    for bad in [json!([]), json!([{"op": "add", "path": "/decommissioned", "value": true}]), set(json!(1))] {
        fixture.ask("PATCH", ROOM).json(&bad).send().await.refused(400, "JsonPatchInvalid");
    }
    fixture
        .ask("PATCH", "/models/dtmi:no:such;1")
        .json(&set(json!(true)))
        .send()
        .await
        .refused(404, "ModelNotFound");
    fixture
        .ask("DELETE", "/models/dtmi:example:comp;1")
        .send()
        .await
        .refused(409, "ModelReferencesNotDeleted");
    fixture.ask("DELETE", ROOM).send().await.has_no_content();
    fixture.ask("DELETE", ROOM).send().await.refused(404, "ModelNotFound");
    fixture.ask("DELETE", "/models/dtmi:example:comp;1").send().await.has_no_content();
}
