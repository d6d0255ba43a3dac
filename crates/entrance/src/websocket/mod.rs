//! The server's side of a WebSocket as a stream of bytes, for doors that know nothing of frames. `rest` has agreed on it over
//! HTTP; frames may split what the door reads and writes anywhere. It needs no task and, while it waits, no buffer.

mod frames;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::{Clock, caps};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::coding::{CloseCode, Control};

use frames::{End, Frames};

pub use frames::Violation;

/// How long a peer that was told goodbye may take to say it too.
const PARTING: Duration = Duration::from_secs(caps::HTTP_DRAIN_SECONDS_MAX);
const SCRATCH_BYTES: usize = 4096;

pub struct WebSocket<S> {
    stream: S,
    clock: Clock,
    /// What the peer sent behind its request before it had our answer.
    early: Bytes,
    incoming: Frames,
    /// Of what goes out: a control frame, or the header of a message of which [`Self::left`] is still to be written.
    out: BytesMut,
    left: usize,
    owes_flush: bool,
    parting: Parting,
}

/// How far our goodbye has come.
enum Parting {
    NotYet,
    Said,
    /// The peer's is waited for.
    Waiting {
        until: Pin<Box<dyn Future<Output = ()> + Send>>,
        bytes_left: usize,
    },
    Over,
}

impl<S> WebSocket<S> {
    /// `early` is what has been read of the stream beyond the request. A message may have so many bytes and no more.
    pub fn new(stream: S, early: Bytes, message_bytes_max: usize, clock: Clock) -> Self {
        Self {
            stream,
            clock,
            early: only_if_any(early),
            incoming: Frames::new(message_bytes_max),
            out: BytesMut::new(),
            left: 0,
            owes_flush: false,
            parting: Parting::NotYet,
        }
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

/// Bytes of which none are left would hold the whole buffer of HTTP as long as the connection lives.
fn only_if_any(bytes: Bytes) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { bytes }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Writes control frames that are due. Ready once nothing of ours is in the way of the next message, or one is under way,
    /// which they may not break.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left == 0 {
            if self.out.is_empty() {
                match self.incoming.take_ping() {
                    Some(ping) => frames::write_control(&mut self.out, Control::Pong, &ping),
                    None => break,
                }
            }
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            self.wrote_of_out(count)?;
        }
        Poll::Ready(Ok(()))
    }

    fn wrote_of_out(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.owes_flush = true;
        self.out.advance(count);
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    fn poll_flush_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.owes_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.owes_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Answers pings as far as the peer takes it; reading does not wait for that.
    fn answer_pings(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_due = self.incoming.owes_pong() || !self.out.is_empty() || self.owes_flush;
        if is_due && let Poll::Ready(written) = self.poll_control(cx) {
            written?;
            if let Poll::Ready(flushed) = self.poll_flush_owed(cx) {
                flushed?;
            }
        }
        Ok(())
    }

    /// The goodbye that fits how it ended. A message that was not finished leaves no room for one.
    fn say_goodbye(&mut self) {
        if self.left > 0 {
            self.parting = Parting::Over;
            return;
        }
        self.incoming.take_ping();
        let code = match self.incoming.end() {
            Some(End::Closed(code)) => code,
            Some(End::Violation(violation)) => violation.code(),
            None => CloseCode::Normal,
        };
        frames::write_control(&mut self.out, Control::Close, &u16::from(code).to_be_bytes());
        self.parting = Parting::Said;
    }

    /// A socket that is closed over unread bytes is reset, and our goodbye lost with it: so what still comes is thrown away.
    fn poll_their_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            if let Some(End::Closed(_)) = self.incoming.end() {
                return Poll::Ready(());
            }
            let Parting::Waiting { until, bytes_left } = &mut self.parting else { return Poll::Ready(()) };
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            let raw = buffer.filled_mut();
            if read.is_err() || raw.is_empty() || raw.len() > *bytes_left {
                return Poll::Ready(());
            }
            *bytes_left -= raw.len();
            self.incoming.take(raw);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            self.answer_pings(cx)?;
            match self.incoming.end() {
                Some(End::Closed(_)) => return Poll::Ready(Ok(())),
                Some(End::Violation(violation)) => return Poll::Ready(Err(io::Error::other(violation))),
                None => {}
            }
            let Self { stream, early, incoming, .. } = &mut *self;
            if early.is_empty() {
                ready!(Pin::new(stream).poll_read(cx, buffer))?;
            } else {
                buffer.put_slice(&early.split_to(early.len().min(buffer.remaining())));
            }
            // Frames become what they carry in the place where they were read to.
            let raw = &mut buffer.filled_mut()[before..];
            let is_over = raw.is_empty();
            let laid = incoming.take(raw);
            buffer.set_filled(before + laid);
            if laid > 0 || is_over {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    /// What it has begun to write has to be written to the end, as whoever has bytes to write does.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.left == 0 {
            ready!(self.poll_control(cx))?;
            let Self { out, left, .. } = &mut *self;
            frames::write_binary_header(out, bytes.len());
            *left = bytes.len();
        }
        loop {
            let Self { stream, out, left, .. } = &mut *self;
            let payload = &bytes[..bytes.len().min(*left)];
            if out.is_empty() {
                let count = ready!(Pin::new(stream).poll_write(cx, payload))?;
                *left -= count;
                return Poll::Ready(Ok(count));
            }
            // Together, so that they leave as one record of TLS.
            let both = [IoSlice::new(out), IoSlice::new(payload)];
            let header_bytes = out.len();
            let count = ready!(Pin::new(stream).poll_write_vectored(cx, &both))?;
            self.wrote_of_out(count.min(header_bytes))?;
            if let Some(written) = count.checked_sub(header_bytes).filter(|written| *written > 0) {
                self.left -= written;
                return Poll::Ready(Ok(written));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_control(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.owes_flush = false;
        Poll::Ready(Ok(()))
    }

    /// Says goodbye, waits a little for the peer's, and closes what is below.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &self.parting {
                Parting::NotYet => {
                    if self.left == 0 && !self.out.is_empty() {
                        ready!(self.poll_control(cx))?;
                    }
                    self.say_goodbye();
                }
                Parting::Said => {
                    ready!(self.poll_control(cx))?;
                    ready!(self.poll_flush_owed(cx))?;
                    let clock = self.clock.clone();
                    let until = Box::pin(async move { clock.sleep(PARTING).await });
                    self.parting = Parting::Waiting { until, bytes_left: caps::HTTP_DRAIN_BYTES_MAX };
                }
                Parting::Waiting { .. } => {
                    ready!(self.poll_their_goodbye(cx));
                    self.parting = Parting::Over;
                }
                Parting::Over => return Pin::new(&mut self.stream).poll_shutdown(cx),
            }
        }
    }
}
