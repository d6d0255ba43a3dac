//! The data plane of Azure Digital Twins (digital-twins.md §§1–7). Hosts choose the instance, bearer tokens the caller.
//! Holds no rules: a handler parses, calls one operation and writes its answer.

mod error;
mod event_routes;
mod models;
mod query;
mod relationships;
mod request;
#[cfg(test)]
mod tests;
mod trace;
mod twins;

use access::directory::Directory;
use access::{Caller, IpFilter, Network, NetworkTarget, TokenError, audiences};
use base::caps;
use base::hosts::{Host, Hosts, Service};
use digital_twins::{Error, Instance, Instances};

use crate::router::{Door, Fault, RouteInfo, Routes};
use crate::wire::{Head, NO_CREDENTIALS, Refused, Request, Response};
use error::WireError;
use request::ApiVersion;
use trace::Trace;

#[derive(Clone)]
pub struct DigitalTwins {
    pub instances: Instances,
    pub directory: Directory,
    pub hosts: Hosts,
}

/// What a handler knows of its request beside the request itself.
pub struct At {
    instance: Instance,
    caller: Caller,
    version: ApiVersion,
    trace: Trace,
}

type Outcome = Result<Response, WireError>;

/// Adds a route whose handler answers with an outcome; refusals and the trace are written here, once.
macro_rules! route {
    ($routes:expr, $method:literal, $template:literal, $operation:literal, $handler:path) => {
        $routes.on($method, $template, $operation, |_: DigitalTwins, at: At, request: Request| async move {
            let trace = at.trace.clone();
            let response = match $handler(at, request).await {
                Ok(response) => response,
                Err(refusal) => refusal.answer(&trace),
            };
            response.header("traceresponse", &trace.response())
        })
    };
}

impl Door for DigitalTwins {
    type Context = At;
    const NAME: &'static str = "digital_twins";

    #[rustfmt::skip]
    fn routes() -> Routes<Self> {
        use access::Permission::{
            DigitalTwinDelete, DigitalTwinQuery, DigitalTwinRead, DigitalTwinTelemetry, DigitalTwinWrite, EventRouteDelete, EventRouteRead,
            EventRouteWrite, ModelDelete, ModelRead, ModelWrite, RelationshipDelete, RelationshipRead, RelationshipWrite,
        };
        let entity = caps::DIGITAL_TWIN_BYTES_MAX;
        let r = Routes::new();
        let r = route!(r, "POST", "/models", "DigitalTwinModels_Add", models::add).requires(ModelWrite).body_max(caps::MODELS_BODY_BYTES_MAX);
        let r = route!(r, "GET", "/models", "DigitalTwinModels_List", models::list).requires(ModelRead);
        let r = route!(r, "GET", "/models/{id}", "DigitalTwinModels_GetById", models::get).requires(ModelRead);
        let r = route!(r, "PATCH", "/models/{id}", "DigitalTwinModels_Update", models::update).requires(ModelWrite).body_max(entity);
        let r = route!(r, "DELETE", "/models/{id}", "DigitalTwinModels_Delete", models::delete).requires(ModelDelete);
        let r = route!(r, "POST", "/query", "Query_QueryTwins", query::query).requires(DigitalTwinQuery).body_max(caps::QUERY_BODY_BYTES_MAX);
        let r = route!(r, "GET", "/digitaltwins/{id}", "DigitalTwins_GetById", twins::get).requires(DigitalTwinRead);
        let r = route!(r, "PUT", "/digitaltwins/{id}", "DigitalTwins_Add", twins::put).requires(DigitalTwinWrite).body_max(entity);
        let r = route!(r, "PATCH", "/digitaltwins/{id}", "DigitalTwins_Update", twins::update).requires(DigitalTwinWrite).body_max(entity);
        let r = route!(r, "DELETE", "/digitaltwins/{id}", "DigitalTwins_Delete", twins::delete).requires(DigitalTwinDelete);
        let r = route!(r, "GET", "/digitaltwins/{id}/components/{component}", "DigitalTwins_GetComponent", twins::get_component).requires(DigitalTwinRead);
        let r = route!(r, "PATCH", "/digitaltwins/{id}/components/{component}", "DigitalTwins_UpdateComponent", twins::update_component).requires(DigitalTwinWrite).body_max(entity);
        let r = route!(r, "POST", "/digitaltwins/{id}/telemetry", "DigitalTwins_SendTelemetry", twins::send_telemetry).requires(DigitalTwinTelemetry).body_max(entity);
        let r = route!(r, "POST", "/digitaltwins/{id}/components/{component}/telemetry", "DigitalTwins_SendComponentTelemetry", twins::send_component_telemetry).requires(DigitalTwinTelemetry).body_max(entity);
        let r = route!(r, "GET", "/digitaltwins/{id}/relationships", "DigitalTwins_ListRelationships", relationships::list).requires(RelationshipRead);
        let r = route!(r, "GET", "/digitaltwins/{id}/incomingrelationships", "DigitalTwins_ListIncomingRelationships", relationships::list_incoming).requires(RelationshipRead);
        let r = route!(r, "GET", "/digitaltwins/{id}/relationships/{relationship}", "DigitalTwins_GetRelationshipById", relationships::get).requires(RelationshipRead);
        let r = route!(r, "PUT", "/digitaltwins/{id}/relationships/{relationship}", "DigitalTwins_AddRelationship", relationships::put).requires(RelationshipWrite).body_max(entity);
        let r = route!(r, "PATCH", "/digitaltwins/{id}/relationships/{relationship}", "DigitalTwins_UpdateRelationship", relationships::update).requires(RelationshipWrite).body_max(entity);
        let r = route!(r, "DELETE", "/digitaltwins/{id}/relationships/{relationship}", "DigitalTwins_DeleteRelationship", relationships::delete).requires(RelationshipDelete);
        let r = route!(r, "GET", "/eventroutes", "EventRoutes_List", event_routes::list).requires(EventRouteRead);
        let r = route!(r, "GET", "/eventroutes/{id}", "EventRoutes_GetById", event_routes::get).requires(EventRouteRead);
        let r = route!(r, "PUT", "/eventroutes/{id}", "EventRoutes_Add", event_routes::put).requires(EventRouteWrite).body_max(entity);
        let r = route!(r, "DELETE", "/eventroutes/{id}", "EventRoutes_Delete", event_routes::delete).requires(EventRouteDelete);
        r.lacks("GET", "/jobs/imports", "ImportJobs_List")
            .lacks("PUT", "/jobs/imports/{id}", "ImportJobs_Add")
            .lacks("GET", "/jobs/imports/{id}", "ImportJobs_GetById")
            .lacks("DELETE", "/jobs/imports/{id}", "ImportJobs_Delete")
            .lacks("POST", "/jobs/imports/{id}/cancel", "ImportJobs_Cancel")
            .lacks("POST", "/jobs/deletions", "DeleteJobs_Add")
            .lacks("GET", "/jobs/deletions", "DeleteJobs_List")
            .lacks("GET", "/jobs/deletions/{id}", "DeleteJobs_GetById")
    }

    /// Instance, token, network, api-version, permission: in this order the service's gateway looks at them.
    async fn authenticate(&self, head: &Head, route: &RouteInfo) -> Result<At, Response> {
        let trace = Trace::of(head);
        self.enter(head, route, trace.clone()).await.map_err(|refusal| refusal.answer(&trace))
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        let refusal = match fault {
            Fault::UnknownInstance => WireError::UnknownInstance,
            Fault::UnknownPath => WireError::UnknownPath,
            Fault::MethodNotAllowed => WireError::MethodNotAllowed,
            Fault::Malformed(malformed) => WireError::Malformed(malformed),
            Fault::NotBuilt { operation } => WireError::NotBuilt(operation),
            Fault::BodyTooLarge { max_bytes } => WireError::BodyTooLarge { max_bytes },
            Fault::BodyIncomplete => WireError::Domain(digital_twins::Error::PayloadInvalid),
        };
        refusal.answer(&Trace::of(head))
    }

    fn finish(&self, head: &Head, response: Response) -> Response {
        let is_traced = response.header_value("traceresponse").is_some();
        let response =
            if is_traced { response } else { response.header("traceresponse", &Trace::of(head).response()) };
        response
            .header("strict-transport-security", "max-age=2592000")
            .header("mise-correlation-id", &head.request_id.to_string())
    }
}

impl DigitalTwins {
    async fn enter(&self, head: &Head, route: &RouteInfo, trace: Trace) -> Result<At, WireError> {
        let instance = self.find(head).ok_or(WireError::UnknownInstance)?;
        let token = head.bearer().ok_or(WireError::Unauthorized(Refused::stranger(NO_CREDENTIALS)))?;
        let caller = self.directory.authenticate_bearer(token, audiences::DIGITAL_TWINS).await;
        let caller = caller.map_err(|error| match error {
            TokenError::Tenant { .. } => WireError::UnknownInstance,
            TokenError::Store(error) => WireError::Domain(error.into()),
            error @ (TokenError::Malformed
            | TokenError::Signature
            | TokenError::Expired { .. }
            | TokenError::NotYetValid { .. }
            | TokenError::Audience { .. }
            | TokenError::Issuer { .. }
            | TokenError::UnknownPrincipal { .. }) => WireError::Unauthorized(Refused::token(&error)),
        })?;
        let is_public = instance.settings().public_network_access;
        let network = Network { is_public, filter: IpFilter::OPEN };
        let reached = network.check(head.peer.remote_address(), NetworkTarget::ServiceApi);
        reached.map_err(WireError::PublicNetworkAccessDisabled)?;
        let version = ApiVersion::of(head)?;
        if let Some(permission) = route.permission {
            caller.require(permission, instance.scope()).map_err(Error::from)?;
        }
        let instance = instance.traced(&trace.parent());
        Ok(At { instance, caller, version, trace })
    }

    fn find(&self, head: &Head) -> Option<Instance> {
        let name = match self.hosts.resolve(&head.host, head.local()) {
            Host::Instance(Service::DigitalTwins, name) => name,
            Host::Instance(..) | Host::UnknownInstance(_) | Host::GlobalProvisioning => return None,
            Host::Unnamed => self.hosts.default_instance(Service::DigitalTwins)?,
        };
        self.instances.find(&name)
    }
}
