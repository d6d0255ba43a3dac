//! What somebody who has not proved who he is can make a connection hold: a few requests whose answers he has not taken, and
//! few bytes that nobody has answered. More is not read; more requests are refused in a way that clients repeat by themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use base::caps;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};

use entrance::Proof;

/// One request with headers and a body of the size that an unknown client may send.
const BYTES_MAX: usize = 2 * caps::UNAUTHENTICATED_BYTES_MAX;

/// What is held for one connection. Clones share it.
#[derive(Clone)]
pub(super) struct Held(Arc<Inner>);

struct Inner {
    proof: Proof,
    requests: AtomicUsize,
    /// Read since the last time that everything had been answered.
    bytes: AtomicUsize,
    reader: AtomicWaker,
}

/// A request, until its answer has been taken to the end.
pub(super) struct Asked(Held);

impl Held {
    pub(super) fn new(proof: &Proof) -> Self {
        let (requests, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Inner { proof: proof.clone(), requests, bytes, reader: AtomicWaker::new() }))
    }

    /// `None` when a stranger has asked too much before.
    pub(super) fn ask(&self) -> Option<Asked> {
        let before = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let asked = Asked(self.clone());
        let is_too_much = before >= caps::UNAUTHENTICATED_REQUESTS_MAX && !self.0.proof.is_given();
        (!is_too_much).then_some(asked)
    }

    /// Whether every request has been answered to the end.
    pub(super) fn is_idle(&self) -> bool {
        self.0.requests.load(Ordering::Acquire) == 0
    }

    fn is_full(&self) -> bool {
        !self.0.proof.is_given() && self.0.bytes.load(Ordering::Acquire) >= BYTES_MAX
    }

    /// Whether more may be read now. Where it may not, `cx` is woken when it may. Where no request waits, reading goes on once those
    /// have been looked at that came: the rest is what HTTP itself throws away, such as bodies that nobody wanted.
    pub(super) fn has_room(&self, cx: &Context<'_>) -> bool {
        if !self.is_full() {
            return true;
        }
        self.0.reader.register(cx.waker());
        if self.is_idle() {
            self.0.bytes.store(0, Ordering::Release);
            cx.waker().wake_by_ref();
            return false;
        }
        !self.is_full()
    }

    pub(super) fn has_read(&self, bytes: usize) {
        if !self.0.proof.is_given() {
            self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let held = &self.0;
        if held.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            held.0.bytes.store(0, Ordering::Release);
        }
        // Also when others remain: this one may have given the proof.
        held.0.reader.wake();
    }
}

/// The body of an answer, which holds its place until it has been taken or given up.
pub(super) struct Answered<B> {
    pub(super) body: B,
    pub(super) asked: Option<Asked>,
}

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.asked = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::drain::Leftover;
    use super::super::socket::Socket;
    use super::*;

    struct Test {
        proof: Proof,
        held: Held,
        stream: Socket<DuplexStream>,
        theirs: DuplexStream,
    }

    impl Test {
        fn new() -> Self {
            let proof = Proof::default();
            let held = Held::new(&proof);
            let (theirs, ours) = tokio::io::duplex(BYTES_MAX);
            Self {
                stream: Socket::new(ours, &held, &Leftover::new(&base::Clock::system())),
                proof,
                held,
                theirs,
            }
        }

        async fn comes(&mut self, bytes: usize) -> bool {
            self.theirs.write_all(&vec![0; bytes]).await.unwrap();
            self.stream.read_exact(&mut vec![0; bytes]).now_or_never().is_some_and(|read| read.is_ok())
        }
    }

    #[tokio::test]
    async fn what_a_stranger_sends_is_read_again_when_everything_is_answered() {
        let mut test = Test::new();
        let (first, second) = (test.held.ask().unwrap(), test.held.ask().unwrap());
        assert!(test.comes(BYTES_MAX - 1).await);
        assert!(test.comes(1).await);
        assert!(!test.comes(1).await);
        drop(first);
        assert!(!test.comes(1).await, "the other is not answered");
        drop(second);
        assert!(test.comes(BYTES_MAX - 2).await);
    }

    #[tokio::test]
    async fn what_belongs_to_no_request_is_read_in_portions() {
        let mut test = Test::new();
        assert!(test.comes(BYTES_MAX).await);
        assert!(!test.comes(1).await, "first those are looked at who asked");
        let mut byte = [0; 1];
        assert_eq!(test.stream.read(&mut byte).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_proof_wakes_the_reader_and_lifts_both_bounds() {
        let mut test = Test::new();
        let asked: Vec<_> =
            (0..caps::UNAUTHENTICATED_REQUESTS_MAX).map(|_| test.held.ask().unwrap()).collect();
        assert!(test.held.ask().is_none());
        assert!(test.comes(BYTES_MAX).await);
        test.theirs.write_all(&[0; 1]).await.unwrap();
        let mut byte = [0; 1];
        let mut waiting = std::pin::pin!(test.stream.read_exact(&mut byte));
        assert!(waiting.as_mut().now_or_never().is_none());
        test.proof.give();
        drop(asked);
        waiting.await.unwrap();
        let _asked: Vec<_> = (0..100).map(|_| test.held.ask().unwrap()).collect();
        assert!(test.comes(BYTES_MAX).await);
        assert!(test.comes(BYTES_MAX).await);
    }
}
