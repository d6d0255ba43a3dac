//! If-Match in every form, on every operation that takes one.

use super::fixture::*;

#[tokio::test]
async fn every_spelling_of_an_etag_is_taken() {
    let test = TestDoor::new().await;
    // The body of a digital twin does not repeat the tag.
    for (method, path, body) in conditional().filter(|(_, path, _)| !path.starts_with("/digitaltwins")) {
        for spell in ["*", "\"*\"", "@", "\"@\"", "W/\"@\""] {
            let current = test.owner("GET", path, "").await.body_json();
            let tag = spell.replace('@', current["etag"].as_str().unwrap());
            let response = test.ask(method, path, body).by_owner().if_match(&tag).send().await;
            if method == "DELETE" {
                response.status_is(204);
                test.owner("PUT", "/devices/dev1", "{}").await;
                test.owner("PUT", "/devices/dev1/modules/mod1", "{}").await.status_is(200);
            } else {
                response.status_is(200);
                assert_ne!(response.body_json()["etag"], current["etag"], "{method} {path}");
            }
        }
    }
}

/// The operations that take an etag.
fn conditional() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let is_tagged = |method: &str, path: &str| {
        matches!(method, "PUT" | "PATCH" | "DELETE")
            && !is_of_messages(path)
            && !is_of_jobs(path)
            && !is_of_configurations(path)
    };
    OPERATIONS.iter().copied().filter(move |(method, path, _)| is_tagged(method, path))
}

#[tokio::test]
async fn an_etag_that_is_not_the_current_one_in_whatever_form_changes_nothing() {
    let test = TestDoor::new().await;
    test.owner("PATCH", "/twins/dev1", r#"{"tags":{"a":1}}"#).await.status_is(200);
    test.owner("PATCH", "/twins/dev1/modules/mod1", r#"{"tags":{"a":1}}"#).await.status_is(200);
    let before = test.state().await;
    let forms: &[&[&[u8]]] = &[
        &[b"\"AAAAAAAAAAE=\""],
        &[b"AAAAAAAAAAE="],
        &[b"W/\"AAAAAAAAAAE=\""],
        &[b"\"aaaaaaaaaai=\""],
        &[b"\"\""],
        &[b"**"],
        &[b"\"AAAAAAAAAAE=\", \"AAAAAAAAAAM=\""],
        &[b"\xff"],
        &[b"*\xe4"],
        &[b"*", b"\"AAAAAAAAAAE=\""],
    ];
    for (method, path, body) in conditional() {
        for form in forms {
            let response = test.ask(method, path, body).by_owner().if_matches(form).send().await;
            response.refused(412, "PreconditionFailed");
        }
    }
    for path in ["/devices/dev1", "/devices/dev1/modules/mod1"] {
        test.owner("DELETE", path, "").await.refused(412, "PreconditionFailed");
    }
    assert_eq!(test.state().await, before);
}
