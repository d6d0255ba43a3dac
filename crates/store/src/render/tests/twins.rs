//! Twins of a hub: random records under random texts, on both engines, against what the query itself says of each record. What the
//! plan cannot say exactly selects more, never less.

use base::InstanceId;
use proptest::prelude::*;
use query::hub::{Prefilter, Select};
use query::plan::{Output, Position};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Engine, RUNTIME, STORE, cases, engines, postgres};
use crate::{Batch, Key, Record, table};

/// The record of a twin, which is its document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct DeviceTwin(Json);

impl Record for DeviceTwin {
    const TABLE: crate::Table = table::DEVICE_TWIN;

    fn key(&self) -> Key {
        let text = |name: &str| self.0[name].as_str().unwrap_or_default().to_owned();
        let kind = if self.0["moduleId"].is_null() { "device" } else { "module" };
        Key::new([text("instance"), kind.to_owned(), text("deviceId"), text("moduleId")])
    }
}

struct Fleet {
    instance: InstanceId,
    twins: Vec<DeviceTwin>,
}

impl Fleet {
    /// Devices of these tags and desired properties, and a module of each.
    fn new(values: &[(Json, Json)]) -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let name = format!("fleet{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut twins = Vec::new();
        for (at, (tags, desired)) in values.iter().enumerate() {
            let twin = json!({
                "instance": name, "deviceId": format!("d{at}"), "etag": "AAAAAAAAAAE=", "version": at + 2, "modelId": "",
                "tags": tags, "properties": {"desired": desired, "reported": {"a": at, "$version": 1}},
            });
            let mut module = twin.clone();
            module["moduleId"] = json!(format!("m{}", at % 2));
            twins.extend([DeviceTwin(twin), DeviceTwin(module)]);
        }
        let mut batch = Batch::default();
        for twin in &twins {
            batch.put(twin);
        }
        RUNTIME.block_on(STORE.commit(batch)).unwrap();
        postgres::servers().for_each(|server| server.put(&twins));
        Self { instance: InstanceId::from_stored(name), twins }
    }

    /// Ids of what the query selects, of documents without what only the store knows.
    fn meaning(&self, select: &Select) -> Vec<String> {
        let of_modules = select.source() == query::hub::Source::Modules;
        let twins = self.twins.iter().filter(|twin| twin.0["moduleId"].is_null() != of_modules);
        let shown = twins.map(|twin| {
            let mut shown = twin.0.clone();
            shown.as_object_mut().unwrap().shift_remove("instance");
            shown
        });
        shown
            .filter(|twin| select.selects(twin))
            .map(|twin| twin["deviceId"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The same as an engine has it, in pages, what it gives too much left out by the query.
    fn found(&self, engine: Engine, select: &Select, page: usize) -> Vec<String> {
        let Prefilter { mut plan, is_exact } = select.prefilter().unwrap();
        plan.output = Output::Records(Vec::new());
        let (mut found, mut after) = (Vec::new(), None::<Position>);
        loop {
            let rows = match engine {
                Engine::Sqlite => {
                    RUNTIME.block_on(STORE.query((&self.instance, "c"), &plan, after.as_ref(), page))
                }
                Engine::Postgres(server) => server.ask(&self.instance, &plan, after.as_ref(), page),
            };
            let rows = rows.unwrap_or_else(|error| panic!("{error}\n{plan}"));
            for row in &rows.rows {
                let mut row: Vec<Json> = serde_json::from_str(row.get()).unwrap();
                row[0].as_object_mut().unwrap().shift_remove("instance");
                if is_exact || select.selects(&row[0]) {
                    found.push(row[0]["deviceId"].as_str().unwrap().to_owned());
                }
            }
            match rows.next {
                None => return found,
                next => after = next,
            }
        }
    }

    fn count(&self, engine: Engine, select: &Select) -> Option<u64> {
        let plan = select.count_plan()?;
        let rows = match engine {
            Engine::Sqlite => RUNTIME.block_on(STORE.query((&self.instance, "c"), &plan, None, 1)),
            Engine::Postgres(server) => server.ask(&self.instance, &plan, None, 1),
        };
        let row: Json = serde_json::from_str(rows.unwrap().rows[0].get()).unwrap();
        row["count"].as_u64()
    }
}

impl Fleet {
    /// Rows of a query that groups, from every twin or from what an engine counts.
    fn groups(&self, engine: Option<Engine>, select: &Select) -> Vec<Json> {
        let mut groups = select.groups();
        let Some(engine) = engine else {
            for twin in self.twins.iter().filter(|twin| twin.0["moduleId"].is_null()) {
                if select.selects(&twin.0) {
                    groups.add(&twin.0);
                }
            }
            return groups.rows();
        };
        let plan = select.group_plan().unwrap();
        let rows = match engine {
            Engine::Sqlite => RUNTIME.block_on(STORE.query((&self.instance, "c"), &plan, None, 1000)),
            Engine::Postgres(server) => server.ask(&self.instance, &plan, None, 1000),
        };
        for row in rows.unwrap().rows {
            let group: Vec<Json> = serde_json::from_str(row.get()).unwrap();
            let (document, count) = select.group_of(&group).unwrap();
            groups.add_alike(&document, count);
        }
        groups.rows()
    }
}

/// Whether two answers are equal but for how a number is written: of those that are equal any may stand for its group.
fn are_alike(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => left.as_f64() == right.as_f64(),
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| are_alike(left, right))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, value)| right.get(name).is_some_and(|other| are_alike(value, other)))
        }
        _ => left == right,
    }
}

fn value() -> impl Strategy<Value = Json> {
    let primitive = prop_oneof![
        (-2_i64..4).prop_map(Json::from),
        prop::sample::select(vec![1.0, 2.5, -0.0, 1e300]).prop_map(Json::from),
        prop::sample::select(vec!["", "a", "ab", "b", "é", "1", "\u{0}a", "\u{1}\u{2}"]).prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
        Just(Json::Null),
    ];
    primitive.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            (inner.clone(), inner).prop_map(|(a, b)| json!({"a": a, "b": b})),
        ]
    })
}

fn section() -> impl Strategy<Value = Json> {
    let names = prop::sample::select(vec!["a", "b", "my-tag", "0"]);
    prop::collection::hash_map(names.prop_map(str::to_owned), value(), 0..4)
        .prop_map(|members| members.into_iter().collect::<Json>())
}

fn operand() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec![
        "deviceId",
        "moduleId",
        "version",
        "etag",
        "modelId",
        "tags.a",
        "tags.a",
        "tags.b",
        "tags.a.b",
        "tags.[[my-tag]]",
        "tags.[[0]]",
        "properties.desired.a",
        "properties.reported.a",
        "properties.reported.$version",
        "status",
        "instance",
        "kind",
    ]);
    let literal = prop::sample::select(vec![
        "1",
        "2",
        "-1",
        "2.5",
        "1e300",
        "'a'",
        "'ab'",
        "''",
        "'d1'",
        "'m1'",
        "true",
        "false",
        "null",
        "'AAAAAAAAAAE='",
    ]);
    prop_oneof![2 => path.prop_map(str::to_owned), 1 => literal.prop_map(str::to_owned)]
}

fn condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let function = prop::sample::select(vec!["STARTSWITH", "ENDSWITH", "CONTAINS", "ARRAY_CONTAINS"]);
    let test = prop::sample::select(vec![
        "IS_DEFINED",
        "IS_NULL",
        "IS_NUMBER",
        "IS_STRING",
        "IS_ARRAY",
        "IS_OBJECT",
        "IS_PRIMITIVE",
    ]);
    let leaf = prop_oneof![
        4 => (operand(), operator, operand()).prop_map(|(l, o, r)| format!("{l} {o} {r}")),
        1 => operand().prop_map(|it| format!("{it} IN ['a', 1, null]")),
        1 => operand().prop_map(|it| format!("{it} NIN ['d0', 2.5, true]")),
        1 => (function, operand(), operand()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
        1 => (test, operand()).prop_map(|(f, a)| format!("{f}({a})")),
        1 => (operand(), operand()).prop_map(|(a, b)| format!("{a} + 1 = {b}")),
        1 => (operand(), operand()).prop_map(|(a, b)| format!("LENGTH({a}) < {b}")),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("({l} AND {r})")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("({l} OR {r})")),
            inner.prop_map(|it| format!("NOT ({it})")),
        ]
    })
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn an_engine_and_the_query_select_the_same_twins(
        values in prop::collection::vec((section(), section()), 1..5),
        condition in condition(),
        source in prop::sample::select(vec!["devices", "devices.modules"]),
        page in 1_usize..4,
    ) {
        let fleet = Fleet::new(&values);
        for condition in [condition.clone(), format!("NOT ({condition})")] {
            let select = Select::parse(&format!("SELECT * FROM {source} WHERE {condition}")).unwrap();
            let count = Select::parse(&format!("SELECT COUNT() FROM {source} WHERE {condition}")).unwrap();
            let meaning = fleet.meaning(&select);
            for engine in engines() {
                prop_assert_eq!(&fleet.found(engine, &select, page), &meaning, "{}", select);
                if let Some(counted) = fleet.count(engine, &count) {
                    prop_assert_eq!(counted, meaning.len() as u64, "{}", count);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn an_engine_and_the_query_count_the_same_groups(
        values in prop::collection::vec((section(), section()), 1..7),
        condition in prop::option::of(Just("tags.a < 3 OR IS_DEFINED(tags.b)")),
        by in prop::sample::subsequence(vec!["tags.a", "tags.b", "tags.[[my-tag]]", "deviceId", "properties.desired.a"], 1..3),
    ) {
        // What no comparison orders has an order of its own on each engine, by the order of its members.
        let is_plain = |value: &Json| !value.is_object() && !value.is_array();
        let keep = |section: &Json| section.as_object().unwrap().iter()
            .filter(|(_, value)| is_plain(value)).map(|(name, value)| (name.clone(), value.clone())).collect::<Json>();
        let values: Vec<(Json, Json)> = values.iter().map(|(tags, desired)| (keep(tags), keep(desired))).collect();
        let fleet = Fleet::new(&values);
        let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        let select = Select::parse(&format!(
            "SELECT {}, COUNT() AS n, SUM(version) AS s, MIN(tags.a) AS least, AVG(properties.reported.a) AS mean \
             FROM devices{condition} GROUP BY {}",
            by.iter().enumerate().map(|(at, path)| format!("{path} AS p{at}")).collect::<Vec<_>>().join(", "),
            by.join(", "),
        )).unwrap();
        let meaning = Json::from(fleet.groups(None, &select));
        for engine in engines() {
            let counted = Json::from(fleet.groups(Some(engine), &select));
            prop_assert!(are_alike(&counted, &meaning), "{}\n{}\n{}", select, counted, meaning);
        }
    }
}

/// Every kind of value lies beside every other, so that each comparison meets each pair of types.
#[test]
fn arithmetic_and_what_a_record_lacks_are_left_to_the_query() {
    let fleet = Fleet::new(&[(json!({"a": 1}), json!({})), (json!({"a": "x"}), json!({"a": 2}))]);
    for (condition, is_exact, expected) in [
        ("tags.a = 1", true, vec!["d0"]),
        ("tags.a = 1 AND status = 'enabled'", false, vec![]),
        ("tags.a + 1 = 2", false, vec!["d0"]),
        ("tags.a = 'x' AND LENGTH(tags.a) = 1", false, vec!["d1"]),
        ("tags.a = 1 OR LENGTH(tags.a) = 1", false, vec!["d0", "d1"]),
        ("deviceId = 'd1'", true, vec!["d1"]),
        ("IS_DEFINED(moduleId)", true, vec![]),
    ] {
        let select = Select::parse(&format!("SELECT * FROM devices WHERE {condition}")).unwrap();
        assert_eq!(select.prefilter().unwrap().is_exact, is_exact, "{condition}");
        for engine in engines() {
            assert_eq!(fleet.found(engine, &select, 10), expected, "{condition}");
        }
    }
}
