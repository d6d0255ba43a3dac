//! The front door: chooses a service by host name, and at unnamed hosts by path. It knows which services exist and nothing else of them.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use base::hosts::{self, Host, Hosts, Service};
use base::{Dismissal, Refusals};
use bytes::Bytes;
use http::StatusCode;
use http::header::STRICT_TRANSPORT_SECURITY;
use tracing::Instrument;
use uuid::Uuid;

use crate::body::{self, AtHand, RequestBody};
use crate::counted::Counted;
use crate::router::{Door, Fault, RouteInfo, Routes};
use crate::wire::{Head, Refused, Response};

pub type Body<'a> = Box<dyn RequestBody + 'a>;
pub type Served<'a> = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

/// A door with its routes, behind one type, so that the front can hold several.
pub trait AnyDoor: Send + Sync {
    fn name(&self) -> &'static str;
    fn knows_path(&self, head: &Head) -> bool;
    fn knows_beginning(&self, head: &Head) -> bool;
    fn routes(&self) -> Vec<RouteInfo>;
    fn refuse(&self, head: &Head, fault: Fault) -> Response;
    /// What is counted of its answers.
    fn counted(&self) -> Counted;
    fn serve<'a>(&'a self, head: Head, body: Body<'a>) -> Served<'a>;
}

struct Mounted<D: Door> {
    door: D,
    routes: Routes<D>,
}

impl<D: Door> AnyDoor for Mounted<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn knows_path(&self, head: &Head) -> bool {
        self.routes.knows_path(head)
    }

    fn knows_beginning(&self, head: &Head) -> bool {
        self.routes.knows_beginning(&head.segments)
    }

    fn routes(&self) -> Vec<RouteInfo> {
        self.routes.describe().collect()
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        let response = self.door.finish(head, self.door.refuse(head, fault));
        self.routes.note_unknown(&response);
        response
    }

    fn counted(&self) -> Counted {
        self.routes.counted()
    }

    fn serve<'a>(&'a self, head: Head, mut body: Body<'a>) -> Served<'a> {
        let read = move |max| async move { body::read(&mut *body, max).await };
        Box::pin(self.routes.serve(&self.door, head, read))
    }
}

pub fn mount<D: Door>(door: D) -> Arc<dyn AnyDoor> {
    Arc::new(Mounted { door, routes: D::routes() })
}

/// All doors of one server.
#[derive(Clone)]
pub struct Front {
    pub hosts: Hosts,
    pub hub: Arc<dyn AnyDoor>,
    pub provisioning: Arc<dyn AnyDoor>,
    pub digital_twins: Arc<dyn AnyDoor>,
    pub resource_manager: Arc<dyn AnyDoor>,
    pub entra: Arc<dyn AnyDoor>,
    pub graph: Arc<dyn AnyDoor>,
    pub storage: Arc<dyn AnyDoor>,
    pub admin: Arc<dyn AnyDoor>,
    pub refusals: Refusals,
}

impl Front {
    /// What is counted of each service's answers.
    pub fn counted(&self) -> Vec<Counted> {
        let doors = [
            &self.hub,
            &self.provisioning,
            &self.digital_twins,
            &self.resource_manager,
            &self.entra,
            &self.graph,
            &self.storage,
            &self.admin,
        ];
        doors.iter().map(|door| door.counted()).collect()
    }

    /// Answers one request.
    pub async fn serve<'a>(&'a self, head: Head, body: Body<'a>) -> Response {
        let is_everybodys = is_everybodys(&head.host);
        // Whatever is said about the request carries its id; of all levels, so that it is there wherever anything is.
        let span = tracing::error_span!("request", request_id = %head.request_id);
        let (mut response, dismissal) = self.choose(head, body).instrument(span).await;
        if let Some(dismissal) = dismissal {
            self.refusals.tell(&dismissal);
        }
        if is_everybodys {
            response.headers.remove(STRICT_TRANSPORT_SECURITY);
        }
        response
    }

    async fn choose<'a>(&'a self, head: Head, body: Body<'a>) -> (Response, Option<Dismissal>) {
        let host = self.hosts.resolve(&head.host, head.local());
        let door = match &host {
            Host::Instance(service, _) => self.door_of(*service),
            Host::UnknownInstance(service) => {
                return (self.door_of(*service).refuse(&head, Fault::UnknownInstance), None);
            }
            Host::GlobalProvisioning => &self.provisioning,
            Host::Unnamed => self.choose_by_path(&head),
        };
        let (peer, request_id) = (head.peer.clone(), head.request_id);
        let response = door.serve(head, body).await;
        let is_refusal = matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let dismissal = (is_refusal || response.refused.is_some()).then(|| Dismissal {
            peer: peer.remote_address(),
            ..self.dismissal(door.name(), &host, request_id, &response)
        });
        (response, dismissal)
    }

    /// What is told of somebody who was kept out. The id is the one that the answer carries.
    fn dismissal(&self, door: &'static str, host: &Host, request_id: Uuid, response: &Response) -> Dismissal {
        let default = |service| self.hosts.default_instance(service);
        let service = match (host, door) {
            (Host::Instance(_, name), _) => Some(name.clone()),
            (_, "hub") => default(Service::Hub),
            (_, "provisioning") => default(Service::Provisioning),
            (_, "digital_twins") => default(Service::DigitalTwins),
            _ => None,
        };
        let unexplained = Refused::stranger("it may not");
        let refused = response.refused.as_deref().unwrap_or(&unexplained);
        let said = |name| response.header_value(name).map(str::to_owned);
        let request_id = said("x-ms-request-id").unwrap_or_else(|| request_id.to_string());
        let correlation_id = said("x-ms-correlation-request-id").filter(|id| *id != request_id);
        Dismissal {
            door,
            service: service.unwrap_or_else(|| door.to_owned()),
            who: refused.who.clone(),
            peer: None,
            why: refused.why,
            lacks: refused.lacks.clone(),
            request_id: Some(request_id),
            correlation_id,
        }
    }

    /// Answers a request whose body is at hand: tests.
    pub async fn answer(&self, head: Head, body: Bytes) -> Response {
        self.serve(head, Box::new(AtHand::new(body))).await
    }

    fn door_of(&self, service: Service) -> &Arc<dyn AnyDoor> {
        match service {
            Service::Hub => &self.hub,
            Service::Provisioning => &self.provisioning,
            Service::DigitalTwins => &self.digital_twins,
            // Event hubs have no face of their own over HTTPS.
            Service::EventHubs => &self.resource_manager,
            Service::Storage => &self.storage,
        }
    }

    /// Hub and Digital Twins both own `/digitaltwins/{id}`; their api-versions are disjoint, so that decides.
    fn choose_by_path(&self, head: &Head) -> &Arc<dyn AnyDoor> {
        let first = head.segments.first().map(|segment| segment.to_ascii_lowercase());
        if first.as_deref() == Some("digitaltwins") && !is_digital_twins_version(head.api_version()) {
            return &self.hub;
        }
        let order = [
            &self.admin,
            &self.entra,
            &self.graph,
            &self.digital_twins,
            &self.hub,
            &self.provisioning,
            &self.resource_manager,
        ];
        let with_path = order.iter().find(|door| door.knows_path(head));
        let with_beginning = || order.iter().find(|door| door.knows_beginning(head));
        with_path.or_else(with_beginning).unwrap_or(&&self.resource_manager)
    }
}

/// A browser that were told so of `localhost` or an address would refuse every other server there that speaks plain HTTP.
fn is_everybodys(host: &str) -> bool {
    let name = hosts::strip_port(host).to_ascii_lowercase();
    hosts::is_local_domain(&name) || name.parse::<IpAddr>().is_ok()
}

/// Versions of the Digital Twins data plane (`digital-twins.md` §1.3). Anything unknown goes there too, since only the hub's
/// versions of this path are a closed set.
fn is_digital_twins_version(version: Option<&str>) -> bool {
    const HUB_VERSIONS: &[&str] = &["2020-05-31-preview", "2020-09-30", "2021-04-12", "2024-03-31"];
    version.is_none_or(|version| !HUB_VERSIONS.contains(&version))
}
