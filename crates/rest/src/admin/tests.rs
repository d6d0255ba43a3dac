//! The admin door alone.

use base::Timestamp;
use base::hosts::NoMachine;
use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::front::{AnyDoor, mount};
use crate::wire::Peer;

struct TestAdmin {
    door: Arc<dyn AnyDoor>,
    clock: Clock,
    is_ready: Arc<AtomicBool>,
}

impl TestAdmin {
    fn new(allow_clock_control: bool) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000));
        let hosts = Hosts::new("localhost", 8443, NoMachine);
        hosts.register(Service::Hub, "hub", "eastus", true);
        let is_ready = Arc::new(AtomicBool::new(false));
        let metrics = vec![
            Metric::new(
                Kind::Gauge,
                "twinhub_connections",
                "protocol=\"https\"",
                "Open connections.",
                || 2.0,
            ),
            Metric::new(Kind::Gauge, "twinhub_connections", "protocol=\"mqtt\"", "Open connections.", || 3.0),
            Metric::new(Kind::Counter, "twinhub_commits_total", "", "Durable commits.", || 7.0),
        ];
        let key = Secret::new("key");
        let (ready, time) = (is_ready.clone(), clock.clone());
        let context = Context { key, clock: time, allow_clock_control, hosts, metrics, is_ready: ready };
        Self { door: mount(Admin::new(context)), clock, is_ready }
    }

    async fn ask(&self, method: &str, path: &str, key: &str, body: &'static str) -> Response {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {key}"));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = Head::new(&parts, Peer::default()).unwrap();
        let read = Box::new(move |_: usize| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move { Ok(Bytes::from(body)) })
        });
        self.door.serve(head, read).await
    }
}

#[tokio::test]
async fn health_needs_no_key_and_live_control_does() {
    let test = TestAdmin::new(false);
    assert_eq!(test.ask("GET", "/healthz", "", "").await.status, 200);
    assert_eq!(test.ask("GET", "/readyz", "", "").await.status, 503);
    test.is_ready.store(true, Ordering::Relaxed);
    assert_eq!(test.ask("GET", "/readyz", "", "").await.status, 200);
    assert_eq!(test.ask("GET", "/_twinhub/instances", "wrong", "").await.status, 401);
    let answer = test.ask("GET", "/_twinhub/instances", "key", "").await.body_json();
    assert_eq!(answer["instances"][0]["host"], "hub.azure-devices.localhost");
    assert_eq!(answer["instances"][0]["advertisedHost"], "127.0.0.1");
}

#[tokio::test]
async fn the_clock_moves_only_on_a_server_that_was_started_for_it() {
    let refused = TestAdmin::new(false);
    let body = "{\"advanceSeconds\": 60}";
    assert_eq!(refused.ask("POST", "/_twinhub/clock", "key", body).await.status, 403);
    assert_eq!(refused.clock.now().unix_seconds(), 1_000);
    let test = TestAdmin::new(true);
    assert_eq!(test.ask("POST", "/_twinhub/clock", "key", "nonsense").await.status, 400);
    let answer: Value = test.ask("POST", "/_twinhub/clock", "key", body).await.body_json();
    assert_eq!(answer["now"], "1970-01-01T00:17:40.0000000Z");
}

#[tokio::test]
async fn metrics_of_one_name_share_their_help() {
    let answer = TestAdmin::new(false).ask("GET", "/metrics", "", "").await;
    let text = String::from_utf8(answer.body_bytes().to_vec()).unwrap();
    assert_eq!(
        text,
        "# HELP twinhub_connections Open connections.\n# TYPE twinhub_connections gauge\n\
         twinhub_connections{protocol=\"https\"} 2\ntwinhub_connections{protocol=\"mqtt\"} 3\n\
         # HELP twinhub_commits_total Durable commits.\n# TYPE twinhub_commits_total counter\ntwinhub_commits_total 7\n"
    );
}
