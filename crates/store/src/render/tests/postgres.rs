//! The same documents and queries on PostgreSQL: without indexes of paths, and with some by which the planner must find. And the
//! plans that its planner makes of each kind of query over as many documents as a building has.

use std::sync::LazyLock;
use std::time::Duration;

use ::query::plan::{Output, Plan, Position};
use base::{InstanceId, caps};
use serde_json::{Value as Json, json};
use test_postgres::Database;
use tokio_postgres::types::ToSql;

use super::{RUNTIME, Twin, compile};
use crate::compiled::Rows;
use crate::postgres::{Config, Connection, Postgres, escape, query};
use crate::render::Dialect;
use crate::turns::Asker;
use crate::{DeclaredPath, Durability, Record, StoreError};

pub(super) struct Server {
    database: Database,
    postgres: Postgres,
    writer: Connection,
}

/// Without declared paths.
pub(super) static PLAIN: LazyLock<Option<Server>> =
    LazyLock::new(|| Some(Server::open(test_postgres::database()?, "", &[])));

/// With some, of which the planner must make use however small the tables are.
pub(super) static INDEXED: LazyLock<Option<Server>> = LazyLock::new(|| {
    let paths = [
        "DIGITALTWINS.a",
        "DIGITALTWINS.b",
        "DIGITALTWINS.o.a",
        "DIGITALTWINS.level",
        "RELATIONSHIPS.a",
        "devices.tags.a",
    ];
    Some(Server::open(test_postgres::database()?, "-c enable_seqscan=off", &paths))
});

pub(super) fn servers() -> impl Iterator<Item = &'static Server> {
    [PLAIN.as_ref(), INDEXED.as_ref()].into_iter().flatten()
}

impl Server {
    fn open(database: Database, options: &str, paths: &[&str]) -> Self {
        let mut url = database.url();
        if !options.is_empty() {
            let separator = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}options={}", options.replace(' ', "%20").replace('=', "%3D"));
        }
        let postgres = Postgres::open(Config::parse(&url, Durability::Relaxed).unwrap()).unwrap();
        let paths = paths.iter().map(|path| path.parse().unwrap()).collect();
        let writer = RUNTIME.block_on(async {
            postgres.declare(paths).await.unwrap();
            postgres.connect().await.unwrap()
        });
        Self { database, postgres, writer }
    }

    pub(super) fn put<R: Record>(&self, records: &[R]) {
        let names: Vec<&str> = R::TABLE.keys.iter().chain(R::TABLE.columns).copied().chain(["doc"]).collect();
        let mut values: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        for record in records {
            let key = record.key().parts().to_vec();
            let columns = record.columns().into_iter().map(|column| column.expect("they all have it"));
            let texts = key.into_iter().chain(columns).map(|text| escape::text(&text).into_owned());
            let document = escape::json(&serde_json::to_string(record).unwrap());
            values.iter_mut().zip(texts.chain([document])).for_each(|(column, value)| column.push(value));
        }
        let marks: Vec<String> = (1..=names.len()).map(|at| format!("${at}::text[]")).collect();
        let documents = names.iter().map(|name| if *name == "doc" { "doc::jsonb" } else { name });
        let text = format!(
            "INSERT INTO {} ({}, revision) SELECT {}, 1 FROM unnest({}) AS new({})",
            R::TABLE.name,
            names.join(", "),
            documents.collect::<Vec<_>>().join(", "),
            marks.join(", "),
            names.join(", "),
        );
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|column| column as _).collect();
        RUNTIME.block_on(self.writer.execute(&text, &values)).unwrap();
    }

    pub(super) fn remove_twin(&self, instance: &str, id: &str) {
        let text = "DELETE FROM digital_twin WHERE instance = $1 AND id = $2";
        RUNTIME.block_on(self.writer.execute(text, &[&instance, &id])).unwrap();
    }

    pub(super) fn ask(
        &self,
        instance: &InstanceId,
        plan: &Plan,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<Rows, StoreError> {
        let asker = Asker::new(instance, "c");
        RUNTIME.block_on(query::page(&self.postgres, &asker, plan, after, limit))
    }

    /// What the planner does, one line a step, without costs.
    fn steps(&self, declared: &[DeclaredPath], query: &str) -> Vec<String> {
        let plan = compile(query);
        let dialect = Dialect::Postgres(declared);
        let mut statement = match plan.output {
            Output::Count { .. } => dialect.count(&plan, "i"),
            _ => dialect.rows(&plan, "i", None, 100),
        };
        statement.sql = format!("EXPLAIN (COSTS OFF) {}", statement.sql);
        let lines = RUNTIME.block_on(query::lines_for_test(&self.postgres, &statement)).unwrap();
        lines.into_iter().map(|line| line.trim().trim_start_matches("->").trim().to_owned()).collect()
    }
}

#[test]
fn what_the_engine_cannot_hold_comes_back_from_it_and_is_found_as_itself() {
    let Some(server) = &*PLAIN else { return };
    let instance = InstanceId::from_stored("odd");
    let odd = ["\0", "a\0b", "\u{1}", "\u{1}\u{2}\u{2}", "\u{f8ff}", "\u{f8ff}\0", "\\u0000"];
    let numbers =
        ["-0.0", "9007199254740993", "9007199254740992.0", "18446744073709551615", "1e300", "5e-324"];
    let numbers = numbers.iter().map(|number| serde_json::from_str(number).unwrap());
    let values: Vec<Json> = odd.iter().map(|text| json!(text)).chain(numbers).collect();
    let twins: Vec<Twin> = values
        .iter()
        .enumerate()
        .map(|(at, value)| Twin {
            instance: instance.as_str().to_owned(),
            document: json!({"$dtId": format!("t{at:02}\0"), "v": value, "n\0": 1, "$metadata": {"$model": "m"}}),
        })
        .collect();
    server.put(&twins);
    let rows = server.ask(&instance, &compile("SELECT * FROM DIGITALTWINS"), None, 100).unwrap().rows;
    for (row, twin) in rows.iter().zip(&twins) {
        let found: Json = serde_json::from_str(row.get()).unwrap();
        assert_eq!(found, twin.document);
        // Also those that are equal as numbers.
        assert_eq!(found["v"].to_string(), twin.document["v"].to_string());
        assert!(!row.get().contains(' '), "as the other engines write it: {}", row.get());
    }
    assert_eq!(rows.len(), twins.len());
    let plan = compile("SELECT $dtId FROM DIGITALTWINS WHERE v = 9007199254740992 OR v = 0");
    let found = server.ask(&instance, &plan, None, 100).unwrap().rows;
    let found: Vec<&str> = found.iter().map(|row| row.get()).collect();
    assert_eq!(found, [r#"{"$dtId":"t07\u0000"}"#, r#"{"$dtId":"t09\u0000"}"#]);
}

/// A building: twins of 50 models, some with a serial number, relationships from floor to room to sensor.
static BUILDING: LazyLock<Option<Server>> = LazyLock::new(|| {
    let paths = ["DIGITALTWINS.serial", "DIGITALTWINS.tags.building", "RELATIONSHIPS.lane"];
    let server = Server::open(test_postgres::database()?, "", &paths);
    server.database.query(
        "INSERT INTO twinhub.digital_twin (instance, id, model, doc, revision) SELECT 'i', 't' || n, 'm' || n % 50, \
         jsonb_build_object('instance', 'i', 'document', jsonb_build_object('$dtId', 't' || n, 'level', n, 'serial', \
         CASE WHEN n % 2 = 0 THEN to_jsonb('s' || n) ELSE to_jsonb(n) END, 'tags', jsonb_build_object('building', 'b' || n % 900), \
         '$metadata', jsonb_build_object('$model', 'm' || n % 50), 'text', repeat('x', 500))), 1 FROM generate_series(1, 30000) n",
    );
    server.database.query(
        "INSERT INTO twinhub.relationship (instance, source, id, target, name, doc, revision) SELECT 'i', 't' || n / 3, 'r' || n, \
         't' || n, CASE WHEN n % 4 = 0 THEN 'feeds' ELSE 'has' END, jsonb_build_object('instance', 'i', 'document', \
         jsonb_build_object('lane', n, '$relationshipId', 'r' || n, '$sourceId', 't' || n / 3, '$targetId', 't' || n, \
         '$relationshipName', 'has')), 1 FROM generate_series(3, 30000) n",
    );
    server.database.query("VACUUM ANALYZE twinhub.digital_twin");
    server.database.query("VACUUM ANALYZE twinhub.relationship");
    Some(server)
});

#[test]
fn each_kind_of_query_finds_by_the_index_that_is_made_for_it() {
    let Some(server) = &*BUILDING else { return };
    let paths: Vec<DeclaredPath> =
        ["DIGITALTWINS.serial", "DIGITALTWINS.tags.building", "RELATIONSHIPS.lane"]
            .iter()
            .map(|path| path.parse().unwrap())
            .collect();
    let indexes: Vec<String> = paths.iter().map(crate::postgres::index_name_for_test).collect();
    let (serial, building, lane) = (&*indexes[0], &*indexes[1], &*indexes[2]);
    let (by_name, by_target) = ("relationship_by_name", "relationship_by_target");
    let joined = "FROM DIGITALTWINS T JOIN U RELATED T.has JOIN V RELATED U.has";
    let three = format!("{joined} JOIN W RELATED V.has");
    let cases: &[(String, &[&str])] = &[
        ("SELECT * FROM DIGITALTWINS".into(), &["digital_twin_pkey"]),
        ("SELECT * FROM DIGITALTWINS WHERE $dtId = 't7'".into(), &["digital_twin_pkey"]),
        ("SELECT * FROM DIGITALTWINS WHERE $dtId IN ['t7', 't8']".into(), &["digital_twin_pkey"]),
        ("SELECT * FROM DIGITALTWINS WHERE STARTSWITH($dtId, 't77')".into(), &["digital_twin_pkey"]),
        (
            "SELECT COUNT() FROM DIGITALTWINS WHERE IS_OF_MODEL('dtmi:x:Floor;1')".into(),
            &["digital_twin_by_model"],
        ),
        ("SELECT * FROM DIGITALTWINS WHERE serial = 's8'".into(), &[serial]),
        ("SELECT * FROM DIGITALTWINS WHERE 's8' = serial".into(), &[serial]),
        ("SELECT * FROM DIGITALTWINS WHERE serial = 7".into(), &[serial]),
        ("SELECT COUNT() FROM DIGITALTWINS WHERE serial IN ['s8', 9, null]".into(), &[serial]),
        ("SELECT COUNT() FROM DIGITALTWINS WHERE serial = null".into(), &[serial]),
        ("SELECT COUNT() FROM DIGITALTWINS WHERE serial > 29900".into(), &[serial]),
        ("SELECT COUNT() FROM DIGITALTWINS WHERE serial < 's1001' AND serial >= 's100'".into(), &[serial]),
        ("SELECT * FROM DIGITALTWINS WHERE tags.building IN ['b1', 'b2']".into(), &[building]),
        ("SELECT COUNT() FROM RELATIONSHIPS WHERE lane >= 7 AND lane < 20".into(), &[lane]),
        (
            "SELECT * FROM RELATIONSHIPS WHERE $sourceId = 't9' AND $relationshipName = 'has'".into(),
            &[by_name],
        ),
        (
            "SELECT COUNT() FROM RELATIONSHIPS WHERE $targetId = 't9' AND $relationshipName = 'has'".into(),
            &[by_target],
        ),
        // Down from a floor and up from a sensor, over two hops and three; no twin is looked at.
        (format!("SELECT V.$dtId {joined} WHERE T.$dtId = 't9'"), &[by_name, by_name]),
        (format!("SELECT W.$dtId {three} WHERE T.$dtId = 't9'"), &[by_name, by_name, by_name]),
        (format!("SELECT T.$dtId {joined} WHERE V.$dtId = 't900'"), &[by_target, by_target]),
        (format!("SELECT T.$dtId {three} WHERE W.$dtId = 't900'"), &[by_target, by_target, by_target]),
        (format!("SELECT V {joined} WHERE T.$dtId = 't9'"), &["digital_twin_pkey", by_name, by_name]),
    ];
    for (query, expected) in cases {
        let steps = server.steps(&paths, query);
        let mut used: Vec<&str> = steps
            .iter()
            .filter(|step| step.contains("Scan") && !step.starts_with("Bitmap Heap"))
            .map(|step| {
                let index = step.split_once(" using ").or_else(|| step.split_once(" on "));
                index.map_or(step.as_str(), |(_, index)| index.split(' ').next().unwrap_or_default())
            })
            .collect();
        for name in &mut used {
            *name = name.trim_matches('"');
        }
        used.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        if query.contains("serial IN") {
            used.dedup();
        }
        assert_eq!(used, expected, "{query}\n{}", steps.join("\n"));
    }
}

#[test]
fn a_walk_of_five_hops_that_looks_at_every_twin_is_planned_at_once() {
    let Some(server) = &*BUILDING else { return };
    let hops: String =
        (0..caps::QUERY_JOINS_MAX).map(|n| format!(" JOIN T{} RELATED T{n}.has", n + 1)).collect();
    let levels: String = (0..=caps::QUERY_JOINS_MAX).map(|n| format!(" AND T{n}.level > 0")).collect();
    for named in 0..=caps::QUERY_JOINS_MAX {
        let plan = compile(&format!(
            "SELECT T0, T5 FROM DIGITALTWINS T0{hops} WHERE T{named}.$dtId = 't2000'{levels}"
        ));
        let asker = Asker::new(&InstanceId::from_stored("i"), "c");
        let asked = query::page(&server.postgres, &asker, &plan, None, 10);
        let asked = RUNTIME.block_on(async { tokio::time::timeout(Duration::from_secs(5), asked).await });
        asked.expect("it takes a few milliseconds").unwrap();
    }
}

#[test]
fn a_long_text_under_a_declared_path_is_written_and_found_by_the_whole_of_it() {
    let Some(server) = &*INDEXED else { return };
    let instance = InstanceId::from_stored("long");
    let long = "x".repeat(20_000);
    let texts =
        [long.clone(), format!("{long}a"), format!("{}y", &long[..300]), "x".repeat(85), "w".to_owned()];
    let twin = |(at, text): (usize, &String)| Twin {
        instance: instance.as_str().to_owned(),
        document: json!({"$dtId": at.to_string(), "a": text, "$metadata": {"$model": "m"}}),
    };
    let twins: Vec<Twin> = texts.iter().enumerate().map(twin).collect();
    server.put(&twins);
    let documents: Vec<Json> = twins.into_iter().map(|twin| twin.document).collect();
    let short = "x".repeat(84);
    for literal in ["x", "w", "y", &short, &"x".repeat(85), &"x".repeat(90), &"x".repeat(300)] {
        for operator in ["=", "!=", "<", "<=", ">", ">="] {
            let plan = compile(&format!("SELECT $dtId FROM DIGITALTWINS WHERE a {operator} '{literal}'"));
            let found = server.ask(&instance, &plan, None, 100).unwrap().rows;
            let found: Vec<Json> = found.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect();
            assert_eq!(
                found,
                ::query::reference::run(&plan, &super::of_graph(&documents, &[])),
                "{operator} {} x",
                literal.len()
            );
        }
    }
}

#[test]
fn an_index_that_was_cut_off_is_made_anew_and_one_that_nobody_declares_goes() {
    let Some(database) = test_postgres::database() else { return };
    let server = Server::open(database, "", &["DIGITALTWINS.a", "RELATIONSHIPS.b"]);
    let indexes = || {
        server.database.query(
            "SELECT relname || ' ' || indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid \
             WHERE relname LIKE '%\\_at\\_%' ORDER BY relname",
        )
    };
    let both = indexes();
    assert_eq!(both.lines().filter(|line| line.ends_with("true")).count(), 2, "{both}");
    let [twin, relationship] =
        ["DIGITALTWINS.a", "RELATIONSHIPS.b"].map(|path| path.parse::<DeclaredPath>().unwrap());
    let name = crate::postgres::index_name_for_test(&twin);
    server.database.query(&format!(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'twinhub.\"{name}\"'::regclass"
    ));
    // Several servers at once, which would wait for each other if they did not take turns.
    let servers = (0..3).map(|_| server.postgres.declare(vec![twin.clone(), relationship.clone()]));
    let declared = RUNTIME.block_on(futures_util::future::join_all(servers));
    assert_eq!(declared, vec![Ok(()); 3]);
    assert_eq!(indexes(), both);
    RUNTIME.block_on(server.postgres.declare(vec![relationship])).unwrap();
    assert_eq!(
        indexes().lines().collect::<Vec<_>>(),
        both.lines().filter(|line| !line.starts_with(&name)).collect::<Vec<_>>()
    );
}
