//! The SQL of a plan against its meaning, `query::reference`: a table of queries, and random documents under random
//! expressions.

mod postgres;
mod random;
mod statements;
mod twins;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{InstanceId, caps};
use query::plan::{Binding, Column, Link, Output, OutputColumn, Plan, Position, Table};
use query::tree::{Comparison, Expression, Function, Literal, Number};
use query::{digital_twins, reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::compiled::Rows;
use crate::{Batch, Key, Options, Record, Store, StoreError, table};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Twin {
    instance: String,
    document: Json,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Relationship {
    instance: String,
    document: Json,
}

fn text(document: &Json, pointer: &str) -> String {
    document.pointer(pointer).and_then(Json::as_str).expect("a test document has it").to_owned()
}

impl Record for Twin {
    const TABLE: crate::Table = table::DIGITAL_TWIN;

    fn key(&self) -> Key {
        Key::new([self.instance.clone(), text(&self.document, "/$dtId")])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(text(&self.document, "/$metadata/$model"))]
    }
}

impl Record for Relationship {
    const TABLE: crate::Table = table::RELATIONSHIP;

    fn key(&self) -> Key {
        let parts = ["/$sourceId", "/$relationshipId"].map(|pointer| text(&self.document, pointer));
        Key::new([self.instance.clone(), parts[0].clone(), parts[1].clone()])
    }

    fn columns(&self) -> Vec<Option<String>> {
        vec![Some(text(&self.document, "/$targetId")), Some(text(&self.document, "/$relationshipName"))]
    }
}

/// So many random cases, or as many as `TWINHUB_MODEL_STEPS` says. A seed prints itself when a case fails.
fn cases(usual: u32) -> proptest::prelude::ProptestConfig {
    let said = std::env::var("TWINHUB_MODEL_STEPS").ok();
    let cases = said.map_or(usual, |text| text.parse().expect("a whole number"));
    proptest::prelude::ProptestConfig { cases, ..Default::default() }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());

/// One store for all cases, each in an instance of its own: what leaks between instances shows.
static STORE: LazyLock<Store> = LazyLock::new(|| Store::open(&Options::memory()).unwrap());

#[derive(Clone, Copy)]
enum Engine {
    Sqlite,
    Postgres(&'static postgres::Server),
}

fn of_graph(twins: &[Json], relationships: &[Json]) -> reference::Documents {
    let (digital_twins, relationships) = (twins.to_vec(), relationships.to_vec());
    reference::Documents { digital_twins, relationships, ..reference::Documents::default() }
}

fn engines() -> impl Iterator<Item = Engine> {
    [Engine::Sqlite].into_iter().chain(postgres::servers().map(Engine::Postgres))
}

struct Graph {
    instance: InstanceId,
    twins: Vec<Json>,
    relationships: Vec<Json>,
}

impl Graph {
    fn new(twins: Vec<Json>, relationships: Vec<Json>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("graph{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let twin = |document: &Json| Twin { instance: name.clone(), document: document.clone() };
        let stored_twins: Vec<Twin> = twins.iter().map(twin).collect();
        let relationship =
            |document: &Json| Relationship { instance: name.clone(), document: document.clone() };
        let stored_relationships: Vec<Relationship> = relationships.iter().map(relationship).collect();
        let mut batch = Batch::default();
        for twin in &stored_twins {
            batch.put(twin);
        }
        for relationship in &stored_relationships {
            batch.put(relationship);
        }
        RUNTIME.block_on(STORE.commit(batch)).unwrap();
        for server in postgres::servers() {
            server.put(&stored_twins);
            server.put(&stored_relationships);
        }
        Self { instance: InstanceId::from_stored(name), twins, relationships }
    }

    fn ask(
        &self,
        engine: Engine,
        plan: &Plan,
        after: Option<&Position>,
        page: usize,
    ) -> Result<Rows, StoreError> {
        match engine {
            Engine::Sqlite => RUNTIME.block_on(STORE.query((&self.instance, "c"), plan, after, page)),
            Engine::Postgres(server) => server.ask(&self.instance, plan, after, page),
        }
    }

    /// Every row, which every engine gives.
    fn query(&self, plan: &Plan, page: usize) -> Vec<Json> {
        let first = self.query_on(Engine::Sqlite, plan, page);
        for server in postgres::servers() {
            let rows = self.query_on(Engine::Postgres(server), plan, page);
            assert_eq!(rows, first, "PostgreSQL says otherwise than SQLite\n{plan}");
        }
        first
    }

    /// Read in pages of `page`.
    fn query_on(&self, engine: Engine, plan: &Plan, page: usize) -> Vec<Json> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let found = self.ask(engine, plan, after.as_ref(), page);
            let found = found.unwrap_or_else(|error| panic!("{error}\n{plan}"));
            assert!(found.rows.len() <= page);
            assert!(found.next.is_none() || found.rows.len() == page, "only the last page may be short");
            rows.extend(found.rows.iter().map(|row| serde_json::from_str::<Json>(row.get()).unwrap()));
            match found.next {
                Some(position) => after = Some(position),
                None => return rows,
            }
        }
    }

    fn meaning(&self, plan: &Plan) -> Vec<Json> {
        reference::run(plan, &of_graph(&self.twins, &self.relationships))
    }
}

fn building() -> Graph {
    let twins = vec![
        json!({"$dtId": "b1", "name": "HQ", "open": true, "$metadata": {"$model": "dtmi:x:Building;1"}}),
        json!({"$dtId": "f1", "name": "ground", "level": 0, "tags": {"red": null}, "$metadata": {"$model": "dtmi:x:Floor;1"}}),
        json!({"$dtId": "f2", "name": null, "level": 1.5, "rooms": [1, "a", null], "$metadata": {"$model": "dtmi:x:Floor;2"}}),
        json!({"$dtId": "f3", "level": "2", "Group": "G", "$metadata": {"$model": "dtmi:x:Floor;1"}}),
    ];
    let relationships = vec![
        json!({"$relationshipId": "r1", "$sourceId": "b1", "$relationshipName": "has", "$targetId": "f1", "main": true}),
        json!({"$relationshipId": "r2", "$sourceId": "b1", "$relationshipName": "has", "$targetId": "f2"}),
        json!({"$relationshipId": "r3", "$sourceId": "b1", "$relationshipName": "owns", "$targetId": "f3"}),
        json!({"$relationshipId": "r4", "$sourceId": "f1", "$relationshipName": "below", "$targetId": "f2"}),
    ];
    Graph::new(twins, relationships)
}

fn compile(query: &str) -> Plan {
    let models = |model: &str, exact: bool| match (model, exact) {
        ("dtmi:x:Floor;1", false) => vec![model.to_owned(), "dtmi:x:Floor;2".to_owned()],
        ("dtmi:x:Floor;1", true) => vec![model.to_owned()],
        ("dtmi:x:Many;1", _) => (0..500).map(|n| format!("dtmi:x:Floor;{n}")).collect(),
        _ => Vec::new(),
    };
    digital_twins::compile(query, models).unwrap_or_else(|refusal| panic!("{query}: {refusal}"))
}

#[test]
fn a_table_of_queries_finds_in_sql_what_it_should() {
    let graph = building();
    let twins: &[(&str, &[&str])] = &[
        ("level < 1", &["f1"]),
        ("NOT level < 1", &["f2"]),
        ("level != 0", &["f2"]),
        ("level = '2'", &["f3"]),
        ("name = null", &["f2"]),
        ("name != null", &["b1", "f1"]),
        ("NOT name = 'HQ'", &["f1", "f2"]),
        ("IS_NULL(name)", &["f2"]),
        ("NOT IS_NULL(name)", &["b1", "f1", "f3"]),
        ("IS_DEFINED(tags.red)", &["f1"]),
        ("NOT IS_DEFINED(tags.red) AND IS_NUMBER(level)", &["f2"]),
        ("IS_OBJECT(tags) OR IS_PRIMITIVE(open)", &["b1", "f1"]),
        ("open", &["b1"]),
        ("level IN [0, '2']", &["f1", "f3"]),
        ("level NOT IN [0, '2']", &["f2"]),
        ("level NIN [0]", &["f2"]),
        ("ARRAY_CONTAINS(rooms, 'a') AND ARRAY_CONTAINS(rooms, null)", &["f2"]),
        ("NOT ARRAY_CONTAINS(rooms, 7)", &["f2"]),
        ("STARTSWITH(name, 'gr') OR ENDSWITH(name, 'Q')", &["b1", "f1"]),
        ("CONTAINS(name, 'GRO')", &[]),
        ("NOT CONTAINS(level, '2')", &["f1", "f2"]),
        ("STARTSWITH($dtId, 'f') AND NOT ENDSWITH($dtId, '3')", &["f1", "f2"]),
        ("[[Group]] = 'G'", &["f3"]),
        ("IS_OF_MODEL('dtmi:x:Floor;1')", &["f1", "f2", "f3"]),
        ("IS_OF_MODEL('dtmi:x:Floor;1', exact)", &["f1", "f3"]),
        ("NOT IS_OF_MODEL(T, 'dtmi:x:Floor;1', exact)", &["b1", "f2"]),
        ("IS_OF_MODEL('dtmi:x:Many;1')", &["f1", "f2", "f3"]),
        ("IS_OF_MODEL('dtmi:x:Unknown;1')", &[]),
        ("NOT IS_OF_MODEL('dtmi:x:Unknown;1') AND T.$dtId >= 'f2'", &["f2", "f3"]),
        ("missing = 1 OR level = 0", &["f1"]),
        ("NOT (missing = 1 AND level = 0)", &["f2"]),
        ("$dtId = 'b1\\' OR 1 = 1 --'", &[]),
    ];
    for (condition, expected) in twins {
        let plan = compile(&format!("SELECT $dtId FROM DIGITALTWINS T WHERE {condition}"));
        let expected: Vec<Json> = expected.iter().map(|id| json!({"$dtId": id})).collect();
        assert_eq!(graph.query(&plan, 2), expected, "{condition}");
        assert_eq!(graph.meaning(&plan), expected, "{condition}");
    }
}

#[test]
fn projections_joins_and_counts_give_in_sql_the_rows_they_mean() {
    let graph = building();
    let cases: &[(&str, Json)] = &[
        ("SELECT COUNT() FROM DIGITALTWINS", json!([{"COUNT": 4}])),
        ("SELECT COUNT() FROM DIGITALTWINS WHERE level > 7", json!([{"COUNT": 0}])),
        ("SELECT TOP(1) name, level FROM DIGITALTWINS", json!([{"name": "HQ"}])),
        (
            "SELECT TOP(3) T.$dtId FROM DIGITALTWINS T",
            json!([{"$dtId": "b1"}, {"$dtId": "f1"}, {"$dtId": "f2"}]),
        ),
        ("SELECT TOP(0) FROM DIGITALTWINS", json!([])),
        (
            "SELECT * FROM RELATIONSHIPS WHERE main",
            json!([{"$relationshipId": "r1", "$sourceId": "b1", "$relationshipName": "has", "$targetId": "f1", "main": true}]),
        ),
        (
            "SELECT R.$relationshipId FROM RELATIONSHIPS R WHERE R.$sourceId IN ['f1', 'b1'] AND $targetId = 'f2'",
            json!([{"$relationshipId": "r2"}, {"$relationshipId": "r4"}]),
        ),
        (
            "SELECT F.$dtId, R.main FROM DIGITALTWINS B JOIN F RELATED B.has R WHERE B.$dtId = 'b1'",
            json!([{"$dtId": "f1", "main": true}, {"$dtId": "f2"}]),
        ),
        (
            "SELECT B.name, G.$dtId FROM DIGITALTWINS B JOIN F RELATED B.has JOIN G RELATED F.below WHERE G.$dtId IN ['f2']",
            json!([{"name": "HQ", "$dtId": "f2"}]),
        ),
        (
            "SELECT COUNT() FROM DIGITALTWINS B JOIN F RELATED B.has WHERE 'b1' = B.$dtId AND IS_OF_MODEL(F, 'dtmi:x:Floor;1')",
            json!([{"COUNT": 2}]),
        ),
        (
            "SELECT F FROM DIGITALTWINS B JOIN F RELATED B.owns WHERE B.$dtId = 'b1'",
            json!([{"F": {"$dtId": "f3", "level": "2", "Group": "G", "$metadata": {"$model": "dtmi:x:Floor;1"}}}]),
        ),
    ];
    for (query, expected) in cases {
        let plan = compile(query);
        assert_eq!(Json::from(graph.meaning(&plan)), *expected, "{query}");
        for page in 1..4 {
            assert_eq!(Json::from(graph.query(&plan, page)), *expected, "{query} in pages of {page}");
        }
    }
}

#[test]
fn a_document_comes_back_as_the_text_it_was_stored_as() {
    let document = json!({"$dtId": "t", "z": 1.0, "a": 1e300, "é\"\u{1}": "\u{0}\u{7f}😀", "$metadata": {"$model": "m"}});
    let graph = Graph::new(vec![document.clone()], Vec::new());
    let plan = compile("SELECT * FROM DIGITALTWINS");
    let rows = graph.ask(Engine::Sqlite, &plan, None, 10).unwrap().rows;
    assert_eq!(rows[0].get(), document.to_string());
}

#[test]
fn a_page_goes_on_where_it_ended_although_rows_came_and_went() {
    let graph = building();
    let plan = compile("SELECT $dtId FROM DIGITALTWINS");
    for engine in engines() {
        let first = graph.ask(engine, &plan, None, 2).unwrap();
        let instance = graph.instance.as_str().to_owned();
        let new = json!({"$dtId": "a0", "$metadata": {"$model": "m"}});
        let new = Twin { instance: instance.clone(), document: new };
        match engine {
            Engine::Sqlite => {
                let mut batch = Batch::default();
                batch.remove::<Twin>(Key::new([instance.as_str(), "f1"]));
                batch.put(&new);
                RUNTIME.block_on(STORE.commit(batch)).unwrap();
            }
            Engine::Postgres(server) => {
                server.remove_twin(&instance, "f1");
                server.put(&[new]);
            }
        }
        let second = graph.ask(engine, &plan, first.next.as_ref(), 2).unwrap();
        assert_eq!(
            second.rows.iter().map(|row| row.get()).collect::<Vec<_>>(),
            [r#"{"$dtId":"f2"}"#, r#"{"$dtId":"f3"}"#]
        );
        assert_eq!(second.next, None);
    }
}

#[test]
fn a_position_of_another_query_is_refused() {
    let graph = building();
    let position = Position { keys: vec!["a".into(), "b".into()], rows: 1 };
    let plan = compile("SELECT * FROM DIGITALTWINS");
    let refusal = RUNTIME.block_on(STORE.query((&graph.instance, "c"), &plan, Some(&position), 2));
    assert!(matches!(refusal, Err(crate::StoreError::Refused(_))));
}

#[test]
fn a_position_that_somebody_made_up_breaks_nothing() {
    let graph = building();
    for query in ["SELECT * FROM DIGITALTWINS", "SELECT TOP(3) FROM DIGITALTWINS"] {
        let plan = compile(query);
        for (key, rows) in [("f2", u64::MAX), ("", u64::MAX - 1), ("\u{10ffff}\0'", 0)] {
            let position = Position { keys: vec![key.into()], rows };
            for engine in engines() {
                graph.ask(engine, &plan, Some(&position), 2).unwrap();
            }
        }
    }
}

#[test]
fn a_page_of_large_documents_ends_early_and_nothing_is_lost() {
    let large = "x".repeat(64 * 1024);
    let count = caps::QUERY_PAGE_BYTES_MAX / large.len() + 6;
    let twin =
        |n: usize| json!({"$dtId": format!("t{n:03}"), "n": n, "text": large, "$metadata": {"$model": "m"}});
    let graph = Graph::new((0..count).map(twin).collect(), Vec::new());
    // What is read is too large, and what is answered.
    let wide: Vec<String> = (0..4).map(|n| format!("T.text AS c{n}")).collect();
    for columns in ["T", "T.n", &wide.join(", ")] {
        let plan = compile(&format!("SELECT {columns} FROM DIGITALTWINS T"));
        for engine in engines() {
            let (mut after, mut pages) = (None, Vec::new());
            loop {
                let found = graph.ask(engine, &plan, after.as_ref(), count).unwrap();
                let bytes: usize = found.rows.iter().map(|row| row.get().len()).sum();
                assert!(bytes <= caps::QUERY_PAGE_BYTES_MAX, "{columns}: {bytes}");
                assert!(!found.rows.is_empty());
                pages.push(found.rows.len());
                match found.next {
                    Some(position) => after = Some(position),
                    None => break,
                }
            }
            assert!(pages.len() > 1, "{columns}");
            assert_eq!(pages.iter().sum::<usize>(), count, "{columns}");
        }
    }
}

#[test]
fn the_longest_and_deepest_queries_that_are_taken_run() {
    let graph = building();
    let deep = |depth: usize, open: &str, close: &str| {
        format!("{}level = 0{}", open.repeat(depth), close.repeat(depth))
    };
    let depth = caps::EXPRESSION_DEPTH_MAX - 2;
    let list: Vec<String> = (0..caps::QUERY_IN_ITEMS_MAX).map(|n| n.to_string()).collect();
    let joins: Vec<String> =
        (0..caps::QUERY_JOINS_MAX).map(|n| format!("JOIN T{} RELATED T{n}.has R{n}", n + 1)).collect();
    let conditions = [
        deep(depth, "(", ")"),
        deep(depth, "NOT ", ""),
        deep(depth / 2, "NOT (", ")"),
        deep(depth / 5, "(level = 1 OR NOT (level = 2 AND ", "))"),
        vec![format!("level IN [{}]", list.join(",")); 25].join(" OR "),
        vec!["STARTSWITH(a.b, 'x')"; caps::QUERY_TERMS_MAX].join(" AND "),
        vec!["ARRAY_CONTAINS(rooms, 1)"; caps::QUERY_TERMS_MAX].join(" OR "),
        "[[ ]] = 1 OR [[a.b]] = 1 OR [[\"]].x = 1 OR [[\\]] = 1 OR IS_DEFINED([['é]])".to_owned(),
        format!("{}x = 1", "a.".repeat(caps::JSON_DEPTH_MAX - 1)),
    ];
    for condition in conditions {
        let plan = compile(&format!("SELECT $dtId FROM DIGITALTWINS T WHERE {condition}"));
        assert_eq!(graph.query(&plan, 10), graph.meaning(&plan), "{condition}");
    }
    let plan = compile(&format!("SELECT T5 FROM DIGITALTWINS T0 {} WHERE T0.$dtId = 'b1'", joins.join(" ")));
    assert_eq!(graph.query(&plan, 10), graph.meaning(&plan));
}

/// What the engine says it will do, one line a step.
fn steps(query: &str) -> Vec<String> {
    let plan = compile(query);
    let statement = match plan.output {
        Output::Count { .. } => super::count(&plan, "i"),
        _ => super::rows(&plan, "i", None, 100),
    };
    RUNTIME
        .block_on(INDEXED.sqlite().read(move |connection| {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql))?;
            let rows =
                explain.query_map(rusqlite::params_from_iter(statement.parameters), |row| row.get(3))?;
            Ok(rows.collect::<Result<_, _>>()?)
        }))
        .unwrap()
}

#[test]
fn a_query_of_a_form_that_was_asked_before_is_not_compiled_again() {
    for query in [
        "SELECT * FROM DIGITALTWINS WHERE serial = '?'",
        "SELECT B.$dtId FROM DIGITALTWINS B JOIN R RELATED B.contains WHERE R.$dtId = '?'",
    ] {
        let [first, second] =
            ["a", "b"].map(|value| super::rows(&compile(&query.replace('?', value)), "i", None, 100));
        assert_eq!(first.sql, second.sql);
        let compiled_again = INDEXED.sqlite().read(move |connection| {
            let mut statement = connection.prepare_cached(&first.sql)?;
            for parameters in [first.parameters, second.parameters] {
                let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
                while rows.next()?.is_some() {}
            }
            Ok(statement.get_status(rusqlite::StatementStatus::RePrepare))
        });
        assert_eq!(RUNTIME.block_on(compiled_again), Ok(0), "{query}");
    }
}

/// Like [`STORE`], with paths that are declared.
static INDEXED: LazyLock<Store> = LazyLock::new(|| {
    let declared_paths = ["DIGITALTWINS.serial", "DIGITALTWINS.tags.building", "RELATIONSHIPS.lane"];
    let declared_paths = declared_paths.iter().map(|path| path.parse().unwrap()).collect();
    Store::open(&Options { declared_paths, ..Options::memory() }).unwrap()
});

/// The end of a name that is made from a declared path.
fn at(path: &str) -> String {
    format!("_at_{path}_{:08x}", crc32c::crc32c(path.as_bytes()))
}

#[test]
fn each_kind_of_query_finds_by_the_index_that_is_made_for_it() {
    let twins = "SEARCH b0 USING INDEX sqlite_autoindex_digital_twin_1";
    let (serial, building) = (at("serial"), at("tags.building"));
    let equal = "(instance=? AND <expr>=? AND <expr>=?)";
    let range = "(instance=? AND <expr>=? AND <expr>>? AND <expr><?)";
    let cases: &[(&str, &str)] = &[
        ("SELECT * FROM DIGITALTWINS", &format!("{twins} (instance=?)")),
        ("SELECT * FROM DIGITALTWINS WHERE $dtId = 'a'", &format!("{twins} (instance=? AND id=?)")),
        ("SELECT * FROM DIGITALTWINS WHERE $dtId IN ['a', 'b']", &format!("{twins} (instance=? AND id=?)")),
        (
            "SELECT * FROM DIGITALTWINS WHERE $dtId = 'a' AND serial = 'x'",
            &format!("{twins} (instance=? AND id=?)"),
        ),
        (
            "SELECT * FROM DIGITALTWINS WHERE STARTSWITH($dtId, 'a')",
            &format!("{twins} (instance=? AND id>? AND id<?)"),
        ),
        // Not declared: in the order of ids, so that a page ends as soon as it is full.
        ("SELECT * FROM DIGITALTWINS WHERE other = 'x'", &format!("{twins} (instance=?)")),
        (
            "SELECT * FROM DIGITALTWINS WHERE IS_OF_MODEL('dtmi:x:Floor;1', exact)",
            "SEARCH b0 USING INDEX digital_twin_by_model (instance=? AND model=?)",
        ),
        (
            "SELECT COUNT() FROM DIGITALTWINS WHERE IS_OF_MODEL('dtmi:x:Floor;1')",
            "SEARCH b0 USING COVERING INDEX digital_twin_by_model (instance=? AND model=?)",
        ),
        (
            "SELECT * FROM DIGITALTWINS WHERE serial = 'x'",
            &format!("SEARCH b0 USING INDEX digital_twin{serial} {equal}"),
        ),
        (
            "SELECT * FROM DIGITALTWINS WHERE IS_OF_MODEL('dtmi:x:Floor;1', exact) AND 'x' = serial",
            &format!("SEARCH b0 USING INDEX digital_twin{serial} {equal}"),
        ),
        (
            "SELECT COUNT() FROM DIGITALTWINS WHERE serial = 7",
            &format!("SEARCH b0 USING COVERING INDEX digital_twin{serial} {equal}"),
        ),
        (
            "SELECT COUNT() FROM DIGITALTWINS WHERE tags.building IN ['a', 'b']",
            &format!("SEARCH b0 USING COVERING INDEX digital_twin{building} {equal}"),
        ),
        (
            "SELECT COUNT() FROM DIGITALTWINS WHERE tags.building >= 'a' AND tags.building < 'b'",
            &format!("SEARCH b0 USING COVERING INDEX digital_twin{building} {range}"),
        ),
        (
            "SELECT COUNT() FROM RELATIONSHIPS WHERE lane = true",
            &format!("SEARCH b0 USING COVERING INDEX relationship{} {equal}", at("lane")),
        ),
        (
            "SELECT * FROM RELATIONSHIPS WHERE $sourceId = 'a' AND $relationshipName = 'has'",
            "SEARCH b0 USING INDEX relationship_by_name (instance=? AND source=? AND name=?)",
        ),
        (
            "SELECT COUNT() FROM RELATIONSHIPS WHERE $targetId = 'a' AND $relationshipName = 'has'",
            "SEARCH b0 USING COVERING INDEX relationship_by_target (instance=? AND target=? AND name=?)",
        ),
    ];
    for (query, expected) in cases {
        let steps: Vec<String> =
            steps(query).into_iter().filter(|step| !step.starts_with("USE TEMP")).collect();
        assert_eq!(steps, [*expected], "{query}");
    }
}

#[test]
fn a_walk_over_the_graph_starts_at_the_twin_that_is_named_and_touches_nothing_but_the_indexes_of_relationships()
 {
    let (first, next) = (
        "USING COVERING INDEX relationship_by_name (instance=? AND source=? AND name=?)",
        "USING COVERING INDEX relationship_by_target (instance=? AND target=? AND name=?)",
    );
    let hops = |count: usize| -> String {
        (0..count).map(|n| format!(" JOIN T{} RELATED T{n}.has", n + 1)).collect()
    };
    for count in 1..=caps::QUERY_JOINS_MAX {
        let hops = hops(count);
        let down = format!("SELECT COUNT() FROM DIGITALTWINS T0{hops} WHERE T0.$dtId = 'a'");
        let up = format!("SELECT T0.$dtId FROM DIGITALTWINS T0{hops} WHERE T{count}.$dtId = 'a'");
        for (query, expected) in [(down, first), (up, next)] {
            let steps: Vec<String> =
                steps(&query).into_iter().filter(|step| !step.starts_with("USE TEMP")).collect();
            assert_eq!(steps.len(), count, "{query}: {steps:?}");
            assert!(steps.iter().all(|step| step.ends_with(expected)), "{query}: {steps:?}");
        }
    }
}

#[test]
fn a_walk_looks_at_twins_only_where_more_than_their_id_is_asked_for() {
    let twin = |binding: usize| {
        format!("SEARCH b{binding} USING INDEX sqlite_autoindex_digital_twin_1 (instance=? AND id=?)")
    };
    let hop = |binding: usize| {
        format!(
            "SEARCH b{binding} USING COVERING INDEX relationship_by_name (instance=? AND source=? AND name=?)"
        )
    };
    let of_model = |binding: usize| {
        format!(
            "SEARCH b{binding} USING COVERING INDEX digital_twin_by_model (instance=? AND model=? AND id=?)"
        )
    };
    let joined = "FROM DIGITALTWINS T JOIN U RELATED T.has JOIN V RELATED U.has WHERE T.$dtId = 'a'";
    let cases: &[(String, Vec<String>)] = &[
        (format!("SELECT V.$dtId, T.$dtId {joined}"), vec![hop(1), hop(3)]),
        (format!("SELECT V {joined}"), vec![hop(1), hop(3), twin(4)]),
        (format!("SELECT T {joined}"), vec![twin(0), hop(1), hop(3)]),
        (format!("SELECT COUNT() {joined} AND U.level > 1"), vec![hop(1), twin(2), hop(3)]),
        (format!("SELECT COUNT() {joined} AND V.other = 'x'"), vec![hop(1), hop(3), twin(4)]),
        (
            format!("SELECT COUNT() {joined} AND IS_OF_MODEL(V, 'dtmi:x:Floor;1')"),
            vec![hop(1), hop(3), of_model(4)],
        ),
    ];
    for (query, expected) in cases {
        let steps: Vec<String> =
            steps(query).into_iter().filter(|step| !step.starts_with("USE TEMP")).collect();
        assert_eq!(steps, *expected, "{query}");
    }
}

#[test]
fn pages_in_the_order_of_an_index_are_not_sorted() {
    for query in [
        "SELECT * FROM DIGITALTWINS WHERE IS_OF_MODEL('dtmi:x:Floor;1', exact)",
        "SELECT * FROM DIGITALTWINS WHERE serial = 'x'",
        "SELECT * FROM RELATIONSHIPS WHERE $sourceId = 'a'",
        "SELECT U FROM DIGITALTWINS T JOIN U RELATED T.has WHERE T.$dtId = 'a'",
        "SELECT V FROM DIGITALTWINS T JOIN U RELATED T.has JOIN V RELATED U.has WHERE T.$dtId = 'a'",
        "SELECT T.$dtId FROM DIGITALTWINS T JOIN U RELATED T.has WHERE U.$dtId = 'a'",
    ] {
        let steps = steps(query);
        // What the last hop of one path finds is sorted by itself, so that a full page still ends the walk.
        let is_streamed =
            |step: &String| step.starts_with("SEARCH") || step == "USE TEMP B-TREE FOR LAST TERM OF ORDER BY";
        assert!(steps.iter().all(is_streamed), "{query}: {steps:?}");
    }
}

#[test]
fn what_a_declared_path_finds_is_what_is_found_without_it() {
    let values = kinds_of_values();
    let documents: Vec<Json> = values
        .iter()
        .enumerate()
        .map(|(at, value)| json!({"$dtId": format!("t{at}"), "serial": value, "$metadata": {"$model": "m"}}))
        .collect();
    let mut batch = Batch::default();
    for document in &documents {
        batch.put(&Twin { instance: "declared".into(), document: document.clone() });
    }
    RUNTIME.block_on(INDEXED.commit(batch)).unwrap();
    let instance = InstanceId::from_stored("declared");
    for condition in [
        "serial = 1",
        "serial = '1'",
        "serial = true",
        "serial = null",
        "serial != 1",
        "serial > 0",
        "serial < 'b'",
        "serial >= 1.5 AND serial < 1e19",
        "serial IN [1, 'a', true, null]",
        "NOT serial = 1",
        "serial NOT IN [1]",
    ] {
        let plan = compile(&format!("SELECT $dtId FROM DIGITALTWINS WHERE {condition}"));
        let found = RUNTIME.block_on(INDEXED.query((&instance, "c"), &plan, None, 100)).unwrap();
        let found: Vec<Json> =
            found.rows.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect();
        assert_eq!(found, reference::run(&plan, &of_graph(&documents, &[])), "{condition}");
    }
}

const OPERATORS: [Comparison; 6] = [
    Comparison::Equal,
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Greater,
    Comparison::GreaterOrEqual,
];

const FUNCTIONS: [Function; 11] = [
    Function::IsDefined,
    Function::IsNull,
    Function::IsBool,
    Function::IsNumber,
    Function::IsString,
    Function::IsObject,
    Function::IsPrimitive,
    Function::StartsWith,
    Function::EndsWith,
    Function::Contains,
    Function::ArrayContains,
];

/// One value of every type and of every kind that an engine might take for another.
fn kinds_of_values() -> Vec<Json> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.0),
        json!(1.5),
        json!(i64::MAX),
        json!(9_223_372_036_854_775_808.0),
        json!(u64::MAX),
        json!(""),
        json!("a"),
        json!("A"),
        json!("ab"),
        json!("b\u{0}a"),
        json!("é"),
        json!("1"),
        json!("true"),
        json!("null"),
        json!("a_%"),
        json!([]),
        json!(["a", 1, null, true, [1], {"a": 1}]),
        json!({}),
        json!({"a": 1}),
    ]
}

/// Every operator and function over two operands, and its negation.
fn over(left: &Expression<Column>, right: &Expression<Column>) -> Vec<Expression<Column>> {
    let mut conditions = Vec::new();
    for operator in OPERATORS {
        let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
        conditions.push(Expression::Compare { operator, left, right });
    }
    for function in FUNCTIONS {
        let mut arguments = vec![left.clone(), right.clone()];
        arguments.truncate(*function.arity().end());
        conditions.push(Expression::Call { function, arguments });
    }
    if let Expression::Literal(literal) = right {
        let items = vec![literal.clone(), Literal::from("zz")];
        conditions.push(Expression::OneOf { operand: Box::new(left.clone()), items });
        conditions.push(Expression::OneOf { operand: Box::new(left.clone()), items: vec![literal.clone()] });
    }
    let negated: Vec<_> =
        conditions.iter().map(|condition| Expression::Not(Box::new(condition.clone()))).collect();
    conditions.into_iter().chain(negated).collect()
}

fn bindings(kind: usize) -> Vec<Binding> {
    let binding = |table, link| Binding { alias: None, table, link };
    match kind {
        0 => vec![binding(Table::DigitalTwins, Link::Root)],
        1 => vec![binding(Table::Relationships, Link::Root)],
        _ => vec![
            binding(Table::DigitalTwins, Link::Root),
            binding(Table::Relationships, Link::OutgoingFrom { twin: 0, name: "n0".to_owned() }),
            binding(Table::DigitalTwins, Link::TargetOf { relationship: 1 }),
        ],
    }
}

fn twin(id: &str, a: Option<&Json>, b: Option<&Json>) -> Json {
    let mut twin = json!({"$dtId": id, "$metadata": {"$model": "m"}});
    for (name, value) in [("a", a), ("b", b)] {
        if let Some(value) = value {
            twin[name] = value.clone();
        }
    }
    twin
}

fn path(name: &str) -> Expression<Column> {
    Expression::Path(Column { binding: 0, path: vec![name.to_owned()] })
}

fn agree(graph: &Graph, condition: Expression<Column>) {
    let id = Column { binding: 0, path: vec!["$dtId".to_owned()] };
    let output = Output::Columns(vec![OutputColumn { name: "id".to_owned(), column: id }]);
    let plan = Plan { bindings: bindings(0), condition: Some(condition), output, top: None };
    let (found, meant) = (graph.query(&plan, 1000), graph.meaning(&plan));
    if found != meant {
        let wrong: Vec<_> = found.iter().filter(|row| !meant.contains(row)).collect();
        let missing: Vec<_> = meant.iter().filter(|row| !found.contains(row)).collect();
        panic!("wrong {wrong:?}, missing {missing:?}\n{plan}");
    }
}

#[test]
fn every_operator_over_every_pair_of_members_means_in_sql_what_it_means() {
    let values: Vec<Option<Json>> = kinds_of_values().into_iter().map(Some).chain([None]).collect();
    let mut twins = Vec::new();
    for (at, a) in values.iter().enumerate() {
        for (other, b) in values.iter().enumerate() {
            twins.push(twin(&format!("{at}-{other}"), a.as_ref(), b.as_ref()));
        }
    }
    let graph = Graph::new(twins, Vec::new());
    for condition in over(&path("a"), &path("b")) {
        agree(&graph, condition);
    }
}

#[test]
fn every_operator_over_every_value_and_literal_means_in_sql_what_it_means() {
    let values = kinds_of_values();
    let mut twins: Vec<Json> =
        values.iter().enumerate().map(|(at, value)| twin(&at.to_string(), Some(value), None)).collect();
    twins.push(twin("none", None, None));
    let graph = Graph::new(twins, Vec::new());
    let literals = values.iter().filter_map(|value| match value {
        Json::Null => Some(Literal::Null),
        Json::Bool(value) => Some(Literal::Bool(*value)),
        Json::Number(number) => Some(Literal::Number(Number::from(number))),
        Json::String(text) => Some(Literal::from(text.as_str())),
        Json::Array(_) | Json::Object(_) => None,
    });
    for literal in literals.map(Expression::Literal) {
        let conditions = [
            over(&path("a"), &literal),
            over(&literal, &path("a")),
            over(&path("$dtId"), &literal),
            over(&literal, &literal),
        ];
        conditions.into_iter().flatten().for_each(|condition| agree(&graph, condition));
    }
}
