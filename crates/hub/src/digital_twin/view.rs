//! How a device twin shows as a digital twin. What the device reports is the value of a property; what is asked of it, and its answer to
//! that, stands beside it in `$metadata`. Pure: a twin in, a document out.

use base::json::Object;
use serde_json::{Value, json};

use crate::twin::{DeviceTwin, Section};

/// Marks an object of a twin as a component: `"__t": "c"`.
const MARK: &str = "__t";

pub(super) fn document(twin: &DeviceTwin) -> Object {
    let properties = &twin.properties;
    let (desired, reported) = (Part::of(&properties.desired), Part::of(&properties.reported));
    let mut document = Object::new();
    document.insert("$dtId".into(), twin.identity.device_id.as_str().into());
    let mut metadata = Object::new();
    metadata.insert("$model".into(), twin.model_id.as_str().into());
    show(&mut document, &mut metadata, &desired, &reported);
    for name in names(&desired, &reported).filter(|name| is_component(twin, name)) {
        let (mut component, mut metadata) = (Object::new(), Object::new());
        show(&mut component, &mut metadata, &desired.child(name), &reported.child(name));
        component.insert("$metadata".into(), Value::Object(metadata));
        document.insert(name.clone(), Value::Object(component));
    }
    document.insert("$metadata".into(), Value::Object(metadata));
    document
}

/// Whether either side has said so of `name`.
pub(super) fn is_component(twin: &DeviceTwin, name: &str) -> bool {
    let sections = [&twin.properties.desired, &twin.properties.reported];
    sections.iter().any(|section| section.values.get(name).is_some_and(is_marked))
}

pub(super) fn is_marked(value: &Value) -> bool {
    value.get(MARK).is_some_and(|mark| mark == "c")
}

/// The mark as a patch of a component carries it.
pub(super) fn mark() -> (String, Value) {
    (MARK.to_owned(), "c".into())
}

/// The values of a section or of one component in it, and the metadata beside them.
#[derive(Clone, Copy, Default)]
struct Part<'a> {
    values: Option<&'a Object>,
    metadata: Option<&'a Object>,
}

impl<'a> Part<'a> {
    fn of(section: &'a Section) -> Self {
        Self { values: Some(&section.values), metadata: Some(&section.metadata) }
    }

    fn child(&self, name: &str) -> Self {
        let object = |members: Option<&'a Object>| members?.get(name)?.as_object();
        Self { values: object(self.values), metadata: object(self.metadata) }
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.values?.get(name)
    }

    fn stamp(&self, name: &str, stamp: &str) -> Option<&'a Value> {
        self.metadata?.get(name)?.get(stamp)
    }
}

/// The names of both sides, each once.
fn names<'a>(desired: &Part<'a>, reported: &Part<'a>) -> impl Iterator<Item = &'a String> {
    let (desired, reported) = (desired.values, reported.values);
    let only_desired = desired.into_iter().flat_map(|members| members.keys());
    let only_desired =
        only_desired.filter(move |name| !reported.is_some_and(|members| members.contains_key(*name)));
    reported.into_iter().flat_map(|members| members.keys()).chain(only_desired)
}

/// Shows the properties of one level, components left out.
fn show(values: &mut Object, metadata: &mut Object, desired: &Part<'_>, reported: &Part<'_>) {
    for name in names(desired, reported) {
        let (asked, told) = (desired.value(name), reported.value(name));
        if name == MARK || asked.is_some_and(is_marked) || told.is_some_and(is_marked) {
            continue;
        }
        let mut beside = Object::new();
        if let Some(asked) = asked {
            beside.insert("desiredValue".into(), asked.clone());
            beside.insert("desiredVersion".into(), json!(desired.stamp(name, "$lastUpdatedVersion")));
        }
        if let Some(told) = told {
            let answer = Answer::of(told);
            values.insert(name.clone(), answer.map_or(told, |answer| answer.value).clone());
            if let Some(answer) = answer {
                beside.insert("ackVersion".into(), answer.version.clone());
                beside.insert("ackCode".into(), answer.code.clone());
                if let Some(description) = answer.description {
                    beside.insert("ackDescription".into(), description.clone());
                }
            }
            beside.insert("lastUpdateTime".into(), json!(reported.stamp(name, "$lastUpdated")));
        }
        metadata.insert(name.clone(), Value::Object(beside));
    }
}

/// What a device reports of a property that it was asked to take on: `{"value", "ac", "av", "ad"}`.
#[derive(Clone, Copy)]
struct Answer<'a> {
    value: &'a Value,
    code: &'a Value,
    version: &'a Value,
    description: Option<&'a Value>,
}

impl<'a> Answer<'a> {
    fn of(told: &'a Value) -> Option<Self> {
        let (value, code, version) = (told.get("value")?, told.get("ac")?, told.get("av")?);
        (code.is_number() && version.is_number()).then(|| Self {
            value,
            code,
            version,
            description: told.get("ad"),
        })
    }
}
