//! Whatever comes in, the parser answers, in bounded time and stack: it never panics.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use std::sync::Arc;

use dtdl::{Dtmi, Issue, Model, Options, UndefinedExtensions, check_text, parse_text};
use proptest::prelude::*;
use serde_json::{Value, json};

fn nothing_known(_: &Dtmi) -> Option<Arc<Model>> {
    None
}

/// Words that lead deep into the parser.
fn word() -> impl Strategy<Value = String> {
    let words: Vec<String> = "@context @id @type @value @language @graph @foo contents extends schemas name schema writable target properties \
        fields enumValues enumValue valueSchema mapKey mapValue elementSchema request response displayName description comment unit annotates \
        overrides minMultiplicity maxMultiplicity commandType Interface Property Telemetry Relationship Component Command Array Enum Map Object \
        Field EnumValue Temperature degreeCelsius TemperatureUnit ValueAnnotation Override double integer string point vector en xsd:string Foo \
        dtmi:dtdl:context;2 dtmi:dtdl:context;3 dtmi:dtdl:extension:quantitativeTypes;1 dtmi:dtdl:extension:annotation;1 \
        dtmi:dtdl:extension:overriding;1 dtmi:dtdl:extension:mqtt;3 dtmi:iotcentral:context;2 dtmi:foo:bar;1 dtmi:test:a;1 dtmi:test:b;1 \
        dtmi:test:c;1 dtmi:dtdl:property:name;3 dtmi:dtdl:class:Property;3 a b"
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    prop_oneof![9 => proptest::sample::select(words), 1 => any::<String>()]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => word().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((word(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Something that at least begins as an interface.
fn nearly_an_interface() -> impl Strategy<Value = Value> {
    let context = proptest::sample::select(vec![
        json!("dtmi:dtdl:context;2"),
        json!("dtmi:dtdl:context;3"),
        json!([
            "dtmi:dtdl:context;3",
            "dtmi:dtdl:extension:quantitativeTypes;1",
            "dtmi:dtdl:extension:mqtt;3"
        ]),
        json!(["dtmi:dtdl:context;2", "dtmi:iotcentral:context;2", "dtmi:foo:bar;1"]),
    ]);
    let id = proptest::sample::select(vec!["dtmi:test:a;1", "dtmi:test:b;1"]);
    (context, id, proptest::collection::vec((word(), anything()), 0..6)).prop_map(|(context, id, members)| {
        let mut model: serde_json::Map<String, Value> = members.into_iter().collect();
        model.insert("@context".into(), context);
        model.insert("@id".into(), id.into());
        model.insert("@type".into(), "Interface".into());
        Value::Object(model)
    })
}

/// The values as one document.
fn parse_models(values: &[Value], known: &dtdl::Known, options: &Options) -> Result<Vec<Model>, Vec<Issue>> {
    parse_text(&Value::from(values).to_string(), known, options)
}

proptest! {
    #[test]
    fn any_json_is_answered(values in proptest::collection::vec(prop_oneof![anything(), nearly_an_interface()], 0..4)) {
        for options in [
            Options::language(),
            Options::azure_digital_twins(),
            Options { undefined_extensions: UndefinedExtensions::Allow, ..Options::language() },
        ] {
            let answer = parse_models(&values, &nothing_known, &options);
            prop_assert!(answer.is_ok_and(|models| models.len() >= values.len()) || !values.is_empty());
        }
    }

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let answer = check_text(&text, &nothing_known, &Options::language());
        prop_assert!(!answer.is_empty() || text.trim() == "[]", "{text}");
    }

    #[test]
    fn our_reader_and_serde_json_agree_on_what_is_json(text in "[\\[\\]{}:,\"\\\\0-9.eE+\\- tn\u{e9}rufalse]{0,24}") {
        let ours = check_text(&text, &nothing_known, &Options::language()).iter().all(|issue| issue.rule != "invalidJson");
        prop_assert_eq!(ours, serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn any_value_is_judged(value in anything()) {
        let _ = dtdl::Schema::Geospatial(dtdl::Geometry::MultiPolygon).validate(&value, &Options::language());
        let map = dtdl::Schema::Map(Arc::new(dtdl::Schema::Array(Arc::new(dtdl::Schema::Duration))));
        let _ = map.validate(&value, &Options::language());
    }

    #[test]
    fn temporal_texts_are_judged(text in any::<String>(), near in "[P0-9YMWDTHS.:Z+\\-\u{e9}]{0,24}") {
        for schema in [dtdl::Schema::Date, dtdl::Schema::DateTime, dtdl::Schema::Time, dtdl::Schema::Duration] {
            let _ = schema.validate(&Value::from(text.as_str()), &Options::language());
            let _ = schema.validate(&Value::from(near.as_str()), &Options::language());
        }
    }
}

#[test]
fn deep_documents_are_refused_instead_of_followed() {
    let mut value = json!("double");
    for _ in 0..500 {
        value = json!({"@type": "Array", "elementSchema": value});
    }
    let model = json!({"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:a;1", "@type": "Interface",
        "contents": {"@type": "Telemetry", "name": "t", "schema": value}});
    let issues = parse_models(&[model], &nothing_known, &Options::language()).unwrap_err();
    assert_eq!(issues[0].rule, dtdl::INVALID_JSON);
    // As deep as is read at all still fits the stack.
    let mut value = json!("double");
    for _ in 0..90 {
        value = json!({"@type": "Array", "elementSchema": value});
    }
    let model = json!({"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:a;1", "@type": "Interface",
        "contents": {"@type": "Telemetry", "name": "t", "schema": value}});
    let issues = parse_models(&[model], &nothing_known, &Options::language()).unwrap_err();
    assert_eq!(issues[0].rule, "excessiveDepthWide");
    let text = "[".repeat(1_000_000);
    assert_eq!(check_text(&text, &nothing_known, &Options::language())[0].rule, "invalidJson");
}

#[test]
fn a_long_chain_of_named_schemas_is_refused_without_recursion() {
    let schemas: Vec<Value> = (0..20_000)
        .map(|number| {
            let next = format!("dtmi:test:s{};1", number + 1);
            json!({"@id": format!("dtmi:test:s{number};1"), "@type": "Array", "elementSchema": if number == 19_999 { "double".into() } else { next }})
        })
        .collect();
    let model = json!({"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:a;1", "@type": "Interface", "schemas": schemas});
    let issues = parse_models(&[model], &nothing_known, &Options::language()).unwrap_err();
    assert!(issues.iter().any(|issue| issue.rule == "excessiveDepthWide"));
}

#[test]
fn a_long_chain_of_interfaces_is_refused_without_recursion() {
    let models: Vec<Value> = (0..5_000)
        .map(|number| {
            json!({"@context": "dtmi:dtdl:context;3", "@id": format!("dtmi:test:i{number};1"), "@type": "Interface",
                "extends": format!("dtmi:test:i{};1", (number + 1) % 5_000)})
        })
        .collect();
    let issues = parse_models(&models, &nothing_known, &Options::language()).unwrap_err();
    assert!(issues.iter().all(|issue| matches!(issue.rule, "recursiveStructureNarrow" | "excessiveCount")));
}

#[test]
fn schemas_that_unfold_enormously_are_counted_without_unfolding() {
    let wide = |name: &str, inside: &str| {
        let fields: Vec<Value> =
            (0..500).map(|number| json!({"name": format!("f{number}"), "schema": inside})).collect();
        json!({"@id": format!("dtmi:test:{name};1"), "@type": "Object", "fields": fields})
    };
    let schemas = [
        wide("s0", "double"),
        wide("s1", "dtmi:test:s0;1"),
        wide("s2", "dtmi:test:s1;1"),
        wide("s3", "dtmi:test:s2;1"),
    ];
    let model = json!({"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:a;1", "@type": "Interface", "schemas": schemas,
        "contents": {"@type": "Telemetry", "name": "t", "schema": "dtmi:test:s3;1"}});
    let issues = parse_models(&[model], &nothing_known, &Options::language()).unwrap_err();
    assert_eq!(issues[0].rule, "excessiveCount");
}
