//! Which events of an instance go to which endpoint. Kept here because the relay reads it; who may change it, and what makes a
//! route valid, is decided by the service that owns the instance.

use base::{InstanceId, caps};
use query::filter::{self, Filter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Counter, Key, Record, Scan, StoreError, Table, table};

use crate::Events;
use crate::headers::{self, Property, SystemProperty};
use crate::outbox::Envelope;

/// The attributes of an event as application properties (digital-twins.md §6.4).
pub const ATTRIBUTE_PREFIX: &str = "cloudEvents:";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub instance: InstanceId,
    pub id: String,
    pub endpoint: String,
    /// A text that [`Filter::parse`] takes.
    pub filter: String,
}

impl Record for Route {
    const TABLE: Table = table::EVENT_ROUTE;

    fn key(&self) -> Key {
        Key::new([self.instance.as_str(), &self.id])
    }
}

/// How many routes an instance has. Whoever stores a route or removes one counts it here, in the same batch: an event that no
/// route could take is not written at all.
pub fn count(instance: &InstanceId) -> Counter {
    Counter::new(instance, "event_routes")
}

/// The routes of one instance, ready to be asked.
pub(crate) struct Routes(Vec<(Route, Filter)>);

impl Events {
    pub(crate) async fn routes(&self, instance: &InstanceId) -> Result<Routes, StoreError> {
        let scan = Scan::new(Key::instance(instance), caps::RESOURCE_PAGE);
        let stored = self.context().store.scan::<Route>(scan).await?;
        let parsed = stored.into_iter().filter_map(|stored| {
            let filter = Filter::parse(&stored.record.filter);
            if let Err(error) = &filter {
                tracing::error!(%error, %instance, route = stored.record.id, "a stored route has no valid filter");
            }
            Some((stored.record, filter.ok()?))
        });
        Ok(Routes(parsed.collect()))
    }
}

impl Routes {
    /// Routes that select an event, in the order of their ids.
    pub(crate) fn of<'a>(&'a self, envelope: &'a Envelope) -> impl Iterator<Item = &'a Route> {
        let message = Message::of(envelope);
        self.0.iter().filter(move |(_, filter)| filter.matches(&message)).map(|(route, _)| route)
    }
}

/// An envelope as filters look at it.
struct Message<'a> {
    envelope: &'a Envelope,
    body: Option<Value>,
}

impl<'a> Message<'a> {
    fn of(envelope: &'a Envelope) -> Self {
        Self { envelope, body: serde_json::from_slice(&envelope.body).ok() }
    }
}

impl filter::Message for Message<'_> {
    fn attribute(&self, name: &str) -> Option<&str> {
        headers::read(&self.envelope.headers).find_map(|property| match property {
            Property::Application(key, value) => {
                (key.strip_prefix(ATTRIBUTE_PREFIX)? == name).then_some(value)
            }
            Property::System(SystemProperty::ContentType, value) => {
                (name == "datacontenttype").then_some(value)
            }
            Property::System(..) => None,
        })
    }

    fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;
    use crate::Destination;

    fn envelope(attributes: &[(&str, &str)], body: &str) -> Envelope {
        let mut bytes = headers::begin();
        headers::push_system(&mut bytes, SystemProperty::ContentType, "application/json");
        for (name, value) in attributes {
            headers::push_application(&mut bytes, &format!("{ATTRIBUTE_PREFIX}{name}"), value);
        }
        Envelope {
            instance: InstanceId::from_stored("i"),
            partition_key: "floor1".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            destination: Destination::Routes,
            headers: bytes,
            body: body.into(),
        }
    }

    fn selects(filter: &str, envelope: &Envelope) -> bool {
        let route = Route {
            instance: envelope.instance.clone(),
            id: "r".to_owned(),
            endpoint: "e".to_owned(),
            filter: filter.to_owned(),
        };
        let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        Routes(vec![(route, filter)]).of(envelope).count() == 1
    }

    #[test]
    fn a_filter_sees_every_attribute_of_an_event_and_its_body() {
        let telemetry = envelope(
            &[
                ("specversion", "1.0"),
                ("id", "m1"),
                ("type", "microsoft.iot.telemetry"),
                ("source", "twins.localhost/digitaltwins/floor1"),
                ("time", "2022-01-20T02:03:00.0000000Z"),
                ("dataschema", "dtmi:example:Floor;1"),
            ],
            r#"{"heat": {"value": 21.5}, "list": [1], "none": null}"#,
        );
        for filter in [
            "specversion = '1.0'",
            "id = 'm1'",
            "type = 'microsoft.iot.telemetry'",
            "ENDS_WITH(source, '/digitaltwins/floor1')",
            "time >= '2022' AND time < '2023'",
            "dataschema = 'dtmi:example:Floor;1'",
            "datacontenttype = 'application/json'",
            "$eventType = 'DigitalTwinTelemetryMessages'",
            "$body.heat.value > 21",
            "$body.none = null",
            "NOT $body.heat.value > 22",
        ] {
            assert!(selects(filter, &telemetry), "{filter}");
        }
        // What is missing is neither equal nor unlike anything, and lists are not entered.
        for filter in [
            "subject = ''",
            "subject != 'x'",
            "NOT subject = 'x'",
            "$body.cold = 1",
            "$body.heat.value = '21.5'",
            "$body.list = 1",
            "id = 'M1'",
        ] {
            assert!(!selects(filter, &telemetry), "{filter}");
        }
        let update = envelope(&[("subject", "floor1/relationships/r")], "no JSON");
        assert!(selects("STARTS_WITH(subject, 'floor1/')", &update));
        assert!(!selects("$body.a = 1 OR dataschema = 'x' OR type = 'x'", &update));
    }
}
