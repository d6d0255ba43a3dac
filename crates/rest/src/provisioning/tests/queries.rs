//! Lists: whatever clients send as a query, page by page.

use serde_json::json;

use super::fixture::*;

#[tokio::test]
async fn whatever_clients_send_as_a_query_selects_everything() {
    let fixture = Fixture::new().await;
    fixture.put_individual("dev-1").await;
    fixture.put_group("group").await;
    for query in [
        "SELECT *",
        "select * from enrollments",
        "SELECT * FROM enrollmentGroups",
        "{'additional_properties': {}, 'query': 'SELECT *'}",
        "",
        "what is there?",
    ] {
        for (path, item_type) in
            [("/enrollments/query", "Enrollment"), ("/enrollmentGroups/query", "EnrollmentGroup")]
        {
            let answer = fixture.ask("POST", path).json(&json!({"query": query})).send().await.is(200);
            assert_eq!(answer.json().as_array().unwrap().len(), 1, "{query}");
            assert_eq!(answer.header("x-ms-item-type"), Some(item_type));
            assert_eq!(answer.header("x-ms-continuation"), None);
            assert_eq!(answer.json()[0]["attestation"], json!({"type": "symmetricKey"}), "keys stay hidden");
        }
    }
    for body in ["", " ", "{}", r#"{"query":null}"#] {
        let answer = fixture.ask("POST", "/enrollments/query").bytes(body).send().await.is(200);
        assert_eq!(answer.json().as_array().unwrap().len(), 1, "{body}");
    }
    for body in ["{", "[]", r#"{"query":7}"#] {
        for path in ["/enrollments/query", "/enrollmentGroups/query", "/registrations/group/query"] {
            fixture.ask("POST", path).bytes(body).send().await.refused(400_004);
        }
    }
}

#[tokio::test]
async fn a_condition_that_parses_is_held_against_what_the_wire_shows() {
    let fixture = Fixture::new().await;
    fixture.put_individual("dev-1").await;
    let mut off = individual("dev-2");
    off["provisioningStatus"] = json!("disabled");
    fixture.ask("PUT", "/enrollments/dev-2").json(&off).send().await.is(200);
    let query = json!({"query": "SELECT * FROM enrollments WHERE provisioningStatus = 'disabled'"});
    let found = fixture.ask("POST", "/enrollments/query").json(&query).send().await.is(200).json();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["registrationId"], "dev-2");
}

#[tokio::test]
async fn pages_follow_each_other_and_the_last_one_says_so_by_saying_nothing() {
    let fixture = Fixture::new().await;
    let group_key = fixture.put_group("group").await;
    for n in 0..5 {
        let id = format!("dev-{n}");
        fixture.put_individual(&format!("single-{n}")).await;
        fixture.register(&id, &group_key.derive(&id)).await;
    }
    for (path, item_type) in
        [("/enrollments/query", "Enrollment"), ("/registrations/group/query", "DeviceRegistration")]
    {
        let (mut ids, mut sizes, mut from) = (vec![], vec![], String::new());
        loop {
            let ask = fixture.ask("POST", path).header("x-ms-max-item-count", "2");
            let page = ask.header("x-ms-continuation", &from).send().await.is(200);
            assert_eq!(page.header("x-ms-item-type"), Some(item_type));
            assert_eq!(page.header("x-ms-max-item-count"), Some("2"));
            let items = page.json().as_array().unwrap().clone();
            sizes.push(items.len());
            ids.extend(items.iter().map(|item| item["registrationId"].as_str().unwrap().to_owned()));
            match page.header("x-ms-continuation") {
                Some(next) => from = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(sizes, [2, 2, 1]);
        let is_in_order = ids.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(is_in_order && ids.len() == 5, "{ids:?}");
    }
}

#[tokio::test]
async fn a_page_has_at_least_one_item_and_at_most_a_thousand() {
    let fixture = Fixture::new().await;
    fixture.put_group("group").await;
    for path in ["/enrollments/query", "/enrollmentGroups/query", "/registrations/group/query"] {
        for (asked, given) in [("1", "1"), ("1000", "1000"), ("1001", "1000")] {
            let answer = fixture.ask("POST", path).header("x-ms-max-item-count", asked).send().await.is(200);
            assert_eq!(answer.header("x-ms-max-item-count"), Some(given));
        }
        assert_eq!(fixture.ask("POST", path).send().await.header("x-ms-max-item-count"), Some("100"));
        for bad in ["0", "-1", "many", "1.5", "99999999999999999999999"] {
            fixture.ask("POST", path).header("x-ms-max-item-count", bad).send().await.refused(400_004);
        }
        for bad in ["not ours", "ä", "NDI", "eyJhIjoxfQ", &"x".repeat(70_000)] {
            fixture.ask("POST", path).header("x-ms-continuation", bad).send().await.refused(400_004);
        }
        let twice = fixture.ask("POST", path).header("x-ms-max-item-count", "1");
        twice.header("x-ms-max-item-count", "2").send().await.refused(400_004);
        fixture.ask("POST", path).header("x-ms-max-item-count", "ä").send().await.refused(400_004);
    }
}
