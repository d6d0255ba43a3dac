use base::{Continuation, IfMatch, caps};
use serde_json::{Value, json};

use super::*;
use crate::testing::{TestHub, settings, system};

async fn page(hub: &Hub, text: &str, continuation: Option<Continuation>, page_max: usize) -> QueryPage {
    let query = Query { text: text.to_owned(), continuation, page_max: Some(page_max) };
    hub.query(&system(), &query).await.unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn values(page: &QueryPage) -> Vec<Value> {
    page.rows.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect()
}

/// All pages of so many rows together.
async fn rows_by(hub: &Hub, text: &str, page_max: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut continuation = None;
    loop {
        let page = page(hub, text, continuation, page_max).await;
        assert!(page.rows.len() <= page_max, "{text}");
        rows.extend(values(&page));
        if page.next.is_none() {
            return rows;
        }
        continuation = page.next;
    }
}

/// The same however it is cut into pages.
async fn rows(hub: &Hub, text: &str) -> Vec<Value> {
    let whole = rows_by(hub, text, 1000).await;
    for page_max in [1, 2, 3] {
        assert_eq!(rows_by(hub, text, page_max).await, whole, "{text} by {page_max}");
    }
    whole
}

async fn refused(hub: &Hub, text: &str, continuation: Option<Continuation>) -> Error {
    let query = Query { text: text.to_owned(), continuation, page_max: None };
    hub.query(&system(), &query).await.expect_err(text)
}

/// Five devices on two floors of two sites, one of them without tags, and two modules.
async fn building() -> TestHub {
    let hub = TestHub::new().await;
    for id in ["a", "b", "c", "d", "e"] {
        hub.create_device(id).await;
    }
    for (id, site, floor) in [
        ("a", "north", json!(1)),
        ("b", "south", json!(2.5)),
        ("c", "north", json!("x")),
        ("d", "north", json!(2)),
    ] {
        hub.patch(id, json!({"tags": {"site": site, "floor": floor}})).await.unwrap();
    }
    hub.reported("b", json!({"level": 7})).await.unwrap();
    for id in ["a/m1", "b/m2"] {
        hub.create_module(id).await;
    }
    hub.patch("b/m2", json!({"tags": {"site": "south"}})).await.unwrap();
    hub
}

#[tokio::test]
async fn whole_twins_are_what_a_read_of_each_shows() {
    let hub = building().await;
    let session = hub.connect("c").await;
    let mut expected = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        expected.push(hub.twin(id).await.document());
    }
    assert_eq!(rows(&hub, "SELECT * FROM devices").await, expected);
    assert_eq!(expected[2]["connectionState"], "Connected");
    let modules = [hub.twin("a/m1").await.document(), hub.twin("b/m2").await.document()];
    assert_eq!(rows(&hub, "select * from devices.modules").await, modules);
    drop(session);
}

#[tokio::test]
async fn conditions_select_whether_the_store_answers_them_or_not() {
    let hub = building().await;
    let session = hub.connect("c").await;
    for (condition, expected) in [
        ("tags.site = 'north'", "acd"),
        ("tags.site != 'north'", "b"),
        ("tags.floor >= 2", "bd"),
        ("tags.floor + 1 = 3", "d"),
        ("LENGTH(tags.floor) = 1", "c"),
        ("NOT IS_DEFINED(tags.site)", "e"),
        ("connectionState = 'Connected'", "c"),
        ("tags.site = 'north' AND connectionState = 'Disconnected'", "ad"),
        ("tags.site = 'south' OR connectionState = 'Connected'", "bc"),
        ("NOT (connectionState = 'Connected')", "abde"),
        ("deviceId IN ['a', 'e', 'nobody'] AND status = 'enabled'", "ae"),
        ("properties.reported.level = 7 AND properties.reported.$version = 2", "b"),
        ("capabilities.iotEdge = true", ""),
        ("IS_DEFINED(moduleId)", ""),
        ("instance != ''", ""),
        ("cloudToDeviceMessageCount = 0 AND deviceId < 'b'", "a"),
        ("etag = 'AAAAAAAAAAI='", "abcd"),
    ] {
        let found = rows(&hub, &format!("SELECT deviceId FROM devices WHERE {condition}")).await;
        let ids: String = found.iter().map(|row| row["deviceId"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{condition}");
        let count = rows(&hub, &format!("SELECT COUNT() AS n FROM devices WHERE {condition}")).await;
        assert_eq!(count, [json!({"n": expected.len()})], "{condition}");
    }
    let modules = rows(
        &hub,
        "SELECT deviceId, moduleId FROM devices.modules WHERE devices.deviceId = 'b' AND moduleId > 'm1'",
    );
    assert_eq!(modules.await, [json!({"deviceId": "b", "moduleId": "m2"})]);
    drop(session);
}

#[tokio::test]
async fn groups_orders_and_tops_are_the_same_however_they_are_paged() {
    let hub = building().await;
    assert_eq!(
        rows(
            &hub,
            "SELECT tags.site AS s, COUNT() AS n, MAX(tags.floor) AS f FROM devices GROUP BY tags.site"
        )
        .await,
        [json!({"n": 1}), json!({"s": "north", "n": 3, "f": "x"}), json!({"s": "south", "n": 1, "f": 2.5})]
    );
    let ids = async |text: &str| {
        let rows = rows(&hub, text).await;
        rows.iter().map(|row| row["deviceId"].as_str().unwrap()).collect::<String>()
    };
    assert_eq!(ids("SELECT deviceId FROM devices ORDER BY tags.floor DESC").await, "cbdae");
    assert_eq!(ids("SELECT TOP 3 * FROM devices ORDER BY tags.site, deviceId DESC").await, "edc");
    assert_eq!(ids("SELECT TOP(2) deviceId FROM devices WHERE tags.site = 'north'").await, "ac");
    assert_eq!(ids("SELECT TOP 2 deviceId FROM devices WHERE LENGTH(deviceId) = 1").await, "ab");
    assert_eq!(ids("SELECT TOP 0 deviceId FROM devices").await, "");
    assert_eq!(rows(&hub, "SELECT TOP 1 tags.site FROM devices GROUP BY tags.site").await, [json!({})]);
    assert_eq!(rows(&hub, "SELECT * FROM devices.jobs").await, Vec::<Value>::new(), "no job has run");
}

#[tokio::test]
async fn a_query_sees_what_was_written_before_it() {
    let hub = TestHub::with_device("a").await;
    for n in 0..20 {
        hub.patch("a", json!({"tags": {"n": n}})).await.unwrap();
        assert_eq!(rows_by(&hub, &format!("SELECT * FROM devices WHERE tags.n = {n}"), 10).await.len(), 1);
    }
    hub.delete_device(&system(), &"a".parse().unwrap(), &IfMatch::Any).await.unwrap();
    assert_eq!(rows(&hub, "SELECT * FROM devices").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_token_is_good_for_its_query_of_its_hub_and_for_nothing_else() {
    let hub = building().await;
    let other = hub.hubs.ensure(settings("other")).await.unwrap();
    for text in [
        "SELECT * FROM devices",
        "SELECT * FROM devices ORDER BY tags.floor",
        "SELECT COUNT() AS n FROM devices GROUP BY tags.site",
        "SELECT * FROM devices.modules",
    ] {
        let token = page(&hub, text, None, 1).await.next.expect("there is more");
        assert_eq!(page(&hub, text, Some(token.clone()), 1).await.rows.len(), 1, "{text}");
        assert_eq!(
            refused(&hub, "SELECT deviceId FROM devices", Some(token.clone())).await.name(),
            "ArgumentInvalid"
        );
        assert_eq!(refused(&other, text, Some(token)).await.name(), "ArgumentInvalid", "{text}");
        // Written by somebody who knows what a token is made of: still one of this query, and of no other kind.
        let forged = |after| {
            Continuation::encode(&Token { instance: hub.instance().clone(), query: sum(text), after })
        };
        let keys = vec![String::new(); 3];
        for after in [After::Id { keys, rows: 0 }, After::Groups(0)] {
            let is_grouped = matches!(after, After::Groups(_)) && text.contains("GROUP");
            if !is_grouped {
                refused(&hub, text, Some(forged(after))).await;
            }
        }
    }
    for bad in ["", "e30", "not ours"] {
        refused(&hub, "SELECT * FROM devices", Some(Continuation::from_client(bad))).await;
    }
}

#[tokio::test]
async fn a_page_looks_at_so_many_twins_at_most_and_goes_on_from_there() {
    let hub = building().await;
    // Nothing is selected, and nothing is left out: the pages are empty but for the last, which has no token.
    assert_eq!(
        rows_by(&hub, "SELECT * FROM devices WHERE LENGTH(deviceId) = 2", 1).await,
        Vec::<Value>::new()
    );
    let page = page(&hub, "SELECT * FROM devices", None, caps::QUERY_PAGE_MAX + 1).await;
    assert_eq!((page.rows.len(), page.next.is_some(), page.kind), (5, false, RowKind::Twin));
}

#[tokio::test]
async fn a_wrong_query_says_where_and_explain_says_how() {
    let hub = TestHub::with_device("a").await;
    let error = refused(&hub, "SELECT * FROM devices WHERE tags.a ==", None).await;
    assert_eq!(error.name(), "ArgumentInvalid");
    assert!(error.to_string().contains("Line=1, Position=36"), "{error}");
    let plan =
        rows_by(&hub, "EXPLAIN SELECT deviceId FROM devices WHERE tags.a = 1 AND status = 'x'", 10).await;
    let expected = "#0 devices\nwhere (#0.tags.a = 1)\nselect #0, its identity\nthen where ((tags.a = 1) AND (status = 'x'))\n\
                    then deviceId AS deviceId";
    assert_eq!(plan, [json!({"plan": expected})]);
    let plan = rows_by(&hub, "EXPLAIN SELECT COUNT() AS n FROM devices WHERE tags.a > 1", 10).await;
    assert_eq!(plan, [json!({"plan": "#0 devices\nwhere (#0.tags.a > 1)\nselect count as n"})]);
}
