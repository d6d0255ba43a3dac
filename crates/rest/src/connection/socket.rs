//! The stream below HTTP: it is read as [`Held`] allows, and closed in stages where [`Leftover`] says so.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::drain::{Leftover, Parting};
use super::stranger::Held;

pub(super) struct Socket<S> {
    stream: S,
    held: Held,
    leftover: Leftover,
    /// Set once our side is closed.
    parting: Option<Parting>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, held: &Held, leftover: &Leftover) -> Self {
        Self { stream, held: held.clone(), leftover: leftover.clone(), parting: None }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.held.has_room(cx) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.held.has_read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
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
        let Self { stream, leftover, parting, .. } = &mut *self;
        if parting.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            *parting = leftover.parting();
        }
        match parting {
            Some(parting) => parting.poll_end(stream, cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}
