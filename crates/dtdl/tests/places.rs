//! What an author sees: each issue with its rule, its place in the document, and its line and column in text.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use std::sync::Arc;

use dtdl::{Commands, Content, Dtmi, Issue, Model, Options, Resolved, Schema, check_text, parse_text};
use serde_json::{Value, json};

fn nothing_known(_: &Dtmi) -> Option<Arc<Model>> {
    None
}

fn id(text: &str) -> Dtmi {
    text.parse().unwrap()
}

/// The values as one document.
fn parse_models(values: &[Value], known: &dtdl::Known, options: &Options) -> Result<Vec<Model>, Vec<Issue>> {
    parse_text(&Value::from(values).to_string(), known, options)
}

/// Rule and path of each issue.
fn issues(values: &[Value]) -> Vec<(&'static str, String)> {
    let answer = parse_models(values, &nothing_known, &Options::language());
    answer.err().unwrap_or_default().into_iter().map(|issue| (issue.rule, issue.path)).collect()
}

fn parsed(values: &[Value]) -> Vec<Model> {
    parse_models(values, &nothing_known, &Options::azure_digital_twins()).unwrap()
}

fn interface(name: &str, members: &Value) -> Value {
    let mut model = json!({"@context": "dtmi:dtdl:context;3", "@id": format!("dtmi:test:{name};1"), "@type": "Interface"});
    model.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    model
}

fn property(name: &str) -> Value {
    json!({"@type": "Property", "name": name, "schema": "double"})
}

#[test]
fn every_issue_is_told_and_not_only_the_first() {
    let model = interface(
        "Room",
        &json!({"contents": [
            {"@type": "Property", "name": "9lives", "schema": "double"},
            {"@type": "Property", "name": "height", "schema": "tall", "writable": "yes"},
            {"@type": "Telemetry", "schema": {"@type": "Enum", "valueSchema": "double", "enumValues": []}},
            {"@type": "Relationship", "name": "height", "target": "room", "minMultiplicity": 2},
        ]}),
    );
    let expected = [
        ("stringInvalid", "/0/contents/0/name"),
        ("badDtmiOrTerm", "/0/contents/1/schema"),
        ("booleanNotBoolean", "/0/contents/1/writable"),
        ("missingLiteralProperty", "/0/contents/2"),
        ("badType", "/0/contents/2/schema/valueSchema"),
        ("nonUniquePropertyValue", "/0/contents/3"),
        ("identifierNotDtmi", "/0/contents/3/target"),
        ("valueNotExact", "/0/contents/3/minMultiplicity"),
    ];
    assert_eq!(issues(&[model]), expected.map(|(rule, path)| (rule, path.to_owned())));
}

#[test]
fn issues_of_a_text_carry_line_and_column() {
    let text = r#"{
  "@context": "dtmi:dtdl:context;2",
  "@id": "dtmi:test:Room;1",
  "@type": "Interface",
  "contents": [
    { "@type": "Property", "name": "größe", "schema": "double" },
    { "@type": "Property", "name": "ok", "name": "twice", "schema": "nothing" }
  ]
}"#;
    let shown: Vec<String> =
        check_text(text, &nothing_known, &Options::language()).iter().map(Issue::to_string).collect();
    assert_eq!(
        shown,
        [
            "6:36: dtmi:test:Room;1 /contents/0/name: 'größe' is not a name: letters, digits and '_' inside, \
             a letter first [stringInvalid]",
            "7:50: dtmi:test:Room;1 /contents/1/name: 'name' is given twice [duplicatePropertyName]",
            "7:69: dtmi:test:Room;1 /contents/1/schema: 'nothing' is neither a DTMI nor a term of DTDL 2 [badDtmiOrTerm]",
        ]
    );
}

#[test]
fn text_that_is_no_json_is_told_with_its_place() {
    let issue = &check_text("{\n \"@id\": }", &nothing_known, &Options::language())[0];
    assert_eq!(
        (issue.rule, issue.position.unwrap().line, issue.position.unwrap().column),
        ("invalidJson", 2, 9)
    );
}

#[test]
fn models_of_one_call_refer_to_each_other_in_any_order() {
    let models = parsed(&[
        interface(
            "Room",
            &json!({"extends": "dtmi:test:Space;1", "contents": [
                {"@type": "Component", "name": "lamp", "schema": "dtmi:test:Lamp;1"},
                {"@type": "Relationship", "name": "feeds", "target": "dtmi:test:NotHere;1"},
            ]}),
        ),
        interface("Space", &json!({"contents": [property("area")]})),
        interface("Lamp", &json!({"contents": [property("power")]})),
    ]);
    assert_eq!(models[0].extends, [id("dtmi:test:Space;1")]);
    assert_eq!(models[0].components().collect::<Vec<_>>(), [&id("dtmi:test:Lamp;1")]);
    let known: Vec<Arc<Model>> = models.into_iter().map(Arc::new).collect();
    let known = |id: &Dtmi| known.iter().find(|model| model.id == *id).cloned();
    let room = Resolved::new(&id("dtmi:test:Room;1"), &known).unwrap();
    assert_eq!(
        room.contents().map(|(_, content)| content.name()).collect::<Vec<_>>(),
        ["lamp", "feeds", "area"]
    );
    assert!(matches!(*room.property("area").unwrap().schema, Schema::Double));
    assert!(room.is_of_model(&id("dtmi:test:Space;1")) && !room.is_of_model(&id("dtmi:test:Lamp;1")));
}

#[test]
fn a_known_model_can_be_extended_and_its_names_are_taken() {
    let space = Arc::new(parsed(&[interface("Space", &json!({"contents": [property("area")]}))]).remove(0));
    let known = |id: &Dtmi| (*id == space.id).then(|| space.clone());
    let parse = |name: &str| {
        let room = interface("Room", &json!({"extends": "dtmi:test:Space;1", "contents": [property(name)]}));
        parse_models(&[room], &known, &Options::azure_digital_twins())
    };
    assert_eq!(parse("height").unwrap()[0].extends, std::slice::from_ref(&space.id));
    let issue = &parse("area").unwrap_err()[0];
    assert_eq!((issue.rule, issue.path.as_str()), ("nonUniqueImportedPropertyValue", "/0/contents/0"));
}

/// An interface with a schema and a property that have identifiers of their own.
fn with_inner_ids(name: &str, members: &Value) -> Value {
    let mut model = interface(
        name,
        &json!({"schemas": [{"@id": "dtmi:test:shared:point;1", "@type": "Object", "fields": []}]}),
    );
    model.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    model
}

#[test]
fn interfaces_that_have_nothing_to_do_with_each_other_may_define_the_same_identifier() {
    let first = Arc::new(parsed(&[with_inner_ids("Room", &json!({}))]).remove(0));
    assert_eq!(first.inner_ids, [id("dtmi:test:shared:point;1")]);
    let known = |id: &Dtmi| (*id == first.id).then(|| first.clone());
    let rules = |models: &[Value]| -> Vec<(&'static str, String)> {
        let answer = parse_models(models, &known, &Options::azure_digital_twins());
        answer.err().unwrap_or_default().into_iter().map(|issue| (issue.rule, issue.path)).collect()
    };
    let duplicate = |path: &str| vec![("duplicateDefinition", path.to_owned())];
    assert_eq!(rules(&[with_inner_ids("Other", &json!({}))]), []);
    // In one call, or where one builds on the other, however far, they may not.
    let extending = json!({"extends": "dtmi:test:Room;1"});
    let containing = json!({"contents": [{"@type": "Component", "name": "c", "schema": "dtmi:test:Room;1"}]});
    assert_eq!(
        rules(&[with_inner_ids("A", &json!({})), with_inner_ids("B", &json!({}))]),
        duplicate("/1/schemas/0")
    );
    assert_eq!(rules(&[with_inner_ids("Other", &extending)]), duplicate("/0"));
    assert_eq!(rules(&[with_inner_ids("Other", &containing)]), duplicate("/0"));
    let far = [
        interface("Between", &extending),
        with_inner_ids("Other", &json!({"extends": "dtmi:test:Between;1"})),
    ];
    assert_eq!(rules(&far), duplicate("/1"));
    // An identifier of an interface counts, too.
    let taken = json!({"extends": "dtmi:test:Room;1", "schemas": [{"@id": "dtmi:test:Room;1", "@type": "Object", "fields": []}]});
    assert!(!rules(&[interface("Other", &taken)]).is_empty());
}

#[test]
fn the_same_content_by_two_ways_is_no_conflict() {
    let diamond = [
        interface("Top", &json!({"contents": [property("area")]})),
        interface("Left", &json!({"extends": "dtmi:test:Top;1"})),
        interface("Right", &json!({"extends": "dtmi:test:Top;1"})),
        interface("Bottom", &json!({"extends": ["dtmi:test:Left;1", "dtmi:test:Right;1"]})),
    ];
    assert_eq!(issues(&diamond), []);
}

#[test]
fn interfaces_that_extend_in_a_circle_are_refused() {
    let circle = [
        interface("One", &json!({"extends": "dtmi:test:Two;1"})),
        interface("Two", &json!({"extends": "dtmi:test:One;1"})),
    ];
    let rules: Vec<_> = issues(&circle).into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, ["recursiveStructureNarrow", "recursiveStructureNarrow"]);
}

#[test]
fn an_earlier_version_may_not_build_on_a_later_one() {
    let mut room = interface("Room", &json!({"extends": "dtmi:test:Space;1"}));
    let mut space = interface("Space", &json!({}));
    space["@context"] = json!("dtmi:dtdl:context;2");
    assert_eq!(issues(&[room.clone(), space.clone()]), []);
    room["@context"] = json!("dtmi:dtdl:context;2");
    space["@context"] = json!("dtmi:dtdl:context;3");
    assert_eq!(issues(&[room, space]), [("disallowedVersionReference", "/0/extends".to_owned())]);
}

#[test]
fn a_semantic_type_wants_a_unit_of_its_kind() {
    let model = |unit: &str| {
        let mut model = interface(
            "Room",
            &json!({"contents": [
                {"@type": ["Property", "Temperature"], "name": "warmth", "schema": "double", "unit": unit},
            ]}),
        );
        model["@context"] = json!(["dtmi:dtdl:context;3", "dtmi:dtdl:extension:quantitativeTypes;1"]);
        model
    };
    let models = parsed(&[model("degreeCelsius")]);
    let about = models[0].contents[0].about();
    assert_eq!(
        (about.types.as_slice(), about.unit.as_deref()),
        (&["Temperature".to_owned()][..], Some("degreeCelsius"))
    );
    assert_eq!(issues(&[model("metre")]), [("wrongParent", "/0/contents/0/unit".to_owned())]);
    assert_eq!(issues(&[model("warm")]), [("badDtmiOrTerm", "/0/contents/0/unit".to_owned())]);
}

#[test]
fn an_inherited_annotation_is_judged_where_it_meets_what_it_annotates() {
    let with_annotations = |mut model: Value| {
        model["@context"] = json!(["dtmi:dtdl:context;3", "dtmi:dtdl:extension:annotation;1"]);
        model
    };
    let note = json!({"@type": ["Property", "ValueAnnotation"], "name": "note", "annotates": "reset", "schema": "string"});
    let base = with_annotations(interface("Base", &json!({"contents": [note]})));
    let device = interface(
        "Device",
        &json!({"extends": "dtmi:test:Base;1", "contents": [{"@type": "Command", "name": "reset"}]}),
    );
    assert_eq!(issues(std::slice::from_ref(&base)), []);
    assert_eq!(issues(&[base.clone(), device.clone()]), [("notSiblingRequiredType", "/1".to_owned())]);
    // The same when the base is known already.
    let base = Arc::new(parsed(&[base]).remove(0));
    let known = |id: &Dtmi| (*id == base.id).then(|| base.clone());
    let issue = &parse_models(&[device], &known, &Options::language()).unwrap_err()[0];
    assert_eq!((issue.rule, issue.path.as_str()), ("notSiblingRequiredType", "/0"));
}

/// What is overridden is judged by its types, and those of a model that is there already are known as well as those of the call.
#[test]
fn an_override_is_judged_the_same_whether_its_base_comes_with_it_or_was_there_before() {
    let with_extensions = |name: &str, members: &Value| {
        let mut model = interface(name, members);
        model["@context"] = json!([
            "dtmi:dtdl:context;3",
            "dtmi:dtdl:extension:quantitativeTypes;1",
            "dtmi:dtdl:extension:annotation;1",
            "dtmi:dtdl:extension:overriding;1",
        ]);
        model
    };
    let temperature = json!({"@type": ["Property", "Temperature"], "name": "temperature", "schema": "double", "unit": "degreeCelsius"});
    let overriding = |name: &str, overrides: &str, schema: &str| {
        json!({"@type": ["Property", "ValueAnnotation", "Override"], "name": name, "annotates": "temperature",
            "overrides": overrides, "schema": schema})
    };
    let by_id = "dtmi:dtdl:extension:quantitativeTypes:v1:property:unit";
    let cases = [
        (vec![temperature.clone()], overriding("own", "unit", "TemperatureUnit"), None),
        (vec![temperature.clone()], overriding("own", by_id, "TemperatureUnit"), None),
        (vec![temperature.clone()], overriding("own", "unit", "LengthUnit"), Some("siblingPropertyMismatch")),
        (
            vec![property("temperature")],
            overriding("own", "unit", "TemperatureUnit"),
            Some("noMatchingSupplementalProperty"),
        ),
        (
            vec![temperature, overriding("inherited", by_id, "TemperatureUnit")],
            overriding("own", "unit", "TemperatureUnit"),
            Some("multipleReference"),
        ),
    ];
    for (contents, own, rule) in cases {
        let base = with_extensions("Base", &json!({"contents": contents}));
        let device = with_extensions("Device", &json!({"extends": "dtmi:test:Base;1", "contents": [own]}));
        let rules = |answer: Result<Vec<Model>, Vec<Issue>>| -> Vec<&'static str> {
            answer.err().unwrap_or_default().iter().map(|issue| issue.rule).collect()
        };
        let service = Options::azure_digital_twins();
        let expected: Vec<&str> = rule.into_iter().collect();
        assert_eq!(
            rules(parse_models(&[base.clone(), device.clone()], &nothing_known, &service)),
            expected,
            "{own}"
        );
        let base = Arc::new(parsed(&[base]).remove(0));
        let known = |id: &Dtmi| (*id == base.id).then(|| base.clone());
        assert_eq!(rules(parse_models(&[device], &known, &service)), expected, "{own}");
    }
}

#[test]
fn the_service_takes_its_own_extensions_and_no_inline_interfaces() {
    let service = Options::azure_digital_twins();
    let rules = |value: Value, options: &Options| -> Vec<&'static str> {
        let answer = parse_models(&[value], &nothing_known, options);
        answer.err().unwrap_or_default().iter().map(|issue| issue.rule).collect()
    };
    let mut mqtt = interface("Room", &json!({}));
    mqtt["@context"] = json!(["dtmi:dtdl:context;3", "dtmi:dtdl:extension:mqtt;1"]);
    assert_eq!(rules(mqtt.clone(), &Options::language()), Vec::<&str>::new());
    assert_eq!(rules(mqtt, &service), ["unresolvableContextVersion"]);
    let inline = json!({"@id": "dtmi:test:Lamp;1", "@type": "Interface"});
    let room =
        interface("Room", &json!({"contents": [{"@type": "Component", "name": "lamp", "schema": inline}]}));
    assert_eq!(rules(room, &service), ["inlineInterface"]);
    let mut later = interface("Room", &json!({}));
    later["@context"] = json!("dtmi:dtdl:context;4");
    assert_eq!(rules(later, &service), ["unrecognizedContextVersion"]);
}

#[test]
fn commands_are_taken_or_refused_as_the_options_say() {
    let model = interface("Room", &json!({"contents": [{"@type": "Command", "name": "open"}]}));
    assert!(matches!(parsed(std::slice::from_ref(&model))[0].contents[0], Content::Command(_)));
    let options = Options { commands: Commands::Refuse, ..Options::azure_digital_twins() };
    let issues = parse_models(&[model], &nothing_known, &options).unwrap_err();
    assert_eq!((issues[0].rule, issues[0].path.as_str()), ("commandNotSupported", "/0/contents/0"));
}

#[test]
fn an_interface_may_be_a_mebibyte_of_text_and_no_more() {
    let comment = "x".repeat(500);
    let model = |count: usize| {
        let contents: Vec<Value> = (0..count)
            .map(|number| json!({"@type": "Telemetry", "name": format!("t{number}"), "schema": "double", "comment": comment}))
            .collect();
        interface("Big", &json!({"contents": contents})).to_string()
    };
    assert!(parse_text(&model(1000), &nothing_known, &Options::language()).is_ok());
    let issues = parse_text(&model(2000), &nothing_known, &Options::language()).unwrap_err();
    assert_eq!((issues[0].rule, issues.len()), ("partitionTooLarge", 1));
}

#[test]
fn the_elements_of_a_whole_hierarchy_are_counted() {
    let fields: Vec<Value> =
        (0..300).map(|number| json!({"name": format!("f{number}"), "schema": "double"})).collect();
    let model = |count: usize| {
        let contents: Vec<Value> = (0..count)
            .map(|number| json!({"@type": "Telemetry", "name": format!("t{number}"), "schema": "dtmi:test:wide;1"}))
            .collect();
        let wide = json!({"@id": "dtmi:test:wide;1", "@type": "Object", "fields": fields});
        interface("Big", &json!({"schemas": wide, "contents": contents}))
    };
    assert_eq!(issues(&[model(100)]), []);
    assert_eq!(issues(&[model(200)]), [("excessiveCount", "/0".to_owned())]);
}

#[test]
fn the_dtdl_context_comes_first_or_behind_the_one_that_stands_for_dtdl_2() {
    const TWO: &str = "dtmi:dtdl:context;2";
    const THREE: &str = "dtmi:dtdl:context;3";
    const CENTRAL: &str = "dtmi:iotcentral:context;2";
    const QUANTITIES: &str = "dtmi:dtdl:extension:quantitativeTypes;1";
    let rules = |model: Value| -> Vec<&'static str> {
        let answer = parse_models(&[model], &nothing_known, &Options::azure_digital_twins());
        answer.err().unwrap_or_default().iter().map(|issue| issue.rule).collect()
    };
    let top =
        |contexts: &Value| json!({"@context": contexts, "@id": "dtmi:test:Room;1", "@type": "Interface"});
    let inside = |outer: &str, contexts: &Value| {
        json!({"@context": outer, "@id": "dtmi:test:Room;1", "@type": "Interface",
            "contents": [{"@context": contexts, "@type": "Telemetry", "name": "t", "schema": "double"}]})
    };
    let cases: [(Value, &[&str]); 12] = [
        (json!([TWO, CENTRAL]), &[]),
        (json!([CENTRAL, TWO]), &[]),
        (json!([CENTRAL, CENTRAL, TWO, CENTRAL]), &[]),
        (json!([THREE, TWO]), &[]),
        (json!([CENTRAL]), &["missingDtdlContext"]),
        (json!(CENTRAL), &["missingDtdlContext"]),
        (json!([QUANTITIES, THREE]), &["missingDtdlContext"]),
        (json!([CENTRAL, QUANTITIES, THREE]), &["missingDtdlContext"]),
        (json!([TWO, CENTRAL, TWO]), &["dtdlContextFollowsAffiliate"]),
        (json!([CENTRAL, TWO, CENTRAL, TWO]), &["dtdlContextFollowsAffiliate"]),
        (json!([THREE, QUANTITIES, THREE]), &["dtdlContextFollowsAffiliate"]),
        (json!([{}, TWO]), &["invalidContext"]),
    ];
    for (contexts, expected) in cases {
        assert_eq!(rules(top(&contexts)), expected, "{contexts}");
    }
    // Around an element a version is known, so that its own list may do without.
    let cases: [(&str, Value, &[&str]); 7] = [
        (TWO, json!(CENTRAL), &[]),
        (TWO, json!([CENTRAL, TWO]), &[]),
        (TWO, json!([TWO, CENTRAL]), &[]),
        (TWO, json!([TWO, CENTRAL, TWO]), &["dtdlContextFollowsAffiliate"]),
        (TWO, json!([CENTRAL, TWO, CENTRAL, TWO]), &["dtdlContextFollowsAffiliate"]),
        (THREE, json!([QUANTITIES, THREE]), &["dtdlContextFollowsAffiliate"]),
        (THREE, json!([]), &[]),
    ];
    for (outer, contexts, expected) in cases {
        assert_eq!(rules(inside(outer, &contexts)), expected, "{outer} {contexts}");
    }
}

#[test]
fn what_iot_central_adds_is_known_under_its_context_only() {
    let model = |contexts: &Value| {
        json!({"@context": contexts, "@id": "dtmi:test:Truck;1", "@type": "Interface", "contents": [
            {"@type": "Property", "name": "place", "schema": "geopoint"},
            {"@type": ["Telemetry", "AccelerationVector"], "name": "shock", "schema": "vector", "unit": "gForce"},
            {"@type": ["Telemetry", "Event"], "name": "alarm", "schema": "string"},
            {"@type": ["Property", "State"], "name": "door", "schema": {"@type": "Enum", "valueSchema": "integer",
                "enumValues": [{"name": "open", "enumValue": 1}]}},
        ]})
    };
    let service = Options::azure_digital_twins();
    for contexts in [
        json!(["dtmi:dtdl:context;2", "dtmi:iotcentral:context;2"]),
        json!(["dtmi:iotcentral:context;2", "dtmi:dtdl:context;2"]),
    ] {
        let models = parse_models(&[model(&contexts)], &nothing_known, &service).unwrap();
        let Content::Property(place) = &models[0].contents[0] else { panic!("{:?}", models[0].contents) };
        let here = json!({"lat": 52.5, "lon": 13.4, "alt": 34});
        assert_eq!(place.schema.validate(&here, &service), Ok(()));
        assert!(place.schema.validate(&json!({"lat": "52.5"}), &service).is_err());
    }
    let issues = parse_models(&[model(&json!("dtmi:dtdl:context;2"))], &nothing_known, &service).unwrap_err();
    assert!(issues.iter().any(|issue| issue.path == "/0/contents/0/schema"), "{issues:?}");
}

#[test]
fn an_empty_object_is_no_element_whose_members_are_required() {
    let model = |members: Value| interface("Room", &members);
    let cases = [
        model(json!({"extends": {}})),
        model(json!({"extends": [{}]})),
        model(json!({"schemas": [{}]})),
        model(json!({"contents": {}})),
        model(json!({"contents": [{}]})),
        model(json!({"contents": [{"@type": "Telemetry", "name": "t", "schema": {}}]})),
        model(json!({"contents": [{"@type": "Command", "name": "c", "request": {}}]})),
        model(json!({"contents": [{"@type": "Component", "name": "c", "schema": {}}]})),
        model(json!({"contents": [{"@type": "Relationship", "name": "r", "properties": [{}]}]})),
        json!({}),
    ];
    for case in cases {
        let answer =
            parse_models(std::slice::from_ref(&case), &nothing_known, &Options::azure_digital_twins());
        assert!(answer.is_err(), "{case}");
    }
}
