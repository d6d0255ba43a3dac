//! Every schema and every form of path, at the root of a twin and in a component of it.

use serde_json::{Value, json};

use crate::fixture::{Fixture, id, object};

/// A model with a property of every schema, and as its component one with the same.
async fn with_every_schema() -> Fixture {
    let of = |schema: Value| json!({"@type": "Property", "schema": schema});
    let enumeration = |schema: &str, value: Value| json!({"@type": "Enum", "valueSchema": schema, "enumValues": [{"name": "one", "enumValue": value}]});
    let schemas = [
        ("boolean", json!("boolean")),
        ("date", json!("date")),
        ("dateTime", json!("dateTime")),
        ("double", json!("double")),
        ("duration", json!("duration")),
        ("float", json!("float")),
        ("integer", json!("integer")),
        ("long", json!("long")),
        ("string", json!("string")),
        ("time", json!("time")),
        ("point", json!("point")),
        ("number", enumeration("integer", json!(1))),
        ("word", enumeration("string", json!("one"))),
        ("list", json!({"@type": "Array", "elementSchema": "integer"})),
        (
            "map",
            json!({"@type": "Map", "mapKey": {"name": "k", "schema": "string"}, "mapValue": {"name": "v", "schema": "integer"}}),
        ),
        (
            "object",
            json!({"@type": "Object", "fields": [{"name": "x", "schema": "integer"},
            {"name": "list", "schema": {"@type": "Array", "elementSchema": "string"}}]}),
        ),
    ];
    let mut contents: Vec<Value> = schemas
        .into_iter()
        .map(|(name, schema)| {
            let mut property = of(schema);
            property["name"] = json!(name);
            property
        })
        .collect();
    let interface = |id: &str, contents: &[Value]| json!({"@id": id, "@type": "Interface", "@context": "dtmi:dtdl:context;3", "contents": contents});
    let part = interface("dtmi:test:Part;1", &contents);
    contents.push(json!({"@type": "Component", "name": "part", "schema": "dtmi:test:Part;1"}));
    let fixture = Fixture::empty().await;
    fixture.upload(&[interface("dtmi:test:Whole;1", &contents), part]).await.unwrap();
    fixture
}

#[tokio::test]
async fn a_value_is_held_against_its_schema_at_the_root_and_in_a_component() {
    let fixture = with_every_schema().await;
    let twin = json!({"$metadata": {"$model": "dtmi:test:Whole;1"}, "part": {"$metadata": {}}});
    // The property, JSON texts that fit it, and others that do not. Null never fits.
    let table: [(&str, &[&str], &[&str]); 16] = [
        ("boolean", &["true", "false"], &["1", "\"true\""]),
        ("date", &["\"2024-02-29\""], &["\"2023-02-29\"", "\"2024-2-9\"", "\"20240229\"", "20240229"]),
        (
            "dateTime",
            &[
                "\"2024-02-29T23:59:59.123456789Z\"",
                "\"2024-02-29T00:00:00+14:00\"",
                "\"0001-01-01T00:00:00\"",
                "\"2024-02-29T00:00:00.5\"",
            ],
            &[
                "\"2024-02-29T24:00:00\"",
                "\"2024-02-29T00:00:00.\"",
                "\"2024-02-29 00:00:00Z\"",
                "\"2024-02-29\"",
            ],
        ),
        (
            "double",
            &["0", "-0.0", "1e308", "18446744073709551615", "123456789012345678901234567890"],
            &["\"NaN\"", "\"1\"", "true"],
        ),
        (
            "duration",
            &["\"P1Y2M3DT4H5M6.5S\"", "\"P2W\"", "\"PT0S\""],
            &["\"P\"", "\"PT\"", "\"P1.5YT1H\"", "\"1H\"", "3600"],
        ),
        ("float", &["3.4028234e38", "-3.4028234e38", "1e-50"], &["3.5e38", "-1e39", "\"1\""]),
        ("integer", &["2147483647", "-2147483648"], &["2147483648", "-2147483649", "1.5", "1e3", "\"1\""]),
        (
            "long",
            &["9223372036854775807", "-9223372036854775808"],
            &["9223372036854775808", "-9223372036854775809", "0.5"],
        ),
        ("string", &["\"\"", "\"\\u0000é😀\""], &["1", "[]", "{}"]),
        (
            "time",
            &["\"00:00:00Z\"", "\"23:59:59.9-13:59\""],
            &["\"00:00:00\"", "\"24:00:00Z\"", "\"0:0:0Z\""],
        ),
        (
            "point",
            &["{\"type\":\"Point\",\"coordinates\":[1,2.5]}"],
            &[
                "{\"type\":\"Polygon\",\"coordinates\":[1,2]}",
                "[1,2]",
                "{\"type\":\"Point\",\"coordinates\":[1]}",
            ],
        ),
        ("number", &["1"], &["2", "\"one\"", "\"1\"", "true"]),
        ("word", &["\"one\""], &["\"One\"", "1", "[\"one\"]"]),
        ("list", &["[]", "[1,-1]"], &["[1,\"2\"]", "[null]", "[[1]]", "{\"0\":1}", "1"]),
        (
            "map",
            &["{}", "{\"a b\":1,\"é/~\":2}"],
            &["{\"a\":\"1\"}", "{\"a\":null}", "{\"$a\":1}", "{\"\":1}", "[]"],
        ),
        (
            "object",
            &["{}", "{\"x\":1,\"list\":[\"a\"]}"],
            &["{\"x\":\"1\"}", "{\"y\":1}", "{\"x\":null}", "{\"list\":[1]}", "[]"],
        ),
    ];
    for (name, good, bad) in table {
        for prefix in ["", "/part"] {
            fixture.put("r", twin.clone()).await.unwrap();
            let add = async |value: &str| {
                let text = format!(r#"[{{"op":"add","path":"{prefix}/{name}","value":{value}}}]"#);
                let patch = crate::json_patch::parse(text.as_bytes()).unwrap();
                fixture
                    .instance
                    .update_digital_twin(&fixture.caller, &id("r"), &patch, &base::IfMatch::Absent)
                    .await
            };
            for value in good {
                let after = add(value)
                    .await
                    .unwrap_or_else(|error| panic!("{name} {value}: {error} {:?}", error.details()));
                let document = Value::Object(after.document().clone());
                assert_eq!(
                    document.pointer(&format!("{prefix}/{name}")),
                    Some(&serde_json::from_str(value).unwrap())
                );
            }
            let before = fixture.get("r").await.unwrap();
            for value in bad.iter().chain(&["null"]) {
                let error = add(value).await.expect_err(value);
                assert_eq!(error.code(), "ValidationFailed", "{name} {value}");
                assert!(
                    error.details()[0].starts_with(&format!("The value of {name}")),
                    "{:?}",
                    error.details()
                );
            }
            assert_eq!(fixture.get("r").await.unwrap(), before, "{prefix}/{name}");
        }
    }
}

/// A property as it is after a patch, or the code of the refusal.
type After = Result<(&'static str, Value), &'static str>;

#[tokio::test]
async fn a_path_leads_into_lists_maps_and_objects_at_the_root_and_in_a_component() {
    let fixture = with_every_schema().await;
    let start = || json!({"list": [1, 2], "map": {"x/y": 1, "~": 2}, "object": {"x": 1, "list": ["a"]}});
    let (add, replace, remove) = ("add", "replace", "remove");
    // What is done where with which value, and what the property is then, or why not.
    let table: [(&str, &str, Value, After); 24] = [
        (add, "/list/-", json!(3), Ok(("list", json!([1, 2, 3])))),
        (add, "/list/0", json!(0), Ok(("list", json!([0, 1, 2])))),
        (add, "/list/2", json!(3), Ok(("list", json!([1, 2, 3])))),
        (add, "/list/3", json!(3), Err("JsonPatchInvalid")),
        (replace, "/list/1", json!(3), Ok(("list", json!([1, 3])))),
        (replace, "/list/-", json!(3), Err("JsonPatchInvalid")),
        (remove, "/list/0", json!(null), Ok(("list", json!([2])))),
        (remove, "/list/2", json!(null), Err("JsonPatchInvalid")),
        (add, "/list/-1", json!(3), Err("JsonPatchInvalid")),
        (add, "/list/01", json!(3), Err("JsonPatchInvalid")),
        (add, "/list/18446744073709551616", json!(3), Err("JsonPatchInvalid")),
        (add, "/list/-", json!("3"), Err("ValidationFailed")),
        (add, "/map/a~1b~0", json!(3), Ok(("map", json!({"x/y": 1, "~": 2, "a/b~": 3})))),
        (replace, "/map/x~1y", json!(3), Ok(("map", json!({"x/y": 3, "~": 2})))),
        (remove, "/map/~0", json!(null), Ok(("map", json!({"x/y": 1})))),
        (remove, "/map/~1", json!(null), Err("JsonPatchInvalid")),
        (add, "/map/-", json!(3), Ok(("map", json!({"x/y": 1, "~": 2, "-": 3})))),
        (add, "/map/$x", json!(3), Err("ValidationFailed")),
        (add, "/map/", json!(3), Err("ValidationFailed")),
        (remove, "/object/x", json!(null), Ok(("object", json!({"list": ["a"]})))),
        (add, "/object/list/-", json!("b"), Ok(("object", json!({"x": 1, "list": ["a", "b"]})))),
        (add, "/object/y", json!(1), Err("ValidationFailed")),
        (add, "/object/x/y", json!(1), Err("JsonPatchInvalid")),
        (replace, "/object/x", json!(null), Err("ValidationFailed")),
    ];
    for (op, path, value, expected) in table {
        for prefix in ["", "/part"] {
            let mut part = object(start());
            part.insert("$metadata".to_owned(), json!({}));
            let mut twin = object(json!({"$metadata": {"$model": "dtmi:test:Whole;1"}, "part": part}));
            twin.extend(object(start()));
            let before = fixture.put("r", Value::Object(twin)).await.unwrap();
            let path = format!("{prefix}{path}");
            let after = fixture.patch("r", json!([{"op": op, "path": path, "value": value}])).await;
            match &expected {
                Ok((name, wanted)) => {
                    let document = Value::Object(after.unwrap().document().clone());
                    let found = document.pointer(&format!("{prefix}/{name}"));
                    assert_eq!(found, Some(wanted), "{op} {path}");
                }
                Err(code) => {
                    assert_eq!(after.unwrap_err().code(), *code, "{op} {path}");
                    assert_eq!(fixture.get("r").await.unwrap(), before, "{op} {path}");
                }
            }
        }
    }
}
