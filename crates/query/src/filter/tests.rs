use serde_json::json;

use super::*;

struct Event {
    kind: &'static str,
    subject: Option<&'static str>,
    body: Json,
}

impl Message for Event {
    fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "type" => Some(self.kind),
            "subject" => self.subject,
            "source" => Some("twins.api.eus.digitaltwins.localhost"),
            _ => None,
        }
    }

    fn body(&self) -> Option<&Json> {
        Some(&self.body)
    }
}

fn update() -> Event {
    Event {
        kind: "Microsoft.DigitalTwins.Twin.Update",
        subject: Some("floor1"),
        body: json!({"modelId": "dtmi:x:Floor;1", "level": 3, "patch": [{"op": "add"}]}),
    }
}

fn matches(filter: &str) -> bool {
    Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}")).matches(&update())
}

#[test]
fn a_filter_selects_by_attributes_and_body() {
    for filter in [
        "true",
        "type = 'Microsoft.DigitalTwins.Twin.Update'",
        "TYPE = 'Microsoft.DigitalTwins.Twin.Update' and subject = 'floor1'",
        "STARTS_WITH(subject, 'floor') AND ends_with(type, '.Update')",
        "CONTAINS(source, 'digitaltwins') AND NOT CONTAINS(source, 'x')",
        "$body.modelId = 'dtmi:x:Floor;1'",
        "$body.level >= 3 AND ($body.level < 4 OR false)",
        "$body.level IN [3, 4]",
    ] {
        assert!(matches(filter), "{filter}");
    }
    for filter in [
        "false",
        "type = 'microsoft.iot.telemetry'",
        "dataschema = 'dtmi:x:Floor;1'",
        "dataschema != 'dtmi:x:Floor;1'",
        "$body.level = '3'",
        "$body.MODELID = 'dtmi:x:Floor;1'",
        "$body.patch.op = 'add'",
        "$body = 1",
    ] {
        assert!(!matches(filter), "{filter}");
    }
}

#[test]
fn the_filter_of_the_old_sdk_samples_is_taken() {
    let legacy =
        "$eventType = 'DigitalTwinTelemetryMessages' or $eventType = 'DigitalTwinLifecycleNotification'";
    assert!(!matches(legacy));
    let created = Event { kind: "Microsoft.DigitalTwins.Twin.Create", ..update() };
    assert!(Filter::parse(legacy).unwrap().matches(&created));
}

#[test]
fn a_filter_is_bounded_like_a_query() {
    let long = |count: usize| format!("true{}", " ".repeat(count - 4));
    let terms = |count: usize| vec!["false"; count].join(" OR ");
    let nested = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    let (characters, terms_max, depth) =
        (caps::QUERY_CHARACTERS_MAX, caps::QUERY_TERMS_MAX, caps::EXPRESSION_DEPTH_MAX);
    for (longest, refused) in [
        (long(characters), long(characters + 1)),
        (terms(terms_max), terms(terms_max + 1)),
        (nested(depth - 1), nested(depth)),
    ] {
        assert!(Filter::parse(&longest).is_ok(), "{longest}");
        assert!(Filter::parse(&refused).is_err(), "{refused}");
    }
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    for (filter, expected) in [
        ("", "1:0 mismatched input '<EOF>' expecting IDENTIFIER"),
        ("temperature > 5", "1:0 no viable alternative at input 'temperature'"),
        ("type = 'a' AND body.x = 1", "1:15 no viable alternative at input 'body'"),
        ("STARTSWITH(type, 'a')", "1:0 no viable alternative at input 'STARTSWITH'"),
        ("type = 'a' type", "1:11 mismatched input 'type' expecting <EOF>"),
        ("type = 'a", "1:7 token recognition error at: ''a'"),
    ] {
        let error = Filter::parse(filter).expect_err(filter);
        assert_eq!(format!("{}:{} {}", error.line, error.position, error.message), expected, "{filter}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        if let Ok(filter) = Filter::parse(&text) {
            filter.matches(&update());
        }
    }
}
