use base::{IfMatch, IfNoneMatch, caps};
use serde_json::{Value, json};

use crate::fixture::{Fixture, id, object, patch, within};
use crate::{Dtmi, Error, event};

async fn rooms(names: &[&str]) -> Fixture {
    let fixture = Fixture::with_models().await;
    for name in names {
        fixture.room(name).await;
    }
    fixture
}

async fn outgoing(fixture: &Fixture, source: &str) -> Result<Vec<String>, Error> {
    let page = fixture.instance.list_relationships(&fixture.caller, &id(source), None, None).await?;
    Ok(page.items.iter().map(|edge| edge.id().to_string()).collect())
}

async fn incoming(fixture: &Fixture, target: &str) -> Vec<String> {
    let page =
        fixture.instance.list_incoming_relationships(&fixture.caller, &id(target), None).await.unwrap();
    page.items.iter().map(|edge| format!("{}/{}", edge.source(), edge.id())).collect()
}

#[tokio::test]
async fn a_relationship_is_written_in_azures_order_and_the_path_wins() {
    let fixture = rooms(&["a", "b"]).await;
    let body = json!({"since": "1999", "$targetId": "b", "$relationshipName": "contains", "$sourceId": "other",
        "$relationshipId": "other", "$etag": null});
    let edge = fixture.relate("a", "e", body).await.unwrap();
    let etag = edge.etag().replace('"', "\\\"");
    assert_eq!(
        Value::Object(edge.document().clone()).to_string(),
        format!(
            r#"{{"$relationshipId":"e","$etag":"{etag}","$sourceId":"a","$relationshipName":"contains","$targetId":"b","since":"1999"}}"#
        )
    );
    let read =
        fixture.instance.get_relationship(&fixture.caller, &id("a"), &"e".parse().unwrap()).await.unwrap();
    assert_eq!(read, edge);
    assert_eq!(outgoing(&fixture, "a").await.unwrap(), ["e"]);
    assert_eq!(incoming(&fixture, "b").await, ["a/e"]);
    assert_eq!(incoming(&fixture, "a").await, [""; 0]);
}

#[tokio::test]
async fn a_relationship_that_no_model_allows_is_refused() {
    let fixture = rooms(&["a", "b"]).await;
    fixture.put("p", json!({"$metadata": {"$model": "dtmi:test:Pump;1"}})).await.unwrap();
    let cases = [
        ("nobody", json!({"$relationshipName": "contains", "$targetId": "b"}), "DigitalTwinNotFound"),
        ("a", json!({"$relationshipName": "contains", "$targetId": "nobody"}), "TargetDigitalTwinNotFound"),
        (
            "a",
            json!({"$relationshipName": "contains", "$targetId": "not an id"}),
            "TargetDigitalTwinNotFound",
        ),
        ("a", json!({}), "ValidationFailed"),
        ("a", json!({"$targetId": "b"}), "ValidationFailed"),
        ("a", json!({"$relationshipName": "contains"}), "ValidationFailed"),
        ("a", json!({"$relationshipName": 5, "$targetId": "b"}), "ValidationFailed"),
        ("a", json!({"$relationshipName": "contains", "$targetId": "a"}), "OperationNotAllowed"),
        ("a", json!({"$relationshipName": "Temperature", "$targetId": "b"}), "InvalidRelationship"),
        ("a", json!({"$relationshipName": "contains", "$targetId": "p"}), "InvalidRelationship"),
        ("p", json!({"$relationshipName": "contains", "$targetId": "a"}), "InvalidRelationship"),
        ("a", json!({"$relationshipName": "contains", "$targetId": "b", "x": 1}), "ValidationFailed"),
        ("a", json!({"$relationshipName": "contains", "$targetId": "b", "since": 1}), "ValidationFailed"),
        (
            "a",
            json!({"$relationshipName": "seesAnything", "$targetId": "b", "since": "1"}),
            "ValidationFailed",
        ),
    ];
    for (source, body, code) in cases {
        let error = fixture.relate(source, "e", body.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{source} {body}: {error}");
    }
    assert_eq!(outgoing(&fixture, "a").await.unwrap(), [""; 0]);
    assert_eq!(
        fixture.contain("a", "e", "nobody").await.unwrap_err().to_string(),
        "The target digital twin is invalid or does not exist Please validate that the target twin is valid and ensure that the target twin is not deleted. See section on querying the twins https://aka.ms/adtv2query ."
    );
    let unknown = json!({"$relationshipName": "unknown", "$targetId": "b"});
    assert_eq!(
        fixture.relate("a", "e", unknown).await.unwrap_err().to_string(),
        "Twin relationship does not align with the model. Please ensure that the relationship is in alignment with the model. See section on listing models http://aka.ms/adtv2models."
    );
    // Unrelated targets suit an undeclared target, subtypes a declared one, names are inherited.
    fixture.relate("a", "any", json!({"$relationshipName": "seesAnything", "$targetId": "p"})).await.unwrap();
    let suite = json!({"$metadata": {"$model": "dtmi:test:Suite;1"}, "Thermostat": {"$metadata": {}}});
    fixture.put("s", suite).await.unwrap();
    fixture.contain("a", "sub", "s").await.unwrap();
    fixture.contain("s", "up", "a").await.unwrap();
}

#[tokio::test]
async fn a_twin_with_an_edge_at_either_end_stays_until_the_edge_has_gone() {
    let fixture = rooms(&["a", "b", "c"]).await;
    fixture.contain("a", "e", "b").await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(
            fixture.delete(name).await.unwrap_err().to_string(),
            format!(
                "Twin {name} has active relationships. Cannot delete a twin unless all the relationships are deleted. Please ensure that the active relationships on the twin are deleted. See section on retrieving relationships https://aka.ms/adtv2twins."
            )
        );
    }
    // Moving the edge frees its old target and binds the new one.
    fixture.contain("a", "e", "c").await.unwrap();
    fixture.delete("b").await.unwrap();
    assert_eq!(fixture.delete("c").await.unwrap_err().code(), "RelationshipsNotDeleted");
    let ends = (&id("a"), &"e".parse().unwrap());
    fixture.instance.delete_relationship(&fixture.caller, ends, &IfMatch::Absent).await.unwrap();
    fixture.delete("a").await.unwrap();
    fixture.delete("c").await.unwrap();
}

#[tokio::test]
async fn only_properties_of_a_relationship_can_be_patched() {
    let fixture = rooms(&["a", "b"]).await;
    let edge = fixture.contain("a", "e", "b").await.unwrap();
    let update = async |operations: Value, if_match: IfMatch| {
        let ends = (&id("a"), &"e".parse().unwrap());
        fixture.instance.update_relationship(&fixture.caller, ends, &patch(&operations), &if_match).await
    };
    let add = json!([{"op": "add", "path": "/since", "value": "1999"}]);
    let after = update(add.clone(), IfMatch::parse(Some(edge.etag()))).await.unwrap();
    assert_ne!(after.etag(), edge.etag());
    assert_eq!(
        update(add, IfMatch::parse(Some(edge.etag()))).await.unwrap_err().code(),
        "PreconditionFailed"
    );
    for (operations, code) in [
        (json!([{"op": "replace", "path": "/$targetId", "value": "a"}]), "JsonPatchInvalid"),
        (json!([{"op": "replace", "path": "/$etag", "value": "a"}]), "JsonPatchInvalid"),
        (json!([{"op": "replace", "path": "", "value": {}}]), "JsonPatchInvalid"),
        (json!([{"op": "remove", "path": "/until"}]), "JsonPatchInvalid"),
        (json!([{"op": "add", "path": "/until", "value": "x"}]), "ValidationFailed"),
        (json!([{"op": "add", "path": "/since", "value": 5}]), "ValidationFailed"),
    ] {
        assert_eq!(update(operations.clone(), IfMatch::Any).await.unwrap_err().code(), code, "{operations}");
    }
    let read =
        fixture.instance.get_relationship(&fixture.caller, &id("a"), &"e".parse().unwrap()).await.unwrap();
    assert_eq!(read, after);
}

#[tokio::test]
async fn a_missing_twin_is_told_before_a_missing_relationship() {
    let fixture = rooms(&["a"]).await;
    let get = async |source: &str| {
        fixture
            .instance
            .get_relationship(&fixture.caller, &id(source), &"e".parse().unwrap())
            .await
            .unwrap_err()
    };
    assert_eq!(get("nobody").await.code(), "DigitalTwinNotFound");
    assert_eq!(
        get("a").await.to_string(),
        "Relationship e not found on twin a. Please verify that the relationship id is valid and ensure that the relationship is not deleted. See section on listing relationships in the documentation https://aka.ms/adtv2twins."
    );
    assert_eq!(outgoing(&fixture, "nobody").await.unwrap_err().code(), "DigitalTwinNotFound");
    let any = IfNoneMatch::Any;
    fixture.room("b").await;
    fixture.contain("a", "e", "b").await.unwrap();
    let body = object(json!({"$relationshipName": "contains", "$targetId": "b"}));
    let again = fixture
        .instance
        .put_relationship(&fixture.caller, (&id("a"), &"e".parse().unwrap()), &body, &any)
        .await;
    assert_eq!(again.unwrap_err().code(), "PreconditionFailed");
}

#[tokio::test]
async fn lists_are_paged_and_can_be_narrowed_to_a_name() {
    let fixture = rooms(&["a", "b"]).await;
    let total = caps::RELATIONSHIP_PAGE * 2 + 5;
    for n in 0..total {
        fixture.contain("a", &format!("e{n:04}"), "b").await.unwrap();
    }
    fixture.relate("a", "z", json!({"$relationshipName": "seesAnything", "$targetId": "b"})).await.unwrap();
    let (mut found, mut incoming, mut named) = (vec![], vec![], vec![]);
    let (instance, caller) = (&fixture.instance, &fixture.caller);
    let mut next = None;
    loop {
        let page = instance.list_relationships(caller, &id("a"), None, next.as_ref()).await.unwrap();
        found.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    loop {
        let page = instance.list_incoming_relationships(caller, &id("b"), next.as_ref()).await.unwrap();
        incoming.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    loop {
        let page =
            instance.list_relationships(caller, &id("a"), Some("contains"), next.as_ref()).await.unwrap();
        named.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), named.len()), (total + 1, total));
    assert_eq!(incoming, found);
    assert!(found.windows(2).all(|pair| pair[0].id() < pair[1].id()));
}

#[tokio::test]
async fn the_token_of_another_list_is_refused() {
    let fixture = rooms(&["a", "b", "c"]).await;
    for n in 0..=caps::RELATIONSHIP_PAGE {
        fixture.contain("a", &format!("e{n:04}"), "b").await.unwrap();
    }
    let (instance, caller) = (&fixture.instance, &fixture.caller);
    let next = instance.list_relationships(caller, &id("a"), None, None).await.unwrap().next;
    assert!(next.is_some());
    for name in [None, Some("contains")] {
        let other = instance.list_relationships(caller, &id("c"), name, next.as_ref()).await;
        assert_eq!(other.unwrap_err(), Error::ContinuationInvalid);
    }
    // Of a list of incoming ones every edge is a place, whether it is in the list or not.
    let page = instance.list_incoming_relationships(caller, &id("c"), next.as_ref()).await.unwrap();
    assert_eq!((page.items, page.next), (vec![], None));
}

#[tokio::test]
async fn a_twin_has_so_many_edges_in_each_direction_and_no_more() {
    let fixture = rooms(&["a", "b", "c"]).await;
    for (source, target) in [("a", "c"), ("c", "b")] {
        let full = match source {
            "a" => crate::digital_twin::record::outgoing(fixture.instance.id(), &id("a")),
            _ => crate::digital_twin::record::incoming(fixture.instance.id(), &id("b")),
        };
        // The store is told of many more once it has counted the one that is there.
        fixture.contain(source, "first", target).await.unwrap();
        let mut batch = store::Batch::default();
        batch.add(full, caps::RELATIONSHIPS_PER_TWIN_MAX - 2, caps::RELATIONSHIPS_PER_TWIN_MAX);
        fixture.store.commit(batch).await.unwrap();
        fixture.listen().await;
        fixture.contain(source, "last", target).await.unwrap();
        let before = fixture.events().await.len();
        assert_eq!(fixture.contain(source, "over", target).await.unwrap_err().code(), "LimitExceeded");
        assert_eq!(outgoing(&fixture, source).await.unwrap(), ["first", "last"]);
        assert_eq!(fixture.events().await.len(), before);
        // What is there can still be replaced.
        fixture.contain(source, "last", target).await.unwrap();
    }
}

#[tokio::test]
async fn events_tell_of_edges_as_documented() {
    let fixture = rooms(&["a", "b", "c"]).await;
    fixture.listen().await;
    let before = fixture.events().await.len();
    let created = fixture.contain("a", "e", "b").await.unwrap();
    let ends = (&id("a"), &"e".parse().unwrap());
    let operations = patch(&json!([{"op": "add", "path": "/since", "value": "1999"}]));
    fixture.instance.update_relationship(&fixture.caller, ends, &operations, &IfMatch::Absent).await.unwrap();
    let last = fixture.contain("a", "e", "c").await.unwrap();
    fixture.instance.delete_relationship(&fixture.caller, ends, &IfMatch::Absent).await.unwrap();
    let events = fixture.events().await.split_off(before);
    let kinds: Vec<_> = events.iter().map(|event| event.attribute("type").unwrap()).collect();
    assert_eq!(
        kinds,
        [
            event::RELATIONSHIP_CREATE,
            event::RELATIONSHIP_UPDATE,
            event::RELATIONSHIP_UPDATE,
            event::RELATIONSHIP_DELETE
        ]
    );
    assert!(events.iter().all(|event| event.attribute("subject") == Some("a/relationships/e")));
    assert_eq!(events[0].data, Value::Object(created.document().clone()));
    assert_eq!(
        events[1].data,
        json!({"modelId": "dtmi:test:Room;1", "patch": [{"value": "1999", "path": "/since", "op": "add"}]})
    );
    assert_eq!(
        events[2].data["patch"],
        json!([{"value": "c", "path": "/$targetId", "op": "replace"}, {"path": "/since", "op": "remove"}])
    );
    assert_eq!(events[3].data, Value::Object(last.document().clone()));
}

#[tokio::test]
async fn a_source_whose_model_has_gone_makes_no_more_edges_but_can_lose_them() {
    let fixture = rooms(&["a"]).await;
    let caller = &fixture.caller;
    fixture.put("p", json!({"$metadata": {"$model": "dtmi:test:Pump;1"}})).await.unwrap();
    fixture.relate("a", "e", json!({"$relationshipName": "seesAnything", "$targetId": "p"})).await.unwrap();
    let pump: Dtmi = "dtmi:test:Pump;1".parse().unwrap();
    fixture.instance.delete_model(caller, &pump).await.unwrap();
    fixture.relate("a", "e2", json!({"$relationshipName": "contains", "$targetId": "p"})).await.unwrap();
    let out = fixture.relate("p", "e3", json!({"$relationshipName": "contains", "$targetId": "a"})).await;
    assert_eq!(out.unwrap_err().code(), "ValidationFailed");
    for edge in ["e", "e2"] {
        let ends = (&id("a"), &edge.parse().unwrap());
        fixture.instance.delete_relationship(caller, ends, &IfMatch::Absent).await.unwrap();
    }
    fixture.delete("p").await.unwrap();
}

/// Edges are put while both of their ends are deleted and made again. Afterwards every edge must have both ends, and
/// every twin must still be deletable once its edges have gone: the counters are exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_edge_never_dangles_however_puts_and_deletes_race() {
    const ROUNDS: usize = 60;
    let fixture = std::sync::Arc::new(rooms(&["a", "b"]).await);
    let mut set = tokio::task::JoinSet::new();
    for (worker, name) in ["a", "b"].into_iter().enumerate() {
        let fixture = fixture.clone();
        set.spawn(async move {
            for _ in 0..ROUNDS {
                if fixture.delete(name).await.is_ok() {
                    tokio::task::yield_now().await;
                    fixture.room(name).await;
                }
            }
            worker
        });
    }
    for worker in 2..4 {
        let fixture = fixture.clone();
        set.spawn(async move {
            let edge = format!("e{worker}");
            for _ in 0..ROUNDS {
                let made = fixture.contain("a", &edge, "b").await;
                let ends = (&id("a"), &edge.parse().unwrap());
                match made {
                    Ok(_) => {
                        let _ = fixture
                            .instance
                            .delete_relationship(&fixture.caller, ends, &IfMatch::Absent)
                            .await;
                    }
                    Err(error) => assert!(
                        matches!(
                            error,
                            Error::DigitalTwinNotFound(_)
                                | Error::TargetDigitalTwinNotFound
                                | Error::Conflict
                        ),
                        "{error}"
                    ),
                }
            }
            worker
        });
    }
    within(set.join_all()).await;
    for edge in
        fixture.store.scan::<crate::Relationship>(store::Scan::new(store::Key::all(), 100)).await.unwrap()
    {
        fixture.get(edge.record.source().as_str()).await.unwrap();
        fixture.get(edge.record.target().as_str()).await.unwrap();
        let ends = (edge.record.source(), edge.record.id());
        fixture.instance.delete_relationship(&fixture.caller, ends, &IfMatch::Absent).await.unwrap();
    }
    for name in ["a", "b"] {
        fixture.delete(name).await.unwrap();
    }
}

/// Which operation commits first decides; the other must hear of it, whichever end of the edge it is about.
#[tokio::test]
async fn of_a_deletion_and_an_edge_at_the_same_twin_the_first_wins() {
    if !crate::fixture::first_asked_commits_first() {
        return;
    }
    for end in ["a", "b"] {
        let fixture = rooms(&["a", "b"]).await;
        let (put, deleted) = fixture.at_once(fixture.contain("a", "e", "b"), fixture.delete(end)).await;
        put.unwrap();
        assert_eq!(deleted.unwrap_err(), Error::RelationshipsNotDeleted(end.to_owned()));
        assert_eq!(outgoing(&fixture, "a").await.unwrap(), ["e"]);
        fixture.get(end).await.unwrap();

        let fixture = rooms(&["a", "b"]).await;
        let (deleted, put) = fixture.at_once(fixture.delete(end), fixture.contain("a", "e", "b")).await;
        deleted.unwrap();
        let refused = put.unwrap_err().code();
        assert_eq!(refused, if end == "a" { "DigitalTwinNotFound" } else { "TargetDigitalTwinNotFound" });
        let key = super::record::key(fixture.instance.id(), &id("a"), &"e".parse().unwrap());
        assert_eq!(fixture.store.get::<crate::Relationship>(&key).await.unwrap(), None);
        fixture.room(end).await;
        fixture.delete("a").await.unwrap();
        fixture.delete("b").await.unwrap();
    }
}

/// Whatever two writes of one edge come at once, each twin counts its edges as they are: it goes when they have gone.
#[tokio::test]
async fn two_writes_of_one_edge_leave_exact_counts() {
    let fixture = rooms(&["a", "b", "c"]).await;
    let delete = || async {
        let ends = (&id("a"), &"e".parse().unwrap());
        fixture.instance.delete_relationship(&fixture.caller, ends, &IfMatch::Absent).await
    };
    // Two that both think they make it, two that both think they move it, and two that both think they end it.
    let (first, second) =
        fixture.at_once(fixture.contain("a", "e", "b"), fixture.contain("a", "e", "b")).await;
    assert_eq!((first.is_ok(), second.is_ok()), (true, true));
    let (first, second) =
        fixture.at_once(fixture.contain("a", "e", "c"), fixture.contain("a", "e", "c")).await;
    assert_eq!((first.is_ok(), second.is_ok()), (true, true));
    fixture.delete("b").await.unwrap();
    assert_eq!(fixture.delete("c").await.unwrap_err().code(), "RelationshipsNotDeleted");
    let (first, second) = fixture.at_once(delete(), delete()).await;
    assert_ne!(first.is_ok(), second.is_ok(), "one of them ends it");
    assert_eq!(first.and(second).unwrap_err().code(), "RelationshipNotFound");
    fixture.delete("a").await.unwrap();
    fixture.delete("c").await.unwrap();
}

#[tokio::test]
async fn two_patches_of_one_edge_are_both_kept_and_a_deleted_one_takes_none() {
    let fixture = rooms(&["a", "b"]).await;
    fixture.contain("a", "e", "b").await.unwrap();
    let ends = (&id("a"), &"e".parse().unwrap());
    let since = |value: &str| patch(&json!([{"op": "add", "path": "/since", "value": value}]));
    let (first, second) = (since("first"), since("second"));
    let change = |operations| {
        fixture.instance.update_relationship(&fixture.caller, ends, operations, &IfMatch::Absent)
    };
    let (first, second) = fixture.at_once(change(&first), change(&second)).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.etag(), second.etag());
    let now = fixture.instance.get_relationship(&fixture.caller, ends.0, ends.1).await.unwrap();
    assert_eq!(now, second);
    let deleting = fixture.instance.delete_relationship(&fixture.caller, ends, &IfMatch::Absent);
    let third = since("third");
    let (deleted, changed) = fixture.at_once(deleting, change(&third)).await;
    deleted.unwrap();
    assert_eq!(changed.unwrap_err().code(), "RelationshipNotFound");
}
