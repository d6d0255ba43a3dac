//! Schemas, and whether a JSON value conforms to one. Twin, relationship and telemetry values are judged here.
//! Every violation is reported with its place; recursion is as deep as the schema, which the parser bounds.

mod temporal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Number, Value};

use crate::Options;

/// A data type of DTDL.
#[derive(Clone, Debug, PartialEq)]
pub enum Schema {
    Boolean,
    Date,
    DateTime,
    Double,
    Duration,
    Float,
    Integer,
    Long,
    String,
    Time,
    Geospatial(Geometry),
    Array(Arc<Schema>),
    Enum(Enumeration),
    /// The value schema; keys are strings.
    Map(Arc<Schema>),
    Object(Vec<Field>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Enumeration {
    /// Integers or strings.
    pub values: Vec<EnumerationValue>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EnumerationValue {
    pub name: String,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub schema: Arc<Schema>,
}

/// The `GeoJSON` geometries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Geometry {
    Point,
    MultiPoint,
    LineString,
    MultiLineString,
    Polygon,
    MultiPolygon,
}

pub(crate) use temporal::is_duration;

/// Where a value does not conform, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer from the value.
    pub path: String,
    pub message: String,
}

impl Schema {
    /// Judges a value. JSON null never conforms.
    pub fn validate(&self, value: &Value, options: &Options) -> Result<(), Vec<Violation>> {
        let mut judge =
            Judge { local_date_times: options.local_date_times, path: Vec::new(), violations: Vec::new() };
        judge.value(self, value);
        if judge.violations.is_empty() { Ok(()) } else { Err(judge.violations) }
    }

    /// Whether a quantity may have this schema.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Double | Self::Float | Self::Integer | Self::Long)
    }
}

struct Judge {
    local_date_times: bool,
    path: Vec<String>,
    violations: Vec<Violation>,
}

impl Judge {
    fn value(&mut self, schema: &Schema, value: &Value) {
        match (schema, value) {
            (Schema::Boolean, Value::Bool(_))
            | (Schema::String, Value::String(_))
            | (Schema::Double, Value::Number(_)) => {}
            (Schema::Boolean, _) => self.refuse("a boolean is expected"),
            (Schema::String, _) => self.refuse("a string is expected"),
            (Schema::Integer, Value::Number(number))
                if is_integer(number, i32::MIN.into(), i32::MAX.into()) => {}
            (Schema::Integer, _) => self.refuse("a whole number of 32 bits is expected"),
            (Schema::Long, Value::Number(number)) if is_integer(number, i64::MIN, i64::MAX) => {}
            (Schema::Long, _) => self.refuse("a whole number of 64 bits is expected"),
            (Schema::Double, _) => self.refuse("a number is expected"),
            (Schema::Float, Value::Number(number)) if is_single(number) => {}
            (Schema::Float, _) => self.refuse("a number of single precision is expected"),
            (Schema::Date, _) => self.temporal(value, temporal::is_date, "a date (YYYY-MM-DD) is expected"),
            (Schema::DateTime, _) if self.local_date_times => {
                self.temporal(value, temporal::is_local_date_time, "a date and time is expected");
            }
            (Schema::DateTime, _) => {
                self.temporal(value, temporal::is_date_time, "a date and time with an offset is expected");
            }
            (Schema::Time, _) => {
                self.temporal(value, temporal::is_time, "a time of day with an offset is expected");
            }
            (Schema::Duration, _) => {
                self.temporal(value, temporal::is_duration, "an ISO 8601 duration is expected");
            }
            (Schema::Geospatial(geometry), _) => self.geometry(*geometry, value),
            (Schema::Array(element), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(&index.to_string(), |judge| judge.value(element, item));
                }
            }
            (Schema::Array(_), _) => self.refuse("an array is expected"),
            (Schema::Enum(enumeration), _) => {
                if !enumeration.values.iter().any(|allowed| allowed.value == *value) {
                    self.refuse("one of the values of the enumeration is expected");
                }
            }
            (Schema::Map(of), Value::Object(members)) => {
                for (key, member) in members {
                    self.within(key, |judge| judge.value(of, member));
                }
            }
            (Schema::Object(fields), Value::Object(members)) => self.object(fields, members),
            (Schema::Map(_) | Schema::Object(_), _) => self.refuse("an object is expected"),
        }
    }

    fn object(&mut self, fields: &[Field], members: &serde_json::Map<String, Value>) {
        for (name, member) in members {
            match fields.iter().find(|field| field.name == *name) {
                Some(field) => self.within(name, |judge| judge.value(&field.schema, member)),
                None => self.within(name, |judge| judge.refuse("the object has no such field")),
            }
        }
    }

    fn temporal(&mut self, value: &Value, conforms: fn(&str) -> bool, expected: &str) {
        if !value.as_str().is_some_and(conforms) {
            self.refuse(expected);
        }
    }

    fn geometry(&mut self, geometry: Geometry, value: &Value) {
        let Some(members) = value.as_object() else { return self.refuse("a GeoJSON geometry is expected") };
        if members.get("type").and_then(Value::as_str) != Some(geometry.name()) {
            self.within("type", |judge| judge.refuse(&format!("'{}' is expected", geometry.name())));
        }
        if !members.get("coordinates").is_some_and(|coordinates| geometry.holds(coordinates)) {
            self.within("coordinates", |judge| {
                judge.refuse(&format!("the coordinates of a {} are expected", geometry.name()));
            });
        }
    }

    fn within(&mut self, segment: &str, judge: impl FnOnce(&mut Self)) {
        self.path.push(segment.replace('~', "~0").replace('/', "~1"));
        judge(self);
        self.path.pop();
    }

    fn refuse(&mut self, message: &str) {
        let path = self.path.iter().fold(String::new(), |path, segment| path + "/" + segment);
        self.violations.push(Violation { path, message: message.to_owned() });
    }
}

/// Written without fraction or exponent, as the official instance validation wants it; but the JSON parser makes `-0` a float.
fn is_integer(number: &Number, min: i64, max: i64) -> bool {
    let is_minus_zero =
        || number.as_f64() == Some(0.0) && number.is_f64() && number.to_string().starts_with('-');
    number.as_i64().map_or_else(is_minus_zero, |value| (min..=max).contains(&value))
}

fn is_single(number: &Number) -> bool {
    // The largest single has nine significant digits; anything that rounds above it is refused.
    number.as_f64().is_some_and(|value| value.abs() <= f64::from(f32::MAX))
}

impl Geometry {
    /// The `GeoJSON` type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Point => "Point",
            Self::MultiPoint => "MultiPoint",
            Self::LineString => "LineString",
            Self::MultiLineString => "MultiLineString",
            Self::Polygon => "Polygon",
            Self::MultiPolygon => "MultiPolygon",
        }
    }

    fn holds(self, coordinates: &Value) -> bool {
        let each = |holds: fn(&Value) -> bool, least: usize| {
            coordinates.as_array().is_some_and(|items| items.len() >= least && items.iter().all(holds))
        };
        match self {
            Self::Point => is_position(coordinates),
            Self::MultiPoint => each(is_position, 0),
            Self::LineString => is_line(coordinates),
            Self::MultiLineString => each(is_line, 0),
            Self::Polygon => is_polygon(coordinates),
            Self::MultiPolygon => each(is_polygon, 0),
        }
    }
}

fn is_position(value: &Value) -> bool {
    value.as_array().is_some_and(|numbers| numbers.len() >= 2 && numbers.iter().all(Value::is_number))
}

fn is_line(value: &Value) -> bool {
    value.as_array().is_some_and(|positions| positions.len() >= 2 && positions.iter().all(is_position))
}

/// Linear rings: at least four positions, the last equal to the first (RFC 7946, 3.1.6).
fn is_polygon(value: &Value) -> bool {
    let is_ring = |ring: &Value| {
        ring.as_array().is_some_and(|positions| {
            positions.len() >= 4 && positions.iter().all(is_position) && positions.first() == positions.last()
        })
    };
    value.as_array().is_some_and(|rings| rings.iter().all(is_ring))
}
