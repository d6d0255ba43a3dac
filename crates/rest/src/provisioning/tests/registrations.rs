//! Registrations as back ends see and delete them.

use serde_json::json;

use super::fixture::*;

#[tokio::test]
async fn a_back_end_sees_what_the_device_was_told_and_the_real_substatus() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    fixture.register_as("dev-1", &key, "2019-03-31").await;
    let told = fixture.register_as("dev-1", &key, "2019-03-31").await["registrationState"].clone();
    let seen = fixture.get("/registrations/DEV-1").await;
    assert_eq!(
        members(&seen),
        [
            "registrationId",
            "createdDateTimeUtc",
            "assignedHub",
            "deviceId",
            "status",
            "substatus",
            "lastUpdatedDateTimeUtc",
            "etag"
        ]
    );
    assert_eq!(told["substatus"], "initialAssignment");
    assert_eq!(seen["substatus"], "reprovisionedToInitialAssignment");
    for same in [
        "registrationId",
        "createdDateTimeUtc",
        "lastUpdatedDateTimeUtc",
        "assignedHub",
        "deviceId",
        "status",
        "etag",
    ] {
        assert_eq!(seen[same], told[same], "{same}");
    }
}

#[tokio::test]
async fn a_registration_is_deleted_under_its_etag_and_the_next_one_is_the_first() {
    let fixture = Fixture::new().await;
    let key = fixture.put_group("group").await.derive("dev-1");
    fixture.register("dev-1", &key).await;
    let etag = fixture.get("/registrations/dev-1").await["etag"].as_str().unwrap().to_owned();
    fixture.ask("DELETE", "/registrations/dev-1").header("if-match", "stale").send().await.refused(412_000);
    fixture.get("/registrations/dev-1").await;
    fixture.ask("DELETE", "/registrations/dev-1").header("if-match", &etag).send().await.is(204);
    for method in ["GET", "DELETE"] {
        fixture.ask(method, "/registrations/dev-1").send().await.refused(404_201);
    }
    let again = fixture.register("dev-1", &key).await;
    assert_eq!(again["registrationState"]["substatus"], "initialAssignment");
}

#[tokio::test]
async fn the_registrations_of_a_group_outlive_it_and_no_group_has_none() {
    let fixture = Fixture::new().await;
    let key = fixture.put_group("group").await;
    let empty = fixture.ask("POST", "/registrations/group/query").send().await.is(200);
    assert_eq!(empty.json(), json!([]));
    fixture.register("dev-1", &key.derive("dev-1")).await;
    fixture.ask("DELETE", "/enrollmentGroups/group").send().await.is(204);
    let query = json!({"query": "select * from enrollments"});
    let orphans = fixture.ask("POST", "/registrations/GROUP/query").json(&query).send().await.is(200).json();
    assert_eq!(orphans[0]["registrationId"], "dev-1");
    fixture.ask("POST", "/registrations/nobody/query").send().await.refused(404_202);
}
