use super::*;
use serde_json::json;

#[test]
fn every_violation_is_told_with_its_place() {
    let schema = Schema::Object(vec![
        Field { name: "on".into(), schema: Arc::new(Schema::Boolean) },
        Field { name: "speeds".into(), schema: Arc::new(Schema::Array(Arc::new(Schema::Integer))) },
    ]);
    let places = |value| -> Vec<String> {
        schema
            .validate(&value, &Options::language())
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|violation| violation.path)
            .collect()
    };
    assert_eq!(places(json!({"on": true, "speeds": [1, 2]})), Vec::<String>::new());
    assert_eq!(
        places(json!({"on": 1, "speeds": [1, "2", 3.5], "a/b": 1})),
        ["/on", "/speeds/1", "/speeds/2", "/a~1b"]
    );
    assert_eq!(places(json!(null)), [""]);
}

#[test]
fn whole_numbers_have_their_range_and_no_fraction() {
    let conforms = |schema: Schema, text: &str| {
        schema.validate(&serde_json::from_str(text).unwrap(), &Options::language()).is_ok()
    };
    for (text, integer, long) in [
        ("2147483647", true, true),
        ("2147483648", false, true),
        ("-0", true, true),
        ("1.0", false, false),
        ("9223372036854775808", false, false),
    ] {
        assert_eq!(
            (conforms(Schema::Integer, text), conforms(Schema::Long, text)),
            (integer, long),
            "{text}"
        );
    }
}

#[test]
fn a_geometry_has_its_type_and_nesting() {
    let point = Schema::Geospatial(Geometry::Point);
    assert!(
        point
            .validate(&json!({"type": "Point", "coordinates": [47.6, -122.1]}), &Options::language())
            .is_ok()
    );
    assert!(
        point
            .validate(&json!({"type": "Polygon", "coordinates": [47.6, -122.1]}), &Options::language())
            .is_err()
    );
    assert!(
        point
            .validate(&json!({"type": "Point", "coordinates": [[47.6, -122.1]]}), &Options::language())
            .is_err()
    );
    let polygon = Schema::Geospatial(Geometry::Polygon);
    assert!(
        polygon
            .validate(
                &json!({"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [0, 0]]]}),
                &Options::language()
            )
            .is_ok()
    );
    assert!(
        polygon
            .validate(
                &json!({"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [1, 0]]]}),
                &Options::language()
            )
            .is_err()
    );
}

#[test]
fn durations_keep_their_order_and_one_fraction() {
    for (text, conforms) in [
        ("P3Y6M4DT8H9M5S", true),
        ("PT0.5S", true),
        ("P3.4W", true),
        ("P3.4W5D", false),
        ("P1Y3W", false),
        ("PT", false),
        ("P", false),
        ("PT.5S", false),
        ("PT5S9M", false),
    ] {
        assert_eq!(temporal::is_duration(text), conforms, "{text}");
    }
}
