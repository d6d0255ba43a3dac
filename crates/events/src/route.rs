//! Which events of an instance go to which endpoint. Kept here because the relay reads it; who may change it, and what makes a
//! route valid, is decided by the service that owns the instance.

use base::{InstanceId, caps};
use query::filter::{self, Filter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Key, Record, Scan, StoreError, Table, table};

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
