//! A socket that reads so many bytes and no more: what a peer may send in its TLS handshake, before anyone knows it.
//! rustls alone would gather a message of 64 kB. It counts what comes and goes, too. Used by `connections`, which lifts the bound after the handshake.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base::measure::Traffic;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) struct Allowance<S> {
    stream: S,
    /// `None`: no bound.
    left: Option<usize>,
    /// More was asked for than that.
    is_spent: bool,
    traffic: Arc<Traffic>,
}

impl<S> Allowance<S> {
    pub(crate) fn new(stream: S, bytes: usize, traffic: Arc<Traffic>) -> Self {
        Self { stream, left: Some(bytes), is_spent: false, traffic }
    }

    /// Only counts.
    pub(crate) fn without_bound(stream: S, traffic: Arc<Traffic>) -> Self {
        Self { stream, left: None, is_spent: false, traffic }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    pub(crate) fn lift(&mut self) {
        self.left = None;
    }

    /// From now on what comes and goes is another protocol's.
    pub(crate) fn count_as(&mut self, traffic: Arc<Traffic>) {
        self.traffic = traffic;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Allowance<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left else {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            self.traffic.bytes_in.add((buffer.filled().len() - before) as u64);
            return Poll::Ready(Ok(()));
        };
        if left == 0 {
            if std::mem::replace(&mut self.is_spent, true) {
                return Poll::Ready(Err(io::Error::other(
                    "too many bytes before the handshake was complete",
                )));
            }
            // A handshake that is complete ends here, before it is asked again.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // No more than that: what a client sends right behind its handshake stays in the socket until then.
        let most = left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.left = Some(left - read);
        self.traffic.bytes_in.add(read as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Allowance<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.traffic.bytes_out.add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.traffic.bytes_out.add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_last_byte_that_is_allowed_comes_and_the_next_does_not() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let traffic = Arc::<Traffic>::default();
        let mut stream = Allowance::new(ours, 4, traffic.clone());
        theirs.write_all(b"1234").await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 4);
        theirs.write_all(b"5").await.unwrap();
        assert!(stream.read(&mut [0; 8]).await.is_err());
        stream.lift();
        theirs.write_all(b"678").await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 4);
        stream.write_all(b"abc").await.unwrap();
        assert_eq!((traffic.bytes_in.get(), traffic.bytes_out.get()), (8, 3));
    }

    #[tokio::test]
    async fn what_comes_with_the_end_of_the_handshake_is_read_behind_it() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let mut stream = Allowance::new(ours, 4, Arc::default());
        theirs.write_all(b"12345678").await.unwrap();
        let mut read = [0; 8];
        assert_eq!(stream.read(&mut read).await.unwrap(), 4);
        stream.lift();
        assert_eq!(stream.read(&mut read[4..]).await.unwrap(), 4);
        assert_eq!(&read, b"12345678");
    }
}
