//! Event routes: which events of the instance go to which of its endpoints. Called by the door; the relay of `events` reads
//! what is stored here. A route is accepted only if its endpoint is ready and its filter can be parsed.

use access::{Caller, Permission};
use base::{Continuation, Meter, Page, caps};
use events::{Endpoint, Route};
use query::filter::Filter;
use serde::{Deserialize, Serialize};
use store::{Batch, CommitError, Counter, Key, Record, Scan, retry_on_conflict};

use crate::{Error, EventRouteId, Instance};

/// What a caller says of a route beside its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEventRoute {
    pub endpoint_name: String,
    pub filter: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRoute {
    pub id: String,
    pub endpoint_name: String,
    pub filter: String,
}

#[derive(Serialize, Deserialize)]
struct Position {
    after: EventRouteId,
}

impl From<Route> for EventRoute {
    fn from(route: Route) -> Self {
        Self { id: route.id, endpoint_name: route.endpoint, filter: route.filter }
    }
}

impl Instance {
    /// `EventRoutes_Add`: creates the route or replaces it.
    pub async fn put_event_route(
        &self,
        caller: &Caller,
        id: &EventRouteId,
        route: &NewEventRoute,
    ) -> Result<(), Error> {
        caller.require(Permission::EventRouteWrite, self.scope())?;
        self.charge(Meter::EventRoute)?;
        retry_on_conflict(async || {
            let endpoint = Key::new([self.id().as_str(), &route.endpoint_name]);
            if self.store().get::<Endpoint>(&endpoint).await?.is_none() {
                return Err(Error::EventRouteEndpointInvalid);
            }
            Filter::parse(&route.filter)
                .map_err(|error| Error::EventRouteFilterInvalid(error.to_string()))?;
            let new = Route {
                instance: self.id().clone(),
                id: id.to_string(),
                endpoint: route.endpoint_name.clone(),
                filter: route.filter.clone(),
            };
            let mut batch = Batch::default();
            batch.guard_exists::<Endpoint>(endpoint);
            if let Some(old) = self.store().get::<Route>(&new.key()).await? {
                batch.add(self.routes_to(&old.record.endpoint), -1, ROUTES_MAX);
                batch.replace(&old, &new);
            } else {
                batch.insert(&new);
                batch.add(events::route::count(self.id()), 1, ROUTES_MAX);
            }
            batch.add(self.routes_to(&new.endpoint), 1, ROUTES_MAX);
            match self.commit(batch).await {
                Ok(_) => Ok(()),
                Err(CommitError::CounterLimit { max, .. }) => {
                    Err(Error::LimitExceeded(format!("The number of event routes cannot exceed {max}.")))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// `EventRoutes_GetById`.
    pub async fn get_event_route(&self, caller: &Caller, id: &EventRouteId) -> Result<EventRoute, Error> {
        caller.require(Permission::EventRouteRead, self.scope())?;
        self.charge(Meter::EventRoute)?;
        let stored = self.store().get::<Route>(&self.route_key(id)).await?;
        stored.map(|stored| stored.record.into()).ok_or(Error::EventRouteNotFound)
    }

    /// `EventRoutes_List`, by id.
    pub async fn list_event_routes(
        &self,
        caller: &Caller,
        page_max: Option<usize>,
        continuation: Option<&Continuation>,
    ) -> Result<Page<EventRoute>, Error> {
        caller.require(Permission::EventRouteRead, self.scope())?;
        self.charge(Meter::EventRoute)?;
        let position = continuation.map(Continuation::decode::<Position>).transpose();
        let position = position.map_err(|_| Error::ContinuationInvalid)?;
        let after = position.map(|position| self.route_key(&position.after));
        let limit = page_max.unwrap_or(caps::MODEL_PAGE).clamp(1, caps::MODEL_PAGE);
        let scan = Scan::new(Key::instance(self.id()), limit + 1).after(after);
        let mut found = self.store().scan::<Route>(scan).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| has_more).and_then(|last| last.record.id.parse().ok());
        let next = last.map(|after| Continuation::encode(&Position { after }));
        Ok(Page { items: found.into_iter().map(|stored| stored.record.into()).collect(), next })
    }

    /// `EventRoutes_Delete`.
    pub async fn delete_event_route(&self, caller: &Caller, id: &EventRouteId) -> Result<(), Error> {
        caller.require(Permission::EventRouteDelete, self.scope())?;
        self.charge(Meter::EventRoute)?;
        retry_on_conflict(async || {
            let stored = self.store().get::<Route>(&self.route_key(id)).await?;
            let old = stored.ok_or(Error::EventRouteNotFound)?;
            let mut batch = Batch::default();
            batch.delete(&old);
            batch.add(events::route::count(self.id()), -1, ROUTES_MAX);
            batch.add(self.routes_to(&old.record.endpoint), -1, ROUTES_MAX);
            self.commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// Closes an endpoint that is to be deleted, with `batch`, unless routes lead to it: their ids. No route can come to lead
    /// there afterwards, and `batch` fails should one come to before it is committed.
    pub async fn close_endpoint(&self, endpoint: &str, batch: &mut Batch) -> Result<Vec<String>, Error> {
        let scan = Scan::new(Key::instance(self.id()), caps::EVENT_ROUTES_MAX);
        let routes = self.store().scan::<Route>(scan).await?;
        let leading = routes.into_iter().filter(|route| route.record.endpoint == endpoint);
        batch.expect_zero(self.routes_to(endpoint));
        batch.remove::<Endpoint>(Key::new([self.id().as_str(), endpoint]));
        Ok(leading.map(|route| route.record.id).collect())
    }

    fn route_key(&self, id: &EventRouteId) -> Key {
        Key::new([self.id().as_str(), id.as_str()])
    }

    /// How many routes lead to an endpoint.
    fn routes_to(&self, endpoint: &str) -> Counter {
        Counter::new(self.id(), format!("event_routes/{endpoint}"))
    }
}

#[expect(clippy::cast_possible_wrap, reason = "six")]
const ROUTES_MAX: i64 = caps::EVENT_ROUTES_MAX as i64;
