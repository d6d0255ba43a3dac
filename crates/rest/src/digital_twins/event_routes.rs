//! `/eventroutes`.

use digital_twins::{Error, EventRoute, EventRouteId, NewEventRoute};
use serde::{Deserialize, Serialize};

use super::request::{continuation, members, next_link, page_max};
use super::{At, Outcome};
use crate::wire::{Request, Response};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutBody {
    endpoint_name: Option<String>,
    filter: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteBody<'a> {
    id: &'a str,
    endpoint_name: &'a str,
    filter: &'a str,
}

impl<'a> From<&'a EventRoute> for RouteBody<'a> {
    fn from(route: &'a EventRoute) -> Self {
        Self { id: &route.id, endpoint_name: &route.endpoint_name, filter: &route.filter }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListBody<'a> {
    value: Vec<RouteBody<'a>>,
    next_link: Option<String>,
}

pub(super) async fn put(at: At, request: Request) -> Outcome {
    let id = id(&request, Error::EventRouteIdInvalid)?;
    let body: PutBody = members(&request)?;
    let endpoint_name = body.endpoint_name.ok_or(Error::EventRouteEndpointInvalid)?;
    let filter = body.filter.unwrap_or_default();
    at.instance.put_event_route(&at.caller, &id, &NewEventRoute { endpoint_name, filter }).await?;
    Ok(Response::empty(204))
}

pub(super) async fn get(at: At, request: Request) -> Outcome {
    let id = id(&request, Error::EventRouteNotFound)?;
    let route = at.instance.get_event_route(&at.caller, &id).await?;
    Ok(Response::json(200, &RouteBody::from(&route)))
}

pub(super) async fn list(at: At, request: Request) -> Outcome {
    let (page_max, continuation) = (page_max(&request)?, continuation(&request));
    let page = at.instance.list_event_routes(&at.caller, page_max, continuation.as_ref()).await?;
    let value = page.items.iter().map(RouteBody::from).collect();
    Ok(Response::json(200, &ListBody { value, next_link: next_link(&request, page.next.as_ref()) }))
}

pub(super) async fn delete(at: At, request: Request) -> Outcome {
    let id = id(&request, Error::EventRouteNotFound)?;
    at.instance.delete_event_route(&at.caller, &id).await?;
    Ok(Response::empty(204))
}

/// No route can have an id that is none, so only PUT tells what is wrong with it.
fn id(request: &Request, otherwise: Error) -> Result<EventRouteId, Error> {
    request.param("id").parse().map_err(|_| otherwise)
}
