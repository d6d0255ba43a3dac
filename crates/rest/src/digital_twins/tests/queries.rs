//! Queries over the wire: rows, pages, charges, refusals.

use serde_json::{Value, json};

use super::fixture::Fixture;

async fn rows(fixture: &Fixture, query: &str) -> Vec<Value> {
    let answer = fixture.ask("POST", "/query").json(&json!({"query": query})).send().await.is(200);
    let mut answer = answer.json();
    assert_eq!(answer["continuationToken"], Value::Null);
    match answer["value"].take() {
        Value::Array(rows) => rows,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_caller_sees_its_own_writes_as_whole_documents() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    let document = fixture.ask("GET", "/digitaltwins/a").send().await.text();
    let answer = fixture
        .ask("POST", "/query")
        .json(&json!({"query": "SELECT * FROM DIGITALTWINS"}))
        .send()
        .await
        .is(200);
    assert_eq!(answer.text(), format!(r#"{{"value":[{document}],"continuationToken":null}}"#));
    assert!(answer.header("query-charge").unwrap().parse::<f64>().unwrap() > 0.0);
    let answer = rows(&fixture, "SELECT T, T.$dtId AS id, T.Temperature FROM DIGITALTWINS T").await;
    assert_eq!(answer[0].to_string(), format!(r#"{{"T":{document},"id":"a","Temperature":80}}"#));
    assert_eq!(rows(&fixture, "SELECT COUNT() FROM DIGITALTWINS").await, [json!({"COUNT": 1})]);
    fixture.ask("DELETE", "/digitaltwins/a").send().await.has_no_content();
    assert_eq!(rows(&fixture, "SELECT COUNT() FROM DIGITALTWINS").await, [json!({"COUNT": 0})]);
}

#[tokio::test]
async fn joins_follow_relationships_and_model_tests_follow_inheritance() {
    let fixture = Fixture::with_rooms(&["a", "b"]).await;
    let suite = json!({"@id": "dtmi:example:suite;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2", "extends": "dtmi:example:room;1"});
    fixture.upload(json!([suite])).await;
    let body = json!({"$metadata": {"$model": "dtmi:example:suite;1"}, "Comp": {"$metadata": {}}});
    fixture.ask("PUT", "/digitaltwins/s").json(&body).send().await.is(200);
    for (edge, target) in [("e1", "b"), ("e2", "s")] {
        let body = json!({"$relationshipName": "contains", "$targetId": target, "since": edge});
        fixture.ask("PUT", &format!("/digitaltwins/a/relationships/{edge}")).json(&body).send().await.is(200);
    }
    let found = rows(
        &fixture,
        "SELECT B.$dtId, R.since FROM DIGITALTWINS A JOIN B RELATED A.contains R WHERE A.$dtId = 'a'",
    )
    .await;
    assert_eq!(found, [json!({"$dtId": "b", "since": "e1"}), json!({"$dtId": "s", "since": "e2"})]);
    let count = async |condition: &str| {
        rows(&fixture, &format!("SELECT COUNT() FROM DIGITALTWINS T WHERE {condition}")).await[0]["COUNT"]
            .clone()
    };
    assert_eq!(count("IS_OF_MODEL('dtmi:example:room;1')").await, 3);
    assert_eq!(count("IS_OF_MODEL('dtmi:example:room;1', exact)").await, 2);
    assert_eq!(count("IS_OF_MODEL(T, 'dtmi:example:suite;1')").await, 1);
    assert_eq!(count("IS_OF_MODEL('dtmi:example:none;1')").await, 0);
    // A model that has gone is still matched by the twins that name it.
    fixture.ask("DELETE", "/models/dtmi:example:suite;1").send().await.has_no_content();
    assert_eq!(count("IS_OF_MODEL('dtmi:example:suite;1')").await, 1);
    assert_eq!(rows(&fixture, "SELECT * FROM RELATIONSHIPS WHERE $sourceId = 'a'").await.len(), 2);
}

#[tokio::test]
async fn pages_are_full_until_the_last_and_their_token_carries_the_query() {
    let ids: Vec<String> = (0..7).map(|n| format!("t{n}")).collect();
    let fixture = Fixture::with_rooms(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut body = json!({"query": "SELECT T.$dtId FROM DIGITALTWINS T"});
    let mut pages = Vec::new();
    loop {
        let ask = fixture.ask("POST", "/query").header("max-items-per-page", "3").json(&body);
        let page = ask.send().await.is(200).json();
        pages.push(page["value"].as_array().unwrap().len());
        match &page["continuationToken"] {
            Value::String(token) => body = json!({"continuationToken": token, "query": "ignored"}),
            other => break assert_eq!(*other, Value::Null),
        }
    }
    assert_eq!(pages, [3, 3, 1]);
}

#[tokio::test]
async fn bad_queries_and_tokens_are_refused_in_the_services_words() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    let ask = |body: Value| fixture.ask("POST", "/query").json(&body).send();
    let answer = ask(json!({"query": "foo"})).await.refused(400, "SqlQueryError");
    assert_eq!(
        answer.message(),
        "SQL query parse failed: SQL Parser Error, Line=1, Position=0, Message=missing SELECT at 'foo' See samples in https://aka.ms/adtv2query for the correct syntax."
    );
    ask(json!({"query": "SELECT * FROM DIGITALTWINS ORDER BY x"})).await.refused(400, "SqlQueryError");
    ask(json!({"query": ""})).await.refused(400, "SqlQueryError");
    ask(json!({"continuationToken": "x"})).await.refused(400, "BadRequest");
    let list = json!(["SELECT * FROM DIGITALTWINS", null]);
    for body in [json!({}), json!([]), list, json!({"query": 5}), json!({"query": null})] {
        ask(body).await.refused(400, "InvalidArgument");
    }
    let other = fixture.ask("POST", "/query").header("max-items-per-page", "x");
    other.json(&json!({"query": "SELECT * FROM DIGITALTWINS"})).send().await.refused(400, "InvalidArgument");
}
