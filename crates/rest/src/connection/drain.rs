//! What a client still sends when it has been answered already, such as the body of a request that was refused. It is read and
//! thrown away, up to a cap: a socket that is closed over unread bytes is reset, and the answer may be lost with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::{Clock, caps};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::io::{AsyncRead, ReadBuf};

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

/// The rest of a close in stages: our side is closed, and the client has some time to read that.
pub(super) struct Parting {
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
    left: usize,
}

impl Leftover {
    /// `None` where nothing was left unread, and so nobody need be waited for.
    pub(super) fn parting(&self) -> Option<Parting> {
        let clock = self.clock.clone();
        self.is_unread.load(Ordering::Relaxed).then(|| Parting {
            until: Box::pin(async move { clock.sleep(TIME_MAX).await }),
            left: caps::HTTP_DRAIN_BYTES_MAX,
        })
    }
}

impl Parting {
    /// Throws away what still comes, until the client has closed its side or has had its time.
    pub(super) fn poll_end<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut scratch = [0; SCRATCH_BYTES];
        while self.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            let bytes = buffer.filled().len();
            if read.is_err() || bytes == 0 || bytes > self.left {
                break;
            }
            self.left -= bytes;
        }
        Poll::Ready(())
    }
}
