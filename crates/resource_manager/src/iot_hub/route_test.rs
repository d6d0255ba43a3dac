//! Trying routes on a message that was never sent (`iothub-service.md` §15.3). What a condition means is `query::route`'s affair;
//! here is what a test message is.

use access::Caller;
use base::json::Object;
use query::SyntaxError;
use query::route::{self, Condition, Message};
use serde_json::Value;

use super::properties;
use super::routing::{self, Route};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;

/// A message as the caller describes it. Nothing of it is looked up.
#[derive(Clone, Debug, Default)]
pub struct TestMessage {
    system: Vec<(String, String)>,
    application: Vec<(String, String)>,
    body: Option<Value>,
    twin: Option<Value>,
}

/// What became of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTest {
    /// `None`: undefined, which routes nothing.
    Truth(Option<bool>),
    NoCondition(SyntaxError),
}

impl TestMessage {
    pub fn new(
        system: impl IntoIterator<Item = (String, String)>,
        application: impl IntoIterator<Item = (String, String)>,
        body: &str,
        twin: Option<Object>,
    ) -> Self {
        let named = |(name, value): (String, String)| (name.trim_start_matches('$').to_owned(), value);
        let system: Vec<_> = system.into_iter().map(named).collect();
        let of = |names: &[&str]| names.iter().find_map(|name| find(&system, name));
        let is_json = route::is_json(
            of(&["contentType", "content-type"]),
            of(&["contentEncoding", "content-encoding"]),
        );
        let body = if is_json { serde_json::from_str(body).ok() } else { None };
        let application = application.into_iter().collect();
        Self { system, application, body, twin: twin.map(Value::Object) }
    }
}

impl Message for TestMessage {
    fn system_property(&self, name: &str) -> Option<&str> {
        find(&self.system, name)
    }

    fn application_property(&self, name: &str) -> Option<&str> {
        find(&self.application, name)
    }

    fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    fn twin(&self) -> Option<&Value> {
        self.twin.as_ref()
    }
}

fn find<'p>(all: &'p [(String, String)], name: &str) -> Option<&'p str> {
    all.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

impl ResourceManager {
    /// `IotHubResource_TestAllRoutes`: the routes of one source, or of every one, that the message would take, as they were put.
    pub async fn test_routes(
        &self,
        caller: &Caller,
        id: &ResourceId,
        source: Option<&str>,
        message: &TestMessage,
    ) -> Result<Vec<Value>, Error> {
        const TEST: &str = "Microsoft.Devices/iotHubs/routing/$testall/Action";
        self.allow(caller, TEST, &id.scope(), &id.group.subscription).await?;
        let source = source.map(routing::source).transpose()?;
        let resource = self.must_get(id).await?;
        let routes = routing::routes(&properties(&resource)?.sections)?;
        let matches = |route: &Route| {
            route.is_enabled
                && source.is_none_or(|source| route.source == source)
                && Condition::parse(&route.condition)
                    .is_ok_and(|condition| condition.truth(message) == Some(true))
        };
        Ok(routes.into_iter().filter(matches).map(|route| route.sent).collect())
    }

    /// `IotHubResource_TestRoute`: a route that the hub need not have.
    pub async fn test_route(
        &self,
        caller: &Caller,
        id: &ResourceId,
        condition: &str,
        message: &TestMessage,
    ) -> Result<RouteTest, Error> {
        const TEST: &str = "Microsoft.Devices/iotHubs/routing/$testnew/Action";
        self.allow(caller, TEST, &id.scope(), &id.group.subscription).await?;
        self.must_get(id).await?;
        Ok(match Condition::parse(condition) {
            Ok(condition) => RouteTest::Truth(condition.truth(message)),
            Err(error) => RouteTest::NoCondition(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(system: &[(&str, &str)], body: &str) -> TestMessage {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let twin = json!({"tags": {"site": "north"}}).as_object().cloned();
        TestMessage::new(system.iter().map(owned), [("a".to_owned(), "b".to_owned())], body, twin)
    }

    fn truth(condition: &str, message: &TestMessage) -> Option<bool> {
        Condition::parse(condition).unwrap().truth(message)
    }

    #[test]
    fn a_body_is_looked_into_where_its_properties_say_that_it_is_json() {
        let said = [("contentType", "application/json"), ("contentEncoding", "utf-8")];
        let also_said = [("$content-type", "application/json"), ("Content-Encoding", "UTF-8")];
        for system in [said, also_said] {
            assert_eq!(truth("$body.t > 5", &message(&system, "{\"t\": 6}")), Some(true), "{system:?}");
        }
        assert_eq!(truth("$body.t > 5", &message(&said[..1], "{\"t\": 6}")), None);
        assert_eq!(truth("$body.t > 5", &message(&said, "t is 6")), None);
    }

    #[test]
    fn properties_and_the_twin_are_those_that_were_described() {
        let message = message(&[("connectionDeviceId", "d")], "");
        for condition in ["A = 'b'", "$connectionDeviceId = 'd'", "$twin.tags.site = 'north'"] {
            assert_eq!(truth(condition, &message), Some(true), "{condition}");
        }
    }
}
