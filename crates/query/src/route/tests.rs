use std::collections::BTreeMap;

use base::caps;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Condition, Message, is_json};

#[derive(Default)]
struct Sent {
    system: BTreeMap<&'static str, &'static str>,
    application: BTreeMap<&'static str, &'static str>,
    body: Option<Json>,
    twin: Option<Json>,
}

fn find<'m>(all: &'m BTreeMap<&'static str, &'static str>, name: &str) -> Option<&'m str> {
    all.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

impl Message for Sent {
    fn system_property(&self, name: &str) -> Option<&str> {
        find(&self.system, name)
    }

    fn application_property(&self, name: &str) -> Option<&str> {
        find(&self.application, name)
    }

    fn body(&self) -> Option<&Json> {
        self.body.as_ref()
    }

    fn twin(&self) -> Option<&Json> {
        self.twin.as_ref()
    }
}

fn sent() -> Sent {
    Sent {
        system: [
            ("contentType", "application/json"),
            ("connectionDeviceId", "dev-1"),
            ("enqueuedTime", "2026-06-06T22:56:06Z"),
            ("iothub-message-source", "Telemetry"),
        ]
        .into(),
        application: [
            ("processingPath", "hot"),
            ("severity", "2"),
            ("my-prop", "a"),
            ("sensor-1", "b"),
            ("dotted.name", "c"),
            ("$own", "d"),
            ("in", "e"),
        ]
        .into(),
        body: Some(json!({
            "Weather": {"Temperature": 50, "Location": {"State": "WA"}, "Rain-Fall": 3, "Rain": 5},
            "Sensors": [{"reading": 7}, {"reading": 8}],
            "none": null
        })),
        twin: Some(json!({
            "tags": {"Site": "north", "floor": 3},
            "properties": {"desired": {"sendFrequency": "5m"}, "reported": {"Target": 20.5}}
        })),
    }
}

fn truth(condition: &str) -> Option<bool> {
    Condition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}")).truth(&sent())
}

#[test]
fn what_is_true_of_a_message_is_found() {
    for condition in [
        "",
        "  ",
        "true",
        "processingPath = 'hot'",
        "PROCESSINGPATH = \"hot\"",
        "$body.Weather.Temperature = 50 AND processingPath = 'hot'",
        "length($body.Weather.Location.State) = 2",
        "as_number(severity) <= 2",
        "is_defined($body.Weather.Location)",
        "$enqueuedTime > \"2022-06-06T22:56:06Z\"",
        "$ConnectionDeviceId = 'dev-1'",
        "$iothub-message-source = 'Telemetry'",
        "$own = 'd'",
        "my-prop = 'a' AND sensor-1 = 'b' AND dotted.name = 'c' AND [[in]] = 'e'",
        "$body.Sensors[1].reading = 8 AND is_array($body.Sensors)",
        "$body.Weather.Rain-Fall = 3",
        "$body.Weather.Rain - 1 = 4 AND $body.Weather.Rain-1 = 4",
        "$body.Weather.Temperature / 2 + 1 = 26",
        "$twin.tags.site = 'north' AND $twin.TAGS.Floor >= 3",
        "$twin.properties.desired.sendFrequency = '5m' AND $twin.Properties.Reported.target > 20",
        "severity IN ['1', '2'] AND NOT severity IN ['3']",
        "STARTS_WITH(processingPath, 'h') AND ENDS_WITH(processingPath, 't') AND CONTAINS(processingPath, 'o')",
        "UPPER(processingPath) = 'HOT' AND SUBSTRING(processingPath, 1) = 'ot' AND INDEX_OF(processingPath, 't') = 2",
        "is_null($body.none) AND power(2, 3) = 8",
        "missing = 'x' OR processingPath <> 'cold'",
    ] {
        assert_eq!(truth(condition), Some(true), "{condition}");
    }
}

#[test]
fn what_is_false_and_what_is_undefined_are_told_apart() {
    for condition in ["false", "processingPath = 'HOT'", "$body.Sensors[0].reading = 8", "NOT true"] {
        assert_eq!(truth(condition), Some(false), "{condition}");
    }
    for condition in [
        "missing = 'x'",
        "NOT missing = 'x'",
        "severity = 2",
        "severity - 1 = 1",
        "$missing = 'x'",
        "$body.weather.Temperature = 50",
        "$body.Sensors[2].reading = 8",
        "$body.Sensors.reading = 8",
        "$twin.tags.other = 1",
        "$body.none > 1",
        "processingPath",
    ] {
        assert_eq!(truth(condition), None, "{condition}");
    }
    let bare = Sent::default();
    for condition in ["$body.Weather.Temperature = 50", "$twin.tags.site = 'north'"] {
        assert_eq!(Condition::parse(condition).unwrap().truth(&bare), None, "{condition}");
    }
}

#[test]
fn only_text_that_is_json_by_its_type_and_encoding_is_looked_into() {
    for encoding in ["utf-8", "UTF-16", "utf-32"] {
        assert!(is_json(Some("Application/JSON"), Some(encoding)), "{encoding}");
    }
    let json = Some("application/json");
    for (content_type, encoding) in
        [(json, None), (None, Some("utf-8")), (json, Some("base64")), (Some("text/plain"), Some("utf-8"))]
    {
        assert!(!is_json(content_type, encoding), "{content_type:?} {encoding:?}");
    }
}

#[test]
fn a_condition_says_whether_it_needs_the_twin() {
    assert!(Condition::parse("a = 'b' OR $twin.tags.x = 1").unwrap().looks_at_twin());
    assert!(!Condition::parse("a = 'b' OR $body.twin.tags = 1").unwrap().looks_at_twin());
    assert!(!Condition::parse("").unwrap().looks_at_twin());
}

#[test]
fn what_is_no_condition_is_refused_with_its_place() {
    for (condition, place, message) in [
        ("a = ", "1:4-1:4", "mismatched input '<EOF>' expecting IDENTIFIER"),
        ("a = 'b'\nAND NOPE(a)", "2:4-2:8", "'NOPE' is no function of this language"),
        ("$body = 1", "1:0-1:5", "a member must be named, as in '$body.temperature'"),
        ("$body[0] = 1", "1:0-1:5", "a member must be named, as in '$body.temperature'"),
        (
            "$twin.deviceId = 'x'",
            "1:0-1:5",
            "of a twin there are '$twin.tags', '$twin.properties.desired' and '$twin.properties.reported'",
        ),
        ("$body.a[b] = 1", "1:8-1:9", "mismatched input 'b' expecting INTEGER"),
        ("a || b", "1:2-1:3", "mismatched input '|' expecting <EOF>"),
        ("STARTSWITH(a, 'b')", "1:0-1:10", "'STARTSWITH' is no function of this language"),
        ("array_contains($body.a, 1)", "1:0-1:14", "'array_contains' is no function of this language"),
        ("a = 'b", "1:4-1:6", "token recognition error at: ''b'"),
    ] {
        let error = Condition::parse(condition).expect_err(condition);
        let found = format!("{}:{}-{}:{}", error.line, error.position, error.end_line, error.end_position);
        assert_eq!((found.as_str(), error.message.as_str()), (place, message), "{condition}");
    }
}

#[test]
fn a_condition_is_bounded() {
    let terms = |count: usize| vec!["a = 'b'"; count].join(" OR ");
    let nested = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    let path = |depth: usize| format!("$body{} = 1", ".a".repeat(depth));
    for (longest, refused) in [
        (terms(caps::QUERY_TERMS_MAX), terms(caps::QUERY_TERMS_MAX + 1)),
        (nested(caps::EXPRESSION_DEPTH_MAX - 1), nested(caps::EXPRESSION_DEPTH_MAX)),
        (path(caps::JSON_DEPTH_MAX), path(caps::JSON_DEPTH_MAX + 1)),
        (" ".repeat(caps::QUERY_CHARACTERS_MAX), " ".repeat(caps::QUERY_CHARACTERS_MAX + 1)),
    ] {
        assert!(Condition::parse(&longest).is_ok(), "{longest}");
        assert!(Condition::parse(&refused).is_err(), "{refused}");
    }
}

/// Texts that are nearly conditions, which reach further into the parser than any others.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "$a",
        "$body",
        "$twin",
        ".tags",
        ".b",
        "[0]",
        "[[c d]]",
        "-",
        " - ",
        ".",
        "[",
        "]",
        "(",
        ")",
        ",",
        "= ",
        "<>",
        "IN",
        "NOT",
        " AND ",
        " OR ",
        "'x'",
        "\"y",
        "1",
        "2.5e3",
        "abs(",
        "concat(",
        "true",
        "null",
        "undefined",
        "\n",
        "ä",
        "{",
        "|",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_or_the_evaluator_panic(text in "\\PC*") {
        if let Ok(condition) = Condition::parse(&text) {
            let _ = (condition.truth(&sent()), condition.truth(&Sent::default()));
        }
    }

    #[test]
    fn nothing_that_is_nearly_a_condition_does_either(text in pieces()) {
        match Condition::parse(&text) {
            Ok(condition) => {
                let _ = (condition.truth(&sent()), condition.truth(&Sent::default()));
            }
            Err(error) => {
                let start = (error.line, error.position);
                prop_assert!(start <= (error.end_line, error.end_position), "{}", error);
            }
        }
    }
}
