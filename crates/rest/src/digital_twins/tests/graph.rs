//! Twins, components, relationships and telemetry over the wire, with the answers that were recorded.

use serde_json::{Value, json};

use super::fixture::{Fixture, HOST};

const ROOM: &str = "dtmi:example:room;1";

#[tokio::test]
async fn a_twin_goes_through_its_life_as_the_worked_exchange_shows() {
    let fixture = Fixture::with_rooms(&[]).await;
    let body = json!({"$metadata": {"$model": ROOM}, "Temperature": 80, "Name": "Employee1", "Comp": {"$metadata": {}}});
    let created = fixture
        .ask("PUT", "/digitaltwins/room1")
        .header("if-none-match", "*")
        .json(&body)
        .send()
        .await
        .is(200);
    let etag = created.header("etag").unwrap().to_owned();
    let (quoted, t1) = (etag.replace('"', "\\\""), "2025-06-15T15:06:40Z");
    assert_eq!(
        created.text(),
        format!(
            r#"{{"$dtId":"room1","$etag":"{quoted}","Temperature":80,"Name":"Employee1","Comp":{{"$metadata":{{"$lastUpdateTime":"{t1}"}}}},"$metadata":{{"$model":"{ROOM}","$lastUpdateTime":"{t1}","Temperature":{{"lastUpdateTime":"{t1}"}},"Name":{{"lastUpdateTime":"{t1}"}}}}}}"#
        )
    );
    fixture.later();
    let patch = json!([
        {"op": "replace", "path": "/Temperature", "value": 70},
        {"op": "replace", "path": "/$metadata/Temperature/sourceTime", "value": "2022-01-20T02:03:00.0943478Z"},
        {"op": "remove", "path": "/Name"},
    ]);
    let changed = fixture
        .ask("PATCH", "/digitaltwins/room1")
        .header("if-match", "*")
        .json(&patch)
        .send()
        .await
        .has_no_content();
    let newer = changed.header("etag").unwrap();
    assert_ne!(newer, etag);
    let read = fixture.ask("GET", "/DigitalTwins/room1").send().await.is(200);
    assert_eq!(read.header("etag"), Some(newer));
    test_store::assert_same_document(
        &read.json()["$metadata"].to_string(),
        &format!(
            r#"{{"$model":"{ROOM}","$lastUpdateTime":"2025-06-15T15:06:50Z","Temperature":{{"lastUpdateTime":"2025-06-15T15:06:50Z","sourceTime":"2022-01-20T02:03:00.0943478Z"}}}}"#
        ),
    );
    let stale =
        fixture.ask("PATCH", "/digitaltwins/room1").header("if-match", &etag).json(&json!([])).send().await;
    assert_eq!(
        stale.refused(412, "PreconditionFailed").message(),
        format!(
            "The provided etag {etag} doesn't match the current etag for the resource. Please obtain and provide the latest etag by getting the resource. See section on get apis in the documentation https://aka.ms/adtv2twins."
        )
    );
    fixture
        .ask("PUT", "/digitaltwins/room1")
        .header("if-none-match", "*")
        .json(&body)
        .send()
        .await
        .refused(412, "PreconditionFailed");
    fixture.ask("DELETE", "/digitaltwins/room1").header("if-match", newer).send().await.has_no_content();
    fixture.ask("GET", "/digitaltwins/room1").send().await.refused(404, "DigitalTwinNotFound");
}

#[tokio::test]
async fn the_first_api_version_shows_no_last_update_time() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    for path in ["/digitaltwins/a", "/digitaltwins/a/components/Comp"] {
        let older = fixture.ask("GET", &format!("{path}?api-version=2020-10-31")).send().await.is(200);
        assert!(!older.text().contains("$lastUpdateTime"), "{}", older.text());
        assert!(older.text().contains("$metadata"));
        assert!(fixture.ask("GET", path).send().await.text().contains("$lastUpdateTime"));
    }
    let query = json!({"query": "SELECT T FROM DIGITALTWINS T"});
    let rows = fixture.ask("POST", "/query?api-version=2020-10-31").json(&query).send().await.is(200);
    assert!(!rows.text().contains("$lastUpdateTime"), "{}", rows.text());
}

#[tokio::test]
async fn ids_are_checked_before_anything_else_is_looked_at() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    let long = format!("/digitaltwins/{}", "x".repeat(128));
    for path in ["/digitaltwins/a%20b", "/digitaltwins/a%2Fb", "/digitaltwins/a:b", &long] {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            let answer = fixture.ask(method, path).bytes("[{}]").send().await.refused(400, "InvalidArgument");
            assert_eq!(
                answer.message(),
                "Invalid twin ID specified. Twin ID must be less than 128 characters, and only include the following characters: A-Z a-z 0-9 - . +% _ # * ? ! ( ) , = @ $ '"
            );
        }
    }
    fixture.ask("GET", "/digitaltwins/a/relationships/x%20y").send().await.refused(400, "InvalidArgument");
    let odd = "/digitaltwins/a-.%2B%25_%23*%3F!()%2C%3D%40$'";
    fixture.put_room(&odd["/digitaltwins/".len()..]).await;
    assert_eq!(fixture.ask("GET", odd).send().await.json()["$dtId"], "a-.+%_#*?!(),=@$'");
}

#[tokio::test]
async fn unreadable_bodies_and_headers_are_refused_in_the_services_words() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    let before = fixture.ask("GET", "/digitaltwins/a").send().await.text();
    for body in ["", "{", "null", "5", "[{}]", "\"x\"", "\u{feff}{}"] {
        let answer =
            fixture.ask("PUT", "/digitaltwins/a").bytes(body).send().await.refused(400, "InvalidArgument");
        assert_eq!(answer.message(), "Payload is invalid.");
    }
    for etag in [
        "AAAA==",
        "",
        "W/",
        "W/\"\"",
        "a\"b\"",
        "\"",
        "W/\"a\", W/\"b\"",
        "*, *",
        "W/W/\"a\"",
        "w/\"a\"",
        "W/*",
        "é",
    ] {
        for (method, path) in [
            ("PATCH", "/digitaltwins/a"),
            ("PATCH", "/digitaltwins/a/components/Comp"),
            ("DELETE", "/digitaltwins/a"),
            ("PATCH", "/digitaltwins/a/relationships/e"),
            ("DELETE", "/digitaltwins/a/relationships/e"),
        ] {
            let ask = fixture.ask(method, path).header("if-match", etag).bytes("[]");
            assert_eq!(
                ask.send().await.refused(400, "InvalidArgument").message(),
                "Invalid If-Match header value. Allowed value(s): If-Match: {etag} or If-Match: *"
            );
        }
    }
    let ask = fixture.ask("DELETE", "/digitaltwins/a").header("if-match", "*").header("if-match", "*");
    ask.send().await.refused(400, "InvalidArgument");
    let twin = json!({"$metadata": {"$model": ROOM}, "Comp": {"$metadata": {}}});
    let edge = json!({"$relationshipName": "contains", "$targetId": "a"});
    for (path, body) in [("/digitaltwins/a", twin), ("/digitaltwins/a/relationships/e", edge)] {
        for etag in ["W/\"x\"", "", "x", "*, *", "é"] {
            let ask = fixture.ask("PUT", path).header("if-none-match", etag).json(&body);
            ask.send().await.refused(400, "InvalidArgument");
        }
    }
    assert_eq!(fixture.ask("GET", "/digitaltwins/a").send().await.text(), before);
}

#[tokio::test]
async fn validation_failures_list_their_details() {
    let fixture = Fixture::with_rooms(&[]).await;
    let put = |body: Value| fixture.ask("PUT", "/digitaltwins/x").json(&body).send();
    let answer =
        put(json!({"$metadata": {"$model": ROOM}, "LowestTemperature": 1, "Comp": {"$metadata": {}}}))
            .await
            .refused(400, "ValidationFailed");
    assert_eq!(
        answer.text(),
        r#"{"error":{"code":"ValidationFailed","message":"Invalid twin specified","details":[{"code":"ValidationFailed","message":"LowestTemperature does not appear on the DTDL for Twin."}]}}"#
    );
    let answer = put(json!({"$metadata": {"$model": "dtmi:samples:Building;2"}}))
        .await
        .refused(400, "ValidationFailed");
    assert_eq!(
        answer.json()["error"]["details"][0]["message"],
        "dtmi:samples:Building;2 or one of its dependencies does not exist."
    );
}

#[tokio::test]
async fn patches_are_refused_with_the_recorded_texts() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    let suffix = " Please provide a valid patch document. See section on update apis in the documentation https://aka.ms/adtv2twins.";
    let cases = [
        (
            "/digitaltwins/a",
            json!([{"op": "move", "from": "/Name", "path": "/X"}]),
            "Unsupported operation type move.",
        ),
        ("/digitaltwins/a", json!([{}]), "Parameter op must not be empty."),
        (
            "/digitaltwins/a",
            json!([{"op": "remove", "path": "/Name"}]),
            "The target location specified by path segment 'Name' was not found.",
        ),
        (
            "/digitaltwins/a",
            json!([{"op": "add", "path": "/Component2/X", "value": 1}]),
            "Could not resolve path /Component2/X.",
        ),
        (
            "/digitaltwins/a/components/Component2",
            json!([{"op": "replace", "path": "/ComponentProp1", "value": 1}]),
            "Could not resolve path /Component2/ComponentProp1.",
        ),
        (
            "/digitaltwins/a/components/Comp",
            json!([{"op": "replace", "path": "/X", "value": 1}]),
            "The target location specified by path segment 'X' was not found.",
        ),
        (
            "/digitaltwins/a/components/Comp",
            json!([{"op": "add", "path": "/Y", "value": 1}]),
            "Y does not exist on component.",
        ),
    ];
    for (path, patch, reason) in cases {
        let answer = fixture.ask("PATCH", path).json(&patch).send().await.refused(400, "JsonPatchInvalid");
        assert_eq!(answer.message(), format!("{reason}{suffix}"));
    }
    let answer = fixture
        .ask("PATCH", "/digitaltwins/a")
        .header("traceparent", "00-18f4e34b3e4a784aadf5913917537e7d-691a71e0a220d642-01");
    let answer = answer.bytes(r#"["thisIsNotAPatch..."]"#).send().await.is(400);
    assert_eq!(answer.header("content-type"), Some("application/problem+json; charset=utf-8"));
    let problem = answer.text();
    let expected = r#"{"errors":{"[0]":["Error converting value \"thisIsNotAPatch...\" to type 'Microsoft.AspNetCore.JsonPatch.Operations.Operation'. Path '[0]', line 1, position 21."],"jsonPatchDocument":["The jsonPatchDocument field is required."]},"type":"https://tools.ietf.org/html/rfc7231#section-6.5.1","title":"One or more validation errors occurred.","status":400,"detail":null,"instance":null,"extensions":{"traceId":"00-18f4e34b3e4a784aadf5913917537e7d-"#;
    assert!(problem.starts_with(expected), "{problem}");
    assert!(problem.ends_with("-00\"}}"), "{problem}");
}

#[tokio::test]
async fn a_component_is_read_and_patched_with_the_etag_of_its_twin() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    let twin = fixture.ask("GET", "/digitaltwins/a").send().await;
    let read = fixture.ask("GET", "/digitaltwins/a/components/Comp").send().await.is(200);
    assert_eq!(read.header("etag"), twin.header("etag"));
    let patch = json!([{"op": "add", "path": "/X", "value": 5}]);
    let ask = fixture
        .ask("PATCH", "/digitaltwins/a/components/Comp")
        .header("if-match", twin.header("etag").unwrap());
    let changed = ask.json(&patch).send().await.has_no_content();
    let read = fixture.ask("GET", "/digitaltwins/a/components/Comp").send().await;
    assert_eq!(read.header("etag"), changed.header("etag"));
    test_store::assert_same_document(
        &read.text(),
        r#"{"X":5,"$metadata":{"$lastUpdateTime":"2025-06-15T15:06:40Z","X":{"lastUpdateTime":"2025-06-15T15:06:40Z"}}}"#,
    );
    let ask = fixture
        .ask("PATCH", "/digitaltwins/a/components/Comp")
        .header("if-match", twin.header("etag").unwrap());
    ask.json(&patch).send().await.refused(412, "PreconditionFailed");
    fixture.ask("GET", "/digitaltwins/a/components/Nope").send().await.refused(404, "ComponentNotFound");
    fixture.ask("GET", "/digitaltwins/x/components/Comp").send().await.refused(404, "DigitalTwinNotFound");
}

#[tokio::test]
async fn relationships_are_made_read_listed_and_removed() {
    let fixture = Fixture::with_rooms(&["a", "b"]).await;
    let edge = "/digitaltwins/a/relationships/BuildingHasFloor";
    let body = json!({"$relationshipId": "other", "$sourceId": "other", "$relationshipName": "contains", "$targetId": "b", "since": "1999"});
    let created = fixture.ask("PUT", edge).json(&body).send().await.is(200);
    let quoted = created.header("etag").unwrap().replace('"', "\\\"");
    let document = format!(
        r#"{{"$relationshipId":"BuildingHasFloor","$etag":"{quoted}","$sourceId":"a","$relationshipName":"contains","$targetId":"b","since":"1999"}}"#
    );
    test_store::assert_same_document(&created.text(), &document);
    test_store::assert_same_document(&fixture.ask("GET", edge).send().await.is(200).text(), &document);
    let list = fixture.ask("GET", "/digitaltwins/a/relationships").send().await.is(200);
    test_store::assert_same_document(&list.text(), &format!(r#"{{"value":[{document}],"nextLink":null}}"#));
    let list = fixture.ask("GET", "/digitaltwins/a/relationships?relationshipName=x").send().await.is(200);
    assert_eq!(list.text(), r#"{"value":[],"nextLink":null}"#);
    let list = fixture.ask("GET", "/digitaltwins/b/incomingrelationships").send().await.is(200);
    assert_eq!(
        list.text(),
        r#"{"nextLink":null,"value":[{"$relationshipId":"BuildingHasFloor","$sourceId":"a","$relationshipName":"contains","$relationshipLink":"/digitaltwins/a/relationships/BuildingHasFloor"}]}"#
    );
    for id in ["a", "b"] {
        fixture
            .ask("DELETE", &format!("/digitaltwins/{id}"))
            .send()
            .await
            .refused(400, "RelationshipsNotDeleted");
    }
    let patch = json!([{"op": "replace", "path": "/since", "value": "2000"}]);
    let changed = fixture.ask("PATCH", edge).json(&patch).send().await.has_no_content();
    assert!(changed.header("etag").is_some());
    let ask = fixture.ask("DELETE", edge).header("if-match", created.header("etag").unwrap());
    ask.send().await.refused(412, "PreconditionFailed");
    fixture.ask("DELETE", edge).send().await.has_no_content();
    assert_eq!(
        fixture.ask("GET", edge).send().await.refused(404, "RelationshipNotFound").header("etag"),
        None
    );
    fixture.ask("DELETE", "/digitaltwins/a").send().await.has_no_content();
}

#[tokio::test]
async fn relationship_lists_are_paged_by_absolute_links() {
    let fixture = Fixture::with_rooms(&["a", "b"]).await;
    let total = base::caps::RELATIONSHIP_PAGE + 1;
    for n in 0..total {
        let body = json!({"$relationshipName": "contains", "$targetId": "b"});
        fixture.ask("PUT", &format!("/digitaltwins/a/relationships/e{n}")).json(&body).send().await.is(200);
    }
    for list in ["/digitaltwins/a/relationships", "/digitaltwins/b/incomingrelationships"] {
        let first = fixture.ask("GET", list).send().await.is(200).json();
        assert_eq!(first["value"].as_array().unwrap().len(), total - 1);
        let next =
            first["nextLink"].as_str().unwrap().strip_prefix(&format!("https://{HOST}")).unwrap().to_owned();
        let second = fixture.ask("GET", &next).send().await.is(200).json();
        assert_eq!((second["value"].as_array().unwrap().len(), &second["nextLink"]), (1, &Value::Null));
        fixture.ask("GET", &format!("{list}?continuationToken=x")).send().await.refused(400, "BadRequest");
    }
}

#[tokio::test]
async fn telemetry_needs_a_message_id_and_a_twin() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    for path in ["/digitaltwins/a/telemetry", "/digitaltwins/a/components/Comp/telemetry"] {
        let ask = || fixture.ask("POST", path).json(&json!({"undeclared": 5}));
        ask().header("message-id", "m1").send().await.has_no_content();
        ask()
            .header("message-id", "m1")
            .header("telemetry-source-time", "2022-01-20T02:03:00Z")
            .send()
            .await
            .has_no_content();
        ask().send().await.refused(400, "InvalidArgument");
        ask().header("message-id", "").send().await.refused(400, "InvalidArgument");
        ask()
            .header("message-id", "m1")
            .header("telemetry-source-time", "x")
            .send()
            .await
            .refused(400, "InvalidArgument");
        for bad in ["2022-01-20", "é", ""] {
            let ask = ask().header("message-id", "m1").header("telemetry-source-time", bad);
            ask.send().await.refused(400, "InvalidArgument");
        }
        let long = "m".repeat(base::caps::MESSAGE_ID_CHARACTERS_MAX);
        ask().header("message-id", &long).send().await.has_no_content();
        ask().header("message-id", &(long + "m")).send().await.refused(400, "InvalidArgument");
        ask().header("message-id", "é").send().await.refused(400, "InvalidArgument");
        ask().header("message-id", "m1").bytes("[1]").send().await.refused(400, "InvalidArgument");
    }
    let ask = fixture.ask("POST", "/digitaltwins/foo/telemetry").header("message-id", "m").json(&json!({}));
    ask.send().await.refused(404, "DigitalTwinNotFound");
    let ask = fixture
        .ask("POST", "/digitaltwins/a/components/X/telemetry")
        .header("message-id", "m")
        .json(&json!({}));
    ask.send().await.refused(404, "ComponentNotFound");
}
