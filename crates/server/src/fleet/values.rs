//! What a sensor would say next: a value of a DTDL schema, near the one before. Pure but for the generator that is passed in.

use base::Timestamp;
use dtdl::{About, Geometry, Schema};
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Between which numbers something walks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Part of a name, or a semantic type of DTDL, and what it moves between, in the unit that comes first to mind.
const USUAL: &[(&str, Range)] = &[
    ("temp", Range { low: 15.0, high: 30.0 }),
    ("humid", Range { low: 30.0, high: 60.0 }),
    ("press", Range { low: 98.0, high: 104.0 }),
    ("volt", Range { low: 220.0, high: 240.0 }),
    ("battery", Range { low: 20.0, high: 100.0 }),
    ("latitude", Range { low: 47.0, high: 48.0 }),
    ("longitude", Range { low: 8.0, high: 9.0 }),
    ("angle", Range { low: 0.0, high: 360.0 }),
];

/// The same in units that differ too much.
const UNITS: &[(&str, Range)] = &[
    ("degreeFahrenheit", Range { low: 60.0, high: 86.0 }),
    ("kelvin", Range { low: 288.0, high: 303.0 }),
    ("unity", Range { low: 0.0, high: 1.0 }),
    ("percent", Range { low: 0.0, high: 100.0 }),
];

impl Range {
    pub(super) const PLAIN: Self = Self { low: 0.0, high: 100.0 };

    /// What fits something that is called and typed so.
    pub(super) fn of(name: &str, about: &About) -> Self {
        let unit = about.unit.as_deref().unwrap_or_default();
        let by_unit = UNITS.iter().find(|(known, _)| unit.ends_with(known));
        let texts = || about.types.iter().map(String::as_str).chain([name]);
        let says = |part: &str| texts().any(|text| text.to_ascii_lowercase().contains(part));
        let usual = || USUAL.iter().find(|(part, _)| says(part));
        by_unit.or_else(usual).map_or(Self::PLAIN, |(_, range)| *range)
    }

    fn named(name: &str) -> Self {
        Self::of(name, &About::default())
    }

    /// The next number: near the one before, and turned back at the ends.
    fn walk(self, before: Option<f64>, rng: &mut Rng) -> f64 {
        let span = self.high - self.low;
        let Some(before) = before.filter(|before| (self.low..=self.high).contains(before)) else {
            return self.low + span * (0.25 + 0.5 * rng.f64());
        };
        let next = before + span * 0.02 * (2.0 * rng.f64() - 1.0);
        let turned = if next > self.high { 2.0 * self.high - next } else { next };
        if turned < self.low { 2.0 * self.low - turned } else { turned }
    }
}

/// How seldom what has no measure changes: booleans, enumerations, texts.
const CHANGES_ONCE_IN: u32 = 20;

/// The next value of `schema`; `before` is the one before it, if there was one.
pub(super) fn next(
    schema: &Schema,
    range: Range,
    before: Option<&Value>,
    now: Timestamp,
    rng: &mut Rng,
) -> Value {
    match schema {
        Schema::Double | Schema::Float => hundredths(range.walk(before.and_then(Value::as_f64), rng)),
        Schema::Integer | Schema::Long => whole(range, before, rng),
        Schema::Boolean | Schema::Enum(_) | Schema::String | Schema::Duration => {
            let stays = rng.u32(0..CHANGES_ONCE_IN) != 0;
            before.filter(|_| stays).cloned().unwrap_or_else(|| changed(schema, before, rng))
        }
        Schema::Date | Schema::DateTime | Schema::Time => at(schema, now),
        Schema::Geospatial(geometry) => shape(*geometry, before, rng),
        Schema::Array(element) => {
            let items = before.and_then(Value::as_array).cloned().unwrap_or_else(|| vec![Value::Null; 3]);
            let item = |before: &Value| next(element, range, Some(before), now, rng);
            items.iter().map(item).collect()
        }
        Schema::Map(of) => {
            let member = |name: &str| {
                let before = before.and_then(|before| before.get(name));
                (name.to_owned(), next(of, range, before, now, rng))
            };
            ["first", "second"].into_iter().map(member).collect::<Map<_, _>>().into()
        }
        Schema::Object(fields) => {
            let mut members = Map::new();
            for field in fields {
                let before = before.and_then(|before| before.get(&field.name));
                let value = next(&field.schema, Range::named(&field.name), before, now, rng);
                members.insert(field.name.clone(), value);
            }
            members.into()
        }
    }
}

/// Two digits behind the point, as sensors have them.
fn hundredths(number: f64) -> Value {
    json!((number * 100.0).round() / 100.0)
}

#[expect(clippy::cast_possible_truncation, reason = "the ends of a range are small whole numbers")]
fn whole(range: Range, before: Option<&Value>, rng: &mut Rng) -> Value {
    let (low, high) = (range.low as i64, (range.high as i64).max(range.low as i64 + 1));
    let next = match before.and_then(Value::as_i64) {
        Some(before) => before + rng.i64(-1..=1),
        None => rng.i64(low..=high),
    };
    json!(next.clamp(low, high))
}

/// Another value of what has no measure.
fn changed(schema: &Schema, before: Option<&Value>, rng: &mut Rng) -> Value {
    match schema {
        Schema::Boolean => {
            json!(before.and_then(Value::as_bool).map_or_else(|| rng.bool(), |before| !before))
        }
        Schema::Enum(enumeration) => {
            let values = enumeration.values.iter().map(|value| &value.value);
            rng.choice(values).cloned().unwrap_or_default()
        }
        Schema::Duration => json!(format!("PT{}M", rng.u32(1..60))),
        _ => json!(format!("text {}", rng.u32(1..100))),
    }
}

/// `2026-01-02T03:04:05.678Z`, or the part of it that the schema wants.
fn at(schema: &Schema, now: Timestamp) -> Value {
    let text = now.to_string();
    let (date, time) = text.split_once('T').unwrap_or((text.as_str(), "00:00:00Z"));
    match schema {
        Schema::Date => json!(date),
        Schema::Time => json!(time),
        _ => json!(text),
    }
}

/// A `GeoJSON` geometry around a point that moves.
fn shape(geometry: Geometry, before: Option<&Value>, rng: &mut Rng) -> Value {
    let corner = before.and_then(|before| first_position(&before["coordinates"]));
    let (longitude, latitude) = corner.map_or((None, None), |(x, y)| (Some(x), Some(y)));
    let x = Range { low: 8.0, high: 9.0 }.walk(longitude, rng);
    let y = Range { low: 47.0, high: 48.0 }.walk(latitude, rng);
    let point = |right: f64, up: f64| json!([degrees(x + right), degrees(y + up)]);
    let line = || json!([point(0.0, 0.0), point(0.01, 0.01)]);
    let ring = || json!([[point(0.0, 0.0), point(0.01, 0.0), point(0.01, 0.01), point(0.0, 0.0)]]);
    let coordinates = match geometry {
        Geometry::Point => point(0.0, 0.0),
        Geometry::MultiPoint | Geometry::LineString => line(),
        Geometry::MultiLineString => json!([line()]),
        Geometry::Polygon => ring(),
        Geometry::MultiPolygon => json!([ring()]),
    };
    json!({"type": geometry.name(), "coordinates": coordinates})
}

fn degrees(number: f64) -> f64 {
    (number * 100_000.0).round() / 100_000.0
}

fn first_position(coordinates: &Value) -> Option<(f64, f64)> {
    let mut at = coordinates;
    // A multipolygon has the most levels.
    for _ in 0..4 {
        match at.as_array()?.as_slice() {
            [x, y, ..] if x.is_number() => return Some((x.as_f64()?, y.as_f64()?)),
            [first, ..] => at = first,
            [] => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dtdl::{Enumeration, EnumerationValue, Field, Options};

    use super::*;

    fn every_schema() -> Vec<Schema> {
        let choice = |name: &str, value: Value| EnumerationValue { name: name.to_owned(), value };
        let mut all = vec![
            Schema::Boolean,
            Schema::Date,
            Schema::DateTime,
            Schema::Double,
            Schema::Duration,
            Schema::Float,
            Schema::Integer,
            Schema::Long,
            Schema::String,
            Schema::Time,
            Schema::Enum(Enumeration { values: vec![choice("on", json!(1)), choice("off", json!(2))] }),
        ];
        all.extend(
            [
                Geometry::Point,
                Geometry::MultiPoint,
                Geometry::LineString,
                Geometry::MultiLineString,
                Geometry::Polygon,
                Geometry::MultiPolygon,
            ]
            .map(Schema::Geospatial),
        );
        let fields = all.iter().enumerate();
        let fields =
            fields.map(|(n, schema)| Field { name: format!("f{n}"), schema: Arc::new(schema.clone()) });
        let object = Schema::Object(fields.collect());
        all.push(Schema::Array(Arc::new(object.clone())));
        all.push(Schema::Map(Arc::new(object.clone())));
        all.push(object);
        all
    }

    #[test]
    fn every_value_is_of_its_schema_and_so_is_the_next() {
        let (mut rng, now) = (Rng::with_seed(7), Timestamp::from_unix_seconds(1_790_000_000));
        for schema in every_schema() {
            let mut before = None;
            for _ in 0..500 {
                let value = next(&schema, Range::PLAIN, before.as_ref(), now, &mut rng);
                assert_eq!(schema.validate(&value, &Options::language()), Ok(()), "{value}");
                before = Some(value);
            }
        }
    }

    #[test]
    fn numbers_walk_in_small_steps_between_what_their_name_and_unit_say() {
        let mut rng = Rng::with_seed(1);
        let now = Timestamp::from_unix_seconds(0);
        let mut fahrenheit = About::default();
        fahrenheit.unit = Some("degreeFahrenheit".into());
        assert_eq!(Range::of("outsideTemperature", &About::default()), Range { low: 15.0, high: 30.0 });
        let range = Range::of("temperature", &fahrenheit);
        assert_eq!(range, Range { low: 60.0, high: 86.0 });
        let mut before = next(&Schema::Double, range, None, now, &mut rng);
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for _ in 0..5000 {
            let value = next(&Schema::Double, range, Some(&before), now, &mut rng);
            let (is, was) = (value.as_f64().unwrap(), before.as_f64().unwrap());
            assert!((is - was).abs() <= 0.54, "{was} to {is}");
            assert!((60.0..=86.0).contains(&is), "{is}");
            (least, most) = (least.min(is), most.max(is));
            before = value;
        }
        assert!(most - least > 10.0, "it goes somewhere: {least} to {most}");
    }

    #[test]
    fn booleans_flip_seldom() {
        let (mut rng, now) = (Rng::with_seed(3), Timestamp::from_unix_seconds(0));
        let (mut before, mut flips) = (json!(true), 0);
        for _ in 0..2000 {
            let value = next(&Schema::Boolean, Range::PLAIN, Some(&before), now, &mut rng);
            flips += usize::from(value != before);
            before = value;
        }
        assert!((50..200).contains(&flips), "{flips} of 2000");
    }
}
