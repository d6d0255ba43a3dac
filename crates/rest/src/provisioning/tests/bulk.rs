//! Several enrollments in one request: each for itself.

use serde_json::{Value, json};

use super::fixture::*;

async fn run(fixture: &Fixture, mode: &str, enrollments: &[Value]) -> Answer {
    fixture.ask("POST", "/enrollments").json(&json!({"mode": mode, "enrollments": enrollments})).send().await
}

#[tokio::test]
async fn each_mode_does_what_it_says_and_failures_are_told_one_by_one() {
    let fixture = Fixture::new().await;
    let done = run(&fixture, "create", &[individual("a"), individual("b")]).await.is(200).json();
    assert_eq!(done, json!({"isSuccessful": true, "errors": []}));
    let again = run(&fixture, "CREATE", &[individual("a"), individual("c")]).await.is(200).json();
    assert_eq!(again["isSuccessful"], false);
    assert_eq!(members(&again["errors"][0]), ["registrationId", "errorCode", "errorStatus"]);
    assert_eq!(
        (&again["errors"][0]["registrationId"], &again["errors"][0]["errorCode"]),
        (&json!("a"), &json!(409_000))
    );
    assert!(fixture.get("/enrollments/c").await["etag"].is_string(), "the others are done");

    let mut edge = individual("a");
    edge["capabilities"] = json!({"iotEdge": true});
    run(&fixture, "update", &[edge.clone(), individual("d")]).await.is(200);
    assert_eq!(fixture.get("/enrollments/a").await["capabilities"]["iotEdge"], true);
    assert!(fixture.get("/enrollments/d").await["etag"].is_string());

    edge["etag"] = fixture.get("/enrollments/a").await["etag"].clone();
    let (mut stale, without) = (individual("b"), individual("c"));
    stale["etag"] = json!("\"stale\"");
    let done = run(&fixture, "updateIfMatchETag", &[edge, stale, without]).await.is(200).json();
    let codes: Vec<_> = done["errors"].as_array().unwrap().iter().map(|e| e["errorCode"].clone()).collect();
    assert_eq!(codes, [412_000, 400_004]);

    let done =
        run(&fixture, "delete", &[json!({"registrationId": "a"}), json!({"registrationId": "nobody"})]).await;
    assert_eq!(done.is(200).json()["errors"][0]["errorCode"], 404_201);
    fixture.ask("GET", "/enrollments/a").send().await.refused(404_201);
}

#[tokio::test]
async fn groups_have_the_same_operation_under_their_own_names() {
    let fixture = Fixture::new().await;
    let body = json!({"mode": "create", "enrollmentGroups": [group("g"), {"enrollmentGroupId": "h", "attestation": {"type": "none"}}]});
    let done = fixture.ask("POST", "/enrollmentGroups").json(&body).send().await.is(200).json();
    assert_eq!(members(&done["errors"][0]), ["enrollmentGroupId", "errorCode", "errorStatus"]);
    assert_eq!(done["errors"][0]["enrollmentGroupId"], "h");
    fixture.get("/enrollmentGroups/g").await;
    fixture.ask("GET", "/enrollmentGroups/h").send().await.refused(404_202);
}

#[tokio::test]
async fn ten_are_taken_and_eleven_are_not_and_nonsense_spoils_the_whole() {
    let fixture = Fixture::new().await;
    let many: Vec<Value> = (0..11).map(|n| individual(&format!("dev-{n}"))).collect();
    run(&fixture, "create", &many).await.refused(400_004);
    fixture.ask("GET", "/enrollments/dev-0").send().await.refused(404_201);
    assert_eq!(run(&fixture, "create", &many[..10]).await.is(200).json()["isSuccessful"], true);
    run(&fixture, "replace", &[individual("x")]).await.refused(400_004);
    run(&fixture, "create", &[]).await.refused(400_004);
    run(&fixture, "create", &[individual("x"), json!(7)]).await.refused(400_004);
    run(&fixture, "create", &[individual("x"), json!({"attestation": {}})]).await.refused(400_004);
    fixture.ask("POST", "/enrollments").bytes("").send().await.refused(400_004);
    fixture.ask("GET", "/enrollments/x").send().await.refused(404_201);
}
