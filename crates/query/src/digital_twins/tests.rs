use serde_json::{Value as Json, json};

use super::*;
use crate::reference;

/// The samples of Azure's documentation, but for those with MATCH.
const SAMPLES: &[&str] = &[
    "SELECT * FROM RELATIONSHIPS WHERE $sourceId IN ['A', 'B', 'C', 'D']",
    "SELECT T, CT FROM DIGITALTWINS T JOIN CT RELATED T.contains WHERE T.$dtId = 'ABC'",
    "SELECT T, SBT, R FROM DIGITALTWINS T JOIN SBT RELATED T.servicedBy R WHERE T.$dtId = 'ABC' AND R.reportedCondition = 'clean'",
    "SELECT LightBulb FROM DIGITALTWINS Building JOIN Floor RELATED Building.contains JOIN Room RELATED Floor.contains JOIN LightPanel RELATED Room.contains JOIN LightBulbRow RELATED LightPanel.contains JOIN LightBulb RELATED LightBulbRow.contains WHERE Building.$dtId = 'Building1'",
    "SELECT COUNT() FROM DIGITALTWINS Room JOIN LightPanel RELATED Room.contains WHERE IS_OF_MODEL(LightPanel, 'dtmi:contoso:com:lightpanel;1') AND Room.$dtId IN ['room1', 'room2']",
    "SELECT Consumer.name AS consumerName, Edge.prop1 AS first, Factory.area AS factoryArea FROM DIGITALTWINS Factory JOIN Consumer RELATED Factory.customer Edge WHERE Factory.$dtId = 'ABC'",
    "SELECT * FROM DIGITALTWINS WHERE NOT IS_DEFINED(tags.red) AND tags.size = 'small'",
    "SELECT * FROM DIGITALTWINS T WHERE IS_BOOL( HasTemperature ) AND HasTemperature != false",
    "SELECT T.name FROM DIGITALTWINS T WHERE ARRAY_CONTAINS (T.floor_number, 2)",
    "SELECT * FROM DIGITALTWINS DT WHERE NOT DT.Temperature <= 80",
    "SELECT TOP(5) FROM DIGITALTWINS WHERE STARTSWITH($dtId, 'area1-')",
    "SELECT TOP (5) T.name FROM DIGITALTWINS T",
    "select * from digitaltwins",
    "SELECT * FROM DIGITALTWINS WHERE [[Group]] = 'BravoTeam'",
    "SELECT Widget, Gadget FROM DIGITALTWINS Widget JOIN Gadget RELATED Widget.Contains WHERE Widget.$dtId = 'Twin-01'",
];

fn no_models(_: &str, _: bool) -> Vec<String> {
    Vec::new()
}

fn refused(text: &str) -> String {
    let refusal = compile(text, no_models).expect_err(text).0;
    format!("{}:{} {}", refusal.line, refusal.position, refusal.message)
}

#[test]
fn every_documented_sample_has_a_plan() {
    for sample in SAMPLES {
        compile(sample, no_models).unwrap_or_else(|refusal| panic!("{sample}: {refusal}"));
    }
}

#[test]
fn the_recorded_answer_to_foo_is_exact() {
    assert_eq!(
        compile("foo", no_models).unwrap_err().to_string(),
        "SQL query parse failed: SQL Parser Error, Line=1, Position=0, Message=missing SELECT at 'foo' \
         See samples in https://aka.ms/adtv2query for the correct syntax."
    );
}

#[test]
fn refusals_name_the_place_and_what_was_expected() {
    let golden = [
        ("", "1:0 mismatched input '<EOF>' expecting SELECT"),
        ("FROM DIGITALTWINS", "1:0 mismatched input 'FROM' expecting SELECT"),
        ("foo SELECT * FROM DIGITALTWINS", "1:0 extraneous input 'foo' expecting SELECT"),
        ("SELECT FROM DIGITALTWINS", "1:7 mismatched input 'FROM' expecting {'*', TOP, COUNT, IDENTIFIER}"),
        ("SELECT * DIGITALTWINS", "1:9 missing FROM at 'DIGITALTWINS'"),
        ("SELECT *\n FROM twins", "2:6 mismatched input 'twins' expecting {DIGITALTWINS, RELATIONSHIPS}"),
        ("SELECT * FROM DIGITALTWINS WHERE", "1:32 mismatched input '<EOF>' expecting IDENTIFIER"),
        ("SELECT * FROM DIGITALTWINS WHERE a =", "1:36 mismatched input '<EOF>' expecting IDENTIFIER"),
        ("SELECT * FROM DIGITALTWINS WHERE Group = 1", "1:33 mismatched input 'Group' expecting IDENTIFIER"),
        ("SELECT * FROM DIGITALTWINS WHERE a = 'x", "1:37 token recognition error at: ''x'"),
        ("SELECT * FROM DIGITALTWINS WHERE a # 1", "1:35 token recognition error at: '#'"),
        (
            "SELECT * FROM DIGITALTWINS WHERE a = 1 = 1",
            "1:39 mismatched input '=' expecting {<EOF>, AND, OR}",
        ),
        (
            "SELECT * FROM DIGITALTWINS WHERE (a = 1) = true",
            "1:41 mismatched input '=' expecting {<EOF>, AND, OR}",
        ),
        ("SELECT * FROM DIGITALTWINS WHERE a = (b = 1)", "1:37 no viable alternative at input '('"),
        ("SELECT * FROM DIGITALTWINS WHERE IS_NULL(NOT a)", "1:41 no viable alternative at input 'NOT'"),
        ("SELECT * FROM DIGITALTWINS WHERE (a = 1", "1:39 mismatched input '<EOF>' expecting ')'"),
        ("SELECT * FROM DIGITALTWINS WHERE a IN 1", "1:38 mismatched input '1' expecting '['"),
        (
            "SELECT * FROM DIGITALTWINS WHERE a IN []",
            "1:39 mismatched input ']' expecting {STRING, NUMBER, TRUE, FALSE, NULL}",
        ),
        ("SELECT * FROM DIGITALTWINS WHERE ABS(a) = 1", "1:33 no viable alternative at input 'ABS'"),
        ("SELECT * FROM DIGITALTWINS WHERE STARTSWITH(a)", "1:45 mismatched input ')' expecting ','"),
        ("SELECT * FROM DIGITALTWINS WHERE a + 1 = 2", "1:35 mismatched input '+' expecting <EOF>"),
        ("SELECT * FROM DIGITALTWINS WHERE a[0] = 2", "1:34 mismatched input '[' expecting <EOF>"),
        (
            "SELECT * FROM DIGITALTWINS ORDER BY a",
            "1:27 mismatched input 'ORDER' expecting {<EOF>, WHERE, JOIN}",
        ),
        (
            "SELECT * FROM DIGITALTWINS WHERE a = 1 GROUP BY a",
            "1:39 mismatched input 'GROUP' expecting <EOF>",
        ),
        ("SELECT MAX(a) FROM DIGITALTWINS", "1:7 mismatched input 'MAX' expecting IDENTIFIER"),
        ("SELECT TOP(x) FROM DIGITALTWINS", "1:11 mismatched input 'x' expecting INTEGER"),
        (
            "SELECT T FROM DIGITALTWINS MATCH (T)-[]->(U)",
            "1:27 MATCH is not supported here yet; follow relationships with JOIN … RELATED",
        ),
        (
            "SELECT * FROM DIGITALTWINS T JOIN C RELATED T.has WHERE T.$dtId = 'a'",
            "1:7 '*' is not supported in a query with JOIN; name the collections to project",
        ),
        (
            "SELECT T FROM DIGITALTWINS T JOIN C RELATED T.has",
            "1:29 a query with JOIN requires a WHERE clause that restricts $dtId of one of its twins with = or IN",
        ),
        (
            "SELECT T FROM DIGITALTWINS T JOIN C RELATED T.has WHERE T.$dtId = 'a' OR C.b = 1",
            "1:29 a query with JOIN requires a WHERE clause that restricts $dtId of one of its twins with = or IN",
        ),
        (
            "SELECT T FROM DIGITALTWINS T JOIN C RELATED X.has WHERE T.$dtId = 'a'",
            "1:29 'X' is not the alias of a collection of digital twins",
        ),
        (
            "SELECT T FROM DIGITALTWINS T JOIN T RELATED T.has WHERE T.$dtId = 'a'",
            "1:29 the alias 'T' is used more than once",
        ),
        (
            "SELECT T, x FROM DIGITALTWINS T JOIN C RELATED T.has WHERE T.$dtId = 'a'",
            "1:10 'x' is not the alias of a collection, which a query with JOIN requires",
        ),
        (
            "SELECT T FROM DIGITALTWINS T JOIN C RELATED T.has WHERE IS_OF_MODEL('m') AND T.$dtId = 'a'",
            "1:56 IS_OF_MODEL requires an alias in a query with JOIN",
        ),
        (
            "SELECT * FROM RELATIONSHIPS WHERE IS_OF_MODEL('m')",
            "1:34 IS_OF_MODEL requires the alias of a collection of digital twins",
        ),
    ];
    for (text, expected) in golden {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn limits_are_kept_to_the_last_one_allowed() {
    let terms =
        |count: usize| format!("SELECT * FROM DIGITALTWINS WHERE {}", vec!["a = 1"; count].join(" AND "));
    assert!(parse(&terms(50)).is_ok());
    assert!(refused(&terms(51)).contains("more than 50 terms"));
    let items =
        |count: usize| format!("SELECT * FROM DIGITALTWINS WHERE a IN [{}]", vec!["1"; count].join(","));
    assert!(parse(&items(100)).is_ok());
    assert!(refused(&items(101)).contains("more than 100 items"));
    let joins = |count: usize| {
        let joins: Vec<String> = (0..count).map(|n| format!("JOIN T{} RELATED T{n}.has", n + 1)).collect();
        format!("SELECT T0 FROM DIGITALTWINS T0 {} WHERE T0.$dtId = 'a'", joins.join(" "))
    };
    assert!(parse(&joins(5)).is_ok());
    assert!(refused(&joins(6)).contains("more than 5 JOINs"));
    let long = |count: usize| format!("SELECT * FROM DIGITALTWINS{}", " ".repeat(count - 26));
    assert!(parse(&long(8000)).is_ok());
    assert!(refused(&long(8001)).contains("longer than 8000 characters"));
}

#[test]
fn a_deep_text_is_refused_and_breaks_nothing() {
    for bomb in ["(", "NOT ", "IS_NULL(", "a = (", "a.", "a = ", "- "] {
        let text = format!("SELECT * FROM DIGITALTWINS WHERE {}", bomb.repeat(7900 / bomb.len()));
        assert!(parse(&text).is_err(), "{bomb}");
    }
    let nested = |depth: usize| {
        format!("SELECT * FROM DIGITALTWINS WHERE {}a = 1{}", "(".repeat(depth), ")".repeat(depth))
    };
    // The comparison and its operand take a level each.
    assert!(parse(&nested(62)).is_ok());
    assert!(refused(&nested(63)).contains("nested deeper than 64 levels"));
}

fn rows(query: &str) -> Vec<Json> {
    let twins = [
        json!({"$dtId": "b1", "name": "HQ", "open": true, "$metadata": {"$model": "dtmi:x:Building;1"}}),
        json!({"$dtId": "f1", "name": "ground", "level": 0, "tags": {"red": null}, "$metadata": {"$model": "dtmi:x:Floor;1"}}),
        json!({"$dtId": "f2", "name": null, "level": 1.5, "rooms": [1, "a", null], "$metadata": {"$model": "dtmi:x:Floor;2"}}),
        json!({"$dtId": "f3", "level": "2", "Group": "G", "$metadata": {"$model": "dtmi:x:Floor;1"}}),
    ];
    let relationships = [
        json!({"$relationshipId": "r1", "$sourceId": "b1", "$relationshipName": "has", "$targetId": "f1", "main": true}),
        json!({"$relationshipId": "r2", "$sourceId": "b1", "$relationshipName": "has", "$targetId": "f2"}),
        json!({"$relationshipId": "r3", "$sourceId": "b1", "$relationshipName": "owns", "$targetId": "f3"}),
        json!({"$relationshipId": "r4", "$sourceId": "f1", "$relationshipName": "below", "$targetId": "f2"}),
        json!({"$relationshipId": "r5", "$sourceId": "b1", "$relationshipName": "has", "$targetId": "gone"}),
    ];
    let models = |model: &str, exact: bool| match (model, exact) {
        ("dtmi:x:Floor;1", false) => vec![model.to_owned(), "dtmi:x:Floor;2".to_owned()],
        ("dtmi:x:Floor;1", true) => vec![model.to_owned()],
        _ => Vec::new(),
    };
    let plan = compile(query, models).unwrap_or_else(|e| panic!("{query}: {e}"));
    let (digital_twins, relationships) = (twins.to_vec(), relationships.to_vec());
    reference::run(
        &plan,
        &reference::Documents { digital_twins, relationships, ..reference::Documents::default() },
    )
}

#[test]
fn conditions_select_the_twins_they_should() {
    let cases: &[(&str, &[&str])] = &[
        ("level < 1", &["f1"]),
        ("NOT level < 1", &["f2"]),
        ("level != 0", &["f2"]),
        ("level = '2'", &["f3"]),
        ("name = null", &["f2"]),
        ("name != null", &["b1", "f1"]),
        ("IS_NULL(name)", &["f2"]),
        ("NOT IS_NULL(name)", &["b1", "f1", "f3"]),
        ("IS_DEFINED(tags.red)", &["f1"]),
        ("NOT IS_DEFINED(tags.red) AND IS_NUMBER(level)", &["f2"]),
        ("IS_OBJECT(tags) OR IS_PRIMITIVE(open)", &["b1", "f1"]),
        ("open", &["b1"]),
        ("level IN [0, '2']", &["f1", "f3"]),
        ("level NOT IN [0, '2']", &["f2"]),
        ("level NIN [0]", &["f2"]),
        ("level IN (1.5)", &["f2"]),
        ("ARRAY_CONTAINS(rooms, 'a') AND ARRAY_CONTAINS(rooms, null)", &["f2"]),
        ("NOT ARRAY_CONTAINS(rooms, 7)", &["f2"]),
        ("STARTSWITH(name, 'gr') OR ENDSWITH(name, 'Q')", &["b1", "f1"]),
        ("CONTAINS(name, 'GRO')", &[]),
        ("NOT CONTAINS(level, '2')", &["f1", "f2"]),
        ("[[Group]] = 'G'", &["f3"]),
        ("IS_OF_MODEL('dtmi:x:Floor;1')", &["f1", "f2", "f3"]),
        ("IS_OF_MODEL('dtmi:x:Floor;1', exact)", &["f1", "f3"]),
        ("NOT is_of_model(T, 'dtmi:x:Floor;1', EXACT)", &["b1", "f2"]),
        ("IS_OF_MODEL('dtmi:x:Unknown;1')", &[]),
        ("NOT IS_OF_MODEL('dtmi:x:Unknown;1') AND T.$dtId >= 'f2'", &["f2", "f3"]),
        ("$metadata.$model = 'dtmi:x:Building;1'", &["b1"]),
        ("-1 < level AND level < 1e0", &["f1"]),
        ("missing = 1 OR level = 0", &["f1"]),
        ("NOT (missing = 1 AND level = 0)", &["f2"]),
    ];
    for (condition, expected) in cases {
        let found = rows(&format!("SELECT $dtId FROM DIGITALTWINS T WHERE {condition}"));
        let expected: Vec<Json> = expected.iter().map(|id| json!({"$dtId": id})).collect();
        assert_eq!(found, expected, "{condition}");
    }
}

#[test]
fn rows_have_the_shape_that_the_projection_asks_for() {
    assert_eq!(rows("SELECT COUNT() FROM DIGITALTWINS"), [json!({"COUNT": 4})]);
    assert_eq!(rows("SELECT TOP(1) name, level FROM DIGITALTWINS"), [json!({"name": "HQ"})]);
    assert_eq!(
        rows("SELECT R FROM RELATIONSHIPS R WHERE R.$targetId = 'f3'"),
        [
            json!({"R": {"$relationshipId": "r3", "$sourceId": "b1", "$relationshipName": "owns", "$targetId": "f3"}})
        ]
    );
    assert_eq!(
        rows("SELECT T.tags.red AS colour, T.$metadata.$model FROM DIGITALTWINS T WHERE T.$dtId = 'f1'"),
        [json!({"colour": null, "$model": "dtmi:x:Floor;1"})]
    );
    assert_eq!(rows("SELECT TOP(0) FROM DIGITALTWINS"), [] as [Json; 0]);
    assert_eq!(rows("SELECT * FROM RELATIONSHIPS WHERE main")[0]["$relationshipId"], "r1");
}

#[test]
fn joins_follow_outgoing_relationships_to_twins_that_exist() {
    assert_eq!(
        rows("SELECT F.$dtId, R.main FROM DIGITALTWINS B JOIN F RELATED B.has R WHERE B.$dtId = 'b1'"),
        [json!({"$dtId": "f1", "main": true}), json!({"$dtId": "f2"})]
    );
    assert_eq!(
        rows(
            "SELECT B.name, G.$dtId FROM DIGITALTWINS B JOIN F RELATED B.has JOIN G RELATED F.below \
              WHERE G.$dtId IN ['f2']"
        ),
        [json!({"name": "HQ", "$dtId": "f2"})]
    );
    assert_eq!(
        rows(
            "SELECT COUNT() FROM DIGITALTWINS B JOIN F RELATED B.has WHERE 'b1' = B.$dtId AND IS_OF_MODEL(F, 'dtmi:x:Floor;1')"
        ),
        [json!({"COUNT": 2})]
    );
}

#[test]
fn a_plan_explains_itself() {
    let plan = compile(SAMPLES[2], no_models).unwrap();
    assert_eq!(
        plan.to_string(),
        "#0 DIGITALTWINS T\n\
         #1 RELATIONSHIPS R: 'servicedBy' from #0\n\
         #2 DIGITALTWINS SBT: target of #1\n\
         where ((#0.$dtId = 'ABC') AND (#1.reportedCondition = 'clean'))\n\
         select #0 as T, #2 as SBT, #1 as R"
    );
}

#[test]
fn the_model_tests_of_a_query_can_be_read_before_it_is_planned() {
    let select =
        parse("SELECT * FROM DIGITALTWINS WHERE IS_OF_MODEL('a') OR NOT IS_OF_MODEL('b', exact)").unwrap();
    assert_eq!(select.model_tests(), [("a", false), ("b", true)]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = compile(&text, no_models);
        let _ = compile(&format!("SELECT * FROM DIGITALTWINS WHERE {text}"), no_models);
    }

    #[test]
    fn no_sequence_of_words_makes_the_parser_panic(words in proptest::collection::vec(proptest::sample::select(vec![
        "SELECT", "TOP", "(", ")", "*", "COUNT", "FROM", "DIGITALTWINS", "RELATIONSHIPS", "T", "JOIN", "RELATED", ".",
        "has", "WHERE", "=", "!=", "<", "IN", "NIN", "NOT", "AND", "OR", "[", "]", ",", "'x'", "1", "-", "true", "null",
        "IS_OF_MODEL", "IS_NULL", "STARTSWITH", "exact", "[[a]]", "AS", "$dtId", "MATCH", "'", "\\", "\n", "é",
    ]), 0..40)) {
        let _ = compile(&words.join(" "), no_models);
    }
}
