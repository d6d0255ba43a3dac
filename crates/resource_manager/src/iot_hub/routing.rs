//! What a hub's section `routing` may hold (`iothub-service.md` §11.1), and how its endpoints are. The section is shown as it was
//! sent, with the ids that endpoints are given.

use access::Caller;
use base::caps;
use query::route::Condition;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::record::Sku;
use super::{properties, rules};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;

const ENDPOINT_KINDS: [&str; 5] =
    ["serviceBusQueues", "serviceBusTopics", "eventHubs", "storageContainers", "cosmosDBSqlContainers"];
/// The built-in endpoint, to which routes may lead too.
const EVENTS: &str = "events";
const RESERVED: [&str; 4] = [EVENTS, "operationsMonitoringEvents", "fileNotifications", "$default"];
/// What routes may be over. The last two are of previews, and the service takes them all the same.
const SOURCES: [&str; 8] = [
    "DeviceMessages",
    "TwinChangeEvents",
    "DeviceLifecycleEvents",
    "DeviceJobLifecycleEvents",
    "DeviceConnectionStateEvents",
    "DigitalTwinChangeEvents",
    "MqttBrokerMessages",
    "Invalid",
];

/// How an endpoint does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    pub endpoint_id: String,
    /// `unknown` until something was sent there.
    pub status: &'static str,
}

/// A route as it was put, and what of it is asked of every message.
pub(super) struct Route {
    pub(super) source: &'static str,
    pub(super) condition: String,
    pub(super) is_enabled: bool,
    pub(super) sent: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RouteBody {
    name: Option<String>,
    source: Option<String>,
    condition: Option<String>,
    endpoint_names: Option<Vec<String>>,
    is_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnrichmentBody {
    key: Option<String>,
    value: Option<String>,
    endpoint_names: Option<Vec<String>>,
}

impl ResourceManager {
    /// `IotHubResource_GetEndpointHealth`.
    pub async fn endpoint_health(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<EndpointHealth>, Error> {
        const READ: &str = "Microsoft.Devices/iotHubs/routingEndpointsHealth/Read";
        self.allow(caller, READ, &id.scope(), &id.group.subscription).await?;
        let resource = self.must_get(id).await?;
        let section = properties(&resource)?.sections.get("routing").cloned().unwrap_or_default();
        let endpoints = ENDPOINT_KINDS.into_iter().flat_map(|kind| elements(&section["endpoints"], kind));
        let health = endpoints.map(|endpoint| EndpointHealth {
            endpoint_id: endpoint["id"].as_str().unwrap_or_default().to_owned(),
            // Nothing is sent to endpoints of hubs yet.
            status: "unknown",
        });
        Ok(health.collect())
    }
}

/// The routes of a hub, without the one that takes what no other takes.
pub(super) fn routes(sections: &Map<String, Value>) -> Result<Vec<Route>, Error> {
    let section = sections.get("routing").unwrap_or(&Value::Null);
    let bodies: Vec<RouteBody> = list(section, "routes")?;
    let sent = elements(section, "routes").cloned();
    let route = |(body, sent): (RouteBody, Value)| {
        Ok(Route {
            source: source(body.source.as_deref().unwrap_or_default())?,
            condition: body.condition.unwrap_or_default(),
            is_enabled: body.is_enabled.unwrap_or(true),
            sent,
        })
    };
    bodies.into_iter().zip(sent).map(route).collect()
}

/// A source in Azure's spelling.
pub(super) fn source(text: &str) -> Result<&'static str, Error> {
    let found = SOURCES.iter().find(|known| known.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| Error::bad_request(format!("The routing source '{text}' is unknown.")))
}

/// Refuses a section that no hub would take, and gives endpoints that are new an id.
pub(super) fn complete(
    sections: &mut Map<String, Value>,
    old: &Map<String, Value>,
    sku: &Sku,
) -> Result<(), Error> {
    let Some(section) = sections.get_mut("routing").filter(|section| section.is_object()) else {
        return Err(Error::bad_request("The property 'routing' must be an object."));
    };
    let (endpoints_max, routes_max, enrichments_max) = match rules::tier(&sku.name) {
        "Free" => (1, 5, 2),
        _ => (caps::ROUTING_ENDPOINTS_MAX, caps::ROUTES_MAX, caps::ENRICHMENTS_MAX),
    };
    let known = old.get("routing").map_or(&Value::Null, |routing| &routing["endpoints"]);
    let names = complete_endpoints(&mut section["endpoints"], known)?;
    must_fit("routing.endpoints", names.len(), endpoints_max)?;
    let routes: Vec<RouteBody> = list(section, "routes")?;
    must_fit("routing.routes", routes.len(), routes_max)?;
    for (at, route) in routes.iter().enumerate() {
        route.check(&names)?;
        let is_same = |other: &RouteBody| other.name().eq_ignore_ascii_case(route.name());
        if routes[..at].iter().any(is_same) {
            return Err(Error::bad_request(format!("The route '{}' is given twice.", route.name())));
        }
    }
    let fallback: Option<RouteBody> = optional(section, "fallbackRoute")?;
    if let Some(fallback) = fallback {
        must_be_condition("$fallback", fallback.condition.as_deref())?;
        must_lead_somewhere("fallback route", fallback.endpoint_names.as_deref(), &names)?;
    }
    let enrichments: Vec<EnrichmentBody> = list(section, "enrichments")?;
    must_fit("routing.enrichments", enrichments.len(), enrichments_max)?;
    enrichments.iter().try_for_each(|enrichment| enrichment.check(&names))
}

/// The names of the endpoints.
fn complete_endpoints(endpoints: &mut Value, known: &Value) -> Result<Vec<String>, Error> {
    if !endpoints.is_object() {
        *endpoints = json!({});
    }
    let mut names: Vec<String> = Vec::new();
    for kind in ENDPOINT_KINDS {
        if endpoints[kind].is_null() {
            endpoints[kind] = json!([]);
        }
        let Some(elements) = endpoints[kind].as_array_mut() else {
            return Err(Error::bad_request(format!(
                "The property 'routing.endpoints.{kind}' must be a list."
            )));
        };
        for endpoint in elements {
            let name = endpoint["name"].as_str().unwrap_or_default().to_owned();
            must_be_name("endpoint", &name)?;
            let is_same = |other: &&str| other.eq_ignore_ascii_case(&name);
            if RESERVED.iter().any(is_same) || names.iter().map(String::as_str).any(|other| is_same(&other)) {
                return Err(Error::bad_request(format!("The endpoint name '{name}' is taken already.")));
            }
            if endpoint["id"].as_str().is_none_or(str::is_empty) {
                endpoint["id"] = id_of(known, kind, &name).into();
            }
            names.push(name);
        }
    }
    Ok(names)
}

/// The id that an endpoint has had, or a new one.
fn id_of(known: &Value, kind: &str, name: &str) -> String {
    let is_it = |known: &&Value| known["name"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name));
    let known = elements(known, kind).find(is_it).and_then(|known| known["id"].as_str());
    known.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

fn elements<'v>(of: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    of[name].as_array().into_iter().flatten()
}

fn list<T: serde::de::DeserializeOwned>(section: &Value, name: &str) -> Result<Vec<T>, Error> {
    Ok(optional(section, name)?.unwrap_or_default())
}

fn optional<T: serde::de::DeserializeOwned>(section: &Value, name: &str) -> Result<Option<T>, Error> {
    let unreadable =
        |error| Error::bad_request(format!("The property 'routing.{name}' cannot be read: {error}."));
    Option::deserialize(&section[name]).map_err(unreadable)
}

fn must_fit(path: &str, count: usize, most: usize) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "The property '{path}' holds {count} elements; this edition allows {most}."
    )))
}

fn must_be_name(what: &str, name: &str) -> Result<(), Error> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if (1..=caps::ROUTE_NAME_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(is_fine) {
        return Ok(());
    }
    let most = caps::ROUTE_NAME_CHARACTERS_MAX;
    Err(Error::bad_request(format!(
        "The name '{name}' of a routing {what} must have 1 to {most} letters, digits, '-', '.' and '_'."
    )))
}

fn must_be_condition(route: &str, condition: Option<&str>) -> Result<(), Error> {
    let Err(wrong) = Condition::parse(condition.unwrap_or_default()) else { return Ok(()) };
    let (line, column) = (wrong.line, wrong.position + 1);
    Err(Error::bad_request(format!(
        "The condition of the route '{route}' is wrong at line {line}, column {column}: {}.",
        wrong.message
    )))
}

fn must_lead_somewhere(what: &str, to: Option<&[String]>, endpoints: &[String]) -> Result<(), Error> {
    let to = to.unwrap_or_default();
    let is_there = |name: &String| {
        name.eq_ignore_ascii_case(EVENTS) || endpoints.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    match to.iter().find(|name| !is_there(name)) {
        Some(name) => {
            Err(Error::bad_request(format!("The {what} leads to the endpoint '{name}', which is not there.")))
        }
        None if to.is_empty() => Err(Error::bad_request(format!("The {what} leads to no endpoint."))),
        None => Ok(()),
    }
}

impl RouteBody {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn check(&self, endpoints: &[String]) -> Result<(), Error> {
        let name = self.name();
        must_be_name("route", name)?;
        source(self.source.as_deref().unwrap_or_default())?;
        must_be_condition(name, self.condition.as_deref())?;
        must_lead_somewhere(&format!("route '{name}'"), self.endpoint_names.as_deref(), endpoints)
    }
}

impl EnrichmentBody {
    fn check(&self, endpoints: &[String]) -> Result<(), Error> {
        let key = self.key.as_deref().unwrap_or_default();
        must_be_name("enrichment", key)?;
        if self.value.as_deref().is_none_or(str::is_empty) {
            return Err(Error::bad_request(format!("The enrichment '{key}' has no value.")));
        }
        must_lead_somewhere(&format!("enrichment '{key}'"), self.endpoint_names.as_deref(), endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(routing: Value, old: Value, sku: &str) -> Result<Value, Error> {
        let mut sections = Map::from_iter([("routing".to_owned(), routing)]);
        let old = Map::from_iter([("routing".to_owned(), old)]);
        complete(&mut sections, &old, &Sku { name: sku.into(), capacity: 1 })?;
        Ok(sections.remove("routing").unwrap())
    }

    fn with_hubs(names: &[&str]) -> Value {
        let hubs: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"endpoints": {"eventHubs": hubs}})
    }

    #[test]
    fn an_endpoint_keeps_the_id_that_it_was_given() {
        let first = completed(with_hubs(&["one"]), json!({}), "S1").unwrap();
        let id = first["endpoints"]["eventHubs"][0]["id"].as_str().unwrap();
        assert_eq!(id.len(), 36);
        let second = completed(with_hubs(&["two", "ONE"]), first.clone(), "S1").unwrap();
        assert_eq!(second["endpoints"]["eventHubs"][1]["id"], id);
        assert_ne!(second["endpoints"]["eventHubs"][0]["id"], id);
        assert_eq!(second["endpoints"]["storageContainers"], json!([]));
    }

    #[test]
    fn routes_lead_from_known_sources_to_endpoints_that_are_there() {
        let with_route = |route: Value| {
            let mut routing = with_hubs(&["one"]);
            routing["routes"] = json!([route]);
            completed(routing, json!({}), "S1")
        };
        for (source, endpoint) in [("devicemessages", "ONE"), ("TwinChangeEvents", "events")] {
            let route =
                json!({"name": "r", "source": source, "endpointNames": [endpoint], "isEnabled": true});
            assert!(with_route(route).is_ok(), "{source} {endpoint}");
        }
        for (route, why) in [
            (json!({"name": "a b", "source": "DeviceMessages", "endpointNames": ["one"]}), "'a b'"),
            (json!({"name": "r", "source": "Nothing", "endpointNames": ["one"]}), "'Nothing'"),
            (json!({"name": "r", "source": "DeviceMessages", "endpointNames": ["two"]}), "'two'"),
            (json!({"name": "r", "source": "DeviceMessages", "endpointNames": []}), "no endpoint"),
            (json!("r"), "cannot be read"),
            (
                json!({"name": "r", "source": "DeviceMessages", "condition": "a =\n 'b", "endpointNames": ["one"]}),
                "line 2, column 2",
            ),
        ] {
            let refused = with_route(route).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn numbers_and_names_are_held_to_their_limits() {
        let numbered = |count: usize| (0..count).map(|at| format!("e{at}")).collect::<Vec<_>>();
        for (sku, most) in [("F1", 1), ("B1", 10), ("S3", 10)] {
            for (count, fits) in [(most, true), (most + 1, false)] {
                let names = numbered(count);
                let routing = with_hubs(&names.iter().map(String::as_str).collect::<Vec<_>>());
                assert_eq!(completed(routing, json!({}), sku).is_ok(), fits, "{sku} {count}");
            }
        }
        let longest = "n".repeat(caps::ROUTE_NAME_CHARACTERS_MAX);
        assert!(completed(with_hubs(&[&longest]), json!({}), "S1").is_ok());
        for bad in ["", "Events", "a/b", &format!("{longest}n")] {
            assert!(completed(with_hubs(&[bad]), json!({}), "S1").is_err(), "{bad}");
        }
        assert!(completed(with_hubs(&["a", "A"]), json!({}), "S1").is_err());
        let route = |at: usize| json!({"name": format!("r{at}"), "source": "DeviceMessages", "endpointNames": ["events"]});
        let routes = |count: usize| json!({"routes": (0..count).map(route).collect::<Vec<_>>()});
        assert!(completed(routes(caps::ROUTES_MAX), json!({}), "S1").is_ok());
        assert!(completed(routes(caps::ROUTES_MAX + 1), json!({}), "S1").is_err());
        assert!(completed(json!({"routes": [route(1), route(1)]}), json!({}), "S1").is_err(), "twice");
        let enrichment = json!({"key": "k", "value": "v", "endpointNames": ["events"]});
        for (count, fits) in [(caps::ENRICHMENTS_MAX, true), (caps::ENRICHMENTS_MAX + 1, false)] {
            let enrichments = json!({"enrichments": vec![enrichment.clone(); count]});
            assert_eq!(completed(enrichments, json!({}), "S1").is_ok(), fits);
        }
    }
}
