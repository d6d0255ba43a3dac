//! Connections over a pipe in memory, with a door of their own and a clock that is moved.

use base::hosts::{Hosts, NoMachine};
use base::tasks::Tasks;
use base::{Refusals, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::front::mount;
use crate::router::{Door, RouteInfo, Routes};
use crate::websocket::SubProtocol;

/// How long a test waits for an answer, so that a fault fails it and does not hang it.
const PATIENCE: Duration = Duration::from_secs(30);

/// `/open` answers anyone, `/known` whoever has any credential; `/endless` never stops answering.
#[derive(Clone)]
struct TwoDoors;

impl Door for TwoDoors {
    type Context = ();
    const NAME: &'static str = "two";

    fn routes() -> Routes<Self> {
        let endless = || Box::pin(futures_util::stream::pending::<Bytes>());
        Routes::new()
            .websocket("/socket")
            .on("GET", "/open", "Open", |_, (), _| async { Response::text(200, "open") })
            .on("POST", "/open", "OpenPost", |_, (), r| async move { Response::bytes(200, "x", r.body) })
            .on("GET", "/known", "Known", |_, (), _| async { Response::text(200, "known") })
            .on(
                "GET",
                "/endless",
                "Endless",
                move |_, (), _| async move { Response::stream(200, "x", endless()) },
            )
    }

    fn is_open(route: &RouteInfo) -> bool {
        route.template == "/open"
    }

    async fn authenticate(&self, head: &Head, route: &RouteInfo) -> Result<(), Response> {
        if Self::is_open(route) || head.authorization().is_some() { Ok(()) } else { Err(Response::new(401)) }
    }

    fn refuse(&self, _: &Head, fault: Fault) -> Response {
        match fault {
            Fault::BodyTooLarge { .. } => Response::new(413),
            Fault::Malformed(_) => Response::new(400),
            Fault::MethodNotAllowed => Response::text(405, "no such"),
            _ => Response::new(404),
        }
    }
}

struct Client {
    stream: DuplexStream,
    clock: Clock,
    serving: JoinHandle<Option<Switched<DuplexStream>>>,
    /// Without it, shutdown would have begun.
    tasks: Tasks,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "a test's own server, which it waits for")]
    fn dial(is_http2: bool) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000));
        let tasks = Tasks::new();
        let (stream, theirs) = tokio::io::duplex(256 * 1024);
        let door = mount(TwoDoors);
        let front = Front {
            hosts: Hosts::new("localhost", 443, NoMachine),
            hub: door.clone(),
            provisioning: door.clone(),
            digital_twins: door.clone(),
            resource_manager: door.clone(),
            entra: door.clone(),
            graph: door.clone(),
            storage: door.clone(),
            admin: door,
            refusals: Refusals::new(clock.clone()),
        };
        let connection = Connection {
            is_http2,
            peer: Peer { local: Some(([127, 0, 0, 1], 443).into()), ..Peer::default() },
            clock: clock.clone(),
            stopping: tasks.stopping(),
        };
        let serving = tokio::spawn(serve(theirs, connection, Arc::new(front)));
        Self { stream, clock, serving, tasks }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends a request and gives the first line of its answer.
    async fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> String {
        self.send(&format!("{method} {path} HTTP/1.1\r\nhost: h\r\n{headers}\r\n{body}")).await;
        self.head().await.lines().next().unwrap().to_owned()
    }

    /// The head of the next answer, and what comes with it.
    async fn head(&mut self) -> String {
        let mut heard = Vec::new();
        while !heard.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut heard)).await;
            assert_ne!(read.expect("it answers").unwrap(), 0, "it was closed");
        }
        String::from_utf8(heard).unwrap()
    }

    /// Lets the other side do what it can do by now.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn after(&self, seconds: u64) -> bool {
        Self::settle().await;
        self.clock.advance(Duration::from_secs(seconds));
        Self::settle().await;
        self.serving.is_finished()
    }
}

const OK: &str = "HTTP/1.1 200 OK";

#[tokio::test]
async fn who_says_nothing_is_gone_after_ten_seconds() {
    for is_http2 in [false, true] {
        let client = Client::dial(is_http2);
        assert!(!client.after(9).await);
        assert!(client.after(1).await, "HTTP/2: {is_http2}");
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_keeps_no_stranger_and_cuts_nobody() {
    for step in [-2 * 3600, 400 * 24 * 3600] {
        let client = Client::dial(false);
        client.clock.step(step);
        assert!(!client.after(9).await);
        assert!(client.after(1).await, "a step of {step} s");
    }
}

#[tokio::test]
async fn headers_and_bodies_that_trickle_in_win_no_time() {
    for begin in
        ["GET /open HTTP/1.1\r\nhost: h\r\n", "POST /open HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n"]
    {
        let mut client = Client::dial(false);
        client.send(begin).await;
        assert!(!client.after(5).await);
        client.send("a").await;
        assert!(!client.after(4).await);
        client.send("a").await;
        assert!(client.after(1).await, "{begin}");
    }
}

#[tokio::test]
async fn answers_to_anyone_and_refusals_win_ten_seconds_more_and_no_longer_stay() {
    for (path, line) in [("/open", OK), ("/known", "HTTP/1.1 401 Unauthorized")] {
        let mut client = Client::dial(false);
        assert!(!client.after(9).await);
        assert_eq!(client.ask("GET", path, "", "").await, line);
        assert!(!client.after(9).await);
        client.send("GET /open HTTP/1.1\r\n").await;
        assert!(client.after(1).await, "{path}");
    }
}

#[tokio::test]
async fn who_is_known_may_be_idle_for_two_minutes() {
    let mut client = Client::dial(false);
    assert_eq!(client.ask("GET", "/known", "authorization: x\r\n", "").await, OK);
    for _ in 0..11 {
        assert!(!client.after(10).await);
    }
    assert_eq!(client.ask("GET", "/open", "", "").await, OK);
    for _ in 0..11 {
        assert!(!client.after(10).await);
    }
    assert!(client.after(10).await);
}

#[tokio::test]
async fn an_answer_that_goes_on_keeps_its_connection() {
    let mut client = Client::dial(false);
    assert_eq!(client.ask("GET", "/endless", "authorization: x\r\n", "").await, OK);
    for _ in 0..100 {
        assert!(!client.after(10).await);
    }
}

#[tokio::test]
async fn a_head_is_answered_with_the_length_of_a_body_and_without_it() {
    let mut client = Client::dial(false);
    client.send("HEAD /known HTTP/1.1\r\nhost: h\r\n\r\n").await;
    client.send("GET /open HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    let mut heard = String::new();
    client.stream.read_to_string(&mut heard).await.unwrap();
    let (head, rest) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("content-length: 7"), "{heard}");
    assert!(rest.starts_with(OK), "{heard}");
    for (length, answer) in [(Some("3"), Response::text(404, "not")), (None, Response::new(204))] {
        let bare = without_body(answer);
        assert_eq!((bare.header_value("content-length"), bare.body_bytes().len()), (length, 0));
    }
}

#[tokio::test]
async fn what_anyone_may_send_ends_at_sixteen_kilobytes() {
    let most = caps::UNAUTHENTICATED_BYTES_MAX;
    for (size, line) in [(most, OK), (most + 1, "HTTP/1.1 413 Payload Too Large")] {
        let mut client = Client::dial(false);
        let body = "a".repeat(size);
        let length = format!("content-length: {size}\r\n");
        assert_eq!(client.ask("POST", "/open", &length, &body).await, line);
    }
}

impl Client {
    /// Sends all of a body of so many bytes, as long as it is taken, before it reads; gives how much was taken, and the answer.
    async fn refused_with_a_body(&mut self, bytes: usize) -> (usize, String) {
        self.send(&format!("POST /nothing HTTP/1.1\r\nhost: h\r\ncontent-length: {bytes}\r\n\r\n")).await;
        let mut sent = 0;
        while sent < bytes {
            let part = vec![b'x'; (16 * 1024).min(bytes - sent)];
            let write = tokio::time::timeout(PATIENCE, self.stream.write_all(&part));
            if write.await.expect("it is read").is_err() {
                break;
            }
            sent += part.len();
        }
        (sent, self.head().await)
    }
}

#[tokio::test]
async fn a_refusal_reaches_who_sends_a_body_first_and_the_connection_goes_on() {
    let mut client = Client::dial(false);
    for bytes in [30_000, 300_000, caps::HTTP_DRAIN_BYTES_MAX] {
        let (sent, heard) = client.refused_with_a_body(bytes).await;
        assert!(
            heard.starts_with("HTTP/1.1 404") && !heard.contains("connection: close"),
            "{bytes}: {heard}"
        );
        assert_eq!(sent, bytes);
    }
    assert_eq!(client.ask("GET", "/open", "", "").await, OK);
}

#[tokio::test]
async fn who_sends_more_than_is_thrown_away_is_told_to_stop_and_still_hears_the_refusal() {
    let mut client = Client::dial(false);
    let much = 5 * caps::HTTP_DRAIN_BYTES_MAX;
    let (sent, heard) = client.refused_with_a_body(much).await;
    assert!(heard.starts_with("HTTP/1.1 404") && heard.contains("connection: close"), "{heard}");
    assert!(sent < 3 * caps::HTTP_DRAIN_BYTES_MAX, "{sent} bytes were read");
}

/// Asks over HTTP/2 as often as told, at once, and counts who was answered; the answers' bodies are not taken.
async fn answered(
    client: &mut h2::client::SendRequest<Bytes>,
    count: usize,
    credential: Option<&str>,
) -> Vec<bool> {
    let mut waiting = Vec::new();
    for _ in 0..count {
        let mut request = http::Request::get("https://h/open");
        if let Some(credential) = credential {
            request = http::Request::get("https://h/known").header("authorization", credential);
        }
        let ready = tokio::time::timeout(PATIENCE, client.clone().ready()).await;
        let mut ready = ready.expect("there is room").unwrap();
        waiting.push(ready.send_request(request.body(()).unwrap(), true).unwrap().0);
    }
    let mut answers = Vec::new();
    for one in waiting {
        let answer = tokio::time::timeout(PATIENCE, one).await.expect("it answers");
        answers.push(answer.map_err(|error| assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM))));
    }
    answers.iter().map(Result::is_ok).collect()
}

/// An HTTP/2 client that lets so many bytes of a body come.
async fn with_window(client: &mut Client, bytes: u32) -> h2::client::SendRequest<Bytes> {
    let (nobody, _) = tokio::io::duplex(1);
    let stream = std::mem::replace(&mut client.stream, nobody);
    let shake = h2::client::Builder::new().initial_window_size(bytes).handshake(stream);
    let (ask, connection) = tokio::time::timeout(PATIENCE, shake).await.expect("it answers").unwrap();
    client.tasks.spawn(async move { drop(connection.await) });
    ask
}

#[tokio::test]
async fn a_stranger_who_takes_no_answers_gets_few_and_is_told_to_ask_again() {
    let most = caps::UNAUTHENTICATED_REQUESTS_MAX;
    let mut client = Client::dial(true);
    let mut ask = with_window(&mut client, 0).await;
    let strangers = answered(&mut ask, most + 5, None).await;
    assert_eq!(strangers.iter().filter(|is_answered| **is_answered).count(), most);

    let mut client = Client::dial(true);
    let mut ask = with_window(&mut client, 0).await;
    assert_eq!(answered(&mut ask, 1, Some("it is me")).await, [true]);
    assert!(answered(&mut ask, most + 5, None).await.iter().all(|is_answered| *is_answered));
}

#[tokio::test]
async fn over_http2_a_refused_body_is_taken_to_its_end_and_the_stream_not_reset() {
    let mut client = Client::dial(true);
    let ask = with_window(&mut client, 65_535).await;
    for bytes in [1, 30_000, 300_000, caps::HTTP_DRAIN_BYTES_MAX] {
        let mut ask = ask.clone().ready().await.unwrap();
        let request = http::Request::post("https://h/nothing").body(()).unwrap();
        let (answer, mut body) = ask.send_request(request, false).unwrap();
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it answers").unwrap();
        assert_eq!(answer.status(), 404);
        body.send_data(vec![b'x'; bytes].into(), false).unwrap();
        body.reserve_capacity(1);
        // Capacity for one byte more comes when all others have been taken.
        let taken = std::future::poll_fn(|cx| body.poll_capacity(cx));
        let taken = tokio::time::timeout(PATIENCE, taken).await.expect("it is read");
        assert!(matches!(taken, Some(Ok(_))), "{bytes}: {taken:?}");
        body.send_data(Bytes::new(), true).unwrap();
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_to_an_end_is_waited_for_two_seconds() {
    let mut client = Client::dial(false);
    client.send("POST /nothing HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nx").await;
    assert!(client.head().await.starts_with("HTTP/1.1 404"));
    assert!(!client.after(1).await);
    // Then our side is closed, and the client has as long again to see that.
    assert!(!client.after(1).await);
    assert_eq!(tokio::time::timeout(PATIENCE, client.stream.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    assert!(client.after(2).await);
}

#[tokio::test]
async fn a_host_is_named_once_and_http_1_0_need_not_name_it() {
    for (request, status) in [
        ("GET /open HTTP/1.1\r\n\r\n", "400"),
        ("GET /open HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET /open HTTP/1.1\r\nhost: a\r\n\r\n", "200"),
        ("GET /open HTTP/1.0\r\n\r\n", "200"),
        ("GET /open HTTP/1.0\r\nhost: a\r\n\r\n", "200"),
    ] {
        let mut client = Client::dial(false);
        client.send(request).await;
        let answer = client.head().await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request}");
    }
}

/// A request for a WebSocket, with the example of RFC 6455.
const WANTED: &str = "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chat, mqtt\r\n";

impl Client {
    /// The head of the answer to a request for a WebSocket, behind which `early` is sent at once.
    async fn want(&mut self, headers: &str, early: &[u8]) -> String {
        let request = format!("GET /socket HTTP/1.1\r\nhost: h\r\n{headers}\r\n");
        self.stream.write_all(&[request.as_bytes(), early].concat()).await.unwrap();
        self.head().await.to_ascii_lowercase()
    }

    async fn switched(&mut self) -> Switched<DuplexStream> {
        let switched = tokio::time::timeout(PATIENCE, &mut self.serving).await.expect("it switches");
        switched.unwrap().expect("it is a WebSocket now")
    }
}

#[tokio::test]
async fn a_connection_becomes_a_websocket_with_what_came_early_and_in_the_same_task() {
    let mut client = Client::dial(false);
    // Masked with zeroes: a message of three bytes, cut in its middle.
    let head = client.want(WANTED, &[0x82, 0x83, 0, 0, 0, 0, b'a']).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let accepted = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";
    for header in ["upgrade: websocket", "connection: upgrade", "sec-websocket-protocol: mqtt", accepted] {
        assert!(head.lines().any(|line| line == header), "{header}: {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("extensions"), "{head}");
    let mut switched = client.switched().await;
    assert_eq!(switched.protocol, SubProtocol::Mqtt);
    client.stream.write_all(b"bc").await.unwrap();
    let mut read = [0; 3];
    tokio::time::timeout(PATIENCE, switched.stream.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(&read, b"abc");
    switched.stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 7];
    client.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, *b"\x82\x05hello");
}

#[tokio::test]
async fn a_stranger_wins_no_time_by_a_websocket_and_whoever_is_known_begins_anew() {
    let mut client = Client::dial(false);
    let accepted_at = client.clock.elapsed();
    assert!(!client.after(9).await);
    client.want(WANTED, b"").await;
    assert_eq!(client.switched().await.since, accepted_at);

    let mut client = Client::dial(false);
    assert_eq!(client.ask("GET", "/known", "authorization: x\r\n", "").await, OK);
    assert!(!client.after(60).await);
    client.want(WANTED, b"").await;
    assert_eq!(client.switched().await.since, client.clock.elapsed());
}

#[tokio::test]
async fn whoever_asks_for_a_websocket_in_another_way_is_told_how() {
    for (what, from, to) in [
        ("no upgrade", "connection: keep-alive, Upgrade", "connection: keep-alive"),
        ("another upgrade", "upgrade: WebSocket", "upgrade: h2c"),
        ("another version", "version: 13", "version: 8"),
        ("no version", "sec-websocket-version: 13\r\n", ""),
        ("two versions", "version: 13\r\n", "version: 13\r\nsec-websocket-version: 13\r\n"),
        ("no key", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        ("a short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
        ("a key that is none", "dGhlIHNhbXBsZSBub25jZQ==", "the sample nonce"),
        ("no protocol", "sec-websocket-protocol: chat, mqtt\r\n", ""),
        ("another protocol", "chat, mqtt", "chat, mqttv5"),
    ] {
        let mut client = Client::dial(false);
        assert!(WANTED.contains(from), "{what}");
        let head = client.want(&WANTED.replacen(from, to, 1), b"").await;
        assert!(head.starts_with("http/1.1 400 "), "{what}: {head}");
        assert!(head.contains("sec-websocket-version: 13"), "{what}: {head}");
        assert_eq!(client.ask("GET", "/open", "", "").await, OK, "{what}: the connection goes on");
    }
    let mut client = Client::dial(false);
    client.send(&format!("GET /socket HTTP/1.0\r\nhost: h\r\n{WANTED}\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.0 400 "), "HTTP/1.0 knows no upgrade");
    let mut client = Client::dial(false);
    assert!(client.ask("POST", "/socket", WANTED, "").await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn the_first_protocol_that_is_served_is_taken_as_it_is_written() {
    for (asked, answered) in [("MQTT", "MQTT"), ("mqttv5,mqtt,MQTT", "mqtt"), ("mqtt, AMQPWSB10", "mqtt")] {
        let mut client = Client::dial(false);
        client.send("GET /socket HTTP/1.1\r\nhost: h\r\n").await;
        client.send(&format!("{}\r\n", WANTED.replace("chat, mqtt", asked))).await;
        let head = client.head().await;
        let line = format!("sec-websocket-protocol: {answered}");
        assert!(head.lines().any(|told| told == line), "{asked}: {head}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_leaves_no_websocket() {
    let mut client = Client::dial(false);
    client.send(&format!("GET /socket HTTP/1.1\r\nhost: h\r\n{WANTED}")).await;
    let Client { stream, serving, tasks, .. } = client;
    drop(stream);
    assert!(tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().is_none());
    drop(tasks);
}
