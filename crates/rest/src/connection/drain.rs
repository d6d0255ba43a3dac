//! What a client still sends when it has been answered already, such as the body of a request that was refused. It is read and
//! thrown away, up to a cap: a socket that is closed over unread bytes is reset, and the answer may be lost with it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::{Clock, caps};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const TIME_MAX: Duration = Duration::from_secs(caps::HTTP_DRAIN_SECONDS_MAX);
const SCRATCH_BYTES: usize = 4096;

/// The end of one connection: whether bytes of it were left unread, so that its close has to wait for the client. Clones share it.
#[derive(Clone)]
pub(super) struct Leftover {
    clock: Clock,
    is_unread: Arc<AtomicBool>,
}

/// Whether so much of a body is announced that its client had better stop.
pub(super) fn is_hopeless(body: &Incoming) -> bool {
    body.size_hint().lower() > caps::HTTP_DRAIN_BYTES_MAX as u64
}

impl Leftover {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), is_unread: Arc::default() }
    }

    /// Reads the rest of a body whose request has been answered.
    pub(super) async fn drain(self, body: Incoming) {
        let is_read = tokio::select! {
            is_read = read_to_the_end(body) => is_read,
            () = self.clock.sleep(TIME_MAX) => false,
        };
        if !is_read {
            self.is_unread.store(true, Ordering::Relaxed);
        }
    }
}

async fn read_to_the_end(mut body: Incoming) -> bool {
    let mut left = caps::HTTP_DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

/// A stream that closes in stages where bytes were left unread: first our side, then, when the client has read that or has been
/// given its time, the rest.
pub(super) struct Staged<S> {
    stream: S,
    leftover: Leftover,
    parting: Option<Parting>,
}

struct Parting {
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
    left: usize,
}

impl<S> Staged<S> {
    pub(super) fn new(stream: S, leftover: &Leftover) -> Self {
        Self { stream, leftover: leftover.clone(), parting: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Staged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Staged<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, leftover, parting } = &mut *self;
        if parting.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            if !leftover.is_unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let Parting { until, left } = parting.get_or_insert_with(|| {
            let clock = leftover.clock.clone();
            let until = Box::pin(async move { clock.sleep(TIME_MAX).await });
            Parting { until, left: caps::HTTP_DRAIN_BYTES_MAX }
        });
        let mut scratch = [0; SCRATCH_BYTES];
        while until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            let bytes = buffer.filled().len();
            if read.is_err() || bytes == 0 || bytes > *left {
                break;
            }
            *left -= bytes;
        }
        Poll::Ready(Ok(()))
    }
}
