//! One HTTP connection, 1.1 or 2, over any byte stream. `server` has done TLS; here hyper speaks the protocol and the front answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::caps;
use base::tasks::Stopping;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::front::Front;
use crate::router::Fault;
use crate::wire::{Body, Head, Peer, Response};

/// An idle connection is closed after this long; official clients open a new one without asking.
const IDLE: Duration = Duration::from_secs(120);
/// A body must arrive within this time.
const BODY: Duration = Duration::from_secs(60);

/// Serves requests until the client leaves or shutdown begins; then the request in hand is finished first.
pub async fn serve<S>(stream: S, is_http2: bool, peer: Peer, front: Arc<Front>, mut stopping: Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = has_asked.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let (front, peer) = (front.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(&front, request, peer).await) }
    });
    let io = TokioIo::new(stream);
    let silent = async {
        tokio::time::sleep(Duration::from_secs(caps::UNAUTHENTICATED_SECONDS_MAX)).await;
        if has_asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    // Errors of a connection are its client's affair: it left, or spoke nonsense and was told so.
    if is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(ConnectionTasks);
        builder.timer(TokioTimer::new()).max_header_list_size(HEADER_BYTES_MAX).max_concurrent_streams(100);
        let connection = builder.serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = silent => {}
            () = stopping.wait() => { connection.as_mut().graceful_shutdown(); let _ = connection.await; }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEADER_BYTES_MAX as usize);
        let connection = builder.serve_connection(io, service).with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = silent => {}
            () = stopping.wait() => { connection.as_mut().graceful_shutdown(); let _ = connection.await; }
        }
    }
}

const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// hyper runs the streams of one HTTP/2 connection as tasks; they end with their connection.
#[derive(Clone)]
struct ConnectionTasks;

impl<F> hyper::rt::Executor<F> for ConnectionTasks
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
) -> http::Response<UnsyncBoxBody<Bytes, Infallible>> {
    let (parts, body) = request.into_parts();
    let response = match Head::new(&parts, peer) {
        Some(head) => front.serve(head, Box::new(move |max| Box::pin(read(body, max)))).await,
        None => Response::text(400, "The path or query is not UTF-8, or the Host header is missing."),
    };
    write(response)
}

async fn read(mut body: Incoming, max_bytes: usize) -> Result<Bytes, Fault> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(Fault::BodyTooLarge { max_bytes });
    }
    let collect = async {
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Fault::BodyIncomplete)?.into_data() else { continue };
            if collected.len() + data.len() > max_bytes {
                return Err(Fault::BodyTooLarge { max_bytes });
            }
            collected.extend_from_slice(&data);
        }
        Ok(collected.freeze())
    };
    tokio::time::timeout(BODY, collect).await.unwrap_or(Err(Fault::BodyIncomplete))
}

fn write(response: Response) -> http::Response<UnsyncBoxBody<Bytes, Infallible>> {
    let body = match response.body {
        Body::Full(bytes) => Full::new(bytes).boxed_unsync(),
        Body::Stream(stream) => StreamBody::new(stream.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync(),
    };
    let mut out = http::Response::new(body);
    *out.status_mut() = response.status;
    *out.headers_mut() = response.headers;
    out
}
