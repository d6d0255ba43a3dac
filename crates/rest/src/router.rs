//! Routes as data: a method, a path template and the name of Azure's operation. Keywords match without case, parameters keep theirs.
//! A door lists its routes, says how it authenticates and how it refuses; the pipeline here does the rest in that order, so that
//! no body is read before its sender is known.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use access::Permission;
use base::caps;
use base::measure::{Histogram, REQUEST_MICROS, Stopwatch};
use http::{Method, StatusCode};
use tokio::sync::Semaphore;

use crate::counted::{Answers, Counted};
use crate::websocket;
use crate::wire::{Head, Malformed, Request, Response};

pub type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

type Handler<D> = Box<dyn Fn(D, <D as Door>::Context, Request) -> Answer + Send + Sync>;

/// One service's face over HTTP.
pub trait Door: Clone + Send + Sync + Sized + 'static {
    /// What authentication yields: usually the instance and its caller.
    type Context: Send + 'static;
    /// As the log and `/metrics` call the service.
    const NAME: &'static str;

    fn routes() -> Routes<Self>;

    /// The method that a request means.
    fn method(head: &Head) -> &str {
        head.method.as_str()
    }

    /// Whether a route is answered to anyone. Its body is then read before anyone has proved anything, so it must be small.
    fn is_open(_route: &RouteInfo) -> bool {
        false
    }

    /// Who calls, which instance is meant, and whether the caller may do what the route says that it needs. Sees no body.
    fn authenticate(
        &self,
        head: &Head,
        route: &RouteInfo,
    ) -> impl Future<Output = Result<Self::Context, Response>> + Send;

    /// The service's own refusal of what the pipeline itself finds wrong.
    fn refuse(&self, head: &Head, fault: Fault) -> Response;

    /// Headers that every answer of the service carries.
    fn finish(&self, _head: &Head, response: Response) -> Response {
        response
    }
}

/// What the pipeline finds wrong before a handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The host is like those of the service's instances, and none of them has it.
    UnknownInstance,
    UnknownPath,
    MethodNotAllowed,
    Malformed(Malformed),
    /// Azure has the operation, and this server does not yet.
    NotBuilt {
        operation: &'static str,
    },
    BodyTooLarge {
        max_bytes: usize,
    },
    /// The body ended early or came too slowly.
    BodyIncomplete,
}

/// A route's description, without its handler.
#[derive(Clone, Copy, Debug)]
pub struct RouteInfo {
    pub method: &'static str,
    /// `/twins/{id}/modules/{module_id}`; one `{*rest}` takes as many segments as the others leave, which may be none.
    pub template: &'static str,
    /// Azure's operation id, as in the published operation lists.
    pub operation: &'static str,
    /// What the caller must be allowed, where that is known before the body is. The operation itself asks again.
    pub permission: Option<Permission>,
    pub body_bytes_max: usize,
    /// Whether this server has the operation.
    pub is_built: bool,
}

struct Route<D: Door> {
    info: RouteInfo,
    parts: Vec<Part>,
    behind: Behind<D>,
    answers: Arc<Answers>,
}

/// What a route leads to.
enum Behind<D: Door> {
    Handler(Handler<D>),
    /// Another protocol, whose own door asks who comes.
    WebSocket,
    /// The operation is not built.
    Nothing,
}

/// What a request leads to.
enum Found<'a, D: Door> {
    Operation(&'a Route<D>, &'a Handler<D>, Params),
    WebSocket(&'a Route<D>),
}

enum Part {
    Word(&'static str),
    Param(&'static str),
    Rest(&'static str),
}

pub struct Routes<D: Door> {
    all: Vec<Route<D>>,
    /// Of requests for what there is not.
    unknown: Arc<Answers>,
    latency: Arc<Histogram>,
}

impl<D: Door> Default for Routes<D> {
    fn default() -> Self {
        let latency = Arc::new(Histogram::new(REQUEST_MICROS));
        Self { all: Vec::new(), unknown: Arc::default(), latency }
    }
}

impl<D: Door> Routes<D> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route. The first that matches wins, so list words before parameters.
    #[must_use]
    pub fn on<F, Fut>(
        self,
        method: &'static str,
        template: &'static str,
        operation: &'static str,
        handler: F,
    ) -> Self
    where
        F: Fn(D, D::Context, Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let handler: Handler<D> =
            Box::new(move |door, context, request| Box::pin(handler(door, context, request)));
        self.route(method, template, operation, Behind::Handler(handler))
    }

    /// Adds an operation that this server lacks, so that the service's own door says so, to whoever asks.
    #[must_use]
    pub fn lacks(self, method: &'static str, template: &'static str, operation: &'static str) -> Self {
        self.route(method, template, operation, Behind::Nothing)
    }

    /// Adds a path at which a connection may become a WebSocket. The root is that for whoever asks for one, and nothing else.
    #[must_use]
    pub fn websocket(self, template: &'static str) -> Self {
        self.route("GET", template, websocket::OPERATION, Behind::WebSocket)
    }

    fn route(
        mut self,
        method: &'static str,
        template: &'static str,
        operation: &'static str,
        behind: Behind<D>,
    ) -> Self {
        let part = |text: &'static str| match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some(name) => name.strip_prefix('*').map_or(Part::Param(name), Part::Rest),
            None => Part::Word(text),
        };
        let parts = template.split('/').filter(|segment| !segment.is_empty()).map(part).collect();
        let mut info = RouteInfo {
            method,
            template,
            operation,
            permission: None,
            body_bytes_max: caps::HTTP_BODY_BYTES_MAX,
            is_built: !matches!(behind, Behind::Nothing),
        };
        if D::is_open(&info) {
            info.body_bytes_max = caps::UNAUTHENTICATED_BYTES_MAX;
        }
        self.all.push(Route { info, parts, behind, answers: Arc::default() });
        self
    }

    /// Gives the route added last another cap on its body.
    #[must_use]
    pub fn body_max(mut self, bytes: usize) -> Self {
        if let Some(route) = self.all.last_mut() {
            route.info.body_bytes_max = bytes;
        }
        self
    }

    /// Says what the route added last asks of its caller.
    #[must_use]
    pub fn requires(mut self, permission: Permission) -> Self {
        if let Some(route) = self.all.last_mut() {
            route.info.permission = Some(permission);
        }
        self
    }

    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.all.extend(more.all);
        self
    }

    pub fn describe(&self) -> impl Iterator<Item = RouteInfo> + '_ {
        self.all.iter().map(|route| route.info)
    }

    /// Whether some route has this path, whatever its method.
    pub fn knows_path(&self, head: &Head) -> bool {
        self.all.iter().any(|route| route.matches(head).is_some())
    }

    /// Whether the path begins as some route does, and so can belong to no other service.
    pub fn knows_beginning(&self, segments: &[String]) -> bool {
        let begins = |route: &Route<D>| match (route.parts.first(), segments.first()) {
            (Some(Part::Word(word)), Some(first)) => first.eq_ignore_ascii_case(word),
            _ => false,
        };
        self.all.iter().any(begins)
    }

    /// The methods of a path, as `Allow` lists them.
    fn allowed(&self, head: &Head) -> String {
        let mut methods = Vec::new();
        for route in self.all.iter().filter(|route| route.info.is_built && route.matches(head).is_some()) {
            if !methods.contains(&route.info.method) {
                methods.push(route.info.method);
            }
        }
        methods.join(", ")
    }

    fn find(&self, head: &Head) -> Result<Found<'_, D>, Fault> {
        if let Some(malformed) = head.malformed {
            return Err(Fault::Malformed(malformed));
        }
        let mut fault = Fault::UnknownPath;
        let method = D::method(head);
        for route in &self.all {
            if let Some(params) = route.matches(head) {
                if route.info.method == method {
                    return match &route.behind {
                        Behind::Handler(handler) => Ok(Found::Operation(route, handler, params)),
                        Behind::WebSocket => Ok(Found::WebSocket(route)),
                        Behind::Nothing => Err(Fault::NotBuilt { operation: route.info.operation }),
                    };
                }
                fault = Fault::MethodNotAllowed;
            }
        }
        Err(fault)
    }

    /// What is counted of them, for whoever looks while they serve.
    pub(crate) fn counted(&self) -> Counted {
        let operations = self.all.iter().map(|route| (route.info.operation, route.answers.clone())).collect();
        Counted::new(D::NAME, operations, self.unknown.clone(), self.latency.clone())
    }

    /// Counts an answer that no route made.
    pub(crate) fn note_unknown(&self, response: &Response) {
        self.unknown.note(response.status);
    }

    /// Routes, authenticates, reads the body and calls the handler. `read_body` is given the cap.
    pub(crate) async fn serve<R, Fut>(&self, door: &D, head: Head, read_body: R) -> Response
    where
        R: FnOnce(usize) -> Fut + Send,
        Fut: Future<Output = Result<bytes::Bytes, Fault>> + Send,
    {
        let watch = Stopwatch::start();
        let (response, answers) = self.answer(door, head, read_body).await;
        answers.note(response.status);
        self.latency.observe(watch.elapsed());
        response
    }

    async fn answer<R, Fut>(&self, door: &D, head: Head, read_body: R) -> (Response, &Answers)
    where
        R: FnOnce(usize) -> Fut + Send,
        Fut: Future<Output = Result<bytes::Bytes, Fault>> + Send,
    {
        let (route, handler, params) = match self.find(&head) {
            Ok(Found::Operation(route, handler, params)) => (route, handler, params),
            Ok(Found::WebSocket(route)) => {
                let refuse = |fault| websocket::with_version(door.refuse(&head, fault));
                let response = websocket::answer(&head).unwrap_or_else(refuse);
                return (door.finish(&head, response), &route.answers);
            }
            Err(fault) => {
                let refusal = door.finish(&head, door.refuse(&head, fault));
                let refusal = match refusal.status {
                    StatusCode::METHOD_NOT_ALLOWED => refusal.header("allow", &self.allowed(&head)),
                    _ => refusal,
                };
                return (refusal, &self.unknown);
            }
        };
        let answers = &*route.answers;
        let context = match door.authenticate(&head, &route.info).await {
            Ok(context) => context,
            Err(refusal) => return (door.finish(&head, refusal), answers),
        };
        if !D::is_open(&route.info) {
            head.peer.proof.give();
        }
        let _turn = turn(&route.info).await;
        let body = match read_body(route.info.body_bytes_max).await {
            Ok(body) => body,
            Err(fault) => return (door.finish(&head, door.refuse(&head, fault)), answers),
        };
        let request = Request { head: head.clone(), body, params };
        let response = handler(door.clone(), context, request).await;
        (door.finish(&head, response), answers)
    }
}

/// Few requests at a time may have a body that is larger than most: what they hold until they are answered adds up.
async fn turn(route: &RouteInfo) -> Option<tokio::sync::SemaphorePermit<'static>> {
    static LARGE_BODIES: Semaphore = Semaphore::const_new(caps::LARGE_BODIES_MAX);
    if route.body_bytes_max <= caps::HTTP_BODY_BYTES_MAX {
        return None;
    }
    LARGE_BODIES.acquire().await.ok()
}

type Params = Vec<(&'static str, String)>;

impl<D: Door> Route<D> {
    fn matches(&self, head: &Head) -> Option<Params> {
        if self.parts.is_empty() && !head.wants_websocket {
            return None;
        }
        let mut params = Vec::new();
        let mut left = &head.segments[..];
        for (index, part) in self.parts.iter().enumerate() {
            let taken = match part {
                Part::Rest(_) => left.len().checked_sub(self.parts.len() - index - 1)?,
                Part::Word(_) | Part::Param(_) => 1,
            };
            let (own, after) = left.split_at_checked(taken)?;
            match part {
                Part::Word(word) if own[0].eq_ignore_ascii_case(word) => {}
                Part::Word(_) => return None,
                Part::Param(name) | Part::Rest(name) => params.push((*name, own.join("/"))),
            }
            left = after;
        }
        left.is_empty().then_some(params)
    }
}

/// What every door says of an operation that is not built, in its own envelope.
pub fn lacks(operation: &str) -> String {
    format!(
        "This server does not have the operation '{operation}' yet; its documentation lists those that it has."
    )
}

/// The methods that a template may be asked for; kept here so that doors spell them alike.
pub fn is_known_method(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "PUT" | "POST" | "PATCH" | "DELETE" | "HEAD")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use entrance::Peer;

    #[derive(Clone)]
    struct Echo;

    impl Door for Echo {
        type Context = ();
        const NAME: &'static str = "echo";

        fn routes() -> Routes<Self> {
            Routes::new()
                .on("GET", "/twins/{id}/modules/{module_id}", "Module_GetTwin", |_, (), r| async move {
                    Response::text(200, format!("{} {}", r.param("id"), r.param("module_id")))
                })
                .on("GET", "/{*scope}/roles/{id}", "Roles_Get", |_, (), r| async move {
                    Response::text(200, format!("{} {}", r.param("scope"), r.param("id")))
                })
                .on("POST", "/devices", "Bulk", |_, (), r| async move { Response::bytes(200, "x", r.body) })
                .body_max(4)
                .on("GET", "/devices", "List", |_, (), _| async move { Response::new(200) })
                .lacks("PUT", "/jobs/{id}", "Jobs_Create")
        }

        async fn authenticate(&self, head: &Head, _: &RouteInfo) -> Result<(), Response> {
            if head.authorization().is_some() { Ok(()) } else { Err(Response::new(401)) }
        }

        fn refuse(&self, _: &Head, fault: Fault) -> Response {
            Response::new(match fault {
                Fault::UnknownInstance | Fault::UnknownPath => 404,
                Fault::MethodNotAllowed => 405,
                Fault::Malformed(_) | Fault::BodyIncomplete => 400,
                Fault::NotBuilt { .. } => 501,
                Fault::BodyTooLarge { .. } => 413,
            })
        }
    }

    fn head(uri: &str) -> Head {
        let (parts, ()) =
            http::Request::builder().uri(uri).header("host", "h").body(()).unwrap().into_parts();
        Head::new(&parts, Peer::default())
    }

    async fn ask(method: &str, uri: &str, authorization: bool, body: &'static [u8]) -> (u16, String) {
        let mut request = http::Request::builder().method(method).uri(uri).header("host", "h");
        if authorization {
            request = request.header("authorization", "x");
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = Head::new(&parts, Peer::default());
        let read = |max: usize| async move {
            assert!(authorization, "no body may be read before its sender is known");
            if body.len() > max {
                Err(Fault::BodyTooLarge { max_bytes: max })
            } else {
                Ok(bytes::Bytes::from_static(body))
            }
        };
        let response = Echo::routes().serve(&Echo, head, read).await;
        (response.status.as_u16(), String::from_utf8(response.body_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn keywords_match_in_any_case_and_parameters_keep_theirs() {
        let (status, body) = ask("GET", "/Twins/A%2Fb/MODULES/m%23/?x=1", true, b"").await;
        assert_eq!((status, body.as_str()), (200, "A/b m#"));
    }

    #[tokio::test]
    async fn a_rest_takes_what_the_other_segments_leave() {
        for (path, told) in [
            ("/roles/r", " r"),
            ("/a/roles/r", "a r"),
            ("/a/b%2Fc/ROLES/r", "a/b/c r"),
            ("/roles/roles/roles", "roles roles"),
        ] {
            assert_eq!(ask("GET", path, true, b"").await, (200, told.into()), "{path}");
        }
        for path in ["/roles", "/r", "/a/role/r", "/a/roles/r/x"] {
            assert_eq!(ask("GET", path, true, b"").await.0, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn a_request_without_credentials_is_refused_before_its_body_is_read() {
        assert_eq!(ask("POST", "/devices/", false, b"far too long").await.0, 401);
        assert_eq!(ask("POST", "/devices/", true, b"far too long").await.0, 413);
        assert_eq!(ask("POST", "/devices/", true, b"1234").await, (200, "1234".into()));
    }

    /// How many bodies are being read at the same time, and at most were.
    #[derive(Default)]
    struct Reading(AtomicUsize, AtomicUsize);

    #[tokio::test]
    async fn few_large_bodies_are_read_at_a_time_and_all_in_the_end() {
        let routes = Routes::<Echo>::new()
            .on("POST", "/large", "Large", |_, (), _| async { Response::new(200) })
            .body_max(caps::HTTP_BODY_BYTES_MAX + 1);
        let routes = Arc::new(routes);
        let (reading, gate) = (Arc::new(Reading::default()), Arc::new(Semaphore::new(0)));
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..3 * caps::LARGE_BODIES_MAX {
            let (routes, reading, gate) = (routes.clone(), reading.clone(), gate.clone());
            requests.spawn(async move {
                let request = http::Request::builder().method("POST").uri("/large").header("host", "h");
                let (parts, ()) = request.header("authorization", "x").body(()).unwrap().into_parts();
                let read = |_| async move {
                    let now = reading.0.fetch_add(1, Ordering::SeqCst) + 1;
                    reading.1.fetch_max(now, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    reading.0.fetch_sub(1, Ordering::SeqCst);
                    Ok(bytes::Bytes::new())
                };
                routes.serve(&Echo, Head::new(&parts, Peer::default()), read).await.status
            });
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(3 * caps::LARGE_BODIES_MAX);
        let all = tokio::time::timeout(std::time::Duration::from_secs(60), requests.join_all());
        assert!(all.await.unwrap().iter().all(|status| *status == 200));
        let most = reading.1.load(Ordering::SeqCst);
        assert!((1..=caps::LARGE_BODIES_MAX).contains(&most), "{most}");
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(ask("GET", "/nowhere", true, b"").await.0, 404);
        assert_eq!(ask("PUT", "/devices", true, b"").await.0, 405);
    }

    #[tokio::test]
    async fn what_is_not_built_is_said_and_no_body_is_read() {
        assert_eq!(ask("PUT", "/jobs/1", false, b"far too long").await.0, 501);
        assert!(Echo::routes().knows_path(&head("/jobs/1")));
    }

    #[test]
    fn allow_lists_the_methods_that_a_path_has_and_a_path_is_known_by_its_first_word() {
        let (routes, path) =
            (Echo::routes(), |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(routes.allowed(&head("/devices")), "POST, GET");
        assert_eq!(routes.allowed(&head("/jobs/1")), "");
        assert!(routes.knows_beginning(&path("Twins/1/of/what")) && routes.knows_beginning(&path("jobs")));
        assert!(!routes.knows_beginning(&path("roles/1")) && !routes.knows_beginning(&[]));
    }
}
