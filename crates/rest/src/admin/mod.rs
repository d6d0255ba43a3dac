//! Health, metrics and live control: `/healthz`, `/readyz`, `/metrics`, and `/_twinhub/…` with the admin key of the data
//! directory. Nothing here is Azure's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::events::{Events, LogDamage};
use base::hosts::{Hosts, Service};
use base::tasks::Tasks;
use base::{Clock, Secret};
use hub::Hubs;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::router::{Door, Fault, RouteInfo, Routes, lacks};
use crate::wire::{Head, Refused, Request, Response};

mod backup;
mod events;
mod messages;
mod metrics;
#[cfg(test)]
mod tests;

pub use backup::Pieces;
pub use metrics::{Family, Kind, Samples};

/// What the door is given of the server.
pub struct Context {
    pub key: Secret,
    pub clock: Clock,
    /// For tests: time may be moved.
    pub allow_clock_control: bool,
    pub hosts: Hosts,
    pub hubs: Hubs,
    pub events: Events,
    pub tasks: Tasks,
    pub metrics: Vec<Family>,
    /// Begins a backup, or says why there is none.
    pub backup: Box<dyn Fn() -> Result<Pieces, String> + Send + Sync>,
    /// Set while every listener accepts and shutdown has not begun.
    pub is_ready: Arc<AtomicBool>,
    /// What keeps the server from doing what it is for, in words that anyone may read.
    pub troubles: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What one should know of it that keeps it from nothing, in such words too.
    pub remarks: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What the server tells of itself: members of the object that `/_twinhub/status` answers.
    pub report: Box<dyn Fn() -> Report + Send + Sync>,
}

pub type Report = Pin<Box<dyn Future<Output = Value> + Send>>;

#[derive(Clone)]
pub struct Admin(Arc<Context>);

impl Admin {
    pub fn new(context: Context) -> Self {
        Self(Arc::new(context))
    }
}

impl Door for Admin {
    type Context = ();
    const NAME: &'static str = "admin";

    fn routes() -> Routes<Self> {
        Routes::new()
            .on("GET", "/healthz", "Health_Get", |_, (), _| async { Response::text(200, "ok\n") })
            .on("GET", "/readyz", "Readiness_Get", readiness)
            .on("GET", "/metrics", "Metrics_Get", metrics::get)
            .on("GET", "/_twinhub/status", "Status_Get", status)
            .on("GET", "/_twinhub/instances", "Instances_List", instances)
            .on("GET", "/_twinhub/events", "Events_Read", events::get)
            .on("POST", "/_twinhub/hubs/{hub}/devices/{id}/messages", "Message_Send", messages::send)
            .on("POST", "/_twinhub/backup", "Backup_Make", backup::make)
            .on("GET", "/_twinhub/clock", "Clock_Get", clock)
            .on("POST", "/_twinhub/clock", "Clock_Advance", advance_clock)
    }

    fn is_open(route: &RouteInfo) -> bool {
        !route.template.starts_with("/_twinhub/")
    }

    async fn authenticate(&self, head: &Head, route: &RouteInfo) -> Result<(), Response> {
        if Self::is_open(route) {
            return Ok(());
        }
        if head.bearer().is_some_and(|key| self.0.key.matches(key)) {
            return Ok(());
        }
        Err(error(401, "Unauthorized", "Give the admin key of the data directory as a bearer token.")
            .header("www-authenticate", "Bearer realm=\"twinhub\"")
            .refusing(Refused::stranger("it did not present the admin key")))
    }

    fn finish(&self, head: &Head, response: Response) -> Response {
        response.header("x-request-id", &head.request_id.to_string())
    }

    fn refuse(&self, _: &Head, fault: Fault) -> Response {
        match fault {
            Fault::UnknownInstance | Fault::UnknownPath => error(404, "NotFound", "There is nothing here."),
            Fault::MethodNotAllowed => error(405, "MethodNotAllowed", "The path knows other methods."),
            Fault::Malformed(malformed) => error(400, "BadRequest", malformed.text()),
            Fault::NotBuilt { operation } => error(404, "NotSupported", &lacks(operation)),
            Fault::BodyTooLarge { .. } => error(413, "BodyTooLarge", "The body is too large."),
            Fault::BodyIncomplete => error(400, "BodyIncomplete", "The body did not arrive in time."),
        }
    }
}

fn error(status: u16, code: &str, message: &str) -> Response {
    Response::json(status, &json!({"error": {"code": code, "message": message}}))
}

/// A server that lost events of the past serves the present as well as any: it is ready, and says what is wrong.
async fn readiness(door: Admin, (): (), _: Request) -> Response {
    if !door.0.is_ready.load(Ordering::Relaxed) {
        return Response::text(503, "not ready\n");
    }
    let troubles = (door.0.troubles)();
    if !troubles.is_empty() {
        return Response::text(503, format!("not ready\n{}\n", troubles.join("\n")));
    }
    let LogDamage { segments, records_lost } = door.0.events.log_damage();
    let mut lines = vec!["ready".to_owned()];
    if segments > 0 {
        lines.push(format!("damaged log segments: {segments}, events lost: at most {records_lost}"));
    }
    lines.extend((door.0.remarks)());
    Response::text(200, format!("{}\n", lines.join("\n")))
}

/// Everything that `twinhub status` shows, in one answer.
async fn status(door: Admin, (): (), request: Request) -> Response {
    let context = &door.0;
    let troubles = (context.troubles)();
    let is_ready = context.is_ready.load(Ordering::Relaxed) && troubles.is_empty();
    let LogDamage { segments, records_lost } = context.events.log_damage();
    let mut body = (context.report)().await;
    body["ready"] = is_ready.into();
    body["troubles"] = troubles.into();
    body["remarks"] = (context.remarks)().into();
    body["log"] = json!({"damagedSegments": segments, "eventsLostAtMost": records_lost});
    body["instances"] = all_instances(context, &request.head).into();
    Response::json(200, &body)
}

async fn instances(door: Admin, (): (), request: Request) -> Response {
    Response::json(200, &json!({ "instances": all_instances(&door.0, &request.head) }))
}

/// Every instance with its own name and the host that answers carry.
fn all_instances(context: &Context, head: &Head) -> Vec<Value> {
    let kind = |service| match service {
        Service::Hub => "hub",
        Service::Provisioning => "provisioning",
        Service::DigitalTwins => "digitalTwins",
        Service::EventHubs => "eventHubs",
        Service::Storage => "storage",
    };
    let row = |(service, name, host, advertised): (Service, String, String, String)| json!({"kind": kind(service), "name": name, "host": host, "advertisedHost": advertised});
    context.hosts.all(&head.dialled()).into_iter().map(row).collect()
}

async fn clock(door: Admin, (): (), _: Request) -> Response {
    Response::json(200, &json!({"now": door.0.clock.now()}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Advance {
    /// Lets so much time pass.
    #[serde(default)]
    advance_seconds: u64,
    /// Sets the wall clock alone, forwards or back.
    #[serde(default)]
    step_seconds: i64,
}

/// Moves time; refused unless the server was started for it.
async fn advance_clock(door: Admin, (): (), request: Request) -> Response {
    if !door.0.allow_clock_control {
        let hint = "Start the server with test.allow_clock_control to move its clock.";
        return error(403, "ClockControlNotAllowed", hint);
    }
    match request.json::<Advance>() {
        Ok(wish) => {
            door.0.clock.step(wish.step_seconds);
            door.0.clock.advance(Duration::from_secs(wish.advance_seconds));
            clock(door, (), request).await
        }
        Err(_) => error(
            400,
            "InvalidBody",
            "The body must be {\"advanceSeconds\": number, \"stepSeconds\": number}.",
        ),
    }
}
