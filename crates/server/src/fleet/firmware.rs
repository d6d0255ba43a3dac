//! What a device has in it: the values of its sensors and properties, and what it says to them that change or call it. Knows no
//! connection; time and chance are passed in. The shapes are those of IoT Plug and Play.

use std::sync::Arc;

use base::Timestamp;
use dtdl::Options;
use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::model::{DeviceModel, Element, Part};
use super::values;

pub(super) struct Firmware {
    model: Arc<DeviceModel>,
    rng: Rng,
    /// By part, in the order of the model.
    telemetry: Vec<Vec<Value>>,
    properties: Vec<Vec<Value>>,
    turn: usize,
}

/// A message with telemetry of the device or of one component.
#[derive(Debug, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) component: Option<&'a str>,
    pub(super) body: Value,
}

impl Firmware {
    pub(super) fn new(model: Arc<DeviceModel>, seed: u64, now: Timestamp) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut first = |element: &Element| values::next(&element.schema, element.range, None, now, &mut rng);
        let telemetry =
            model.parts.iter().map(|part| part.telemetry.iter().map(&mut first).collect()).collect();
        let properties = model
            .parts
            .iter()
            .map(|part| part.properties.iter().map(|property| first(&property.element)).collect())
            .collect();
        Self { model, rng, telemetry, properties, turn: 0 }
    }

    /// Parts take turns; each says all it measures at once, and then one of them alone.
    pub(super) fn next_message(&mut self, now: Timestamp) -> Message<'_> {
        let speaking = |part: &&(usize, &Part)| !part.1.telemetry.is_empty();
        let parts: Vec<(usize, &Part)> = self.model.parts.iter().enumerate().collect();
        let parts: Vec<_> = parts.iter().filter(speaking).collect();
        let (index, part) = *parts[self.turn % parts.len()];
        let round = self.turn / parts.len();
        self.turn += 1;
        let alone = (round % 2 == 1).then(|| round / 2 % part.telemetry.len());
        let mut body = Map::new();
        for (place, element) in part.telemetry.iter().enumerate() {
            if alone.is_none_or(|alone| alone == place) {
                let value = &mut self.telemetry[index][place];
                *value = values::next(&element.schema, element.range, Some(value), now, &mut self.rng);
                body.insert(element.name.clone(), value.clone());
            }
        }
        Message { component: part.component.as_deref(), body: body.into() }
    }

    /// What a device tells of itself when it has connected and read its twin: what it measures, and what became of desired properties.
    pub(super) fn first_report(&mut self, desired: &Value) -> Value {
        let mut patch = Map::new();
        for (index, part) in self.model.parts.iter().enumerate() {
            for (place, property) in part.properties.iter().enumerate() {
                let value = &self.properties[index][place];
                let value = if property.is_writable {
                    // 203: the device's own, while nobody has asked for another (IoT Plug and Play conventions).
                    json!({"value": value, "ac": 203, "av": 0, "ad": "initial value"})
                } else {
                    value.clone()
                };
                put(&mut patch, part, &property.element.name, value);
            }
        }
        let version = desired["$version"].as_u64().unwrap_or_default();
        if let Some(Value::Object(answers)) = self.take_desired(desired, version) {
            merge(&mut patch, answers);
        }
        patch.into()
    }

    /// The acknowledgement of desired properties; `None` where there is nothing to say.
    pub(super) fn take_desired(&mut self, desired: &Value, version: u64) -> Option<Value> {
        let model = self.model.clone();
        let mut patch = Map::new();
        if model.id().is_none() {
            for (name, value) in desired.as_object().into_iter().flatten() {
                if !name.starts_with('$') && !value.is_null() {
                    patch.insert(name.clone(), acknowledged(value, 200, version, "taken"));
                }
            }
        }
        for (index, part) in model.parts.iter().enumerate() {
            let asked = part.component.as_ref().map_or(desired, |component| &desired[component]);
            for (place, property) in part.properties.iter().enumerate().filter(|(_, p)| p.is_writable) {
                let Some(value) = asked.get(&property.element.name).filter(|value| !value.is_null()) else {
                    continue;
                };
                let own = &mut self.properties[index][place];
                let answer = match property.element.schema.validate(value, &Options::language()) {
                    Ok(()) => {
                        own.clone_from(value);
                        acknowledged(value, 200, version, "taken")
                    }
                    Err(violations) => acknowledged(own, 400, version, &told(&violations)),
                };
                put(&mut patch, part, &property.element.name, answer);
            }
        }
        (!patch.is_empty()).then(|| patch.into())
    }

    /// One of the properties that only the device changes, changed.
    pub(super) fn next_report(&mut self, now: Timestamp) -> Option<Value> {
        let model = self.model.clone();
        let places = model.parts.iter().enumerate().flat_map(|(index, part)| {
            let own = part.properties.iter().enumerate().filter(|(_, property)| !property.is_writable);
            own.map(move |(place, property)| (index, part, place, &property.element))
        });
        let places: Vec<_> = places.collect();
        let (index, part, place, element) = *self.rng.choice(&places)?;
        let value = &mut self.properties[index][place];
        *value = values::next(&element.schema, element.range, Some(value), now, &mut self.rng);
        let mut patch = Map::new();
        put(&mut patch, part, &element.name, value.clone());
        Some(patch.into())
    }

    /// The answer to a direct method, which is a command where there is a model: `reboot`, or `component*reboot`.
    pub(super) fn answer(&mut self, method: &str, asked: &Value, now: Timestamp) -> (u16, Value) {
        let model = self.model.clone();
        if model.id().is_none() {
            return (200, json!({"method": method, "payload": asked}));
        }
        let (component, name) = method.split_once('*').map_or((None, method), |(c, n)| (Some(c), n));
        let part = model.parts.iter().find(|part| part.component.as_deref() == component);
        let command = part.and_then(|part| part.commands.iter().find(|command| command.name == name));
        let Some(command) = command else {
            return (404, json!({"error": format!("the model has no command {method}")}));
        };
        if let Some(Err(violations)) =
            command.request.as_ref().map(|schema| schema.validate(asked, &Options::language()))
        {
            return (400, json!({"error": told(&violations)}));
        }
        let answer = command
            .response
            .as_ref()
            .map(|response| values::next(&response.schema, response.range, None, now, &mut self.rng));
        (200, answer.unwrap_or_default())
    }
}

fn acknowledged(value: &Value, code: u16, version: u64, why: &str) -> Value {
    json!({"value": value, "ac": code, "av": version, "ad": why})
}

fn told(violations: &[dtdl::Violation]) -> String {
    let one = |violation: &dtdl::Violation| format!("{}{}", violation.path, violation.message);
    violations.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Properties of a component lie below its name, marked as such.
fn put(patch: &mut Map<String, Value>, part: &Part, name: &str, value: Value) {
    match &part.component {
        None => drop(patch.insert(name.to_owned(), value)),
        Some(component) => {
            let below = patch.entry(component.clone()).or_insert_with(|| json!({"__t": "c"}));
            below[name] = value;
        }
    }
}

/// Lays one report over another.
fn merge(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(Value::Object(component)), Value::Object(values)) if component.contains_key("__t") => {
                component.extend(values);
            }
            (_, value) => drop(under.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = r#"[{
        "@context": "dtmi:dtdl:context;2", "@id": "dtmi:test:Boiler;1", "@type": "Interface", "contents": [
            {"@type": ["Telemetry", "Temperature"], "name": "heat", "schema": "double", "unit": "degreeCelsius"},
            {"@type": "Telemetry", "name": "alarm", "schema": "boolean"},
            {"@type": "Property", "name": "serial", "schema": "string"},
            {"@type": "Property", "name": "target", "schema": "double", "writable": true},
            {"@type": "Component", "name": "pump", "schema": "dtmi:test:Pump;1"},
            {"@type": "Command", "name": "reboot", "request": {"name": "delay", "schema": "integer"},
             "response": {"name": "at", "schema": "dateTime"}}
        ]}, {
        "@context": "dtmi:dtdl:context;2", "@id": "dtmi:test:Pump;1", "@type": "Interface", "contents": [
            {"@type": "Telemetry", "name": "flow", "schema": "integer"},
            {"@type": "Property", "name": "speed", "schema": "integer", "writable": true},
            {"@type": "Command", "name": "prime"}
        ]}]"#;

    fn firmware() -> Firmware {
        let model = Arc::new(DeviceModel::read(MODEL, None).unwrap());
        assert_eq!(model.id(), Some("dtmi:test:Boiler;1"));
        Firmware::new(model, 1, now())
    }

    fn now() -> Timestamp {
        Timestamp::from_unix_seconds(1_790_000_000)
    }

    #[test]
    fn parts_take_turns_and_say_all_or_one_thing() {
        let mut firmware = firmware();
        let mut said = Vec::new();
        for _ in 0..6 {
            let message = firmware.next_message(now());
            let names: Vec<_> = message.body.as_object().unwrap().keys().cloned().collect();
            said.push(format!("{}:{}", message.component.unwrap_or_default(), names.join("+")));
        }
        assert_eq!(said, [":heat+alarm", "pump:flow", ":heat", "pump:flow", ":heat+alarm", "pump:flow"]);
    }

    #[test]
    fn a_first_report_has_everything_and_says_what_became_of_what_was_asked() {
        let report = firmware().first_report(&json!({"target": 21.5, "$version": 4}));
        assert!(report["serial"].is_string(), "{report}");
        assert_eq!(report["target"], json!({"value": 21.5, "ac": 200, "av": 4, "ad": "taken"}));
        assert_eq!((&report["pump"]["__t"], &report["pump"]["speed"]["ac"]), (&json!("c"), &json!(203)));
    }

    #[test]
    fn what_is_desired_is_taken_when_it_fits_and_refused_when_it_does_not() {
        let mut firmware = firmware();
        let taken = firmware.take_desired(&json!({"pump": {"__t": "c", "speed": 3}}), 2).unwrap();
        assert_eq!(
            taken,
            json!({"pump": {"__t": "c", "speed": {"value": 3, "ac": 200, "av": 2, "ad": "taken"}}})
        );
        let refused = firmware.take_desired(&json!({"pump": {"speed": "fast"}}), 3).unwrap();
        let refused = &refused["pump"]["speed"];
        assert_eq!((&refused["value"], &refused["ac"], &refused["av"]), (&json!(3), &json!(400), &json!(3)));
        assert_eq!(firmware.take_desired(&json!({"serial": "mine", "other": 1, "target": null}), 4), None);
    }

    #[test]
    fn a_command_answers_with_its_response_and_others_are_unknown() {
        let mut firmware = firmware();
        let (status, body) = firmware.answer("reboot", &json!(3), now());
        assert_eq!((status, body.as_str().map(|text| &text[..10])), (200, Some("2026-09-21")));
        assert_eq!(firmware.answer("reboot", &json!("soon"), now()).0, 400);
        assert_eq!(firmware.answer("pump*prime", &Value::Null, now()), (200, Value::Null));
        assert_eq!(firmware.answer("prime", &Value::Null, now()).0, 404);
    }

    #[test]
    fn a_device_without_a_model_takes_what_it_is_given() {
        let mut plain = Firmware::new(Arc::new(DeviceModel::plain()), 1, now());
        let body = plain.next_message(now()).body;
        assert!(body["temperature"].is_f64() && body["humidity"].is_f64(), "{body}");
        let taken = plain.take_desired(&json!({"interval": 5, "$version": 9}), 9).unwrap();
        assert_eq!(taken, json!({"interval": {"value": 5, "ac": 200, "av": 9, "ad": "taken"}}));
        let (status, body) = plain.answer("blink", &json!({"times": 2}), now());
        assert_eq!((status, body), (200, json!({"method": "blink", "payload": {"times": 2}})));
    }

    #[test]
    fn models_that_cannot_be_simulated_say_why() {
        let said = |text: &str, id: Option<&str>| DeviceModel::read(text, id).err().unwrap();
        assert!(said("{", None).contains("invalidJson"), "{}", said("{", None));
        assert!(
            said(MODEL, Some("dtmi:test:Door;1")).contains("there are dtmi:test:Boiler;1, dtmi:test:Pump;1")
        );
        let empty =
            r#"{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:test:Nothing;1", "@type": "Interface"}"#;
        assert!(said(empty, None).contains("nothing to say"));
    }

    #[test]
    fn properties_are_what_a_model_without_telemetry_sends() {
        let room = r#"{"@context": "dtmi:dtdl:context;3", "@id": "dtmi:test:Room;1", "@type": "Interface", "contents": [
            {"@type": "Property", "name": "temperature", "schema": "double"},
            {"@type": "Property", "name": "target", "schema": "double", "writable": true}]}"#;
        let model = Arc::new(DeviceModel::read(room, None).unwrap());
        let mut firmware = Firmware::new(model, 1, now());
        assert!(firmware.next_message(now()).body["temperature"].is_f64());
    }
}
