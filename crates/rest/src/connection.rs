//! One HTTP connection, 1.1 or 2, over any byte stream. `server` has done TLS; here hyper speaks the protocol and the front answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::tasks::Stopping;
use base::{Clock, Elapsed, caps};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{self, RequestBody};
use crate::front::Front;
use crate::router::Fault;
use crate::websocket::SubProtocol;
use crate::wire::{Body, Head, Response};
use entrance::websocket::WebSocket;
use entrance::{Peer, Proof};

mod drain;
mod socket;
mod stranger;
#[cfg(test)]
mod tests;

use drain::Leftover;
use socket::Socket;
use stranger::{Answered, Held};

/// A connection of somebody known is closed after so long without a request; official clients open a new one without asking.
const IDLE: Duration = Duration::from_secs(120);
/// How long somebody who is told to leave may take about it.
const PARTING: Duration = Duration::from_secs(1);

/// How long a connection may stay: until it has proved who it is, ten seconds from its beginning or its last answer; from
/// then on as long as it asks.
#[derive(Clone)]
struct Stay(Arc<Since>);

struct Since {
    clock: Clock,
    /// Ticks of the beginning, then of the last answer.
    at: AtomicI64,
    in_hand: AtomicUsize,
    proof: Proof,
}

/// A request in hand, until its answer has been produced to the end.
struct InHand(Stay);

impl Stay {
    fn new(clock: &Clock, accepted_at: Elapsed, proof: &Proof) -> Self {
        let (at, in_hand) = (AtomicI64::new(accepted_at.ticks()), AtomicUsize::new(0));
        Self(Arc::new(Since { clock: clock.clone(), at, in_hand, proof: proof.clone() }))
    }

    /// Since when somebody new may have been counted a stranger, were he to begin again now.
    fn since(&self) -> Elapsed {
        let since = &self.0;
        if since.proof.is_given() {
            return since.clock.elapsed();
        }
        Elapsed::from_ticks(since.at.load(Ordering::Relaxed))
    }

    fn take_in_hand(&self) -> InHand {
        self.0.in_hand.fetch_add(1, Ordering::Relaxed);
        InHand(self.clone())
    }

    /// Resolves once the connection has stayed too long.
    async fn ended(&self) {
        let since = &*self.0;
        let at_most = entrance::STRANGERS_STAY;
        loop {
            let is_proven = since.proof.is_given();
            let limit = if is_proven { IDLE } else { at_most };
            let until = Elapsed::from_ticks(since.at.load(Ordering::Relaxed)).plus(limit);
            let now = since.clock.elapsed();
            if is_proven && since.in_hand.load(Ordering::Relaxed) > 0 {
                since.clock.sleep_until(now.plus(at_most)).await;
            } else if now < until {
                // It may ring too early, and is set again then: cheaper than to move it with every request.
                since.clock.sleep_until(now.plus(at_most).min(until)).await;
            } else {
                return;
            }
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let since = &self.0.0;
        since.at.store(since.clock.elapsed().ticks(), Ordering::Relaxed);
        since.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What `server` knows of a connection beside its bytes.
pub struct Connection {
    pub is_http2: bool,
    pub peer: Peer,
    pub clock: Clock,
    pub stopping: Stopping,
}

/// A connection that has become a WebSocket, and waits for the door of its protocol.
pub struct Switched<S> {
    pub protocol: SubProtocol,
    pub stream: WebSocket<S>,
    /// When the time began that somebody has who has not proved who he is.
    pub since: Elapsed,
}

/// Set by the answer behind which a connection becomes a WebSocket.
type Switch = Arc<OnceLock<(SubProtocol, Elapsed)>>;

/// Serves requests until the client leaves, has stayed too long, or shutdown begins; then the request in hand is finished first.
/// Gives the stream back where it became a WebSocket.
pub async fn serve<S>(stream: S, connection: Connection, front: Arc<Front>) -> Option<Switched<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Connection { is_http2, peer, clock, mut stopping } = connection;
    let accepted_at = peer.accepted_at.unwrap_or_else(|| clock.elapsed());
    let stay = Stay::new(&clock, accepted_at, &peer.proof);
    let (held, leftover) = (Held::new(&peer.proof), Leftover::new(&clock));
    let switch = Switch::default();
    let service = {
        let (stay, peer, held, leftover) = (stay.clone(), peer.clone(), held.clone(), leftover.clone());
        let switch = switch.clone();
        service_fn(move |request: http::Request<Incoming>| {
            let (since, in_hand) = (stay.since(), stay.take_in_hand());
            let (front, peer) = (front.clone(), peer.clone());
            let (leftover, switch) = (leftover.clone(), switch.clone());
            let asked = held.ask().map(|asked| (asked, request));
            // Boxed, so that an answer that waits for its client does not carry the room of its making.
            Box::pin(async move {
                let (asked, request) = asked.ok_or_else(|| h2::Error::from(h2::Reason::REFUSED_STREAM))?;
                let (answer, protocol) = answer(&front, request, peer, in_hand, leftover).await;
                if let Some(protocol) = protocol {
                    let _ = switch.set((protocol, since));
                }
                Ok::<_, h2::Error>(answer.map(|body| Answered { body, asked: Some(asked) }))
            })
        })
    };
    let io = TokioIo::new(Socket::new(stream, &held, &leftover));
    let ending = async {
        tokio::select! {
            () = stay.ended() => if peer.proof.is_given() { Some(Leaving::Tired) } else { None },
            () = stopping.wait() => Some(Leaving::Stopping(held.clone())),
        }
    };
    if is_http2 {
        let mut builder = http2::Builder::new(ConnectionTasks);
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(caps::HTTP_HEADER_BYTES_MAX)
            .max_concurrent_streams(caps::HTTP_STREAMS_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let mut connection = builder.serve_connection(io, service);
        drive(&mut connection, http2::Connection::graceful_shutdown, ending).await;
        None
    } else {
        let mut builder = http1::Builder::new();
        // Slow headers are ended by the stay.
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(caps::HTTP_HEADER_BYTES_MAX as usize);
        let mut connection = builder.serve_connection(io, service);
        let is_done = drive(&mut connection, http1::Connection::graceful_shutdown, ending).await;
        let (protocol, since) = *switch.get().filter(|_| is_done)?;
        // hyper has written the answer to the end, and read no further than it says.
        let parts = connection.into_parts();
        let stream = parts.io.into_inner().into_inner();
        let stream = WebSocket::new(stream, parts.read_buf, protocol.message_bytes_max(), clock);
        Some(Switched { protocol, stream, since })
    }
}

/// Why a connection is told to leave, which says how long it may take about it.
enum Leaving {
    /// It stayed too long.
    Tired,
    /// The server stops: what is in hand is finished first. Whoever drains us bounds the time that this takes.
    Stopping(Held),
}

impl Leaving {
    /// Resolves when it has taken too long. Some clients of HTTP/2 never answer to a goodbye.
    async fn patience(self) {
        const LOOKS: u32 = 10;
        let mut quiet = 0;
        while quiet < LOOKS {
            tokio::time::sleep(PARTING / LOOKS).await;
            quiet = match &self {
                Self::Stopping(held) if !held.is_idle() => 0,
                Self::Stopping(_) | Self::Tired => quiet + 1,
            };
        }
    }
}

/// Lets a connection go on until `ending`, which says how it is to leave; `None`: at once. Says whether it came to an end of its own
/// without an error. Errors of a connection are its client's affair: it left, or spoke nonsense and was told so.
async fn drive<C, E>(
    mut connection: &mut C,
    leave: fn(Pin<&mut C>),
    ending: impl Future<Output = Option<Leaving>>,
) -> bool
where
    C: Future<Output = Result<(), E>> + Unpin,
{
    let leaving = tokio::select! {
        done = &mut connection => return done.is_ok(),
        leaving = ending => leaving,
    };
    let Some(leaving) = leaving else { return false };
    leave(Pin::new(&mut *connection));
    tokio::select! {
        done = connection => done.is_ok(),
        () = leaving.patience() => false,
    }
}

/// Bytes of bodies that a peer may send before they are read: the least that HTTP/2 lets a server say, and enough for bodies of
/// a megabyte. hyper's own choice is a megabyte for everyone, known or not.
const WINDOW_BYTES: u32 = 65_535;

/// hyper runs the streams of one HTTP/2 connection as tasks, and we read bodies that nobody wants; they end with their connection.
#[derive(Clone)]
struct ConnectionTasks;

impl<F> Executor<F> for ConnectionTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "bound to the connection, which drains at shutdown")]
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

async fn answer(
    front: &Front,
    request: http::Request<Incoming>,
    peer: Peer,
    in_hand: InHand,
    leftover: Leftover,
) -> (http::Response<UnsyncBoxBody<Bytes, Infallible>>, Option<SubProtocol>) {
    let is_head = request.method() == http::Method::HEAD;
    let (parts, mut body) = request.into_parts();
    // A client that expects to be asked for the body sends none when it is not.
    let mut comes = !parts.headers.contains_key(EXPECT);
    let head = Head::new(&parts, peer);
    let response = front.serve(head, Box::new(Coming { body: &mut body, comes: &mut comes })).await;
    let websocket = response.websocket;
    let mut answer = write(if is_head { without_body(response) } else { response }, in_hand);
    if comes && !body.is_end_stream() {
        if parts.version <= http::Version::HTTP_11 && drain::is_hopeless(&body) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        ConnectionTasks.execute(leftover.drain(body));
    }
    (answer, websocket)
}

/// What a HEAD is answered with: the length of the body and not the body, which over HTTP/2 would be a protocol error.
fn without_body(response: Response) -> Response {
    let length = response.body_bytes().len().to_string();
    let status = response.status;
    let has_length = response.headers.contains_key(CONTENT_LENGTH) || status == http::StatusCode::NO_CONTENT;
    let response = if has_length { response } else { response.header(CONTENT_LENGTH.as_str(), &length) };
    Response { body: Body::Full(Bytes::new()), ..response }
}

/// A body that comes over the connection. One that is passed on in parts may take its time as a whole, and not between two of them.
struct Coming<'a> {
    body: &'a mut Incoming,
    comes: &'a mut bool,
}

impl RequestBody for Coming<'_> {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Option<Bytes>, Fault>> + Send + '_>> {
        *self.comes = true;
        Box::pin(async move {
            let part = async {
                while let Some(frame) = self.body.frame().await {
                    if let Ok(data) = frame.map_err(|_| Fault::BodyIncomplete)?.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(None)
            };
            tokio::time::timeout(body::WHOLE, part).await.unwrap_or(Err(Fault::BodyIncomplete))
        })
    }

    fn least(&self) -> u64 {
        self.body.size_hint().lower()
    }
}

fn write(response: Response, in_hand: InHand) -> http::Response<UnsyncBoxBody<Bytes, Infallible>> {
    let body = match response.body {
        Body::Full(bytes) => Full::new(bytes).boxed_unsync(),
        Body::Stream(stream) => {
            let frame = move |bytes| {
                let _until_the_last = &in_hand;
                Ok(Frame::data(bytes))
            };
            StreamBody::new(stream.map(frame)).boxed_unsync()
        }
    };
    let mut out = http::Response::new(body);
    *out.status_mut() = response.status;
    *out.headers_mut() = response.headers;
    out
}
