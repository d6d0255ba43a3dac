use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Condition, Select, Source};

fn twin() -> Json {
    json!({
        "deviceId": "thermostat-1",
        "etag": "AAAAAAAAAAE=",
        "status": "enabled",
        "connectionState": "Disconnected",
        "version": 7,
        "tags": {"site": "north", "floor": 3, "note": null, "rooms": ["a", 5], "my-tag": true, "Case": "x", "h": 2.5},
        "properties": {
            "desired": {"target": 21, "$version": 4, "$metadata": {"$lastUpdated": "2026-01-01T00:00:00.0000000Z"}},
            "reported": {"target": 20.5, "text": "12", "$version": 3},
        },
        "capabilities": {"iotEdge": false},
        "configurations": {"cfg-1": {"status": "Applied"}},
        "parentScopes": ["ms-azure-iot-edge://a-1"],
    })
}

fn matches(condition: &str) -> bool {
    Condition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}")).matches(&twin())
}

#[test]
fn conditions_mean_what_the_service_means() {
    for condition in [
        "*",
        "tags.site = 'north'",
        "devices.tags.site = \"north\"",
        "DEVICEID = 'thermostat-1' AND Status = 'enabled'",
        "deviceId IN ['a', 'thermostat-1']",
        "tags.floor NIN [1, 2]",
        "tags.floor NOT IN [1, 2]",
        "tags.site <> 'south'",
        "tags.note = null",
        "IS_DEFINED(tags.note) AND is_null(tags.note)",
        "tags.[[my-tag]]",
        "tags.[[my-tag]] = true OR tags.missing = 1",
        "NOT tags.floor = 4",
        "configurations.[[cfg-1]].status = 'Applied'",
        "properties.desired.$version >= 4",
        "Properties.Desired.target = 0x15",
        "properties.desired.$metadata.$lastUpdated > '2025-06-06T22:56:06Z'",
        "capabilities.iotEdge = false",
        "array_contains(parentScopes, 'ms-azure-iot-edge://a-1')",
        "ARRAY_CONTAINS(tags.rooms, 5)",
        "ARRAY_CONTAINS(['north', 'south'], tags.site)",
        "STARTSWITH(deviceId, 'thermo') AND STARTS_WITH(deviceId, 'thermo') AND ENDS_WITH(deviceId, '-1')",
        "IS_ARRAY(tags.rooms) AND IS_OBJECT(tags) AND IS_STRING(tags.site) AND IS_NUMBER(tags.h)",
        "IS_PRIMITIVE(tags.note) AND NOT IS_PRIMITIVE(tags) AND NOT IS_ARRAY(tags)",
        "tags.floor + 1 = 4 AND tags.floor * 2 + 1 = 7 AND 1 + tags.floor * 2 = 7",
        "tags.floor - 1 - 1 = 1 AND 7 % tags.floor = 1 AND tags.floor / 2 = 1.5",
        "-tags.floor = -3 AND 6 / tags.floor = 2",
        "(tags.floor + 1) * 2 = 8",
        "properties.desired.target > properties.reported.target",
        "AS_NUMBER(properties.reported.text) <= 12",
        "LENGTH(tags.site) = 5 AND UPPER(tags.site) = 'NORTH' AND LOWER('ÄB') = 'äb'",
        "SUBSTRING(tags.site, 1) = 'orth' AND SUBSTRING(tags.site, 1, 2) = 'or'",
        "INDEX_OF(tags.site, 'rt') = 2 AND INDEX_OF(tags.site, 'x') = -1",
        "CONCAT(tags.site, '/', deviceId) = 'north/thermostat-1'",
        "ABS(-3) = 3 AND SIGN(-2.5) = -1 AND FLOOR(tags.h) = 2 AND CEILING(tags.h) = 3",
        "SQRT(9) = 3 AND SQUARE(3) = 9 AND POWER(2, 10) = 1024 AND EXP(0) = 1",
        "CONTAINS(tags.site, 'ort')",
        "'it''s' = 'it\\'s' AND '\\u0041' = \"A\"",
    ] {
        assert!(matches(condition), "{condition}");
    }
}

#[test]
fn what_is_undefined_selects_nothing_however_it_is_asked() {
    for condition in [
        "tags.missing = 1",
        "tags.missing != 1",
        "NOT tags.missing = 1",
        "tags.missing IN [1]",
        "tags.missing NIN [1]",
        "tags.floor = '3'",
        "tags.floor != '3'",
        "NOT (tags.floor = '3')",
        "tags.site > 3",
        "tags = tags",
        "tags.rooms != tags.rooms",
        "tags.note < 1",
        "tags.note > null",
        "tags.floor",
        "tags.site",
        "NOT tags.site",
        "TAGS.CASE = 'y'",
        "tags.case = 'x'",
        "undefined = undefined",
        "tags.floor = undefined",
        "NOT (tags.floor != undefined)",
        "tags.floor + tags.missing = 3",
        "tags.floor + '1' = 4",
        "tags.floor / 0 > 0",
        "tags.floor % 0 = 0",
        "SQRT(-1) > 0 OR SQRT(-1) <= 0",
        "EXP(1000) > 0",
        "LENGTH(tags.floor) > 0",
        "AS_NUMBER(tags.site) > 0 OR AS_NUMBER('inf') > 0 OR AS_NUMBER('') = 0",
        "tags.missing = 1 AND true",
        "moduleId = ''",
    ] {
        assert!(!matches(condition), "{condition}");
    }
}

#[test]
fn a_condition_says_what_it_is_over_and_what_it_reads() {
    let condition =
        Condition::parse("from devices.modules where moduleId='x' and tags.b = 1 and Tags.b > 0").unwrap();
    assert_eq!(condition.source(), Source::Modules);
    let read: Vec<String> = condition.properties().iter().map(ToString::to_string).collect();
    assert_eq!(read, ["moduleId", "tags.b"]);
    assert!(condition.matches(&json!({"moduleId": "x", "tags": {"b": 1}})));
    assert_eq!(Condition::parse("FROM devices.modules").unwrap().source(), Source::Modules);
    assert!(Condition::parse("FROM devices").unwrap().matches(&twin()));
    assert!(Condition::parse("*").unwrap().properties().is_empty());
    let module = Condition::parse(
        "FROM devices.modules WHERE devices.modules.moduleId = 'x' AND devices.deviceId = 'd'",
    );
    assert!(module.unwrap().matches(&json!({"moduleId": "x", "deviceId": "d"})));
    let select = Condition::parse("tags.a = 1").unwrap().select();
    assert_eq!(select.to_string(), "SELECT * FROM devices WHERE (tags.a = 1)");
}

#[test]
fn what_is_no_query_is_refused_with_its_place() {
    let refused = |text: &str| {
        let error = Select::parse(text).expect_err(text);
        format!("{}:{} {}", error.line, error.position, error.message)
    };
    for (text, expected) in [
        ("", "1:0 mismatched input '<EOF>' expecting SELECT"),
        ("DELETE FROM devices", "1:0 mismatched input 'DELETE' expecting SELECT"),
        (
            "SELECT * FROM twins",
            "1:14 mismatched input 'twins' expecting {devices, devices.modules, devices.jobs}",
        ),
        ("SELECT * FROM devices.x", "1:22 mismatched input 'x' expecting {modules, jobs}"),
        ("SELECT * FROM devices WHERE", "1:27 mismatched input '<EOF>' expecting IDENTIFIER"),
        ("SELECT * FROM devices\nWHERE tags.a ==", "2:14 mismatched input '=' expecting IDENTIFIER"),
        ("SELECT * FROM devices WHERE NOPE(tags.a)", "1:28 'NOPE' is no function of this language"),
        ("SELECT * FROM devices WHERE LENGTH(a, b) = 1", "1:36 mismatched input ',' expecting ')'"),
        ("SELECT * FROM devices WHERE SUBSTRING(a) = 1", "1:39 mismatched input ')' expecting ','"),
        ("SELECT * FROM devices WHERE a = 1 = 2", "1:34 mismatched input '=' expecting {<EOF>, AND, OR}"),
        (
            "SELECT * FROM devices WHERE a IN []",
            "1:34 mismatched input ']' expecting {STRING, NUMBER, TRUE, FALSE, NULL}",
        ),
        ("SELECT * FROM devices d", "1:22 mismatched input 'd' expecting <EOF>"),
        ("SELECT * FROM devices WHERE devices = 1", "1:28 'devices' is a collection; name a property of it"),
        ("SELECT tags.a FROM devices GROUP BY tags.b", "1:7 'tags.a' is neither grouped nor an aggregate"),
        ("SELECT tags.a, COUNT() FROM devices", "1:7 beside an aggregate stands only what GROUP BY names"),
        (
            "SELECT * FROM devices GROUP BY tags.b",
            "1:22 '*' cannot be grouped; name what is grouped, and aggregates",
        ),
        (
            "SELECT COUNT() AS n FROM devices ORDER BY m",
            "1:33 groups are ordered by what they are grouped by, or by what is selected",
        ),
        ("SELECT jobId FROM devices.jobs", "1:7 devices.jobs is queried with SELECT * only"),
        (
            "SELECT * FROM devices.jobs WHERE Tags.a = 1",
            "1:33 'Tags.a' is of a twin, which a query of jobs does not see",
        ),
        (
            "SELECT MEDIAN(a) FROM devices",
            "1:7 mismatched input 'MEDIAN' expecting {COUNT, SUM, AVG, MIN, MAX}",
        ),
        ("SELECT TOP x * FROM devices", "1:11 mismatched input 'x' expecting INTEGER"),
        (
            "SELECT * FROM devices WHERE a = 0xFFFFFFFFFFFFFFFFF",
            "1:32 the number '0xFFFFFFFFFFFFFFFFF' is out of range",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
    assert!(Condition::parse("").is_err());
    assert!(Condition::parse("* AND a = 1").is_err());
    assert!(Condition::parse("FROM devices.jobs").is_err());
}

#[test]
fn a_query_is_bounded_in_depth_terms_and_length() {
    let condition = |text: String| Condition::parse(&text);
    let (depth, terms) = (base::caps::EXPRESSION_DEPTH_MAX, base::caps::QUERY_TERMS_MAX);
    assert!(condition(format!("1 = {}", vec!["1"; terms].join(" + "))).is_ok());
    assert!(condition(format!("1 = {}", vec!["1"; terms + 1].join(" + "))).is_err());
    assert!(condition(format!("1 = {}1", "- ".repeat(terms + 1))).is_err());
    assert!(condition(format!("{}1{} = 1", "ABS(".repeat(depth / 2 - 2), ")".repeat(depth / 2 - 2))).is_ok());
    assert!(condition(format!("{}1{} = 1", "ABS(".repeat(depth), ")".repeat(depth))).is_err());
    assert!(condition(format!("a = '{}'", "x".repeat(base::caps::QUERY_CHARACTERS_MAX))).is_err());
}

#[test]
fn rows_show_what_is_selected_under_its_name() {
    let row = |text: &str| Select::parse(text).unwrap().row(&twin());
    assert_eq!(row("SELECT * FROM devices"), twin());
    assert_eq!(
        row("SELECT DeviceId, tags.site FROM devices"),
        json!({"deviceId": "thermostat-1", "site": "north"})
    );
    assert_eq!(row("SELECT tags.rooms AS r, tags.none AS n FROM devices"), json!({"r": ["a", 5]}));
    assert_eq!(row("SELECT tags.none FROM devices"), json!({}));
    assert_eq!(
        row("SELECT configurations.[[cfg-1]].status AS [[a b]] FROM devices"),
        json!({"a b": "Applied"})
    );
    assert_eq!(row("SELECT tags.note FROM devices"), json!({"note": null}));
}

fn fleet() -> Vec<Json> {
    let device = |id: &str, tags: Json| json!({"deviceId": id, "tags": tags});
    vec![
        device("a", json!({"site": "north", "n": 1})),
        device("b", json!({"site": "south", "n": 2.5})),
        device("c", json!({"site": "north", "n": "x"})),
        device("d", json!({"n": 4})),
        device("e", json!({"site": "south", "n": null, "k": 1})),
        device("f", json!({"site": "north", "n": true, "k": 1.0})),
    ]
}

fn grouped(text: &str) -> Json {
    let select = Select::parse(text).unwrap();
    let mut groups = select.groups();
    fleet().iter().filter(|twin| select.selects(twin)).for_each(|twin| groups.add(twin));
    Json::Array(groups.rows())
}

#[test]
fn aggregates_are_over_what_has_a_value_of_their_type() {
    assert_eq!(grouped("SELECT COUNT() AS n FROM devices"), json!([{"n": 6}]));
    assert_eq!(grouped("SELECT COUNT(*) FROM devices WHERE tags.n > 1"), json!([{"count": 2}]));
    assert_eq!(
        grouped("SELECT SUM(tags.n), AVG(tags.n), MIN(tags.n), MAX(tags.n) FROM devices"),
        json!([{"sum": 7.5, "avg": 2.5, "min": true, "max": "x"}])
    );
    assert_eq!(
        grouped(
            "SELECT COUNT() AS n, SUM(tags.z) AS s, AVG(tags.z) AS a, MIN(tags.z) AS m FROM devices WHERE false"
        ),
        json!([{"n": 0}])
    );
    assert_eq!(grouped("SELECT AVG(tags.n) AS a FROM devices WHERE deviceId = 'd'"), json!([{"a": 4}]));
}

#[test]
fn groups_have_an_order_and_top_counts_them() {
    assert_eq!(
        grouped("SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site"),
        json!([{"n": 1}, {"site": "north", "n": 3}, {"site": "south", "n": 2}])
    );
    assert_eq!(
        grouped("SELECT TOP 1 tags.site, COUNT() AS n FROM devices GROUP BY tags.site ORDER BY n DESC"),
        json!([{"site": "north", "n": 3}])
    );
    // 1 and 1.0 are one number.
    assert_eq!(
        grouped("SELECT COUNT() AS n FROM devices GROUP BY tags.k ORDER BY tags.k DESC"),
        json!([{"n": 2}, {"n": 4}])
    );
    assert_eq!(grouped("SELECT tags.site FROM devices WHERE false GROUP BY tags.site"), json!([]));
}

#[test]
fn documents_have_a_rank_by_type_and_value_that_survives_the_way_through_a_token() {
    let sorted = |text: &str| {
        let select = Select::parse(text).unwrap();
        let mut twins = fleet();
        twins.sort_by_key(|twin| {
            let rank = serde_json::to_string(&select.rank(twin)).unwrap();
            serde_json::from_str::<super::Rank>(&rank).unwrap()
        });
        twins.iter().map(|twin| twin["deviceId"].as_str().unwrap().to_owned()).collect::<String>()
    };
    assert_eq!(sorted("SELECT * FROM devices ORDER BY tags.n"), "efabdc");
    assert_eq!(sorted("SELECT * FROM devices ORDER BY tags.n DESC"), "cdbafe");
    assert_eq!(sorted("SELECT * FROM devices ORDER BY tags.site, tags.n DESC"), "dcafbe");
}

/// Texts that are conditions: what may stand beside AND, and what may be compared.
fn conditions() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec![
        "deviceId",
        "tags.a",
        "tags.[[select]].x",
        "devices.devices.x",
        "[[devices]].y",
        "devices.tags.[[a b]]",
        "tags.[[ ]]",
        "properties.Reported.$version",
        "[[null]]",
        "tags.null",
        "configurations.[[c-1]].status",
        "_x.$y",
    ]);
    let literal = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON's", |number| number.is_finite())
            .prop_map(|number| format!("{number:?}")),
        Just("null".to_owned()),
        Just("TRUE".to_owned()),
        Just("undefined".to_owned()),
        Just("['a', 1, -2.5, null, \"b\\u0001\"]".to_owned()),
        "[^'\\\\]{0,8}".prop_map(|text| format!("'{text}'")),
        "[ntu\\\\'\" ]{0,4}".prop_map(|text| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))),
    ];
    let operand = prop_oneof![path.prop_map(str::to_owned), literal].prop_recursive(3, 12, 3, |inner| {
        let operators = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            (inner.clone(), operators, inner.clone()).prop_map(|(l, o, r)| format!("{l} {o} {r}")),
            inner.clone().prop_map(|it| format!("({it})")),
            inner.clone().prop_map(|it| format!("-{it}")),
            inner.clone().prop_map(|it| format!("LENGTH({it})")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("SUBSTRING({l}, {r})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("concat({a}, {b}, {c})")),
        ]
    });
    let comparison = prop_oneof![
        (operand.clone(), prop::sample::select(vec!["=", "!=", "<>", "<", "<=", ">", ">="]), operand.clone())
            .prop_map(|(l, o, r)| format!("{l} {o} {r}")),
        operand.clone().prop_map(|it| format!("{it} NIN ['a', -1]")),
        operand.clone().prop_map(|it| format!("{it} in [null, 1e300]")),
        operand.clone().prop_map(|it| format!("IS_DEFINED({it})")),
        (operand.clone(), operand).prop_map(|(l, r)| format!("ARRAY_CONTAINS({l}, {r})")),
    ];
    comparison.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("{l} AND {r}")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("{l} OR {r}")),
            inner.clone().prop_map(|it| format!("NOT {it}")),
            inner.prop_map(|it| format!("({it})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_or_the_evaluator_panic(text in "\\PC*") {
        let _ = Select::parse(&text);
        if let Ok(condition) = Condition::parse(&text) {
            condition.matches(&twin());
        }
    }

    #[test]
    fn no_sequence_of_words_makes_the_parser_panic_and_what_parses_prints_itself(words in prop::collection::vec(prop::sample::select(vec![
        "SELECT", "TOP", "(", ")", "*", "COUNT", "SUM", "FROM", "devices", "modules", "jobs", ".", "tags", "WHERE", "=", "!=", "<",
        "IN", "NIN", "NOT", "AND", "OR", "[", "]", ",", "'x'", "1", "0x1f", "-", "+", "%", "/", "true", "null", "undefined", "GROUP",
        "ORDER", "BY", "DESC", "LENGTH", "[[a]]", "AS", "$version", "'", "\\", "\n", "é",
    ]), 0..40)) {
        for text in [words.join(" "), format!("SELECT * FROM devices WHERE {}", words.join(" "))] {
            if let Ok(select) = Select::parse(&text) {
                prop_assert_eq!(Select::parse(&select.to_string()), Ok(select));
            }
        }
    }

    #[test]
    fn a_condition_prints_as_one_that_is_the_same(text in conditions()) {
        // The one way in which these texts are none: more operators than a query may have.
        if let Ok(condition) = Condition::parse(&text) {
            prop_assert_eq!(Condition::parse(&condition.to_string()), Ok(condition.clone()));
            condition.matches(&twin());
        } else {
            let operators = text.matches([' ', '-']).count();
            prop_assert!(operators > base::caps::QUERY_TERMS_MAX / 2, "{}", text);
        }
    }

    #[test]
    fn a_query_prints_as_one_that_is_the_same(
        condition in conditions(),
        head in prop::sample::select(vec![
            "SELECT * FROM devices",
            "SELECT TOP 5 deviceId, tags.a AS [[a b]], tags.[[group]] FROM devices.modules",
            "SELECT COUNT() FROM devices",
            "SELECT tags.a, AVG(tags.b) AS top1, max(Tags.c) FROM devices",
        ]),
        order in prop::sample::select(vec!["", " ORDER BY tags.a DESC, tags.a"]),
    ) {
        let group = if head.contains("AVG") { " GROUP BY tags.a" } else { "" };
        let order = if head.contains("COUNT") { "" } else { order };
        if let Ok(select) = Select::parse(&format!("{head} WHERE {condition}{group}{order}")) {
            prop_assert_eq!(Select::parse(&select.to_string()), Ok(select));
        }
    }
}
